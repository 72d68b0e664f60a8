//! A segment that another process writes.

use super::directory::DEFAULT_DIRECTORY;
use super::mapping::{Mapping, open};
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wiretape_core::segment::{AttachError as LayoutError, EPOCH_NONE, SegmentView, State};

/// Age of a heartbeat from which on the writer counts as silent. Capture's control thread gives a
/// sign of life every few milliseconds; a machine under load may keep it from doing so for long.
pub const HEARTBEAT_STALE: Duration = Duration::from_secs(2);

/// The command that lists the segments of the directory of `path`.
fn listing(path: &Path) -> String {
    match path.parent() {
        Some(directory) if directory == Path::new("") => "wiretape segments --directory .".into(),
        Some(directory) if directory != Path::new(DEFAULT_DIRECTORY) => {
            format!("wiretape segments --directory {}", directory.display())
        }
        _ => "wiretape segments".to_owned(),
    }
}

/// Why a segment cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no such file.
    #[error(
        "no segment at {path}: is wiretape-capture running, and does its worker have this name? \
         (`{list}` lists what is there)", path = path.display(), list = listing(path)
    )]
    NotFound {
        /// Where it was sought.
        path: PathBuf,
    },
    /// The file cannot be read or mapped.
    #[error("cannot {doing} segment {path}: {source}{hint}", path = path.display())]
    File {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// The file is no segment that this build can read.
    #[error("cannot attach to {path}: {source}", path = path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: LayoutError,
    },
}

impl AttachError {
    /// Whether a little patience may help: the file is not there yet, or not ready.
    pub fn is_not_yet(&self) -> bool {
        match self {
            AttachError::NotFound { .. } => true,
            AttachError::Layout { source, .. } => *source == LayoutError::NotReady,
            AttachError::File { .. } => false,
        }
    }
}

/// Whether a segment's writer lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It gave a sign of life lately.
    Live,
    /// It ended and said so, or its successor did.
    Over(State),
    /// It gave no sign of life for this long: it was killed, or the machine stands still.
    Silent(Duration),
}

/// A segment, mapped read-only.
#[derive(Debug)]
pub struct Segment {
    mapping: Mapping,
    path: PathBuf,
    /// Device and inode: what tells a new segment at the same path from this one.
    identity: (u64, u64),
}

impl Segment {
    /// Maps the segment at `path` and checks that this build can read it.
    pub fn attach(path: &Path) -> Result<Segment, AttachError> {
        let failed = |doing: &'static str| {
            move |source: io::Error| match source.kind() {
                io::ErrorKind::NotFound => AttachError::NotFound { path: path.to_owned() },
                kind => AttachError::File {
                    doing,
                    path: path.to_owned(),
                    source,
                    hint: match kind {
                        io::ErrorKind::PermissionDenied => {
                            " (segments are readable by the user and the group of capture: join \
                             that group)"
                        }
                        _ => "",
                    },
                },
            }
        };
        let file = open(path).map_err(failed("open"))?;
        let metadata = file.metadata().map_err(failed("look at"))?;
        let mapping = Mapping::new(&file).map_err(failed("map"))?;
        let identity = (metadata.dev(), metadata.ino());
        let segment = Segment { mapping, path: path.to_owned(), identity };
        segment.check()?;
        Ok(segment)
    }

    fn check(&self) -> Result<SegmentView<'_>, AttachError> {
        let path = || self.path.clone();
        SegmentView::attach(self.mapping.words())
            .map_err(|source| AttachError::Layout { path: path(), source })
    }

    /// Everything in the segment. `None` only if its writer damaged the header after it was
    /// attached.
    pub fn view(&self) -> Option<SegmentView<'_>> {
        SegmentView::attach(self.mapping.words()).ok()
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether another file has taken this one's place at its path.
    pub fn is_replaced(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) != self.identity)
    }

    /// Epoch of a run that came and went between `earlier`, from which a reader comes, and this one.
    /// There may be more of them before it.
    pub fn missed_since(&self, earlier: &Segment) -> Option<u64> {
        let (followed, before) =
            (earlier.view()?.header().epoch(), self.view()?.header().predecessor());
        (before != EPOCH_NONE && before != followed).then_some(before)
    }

    /// Whether its writer lives.
    pub fn liveness(&self) -> Liveness {
        let Some(view) = self.view() else { return Liveness::Over(State::Ended) };
        let header = view.header();
        match header.state() {
            state if !state.is_live() => Liveness::Over(state),
            _ => match Duration::from_nanos(heartbeat_age_ns(header.heartbeat_ns())) {
                age if age >= HEARTBEAT_STALE => Liveness::Silent(age),
                _ => Liveness::Live,
            },
        }
    }
}

/// Nanoseconds since a heartbeat.
pub fn heartbeat_age_ns(heartbeat_ns: u64) -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    now.saturating_sub(heartbeat_ns)
}
