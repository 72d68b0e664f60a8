//! Writes DBN files of versions 1 to 3: market-by-order as it stands in the ring, or what follows
//! from it, MBP-1 and trades.
//!
//! Metadata and records are encoded by the `dbn` crate, but for market-by-order records, which are
//! DBN's bytes already. Records of types that DBN does not define (Wiretape's own, 0xF0 and up)
//! are left out, so that every reader of DBN takes the file; symbols travel in the mappings of the
//! metadata, which know no times but days, and those that are announced later, or under another name,
//! in symbol mapping records.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;

use dbn::encode::EncodeRecord;
use dbn::encode::dbn::{MetadataEncoder, RecordEncoder};
use dbn::{
    MappingInterval, Mbp1Msg, Metadata, Publisher, SType, Schema, SymbolMapping, SymbolMappingMsg,
    TradeMsg,
};
use wiretape_core::event::{
    Event, GapMsg, MboMsg, SessionMsg, SymbolMsg, action, rtype, session_change,
};
use wiretape_core::pipeline::Protocol;

use super::tops::Tops;
use crate::ingest::symbol_text;

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DbnSchema {
    /// Market-by-order and status records: all that DBN knows of our events.
    #[default]
    Mixed,
    /// Market-by-order alone.
    Mbo,
    /// The best bid and offer whenever it changes, and trades.
    Mbp1,
    /// Trades.
    Trades,
}

impl DbnSchema {
    fn code(self) -> Option<Schema> {
        match self {
            DbnSchema::Mixed => None,
            DbnSchema::Mbo => Some(Schema::Mbo),
            DbnSchema::Mbp1 => Some(Schema::Mbp1),
            DbnSchema::Trades => Some(Schema::Trades),
        }
    }
}

/// A version of DBN: 1, 2 or 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DbnVersion(u8);

impl DbnVersion {
    /// The version of that number; `None` for one that is not written.
    pub fn new(number: u8) -> Option<DbnVersion> {
        (1..=3).contains(&number).then_some(DbnVersion(number))
    }
}

impl Default for DbnVersion {
    fn default() -> DbnVersion {
        DbnVersion(2)
    }
}

/// What the metadata says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DbnMetadata {
    /// Dataset code, such as `XNAS.ITCH`; at most 16 bytes are kept.
    pub dataset: String,
    /// UTC nanoseconds of the first record.
    pub start: u64,
    /// When it was received, UTC nanoseconds. In a replay that is another day.
    pub received: u64,
    /// Instrument ids and their symbols.
    pub symbols: Vec<(u32, String)>,
}

/// The dataset that records of a publisher belong to: what Databento calls it, `IEXG.DEEP`, or
/// `WIRETAPE`.
pub fn dataset_of(publisher_id: u16) -> &'static str {
    if publisher_id == Protocol::Deep10.publisher_id() {
        return "IEXG.DEEP";
    }
    Publisher::try_from(publisher_id).map_or("WIRETAPE", |theirs| theirs.dataset().as_str())
}

impl DbnMetadata {
    fn encoded(&self, schema: DbnSchema, version: DbnVersion) -> Metadata {
        let days = self.days();
        let mut mappings: Vec<SymbolMapping> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (id, symbol) in &self.symbols {
            // A symbol that several feeds have is one mapping of several intervals: readers look
            // mappings up by symbol, and keep one of each.
            let place = *places.entry(symbol).or_insert(mappings.len());
            if place == mappings.len() {
                mappings.push(SymbolMapping { raw_symbol: symbol.clone(), intervals: vec![] });
            }
            mappings[place].intervals.extend(days.iter().map(|days| MappingInterval {
                start_date: days.start,
                end_date: days.end,
                symbol: id.to_string(),
            }));
        }
        Metadata::builder()
            .version(version.0)
            .dataset(self.dataset.chars().take(16).collect::<String>())
            .schema(schema.code())
            .start(self.start)
            .stype_in(Some(SType::RawSymbol))
            .stype_out(SType::InstrumentId)
            .symbols(mappings.iter().map(|mapping| mapping.raw_symbol.clone()).collect())
            .mappings(mappings)
            .build()
    }

    /// The days that the symbols hold for. Readers look them up by receive time, as DBN has it, or by
    /// the exchange's.
    fn days(&self) -> Vec<Range<time::Date>> {
        let day = |ts: u64| {
            time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ts))
                .map_or(time::Date::MIN, time::OffsetDateTime::date)
        };
        // Trading in the evening goes on beyond midnight UTC, under the same numbers.
        let from = |first: time::Date| first..first.saturating_add(time::Duration::days(2));
        let times = [self.start, self.received].into_iter().filter(|ts| *ts > 0);
        let mut days: Vec<_> = times.map(|ts| from(day(ts))).collect();
        days.sort_by_key(|days| days.start);
        match days[..] {
            [] => vec![from(day(self.start))],
            [ref first, ref second] if second.start <= first.end => vec![first.start..second.end],
            _ => days,
        }
    }
}

/// Writes events as a DBN file.
pub struct DbnWriter<'m, W: Write> {
    out: RecordEncoder<W>,
    schema: DbnSchema,
    version: DbnVersion,
    tops: Tops<'m>,
    /// The symbol of each instrument as the file told it last.
    mapped: HashMap<u32, String>,
}

impl<W: Write> std::fmt::Debug for DbnWriter<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("DbnWriter");
        shown.field("schema", &self.schema).field("version", &self.version).finish_non_exhaustive()
    }
}

impl<'m, W: Write> DbnWriter<'m, W> {
    /// Writes the metadata. `tops` is needed for MBP-1 and idle otherwise.
    ///
    /// # Errors
    /// `out` takes no more, or a symbol does not fit the version.
    pub fn new(
        mut out: W,
        metadata: &DbnMetadata,
        schema: DbnSchema,
        version: DbnVersion,
        tops: Tops<'m>,
    ) -> dbn::Result<DbnWriter<'m, W>> {
        MetadataEncoder::new(&mut out).encode(&metadata.encoded(schema, version))?;
        let mapped = metadata.symbols.iter().cloned().collect();
        Ok(DbnWriter { out: RecordEncoder::new(out), schema, version, tops, mapped })
    }

    /// Writes what an event is in the file's schema; returns the number of records, which is zero
    /// for what the schema does not know.
    pub fn write(&mut self, event: &Event) -> dbn::Result<u64> {
        match event.rtype() {
            rtype::MBO => match event.get::<MboMsg>() {
                Some(record) => self.write_order(event, &record),
                None => Ok(0),
            },
            rtype::STATUS if self.schema == DbnSchema::Mixed => self.write_as_it_is(event),
            rtype::SYMBOL => match event.get::<SymbolMsg>() {
                Some(record) => self.write_symbol(&record),
                None => Ok(0),
            },
            rtype::GAP => match event.get::<GapMsg>() {
                Some(gap) => self.write_rows(|tops| tops.lose(gap.feed)),
                None => Ok(0),
            },
            rtype::SESSION => match event.get::<SessionMsg>() {
                Some(session) if empties(&session) => {
                    self.write_rows(|tops| tops.restart(&session))
                }
                _ => Ok(0),
            },
            _ => Ok(0),
        }
    }

    fn write_order(&mut self, event: &Event, record: &MboMsg) -> dbn::Result<u64> {
        match self.schema {
            DbnSchema::Mixed | DbnSchema::Mbo => self.write_as_it_is(event),
            DbnSchema::Trades if record.action == action::TRADE => {
                let mut trade = TradeMsg {
                    price: record.price,
                    size: record.size,
                    action: c_letter(record.action),
                    side: c_letter(record.side),
                    flags: record.flags.into(),
                    ts_recv: record.ts_recv,
                    ts_in_delta: record.ts_in_delta,
                    sequence: record.sequence,
                    ..TradeMsg::default()
                };
                trade.hd.publisher_id = record.hd.publisher_id;
                trade.hd.instrument_id = record.hd.instrument_id;
                trade.hd.ts_event = record.hd.ts_event;
                self.out.encode_record(&trade).map(|()| 1)
            }
            DbnSchema::Trades => Ok(0),
            DbnSchema::Mbp1 => self.write_rows(|tops| tops.apply(record)),
        }
    }

    fn write_rows<I: IntoIterator<Item = Mbp1Msg>>(
        &mut self,
        rows: impl FnOnce(&mut Tops<'m>) -> I,
    ) -> dbn::Result<u64> {
        let mut written = 0;
        for row in rows(&mut self.tops) {
            self.out.encode_record(&row)?;
            written += 1;
        }
        Ok(written)
    }

    fn write_as_it_is(&mut self, event: &Event) -> dbn::Result<u64> {
        let written = self.out.get_mut().write_all(event.record_bytes());
        written.map(|()| 1).map_err(|source| dbn::Error::io(source, "writing a record"))
    }

    fn write_symbol(&mut self, record: &SymbolMsg) -> dbn::Result<u64> {
        let (id, at) = (record.hd.instrument_id, record.hd.ts_event);
        let symbol = symbol_text(&record.symbol);
        if self.mapped.get(&id) == Some(&symbol) {
            return Ok(0);
        }
        // From the number to the symbol: of a mapping record, the other tools of DBN take what stands
        // on its outer side for the name of the instrument.
        let (ids, raw, no_end) = (SType::InstrumentId, SType::RawSymbol, dbn::UNDEF_TIMESTAMP);
        match self.version.0 {
            1 => {
                let mut mapping = dbn::v1::SymbolMappingMsg {
                    stype_in_symbol: dbn::record::str_to_c_chars(&id.to_string())?,
                    stype_out_symbol: dbn::record::str_to_c_chars(&symbol)?,
                    start_ts: at,
                    end_ts: no_end,
                    ..Default::default()
                };
                (mapping.hd.instrument_id, mapping.hd.ts_event) = (id, at);
                self.out.encode_record(&mapping)?;
            }
            _ => {
                let number = id.to_string();
                let mapping =
                    SymbolMappingMsg::new(id, at, ids, &number, raw, &symbol, at, no_end)?;
                self.out.encode_record(&mapping)?;
            }
        }
        self.mapped.insert(id, symbol);
        Ok(1)
    }

    /// Takes note that events were lost: books may be wrong from now on. Writes what was held back,
    /// whose event will not be ended, and returns the number of records.
    pub fn lost(&mut self) -> dbn::Result<u64> {
        self.write_rows(Tops::lose_all)
    }

    /// The books of MBP-1, to add those of a feed.
    pub fn tops(&mut self) -> &mut Tops<'m> {
        &mut self.tops
    }

    /// Writes what is held back; the file is whole.
    pub fn finish(&mut self) -> dbn::Result<()> {
        if let Some(row) = self.tops.take_held() {
            self.out.encode_record(&row)?;
        }
        self.out.flush()
    }

    /// The writer below.
    pub fn get_mut(&mut self) -> &mut W {
        self.out.get_mut()
    }
}

/// Whether a session's change empties the books of its feed. At the start of a later capture run
/// they still are as the one before left them.
fn empties(session: &SessionMsg) -> bool {
    session.change != session_change::END
}

/// A letter as the `dbn` crate has it, whose characters are C's.
pub(super) fn c_letter(value: u8) -> std::ffi::c_char {
    value as std::ffi::c_char
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dbn::{DbnFile, DbnRecord, SymbolRecord, TopsMemory};
    use wiretape_core::event::{
        NO_INSTRUMENT, Record, RecordHeader, UNDEF_PRICE, flags, gap_reason,
    };

    fn metadata() -> DbnMetadata {
        DbnMetadata {
            dataset: "XNAS.ITCH".into(),
            start: 1_340_236_800_000_000_000,
            received: 1_340_236_800_000_000_500,
            symbols: vec![(13, "AAPL".into()), (42, "AMZN".into())],
        }
    }

    fn order(sequence: u32, action: u8, id: u64, price: i64, size: u32, last: bool) -> Event {
        Event::new(&MboMsg {
            hd: RecordHeader::new::<MboMsg>(2, 13, 1_340_285_400_000_000_000),
            order_id: id,
            price,
            size,
            flags: if last { flags::LAST } else { 0 },
            channel_id: 0,
            action,
            side: b'B',
            ts_recv: 1_340_285_400_000_000_500 + u64::from(sequence),
            ts_in_delta: 500,
            sequence,
        })
    }

    /// Adds at 10 and 9, an execution of the whole best order, and a symbol that comes late.
    fn flow() -> Vec<Event> {
        let mut symbol = SymbolMsg {
            hd: RecordHeader::new::<SymbolMsg>(2, 7, 1_340_285_400_000_000_000),
            ts_recv: 0,
            symbol: [0; 16],
            round_lot: 100,
            feed: 0,
            reserved: 0,
        };
        symbol.symbol[..4].copy_from_slice(b"MSFT");
        vec![
            order(1, b'A', 1, 10, 100, true),
            order(2, b'A', 2, 9, 50, true),
            order(3, b'T', 0, 10, 100, false),
            order(3, b'F', 1, 10, 100, false),
            order(3, b'C', 1, 10, 100, true),
            Event::new(&symbol),
            order(4, b'A', 3, 8, 70, true),
        ]
    }

    fn written(schema: DbnSchema, version: u8, events: &[Event]) -> (Metadata, Vec<DbnRecord>) {
        written_by(schema, version, |writer| {
            events.iter().map(|event| writer.write(event).unwrap()).sum()
        })
    }

    fn written_by(
        schema: DbnSchema,
        version: u8,
        write: impl FnOnce(&mut DbnWriter<'_, std::fs::File>) -> u64,
    ) -> (Metadata, Vec<DbnRecord>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.dbn");
        let mut memory = TopsMemory::new();
        let mut tops = memory.tops();
        tops.add_feed(0, 64, true);
        let file = std::fs::File::create(&path).unwrap();
        let version = DbnVersion::new(version).unwrap();
        let mut writer = DbnWriter::new(file, &metadata(), schema, version, tops).unwrap();
        let counted = write(&mut writer);
        writer.finish().unwrap();
        let read = DbnFile::open(&path).unwrap();
        let metadata = read.metadata().clone();
        let records: Vec<_> = read.map(Result::unwrap).collect();
        assert!(records.len() as u64 - counted <= 1, "one record may have been held back");
        (metadata, records)
    }

    #[test]
    fn every_protocol_s_records_are_of_the_dataset_that_its_messages_are() {
        let of =
            |protocol: Protocol| (protocol.publisher_id(), dataset_of(protocol.publisher_id()));
        let theirs = |publisher: Publisher| (publisher as u16, publisher.dataset().as_str());
        assert_eq!(of(Protocol::Itch50), theirs(Publisher::XnasItchXnas));
        assert_eq!(of(Protocol::Tops16), theirs(Publisher::IexgTopsIexg));
        assert_eq!(dataset_of(38), "IEXG.TOPS");
        let (deep, named) = of(Protocol::Deep10);
        assert_eq!(named, "IEXG.DEEP");
        assert!(Publisher::try_from(deep).is_err(), "{deep} is a number of Databento's");
        assert_eq!(dataset_of(0), "WIRETAPE");
    }

    #[test]
    fn a_symbol_of_two_feeds_is_one_mapping_of_both_numbers_past_midnight() {
        let mut metadata = metadata();
        metadata.symbols.push((8205, "AAPL".into()));
        let encoded = metadata.encoded(DbnSchema::Mbo, DbnVersion::default());
        assert_eq!(encoded.symbols, ["AAPL", "AMZN"]);
        assert_eq!(encoded.mappings.len(), 2);
        let days = encoded.symbol_map().unwrap();
        let day = 86_400_000_000_000;
        for id in [13, 8205] {
            let at = |ts| days.get_for_ts(ts, id).map(String::as_str);
            assert_eq!(at(metadata.start + day + 3_600_000_000_000), Some("AAPL"), "{id}");
            assert_eq!(at(metadata.start + 2 * day), None, "{id}");
        }
    }

    #[test]
    fn symbols_of_a_replay_are_mapped_for_the_days_of_both_its_clocks() {
        let day = 86_400_000_000_000;
        for (later, unmapped) in [(0, 2), (1, 3), (2, 4), (9, 2), (9, 8), (9, 11)] {
            let mut metadata = metadata();
            metadata.received = metadata.start + later * day;
            for _ in 0..2 {
                let days = metadata.encoded(DbnSchema::Mbo, DbnVersion::default());
                let days = days.symbol_map().unwrap();
                let first = metadata.start.min(metadata.received);
                let at = |after: u64| days.get_for_ts(first + after * day, 13).is_some();
                assert_eq!((at(0), at(1), at(later), at(later + 1)), (true, true, true, true));
                assert!(!at(unmapped), "{unmapped} days after the first of two, {later} apart");
                std::mem::swap(&mut metadata.start, &mut metadata.received);
            }
        }
        // A file without records, and a record without a receive time.
        for start in [0, metadata().start] {
            let metadata = DbnMetadata { start, received: 0, ..metadata() };
            assert_eq!(metadata.days().len(), 1);
        }
    }

    #[test]
    fn files_of_every_version_and_schema_are_read_back_as_they_are() {
        for version in 1..=3 {
            for (schema, code, records) in [
                (DbnSchema::Mixed, None, 7),
                (DbnSchema::Mbo, Some(Schema::Mbo), 7),
                (DbnSchema::Mbp1, Some(Schema::Mbp1), 4),
                (DbnSchema::Trades, Some(Schema::Trades), 2),
            ] {
                let (read, found) = written(schema, version, &flow());
                assert_eq!((read.version, read.schema), (version, code));
                assert_eq!(
                    (read.dataset.as_str(), read.limit, read.end),
                    ("XNAS.ITCH", None, None)
                );
                assert_eq!(read.symbols, ["AAPL", "AMZN"]);
                assert_eq!(read.mappings[1].raw_symbol, "AMZN");
                assert_eq!(read.mappings[1].intervals[0].symbol, "42");
                assert_eq!(read.mappings[1].intervals[0].start_date.day(), 21);
                assert_eq!(found.len(), records, "{schema:?} of version {version}");
                let symbol = SymbolRecord { instrument_id: 7, symbol: "MSFT".to_owned() };
                assert!(found.contains(&DbnRecord::Symbol(symbol)), "MSFT");
            }
        }
        assert_eq!((DbnVersion::new(0), DbnVersion::new(4)), (None, None));
    }

    #[test]
    fn the_best_bid_and_offer_is_written_when_it_changes_and_trades_before_their_effect() {
        let (_, records) = written(DbnSchema::Mbp1, 3, &flow());
        let rows: Vec<_> = records
            .iter()
            .filter_map(|record| match record {
                DbnRecord::Mbp1(row) => Some((
                    row.action as u8,
                    row.sequence,
                    row.flags.raw(),
                    row.levels[0].bid_px,
                    row.levels[0].bid_sz,
                    row.levels[0].bid_ct,
                )),
                _ => None,
            })
            .collect();
        let last = flags::LAST;
        assert_eq!(
            rows,
            [(b'A', 1, last, 10, 100, 1), (b'T', 3, 0, 10, 100, 1), (b'C', 3, last, 9, 50, 1)]
        );
        let (_, trades) = written(DbnSchema::Trades, 1, &flow());
        let [DbnRecord::Trade(trade), DbnRecord::Symbol(_)] = &trades[..] else {
            panic!("{trades:?}")
        };
        assert_eq!((trade.price, trade.size, trade.side as u8), (10, 100, b'B'));
        assert_eq!((trade.hd.instrument_id, trade.hd.publisher_id), (13, 2));
    }

    fn gap() -> Event {
        Event::new(&GapMsg {
            hd: RecordHeader::new::<GapMsg>(2, NO_INSTRUMENT, 5),
            ts_recv: 5,
            first_seq: 4,
            end_seq: 9,
            session: [0; 10],
            feed: 0,
            reason: gap_reason::SEQUENCE_JUMP,
            reserved: 0,
        })
    }

    fn restart() -> Event {
        Event::new(&SessionMsg {
            hd: RecordHeader::new::<SessionMsg>(2, NO_INSTRUMENT, 6),
            ts_recv: 6,
            next_seq: 1,
            previous_next_seq: 9,
            session: [0; 10],
            feed: 0,
            change: session_change::RESTART,
            reserved: 0,
        })
    }

    /// Action, flags, best bid and its size.
    fn bids(records: &[DbnRecord]) -> Vec<(u8, u8, i64, u32)> {
        let row = |record: &DbnRecord| match record {
            DbnRecord::Mbp1(row) => {
                (row.action as u8, row.flags.raw(), row.levels[0].bid_px, row.levels[0].bid_sz)
            }
            other => panic!("{other:?}"),
        };
        records.iter().map(row).collect()
    }

    #[test]
    fn books_that_may_be_wrong_say_so_until_they_are_empty() {
        let events = [
            order(1, b'A', 1, 10, 100, true),
            gap(),
            order(9, b'A', 2, 11, 50, true),
            restart(),
            order(1, b'A', 7, 12, 10, true),
        ];
        let (_, records) = written(DbnSchema::Mbp1, 2, &events);
        let (last, bad) = (flags::LAST, flags::LAST | flags::MAYBE_BAD_BOOK);
        let expected = [
            (b'A', last, 10, 100),
            (b'A', bad, 11, 50),
            (b'R', last, UNDEF_PRICE, 0),
            (b'A', last, 12, 10),
        ];
        assert_eq!(bids(&records), expected);
    }

    #[test]
    fn what_is_held_back_ends_its_event_where_a_loss_or_a_new_session_cuts_it_off() {
        let begun = order(1, b'A', 1, 10, 100, false);
        let next = order(9, b'A', 2, 11, 50, true);
        let (last, bad) = (flags::LAST, flags::LAST | flags::MAYBE_BAD_BOOK);
        let after_a_loss = [(b'A', last, 10, 100), (b'A', bad, 11, 50)];
        let (_, records) = written(DbnSchema::Mbp1, 3, &[begun, gap(), next]);
        assert_eq!(bids(&records), after_a_loss);
        let (_, records) = written_by(DbnSchema::Mbp1, 3, |writer| {
            let before = writer.write(&begun).unwrap() + writer.lost().unwrap();
            before + writer.write(&next).unwrap()
        });
        assert_eq!(bids(&records), after_a_loss);
        let (_, records) = written(DbnSchema::Mbp1, 3, &[begun, restart(), next]);
        let cleared = (b'R', last, UNDEF_PRICE, 0);
        assert_eq!(bids(&records), [(b'A', last, 10, 100), cleared, (b'A', last, 11, 50)]);
    }

    #[test]
    fn the_dbn_crate_reads_what_we_write() {
        use dbn::decode::{DecodeRecordRef, dbn::Decoder};
        let mut file = Vec::new();
        let (schema, version) = (DbnSchema::Mixed, DbnVersion::default());
        let mut memory = TopsMemory::default();
        let mut writer =
            DbnWriter::new(&mut file, &metadata(), schema, version, memory.tops()).unwrap();
        assert_eq!(writer.write(&order(9, b'A', 7, 585_330_000_000, 100, true)).unwrap(), 1);
        let own = Event { words: [u64::from(GapMsg::RTYPE) << 8 | 14, 0, 0, 0, 0, 0, 0] };
        assert_eq!(writer.write(&own).unwrap(), 0);
        writer.finish().unwrap();
        drop(writer);
        let as_is = dbn::VersionUpgradePolicy::AsIs;
        let mut decoder = Decoder::with_upgrade_policy(file.as_slice(), as_is).unwrap();
        let found = decoder.decode_record_ref().unwrap().unwrap();
        let found = found.get::<dbn::MboMsg>().unwrap();
        assert_eq!((found.hd.instrument_id, found.order_id, found.sequence), (13, 7, 9));
        assert_eq!((found.price, found.size), (585_330_000_000, 100));
        assert_eq!((found.action as u8, found.side as u8), (b'A', b'B'));
        assert!(decoder.decode_record_ref().unwrap().is_none());
    }
}
