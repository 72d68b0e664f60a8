//! The lock on a worker's name, `<worker>.lock` beside its segment: a capture holds it for as long
//! as it runs, whatever it does meanwhile.

use crate::failure::Failure;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use wiretape_host::reader::mapping::open;

/// Who has a worker's name.
#[derive(Debug)]
pub enum WorkerLock {
    /// A capture that runs.
    Running {
        /// Its process id, as the lock file says.
        pid: String,
    },
    /// Nobody: this process for as long as it keeps this, if there is a lock file.
    Free {
        /// The file that holds the lock.
        _lock: Option<File>,
    },
}

impl WorkerLock {
    /// Takes the name of the worker with segment `segment`, unless a capture has it.
    pub fn take(segment: &Path) -> Result<WorkerLock, Failure> {
        let path = segment.with_extension("lock");
        let failed = |doing: &str, error: std::io::Error| {
            Failure::Told(format!("cannot {doing} {}: {error}", path.display()))
        };
        loop {
            let mut file = match open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Ok(WorkerLock::Free { _lock: None });
                }
                Err(error) => return Err(failed("open", error)),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut pid = String::new();
                    let _ = file.read_to_string(&mut pid);
                    let pid = match pid.trim() {
                        "" => "unknown".to_owned(),
                        pid => pid.to_owned(),
                    };
                    return Ok(WorkerLock::Running { pid });
                }
                Err(TryLockError::Error(error)) => return Err(failed("lock", error)),
            }
            // A capture that removes its files on exit may have removed the one opened above.
            let ours = file.metadata().map_err(|error| failed("look at", error))?;
            match fs::metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                    return Ok(WorkerLock::Free { _lock: Some(file) });
                }
                _ => {}
            }
        }
    }
}
