//! What a live capture holds besides its sockets: pins and ledger.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use wiretape_core::segment::{QueueIdentity, SegmentWriter};

use crate::clock::ClockKeeper;
use crate::config::{Config, FeedConfig, ReceiveStamps, XdpConfig};
use crate::control::ledger::LedgerFeeder;
use crate::control::multicast::Membership;
use crate::frames_file::FramesFile;
use crate::nic_stamps::{self, NicStamps, STAMP_MAGIC};
use crate::pins::{GroupMap, PinError, XskMap, stamp_magic};
use crate::source::live::{Live, LiveSockets, Parting};
use crate::xsk::{Granted, HugePages, Memory, Retention, Umem, XskOptions, XskSocket};

use super::RunError;

/// The parts of a live capture that the control thread keeps.
#[derive(Debug)]
pub(super) struct LiveParts {
    sockets: Vec<SocketParts>,
    /// What each interface's XDP program takes, with its name, as far as that may be looked at.
    steered: Vec<(String, GroupMap)>,
    pub(super) ledger: LedgerFeeder,
}

#[derive(Debug)]
struct SocketParts {
    map: XskMap,
    interface: String,
    queue: u32,
    /// The socket, until it is in the map: the worker owns the other descriptor.
    socket: RefCell<Option<OwnedFd>>,
    parting: Arc<Parting>,
    granted: Granted,
    /// Nothing arrives here any more, and that was told.
    is_over: Cell<bool>,
    /// That the NIC's times are of no use was told, or some were.
    stamps_are_known: Cell<bool>,
    /// That packets come which no frame holds was told.
    too_long_is_known: Cell<bool>,
}

impl LiveParts {
    /// Opens everything, in the order in which mistakes are likely. Packets do not arrive before
    /// [`steer`](LiveParts::steer).
    pub(super) fn open<'m>(
        xdp: &XdpConfig,
        config: &Config,
        clock: &ClockKeeper,
        shared: Option<&'m FramesFile>,
    ) -> Result<(LiveSockets<'m>, LiveParts, Vec<Membership>), RunError> {
        let (mut lives, mut parts) = (Vec::new(), LiveParts::none());
        // One for each interface.
        let mut memberships = Vec::new();
        let places = config.worker.feed_slots * FeedConfig::MOST_GROUPS;
        for (interface, queue) in xdp.queues() {
            lives.push(parts.add(xdp, interface, queue, clock, shared)?);
        }
        let mut interfaces: Vec<&str> = xdp.queues().map(|(interface, _)| interface).collect();
        interfaces.sort_unstable();
        interfaces.dedup();
        for interface in interfaces {
            if xdp.join {
                let groups = config.feeds.iter().flat_map(FeedConfig::groups);
                let groups = groups.map(|group| *group.ip());
                memberships.push(Membership::join(interface, groups, places)?);
            }
            parts.ledger.watch_others(&xdp.pins(interface), interface)?;
            // For a warning; capture does without.
            if let Ok(map) = GroupMap::open(&xdp.pins(interface).join("groups")) {
                parts.steered.push((interface.to_owned(), map));
            }
        }
        Ok((LiveSockets::new(lives), parts, memberships))
    }

    fn none() -> LiveParts {
        LiveParts { sockets: Vec::new(), steered: Vec::new(), ledger: LedgerFeeder::default() }
    }

    fn add<'m>(
        &mut self,
        xdp: &XdpConfig,
        interface: &str,
        queue: u32,
        clock: &ClockKeeper,
        shared: Option<&'m FramesFile>,
    ) -> Result<Live<'m>, RunError> {
        let interface = interface.to_owned();
        let options = XskOptions {
            interface: interface.clone(),
            queue,
            mode: xdp.mode,
            busy_poll: xdp.busy_poll,
        };
        options.check_interface()?;
        let pins = xdp.pins(&interface);
        let map = XskMap::open(&pins.join("xsks"))?;
        if queue >= map.queues() {
            return Err(RunError::Queue { interface, queue, queues: map.queues() });
        }
        let stamps = match xdp.receive_stamps {
            ReceiveStamps::Host => None,
            ReceiveStamps::Nic => match stamp_magic(&pins.join("stamps"))? {
                Some(STAMP_MAGIC) => Some(NicStamps::new()),
                found => {
                    return Err(RunError::NoStamps { interface, other: found.is_some() });
                }
            },
        };
        // Linux has no longer names.
        let name = interface.as_str().try_into().unwrap_or_default();
        let identity = QueueIdentity { interface: name, queue };
        let index = self.sockets.len();
        let memory = match shared {
            Some(file) => file.memory(index)?,
            None => {
                let huge = if xdp.huge_pages { HugePages::Try } else { HugePages::Off };
                Memory::memfd(xdp.frames as usize * xdp.frame_size as usize, huge)?
            }
        };
        let retention = match shared {
            Some(file) => {
                let writer = file.writer(index, &identity)?;
                Some(Retention::new(writer, xdp.frames, xdp.retain_frames))
            }
            None => None,
        };
        let umem = Umem::new(memory, xdp.frames, xdp.frame_size)?;
        let socket = XskSocket::open(&options, umem)?;
        let watch = |source| RunError::Watch { source };
        let statistics = socket.statistics_handle().map_err(watch)?;
        let descriptor = socket.as_fd().try_clone_to_owned().map_err(watch)?;
        let granted = socket.granted();
        let live = Live::new(socket, retention, clock.worker_clock(), stamps);
        self.ledger.add(&pins, identity, statistics, live.taken())?;
        let is_over = Cell::new(false);
        self.sockets.push(SocketParts {
            map,
            interface,
            queue,
            socket: RefCell::new(Some(descriptor)),
            parting: live.parting(),
            granted,
            is_over,
            stamps_are_known: Cell::new(false),
            too_long_is_known: Cell::new(false),
        });
        Ok(live)
    }

    /// From now on the XDP programs' packets of the queues come to the sockets.
    pub(super) fn steer(&self) -> Result<(), PinError> {
        self.sockets.iter().try_for_each(|one| {
            one.socket.take().map_or(Ok(()), |socket| one.map.insert(one.queue, &socket))
        })
    }

    /// From now on they go to the kernel.
    pub(super) fn unsteer(&self) -> Result<(), PinError> {
        // All of them, also after one that failed.
        let results: Vec<_> = self.sockets.iter().map(|one| one.map.remove(one.queue)).collect();
        results.into_iter().collect()
    }

    /// Why nothing can arrive any more at queues of which this was not told yet. Where there is one
    /// that still receives, that is no end: `true` beside the reason means that none is left. Those
    /// of which it was told are closed: the card may have been given a queue for this capture alone,
    /// which is not taken away before.
    pub(super) fn failures(&self) -> Vec<(RunError, bool)> {
        let mut failures = Vec::new();
        for (index, one) in self.sockets.iter().enumerate() {
            let interface = || one.interface.clone();
            let failure = match self.ledger.socket_failure(index) {
                Some(source) => RunError::InterfaceGone { interface: interface(), source },
                None if !one.map.is_pinned() => RunError::Unloaded { interface: interface() },
                None => continue,
            };
            if one.is_over.replace(true) {
                self.close(index);
                continue;
            }
            let none_left = self.sockets.iter().all(|one| one.is_over.get());
            failures.push((failure, none_left));
        }
        failures
    }

    /// Has the worker let go of a socket, and closes it here once it did.
    fn close(&self, index: usize) {
        let Some(one) = self.sockets.get(index) else { return };
        one.parting.ask();
        if one.parting.take().is_some() {
            self.ledger.close(index);
        }
    }

    /// What each interface's XDP program takes, as far as that may be looked at.
    pub(super) fn steered(&self) -> &[(String, GroupMap)] {
        &self.steered
    }

    /// Groups of `feed` that no interface's XDP program takes, as a warning each.
    pub(super) fn unsteered(feed: &FeedConfig, steered: &[(String, GroupMap)]) -> Vec<String> {
        let Some((first, _)) = steered.first() else { return Vec::new() };
        let takes = |group| steered.iter().any(|(_, map)| map.contains(group).unwrap_or(true));
        let names: Vec<&str> = steered.iter().map(|(interface, _)| interface.as_str()).collect();
        let warning = |group| {
            let on = names.join(" or ");
            format!(
                "{group} does not reach the capture on {on} yet: wiretape-xdp group add \
                 --interface {first} {group}"
            )
        };
        feed.groups().filter(|group| !takes(*group)).map(warning).collect()
    }

    /// Counts packets that come on queues which nobody serves, and warns where they go on coming.
    pub(super) fn look_at_others(&self, segment: &SegmentWriter<'_>) -> Vec<String> {
        let warning = |(interface, queue): (String, u32)| {
            format!(
                "packets of steered groups come on queue {queue} of {interface}, where no socket \
                 is, and go to the kernel: have that queue served too (also = \
                 [\"{interface}:{queue}\"], or another worker), or have the card use fewer \
                 (wiretape-xdp load --queues, --to-queue)"
            )
        };
        self.ledger.look_at_others(segment).into_iter().map(warning).collect()
    }

    /// What is wrong with packets and the NIC's times of queues of which that was not told yet.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (index, one) in self.sockets.iter().enumerate() {
            complaints.extend(self.too_long(index, one));
            if one.stamps_are_known.get() {
                continue;
            }
            let [stamped, unstamped, refused] = self.ledger.stamps(index);
            let complaint = nic_stamps::complaint(&one.interface, stamped, unstamped, refused);
            one.stamps_are_known.set(stamped > 0 || complaint.is_some());
            complaints.extend(complaint);
        }
        complaints
    }

    /// Whether packets are dropped that take several frames: the MTU was raised since the socket was
    /// bound, or the driver has no such packets.
    fn too_long(&self, index: usize, one: &SocketParts) -> Option<String> {
        if one.granted.multi_buffer || one.too_long_is_known.get() {
            return None;
        }
        let packets = self.ledger.too_long(index);
        one.too_long_is_known.set(packets > 0);
        (packets > 0).then(|| {
            let (interface, queue) = (&one.interface, one.queue);
            format!(
                "{packets} packets so far on {interface} queue {queue} are longer than a frame, and \
                 dropped: where the MTU was raised, restart this capture; where the driver has no \
                 packets of several frames, frame_size = 4096 or a lower MTU"
            )
        })
    }

    /// Busy polling that was asked for and refused.
    pub(super) fn refusals(&self) -> Vec<String> {
        let refusal = |one: &SocketParts| {
            let source = io::Error::from_raw_os_error(one.granted.busy_poll_refused?);
            let right = match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    ": it takes CAP_NET_ADMIN at the start, which the unit does not give by itself"
                }
                _ => "",
            };
            let (interface, queue) = (&one.interface, one.queue);
            Some(format!("no busy polling on {interface} queue {queue}: {source}{right}"))
        };
        self.sockets.iter().filter_map(refusal).collect()
    }

    /// What was granted, in words.
    pub(super) fn describe(&self, xdp: &XdpConfig, memberships: &[Membership]) -> String {
        let sockets: Vec<String> = self.sockets.iter().map(SocketParts::describe).collect();
        let groups = match memberships.iter().map(|one| one.groups().len()).sum() {
            0 => String::new(),
            1 => ", 1 group joined".to_owned(),
            groups => format!(", {groups} groups joined"),
        };
        let kept = match (xdp.retain_frames, self.sockets.len()) {
            (0, _) => String::new(),
            (kept, 1) => format!(", {kept} frames kept for recorders"),
            (kept, _) => format!(", {kept} frames of each queue kept for recorders"),
        };
        let stamps = match xdp.receive_stamps {
            ReceiveStamps::Host => "",
            ReceiveStamps::Nic => ", the NIC's receive times",
        };
        format!("xdp {}{stamps}{groups}{kept}", sockets.join(" and "))
    }
}

impl SocketParts {
    fn describe(&self) -> String {
        let copy = if self.granted.zero_copy { "zero-copy" } else { "copy mode" };
        let parts = if self.granted.multi_buffer { ", packets of several frames" } else { "" };
        let pages = if self.granted.huge_pages { ", huge pages" } else { "" };
        let busy = if self.granted.busy_poll { ", busy polling" } else { "" };
        format!("{} queue {}, {copy}{pages}{parts}{busy}", self.interface, self.queue)
    }
}

impl Drop for LiveParts {
    fn drop(&mut self) {
        // Also after a panic: packets go to the kernel rather than into a ring nobody reads.
        let _ = self.unsteer();
    }
}
