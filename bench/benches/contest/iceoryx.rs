//! iceoryx2's publish-subscribe, between threads and between processes, as its examples use it:
//! zero-copy, with a buffer as long as the other rings', and a publisher that waits for a full one.

use std::hint::spin_loop;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use iceoryx2::node::{Node, NodeBuilder};
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::port::update_connections::UpdateConnections as _;
use iceoryx2::prelude::{BackpressureStrategy, PortFactory as _, ServiceName, ipc};
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

use super::broadcast::{SLOTS, fold};
use super::contest::{Run, pin};
use super::latency::{spin_loop_hint, timed, two_processes};

/// 64 bytes, as a slot of the others.
type Their = [u64; 8];
type Service = PortFactory<ipc::Service, Their, ()>;

fn node() -> Node<ipc::Service> {
    NodeBuilder::new().create::<ipc::Service>().expect("iceoryx2 makes a node")
}

/// A service of this process and its children.
fn service(node: &Node<ipc::Service>, name: &str) -> Service {
    let name = format!("wiretape bench {name}");
    let name = ServiceName::new(&name).expect("a name that is not too long");
    let builder = node.service_builder(&name).publish_subscribe::<Their>();
    let builder = builder.subscriber_max_buffer_size(SLOTS).enable_safe_overflow(false);
    builder.history_size(0).open_or_create().expect("iceoryx2 makes a service")
}

fn publisher(service: &Service) -> Publisher<ipc::Service, Their, ()> {
    let builder = service.publisher_builder();
    let builder = builder.backpressure_strategy(BackpressureStrategy::RetryUntilDelivered);
    builder.create().expect("iceoryx2 makes a publisher")
}

fn subscriber(service: &Service) -> Subscriber<ipc::Service, Their, ()> {
    service.subscriber_builder().buffer_size(SLOTS).create().expect("iceoryx2 makes a subscriber")
}

fn publish(publisher: &Publisher<ipc::Service, Their, ()>, number: u64) {
    let mut words = [number; 8];
    words[6] = number.wrapping_mul(3);
    let sample = publisher.loan_uninit().expect("a sample is free").write_payload(words);
    sample.send().expect("the subscriber is there");
}

/// The next event, if it is there.
fn receive(subscriber: &Subscriber<ipc::Service, Their, ()>) -> Option<Their> {
    subscriber.receive().expect("the connection holds").map(|sample| *sample)
}

/// One event after the other from core 0 to core 1.
pub fn singly(count: u64) -> Run {
    // Now and then a publisher has sent everything and the subscriber gets nothing, for ever: such a
    // round does not count.
    (0..10).find_map(|_| all_delivered(count)).expect("iceoryx2 delivers in one round of ten")
}

/// Looks of a subscriber, after the last event was sent, that show that no more comes.
const LOOKS: u64 = 10_000_000;

fn all_delivered(count: u64) -> Option<Run> {
    let name = format!("{} singly", std::process::id());
    let (ready, sent) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(0);
            let node = node();
            let publisher = publisher(&service(&node, &name));
            ready.wait();
            // A publisher that has not met the subscriber yet drops what it sends.
            publisher.update_connections().expect("the subscriber is there");
            (1..=count).for_each(|number| publish(&publisher, number));
            sent.store(true, Ordering::Release);
            // The samples belong to the publisher: it stays until they are read.
            ready.wait();
        });
        let reading = scope.spawn(|| {
            pin(1);
            let node = node();
            let subscriber = subscriber(&service(&node, &name));
            ready.wait();
            let start = Instant::now();
            let (mut check, mut read, mut in_vain) = (0, 0, 0);
            while read < count && in_vain < LOOKS {
                match receive(&subscriber) {
                    Some(words) => {
                        check = fold(check, words[0], words[6]);
                        (read, in_vain) = (read + 1, 0);
                    }
                    None => {
                        spin_loop();
                        in_vain += u64::from(sent.load(Ordering::Acquire));
                    }
                }
            }
            let took = start.elapsed();
            ready.wait();
            (read == count).then_some(Run { took, check })
        });
        reading.join().expect("the reading thread does not panic")
    })
}

/// One event each way between two processes.
pub fn round_trips(count: u64) -> Run {
    let id = std::process::id();
    let (there, back) = (format!("{id} there"), format!("{id} back"));
    // Each side has its ports, and waits for the other's subscriber.
    let side = |out: &str, home: &str| {
        let node = node();
        let (out, home) = (service(&node, out), service(&node, home));
        let (publisher, subscriber) = (publisher(&out), subscriber(&home));
        while out.dynamic_config().number_of_subscribers() == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
        (node, publisher, subscriber)
    };
    let take = |subscriber: &_, number: u64| {
        loop {
            match receive(subscriber) {
                Some(words) => return assert_eq!(words[0], number),
                None => spin_loop_hint(),
            }
        }
    };
    let ask = |trips| {
        let (_node, publisher, subscriber) = side(&there, &back);
        timed(trips, |number| {
            publish(&publisher, number);
            take(&subscriber, number);
        })
    };
    let answer = |trips| {
        let (_node, publisher, subscriber) = side(&back, &there);
        for number in 1..=trips {
            take(&subscriber, number);
            publish(&publisher, number);
        }
        // The last answer lies in this process's memory until the other side has read it.
        std::thread::sleep(Duration::from_millis(20));
    };
    two_processes(count, ask, answer)
}
