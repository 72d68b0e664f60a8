//! The recorder: what it writes is what the capture received, and what it could not write it
//! counts to the frame.

mod recording;
mod rig;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use recording::shared::{FRAME, Shared, options, run};
use recording::{
    Contents, FILTER_ACCEPT, IF_DROP, IF_RECV, LINE_A, LINE_B, OS_DROP, USR_DELIV,
    expect_readable_by_other_tools, expect_the_same_events, feed, interrupt, object, recorder,
    recordings, wait_until_taken,
};
use rig::{FEED, Rig, WIRE, binary, fail, succeed, wait_for};
use wiretape_capture::source::pcap::Reader;
use wiretape_core::frames::Frame;
use wiretape_core::segment::{Counter, Ledger};
use wiretape_host::reader::Segment;
use wiretape_host::record::{
    Compression, RecordNotice, RecordOptions, Room, Rotation, WhenFull, record,
};

fn config(rig: &Rig, retain: u32) -> PathBuf {
    let source = format!(
        "kind = \"xdp\"\ninterface = \"{FEED}\"\npin_dir = \"{}\"\nframes = 32768\n\
         retain_frames = {retain}",
        rig.pins().display(),
    );
    feed(rig, "wire", &source)
}

fn exchange(rig: &Rig, messages: &str, rate: &str) {
    let mut exchange = rig.exchange("wiretape-exchange");
    let fixed = "--sim --seed 11 --symbols 6 --pack-window 100us --lead-in 20 --quiet --udp";
    exchange.args(fixed.split(' ')).args(["--messages", messages, "--rate", rate]);
    exchange.args(["--group", LINE_A, "--line-b", LINE_B, "--interface", WIRE]);
    succeed(exchange.args(["--end-packets", "20"]));
}

#[test]
fn a_recording_that_is_played_again_gives_the_same_events() {
    let Some(rig) = Rig::network("rec") else { return };
    rig.load_xdp(&[LINE_A, LINE_B]);
    let capture = rig.start_capture(&config(&rig, 16384), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let (recorder, output) = recorder(&rig, &["--rotate-mib", "2"]);
    exchange(&rig, "40000", "20000/s");
    wait_until_taken(&segment);
    capture.stop();
    let said = recorder.stop();

    let view = segment.view().expect("a sound segment");
    let frames = view.counters().get(Counter::Frames);
    let ledger = Ledger::read(&view.counters(), true);
    assert!(ledger.closes() && ledger.lost() == 0, "{ledger:?}");
    assert!(said.contains(&format!("\"frames\":{frames},")), "{frames}: {said}");
    assert!(said.contains("\"missed\":0"), "{said}");

    let files = recordings(&output);
    assert!(files.len() > 1, "{files:?}");
    let (mut packets, mut of_lines) = (0, [0, 0]);
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        assert!(name.starts_with("wire-20") && name.ends_with("Z.pcapng"), "{name}");
        let size = file.metadata().expect("the file").len();
        assert!(size <= (2 << 20) + 4096, "{size} bytes");
        let found = Contents::read(file);
        let name = |at: usize| found.interfaces[at].0.as_str();
        assert_eq!((found.interfaces.len(), name(0)), (3, "feed0 queue 0"));
        assert!(found.dropped.is_empty());
        for (interface, count) in &found.packets {
            let (name, text) = &found.interfaces[*interface as usize];
            let line = ["sim:A", "sim:B"].iter().position(|line| name == line).expect(name);
            let group = [LINE_A, LINE_B][line];
            assert_eq!(text, &format!("itch50-moldudp64 {group} on feed0 queue 0"));
            of_lines[line] += count;
            packets += count;
        }
    }
    let last = &Contents::read(files.last().expect("a file")).statistics[&0];
    assert_eq!(last[&IF_RECV], ledger.redirected.expect("an XDP program"));
    assert_eq!((last[&IF_DROP], last[&OS_DROP]), (0, 0));
    assert_eq!((last[&FILTER_ACCEPT], last[&USR_DELIV]), (frames, frames));
    assert_eq!(packets, frames);
    for (at, packets) in of_lines.iter().enumerate() {
        let line = view.line(0, at).expect("a line");
        let brought = line.counter(wiretape_core::segment::LineCounter::Packets);
        assert_eq!(*packets, brought, "line {at}");
    }
    expect_the_same_events(&rig, &files);
    let first = Contents::read(&files[0]);
    expect_readable_by_other_tools(&files[0], first.order.len());
}

#[test]
fn a_recorder_that_stood_still_counts_what_it_missed_to_the_frame() {
    let Some(rig) = Rig::network("lag") else { return };
    rig.load_xdp(&[LINE_A, LINE_B]);
    let capture = rig.start_capture(&config(&rig, 64), "wire");
    let segment = Segment::attach(&rig.segment("wire")).expect("the segment");
    let (recorder, output) = recorder(&rig, &[]);
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| exchange(&rig, "40000", "20000/s"));
        interrupt(&recorder, || sent.is_finished());
    });
    wait_until_taken(&segment);
    capture.stop();
    let ended = recorder.wait();
    let said = rig::text(&ended);
    assert_eq!(ended.status.code(), Some(3), "{said}");

    let view = segment.view().expect("a sound segment");
    let frames = view.counters().get(Counter::Frames);
    let ledger = Ledger::read(&view.counters(), true);
    assert!(ledger.closes() && ledger.lost() == 0, "capture lost something: {ledger:?}");
    let object = object(&said);
    let (recorded, missed) = (object["frames"].as_u64(), object["missed"].as_u64());
    let (recorded, missed) = (recorded.expect("frames"), missed.expect("missed"));
    assert!(missed > 100, "{said}");
    assert_eq!(recorded + missed, frames, "{said}");
    let [file] = recordings(&output).try_into().expect("one file");
    let found = Contents::read(&file);
    assert_eq!(found.order.len() as u64, recorded);
    assert_eq!(found.statistics[&0][&OS_DROP], missed);
    // What was missed behind the last packet stands in the statistics alone.
    let dropped = found.dropped.values().sum();
    assert!((1..=missed).contains(&dropped), "{dropped} of {missed}");
    let ranges = said.lines().filter(|line| line.contains("MISSED")).count();
    assert!(ranges >= 1, "{said}");
}

/// Shares 900 frames, ten a minute from midnight on, and ends.
fn share(shared: &Shared) -> Vec<(u64, Vec<u8>)> {
    share_from(shared, 1)
}

/// The same, of which only packets from number `oldest` on stay.
fn share_from(shared: &Shared, oldest: u64) -> Vec<(u64, Vec<u8>)> {
    let [mut writer] = shared.writers();
    let mut sent = Vec::new();
    for n in 0..900u64 {
        let len = 60 + (n * 7) % 1400;
        let bytes: Vec<u8> = (0..len).map(|i| (i * 3 + n) as u8).collect();
        let (start, ts_recv) =
            (n * FRAME as u64 + 256, (86_400 * 20_000 + n * 6) * 1_000_000_000 + n);
        shared.put(0, start as usize, &bytes);
        writer.publish(Frame { address: start, len: len as u32, ts_recv, ..Frame::default() });
        sent.push((ts_recv, bytes));
    }
    writer.commit();
    writer.recycle_before(oldest);
    shared.end();
    sent
}

/// A run of one queue, which has room for all of these.
fn one_queue(rig: &Rig, epoch: u64) -> Shared {
    Shared::new(rig, epoch, 1, 1024)
}

fn packets(paths: &[PathBuf]) -> Vec<(u64, Vec<u8>)> {
    let mut packets = Vec::new();
    for path in paths {
        let mut reader = Reader::open(path).expect("a recording");
        while let Some(packet) = reader.next().expect("a packet") {
            packets.push((packet.ts_ns, packet.data.to_vec()));
        }
        assert_eq!(reader.cut(), None, "{path:?}");
    }
    packets
}

#[test]
fn files_are_turned_by_time_and_by_size_and_hold_every_frame_once() {
    let rig = Rig::offline("turn");
    let shared = one_queue(&rig, 7);
    let sent = share(&shared);
    for (name, compression, suffix) in [
        ("plain", Compression::None, "Z.pcapng"),
        ("zstd", Compression::Zstd, "Z.pcapng.zst"),
        ("gzip", Compression::Gzip, "Z.pcapng.gz"),
    ] {
        let directory = rig.work.join(name);
        let every = Some(Duration::from_secs(1800));
        let rotation = Rotation { bytes: None, every };
        let options =
            RecordOptions { directory: directory.clone(), rotation, compression, ..options(&rig) };
        let recorded = run(&options).expect("a recording");
        assert_eq!((recorded.frames, recorded.missed, recorded.files), (900, 0, 3));
        let files = recordings(&directory);
        assert_eq!(recorded.last_file.as_ref(), files.last());
        let bytes: u64 = files.iter().map(|file| file.metadata().expect("a file").len()).sum();
        assert_eq!(recorded.file_bytes, bytes);
        assert!(files.iter().all(|file| file.to_string_lossy().ends_with(suffix)), "{files:?}");
        assert_eq!(packets(&files), sent, "{name}");
        assert_eq!(packets(&files[..1]).len(), 300, "half an hour");
    }
    let directory = rig.work.join("size");
    let rotation = Rotation { bytes: Some(100_000), every: None };
    let mut options = RecordOptions { directory: directory.clone(), rotation, ..options(&rig) };
    let recorded = run(&options).expect("a recording");
    assert_eq!(recorded.files, recordings(&directory).len() as u64);
    assert!(recorded.files >= 7, "{} files", recorded.files);
    assert_eq!(packets(&recordings(&directory)), sent);

    // Again, beside what is there: nothing is overwritten, and old files go.
    std::fs::write(directory.join("w-notes.txt"), "kept").expect("a file of the user's");
    let before = recordings(&directory).len() as u64;
    run(&options).expect("a second recording");
    assert_eq!(recordings(&directory).len() as u64, 2 * before - 1);
    options.keep = Some(3);
    run(&options).expect("a third recording");
    let left = recordings(&directory);
    assert_eq!(
        left.iter().filter(|path| path.extension().is_some_and(|e| e == "pcapng")).count(),
        3
    );
    assert!(directory.join("w-notes.txt").exists());
}

#[test]
fn what_stands_in_the_way_of_a_recording_is_one_sentence() {
    let rig = Rig::offline("way");
    let _shared = one_queue(&rig, 7);
    let record = || {
        let mut command = Command::new(binary("wiretape"));
        command.args(["record", "--directory"]).arg(&rig.segments);
        command.arg("--output").arg(rig.work.join("pcap"));
        command
    };
    let absent = fail(record().args(["--segment", "nobody"]));
    assert!(absent.contains("no segment at") && absent.contains("nobody.seg"), "{absent}");
    assert!(!rig.work.join("pcap").exists(), "a failed start leaves a folder behind");
    let blind = fail(record().arg("--wait"));
    assert!(blind.contains("--segment <FILE|WORKER>"), "{blind}");
    let never = fail(record().args(["--rotate-every", "0s"]));
    assert!(never.contains("takes a time"), "{never}");
    // As bytes it would be 0, a file for each packet.
    let beyond = fail(record().args(["--rotate-mib", "17592186044416"]));
    assert!(beyond.contains("is not in 1"), "{beyond}");

    std::fs::write(rig.segments.join("w.frames"), [0; 4096]).expect("damage the frames");
    let damaged = fail(&mut record());
    assert!(damaged.contains("not shared frames"), "{damaged}");
    let mut old = [0; 4096];
    old[..8].copy_from_slice(b"WTFRAMES");
    old[8] = 1;
    std::fs::write(rig.segments.join("w.frames"), old).expect("frames of an old capture");
    let old = fail(&mut record());
    let reads = wiretape_core::frames::VERSION;
    let sentence = format!("of layout version 1; this program reads {reads}");
    assert!(old.contains(&sentence), "{old}");
    std::fs::remove_file(rig.segments.join("w.frames")).expect("remove the frames");
    let none = fail(&mut record());
    assert!(none.contains("shares no frames") && none.contains("retain_frames"), "{none}");
}

#[test]
fn a_full_disk_ends_a_recording_with_what_was_written() {
    let rig = Rig::offline("full");
    let shared = one_queue(&rig, 7);
    share(&shared);
    let disk = rig.work.join("disk");
    std::fs::create_dir(&disk).expect("a mount point");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(&disk);
    if !mount.status().is_ok_and(|status| status.success()) {
        println!("skipped: cannot mount a small file system");
        return;
    }
    let options = RecordOptions { directory: disk.clone(), ..options(&rig) };
    let result = run(&options);
    let left = recordings(&disk);
    let unmounted = Command::new("umount").arg(&disk).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    let error = result.expect_err("a full disk").to_string();
    assert!(error.contains("cannot write") && error.contains("make room"), "{error}");
    assert!(left.iter().all(|path| path.extension().is_some_and(|e| e == "part")), "{left:?}");
}

/// That there was no room, and that there was again.
static TOLD: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

fn note_room(path: &Path, room: Room) {
    assert!(path.to_string_lossy().ends_with(".part"), "{path:?}");
    TOLD[usize::from(room == Room::Back)].store(true, Ordering::Relaxed);
}

#[test]
fn a_recorder_that_waits_for_room_goes_on_when_there_is_some() {
    let rig = Rig::offline("room");
    let disk = rig.work.join("disk");
    std::fs::create_dir(&disk).expect("a mount point");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&disk);
    if !mount.status().is_ok_and(|status| status.success()) {
        println!("skipped: cannot mount a small file system");
        return;
    }
    let filler = disk.join("filler");
    std::fs::write(&filler, vec![0; 4_000_000]).expect("most of the disk");
    let stop = Arc::new(AtomicBool::new(false));
    let recordings_of = |epoch: u64, compression| {
        let shared = one_queue(&rig, epoch);
        let sent = share(&shared);
        let when_full = WhenFull::Wait(note_room);
        let directory = disk.clone();
        let options = RecordOptions { directory, when_full, compression, ..options(&rig) };
        TOLD.iter().for_each(|told| told.store(false, Ordering::Relaxed));
        std::thread::scope(|scope| {
            let recording = scope.spawn(|| record(&options, &stop, &mut |_| {}));
            wait_for("a full disk", || TOLD[0].load(Ordering::Relaxed));
            assert!(!TOLD[1].load(Ordering::Relaxed));
            match compression {
                Compression::None => std::fs::remove_file(&filler).expect("make room"),
                // There will be no room: whoever asks it to stop does not wait.
                _ => stop.store(true, Ordering::Relaxed),
            }
            (recording.join().expect("no panic"), sent)
        })
    };
    let (recorded, sent) = recordings_of(7, Compression::None);
    let recorded = recorded.expect("a recording");
    let written = packets(&recordings(&disk));
    assert!(TOLD[1].load(Ordering::Relaxed));
    std::fs::write(&filler, vec![0; 4 << 20]).expect_err("the rest of the disk");
    let (stopped, _) = recordings_of(8, Compression::Gzip);
    let left = recordings(&disk);
    let unmounted = Command::new("umount").arg(&disk).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_eq!((recorded.frames, recorded.missed, recorded.files), (900, 0, 1));
    assert_eq!(written, sent);
    let error = stopped.expect_err("a full disk").to_string();
    // It waited, and need not be told to.
    assert!(error.contains("No space left") && !error.contains("--wait-for-room"), "{error}");
    let unwritten = error.split_once(" packets that were read are in no file");
    let unwritten = unwritten.and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
    assert!(unwritten.is_some_and(|packets: u64| packets > 0), "{error}");
    assert_eq!(left.len(), 2, "nothing of a file without a byte: {left:?}");
}

#[test]
fn a_disk_that_has_no_room_for_another_file_is_waited_for() {
    static FULL: AtomicBool = AtomicBool::new(false);
    let rig = Rig::offline("inodes");
    let disk = rig.work.join("disk");
    std::fs::create_dir(&disk).expect("a mount point");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "nr_inodes=2", "tmpfs"]).arg(&disk);
    if !mount.status().is_ok_and(|status| status.success()) {
        println!("skipped: cannot mount a small file system");
        return;
    }
    let filler = disk.join("filler");
    std::fs::write(&filler, "").expect("the last file");
    let shared = one_queue(&rig, 7);
    let sent = share(&shared);
    let when_full = WhenFull::Wait(|_, room| FULL.store(room == Room::Gone, Ordering::Relaxed));
    let options = RecordOptions { directory: disk.clone(), when_full, ..options(&rig) };
    let stop = Arc::new(AtomicBool::new(false));
    let recorded = std::thread::scope(|scope| {
        let recording = scope.spawn(|| record(&options, &stop, &mut |_| {}));
        wait_for("a full disk", || FULL.load(Ordering::Relaxed));
        std::fs::remove_file(&filler).expect("make room");
        recording.join().expect("no panic")
    });
    let written = packets(&recordings(&disk));
    let unmounted = Command::new("umount").arg(&disk).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_eq!(recorded.expect("a recording").missed, 0);
    assert_eq!(written, sent);
    assert!(!FULL.load(Ordering::Relaxed));
}

#[test]
fn what_recorders_left_unfinished_is_kept_by_the_same_number() {
    let rig = Rig::offline("left");
    share(&one_queue(&rig, 7));
    let directory = rig.work.join("pcap");
    std::fs::create_dir(&directory).expect("a folder");
    let part =
        |day: u32| directory.join(format!("w-2001010{day}T000000.000000000Z.pcapng.zst.part"));
    for day in 1..=5 {
        std::fs::write(part(day), "left").expect("what a killed recorder left");
    }
    let whole = directory.join("w-20010101T000000.000000000Z.pcapng");
    std::fs::write(&whole, "kept").expect("an older recording");
    // Somebody still writes the oldest.
    let written = std::fs::File::open(part(1)).expect("a part");
    written.try_lock().expect("a lock");
    let options = RecordOptions { keep: Some(2), directory: directory.clone(), ..options(&rig) };
    run(&options).expect("a recording");
    let there: Vec<bool> = (1..=5).map(|day| part(day).exists()).collect();
    assert_eq!(there, [true, false, false, true, true]);
    assert!(whole.exists(), "parts do not push finished ones out");
    assert_eq!(recordings(&directory).len(), 3 + 2);
}

#[test]
fn a_recorder_follows_from_one_capture_to_the_next() {
    let rig = Rig::offline("next");
    let first = one_queue(&rig, 7);
    let options = RecordOptions { wait: true, until_end: false, ..options(&rig) };
    let stop = Arc::new(AtomicBool::new(false));
    let mut epochs = Vec::new();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let recording = scope.spawn(|| {
            record(&options, &stop, &mut |notice| match notice {
                RecordNotice::Began { epoch, .. } => epochs.push(epoch),
                RecordNotice::Ended { .. } => ended.store(true, Ordering::Relaxed),
                _ => {}
            })
        });
        share(&first);
        wait_for("the end of the first run", || ended.swap(false, Ordering::Relaxed));
        share(&one_queue(&rig, 8));
        wait_for("the end of the second run", || ended.load(Ordering::Relaxed));
        stop.store(true, Ordering::Relaxed);
        let recorded = recording.join().expect("no panic").expect("a recording");
        assert_eq!((recorded.frames, recorded.missed, recorded.files), (1800, 0, 2));
    });
    assert_eq!(epochs, [7, 8]);
}

#[test]
fn what_came_while_a_recorder_stood_still_between_runs_is_told() {
    let rig = Rig::offline("between");
    let first = one_queue(&rig, 7);
    share(&first);
    let options = RecordOptions { until_end: false, ..options(&rig) };
    let stop = Arc::new(AtomicBool::new(false));
    let (mut missed, mut of_runs) = (Vec::new(), Vec::new());
    let barrier = std::sync::Barrier::new(2);
    let recorded = std::thread::scope(|scope| {
        let recording = scope.spawn(|| {
            record(&options, &stop, &mut |notice| match notice {
                RecordNotice::Missed { first, end, .. } => missed.push((first, end)),
                RecordNotice::RunMissed { epoch } => of_runs.push(epoch),
                RecordNotice::Ended { epoch: 7 } => {
                    barrier.wait();
                    barrier.wait();
                }
                RecordNotice::Ended { .. } => stop.store(true, Ordering::Relaxed),
                _ => {}
            })
        });
        barrier.wait();
        share(&one_queue(&rig, 8));
        share_from(&one_queue(&rig, 9), 101);
        barrier.wait();
        recording.join().expect("no panic").expect("a recording")
    });
    assert_eq!((missed, of_runs), (vec![(1, 101)], vec![8]));
    assert_eq!((recorded.frames, recorded.missed, recorded.runs_missed), (1700, 100, 1));
    let last = Contents::read(recordings(&rig.work.join("pcap")).last().expect("a file"));
    assert_eq!(last.dropped.values().sum::<u64>(), 100);
    assert_eq!(last.statistics[&0][&FILTER_ACCEPT], 900);
}
