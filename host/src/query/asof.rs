//! As-of join: each left row with the last right row before it.

use super::series::{RowId, Series, Span};
use crate::store::{Axis, Columns};

/// For each row of `left`, in order, the last row of `right` that precedes it: one with an earlier
/// time, or with the same time and an earlier (epoch, sequence). A row of the same time that was
/// published later does not count.
///
/// With a `tolerance`, in nanoseconds, a row that is older than that is no match: the age may be
/// equal to the tolerance, not above it.
///
/// Both series must be of one worker and go by the same axis. Both are walked once; a chunk that
/// lies wholly before the left row is skipped by its last row, and within a chunk the search
/// doubles its step, so that few left rows among many right ones cost little.
pub fn asof<L: Columns, R: Columns>(
    left: &Series<L>,
    right: &Series<R>,
    tolerance: Option<u64>,
) -> Vec<Option<RowId>> {
    let mut out = Vec::with_capacity(left.len());
    let mut cursor = Cursor::new(right.spans(), right.axis());
    for span in left.spans() {
        let times = span.chunk.times(left.axis());
        let sequences = span.chunk.columns().sequence();
        for row in span.rows.clone() {
            let time = times[row];
            cursor.advance((time, span.chunk.epoch(), sequences[row]));
            let found = cursor
                .last
                .filter(|&id| tolerance.is_none_or(|tolerance| time - right.time(id) <= tolerance));
            out.push(found);
        }
    }
    out
}

/// What decides the order: time, epoch, sequence.
type Key = (u64, u64, u64);

/// How far the right side has been walked.
struct Cursor<'a, R> {
    spans: &'a [Span<R>],
    axis: Axis,
    span: usize,
    /// First row of the span that has not been passed.
    row: usize,
    /// The last row passed.
    last: Option<RowId>,
}

impl<'a, R: Columns> Cursor<'a, R> {
    fn new(spans: &'a [Span<R>], axis: Axis) -> Self {
        let row = spans.first().map_or(0, |span| span.rows.start);
        Cursor { spans, axis, span: 0, row, last: None }
    }

    /// Passes all rows that precede `key`. Keys must not decrease from call to call.
    fn advance(&mut self, key: Key) {
        while let Some(span) = self.spans.get(self.span) {
            let times = span.chunk.times(self.axis);
            let sequences = span.chunk.columns().sequence();
            let epoch = span.chunk.epoch();
            let precedes = |row: usize| (times[row], epoch, sequences[row]) < key;
            let end = span.rows.end;
            let ends_before = precedes(end - 1);
            let row = if ends_before { end } else { gallop(self.row, end, precedes) };
            if row > span.rows.start {
                self.last = Some(RowId { span: self.span as u32, row: row as u32 - 1 });
            }
            self.row = row;
            if !ends_before {
                return;
            }
            self.span += 1;
            self.row = self.spans.get(self.span).map_or(0, |next| next.rows.start);
        }
    }
}

/// The first row of `start..end` that `precedes` denies, found in steps that double.
fn gallop(start: usize, end: usize, precedes: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut step) = (start, 1);
    // Every row below `low` precedes.
    loop {
        let probe = low + step - 1;
        if probe >= end || !precedes(probe) {
            break;
        }
        low = probe + 1;
        step *= 2;
    }
    let mut high = (low + step - 1).min(end);
    while low < high {
        let middle = low + (high - low) / 2;
        if precedes(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
