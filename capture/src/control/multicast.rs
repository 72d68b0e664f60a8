//! Multicast membership. AF_XDP joins no groups: ordinary sockets that are kept open do, so that
//! the switch keeps sending. They are bound to no port and never receive.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

/// Where the kernel says how many groups one socket may join,
const LIMIT: &str = "/proc/sys/net/ipv4/igmp_max_memberships";
/// and how many those are where nobody changed it.
const USUAL_LIMIT: usize = 20;

/// Why a group could not be joined.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot join {group} on {interface}: {source}; {}join = false leaves it to someone else",
    hint(source)
)]
pub struct JoinError {
    group: Ipv4Addr,
    interface: String,
    source: io::Error,
}

/// Memberships that last until this is dropped.
#[derive(Debug)]
pub struct Membership {
    /// As many as `places` take: there can be no more of them once system calls are filtered.
    sockets: Vec<UdpSocket>,
    interface: String,
    index: i32,
    groups: Vec<Ipv4Addr>,
}

impl Membership {
    /// Joins those of `groups` that are multicast on `interface`, each once, with room for as many
    /// as `places` at a time.
    pub fn join(
        interface: &str,
        groups: impl IntoIterator<Item = Ipv4Addr>,
        places: usize,
    ) -> Result<Membership, JoinError> {
        let groups: Vec<Ipv4Addr> = groups.into_iter().collect();
        let first = groups.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let fail = |source| JoinError { group: first, interface: interface.to_owned(), source };
        let index = interface_index(interface).map_err(fail)?;
        let socket = |_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
        let sockets: io::Result<_> =
            (0..places.div_ceil(groups_of_a_socket())).map(socket).collect();
        let (sockets, interface) = (sockets.map_err(fail)?, interface.to_owned());
        let mut membership = Membership { sockets, interface, index, groups: Vec::new() };
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

    /// Has the first socket that can join a group, or leave it: the kernel knows which has room,
    /// and which is a member.
    fn change(&self, option: libc::c_int, group: Ipv4Addr) -> io::Result<()> {
        let mut result = Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        for socket in &self.sockets {
            result = self.change_one(socket, option, group);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn change_one(
        &self,
        socket: &UdpSocket,
        option: libc::c_int,
        group: Ipv4Addr,
    ) -> io::Result<()> {
        let address = |ip: Ipv4Addr| libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
        let request = libc::ip_mreqn {
            imr_multiaddr: address(group),
            imr_address: address(Ipv4Addr::UNSPECIFIED),
            imr_ifindex: self.index,
        };
        let len = size_of_val(&request) as libc::socklen_t;
        let (fd, value) = (socket.as_raw_fd(), (&raw const request).cast());
        // SAFETY: the value is a valid ip_mreqn of the length given; the kernel copies it.
        match unsafe { libc::setsockopt(fd, libc::IPPROTO_IP, option, value, len) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn groups_of_a_socket() -> usize {
    let limit = std::fs::read_to_string(LIMIT).ok();
    limit.and_then(|text| text.trim().parse().ok()).unwrap_or(USUAL_LIMIT).max(1)
}

fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOBUFS) => "raise net.ipv4.igmp_max_memberships (sysctl), or ",
        _ => "",
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
        let joined = Membership::join("lo", groups.map(|g| g.parse().unwrap()), 4);
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
    fn there_may_be_more_groups_than_a_socket_can_join() {
        let wanted = groups_of_a_socket() + 1;
        let group = |n: usize| Ipv4Addr::from(0xEF36_0D00 + n as u32);
        let mut joined = Membership::join("lo", (0..wanted).map(group), wanted).unwrap();
        let last = group(wanted - 1).to_string();
        assert!(joined.groups().len() == wanted && is_member(&last));
        // What goes makes room for another, whichever socket it was on.
        joined.retain(|one| *one != group(0) && *one != group(wanted - 1));
        assert!(!is_member(&group(0).to_string()) && !is_member(&last));
        joined.add(&[group(wanted), group(wanted + 1)]).unwrap();
        assert!(is_member(&group(wanted + 1).to_string()));
    }

    #[test]
    fn a_missing_interface_is_named() {
        let error =
            Membership::join("no-such-if0", ["224.2.3.10".parse().unwrap()], 1).unwrap_err();
        assert!(error.to_string().contains("224.2.3.10 on no-such-if0"), "{error}");
    }
}
