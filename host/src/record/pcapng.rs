//! The blocks of a recording.
//!
//! Source of the format: draft-ietf-opsawg-pcapng. One section a file. The first interfaces are
//! the queues that the capture receives from, and own the packets that belong to no line; those
//! behind them are the lines of the feeds, on one queue each. Times are nanoseconds since 1970 UTC
//! (`if_tsresol` 9). A packet in front of which others of its queue are missing says how many
//! (`epb_dropcount`); the statistics of the queues at the end of each file hold the totals of the
//! recording so far, packets of lines included.

use std::borrow::Cow;

use pcap_parser::pcapng::{
    EnhancedPacketBlock, InterfaceDescriptionBlock, InterfaceStatisticsBlock, OptionCode,
    PcapNGOption, SectionHeaderBlock,
};
use pcap_parser::{Linktype, ToVec};

use wiretape_core::frames::PACKET_MAX;

use super::RecordError;

/// `isb_filteraccept`, and `epb_dropcount` of packets: codes belong to their block.
const FILTER_ACCEPT: OptionCode = OptionCode(6);
const DROP_COUNT: OptionCode = OptionCode(4);

/// Totals of a queue, for the statistics of its interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Packets that the XDP program redirected to the capture (`isb_ifrecv`).
    pub redirected: u64,
    /// Packets lost between program and worker (`isb_ifdrop`).
    pub lost: u64,
    /// Packets that the worker shared (`isb_filteraccept`).
    pub shared: u64,
    /// Packets recycled before the recorder copied them (`isb_osdrop`).
    pub missed: u64,
    /// Packets recorded (`isb_usrdeliv`).
    pub recorded: u64,
}

/// Appends the head of a file: the section, and a description of each queue, by name.
pub(super) fn head(
    out: &mut Vec<u8>,
    comment: &str,
    queues: &[String],
    text: &str,
) -> Result<(), RecordError> {
    let application = concat!("wiretape record ", env!("CARGO_PKG_VERSION"));
    let options = vec![
        option(OptionCode::Comment, comment.as_bytes()),
        option(OptionCode::ShbUserAppl, application.as_bytes()),
    ];
    append(
        out,
        &mut SectionHeaderBlock {
            block_type: 0,
            block_len1: 0,
            bom: 0,
            major_version: 1,
            minor_version: 0,
            section_len: -1,
            options,
            block_len2: 0,
        },
    )?;
    queues.iter().try_for_each(|name| interface(out, name, text))
}

/// Appends the description of the next interface.
pub(super) fn interface(out: &mut Vec<u8>, name: &str, text: &str) -> Result<(), RecordError> {
    let options = vec![
        option(OptionCode::IfName, name.as_bytes()),
        option(OptionCode::IfDescription, text.as_bytes()),
        option(OptionCode::IfTsresol, &[9]),
    ];
    append(
        out,
        &mut InterfaceDescriptionBlock {
            block_type: 0,
            block_len1: 0,
            linktype: Linktype::ETHERNET,
            reserved: 0,
            snaplen: PACKET_MAX as u32,
            if_tsresol: 9,
            if_tsoffset: 0,
            options,
            block_len2: 0,
        },
    )
}

/// Appends a packet, in front of which `missing` others were missed.
pub(super) fn packet(
    out: &mut Vec<u8>,
    interface: u32,
    time_ns: u64,
    bytes: &[u8],
    missing: u64,
) -> Result<(), RecordError> {
    let options = match missing {
        0 => Vec::new(),
        missing => vec![option(DROP_COUNT, &missing.to_le_bytes())],
    };
    append(
        out,
        &mut EnhancedPacketBlock {
            block_type: 0,
            block_len1: 0,
            if_id: interface,
            ts_high: (time_ns >> 32) as u32,
            ts_low: time_ns as u32,
            caplen: bytes.len() as u32,
            origlen: bytes.len() as u32,
            data: bytes,
            options,
            block_len2: 0,
        },
    )
}

/// Appends the statistics of an interface, taken at `time_ns`.
pub(super) fn statistics(
    out: &mut Vec<u8>,
    interface: u32,
    time_ns: u64,
    totals: &Totals,
) -> Result<(), RecordError> {
    let options = [
        (OptionCode::IsbIfRecv, totals.redirected),
        (OptionCode::IsbIfDrop, totals.lost),
        (FILTER_ACCEPT, totals.shared),
        (OptionCode::IsbOsDrop, totals.missed),
        (OptionCode::IsbUsrDeliv, totals.recorded),
    ];
    let options = options.map(|(code, value)| option(code, &value.to_le_bytes())).into();
    append(
        out,
        &mut InterfaceStatisticsBlock {
            block_type: 0,
            block_len1: 0,
            if_id: interface,
            ts_high: (time_ns >> 32) as u32,
            ts_low: time_ns as u32,
            options,
            block_len2: 0,
        },
    )
}

/// The encoder pads the value to whole words; the declared length says how much of it counts.
fn option(code: OptionCode, value: &[u8]) -> PcapNGOption<'static> {
    PcapNGOption { code, len: value.len() as u16, value: Cow::Owned(value.to_vec()) }
}

fn append(out: &mut Vec<u8>, block: &mut impl ToVec) -> Result<(), RecordError> {
    let bytes = block.to_vec().map_err(|error| RecordError::Encode(format!("{error:?}")))?;
    out.extend_from_slice(&bytes);
    Ok(())
}
