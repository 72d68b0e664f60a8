//! What is loaded, how, and what it counted.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::card::{Card, CardStatus};
use crate::counters::{self, Counters, QUEUES, SLOTS};
use crate::error::Error;
use crate::group::{self, Group};
use crate::interface::Interface;
use crate::kernel;
use crate::mode::Mode;
use crate::pin;
use crate::program::{self, Maps};
use crate::stamps;
use crate::steering::{Attachment, Found, Steering};

/// Whether the pins' interface runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does.
    Attached,
    /// The interface is gone; the counters are its last.
    Gone,
    /// The interface is in another network namespace, so that its mode cannot be asked from here.
    Elsewhere,
}

/// The steering of one interface.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The interface's name.
    pub interface: String,
    /// Whether it runs the program.
    pub state: State,
    /// The name that it has now, where it was loaded under another.
    pub renamed: Option<String>,
    /// Its index in this network namespace.
    pub interface_index: Option<u32>,
    /// The mode that the kernel granted.
    pub mode: Option<Mode>,
    /// The program's id, as `bpftool prog` shows it.
    pub program_id: Option<u32>,
    /// Hash of the program's instructions, in hexadecimal: equal tags, equal programs.
    pub program_tag: Option<String>,
    /// The link's id, as `bpftool link` shows it.
    pub link_id: Option<u32>,
    /// The pins' directory.
    pub pins: PathBuf,
    /// What the driver offers, by the kernel's names; empty where it does not tell.
    pub driver_features: Vec<&'static str>,
    /// Whether the program asks the driver for the receive times of packets.
    pub receive_stamps: bool,
    /// Groups steered.
    pub groups: Vec<Group>,
    /// What was changed at the card; `None` if nothing was, or where it takes rights to know.
    pub card: Option<CardStatus>,
    /// Queues that saw a packet or have a socket, in order; the queues above last.
    pub queues: Vec<QueueStatus>,
    /// The sum over all queues.
    pub total: Counters,
    /// Whether every packet seen is in one class, and the driver was asked for the time of each that
    /// was redirected where the program does that; can be false for a moment while packets arrive.
    pub closes: bool,
}

/// One receive queue.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct QueueStatus {
    /// The queue's number; `None` for all queues that cannot have a socket together.
    pub queue: Option<u32>,
    /// Whether it has a socket; `None` where it takes rights to know.
    pub socket: Option<bool>,
    /// Its counters.
    #[serde(flatten)]
    pub counters: Counters,
}

/// The status of every interface that has pins under a pin directory.
pub fn all(pin_dir: &Path) -> Result<Vec<Status>, Error> {
    let interfaces = pin::interfaces(pin_dir);
    interfaces.iter().map(|interface| Steering::at(pin_dir, interface).status()).collect()
}

/// Interfaces under a pin directory of which a load is under way, or was killed.
pub fn unfinished(pin_dir: &Path) -> Vec<String> {
    pin::unfinished(pin_dir)
}

impl Steering {
    /// Asks the kernel what is attached, and reads the maps.
    pub fn status(&self) -> Result<Status, Error> {
        let (state, attachment) = match self.find()? {
            Found::Nothing => return Err(self.not_loaded()),
            Found::Gone => (State::Gone, None),
            Found::Elsewhere => (State::Elsewhere, None),
            Found::Attached(attachment) => (State::Attached, Some(attachment)),
        };
        let maps = Maps::open(self.pins())?;
        let queues = read_queues(&maps)?;
        let mut total = Counters::default();
        queues.iter().for_each(|queue| total += queue.counters);
        let program = kernel::open_pin(&self.pins().prog()).ok();
        let program = program.and_then(|program| kernel::program_info(program.as_fd()).ok());
        // A replacement that was killed leaves the pin a program behind the link.
        let program = program.filter(|pinned| {
            attachment.is_none_or(|attachment| attachment.program_id == pinned.id)
        });
        let receive_stamps = stamps::announced(self.pins());
        let of = |field: fn(&Attachment) -> u32| attachment.as_ref().map(field);
        Ok(Status {
            interface: self.interface().to_string(),
            state,
            renamed: attachment
                .and_then(|attachment| Interface::of_index(attachment.interface_index))
                .map(|interface| interface.name().to_string())
                .filter(|name| name != self.interface()),
            interface_index: of(|attachment| attachment.interface_index),
            mode: attachment.map(|attachment| attachment.mode),
            program_id: of(|attachment| attachment.program_id).or(program.map(|info| info.id)),
            program_tag: program
                .map(|info| u64::from_be_bytes(info.tag))
                .map(|tag| format!("{tag:016x}")),
            link_id: attachment.and_then(|attachment| attachment.link_id),
            pins: self.pins().dir().to_path_buf(),
            driver_features: attachment.map_or(Vec::new(), |found| features(found.features)),
            receive_stamps,
            groups: group::list(&maps.groups)?.into_iter().collect(),
            card: Card::open(self.pins()).ok().flatten().map(|card| card.status()),
            queues,
            total,
            closes: total.closes() && (!receive_stamps || total.stamps_close()),
        })
    }
}

fn read_queues(maps: &Maps) -> Result<Vec<QueueStatus>, Error> {
    let sockets = program::queues_with_socket(maps).ok();
    let mut queues = Vec::new();
    for slot in 0..SLOTS {
        let counters = counters::read(&maps.counters, slot)?;
        let queue = (slot < QUEUES).then_some(slot);
        let socket = match queue {
            Some(queue) => sockets.as_ref().map(|sockets| sockets.contains(&queue)),
            None => Some(false),
        };
        if counters.seen > 0 || queue.is_some() && socket == Some(true) {
            queues.push(QueueStatus { queue, socket, counters });
        }
    }
    Ok(queues)
}

/// Names of `enum netdev_xdp_act`, linux/netdev.h.
fn features(bits: u64) -> Vec<&'static str> {
    let names =
        ["basic", "redirect", "ndo-xmit", "xsk-zerocopy", "hw-offload", "rx-sg", "ndo-xmit-sg"];
    let named = names.into_iter().enumerate();
    named.filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, name)| name).collect()
}
