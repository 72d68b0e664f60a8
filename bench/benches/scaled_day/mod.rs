//! A day file of ITCH 5.0, made longer: the same day of more and more instruments.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use wiretape_core::wire::binaryfile::BinaryFile;
use wiretape_core::wire::itch50::Message;
use zerocopy::byteorder::big_endian::{U16, U64};

/// What a day is scaled up to, at least.
const MESSAGES_MIN: usize = 5_000_000;

/// The day as often as it takes for [`MESSAGES_MIN`] messages; how often that is, and the bytes.
pub fn scaled(day: &[u8]) -> Result<(usize, Vec<u8>)> {
    let copies = MESSAGES_MIN.div_ceil(messages(day).count().max(1));
    Ok((copies, repeat(day, copies)?))
}

/// A day file, plain or gzip; `None` if it is not there.
pub fn read_day(path: &Path) -> Result<Option<Vec<u8>>> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("reading {}", path.display()))?,
    };
    if bytes.starts_with(&[0x1F, 0x8B]) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain)?;
        return Ok(Some(plain));
    }
    Ok(Some(bytes))
}

pub fn messages(feed: &[u8]) -> impl Iterator<Item = Message<'_>> {
    BinaryFile::new(feed).filter_map(|frame| Message::parse(frame).ok())
}

/// The day's messages, `copies` times, with fresh locates and references.
fn repeat(day: &[u8], copies: usize) -> Result<Vec<u8>> {
    let mut locates: Vec<u16> = messages(day).map(|m| m.head().stock_locate.get()).collect();
    locates.sort_unstable();
    locates.dedup();
    locates.retain(|locate| *locate != 0);
    if locates.is_empty() {
        bail!("the day file has no message of an instrument");
    }
    if locates.len() * copies >= 1 << 16 {
        bail!("{copies} copies of {} locates do not fit 16 bits", locates.len());
    }
    let mut feed = Vec::with_capacity(copies * day.len());
    for frame in BinaryFile::new(day) {
        for copy in 0..copies {
            feed.extend_from_slice(&(frame.len() as u16).to_be_bytes());
            let start = feed.len();
            feed.extend_from_slice(frame);
            readdress(&mut feed[start..], copy as u64, copies as u64, &locates);
        }
    }
    Ok(feed)
}

/// Gives a message the locate and references of its copy.
fn readdress(message: &mut [u8], copy: u64, copies: u64, locates: &[u16]) {
    let references: &[usize] = match message.first() {
        Some(b'A' | b'F' | b'E' | b'C' | b'X' | b'D') => &[11],
        Some(b'U') => &[11, 19],
        _ => &[],
    };
    for &at in references {
        let field = &mut message[at..at + 8];
        let reference = u64::from_be_bytes((&*field).try_into().unwrap_or_default());
        field.copy_from_slice(&U64::new(reference * copies + copy).to_bytes());
    }
    let locate = u16::from_be_bytes([message[1], message[2]]);
    if let Ok(index) = locates.binary_search(&locate) {
        let fresh = 1 + index as u64 + locates.len() as u64 * copy;
        message[1..3].copy_from_slice(&U16::new(fresh as u16).to_bytes());
    }
}
