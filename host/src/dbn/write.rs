//! Writes DBN, version 2: metadata, then records as they stand in the ring.
//!
//! The layout is Databento's public one (`docs` of the `dbn` crate, "DBN encoding"): an 8-byte
//! prelude, fixed fields up to byte 112, then lists of symbols and mappings. Records of types that
//! DBN does not define (Wiretape's own, 0xF0 and up) are left out, so that every reader of DBN
//! takes the file; symbols travel in the mappings of the metadata instead.

use std::io::{self, Write};
use wiretape_core::event::{Event, rtype};

/// Bytes of a symbol in version 2.
const SYMBOL_BYTES: usize = 71;
/// Schema "none": records of several schemas.
const SCHEMA_MIXED: u16 = u16::MAX;
/// Symbology: instrument id, raw symbol.
const STYPE_INSTRUMENT_ID: u8 = 0;
const STYPE_RAW_SYMBOL: u8 = 1;
/// Where the lists begin.
const LISTS: usize = 112;

/// What the metadata says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DbnMetadata {
    /// Dataset code, such as `XNAS.ITCH`; at most 16 bytes are kept.
    pub dataset: String,
    /// UTC nanoseconds of the first record.
    pub start: u64,
    /// Instrument ids and their symbols.
    pub symbols: Vec<(u32, String)>,
    /// Day for which the mappings hold, as the number YYYYMMDD, and the day after it.
    pub day: (u32, u32),
}

impl DbnMetadata {
    /// The metadata as bytes, prelude included.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0u8; LISTS];
        out[..4].copy_from_slice(b"DBN\x02");
        let dataset = self.dataset.as_bytes();
        let kept = dataset.len().min(15);
        out[8..8 + kept].copy_from_slice(&dataset[..kept]);
        out[24..26].copy_from_slice(&SCHEMA_MIXED.to_le_bytes());
        out[26..34].copy_from_slice(&self.start.to_le_bytes());
        out[34..42].copy_from_slice(&u64::MAX.to_le_bytes());
        out[50] = STYPE_RAW_SYMBOL;
        out[51] = STYPE_INSTRUMENT_ID;
        out[53..55].copy_from_slice(&(SYMBOL_BYTES as u16).to_le_bytes());
        let count = self.symbols.len() as u32;
        out.extend(count.to_le_bytes());
        for (_, symbol) in &self.symbols {
            text(&mut out, symbol);
        }
        // Neither partly resolved nor unresolved symbols.
        out.extend([0; 8]);
        out.extend(count.to_le_bytes());
        for (id, symbol) in &self.symbols {
            text(&mut out, symbol);
            out.extend(1u32.to_le_bytes());
            out.extend(self.day.0.to_le_bytes());
            out.extend(self.day.1.to_le_bytes());
            text(&mut out, &id.to_string());
        }
        let length = (out.len() - 8) as u32;
        out[4..8].copy_from_slice(&length.to_le_bytes());
        out
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    let kept = value.len().min(SYMBOL_BYTES - 1);
    out.extend(&value.as_bytes()[..kept]);
    out.resize(out.len() + SYMBOL_BYTES - kept, 0);
}

/// Appends a record if DBN knows its type; whether it did.
pub fn write_record(out: &mut impl Write, event: &Event) -> io::Result<bool> {
    if !matches!(event.rtype(), rtype::MBO | rtype::STATUS) {
        return Ok(false);
    }
    out.write_all(event.record_bytes())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbn::decode::{DbnMetadata as _, DecodeRecordRef, dbn::Decoder};
    use wiretape_core::event::{MboMsg, RecordHeader, SymbolMsg, flags};

    #[test]
    fn the_dbn_crate_reads_what_we_write() {
        let metadata = super::DbnMetadata {
            dataset: "XNAS.ITCH".into(),
            start: 1_340_236_800_000_000_000,
            symbols: vec![(13, "AAPL".into()), (42, "AMZN".into())],
            day: (20120621, 20120622),
        };
        let record = MboMsg {
            hd: RecordHeader::new::<MboMsg>(2, 13, 1_340_285_400_000_000_000),
            order_id: 7,
            price: 585_330_000_000,
            size: 100,
            flags: flags::LAST,
            channel_id: 0,
            action: b'A',
            side: b'B',
            ts_recv: 1_340_285_400_000_000_500,
            ts_in_delta: 500,
            sequence: 9,
        };
        let mut file = metadata.encode();
        assert!(write_record(&mut file, &Event::new(&record)).unwrap());
        let own = Event { words: [u64::from(SymbolMsg::RTYPE) << 8 | 12, 0, 0, 0, 0, 0, 0] };
        assert!(!write_record(&mut file, &own).unwrap());

        let as_is = dbn::VersionUpgradePolicy::AsIs;
        let mut decoder = Decoder::with_upgrade_policy(file.as_slice(), as_is).unwrap();
        let read = decoder.metadata();
        assert_eq!((read.version, read.dataset.as_str()), (2, "XNAS.ITCH"));
        assert_eq!(read.symbols, ["AAPL", "AMZN"]);
        assert_eq!(read.mappings[1].raw_symbol, "AMZN");
        assert_eq!(read.mappings[1].intervals[0].symbol, "42");
        let found = decoder.decode_record_ref().unwrap().unwrap();
        let found = found.get::<dbn::MboMsg>().unwrap();
        assert_eq!((found.hd.instrument_id, found.order_id, found.sequence), (13, 7, 9));
        assert_eq!((found.price, found.size, found.ts_recv), (record.price, 100, record.ts_recv));
        assert_eq!((found.action as u8, found.side as u8), (b'A', b'B'));
        assert!(decoder.decode_record_ref().unwrap().is_none());
    }

    use wiretape_core::event::Record;
}
