use super::*;

const XDP: &str = r#"
[worker]
name = "itch-a"
core = 3
event_slots = 65536

[source]
kind = "xdp"
interface = "eth1.100"
queue = 2
mode = "zero-copy"

[[feed]]
name = "totalview"
protocol = "itch50-moldudp64"
group = "233.54.12.111:26477"
instruments = 8192
date = 2012-06-21

[[feed]]
name = "deep"
protocol = "deep10-iextp"
group = "224.2.3.10:16648"
instruments = 8192
date = "2017-04-25"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse("capture.toml", text, &Overrides::default())
}

/// The message for `XDP` with one text replaced by another.
fn complaint(from: &str, to: &str) -> String {
    assert!(XDP.contains(from), "{from}");
    parse(&XDP.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn a_full_configuration_means_what_it_says() {
    let config = parse(XDP).unwrap();
    assert_eq!((config.worker.name.as_str(), config.worker.core), ("itch-a", Some(3)));
    let SourceConfig::Xdp(xdp) = &config.source else { panic!("{config:?}") };
    assert_eq!((xdp.queue, xdp.mode, xdp.join), (2, BindMode::ZeroCopy, true));
    assert_eq!(xdp.pins(&xdp.interface), Path::new("/sys/fs/bpf/wiretape/eth1:100"));
    let dates: Vec<_> = config.feeds.iter().map(|feed| feed.date.unwrap().to_string()).collect();
    assert_eq!(dates, ["2012-06-21", "2017-04-25"]);
    assert_eq!(config.feeds[0].group.to_string(), "233.54.12.111:26477");
    assert_eq!(config.feeds[1].protocol, Protocol::Deep10);
}

#[test]
fn the_example_in_the_documentation_is_valid() {
    let text = include_str!("../../../docs/operating/capture.example.toml");
    let config = Config::parse("capture.example.toml", text, &Overrides::default()).unwrap();
    assert!(matches!(config.source, SourceConfig::Xdp(_)));
    // Every line that is commented out as "#key = value" is valid too.
    let all: String = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    Config::parse("capture.example.toml", &all, &Overrides::default()).unwrap();
}

#[test]
fn a_typo_is_named_with_its_line_and_the_nearest_name() {
    assert_eq!(
        complaint("queue = 2", "qeue = 2"),
        "capture.toml:10: there is no key 'qeue' here; did you mean 'queue'?"
    );
    assert_eq!(
        complaint("[worker]", "[workers]"),
        "capture.toml:2: there is no key 'workers' here; did you mean 'worker'?"
    );
    assert_eq!(
        complaint("itch50-moldudp64", "itch5-moldudp64"),
        "capture.toml:15: there is no protocol 'itch5-moldudp64'; did you mean 'itch50-moldudp64'?"
    );
    assert_eq!(
        complaint("\"zero-copy\"", "\"fast\""),
        "capture.toml:11: there is no mode 'fast'; there are: auto, zero-copy, copy"
    );
}

#[test]
fn wrong_types_and_values_name_line_and_key() {
    let text = complaint("core = 3", "core = \"three\"");
    assert!(text.starts_with("capture.toml:4: 'core': invalid type"), "{text}");
    let text = complaint("core = 3", "core = = 3");
    assert!(text.starts_with("capture.toml:4:"), "{text}");
    assert_eq!(
        complaint("65536", "65537"),
        "capture.toml:5: event_slots must be a power of two, 65537 is none; 131072 is the next"
    );
    assert_eq!(
        complaint("224.2.3.10:16648", "224.2.3.10"),
        "capture.toml:23: '224.2.3.10' is no IPv4 address and port: group is the address and port \
         of its multicast, such as \"233.54.12.111:26477\""
    );
    assert_eq!(
        complaint("date = 2012-06-21", "date = \"21.6.2012\""),
        "capture.toml:18: '21.6.2012' is no date, such as \"2012-06-21\""
    );
    for day in ["1969-12-31", "2262-01-01"] {
        assert_eq!(
            complaint("date = 2012-06-21", &format!("date = {day}")),
            format!("capture.toml:18: '{day}' lies outside the years 1970 to 2261")
        );
    }
    assert_eq!(
        complaint("queue = 2", "speed = \"recorded\""),
        "capture.toml:10: 'speed' does not belong to a source of kind \"xdp\""
    );
    assert_eq!(
        complaint("interface = \"eth1.100\"", ""),
        "capture.toml:7: 'interface' is missing here: a network interface"
    );
    assert_eq!(
        complaint("instruments = 8192\ndate = \"", "instruments = 30000\ndate = \""),
        "capture.toml:20: the feeds want 38192 instruments together, the worker has 32768: raise \
         [worker] instruments or lower those of the feeds"
    );
    assert_eq!(
        complaint("name = \"deep\"", "name = \"totalview\""),
        "capture.toml:20: feed 'totalview' has the name of 'totalview'"
    );
    assert!(complaint("name = \"itch-a\"", "name = \"../x\"").contains("capture.toml:3: name"));
}

#[test]
fn what_is_of_the_wrong_kind_is_told_what_it_can_be_not_a_type_of_ours() {
    let says = |from: &str, to: &str, sentence: &str| {
        assert_eq!(complaint(from, to), format!("capture.toml:{sentence}"));
    };
    let depth = "it is \"all\" or a list of symbols, such as [\"AAPL\", \"AMZN\"]";
    says("date = 2012-06-21", "depth = [1]", &format!("18: 'depth': {depth}"));
    says("date = 2012-06-21", "date = 5", "18: 'date': it is a date, such as 2012-06-21");
    says(
        "core = 3",
        "core = -3",
        "4: 'core': invalid value: integer `-3`, expected a whole number, 0 or more",
    );
    says(
        "date = 2012-06-21",
        "publisher_id = 70000",
        "18: 'publisher_id': invalid value: integer `70000`, expected a whole number from 0 to 65535",
    );
    // One bracket for what there is one of, two for what there may be several of.
    says("[worker]", "[[worker]]", "2: write [worker]: there is only one");
    says("[source]", "[[source]]", "7: write [source]: there is only one");
    let text = parse("[feed]\nname = \"a\"").unwrap_err().to_string();
    assert_eq!(text, "capture.toml:1: write [[feed]]: there may be several");
    let text = parse("source = \"eth1\"").unwrap_err().to_string();
    assert!(text.ends_with("expected a table: [source]"), "{text}");
}

#[test]
fn times_have_an_end_polling_the_kernels_bounds_and_folders_a_name() {
    let range = |from: &str, line: usize, key: &str, (min, max): (usize, usize)| {
        let first = from.lines().next().unwrap();
        for value in [min, max] {
            parse(&XDP.replacen(first, &format!("{from}\n{key} = {value}"), 1)).unwrap();
        }
        // TOML's largest number, which the kernel or the worker would take for another one.
        for value in [max + 1, i64::MAX as usize] {
            let text = complaint(first, &format!("{from}\n{key} = {value}"));
            let says = format!("{key} must be from {min} to {max}, not {value}");
            assert_eq!(text, format!("capture.toml:{line}: {says}"));
        }
    };
    let group = "group = \"233.54.12.111:26477\"\nrecovery = [\"10.1.2.3:26400\"]";
    range("queue = 2", 11, "busy_poll_us", (0, 1_000_000));
    range("queue = 2\nbusy_poll_us = 50", 12, "busy_poll_budget", (1, 65_535));
    range("date = 2012-06-21", 19, "reorder_us", (0, 60_000_000));
    let late = format!("{group}\nrecovery_ms = 86400001");
    let late = complaint("group = \"233.54.12.111:26477\"", &late);
    assert!(late.ends_with("recovery_ms must be from 1 to 86400000, not 86400001"), "{late}");
    assert_eq!(
        complaint("queue = 2", "pin_dir = \"\""),
        "capture.toml:10: pin_dir is empty: it is a folder, such as \"/sys/fs/bpf/wiretape\""
    );
    assert_eq!(
        complaint("core = 3", "segment_dir = \"\""),
        "capture.toml:4: segment_dir is empty: it is a folder, such as \"/dev/shm/wiretape\""
    );
}

#[test]
fn flags_alone_make_a_configuration_and_win_over_a_file() {
    let overrides = Overrides {
        pcap: Some("day.pcap.gz".into()),
        feeds: vec!["deep10-iextp@224.2.3.10:16648".into()],
        date: Some("2017-04-25".into()),
        name: Some("replay".into()),
        ..Overrides::default()
    };
    let alone = Config::load(None, &overrides).unwrap();
    assert_eq!(alone.worker.name, "replay");
    assert_eq!(alone.feeds.len(), 1);
    assert!(alone.feeds[0].date.is_some());
    let over = Config::parse("capture.toml", XDP, &overrides).unwrap();
    assert_eq!(over.worker.core, Some(3));
    assert_eq!((over.source, over.feeds), (alone.source, alone.feeds));
}

#[test]
fn mistakes_of_flags_name_the_flag() {
    let complain = |overrides: Overrides| Config::load(None, &overrides).unwrap_err().to_string();
    let pcap = || Overrides { pcap: Some("x.pcap".into()), ..Overrides::default() };
    assert!(complain(Overrides::default()).contains("there is no [source]"));
    assert!(complain(pcap()).contains("there is no feed"));
    let feeds = |feed: &str| Overrides { feeds: vec![feed.into()], ..pcap() };
    assert_eq!(
        complain(feeds("ouch@224.2.3.10:1")),
        "the command line: --feed: there is no protocol 'ouch'; there are: itch50-moldudp64, \
         deep10-iextp, tops16-iextp"
    );
    assert!(complain(feeds("deep10-iextp")).contains("--feed: 'group' is missing"));
    let queue = Overrides { queue: Some(1), ..feeds("deep10-iextp@224.2.3.10:1") };
    assert_eq!(
        complain(queue),
        "the command line: --queue: 'queue' does not belong to a source of kind \"pcap\""
    );
}

#[test]
fn frames_for_recorders_leave_half_of_the_frames_for_new_ones() {
    let live = |keys: &str| {
        parse(&format!(
            "[source]\nkind = \"xdp\"\ninterface = \"eth1\"\n{keys}\n[[feed]]\n\
             protocol = \"itch50-moldudp64\"\ngroup = \"239.1.1.1:1\"\n"
        ))
    };
    let kept = |config: Config| match config.source {
        SourceConfig::Xdp(xdp) => xdp.retain_frames,
        SourceConfig::Pcap(_) => panic!("an XDP source"),
    };
    assert_eq!(kept(live("").unwrap()), 0);
    assert_eq!(kept(live("retain_frames = 4096").unwrap()), 4096);
    let error = live("retain_frames = 4097").unwrap_err().to_string();
    assert!(error.contains("capture.toml:4: retain_frames must be at most half"), "{error}");
}

#[test]
fn depth_is_all_or_a_list_of_symbols() {
    let with = |keys: &str| {
        parse(&format!(
            "[source]\nkind = \"pcap\"\npath = \"x.pcap\"\n[[feed]]\n\
             protocol = \"itch50-moldudp64\"\ngroup = \"239.1.1.1:1\"\ninstruments = 100\n{keys}\n"
        ))
    };
    let depths = |keys: &str| with(keys).unwrap().feeds[0].depths();
    assert_eq!([depths(""), depths("depth = \"all\""), depths("depth = []")], [0, 100, 0]);
    let config = with("depth = [\"AAPL\", \"BRK.B\"]").unwrap();
    let expected = DepthChoice::Symbols([*b"AAPL    ", *b"BRK.B   "].into_iter().collect());
    assert_eq!((config.feeds[0].depths(), &config.feeds[0].depth), (2, &Some(expected)));
    // Named twice it still is one instrument, with one place.
    let twice = with("depth = [\"AAPL\", \"BRK.B\", \"AAPL\"]").unwrap();
    assert_eq!((&twice.feeds[0].depth, twice.worker.depth_slots), (&config.feeds[0].depth, 2));
    let complain = |keys: &str| with(keys).unwrap_err().to_string();
    assert!(complain("depth = \"some\"").contains("capture.toml:8: depth is \"all\" or a list"));
    assert!(complain("depth = [\"TOOLONGNAME\"]").contains("'TOOLONGNAME' is no symbol"));
    let many: Vec<String> = (0..65).map(|n| format!("\"S{n}\"")).collect();
    let many = complain(&format!("depth = [{}]", many.join(",")));
    assert!(many.contains("at most 64 symbols can be listed, not 65"), "{many}");
}

#[test]
fn what_would_have_no_effect_is_refused() {
    let lonely = "capture.toml:10: 'busy_poll_budget' is about busy polling, which 'busy_poll_us' \
                  turns on";
    assert_eq!(complaint("queue = 2", "busy_poll_budget = 64"), lonely);
    let both = |keys: &str| parse(&XDP.replacen("queue = 2", keys, 1));
    // Turned off, with what it would have.
    assert!(both("busy_poll_us = 0\nbusy_poll_budget = 64").is_ok());
    let text = both("retain_frames = 64\nhuge_pages = true").unwrap_err().to_string();
    assert!(text.starts_with("capture.toml:11: huge_pages = true has no effect"), "{text}");
    assert!(both("retain_frames = 64\nhuge_pages = false").is_ok());
    assert!(both("retain_frames = 64").is_ok());
}

#[test]
fn a_file_without_an_end_is_refused() {
    let load = || Config::load(Some(Path::new("/dev/zero")), &Overrides::default());
    let text = load().unwrap_err().to_string();
    assert_eq!(text, "/dev/zero: cannot read the configuration: it is longer than 1024 KiB");
}

#[test]
fn a_protocol_goes_by_its_format_too() {
    let config = parse(&XDP.replacen("itch50-moldudp64", "itch50", 1)).unwrap();
    assert_eq!(config.feeds[0].protocol, Protocol::Itch50);
}

#[test]
fn a_missing_file_is_one_sentence() {
    let path = Path::new("/nonexistent/capture.toml");
    let text = Config::load(Some(path), &Overrides::default()).unwrap_err().to_string();
    assert!(text.starts_with("/nonexistent/capture.toml: cannot read the configuration"), "{text}");
}

#[test]
fn two_lines_and_servers_mean_what_they_say() {
    let with = |keys: &str| {
        let group = "group = \"233.54.12.111:26477\"";
        parse(&XDP.replacen(group, &format!("{group}\n{keys}"), 1))
    };
    let both = "group_b = \"233.49.196.111:26477\"\nrecovery = [\"10.1.2.3:26400\"]";
    let config = with(both).unwrap();
    let feed = &config.feeds[0];
    let groups: Vec<_> = feed.groups().map(|group| group.to_string()).collect();
    assert_eq!(groups, ["233.54.12.111:26477", "233.49.196.111:26477"]);
    assert_eq!(feed.recovery.as_ref().unwrap().servers, ["10.1.2.3:26400".parse().unwrap()]);
    assert!(config.feeds[1].recovery.is_none());
    let complaint = |keys: &str| with(keys).unwrap_err().to_string();
    let same = complaint("group_b = \"233.54.12.111:26477\"");
    assert!(same.starts_with("capture.toml:17: "), "{same}");
    let late = complaint("recovery_ms = 5");
    assert!(late.contains("'recovery' names none"), "{late}");
    let none = complaint("recovery = []");
    assert!(none.contains("'recovery' is empty"), "{none}");
    let nowhere = complaint("recovery = [\"0.0.0.0:1\"]");
    assert!(nowhere.contains("is nowhere"), "{nowhere}");
    for key in ["reorder_packets", "recovery_ms"] {
        let never = complaint(&format!("{key} = 0\nrecovery = [\"10.1.2.3:26400\"]"));
        assert!(never.contains(key) && never.contains("are never asked"), "{never}");
    }
    let name = complaint("recovery = [\"server:26400\"]");
    assert!(name.contains("is no IPv4 address and port"), "{name}");
    let deep = "group = \"224.2.3.10:16648\"";
    let deep = parse(&XDP.replacen(deep, &format!("{deep}\nrecovery = [\"10.1.2.3:1\"]"), 1));
    assert!(deep.unwrap_err().to_string().contains("has no re-request servers"));
}

#[test]
fn a_worker_can_have_several_queues() {
    let with = |keys: &str| {
        let kind = "kind = \"xdp\"";
        parse(&XDP.replacen(kind, &format!("{kind}\n{keys}"), 1))
    };
    let queues = |config: &Config| match &config.source {
        SourceConfig::Xdp(xdp) => {
            xdp.queues().map(|(interface, queue)| format!("{interface}:{queue}")).collect()
        }
        SourceConfig::Pcap(_) => Vec::new(),
    };
    let first = queues(&parse(XDP).unwrap());
    assert_eq!(first.len(), 1);
    let more = with("also = [\"eth7\", \"eth7:3\"]").unwrap();
    assert_eq!(queues(&more), [first[0].as_str(), "eth7:0", "eth7:3"]);
    let complaint = |keys: &str| with(keys).unwrap_err().to_string();
    assert!(complaint("also = [\"eth7:x\"]").contains("INTERFACE:QUEUE"));
    assert!(complaint("also = [\"eth7/1\"]").contains("no interface can be called 'eth7/1'"));
    assert!(complaint("also = [\"eth7\", \"eth7:0\"]").contains("named twice"));
    assert!(complaint(&format!("also = [\"{}\"]", first[0])).contains("named twice"));
    assert!(with("also = [\"eth7\"]\nretain_frames = 64").is_ok());
    let eight: Vec<String> = (1..9).map(|queue| format!("\"eth7:{queue}\"")).collect();
    assert!(complaint(&format!("also = [{}]", eight.join(", "))).contains("9 queues"));
}

#[test]
fn names_that_no_interface_can_have_are_refused_before_anything_starts() {
    for name in ["", "eth1 ", "../eth1", "..", "sixteen-letters-"] {
        let error = complaint("\"eth1.100\"", &format!("{name:?}"));
        let sentence = format!("capture.toml:9: no interface can be called '{name}': names have");
        assert!(error.starts_with(&sentence), "{error}");
    }
}

#[test]
fn receive_times_come_from_the_host_unless_the_nic_is_named() {
    let with = |keys: &str| parse(&XDP.replacen("queue = 2\n", &format!("queue = 2\n{keys}\n"), 1));
    let stamps = |config: Config| match config.source {
        SourceConfig::Xdp(xdp) => xdp.receive_stamps,
        SourceConfig::Pcap(_) => panic!("an XDP source"),
    };
    assert_eq!(stamps(with("").unwrap()), ReceiveStamps::Host);
    assert_eq!(stamps(with("receive_stamps = \"nic\"").unwrap()), ReceiveStamps::Nic);
    let error = with("receive_stamps = \"hardware\"").unwrap_err().to_string();
    assert!(error.contains("there is no receive_stamps 'hardware'"), "{error}");
}

#[test]
fn servers_of_snapshots_mean_what_they_say() {
    let with = |keys: &str| {
        let group = "group = \"233.54.12.111:26477\"";
        parse(&XDP.replacen(group, &format!("{group}\n{keys}"), 1))
    };
    let config = with("snapshot = [\"10.1.2.3:26401\"]\nsnapshot_login = \"me:secret\"").unwrap();
    let snapshot = config.feeds[0].snapshot.as_ref().unwrap();
    assert_eq!(snapshot.servers, ["10.1.2.3:26401".parse().unwrap()]);
    assert_eq!(snapshot.login, Some(("me".to_owned(), "secret".to_owned())));
    assert_eq!((snapshot.patience.as_millis(), snapshot.hold_bytes >> 20), (5_000, 64));
    assert!(snapshot.after_loss && config.feeds[1].snapshot.is_none());
    assert!(!format!("{config:?}").contains("secret"));
    let complaint = |keys: &str| with(keys).unwrap_err().to_string();
    for lonely in ["snapshot_ms = 5", "snapshot_after_loss = true", "snapshot_login = \"a:b\""] {
        assert!(complaint(lonely).contains("'snapshot' names none"), "{lonely}");
    }
    assert!(complaint("snapshot = []").contains("'snapshot' is empty"));
    for strange in ["0", "86400001"] {
        let text = complaint(&format!("snapshot = [\"10.1.2.3:1\"]\nsnapshot_ms = {strange}"));
        assert!(text.contains("snapshot_ms must be from 1 to 86400000"), "{text}");
    }
    let login = |text: &str| {
        complaint(&format!("snapshot = [\"10.1.2.3:26401\"]\nsnapshot_login = \"{text}\""))
    };
    for wrong in ["secret", "toolong:secret", "me:farmorethanten", "m e:secret"] {
        let text = login(wrong);
        assert!(text.contains("USER:PASSWORD") && !text.contains(wrong), "{text}");
    }
    let deep = "group = \"224.2.3.10:16648\"";
    let deep = parse(&XDP.replacen(deep, &format!("{deep}\nsnapshot = [\"10.1.2.3:1\"]"), 1));
    assert!(deep.unwrap_err().to_string().contains("has no snapshots"));
}

#[test]
fn what_is_given_up_can_be_chosen() {
    assert_eq!(parse(XDP).unwrap().worker.confine, Confinement::Full);
    let with = |value: &str| {
        parse(&XDP.replacen("core = 3", &format!("core = 3\nconfine = \"{value}\""), 1))
    };
    assert_eq!(with("none").unwrap().worker.confine, Confinement::None);
    assert_eq!(with("capabilities").unwrap().worker.confine, Confinement::Capabilities);
    let text = with("capability").unwrap_err().to_string();
    assert!(text.contains("there is no confine 'capability'"), "{text}");
}

/// What `text` changes about `XDP` with room for `slots` feeds, or why it cannot.
fn changes(slots: usize, text: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let with_room = |text: &str| {
        let slots = format!("[worker]\nfeed_slots = {slots}");
        text.replacen("[worker]", &slots, 1)
    };
    let running = parse(&with_room(XDP)).unwrap();
    let text = with_room(text);
    let text = ConfigText { name: "x.toml".into(), text, flags: Overrides::default() };
    let wanted = text.check_beside(&running.worker).map_err(|error| error.to_string())?;
    let changes = running.changes_to(&wanted).map_err(|error| error.to_string())?;
    Ok((changes.removed, changes.added.into_iter().map(|feed| feed.name).collect()))
}

const THIRD: &str = "[[feed]]\nname = \"tops\"\nprotocol = \"tops16-iextp\"\ngroup = \"224.2.3.11:16649\"\n\
                     instruments = 100\n";

#[test]
fn feeds_that_come_and_go_are_told_by_their_names() {
    let none = || (Vec::new(), Vec::new());
    assert_eq!(changes(2, XDP), Ok(none()));
    let (deep, tops) = (vec!["deep".to_owned()], vec!["tops".to_owned()]);
    let without = XDP[..XDP.rfind("[[feed]]").unwrap()].to_owned();
    assert_eq!(changes(2, &without), Ok((deep.clone(), vec![])));
    assert_eq!(changes(2, &format!("{without}{THIRD}")), Ok((deep, tops.clone())));
    let fewer = XDP.replace("instruments = 8192", "instruments = 4096");
    assert_eq!(
        changes(3, &format!("{fewer}{THIRD}")),
        Err("'instruments' of feed 'totalview' is not as the capture runs: a feed stays as it is \
             until it is removed; the new one needs another name, or a restart"
            .to_owned())
    );
    let text = changes(2, &format!("{fewer}{THIRD}")).unwrap_err();
    assert!(text.contains("3 feeds are more than the worker has room for"), "{text}");
    // The share of a feed that names none stays what it was.
    let shares = |text: &str| text.replace("instruments = 8192\n", "");
    let running = parse(&shares(XDP)).unwrap();
    let text = shares(&without);
    let wanted = ConfigText { name: "x".into(), text, flags: Overrides::default() };
    let wanted = wanted.check_beside(&running.worker).unwrap();
    assert_eq!(running.changes_to(&wanted).unwrap().removed, ["deep"]);
}

#[test]
fn all_else_stays_as_it_was() {
    let refused = |from: &str, to: &str| {
        assert!(XDP.contains(from), "{from}");
        changes(2, &XDP.replacen(from, to, 1)).unwrap_err()
    };
    assert_eq!(
        refused("core = 3", "core = 4"),
        "'core' in [worker] is not as the capture runs: that needs a restart"
    );
    assert_eq!(
        refused("queue = 2", "queue = 3"),
        "[source] is not as the capture runs: that needs a restart"
    );
    let text = refused("233.54.12.111", "233.54.12.112");
    assert!(text.starts_with("'group' of feed 'totalview' is not"), "{text}");
    let text = refused("date = 2012-06-21", "date = 2012-06-22");
    assert!(text.starts_with("'date' of feed 'totalview' is not"), "{text}");
}

#[test]
fn there_is_room_for_the_feeds_that_there_are_unless_there_is_to_be_more() {
    assert_eq!(parse(XDP).unwrap().worker.feed_slots, 2);
    assert_eq!(
        complaint("core = 3", "feed_slots = 1"),
        "capture.toml:20: 2 feeds are more than the worker has room for: raise feed_slots in \
         [worker], which is 1, and restart a capture that runs"
    );
    let text = complaint("core = 3", "feed_slots = 17");
    assert_eq!(text, "capture.toml:4: feed_slots must be from 1 to 16, not 17");
}

#[test]
fn each_feed_has_room_for_the_instruments_of_a_venue_unless_it_is_said_how_many() {
    let instruments = |text: &str| {
        let config = parse(text).unwrap();
        let feeds = config.feeds.iter().map(|feed| feed.instruments).collect::<Vec<_>>();
        (config.worker.instruments, feeds)
    };
    let unsaid = XDP.replace("instruments = 8192\n", "");
    assert_eq!(instruments(&unsaid), (32_768, vec![16_384; 2]));
    let more = unsaid.replacen("core = 3", "core = 3\nfeed_slots = 4", 1);
    assert_eq!(instruments(&more), (65_536, vec![16_384; 2]));
    let said = unsaid.replacen("core = 3", "core = 3\ninstruments = 1000", 1);
    assert_eq!(instruments(&said), (1_000, vec![500; 2]));
}

#[test]
fn room_for_depth_is_what_the_feeds_need_unless_there_is_to_be_more() {
    let with = |worker: &str, deep: &str| {
        let text = XDP.replacen("core = 3", &format!("core = 3\n{worker}"), 1);
        text.replacen("name = \"deep\"", &format!("name = \"deep\"\n{deep}"), 1)
    };
    let slots = |worker, deep| parse(&with(worker, deep)).map(|config| config.worker.depth_slots);
    assert_eq!(slots("", ""), Ok(0));
    assert_eq!(slots("", "depth = [\"A\", \"B\"]"), Ok(2));
    assert_eq!(slots("", "depth = \"all\""), Ok(8192));
    assert_eq!(slots("depth_slots = 9", "depth = [\"A\"]"), Ok(9));
    assert_eq!(
        slots("depth_slots = 1", "depth = [\"A\", \"B\"]").unwrap_err().sentence,
        "the feeds want depth of 2 instruments together, the worker has room for 1: raise \
         depth_slots in [worker], and restart a capture that runs"
    );
    // What a running worker has room for stays, and what goes makes room.
    let running = parse(&with("depth_slots = 3", "depth = [\"A\", \"B\"]")).unwrap();
    let beside = |text: String| {
        let text = ConfigText { name: "x.toml".into(), text, flags: Overrides::default() };
        text.check_beside(&running.worker).map_err(|error| error.sentence)
    };
    let more = with("", "depth = [\"A\", \"B\", \"C\", \"D\"]");
    assert!(beside(more).unwrap_err().contains("depth of 4 instruments"));
    let other = with("", "depth = [\"X\", \"Y\", \"Z\"]").replace("\"deep\"", "\"other\"");
    let changes = running.changes_to(&beside(other).unwrap()).unwrap();
    assert_eq!((changes.removed, changes.added[0].depths()), (vec!["deep".to_owned()], 3));
    let wanted = beside(with("depth_slots = 4", "depth = [\"A\", \"B\"]")).unwrap();
    let refused = running.changes_to(&wanted).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "'depth_slots' in [worker] is not as the capture runs: that needs a restart"
    );
}

#[test]
fn feeds_with_snapshot_servers_may_come_where_that_was_said() {
    let servers = "snapshot = [\"10.1.2.3:26401\"]";
    let with = |worker: &str, feed: &str| {
        let text = XDP.replacen("core = 3", &format!("core = 3\n{worker}"), 1);
        text.replacen("date = 2012-06-21", &format!("date = 2012-06-21\n{feed}"), 1)
    };
    let allowed = |worker, feed| parse(&with(worker, feed)).map(|it| it.worker.snapshot_feeds);
    assert_eq!(allowed("", ""), Ok(false));
    assert_eq!(allowed("", servers), Ok(true));
    assert_eq!(allowed("snapshot_feeds = true", ""), Ok(true));
    assert_eq!(
        allowed("snapshot_feeds = false", servers).unwrap_err().to_string(),
        "capture.toml:20: feed 'totalview' has snapshot servers, but snapshot_feeds in [worker] is \
         false and the worker has no right to connect: set it to true, and restart a capture that \
         runs"
    );
    // What a running worker may do stays.
    for (worker, refusal) in [("", Some("'totalview' has snapshot servers")), (servers, None)] {
        let running = parse(&with("", worker)).unwrap();
        let text = with("", servers);
        let wanted = ConfigText { name: "x.toml".into(), text, flags: Overrides::default() };
        let found = wanted.check_beside(&running.worker).map_err(|error| error.sentence);
        assert_eq!(found.is_ok(), refusal.is_none());
        assert!(found.err().is_none_or(|said| said.contains(refusal.unwrap())));
    }
    let wanted = parse(&with("snapshot_feeds = true", "")).unwrap();
    let refused = parse(XDP).unwrap().changes_to(&wanted).unwrap_err().to_string();
    assert!(refused.starts_with("'snapshot_feeds' in [worker] is not as"), "{refused}");
}
