//! The Nasdaq day against the DBN files made of it: what the feed said, read here byte by byte
//! from its specification, is what the records say.

mod day;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use wiretape_core::event::{MboMsg, UNDEF_PRICE, action, flags};
use wiretape_core::wire::binaryfile::BinaryFile;
use wiretape_host::dbn::{DbnFile, DbnRecord, compare};

/// The day as a DBN file of `arguments`, made by the command.
fn written(segment: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let directory = segment.parent().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wiretape"))
        .args(["tail", "--from", "oldest", "--until-end", "--segment"])
        .arg(segment)
        .args(["--dbn", "--output", name])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    directory.join(name)
}

fn orders(path: &Path) -> Vec<MboMsg> {
    let file = DbnFile::open(path).unwrap();
    let records = file.map(|record| match record.unwrap() {
        DbnRecord::Mbo(record) => record,
        other => panic!("{other:?}"),
    });
    records.collect()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A live order as the feed has it: locate, side, shares, price in 1/10,000.
type Order = (u64, u8, u64, u64);

/// What the feed said, by the numbers of Nasdaq's specification of ITCH 5.0.
#[derive(Default)]
struct Feed {
    orders: HashMap<u64, Order>,
    by_type: BTreeMap<u8, u64>,
    /// Sequence, price and shares of each execution.
    fills: Vec<(u32, u64, u64)>,
}

impl Feed {
    fn read(day: &[u8]) -> Feed {
        let mut feed = Feed::default();
        for (sequence, message) in (1u32..).zip(BinaryFile::new(day)) {
            feed.take(sequence, message);
        }
        feed
    }

    fn take(&mut self, sequence: u32, message: &[u8]) {
        let field = |at: usize, len: usize| number(&message[at..at + len]);
        let (locate, reference) = (field(1, 2), || field(11, 8));
        *self.by_type.entry(message[0]).or_default() += 1;
        match message[0] {
            b'A' | b'F' => {
                let order = (locate, message[19], field(20, 4), field(32, 4));
                assert_eq!(self.orders.insert(reference(), order), None);
            }
            b'E' => {
                let price = self.orders[&reference()].3;
                self.fills.push((sequence, price, field(19, 4)));
                self.reduce(reference(), field(19, 4));
            }
            b'C' => {
                self.fills.push((sequence, field(32, 4), field(19, 4)));
                self.reduce(reference(), field(19, 4));
            }
            b'X' => self.reduce(reference(), field(19, 4)),
            b'D' => drop(self.orders.remove(&reference()).unwrap()),
            b'U' => {
                let (locate, side, ..) = self.orders.remove(&reference()).unwrap();
                let order = (locate, side, field(27, 4), field(31, 4));
                assert_eq!(self.orders.insert(field(19, 8), order), None);
            }
            _ => {}
        }
    }

    fn reduce(&mut self, reference: u64, shares: u64) {
        let order = self.orders.get_mut(&reference).unwrap();
        order.2 -= shares;
        if order.2 == 0 {
            self.orders.remove(&reference);
        }
    }

    fn count(&self, types: &[u8]) -> u64 {
        types.iter().filter_map(|kind| self.by_type.get(kind)).sum()
    }
}

#[test]
fn counts_fills_and_what_is_left_are_those_of_the_feed() {
    let Some(itch) = day::shared("itch/nasdaq-20120621-aapl-amzn.itch.gz") else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let segment = day::play(&itch, &path, 5, 1 << 19, &[]);
    let records = orders(&written(&path, "mbo.dbn.zst", &["--schema", "mbo"]));
    drop(segment);
    let feed = Feed::read(&itch);

    let count = |action: u8| records.iter().filter(|record| record.action == action).count() as u64;
    assert!(feed.count(b"AFECXDU") > 200_000, "{:?}", feed.by_type);
    assert_eq!(count(action::ADD), feed.count(b"AFU"), "adds");
    assert_eq!(count(action::FILL), feed.count(b"EC"), "fills");
    assert_eq!(count(action::TRADE), feed.count(b"ECPQ"), "trades");
    assert_eq!(count(action::CANCEL), feed.count(b"ECXDU"), "cancels");
    assert_eq!(count(action::MODIFY) + count(action::CLEAR), 0);

    // Every fill has its trade right in front of it and the removal behind it, in one event.
    let mut fills = Vec::new();
    for (at, fill) in records.iter().enumerate().filter(|(_, one)| one.action == action::FILL) {
        let (trade, cancel) = (&records[at - 1], &records[at + 1]);
        assert_eq!((trade.action, cancel.action), (action::TRADE, action::CANCEL));
        for other in [trade, cancel] {
            assert_eq!(other.hd.instrument_id, fill.hd.instrument_id);
            assert_eq!((other.sequence, other.size), (fill.sequence, fill.size));
        }
        assert_eq!((trade.price, cancel.order_id), (fill.price, fill.order_id));
        assert_ne!(trade.side, fill.side, "the aggressor is on the other side");
        let last = [trade, fill, cancel].map(|one| one.flags & flags::LAST != 0);
        assert_eq!(last, [false, false, true]);
        fills.push((fill.sequence, fill.price as u64 / 100_000, u64::from(fill.size)));
    }
    assert_eq!(fills, feed.fills);

    // Whoever applies the records has the orders that the feed has, and no other.
    let mut left: HashMap<u64, Order> = HashMap::new();
    for record in &records {
        let (id, size) = (record.order_id, u64::from(record.size));
        match record.action {
            action::ADD => {
                let price = record.price as u64 / 100_000;
                let order = (u64::from(record.hd.instrument_id), record.side, size, price);
                let order = (order.0, if order.1 == b'A' { b'S' } else { b'B' }, order.2, order.3);
                assert_eq!(left.insert(id, order), None);
            }
            action::CANCEL => {
                let order = left.get_mut(&id).unwrap();
                order.2 -= size;
                if order.2 == 0 {
                    left.remove(&id);
                }
            }
            _ => {}
        }
    }
    assert_eq!(left, feed.orders);
    // Every message that changes a book or trades ends its event exactly once.
    let ends = records.iter().filter(|record| record.flags & flags::LAST != 0).count() as u64;
    assert_eq!(ends, feed.count(b"AFECXDUPQ"));
}

#[test]
fn the_day_as_mbp1_is_what_the_book_of_its_mbo_shows_in_every_version() {
    let Some(itch) = day::shared("itch/nasdaq-20120621-aapl-amzn.itch.gz") else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let segment = day::play(&itch, &path, 5, 1 << 19, &[]);
    let feed = Feed::read(&itch);
    for version in ["1", "2", "3"] {
        let of = |schema: &str, ending: &str| {
            let name = format!("{schema}.v{version}.dbn{ending}");
            written(&path, &name, &["--schema", schema, "--dbn-version", version])
        };
        let (mbo, mbp1) = (of("mbo", ".zst"), of("mbp-1", ".zst"));
        let (mbo, mbp1) = (DbnFile::open(&mbo).unwrap(), DbnFile::open(&mbp1).unwrap());
        assert_eq!(mbo.metadata().version.to_string(), version);
        let found = compare(mbo, mbp1).unwrap();
        assert_eq!((found.differences, found.instruments), (0, 2), "version {version}: {found:#?}");
        assert!(found.compared_mbp1 > 50_000, "{found:#?}");

        let mut trades = 0;
        for record in DbnFile::open(&of("trades", "")).unwrap() {
            let DbnRecord::Trade(trade) = record.unwrap() else { panic!("a trade") };
            assert!(trade.price != UNDEF_PRICE && trade.action as u8 == action::TRADE);
            trades += 1;
        }
        assert_eq!(trades, feed.count(b"ECPQ"));
    }
    drop(segment);
}

/// A host over `arguments`, stopped when dropped.
struct Host(std::process::Child);

impl Host {
    fn start(directory: &Path, arguments: &[&str]) -> Host {
        use std::io::BufRead;
        let mut child = Command::new(env!("CARGO_BIN_EXE_wiretape-host"))
            .args(["--socket", "host.sock"])
            .args(arguments)
            .current_dir(directory)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let said = std::io::BufReader::new(child.stderr.take().unwrap());
        let taken = |line: &String| line.contains("taken in") || line.contains("cannot");
        let line = said.lines().map(Result::unwrap).find(taken);
        assert!(line.as_ref().is_some_and(|line| line.contains("taken in")), "{line:?}");
        Host(child)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn bars_over_dbn_files_are_those_over_the_ring() {
    let Some(itch) = day::shared("itch/nasdaq-20120621-aapl-amzn.itch.gz") else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let segment = day::play(&itch[..itch.len() / 10], &path, 5, 1 << 17, &[]);
    let query = |kind: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_wiretape"))
            .args(["query", "--socket", "host.sock", kind, "--format", "csv"])
            .args(if kind == "bars" { &["--every", "1m"][..] } else { &["--tolerance", "1s"] })
            .args(["--instrument", "AAPL"])
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut rows: Vec<Vec<String>> =
            text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect();
        // The worker's name and the numbers in the ring are of the tape.
        let head = rows[0].clone();
        let own = |name: &str| ["worker", "sequence", "epoch"].iter().any(|w| name.contains(w));
        for row in &mut rows {
            let mut column = 0;
            row.retain(|_| {
                column += 1;
                !own(&head[column - 1])
            });
        }
        rows
    };
    let mut answers = Vec::new();
    for schema in ["mbo", "mbp-1", "trades"] {
        let name = format!("day-{schema}.dbn.zst");
        written(&path, &name, &["--schema", schema]);
        let host = Host::start(directory.path(), &["--directory", "none", "--dbn", &name]);
        answers.push(query("bars"));
        if schema == "mbo" {
            answers.push(query("asof"));
        }
        drop(host);
    }
    drop(segment);
    let [bars, asof, of_tops, of_trades] = &answers[..] else { panic!("four answers") };
    assert!(bars.len() > 5 && asof.len() > 100, "{} {}", bars.len(), asof.len());
    assert_eq!((bars, bars), (of_tops, of_trades));

    // The same from the ring itself.
    let segment = day::play(&itch[..itch.len() / 10], &path, 6, 1 << 17, &[]);
    let child = Command::new(env!("CARGO_BIN_EXE_wiretape-host"))
        .args(["--socket", "host.sock", "--directory", "."])
        .current_dir(directory.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let _host = Host(child);
    let start = std::time::Instant::now();
    loop {
        std::thread::sleep(std::time::Duration::from_millis(100));
        if directory.path().join("host.sock").exists() && query("bars") == *bars {
            break;
        }
        assert!(start.elapsed().as_secs() < 30, "the ring gives other bars than the file");
    }
    assert_eq!(query("asof"), *asof);
    drop(segment);
}
