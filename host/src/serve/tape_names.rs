//! What the tapes of DBN files are called.

use std::path::{Path, PathBuf};

/// A name for the tape of each of `files`: the file's name up to its first dot; of those that share
/// that, the whole name; of those that share that too, the path.
pub fn tape_names(files: &[PathBuf]) -> Vec<String> {
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = |file: &Path| name(file).split('.').next().unwrap_or_default().to_owned();
    let shared = |of: &dyn Fn(&Path) -> String, file: &Path| {
        files.iter().filter(|other| of(other) == of(file)).count() > 1
    };
    let named = |file: &PathBuf| match (shared(&stem, file), shared(&name, file)) {
        (false, _) => stem(file),
        (true, false) => name(file),
        (true, true) => file.display().to_string(),
    };
    files.iter().map(named).collect()
}

/// A file that is in `files` more than once, under whatever path.
pub fn named_twice(files: &[PathBuf]) -> Option<&Path> {
    let real = |file: &PathBuf| file.canonicalize().unwrap_or_else(|_| file.clone());
    let found: Vec<PathBuf> = files.iter().map(real).collect();
    let twice = (0..files.len()).find(|&at| found[..at].contains(&found[at]))?;
    Some(&files[twice])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tapes_have_the_shortest_names_that_tell_them_apart() {
        let names = |files: &[&str]| {
            tape_names(&files.iter().map(PathBuf::from).collect::<Vec<_>>()).join(" ")
        };
        assert_eq!(names(&["a/mon.mbo.dbn.zst", "a/tue.mbo.dbn.zst"]), "mon tue");
        assert_eq!(
            names(&["mon.mbo.dbn", "mon.trades.dbn", "tue.dbn"]),
            "mon.mbo.dbn mon.trades.dbn tue"
        );
        assert_eq!(
            names(&["a/mon.dbn", "b/mon.dbn", "b/mon.dbn.zst"]),
            "a/mon.dbn b/mon.dbn mon.dbn.zst"
        );
    }

    #[test]
    fn a_file_under_two_paths_is_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("a.dbn"), directory.path().join("b.dbn"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let other = directory.path().join("c.dbn");
        assert_eq!(named_twice(&[file.clone(), other.clone()]), None);
        assert_eq!(named_twice(&[file.clone(), other, link.clone()]), Some(link.as_path()));
        assert_eq!(named_twice(&[file.clone(), file.clone()]), Some(file.as_path()));
    }
}
