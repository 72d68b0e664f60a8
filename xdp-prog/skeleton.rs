//! Compiles XDP programs with clang and writes their skeletons into `OUT_DIR`: for the build scripts of
//! this crate and of the benchmarks.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use libbpf_cargo::SkeletonBuilder;

/// A program to compile.
pub struct Object<'a> {
    /// The name of object and skeleton.
    pub name: &'a str,
    /// Its C file.
    pub source: &'a str,
    /// What clang is told besides.
    pub arguments: &'a [&'a str],
}

/// Builds all, or ends the build script with what is wrong. `headers` are what the programs include.
pub fn build(objects: &[Object<'_>], headers: &[&str]) {
    for file in objects.iter().map(|object| object.source).chain(headers.iter().copied()) {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rerun-if-env-changed=CLANG");

    let clang = env::var_os("CLANG").unwrap_or_else(|| OsString::from("clang"));
    if let Err(reason) = compile(&clang, objects) {
        // One line each: cargo shows them as errors of this package, without a backtrace.
        for line in reason.lines() {
            println!("cargo::error={line}");
        }
        exit(1);
    }
}

fn compile(clang: &OsStr, objects: &[Object<'_>]) -> Result<(), String> {
    let version = Command::new(clang).arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        return Err(format!(
            "cannot compile the XDP programs: `{}` does not run. \
             Install it (Debian, Ubuntu: apt-get install clang libelf-dev zlib1g-dev; \
             Fedora: dnf install clang elfutils-libelf-devel zlib-devel), \
             or name another in the environment variable CLANG",
            clang.to_string_lossy()
        ));
    }

    let mut arguments = vec![OsString::from("-Wall"), OsString::from("-Werror")];
    if let Some(include) = multiarch_include() {
        arguments.push(OsString::from("-I"));
        arguments.push(include.into_os_string());
    }
    let Some(out_dir) = env::var_os("OUT_DIR") else {
        return Err("OUT_DIR is not set: this is a build script, run by cargo".to_string());
    };
    let out_dir = Path::new(&out_dir);
    for Object { name, source, arguments: more } in objects {
        SkeletonBuilder::new()
            .source(source)
            .obj(out_dir.join(format!("{name}.o")))
            .clang(clang)
            .clang_args(arguments.iter().cloned().chain(more.iter().map(OsString::from)))
            .build_and_generate(out_dir.join(format!("{name}.skel.rs")))
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
