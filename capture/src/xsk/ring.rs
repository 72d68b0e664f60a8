//! The index logic of a ring that user space and the kernel share.
//!
//! One side produces, the other consumes; each owns its index, free-running and wrapping, and
//! keeps a copy of the other's so that it reads the shared line only when it has to. Everything
//! shared is accessed as atomics: what the kernel does meanwhile is then defined behaviour.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use wiretape_core::prefetch::expect_read;

use super::memory::Memory;

/// Where the parts of a ring lie in its mapping, in bytes, as `XDP_MMAP_OFFSETS` tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub producer: usize,
    pub consumer: usize,
    pub flags: usize,
    pub entries: usize,
}

impl Layout {
    pub(super) fn new(offsets: &libc::xdp_ring_offset) -> Layout {
        Layout {
            producer: offsets.producer as usize,
            consumer: offsets.consumer as usize,
            flags: offsets.flags as usize,
            entries: offsets.desc as usize,
        }
    }

    /// Bytes of a mapping with `entries` entries of `words` 64-bit words.
    pub(super) fn len(&self, entries: u32, words: usize) -> usize {
        self.entries + entries as usize * words * size_of::<u64>()
    }
}

/// The shared part of a ring whose entries are `WORDS` 64-bit words: 1 for addresses, 2 for RX
/// descriptors (address; length and options).
struct Shared<const WORDS: usize> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<[AtomicU64; WORDS]>,
    mask: u32,
    /// Keeps the pointers above valid; `None` where a test brought its own memory.
    _mapping: Option<Memory>,
    _entries: PhantomData<[AtomicU64; WORDS]>,
}

// SAFETY: everything behind the pointers is atomic and lives as long as the value.
unsafe impl<const WORDS: usize> Send for Shared<WORDS> {}

impl<const WORDS: usize> Shared<WORDS> {
    fn new(mapping: Memory, layout: Layout, entries: u32) -> Shared<WORDS> {
        assert!(entries.is_power_of_two(), "ring sizes are powers of two");
        assert!(layout.len(entries, WORDS) <= mapping.len(), "the mapping holds the ring");
        let at = |offset: usize, align: usize| {
            assert!(offset + align <= mapping.len() && offset.is_multiple_of(align));
            // SAFETY: the offset was checked to lie inside the mapping.
            unsafe { mapping.base().add(offset) }
        };
        Shared {
            producer: at(layout.producer, 4).cast(),
            consumer: at(layout.consumer, 4).cast(),
            flags: at(layout.flags, 4).cast(),
            entries: at(layout.entries, 8).cast(),
            mask: entries - 1,
            _mapping: Some(mapping),
            _entries: PhantomData,
        }
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: aligned and inside memory that `self` keeps alive (checked in `new`).
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.flags.as_ref() }
    }

    fn entry(&self, index: u32) -> &[AtomicU64; WORDS] {
        // SAFETY: the masked index is below the number of entries, all of which lie inside the
        // memory that `self` keeps alive (checked in `new`).
        let entry = unsafe { self.entries.add((index & self.mask) as usize) };
        // SAFETY: as above; words are aligned to 8 and only ever accessed as atomics.
        unsafe { entry.as_ref() }
    }

    fn size(&self) -> u32 {
        self.mask + 1
    }
}

/// The producing end: user space writes, the kernel reads (fill ring).
pub(super) struct Producer {
    shared: Shared<1>,
    /// Next index to write; published by `submit`.
    next: u32,
    submitted: u32,
    consumer_seen: u32,
}

impl Producer {
    pub(super) fn new(mapping: Memory, layout: Layout, entries: u32) -> Producer {
        Producer::over(Shared::new(mapping, layout, entries))
    }

    fn over(shared: Shared<1>) -> Producer {
        let next = shared.producer().load(Ordering::Relaxed);
        let consumer_seen = shared.consumer().load(Ordering::Acquire);
        Producer { shared, next, submitted: next, consumer_seen }
    }

    /// Writes one entry behind those written before; `false` when the ring is full.
    #[inline]
    pub(super) fn push(&mut self, address: u64) -> bool {
        if self.next.wrapping_sub(self.consumer_seen) >= self.shared.size() {
            // Acquire: the kernel has read an entry before it moved its index; partner is its
            // smp_store_release of the consumer index.
            self.consumer_seen = self.shared.consumer().load(Ordering::Acquire);
            if self.next.wrapping_sub(self.consumer_seen) >= self.shared.size() {
                return false;
            }
        }
        self.shared.entry(self.next)[0].store(address, Ordering::Relaxed);
        self.next = self.next.wrapping_add(1);
        true
    }

    /// What was pushed as entry `index` of all, unless as many as the ring holds came after it.
    #[inline]
    pub(super) fn pushed(&self, index: u32) -> u64 {
        self.shared.entry(index)[0].load(Ordering::Relaxed)
    }

    /// Shows the kernel everything pushed so far.
    #[inline]
    pub(super) fn submit(&mut self) {
        if self.submitted != self.next {
            // Release: entries before the index; partner is the kernel's smp_load_acquire.
            self.shared.producer().store(self.next, Ordering::Release);
            self.submitted = self.next;
        }
    }

    /// Whether the kernel asks to be woken with a system call.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.shared.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// An RX descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub address: u64,
    pub len: u32,
    pub options: u32,
}

/// The consuming end: the kernel writes, user space reads (RX ring).
pub(super) struct Consumer {
    shared: Shared<2>,
    /// Next index to read; shown to the kernel by `release`.
    next: u32,
    producer_seen: u32,
}

impl Consumer {
    pub(super) fn new(mapping: Memory, layout: Layout, entries: u32) -> Consumer {
        Consumer::over(Shared::new(mapping, layout, entries))
    }

    fn over(shared: Shared<2>) -> Consumer {
        let next = shared.consumer().load(Ordering::Relaxed);
        Consumer { shared, next, producer_seen: next }
    }

    /// How many entries can be taken, at most `max`. A ring that claims more than it can hold is
    /// held to its size.
    #[inline]
    pub(super) fn available(&mut self, max: u32) -> u32 {
        let mut count = self.producer_seen.wrapping_sub(self.next);
        if count < max {
            // Acquire: the entries are read after the index that announced them; partner is the
            // kernel's smp_store_release of the producer index.
            self.producer_seen = self.shared.producer().load(Ordering::Acquire);
            count = self.producer_seen.wrapping_sub(self.next);
        }
        count.min(max).min(self.shared.size())
    }

    /// How many entries were taken ever, modulo 2^32.
    #[inline]
    pub(super) fn taken(&self) -> u32 {
        self.next
    }

    /// Asks for the line of the next entry, whether it is there or not.
    #[inline]
    pub(super) fn expect(&self) {
        expect_read(self.shared.entry(self.next).as_ptr().cast());
    }

    /// Takes the next entry; the caller has asked `available` for it.
    #[inline]
    pub(super) fn take(&mut self) -> Descriptor {
        let descriptor = self.peek();
        self.next = self.next.wrapping_add(1);
        descriptor
    }

    /// The next entry, which stays; the caller has asked `available` for it.
    #[inline]
    pub(super) fn peek(&self) -> Descriptor {
        let [address, len_and_options] = self.shared.entry(self.next);
        let address = address.load(Ordering::Relaxed);
        let bytes = len_and_options.load(Ordering::Relaxed).to_ne_bytes();
        let [a, b, c, d, e, f, g, h] = bytes;
        Descriptor {
            address,
            len: u32::from_ne_bytes([a, b, c, d]),
            options: u32::from_ne_bytes([e, f, g, h]),
        }
    }

    /// Gives the entries taken so far back to the kernel.
    #[inline]
    pub(super) fn release(&mut self) {
        // Release: our reads of the entries before the index; partner is the kernel's
        // smp_load_acquire.
        self.shared.consumer().store(self.next, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const SIZE: u32 = 8;
    const LAYOUT: Layout = Layout { producer: 0, consumer: 64, flags: 128, entries: 192 };

    /// A ring in plain memory whose indices start at `start`, and a second view of it that plays
    /// the kernel.
    fn shared<const WORDS: usize>(start: u32) -> (Shared<WORDS>, Shared<WORDS>) {
        let words = vec![0u64; LAYOUT.len(SIZE, WORDS) / 8].leak();
        let base = NonNull::from(&mut words[0]).cast::<u8>();
        let view = || {
            // SAFETY: offsets of the layout lie inside the leaked allocation.
            let at = |offset| unsafe { base.add(offset) };
            Shared::<WORDS> {
                producer: at(LAYOUT.producer).cast(),
                consumer: at(LAYOUT.consumer).cast(),
                flags: at(LAYOUT.flags).cast(),
                entries: at(LAYOUT.entries).cast(),
                mask: SIZE - 1,
                _mapping: None,
                _entries: PhantomData,
            }
        };
        let (ours, kernel) = (view(), view());
        kernel.producer().store(start, Ordering::Relaxed);
        kernel.consumer().store(start, Ordering::Relaxed);
        (ours, kernel)
    }

    /// Starts around the wrap of the free-running index.
    fn starts() -> impl Strategy<Value = u32> {
        prop_oneof![Just(0), Just(u32::MAX), (u32::MAX - 20)..=u32::MAX, any::<u32>()]
    }

    proptest! {
        #[test]
        fn producer_is_a_bounded_queue_wherever_its_index_stands(
            start in starts(),
            steps in proptest::collection::vec((any::<bool>(), 1u32..12), 1..60),
        ) {
            let (ours, kernel) = shared::<1>(start);
            let mut producer = Producer::over(ours);
            let (mut model, mut next) = (VecDeque::new(), 1000u64);
            for (produce, count) in steps {
                if produce {
                    for _ in 0..count {
                        let taken = producer.push(next);
                        prop_assert_eq!(taken, model.len() < SIZE as usize);
                        if taken {
                            model.push_back(next);
                            next += 1;
                        }
                    }
                    producer.submit();
                } else {
                    let (mut at, end) = (
                        kernel.consumer().load(Ordering::Relaxed),
                        kernel.producer().load(Ordering::Acquire),
                    );
                    prop_assert_eq!(end.wrapping_sub(at) as usize, model.len());
                    for _ in 0..count.min(end.wrapping_sub(at)) {
                        let entry = kernel.entry(at)[0].load(Ordering::Relaxed);
                        prop_assert_eq!(Some(entry), model.pop_front());
                        at = at.wrapping_add(1);
                    }
                    kernel.consumer().store(at, Ordering::Release);
                }
            }
        }

        #[test]
        fn consumer_takes_what_the_kernel_put_in_order(
            start in starts(),
            steps in proptest::collection::vec((any::<bool>(), 1u32..12), 1..60),
        ) {
            let (ours, kernel) = shared::<2>(start);
            let mut consumer = Consumer::over(ours);
            let (mut model, mut next) = (VecDeque::new(), 0u32);
            for (produce, count) in steps {
                if produce {
                    let mut at = kernel.producer().load(Ordering::Relaxed);
                    for _ in 0..count {
                        if at.wrapping_sub(kernel.consumer().load(Ordering::Acquire)) == SIZE {
                            break;
                        }
                        let descriptor =
                            Descriptor { address: u64::from(next) << 32, len: next, options: 1 };
                        let [address, rest] = kernel.entry(at);
                        address.store(descriptor.address, Ordering::Relaxed);
                        let word = u64::from(descriptor.len) | u64::from(descriptor.options) << 32;
                        rest.store(word.to_le(), Ordering::Relaxed);
                        model.push_back(descriptor);
                        at = at.wrapping_add(1);
                        next += 1;
                    }
                    kernel.producer().store(at, Ordering::Release);
                } else {
                    let available = consumer.available(count);
                    prop_assert_eq!(available as usize, model.len().min(count as usize));
                    for _ in 0..available {
                        prop_assert_eq!(Some(consumer.take()), model.pop_front());
                    }
                    consumer.release();
                }
            }
        }
    }

    #[test]
    fn pushed_entries_are_invisible_until_they_are_submitted() {
        let (ours, kernel) = shared::<1>(u32::MAX);
        let mut producer = Producer::over(ours);
        assert!(producer.push(7));
        assert_eq!(kernel.producer().load(Ordering::Acquire), u32::MAX);
        producer.submit();
        assert_eq!(kernel.producer().load(Ordering::Acquire), 0);
    }

    #[test]
    fn an_index_that_ran_away_never_yields_more_than_the_ring_holds() {
        let (ours, kernel) = shared::<2>(5);
        let mut consumer = Consumer::over(ours);
        kernel.producer().store(5 + 1_000_000, Ordering::Release);
        assert_eq!(consumer.available(64), SIZE);
    }

    #[test]
    fn the_wakeup_flag_is_read_anew_each_time() {
        let (ours, kernel) = shared::<1>(0);
        let producer = Producer::over(ours);
        assert!(!producer.needs_wakeup());
        kernel.flags().store(libc::XDP_RING_NEED_WAKEUP, Ordering::Relaxed);
        assert!(producer.needs_wakeup());
    }
}
