//! What the kernel tells by call only: of an interface over netlink, of time by adjtimex.

use super::ethtool;
use super::netlink::{Attributes, Netlink, find, find_u8, find_u32};
use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// How an XDP program is attached, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Native, generic, or on the NIC.
    pub mode: &'static str,
    /// Id of the program.
    pub program: u32,
}

/// What route netlink tells of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Kind of a virtual interface, such as `veth`.
    pub kind: Option<String>,
    /// The XDP program that is attached.
    pub xdp: Option<Attached>,
}

/// Queues ("channels") of one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Queues that receive and send.
    pub combined: u32,
    /// Queues that only receive.
    pub rx: u32,
}

/// Size of the receive ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Entries that it has.
    pub rx: u32,
    /// Entries that it could have.
    pub rx_max: u32,
}

/// How the NIC holds back interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coalescing {
    /// Microseconds for which it does.
    pub rx_usecs: Option<u32>,
    /// Whether it changes them by itself.
    pub adaptive_rx: Option<bool>,
}

/// One of an interface's features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Whether it is on.
    pub on: bool,
    /// Whether the driver lets nobody change it.
    pub fixed: bool,
}

/// How the system clock is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timekeeping {
    /// Whether someone keeps it.
    pub synchronized: bool,
    /// By how much it may be wrong.
    pub error_us_max: i64,
}

/// The calls.
pub trait Inquiry {
    /// Kind of an interface and its XDP program.
    fn link(&self, interface: &str) -> io::Result<Link>;
    /// The name of a BPF program by its id: of its function, as far as the kernel keeps it.
    fn program_name(&self, id: u32) -> io::Result<String>;
    /// `enum netdev_xdp_act`: what the driver can do for XDP.
    fn xdp_features(&self, interface: &str) -> io::Result<u64>;
    /// `enum netdev_xdp_rx_metadata`: what the driver tells XDP programs of a packet.
    fn xdp_metadata(&self, interface: &str) -> io::Result<u64>;
    /// `ethtool -l`
    fn channels(&self, interface: &str) -> io::Result<Channels>;
    /// `ethtool -g`
    fn ring(&self, interface: &str) -> io::Result<Ring>;
    /// `ethtool -c`
    fn coalescing(&self, interface: &str) -> io::Result<Coalescing>;
    /// `ethtool -k`, by the kernel's names.
    fn offloads(&self, interface: &str) -> io::Result<BTreeMap<String, Offload>>;
    /// How time is kept.
    fn timekeeping(&self) -> io::Result<Timekeeping>;
}

/// The kernel that runs this process.
#[derive(Debug)]
pub struct RunningKernel;

const RTM_GETLINK: u16 = 18;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
/// Length of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_A_DEV_XDP_RX_METADATA_FEATURES: u16 = 5;

// Of the kernel's uapi/linux/bpf.h.
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
/// `struct bpf_prog_info` up to its name, which is the last thing that is asked for.
const PROG_INFO_BYTES: usize = PROG_INFO_NAME + 16;
const PROG_INFO_NAME: usize = 64;

/// Part of `union bpf_attr`: by an id.
#[derive(Default)]
#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Part of `union bpf_attr`: what a descriptor is of.
#[repr(C)]
struct InfoByFd {
    fd: u32,
    bytes: u32,
    info: u64,
}

/// The bare system call; the number that it answers with.
fn bpf<T>(command: libc::c_int, question: &mut T) -> io::Result<libc::c_int> {
    let bytes = size_of::<T>();
    // SAFETY: `question` is as long as is said, and is what the command takes; pointers in it are to
    // memory that is alive and as long as it says.
    match unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(question), bytes) } {
        ..0 => Err(io::Error::last_os_error()),
        number => Ok(number as libc::c_int),
    }
}

/// The interface's index in this network namespace.
pub fn interface_index(interface: &str) -> io::Result<u32> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(rustix::net::netdevice::name_to_index(socket, interface)?)
}

/// Bits that the `netdev` family tells of an interface.
fn of_device(interface: &str, attribute: u16) -> io::Result<u64> {
    let mut request = Attributes::default();
    request.put(NETDEV_A_DEV_IFINDEX, &interface_index(interface)?.to_ne_bytes());
    let answer = Netlink::generic()?.call("netdev", NETDEV_CMD_DEV_GET, &request)?;
    let bits = find(&answer, attribute);
    let bits = bits.and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes);
    bits.ok_or_else(|| io::ErrorKind::Unsupported.into())
}

impl Inquiry for RunningKernel {
    fn link(&self, interface: &str) -> io::Result<Link> {
        let mut request = [0; IFINFOMSG];
        request[4..8].copy_from_slice(&interface_index(interface)?.to_ne_bytes());
        let answer = Netlink::route()?.ask(RTM_GETLINK, &request)?;
        let message = answer.get(IFINFOMSG..).unwrap_or_default();
        let kind = find(message, IFLA_LINKINFO)
            .and_then(|info| find(info, IFLA_INFO_KIND))
            .map(|kind| String::from_utf8_lossy(kind).trim_end_matches('\0').to_owned());
        let xdp = find(message, IFLA_XDP).and_then(|xdp| {
            let mode = match find_u8(xdp, IFLA_XDP_ATTACHED)? {
                0 => return None,
                1 => "native",
                2 => "generic",
                3 => "offloaded",
                _ => "several modes",
            };
            Some(Attached { mode, program: find_u32(xdp, IFLA_XDP_PROG_ID).unwrap_or(0) })
        });
        Ok(Link { kind, xdp })
    }

    fn program_name(&self, id: u32) -> io::Result<String> {
        let program = bpf(BPF_PROG_GET_FD_BY_ID, &mut ById { id, ..ById::default() })?;
        // SAFETY: a new descriptor, which nobody else owns.
        let program = unsafe { OwnedFd::from_raw_fd(program) };
        let mut info = [0u64; PROG_INFO_BYTES / 8];
        let mut question = InfoByFd {
            fd: program.as_raw_fd() as u32,
            bytes: PROG_INFO_BYTES as u32,
            info: info.as_mut_ptr() as u64,
        };
        bpf(BPF_OBJ_GET_INFO_BY_FD, &mut question)?;
        let info: Vec<u8> = info.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let name = info.get(PROG_INFO_NAME..).unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    fn xdp_features(&self, interface: &str) -> io::Result<u64> {
        of_device(interface, NETDEV_A_DEV_XDP_FEATURES)
    }

    fn xdp_metadata(&self, interface: &str) -> io::Result<u64> {
        of_device(interface, NETDEV_A_DEV_XDP_RX_METADATA_FEATURES)
    }

    fn channels(&self, interface: &str) -> io::Result<Channels> {
        let answer = ethtool::get(interface, ethtool::CHANNELS_GET)?;
        let count = |kind| find_u32(&answer, kind).unwrap_or(0);
        Ok(Channels {
            combined: count(ethtool::CHANNELS_COMBINED_COUNT),
            rx: count(ethtool::CHANNELS_RX_COUNT),
        })
    }

    fn ring(&self, interface: &str) -> io::Result<Ring> {
        let answer = ethtool::get(interface, ethtool::RINGS_GET)?;
        let count = |kind| find_u32(&answer, kind).unwrap_or(0);
        Ok(Ring { rx: count(ethtool::RINGS_RX), rx_max: count(ethtool::RINGS_RX_MAX) })
    }

    fn coalescing(&self, interface: &str) -> io::Result<Coalescing> {
        let answer = ethtool::get(interface, ethtool::COALESCE_GET)?;
        Ok(Coalescing {
            rx_usecs: find_u32(&answer, ethtool::COALESCE_RX_USECS),
            adaptive_rx: find_u8(&answer, ethtool::COALESCE_USE_ADAPTIVE_RX).map(|on| on != 0),
        })
    }

    fn offloads(&self, interface: &str) -> io::Result<BTreeMap<String, Offload>> {
        ethtool::offloads(&ethtool::get(interface, ethtool::FEATURES_GET)?)
    }

    fn timekeeping(&self) -> io::Result<Timekeeping> {
        let mut timex = MaybeUninit::<libc::timex>::zeroed();
        // SAFETY: the pointer is to memory of that type that is writable for the call. Its modes are
        // zero, so that the kernel changes nothing and only fills it in.
        let state = unsafe { libc::adjtimex(timex.as_mut_ptr()) };
        if state < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: every field is an integer, for which zeroes are a value.
        let timex = unsafe { timex.assume_init() };
        let synchronized = state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0;
        // The type differs between architectures.
        #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
        let error_us_max = timex.maxerror as i64;
        Ok(Timekeeping { synchronized, error_us_max })
    }
}
