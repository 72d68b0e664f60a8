//! Ready-made operators that run straight on the columns.
//!
//! Each takes [`Series`]: rows of one instrument in the order of (time, epoch, sequence), where
//! the time is the exchange's or the receive time, as the query says. That order is total and
//! fixed at publication, so that the same question always gets the same answer.

pub mod series;
pub mod merge;
pub mod asof;
pub mod bars;
pub mod day;
pub mod request;
pub mod execute;

pub use asof::asof;
pub use bars::{Bar, BarRule, bars};
pub use day::{Zone, ZoneError};
pub use execute::{QueryError, execute};
pub use merge::merge;
pub use request::{Request, Scope};
pub use series::{RowId, Series, Span, Window};
