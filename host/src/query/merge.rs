//! Several instruments' rows in one order.

use super::series::{RowId, Series};
use crate::store::{Columns, Position};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The rows of all `series` in order, at most `limit` of them, each with the index of its series.
///
/// `workers` numbers the worker of each series. Rows of one worker are in the order of (time,
/// position). Across workers a point of the order is a vector, so ties go by receive time and
/// then by worker.
pub fn merge<C: Columns>(
    series: &[Series<C>],
    workers: &[u32],
    limit: usize,
) -> Vec<(usize, RowId)> {
    if let [only] = series {
        return only.ids().take(limit).map(|id| (0, id)).collect();
    }
    let mut lanes: Vec<Lane<'_, C>> = Vec::new();
    for (index, rows) in series.iter().enumerate() {
        let worker = workers.get(index).copied().unwrap_or_default();
        let lane = match lanes.iter().position(|lane| lane.worker == worker) {
            Some(lane) => lane,
            None => {
                lanes.push(Lane { worker, series, cursors: Vec::new(), heap: BinaryHeap::new() });
                lanes.len() - 1
            }
        };
        lanes[lane].open(index, rows);
    }
    let total: usize = series.iter().map(Series::len).sum();
    let mut out = Vec::with_capacity(total.min(limit));
    let mut heads: BinaryHeap<Reverse<(Key, usize)>> = BinaryHeap::new();
    for (index, lane) in lanes.iter().enumerate() {
        heads.extend(lane.key().map(|key| Reverse((key, index))));
    }
    while out.len() < limit {
        let Some(Reverse((_, lane))) = heads.pop() else { break };
        out.extend(lanes[lane].next());
        heads.extend(lanes[lane].key().map(|key| Reverse((key, lane))));
    }
    out
}

/// What decides across workers: time, receive time, worker.
type Key = (u64, u64, u32);

/// The next row of a series of a lane: time, position, series, cursor, row.
type LaneKey = (u64, Position, usize, usize, RowId);

/// The series of one worker.
struct Lane<'a, C> {
    worker: u32,
    series: &'a [Series<C>],
    cursors: Vec<Box<dyn Iterator<Item = RowId> + 'a>>,
    /// The next row of each series.
    heap: BinaryHeap<Reverse<LaneKey>>,
}

impl<'a, C: Columns> Lane<'a, C> {
    fn open(&mut self, index: usize, rows: &'a Series<C>) {
        self.cursors.push(Box::new(rows.ids()));
        self.refill(index, self.cursors.len() - 1);
    }

    fn refill(&mut self, index: usize, cursor: usize) {
        let rows = &self.series[index];
        let next = self.cursors[cursor].next();
        let entry = next.map(|id| Reverse((rows.time(id), rows.position(id), index, cursor, id)));
        self.heap.extend(entry);
    }

    fn key(&self) -> Option<Key> {
        let Reverse((time, _, index, _, id)) = *self.heap.peek()?;
        let received = self.series[index].columns(id).ts_recv()[id.row as usize];
        Some((time, received, self.worker))
    }

    fn next(&mut self) -> Option<(usize, RowId)> {
        let Reverse((_, _, index, cursor, id)) = self.heap.pop()?;
        self.refill(index, cursor);
        Some((index, id))
    }
}
