//! The user group that may use the maps without any capability.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use crate::error::Error;

/// Who may use the maps: a user group, named or numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserGroup {
    name: String,
    id: u32,
}

impl UserGroup {
    /// Looks a group up; a number is taken as it is.
    pub fn find(name: &str) -> Result<Self, Error> {
        let missing = || Error::NoUserGroup { name: name.to_string() };
        if let Ok(id) = name.parse() {
            return Ok(Self { name: name.to_string(), id });
        }
        let c_name = CString::new(name).map_err(|_| missing())?;
        let mut record = std::mem::MaybeUninit::<libc::group>::uninit();
        let mut strings = vec![0u8; 65536];
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid for the call, and the buffer's length is its own.
        let result = unsafe {
            libc::getgrnam_r(
                c_name.as_ptr(),
                record.as_mut_ptr(),
                strings.as_mut_ptr().cast(),
                strings.len(),
                &mut found,
            )
        };
        if result != 0 || found.is_null() {
            return Err(missing());
        }
        // SAFETY: a result that is not null points to `record`, filled in.
        let record = unsafe { record.assume_init() };
        Ok(Self { name: name.to_string(), id: record.gr_gid })
    }

    /// Fails if a directory on the way to `dir` is closed to the group.
    pub fn check_reach(&self, dir: &Path) -> Result<(), Error> {
        for ancestor in dir.ancestors() {
            let Ok(metadata) = fs::metadata(ancestor) else { continue };
            let by_group = metadata.gid() == self.id && metadata.mode() & 0o010 != 0;
            if metadata.mode() & 0o001 == 0 && !by_group {
                return Err(Error::Unreachable {
                    name: self.name.clone(),
                    dir: ancestor.to_path_buf(),
                    mode: metadata.mode() & 0o7777,
                });
            }
        }
        Ok(())
    }

    /// Opens a map's pin, or a directory, to the group.
    pub fn admit(&self, path: &Path, mode: u32) -> Result<(), Error> {
        let failed = |source| Error::Pin {
            action: "open to the user group",
            path: path.to_path_buf(),
            source,
        };
        chown(path, None, Some(self.id)).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
    }
}
