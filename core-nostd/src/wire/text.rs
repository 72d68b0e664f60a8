//! Fixed-width text fields: ASCII, space padded. Names stand left, numbers right.

/// The field without the spaces (or NULs) that pad it on the right.
#[inline]
pub fn trimmed(field: &[u8]) -> &[u8] {
    let mut rest = field;
    while let [head @ .., b' ' | 0] = rest {
        rest = head;
    }
    rest
}

/// `text` left-justified in a field of `N` bytes, padded with spaces; what does not fit is cut.
#[inline]
pub const fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut field = [b' '; N];
    let mut at = 0;
    while at < N && at < text.len() {
        field[at] = text[at];
        at += 1;
    }
    field
}

/// The number in a right-justified field. `None` for a blank field, for anything but digits
/// behind the padding, and for a number above 64 bits.
pub fn number(field: &[u8]) -> Option<u64> {
    let start = field.iter().position(|&byte| byte != b' ')?;
    field.get(start..)?.iter().try_fold(0u64, |value, &byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// `value` right-justified in a field of `N` bytes, padded with spaces. 20 bytes hold any value;
/// in a narrower field the high digits are cut.
pub fn right_justified<const N: usize>(mut value: u64) -> [u8; N] {
    let mut field = [b' '; N];
    for place in field.iter_mut().rev() {
        *place = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_stand_left_and_lose_only_their_padding() {
        assert_eq!(&padded::<8>(b"AAPL"), b"AAPL    ");
        assert_eq!(&padded::<4>(b"ABCDEF"), b"ABCD");
        assert_eq!(trimmed(b"AAPL    "), b"AAPL");
        assert_eq!(trimmed(b"BRK A\0\0\0"), b"BRK A");
        assert_eq!(trimmed(b"        "), b"");
    }

    #[test]
    fn what_is_not_a_number_is_none() {
        assert_eq!(number(b"                   1"), Some(1));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(b"                    "), None);
        assert_eq!(number(b"12 "), None);
        assert_eq!(number(b" -1"), None);
        assert_eq!(number(b""), None);
    }

    proptest! {
        #[test]
        fn a_number_survives_its_field(value: u64) {
            prop_assert_eq!(number(&right_justified::<20>(value)), Some(value));
        }
    }
}
