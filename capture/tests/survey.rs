//! What a capture file is found to hold.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use wiretape_capture::source::survey::{GroupSeen, Survey};
use wiretape_core::pipeline::Protocol;
use wiretape_core::wire::deep10;
use wiretape_core::wire::frame::Route;
use wiretape_core::wire::iextp::{self, Stream};
use wiretape_core::wire::itch50::{Head, OrderDelete};
use wiretape_core::wire::moldudp64;
use zerocopy::IntoBytes;

fn frame(group: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; payload.len() + 60];
    let route = Route::to_group([10, 0, 0, 1], group, 40_000, port);
    let length = route.emit(0, payload, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

fn itch(sequence: u64) -> Vec<u8> {
    let mut buffer = [0; 200];
    let mut builder = moldudp64::Builder::new(&mut buffer, *b"SESSION001", sequence).unwrap();
    let head = Head::new(OrderDelete::KIND, 1, 0, 0);
    assert!(builder.push(OrderDelete { head, order_ref: sequence.into() }.as_bytes()));
    builder.finish().to_vec()
}

/// What other feeds of Nasdaq's are sent in.
fn mold(sequence: u64, message: &[u8]) -> Vec<u8> {
    let mut buffer = [0; 200];
    let mut builder = moldudp64::Builder::new(&mut buffer, *b"SESSION001", sequence).unwrap();
    assert!(builder.push(message));
    builder.finish().to_vec()
}

fn deep(channel: u32) -> Vec<u8> {
    iex(deep10::PROTOCOL, channel)
}

fn iex(messages: u16, channel: u32) -> Vec<u8> {
    let mut buffer = [0; 200];
    let mut stream = Stream::new(messages, channel, 7);
    let mut builder = iextp::Builder::new(&mut buffer, &mut stream).unwrap();
    assert!(builder.push(b"a message"));
    builder.finish(1_500).to_vec()
}

fn write(path: &Path, frames: &[Vec<u8>]) {
    let mut file = [0xA1B2_3C4D_u32, 0x0004_0002, 0, 0, 65_535, 1].as_bytes().to_vec();
    for frame in frames {
        let length = frame.len() as u32;
        file.extend_from_slice([1, 2, length, length].as_bytes());
        file.extend_from_slice(frame);
    }
    std::fs::write(path, file).unwrap();
}

#[test]
fn groups_are_counted_and_known_by_what_most_of_their_packets_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixed.pcap");
    let mut frames: Vec<_> = (1..4).map(|n| frame([233, 54, 12, 111], 26_477, &itch(n))).collect();
    // One packet that somebody else sent to the group does not change what it is.
    frames.push(frame([233, 54, 12, 111], 26_477, b"something else"));
    frames.extend([1, 2].map(|channel| frame([224, 2, 3, 10], 16_648, &deep(channel))));
    frames.push(frame([239, 1, 1, 1], 5_000, b"neither"));
    // TOPS 1.5 is taken as 1.6.
    frames.extend([1; 5].map(|_| frame([224, 2, 3, 12], 16_650, &iex(0x8002, 1))));
    // IEX has more than the messages that are known here.
    frames.extend([1, 2, 3].map(|_| frame([224, 2, 3, 11], 16_649, &iex(0x8005, 1))));
    // Nasdaq sends options by the same transport, and a type may even have the same letter.
    let options = [&b"T\0\0\0\0"[..], b"A\0\0and what follows there", b"o"];
    frames.extend(options.map(|message| frame([233, 54, 12, 101], 18_001, &mold(1, message))));
    let heartbeat = moldudp64::Header::heartbeat(*b"SESSION001", 7);
    frames.push(frame([233, 54, 12, 102], 18_002, heartbeat.as_bytes()));
    let mut arp = vec![0xFF; 60];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    frames.push(arp);
    write(&path, &frames);

    let seen = |group: &str, packets, protocol| GroupSeen {
        group: group.parse().unwrap(),
        packets,
        protocol,
        iex_messages: None,
        iex_channels: 0,
        other_mold: false,
    };
    let expected = Survey {
        groups: vec![
            GroupSeen { iex_channels: 1, ..seen("224.2.3.12:16650", 5, Some(Protocol::Tops16)) },
            seen("233.54.12.111:26477", 4, Some(Protocol::Itch50)),
            GroupSeen {
                iex_messages: Some(0x8005),
                iex_channels: 1,
                ..seen("224.2.3.11:16649", 3, None)
            },
            GroupSeen { other_mold: true, ..seen("233.54.12.101:18001", 3, None) },
            GroupSeen { iex_channels: 2, ..seen("224.2.3.10:16648", 2, Some(Protocol::Deep10)) },
            seen("233.54.12.102:18002", 1, Some(Protocol::Itch50)),
            seen("239.1.1.1:5000", 1, None),
        ],
        packets: 20,
        others: 1,
        snapped: 0,
        foreign: None,
        cut: None,
    };
    assert_eq!(Survey::read(&path).unwrap(), expected);

    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wiretape-capture"));
        let output = command.arg("--pcap").arg(&path).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, said) = run(&["--groups"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("--feed itch50-moldudp64@233.54.12.111:26477"), "{said}");
    assert!(said.contains("IEX-TP, message protocol 0x8005, which is not known here"), "{said}");
    let channels = "deep10-iextp@224.2.3.10:16648 (2 channels, of which a feed follows one)";
    assert!(said.contains(channels), "{said}");
    assert!(said.contains("MoldUDP64, whose messages are not those of ITCH 5.0"), "{said}");
    let mut piped = Command::new(env!("CARGO_BIN_EXE_wiretape-capture"));
    piped.args(["--pcap", "-", "--groups"]).stdin(std::fs::File::open(&path).unwrap());
    assert_eq!(String::from_utf8(piped.output().unwrap().stdout).unwrap(), said);
    let (code, said) = run(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--groups"), "{said}");
    let segments = folder.path().to_str().unwrap();
    let feed = "itch50-moldudp64@233.54.12.111:26477";
    let (code, said) = run(&["--segment-dir", segments, "--confine", "none", "--feed", feed]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("15 packets for groups of no feed"), "{said}");
    let feed = "tops16-iextp@224.2.3.11:16649";
    let (_, said) = run(&["--segment-dir", segments, "--confine", "none", "--feed", feed]);
    assert!(said.contains(": 3 packets (3 malformed: 3 other protocol), 0 messages"), "{said}");
}

/// A pcapng file of two interfaces, Ethernet and one that is not decoded, with a packet of each and one
/// without a time.
#[test]
fn packets_that_are_not_decoded_or_have_no_time_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("two.pcapng");
    let mut file = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let length = (12 + body.len().next_multiple_of(4)) as u32;
        file.extend([kind, length].as_bytes());
        file.extend(body);
        file.resize(file.len().next_multiple_of(4), 0);
        file.extend(length.as_bytes());
    };
    block(0x0A0D_0D0A, [0x1A2B_3C4D_u32, 1, u32::MAX, u32::MAX].as_bytes());
    block(1, [1_u32, 0].as_bytes());
    block(1, [127_u32, 0].as_bytes());
    let frame = frame([233, 54, 12, 111], 26_477, &itch(1));
    let length = frame.len() as u32;
    block(3, &[length.as_bytes(), &frame].concat());
    for interface in [0_u32, 1, 1] {
        block(6, &[[interface, 0, 5, length, length].as_bytes(), &frame].concat());
    }
    std::fs::write(&path, file).unwrap();

    let survey = Survey::read(&path).unwrap();
    assert_eq!((survey.packets, survey.others, survey.groups.len()), (4, 2, 1));
    let told = "2 packets of the file are of link type 127 or another one that is not decoded";
    assert!(survey.to_string().ends_with(told), "{survey}");
    let json = |arguments: &[&str]| -> serde_json::Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wiretape-capture"));
        let output = command.arg("--json").arg("--pcap").arg(&path).args(arguments).output();
        serde_json::from_slice(&output.unwrap().stdout).unwrap()
    };
    assert_eq!(json(&["--groups"])["foreign"], 2);
    let segments = folder.path().to_str().unwrap();
    let feed = "itch50-moldudp64@233.54.12.111:26477";
    let run = json(&["--segment-dir", segments, "--confine", "none", "--feed", feed]);
    assert_eq!((&run["foreign"], &run["untimed"]), (&2.into(), &1.into()), "{run}");
}

#[test]
fn what_a_broken_file_held_before_the_break_is_listed_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.pcap");
    write(&path, &[frame([233, 54, 12, 111], 26_477, &itch(1)), vec![0; 60]]);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    let cut = Survey::read(&path).unwrap();
    assert_eq!((cut.packets, cut.cut.unwrap().present), (1, 66));
    assert!(cut.to_string().contains("\nthe file ends inside record 2 at byte "), "{cut}");

    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&whole).unwrap();
    let compressed = gz.finish().unwrap();
    std::fs::write(&path, &compressed[..compressed.len() - 1]).unwrap();
    let error = Survey::read(&path).unwrap_err();
    assert!(error.to_string().contains("cannot read the capture"), "{error}");
    assert_eq!((error.found.packets, error.found.groups.len()), (2, 1));
    let mut command = Command::new(env!("CARGO_BIN_EXE_wiretape-capture"));
    let output = command.arg("--groups").arg("--pcap").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("--feed itch50-moldudp64@233.54.12.111:26477"), "{said}");
}

#[test]
fn real_captures_are_of_the_protocol_that_their_names_say() {
    let shared = std::env::var_os("WIRETAPE_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    for (file, packets, protocol) in [
        ("iex/DEEP10.pcap.gz", 121_314, Protocol::Deep10),
        ("iex/TOPS16.pcapng.gz", 13_022, Protocol::Tops16),
    ] {
        let path = shared.join("data").join(file);
        if !path.exists() {
            println!("skipped: {} is not there", path.display());
            continue;
        }
        let survey = Survey::read(&path).unwrap();
        let [seen] = survey.groups[..] else { panic!("{:?}", survey.groups) };
        assert_eq!((seen.packets, seen.protocol), (packets, Some(protocol)), "{file}");
    }
}
