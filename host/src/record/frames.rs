//! The packet memory that a capture shares, mapped read-only: that of all its queues.

use std::io;
use std::path::{Path, PathBuf};

use wiretape_core::frames::FramesReader;

use super::RecordError;
use crate::reader::mapping::{Mapping, open};

/// A capture's shared frames.
#[derive(Debug)]
pub(super) struct SharedFrames {
    mapping: Mapping,
    path: PathBuf,
}

impl SharedFrames {
    /// Maps the frames beside the segment at `segment`.
    pub fn attach(segment: &Path) -> Result<SharedFrames, RecordError> {
        let path = segment.with_extension("frames");
        let failed = |doing: &'static str| {
            let path = path.clone();
            move |source: io::Error| match source.kind() {
                io::ErrorKind::NotFound => RecordError::NotShared { path },
                _ => RecordError::Frames { doing, path, source },
            }
        };
        let file = open(&path).map_err(failed("open"))?;
        let mapping = Mapping::new(&file).map_err(failed("map"))?;
        let frames = SharedFrames { mapping, path };
        frames.readers()?;
        Ok(frames)
    }

    /// A reader for each queue, at the oldest packet that is there.
    pub fn readers(&self) -> Result<Vec<FramesReader<'_>>, RecordError> {
        let first = self.reader(0)?;
        let queues = first.spec().queues;
        std::iter::once(Ok(first)).chain((1..queues).map(|index| self.reader(index))).collect()
    }

    /// Epoch of the capture run that shares them.
    pub fn epoch(&self) -> Result<u64, RecordError> {
        Ok(self.reader(0)?.spec().epoch)
    }

    fn reader(&self, index: usize) -> Result<FramesReader<'_>, RecordError> {
        FramesReader::attach(self.mapping.words(), index)
            .map_err(|source| RecordError::Layout { path: self.path.clone(), source })
    }
}
