//! What becomes of a frame once the worker has looked at it: back to the kernel at once, or kept for
//! recorders.

use super::retention::Retention;
use super::ring::{Descriptor, Producer};

/// Who has a frame after the worker is done with it.
pub(super) trait Custody {
    /// Takes the frame that begins at `start`, to hand it to the fill ring now or later.
    fn take(&mut self, start: u64, descriptor: &Descriptor, ts_recv: u64, fill: &mut Producer);
    /// Takes a frame of a packet that comes in several, whose bytes are in the assembly.
    fn take_part(&mut self, start: u64, descriptor: &Descriptor, fill: &mut Producer);
    /// That was the last one: of a packet received at this time, or of one that was dropped.
    fn end_packet(&mut self, ts_recv: Option<u64>, fill: &mut Producer);
    /// Ends a batch.
    fn end_batch(&mut self, fill: &mut Producer);
}

/// Nobody: back to the kernel at once.
pub(super) struct AtOnce;

impl Custody for AtOnce {
    #[inline]
    fn take(&mut self, start: u64, _: &Descriptor, _: u64, fill: &mut Producer) {
        fill.push(start);
    }

    #[inline]
    fn take_part(&mut self, start: u64, _: &Descriptor, fill: &mut Producer) {
        fill.push(start);
    }

    #[inline]
    fn end_packet(&mut self, _: Option<u64>, _: &mut Producer) {}

    #[inline]
    fn end_batch(&mut self, _: &mut Producer) {}
}

/// The recorders, until newer frames have come.
pub(super) struct Later<'r, 'm>(pub(super) &'r mut Retention<'m>);

impl Custody for Later<'_, '_> {
    #[inline]
    fn take(&mut self, start: u64, descriptor: &Descriptor, ts_recv: u64, _: &mut Producer) {
        self.0.keep(start, descriptor, ts_recv);
    }

    #[inline]
    fn take_part(&mut self, start: u64, descriptor: &Descriptor, fill: &mut Producer) {
        self.0.take_part(start, descriptor, fill);
    }

    #[inline]
    fn end_packet(&mut self, ts_recv: Option<u64>, fill: &mut Producer) {
        match ts_recv {
            Some(ts_recv) => self.0.keep_parts(ts_recv),
            None => self.0.drop_parts(fill),
        }
    }

    #[inline]
    fn end_batch(&mut self, fill: &mut Producer) {
        self.0.end_batch(fill);
    }
}
