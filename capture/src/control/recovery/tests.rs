use super::*;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::channel;
use std::thread;

use wiretape_core::segment::{SegmentLayout, SegmentSpec};

const SEGMENT: SegmentSpec<'static> = SegmentSpec {
    worker: "test",
    epoch: 1,
    pid: 0,
    event_slots: 16,
    instruments: 1,
    feeds: 1,
    depths: 0,
};
const SESSION: [u8; 10] = *b"TEST000001";
const FIRST: u64 = 6;
const END: u64 = 66;
/// Messages of 50 bytes: 28 fit an answer.
const MESSAGE: [u8; 50] = [b'?'; 50];

fn packet(first: u64, end: u64) -> Vec<u8> {
    let mut buffer = vec![0; 8_000];
    let mut builder = Builder::new(&mut buffer, SESSION, first).unwrap();
    for number in first..end {
        let mut message = MESSAGE;
        message[..8].copy_from_slice(&number.to_be_bytes());
        assert!(builder.push(&message));
    }
    builder.finish().to_vec()
}

/// Numbers of the messages that a client hands over which asks for `FIRST..END` at a server that
/// answers each request with `answer` of its first message, from `port` of its two.
fn recovered(port: usize, answer: fn(u64) -> Vec<u8>) -> Vec<u64> {
    let sockets = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
    let SocketAddr::V4(server) = sockets[0].local_addr().unwrap() else { panic!() };
    let words = SegmentLayout::new(&SEGMENT).unwrap().total_words;
    let words: Vec<_> = (0..words).map(|_| AtomicU64::new(0)).collect();
    let segment = SegmentWriter::create(&words, &SEGMENT).unwrap();
    let mut rings = RecoveryRings::new();
    let (mut worker, control) = rings.ends();
    let (teacher, learned) = channel();
    let patience = Duration::from_secs(20);
    teacher.send((0, RecoveryConfig { servers: vec![server], patience })).unwrap();
    let mut client = RecoveryClient::open(&[], learned, control, segment).unwrap();
    let mut request = RecoveryRequest::default();
    (request.first, request.end, request.session) = (FIRST, END, SESSION);
    assert!(worker.ask.push(request).is_ok());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 64];
            loop {
                let (len, client) = sockets[0].recv_from(&mut bytes).unwrap();
                let Ok(request) = Request::parse(&bytes[..len]) else { return };
                let answer = answer(request.sequence.get());
                sockets[port].send_to(&answer, client).unwrap();
            }
        });
        let mut numbers: Vec<u64> = Vec::new();
        while numbers.last() != Some(&(END - 1)) {
            client.visit();
            while let Some(answer) = worker.answered.pop() {
                let packet = Packet::parse(answer.payload()).expect("a whole packet");
                for (number, message) in (packet.sequence()..).zip(packet.messages()) {
                    assert_eq!(message[..8], number.to_be_bytes());
                    numbers.push(number);
                }
            }
        }
        // What is no request ends the server.
        client.socket.send_to(&[], server).unwrap();
        numbers
    })
}

fn all() -> Vec<u64> {
    (FIRST..END).collect()
}

#[test]
fn an_answer_from_another_port_of_the_server_is_one() {
    assert_eq!(recovered(1, |first| packet(first, END)), all());
}

#[test]
fn an_answer_that_is_too_long_is_taken_as_far_as_it_fits_and_the_rest_is_asked_for() {
    // 60 messages make 3,140 bytes.
    assert_eq!(recovered(0, |first| packet(first, END)), all());
    // With five in front that nobody asked for.
    let mut numbers = recovered(0, |first| packet(first - 5, END));
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, all());
}

#[test]
fn an_answer_of_one_message_is_followed_by_a_request_for_the_rest() {
    assert_eq!(recovered(0, |first| packet(first, first + 1)), all());
}
