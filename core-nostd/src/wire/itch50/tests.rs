//! Every type against the specification's table, and parsing as a property.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;
use crate::event::UNDEF_PRICE;

/// The specification's list of types and lengths, written down apart from the structs.
const SPECIFICATION: [(u8, u16); 23] = [
    (b'S', 12),
    (b'R', 39),
    (b'H', 25),
    (b'Y', 20),
    (b'L', 26),
    (b'V', 35),
    (b'W', 12),
    (b'K', 28),
    (b'J', 35),
    (b'h', 21),
    (b'A', 36),
    (b'F', 40),
    (b'E', 31),
    (b'C', 36),
    (b'X', 23),
    (b'D', 19),
    (b'U', 35),
    (b'P', 44),
    (b'Q', 40),
    (b'B', 19),
    (b'I', 50),
    (b'N', 20),
    (b'O', 48),
];

#[test]
fn every_type_of_the_specification_is_there_with_its_length() {
    assert_eq!(Message::TYPES.len(), SPECIFICATION.len());
    for (kind, length) in SPECIFICATION {
        assert_eq!(Message::length_of(kind), Some(length));
        assert!(Message::TYPES.contains(&(kind, length)));
        let mut bytes = vec![0u8; usize::from(length)];
        bytes[0] = kind;
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.kind(), kind);
        assert_eq!(message.as_bytes(), bytes);
    }
    let known = |kind| SPECIFICATION.iter().any(|&(listed, _)| listed == kind);
    for kind in (0..=u8::MAX).filter(|&kind| !known(kind)) {
        assert_eq!(Message::length_of(kind), None);
        assert_eq!(Message::parse(&[kind; 36]), Err(ItchError::UnknownType(kind)));
    }
}

#[test]
fn a_length_that_is_not_the_types_is_refused() {
    assert_eq!(Message::parse(&[]), Err(ItchError::Empty));
    for (kind, expected) in SPECIFICATION {
        for found in [1, expected - 1, expected + 1] {
            let mut bytes = vec![0u8; usize::from(found)];
            bytes[0] = kind;
            let error = ItchError::Length { kind, expected, found };
            assert_eq!(Message::parse(&bytes), Err(error));
        }
    }
    let mut long = vec![0u8; 100_000];
    long[0] = b'D';
    let error = ItchError::Length { kind: b'D', expected: 19, found: u16::MAX };
    assert_eq!(Message::parse(&long), Err(error));
}

#[test]
fn fields_stand_where_the_exchange_puts_them() {
    let mut bytes = Vec::new();
    bytes.push(b'F');
    bytes.extend(13u16.to_be_bytes());
    bytes.extend(2u16.to_be_bytes());
    bytes.extend(&34_200_123_456_789u64.to_be_bytes()[2..]);
    bytes.extend(0x0102_0304_0506_0708u64.to_be_bytes());
    bytes.extend(b"S");
    bytes.extend(300u32.to_be_bytes());
    bytes.extend(b"AAPL    ");
    bytes.extend(3_240_000u32.to_be_bytes());
    bytes.extend(b"NITE");
    let Ok(Message::AddOrderMpid(add)) = Message::parse(&bytes) else { panic!() };
    assert_eq!(add.head.stock_locate.get(), 13);
    assert_eq!(add.head.tracking.get(), 2);
    assert_eq!(add.head.timestamp.get(), 34_200_123_456_789);
    assert_eq!(add.order_ref.get(), 0x0102_0304_0506_0708);
    assert_eq!((add.side, add.shares.get(), &add.stock), (b'S', 300, b"AAPL    "));
    assert_eq!(add.price.nanos(), 324 * crate::event::PRICE_SCALE);
    assert_eq!(&add.mpid, b"NITE");
}

#[test]
fn prices_become_nanos_or_say_that_they_cannot() {
    assert_eq!(Price4::new(0x7735_9400).nanos(), 200_000 * crate::event::PRICE_SCALE);
    assert_eq!(Price4::new(u32::MAX).nanos(), i64::from(u32::MAX) * 100_000);
    assert_eq!(Price8::new(100_000_000).nanos(), crate::event::PRICE_SCALE);
    assert_eq!(Price8::new(i64::MAX as u64 / 10).nanos(), i64::MAX / 10 * 10);
    assert_eq!(Price8::new(i64::MAX as u64 / 10 + 1).nanos(), UNDEF_PRICE);
    assert_eq!(Price8::new(u64::MAX).nanos(), UNDEF_PRICE);
}

proptest! {
    #[test]
    fn a_head_survives(kind: u8, locate: u16, tracking: u16, time in 0..=U48::MAX) {
        let head = Head::new(kind, locate, tracking, time);
        prop_assert_eq!(head.stock_locate.get(), locate);
        prop_assert_eq!(head.tracking.get(), tracking);
        prop_assert_eq!(head.timestamp.get(), time);
        prop_assert_eq!(&head.as_bytes()[5..], &time.to_be_bytes()[2..]);
    }

    #[test]
    fn a_message_is_exactly_its_bytes(
        place in 0..SPECIFICATION.len(),
        mut bytes in proptest::collection::vec(any::<u8>(), 50),
    ) {
        let (kind, length) = SPECIFICATION[place];
        bytes.truncate(usize::from(length));
        bytes[0] = kind;
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.as_bytes(), &bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = Message::parse(&bytes);
    }

    #[test]
    fn an_order_survives_encoding(
        order_ref: u64, side: bool, shares: u32, stock: [u8; 8], price: u32, time in 0..=U48::MAX,
    ) {
        let add = AddOrder {
            head: Head::new(AddOrder::KIND, 1, 2, time),
            order_ref: order_ref.into(),
            side: if side { b'B' } else { b'S' },
            shares: shares.into(),
            stock,
            price: Price4::new(price),
        };
        prop_assert_eq!(Message::parse(add.as_bytes()), Ok(Message::AddOrder(&add)));
        prop_assert_eq!(&add.as_bytes()[11..19], &order_ref.to_be_bytes());
        prop_assert_eq!(&add.as_bytes()[20..24], &shares.to_be_bytes());
        prop_assert_eq!(&add.as_bytes()[24..32], &stock);
        prop_assert_eq!(&add.as_bytes()[32..36], &price.to_be_bytes());
    }
}
