//! What the network card itself does before the program sees a packet: how many receive queues it
//! has, and which group goes to which of them (ntuple rules). Set through `ethtool`; what was changed
//! is written down in maps pinned beside the program, and undone with the pins. Queues and the switch
//! of the filters are written down before they are changed. A rule is when the card has given its
//! number: a kill between the two leaves that rule behind.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};
use serde::Serialize;

use crate::error::{Error, MapError};
use crate::group::{Group, GroupKey};
use crate::interface::Interface;
use crate::pin::Pins;

/// Rules that can be remembered.
const RULES: u32 = 1024;
/// How long captures may take to see that the program is gone, and to give their queues back.
const CAPTURES_END: Duration = Duration::from_secs(2);
/// How often queues are tried to be put back meanwhile.
const TRY_EVERY: Duration = Duration::from_millis(50);
/// Bytes of [`Before`] in its map.
const BEFORE_BYTES: usize = 48;

/// What the card is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CardChoice {
    /// Receive queues; as they are if not given.
    pub queues: Option<u32>,
    /// Queue that the groups are to go to; as the card spreads them if not given.
    pub to_queue: Option<u32>,
}

impl CardChoice {
    fn is_nothing(&self) -> bool {
        *self == CardChoice::default()
    }
}

/// What was changed at a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CardStatus {
    /// Receive queues that it had before; `None` if they were left.
    pub queues_before: Option<u32>,
    /// Groups, and the queue that each goes to.
    pub rules: Vec<(Group, u32)>,
}

/// How `ethtool` counts a card's receive queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channels {
    /// Each receives and sends.
    Combined,
    /// Receiving ones by themselves.
    Rx,
}

impl Channels {
    const fn word(self) -> &'static str {
        match self {
            Channels::Combined => "combined",
            Channels::Rx => "rx",
        }
    }
}

/// How the card was before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Before {
    interface: String,
    index: u32,
    /// Inode of the network namespace.
    namespace: u64,
    /// Queues, if their number was changed.
    queues: Option<(Channels, u32)>,
    /// Whether ntuple filters were off.
    ntuple_off: bool,
}

impl Before {
    fn to_bytes(&self) -> [u8; BEFORE_BYTES] {
        let mut bytes = [0; BEFORE_BYTES];
        let name = self.interface.as_bytes();
        let name = name.get(..16).unwrap_or(name);
        bytes[..name.len()].copy_from_slice(name);
        bytes[16..20].copy_from_slice(&self.index.to_ne_bytes());
        bytes[24..32].copy_from_slice(&self.namespace.to_ne_bytes());
        if let Some((channels, count)) = self.queues {
            bytes[32..36].copy_from_slice(&count.to_ne_bytes());
            bytes[36] = if channels == Channels::Combined { 1 } else { 2 };
        }
        bytes[37] = u8::from(self.ntuple_off);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Before> {
        let bytes: &[u8; BEFORE_BYTES] = bytes.try_into().ok()?;
        let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| bytes[at + i]));
        let name = bytes[..16].split(|byte| *byte == 0).next().unwrap_or(&[]);
        Some(Before {
            interface: String::from_utf8(name.to_vec()).ok()?,
            index: word(16),
            namespace: u64::from_ne_bytes(bytes[24..32].try_into().ok()?),
            queues: match bytes[36] {
                1 => Some((Channels::Combined, word(32))),
                2 => Some((Channels::Rx, word(32))),
                _ => None,
            },
            ntuple_off: bytes[37] != 0,
        })
    }
}

/// A card of which something was changed.
#[derive(Debug)]
pub(crate) struct Card {
    before: Before,
    state: MapHandle,
    rules: MapHandle,
}

impl Card {
    /// Does what was chosen, and pins what undoes it at `pins`. On failure whoever removes those
    /// pins undoes what was done.
    pub fn set_up(
        interface: &Interface,
        pins: &Pins,
        choice: &CardChoice,
        groups: &[Group],
    ) -> Result<(), Error> {
        if choice.is_nothing() {
            return Ok(());
        }
        let mut card = Card::create(interface, pins)?;
        if let Some(queues) = choice.queues {
            card.set_queues(queues)?;
        }
        choice.to_queue.map_or(Ok(()), |queue| card.steer(groups, queue))
    }

    /// The card whose changes are written down at `pins`, if there are any.
    pub fn open(pins: &Pins) -> Result<Option<Card>, Error> {
        if !pins.card().exists() {
            return Ok(None);
        }
        let open = |path: &Path, map| {
            MapHandle::from_pinned_path(path).map_err(|source| MapError {
                action: "open",
                map,
                source,
            })
        };
        let state = open(&pins.card(), "card")?;
        let bytes = state.lookup(&0u32.to_ne_bytes(), MapFlags::ANY);
        let bytes = bytes.map_err(|source| MapError { action: "read", map: "card", source })?;
        let before = bytes.as_deref().and_then(Before::from_bytes);
        let before = before.ok_or(Error::Layout { map: "card" })?;
        Ok(Some(Card { before, state, rules: open(&pins.rules(), "rules")? }))
    }

    /// The same, or one of which nothing was changed yet.
    pub fn open_or_create(interface: &Interface, pins: &Pins) -> Result<Card, Error> {
        match Card::open(pins)? {
            Some(card) => Ok(card),
            None => Card::create(interface, pins),
        }
    }

    fn create(interface: &Interface, pins: &Pins) -> Result<Card, Error> {
        let create = |kind, name: &'static str, key, value, entries| {
            let options = libbpf_sys::bpf_map_create_opts {
                sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
                ..Default::default()
            };
            MapHandle::create(kind, Some(name), key, value, entries, &options)
                .map_err(|source| MapError { action: "make", map: name, source })
        };
        let state = create(MapType::Array, "card", 4, BEFORE_BYTES as u32, 1)?;
        let rules = create(MapType::Hash, "rules", 8, 8, RULES)?;
        let before = Before {
            interface: interface.name().to_owned(),
            index: interface.index(),
            namespace: network_namespace(),
            queues: None,
            ntuple_off: false,
        };
        let card = Card { before, state, rules };
        card.write_down()?;
        use std::os::fd::AsFd;
        crate::load::pin(card.rules.as_fd(), pins.rules())?;
        crate::load::pin(card.state.as_fd(), pins.card())?;
        Ok(card)
    }

    fn write_down(&self) -> Result<(), Error> {
        let update = self.state.update(&0u32.to_ne_bytes(), &self.before.to_bytes(), MapFlags::ANY);
        Ok(update.map_err(|source| MapError { action: "write", map: "card", source })?)
    }

    fn set_queues(&mut self, queues: u32) -> Result<(), Error> {
        let (channels, now) = self.channels()?;
        if now != queues {
            self.before.queues = Some((channels, now));
            self.write_down()?;
            self.set_channels("set the receive queues", channels, queues)?;
        }
        Ok(())
    }

    fn set_channels(
        &self,
        action: &'static str,
        channels: Channels,
        count: u32,
    ) -> Result<(), Error> {
        self.ethtool(action, &["-L", channels.word(), &count.to_string()]).map(drop)
    }

    /// How receive queues are counted, and how many there are.
    fn channels(&self) -> Result<(Channels, u32), Error> {
        let action = "ask for the receive queues";
        let said = self.ethtool(action, &["-l"])?;
        channels_of(&said)
            .ok_or_else(|| self.error(action, &["-l"], "no number of them".to_owned()))
    }

    /// Has the card put groups into a queue: all of them or, by putting the rules that were there
    /// before back, none.
    pub fn steer(&mut self, groups: &[Group], queue: u32) -> Result<(), Error> {
        let action = "steer groups to a queue";
        let (_, queues) = self.channels()?;
        if queue >= queues {
            let said = format!("{queues} queues, which are numbered from 0: there is no {queue}");
            return Err(self.error(action, &["-l"], said));
        }
        if !self.before.ntuple_off && !ntuple_is_on(&self.ethtool(action, &["-k"])?) {
            self.before.ntuple_off = true;
            self.write_down()?;
            self.ethtool(action, &["-K", "ntuple", "on"])?;
        }
        let mut before = Vec::with_capacity(groups.len());
        for group in groups {
            before.push((*group, self.rule_of(*group).map(|(_, queue)| queue)));
            let changed = self.leave(*group).and_then(|()| self.add_rule(action, *group, queue));
            if let Err(error) = changed {
                for (group, queue) in before.into_iter().rev() {
                    self.leave(group)?;
                    queue.map_or(Ok(()), |queue| self.add_rule(action, group, queue))?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn add_rule(&self, action: &'static str, group: Group, queue: u32) -> Result<(), Error> {
        let (address, port) = (group.address().to_string(), group.port().to_string());
        let queue_text = queue.to_string();
        let (matches, action_of) =
            (["dst-ip", &address, "dst-port", &port], ["action", &queue_text]);
        let rule = [&["-N", "flow-type", "udp4"][..], &matches, &action_of].concat();
        let said = self.ethtool(action, &rule)?;
        let number = rule_number(&said).ok_or_else(|| {
            self.error(action, &rule, format!("no number of the new rule: {}", said.trim()))
        })?;
        let mut value = [0; 8];
        value[..4].copy_from_slice(&number.to_ne_bytes());
        value[4..].copy_from_slice(&queue.to_ne_bytes());
        let kept = self.rules.update(&group.key().to_bytes(), &value, MapFlags::ANY);
        if let Err(source) = kept {
            self.delete_rule(number)?;
            return Err(MapError { action: "write", map: "rules", source }.into());
        }
        Ok(())
    }

    /// Number and queue of a group's rule, if it has one.
    fn rule_of(&self, group: Group) -> Option<(u32, u32)> {
        let value = self.rules.lookup(&group.key().to_bytes(), MapFlags::ANY).ok()??;
        number_and_queue(&value)
    }

    /// Takes the rule of a group away again, if there is one.
    pub fn leave(&self, group: Group) -> Result<(), Error> {
        let Some((number, _)) = self.rule_of(group) else { return Ok(()) };
        self.delete_rule(number)?;
        // It was there.
        let _ = self.rules.delete(&group.key().to_bytes());
        Ok(())
    }

    fn delete_rule(&self, number: u32) -> Result<(), Error> {
        let number = number.to_string();
        self.ethtool("take a steering rule away", &["-N", "delete", &number]).map(drop)
    }

    /// What was changed.
    pub fn status(&self) -> CardStatus {
        let mut rules: Vec<(Group, u32)> = self
            .rules
            .keys()
            .filter_map(|key| {
                let GroupKey { address, port, .. } = GroupKey::from_bytes(&key)?;
                let group = Group::new(address.into(), u16::from_be_bytes(port)).ok()?;
                Some((group, self.rule_of(group)?.1))
            })
            .collect();
        rules.sort();
        CardStatus { queues_before: self.before.queues.map(|(_, count)| count), rules }
    }

    /// Whether it is in this thread's network namespace, where alone it can be restored.
    pub fn is_here(&self) -> bool {
        network_namespace() == self.before.namespace
    }

    /// Makes the card what it was before, if it is still there. Goes on after a failure, and
    /// returns the first.
    pub fn restore(mut self) -> Result<(), Error> {
        let there = self.is_here().then(|| Interface::of_index(self.before.index)).flatten();
        let Some(interface) = there else { return Ok(()) };
        // It may have got another name since.
        self.before.interface = interface.name().to_owned();
        let mut result = Ok(());
        for (group, _) in self.status().rules {
            result = result.and(self.leave(group));
        }
        if self.before.ntuple_off {
            let off = self.ethtool("turn ntuple filters off again", &["-K", "ntuple", "off"]);
            result = result.and(off.map(drop));
        }
        if let Some((channels, count)) = self.before.queues {
            result = result.and(self.queues_back(channels, count));
        }
        result
    }

    /// The kernel takes no queue away that has a socket: a capture's, until it has ended.
    fn queues_back(&self, channels: Channels, count: u32) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            let set = self.set_channels("put the receive queues back", channels, count);
            if set.is_ok() || start.elapsed() >= CAPTURES_END {
                return set;
            }
            sleep(TRY_EVERY);
        }
    }

    /// Runs `ethtool`: an option, the interface, and the rest.
    fn ethtool(&self, action: &'static str, arguments: &[&str]) -> Result<String, Error> {
        let failed = |said| Err(self.error(action, arguments, said));
        match self.command(arguments).output() {
            Ok(output) if output.status.success() => {
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            }
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                failed(said.split_whitespace().collect::<Vec<_>>().join(" "))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                failed("there is no such program; install the package ethtool".to_owned())
            }
            Err(error) => failed(error.to_string()),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (option, rest) = arguments.split_at(arguments.len().min(1));
        let mut command = Command::new("ethtool");
        command.args(option).arg(&self.before.interface).args(rest);
        command
    }

    fn error(&self, action: &'static str, arguments: &[&str], said: String) -> Error {
        let command = self.command(arguments);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        Error::Card {
            action,
            interface: self.before.interface.clone(),
            command: words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" "),
            said,
        }
    }
}

/// Inode of this thread's network namespace; 0 if it is not to be had.
fn network_namespace() -> u64 {
    std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |namespace| namespace.ino())
}

fn number_and_queue(value: &[u8]) -> Option<(u32, u32)> {
    let (number, queue) = value.split_first_chunk::<4>()?;
    Some((u32::from_ne_bytes(*number), u32::from_ne_bytes(queue.try_into().ok()?)))
}

/// What `ethtool -l` says is set now, behind what could be.
fn channels_of(said: &str) -> Option<(Channels, u32)> {
    let (_, now) = said.split_once("Current hardware settings:")?;
    let of = |name: &str| {
        let line = now.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().parse::<u32>().ok().filter(|count| *count > 0)
    };
    let combined = of("Combined").map(|count| (Channels::Combined, count));
    combined.or_else(|| of("RX").map(|count| (Channels::Rx, count)))
}

/// Whether `ethtool -k` says that ntuple filters are on.
fn ntuple_is_on(said: &str) -> bool {
    let line = said.lines().find_map(|line| line.strip_prefix("ntuple-filters:"));
    line.is_some_and(|state| state.trim_start().starts_with("on"))
}

/// The number in "Added rule with ID 15".
fn rule_number(said: &str) -> Option<u32> {
    said.split_once("rule with ID")?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ethtool_says_is_understood() {
        let both = "Channel parameters for eth1:\nPre-set maximums:\nRX:\t\tn/a\nTX:\t\tn/a\n\
                    Other:\t\t1\nCombined:\t16\nCurrent hardware settings:\nRX:\t\tn/a\n\
                    TX:\t\tn/a\nOther:\t\t1\nCombined:\t8\n";
        assert_eq!(channels_of(both), Some((Channels::Combined, 8)));
        let apart = both.replace("RX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t8", "RX: 3");
        assert_eq!(channels_of(&apart), Some((Channels::Rx, 3)));
        assert_eq!(channels_of("netlink error: Operation not supported"), None);
        assert!(ntuple_is_on("rx-vlan-filter: on\nntuple-filters: on\n"));
        assert!(!ntuple_is_on("ntuple-filters: off [fixed]\nreceive-hashing: on"));
        assert_eq!(rule_number("Added rule with ID 1023\n"), Some(1023));
        assert_eq!(rule_number(""), None);
    }

    #[test]
    fn what_was_before_survives_its_map() {
        let before = Before {
            interface: "enp129s0f1np1".to_owned(),
            index: 7,
            namespace: 4_026_531_840,
            queues: Some((Channels::Rx, 12)),
            ntuple_off: true,
        };
        assert_eq!(Before::from_bytes(&before.to_bytes()), Some(before.clone()));
        let untouched = Before { queues: None, ntuple_off: false, ..before };
        assert_eq!(Before::from_bytes(&untouched.to_bytes()), Some(untouched));
        assert_eq!(Before::from_bytes(&[0; 7]), None);
    }
}
