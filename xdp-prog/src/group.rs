//! A group: the IPv4 address and UDP port that an exchange sends one channel to.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use serde::{Serialize, Serializer};

use crate::error::{Error, MapError};

/// Entries of the map `groups`, each group's and each address's marker (`STEER_GROUPS`).
pub const GROUP_ENTRIES: u32 = 4096;

/// Flag of an address marker (`STEER_GROUP_ADDRESS`).
pub const GROUP_ADDRESS: u32 = 1;

/// Key of the map `groups`; mirror of `struct steer_group` in `bpf/steer.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct GroupKey {
    /// IPv4 destination, network byte order.
    pub address: [u8; 4],
    /// UDP destination port, network byte order; zero in an address marker.
    pub port: [u8; 2],
    /// Zero.
    pub pad: [u8; 2],
}

const _: () = assert!(size_of::<GroupKey>() == 8);
const _: () = assert!(std::mem::offset_of!(GroupKey, port) == 4);

impl GroupKey {
    /// The key as the map holds it.
    pub fn to_bytes(self) -> [u8; 8] {
        let [a, b, c, d] = self.address;
        let [e, f] = self.port;
        let [g, h] = self.pad;
        [a, b, c, d, e, f, g, h]
    }

    /// A key read from the map; `None` unless it is 8 bytes long.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h] = *<&[u8; 8]>::try_from(bytes).ok()?;
        Some(Self { address: [a, b, c, d], port: [e, f], pad: [g, h] })
    }
}

/// Where packets to be captured go: IPv4 destination and UDP destination port.
///
/// Written `239.1.1.1:5000`. A unicast address is steered as well, for feeds that are sent so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    address: Ipv4Addr,
    port: u16,
}

/// Why a group is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// Not of the form address:port.
    #[error("a group is an IPv4 address and a UDP port, as in 239.1.1.1:5000")]
    Form,
    /// Port 0 marks addresses in the map, and nobody sends to it.
    #[error("port 0 cannot be a group's")]
    Port,
    /// 0.0.0.0 or 255.255.255.255.
    #[error("{0} cannot be a group's address")]
    Address(Ipv4Addr),
}

impl Group {
    /// A group; fails on port 0 and on addresses that no datagram feed is sent to.
    pub fn new(address: Ipv4Addr, port: u16) -> Result<Self, GroupError> {
        if port == 0 {
            return Err(GroupError::Port);
        }
        if address.is_unspecified() || address.is_broadcast() {
            return Err(GroupError::Address(address));
        }
        Ok(Self { address, port })
    }

    /// IPv4 destination.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// UDP destination port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The group's key in the map.
    pub fn key(&self) -> GroupKey {
        GroupKey { address: self.address.octets(), port: self.port.to_be_bytes(), pad: [0; 2] }
    }

    /// The key of the marker by which fragments to the group's address are known.
    pub fn address_key(&self) -> GroupKey {
        GroupKey { address: self.address.octets(), port: [0; 2], pad: [0; 2] }
    }
}

impl FromStr for Group {
    type Err = GroupError;

    fn from_str(text: &str) -> Result<Self, GroupError> {
        let at: SocketAddrV4 = text.parse().map_err(|_| GroupError::Form)?;
        Group::new(*at.ip(), at.port())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// All groups in the map, sorted.
pub(crate) fn list(map: &MapHandle) -> Result<BTreeSet<Group>, Error> {
    let mut groups = BTreeSet::new();
    for key in map.keys() {
        let Some(key) = GroupKey::from_bytes(&key) else { continue };
        if let Ok(group) = Group::new(key.address.into(), u16::from_be_bytes(key.port)) {
            groups.insert(group);
        }
    }
    Ok(groups)
}

/// Adds a group; `false` if it was there already.
///
/// The marker goes first: at no moment is a group known whose fragments are not.
pub(crate) fn add(map: &MapHandle, group: Group) -> Result<bool, Error> {
    let failed = |source| MapError { action: "add a group to", map: "groups", source };
    map.update(&group.address_key().to_bytes(), &GROUP_ADDRESS.to_ne_bytes(), MapFlags::ANY)
        .map_err(failed)?;
    let key = group.key().to_bytes();
    if map.lookup(&key, MapFlags::ANY).map_err(failed)?.is_some() {
        return Ok(false);
    }
    if let Err(source) = map.update(&key, &0u32.to_ne_bytes(), MapFlags::ANY) {
        remove_unused_marker(map, group)?;
        return Err(failed(source).into());
    }
    Ok(true)
}

/// Removes a group; `false` if it was not there.
pub(crate) fn remove(map: &MapHandle, group: Group) -> Result<bool, Error> {
    let failed = |source| MapError { action: "remove a group from", map: "groups", source };
    let key = group.key().to_bytes();
    if map.lookup(&key, MapFlags::ANY).map_err(failed)?.is_none() {
        return Ok(false);
    }
    map.delete(&key).map_err(failed)?;
    remove_unused_marker(map, group)?;
    Ok(true)
}

fn remove_unused_marker(map: &MapHandle, group: Group) -> Result<(), Error> {
    if list(map)?.iter().any(|other| other.address == group.address) {
        return Ok(());
    }
    map.delete(&group.address_key().to_bytes()).map_err(|source| {
        MapError { action: "remove an address marker from", map: "groups", source }.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_key_are_the_same_group() {
        let group: Group = "239.1.2.3:5001".parse().unwrap();
        assert_eq!(group.to_string(), "239.1.2.3:5001");
        assert_eq!(group.key().to_bytes(), [239, 1, 2, 3, 0x13, 0x89, 0, 0]);
        assert_eq!(group.address_key().to_bytes(), [239, 1, 2, 3, 0, 0, 0, 0]);
        assert_eq!(GroupKey::from_bytes(&group.key().to_bytes()), Some(group.key()));
        assert_eq!(GroupKey::from_bytes(&[0; 7]), None);
    }

    #[test]
    fn what_is_no_group_is_refused() {
        assert_eq!("239.1.1.1".parse::<Group>(), Err(GroupError::Form));
        assert_eq!("239.1.1:5000".parse::<Group>(), Err(GroupError::Form));
        assert_eq!("[ff02::1]:5000".parse::<Group>(), Err(GroupError::Form));
        assert_eq!("239.1.1.1:65536".parse::<Group>(), Err(GroupError::Form));
        assert_eq!("239.1.1.1:0".parse::<Group>(), Err(GroupError::Port));
        let any = Ipv4Addr::UNSPECIFIED;
        assert_eq!("0.0.0.0:5000".parse::<Group>(), Err(GroupError::Address(any)));
    }
}
