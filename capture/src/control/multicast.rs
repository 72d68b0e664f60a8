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
    socket: UdpSocket,
    interface: String,
    index: i32,
    groups: Vec<Ipv4Addr>,
}

impl Membership {
    /// Joins those of `groups` that are multicast on `interface`, each once.
    pub fn join(
        interface: &str,
        groups: impl IntoIterator<Item = Ipv4Addr>,
    ) -> Result<Membership, JoinError> {
        let groups: Vec<Ipv4Addr> = groups.into_iter().collect();
        let first = groups.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let fail = |source| JoinError { group: first, interface: interface.to_owned(), source };
        let index = interface_index(interface).map_err(fail)?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(fail)?;
        let interface = interface.to_owned();
        let mut membership = Membership { socket, interface, index, groups: Vec::new() };
        membership.add(&groups)?;
        Ok(membership)
    }

    /// Joins those of `groups` that are multicast, and were not joined yet.
    ///
    /// # Errors
    /// At the first that cannot be joined; those before it are.
    pub fn add(&mut self, groups: &[Ipv4Addr]) -> Result<(), JoinError> {
        for &group in groups {
            if group.is_multicast() && !self.groups.contains(&group) {
                self.change(libc::IP_ADD_MEMBERSHIP, group).map_err(|source| JoinError {
                    group,
                    interface: self.interface.clone(),
                    source,
                })?;
                self.groups.push(group);
            }
        }
        Ok(())
    }

    /// Leaves the groups that `is_wanted` says no of.
    pub fn retain(&mut self, is_wanted: impl Fn(&Ipv4Addr) -> bool) {
        let mut groups = std::mem::take(&mut self.groups);
        groups.retain(|group| {
            let stays = is_wanted(group);
            if !stays {
                // The kernel refuses where it is no member any more: the interface is gone.
                let _ = self.change(libc::IP_DROP_MEMBERSHIP, *group);
            }
            stays
        });
        self.groups = groups;
    }

    /// The groups joined.
    pub fn groups(&self) -> &[Ipv4Addr] {
        &self.groups
    }

    fn change(&self, option: libc::c_int, group: Ipv4Addr) -> io::Result<()> {
        let address = |ip: Ipv4Addr| libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
        let request = libc::ip_mreqn {
            imr_multiaddr: address(group),
            imr_address: address(Ipv4Addr::UNSPECIFIED),
            imr_ifindex: self.index,
        };
        let len = size_of_val(&request) as libc::socklen_t;
        let (fd, value) = (self.socket.as_raw_fd(), (&raw const request).cast());
        // SAFETY: the value is a valid ip_mreqn of the length given; the kernel copies it.
        match unsafe { libc::setsockopt(fd, libc::IPPROTO_IP, option, value, len) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the kernel's list for this process's namespace has the group.
    fn is_member(group: &str) -> bool {
        let group: Ipv4Addr = group.parse().unwrap();
        let listed = format!("{:08X}", u32::from_ne_bytes(group.octets()));
        std::fs::read_to_string("/proc/net/igmp").unwrap().contains(&listed)
    }

    #[test]
    fn groups_are_joined_once_each_and_unicast_is_left_out() {
        let groups = ["233.54.12.111", "233.54.12.111", "10.0.0.1", "224.2.3.10"];
        let joined = Membership::join("lo", groups.map(|g| g.parse().unwrap()));
        let mut joined = joined.unwrap();
        let expected: [Ipv4Addr; 2] = [[233, 54, 12, 111].into(), [224, 2, 3, 10].into()];
        assert_eq!(joined.groups(), expected);
        // Others come, and go.
        joined.add(&["224.2.3.10".parse().unwrap(), "224.2.3.11".parse().unwrap()]).unwrap();
        assert_eq!(joined.groups().len(), 3);
        assert!(is_member("224.2.3.11"));
        joined.retain(|group| group.octets()[3] != 11);
        assert_eq!(joined.groups(), expected);
        assert!(!is_member("224.2.3.11") && is_member("224.2.3.10"));
    }

    #[test]
    fn a_missing_interface_is_named() {
        let error = Membership::join("no-such-if0", ["224.2.3.10".parse().unwrap()]).unwrap_err();
        assert!(error.to_string().contains("224.2.3.10 on no-such-if0"), "{error}");
    }
}
