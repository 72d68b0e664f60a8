//! `wiretape segments`.

use crate::failure::Failure;
use crate::source::Source;
use crate::terminal::say;
use crate::worker_lock::WorkerLock;
use clap::{Args, Subcommand};
use serde_json::json;
use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wiretape_host::reader::{DEFAULT_DIRECTORY, Liveness, Segment, segment_files};

/// List segments, or remove those that nobody writes any more.
///
/// A segment stays after its capture ended or was killed, so that it can still be read. Capture
/// replaces it when it starts again under the same worker name.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wiretape segments
  wiretape segments remove            all that have no living writer
  wiretape segments remove w0")]
pub struct SegmentsArguments {
    /// What to do; without it, list.
    #[command(subcommand)]
    action: Option<Action>,
    /// Directory in which capture keeps its segments.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIRECTORY, global = true)]
    directory: PathBuf,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Remove segments whose writer has ended or died.
    #[command(after_help = "\
Examples:
  wiretape segments remove            all that have no living writer
  wiretape segments remove w0
  wiretape segments remove --directory /dev/shm/test")]
    Remove {
        /// Worker names [default: all without a living writer].
        workers: Vec<String>,
        /// Also one whose writer lives: its readers go on, new ones find nothing.
        #[arg(long)]
        force: bool,
    },
}

/// Runs the command.
pub fn run(arguments: &SegmentsArguments) -> Result<ExitCode, Failure> {
    match &arguments.action {
        None => list(arguments),
        Some(Action::Remove { workers, force }) => remove(&arguments.directory, workers, *force),
    }
}

/// How a segment stands, in a word.
pub fn standing(segment: &Segment) -> String {
    match segment.liveness() {
        Liveness::Live => {
            segment.view().map_or("damaged", |view| view.header().state().name()).to_owned()
        }
        Liveness::Over(state) => state.name().to_owned(),
        Liveness::Silent(age) => {
            let pid = segment.view().map_or(0, |view| view.header().pid());
            let how = if is_a_capture(pid) { "stands still" } else { "dead" };
            format!("{how} (silent for {} s)", age.as_secs())
        }
    }
}

/// Whether the process is there, as far as that can be seen from here, and a capture: one that was
/// stopped (SIGSTOP), or that the machine gives no time to, may go on.
fn is_a_capture(pid: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    // The kernel keeps 15 bytes of it.
    name.is_ok_and(|name| name.trim_end() == "wiretape-captur")
}

fn list(arguments: &SegmentsArguments) -> Result<ExitCode, Failure> {
    let files = segment_files(&arguments.directory)?;
    let mut out = stdout().lock();
    if files.is_empty() && !arguments.json {
        writeln!(out, "no segment in {}", arguments.directory.display())?;
    }
    let mut rows = Vec::new();
    for file in files {
        let size = fs::metadata(&file).map_or(0, |metadata| metadata.len());
        let name = file.file_stem().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let attached = Segment::attach(&file);
        let header =
            attached.as_ref().ok().and_then(|segment| segment.view()).map(|view| view.header());
        let (state, why) = match &attached {
            Ok(segment) => (standing(segment), None),
            Err(error) => ("unreadable".to_owned(), Some(error.to_string())),
        };
        let (pid, epoch) = header.map_or((0, 0), |header| (header.pid(), header.epoch()));
        if arguments.json {
            let state = why.map_or(state, |why| format!("unreadable: {why}"));
            let object = json!({
                "worker": name, "path": file, "state": state, "pid": pid, "epoch": epoch,
                "bytes": size,
            });
            writeln!(out, "{object}")?;
        } else {
            let (size, last) = (format!("{} MiB", size >> 20), why.unwrap_or(epoch.to_string()));
            rows.push([name, state, pid.to_string(), size, last]);
        }
    }
    if !rows.is_empty() {
        rows.insert(0, ["worker", "state", "pid", "size", "epoch"].map(str::to_owned));
    }
    // The last column, which may hold a sentence, has no width.
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let [worker, state, pid, size] = [0, 1, 2, 3].map(width);
    for [a, b, c, d, last] in &rows {
        writeln!(out, "{a:<worker$}  {b:<state$}  {c:>pid$}  {d:>size$}  {last}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(directory: &Path, workers: &[String], force: bool) -> Result<ExitCode, Failure> {
    let files = match workers.is_empty() {
        true => segment_files(directory)?,
        false => workers.iter().map(|name| Source::file_of(directory, name)).collect(),
    };
    if files.is_empty() {
        writeln!(stdout(), "no segment in {}", directory.display())?;
    }
    let mut refused = false;
    for file in files {
        let lives = match Segment::attach(&file) {
            Ok(segment) => segment.liveness() == Liveness::Live,
            // One that cannot be read has no reader to miss it, but only if it was named.
            Err(error) if workers.is_empty() || error.is_not_yet() => {
                say(&format!("left alone: {error}"));
                refused |= !workers.is_empty();
                continue;
            }
            Err(_) => false,
        };
        // Held until the files are gone, so that no capture of the name starts meanwhile.
        let lock = if force { WorkerLock::Free { _lock: None } } else { WorkerLock::take(&file)? };
        let path = file.display();
        let kept = match &lock {
            _ if force => None,
            // Whatever its heartbeat says: a capture that stands still may go on.
            WorkerLock::Running { pid } => Some(format!(
                "{path} has a living writer (pid {pid} holds its lock): stop it, or add --force"
            )),
            WorkerLock::Free { .. } if lives => {
                Some(format!("{path} has a living writer: stop it, or add --force"))
            }
            WorkerLock::Free { .. } => None,
        };
        if let Some(kept) = kept {
            if !workers.is_empty() {
                say(&kept);
                refused = true;
            } else if !lives {
                say(&format!("left alone: {kept}"));
            }
            continue;
        }
        fs::remove_file(&file)
            .map_err(|error| Failure::Told(format!("cannot remove {path}: {error}")))?;
        // The frames that it shared with recorders have no writer either.
        match fs::remove_file(file.with_extension("frames")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        writeln!(stdout(), "removed {path}")?;
    }
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
