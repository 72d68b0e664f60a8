//! The XDP program itself, run by the kernel on every kind of packet (`BPF_PROG_TEST_RUN`): its
//! verdict, and the one counter that has to move. An oracle, written from the standards and not
//! from the program, judges random packets beside it.

mod frame;
mod namespace;

use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use wiretape_xdp::counters::QUEUES;
use wiretape_xdp::program::{SteerProgram, TestFrame};
use wiretape_xdp::{Counters, Group};

use frame::{Frame, SERVICE_VLAN, VLAN};
use namespace::Namespace;

const PASS: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    NotOurs,
    Matched,
    Fragment,
    Malformed,
}
use Class::{Fragment, Malformed, Matched, NotOurs};

fn group() -> Group {
    Group::new(Ipv4Addr::new(239, 1, 1, 1), 5000).unwrap()
}

/// The program with one group, and what its counters should be.
struct Bench {
    program: SteerProgram,
    expected: Counters,
}

impl Bench {
    fn new() -> Self {
        let program = SteerProgram::load(true).unwrap();
        assert!(program.add_group(group()).unwrap());
        assert!(!program.add_group(group()).unwrap(), "the same group twice is one");
        Self { program, expected: Counters::default() }
    }

    /// Runs a frame; it has to pass, since no socket is there, and to count as `class`.
    fn check(&mut self, bytes: &[u8], tagged: bool, class: Class) {
        let frame = TestFrame { bytes, received_by: None, repeat: 1 };
        let verdict = self.program.test_run(frame).unwrap();
        assert_eq!(verdict.action, PASS);
        expect(&mut self.expected, class, bytes.len(), tagged);
        let counters = self.program.counters(0).unwrap();
        assert_eq!(counters, self.expected, "{class:?} {bytes:02x?}");
        assert!(counters.closes());
    }

    fn check_frame(&mut self, frame: &Frame, class: Class) {
        self.check(&frame.bytes(), !frame.tags.is_empty(), class);
    }
}

fn expect(counters: &mut Counters, class: Class, bytes: usize, tagged: bool) {
    counters.seen += 1;
    counters.vlan += u64::from(tagged);
    match class {
        NotOurs => counters.passed += 1,
        Fragment => counters.fragments += 1,
        Malformed => counters.malformed += 1,
        Matched => {
            counters.matched += 1;
            counters.matched_bytes += bytes as u64;
            counters.no_socket += 1;
        }
    }
}

#[test]
fn each_kind_of_packet() {
    skip_without_rights!();
    let ours = Frame::to(group());
    let with = |change: fn(&mut Frame)| {
        let mut frame = ours.clone();
        change(&mut frame);
        frame
    };
    let cases: [(&str, Frame, Class); 28] = [
        ("to the group", ours.clone(), Matched),
        ("empty payload", with(|f| f.payload = 0), Matched),
        ("may be fragmented, is not", with(|f| f.fragment = 0), Matched),
        ("other group", with(|f| f.address = [239, 1, 1, 2]), NotOurs),
        ("other port", with(|f| f.port = 5001), NotOurs),
        ("port 0, which marks addresses", with(|f| f.port = 0), NotOurs),
        ("port with its bytes swapped", with(|f| f.port = 5000u16.swap_bytes()), NotOurs),
        ("802.1Q", with(|f| f.tags = vec![VLAN]), Matched),
        ("802.1Q, other port", with(|f| (f.tags, f.port) = (vec![VLAN], 1)), NotOurs),
        ("802.1ad and 802.1Q", with(|f| f.tags = vec![SERVICE_VLAN, VLAN]), Matched),
        ("802.1Q twice", with(|f| f.tags = vec![VLAN, VLAN]), Matched),
        ("three tags", with(|f| f.tags = vec![SERVICE_VLAN, VLAN, VLAN]), NotOurs),
        ("ARP", with(|f| f.ethertype = 0x0806), NotOurs),
        ("IPv6", with(|f| (f.ethertype, f.version) = (0x86dd, 6)), NotOurs),
        ("TCP", with(|f| f.protocol = 6), NotOurs),
        ("IGMP", with(|f| f.protocol = 2), NotOurs),
        ("one option word", with(|f| f.options_words = 1), Matched),
        ("ten option words", with(|f| f.options_words = 10), Matched),
        ("first fragment", with(|f| f.fragment = 0x2000), Fragment),
        ("middle fragment", with(|f| f.fragment = 0x2000 | 185), Fragment),
        ("last fragment", with(|f| f.fragment = 185), Fragment),
        ("fragment in a VLAN", with(|f| (f.fragment, f.tags) = (185, vec![VLAN])), Fragment),
        (
            "fragment of another address",
            with(|f| (f.fragment, f.address) = (185, [239, 1, 1, 2])),
            NotOurs,
        ),
        ("fragment of TCP", with(|f| (f.fragment, f.protocol) = (185, 6)), NotOurs),
        ("version 5", with(|f| f.version = 5), Malformed),
        ("header of four words", with(|f| f.header_words = Some(4)), Malformed),
        (
            "options beyond the frame",
            with(|f| (f.payload, f.header_words) = (0, Some(15))),
            Malformed,
        ),
        ("too short for its UDP header", with(|f| f.total_len = Some(27)), Malformed),
    ];
    let mut bench = Bench::new();
    for (what, frame, class) in &cases {
        println!("{what}");
        bench.check_frame(frame, *class);
    }
}

#[test]
fn every_truncation() {
    skip_without_rights!();
    let mut bench = Bench::new();
    for tags in [vec![], vec![VLAN], vec![SERVICE_VLAN, VLAN]] {
        for options_words in [0, 3] {
            let frame =
                Frame { tags: tags.clone(), options_words, payload: 4, ..Frame::to(group()) };
            let bytes = frame.bytes();
            let headers = bytes.len() - 4;
            // The kernel refuses a test run on less than an Ethernet header.
            for len in 14..=bytes.len() {
                let class = if len < headers { Malformed } else { Matched };
                bench.check(&bytes[..len], !frame.tags.is_empty(), class);
            }
        }
    }
}

#[test]
fn a_jumbo_frame_of_several_buffers() {
    skip_without_rights!();
    let mut bench = Bench::new();
    let frame = Frame { payload: 8900, ..Frame::to(group()) };
    bench.check_frame(&frame, Matched);

    let single = SteerProgram::load(false).unwrap();
    single.add_group(group()).unwrap();
    let bytes = Frame::to(group()).bytes();
    single.test_run(TestFrame { bytes: &bytes, received_by: None, repeat: 3 }).unwrap();
    let counters = single.counters(0).unwrap();
    assert_eq!((counters.matched, counters.matched_bytes), (3, 3 * bytes.len() as u64));
}

#[test]
fn each_queue_has_its_slot() {
    skip_without_rights!();
    let namespace = Namespace::with_veth("queues", 1, 66);
    namespace.enter(|| {
        let index = wiretape_xdp::interface::Interface::named("wire").unwrap().index();
        let program = SteerProgram::load(true).unwrap();
        program.add_group(group()).unwrap();
        let bytes = Frame::to(group()).bytes();
        for queue in [0, 1, 63, 64, 65] {
            let frame = TestFrame { bytes: &bytes, received_by: Some((index, queue)), repeat: 1 };
            assert_eq!(program.test_run(frame).unwrap().action, PASS);
        }
        for slot in 0..=QUEUES {
            let expected = match slot {
                0 | 1 | 63 => 1,
                QUEUES => 2,
                _ => 0,
            };
            let counters = program.counters(slot).unwrap();
            assert_eq!((counters.matched, counters.no_socket), (expected, expected), "{slot}");
        }
    });
}

/// What the standards say of a frame.
fn oracle(bytes: &[u8], group: Group) -> (Class, bool) {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let is_tag = |ethertype: u16| ethertype == VLAN || ethertype == SERVICE_VLAN;
    let tagged = word(12).is_some_and(is_tag);
    let judge = || {
        let mut at = 12;
        for _ in 0..2 {
            if is_tag(word(at)?) {
                word(at + 2)?;
                word(at + 4)?;
                at += 4;
            }
        }
        if word(at)? != frame::IPV4 {
            return Some(NotOurs);
        }
        let ip = &bytes[at + 2..];
        if ip.len() < 20 || ip[0] >> 4 != 4 || ip[0] & 15 < 5 {
            return None;
        }
        let header_len = usize::from(ip[0] & 15) * 4;
        if ip[9] != frame::UDP {
            return Some(NotOurs);
        }
        let to_group = ip[16..20] == group.address().octets();
        let more_or_offset = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
        if more_or_offset != 0 {
            return Some(if to_group { Fragment } else { NotOurs });
        }
        let udp = ip.get(header_len..header_len + 8)?;
        if usize::from(u16::from_be_bytes([ip[2], ip[3]])) < header_len + 8 {
            return None;
        }
        let to_port = udp[2..4] == group.port().to_be_bytes();
        Some(if to_group && to_port { Matched } else { NotOurs })
    };
    (judge().unwrap_or(Malformed), tagged)
}

#[test]
fn random_packets_are_judged_as_the_oracle_does() {
    skip_without_rights!();
    let mut bench = Bench::new();
    let tags = prop::collection::vec(prop_oneof![Just(VLAN), Just(SERVICE_VLAN)], 0..4);
    let flips = prop::collection::vec((12usize..70, any::<u8>()), 0..3);
    let frames = (tags, 0u8..11, 0usize..40, flips, 14usize..110).prop_map(
        |(tags, options_words, payload, flips, len)| {
            let frame = Frame { tags, options_words, payload, ..Frame::to(group()) };
            let mut bytes = frame.bytes();
            for (at, value) in flips {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(len.max(14));
            bytes
        },
    );
    let mut seen = Vec::new();
    let mut runner =
        TestRunner::new(Config { cases: 4000, failure_persistence: None, ..Config::default() });
    let cell = std::cell::RefCell::new((&mut bench, &mut seen));
    runner
        .run(&frames, |bytes| {
            let (class, tagged) = oracle(&bytes, group());
            let (bench, seen) = &mut *cell.borrow_mut();
            bench.check(&bytes, tagged, class);
            seen.push(class);
            Ok(())
        })
        .unwrap();
    for class in [NotOurs, Matched, Fragment, Malformed] {
        let count = seen.iter().filter(|other| **other == class).count();
        println!("{class:?}: {count}");
        assert!(count > 20, "the generator must reach {class:?}");
    }
}
