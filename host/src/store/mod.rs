//! What the host holds in memory: columns per instrument and record kind, in chunks.
//!
//! ```text
//! worker ── instrument ── events │ trades │ quotes          one [`Table`] each
//!                           └─ chunk, chunk, chunk, open chunk
//!                              (sealed: shared, immutable)  (grows)
//! ```
//!
//! Rows are appended in the order of publication, (epoch, ring sequence). A chunk that is full is
//! sealed: from then on it never changes, and queries share it with the store instead of copying
//! it. A query copies only the open chunk, under a lock that is held for that copy alone.

pub mod position;
pub mod columns;
pub mod chunk;
pub mod coverage;
pub mod budget;
pub mod instrument;
pub mod worker;

pub use budget::Budget;
pub use chunk::{Axis, Chunk, TIME_MAX, Table};
pub use columns::{
    Columns, EventColumns, EventRow, QuoteColumns, QuoteRow, TradeColumns, TradeRow,
};
pub use coverage::{Coverage, Loss, LossReason, WorkerCoverage, WorkerState};
pub use instrument::{Instrument, InstrumentSnapshot, Kind};
pub use position::Position;
pub use worker::WorkerStore;
