//! The server of `wiretape metrics` among clients that mean it no good, or have died.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use wiretape_core::segment::{Counter, Ledger};
use wiretape_host::reader::Segment;
use wiretape_host::reader::testing::TestSegment;

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(segment: &std::path::Path) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_wiretape"))
            .args(["metrics", "--listen", "127.0.0.1:0", "--segment"])
            .arg(segment)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("serving http://").expect(&line);
        let address = address.strip_suffix("/metrics").expect(&line).to_owned();
        Server { child, address }
    }

    fn ask(&self, question: &str) -> TcpStream {
        let mut client = TcpStream::connect(&self.address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client.write_all(question.as_bytes()).unwrap();
        client
    }

    fn scrape(&self) {
        let mut answer = String::new();
        let mut client = self.ask("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\nwiretape_worker_up{worker="), "{answer}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn no_client_ends_the_server_or_keeps_others_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let _segment = TestSegment::create(&path, 1, 1024);
    let server = Server::start(&path);
    server.scrape();
    let announced = |length: &str| {
        server.ask(&format!("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n"))
    };
    // A body that never comes, and one for which no machine has room.
    let _waiting = announced("100000");
    server.scrape();
    let _endless = announced("9223372036854775807");
    server.scrape();
    // Some that begin to ask, and stay.
    let _silent: Vec<TcpStream> = (0..20).map(|_| server.ask("GET /met")).collect();
    server.scrape();
    for _ in 0..200 {
        let client = server.ask("GET /metrics HTTP/1.1\r\n\r\n");
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    }
    server.scrape();
}

#[test]
fn the_help_says_to_alert_on_all_that_is_lost_and_on_nothing_that_is_not_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let _segment = TestSegment::create(&path, 1, 1024);
    let print = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wiretape"));
        let output = command.arg("metrics").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (help, served) = (print(&["--help"]), print(&["--segment", path.to_str().unwrap()]));
    let (_, advice) = help.split_once("Alert on ").unwrap();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: Vec<&str> =
        advice.split(|c| !is_name(c)).filter(|word| word.starts_with("wiretape_")).collect();
    for name in &names {
        assert!(served.contains(&format!("# TYPE {name} ")), "{name}");
    }
    // Whatever stands between the packets that were ours and the worker.
    let segment = Segment::attach(&path).unwrap();
    let ledger = Ledger::read(&segment.view().unwrap().counters(), true);
    let [_, lost @ ..] = ledger.arrivals.map(|row| row.counter);
    for counter in lost.into_iter().chain([Counter::XdpNoSocket, Counter::XdpUnserved]) {
        let name = format!("wiretape_worker_{}_total", counter.name());
        assert!(names.contains(&name.as_str()), "{name}");
    }
}
