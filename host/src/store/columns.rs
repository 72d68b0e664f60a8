//! The columns of each record kind: one `Vec` per field, all of one length.

use wiretape_core::event::{MboMsg, UNDEF_PRICE};

/// A set of parallel columns. Every kind has both times and the ring sequence.
pub trait Columns: Default + Clone + Send + Sync + 'static {
    /// One row, field by field.
    type Row: Copy;
    /// Bytes of one row over all columns.
    const ROW_BYTES: usize;
    /// Rows held.
    fn len(&self) -> usize;
    /// Whether no row is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Rows that fit before the columns are reallocated.
    fn capacity(&self) -> usize;
    /// Exchange times, UTC nanoseconds.
    fn ts_event(&self) -> &[u64];
    /// Receive times, UTC nanoseconds.
    fn ts_recv(&self) -> &[u64];
    /// Ring sequences.
    fn sequence(&self) -> &[u64];
    /// Appends a row.
    fn push(&mut self, row: Self::Row);
    /// The row at `index`.
    ///
    /// # Panics
    /// If `index` is not below [`Columns::len`].
    fn row(&self, index: usize) -> Self::Row;
    /// Gives back what was allocated beyond the rows held.
    fn shrink(&mut self);
}

macro_rules! columns {
    ($(#[$about:meta])* $columns:ident of $row:ident {
        $($(#[$field_about:meta])* $field:ident: $type:ty,)*
    }) => {
        /// A row of
        #[doc = concat!("[`", stringify!($columns), "`].")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $row { $($(#[$field_about])* pub $field: $type,)* }

        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $columns { $($(#[$field_about])* pub $field: Vec<$type>,)* }

        impl Columns for $columns {
            type Row = $row;
            const ROW_BYTES: usize = 0 $(+ size_of::<$type>())*;
            fn len(&self) -> usize { self.sequence.len() }
            fn capacity(&self) -> usize { self.sequence.capacity() }
            fn ts_event(&self) -> &[u64] { &self.ts_event }
            fn ts_recv(&self) -> &[u64] { &self.ts_recv }
            fn sequence(&self) -> &[u64] { &self.sequence }
            fn push(&mut self, row: $row) { $(self.$field.push(row.$field);)* }
            fn row(&self, index: usize) -> $row { $row { $($field: self.$field[index],)* } }
            fn shrink(&mut self) { $(self.$field.shrink_to_fit();)* }
        }
    };
}

columns! {
    /// Every market-by-order record of an instrument, field by field.
    EventColumns of EventRow {
        /// Exchange time, UTC nanoseconds.
        ts_event: u64,
        /// Receive time, UTC nanoseconds.
        ts_recv: u64,
        /// Ring sequence.
        sequence: u64,
        /// The venue's order reference.
        order_id: u64,
        /// Price in 1e-9.
        price: i64,
        /// Quantity.
        size: u32,
        /// The venue's message sequence number, low 32 bits.
        venue_sequence: u32,
        /// Nanoseconds from the venue's sending to the receipt.
        ts_in_delta: i32,
        /// DBN publisher.
        publisher_id: u16,
        /// DBN flags.
        flags: u8,
        /// The worker's feed index.
        channel_id: u8,
        /// DBN action letter.
        action: u8,
        /// DBN side letter.
        side: u8,
    }
}

columns! {
    /// The trades of an instrument: records of action `T`.
    TradeColumns of TradeRow {
        /// Exchange time, UTC nanoseconds.
        ts_event: u64,
        /// Receive time, UTC nanoseconds.
        ts_recv: u64,
        /// Ring sequence.
        sequence: u64,
        /// Price in 1e-9.
        price: i64,
        /// Quantity.
        size: u32,
        /// The venue's message sequence number, low 32 bits.
        venue_sequence: u32,
        /// DBN flags; `UNPRINTABLE` marks a trade that the exchange says is not printable.
        flags: u8,
        /// The aggressor's side, DBN letter.
        side: u8,
    }
}

columns! {
    /// The best bid and offer of an instrument, a row whenever it changed at the end of an
    /// exchange event.
    QuoteColumns of QuoteRow {
        /// Exchange time, UTC nanoseconds.
        ts_event: u64,
        /// Receive time, UTC nanoseconds.
        ts_recv: u64,
        /// Ring sequence of the record that completed the change.
        sequence: u64,
        /// Best bid in 1e-9; `UNDEF_PRICE` where that side is empty.
        bid_price: i64,
        /// Best offer in 1e-9; `UNDEF_PRICE` where that side is empty.
        ask_price: i64,
        /// Quantity at the best bid.
        bid_size: u64,
        /// Quantity at the best offer.
        ask_size: u64,
        /// Orders at the best bid; 1 on price-level feeds, 0 where there is none.
        bid_count: u32,
        /// Orders at the best offer; 1 on price-level feeds, 0 where there is none.
        ask_count: u32,
        /// DBN flags; `MAYBE_BAD_BOOK` where something was lost before.
        flags: u8,
    }
}

impl EventRow {
    /// The row of a record published at `sequence`.
    pub fn new(sequence: u64, record: &MboMsg) -> EventRow {
        EventRow {
            ts_event: record.hd.ts_event,
            ts_recv: record.ts_recv,
            sequence,
            order_id: record.order_id,
            price: record.price,
            size: record.size,
            venue_sequence: record.sequence,
            ts_in_delta: record.ts_in_delta,
            publisher_id: record.hd.publisher_id,
            flags: record.flags,
            channel_id: record.channel_id,
            action: record.action,
            side: record.side,
        }
    }
}

impl TradeRow {
    /// The row of a trade record published at `sequence`.
    pub fn new(sequence: u64, record: &MboMsg) -> TradeRow {
        TradeRow {
            ts_event: record.hd.ts_event,
            ts_recv: record.ts_recv,
            sequence,
            price: record.price,
            size: record.size,
            venue_sequence: record.sequence,
            flags: record.flags,
            side: record.side,
        }
    }
}

impl QuoteRow {
    /// Whether both sides are empty.
    pub fn is_empty(&self) -> bool {
        self.bid_price == UNDEF_PRICE && self.ask_price == UNDEF_PRICE
    }
}
