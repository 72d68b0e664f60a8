//! `--fix` and `--undo`: the safe ones of the mends, and a record of what they changed.

use super::finding::{Finding, Fix, Section, Step};
use super::machine::Machine;
use crate::failure::Failure;
use crate::terminal::counted;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the record is kept: of root, as whoever can write it chooses what root will run.
pub const STATE: &str = "/var/lib/wiretape-doctor";

/// What was changed, the latest last.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// The boot that it was changed in: the next one takes everything back by itself.
    boot: Option<String>,
    changes: Vec<Change>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Change {
    /// The thing.
    name: String,
    /// What takes the change back.
    undo: Vec<Step>,
}

fn record_path(state: &Path) -> PathBuf {
    state.join("undo.json")
}

fn told(doing: &str, path: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "; this needs root",
        _ => "",
    };
    Failure::Told(format!("cannot {doing} {}: {error}{hint}", path.display()))
}

fn this_boot(machine: &Machine) -> Option<String> {
    machine.text("/proc/sys/kernel/random/boot_id").ok()
}

/// Refuses a folder or record that somebody else could have written.
fn guard(path: &Path) -> Result<(), Failure> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(told("read", path, &error)),
    };
    let mine = found.uid() == rustix::process::geteuid().as_raw();
    if mine && !found.is_symlink() && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::Told(format!("{path} is not used: others can write it, or it is not this user's")))
}

fn read(state: &Path) -> Result<Record, Failure> {
    let path = record_path(state);
    guard(state)?;
    guard(&path)?;
    match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| Failure::Told(format!("{} is damaged: {error}", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
        Err(error) => Err(told("read", &path, &error)),
    }
}

fn write(state: &Path, record: &Record) -> Result<(), Failure> {
    let path = record_path(state);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(|error| told("create", state, &error))?;
    let text = serde_json::to_string_pretty(record).map_err(io::Error::other)?;
    let aside = path.with_extension("json.new");
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&aside, &path));
    written.map_err(|error| told("write", &path, &error))
}

fn take(machine: &Machine, step: &Step) -> Result<(), String> {
    match step {
        Step::Write { path, value } => {
            let path = machine.path(path);
            // The kernel's files are never made, only written.
            let opened = fs::OpenOptions::new().write(true).open(&path);
            opened
                .and_then(|mut file| file.write_all(value.as_bytes()))
                .map_err(|error| format!("{}: {error}", path.display()))
        }
        Step::Run { program, arguments } => {
            let output = Command::new(program).args(arguments).output();
            match output {
                Ok(output) if output.status.success() => Ok(()),
                Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
                Err(error) => Err(format!("{program}: {error}")),
            }
        }
    }
}

/// Does what is safe about `sections`, each change said and on record before it is made; returns
/// how many could not be made.
pub fn fix(
    machine: &Machine,
    sections: &[Section],
    state: &Path,
    out: &mut impl Write,
) -> Result<usize, Failure> {
    let findings = sections.iter().flat_map(|section| &section.findings);
    let fixes: Vec<(&Finding, &Fix)> =
        findings.filter_map(|finding| Some((finding, finding.fix.as_ref()?))).collect();
    if fixes.is_empty() {
        writeln!(out, "nothing that --fix could do")?;
        return Ok(0);
    }
    let mut record = read(state)?;
    let boot = this_boot(machine);
    if record.boot != boot {
        record = Record { boot, changes: Vec::new() };
    }
    let mut failed = 0;
    for (finding, fix) in fixes {
        let (name, undo) = (finding.name.clone(), fix.undo.clone());
        record.changes.push(Change { name, undo });
        write(state, &record)?;
        for (done, step) in fix.steps.iter().enumerate() {
            writeln!(out, "{}: {step}", finding.name)?;
            let Err(why) = take(machine, step) else { continue };
            failed += 1;
            writeln!(out, "  failed: {why}")?;
            // What was done before the failure stays on record.
            record.changes.last_mut().into_iter().for_each(|change| change.undo.truncate(done));
            record.changes.retain(|change| !change.undo.is_empty());
            write(state, &record)?;
            break;
        }
    }
    let undo = "wiretape doctor --undo takes all back; none outlives the next boot";
    let changes = counted(record.changes.len() as u64, "change");
    writeln!(out, "{changes} on record: {undo}")?;
    Ok(failed)
}

/// Takes back what is on record, the latest first; what cannot be taken back stays on record.
pub fn undo(machine: &Machine, state: &Path, out: &mut impl Write) -> Result<usize, Failure> {
    let mut record = read(state)?;
    if record.changes.is_empty() {
        writeln!(out, "nothing is on record in {}", record_path(state).display())?;
        return Ok(0);
    }
    if record.boot != this_boot(machine) {
        writeln!(out, "this machine has booted since, which took everything back")?;
        write(state, &Record::default())?;
        return Ok(0);
    }
    let mut kept = Vec::new();
    while let Some(Change { name, undo }) = record.changes.pop() {
        let mut failed = Vec::new();
        for step in undo {
            writeln!(out, "{name}: {step}")?;
            // The others are tried all the same: each takes back something of its own.
            if let Err(why) = take(machine, &step) {
                writeln!(out, "  failed: {why}")?;
                failed.push(step);
            }
        }
        if !failed.is_empty() {
            kept.insert(0, Change { name, undo: failed });
        }
    }
    let failed = kept.len();
    write(state, &Record { boot: record.boot, changes: kept })?;
    Ok(failed)
}
