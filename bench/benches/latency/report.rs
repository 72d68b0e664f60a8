//! What was measured, in words.

use std::collections::BTreeMap;
use std::fmt;

use clap::ValueEnum;
use wiretape_core::histogram::HistogramSnapshot;

/// Shares of the rate at which the sender can send, in percent.
pub const LOADS: [u32; 3] = [10, 50, 90];

/// How packets come into the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// Through capture: an AF_XDP socket, polled.
    Xdp,
    /// Through the kernel: a UDP socket, polled.
    Udp,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Way::Xdp => "capture, AF_XDP",
            Way::Udp => "UDP socket, polled",
        })
    }
}

/// What was measured at one load, one way.
#[derive(Clone, Default)]
pub struct Load {
    /// A histogram for each round.
    pub latency_ns: Vec<HistogramSnapshot>,
    /// The same of the worker's own: from when a look at the socket has found packets to the last
    /// event of them. Nothing of a receiver that has no worker.
    pub worker_ns: Vec<HistogramSnapshot>,
    /// Packets of which no event came.
    pub lost: u64,
}

impl Load {
    /// Takes another round in.
    pub fn add(&mut self, round: Load) {
        self.lost += round.lost;
        self.latency_ns.extend(round.latency_ns);
        self.worker_ns.extend(round.worker_ns);
    }

    /// Microseconds of a quantile.
    fn us(&self, numerator: u64, denominator: u64) -> f64 {
        quantile(&self.latency_ns, numerator, denominator) as f64 / 1e3
    }
}

/// A quantile: the middle one of all rounds'.
fn quantile(rounds: &[HistogramSnapshot], numerator: u64, denominator: u64) -> u64 {
    let quantiles = rounds.iter().map(|round| round.quantile(numerator, denominator));
    let mut quantiles: Vec<u64> = quantiles.collect();
    quantiles.sort_unstable();
    quantiles.get(quantiles.len() / 2).copied().unwrap_or(0)
}

/// All loads, both ways.
pub struct Report<'r> {
    /// Nanoseconds from packet to packet when there is no pause.
    pub interval: f64,
    /// By way, in the order of [`Way`].
    pub results: &'r [[Load; LOADS.len()]],
    /// Whether the reader had a processor of its own.
    pub apart: bool,
}

impl Report<'_> {
    fn rows(&self) -> impl Iterator<Item = (u32, f64, Way, &Load)> {
        let ways = [Way::Xdp, Way::Udp].into_iter().zip(self.results);
        (0..LOADS.len()).flat_map(move |i| {
            let rate = 1e6 / self.interval * f64::from(LOADS[i]) / 100.0;
            ways.clone().map(move |(way, loads)| (LOADS[i], rate, way, &loads[i]))
        })
    }

    /// A line for each load and way.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (load, rate, way, result) in self.rows() {
            let [p50, p90, p99, p999] =
                [(50, 100), (90, 100), (99, 100), (999, 1000)].map(|(n, of)| result.us(n, of));
            text += &format!(
                "{load:>3} % {rate:>6.0} k/s  {way:<19} p50 {p50:>7.1}  p90 {p90:>7.1}  p99 \
                 {p99:>7.1}  p99.9 {p999:>8.1} us  {:>5} lost\n",
                result.lost
            );
        }
        for (load, of_batch, [p50, p99, p999]) in self.worker() {
            text += &format!(
                "{load:>3} % frame in packet memory to event, {of_batch:.1} packets a look: p50 \
                 {p50}  p99 {p99}  p99.9 {p999} ns\n"
            );
        }
        text
    }

    /// Load, packets that a look at the socket found, and p50, p99 and p99.9 in nanoseconds from
    /// there to the last event.
    fn worker(&self) -> impl Iterator<Item = (u32, f64, [u64; 3])> {
        self.rows().filter_map(|(load, _, _, result)| {
            let looks = result.worker_ns.iter().map(HistogramSnapshot::count).sum::<u64>();
            let packets = result.latency_ns.iter().map(HistogramSnapshot::count).sum::<u64>();
            let quantiles = [(50, 100), (99, 100), (999, 1000)];
            let quantiles = quantiles.map(|(n, of)| quantile(&result.worker_ns, n, of));
            (looks > 0).then(|| (load, packets as f64 / looks as f64, quantiles))
        })
    }

    /// Tables, and a histogram for each load and way.
    pub fn markdown(&self) -> String {
        let readers = if self.apart { "on a processor of its own" } else { "beside the sender" };
        let mut text = format!(
            "Microseconds, the middle of the rounds; the reader {readers}.\n\n| load | packets/s | way | p50 | p90 | p99 | \
             p99.9 | lost |\n|---|---|---|---|---|---|---|---|\n"
        );
        for (load, rate, way, result) in self.rows() {
            let [p50, p90, p99, p999] =
                [(50, 100), (90, 100), (99, 100), (999, 1000)].map(|(n, of)| result.us(n, of));
            text += &format!(
                "| {load} % | {rate:.0} k | {way} | {p50:.1} | {p90:.1} | {p99:.1} | {p999:.1} | {} \
                 |\n",
                result.lost
            );
        }
        text += "\nFrom the frame in packet memory to its event in the ring, by the worker's own \
                 histogram: from when a look at the socket has found packets to the last event of \
                 them.\n\n| load | packets a look | p50 ns | p99 ns | p99.9 ns |\n|---|---|---|---|---|\n";
        for (load, of_batch, [p50, p99, p999]) in self.worker() {
            text += &format!("| {load} % | {of_batch:.1} | {p50} | {p99} | {p999} |\n");
        }
        for (load, _, way, result) in self.rows() {
            text += &format!("\n{way} at {load} %:\n\n```text\n{}```\n", bars(result));
        }
        text
    }
}

/// A histogram: a line for each power of two and its half.
fn bars(load: &Load) -> String {
    let mut buckets = BTreeMap::<i32, u64>::new();
    let rounds = load.latency_ns.iter().flat_map(HistogramSnapshot::buckets);
    for (upper_ns, count) in rounds {
        *buckets.entry(((upper_ns as f64).log2() * 2.0).floor() as i32).or_default() += count;
    }
    let (total, most) = (buckets.values().sum::<u64>(), buckets.values().max().copied());
    let (first, last) = (buckets.keys().next().copied(), buckets.keys().last().copied());
    let (Some(first), Some(last), Some(most)) = (first, last, most) else { return String::new() };
    let mut text = String::new();
    for bucket in first..=last {
        let count = buckets.get(&bucket).copied().unwrap_or(0);
        let (from, share) = (2f64.powf(f64::from(bucket) / 2.0) / 1e3, count as f64 / total as f64);
        if share >= 0.000_05 {
            let bar = "#".repeat((count as f64 / most as f64 * 50.0).round() as usize);
            text += &format!("{from:>8.1} us {:>6.2} % {bar}\n", share * 100.0);
        }
    }
    text
}
