//! Changes the feeds of a capture that runs: takes what `wiretape-capture --reload` sends, on a
//! thread of its own that may wait, allocate and touch memory while worker and control thread go
//! on.
//!
//! All that can fail comes before the first feed goes: a change is done as a whole, or not at all.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use wiretape_core::event_loop::Priority;

use super::Notice;
use super::feeds::{AttachedFeed, FeedMaker, MadeFeed, free_depth_places};
use super::live::LiveParts;
use crate::config::{
    ChangeError, Config, ConfigError, ConfigText, FeedChanges, FeedConfig, RecoveryConfig,
    SnapshotConfig,
};
use crate::control::control_socket::{Answer, ControlSocket, MESSAGE_BYTES};
use crate::control::event_loop::{ControlEvent, ControlPoster};
use crate::control::multicast::{JoinError, Membership};
use crate::orders::{FeedChange, NotDone, Orders};
use crate::pins::GroupMap;
use crate::run::RunError;
use crate::trading_days::Zones;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("this is no configuration: {0}; is wiretape-capture of the capture's own version?")]
    Message(#[from] serde_json::Error),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(
        "there is no place for feed '{feed}': each of the {slots} is used once in a run; raise \
         feed_slots in [worker] and restart"
    )]
    Slots { feed: String, slots: usize },
    #[error(
        "feed '{feed}' wants {wanted} instruments, {left} of the worker's were never used in this \
         run: lower its instruments, or raise those of [worker] and restart"
    )]
    Instruments { feed: String, wanted: usize, left: usize },
    #[error(transparent)]
    Make(#[from] RunError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Ending(#[from] NotDone),
}

/// How other threads learn of servers of a feed that is added.
#[derive(Debug)]
pub(super) struct Teachers {
    /// Servers to ask again.
    pub(super) recovery: Sender<(usize, RecoveryConfig)>,
    /// Snapshot servers, if there is a thread that asks them.
    pub(super) snapshots: Option<Sender<(usize, String, SnapshotConfig)>>,
}

/// The thread that changes feeds.
pub(super) struct FeedChanger<'r, 'm> {
    pub(super) socket: ControlSocket,
    /// As the capture runs now.
    pub(super) config: Config,
    pub(super) attached: Vec<AttachedFeed>,
    pub(super) maker: FeedMaker<'m>,
    pub(super) memberships: &'r mut Vec<Membership>,
    /// What the XDP programs steer, with the interfaces' names, as far as that may be looked at.
    pub(super) steered: &'r [(String, GroupMap)],
    pub(super) teachers: Teachers,
    /// The control thread looks after what servers are to be asked.
    pub(super) recovers: bool,
    pub(super) orders: &'r Orders<'m>,
    pub(super) poster: ControlPoster<'r>,
    pub(super) notices: Sender<Notice>,
    /// The run is over.
    pub(super) ends: &'r AtomicBool,
}

impl<'m> FeedChanger<'_, 'm> {
    /// Answers until it is told to stop.
    pub(super) fn run(mut self) {
        let mut buffer = vec![0; MESSAGE_BYTES];
        while !self.ends.load(Ordering::Relaxed) {
            let Some((length, asker)) = self.socket.next(&mut buffer) else { continue };
            let answer = self
                .change(&buffer[..length])
                .unwrap_or_else(|refusal| Answer::Refused { reason: refusal.to_string() });
            let notice = match &answer {
                Answer::Changed { .. } => Notice::Changed(answer.to_string()),
                Answer::Refused { .. } => {
                    Notice::Warning(format!("feeds are as they were: {answer}"))
                }
            };
            // The other end outlives this thread.
            let _ = self.notices.send(notice);
            self.socket.answer(&answer, &asker);
        }
    }

    fn change(&mut self, message: &[u8]) -> Result<Answer, Refusal> {
        let text: ConfigText = serde_json::from_slice(message)?;
        let wanted = text.check_beside(&self.config.worker)?;
        let changes = self.config.changes_to(&wanted)?;
        self.check_room(&changes.added)?;
        let place = self.maker.place();
        let made = self.make(&changes)?;
        if let Err(error) = self.join(&changes.added) {
            self.maker.rewind(place);
            give_back(made);
            return Err(error.into());
        }
        let warnings = self.warnings(&changes.added, &made);
        self.teach(&changes.added, &made);
        self.exchange(&changes, made)?;
        self.config = wanted;
        let groups = self.config.feeds.iter().flat_map(FeedConfig::groups);
        let groups: Vec<Ipv4Addr> = groups.map(|group| *group.ip()).collect();
        for membership in self.memberships.iter_mut() {
            membership.retain(|group| groups.contains(group));
        }
        let added = changes.added.into_iter().map(|feed| feed.name).collect();
        Ok(Answer::Changed { added, removed: changes.removed, warnings })
    }

    /// Whether the segment has places and instruments left that were never used, for `added`.
    fn check_room(&self, added: &[FeedConfig]) -> Result<(), Refusal> {
        let place = self.maker.place();
        let slots = self.config.worker.feed_slots;
        let mut left = self.config.worker.instruments - place.instrument;
        for (index, feed) in (place.feed..).zip(added) {
            let name = feed.name.clone();
            if index >= slots {
                return Err(Refusal::Slots { feed: name, slots });
            }
            if feed.instruments > left {
                let wanted = feed.instruments;
                return Err(Refusal::Instruments { feed: name, wanted, left });
            }
            left -= feed.instruments;
        }
        Ok(())
    }

    /// Makes the feeds that come, all or none. They may have the places for depth of those that go,
    /// which do so before they come.
    fn make(&mut self, changes: &FeedChanges) -> Result<Vec<MadeFeed<'m>>, Refusal> {
        let place = self.maker.place();
        let stay = self.attached.iter().filter(|one| !changes.removed.contains(&one.name));
        let mut free = free_depth_places(self.config.worker.depth_slots, stay);
        let mut made = Vec::with_capacity(changes.added.len());
        for feed in &changes.added {
            match self.maker.make(feed, &mut free, Zones::Bundled) {
                Ok(one) => made.push(one),
                Err(error) => {
                    self.maker.rewind(place);
                    give_back(made);
                    return Err(error.into());
                }
            }
        }
        Ok(made)
    }

    /// Joins the groups of `added` on every interface, all or none.
    fn join(&mut self, added: &[FeedConfig]) -> Result<(), JoinError> {
        let groups = added.iter().flat_map(FeedConfig::groups).map(|group| *group.ip());
        let groups: Vec<Ipv4Addr> = groups.collect();
        let before: Vec<_> = self.memberships.iter().map(|one| one.groups().to_vec()).collect();
        let result = self.memberships.iter_mut().try_for_each(|one| one.add(&groups));
        if result.is_err() {
            for (membership, before) in self.memberships.iter_mut().zip(before) {
                membership.retain(|group| before.contains(group));
            }
        }
        result
    }

    fn warnings(&self, added: &[FeedConfig], made: &[MadeFeed<'m>]) -> Vec<String> {
        let mut warnings = Vec::new();
        for (feed, made) in added.iter().zip(made) {
            if let Some(error) = &made.untouched {
                let name = &feed.name;
                warnings.push(format!("feed '{name}': its memory is not claimed yet: {error}"));
            }
            warnings.extend(LiveParts::unsteered(feed, self.steered));
        }
        warnings
    }

    /// Tells the threads that ask servers whom to ask, before the worker has anything to ask.
    fn teach(&mut self, added: &[FeedConfig], made: &[MadeFeed<'m>]) {
        for (feed, made) in added.iter().zip(made) {
            let index = made.feed.index();
            if let Some(recovery) = &feed.recovery {
                let _ = self.teachers.recovery.send((index, recovery.clone()));
            }
            if let (Some(snapshot), Some(teacher)) = (&feed.snapshot, &self.teachers.snapshots) {
                let _ = teacher.send((index, feed.name.clone(), snapshot.clone()));
            }
        }
        if !self.recovers && added.iter().any(|feed| feed.recovery.is_some()) {
            // From now on it comes again and again.
            self.recovers = true;
            let _ = self.poster.post(Priority::Normal, ControlEvent::Recover);
        }
    }

    /// The worker lets feeds go, then takes feeds in.
    fn exchange(&mut self, changes: &FeedChanges, made: Vec<MadeFeed<'m>>) -> Result<(), NotDone> {
        for name in &changes.removed {
            let Some(place) = self.attached.iter().position(|one| one.name == *name) else {
                continue;
            };
            let AttachedFeed { index, pages, .. } = self.attached.swap_remove(place);
            if let Some(feed) = self.orders.change(FeedChange::Detach(index), self.ends)? {
                pages.give_back(feed);
            }
        }
        for (feed, made) in changes.added.iter().zip(made) {
            let MadeFeed { feed: made, pages, depth_places, .. } = made;
            let index = made.index();
            match self.orders.change(FeedChange::Attach(made), self.ends)? {
                // Places are given in order, so that this does not happen.
                Some(refused) => pages.give_back(refused),
                None => {
                    let name = feed.name.clone();
                    self.attached.push(AttachedFeed { name, index, pages, depth_places });
                }
            }
        }
        Ok(())
    }
}

/// Feeds that are not attached after all.
fn give_back(made: Vec<MadeFeed<'_>>) {
    for MadeFeed { feed, pages, .. } in made {
        pages.give_back(feed);
    }
}
