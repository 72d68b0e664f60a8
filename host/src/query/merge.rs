//! Several instruments' rows in one order.

use super::series::{RowId, Series};
use crate::store::{Columns, Position};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The rows of all `series` in the order of (time, receive time, worker, position), at most
/// `limit` of them, each with the index of its series.
///
/// `workers` names the worker of each series by a number: within one worker equal times go by
/// position alone, across workers by receive time and then by worker.
pub fn merge<C: Columns>(
    series: &[Series<C>],
    workers: &[u32],
    limit: usize,
) -> Vec<(usize, RowId)> {
    if let [only] = series {
        return only.ids().take(limit).map(|id| (0, id)).collect();
    }
    let total: usize = series.iter().map(Series::len).sum();
    let mut out = Vec::with_capacity(total.min(limit));
    let mut heads: Vec<_> = series.iter().map(|series| series.ids()).collect();
    let mut heap = BinaryHeap::with_capacity(series.len());
    let key = |index: usize, id: RowId| -> (u64, u64, u32, Position, usize, RowId) {
        let series = &series[index];
        let received = series.columns(id).ts_recv()[id.row as usize];
        let worker = workers.get(index).copied().unwrap_or_default();
        (series.time(id), received, worker, series.position(id), index, id)
    };
    for (index, head) in heads.iter_mut().enumerate() {
        heap.extend(head.next().map(|id| Reverse(key(index, id))));
    }
    while out.len() < limit {
        let Some(Reverse((_, _, _, _, index, id))) = heap.pop() else { break };
        out.push((index, id));
        heap.extend(heads[index].next().map(|id| Reverse(key(index, id))));
    }
    out
}
