//! The book of a feed that sends price levels, not orders: IEX DEEP, or DBN records that carry
//! flag [`flags::MBP`].

use super::ladder::{self, Ladder, Ladders, Rung};
use super::order_book::side_index;
use super::{Bbo, BookError, BookUsage, LevelView, health};
use crate::arena::{Arena, ArenaError, slice_bytes};
use crate::event::{MboMsg, Side, UNDEF_PRICE, action, flags};
use bytemuck::{Pod, Zeroable};

/// How much memory a book of levels claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelBookSpec {
    /// Instruments: their indices run from 0 up to this. 32 bytes each, and 256 for their first
    /// ladders.
    pub instruments: u32,
    /// Price levels at one time, over all instruments and sides. 64 bytes each.
    pub levels: u32,
}

impl LevelBookSpec {
    /// Bytes of arena that the book takes at most.
    pub const fn bytes(&self) -> usize {
        slice_bytes::<Instrument>(self.instruments as usize)
            .saturating_add(slice_bytes::<Rung>(self.rungs()))
    }

    const fn rungs(&self) -> usize {
        Ladders::rungs((self.instruments as usize).saturating_mul(2), self.levels as usize)
    }
}

/// What setting a level did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelChange {
    /// The level is new.
    New,
    /// The level had another size, or the same.
    Changed {
        /// Its size before.
        previous: u32,
    },
    /// The level is gone.
    Removed {
        /// Its size before.
        previous: u32,
    },
    /// A level that was not there was to be removed: nothing changed.
    Absent,
}

#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct Instrument {
    ladders: [Ladder; 2],
    /// Bits of [`health`].
    health: u32,
    reserved: u32,
}
const _: () = assert!(size_of::<Instrument>() == 32);

/// The book of all levels of a feed that sends no orders. Order counts are not known to such a
/// feed: where DBN wants one, it is 1 for a level that is there.
///
/// ```
/// use wiretape_core::arena::Arena;
/// use wiretape_core::book::{LevelBook, LevelBookSpec, LevelChange};
/// use wiretape_core::event::Side;
///
/// let spec = LevelBookSpec { instruments: 2, levels: 50 };
/// let mut region = vec![0_u8; spec.bytes()];
/// let mut book = LevelBook::new(&mut Arena::new(&mut region), &spec).unwrap();
/// assert_eq!(book.set(0, Side::Ask, 99_000_000_000, 500), Ok(LevelChange::New));
/// assert_eq!(book.best(0).ask_sz, 500);
/// let removed = book.set(0, Side::Ask, 99_000_000_000, 0);
/// assert_eq!(removed, Ok(LevelChange::Removed { previous: 500 }));
/// ```
#[derive(Debug)]
pub struct LevelBook<'m> {
    instruments: &'m mut [Instrument],
    ladders: Ladders<'m>,
    /// Levels that there are, the most there were, and those asked for.
    levels: u32,
    peak: u32,
    capacity: u32,
}

impl<'m> LevelBook<'m> {
    /// An empty book in memory of `arena` (the one that zeroes, or one over zeros).
    pub fn new(arena: &mut Arena<'m>, spec: &LevelBookSpec) -> Result<Self, ArenaError> {
        Ok(LevelBook {
            instruments: arena.alloc_slice("instruments", spec.instruments as usize)?,
            ladders: Ladders::new(arena, spec.rungs())?,
            levels: 0,
            peak: 0,
            capacity: spec.levels,
        })
    }

    /// Sets the size of a level; 0 removes it.
    #[inline]
    pub fn set(
        &mut self,
        instrument: u32,
        side: Side,
        price: i64,
        size: u32,
    ) -> Result<LevelChange, BookError> {
        let Some(book) = self.instruments.get_mut(instrument as usize) else {
            return Err(BookError::UnknownInstrument);
        };
        if price == UNDEF_PRICE {
            book.health |= u32::from(health::BOOK_ERROR);
            return Err(BookError::InvalidPrice);
        }
        let ladder = &mut book.ladders[side_index(side)];
        let rung = Rung { key: ladder::key(side, price), value: u64::from(size) };
        match self.ladders.find(ladder, rung.key) {
            Ok((position, previous)) if size == 0 => {
                self.ladders.remove(ladder, position);
                self.levels = self.levels.wrapping_sub(1);
                Ok(LevelChange::Removed { previous: previous as u32 })
            }
            Ok((position, previous)) => {
                if let Some(found) = self.ladders.rungs_of_mut(ladder).get_mut(position) {
                    *found = rung;
                }
                Ok(LevelChange::Changed { previous: previous as u32 })
            }
            Err(_) if size == 0 => Ok(LevelChange::Absent),
            Err(position) => match self.ladders.insert(ladder, position, rung) {
                Ok(()) => {
                    self.levels = self.levels.wrapping_add(1);
                    self.peak = self.peak.max(self.levels);
                    Ok(LevelChange::New)
                }
                Err(_) => {
                    book.health |= u32::from(health::BOOK_ERROR);
                    Err(BookError::LevelsFull)
                }
            },
        }
    }

    /// Applies a DBN record that carries [`flags::MBP`]: A and M set a level, C removes it, R
    /// clears the instrument; T, F and N do nothing (`None`, as for R). An error marks the
    /// record's instrument.
    pub fn apply(&mut self, msg: &MboMsg) -> Result<Option<LevelChange>, BookError> {
        let applied = self.apply_action(msg);
        if applied.is_err() {
            self.mark(msg.hd.instrument_id, health::BOOK_ERROR);
        }
        applied
    }

    fn apply_action(&mut self, msg: &MboMsg) -> Result<Option<LevelChange>, BookError> {
        let instrument = msg.hd.instrument_id;
        let size = match msg.action {
            action::TRADE | action::FILL | action::NONE => return Ok(None),
            action::CLEAR => return self.clear(instrument).map(|_| None),
            _ if msg.flags & flags::MBP == 0 => return Err(BookError::NotAnOrder),
            action::ADD | action::MODIFY => msg.size,
            action::CANCEL => 0,
            _ => return Err(BookError::InvalidAction),
        };
        let side = Side::from_dbn(msg.side).ok_or(BookError::InvalidSide)?;
        self.set(instrument, side, msg.price, size).map(Some)
    }

    /// Removes all levels of an instrument, and with them its bad health. Returns their number.
    pub fn clear(&mut self, instrument: u32) -> Result<u32, BookError> {
        let Some(book) = self.instruments.get_mut(instrument as usize) else {
            return Err(BookError::UnknownInstrument);
        };
        let [bids, asks] = &mut book.ladders;
        let removed = bids.len.wrapping_add(asks.len);
        self.ladders.clear(bids);
        self.ladders.clear(asks);
        self.levels = self.levels.wrapping_sub(removed);
        book.health = 0;
        Ok(removed)
    }

    /// Removes all levels of all instruments.
    pub fn clear_all(&mut self) {
        for instrument in 0..self.instruments.len() as u32 {
            // All of these instruments are known.
            let _ = self.clear(instrument);
        }
    }

    /// Adds bits of [`health`] to an instrument's, until it is cleared.
    pub fn mark(&mut self, instrument: u32, bits: u8) {
        if let Some(marked) = self.instruments.get_mut(instrument as usize) {
            marked.health |= u32::from(bits);
        }
    }

    /// [`mark`](Self::mark) for all instruments: messages of the feed were lost.
    pub fn mark_all(&mut self, bits: u8) {
        for marked in self.instruments.iter_mut() {
            marked.health |= u32::from(bits);
        }
    }

    /// Bits of [`health`]: what may be wrong with an instrument's book.
    #[inline]
    pub fn health(&self, instrument: u32) -> u8 {
        self.instruments.get(instrument as usize).map_or(0, |book| book.health as u8)
    }

    /// Best bid and offer, in O(1). Empty for an instrument beyond those configured.
    #[inline]
    pub fn best(&self, instrument: u32) -> Bbo {
        let mut bbo = Bbo::EMPTY;
        for side in [Side::Bid, Side::Ask] {
            if let Some(rung) = self.rungs(instrument, side).last() {
                bbo = bbo.with(side, ladder::key(side, rung.key), rung.value, 1);
            }
        }
        bbo
    }

    /// The levels of one side, best first.
    pub fn levels(&self, instrument: u32, side: Side) -> impl Iterator<Item = LevelView> + '_ {
        self.rungs(instrument, side).iter().rev().map(move |rung| LevelView {
            price: ladder::key(side, rung.key),
            size: rung.value,
            orders: 1,
        })
    }

    /// Levels of an instrument, both sides.
    pub fn levels_of(&self, instrument: u32) -> u32 {
        let book = self.instruments.get(instrument as usize);
        book.map_or(0, |book| book.ladders[0].len.wrapping_add(book.ladders[1].len))
    }

    /// How full the book is. Levels lie in blocks that grow, so that fewer than the capacity may
    /// fill it if they are spread over many instruments.
    pub fn usage(&self) -> BookUsage {
        BookUsage {
            levels: self.levels,
            levels_peak: self.peak,
            levels_capacity: self.capacity,
            ..BookUsage::default()
        }
    }

    /// Instruments that the book was configured for.
    pub fn instruments(&self) -> u32 {
        self.instruments.len() as u32
    }

    #[inline]
    fn rungs(&self, instrument: u32, side: Side) -> &[Rung] {
        let book = self.instruments.get(instrument as usize);
        book.map_or(&[], |book| self.ladders.rungs_of(&book.ladders[side_index(side)]))
    }
}
