//! The Debian package holds what the operating guide promises, and comes and goes without a trace; the
//! units in it are sound.

mod rig;

use std::path::{Path, PathBuf};
use std::process::Command;

use rig::succeed;

#[test]
fn the_package_installs_programs_pages_completions_and_units() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        println!("skipped: there is no dpkg-deb");
        return;
    }
    let deb = deb("9.9.0");
    let list = succeed(Command::new("dpkg-deb").arg("--contents").arg(&deb));
    let shares = "usr/share/man/man1/{}.1.gz usr/share/bash-completion/completions/{} \
                  usr/share/zsh/vendor-completions/_{} usr/share/fish/vendor_completions.d/{}.fish";
    let mut expected = Vec::new();
    for program in ["wiretape", "wiretape-host", "wiretape-capture", "wiretape-xdp"] {
        expected.push(format!("usr/bin/{program}"));
        expected.extend(shares.replace("{}", program).split_whitespace().map(str::to_owned));
    }
    let rest = "usr/lib/systemd/system/wiretape-xdp@.service \
                usr/lib/systemd/system/wiretape-capture@.service \
                usr/lib/systemd/system/wiretape-host.service \
                usr/lib/systemd/system/wiretape-metrics.service \
                usr/lib/systemd/system/wiretape-record@.service usr/lib/sysusers.d/wiretape.conf \
                usr/lib/tmpfiles.d/wiretape.conf usr/share/doc/wiretape/guide.md \
                usr/share/doc/wiretape/capture.example.toml";
    expected.extend(rest.split_whitespace().map(str::to_owned));
    for path in expected {
        let there = list.lines().any(|line| line.ends_with(&format!(" ./{path}")));
        assert!(there, "{path} is not in the package:\n{list}");
    }
    assert!(list.lines().all(|line| line.contains("root/root")), "{list}");
    let control = succeed(Command::new("dpkg-deb").arg("--field").arg(&deb));
    assert!(
        control.contains("Package: wiretape\n") && control.contains("libc6 (>= 2."),
        "{control}"
    );
    std::fs::remove_file(&deb).expect("remove the package");
}

fn deb(version: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let binaries = rig::binary("wiretape").parent().expect("a folder").to_owned();
    let mut make = Command::new(root.join("docs/operating/deb.sh"));
    // Compression would take most of the time, and is dpkg's own affair.
    make.env("DPKG_DEB_COMPRESSOR_TYPE", "none");
    let deb = succeed(make.env("BIN", &binaries).env("VERSION", version));
    root.join(deb.trim())
}

/// `dpkg` on a system of its own in a folder, whose scripts run outside of it.
fn dpkg(system: &Path, arguments: &[&str]) -> String {
    let mut dpkg = Command::new("dpkg");
    // What a package depends on is not in there.
    dpkg.args(["--force-script-chrootless", "--force-depends", "--force-confold"]);
    dpkg.arg(format!("--root={}", system.display())).args(arguments);
    succeed(&mut dpkg)
}

#[test]
fn the_package_survives_upgrade_remove_and_purge() {
    // SAFETY: geteuid has no preconditions.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root || Command::new("dpkg").arg("--version").output().is_err() {
        println!("skipped: takes root and dpkg");
        return;
    }
    let (first, second) = (deb("9.9.1"), deb("9.9.2"));
    let system = tempfile::tempdir().expect("a folder");
    let at = |path: &str| system.path().join(path);
    for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "etc", "usr"] {
        std::fs::create_dir_all(at(folder)).expect("a folder");
    }
    for file in ["var/lib/dpkg/status", "var/lib/dpkg/available"] {
        std::fs::write(at(file), "").expect("a file");
    }
    dpkg(system.path(), &["--install", first.to_str().expect("a path in UTF-8")]);
    let list = |of: &str| std::fs::read_to_string(at(of)).expect(of);
    if Command::new("systemd-sysusers").arg("--version").output().is_ok() {
        assert!(list("etc/passwd").contains("wiretape:"), "{}", list("etc/passwd"));
    }
    let sums = list("var/lib/dpkg/info/wiretape.md5sums");
    assert!(sums.contains("  usr/bin/wiretape-capture\n"), "{sums}");
    let mut check = Command::new("md5sum");
    check.args(["--check", "--quiet", "var/lib/dpkg/info/wiretape.md5sums"]);
    succeed(check.current_dir(system.path()));
    let conffiles = list("var/lib/dpkg/info/wiretape.conffiles");
    assert_eq!(conffiles, "/etc/wiretape/host.env\n/etc/wiretape/metrics.env\n");

    // Every page that a page refers to is there.
    let mut page = Command::new("gzip");
    let page = succeed(page.arg("-dc").arg(at("usr/share/man/man1/wiretape.1.gz")));
    let referred: Vec<_> = page.lines().filter_map(|line| line.strip_suffix("(1)")).collect();
    assert!(referred.len() > 10, "{page}");
    for name in referred.iter().map(|name| name.replace('\\', "")) {
        assert!(at(&format!("usr/share/man/man1/{name}.1.gz")).exists(), "{name}");
    }

    // What was edited stays over an upgrade, and what is of the operator over all.
    std::fs::write(at("etc/wiretape/metrics.env"), "METRICS_LISTEN=[::1]:1\n").expect("an edit");
    std::fs::write(at("etc/wiretape/itch-a.toml"), "mine").expect("a configuration");
    let wants = at("etc/systemd/system/multi-user.target.wants");
    std::fs::create_dir_all(&wants).expect("a folder");
    let enabled = wants.join("wiretape-capture@itch-a.service");
    let unit = "/usr/lib/systemd/system/wiretape-capture@.service";
    std::os::unix::fs::symlink(unit, &enabled).expect("an enabled unit");
    dpkg(system.path(), &["--install", second.to_str().expect("a path in UTF-8")]);
    assert_eq!(list("etc/wiretape/metrics.env"), "METRICS_LISTEN=[::1]:1\n");
    let state = || dpkg(system.path(), &["--list", "wiretape"]);
    assert!(state().contains("9.9.2"), "{}", state());

    dpkg(system.path(), &["--remove", "wiretape"]);
    assert!(!at("usr/bin/wiretape").exists() && !at("usr/lib/systemd/system").exists());
    assert!(at("etc/wiretape/metrics.env").exists() && enabled.is_symlink());
    dpkg(system.path(), &["--purge", "wiretape"]);
    assert!(!at("etc/wiretape/metrics.env").exists() && !enabled.is_symlink());
    assert_eq!(list("etc/wiretape/itch-a.toml"), "mine");
    for package in [first, second] {
        std::fs::remove_file(package).expect("remove the package");
    }
}

#[test]
fn units_are_sound_and_hardened() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating/systemd");
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: there is no systemd-analyze");
        return;
    }
    let copies = tempfile::tempdir().expect("a folder");
    let binaries = rig::binary("wiretape").parent().expect("a folder").to_owned();
    for unit in std::fs::read_dir(&units).expect("the units") {
        let path = unit.expect("an entry").path();
        if path.extension().is_none_or(|ending| ending != "service") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a unit");
        let text = text.replace("/usr/bin/wiretape", &binaries.join("wiretape").to_string_lossy());
        let copy = copies.path().join(path.file_name().expect("a name"));
        std::fs::write(&copy, text).expect("a copy");
        let mut verify = Command::new("systemd-analyze");
        let output = verify.args(["verify", "--man=no"]).arg(&copy).output().expect("run it");
        let said = rig::text(&output);
        assert!(output.status.success() && !said.contains("wiretape-"), "{copy:?}: {said}");
        // From 0 (safe) to 100 (at everybody's mercy).
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=yes", "--threshold=35", "--no-pager"]).arg(&copy);
        let output = security.output().expect("run it");
        if rig::text(&output).contains("offline") {
            println!("skipped: systemd-analyze is too old to look at files");
            return;
        }
        let verdict = rig::text(&output);
        let last = verdict.lines().find(|line| line.contains("exposure")).unwrap_or_default();
        assert!(output.status.success(), "{copy:?}: {last}");
    }
}
