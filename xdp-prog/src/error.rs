//! What can go wrong, each with what was attempted, on what, why, and what to do.

use std::io;
use std::path::PathBuf;

use crate::mode::Mode;

/// A BPF map that could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the map {map}: {source}{}", map_hint(source))]
pub struct MapError {
    /// What was attempted.
    pub action: &'static str,
    /// Which map.
    pub map: &'static str,
    /// What the kernel said.
    pub source: libbpf_rs::Error,
}

fn map_hint(source: &libbpf_rs::Error) -> &'static str {
    match source.kind() {
        libbpf_rs::ErrorKind::PermissionDenied => {
            "; be root, or a member of the group that `load` was given by --pin-group"
        }
        libbpf_rs::ErrorKind::TooBig => "; it holds 4096 entries, one a group and one an address",
        _ => "",
    }
}

/// What `ip link` calls a mode; `xdp` alone would not reach the others.
fn ip_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Native => "xdp",
        Mode::Generic => "xdpgeneric",
        Mode::Offload => "xdpoffload",
    }
}

fn card_hint(action: &str) -> &'static str {
    if action.starts_with("steer") {
        "; a card without such rules spreads groups over its queues: leave --to-queue out and let a \
         worker serve all of them (also = [...]), or set one queue (--queues 1)"
    } else {
        ""
    }
}

/// Why an operation on an interface's steering failed. Nothing half done is left behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such interface in this network namespace.
    #[error("no interface {interface} in this network namespace; `ip link` lists those there are")]
    NoInterface {
        /// The name asked for.
        interface: String,
    },
    /// The program is there already, by our own pins.
    #[error(
        "{interface} already steers (pins in {}); \
         use `wiretape-xdp replace` to renew the program, or `unload` first", pins.display()
    )]
    AlreadyLoaded {
        /// The interface.
        interface: String,
        /// Its pins.
        pins: PathBuf,
    },
    /// The pins are another interface's, of the same name in another network namespace.
    #[error(
        "the pins in {} belong to an interface of the same name in another network namespace; \
         give this one a --pin-dir of its own", pins.display()
    )]
    Elsewhere {
        /// Those pins.
        pins: PathBuf,
    },
    /// The pins are those of an interface that has another name now.
    #[error(
        "the pins in {} belong to the interface that is called {now} now; `wiretape-xdp unload \
         --interface {interface}` detaches it and removes them", pins.display()
    )]
    Renamed {
        /// The name that it had.
        interface: String,
        /// Its pins.
        pins: PathBuf,
        /// The name that it has.
        now: String,
    },
    /// Somebody else's XDP program is attached.
    #[error(
        "{interface} already runs another XDP program (id {program_id}, {mode} mode); remove it \
         first: `ip link set dev {interface} {} off`, or, where a BPF link holds it, end who holds \
         that (bpftool link)", ip_word(*mode)
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// The other program.
        program_id: u32,
        /// How it is attached.
        mode: Mode,
    },
    /// Nothing is loaded there.
    #[error(
        "{interface} does not steer: no pins in {}{}; `wiretape-xdp load` starts it",
        pins.display(),
        if *hidden { " (nor a bpf file system there: `ip netns exec` hides it, nsenter --net does \
                     not; a load may have used another --pin-dir)" } else { "" }
    )]
    NotLoaded {
        /// The interface.
        interface: String,
        /// Where its pins would be.
        pins: PathBuf,
        /// Whether there is no bpf file system to hold them.
        hidden: bool,
    },
    /// The interface went away after the load; the pins are what remains.
    #[error(
        "the interface that the pins in {} belonged to is gone; \
         `wiretape-xdp unload` removes them, `load` replaces them", pins.display()
    )]
    Gone {
        /// Those pins.
        pins: PathBuf,
    },
    /// The kernel or the driver refused the attachment.
    #[error("cannot attach to {interface} in {mode} mode: {reason} ({source})")]
    Attach {
        /// The interface.
        interface: String,
        /// The mode asked for.
        mode: Mode,
        /// What that means and what to do.
        reason: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The driver tells programs no receive times.
    #[error(
        "the driver of {interface} tells XDP programs no receive times of packets; load without \
         --receive-stamps, and packets carry the time at which capture takes them"
    )]
    NoStamps {
        /// The interface.
        interface: String,
    },
    /// Receive times were wanted in a mode that has none.
    #[error(
        "receive times come from the driver, and in generic mode the program runs behind it; use \
         --mode native, or load without --receive-stamps"
    )]
    StampsBehindDriver,
    /// The verifier or the kernel refused the program or a map.
    #[error("cannot load the XDP program: {reason}: {source}")]
    Program {
        /// What that means and what to do.
        reason: &'static str,
        /// What libbpf said.
        source: libbpf_rs::Error,
    },
    /// The kernel refused a bpf(2) call.
    #[error("cannot {action}: {source}{hint}")]
    Bpf {
        /// What was attempted.
        action: String,
        /// The kernel's error.
        source: io::Error,
        /// What to do, with its leading punctuation; may be empty.
        hint: &'static str,
    },
    /// A map could not be read or changed.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A pinned map is not of this version's layout.
    #[error(
        "the map {map} is not of this version's layout; \
         `unload` and `load` again with this version of wiretape-xdp"
    )]
    Layout {
        /// Which map.
        map: &'static str,
    },
    /// The pin directory is not in a BPF file system.
    #[error(
        "{0} is not in a bpf file system, the only kind that can hold pins; \
         mount one: mkdir -p {0} && mount -t bpf bpf {0}", dir.display()
    )]
    NotBpffs {
        /// The pin directory.
        dir: PathBuf,
    },
    /// The bpf file system takes no name with a dot.
    #[error("cannot make {}: a bpf file system takes no name with a dot in it", dir.display())]
    Dot {
        /// The pin directory.
        dir: PathBuf,
    },
    /// There is no BPF file system, and one mounted here would vanish.
    #[error(
        "there is no bpf file system at {}, and one mounted now would vanish with this command, \
         which runs in a mount namespace of its own (`ip netns exec` makes one, with a private \
         /sys). Before entering, mount one elsewhere (mkdir -p /run/wiretape/bpf && mount -t bpf \
         bpf /run/wiretape/bpf) and give --pin-dir /run/wiretape/bpf/wiretape; \
         or enter by nsenter --net=/run/netns/NAME", root.display()
    )]
    PrivateMounts {
        /// Where it would be mounted.
        root: PathBuf,
    },
    /// A bpf file system could not be mounted.
    #[error("cannot mount a bpf file system at {}: {source}; run as root", root.display())]
    Mount {
        /// Where.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The card did not do what it was to.
    #[error("cannot {action} of {interface}: `{command}` says: {said}{}", card_hint(action))]
    Card {
        /// What was attempted.
        action: &'static str,
        /// At which card.
        interface: String,
        /// The command, to be tried by hand.
        command: String,
        /// What it said.
        said: String,
    },
    /// The card was changed in another network namespace, and only there can that be undone.
    #[error(
        "queues or rules of {interface} were changed, which can be undone in its own network \
         namespace only; enter it by nsenter --net=/run/netns/NAME and unload there"
    )]
    CardElsewhere {
        /// The interface.
        interface: String,
    },
    /// A pin could not be made, changed or removed.
    #[error("cannot {action} {}: {source}", path.display())]
    Pin {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No such user group.
    #[error("no user group {name}; `groupadd --system {name}` makes it")]
    NoUserGroup {
        /// The name asked for.
        name: String,
    },
    /// The user group cannot reach the pins.
    #[error(
        "the group {name} could not reach the pins: {} (mode {mode:04o}) is closed to it; \
         open the way with `chmod o+x {}`, or give a --pin-dir in another bpf file system",
        dir.display(), dir.display()
    )]
    Unreachable {
        /// The user group.
        name: String,
        /// The directory in the way.
        dir: PathBuf,
        /// Its mode bits.
        mode: u32,
    },
}
