//! What a ring's parts show of themselves: how large they are, and nothing that the other side's cache
//! line would have to be fetched for.

use core::fmt::{Debug, Formatter, Result};

use super::mpmc::Ring;
use super::slot::{Slot, Slots, StampedSlot, StampedSlots, StampedWordSlots, WordSlots};
use super::spsc::{Consumer, Producer, ReadChunk, WriteChunk};

macro_rules! debug {
    ($([$($generics:tt)*] $Type:ty { $($field:ident),* })*) => {$(
        impl<$($generics)*> Debug for $Type {
            fn fmt(&self, f: &mut Formatter<'_>) -> Result {
                let name = stringify!($Type).split('<').next().unwrap_or_default();
                f.debug_struct(name)
                    $(.field(stringify!($field), &self.$field()))*
                    .finish_non_exhaustive()
            }
        }
    )*};
}

debug! {
    [T] Slot<T> {}
    [T] StampedSlot<T> {}
    [const W: usize] WordSlots<'_, W> { slot_count }
    [const W: usize] StampedWordSlots<'_, W> { slot_count }
    [S: Slots] Producer<'_, S> { capacity }
    [S: Slots] Consumer<'_, S> { capacity }
    [S: Slots] WriteChunk<'_, '_, S> { room }
    [S: Slots] ReadChunk<'_, '_, S> { available }
    [S: StampedSlots] Ring<'_, S> { capacity }
}
