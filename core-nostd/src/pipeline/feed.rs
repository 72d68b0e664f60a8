//! A feed by itself: made where there is time, on any thread, then handed to the pipeline.

use super::{AddFeedError, Protocol};
use crate::arena::Arena;
use crate::feed::arbiter::Arbiter;
use crate::feed::arbiter::join::JoinPatience;
use crate::feed::channel::{Channel, FeedSpec};
use crate::feed::depth::{DepthBoard, DepthChoice};
use crate::feed::protocol::ProtocolFeed;
use crate::feed::trading_day::TradingDays;
use crate::segment::{FeedIdentity, SegmentWriter};

/// A feed with its books and all the memory that it will ever use.
///
/// Neither readers nor the worker know of it before [`Pipeline::attach`](super::Pipeline::attach).
#[derive(Debug)]
pub struct Feed<'m> {
    pub(super) index: u8,
    name: Protocol,
    pub(super) protocol: ProtocolFeed<'m>,
    pub(super) arbiter: Arbiter<'m>,
    pub(super) identity: FeedIdentity,
    pub(super) addresses: heapless::Vec<([u8; 4], u16), 2>,
}

impl<'m> Feed<'m> {
    /// The feed that will have place `index` of `segment`, its memory out of `arena`. `days` are the
    /// midnights of the exchange's time zone.
    ///
    /// # Errors
    /// The segment has no such place, or the arena is used up.
    pub fn new(
        index: usize,
        protocol: Protocol,
        spec: &FeedSpec,
        days: &TradingDays,
        segment: &SegmentWriter<'m>,
        arena: &mut Arena<'m>,
    ) -> Result<Self, AddFeedError> {
        let writer = segment.feed(index).ok_or(AddFeedError::TooManyFeeds)?;
        let name = protocol;
        let index = u8::try_from(index).map_err(|_| AddFeedError::TooManyFeeds)?;
        let channel = Channel::new(spec, index, writer, arena)?;
        let protocol = ProtocolFeed::new(protocol, channel, spec, days, arena)?;
        let first = (spec.identity.group, spec.identity.port);
        // Two at most.
        let addresses: heapless::Vec<_, 2> =
            [Some(first), spec.line_b].into_iter().flatten().collect();
        let arbiter = Arbiter::new(index, &addresses, &spec.patience, segment, arena)?;
        let identity = spec.identity.clone();
        Ok(Feed { index, name, protocol, arbiter, identity, addresses })
    }

    /// Gives instruments of the feed ten levels of depth and features, in these `places` of
    /// `segment`. They are the feed's until it is detached.
    ///
    /// # Errors
    /// The arena is used up.
    pub fn choose_depth(
        &mut self,
        choice: &DepthChoice,
        places: impl ExactSizeIterator<Item = u32>,
        segment: &SegmentWriter<'m>,
        arena: &mut Arena<'m>,
    ) -> Result<(), AddFeedError> {
        let board = DepthBoard::new(segment, choice, places, arena)?;
        Ok(self.protocol.channel().set_depth(board, arena)?)
    }

    /// Lets the feed join sessions that have been going on by snapshots, which the caller fetches:
    /// see [`join`](crate::feed::arbiter::join).
    ///
    /// # Errors
    /// Its protocol has no snapshots, or the arena is used up.
    pub fn join_by_snapshot(
        &mut self,
        patience: &JoinPatience,
        arena: &mut Arena<'m>,
    ) -> Result<(), AddFeedError> {
        if !self.name.has_snapshots() {
            return Err(AddFeedError::NoSnapshots);
        }
        Ok(self.arbiter.join_by_snapshot(patience, arena)?)
    }

    /// Its place in the segment.
    pub fn index(&self) -> usize {
        usize::from(self.index)
    }
}
