//! The capture reader against real captures, against files written here in every format, and
//! against files cut or damaged anywhere.

use std::io::{Cursor, Write};
use std::path::PathBuf;

use proptest::prelude::*;
use wiretape_capture::source::pcap::{CutRecord, Foreign, PcapError, PcapSource, Reader, Speed};
use wiretape_capture::source::{Polled, Source};

fn shared(file: &str) -> Option<PathBuf> {
    let root = std::env::var_os("WIRETAPE_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    let path = root.join("data").join(file);
    let there = path.exists();
    if !there {
        println!("skipped: {} is not there", path.display());
    }
    there.then_some(path)
}

#[derive(Debug, PartialEq)]
struct Read {
    packets: Vec<(u64, Vec<u8>, u32)>,
    cut: Option<CutRecord>,
}

fn read(bytes: Vec<u8>) -> Result<Read, PcapError> {
    let mut reader = Reader::from_read("memory", Cursor::new(bytes))?;
    let mut packets = Vec::new();
    while let Some(packet) = reader.next()? {
        packets.push((packet.ts_ns, packet.data.to_vec(), packet.original_len));
    }
    assert_eq!(reader.packets(), packets.len() as u64);
    Ok(Read { packets, cut: reader.cut() })
}

/// How a classic file is written.
#[derive(Clone, Copy, Debug)]
struct Classic {
    big_endian: bool,
    nanoseconds: bool,
}

fn u32_in(big_endian: bool, value: u32) -> [u8; 4] {
    if big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
}

fn u16_in(big_endian: bool, value: u16) -> [u8; 2] {
    if big_endian { value.to_be_bytes() } else { value.to_le_bytes() }
}

fn classic(format: Classic, packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let Classic { big_endian, nanoseconds } = format;
    let word = |value| u32_in(big_endian, value);
    let mut out = word(if nanoseconds { 0xA1B2_3C4D } else { 0xA1B2_C3D4 }).to_vec();
    out.extend(u16_in(big_endian, 2));
    out.extend(u16_in(big_endian, 4));
    out.extend([word(0), word(0), word(65_535), word(1)].concat());
    for (ts_ns, data) in packets {
        let fraction = (ts_ns % 1_000_000_000) as u32 / if nanoseconds { 1 } else { 1000 };
        let len = word(data.len() as u32);
        out.extend([word((ts_ns / 1_000_000_000) as u32), word(fraction), len, len].concat());
        out.extend(data);
    }
    out
}

fn block(big_endian: bool, kind: u32, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let len = u32_in(big_endian, body.len() as u32 + 12);
    [&u32_in(big_endian, kind)[..], &len, &body, &len].concat()
}

/// A pcapng file whose only interface counts in units of `tsresol`.
fn ng(big_endian: bool, tsresol: u8, packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let word = |value| u32_in(big_endian, value);
    let half = |value| u16_in(big_endian, value);
    let mut section = word(0x1A2B_3C4D).to_vec();
    section.extend([half(1), half(0)].concat());
    section.extend([0xFF; 8]);
    let mut out = block(big_endian, 0x0A0D_0D0A, &section);
    let mut interface = [half(1), half(0)].concat();
    interface.extend(word(0));
    interface.extend([half(9), half(1)].concat());
    interface.extend([tsresol, 0, 0, 0]);
    interface.extend([half(0), half(0)].concat());
    out.extend(block(big_endian, 1, &interface));
    for (units, data) in packets {
        let (high, low, len) = ((units >> 32) as u32, *units as u32, data.len() as u32);
        let mut body = [word(0), word(high), word(low), word(len), word(len + 7)].concat();
        body.extend(data);
        out.extend(block(big_endian, 6, &body));
    }
    out
}

fn packets() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    // Whole microseconds, so that every format can hold the time.
    let ts = (0u64..4_000_000_000_000_000).prop_map(|us| us * 1000);
    proptest::collection::vec((ts, proptest::collection::vec(any::<u8>(), 0..200)), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn classic_files_of_every_kind_read_back(
        packets in packets(), big_endian: bool, nanoseconds: bool,
    ) {
        let read = read(classic(Classic { big_endian, nanoseconds }, &packets)).unwrap();
        let expected: Vec<_> =
            packets.into_iter().map(|(ts, data)| (ts, data.clone(), data.len() as u32)).collect();
        prop_assert_eq!(read, Read { packets: expected, cut: None });
    }

    #[test]
    fn ng_files_of_either_byte_order_read_back(packets in packets(), big_endian: bool) {
        let read = read(ng(big_endian, 9, &packets)).unwrap();
        let expected: Vec<_> = packets
            .into_iter()
            .map(|(ts, data)| (ts, data.clone(), data.len() as u32 + 7))
            .collect();
        prop_assert_eq!(read, Read { packets: expected, cut: None });
    }

    #[test]
    fn a_file_cut_anywhere_delivers_its_whole_records_and_tells_where_it_ends(
        packets in packets(), at in 0usize..4000,
    ) {
        let format = Classic { big_endian: false, nanoseconds: true };
        let whole = classic(format, &packets);
        let at = at.min(whole.len());
        prop_assume!(at >= 24);
        let read = read(whole[..at].to_vec()).unwrap();
        let (mut position, mut count) = (24, 0);
        while count < packets.len() && position + 16 + packets[count].1.len() <= at {
            position += 16 + packets[count].1.len();
            count += 1;
        }
        prop_assert_eq!(read.packets.len(), count);
        let present = at - position;
        let expected = (present > 0).then(|| CutRecord {
            position: position as u64,
            packets_before: count as u64,
            present: present as u64,
            needed: if present < 16 { 0 } else { 16 + packets[count].1.len() as u64 },
        });
        prop_assert_eq!(read.cut, expected);
    }

    #[test]
    fn any_bytes_end_in_packets_or_an_error(
        packets in packets(), big_endian: bool, ng_format: bool,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = match ng_format {
            true => ng(big_endian, 6, &packets),
            false => classic(Classic { big_endian, nanoseconds: false }, &packets),
        };
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Err(error) = read(bytes) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}

#[test]
fn times_of_any_resolution_come_out_in_nanoseconds() {
    let half_a_second = |tsresol, units| {
        let read = read(ng(false, tsresol, &[(units, vec![1])])).unwrap();
        read.packets[0].0
    };
    assert_eq!(half_a_second(3, 1_500), 1_500_000_000);
    assert_eq!(half_a_second(6, 1_500_000), 1_500_000_000);
    assert_eq!(half_a_second(12, 1_500_000_000_000), 1_500_000_000);
    assert_eq!(half_a_second(0x80 | 10, 1536), 1_500_000_000);
}

#[test]
fn an_offset_in_seconds_is_added_in_either_byte_order() {
    for big_endian in [false, true] {
        for (offset, expected) in [(1_700_000_000_i64, 1_700_000_001), (-1, 0), (0, 1)] {
            let mut file = ng(big_endian, 9, &[(1_000_000_000, vec![1])]);
            let half = |value| u16_in(big_endian, value);
            let offset = if big_endian { offset.to_be_bytes() } else { offset.to_le_bytes() };
            // Between the interface's resolution and the end of its options, 28 bytes into its
            // block, which lies behind the section header's 28.
            let option = [&half(14)[..], &half(8), &offset].concat();
            file.splice(52..52, option);
            for length in [32..36, 68..72] {
                file[length].copy_from_slice(&u32_in(big_endian, 44));
            }
            let packets = read(file).unwrap().packets;
            assert_eq!(packets[0].0, expected * 1_000_000_000, "big-endian: {big_endian}");
        }
    }
}

#[test]
fn packets_of_other_link_layers_become_ethernet_frames() {
    let ip = |version: u8| [&[version << 4 | 5][..], &[7; 60]].concat();
    let as_frame = |protocol: [u8; 2], packet: &[u8]| [&[0; 12][..], &protocol, packet].concat();
    let (ipv4, ipv6) = ([8, 0], [0x86, 0xDD]);
    let cooked = |protocol: [u8; 2]| [&[1; 14][..], &protocol].concat();
    let cooked_2 = |protocol: [u8; 2]| [&protocol[..], &[1; 18]].concat();
    let none = [0xFF, 0xFF];
    for (linktype, header, packet, protocol) in [
        (113_u16, cooked(ipv4), ip(4), ipv4),
        (113, cooked(ipv6), ip(6), ipv6),
        (276, cooked_2(ipv4), ip(4), ipv4),
        (276, cooked_2([0x81, 0]), vec![9; 50], [0x81, 0]),
        (101, Vec::new(), ip(4), ipv4),
        (101, Vec::new(), ip(6), none),
        (228, Vec::new(), ip(4), ipv4),
        (0, vec![2, 0, 0, 0], ip(4), ipv4),
        (108, vec![0, 0, 0, 2], ip(4), ipv4),
        (0, vec![30, 0, 0, 0], ip(6), none),
        // Cut inside the header.
        (113, vec![1; 9], Vec::new(), none),
        (276, vec![8], Vec::new(), none),
        (0, vec![2], Vec::new(), none),
        (101, Vec::new(), Vec::new(), none),
    ] {
        let data = [header, packet.clone()].concat();
        let expected = vec![as_frame(protocol, &packet)];
        let format = Classic { big_endian: false, nanoseconds: true };
        let mut file = classic(format, &[(5, data.clone())]);
        file[20..22].copy_from_slice(&linktype.to_le_bytes());
        let mut ng_file = ng(false, 9, &[(5, data)]);
        // Behind the section header's 28 bytes, and type and length of the next block.
        ng_file[36..38].copy_from_slice(&linktype.to_le_bytes());
        for bytes in [file, ng_file] {
            let packets = read(bytes).unwrap().packets;
            let frames: Vec<_> = packets.into_iter().map(|(_, frame, _)| frame).collect();
            assert_eq!(frames, expected, "link type {linktype}");
        }
    }
}

#[test]
fn compression_is_recognised_by_the_first_bytes() {
    let format = Classic { big_endian: false, nanoseconds: true };
    let plain = classic(format, &[(1, vec![1; 60]), (2, vec![2; 1400])]);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    let zst = zstd::encode_all(&plain[..], 1).unwrap();
    let expected = read(plain).unwrap();
    assert_eq!(expected.packets.len(), 2);
    assert_eq!(read(gz.finish().unwrap()).unwrap(), expected);
    // pzstd puts a frame to be skipped in front, which says how long the next one is.
    let skipped = [&[0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0][..], &[7; 4], &zst].concat();
    assert_eq!(read(zst).unwrap(), expected);
    assert_eq!(read(skipped).unwrap(), expected);
}

/// Names, statistics and whatever else tools write between packets need not make sense to be passed by.
#[test]
fn blocks_without_packets_are_passed_whatever_is_in_them() {
    for big_endian in [false, true] {
        let packets = [(1, vec![1; 60]), (2, vec![2; 60])];
        let plain = ng(big_endian, 9, &packets);
        let mut file = plain.clone();
        let second = plain.len() - 92;
        for kind in [4, 5, 9, 10, 0xBAD, 0x4000_0BAD] {
            for body in [&[][..], &[0xFF; 5], &[0; 8], &[0xFF; 64]] {
                let other = block(big_endian, kind, body);
                file.splice(second..second, other.iter().copied());
                file.extend(other);
            }
        }
        assert_eq!(read(file.clone()).unwrap(), read(plain).unwrap());
        // What is not as long as it says is damage.
        let last = file.len() - 1;
        file[last - 1] ^= 1;
        let error = read(file).unwrap_err().to_string();
        assert!(error.contains("two different lengths"), "{error}");
    }
}

/// The packet block of older files, whose interface has two bytes and a drop count behind it.
#[test]
fn packet_blocks_of_older_files_read_like_enhanced_ones() {
    for big_endian in [false, true] {
        let packets = [(1_500, vec![1; 61]), (1 << 33, vec![2; 100])];
        let enhanced = ng(big_endian, 9, &packets);
        let mut old = enhanced.clone();
        // Behind the blocks of section (28 bytes) and interface.
        let mut at = 28;
        at += if big_endian { old[at + 7] } else { old[at + 4] } as usize;
        while at < old.len() {
            let len = u32::from_le_bytes(old[at + 4..at + 8].try_into().unwrap());
            let len = if big_endian { len.swap_bytes() } else { len } as usize;
            old[at..at + 4].copy_from_slice(&u32_in(big_endian, 2));
            let interface = [u16_in(big_endian, 0), u16_in(big_endian, 9)].concat();
            old[at + 8..at + 12].copy_from_slice(&interface);
            at += len;
        }
        let read_back = read(old.clone()).unwrap();
        assert_eq!(read_back.packets.len(), 2);
        assert_eq!(read_back, read(enhanced).unwrap());
        let len = old.len();
        old.truncate(len - 3);
        assert_eq!(read(old).unwrap().cut.unwrap().packets_before, 1);
    }
}

/// Wireshark captures on several interfaces at once, not all of which are of a network.
#[test]
fn packets_of_an_interface_that_cannot_be_decoded_are_counted_and_the_others_read() {
    let packets = [(1, vec![1; 60]), (2, vec![2; 60]), (3, vec![3; 60])];
    let (usb, mut file) = (220_u16.to_le_bytes(), ng(false, 9, &packets));
    // A second interface behind the first, and the packet in the middle is its.
    let mut interface = file[28..60].to_vec();
    interface[8..10].copy_from_slice(&usb);
    let (second, block) = (60 + 32 + 92, 92);
    assert_eq!(file.len(), 60 + 3 * block);
    file.splice(60..60, interface);
    file[second + 8] = 1;
    let mut reader = Reader::from_read("memory", Cursor::new(file.clone())).unwrap();
    let (mut own, mut foreign) = (Vec::new(), Vec::new());
    while let Some(packet) = reader.next().unwrap() {
        let list = if packet.foreign { &mut foreign } else { &mut own };
        list.push((packet.ts_ns, packet.data.to_vec()));
    }
    assert_eq!(own, [packets[0].clone(), packets[2].clone()]);
    assert_eq!(foreign, [(2, [&[0; 12][..], &[0xFF, 0xFF]].concat())]);
    assert_eq!(
        (reader.foreign(), reader.packets()),
        (Some(Foreign { linktype: 220, packets: 1 }), 3)
    );

    // With nothing else in it, it is a file that cannot be decoded.
    file[36..38].copy_from_slice(&usb);
    let error = read(file).unwrap_err().to_string();
    assert!(error.contains("link type 220"), "{error}");
}

/// Linux tools of the nineties wrote eight more bytes in front of each packet, under a magic of their own.
#[test]
fn modified_files_read_like_classic_ones() {
    for big_endian in [false, true] {
        let packets = [(1_000, vec![1; 61]), (7_000_002_000, vec![2; 100])];
        let plain = classic(Classic { big_endian, nanoseconds: false }, &packets);
        let mut modified = plain.clone();
        modified[..4].copy_from_slice(&u32_in(big_endian, 0xA1B2_CD34));
        for head_end in [24 + 16 + 61 + 16, 24 + 16] {
            let own = [&u32_in(big_endian, 3)[..], &u16_in(big_endian, 0x800), &[2, 0]].concat();
            modified.splice(head_end..head_end, own);
        }
        assert_eq!(read(modified.clone()).unwrap(), read(plain).unwrap());
        let cut = read(modified[..modified.len() - 1].to_vec()).unwrap().cut.unwrap();
        assert_eq!((cut.packets_before, cut.present, cut.needed), (1, 123, 124));
        let cut = read(modified[..24 + 85 + 20].to_vec()).unwrap().cut.unwrap();
        assert_eq!((cut.packets_before, cut.present, cut.needed), (1, 20, 0));
    }
}

/// 10^20 units a second, and 2^64: no clock counts so. The packets are there all the same.
#[test]
fn an_interface_of_an_impossible_resolution_costs_its_times_alone() {
    for tsresol in [20, 0x7F, 0x80 | 64, 0xFF] {
        let mut file = ng(false, 9, &[(5, vec![1; 60]), (6, vec![2; 60]), (7, vec![3; 60])]);
        // A second interface behind the first, and the packet in the middle is its.
        let mut interface = file[28..60].to_vec();
        assert_eq!(interface[20], 9);
        interface[20] = tsresol;
        file.splice(60..60, interface);
        file[60 + 32 + 92 + 8] = 1;
        let mut reader = Reader::from_read("memory", Cursor::new(file)).unwrap();
        let mut times = Vec::new();
        while let Some(packet) = reader.next().unwrap() {
            times.push((packet.ts_ns, packet.data[0]));
        }
        assert_eq!((&times[..], reader.untimed()), (&[(5, 1), (5, 2), (7, 3)][..], 1));
    }
}

#[test]
fn what_is_no_capture_is_refused_with_a_reason() {
    let text = |bytes: &[u8]| read(bytes.to_vec()).unwrap_err().to_string();
    assert!(text(b"hello, world, this is text").contains("neither pcap nor pcapng"));
    assert!(text(b"").contains("ends inside the head of a capture: 0 bytes are there"));
    let head = classic(Classic { big_endian: true, nanoseconds: true }, &[]);
    assert!(text(&head[..23]).contains("ends inside the head of a capture: 23 bytes"));
    let mut wifi = classic(Classic { big_endian: false, nanoseconds: false }, &[]);
    wifi[20] = 105;
    assert!(text(&wifi).contains("link type 105"));
    let missing = Reader::open("/nonexistent/capture.pcap").err().unwrap().to_string();
    assert!(missing.contains("/nonexistent/capture.pcap"), "{missing}");
}

#[test]
fn deep10_holds_121_314_whole_packets_and_ends_inside_the_next() {
    let Some(path) = shared("iex/DEEP10.pcap.gz") else { return };
    let mut source = PcapSource::new(Reader::open(path).unwrap(), Speed::Unlimited).unwrap();
    let (mut frames, mut last) = (0u64, 0);
    let mut ordered = true;
    loop {
        let polled = source
            .poll(&mut |frame, ts_ns| {
                assert!(frame.len() >= 42);
                frames += 1;
                ordered &= ts_ns >= last;
                last = ts_ns;
            })
            .unwrap();
        if polled == Polled::Ended {
            break;
        }
    }
    assert_eq!(frames, 121_314);
    assert!(ordered);
    let cut = source.reader().cut().unwrap();
    // Found by walking the file with a dozen lines of another language.
    let expected =
        CutRecord { position: 22_195_748, packets_before: 121_314, present: 476, needed: 1506 };
    assert_eq!(cut, expected);
    assert_eq!(
        cut.to_string(),
        "the file ends inside record 121315 at byte 22195748: 476 of its 1506 bytes are there"
    );
}

#[test]
fn tops16_holds_13_022_packets() {
    let Some(path) = shared("iex/TOPS16.pcapng.gz") else { return };
    let mut reader = Reader::open(path).unwrap();
    while reader.next().unwrap().is_some() {}
    assert_eq!((reader.packets(), reader.snapped(), reader.cut()), (13_022, 0, None));
}

#[test]
fn recorded_speed_keeps_the_pauses() {
    let format = Classic { big_endian: false, nanoseconds: true };
    // The first packet has no time, and the pause is between the others.
    let day = 1_700_000_000_000_000_000;
    let bytes =
        classic(format, &[(0, vec![0]), (day + 1_000, vec![1]), (day + 30_001_000, vec![2])]);
    let reader = Reader::from_read("memory", Cursor::new(bytes)).unwrap();
    let mut source = PcapSource::new(reader, Speed::Recorded).unwrap();
    let (start, mut times, mut idle) = (std::time::Instant::now(), Vec::new(), 0);
    loop {
        match source.poll(&mut |_, _| times.push(start.elapsed())).unwrap() {
            Polled::Frames(_) => {}
            Polled::Ended => break,
            Polled::Idle => {
                idle += 1;
                source.wait(std::time::Duration::from_millis(1));
            }
        }
    }
    assert_eq!(times.len(), 3);
    assert!(idle > 0 && times[2] - times[1] >= std::time::Duration::from_millis(29), "{times:?}");
    assert!(times[1] < std::time::Duration::from_millis(29), "{times:?}");
}
