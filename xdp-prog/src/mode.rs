//! How an XDP program is attached: asked for, granted, refused.

use std::fmt;

use rustix::io::Errno;
use serde::Serialize;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the driver, before the kernel builds a socket buffer.
    Native,
    /// In the kernel, behind the driver, with a copy: works everywhere, several times slower.
    Generic,
    /// On the NIC. Never asked for here, but another program may be.
    Offload,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Native => "native",
            Mode::Generic => "generic",
            Mode::Offload => "offload",
        })
    }
}

/// Which mode to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModeChoice {
    /// Native or nothing: nobody should lose microseconds without having been told.
    #[default]
    Native,
    /// Generic or nothing.
    Generic,
    /// Native, and generic where the driver refuses it.
    Auto,
}

/// What a refused attachment means, and what to do about it.
///
/// The kernel gives its own words to netlink only, not to links, so the error number has to do.
pub(crate) fn refusal(mode: Mode, interface: &str, errno: Option<i32>) -> String {
    let Some(errno) = errno.map(Errno::from_raw_os_error) else {
        return "the kernel refused it".to_string();
    };
    match (mode, errno) {
        (_, Errno::PERM | Errno::ACCESS) => {
            "it needs the capabilities CAP_BPF and CAP_NET_ADMIN; run as root".to_string()
        }
        (_, Errno::BUSY | Errno::EXIST) => format!(
            "another XDP program is attached; remove it first, for example with \
             `ip link set dev {interface} xdp off`"
        ),
        (Mode::Native, Errno::NOSPC) => format!(
            "the interface has fewer receive queues than its driver needs; a veth needs as many \
             as its peer has transmit queues: `ethtool -L {interface} rx N` here or \
             `ethtool -L PEER tx N` there makes them equal, or use --mode generic"
        ),
        (Mode::Native, Errno::OPNOTSUPP) => {
            "its driver has no native XDP; use --mode generic".to_string()
        }
        (Mode::Native, Errno::RANGE | Errno::INVAL | Errno::TOOBIG) => {
            "its driver refused, most often for an MTU that is too large for XDP: lower the MTU \
             (of both ends of a veth), load without --no-frags, or use --mode generic"
                .to_string()
        }
        (Mode::Native, _) => "its driver refused; --mode generic works everywhere".to_string(),
        _ => "the kernel refused it".to_string(),
    }
}

/// Whether the driver, rather than rights or another program, stands in the way of native mode.
pub(crate) fn driver_refused(errno: Option<i32>) -> bool {
    let in_the_way = [Errno::PERM, Errno::ACCESS, Errno::BUSY, Errno::EXIST, Errno::NODEV];
    errno.is_some_and(|errno| !in_the_way.contains(&Errno::from_raw_os_error(errno)))
}
