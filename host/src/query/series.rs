//! Rows of one table in time order.

use crate::store::{Axis, Chunk, Columns, Position};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Times `[from, to)` in UTC nanoseconds; an absent bound is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First time wanted.
    pub from: Option<u64>,
    /// First time no longer wanted.
    pub to: Option<u64>,
}

impl Window {
    /// Whether `time` lies in it.
    pub fn contains(&self, time: u64) -> bool {
        self.from.is_none_or(|from| time >= from) && self.to.is_none_or(|to| time < to)
    }
}

/// Where a row of a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowId {
    /// Index of the span.
    pub span: u32,
    /// Row of the span's chunk.
    pub row: u32,
}

/// Some rows of a chunk.
#[derive(Clone, Debug)]
pub struct Span<C> {
    /// The chunk.
    pub chunk: Arc<Chunk<C>>,
    /// Its rows; never empty in a [`Series`].
    pub rows: Range<usize>,
}

/// Rows in the order of (time, epoch, sequence).
#[derive(Clone, Debug)]
pub struct Series<C> {
    spans: Vec<Span<C>>,
    axis: Axis,
    rows: usize,
}

impl<C: Columns> Series<C> {
    /// The rows of `chunks` (in the order of publication) with times of `axis` in `window`.
    ///
    /// Chunks whose times are in order, which is the rule, are taken as they are; else the rows
    /// wanted are sorted into new ones.
    pub fn select(chunks: &[Arc<Chunk<C>>], axis: Axis, window: Window) -> Series<C> {
        let wanted = chunks.iter().filter(|chunk| {
            let range = chunk.time_range(axis);
            !chunk.is_empty()
                && window.from.is_none_or(|from| range.max >= from)
                && window.to.is_none_or(|to| range.min < to)
        });
        let wanted: Vec<&Arc<Chunk<C>>> = wanted.collect();
        let spans = if in_order(&wanted, axis) {
            let spans = wanted.into_iter().map(|chunk| {
                let times = chunk.times(axis);
                let start = window.from.map_or(0, |from| times.partition_point(|&t| t < from));
                let end = window.to.map_or(times.len(), |to| times.partition_point(|&t| t < to));
                Span { chunk: chunk.clone(), rows: start..end.max(start) }
            });
            spans.filter(|span| !span.rows.is_empty()).collect()
        } else {
            sorted(&wanted, axis, window)
        };
        let rows = spans.iter().map(|span| span.rows.len()).sum();
        Series { spans, axis, rows }
    }

    /// The time that the rows are ordered by.
    pub fn axis(&self) -> Axis {
        self.axis
    }

    /// The runs of rows, in order.
    pub fn spans(&self) -> &[Span<C>] {
        &self.spans
    }

    /// Rows in all.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// All rows, in order.
    pub fn ids(&self) -> impl Iterator<Item = RowId> + '_ {
        self.spans.iter().enumerate().flat_map(|(span, at)| {
            at.rows.clone().map(move |row| RowId { span: span as u32, row: row as u32 })
        })
    }

    /// The columns that hold `id`.
    ///
    /// # Panics
    /// If `id` is not of this series.
    pub fn columns(&self, id: RowId) -> &C {
        self.spans[id.span as usize].chunk.columns()
    }

    /// The row at `id`.
    ///
    /// # Panics
    /// If `id` is not of this series.
    pub fn row(&self, id: RowId) -> C::Row {
        self.columns(id).row(id.row as usize)
    }

    /// The position of the row at `id`.
    ///
    /// # Panics
    /// If `id` is not of this series.
    pub fn position(&self, id: RowId) -> Position {
        self.spans[id.span as usize].chunk.position(id.row as usize)
    }

    /// The time of the row at `id`.
    ///
    /// # Panics
    /// If `id` is not of this series.
    pub fn time(&self, id: RowId) -> u64 {
        self.spans[id.span as usize].chunk.times(self.axis)[id.row as usize]
    }
}

fn in_order<C: Columns>(chunks: &[&Arc<Chunk<C>>], axis: Axis) -> bool {
    // Sequences grow within an epoch, so that at the seam of two chunks equal times are in order
    // if the epochs are.
    let seams = chunks.windows(2).all(|pair| {
        let (left, right) = (pair[0].time_range(axis), pair[1].time_range(axis));
        (left.max, pair[0].epoch()) <= (right.min, pair[1].epoch())
    });
    seams && chunks.iter().all(|chunk| chunk.time_range(axis).sorted)
}

/// The rows wanted, copied into chunks that are in order. A chunk holds one epoch, so a new one
/// begins wherever the epoch changes.
fn sorted<C: Columns>(chunks: &[&Arc<Chunk<C>>], axis: Axis, window: Window) -> Vec<Span<C>> {
    let mut order = Vec::new();
    for (index, chunk) in chunks.iter().enumerate() {
        for (row, &time) in chunk.times(axis).iter().enumerate() {
            if window.contains(time) {
                order.push((time, chunk.position(row), index, row));
            }
        }
    }
    order.sort_unstable_by_key(|&(time, position, ..)| (time, position));
    let mut out: Vec<Chunk<C>> = Vec::new();
    for (_, position, index, row) in order {
        if out.last().is_none_or(|chunk| chunk.epoch() != position.epoch) {
            out.push(Chunk::new(position.epoch));
        }
        if let Some(chunk) = out.last_mut() {
            chunk.push(chunks[index].columns().row(row));
        }
    }
    let spans = out.into_iter().map(|chunk| {
        let rows = 0..chunk.len();
        Span { chunk: Arc::new(chunk), rows }
    });
    spans.collect()
}
