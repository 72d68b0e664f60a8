//! What a DBN file calls its instruments: their numbers mean what the mappings of their day say.

use super::{DbnFile, SymbolRecord};
use dbn::{Metadata, SType, TsSymbolMap};
use std::collections::HashMap;

/// The symbols of a file's instruments, by number and time.
#[derive(Debug, Default)]
pub struct DbnNames {
    /// By the days of the metadata.
    days: TsSymbolMap,
    /// For times of which the metadata say nothing: the last that they have.
    last: HashMap<u32, String>,
    /// What symbol mapping records said so far, which goes before the metadata.
    told: HashMap<u32, String>,
}

impl DbnNames {
    /// As the metadata of `file` have them.
    pub fn of(file: &DbnFile) -> DbnNames {
        DbnNames::from_metadata(file.metadata())
    }

    fn from_metadata(metadata: &Metadata) -> DbnNames {
        let mut names = DbnNames::default();
        let from_numbers = metadata.stype_in == Some(SType::InstrumentId)
            && metadata.stype_out != SType::InstrumentId;
        for mapping in &metadata.mappings {
            for interval in &mapping.intervals {
                let (number, symbol) = match from_numbers {
                    true => (&mapping.raw_symbol, &interval.symbol),
                    false => (&interval.symbol, &mapping.raw_symbol),
                };
                // Where a symbol meant nothing, older files have a day without a number.
                let (Ok(id), false) = (number.parse(), symbol.is_empty()) else { continue };
                let (start, end) = (midnight(interval.start_date), midnight(interval.end_date));
                // Refused is only an end before its start.
                let symbol = plain(symbol);
                if names.days.insert(id, start, end, &symbol).is_ok() {
                    names.last.insert(id, symbol);
                }
            }
        }
        names
    }

    /// Takes a symbol mapping record, which counts from where it stands.
    pub fn tell(&mut self, record: SymbolRecord) {
        self.told.insert(record.instrument_id, record.symbol);
    }

    /// What instrument `id` is called at `ts`, UTC nanoseconds.
    pub fn at(&self, ts: u64, id: u32) -> Option<&str> {
        let told = self.told.get(&id);
        told.or_else(|| self.days.get_for_ts(ts, id))
            .or_else(|| self.last.get(&id))
            .map(String::as_str)
    }
}

/// `name` with characters that a terminal would obey, and no venue has in its names, made visible.
pub(super) fn plain(name: &str) -> String {
    name.replace(char::is_control, "\u{FFFD}")
}

/// The begin of a day, UTC nanoseconds.
fn midnight(date: time::Date) -> u64 {
    u64::try_from(date.midnight().assume_utc().unix_timestamp_nanos()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dbn::{MappingInterval, SymbolMapping};
    use time::Date;

    const HOUR: u64 = 3_600_000_000_000;

    /// The day of that number of a year.
    fn day(number: u16) -> Date {
        Date::from_ordinal_date(2024, number).unwrap()
    }

    fn mapping(from: &str, days: &[(Date, Date, &str)]) -> SymbolMapping {
        let interval = |(start, end, to): &(Date, Date, &str)| MappingInterval {
            start_date: *start,
            end_date: *end,
            symbol: (*to).to_owned(),
        };
        SymbolMapping {
            raw_symbol: from.to_owned(),
            intervals: days.iter().map(interval).collect(),
        }
    }

    fn names(from: SType, to: SType, mappings: Vec<SymbolMapping>) -> DbnNames {
        let metadata = Metadata::builder()
            .dataset("XNAS.ITCH".to_owned())
            .schema(None)
            .start(0)
            .stype_in(Some(from))
            .stype_out(to)
            .mappings(mappings)
            .build();
        DbnNames::from_metadata(&metadata)
    }

    #[test]
    fn a_number_is_what_it_means_on_its_day() {
        let (one, two, three) = (day(183), day(184), day(185));
        let names = names(
            SType::RawSymbol,
            SType::InstrumentId,
            vec![
                mapping("AAPL", &[(one, two, "13"), (two, three, "14")]),
                mapping("AMZN", &[(one, two, "14"), (two, three, "13")]),
            ],
        );
        assert_eq!(names.at(midnight(one) + HOUR, 13), Some("AAPL"));
        assert_eq!(names.at(midnight(two) - 1, 14), Some("AMZN"));
        assert_eq!(names.at(midnight(two), 13), Some("AMZN"));
        assert_eq!(names.at(midnight(two) + HOUR, 14), Some("AAPL"));
        assert_eq!(names.at(midnight(three) + HOUR, 13), Some("AMZN"), "the last that is known");
        assert_eq!(names.at(midnight(one), 15), None);
    }

    #[test]
    fn mappings_from_numbers_to_symbols_are_understood() {
        let days = (day(183), day(184), "AAPL");
        let mappings = vec![mapping("13", &[days]), mapping("x", &[days])];
        let names = names(SType::InstrumentId, SType::RawSymbol, mappings);
        assert_eq!(names.at(midnight(day(183)), 13), Some("AAPL"));
    }

    #[test]
    fn characters_that_a_terminal_would_obey_are_no_part_of_a_name() {
        let mappings = vec![mapping("A\u{1b}[2J\n", &[(day(183), day(184), "13")])];
        let names = names(SType::RawSymbol, SType::InstrumentId, mappings);
        assert_eq!(names.at(midnight(day(183)), 13), Some("A\u{FFFD}[2J\u{FFFD}"));
    }

    #[test]
    fn a_mapping_record_goes_before_the_metadata() {
        let days = |number| (day(183), day(184), number);
        let mappings = vec![mapping("AAPL", &[days("13"), days("")])];
        let mut names = names(SType::RawSymbol, SType::InstrumentId, mappings);
        names.tell(SymbolRecord { instrument_id: 13, symbol: "MSFT".to_owned() });
        assert_eq!(names.at(midnight(day(183)), 13), Some("MSFT"));
    }
}
