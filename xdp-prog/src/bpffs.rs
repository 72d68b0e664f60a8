//! The bpf file system, which holds the pins.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{FlockOperation, flock, statfs};
use rustix::mount::{MountFlags, mount};

use crate::error::Error;

/// Where systems mount the bpf file system.
pub const ROOT: &str = "/sys/fs/bpf";

/// Where the pins are unless another directory is given.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/wiretape";

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Sees to it that `dir` is, or can be made, in a bpf file system; `true` if one was mounted.
///
/// Only the usual place is ever mounted, and never where the mount would vanish with this process.
/// It is not unmounted again, since another process may have made pins in it by then.
pub(crate) fn prepare(dir: &Path) -> Result<bool, Error> {
    if holds(dir) {
        let missing = dir.ancestors().take_while(|ancestor| !ancestor.exists());
        for name in missing.filter_map(Path::file_name) {
            if name.as_encoded_bytes().contains(&b'.') {
                return Err(Error::Dot { dir: dir.to_path_buf() });
            }
        }
        return Ok(false);
    }
    let root = Path::new(ROOT);
    if !dir.starts_with(root) || !root.is_dir() {
        return Err(Error::NotBpffs { dir: dir.to_path_buf() });
    }
    if mounts_are_private() {
        return Err(Error::PrivateMounts { root: root.to_path_buf() });
    }
    let failed = |source| Error::Mount { root: root.to_path_buf(), source };
    // Two loads at once must not mount twice: the second would hide the pins of the first.
    let lock = File::open(root).map_err(failed)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
    if holds(dir) {
        return Ok(false);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RELATIME;
    mount("bpf", ROOT, "bpf", flags, c"mode=0755").map_err(|errno| failed(errno.into()))?;
    Ok(true)
}

/// Whether `dir`, or where it would be made, is in a bpf file system.
pub(crate) fn holds(dir: &Path) -> bool {
    let existing = dir.ancestors().find(|ancestor| ancestor.exists());
    existing.is_some_and(|dir| statfs(dir).is_ok_and(|stat| stat.f_type as u64 == BPF_FS_MAGIC))
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
