//! What a live capture holds besides its socket: pins, multicast membership, ledger.

use crate::clock::ClockKeeper;
use crate::config::{FeedConfig, XdpConfig};
use crate::control::ledger::LedgerFeeder;
use crate::control::multicast::Membership;
use crate::frames_file::FramesFile;
use crate::pins::{PinError, XskMap};
use crate::source::live::Live;
use crate::xsk::{Granted, HugePages, Memory, Retention, Umem, XskOptions, XskSocket};

use super::RunError;

/// The parts of a live capture that the control thread keeps.
#[derive(Debug)]
pub(super) struct LiveParts {
    map: XskMap,
    interface: String,
    queue: u32,
    /// The socket, to put it into the map: the worker owns the other descriptor.
    socket: std::os::fd::OwnedFd,
    granted: Granted,
    membership: Option<Membership>,
    pub(super) ledger: LedgerFeeder,
}

impl LiveParts {
    /// Opens everything, in the order in which mistakes are likely. Packets do not arrive before
    /// [`steer`](LiveParts::steer).
    pub(super) fn open<'m>(
        xdp: &XdpConfig,
        feeds: &[FeedConfig],
        clock: &ClockKeeper,
        shared: Option<&'m FramesFile>,
    ) -> Result<(Live<'m>, LiveParts), RunError> {
        let options = XskOptions {
            interface: xdp.interface.clone(),
            queue: xdp.queue,
            mode: xdp.mode,
            busy_poll: xdp.busy_poll,
        };
        options.check_interface()?;
        let pins = xdp.pins();
        let map = XskMap::open(&pins.join("xsks"))?;
        if xdp.queue >= map.queues() {
            let (interface, queue, queues) = (xdp.interface.clone(), xdp.queue, map.queues());
            return Err(RunError::Queue { interface, queue, queues });
        }
        let memory = match shared {
            Some(file) => file.memory()?,
            None => {
                let huge = if xdp.huge_pages { HugePages::Try } else { HugePages::Off };
                Memory::memfd(xdp.frames as usize * xdp.frame_size as usize, huge)?
            }
        };
        let retention = match shared {
            Some(file) => Some(Retention::new(file.writer()?, xdp.frames, xdp.retain_frames)),
            None => None,
        };
        let umem = Umem::new(memory, xdp.frames, xdp.frame_size)?;
        let socket = XskSocket::open(&options, umem)?;
        let watch = |source| RunError::Watch { source };
        let statistics = socket.statistics_handle().map_err(watch)?;
        let ledger = LedgerFeeder::new(&pins, xdp.queue, statistics)?;
        let groups = feeds.iter().flat_map(FeedConfig::groups).map(|group| *group.ip());
        let membership = match xdp.join {
            true => Some(Membership::join(&xdp.interface, groups)?),
            false => None,
        };
        let parts = LiveParts {
            map,
            interface: xdp.interface.clone(),
            queue: xdp.queue,
            socket: std::os::fd::AsFd::as_fd(&socket).try_clone_to_owned().map_err(watch)?,
            granted: socket.granted(),
            membership,
            ledger,
        };
        Ok((Live::new(socket, retention, clock.worker_clock()), parts))
    }

    /// From now on the XDP program's packets of the queue come to the socket.
    pub(super) fn steer(&self) -> Result<(), PinError> {
        self.map.insert(self.queue, &self.socket)
    }

    /// From now on they go to the kernel.
    pub(super) fn unsteer(&self) -> Result<(), PinError> {
        self.map.remove(self.queue)
    }

    /// Why nothing can arrive any more, if so.
    pub(super) fn failure(&self) -> Option<RunError> {
        let interface = || self.interface.clone();
        if let Some(source) = self.ledger.socket_failure() {
            return Some(RunError::InterfaceGone { interface: interface(), source });
        }
        (!self.map.is_pinned()).then(|| RunError::Unloaded { interface: interface() })
    }

    /// What was granted, in words.
    pub(super) fn describe(&self, xdp: &XdpConfig) -> String {
        let copy = if self.granted.zero_copy { "zero-copy" } else { "copy mode" };
        let parts = if self.granted.multi_buffer { ", packets of several frames" } else { "" };
        let pages = if self.granted.huge_pages { ", huge pages" } else { "" };
        let busy = if self.granted.busy_poll { ", busy polling" } else { "" };
        let groups = match self.membership.as_ref().map_or(0, Membership::groups) {
            0 => String::new(),
            1 => ", 1 group joined".to_owned(),
            groups => format!(", {groups} groups joined"),
        };
        let kept = match xdp.retain_frames {
            0 => String::new(),
            kept => format!(", {kept} frames kept for recorders"),
        };
        let XdpConfig { interface, queue, .. } = xdp;
        format!("xdp {interface} queue {queue}, {copy}{pages}{parts}{busy}{groups}{kept}")
    }
}

impl Drop for LiveParts {
    fn drop(&mut self) {
        // Also after a panic: packets go to the kernel rather than into a ring nobody reads.
        let _ = self.unsteer();
    }
}
