//! The reader library on real segment files, with writers that run, end and are killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wiretape_core::event::Event;
use wiretape_core::segment::State;
use wiretape_host::reader::testing::TestSegment;
use wiretape_host::reader::{
    AttachError, EpochEnd, Followed, Follower, Liveness, Segment, Start, Wait,
};

/// An event whose words all follow from its sequence, so that a torn one shows.
fn event(sequence: u64) -> Event {
    Event { words: std::array::from_fn(|word| sequence.wrapping_mul(0x9E37_79B9) + word as u64) }
}

/// Follows until `done` says so; every sequence is either read, whole, or reported lost.
fn follow(follower: &mut Follower, mut done: impl FnMut(&Followed<'_>, u64) -> bool) -> (u64, u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let (mut next, mut read, mut lost) = (1u64, 0u64, 0u64);
    loop {
        assert!(Instant::now() < deadline, "no end after sequence {next}");
        let followed = follower.poll().unwrap();
        match &followed {
            Followed::Began { first, .. } => next = *first,
            Followed::Events { first, events, .. } => {
                assert_eq!(*first, next);
                for (sequence, found) in (*first..).zip(events.iter()) {
                    assert_eq!(*found, event(sequence), "sequence {sequence}");
                }
                next += events.len() as u64;
                read += events.len() as u64;
            }
            Followed::Lost { lapped, .. } => {
                assert_eq!(lapped.first, next);
                lost += lapped.end - lapped.first;
                next = lapped.end;
            }
            _ => {}
        }
        let idle = matches!(followed, Followed::Idle);
        if done(&followed, next) {
            return (read, lost);
        }
        if idle {
            follower.wait();
        }
    }
}

#[test]
fn every_event_is_read_whole_or_reported_lost_while_the_writer_runs() {
    for (wait, slots) in [(Wait::Spin, 1 << 16), (Wait::Yield, 64), (Wait::Park, 256)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("w.seg");
        let segment = TestSegment::create(&path, 1, slots);
        let mut follower = Follower::new(&path, Start::Oldest).unwrap().with_wait(wait);
        let last = 200_000;
        let (read, lost) = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut events = segment.writer().events();
                for sequence in 1..=last {
                    assert_eq!(events.publish(&event(sequence)), sequence);
                    if sequence % 16 == 0 {
                        events.commit();
                        segment.beat();
                    }
                }
                events.commit();
                segment.writer().header().set_state(State::Ended);
            });
            follow(&mut follower, |followed, _| {
                matches!(followed, Followed::Ended { end: EpochEnd::Clean, through, .. }
                    if *through == last)
            })
        });
        assert_eq!(read + lost, last, "{wait:?}");
        assert!(slots < 1 << 16 || lost < last);
    }
}

#[test]
fn a_new_segment_at_the_path_is_read_from_its_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let mut follower = Follower::waiting(&path, Start::Now);
    assert!(matches!(follower.poll(), Ok(Followed::Idle)));

    let first = TestSegment::create(&path, 10, 64);
    let mut events = first.writer().events();
    let began = |followed: &Followed<'_>| match followed {
        Followed::Began { epoch, .. } => Some(*epoch),
        _ => None,
    };
    follow(&mut follower, |followed, _| began(followed) == Some(10));
    events.publish(&event(1));
    events.commit();
    // Replaced without a word, as after a kill: what was published is read all the same.
    let second = TestSegment::create(&path, 11, 64);
    let mut events = second.writer().events();
    events.publish(&event(1));
    events.publish(&event(2));
    events.commit();
    let mut ended = None;
    let (read, lost) = follow(&mut follower, |followed, _| {
        if let Followed::Ended { epoch, end, through } = followed {
            ended = Some((*epoch, *end, *through));
        }
        ended.is_some()
    });
    assert_eq!((read, lost), (1, 0));
    assert_eq!(ended, Some((10, EpochEnd::Superseded, 1)));
    let (read, _) = follow(&mut follower, |_, next| next == 3);
    assert_eq!(read, 2);
    assert_eq!(follower.segment().unwrap().liveness(), Liveness::Live);
}

#[test]
fn what_is_no_segment_is_refused_in_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let refused = |path: &Path| Segment::attach(path).unwrap_err();
    let missing = refused(&path);
    assert!(missing.is_not_yet() && missing.to_string().contains("wiretape-capture"), "{missing}");
    std::fs::write(&path, b"").unwrap();
    assert!(refused(&path).to_string().contains("too short"));
    std::fs::write(&path, [7u8; 8192]).unwrap();
    assert!(refused(&path).to_string().contains("not a wiretape segment"));
    assert!(matches!(refused(directory.path()), AttachError::File { .. }));

    // Another version of the layout: the word behind the magic.
    drop(TestSegment::create(&path, 1, 64));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 99;
    std::fs::write(&path, &bytes).unwrap();
    let error = refused(&path).to_string();
    assert!(error.contains("version 99"), "{error}");
    // Cut after it was made.
    drop(TestSegment::create(&path, 1, 64));
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 4096).unwrap();
    assert!(!refused(&path).is_not_yet());
    // A pipe, which nobody writes to, is not waited for.
    let pipe = directory.path().join("p.seg");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (answer, answers) = std::sync::mpsc::channel();
    std::thread::spawn(move || answer.send(Segment::attach(&pipe).unwrap_err().to_string()));
    let error = answers.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
    assert!(error.contains("too short"), "{error}");
}

/// Not a test of its own: the writer that the next test kills.
#[test]
fn writer_child() {
    let Some(path) = std::env::var_os("WIRETAPE_TEST_WRITER") else { return };
    let segment = TestSegment::create(Path::new(&path), 1, 1 << 12);
    let mut events = segment.writer().events();
    for sequence in 1.. {
        events.publish(&event(sequence));
        if sequence % 8 == 0 {
            events.commit();
            segment.beat();
            std::thread::yield_now();
        }
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_killed_writer_leaves_a_readable_segment_and_its_successor_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_child", "--nocapture"])
        .env("WIRETAPE_TEST_WRITER", &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let mut follower = Follower::waiting(&path, Start::Oldest).with_wait(Wait::Yield);
    let killed = AtomicBool::new(false);
    let (read, _) = follow(&mut follower, |followed, next| {
        if next > 20_000 && !killed.swap(true, Ordering::Relaxed) {
            child.0.kill().unwrap();
            child.0.wait().unwrap();
        }
        matches!(followed, Followed::Silent { .. })
    });
    assert!(read > 0 && killed.load(Ordering::Relaxed));
    assert!(matches!(follower.segment().unwrap().liveness(), Liveness::Silent(_)));

    let successor = TestSegment::create(&path, 2, 64);
    let mut epochs = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while epochs.len() < 2 {
        assert!(Instant::now() < deadline);
        match follower.poll().unwrap() {
            Followed::Ended { epoch, end, .. } => epochs.push((epoch, Some(end))),
            Followed::Began { epoch, .. } => epochs.push((epoch, None)),
            _ => follower.wait(),
        }
    }
    assert_eq!(epochs, [(1, Some(EpochEnd::Superseded)), (2, None)]);
    drop(successor);
}

#[test]
fn a_run_that_came_and_went_unread_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let _first = TestSegment::create(&path, 10, 64);
    let mut follower = Follower::new(&path, Start::Oldest).unwrap();
    let mut begun = Vec::new();
    let mut until = |last| {
        follow(&mut follower, |followed, _| match followed {
            Followed::Began { epoch, missed, .. } => {
                begun.push((*epoch, *missed));
                *epoch == last
            }
            _ => false,
        });
    };
    until(10);
    let _second = TestSegment::create(&path, 11, 64);
    until(11);
    let _third = TestSegment::create(&path, 12, 64);
    let _fourth = TestSegment::create(&path, 13, 64);
    until(13);
    // What was there is gone: nothing is known of what came between.
    std::fs::remove_file(&path).unwrap();
    let _fifth = TestSegment::create(&path, 14, 64);
    until(14);
    assert_eq!(begun, [(10, None), (11, None), (13, Some(12)), (14, None)]);
}

#[test]
fn a_writer_that_stands_still_for_a_while_is_missed_and_welcomed_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let segment = TestSegment::create(&path, 1, 64);
    let mut follower = Follower::new(&path, Start::Oldest).unwrap();
    follow(&mut follower, |followed, _| matches!(followed, Followed::Silent { .. }));
    segment.beat();
    follow(&mut follower, |followed, _| matches!(followed, Followed::Resumed { .. }));
    let mut events = segment.writer().events();
    events.publish(&event(1));
    events.commit();
    let (read, _) = follow(&mut follower, |_, next| next == 2);
    assert_eq!(read, 1);
}
