//! A point in a worker's total order of events.

use serde::{Deserialize, Serialize};

/// (epoch, ring sequence): fixed when an event is published, and the tie-break of equal times.
///
/// Epochs of one worker grow with each start of its capture process; sequences start at 1 in each
/// epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The capture run.
    pub epoch: u64,
    /// The ring sequence within it.
    pub sequence: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.epoch, self.sequence)
    }
}
