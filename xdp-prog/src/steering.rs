//! An interface that steers, found by its pins: replace, unload, groups.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::bpffs;
use crate::card::Card;
use crate::error::Error;
use crate::group::{self, Group};
use crate::interface::Interface;
use crate::kernel::{self, LinkInfo};
use crate::load::pin;
use crate::mode::Mode;
use crate::pin::{Lock, Pins};
use crate::program::{self, Maps, SteerProgram, Variant};
use crate::stamps;

/// An interface's steering, which may or may not be there.
#[derive(Clone, Debug)]
pub struct Steering {
    interface: String,
    pin_dir: PathBuf,
    pins: Pins,
}

/// What the pins stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// No pins.
    Nothing,
    /// Pins of an interface that is gone, or of a load that never finished.
    Gone,
    /// Pins of an interface in another network namespace.
    Elsewhere,
    /// The interface runs the pinned link's program.
    Attached(Attachment),
}

/// How the program is attached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attachment {
    pub interface_index: u32,
    pub mode: Mode,
    pub program_id: u32,
    /// `None` where the link may not be opened.
    pub link_id: Option<u32>,
    /// `enum netdev_xdp_act`.
    pub features: u64,
}

/// Adds or removes a group; whether anything changed.
type GroupChange = fn(&libbpf_rs::MapHandle, Group) -> Result<bool, Error>;

/// What a replacement did.
#[derive(Clone, Copy, Debug)]
pub struct Replaced {
    /// The program before.
    pub old_program_id: u32,
    /// The program now.
    pub program_id: u32,
    /// The mode, which stays what it was.
    pub mode: Mode,
}

/// What an unload removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unloaded {
    /// A program that was attached.
    Attached,
    /// What an interface that is gone, or a load that was killed, left behind.
    Stale,
    /// A program attached in another network namespace.
    Elsewhere,
}

impl Steering {
    /// The steering of an interface under a pin directory.
    pub fn at(pin_dir: &Path, interface: &str) -> Self {
        let pins = Pins::of(pin_dir, interface);
        Self { interface: interface.to_string(), pin_dir: pin_dir.to_path_buf(), pins }
    }

    /// The interface's name.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The pins.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Puts this version's program in the place of the running one, between two packets. Maps stay,
    /// and with them groups, counters and sockets; and so does it whether the driver is asked for
    /// receive times, on which a capture relies that has opened the pins.
    pub fn replace(&self, multi_buffer: bool) -> Result<Replaced, Error> {
        let _lock = self.lock()?;
        let attachment = self.attached()?;
        let link = self.open_link()?;
        let maps = Maps::open(&self.pins)?;
        let stamps_of = stamps::announced(&self.pins).then_some(attachment.interface_index);
        let new = SteerProgram::load_on(Variant { multi_buffer, stamps_of }, Some(&maps))?;
        let bpf_error = |source| Error::Bpf {
            action: format!("replace the program of {}", self.interface),
            source,
            hint: "; the program before is still attached",
        };
        let program_id = kernel::program_info(new.program.as_fd()).map_err(bpf_error)?.id;

        let staged = self.pins.prog_new();
        let _ = fs::remove_file(&staged); // of a replacement that was killed
        pin(new.program.as_fd(), staged.clone())?;
        if let Err(source) = kernel::link_update(link.as_fd(), new.program.as_fd()) {
            let _ = fs::remove_file(&staged);
            return Err(bpf_error(source));
        }
        fs::rename(&staged, self.pins.prog()).map_err(|source| Error::Pin {
            action: "move into place",
            path: staged,
            source,
        })?;
        let Attachment { mode, program_id: old_program_id, .. } = attachment;
        Ok(Replaced { old_program_id, program_id, mode })
    }

    /// Detaches the program and removes the pins.
    pub fn unload(&self) -> Result<Unloaded, Error> {
        let lock = self.lock()?;
        let leftovers = self.pins.remove_leftovers()?;
        let unloaded = match self.find()? {
            Found::Nothing if leftovers => Unloaded::Stale,
            Found::Nothing => {
                lock.remove_if_empty();
                return Err(self.not_loaded());
            }
            Found::Gone => Unloaded::Stale,
            Found::Elsewhere if Card::open(&self.pins)?.is_some_and(|card| !card.is_here()) => {
                return Err(Error::CardElsewhere { interface: self.interface.clone() });
            }
            Found::Elsewhere => Unloaded::Elsewhere,
            Found::Attached(_) => Unloaded::Attached,
        };
        self.pins.remove()?;
        lock.remove_if_empty();
        Ok(unloaded)
    }

    /// The groups steered now, sorted.
    pub fn groups(&self) -> Result<Vec<Group>, Error> {
        self.check_pinned()?;
        Ok(group::list(&program::open_groups(&self.pins)?)?.into_iter().collect())
    }

    /// Steers more groups from now on; returns those that were new.
    ///
    /// With `to_queue` the card puts them into that queue, those that were steered before too.
    pub fn add_groups(&self, groups: &[Group], to_queue: Option<u32>) -> Result<Vec<Group>, Error> {
        let added = self.change_groups(groups, group::add, group::remove)?;
        let Some(queue) = to_queue else { return Ok(added) };
        if let Err(error) = self.rule(groups, queue) {
            self.remove_groups(&added)?;
            return Err(error);
        }
        Ok(added)
    }

    /// Has the card put groups into a queue.
    fn rule(&self, groups: &[Group], queue: u32) -> Result<(), Error> {
        let _lock = self.lock()?;
        let mut card = Card::open_or_create(&Interface::named(&self.interface)?, &self.pins)?;
        card.steer(groups, queue)
    }

    /// Leaves groups to the kernel from now on; returns those that were steered before.
    pub fn remove_groups(&self, groups: &[Group]) -> Result<Vec<Group>, Error> {
        let removed = self.change_groups(groups, group::remove, group::add)?;
        if let Some(card) = Card::open(&self.pins)? {
            groups.iter().try_for_each(|group| card.leave(*group))?;
        }
        Ok(removed)
    }

    /// Changes all of the groups or, by undoing what was done, none.
    fn change_groups(
        &self,
        groups: &[Group],
        change: GroupChange,
        undo: GroupChange,
    ) -> Result<Vec<Group>, Error> {
        let _lock = self.lock()?;
        // In the map of an interface that is gone a group would steer nothing.
        self.attached_anywhere()?;
        let map = program::open_groups(&self.pins)?;
        let mut changed = Vec::new();
        for group in groups {
            match change(&map, *group) {
                Ok(true) => changed.push(*group),
                Ok(false) => {}
                Err(error) => {
                    for done in changed {
                        undo(&map, done)?;
                    }
                    return Err(error);
                }
            }
        }
        Ok(changed)
    }

    /// What the pins stand for, seen from this thread's network namespace.
    pub(crate) fn find(&self) -> Result<Found, Error> {
        if !self.pins.dir().exists() {
            return Ok(Found::Nothing);
        }
        let link = match kernel::open_pin(&self.pins.link()) {
            Ok(link) => Some(self.link_info(&link)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Gone),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            Err(source) => return Err(self.cannot_open_link(source)),
        };
        if link.is_some_and(|link| link.interface_index == 0) {
            return Ok(Found::Gone);
        }
        let interface = match link {
            // By whatever name: another one makes it no other interface.
            Some(link) => Interface::of_index(link.interface_index),
            None => Interface::named(&self.interface).ok(),
        };
        let Some(interface) = interface else { return Ok(Found::Elsewhere) };
        let xdp = interface.xdp()?;
        // Who may not open the link takes the program that is attached for ours.
        let found = match link {
            Some(link) => xdp.mode_of(link.program_id).map(|mode| (link.program_id, mode)),
            None => xdp.attached().next(),
        };
        Ok(found.map_or(Found::Elsewhere, |(program_id, mode)| {
            Found::Attached(Attachment {
                interface_index: interface.index(),
                mode,
                program_id,
                link_id: link.map(|link| link.id),
                features: xdp.features,
            })
        }))
    }

    fn attached(&self) -> Result<Attachment, Error> {
        let elsewhere = || Error::Elsewhere { pins: self.pins.dir().to_path_buf() };
        self.attached_anywhere()?.ok_or_else(elsewhere)
    }

    /// `None` where the interface is in another network namespace.
    fn attached_anywhere(&self) -> Result<Option<Attachment>, Error> {
        match self.find()? {
            Found::Nothing => Err(self.not_loaded()),
            Found::Gone => Err(Error::Gone { pins: self.pins.dir().to_path_buf() }),
            Found::Elsewhere => Ok(None),
            Found::Attached(attachment) => Ok(Some(attachment)),
        }
    }

    fn check_pinned(&self) -> Result<(), Error> {
        if self.pins.dir().exists() { Ok(()) } else { Err(self.not_loaded()) }
    }

    fn lock(&self) -> Result<Lock, Error> {
        Lock::take(&self.pin_dir)?.ok_or_else(|| self.not_loaded())
    }

    fn open_link(&self) -> Result<OwnedFd, Error> {
        kernel::open_pin(&self.pins.link()).map_err(|source| self.cannot_open_link(source))
    }

    fn link_info(&self, link: &OwnedFd) -> Result<LinkInfo, Error> {
        kernel::link_info(link.as_fd()).map_err(|source| self.cannot_open_link(source))
    }

    fn cannot_open_link(&self, source: io::Error) -> Error {
        Error::Bpf {
            action: format!("open the link {}", self.pins.link().display()),
            hint: match source.kind() {
                io::ErrorKind::PermissionDenied => "; run as root",
                _ => "",
            },
            source,
        }
    }

    /// No pins; perhaps because the file system that holds them is not in sight.
    pub(crate) fn not_loaded(&self) -> Error {
        let interface = self.interface.clone();
        let hidden = !bpffs::holds(&self.pin_dir);
        Error::NotLoaded { interface, pins: self.pins.dir().to_path_buf(), hidden }
    }
}
