//! VLAN tags: 802.1Q, and the stacked forms of 802.1ad ("QinQ").

use zerocopy::FromBytes;
use zerocopy::byteorder::big_endian::U16;

use super::frame::FrameError;
use super::layout::layout;

/// Ethertype of an 802.1Q (customer) tag.
pub const ETHERTYPE_CTAG: u16 = 0x8100;
/// Ethertype of an 802.1ad (service) tag.
pub const ETHERTYPE_STAG: u16 = 0x88a8;
/// Ethertype of a service tag of switches older than 802.1ad.
pub const ETHERTYPE_STAG_OLD: u16 = 0x9100;

/// Tags that a frame may carry: one of the exchange's and one of a carrier.
pub const TAGS_MAX: usize = 2;

/// Bytes of one tag.
pub const TAG_LEN: usize = size_of::<Tag>();

layout! {
    /// What follows a tag's ethertype.
    pub struct Tag: 4 {
        /// Priority (3 bits), drop eligible (1 bit), VLAN id (12 bits).
        control: U16 = 0,
        /// Type of what follows.
        ethertype: U16 = 2,
    }
}

impl Tag {
    /// The VLAN id; `None` for id 0, which marks a frame that has a priority but no VLAN.
    #[inline]
    pub fn id(&self) -> Option<u16> {
        match self.control.get() & 0x0fff {
            0 => None,
            id => Some(id),
        }
    }
}

/// Whether a tag follows an ethertype.
#[inline]
pub const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_CTAG | ETHERTYPE_STAG | ETHERTYPE_STAG_OLD)
}

/// Strips the tags that follow a frame's header. Returns the innermost VLAN id, the ethertype
/// behind the tags, and what is left.
///
/// # Errors
/// [`FrameError::Truncated`] where a tag is cut, [`FrameError::TooManyTags`] for more than
/// [`TAGS_MAX`].
#[inline]
pub fn strip(
    mut ethertype: u16,
    mut bytes: &[u8],
) -> Result<(Option<u16>, u16, &[u8]), FrameError> {
    let mut id = None;
    for _ in 0..TAGS_MAX {
        if !is_tag(ethertype) {
            return Ok((id, ethertype, bytes));
        }
        let (tag, rest) = Tag::ref_from_prefix(bytes).map_err(|_| FrameError::Truncated)?;
        id = tag.id().or(id);
        ethertype = tag.ethertype.get();
        bytes = rest;
    }
    if is_tag(ethertype) { Err(FrameError::TooManyTags) } else { Ok((id, ethertype, bytes)) }
}
