//! The day: opening, continuous trading, close.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use wiretape_core::event::Side;

use super::book::{BookError, PlainBook};
use super::change::{Change, Step};
use super::continuous::Market;
use super::draw::Draw;
use super::instrument::Instrument;
use super::spec::{FlowSpec, OPENING_NS, SECOND_NS, SpecError};

/// Messages that an arrival makes on average; it turns the wanted rate into one of arrivals.
const MESSAGES_PER_ARRIVAL: f64 = 1.02;
/// Time between two announcements.
const ANNOUNCE_STEP_NS: u64 = 1_000;

enum Phase {
    Announce,
    /// Resting orders before the opening, so many per instrument so far.
    Seed(u32),
    Open,
    Continuous,
    Close(u64),
    Done,
}

/// A simulated day, step by step.
///
/// ```
/// use wiretape_bench::flow::{Flow, FlowSpec};
///
/// let spec = FlowSpec { messages: Some(10_000), ..FlowSpec::default() };
/// let mut flow = Flow::new(&spec)?;
/// let messages = flow.by_ref().count();
/// assert!(messages >= 10_000);
/// assert!(!flow.final_book(0).is_crossed());
/// # Ok::<(), wiretape_bench::flow::SpecError>(())
/// ```
pub struct Flow {
    spec: FlowSpec,
    market: Market,
    agenda: BinaryHeap<Reverse<(u64, usize)>>,
    phase: Phase,
}

impl Flow {
    /// A day that has not begun.
    pub fn new(spec: &FlowSpec) -> Result<Flow, SpecError> {
        spec.check()?;
        let mut draw = Draw::new(spec.seed);
        // Activity falls with the rank, as it does on real markets (Zipf).
        let weights: f64 = (1..=spec.symbols.len()).map(|rank| 1.0 / rank as f64).sum();
        let arrivals = spec.messages_per_second / MESSAGES_PER_ARRIVAL;
        let instruments = spec.symbols.iter().zip(1..).map(|(symbol, rank)| {
            let rate = arrivals / weights / f64::from(rank);
            Instrument::new(symbol, rate, spec.open_ns, &mut draw)
        });
        let instruments: Vec<Instrument> = instruments.collect();
        let market = Market::new(draw, instruments, spec.resting_orders);
        let phase = Phase::Announce;
        Ok(Flow { spec: spec.clone(), market, agenda: BinaryHeap::new(), phase })
    }

    /// The symbols as ITCH carries them, by instrument.
    pub fn symbols(&self) -> Vec<[u8; 8]> {
        self.market.instruments.iter().map(|instrument| instrument.symbol).collect()
    }

    /// An instrument's book as it is after every step made so far; the final one when the day is
    /// over.
    ///
    /// # Panics
    /// If there is no such instrument.
    pub fn final_book(&self, instrument: usize) -> &PlainBook {
        &self.market.instruments[instrument].book
    }

    /// The first operation that the book refused. Anything but `None` is a defect of the
    /// simulator.
    pub fn refused(&self) -> Option<BookError> {
        self.market.refused
    }

    fn announce(&mut self) {
        let market = &mut self.market;
        let mut at_ns = self.spec.open_ns - OPENING_NS;
        let mut tick = || {
            at_ns += ANNOUNCE_STEP_NS;
            at_ns
        };
        market.say(tick(), None, Change::System(b'O'));
        for i in 0..market.instruments.len() {
            market.say(tick(), Some(i), Change::Directory);
            market.say(tick(), Some(i), Change::Trading(b'T'));
            market.say(tick(), Some(i), Change::ShortSale(b'0'));
            market.register(tick(), i);
        }
        market.say(tick(), None, Change::CircuitBreaker([37_200_000, 34_800_000, 32_000_000]));
        market.say(tick(), None, Change::System(b'S'));
        self.phase = Phase::Seed(0);
    }

    fn seed(&mut self, row: u32) {
        if row == self.spec.resting_orders {
            self.phase = Phase::Open;
            return;
        }
        let count = self.market.instruments.len() as u64;
        let rows = u64::from(self.spec.resting_orders);
        for i in 0..count {
            let place = u64::from(row) * count + i;
            // The second before the opening, but for its end, where the imbalance goes out.
            let passed_ns = place * (SECOND_NS * 9 / 10) / (rows * count);
            let side = if row.is_multiple_of(2) { Side::Bid } else { Side::Ask };
            self.market.add(self.spec.open_ns - SECOND_NS + passed_ns, i as usize, side);
        }
        self.phase = Phase::Seed(row + 1);
    }

    fn auction(&mut self, at_ns: u64, kind: u8) {
        for i in 0..self.market.instruments.len() {
            self.market.cross(at_ns, i, kind);
        }
    }

    fn open(&mut self) {
        let open_ns = self.spec.open_ns;
        for i in 0..self.market.instruments.len() {
            self.market.indicate(open_ns - SECOND_NS / 20, i, b'O');
        }
        self.market.say(open_ns, None, Change::System(b'Q'));
        self.auction(open_ns, b'O');
        for i in 0..self.market.instruments.len() {
            let at_ns = self.market.instruments[i].arrivals.next_ns(&mut self.market.draw);
            self.agenda.push(Reverse((at_ns, i)));
        }
        self.phase = Phase::Continuous;
    }

    fn continuous(&mut self) {
        let close_ns = self.spec.open_ns + self.spec.duration_ns;
        let Some(&Reverse((at_ns, i))) = self.agenda.peek() else { return };
        let enough = self.spec.messages.is_some_and(|messages| self.market.made >= messages);
        if enough || at_ns >= close_ns {
            self.phase = Phase::Close(at_ns.min(close_ns));
            return;
        }
        self.agenda.pop();
        self.market.arrive(at_ns, i);
        let next_ns = self.market.instruments[i].arrivals.next_ns(&mut self.market.draw);
        self.agenda.push(Reverse((next_ns, i)));
    }

    fn close(&mut self, at_ns: u64) {
        for i in 0..self.market.instruments.len() {
            self.market.indicate(at_ns, i, b'C');
        }
        self.market.say(at_ns, None, Change::System(b'M'));
        self.auction(at_ns, b'C');
        self.market.say(at_ns + SECOND_NS / 10, None, Change::System(b'E'));
        self.market.say(at_ns + SECOND_NS / 5, None, Change::System(b'C'));
        self.phase = Phase::Done;
    }
}

impl Iterator for Flow {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        while self.market.steps.is_empty() {
            match self.phase {
                Phase::Announce => self.announce(),
                Phase::Seed(row) => self.seed(row),
                Phase::Open => self.open(),
                Phase::Continuous => self.continuous(),
                Phase::Close(at_ns) => self.close(at_ns),
                Phase::Done => return None,
            }
        }
        self.market.steps.pop_front()
    }
}
