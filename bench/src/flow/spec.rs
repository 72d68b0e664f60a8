//! What a simulated day is made of.

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;
/// Nanoseconds of a day.
pub const DAY_NS: u64 = 86_400 * SECOND_NS;
/// How long before the opening the first message is sent.
pub const OPENING_NS: u64 = 2 * SECOND_NS;
/// Instruments that a day can have: an ITCH locate has 16 bits and 0 means the market.
pub const INSTRUMENTS_MAX: usize = 10_000;

/// The settings of a flow. Equal settings give equal flows.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowSpec {
    /// Seed of all randomness.
    pub seed: u64,
    /// Symbols, at most eight printable ASCII characters each, the most active first.
    pub symbols: Vec<String>,
    /// The opening, nanoseconds since midnight in New York; messages start [`OPENING_NS`] before.
    pub open_ns: u64,
    /// Length of continuous trading, nanoseconds.
    pub duration_ns: u64,
    /// End continuous trading once this many messages were sent, if that comes first.
    pub messages: Option<u64>,
    /// Mean rate of continuous trading over all instruments.
    pub messages_per_second: f64,
    /// Orders that rest in each instrument, about.
    pub resting_orders: u32,
}

impl Default for FlowSpec {
    fn default() -> FlowSpec {
        FlowSpec {
            seed: 1,
            symbols: FlowSpec::invented_symbols(8),
            open_ns: (9 * 3_600 + 30 * 60) * SECOND_NS,
            duration_ns: 60 * SECOND_NS,
            messages: None,
            messages_per_second: 10_000.0,
            resting_orders: 400,
        }
    }
}

/// A flow that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// No instruments, or more than there are locates for.
    #[error("a flow needs 1 to {INSTRUMENTS_MAX} symbols, not {0}")]
    Symbols(usize),
    /// A symbol that the formats cannot carry.
    #[error("symbol '{0}' cannot be sent: use 1 to 8 capital letters, digits or the signs . - + =")]
    Symbol(String),
    /// A symbol that is there twice.
    #[error("symbol '{0}' is named twice")]
    SymbolTwice(String),
    /// The rate is not a positive number.
    #[error("a flow of {0} messages a second cannot be made: name a rate above 0, up to 1e9")]
    Rate(String),
    /// The session does not fit the day.
    #[error(
        "a session of {duration_s} s from {open_s} s after midnight does not fit into the day: \
         open between 00:00:02 and 23:59 and close before midnight"
    )]
    Hours {
        /// The opening.
        open_s: u64,
        /// The length.
        duration_s: u64,
    },
    /// Books without orders.
    #[error("a book of {0} resting orders has no two sides: use 10 to 100000")]
    Depth(u32),
}

/// The names that invented instruments carry first.
const TREES: [&str; 16] = [
    "ALDER", "BIRCH", "CEDAR", "DGWOOD", "ELMTRE", "FIRCON", "GINKGO", "HAZELN", "IRNWD", "JUNIPR",
    "KATSRA", "LARCHN", "MAPLEX", "NUTMGX", "OAKLFX", "POPLRX",
];

impl FlowSpec {
    /// `count` symbols that no market lists, in a fixed order.
    pub fn invented_symbols(count: usize) -> Vec<String> {
        (0..count)
            .map(|i| TREES.get(i).map_or_else(|| format!("TREE{i:04}"), |name| name.to_string()))
            .collect()
    }

    /// Checks that such a day can be.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.symbols.is_empty() || self.symbols.len() > INSTRUMENTS_MAX {
            return Err(SpecError::Symbols(self.symbols.len()));
        }
        let mut seen = std::collections::BTreeSet::new();
        for symbol in &self.symbols {
            let good = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || b".-+=".contains(&c);
            if !(1..=8).contains(&symbol.len()) || !symbol.bytes().all(good) {
                return Err(SpecError::Symbol(symbol.clone()));
            }
            if !seen.insert(symbol) {
                return Err(SpecError::SymbolTwice(symbol.clone()));
            }
        }
        if !(self.messages_per_second > 0.0 && self.messages_per_second <= 1e9) {
            return Err(SpecError::Rate(self.messages_per_second.to_string()));
        }
        let close_ns = self.open_ns.checked_add(self.duration_ns);
        let fits = close_ns.is_some_and(|ns| ns < DAY_NS - OPENING_NS);
        if self.open_ns < OPENING_NS || !fits {
            return Err(SpecError::Hours {
                open_s: self.open_ns / SECOND_NS,
                duration_s: self.duration_ns / SECOND_NS,
            });
        }
        if !(10..=100_000).contains(&self.resting_orders) {
            return Err(SpecError::Depth(self.resting_orders));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_that_cannot_be_is_refused_with_its_reason() {
        let good = FlowSpec::default();
        assert_eq!(good.check(), Ok(()));
        let refused = |spec: FlowSpec| spec.check().unwrap_err().to_string();
        assert!(refused(FlowSpec { symbols: vec![], ..good.clone() }).contains("not 0"));
        let lower = FlowSpec { symbols: vec!["abc".into()], ..good.clone() };
        assert!(refused(lower).contains("'abc'"));
        let twice = FlowSpec { symbols: vec!["A".into(), "A".into()], ..good.clone() };
        assert!(refused(twice).contains("twice"));
        let rate = FlowSpec { messages_per_second: f64::NAN, ..good.clone() };
        assert!(refused(rate).contains("NaN"));
        let long = FlowSpec { duration_ns: DAY_NS, ..good.clone() };
        assert!(refused(long).contains("midnight"));
        assert!(refused(FlowSpec { resting_orders: 1, ..good }).contains("1 resting"));
    }

    #[test]
    fn invented_symbols_are_all_sendable() {
        let spec = FlowSpec {
            symbols: FlowSpec::invented_symbols(INSTRUMENTS_MAX),
            ..FlowSpec::default()
        };
        assert_eq!(spec.check(), Ok(()));
    }
}
