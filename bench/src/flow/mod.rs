//! A market that never was: seeded, deterministic order flow with the shape of a real one.
//!
//! A day is an opening (system events, directory, a seeded book, the opening cross), a stretch
//! of continuous trading, and a close. In the continuous part each instrument has
//!
//! - arrivals in bursts: a Hawkes process with a fast and a slow kernel ([`arrival`]);
//! - an efficient price that wanders and returns to its anchor ([`instrument`]), after which
//!   orders are placed, cancelled and hit;
//! - resting orders concentrated near the touch, mostly of one round lot;
//! - a book without cleverness ([`book`]) that refuses whatever a matching engine could not have
//!   done, so that the flow never crosses, never overfills and never names a dead order.
//!
//! The mix of messages follows a real Nasdaq day: about 45 % adds, 38 % deletes, 9 % executions,
//! 4 % hidden trades, 3 % cancels, some replaces and few executions at another price.
//!
//! The same [`FlowSpec`] gives the same steps on every machine and in every version of the
//! generator's dependencies: randomness is ChaCha8 read as plain 64-bit words, and the two
//! transcendental functions come from `libm`, not from the platform.

pub mod arrival;
pub mod book;
pub mod change;
pub mod continuous;
pub mod deep;
pub mod draw;
pub mod instrument;
pub mod itch;
pub mod session;
pub mod spec;

pub use book::{Order, PlainBook};
pub use change::{Change, Step};
pub use session::Flow;
pub use spec::{FlowSpec, SpecError};

/// Prices of the flow are integers in units of 1e-4 dollars, as in ITCH.
pub const TICK: u32 = 100;
