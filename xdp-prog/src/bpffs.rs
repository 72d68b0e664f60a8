//! The bpf file system, which holds the pins.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::fs::statfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::error::Error;

/// Where systems mount the bpf file system.
pub const ROOT: &str = "/sys/fs/bpf";

/// Where the pins are unless another directory is given.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/wiretape";

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// A bpf file system mounted by this call; unmounted when dropped before [`Mounted::keep`].
#[derive(Debug)]
pub(crate) struct Mounted {
    keep: bool,
}

impl Mounted {
    pub fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.keep {
            // Undoing a failed load; the first error is the one to report.
            let _ = unmount(ROOT, UnmountFlags::DETACH);
        }
    }
}

/// Sees to it that `dir` is, or can be made, in a bpf file system.
///
/// Only the usual place is ever mounted, and never where the mount would vanish with this process.
pub(crate) fn prepare(dir: &Path) -> Result<Option<Mounted>, Error> {
    if holds(dir) {
        let missing = dir.ancestors().take_while(|ancestor| !ancestor.exists());
        for name in missing.filter_map(Path::file_name) {
            if name.as_encoded_bytes().contains(&b'.') {
                return Err(Error::Dot { dir: dir.to_path_buf() });
            }
        }
        return Ok(None);
    }
    let root = Path::new(ROOT);
    if !dir.starts_with(root) || !root.is_dir() {
        return Err(not_bpffs(dir));
    }
    if mounts_are_private() {
        return Err(Error::PrivateMounts { root: root.to_path_buf() });
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
    mount("bpf", ROOT, "bpf", flags, c"mode=0755")
        .map_err(|errno| Error::Mount { root: root.to_path_buf(), source: errno.into() })?;
    Ok(Some(Mounted { keep: false }))
}

/// Whether `dir`, or where it would be made, is in a bpf file system.
pub(crate) fn holds(dir: &Path) -> bool {
    let existing = dir.ancestors().find(|ancestor| ancestor.exists());
    existing.is_some_and(|dir| statfs(dir).is_ok_and(|stat| stat.f_type as u64 == BPF_FS_MAGIC))
}

pub(crate) fn not_bpffs(dir: &Path) -> Error {
    let mount_at = dir.parent().filter(|parent| parent.parent().is_some()).unwrap_or(dir);
    Error::NotBpffs { dir: dir.to_path_buf(), mount_at: mount_at.to_path_buf() }
}

/// Whether this process has mounts of its own: it shares none with the first process.
///
/// Comparing `/proc/*/ns/mnt` would be simpler, but asks for rights over the first process that
/// even root may lack. Where the first process's mounts cannot be read, nothing is known: false.
fn mounts_are_private() -> bool {
    let ids = |process: &str| -> Option<BTreeSet<u64>> {
        let table = fs::read_to_string(format!("/proc/{process}/mountinfo")).ok()?;
        table.lines().map(|line| line.split(' ').next()?.parse().ok()).collect()
    };
    match (ids("1"), ids("self")) {
        (Some(first), Some(own)) => !first.is_empty() && first.is_disjoint(&own),
        _ => false,
    }
}
