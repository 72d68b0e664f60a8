//! The file behind a segment: made aside, put in place when it is ready, one writer per name.
//!
//! ```text
//! <dir>/<worker>.lock      held (flock) by the living capture; holds its pid
//! <dir>/<worker>.seg       what readers map: mode 0640, so that none of them can write
//! <dir>/<worker>.frames    frames shared with recorders, see `frames_file`
//! ```
//!
//! A segment that is being laid out has no name, so that a start that is killed leaves nothing behind
//! (or, on file systems that take no such files, `<worker>.seg.new`, which the next start removes). A
//! reader that maps `<worker>.seg` finds a whole segment, at any moment. When a capture starts
//! where another one was killed, the old segment is marked superseded after the new one is in
//! place: its readers, who keep their mapping, learn of it there and open the path again.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use wiretape_core::segment::{SegmentView, State};
use wiretape_core::sync::AtomicU64;

use crate::control::futex::Futex;

/// Writer: all; group: read; others: nothing.
pub(crate) const MODE: u32 = 0o640;

/// Why a segment's file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SegmentFileError {
    /// A living capture has the name.
    #[error(
        "a capture named '{worker}' runs already (pid {pid}): stop it, or give this one another \
         [worker] name"
    )]
    Running {
        /// The name.
        worker: String,
        /// Who holds it, as its lock file says.
        pid: String,
    },
    /// The file system refused.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// There is not that much memory on the file system.
    #[error(
        "cannot reserve {bytes} bytes for the segment {path}: {source}; lower event_slots or \
         instruments, or make room in {dir}: segments of captures that are over stay there \
         (`wiretape segments remove --directory {dir}`)", path = path.display(), dir = dir.display()
    )]
    Room {
        /// Size of the segment.
        bytes: usize,
        /// The file.
        path: PathBuf,
        /// Its directory.
        dir: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// A shared, writable mapping of a file as 64-bit words.
#[derive(Debug)]
pub struct MappedWords {
    base: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping belongs to the process; its words are atomics.
unsafe impl Send for MappedWords {}
// SAFETY: as above: shared access goes through atomics only.
unsafe impl Sync for MappedWords {}

impl MappedWords {
    /// Maps `file` whole. Other processes may change it at any time, which atomics allow; nobody
    /// may cut it while it is mapped (only its writer, under the lock, could).
    pub fn map(file: &File, bytes: usize) -> io::Result<MappedWords> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps no memory in use.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(MappedWords { base, words: bytes / size_of::<AtomicU64>() })
    }

    /// The words.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: page-aligned, mapped for as long as `self` lives, and all bits are valid
        // atomics.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }
}

impl Drop for MappedWords {
    fn drop(&mut self) {
        let bytes = self.words * size_of::<AtomicU64>();
        // SAFETY: what mmap returned (whole words: the length was a multiple of 8 or the rest
        // lies on the same last page); slices of it borrow from `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), bytes) };
    }
}

/// A worker's segment file and the lock on its name.
#[derive(Debug)]
pub struct SegmentFile {
    file: File,
    map: MappedWords,
    predecessor: Option<MappedWords>,
    path: PathBuf,
    aside: PathBuf,
    lock_path: PathBuf,
    unlink_on_exit: bool,
    /// What lies at `path` is this run's.
    in_place: AtomicBool,
    // Dropped last: the name is free once everything else is done.
    _lock: File,
}

impl SegmentFile {
    /// Takes the name and makes zeroed memory of `bytes` bytes beside the final place.
    pub fn create(dir: &Path, worker: &str, bytes: usize) -> Result<SegmentFile, SegmentFileError> {
        fs::create_dir_all(dir).map_err(failed("create the segment directory", dir))?;
        let lock_path = dir.join(format!("{worker}.lock"));
        let lock = take_lock(worker, &lock_path)?;
        let path = dir.join(format!("{worker}.seg"));
        let aside = dir.join(format!("{worker}.seg.new"));
        let predecessor = open_predecessor(&path);
        let (file, map) = make_aside(&aside, dir, bytes).inspect_err(|_| {
            let _ = fs::remove_file(&aside);
        })?;
        Ok(SegmentFile {
            file,
            map,
            predecessor,
            path,
            aside,
            lock_path,
            unlink_on_exit: false,
            in_place: AtomicBool::new(false),
            _lock: lock,
        })
    }

    /// Whether a living capture has the name: of all that can stand in the way of another one, what
    /// says most.
    pub fn check_name(dir: &Path, worker: &str) -> Result<(), SegmentFileError> {
        let path = dir.join(format!("{worker}.lock"));
        // A pipe of that name would be waited for, with signals held back.
        match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path) {
            Ok(lock) => lock_or_say_who(worker, &path, lock).map(|_| ()),
            // What is wrong with it is told when it is made.
            Err(_) => Ok(()),
        }
    }

    /// The epoch of a run of `worker` that begins now: UTC nanoseconds, but later than that of the run
    /// before also where the clock was set back, for readers put events in order by it.
    pub fn epoch(dir: &Path, worker: &str, utc_ns: u64) -> u64 {
        let before = open_predecessor(&dir.join(format!("{worker}.seg")));
        let before = before.as_ref().and_then(|map| SegmentView::attach(map.words()).ok());
        before.map_or(utc_ns, |before| utc_ns.max(before.header().epoch().saturating_add(1)))
    }

    /// The segment's words.
    pub fn words(&self) -> &[AtomicU64] {
        self.map.words()
    }

    /// Puts the segment in place, and tells the readers of the one before that it is over.
    pub fn publish(&self) -> Result<(), SegmentFileError> {
        let old = self.predecessor.as_ref().and_then(|map| SegmentView::attach(map.words()).ok());
        if let (Some(old), Ok(new)) = (&old, SegmentView::attach(self.words())) {
            new.header().set_predecessor(old.header().epoch());
        }
        let named = match self.aside.exists() {
            true => Ok(()),
            false => link(&self.file, &self.aside),
        };
        named
            .and_then(|()| fs::rename(&self.aside, &self.path))
            .map_err(failed("put the segment in place at", &self.path))?;
        self.in_place.store(true, Ordering::Relaxed);
        if let Some(old) = old
            && old.header().state().is_live()
        {
            old.header().set_state(State::Superseded);
            old.header().wake_word().wake_all(&Futex);
        }
        Ok(())
    }

    /// Removes the frames that an earlier capture of this name shared with recorders, if this one
    /// shares none.
    pub fn remove_frames(&self) -> Result<(), SegmentFileError> {
        let path = self.frames_path();
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove the frames of an earlier capture", &path)(source))
            }
            _ => Ok(()),
        }
    }

    fn frames_path(&self) -> PathBuf {
        self.path.with_extension("frames")
    }

    /// Where readers find it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes segment, shared frames and lock file when this is dropped: here, for whoever does not
    /// hold the lock may find another capture's files under these names. What an earlier run left
    /// stays where this one never put its own in place.
    pub fn unlink_on_exit(&mut self) {
        self.unlink_on_exit = true;
    }
}

impl Drop for SegmentFile {
    fn drop(&mut self) {
        // There only if it was never put in place.
        let _ = fs::remove_file(&self.aside);
        if self.unlink_on_exit {
            if *self.in_place.get_mut() {
                let _ = fs::remove_file(&self.path);
                let _ = fs::remove_file(self.frames_path());
            }
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SegmentFileError {
    let path = path.to_owned();
    move |source| SegmentFileError::File { doing, path, source }
}

fn take_lock(worker: &str, path: &Path) -> Result<File, SegmentFileError> {
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(path)
            .map_err(failed("open the lock file", path))
    };
    let mut lock;
    loop {
        lock = lock_or_say_who(worker, path, open()?)?;
        // A capture that removes its files on exit may have removed the one opened above.
        let ours = lock.metadata().map_err(failed("look at", path))?;
        match fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => break,
            _ => {}
        }
    }
    let write_pid = |lock: &mut File| {
        lock.set_len(0)?;
        lock.rewind()?;
        write!(lock, "{}", std::process::id())
    };
    write_pid(&mut lock).map_err(failed("write the pid to", path))?;
    Ok(lock)
}

fn lock_or_say_who(worker: &str, path: &Path, mut lock: File) -> Result<File, SegmentFileError> {
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid);
            let pid = match pid.trim() {
                "" => "unknown".to_owned(),
                pid => pid.to_owned(),
            };
            Err(SegmentFileError::Running { worker: worker.to_owned(), pid })
        }
        Err(TryLockError::Error(source)) => Err(failed("lock", path)(source)),
    }
}

/// The segment of a capture before this one, if there is one that this build understands. A link under
/// its name leads to somebody else's.
fn open_predecessor(path: &Path) -> Option<MappedWords> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
    let bytes = usize::try_from(file.metadata().ok()?.len()).ok()?;
    MappedWords::map(&file, bytes & !7).ok()
}

/// Gives a file that has no name `name`.
pub(crate) fn link(file: &File, name: &Path) -> io::Result<()> {
    let nameless = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let name = CString::new(name.as_os_str().as_bytes())?;
    let (here, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
    // SAFETY: both paths end in NUL and outlive the call.
    match unsafe { libc::linkat(here, nameless.as_ptr(), here, name.as_ptr(), follow) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn make_aside(
    aside: &Path,
    dir: &Path,
    bytes: usize,
) -> Result<(File, MappedWords), SegmentFileError> {
    match fs::remove_file(aside) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove the leftover", aside)(source));
        }
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(MODE);
    let nameless = options.clone().custom_flags(libc::O_TMPFILE).open(dir);
    let file = match nameless {
        // Not every file system takes files without a name.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            options.create_new(true).open(aside)
        }
        result => result,
    };
    let file = file.map_err(failed("create", aside))?;
    file.set_permissions(Permissions::from_mode(MODE)) // whatever the umask
        .map_err(failed("set the mode of", aside))?;
    let room = |source| SegmentFileError::Room {
        bytes,
        path: aside.to_owned(),
        dir: dir.to_owned(),
        source,
    };
    // Reserved now: a full file system would otherwise kill the worker when it touches the page.
    // SAFETY: no memory is involved.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes as libc::off_t) } {
        0 => {}
        code => return Err(room(io::Error::from_raw_os_error(code))),
    }
    let map = MappedWords::map(&file, bytes).map_err(failed("map", aside))?;
    Ok((file, map))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wiretape_core::segment::{SegmentLayout, SegmentSpec, SegmentWriter};

    fn spec(epoch: u64) -> SegmentSpec<'static> {
        SegmentSpec {
            worker: "w",
            epoch,
            pid: 1,
            event_slots: 1024,
            instruments: 4,
            feeds: 1,
            depths: 0,
        }
    }

    fn create(dir: &Path, epoch: u64) -> SegmentFile {
        let spec = spec(epoch);
        let bytes = SegmentLayout::new(&spec).unwrap().total_bytes();
        let file = SegmentFile::create(dir, "w", bytes).unwrap();
        SegmentWriter::create(file.words(), &spec).unwrap().start();
        file
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_second_capture_of_the_same_name_is_refused_by_pid() {
        let dir = tempfile::tempdir().unwrap();
        let _first = create(dir.path(), 1);
        let error = SegmentFile::create(dir.path(), "w", 4096).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(error.contains(&format!("'w' runs already (pid {pid})")), "{error}");
        SegmentFile::create(dir.path(), "other", 4096).unwrap();
    }

    #[test]
    fn a_pipe_in_place_of_the_lock_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("w.lock");
        assert!(std::process::Command::new("mkfifo").arg(lock).status().unwrap().success());
        let (answer, answers) = std::sync::mpsc::channel();
        let path = dir.path().to_owned();
        std::thread::spawn(move || answer.send(SegmentFile::check_name(&path, "w")));
        answers.recv_timeout(std::time::Duration::from_secs(10)).unwrap().unwrap();
        let error = SegmentFile::create(dir.path(), "w", 4096).unwrap_err().to_string();
        assert!(error.contains("write the pid to"), "{error}");
    }

    #[test]
    fn readers_of_a_killed_capture_learn_that_they_were_superseded() {
        let dir = tempfile::tempdir().unwrap();
        let first = create(dir.path(), 1);
        first.publish().unwrap();
        // What a reader maps, and what a kill leaves behind.
        let file = OpenOptions::new().read(true).write(true).open(first.path()).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, MODE);
        let bytes = file.metadata().unwrap().len() as usize;
        let reader = MappedWords::map(&file, bytes).unwrap();
        drop(first);
        let view = SegmentView::attach(reader.words()).unwrap();
        assert_eq!(view.header().state(), State::Running);

        let second = create(dir.path(), 2);
        assert_eq!(view.header().state(), State::Running);
        second.publish().unwrap();
        assert_eq!(view.header().state(), State::Superseded);
        let now = SegmentView::attach(second.words()).unwrap();
        assert_eq!((now.header().epoch(), now.header().state()), (2, State::Running));
        assert_eq!((view.header().predecessor(), now.header().predecessor()), (0, 1));
        assert_eq!(names(dir.path()), ["w.lock", "w.seg"]);
    }

    #[test]
    fn epochs_grow_also_where_the_clock_was_set_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(SegmentFile::epoch(dir.path(), "w", 7), 7);
        create(dir.path(), 1_000).publish().unwrap();
        assert_eq!(SegmentFile::epoch(dir.path(), "w", 999), 1_001);
        assert_eq!(SegmentFile::epoch(dir.path(), "w", 5_000), 5_000);
        assert_eq!(SegmentFile::epoch(dir.path(), "other", 7), 7);
    }

    #[test]
    fn a_start_that_is_killed_leaves_nothing_that_takes_room() {
        let dir = tempfile::tempdir().unwrap();
        // As an earlier version left it, or a file system that takes no files without a name.
        fs::write(dir.path().join("w.seg.new"), "left").unwrap();
        let starts = create(dir.path(), 1);
        assert_eq!(names(dir.path()), ["w.lock"]);
        starts.publish().unwrap();
        assert_eq!(fs::metadata(starts.path()).unwrap().mode() & 0o777, MODE);
        assert_eq!(names(dir.path()), ["w.lock", "w.seg"]);
    }

    #[test]
    fn a_link_to_another_captures_segment_does_not_supersede_it() {
        let dir = tempfile::tempdir().unwrap();
        let other = create(dir.path(), 1);
        other.publish().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(other.path(), elsewhere.path().join("w.seg")).unwrap();
        create(elsewhere.path(), 2).publish().unwrap();
        let view = SegmentView::attach(other.words()).unwrap();
        assert_eq!(view.header().state(), State::Running);
        // The link is gone, and not what it led to.
        assert!(fs::symlink_metadata(elsewhere.path().join("w.seg")).unwrap().is_file());
        assert_eq!(names(dir.path()), ["w.lock", "w.seg"]);
    }

    #[test]
    fn a_start_that_fails_leaves_the_old_segment_and_nothing_aside() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), 1).publish().unwrap();
        drop(create(dir.path(), 2));
        assert_eq!(names(dir.path()), ["w.lock", "w.seg"]);
        fs::write(dir.path().join("w.frames"), b"of the first").unwrap();
        let unlinking = |epoch| {
            let mut file = create(dir.path(), epoch);
            file.unlink_on_exit();
            file
        };
        drop(unlinking(3));
        assert_eq!(names(dir.path()), ["w.frames", "w.seg"]);
        let last = unlinking(4);
        last.publish().unwrap();
        drop(last);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn damage_in_the_old_segment_does_not_stop_a_start() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("w.seg"), b"not a segment").unwrap();
        create(dir.path(), 1).publish().unwrap();
        let bytes = 1 << 60;
        let error = SegmentFile::create(dir.path(), "w", bytes).unwrap_err().to_string();
        // The run before was killed, and has the room: nobody but the operator can give it back.
        assert!(error.contains("cannot reserve"), "{error}");
        let mend = format!("`wiretape segments remove --directory {}`", dir.path().display());
        assert!(error.contains(&mend), "{error}");
        assert_eq!(names(dir.path()), ["w.lock", "w.seg"]);
    }
}
