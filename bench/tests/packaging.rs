//! The Debian package holds what the operating guide promises.

mod rig;

use std::path::Path;
use std::process::Command;

use rig::succeed;

#[test]
fn the_package_installs_programs_pages_completions_and_units() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        println!("skipped: there is no dpkg-deb");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let binaries = rig::binary("wiretape").parent().expect("a folder").to_owned();
    let script = root.join("docs/operating/deb.sh");
    let deb = succeed(Command::new(script).env("BIN", &binaries));
    let deb = root.join(deb.trim());
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
    assert!(control.contains("Package: wiretape\n"), "{control}");
}
