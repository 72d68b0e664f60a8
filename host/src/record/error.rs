//! Why a recording cannot begin or go on.

use std::io;
use std::path::PathBuf;

use wiretape_core::frames::FramesError;

use crate::reader::AttachError;

/// Why a recording cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The segment cannot be read.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The capture shares no frames.
    #[error(
        "the capture shares no frames ({path} is not there): set retain_frames in its [source] \
         and start it again", path = path.display()
    )]
    NotShared {
        /// Where they were sought.
        path: PathBuf,
    },
    /// The frames' file cannot be used.
    #[error("cannot {doing} {path}: {source}{}", hint(source), path = path.display())]
    Frames {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file holds no frames that this build can read.
    #[error("cannot read frames from {path}: {source}", path = path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FramesError,
    },
    /// A recording cannot be written.
    #[error("cannot {doing} {path}: {source}{}", full(source), path = path.display())]
    Output {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It was told to stop while it waited for room.
    #[error(
        "cannot {doing} {path}: {source}; stopped while it waited for room: {unwritten} packets that \
         were read are in no file, nor are those that came after them ({missed} were missed before)",
        path = path.display()
    )]
    StoppedWithoutRoom {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
        /// Packets of the whole recording that are in its files.
        written: u64,
        /// Those that were read, and are not.
        unwritten: u64,
        /// Those that the capture had taken back before they were read.
        missed: u64,
    },
    /// A block could not be encoded.
    #[error("cannot encode a pcapng block: {0}")]
    Encode(String),
    /// The writer thread could not be started.
    #[error("cannot start the writer thread: {0}")]
    Thread(io::Error),
}

impl RecordError {
    /// With what only the reading end knows: how much was read, and missed.
    pub(super) fn after(mut self, read: u64, missed_before: u64) -> RecordError {
        if let RecordError::StoppedWithoutRoom { written, unwritten, missed, .. } = &mut self {
            (*unwritten, *missed) = (read.saturating_sub(*written), missed_before);
        }
        self
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            " (frames are readable by the user and the group of capture: join that group)"
        }
        _ => "",
    }
}

fn full(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; what was recorded until then is in the .part file: make room and start again, or have \
             it wait for room (--wait-for-room)"
        }
        io::ErrorKind::FileTooLarge => {
            "; no file may grow further here (ulimit -f, or LimitFSIZE= of a unit): raise that, or end \
             files sooner (--rotate-mib)"
        }
        io::ErrorKind::NotFound => "; the file or its folder was removed meanwhile: start again",
        _ => "",
    }
}
