//! A run of rows of one capture epoch, and the table made of such runs.

use super::columns::Columns;
use super::position::Position;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// Rows after which a chunk is sealed, if nothing else is asked for.
pub const CHUNK_ROWS: usize = 8_192;
/// The latest time that there is: it and the next nanosecond fit into Arrow's 63 bits. What lies
/// beyond, as DBN's undefined time does, is no time.
pub const TIME_MAX: u64 = i64::MAX as u64 - 1;

/// Which of an event's two times a query goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// The time the exchange put on the message.
    #[default]
    Exchange,
    /// The time the packet was received here.
    Receive,
}

/// What is known of a chunk's times without looking at its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// Smallest time.
    pub min: u64,
    /// Largest time.
    pub max: u64,
    /// Whether no row is earlier than the one before it.
    pub sorted: bool,
}

impl TimeRange {
    const EMPTY: TimeRange = TimeRange { min: u64::MAX, max: 0, sorted: true };

    fn add(&mut self, time: u64) {
        self.sorted &= time >= self.max;
        self.min = self.min.min(time);
        self.max = self.max.max(time);
    }
}

/// Rows of one epoch, in the order of publication.
#[derive(Clone, Debug)]
pub struct Chunk<C> {
    epoch: u64,
    columns: C,
    exchange: TimeRange,
    receive: TimeRange,
}

impl<C: Columns> Chunk<C> {
    /// A chunk without rows.
    pub fn new(epoch: u64) -> Chunk<C> {
        let empty = TimeRange::EMPTY;
        Chunk { epoch, columns: C::default(), exchange: empty, receive: empty }
    }

    /// The capture epoch of all rows.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The rows.
    pub fn columns(&self) -> &C {
        &self.columns
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether no row is held.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Bytes allocated for the rows.
    pub fn bytes(&self) -> usize {
        self.columns.capacity() * C::ROW_BYTES
    }

    /// The times of `axis`, UTC nanoseconds.
    pub fn times(&self, axis: Axis) -> &[u64] {
        match axis {
            Axis::Exchange => self.columns.ts_event(),
            Axis::Receive => self.columns.ts_recv(),
        }
    }

    /// What is known of the times of `axis`.
    pub fn time_range(&self, axis: Axis) -> TimeRange {
        match axis {
            Axis::Exchange => self.exchange,
            Axis::Receive => self.receive,
        }
    }

    /// The position of the row at `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Chunk::len`].
    pub fn position(&self, index: usize) -> Position {
        Position { epoch: self.epoch, sequence: self.columns.sequence()[index] }
    }

    /// Appends a row.
    pub fn push(&mut self, row: C::Row) {
        self.columns.push(row);
        if let Some(&time) = self.columns.ts_event().last() {
            self.exchange.add(time);
        }
        if let Some(&time) = self.columns.ts_recv().last() {
            self.receive.add(time);
        }
    }
}

/// What the memory budget has taken from a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Rows dropped.
    pub rows: u64,
    /// The first dropped row.
    pub first: Position,
    /// The last dropped row.
    pub last: Position,
    /// The latest exchange time among them.
    pub ts_event_max: u64,
    /// The latest receive time among them.
    pub ts_recv_max: u64,
}

/// What appending a row did to the table's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Bytes allocated in addition (or given back, where negative).
    pub bytes: isize,
    /// Chunks that were sealed.
    pub sealed: usize,
}

/// All rows of one kind of one instrument.
#[derive(Clone, Debug)]
pub struct Table<C> {
    sealed: VecDeque<Arc<Chunk<C>>>,
    open: Chunk<C>,
    chunk_rows: usize,
    dropped: Option<Dropped>,
}

impl<C: Columns> Table<C> {
    /// A table that seals a chunk every `chunk_rows` rows (at least 1).
    pub fn new(chunk_rows: usize) -> Table<C> {
        Table {
            sealed: VecDeque::new(),
            open: Chunk::new(0),
            chunk_rows: chunk_rows.max(1),
            dropped: None,
        }
    }

    /// Appends a row of `epoch`. Rows must come in the order of publication.
    pub fn append(&mut self, epoch: u64, row: C::Row) -> Appended {
        let mut appended = Appended::default();
        if self.open.epoch != epoch {
            appended = self.seal();
            self.open.epoch = epoch;
        }
        let before = self.open.bytes();
        self.open.push(row);
        appended.bytes += self.open.bytes() as isize - before as isize;
        if self.open.len() >= self.chunk_rows {
            let sealed = self.seal();
            appended.bytes += sealed.bytes;
            appended.sealed += sealed.sealed;
        }
        appended
    }

    /// Seals the open chunk, if it has rows.
    pub fn seal(&mut self) -> Appended {
        if self.open.is_empty() {
            return Appended::default();
        }
        let next = Chunk::new(self.open.epoch);
        let mut full = std::mem::replace(&mut self.open, next);
        let before = full.bytes();
        full.columns.shrink();
        let bytes = full.bytes() as isize - before as isize;
        self.sealed.push_back(Arc::new(full));
        Appended { bytes, sealed: 1 }
    }

    /// Drops the oldest sealed chunk and remembers that it did; the bytes freed.
    pub fn drop_oldest(&mut self) -> Option<usize> {
        let chunk = self.sealed.pop_front()?;
        let (first, last) = (chunk.position(0), chunk.position(chunk.len() - 1));
        let rows = chunk.len() as u64;
        let dropped = self.dropped.get_or_insert(Dropped {
            rows: 0,
            first,
            last,
            ts_event_max: 0,
            ts_recv_max: 0,
        });
        dropped.rows += rows;
        dropped.last = last;
        dropped.ts_event_max = dropped.ts_event_max.max(chunk.exchange.max);
        dropped.ts_recv_max = dropped.ts_recv_max.max(chunk.receive.max);
        Some(chunk.bytes())
    }

    /// What was dropped for want of memory.
    pub fn dropped(&self) -> Option<Dropped> {
        self.dropped
    }

    /// The position of the oldest row held.
    pub fn first(&self) -> Option<Position> {
        let chunk = self.sealed.front().map_or(&self.open, |chunk| chunk.as_ref());
        (!chunk.is_empty()).then(|| chunk.position(0))
    }

    /// Earliest and latest time of `axis` among the rows held.
    pub fn time_span(&self, axis: Axis) -> Option<(u64, u64)> {
        let chunks = self.sealed.iter().map(|chunk| chunk.as_ref()).chain([&self.open]);
        let ranges = chunks.filter(|chunk| !chunk.is_empty()).map(|chunk| chunk.time_range(axis));
        ranges.map(|range| (range.min, range.max)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.sealed.iter().map(|chunk| chunk.len()).sum::<usize>() + self.open.len()
    }

    /// Whether no row is held.
    pub fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// The rows as they stand, for a query to work on while the table grows: sealed chunks are
    /// shared, the open one is copied.
    pub fn snapshot(&self) -> Vec<Arc<Chunk<C>>> {
        let mut chunks: Vec<_> = self.sealed.iter().cloned().collect();
        if !self.open.is_empty() {
            chunks.push(Arc::new(self.open.clone()));
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::{TradeColumns, TradeRow};
    use super::*;

    fn trade(sequence: u64, time: u64) -> TradeRow {
        let (ts_event, ts_recv) = (time, time + 1);
        let (price, size, venue_sequence, flags, side) = (5, 1, 0, 0x80, b'B');
        TradeRow { ts_event, ts_recv, sequence, price, size, venue_sequence, flags, side }
    }

    #[test]
    fn bytes_of_appends_and_drops_add_up() {
        let mut table = Table::<TradeColumns>::new(3);
        let mut bytes = 0isize;
        let mut sealed = 0;
        for i in 0..10 {
            let appended = table.append(1, trade(i, i));
            bytes += appended.bytes;
            sealed += appended.sealed;
        }
        assert_eq!(sealed, 3);
        let appended = table.append(2, trade(1, 20));
        bytes += appended.bytes;
        assert_eq!(appended.sealed, 1, "an epoch does not share a chunk with another");
        let held: usize = table.snapshot().iter().map(|chunk| chunk.len()).sum();
        assert_eq!((held, table.len()), (11, 11));
        while let Some(freed) = table.drop_oldest() {
            bytes -= freed as isize;
        }
        assert_eq!(bytes as usize, table.open.bytes());
        let dropped = table.dropped().unwrap();
        assert_eq!((dropped.rows, dropped.last.sequence, dropped.ts_recv_max), (10, 9, 10));
        assert_eq!(table.first(), Some(Position { epoch: 2, sequence: 1 }));
    }

    #[test]
    fn a_chunk_knows_whether_its_times_are_in_order() {
        let mut chunk = Chunk::<TradeColumns>::new(1);
        for (sequence, time) in [(1, 5), (2, 5), (3, 9)] {
            chunk.push(trade(sequence, time));
        }
        let expected = TimeRange { min: 5, max: 9, sorted: true };
        assert_eq!(chunk.time_range(Axis::Exchange), expected);
        chunk.push(trade(4, 8));
        assert!(!chunk.time_range(Axis::Exchange).sorted);
        assert!(!chunk.time_range(Axis::Receive).sorted);
    }
}
