//! The recorder: what a capture received, as pcapng files.
//!
//! A capture with `retain_frames` shares its packet memory read-only, beside the segment. The
//! recorder copies the packets out of it from a process of its own: the capture neither waits for
//! it nor knows of it, and a recorder that is too slow misses packets, counts them exactly, and
//! says in the file where they are missing.
//!
//! ```text
//!  <worker>.frames ──► read, order, classify, encode ──► buffer of pieces ──► compress, write, rename
//!    (each queue)          (this thread)                                       (writer thread)
//!  <worker>.seg    ──► lines, losses, the end
//! ```
//!
//! The buffer between the two threads is for a disk that pauses: only when it is full do frames
//! get recycled before they were copied.

mod error;
mod files;
mod frames;
mod interfaces;
mod look_ahead;
mod output;
mod pcapng;
mod recorder;
mod run;

pub use error::RecordError;
pub use files::Rotation;
pub use output::{Compression, Room, WhenFull};
pub use recorder::{RecordNotice, RecordOptions, Recorded, RecordedQueue, record};
