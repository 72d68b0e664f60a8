//! Pins: names in a bpf file system that keep link, program and maps alive.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::card::Card;
use crate::error::Error;
use crate::kernel;
use crate::user_group::UserGroup;

/// The pins of one interface: a directory and the names in it. Nothing is implied of what exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    dir: PathBuf,
}

impl Pins {
    /// Pins of an interface under a pin directory.
    ///
    /// The bpf file system refuses names with a dot; an interface's name cannot contain a colon.
    pub fn of(pin_dir: &Path, interface: &str) -> Self {
        Self { dir: pin_dir.join(interface.replace('.', ":")) }
    }

    /// The interface's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The attachment.
    pub fn link(&self) -> PathBuf {
        self.dir.join("link")
    }

    /// The program.
    pub fn prog(&self) -> PathBuf {
        self.dir.join("prog")
    }

    /// The map from receive queue to AF_XDP socket.
    pub fn xsks(&self) -> PathBuf {
        self.dir.join("xsks")
    }

    /// The map of groups.
    pub fn groups(&self) -> PathBuf {
        self.dir.join("groups")
    }

    /// The map of counters.
    pub fn counters(&self) -> PathBuf {
        self.dir.join("counters")
    }

    /// The map that says that packets carry receive times, where they do.
    pub fn stamps(&self) -> PathBuf {
        self.dir.join("stamps")
    }

    /// The map of what the card was before, where something of it was changed.
    pub fn card(&self) -> PathBuf {
        self.dir.join("card")
    }

    /// The map of the card's rules: group to number and queue.
    pub fn rules(&self) -> PathBuf {
        self.dir.join("rules")
    }

    /// A new program on its way to [`Pins::prog`].
    pub(crate) fn prog_new(&self) -> PathBuf {
        self.dir.join("prog:new")
    }

    /// The directory in which a load puts everything together.
    fn staging(&self) -> Self {
        self.sibling(":new")
    }

    /// The directory that a load replaces.
    fn outgoing(&self) -> Self {
        self.sibling(":old")
    }

    fn sibling(&self, suffix: &str) -> Self {
        let mut dir = self.dir.clone().into_os_string();
        dir.push(suffix);
        Self { dir: dir.into() }
    }

    /// Removes what a load that was killed left behind; a link among it still holds the interface.
    /// `false` if there was nothing.
    pub(crate) fn remove_leftovers(&self) -> Result<bool, Error> {
        let leftovers = [self.staging(), self.outgoing()];
        let found = leftovers.iter().any(|pins| pins.dir.exists());
        leftovers.iter().try_for_each(Pins::remove)?;
        Ok(found)
    }

    /// Detaches the program, makes the card what it was before, and removes the directory with all
    /// that is in it, if it exists. What cannot be undone at the card is the error, after the rest
    /// was done.
    ///
    /// The link is detached by name: its last reference is dropped by the kernel at leisure, and
    /// not at all while another process holds the link.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let failed =
            |action, path: &Path, source| Error::Pin { action, path: path.to_path_buf(), source };
        let link = self.link();
        match kernel::open_pin(&link).and_then(|link| kernel::link_detach(link.as_fd())) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(failed("detach the link", &link, source));
            }
            _ => {}
        }
        let entries = match fs::read_dir(&self.dir) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|source| failed("list", &self.dir, source))?,
        };
        let remove =
            |path: &Path| fs::remove_file(path).map_err(|s| failed("remove the pin", path, s));
        let card = Card::open(self);
        // What undoes the card's changes is the last to go: a kill before that loses nothing. The
        // others first, by which captures see that it is over: they hold queues until they end.
        let mut last = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| failed("list", &self.dir, source))?.path();
            match path == self.card() || path == self.rules() {
                true => last.push(path),
                false => remove(&path)?,
            }
        }
        let restored = card.and_then(|card| card.map_or(Ok(()), Card::restore));
        last.iter().try_for_each(|path| remove(path))?;
        fs::remove_dir(&self.dir).map_err(|source| failed("remove", &self.dir, source))?;
        restored
    }

    /// Makes the card what a load that never finished found, and forgets it.
    pub(crate) fn restore_card(&self) -> Result<(), Error> {
        let Some(card) = Card::open(self)? else { return Ok(()) };
        for path in [self.card(), self.rules()] {
            fs::remove_file(&path).map_err(|source| Error::Pin {
                action: "remove the pin",
                path,
                source,
            })?;
        }
        card.restore()
    }
}

/// Interfaces that have pins under a pin directory, sorted.
pub fn interfaces(pin_dir: &Path) -> Vec<String> {
    let names = directories(pin_dir).into_iter();
    names.filter(|name| load_of(name).is_none()).map(|name| name.replace(':', ".")).collect()
}

/// Interfaces of which a load is under way, or was killed and left something, sorted.
pub fn unfinished(pin_dir: &Path) -> Vec<String> {
    let names = directories(pin_dir);
    let mut names: Vec<String> =
        names.iter().filter_map(|name| load_of(name)).map(|name| name.replace(':', ".")).collect();
    names.dedup();
    names
}

fn load_of(name: &str) -> Option<&str> {
    name.strip_suffix(":new").or_else(|| name.strip_suffix(":old"))
}

fn directories(pin_dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(pin_dir) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The right to change the pins under one pin directory, against other runs of this tool.
#[derive(Debug)]
pub(crate) struct Lock {
    pin_dir: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits for the pin directory; `Ok(None)` if it does not exist.
    pub fn take(pin_dir: &Path) -> Result<Option<Self>, Error> {
        let failed = |source| Error::Pin {
            action: "lock the pin directory",
            path: pin_dir.to_path_buf(),
            source,
        };
        loop {
            let file = match File::open(pin_dir) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed(error)),
            };
            flock(&file, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
            // Whoever had the lock before may have removed the directory, or made it anew.
            let locked = file.metadata().map_err(failed)?;
            let current = fs::metadata(pin_dir);
            if current.is_ok_and(|now| now.ino() == locked.ino() && now.dev() == locked.dev()) {
                return Ok(Some(Self { pin_dir: pin_dir.to_path_buf(), _file: file }));
            }
        }
    }

    /// Removes the pin directory if it is empty.
    pub fn remove_if_empty(&self) {
        // Not empty: other interfaces' pins are in it. It does no harm either way.
        let _ = fs::remove_dir(&self.pin_dir);
    }
}

/// Pins being put together aside, to appear all at once; dropped before [`Staged::publish`], every
/// trace of them goes.
#[derive(Debug)]
pub(crate) struct Staged {
    target: Pins,
    staging: Pins,
    /// Directories made on the way to the interface's, outermost first.
    made: Vec<PathBuf>,
    lock: Option<Lock>,
    published: bool,
}

impl Staged {
    /// Makes the directories and takes the lock.
    pub fn begin(pin_dir: &Path, interface: &str) -> Result<Self, Error> {
        let target = Pins::of(pin_dir, interface);
        let staging = target.staging();
        let mut staged = Self { target, staging, made: Vec::new(), lock: None, published: false };
        staged.make_dirs(pin_dir)?;
        staged.lock = Lock::take(pin_dir)?;
        staged.target.remove_leftovers()?;
        Ok(staged)
    }

    fn make_dirs(&mut self, pin_dir: &Path) -> Result<(), Error> {
        let missing: Vec<&Path> = pin_dir.ancestors().take_while(|dir| !dir.exists()).collect();
        for dir in missing.into_iter().rev() {
            match fs::create_dir(dir) {
                Ok(()) => self.made.push(dir.to_path_buf()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => {
                    return Err(Error::Pin { action: "make", path: dir.to_path_buf(), source });
                }
            }
        }
        Ok(())
    }

    /// The pins' directory to fill, with names as in the final one.
    pub fn open(&self) -> Result<&Pins, Error> {
        let dir = self.staging.dir();
        fs::create_dir(dir).map_err(|source| Error::Pin {
            action: "make",
            path: dir.to_path_buf(),
            source,
        })?;
        Ok(&self.staging)
    }

    /// Opens the maps' pins to a user group.
    pub fn admit(&self, group: &UserGroup) -> Result<(), Error> {
        let pin_dir = self.target.dir().parent().unwrap_or(Path::new("/"));
        for dir in &self.made {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(dir, mode).map_err(|source| Error::Pin {
                action: "open",
                path: dir.clone(),
                source,
            })?;
        }
        group.check_reach(pin_dir)?;
        group.admit(self.staging.dir(), 0o750)?;
        for map in [self.staging.xsks(), self.staging.groups(), self.staging.counters()] {
            group.admit(&map, 0o660)?;
        }
        if self.staging.stamps().exists() {
            group.admit(&self.staging.stamps(), 0o660)?;
        }
        Ok(())
    }

    /// Moves the pins to their final names, in place of `stale` ones if there are any.
    pub fn publish(mut self) -> Result<(), Error> {
        let outgoing = self.target.outgoing();
        let had_old = self.target.dir().exists();
        let rename = |from: &Pins, to: &Pins| {
            fs::rename(from.dir(), to.dir()).map_err(|source| Error::Pin {
                action: "move into place",
                path: from.dir().to_path_buf(),
                source,
            })
        };
        if had_old {
            rename(&self.target, &outgoing)?;
        }
        if let Err(error) = rename(&self.staging, &self.target) {
            if had_old {
                rename(&outgoing, &self.target)?;
            }
            return Err(error);
        }
        self.published = true;
        if had_old {
            // The load is done; what cannot be removed now, the next load reports.
            let _ = outgoing.remove();
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        // Undoing a failed load; the first error is the one to report.
        let _ = self.staging.remove();
        for dir in self.made.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
    }
}
