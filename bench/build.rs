//! Compiles XDP programs with clang and writes their skeletons into `OUT_DIR`: the sender's, and for
//! tests the steering program with a clock in the place of a NIC that stamps.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use libbpf_cargo::SkeletonBuilder;

const REPLAY: &str = "src/bpf/replay.bpf.c";
const STEER: &str = "../xdp-prog/src/bpf/steer.bpf.c";
const CLOCK: &str = "tests/bpf/clock_stamp.h";
const HEADERS: [&str; 3] = ["src/bpf/replay.h", CLOCK, "../xdp-prog/src/bpf/steer.h"];

fn main() {
    for file in [REPLAY, STEER].iter().chain(&HEADERS) {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rerun-if-env-changed=CLANG");

    let clang = env::var_os("CLANG").unwrap_or_else(|| OsString::from("clang"));
    if let Err(reason) = compile(&clang) {
        // One line each: cargo shows them as errors of this package, without a backtrace.
        for line in reason.lines() {
            println!("cargo::error={line}");
        }
        exit(1);
    }
}

fn compile(clang: &OsString) -> Result<(), String> {
    let version = Command::new(clang).arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        return Err(format!(
            "cannot compile the sender's XDP program: `{}` does not run. \
             Install it (Debian, Ubuntu: apt-get install clang libelf-dev zlib1g-dev; \
             Fedora: dnf install clang elfutils-libelf-devel zlib-devel), \
             or name another in the environment variable CLANG",
            clang.to_string_lossy()
        ));
    }

    let mut args = vec![OsString::from("-Wall"), OsString::from("-Werror")];
    if let Some(include) = multiarch_include() {
        args.push(OsString::from("-I"));
        args.push(include.into_os_string());
    }
    let Some(out_dir) = env::var_os("OUT_DIR") else {
        return Err("OUT_DIR is not set: this is a build script, run by cargo".to_string());
    };
    let clock: &[&str] = &["-DRECEIVE_STAMPS", "-include", CLOCK];
    let objects = [(REPLAY, "replay", &[][..]), (STEER, "clock_stamps", clock)];
    for (source, name, more) in objects {
        SkeletonBuilder::new()
            .source(source)
            .obj(Path::new(&out_dir).join(format!("{name}.o")))
            .clang(clang)
            .clang_args(args.iter().cloned().chain(more.iter().map(OsString::from)))
            .build_and_generate(Path::new(&out_dir).join(format!("{name}.skel.rs")))
            .map_err(|error| {
                let reason = format!("{error:#}");
                let hint = if reason.contains("file not found") {
                    "\nKernel headers are missing: apt-get install linux-libc-dev \
                     (Fedora: dnf install kernel-headers)"
                } else {
                    ""
                };
                format!("cannot compile {source}: {reason}{hint}")
            })?;
    }
    Ok(())
}

/// Debian keeps `asm/types.h` in a directory per architecture, which clang does not search when it
/// compiles for the target `bpf`.
fn multiarch_include() -> Option<PathBuf> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").ok()?;
    let arch = if arch == "x86" { "i386" } else { arch.as_str() };
    let include = PathBuf::from(format!("/usr/include/{arch}-linux-gnu"));
    include.join("asm/types.h").exists().then_some(include)
}
