//! ethtool's netlink family (kernel 5.6), as far as checks need it.

use super::inquiry::Offload;
use super::netlink::{Attributes, Netlink, attributes, find};
use std::collections::BTreeMap;
use std::io;

const FAMILY: &str = "ethtool";
/// Of every request, the attribute that names the interface.
const HEADER: u16 = 1;
const HEADER_DEV_NAME: u16 = 2;

pub const FEATURES_GET: u8 = 11;
pub const RINGS_GET: u8 = 15;
pub const CHANNELS_GET: u8 = 17;
pub const COALESCE_GET: u8 = 19;

pub const RINGS_RX_MAX: u16 = 2;
pub const RINGS_RX: u16 = 6;
pub const CHANNELS_RX_COUNT: u16 = 6;
pub const CHANNELS_COMBINED_COUNT: u16 = 9;
pub const COALESCE_RX_USECS: u16 = 2;
pub const COALESCE_USE_ADAPTIVE_RX: u16 = 11;

const FEATURES_HW: u16 = 2;
const FEATURES_ACTIVE: u16 = 4;
const FEATURES_NOCHANGE: u16 = 5;
const BITSET_BITS: u16 = 3;
const BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

/// Asks for one kind of setting.
pub fn get(interface: &str, command: u8) -> io::Result<Vec<u8>> {
    let (mut header, mut request) = (Attributes::default(), Attributes::default());
    header.put_text(HEADER_DEV_NAME, interface);
    request.nest(HEADER, &header);
    Netlink::generic()?.call(FAMILY, command, &request)
}

/// The features in an answer to [`FEATURES_GET`].
pub fn offloads(answer: &[u8]) -> io::Result<BTreeMap<String, Offload>> {
    let set = |kind| find(answer, kind).and_then(|set| find(set, BITSET_BITS)).unwrap_or_default();
    // Of what the hardware could do the kernel lists every feature; of the others those that are.
    let mut offloads = BTreeMap::new();
    for (name, changeable) in bits(set(FEATURES_HW)) {
        offloads.insert(name, Offload { on: false, fixed: !changeable });
    }
    for (name, _) in bits(set(FEATURES_ACTIVE)) {
        offloads.entry(name).or_default().on = true;
    }
    for (name, _) in bits(set(FEATURES_NOCHANGE)) {
        offloads.entry(name).or_default().fixed = true;
    }
    if offloads.is_empty() { Err(io::ErrorKind::InvalidData.into()) } else { Ok(offloads) }
}

/// Names in a bit set, and whether each is set.
fn bits(set: &[u8]) -> impl Iterator<Item = (String, bool)> {
    attributes(set).filter(|(kind, _)| *kind == BITS_BIT).filter_map(|(_, bit)| {
        let name = String::from_utf8_lossy(find(bit, BIT_NAME)?);
        Some((name.trim_end_matches('\0').to_owned(), find(bit, BIT_VALUE).is_some()))
    })
}
