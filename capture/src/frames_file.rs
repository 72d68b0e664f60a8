//! The file behind the packet memory that recorders read: `<dir>/<worker>.frames`, beside the
//! segment, in the layout of [`wiretape_core::frames`]. All queues of a worker are in one file, so
//! that they come and go together.
//!
//! It has no name until the run that fills it starts, so that a start that fails leaves nothing
//! behind; then it takes the place of the one before. A recorder that still maps that one reads
//! on in it, and learns from the segment that its writer is gone. Whoever holds the worker's lock
//! removes it: [`SegmentFile`](crate::segment_file::SegmentFile).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use wiretape_core::frames::{FramesError, FramesSpec, FramesWriter};
use wiretape_core::segment::QueueIdentity;
use wiretape_core::sync::AtomicU64;

use crate::segment_file::{MODE, MappedWords, link};
use crate::xsk::{Memory, MemoryError};

/// Why frames cannot be shared with recorders.
#[derive(Debug, thiserror::Error)]
pub enum FramesFileError {
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
        "cannot reserve {bytes} bytes for frames shared with recorders in {dir}: {source}; lower \
         frames, make room (captures that are over left theirs: `wiretape segments remove \
         --directory {dir}`), or leave retain_frames out", dir = dir.display()
    )]
    Room {
        /// Size of the file.
        bytes: usize,
        /// Its directory.
        dir: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The packet memory has a shape that is not shared.
    #[error("cannot share frames with recorders: {0}")]
    Layout(#[from] FramesError),
    /// It cannot be mapped for the driver.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Packet memory in a file.
#[derive(Debug)]
pub struct FramesFile {
    file: File,
    words: MappedWords,
    spec: FramesSpec,
    path: PathBuf,
}

impl FramesFile {
    /// Reserves a file for `worker` in `dir` (made if it is missing), which gets its name by
    /// [`publish`](FramesFile::publish).
    ///
    /// # Errors
    /// The file system is full, or takes no files without a name.
    pub fn reserve(
        dir: &Path,
        worker: &str,
        spec: FramesSpec,
    ) -> Result<FramesFile, FramesFileError> {
        let failed =
            |doing| move |source| FramesFileError::File { doing, path: dir.into(), source };
        let bytes = spec.total_bytes()?;
        fs::create_dir_all(dir).map_err(failed("create the directory"))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(MODE)
            .open(dir)
            .map_err(failed("create a file for frames in"))?;
        file.set_permissions(Permissions::from_mode(MODE)) // whatever the umask
            .map_err(failed("set the mode of a file in"))?;
        // Reserved now: a full file system would otherwise kill the worker when the driver fills
        // a page.
        // SAFETY: no memory is involved.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes as libc::off_t) } {
            0 => {}
            code => {
                let source = io::Error::from_raw_os_error(code);
                return Err(FramesFileError::Room { bytes, dir: dir.into(), source });
            }
        }
        let words = MappedWords::map(&file, bytes).map_err(failed("map a file in"))?;
        let path = frames_path(dir, worker);
        Ok(FramesFile { file, words, spec, path })
    }

    /// The whole, as a reader finds it.
    pub fn words(&self) -> &[AtomicU64] {
        self.words.words()
    }

    /// The writing end of queue number `index`, which is called `queue`.
    pub fn writer(
        &self,
        index: usize,
        queue: &QueueIdentity,
    ) -> Result<FramesWriter<'_>, FramesFileError> {
        Ok(FramesWriter::create(self.words(), &self.spec, index, queue)?)
    }

    /// A mapping of the frames alone of queue number `index`, for its socket.
    pub fn memory(&self, index: usize) -> Result<Memory, FramesFileError> {
        let offset = self.spec.frames_offset(index)?;
        Ok(Memory::of_file(&self.file, offset, self.spec.frames_bytes())?)
    }

    /// Gives the file its name. To be called by the one capture that holds the worker's lock.
    pub fn publish(&self) -> Result<(), FramesFileError> {
        let failed =
            |doing| move |source| FramesFileError::File { doing, path: self.path.clone(), source };
        let aside = self.path.with_extension("frames.new");
        match fs::remove_file(&aside) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove the leftover beside")(source));
            }
            _ => {}
        }
        link(&self.file, &aside)
            .and_then(|()| fs::rename(&aside, &self.path))
            .map_err(failed("put the frames in place at"))
    }
}

/// Where recorders find the frames of `worker`.
pub fn frames_path(dir: &Path, worker: &str) -> PathBuf {
    dir.join(format!("{worker}.frames"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use wiretape_core::frames::FramesReader;

    fn spec(epoch: u64) -> FramesSpec {
        FramesSpec { epoch, queues: 2, frames: 64, frame_size: 2048 }
    }

    fn lay_out(file: &FramesFile) {
        for index in 0..2 {
            file.writer(index, &QueueIdentity::default()).unwrap();
        }
    }

    #[test]
    fn a_file_has_no_name_until_it_is_published_and_then_replaces_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = frames_path(dir.path(), "w");
        for epoch in [1, 2] {
            let file = FramesFile::reserve(dir.path(), "w", spec(epoch)).unwrap();
            lay_out(&file);
            assert_eq!(path.exists(), epoch == 2, "the one before");
            file.publish().unwrap();
            let there = File::open(&path).unwrap();
            let metadata = there.metadata().unwrap();
            assert_eq!(metadata.mode() & 0o777, MODE);
            assert_eq!(metadata.len() as usize, spec(1).total_bytes().unwrap());
            let again = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let map = MappedWords::map(&again, metadata.len() as usize).unwrap();
            for index in 0..2 {
                let reader = FramesReader::attach(map.words(), index).unwrap();
                assert_eq!(reader.spec(), spec(epoch));
            }
        }
        // One that is never published leaves the other where it is.
        drop(FramesFile::reserve(dir.path(), "w", spec(3)).unwrap());
        assert!(path.exists() && fs::read_dir(dir.path()).unwrap().count() == 1);
    }

    #[test]
    fn the_driver_s_mapping_is_where_readers_look_for_frames() {
        let dir = tempfile::tempdir().unwrap();
        let file = FramesFile::reserve(dir.path(), "w", spec(1)).unwrap();
        for index in 0..2 {
            let memory = file.memory(index).unwrap();
            assert_eq!(memory.len(), 64 * 2048);
            let at = spec(1).frames_offset(index).unwrap();
            let text = format!("frame  {index}");
            let (file_at, word_at) = ((at + 2048) as u64, (at + 2048) / 8);
            std::os::unix::fs::FileExt::write_all_at(&file.file, text.as_bytes(), file_at).unwrap();
            let umem = crate::xsk::Umem::new(memory, 64, 2048).unwrap();
            assert_eq!(umem.frames(), 64);
            let word = file.words()[word_at].load(wiretape_core::sync::Ordering::Relaxed);
            assert_eq!(word.to_ne_bytes(), text.as_bytes());
        }
    }
}
