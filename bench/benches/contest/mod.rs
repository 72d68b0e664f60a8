//! Contestants that take turns, round after round, so that all of them meet the same weather on
//! the machine. The best round of each counts, and the median shows the weather; where two cores
//! meet and others use them too, compare the medians: the best round may be one in which the two
//! threads ran one after the other.

// Each benchmark is a crate of its own and uses its part of this.
#![allow(dead_code)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;

/// What every benchmark here takes.
#[derive(Parser, Debug)]
#[command(version, about = "Measures Wiretape's structures beside their peers, in one run.")]
pub struct Options {
    /// A tenth of the work: shows that it runs, not how fast.
    #[arg(long)]
    pub quick: bool,
    /// Print Markdown tables, as the result page has them.
    #[arg(long)]
    pub markdown: bool,
    /// Run contests of more threads than there are processors as well: shows that they run.
    #[arg(long)]
    pub crowded: bool,
    /// Only the contests whose title contains this.
    pub filter: Option<String>,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    /// `count`, or a tenth of it.
    pub fn scaled(&self, count: u64) -> u64 {
        if self.quick { count.div_ceil(10) } else { count }
    }

    /// Rounds of each contest.
    pub fn rounds(&self) -> usize {
        if self.quick { 3 } else { 11 }
    }

    /// Whether a contest of so many threads is to be run; says so if not.
    pub fn has_room(&self, title: &str, threads: usize) -> bool {
        let processors = std::thread::available_parallelism().map_or(1, |number| number.get());
        let room = self.crowded || processors >= threads;
        if !room && self.wants(title) {
            println!(
                "\n{title}: not run, it takes {threads} processors and there are {processors}"
            );
        }
        room
    }

    /// Whether the contest is to be run.
    pub fn wants(&self, title: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| title.contains(filter.as_str()))
    }
}

/// What one run of a contestant gave.
pub struct Run {
    /// Time it took.
    pub took: Duration,
    /// Depends on all that was moved: equal for all contestants, and nothing can be optimised
    /// away.
    pub check: u64,
}

/// Whose a contestant is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    Peer,
    /// Nobody's: what the machine itself takes, with nothing checked.
    Machine,
}

/// One of the things compared.
pub struct Contestant<'a> {
    name: &'a str,
    whose: Whose,
    run: Box<dyn FnMut() -> Run + 'a>,
    nanoseconds: Vec<f64>,
}

impl<'a> Contestant<'a> {
    /// One of Wiretape's own.
    pub fn ours(name: &'a str, run: impl FnMut() -> Run + 'a) -> Self {
        let (whose, run) = (Whose::Ours, Box::new(run));
        Contestant { name, whose, run, nanoseconds: Vec::new() }
    }

    /// Somebody else's.
    pub fn peer(name: &'a str, run: impl FnMut() -> Run + 'a) -> Self {
        Contestant { whose: Whose::Peer, ..Contestant::ours(name, run) }
    }

    /// The least that the machine takes for it: no peer, but how far the limit is.
    pub fn machine(name: &'a str, run: impl FnMut() -> Run + 'a) -> Self {
        Contestant { whose: Whose::Machine, ..Contestant::ours(name, run) }
    }
}

/// Runs the contest and prints its table: nanoseconds for each of the `count` operations of a run.
pub fn contest(options: &Options, title: &str, count: u64, contestants: Vec<Contestant<'_>>) {
    contest_of(options.rounds(), options, title, count, contestants);
}

/// A contest of so many rounds: many short ones where two threads must run at the same time, so
/// that some are not interrupted.
pub fn contest_of(
    rounds: usize,
    options: &Options,
    title: &str,
    count: u64,
    mut contestants: Vec<Contestant<'_>>,
) {
    if !options.wants(title) {
        return;
    }
    let mut check = None;
    // The first round warms up and is thrown away.
    for round in 0..=rounds {
        for contestant in &mut contestants {
            let run = (contestant.run)();
            let expected = *check.get_or_insert(run.check);
            assert_eq!(run.check, expected, "{} moved something else", contestant.name);
            if round > 0 {
                contestant.nanoseconds.push(run.took.as_nanos() as f64 / count as f64);
            }
        }
    }
    for contestant in &mut contestants {
        contestant.nanoseconds.sort_by(f64::total_cmp);
    }
    print(options, title, &contestants, check.unwrap_or(0));
}

fn print(options: &Options, title: &str, contestants: &[Contestant<'_>], check: u64) {
    let peers = contestants.iter().filter(|contestant| contestant.whose == Whose::Peer);
    let (mut best_peer, mut median_peer) = (f64::INFINITY, f64::INFINITY);
    for Contestant { nanoseconds, .. } in peers {
        best_peer = best_peer.min(nanoseconds[0]);
        median_peer = median_peer.min(nanoseconds[nanoseconds.len() / 2]);
    }
    if options.markdown {
        println!("\n#### {title}\n");
        println!("| | best ns | median ns | M/s | times the best peer | by medians |");
        println!("|---|---:|---:|---:|---:|---:|");
    } else {
        println!("\n{title}   (check {check:016x})");
        let heads = ["best ns", "median ns", "M/s", "x best peer", "by medians"];
        let [best, median, rate, ratio, medians] = heads;
        println!("{:34}{best:>10}{median:>10}{rate:>10}{ratio:>12}{medians:>12}", "");
    }
    for Contestant { name, whose, nanoseconds, .. } in contestants {
        let (best, median) = (nanoseconds[0], nanoseconds[nanoseconds.len() / 2]);
        let (rate, ratio, medians) = (1e3 / best, best_peer / best, median_peer / median);
        let name = match whose {
            Whose::Ours => format!("wiretape {name}"),
            Whose::Peer => (*name).to_owned(),
            Whose::Machine => format!("({name})"),
        };
        if options.markdown {
            println!(
                "| {name} | {best:.2} | {median:.2} | {rate:.1} | {ratio:.2} | {medians:.2} |"
            );
        } else {
            println!("{name:34}{best:>10.2}{median:>10.2}{rate:>10.1}{ratio:>12.2}{medians:>12.2}");
        }
    }
}

/// Puts the calling thread on one core, if the machine has it and allows it.
pub fn pin(core: usize) {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    // Unpinned is noisier, not wrong.
    let _ = rustix::thread::sched_setaffinity(None, &cores);
}

/// Runs `work` in a thread of its own, which it may pin without pinning the benchmark.
pub fn apart<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    done.expect("the thread does not panic")
}

/// Runs `write` on core 0 and `read` on core 1, both at once. The time is that from the moment
/// both are ready until `read` is done; its result is the check.
pub fn two_cores(write: impl FnOnce() + Send, read: impl FnOnce() -> u64 + Send) -> Run {
    on_cores(write, [read])
}

/// Runs `write` on core 0 and the readers on the cores behind it, all at once. The time is that from the
/// moment all are ready until the last reader is done. They are to come to the same check.
pub fn on_cores<const READERS: usize, R>(write: impl FnOnce() + Send, read: [R; READERS]) -> Run
where
    R: FnOnce() -> u64 + Send,
{
    let ready = AtomicUsize::new(0);
    let meet = || {
        ready.fetch_add(1, Ordering::AcqRel);
        while ready.load(Ordering::Acquire) <= READERS {
            std::hint::spin_loop();
        }
    };
    let meet = &meet;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(0);
            meet();
            write();
        });
        let mut core = 0;
        let reading = read.map(|read| {
            core += 1;
            scope.spawn(move || {
                pin(core);
                meet();
                let start = Instant::now();
                let check = read();
                Run { took: start.elapsed(), check }
            })
        });
        let runs = reading.map(|one| one.join().expect("the reading thread does not panic"));
        let check = runs[0].check;
        assert!(runs.iter().all(|run| run.check == check), "readers saw different items");
        let took = runs.iter().map(|run| run.took).max().unwrap_or_default();
        Run { took, check }
    })
}
