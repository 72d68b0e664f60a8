//! The worker's log, from the program that writes numbers to the command that prints sentences.

mod rig;

use std::process::Command;

use rig::{Rig, binary, fail, succeed};

const GROUP: &str = "239.54.12.111:26477";

/// A capture of an invented market in which messages are missing, from a file.
fn capture(rig: &Rig, name: &str, lost: &str) {
    let pcap = rig.work.join(format!("{name}.pcap"));
    let mut exchange = rig.exchange("wiretape-exchange");
    exchange.args(["--sim", "--seed", "11", "--symbols", "6", "--messages", "5000", "--quiet"]);
    exchange.args(["--group", GROUP, "--lose", lost, "--write"]).arg(&pcap);
    succeed(&mut exchange);
    let mut capture = rig.capture("wiretape-capture");
    capture.arg("--pcap").arg(&pcap).arg("--segment-dir").arg(&rig.segments);
    let feed = format!("itch50-moldudp64@{GROUP}");
    succeed(capture.args(["--name", name, "--feed", &feed, "--date", "2026-03-02"]));
}

fn logs(rig: &Rig, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("wiretape"));
    command.args(["logs", "--directory"]).arg(&rig.segments).args(arguments);
    command
}

#[test]
fn what_the_worker_says_is_printed_with_the_strings_of_its_program() {
    let rig = Rig::offline("logs");
    capture(&rig, "w", "100-120,500");
    let text = succeed(&mut logs(&rig, &[]));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("info  worker starts: epoch "), "{text}");
    assert!(lines.last().is_some_and(|line| line.contains("worker ends, ")), "{text}");
    let numbers = |line: &&str| {
        let (lost, gaps) =
            line.split_once("feed feed0: messages lost: ")?.1.split_once(", gaps: ")?;
        Some((lost.parse().expect("a number"), gaps.parse().expect("a number")))
    };
    let said: Vec<(u64, u64)> = lines.iter().filter_map(numbers).collect();
    // Packets are lost whole: their messages, at least those named.
    assert!(said.iter().map(|(lost, _)| lost).sum::<u64>() >= 22, "{text}");
    assert_eq!(said.iter().map(|(_, gaps)| gaps).sum::<u64>(), 2, "{text}");

    let grave = succeed(&mut logs(&rig, &["--level", "warn", "--json"]));
    assert!(grave.lines().count() >= 1, "{grave}");
    for line in grave.lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(object["level"], "warn", "{line}");
        assert!(object["text"].as_str().is_some_and(|text| text.starts_with("feed feed0: ")));
    }
}

#[test]
fn a_program_without_strings_or_another_one_is_told_of() {
    let rig = Rig::offline("nolog");
    capture(&rig, "w", "100");
    let program = |name: &str| rig.work.join(name).to_string_lossy().into_owned();
    let stripped = program("stripped");
    let strip = |options: &[&str], to: &str| {
        let mut command = Command::new("strip");
        command.args(options).arg("-o").arg(to).arg(binary("wiretape-capture"));
        command.status().is_ok_and(|status| status.success())
    };
    if !strip(&[], &stripped) {
        println!("skipped: there is no strip");
        return;
    }
    let none = fail(&mut logs(&rig, &["--program", &stripped]));
    assert!(none.contains("was stripped of its symbols"), "{none}");
    let missing = fail(&mut logs(&rig, &["--program", "/no/such/program"]));
    assert!(missing.contains("cannot read the program"), "{missing}");

    // As the package has it: another file, the same sentences.
    let packaged = program("packaged");
    assert!(strip(&["--strip-debug"], &packaged));
    let output = logs(&rig, &["--program", &packaged]).output().expect("wiretape logs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is not the file that wrote this log"), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), succeed(&mut logs(&rig, &[])));
}
