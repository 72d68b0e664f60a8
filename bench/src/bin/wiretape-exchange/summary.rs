//! What was played, for people and for programs.

use std::io::{self, Write};

use serde::Serialize;
use wiretape_bench::exchange::player::{Ended, Lateness, Progress, Report};

/// What the interface's own counters say about the time of the play.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct InterfaceCounts {
    /// Packets that it sent, those of others included.
    pub sent: u64,
    /// Packets that it dropped.
    pub dropped: u64,
}

/// The summary of a play.
#[derive(Debug, Serialize)]
pub struct Summary {
    packets: u64,
    messages: u64,
    bytes: u64,
    skipped: u64,
    elapsed_ns: u64,
    packets_per_second: f64,
    ended: Ended,
    late: Option<Lateness>,
    interface: Option<InterfaceCounts>,
    remarks: Vec<String>,
}

fn per_second(count: u64, elapsed_ns: u64) -> f64 {
    count as f64 * 1e9 / elapsed_ns.max(1) as f64
}

/// A number with commas, as people read it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn microseconds(ns: u64) -> String {
    format!("{:.1} us", ns as f64 / 1e3)
}

/// The line that is printed each second: `last` is how far it was at the line before.
pub fn progress_line(now: &Progress, last: &Progress) -> String {
    let step_ns = now.elapsed_ns.saturating_sub(last.elapsed_ns);
    let packets = now.sent.packets - last.sent.packets;
    let messages = now.sent.messages - last.sent.messages;
    format!(
        "{:6.1} s  {} packets ({}/s)  {} messages ({}/s)",
        now.elapsed_ns as f64 / 1e9,
        grouped(now.sent.packets),
        grouped(per_second(packets, step_ns) as u64),
        grouped(now.sent.messages),
        grouped(per_second(messages, step_ns) as u64),
    )
}

impl Summary {
    /// Puts together what is known.
    pub fn new(
        report: &Report,
        interface: Option<InterfaceCounts>,
        remarks: Vec<String>,
    ) -> Summary {
        let Progress { sent, elapsed_ns } = report.progress;
        Summary {
            packets: sent.packets,
            messages: sent.messages,
            bytes: sent.bytes,
            skipped: sent.skipped,
            elapsed_ns,
            packets_per_second: per_second(sent.packets, elapsed_ns),
            ended: report.ended,
            late: report.late,
            interface,
            remarks,
        }
    }

    /// Writes it as JSON.
    pub fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }

    /// Writes it as text.
    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let ended = match self.ended {
            Ended::Source => "",
            Ended::Count => " (--count reached)",
            Ended::Duration => " (--duration over)",
            Ended::Stopped => " (stopped)",
        };
        writeln!(out, "packets    {}{ended}", grouped(self.packets))?;
        writeln!(out, "messages   {}", grouped(self.messages))?;
        writeln!(out, "bytes      {}", grouped(self.bytes))?;
        if self.skipped > 0 {
            writeln!(out, "skipped    {} packets that cannot be sent this way", self.skipped)?;
        }
        writeln!(out, "elapsed    {:.3} s", self.elapsed_ns as f64 / 1e9)?;
        writeln!(out, "rate       {} packets/s", grouped(self.packets_per_second as u64))?;
        if let Some(late) = self.late {
            let [p50, p99, max] = [late.p50_ns, late.p99_ns, late.max_ns].map(microseconds);
            writeln!(out, "late       p50 {p50}, p99 {p99}, max {max}")?;
        }
        if let Some(counts) = self.interface {
            let (sent, dropped) = (grouped(counts.sent), grouped(counts.dropped));
            writeln!(out, "interface  {sent} packets sent, {dropped} dropped")?;
        }
        for remark in &self.remarks {
            writeln!(out, "note       {remark}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }
}
