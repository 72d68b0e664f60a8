use super::super::{
    AT_EPOCH, AT_FRAMES, AT_QUEUES, AT_VERSION, FramesWriter, HEADER_WORDS, VERSION,
};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::vec::Vec;

const SPEC: FramesSpec = FramesSpec { epoch: 7, queues: 1, frames: 64, frame_size: 2048 };

fn memory(spec: &FramesSpec) -> Vec<AtomicU64> {
    (0..spec.total_bytes().unwrap() / 8).map(|_| AtomicU64::new(0)).collect()
}

fn queue(number: u32) -> QueueIdentity {
    QueueIdentity { interface: "eth7".try_into().unwrap(), queue: number }
}

fn writer<'m>(words: &'m [AtomicU64]) -> FramesWriter<'m> {
    FramesWriter::create(words, &SPEC, 0, &queue(0)).unwrap()
}

/// Fills the frame of `sequence` as the driver does, at an address that is not aligned: eight
/// bytes that say which, again and again.
fn fill(words: &[AtomicU64], sequence: u64, len: u32) -> Frame {
    let frame = sequence % SPEC.frames as u64;
    let at = SPEC.frames_offset(0).unwrap() / 8 + frame as usize * SPEC.frame_size / 8;
    for word in &words[at..at + (len as usize + 3).div_ceil(8)] {
        word.store(sequence, Ordering::Relaxed);
    }
    let address = frame * SPEC.frame_size as u64 + 3;
    Frame { address, len, ts_recv: sequence * 10, ..Frame::default() }
}

/// What `fill` put there.
fn holds(bytes: &[u8], sequence: u64) -> bool {
    let word = sequence.to_ne_bytes();
    bytes.iter().enumerate().all(|(at, byte)| *byte == word[(at + 3) % 8])
}

/// Publishes a packet of frames of these lengths, the first of which gets `sequence`.
fn publish(words: &[AtomicU64], writer: &mut FramesWriter<'_>, sequence: u64, lens: &[u32]) {
    for (index, (len, sequence)) in lens.iter().zip(sequence..).enumerate() {
        let (index, following) = (index as u16, (lens.len() - 1 - index) as u16);
        let frame = Frame { index, following, ..fill(words, sequence, *len) };
        assert_eq!(writer.publish(frame), sequence);
    }
}

#[test]
fn packets_come_out_whole_and_in_order_until_they_are_recycled() {
    let words = memory(&SPEC);
    let mut writer = writer(&words);
    let mut reader = FramesReader::attach(&words, 0).unwrap();
    assert_eq!((reader.spec(), reader.queue()), (SPEC, &queue(0)));
    let mut bytes = [0; 100];
    assert_eq!(reader.read(&mut bytes), Ok(None));
    let mut early = reader.clone();
    for number in 1..=40 {
        publish(&words, &mut writer, number, &[100]);
        let packet = Packet { number, len: 100, frames: 1, ts_recv: number * 10 };
        assert_eq!(reader.read(&mut bytes), Ok(Some(packet)));
        assert!(holds(&bytes, number));
    }
    writer.commit();
    writer.recycle_before(25);
    for _ in 1..5 {
        assert!(matches!(reader.read(&mut bytes), Ok(None)));
    }
    assert_eq!(early.read(&mut bytes), Err(Missed::Recycled { first: 1, end: 27 }));
    assert!(matches!(early.read(&mut bytes), Ok(Some(Packet { number: 27, .. }))));
    let late = FramesReader::attach(&words, 0).unwrap();
    assert_eq!(late.next_packet(), 25);
}

#[test]
fn a_packet_of_several_frames_is_read_once_all_of_them_are_there() {
    let words = memory(&SPEC);
    let mut writer = writer(&words);
    let mut reader = FramesReader::attach(&words, 0).unwrap();
    let mut bytes = [0; PACKET_MAX];
    publish(&words, &mut writer, 1, &[60]);
    assert!(matches!(reader.read(&mut bytes), Ok(Some(Packet { frames: 1, .. }))));
    for (index, len) in [(0, 1792), (1, 1792), (2, 300)] {
        assert_eq!(reader.read(&mut bytes), Ok(None), "{index} of 3 are there");
        let frame = fill(&words, 2 + u64::from(index), len);
        writer.publish(Frame { index, following: 2 - index, ts_recv: 77, ..frame });
    }
    let packet = Packet { number: 2, len: 3884, frames: 3, ts_recv: 77 };
    assert_eq!(reader.read(&mut bytes), Ok(Some(packet)));
    assert!(holds(&bytes[..1792], 2) && holds(&bytes[1792..3584], 3));
    assert!(holds(&bytes[3584..3884], 4));
    assert_eq!(reader.read(&mut bytes), Ok(None));
    // As much as fits is copied of one that is longer than the buffer.
    publish(&words, &mut writer, 5, &[1792, 1000]);
    let mut short = [0; 1800];
    assert!(matches!(reader.read(&mut short), Ok(Some(Packet { len: 2792, .. }))));
    assert!(holds(&short[..1792], 5) && holds(&short[1792..], 6));
}

#[test]
fn a_packet_of_which_a_frame_is_gone_is_missed_as_a_whole() {
    let words = memory(&SPEC);
    let mut writer = writer(&words);
    let mut reader = FramesReader::attach(&words, 0).unwrap();
    let mut bytes = [0; PACKET_MAX];
    publish(&words, &mut writer, 1, &[60]);
    publish(&words, &mut writer, 2, &[1792, 1792, 1000]);
    publish(&words, &mut writer, 5, &[1792, 80]);
    writer.commit();
    // Inside packet 2; packet 3 is there.
    writer.recycle_before(4);
    let mut late = FramesReader::attach(&words, 0).unwrap();
    assert_eq!(reader.read(&mut bytes), Err(Missed::Recycled { first: 1, end: 3 }));
    for reader in [&mut reader, &mut late] {
        let found = reader.read(&mut bytes).unwrap().unwrap();
        assert_eq!((found.number, found.len, found.frames), (3, 1872, 2));
        assert_eq!(reader.read(&mut bytes), Ok(None));
    }
    // Its last frame alone is left, and nothing behind it: the loss is told nevertheless.
    publish(&words, &mut writer, 7, &[1792, 1792, 1792, 9]);
    writer.commit();
    writer.recycle_before(10);
    assert_eq!(reader.read(&mut bytes), Err(Missed::Recycled { first: 4, end: 5 }));
    assert_eq!(reader.read(&mut bytes), Ok(None));
    assert_eq!((reader.next_packet(), late.next_packet()), (5, 4));
}

#[test]
fn a_record_that_makes_no_sense_is_refused_and_passed() {
    let words = memory(&SPEC);
    let mut writer = writer(&words);
    let mut reader = FramesReader::attach(&words, 0).unwrap();
    let end = (SPEC.frames * SPEC.frame_size) as u64;
    let frame = |address, len| Frame { address, len, ..Frame::default() };
    let mut bytes = [0; 100];
    for bad in [
        frame(end - 99, 100),
        frame(u64::MAX, 100),
        frame(0, 2049),
        frame(0, u32::MAX),
        Frame { index: 1, ..frame(0, 60) },
    ] {
        let sequence = writer.publish(bad);
        assert_eq!(reader.read(&mut bytes), Err(Missed::Damaged { sequence }), "{bad:?}");
        writer.publish(frame(end - 100, 100));
        while reader.read(&mut bytes) != Ok(None) {}
    }
    // More frames than a packet has, a packet that is too long, parts that do not follow.
    let mut wrong = |frames: &[Frame]| {
        let first = frames.iter().map(|frame| writer.publish(*frame)).min().unwrap();
        let found = reader.read(&mut bytes);
        assert!(
            matches!(found, Err(Missed::Damaged { sequence }) if sequence >= first),
            "{found:?}"
        );
        // The one may share its number with what was refused.
        writer.publish(frame(0, 90));
        writer.publish(frame(0, 100));
        let mut last = 0;
        while let Some(packet) = reader.read(&mut bytes).unwrap_or(Some(Packet::default())) {
            last = packet.len;
        }
        assert_eq!(last, 100, "the reader goes on");
    };
    wrong(&[Frame { following: PACKET_FRAMES_MAX as u16, ..frame(0, 60) }]);
    wrong(&[Frame { following: 2, ..frame(0, 60) }, Frame { index: 1, ..frame(0, 60) }]);
    wrong(&[Frame { following: 1, ..frame(0, 60) }, frame(0, 60)]);
    let parts: Vec<_> =
        (0..9).map(|index| Frame { index, following: 8 - index, ..frame(0, 2048) }).collect();
    wrong(&parts);
}

#[test]
fn memory_that_is_no_packet_memory_is_named() {
    let spec = FramesSpec { queues: 2, ..SPEC };
    let words = memory(&spec);
    let refused = |words: &[AtomicU64], index| FramesReader::attach(words, index).unwrap_err();
    assert_eq!(refused(&words, 0), FramesError::Magic { found: 0 });
    assert_eq!(refused(&[], 0), FramesError::Magic { found: 0 });
    for index in 0..2 {
        FramesWriter::create(&words, &spec, index, &queue(3 + index as u32)).unwrap();
    }
    for index in 0..2 {
        let reader = FramesReader::attach(&words, index).unwrap();
        assert_eq!((reader.spec(), reader.queue()), (spec, &queue(3 + index as u32)));
    }
    assert_eq!(refused(&words, 2), FramesError::NoQueue { index: 2, queues: 2 });
    let short = refused(&words[..words.len() - 1], 0);
    assert!(matches!(short, FramesError::Memory { .. }), "{short}");
    let second = words.len() / 2;
    words[second + AT_EPOCH].store(8, Ordering::Relaxed);
    assert_eq!(refused(&words, 1), FramesError::Section { index: 1 });
    words[second].store(8, Ordering::Relaxed);
    assert_eq!(refused(&words, 1), FramesError::Magic { found: 8 });
    words[AT_QUEUES].store(9, Ordering::Relaxed);
    assert_eq!(refused(&words, 0), FramesError::Queues { found: 9 });
    words[AT_FRAMES].store(u64::MAX, Ordering::Relaxed);
    let geometry = refused(&words, 0);
    assert!(matches!(geometry, FramesError::Geometry { .. }), "{geometry}");
    words[AT_VERSION].store(1, Ordering::Relaxed);
    let version = refused(&words, 0);
    assert_eq!(version, FramesError::Version { found: 1 });
    assert!(std::format!("{version}").ends_with(&std::format!("reads {VERSION}")), "{version}");
}

/// The writer reuses frames as fast as it can; every packet, of one frame or of three, is read
/// whole or counted.
#[test]
fn read_and_missed_make_up_all_packets_while_the_writer_recycles() {
    const PACKETS: u64 = if cfg!(miri) { 300 } else { 120_000 };
    let words = memory(&SPEC);
    let mut writer = writer(&words);
    let mut reader = FramesReader::attach(&words, 0).unwrap();
    let ended = AtomicBool::new(false);
    let (mut read, mut missed) = (0, 0);
    // The first sequence of packet n: packets of 1, 3, 1, 3… frames.
    let sequence_of = |number: u64| 1 + (number - 1) / 2 * 4 + u64::from(number.is_multiple_of(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=PACKETS {
                let sequence = sequence_of(number);
                writer.recycle_before(sequence.saturating_sub(48).max(1));
                let lens = if number.is_multiple_of(2) { &[100, 90, 80][..] } else { &[100] };
                publish(&words, &mut writer, sequence, lens);
                writer.commit();
            }
            ended.store(true, Ordering::Release);
        });
        let mut bytes = [0; 300];
        loop {
            let last = ended.load(Ordering::Acquire);
            match reader.read(&mut bytes) {
                Ok(Some(packet)) => {
                    let sequence = sequence_of(packet.number);
                    assert!(holds(&bytes[..100], sequence), "{packet:?}: {bytes:?}");
                    if packet.number.is_multiple_of(2) {
                        assert_eq!((packet.len, packet.frames), (270, 3));
                        assert!(holds(&bytes[100..190], sequence + 1), "{packet:?}: {bytes:?}");
                        assert!(holds(&bytes[190..270], sequence + 2), "{packet:?}: {bytes:?}");
                    }
                    assert_eq!(packet.ts_recv, sequence * 10);
                    read += 1;
                }
                Ok(None) if last => break,
                Ok(None) => std::thread::yield_now(),
                Err(Missed::Recycled { first, end }) => missed += end - first,
                Err(damaged) => panic!("{damaged}"),
            }
        }
    });
    assert_eq!((read + missed, reader.next_packet()), (PACKETS, PACKETS + 1));
}

/// What the writer and the reader of the model do next.
#[derive(Clone, Debug)]
enum Act {
    /// A packet of frames of these lengths.
    Publish(Vec<u32>),
    /// All but the latest so many frames go back to the driver.
    Keep(u64),
    Read(u8),
    Attach,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => prop::collection::vec(0..400_u32, 1..6).prop_map(Act::Publish),
        1 => (1..40_u64).prop_map(Act::Keep),
        3 => (1..12_u8).prop_map(Act::Read),
        1 => Just(Act::Attach),
    ]
}

/// A packet as the model knows it.
struct Known {
    first: u64,
    lens: Vec<u32>,
}

/// The model's twin of one reader.
struct Follower<'m> {
    reader: FramesReader<'m>,
    /// The packet that comes next.
    next: u64,
}

impl Follower<'_> {
    /// Reads once, and holds what came against what was published. Whether there is more.
    fn read(&mut self, published: &BTreeMap<u64, Known>, oldest: u64) -> bool {
        let mut bytes = [0; PACKET_MAX];
        let before = self.reader.reader.position();
        match self.reader.read(&mut bytes) {
            Ok(Some(packet)) => {
                let known = &published[&packet.number];
                assert_eq!((packet.number, packet.frames), (self.next, known.lens.len()));
                assert!(known.first >= oldest, "{packet:?} is gone");
                let mut at = 0;
                for (len, sequence) in known.lens.iter().zip(known.first..) {
                    assert!(holds(&bytes[at..at + *len as usize], sequence), "{packet:?}");
                    at += *len as usize;
                }
                assert_eq!(packet.len, at);
                self.next += 1;
                true
            }
            Ok(None) => {
                assert_eq!(self.next, published.len() as u64 + 1, "something was withheld");
                false
            }
            Err(Missed::Recycled { first, end }) => {
                assert_eq!(first, self.next);
                assert!(first < end && end <= published.len() as u64 + 1, "{first}..{end}");
                assert!(before < oldest, "{before} is still there");
                self.next = end;
                true
            }
            Err(damaged) => panic!("{damaged}"),
        }
    }
}

proptest! {
    #[test]
    fn a_reader_tells_of_every_packet_once(acts in prop::collection::vec(act(), 1..120)) {
        let words = memory(&SPEC);
        let mut writer = writer(&words);
        let mut followers =
            std::vec![Follower { reader: FramesReader::attach(&words, 0).unwrap(), next: 1 }];
        let (mut published, mut oldest, mut next) = (BTreeMap::new(), 1, 1);
        for act in acts {
            match act {
                Act::Publish(lens) => {
                    // What the driver writes to has been given back, and the ring can tell of one
                    // frame fewer than it has slots.
                    let end = next + lens.len() as u64;
                    if end > oldest + 63 {
                        oldest = end - 48;
                        writer.recycle_before(oldest);
                    }
                    publish(&words, &mut writer, next, &lens);
                    writer.commit();
                    published.insert(published.len() as u64 + 1, Known { first: next, lens });
                    next = end;
                }
                Act::Keep(frames) => {
                    oldest = oldest.max(next.saturating_sub(frames));
                    writer.recycle_before(oldest);
                }
                Act::Read(times) => {
                    for follower in &mut followers {
                        (0..times).all(|_| follower.read(&published, oldest));
                    }
                }
                Act::Attach => {
                    let reader = FramesReader::attach(&words, 0).unwrap();
                    let whole = published.iter().find(|(_, known)| known.first >= oldest);
                    let next = whole.map_or(published.len() as u64 + 1, |(number, _)| *number);
                    prop_assert_eq!(reader.next_packet(), next);
                    followers.push(Follower { reader, next });
                }
            }
        }
        for follower in &mut followers {
            while follower.read(&published, oldest) {}
        }
    }

    /// Whatever a writer that is dying or hostile leaves in the memory, every call ends and no
    /// packet is longer than there are bytes for.
    #[test]
    fn spoilt_memory_is_read_without_harm(
        before in prop::collection::vec(prop::collection::vec(0..2048_u32, 1..6), 1..12),
        patches in prop::collection::vec((0..HEADER_WORDS + 64 * 8, any::<u64>(), 0..4_u8), 1..24),
    ) {
        let words = memory(&SPEC);
        let mut writer = writer(&words);
        let mut early = FramesReader::attach(&words, 0).unwrap();
        let mut next = 1;
        for lens in before {
            publish(&words, &mut writer, next, &lens);
            writer.commit();
            next += lens.len() as u64;
        }
        for (at, value, how) in patches {
            let word = &words[at];
            let was = word.load(Ordering::Relaxed);
            let value = match how {
                0 => value,
                1 => was.wrapping_add(value % 8),
                2 => was.wrapping_sub(value % 8),
                _ => was ^ 1 << (value % 64),
            };
            word.store(value, Ordering::Relaxed);
        }
        let mut bytes = [0; PACKET_MAX];
        for reader in [Some(&mut early), FramesReader::attach(&words, 0).ok().as_mut()] {
            let Some(reader) = reader else { continue };
            for _ in 0..200 {
                match reader.read(&mut bytes) {
                    Ok(Some(packet)) => {
                        prop_assert!(packet.len <= PACKET_MAX);
                        prop_assert!((1..=PACKET_FRAMES_MAX).contains(&packet.frames));
                    }
                    Ok(None) => break,
                    Err(_) => {}
                }
            }
        }
    }
}
