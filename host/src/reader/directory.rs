//! Finds the segments of a machine.

use std::io;
use std::path::{Path, PathBuf};

/// Where capture puts its segments if nothing else is configured.
pub const DEFAULT_DIRECTORY: &str = "/dev/shm/wiretape";

/// The segment files in `directory`, by name. A directory that is not there has none.
pub fn segment_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "seg") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
