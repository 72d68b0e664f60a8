//! The reader library: follow a capture worker's events from shared memory.
//!
//! A worker publishes into one segment, a file `<directory>/<worker>.seg` that readers map
//! read-only. They cannot disturb the worker, and it never hears of them. What a reader sees of
//! a worker's life:
//!
//! ```text
//!  file appears ──► Began ──► Events, Events, … ──► Ended ──► (a new file) ──► Began ──► …
//!                               │        ▲             clean, superseded or replaced
//!                               ├─ Lost ─┘  slower than the ring: the exact range missed
//!                               ├─ Silent   no sign of life from the writer (killed, stopped),
//!                               │  Resumed  and again one
//!                               └─ Idle     nothing new: wait by spinning, yielding or sleeping
//! ```
//!
//! [`Follower`] does all this for one path. Who wants each event at the lowest latency and looks
//! after the rest himself takes [`Segment::view`] and reads the ring in it directly.
//!
//! ```
//! use wiretape_host::reader::{Follower, Followed, Start};
//! # use wiretape_host::reader::testing::TestSegment;
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("w.seg");
//! # let segment = TestSegment::create(&path, 1, 64);
//! # let mut events = segment.writer().events();
//! # events.publish(&wiretape_core::event::Event::default());
//! # events.commit();
//! # segment.writer().header().set_state(wiretape_core::segment::State::Ended);
//! let mut follower = Follower::new(&path, Start::Oldest)?;
//! let mut seen = 0;
//! loop {
//!     match follower.poll()? {
//!         Followed::Events { events, .. } => seen += events.len(),
//!         Followed::Lost { lapped, .. } => eprintln!("too slow: {lapped}"),
//!         Followed::Ended { .. } => break,
//!         Followed::Began { .. } | Followed::Silent { .. } | Followed::Resumed { .. } => {}
//!         Followed::Idle => follower.wait(),
//!     }
//! }
//! assert_eq!(seen, 1);
//! # Ok::<(), wiretape_host::reader::AttachError>(())
//! ```

pub mod mapping;
pub mod segment;
pub mod follow;
pub mod directory;
#[doc(hidden)]
pub mod testing;

pub use directory::{DEFAULT_DIRECTORY, segment_files};
pub use follow::{EpochEnd, Followed, Follower, Start, Wait};
pub use segment::{AttachError, Liveness, Segment};
