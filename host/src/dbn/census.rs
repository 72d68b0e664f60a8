//! What is in a DBN file, counted.

use super::names::plain;
use super::{DbnError, DbnFile, DbnRecord, OtherRecord, letter};
use crate::store::TIME_MAX;
use dbn::enums::rtype;
use std::collections::{BTreeMap, HashSet};
use wiretape_core::event::{NO_INSTRUMENT, flags};

/// What a DBN file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// DBN version.
    pub version: u8,
    /// Dataset code.
    pub dataset: String,
    /// Schema; `None` if records of several.
    pub schema: Option<String>,
    /// Symbols, from the mappings or, where there are none, from the request.
    pub symbols: Vec<String>,
    /// Records in all.
    pub records: u64,
    /// Different publishers and instruments.
    pub instruments: u64,
    /// Records flagged last.
    pub flagged_last: u64,
    /// Records by type and action letter; `-` for types without actions, `?` for what is no letter.
    pub counts: BTreeMap<(String, char), u64>,
    /// Earliest and latest receive time of those records that have one.
    pub span: Option<(u64, u64)>,
}

impl Census {
    /// Reads a file to its end.
    pub fn take(mut file: DbnFile) -> Result<Census, DbnError> {
        let metadata = file.metadata();
        let mut census = Census {
            version: metadata.version,
            dataset: plain(&metadata.dataset),
            schema: metadata.schema.map(|schema| schema.to_string()),
            symbols: metadata.mappings.iter().map(|mapping| plain(&mapping.raw_symbol)).collect(),
            ..Census::default()
        };
        if census.symbols.is_empty() {
            census.symbols = metadata.symbols.iter().map(|symbol| plain(symbol)).collect();
        }
        let mut counts: BTreeMap<(u8, u8), u64> = BTreeMap::new();
        let mut instruments = HashSet::new();
        for record in &mut file {
            let record = record?;
            let (action, bits, hd, time) = match &record {
                DbnRecord::Mbo(m) => {
                    (m.action, m.flags, (m.hd.publisher_id, m.hd.instrument_id), m.ts_recv)
                }
                DbnRecord::Mbp1(m) => (
                    letter(m.action),
                    m.flags.raw(),
                    (m.hd.publisher_id, m.hd.instrument_id),
                    m.ts_recv,
                ),
                DbnRecord::Trade(m) => (
                    letter(m.action),
                    m.flags.raw(),
                    (m.hd.publisher_id, m.hd.instrument_id),
                    m.ts_recv,
                ),
                DbnRecord::Status(_) | DbnRecord::Symbol(_) | DbnRecord::Other(_) => {
                    *counts.entry((record.rtype(), b'-')).or_default() += 1;
                    instruments.extend(instrument_of(&record));
                    continue;
                }
            };
            *counts.entry((record.rtype(), action)).or_default() += 1;
            census.flagged_last += u64::from(bits & flags::LAST != 0);
            instruments.insert(hd);
            if time <= TIME_MAX {
                let (from, to) = census.span.unwrap_or((time, time));
                census.span = Some((from.min(time), to.max(time)));
            }
        }
        census.records = file.records_read();
        census.instruments = instruments.len() as u64;
        for ((rtype, action), count) in counts {
            let action = if action.is_ascii_graphic() { char::from(action) } else { '?' };
            *census.counts.entry((type_name(rtype), action)).or_default() += count;
        }
        Ok(census)
    }
}

/// Publisher and instrument of a record that has no action, if it is of any.
fn instrument_of(record: &DbnRecord) -> Option<(u16, u32)> {
    let found = match record {
        DbnRecord::Status(status) => (status.hd.publisher_id, status.hd.instrument_id),
        // What a gateway says of itself.
        DbnRecord::Other(OtherRecord { rtype: rtype::ERROR | rtype::SYSTEM, .. }) => return None,
        DbnRecord::Other(other) => (other.publisher_id, other.instrument_id),
        _ => return None,
    };
    (found.1 != NO_INSTRUMENT).then_some(found)
}

/// A record type as people call it.
pub(super) fn type_name(rtype: u8) -> String {
    match dbn::RType::try_from(rtype) {
        Ok(dbn::RType::Mbp0) => "trades".to_owned(),
        Ok(known) => known.as_str().to_owned(),
        Err(_) => format!("{rtype:#04x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbn::encode::EncodeRecord;
    use dbn::encode::dbn::Encoder;

    #[test]
    fn instruments_of_records_that_are_not_looked_into_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.dbn");
        let metadata = dbn::Metadata::builder()
            .dataset("GLBX.MDP3".to_owned())
            .schema(Some(dbn::Schema::Ohlcv1M))
            .start(0)
            .stype_in(None)
            .stype_out(dbn::SType::InstrumentId)
            .build();
        let mut encoder = Encoder::new(std::fs::File::create(&path).unwrap(), &metadata).unwrap();
        for id in [7, 8, 7] {
            let mut bar = dbn::OhlcvMsg::default_for_schema(dbn::Schema::Ohlcv1M);
            (bar.hd.publisher_id, bar.hd.instrument_id) = (1, id);
            encoder.encode_record(&bar).unwrap();
        }
        encoder.encode_record(&dbn::SystemMsg::heartbeat(0)).unwrap();
        encoder.flush().unwrap();
        let census = Census::take(DbnFile::open(&path).unwrap()).unwrap();
        assert_eq!((census.records, census.instruments), (4, 2));
    }

    #[test]
    fn what_a_file_says_cannot_steer_a_terminal_and_times_that_are_none_do_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.dbn");
        let metadata = dbn::Metadata::builder()
            .dataset("X\u{1b}[2J".to_owned())
            .schema(Some(dbn::Schema::Mbo))
            .start(0)
            .stype_in(Some(dbn::SType::RawSymbol))
            .stype_out(dbn::SType::InstrumentId)
            .symbols(vec!["A\u{7}".to_owned()])
            .build();
        let mut encoder = Encoder::new(std::fs::File::create(&path).unwrap(), &metadata).unwrap();
        for (ts_recv, action) in [(5, b'A'), (dbn::UNDEF_TIMESTAMP, 0x1b), (7, 0x0a)] {
            let action = action as std::ffi::c_char;
            let order = dbn::MboMsg { ts_recv, action, ..Default::default() };
            encoder.encode_record(&order).unwrap();
        }
        encoder.flush().unwrap();
        let census = Census::take(DbnFile::open(&path).unwrap()).unwrap();
        assert_eq!((&census.dataset[..], &census.symbols[0][..]), ("X\u{FFFD}[2J", "A\u{FFFD}"));
        assert_eq!(census.span, Some((5, 7)));
        let counts: Vec<_> = census.counts.into_iter().collect();
        assert_eq!(counts, [(("mbo".to_owned(), '?'), 2), (("mbo".to_owned(), 'A'), 1)]);
    }
}
