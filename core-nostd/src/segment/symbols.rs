//! The symbol directory: which symbol an instrument id stands for.

use super::cell::{Cell, CellBusy, Patience};
use crate::sync::AtomicU64;

/// Words of an entry (64 bytes).
pub const SYMBOL_WORDS: usize = 8;
const VALUES: usize = SYMBOL_WORDS - 1;

/// An instrument as its venue announced it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SymbolEntry {
    /// The symbol, NUL-padded; printable ASCII.
    pub symbol: [u8; 16],
    /// Index of the feed that announced it.
    pub feed: u16,
    /// DBN publisher of that feed.
    pub publisher_id: u16,
    /// Round lot; 0 if not known.
    pub round_lot: u32,
}

impl SymbolEntry {
    /// `None` for an instrument that was withdrawn.
    fn from_words([low, high, ids, ..]: [u64; VALUES]) -> Option<SymbolEntry> {
        ((low, high) != (0, 0)).then(|| SymbolEntry {
            symbol: (u128::from(low) | u128::from(high) << 64).to_le_bytes(),
            feed: ids as u16,
            publisher_id: (ids >> 16) as u16,
            round_lot: (ids >> 32) as u32,
        })
    }

    /// The symbol as text, without the blanks around it. Bytes that are not printable ASCII end it:
    /// a shared text is an allegation.
    pub fn symbol(&self) -> &str {
        let end = self.symbol.iter().position(|b| !(0x20..0x7F).contains(b)).unwrap_or(16);
        let text = self.symbol.get(..end).and_then(|s| core::str::from_utf8(s).ok());
        text.unwrap_or("").trim_matches(' ')
    }
}

/// The directory, for readers; the writer has it behind [`super::SegmentWriter`].
#[derive(Clone, Copy, Debug)]
pub struct SymbolDirectory<'m> {
    entries: &'m [[AtomicU64; SYMBOL_WORDS]],
}

impl<'m> SymbolDirectory<'m> {
    pub(super) fn new(words: &'m [AtomicU64]) -> Self {
        SymbolDirectory { entries: words.as_chunks().0 }
    }

    /// Instruments that the directory has room for.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry of `instrument`; `None` if none was announced, or it was withdrawn.
    pub fn read(&self, instrument: u32) -> Result<Option<SymbolEntry>, CellBusy> {
        match self.cell(instrument) {
            Some(cell) => Ok(cell.read()?.and_then(SymbolEntry::from_words)),
            None => Ok(None),
        }
    }

    /// All announced instruments, by id.
    pub fn iter(&self) -> impl Iterator<Item = (u32, SymbolEntry)> + use<'m> {
        let (this, mut patience) = (*self, Patience::NEW);
        (0..this.entries.len() as u32).filter_map(move |id| {
            let words = this.cell(id)?.read_patiently(&mut patience).ok()??;
            Some((id, SymbolEntry::from_words(words)?))
        })
    }

    /// The id of `symbol`: the first one, if several feeds announced it.
    pub fn find(&self, symbol: &str) -> Option<u32> {
        self.iter().find(|(_, entry)| entry.symbol() == symbol).map(|(id, _)| id)
    }

    /// Announces an instrument. Single writer.
    pub(super) fn write(&self, instrument: u32, entry: &SymbolEntry) {
        let symbol = u128::from_le_bytes(entry.symbol);
        let ids = u64::from(entry.feed)
            | u64::from(entry.publisher_id) << 16
            | u64::from(entry.round_lot) << 32;
        if let Some(cell) = self.cell(instrument) {
            cell.write(&[symbol as u64, (symbol >> 64) as u64, ids, 0, 0, 0, 0]);
        }
    }

    fn cell(&self, instrument: u32) -> Option<Cell<'m, VALUES>> {
        Cell::new(self.entries.get(instrument as usize)?)
    }
}
