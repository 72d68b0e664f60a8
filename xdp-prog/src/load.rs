//! Loading: from an untouched interface to a steering one, or back.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use crate::bpffs;
use crate::card::{Card, CardChoice};
use crate::error::Error;
use crate::group::Group;
use crate::interface::Interface;
use crate::kernel;
use crate::mode::{Mode, ModeChoice, driver_refused, refusal};
use crate::pin::{self, Pins, Staged};
use crate::program::{SteerProgram, Variant};
use crate::stamps;
use crate::steering::{Found, Steering};
use crate::user_group::UserGroup;

/// What to load, and where.
#[derive(Clone, Debug)]
pub struct Load {
    /// Interface of this network namespace.
    pub interface: String,
    /// Groups to steer from the start.
    pub groups: Vec<Group>,
    /// Mode to ask for.
    pub mode: ModeChoice,
    /// Where the pins go; see [`bpffs::DEFAULT_PIN_DIR`].
    pub pin_dir: PathBuf,
    /// User group, by name or number, that may use the maps without any capability.
    pub user_group: Option<String>,
    /// What the card is to do; undone with the pins.
    pub card: CardChoice,
    /// Whether frames of several buffers may come; needs kernel 5.18.
    pub multi_buffer: bool,
    /// Whether the program asks the driver for the receive times of packets; needs native mode and
    /// kernel 6.3.
    pub receive_stamps: bool,
}

/// What a load did.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The mode that the kernel granted.
    pub mode: Mode,
    /// The program's id, as `bpftool prog` shows it.
    pub program_id: u32,
    /// The pins.
    pub pins: Pins,
    /// Why native mode was not had, where the choice was left open.
    pub native_refused: Option<String>,
    /// Whether a bpf file system was mounted at its usual place.
    pub mounted: bool,
    /// Whether pins of an interface that is gone were replaced.
    pub replaced_stale: bool,
}

/// An interface that steers but is not pinned by name yet; dropped, it is as it was before.
#[derive(Debug)]
pub struct Pending {
    loaded: Loaded,
    // Closed before the pins are undone: with it goes one of the two holders of the attachment.
    _link: OwnedFd,
    staged: Staged,
}

impl Pending {
    /// What will have been done.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Gives the pins their names, all at once.
    pub fn publish(self) -> Result<Loaded, Error> {
        self.staged.publish()?;
        Ok(self.loaded)
    }
}

impl Load {
    /// Loads, attaches and pins; or fails, and leaves interface and pin directory as they were.
    pub fn run(&self) -> Result<Loaded, Error> {
        self.prepare()?.publish()
    }

    /// Everything but the last step, which cannot be undone: the pins' names.
    ///
    /// A failure on the way undoes, by drop, what was done before. Only a bpf file system that was
    /// mounted stays.
    pub fn prepare(&self) -> Result<Pending, Error> {
        let interface = Interface::named(&self.interface)?;
        let user_group = self.user_group.as_deref().map(UserGroup::find).transpose()?;
        if self.receive_stamps {
            stamps::check(&interface, self.mode)?;
        }
        let stamps_of = self.receive_stamps.then_some(interface.index());
        let variant = Variant { multi_buffer: self.multi_buffer, stamps_of };
        let steer = SteerProgram::load_on(variant, None)?;
        for group in &self.groups {
            steer.add_group(*group)?;
        }

        let mounted = bpffs::prepare(&self.pin_dir)?;
        let staged = Staged::begin(&self.pin_dir, interface.name())?;
        let replaced_stale = self.check_free(&interface)?;
        if replaced_stale {
            Pins::of(&self.pin_dir, interface.name()).restore_card()?;
        }
        let pins = staged.open()?;
        // Before the program: some drivers change no queues under one.
        Card::set_up(&interface, pins, &self.card, &self.groups)?;
        pin(steer.program.as_fd(), pins.prog())?;
        pin(steer.maps.xsks.as_fd(), pins.xsks())?;
        pin(steer.maps.groups.as_fd(), pins.groups())?;
        pin(steer.maps.counters.as_fd(), pins.counters())?;
        if self.receive_stamps {
            stamps::announce(pins)?;
        }
        if let Some(group) = &user_group {
            staged.admit(group)?;
        }

        let (link, native_refused) = self.attach(&steer, &interface)?;
        pin(link.as_fd(), pins.link())?;
        let (program_id, mode) = granted(&steer, &interface)?;
        let pins = Pins::of(&self.pin_dir, interface.name());
        let loaded = Loaded { mode, program_id, pins, native_refused, mounted, replaced_stale };
        Ok(Pending { loaded, _link: link, staged })
    }

    /// Whether there are stale pins to replace; fails if the interface or the pins are taken.
    fn check_free(&self, interface: &Interface) -> Result<bool, Error> {
        let name = interface.name().to_string();
        let steering = Steering::at(&self.pin_dir, interface.name());
        let pins = steering.pins().dir().to_path_buf();
        let stale = match steering.find()? {
            Found::Nothing => false,
            Found::Gone => true,
            Found::Attached(attachment) if attachment.interface_index != interface.index() => {
                let now = Interface::of_index(attachment.interface_index);
                let now = now.map_or(String::new(), |now| now.name().to_string());
                return Err(Error::Renamed { interface: name, pins, now });
            }
            Found::Attached(_) => return Err(Error::AlreadyLoaded { interface: name, pins }),
            Found::Elsewhere => return Err(Error::Elsewhere { pins }),
        };
        for earlier in pin::interfaces(&self.pin_dir) {
            let steering = Steering::at(&self.pin_dir, &earlier);
            if let Ok(Found::Attached(attachment)) = steering.find()
                && attachment.interface_index == interface.index()
            {
                let pins = steering.pins().dir().to_path_buf();
                return Err(Error::Renamed { interface: earlier, pins, now: name });
            }
        }
        match interface.xdp()?.attached().next() {
            Some((program_id, mode)) => Err(Error::Occupied { interface: name, program_id, mode }),
            None => Ok(stale),
        }
    }

    fn attach(
        &self,
        steer: &SteerProgram,
        interface: &Interface,
    ) -> Result<(OwnedFd, Option<String>), Error> {
        let attach = |mode| {
            kernel::link_create(steer.program.as_fd(), interface.index(), mode).map_err(|source| {
                let reason = refusal(mode, interface.name(), source.raw_os_error());
                let interface = interface.name().to_string();
                Error::Attach { interface, mode, reason, source }
            })
        };
        match self.mode {
            ModeChoice::Native => Ok((attach(Mode::Native)?, None)),
            ModeChoice::Generic => Ok((attach(Mode::Generic)?, None)),
            ModeChoice::Auto => match attach(Mode::Native) {
                Err(Error::Attach { reason, source, .. })
                    if driver_refused(source.raw_os_error()) && !self.receive_stamps =>
                {
                    Ok((attach(Mode::Generic)?, Some(format!("{reason} ({source})"))))
                }
                result => Ok((result?, None)),
            },
        }
    }
}

pub(crate) fn pin(fd: std::os::fd::BorrowedFd<'_>, path: PathBuf) -> Result<(), Error> {
    kernel::pin(fd, &path).map_err(|source| Error::Pin { action: "pin", path, source })
}

/// What the kernel says of the attachment, as opposed to what it was asked.
fn granted(steer: &SteerProgram, interface: &Interface) -> Result<(u32, Mode), Error> {
    let ask = |source| Error::Bpf {
        action: format!("ask in which mode {} runs the program", interface.name()),
        source,
        hint: "",
    };
    let id = kernel::program_info(steer.program.as_fd()).map_err(ask)?.id;
    match interface.xdp()?.mode_of(id) {
        Some(mode) => Ok((id, mode)),
        None => Err(ask(std::io::Error::other("it runs another program, attached meanwhile"))),
    }
}
