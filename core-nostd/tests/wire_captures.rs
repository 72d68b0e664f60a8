//! The decoders on real packets and real day files, against counts that others published, and the
//! encoders against the very bytes that the exchanges sent.

mod real_data;

use std::collections::{BTreeMap, BTreeSet};

use wiretape_core::wire::binaryfile::{BinaryFile, Ending};
use wiretape_core::wire::checksum::Sum;
use wiretape_core::wire::frame::{Datagram, FrameError, Route};
use wiretape_core::wire::iextp::{self, Segment, Stream};
use wiretape_core::wire::{deep10, itch50, moldudp64, tops16};

/// The frames of a classic little-endian pcap; the last may be cut by the end of the file. (The
/// TOPS capture is one, too, whatever its name says.)
fn pcap_frames(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    assert_eq!(bytes[..4], [0xd4, 0xc3, 0xb2, 0xa1], "microsecond pcap, little-endian");
    let mut rest = &bytes[24..];
    std::iter::from_fn(move || {
        let (record, behind) = rest.split_first_chunk::<16>()?;
        let length = u32::from_le_bytes([record[8], record[9], record[10], record[11]]);
        let (frame, behind) = behind.split_at(behind.len().min(length as usize));
        rest = behind;
        Some(frame)
    })
}

type Counts = BTreeMap<char, u64>;

fn counts<const N: usize>(counts: [(char, u64); N]) -> Counts {
    Counts::from(counts)
}

/// Holds the encoders against a real frame: they must give its bytes from what was decoded.
fn assert_encodes_alike(frame: &[u8], datagram: &Datagram<'_>, segment: &Segment<'_>) {
    let route = Route::to_group(datagram.src, datagram.dst, datagram.src_port, datagram.dst_port);
    let mut emitted = vec![0; 1600];
    let length = route.emit(0, datagram.payload, &mut emitted).unwrap();
    assert_eq!(emitted[..6], frame[..6], "ethernet address of the group");
    assert_eq!(emitted[34..40], frame[34..40], "udp ports and length");
    assert_eq!(emitted[42..length], frame[42..length], "payload");

    assert_eq!(Sum::new().with(&frame[14..34]).finish(), 0, "ip checksum");
    // These were captured on their sender, whose network card was still to sum the payload: the
    // UDP checksum holds the sum of the pseudo header only.
    let pseudo_header = Sum::new().with(&frame[26..34]).with(&[0, 17]).with(&frame[38..40]);
    assert_eq!((!pseudo_header.finish()).to_be_bytes(), frame[40..42], "udp checksum");

    let mut stream = Stream {
        protocol: segment.protocol(),
        channel_id: segment.channel_id(),
        session_id: segment.session_id(),
        offset: segment.stream_offset(),
        sequence: segment.first_sequence(),
    };
    let mut buffer = [0; 1600];
    let mut builder = iextp::Builder::new(&mut buffer, &mut stream).unwrap();
    assert!(segment.messages().all(|message| builder.push(message)));
    assert_eq!(builder.finish(segment.send_time()), datagram.payload);
    assert_eq!(stream.sequence, segment.next_sequence());
    assert_eq!(stream.offset, segment.next_offset());
}

#[test]
fn deep10_has_the_published_counts() {
    let Some(bytes) = real_data::read("iex/DEEP10.pcap.gz") else { return };
    let (mut packets, mut heartbeats, mut restarts) = (0, 0, 0);
    let mut cut = Vec::new();
    let mut types = Counts::new();
    let (mut quoted, mut traded) = (BTreeSet::new(), BTreeSet::new());
    let mut next = None;
    for frame in pcap_frames(&bytes) {
        let datagram = match Datagram::from_frame(frame) {
            Ok(datagram) => datagram,
            Err(error) => {
                cut.push(error);
                continue;
            }
        };
        assert_eq!((datagram.dst, datagram.dst_port), ([224, 2, 3, 10], 16648));
        let segment = Segment::parse(datagram.payload).unwrap();
        assert_encodes_alike(frame, &datagram, &segment);
        packets += 1;
        heartbeats += u64::from(segment.is_heartbeat());
        restarts += u64::from(next.is_some_and(|next| segment.first_sequence() < next));
        next = Some(segment.next_sequence());
        assert_eq!(segment.protocol(), deep10::PROTOCOL);
        for message in segment.messages() {
            let message = deep10::Message::parse(message).unwrap();
            *types.entry(message.kind().into()).or_default() += 1;
            match message {
                deep10::Message::TradeReport(trade) => traded.insert(trade.symbol),
                deep10::Message::PriceLevelBuy(level) | deep10::Message::PriceLevelSell(level) => {
                    quoted.insert(level.symbol)
                }
                _ => false,
            };
        }
    }
    assert_eq!((packets, heartbeats, restarts), (121_314, 7_937, 11));
    assert_eq!(cut, [FrameError::Truncated]);
    let expected = counts([
        ('H', 93_638),
        ('O', 93_638),
        ('P', 93_636),
        ('T', 83_343),
        ('5', 14_627),
        ('8', 12_941),
        ('B', 73),
        ('E', 59),
        ('S', 44),
    ]);
    assert_eq!(types, expected);
    assert_eq!(types.values().sum::<u64>(), 391_999);
    // The published count of 20 is that of symbols with a book; FLEX was quoted, never traded.
    assert_eq!((quoted.len(), traded.len()), (20, 19));
    assert!(traded.is_subset(&quoted) && !traded.contains(b"FLEX    "));
}

#[test]
fn tops16_has_the_published_counts_and_no_gap() {
    let Some(bytes) = real_data::read("iex/TOPS16.pcapng.gz") else { return };
    let mut packets = 0;
    let mut types = Counts::new();
    let mut symbols = BTreeSet::new();
    let mut next = None;
    for frame in pcap_frames(&bytes) {
        let datagram = Datagram::from_frame(frame).unwrap();
        assert_eq!((datagram.dst, datagram.dst_port), ([224, 67, 0, 199], 16642));
        let segment = Segment::parse(datagram.payload).unwrap();
        assert_encodes_alike(frame, &datagram, &segment);
        packets += 1;
        let place = (segment.first_sequence(), segment.stream_offset());
        assert_eq!(next.unwrap_or(place), place, "packet {packets}");
        next = Some((segment.next_sequence(), segment.next_offset()));
        assert_eq!(segment.protocol(), tops16::PROTOCOL);
        for message in segment.messages() {
            let message = tops16::Message::parse(message).unwrap();
            *types.entry(message.kind().into()).or_default() += 1;
            symbols.extend(message.as_bytes().get(10..18).map(<[u8]>::to_vec));
        }
    }
    assert_eq!(packets, 13_022);
    assert_eq!(types.values().sum::<u64>(), 57_674);
    assert_eq!((types[&'Q'], types[&'T'], types[&'A']), (27_217, 6_390, 642));
    assert_eq!(symbols.len(), 7_799);
}

/// Counts a day file by type, packs its messages into MoldUDP64 packets inside frames, and reads
/// them back.
fn itch_counts(bytes: &[u8]) -> Counts {
    let mut types = Counts::new();
    let mut file = BinaryFile::new(bytes);
    let messages: Vec<&[u8]> = file.by_ref().collect();
    assert_eq!(file.ending(), Ending::Whole);
    for message in &messages {
        let message = itch50::Message::parse(message).unwrap();
        *types.entry(message.kind().into()).or_default() += 1;
    }

    let route = Route::to_group([10, 0, 0, 1], [233, 54, 12, 111], 26477, 26477);
    let mut frame = vec![0; 1514];
    let (mut sent, mut read) = (0, 0);
    while sent < messages.len() {
        let (_, payload) = frame.split_at_mut(route.header_len());
        let mut builder =
            moldudp64::Builder::new(payload, *b"000010059B", sent as u64 + 1).unwrap();
        sent += messages[sent..].iter().take_while(|message| builder.push(message)).count();
        let payload_len = builder.finish().len();
        let length = route.emit_around(0, payload_len, &mut frame).unwrap();
        let datagram = Datagram::from_frame(&frame[..length]).unwrap();
        let packet = moldudp64::Packet::parse(datagram.payload).unwrap();
        assert_eq!(packet.sequence(), read as u64 + 1);
        for message in packet.messages() {
            assert_eq!(message, messages[read]);
            read += 1;
        }
    }
    assert_eq!(read, messages.len());
    types
}

#[test]
fn the_nasdaq_day_has_the_published_counts() {
    let Some(bytes) = real_data::read("itch/nasdaq-20120621-aapl-amzn.itch.gz") else { return };
    let expected = counts([
        ('A', 149_376),
        ('D', 126_946),
        ('E', 29_921),
        ('P', 13_777),
        ('X', 11_208),
        ('S', 6),
        ('R', 2),
        ('H', 2),
    ]);
    assert_eq!(itch_counts(&bytes), expected);
    assert_eq!(expected.values().sum::<u64>(), 331_238);
}

#[test]
fn the_aapl_morning_has_the_published_counts() {
    let Some(bytes) = real_data::read("itch/aapl-20200130-10k.itch") else { return };
    let expected = counts([
        ('A', 4_758),
        ('D', 4_083),
        ('E', 849),
        ('P', 240),
        ('L', 52),
        ('U', 7),
        ('X', 6),
        ('F', 2),
        ('R', 1),
        ('H', 1),
        ('Y', 1),
    ]);
    assert_eq!(itch_counts(&bytes), expected);
    assert_eq!(expected.values().sum::<u64>(), 10_000);
}
