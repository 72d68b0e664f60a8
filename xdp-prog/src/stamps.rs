//! Receive times of the NIC: whether a driver tells them to programs, and the pin that says that a
//! program writes them in front of packets.
//!
//! The kernel binds a program to any driver; one that has no times answers the program's question
//! with an error, packet by packet. So the driver is asked before, over netlink (`netdev` family,
//! `Documentation/netlink/specs/netdev.yaml`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};
use rustix::net::netlink::GENERIC;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, send, socket_with};

use crate::error::{Error, MapError};
use crate::interface::Interface;
use crate::load::pin;
use crate::mode::ModeChoice;
use crate::pin::Pins;

/// First word of what stands in front of a packet (`STEER_STAMP_MAGIC`).
pub const STAMP_MAGIC: u64 = u64::from_le_bytes(*b"WTSTAMP1");

/// Whether packets of the pins' interface carry receive times. That does not change while the pins
/// are there.
pub(crate) fn announced(pins: &Pins) -> bool {
    pins.stamps().exists()
}

/// Says for captures, by a pin, that packets carry receive times.
pub(crate) fn announce(pins: &Pins) -> Result<(), Error> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let failed = |action| move |source| MapError { action, map: "stamps", source };
    let map = MapHandle::create(MapType::Array, Some("stamps"), 4, 8, 1, &options)
        .map_err(failed("make"))?;
    map.update(&0u32.to_ne_bytes(), &STAMP_MAGIC.to_ne_bytes(), MapFlags::ANY)
        .map_err(failed("write"))?;
    pin(map.as_fd(), pins.stamps())
}

/// Whether receive times can be had.
pub(crate) fn check(interface: &Interface, mode: ModeChoice) -> Result<(), Error> {
    if mode == ModeChoice::Generic {
        return Err(Error::StampsBehindDriver);
    }
    match told_by_driver(interface.index()) {
        Some(false) => Err(Error::NoStamps { interface: interface.name().to_string() }),
        // Kernels before 6.7 do not say; the program's counters will.
        Some(true) | None => Ok(()),
    }
}

const NLMSG_HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// The family that knows families, its command, and the attributes of question and answer.
const CONTROL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_RX_METADATA_FEATURES: u16 = 5;
const NETDEV_XDP_RX_METADATA_TIMESTAMP: u64 = 1;

/// Whether the driver tells programs when a packet arrived; `None` where the kernel does not say.
fn told_by_driver(interface_index: u32) -> Option<bool> {
    let socket = netlink().ok()?;
    let name = b"netdev\0";
    let family = ask(&socket, CONTROL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, name).ok()?;
    let family = find(&family, CTRL_ATTR_FAMILY_ID)?;
    let family = u16::from_ne_bytes(family.try_into().ok()?);
    let index = interface_index.to_ne_bytes();
    let device = ask(&socket, family, NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &index).ok()?;
    let features = find(&device, NETDEV_A_DEV_XDP_RX_METADATA_FEATURES)?;
    let features = u64::from_ne_bytes(features.try_into().ok()?);
    Some(features & NETDEV_XDP_RX_METADATA_TIMESTAMP != 0)
}

fn netlink() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, Some(GENERIC))?)
}

/// One command with one attribute; the attributes of the answer. The kernel answers before `send`
/// returns.
fn ask(
    socket: &OwnedFd,
    family: u16,
    command: u8,
    attribute: u16,
    value: &[u8],
) -> io::Result<Vec<u8>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let attribute_len = u16::try_from(4 + value.len()).map_err(|_| invalid())?;
    let mut body = vec![command, 1, 0, 0];
    body.extend(attribute_len.to_ne_bytes());
    body.extend(attribute.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
    let len = u32::try_from(NLMSG_HEADER + body.len()).map_err(|_| invalid())?;
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(family.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    send(socket, &message, SendFlags::empty())?;

    let mut answer = vec![0; 16 << 10];
    let (len, _) = recv(socket, &mut answer[..], RecvFlags::DONTWAIT)?;
    answer.truncate(len);
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    match kind {
        None | Some(NLMSG_ERROR) => Err(invalid()),
        Some(_) => Ok(answer.get(NLMSG_HEADER + GENERIC_HEADER..).ok_or_else(invalid)?.to_vec()),
    }
}

/// The value of the first attribute of a kind.
fn find(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = attributes;
    loop {
        let len = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let value = rest.get(4..len)?;
        if u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?) == kind {
            return Some(value);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_magic_is_that_of_the_header() {
        let header = include_str!("bpf/steer.h");
        assert!(header.contains(&format!("#define STEER_STAMP_MAGIC {STAMP_MAGIC:#x}ULL")));
    }

    #[test]
    fn attributes_are_found_and_cut_ones_are_not() {
        let attributes = [5, 0, 1, 0, 9, 0, 0, 0, 12, 0, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(find(&attributes, 1), Some(&[9][..]));
        assert_eq!(find(&attributes, 2), Some(&[1, 2, 3, 4, 5, 6, 7, 8][..]));
        assert_eq!(find(&attributes, 3), None);
        assert_eq!(find(&attributes[..19], 2), None);
        assert_eq!(find(&[0; 8], 2), None);
    }

    #[test]
    fn the_loopback_device_stamps_nothing() {
        match told_by_driver(1) {
            None => println!("skipped: this kernel does not say what drivers tell"),
            told => assert_eq!(told, Some(false)),
        }
    }
}
