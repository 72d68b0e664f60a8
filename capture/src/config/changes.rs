//! What a configuration changes about the one that runs: feeds come and go, all else stays.

use super::{Config, FeedConfig, WorkerConfig};

/// Feeds that come and feeds that go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedChanges {
    /// Names of those that the new configuration no longer has.
    pub removed: Vec<String>,
    /// Those that it has besides.
    pub added: Vec<FeedConfig>,
}

/// Something is changed that a running capture cannot change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A key of `[worker]`.
    #[error("'{key}' in [worker] is not as the capture runs: that needs a restart")]
    Worker {
        /// The key.
        key: &'static str,
    },
    /// A key of `[source]`.
    #[error("[source] is not as the capture runs: that needs a restart")]
    Source,
    /// A key of a feed that goes on.
    #[error(
        "'{key}' of feed '{feed}' is not as the capture runs: a feed stays as it is until it is \
         removed; the new one needs another name, or a restart"
    )]
    Feed {
        /// The feed.
        feed: String,
        /// The key.
        key: &'static str,
    },
}

impl Config {
    /// What `wanted` changes. Feeds are told apart by their names.
    ///
    /// # Errors
    /// It changes something besides which feeds there are.
    pub fn changes_to(&self, wanted: &Config) -> Result<FeedChanges, ChangeError> {
        if let Some(key) = changed_key(&self.worker, &wanted.worker) {
            return Err(ChangeError::Worker { key });
        }
        if self.source != wanted.source {
            return Err(ChangeError::Source);
        }
        let mut changes = FeedChanges::default();
        for feed in &wanted.feeds {
            match self.feeds.iter().find(|running| running.name == feed.name) {
                None => changes.added.push(feed.clone()),
                Some(running) => {
                    if let Some(key) = changed_feed_key(running, feed) {
                        return Err(ChangeError::Feed { feed: feed.name.clone(), key });
                    }
                }
            }
        }
        let stays = |feed: &&FeedConfig| wanted.feeds.iter().any(|one| one.name == feed.name);
        let gone = self.feeds.iter().filter(|feed| !stays(feed));
        changes.removed = gone.map(|feed| feed.name.clone()).collect();
        Ok(changes)
    }
}

/// The first key whose value is another one.
fn changed_key(running: &WorkerConfig, wanted: &WorkerConfig) -> Option<&'static str> {
    let WorkerConfig {
        name,
        core,
        segment_dir,
        event_slots,
        instruments,
        feed_slots,
        depth_slots,
        snapshot_feeds,
        idle,
        unlink_on_exit,
        prefault,
        wake_ms,
        confine,
    } = wanted;
    let is_same = [
        ("name", *name == running.name),
        ("core", *core == running.core),
        ("segment_dir", *segment_dir == running.segment_dir),
        ("event_slots", *event_slots == running.event_slots),
        ("instruments", *instruments == running.instruments),
        ("feed_slots", *feed_slots == running.feed_slots),
        ("depth_slots", *depth_slots == running.depth_slots),
        ("snapshot_feeds", *snapshot_feeds == running.snapshot_feeds),
        ("idle", *idle == running.idle),
        ("unlink_on_exit", *unlink_on_exit == running.unlink_on_exit),
        ("prefault", *prefault == running.prefault),
        ("wake_ms", *wake_ms == running.wake_ms),
        ("confine", *confine == running.confine),
    ];
    is_same.into_iter().find_map(|(key, same)| (!same).then_some(key))
}

fn changed_feed_key(running: &FeedConfig, wanted: &FeedConfig) -> Option<&'static str> {
    let FeedConfig {
        name: _,
        protocol,
        group,
        group_b,
        reorder,
        reorder_packets,
        recovery,
        snapshot,
        instruments,
        depth,
        max_orders,
        max_levels,
        publisher_id,
        date,
        time_zone,
    } = wanted;
    let is_same = [
        ("protocol", *protocol == running.protocol),
        ("group", *group == running.group),
        ("group_b", *group_b == running.group_b),
        ("reorder_us", *reorder == running.reorder),
        ("reorder_packets", *reorder_packets == running.reorder_packets),
        ("recovery", *recovery == running.recovery),
        ("snapshot", *snapshot == running.snapshot),
        ("instruments", *instruments == running.instruments),
        ("depth", *depth == running.depth),
        ("max_orders", *max_orders == running.max_orders),
        ("max_levels", *max_levels == running.max_levels),
        ("publisher_id", *publisher_id == running.publisher_id),
        ("date", *date == running.date),
        ("time_zone", *time_zone == running.time_zone),
    ];
    is_same.into_iter().find_map(|(key, same)| (!same).then_some(key))
}
