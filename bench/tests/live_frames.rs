//! Live frames over a veth pair. Needs root and BPF; skips, with the reason, where they are
//! missing.

mod network;

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use network::{End, Pair};
use wiretape_bench::exchange::interface::Interface;
use wiretape_bench::exchange::packet::{Batch, Packet};
use wiretape_bench::exchange::sink::live_frames::{
    FRAME_MAX, LiveFramesSink, ReplaySkel, ReplaySkelBuilder,
};
use wiretape_bench::exchange::sink::{Sent, Sink};
use wiretape_core::wire::frame::Route;

/// Attached to the receiving end, which then takes frames in, counts and drops them.
struct Counter {
    skel: ReplaySkel<'static>,
    _link: libbpf_rs::Link,
}

impl Counter {
    fn attach(pair: &Pair) -> Result<Counter, String> {
        pair.run(End::Receiver, || {
            // A few hundred bytes, for as long as the test runs.
            let object = Box::leak(Box::new(MaybeUninit::uninit()));
            let open = ReplaySkelBuilder::default().open(object).map_err(|e| e.to_string())?;
            let skel = open.load().map_err(|error| format!("no rights for BPF: {error}"))?;
            let index = Interface::find("wrx0").map_err(|e| e.to_string())?.index as i32;
            let link = skel.progs.swallow.attach_xdp(index).map_err(|e| e.to_string())?;
            Ok(Counter { skel, _link: link })
        })
    }

    /// Frames and bytes received so far. Frames of the kernel's own (neighbour discovery) are
    /// among them.
    fn received(&self) -> (u64, u64) {
        let data = self.skel.maps.bss_data.as_deref().unwrap();
        (data.swallowed_frames, data.swallowed_bytes)
    }
}

/// A pair with a counter, or the reason why there is none.
fn counted_pair() -> Option<(Pair, Counter)> {
    let made = Pair::make().and_then(|pair| {
        let counter = Counter::attach(&pair)?;
        Ok((pair, counter))
    });
    made.map_err(|reason| println!("skipped: {reason}")).ok()
}

fn route() -> Route {
    Route::to_group([10, 99, 0, 1], [239, 77, 1, 3], 4_000, 4_700)
}

fn packets(batch: &Batch) -> Vec<Packet<'_>> {
    (0..batch.len()).map(|i| batch.get(i).unwrap()).collect()
}

/// Frames of every length that there is, and of other lengths between them.
fn mixed_lengths() -> Batch {
    let mut batch = Batch::new();
    for i in 0..1_000_u32 {
        let length = (i as usize * 619) % (1_472 - 4);
        let mut payload = i.to_be_bytes().to_vec();
        payload.resize(4 + length, i as u8);
        batch.push_datagram(u64::from(i), &route(), &payload, 1).unwrap();
    }
    batch
}

#[test]
fn every_frame_arrives_with_its_own_content() {
    let pair = match Pair::make() {
        Ok(pair) => pair,
        Err(reason) => return println!("skipped: {reason}"),
    };
    // Without an XDP program at its end, a veth takes live frames in if its GRO is on.
    let gro = ["netns", "exec", pair.name(End::Receiver), "ethtool", "-K", "wrx0", "gro", "on"];
    if !Command::new("ip").args(gro).output().is_ok_and(|output| output.status.success()) {
        return println!("skipped: `ethtool` does not run");
    }
    let group = Ipv4Addr::new(239, 77, 1, 3);
    let socket = pair.run(End::Receiver, || {
        let socket = UdpSocket::bind((group, 4_700)).unwrap();
        socket.join_multicast_v4(&group, &Ipv4Addr::new(10, 99, 0, 2)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    });
    let batch = mixed_lengths();
    let sent = packets(&batch);
    let opened = pair.run(End::Sender, || {
        let tx = Interface::find("wtx0").unwrap();
        let mut sink = match LiveFramesSink::open(&tx) {
            Ok(sink) => sink,
            Err(error) => {
                println!("skipped: {error}");
                return false;
            }
        };
        let mut buffer = vec![0; 2_048];
        // So few at once that the socket's buffer holds them. Twice, so that slots are reused.
        for group in sent.chunks(40).chain(sent.chunks(33)) {
            assert_eq!(sink.send(group).unwrap().packets, group.len() as u64);
            for packet in group {
                let length = socket.recv(&mut buffer).expect("a frame of this group");
                assert!(buffer[..length] == *packet.datagram.unwrap().1);
            }
        }
        true
    });
    println!("{}", if opened { "2000 frames compared" } else { "nothing was sent" });
}

#[test]
fn as_many_frames_arrive_as_were_sent_and_others_are_counted() {
    let Some((pair, counter)) = counted_pair() else { return };
    let mut batch = mixed_lengths();
    // None of these can be sent: too short, longer than a slot, longer than the MTU allows.
    batch.push_frame(0, &[0xFF; 13], |_| 1);
    batch.push_frame(0, &[0xFF; FRAME_MAX + 1], |_| 1);
    batch.push_frame(0, &[0xFF; 1_500 + 19], |_| 1);
    // The longest that can.
    batch.push_frame(0, &[0xFF; 1_500 + 18], |_| 1);
    let before = counter.received();
    let (sent, counted) = pair.run(End::Sender, || {
        let tx = Interface::find("wtx0").unwrap();
        let before = tx.sent_and_dropped().unwrap();
        let mut sink = LiveFramesSink::open(&tx).unwrap();
        let mut sent = Sent::default();
        for _ in 0..20 {
            sent += sink.send(&packets(&batch)).unwrap();
        }
        let after = tx.sent_and_dropped().unwrap();
        (sent, (after.0 - before.0, after.1 - before.1))
    });
    assert_eq!((sent.packets, sent.skipped), (20 * 1_001, 20 * 3));
    let deadline = Instant::now() + Duration::from_secs(5);
    while counter.received().1 < before.1 + sent.bytes && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (frames, bytes) = counter.received();
    let own = 50;
    assert!((sent.packets..sent.packets + own).contains(&(frames - before.0)), "{frames}");
    assert!((sent.bytes..sent.bytes + own * 200).contains(&(bytes - before.1)), "{bytes}");
    assert!(counted.0 >= sent.packets && counted.1 == 0, "the interface counted {counted:?}");
}

/// Not a test of anything but the machine: run it by name to see what live frames reach here.
#[test]
#[ignore = "a measurement: cargo test --release --test live_frames -- --ignored --nocapture"]
fn rate_by_frame_length_and_batch() {
    let Some((pair, counter)) = counted_pair() else { return };
    for payload in [100, 400, 1_400] {
        for run in [1, 8, 64, 256, 1_024] {
            let mut batch = Batch::new();
            for i in 0..run {
                batch.push_datagram(i as u64, &route(), &vec![i as u8; payload], 1).unwrap();
            }
            let before = counter.received().0;
            let (sent, seconds) = pair.run(End::Sender, || {
                let tx = Interface::find("wtx0").unwrap();
                let mut sink = LiveFramesSink::open(&tx).unwrap();
                let (start, mut sent) = (Instant::now(), Sent::default());
                while start.elapsed() < Duration::from_millis(500) {
                    sent += sink.send(&packets(&batch)).unwrap();
                }
                (sent, start.elapsed().as_secs_f64())
            });
            println!(
                "payload {payload:4}, {run:4} a call: {:9.0} packets/s, {:6.2} % received",
                sent.packets as f64 / seconds,
                100.0 * (counter.received().0 - before) as f64 / sent.packets as f64,
            );
        }
    }
}
