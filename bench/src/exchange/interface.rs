//! What there is to know about a network interface before sending on it.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType, netdevice, socket};

/// A network interface of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its Ethernet address; zero where it has none.
    pub mac: [u8; 6],
    /// Its first IPv4 address.
    pub address: Option<Ipv4Addr>,
    /// Most bytes of an IP packet.
    pub mtu: u32,
}

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use interface '{name}': {source}; `ip link` lists the interfaces there are")]
pub struct InterfaceError {
    name: String,
    source: io::Error,
}

impl Interface {
    /// Looks an interface up by name.
    pub fn find(name: &str) -> Result<Interface, InterfaceError> {
        let found = || -> io::Result<Interface> {
            let probe = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
            let index = netdevice::name_to_index(&probe, name)?;
            let mac = ask(&probe, name, libc::SIOCGIFHWADDR)?;
            let mac = [mac[2], mac[3], mac[4], mac[5], mac[6], mac[7]];
            let mtu = ask(&probe, name, libc::SIOCGIFMTU)?;
            let mtu = u32::from_ne_bytes([mtu[0], mtu[1], mtu[2], mtu[3]]);
            // An interface need not have an address.
            let address = ask(&probe, name, libc::SIOCGIFADDR).ok();
            let address = address.map(|a| Ipv4Addr::new(a[4], a[5], a[6], a[7]));
            Ok(Interface { name: name.to_string(), index, mac, address, mtu })
        };
        found().map_err(|source| InterfaceError { name: name.to_string(), source })
    }

    /// Packets sent and packets dropped on sending, as the kernel counts them.
    pub fn sent_and_dropped(&self) -> Option<(u64, u64)> {
        let table = std::fs::read_to_string("/proc/thread-self/net/dev").ok()?;
        sent_and_dropped(&table, &self.name)
    }
}

/// Transmitted and dropped packets of `/proc/net/dev` (proc(5)): the second and fourth of the
/// eight columns behind the eight of reception.
fn sent_and_dropped(table: &str, name: &str) -> Option<(u64, u64)> {
    let line = table.lines().find_map(|line| {
        let (device, columns) = line.split_once(':')?;
        (device.trim() == name).then_some(columns)
    })?;
    let columns: Vec<u64> = line.split_whitespace().filter_map(|c| c.parse().ok()).collect();
    Some((*columns.get(9)?, *columns.get(11)?))
}

/// The answer of an interface request (netdevice(7)): the 16 bytes behind the name.
fn ask(probe: &OwnedFd, name: &str, request: libc::Ioctl) -> io::Result<[u8; 16]> {
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        // The kernel's union has 24 bytes; the rest is room for it.
        answer: [u8; 16],
        room: [u8; 8],
    }
    const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());
    let mut asked = Request { name: [0; libc::IFNAMSIZ], answer: [0; 16], room: [0; 8] };
    let room = asked.name.len() - 1;
    if name.len() > room {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    asked.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: `asked` has the size of the ifreq that these requests read and write, it lives
    // through the call, and any bytes are valid in it.
    let rc = unsafe { libc::ioctl(probe.as_raw_fd(), request, &raw mut asked) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(asked.answer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_found_and_a_missing_interface_is_named() {
        let lo = Interface::find("lo").unwrap();
        assert!(lo.index > 0 && lo.mtu >= 576);
        assert_eq!(lo.mac, [0; 6]);
        assert!(lo.sent_and_dropped().is_some());
        for name in ["nosuch0", "a-name-that-is-far-too-long"] {
            let error = Interface::find(name).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn the_kernels_table_is_read_by_column() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop\n\
                     eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n    lo:0 0 0 0 0 0 0 0 0 7 0 1 0 0 0 0\n";
        assert_eq!(sent_and_dropped(table, "eth0"), Some((10, 12)));
        assert_eq!(sent_and_dropped(table, "lo"), Some((7, 1)));
        assert_eq!(sent_and_dropped(table, "eth1"), None);
    }
}
