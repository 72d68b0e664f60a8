//! Multicast membership. AF_XDP joins no groups: an ordinary socket that is kept open does, so
//! that the switch keeps sending. It is bound to no port and never receives.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

/// Why a group could not be joined.
#[derive(Debug, thiserror::Error)]
#[error("cannot join {group} on {interface}: {source}; join = false leaves it to someone else")]
pub struct JoinError {
    group: Ipv4Addr,
    interface: String,
    source: io::Error,
}

/// Memberships that last until this is dropped.
#[derive(Debug)]
pub struct Membership {
    _socket: UdpSocket,
    groups: usize,
}

impl Membership {
    /// Joins those of `groups` that are multicast on `interface`, each once.
    pub fn join(
        interface: &str,
        groups: impl IntoIterator<Item = Ipv4Addr>,
    ) -> Result<Membership, JoinError> {
        let mut groups: Vec<Ipv4Addr> = groups.into_iter().filter(Ipv4Addr::is_multicast).collect();
        groups.sort_unstable();
        groups.dedup();
        let fail =
            |group| move |source| JoinError { group, interface: interface.to_owned(), source };
        let first = groups.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let index = interface_index(interface).map_err(fail(first))?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(fail(first))?;
        for &group in &groups {
            join_one(&socket, group, index).map_err(fail(group))?;
        }
        Ok(Membership { _socket: socket, groups: groups.len() })
    }

    /// Number of groups joined.
    pub fn groups(&self) -> usize {
        self.groups
    }
}

fn interface_index(interface: &str) -> io::Result<i32> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: the name is NUL-terminated.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index as i32),
    }
}

fn join_one(socket: &UdpSocket, group: Ipv4Addr, index: i32) -> io::Result<()> {
    let address = |ip: Ipv4Addr| libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
    let request = libc::ip_mreqn {
        imr_multiaddr: address(group),
        imr_address: address(Ipv4Addr::UNSPECIFIED),
        imr_ifindex: index,
    };
    let len = size_of_val(&request) as libc::socklen_t;
    let (fd, value) = (socket.as_raw_fd(), (&raw const request).cast());
    // SAFETY: the value is a valid ip_mreqn of the length given; the kernel copies it.
    match unsafe { libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, value, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_joined_once_each_and_unicast_is_left_out() {
        let groups = ["233.54.12.111", "233.54.12.111", "10.0.0.1", "224.2.3.10"];
        let joined = Membership::join("lo", groups.map(|g| g.parse().unwrap()));
        assert_eq!(joined.unwrap().groups(), 2);
    }

    #[test]
    fn a_missing_interface_is_named() {
        let error = Membership::join("no-such-if0", ["224.2.3.10".parse().unwrap()]).unwrap_err();
        assert!(error.to_string().contains("224.2.3.10 on no-such-if0"), "{error}");
    }
}
