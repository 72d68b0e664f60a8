//! What DBN files, and the tapes that a host makes of them, call things.

use dbn::decode::{DbnMetadata, DecodeRecordRef, dbn::Decoder};
use dbn::encode::{DbnEncodable, EncodeRecord, dbn::Encoder};
use dbn::{MappingInterval, Record, SType, SymbolMapping};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use wiretape_core::event::{Event, MboMsg, RecordHeader, SIDE_NONE, SymbolMsg, action, flags};
use wiretape_core::pipeline::Protocol;
use wiretape_core::segment::{State, SymbolEntry};
use wiretape_host::reader::testing::TestSegment;

const TIME: u64 = 1_340_285_400_000_000_000;

fn padded(name: &str) -> [u8; 16] {
    let mut text = [0; 16];
    text[..name.len()].copy_from_slice(name.as_bytes());
    text
}

fn symbol(publisher: u16, id: u32, name: &str) -> Event {
    Event::new(&SymbolMsg {
        hd: RecordHeader::new::<SymbolMsg>(publisher, id, TIME),
        ts_recv: TIME,
        symbol: padded(name),
        round_lot: 100,
        feed: 0,
        reserved: 0,
    })
}

fn trade(publisher: u16, id: u32, sequence: u32) -> Event {
    Event::new(&MboMsg {
        hd: RecordHeader::new::<MboMsg>(publisher, id, TIME + u64::from(sequence)),
        order_id: 0,
        price: 10_000_000_000,
        size: sequence,
        flags: flags::LAST,
        channel_id: 0,
        action: action::TRADE,
        side: SIDE_NONE,
        ts_recv: TIME + 500 + u64::from(sequence),
        ts_in_delta: 500,
        sequence,
    })
}

/// A run that is over, in a segment at `path`, whose directory ends with `directory`.
fn tape(path: &Path, directory: &[(u32, &str)], events: &[Event]) -> TestSegment {
    let segment = TestSegment::create(path, 5, 64);
    for &(id, name) in directory {
        let entry = SymbolEntry { symbol: padded(name), ..SymbolEntry::default() };
        segment.writer().announce(id, &entry);
    }
    let mut ring = segment.writer().events();
    events.iter().for_each(|event| {
        ring.publish(event);
    });
    ring.commit();
    segment.writer().header().set_state(State::Ended);
    segment
}

/// The tape as a DBN file, on standard output unless `more` says otherwise.
fn tail(path: &Path, more: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_wiretape"))
        .args(["tail", "--from", "oldest", "--until-end", "--dbn", "--segment"])
        .arg(path)
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Noon UTC of 1 July 2024.
const NOON: u64 = 1_719_835_200_000_000_000;
const DAY: u64 = 86_400_000_000_000;

#[test]
fn a_file_names_the_dataset_that_its_records_publisher_has() {
    let directory = tempfile::tempdir().unwrap();
    for (protocol, dataset) in [
        (Protocol::Itch50, "XNAS.ITCH"),
        (Protocol::Tops16, "IEXG.TOPS"),
        (Protocol::Deep10, "IEXG.DEEP"),
    ] {
        let publisher = protocol.publisher_id();
        let path = directory.path().join(format!("{dataset}.seg"));
        let segment = tape(&path, &[(7, "ABC")], &[trade(publisher, 7, 1)]);
        let file = tail(&path, &[]).stdout;
        drop(segment);
        let mut decoder = Decoder::new(&file[..]).unwrap();
        assert_eq!(decoder.metadata().dataset, dataset);
        let record = decoder.decode_record_ref().unwrap().unwrap();
        assert_eq!(record.header().publisher_id, publisher);
        let theirs = record.publisher().ok().map(|publisher| publisher.dataset().as_str());
        assert_eq!(theirs, (protocol != Protocol::Deep10).then_some(dataset));
    }
}

/// What a file says, in its order: a symbol and its instrument, or the number of a trade.
#[derive(Debug, PartialEq)]
enum Said {
    Mapping(String, String, u64),
    Trade(u32),
}

#[test]
fn a_symbol_that_is_renamed_is_mapped_again_where_that_happens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let events = [
        symbol(2, 9, "SAME"),
        symbol(2, 7, "OLD"),
        trade(2, 7, 1),
        symbol(2, 9, "SAME"),
        symbol(2, 7, "NEW"),
        trade(2, 7, 2),
        symbol(2, 7, "NEW"),
        trade(2, 7, 3),
    ];
    // The segment's directory has each instrument's latest name.
    let _segment = tape(&path, &[(7, "NEW"), (9, "SAME")], &events);
    let mapping = |name: &str| Said::Mapping("7".to_owned(), name.to_owned(), TIME);
    for version in ["1", "2", "3"] {
        for schema in ["mixed", "mbo", "trades"] {
            let file = tail(&path, &["--dbn-version", version, "--schema", schema]).stdout;
            let mut decoder = Decoder::new(&file[..]).unwrap();
            let mut said = Vec::new();
            // What Databento's own reader calls the instrument.
            let (mut symbols, mut names) = (dbn::PitSymbolMap::new(), Vec::new());
            while let Some(record) = decoder.decode_record_ref().unwrap() {
                symbols.on_record(record).unwrap();
                names.push(symbols.get(7).cloned());
                if let Some(mapping) = record.get::<dbn::SymbolMappingMsg>() {
                    let (from, to) = (mapping.stype_in_symbol(), mapping.stype_out_symbol());
                    let (from, to) = (from.unwrap().to_owned(), to.unwrap().to_owned());
                    said.push(Said::Mapping(from, to, mapping.start_ts));
                } else if let Some(order) = record.get::<dbn::MboMsg>() {
                    said.push(Said::Trade(order.sequence));
                } else {
                    said.push(Said::Trade(record.get::<dbn::TradeMsg>().unwrap().sequence));
                }
            }
            let [first, second, third] = [1, 2, 3].map(Said::Trade);
            let expected = [mapping("OLD"), first, mapping("NEW"), second, third];
            assert_eq!(said, expected, "{schema} of version {version}");
            let names: Vec<_> = names.iter().flatten().collect();
            assert_eq!(names, ["OLD", "OLD", "NEW", "NEW", "NEW"], "{schema} of version {version}");

            // A host calls each row what the instrument was called then.
            if schema != "mixed" {
                std::fs::write(directory.path().join("day.dbn"), &file).unwrap();
                let host = Host::start(directory.path(), &["day.dbn"]);
                for (name, expected) in [("OLD", &["1"][..]), ("NEW", &["2", "3"])] {
                    let rows = trades_of(directory.path(), name);
                    assert_eq!(rows, expected, "{name}, {schema} of version {version}");
                }
                drop(host);
            }
        }
    }
}

/// A host, killed without a word when dropped.
struct Host(Child);

impl Host {
    /// Starts it over `files`; returns when all are taken in.
    fn start(directory: &Path, files: &[&str]) -> Host {
        let mut host = Host(spawn(directory, files));
        let said = BufReader::new(host.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        let over = |line: &String| line.contains("taken in") || line.contains("was cut");
        let taken = said.filter(over).take(files.len());
        assert_eq!(taken.count(), files.len());
        host
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(directory: &Path, files: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_wiretape-host"))
        .args(["--directory", "none", "--socket", "host.sock", "--dbn"])
        .args(files)
        .current_dir(directory)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The trades of an instrument that the host answers, by their sizes.
fn trades_of(directory: &Path, instrument: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_wiretape"))
        .args(["query", "range", "--kind", "trades", "--socket", "host.sock", "--format", "csv"])
        .args(["--instrument", instrument])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let at = head.iter().position(|name| *name == "size").expect(&text);
    lines.map(|line| line[at].to_owned()).collect()
}

#[test]
fn files_that_share_their_stem_are_two_tapes_that_a_table_tells_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("w.seg");
    let _segment = tape(&path, &[(7, "ABC")], &[trade(2, 7, 1), trade(2, 7, 2)]);
    for (name, schema) in [("day.mbo.dbn", "mbo"), ("day.trades.dbn", "trades")] {
        let file = directory.path().join(name);
        tail(&path, &["--schema", schema, "--output", file.to_str().unwrap()]);
    }
    let rows = |files: &[&str]| {
        let _host = Host::start(directory.path(), files);
        let output = Command::new(env!("CARGO_BIN_EXE_wiretape"))
            .args(["query", "range", "--kind", "trades", "--socket", "host.sock"])
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let of = |table: &str, word: &str| table.lines().filter(|line| line.contains(word)).count();
    let both = rows(&["day.mbo.dbn", "day.trades.dbn"]);
    assert_eq!((of(&both, "day.mbo.dbn"), of(&both, "day.trades.dbn")), (2, 2), "{both}");
    assert_eq!(of(&both, "worker"), 1, "{both}");
    let one = rows(&["day.trades.dbn"]);
    assert_eq!((of(&one, "ABC"), of(&one, "worker")), (2, 0), "{one}");

    let host = spawn(directory.path(), &["day.mbo.dbn", "./day.mbo.dbn"]);
    let refused = host.wait_with_output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("the DBN file ./day.mbo.dbn is named twice"), "{said}");
}

/// Market-by-order records with their days, publishers and numbers, as a file.
fn foreign(path: &Path, mappings: Vec<SymbolMapping>, orders: &[dbn::MboMsg]) {
    foreign_of(dbn::Schema::Mbo, path, mappings, orders);
}

fn foreign_of<R: DbnEncodable>(
    schema: dbn::Schema,
    path: &Path,
    mappings: Vec<SymbolMapping>,
    records: &[R],
) {
    let metadata = dbn::Metadata::builder()
        .dataset("EQUS.ALL".to_owned())
        .schema(Some(schema))
        .start(NOON)
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .mappings(mappings)
        .build();
    let mut encoder = Encoder::new(std::fs::File::create(path).unwrap(), &metadata).unwrap();
    for record in records {
        encoder.encode_record(record).unwrap();
    }
    encoder.flush().unwrap();
}

fn bid(publisher: u16, id: u32, day: u64, price: i64) -> dbn::MboMsg {
    let ts = NOON + day * DAY;
    let mut order =
        dbn::MboMsg { order_id: 1, price: price * 1_000_000_000, size: 100, ..Default::default() };
    (order.action, order.side) = (b'A' as std::ffi::c_char, b'B' as std::ffi::c_char);
    order.flags = dbn::FlagSet::empty().set_last();
    (order.hd.publisher_id, order.hd.instrument_id, order.hd.ts_event) = (publisher, id, ts);
    order.ts_recv = ts;
    order
}

/// The columns of that name, of the rows that the host answers.
fn quotes(directory: &Path, instrument: &str, columns: [&str; 2]) -> Vec<[String; 2]> {
    let output = Command::new(env!("CARGO_BIN_EXE_wiretape"))
        .args(["query", "range", "--kind", "quotes", "--socket", "host.sock", "--format", "csv"])
        .args(["--instrument", instrument])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let places = columns.map(|column| head.iter().position(|name| *name == column).expect(&text));
    lines.map(|line| places.map(|place| line[place].to_owned())).collect()
}

#[test]
fn a_number_means_on_each_day_what_that_day_s_mapping_says() {
    let directory = tempfile::tempdir().unwrap();
    let date = |day: u8| time::Date::from_calendar_date(2024, time::Month::July, day).unwrap();
    let on = |day: u8, number: &str| MappingInterval {
        start_date: date(day),
        end_date: date(day + 1),
        symbol: number.to_owned(),
    };
    let mapping =
        |symbol: &str, intervals| SymbolMapping { raw_symbol: symbol.to_owned(), intervals };
    let mappings = vec![
        mapping("AAPL", vec![on(1, "13"), on(2, "14")]),
        mapping("AMZN", vec![on(1, "14"), on(2, "13")]),
    ];
    let clear = |id| {
        let mut record = bid(2, id, 1, 0);
        record.action = b'R' as std::ffi::c_char;
        record
    };
    let days = [
        bid(2, 13, 0, 1),
        bid(2, 14, 0, 2),
        clear(13),
        clear(14),
        bid(2, 13, 1, 3),
        bid(2, 14, 1, 4),
    ];
    foreign(&directory.path().join("days.dbn"), mappings, &days);
    let _host = Host::start(directory.path(), &["days.dbn"]);
    for (symbol, expected) in [("AAPL", ["1.00", "", "4.00"]), ("AMZN", ["2.00", "", "3.00"])] {
        let rows = quotes(directory.path(), symbol, ["bid_price", "feed"]);
        assert_eq!(rows.iter().map(|row| &row[0]).collect::<Vec<_>>(), expected, "{symbol}");
    }
}

#[test]
fn venues_and_instruments_whose_orders_share_their_numbers_have_books_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let orders = [bid(61, 7, 0, 10), bid(62, 7, 0, 11), bid(61, 8, 0, 12)];
    foreign(&directory.path().join("venues.dbn"), vec![], &orders);
    let _host = Host::start(directory.path(), &["venues.dbn"]);
    let rows = |symbol| quotes(directory.path(), symbol, ["feed", "bid_price"]);
    let row = |feed: &str, price: &str| [feed.to_owned(), price.to_owned()];
    assert_eq!(rows("#7"), [row("0", "10.00"), row("1", "11.00")]);
    assert_eq!(rows("#8"), [row("0", "12.00")]);
}

#[test]
fn bits_that_venues_set_on_ordinary_trades_leave_no_trade_out_of_the_bars() {
    let directory = tempfile::tempdir().unwrap();
    let trade = |flags: u8, size: u32| {
        let mut trade = bid(2, 7, 0, 10);
        (trade.action, trade.size, trade.flags) = (b'T' as std::ffi::c_char, size, flags.into());
        trade
    };
    let unprintable = flags::LAST | flags::UNPRINTABLE;
    let trades = [trade(128, 1), trade(129, 10), trade(130, 100), trade(unprintable, 1_000)];
    foreign(&directory.path().join("trades.dbn"), vec![], &trades);
    let _host = Host::start(directory.path(), &["trades.dbn"]);
    let output = Command::new(env!("CARGO_BIN_EXE_wiretape"))
        .args(["query", "bars", "--every", "1m", "--socket", "host.sock", "--format", "json"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    let bar: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(bar["volume"], 111, "{bar}");
}

#[test]
fn a_trade_of_a_file_that_tells_what_trades_met_is_joined_with_that() {
    let directory = tempfile::tempdir().unwrap();
    let (second, unit) = (1_000_000_000, 1_000_000_000);
    let trade = |at: u64, bid: i64, flags: u8| {
        let mut trade = dbn::TbboMsg {
            price: (bid + 1) * unit,
            size: 5,
            action: b'T' as std::ffi::c_char,
            side: b'B' as std::ffi::c_char,
            flags: flags.into(),
            ts_recv: NOON + at * second,
            ..Default::default()
        };
        (trade.hd.publisher_id, trade.hd.instrument_id) = (2, 7);
        trade.hd.ts_event = NOON + at * second;
        let [level] = &mut trade.levels;
        (level.bid_px, level.ask_px) = (bid * unit, (bid + 1) * unit);
        (level.bid_sz, level.ask_sz) = (100, 200);
        trade
    };
    // Two at one time among them, and some that do not end the exchange's event.
    let trades =
        [trade(0, 10, flags::LAST), trade(60, 20, 0), trade(60, 19, flags::LAST), trade(90, 30, 0)];
    foreign_of(dbn::Schema::Tbbo, &directory.path().join("t.dbn"), vec![], &trades);
    let _host = Host::start(directory.path(), &["t.dbn"]);
    let output = Command::new(env!("CARGO_BIN_EXE_wiretape"))
        .args(["query", "asof", "--tolerance", "1s", "--socket", "host.sock", "--format", "json"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Prices are text, as `wiretape tail --json` has them: exact for any reader.
    let met: Vec<_> = rows.iter().map(|row| row["bid_price"].as_str()).collect();
    assert_eq!(met, ["10.00", "20.00", "19.00", "30.00"].map(Some), "{text}");
}

#[test]
fn an_answer_over_a_file_that_breaks_off_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("day.dbn");
    foreign(&path, vec![], &[bid(2, 7, 0, 10), bid(2, 7, 1, 11)]);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 8]).unwrap();
    let _host = Host::start(directory.path(), &["day.dbn"]);
    let said = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_wiretape"))
            .args(["query", "range", "--kind", "events", "--format", "csv"])
            .args(["--socket", "host.sock"])
            .args(more)
            .current_dir(directory.path())
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let all = said(&[]);
    assert!(all.contains("lost: after sequence 1 (the file cannot be read any further)"), "{all}");
    // What is asked for lies before the place where it breaks off.
    assert_eq!(said(&["--to", &NOON.to_string()]), "");
}
