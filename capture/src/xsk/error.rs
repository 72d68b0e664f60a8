//! Why an AF_XDP socket cannot be had, and what to do about it.

use std::io;

use super::socket::BindMode;

/// Why a socket could not be opened: what was attempted, on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such interface.
    #[error("there is no interface '{interface}' here (there are: {})", there_are.join(", "))]
    NoInterface {
        /// The name asked for.
        interface: String,
        /// The names that exist.
        there_are: Vec<String>,
    },
    /// It cannot be looked for.
    #[error("cannot look for interface '{interface}': {source}")]
    Interface {
        /// The name asked for.
        interface: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The socket itself was refused.
    #[error("cannot create an AF_XDP socket: {source}{}", hint(source, Step::Socket))]
    Socket {
        /// The kernel's answer.
        source: io::Error,
    },
    /// A setting before bind was refused.
    #[error("cannot set up {what} of an AF_XDP socket: {source}{}", hint(source, Step::Setup))]
    Setup {
        /// What was being set.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The queue was refused.
    #[error(
        "cannot bind an AF_XDP socket to queue {queue} of {interface} (mode {mode}): \
         {source}{}",
        hint(source, Step::Bind)
    )]
    Bind {
        /// The interface.
        interface: String,
        /// The receive queue.
        queue: u32,
        /// The mode asked for.
        mode: BindMode,
        /// The kernel's answer.
        source: io::Error,
    },
}

#[derive(Clone, Copy)]
enum Step {
    Socket,
    Setup,
    Bind,
}

/// What to do about a refusal.
fn hint(source: &io::Error, step: Step) -> &'static str {
    match (step, source.raw_os_error()) {
        (_, Some(libc::EPERM | libc::EACCES)) => "; CAP_NET_RAW is needed, or run as root",
        (Step::Socket, Some(libc::EAFNOSUPPORT)) => "; this kernel was built without XDP sockets",
        (Step::Setup, Some(libc::ENOBUFS | libc::ENOMEM)) => {
            "; the locked-memory limit is too low for the packet memory: raise it (ulimit -l), \
             grant CAP_IPC_LOCK, or use fewer frames"
        }
        (Step::Setup, Some(libc::EFAULT)) => {
            "; the kernel keeps no packet memory in files on a disk: frames for recorders need a \
             segment_dir on a memory file system, such as /dev/shm"
        }
        (Step::Bind, Some(libc::EBUSY)) => {
            "; another AF_XDP socket holds this queue: stop it, or choose another queue"
        }
        (Step::Bind, Some(libc::EINVAL)) => {
            "; the queue may not exist: see the RX count of `ethtool -l`"
        }
        (Step::Bind, Some(libc::EOPNOTSUPP)) => {
            "; this driver does not grant the mode: choose mode = \"auto\""
        }
        (Step::Bind, Some(libc::ENETDOWN)) => "; bring the interface up: ip link set DEV up",
        _ => "",
    }
}
