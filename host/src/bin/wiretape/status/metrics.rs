//! `wiretape metrics`: what status shows, for Prometheus.
//!
//! Format: the text-based exposition format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). Names and meanings of counters
//! are those of the segment.

use super::http::{Answer, PageServer, Pages};
use super::look::{FeedLook, Look, Totals};
use crate::failure::Failure;
use crate::source::Source;
use clap::Args;
use std::fmt::{Display, Write};
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use wiretape_core::segment::{Counter, FeedCounter, FeedGauge, LineCounter};
use wiretape_host::reader::Segment;

/// Media type of the answers.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Print all counters of all workers in Prometheus' text format, or serve them over HTTP.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wiretape metrics
  cd /var/lib/node_exporter/textfile &&
    (wiretape metrics > wiretape.new; mv wiretape.new wiretape.prom)
      For node_exporter, which never finds half of it; where there is no segment, it finds nothing.
  wiretape metrics --listen 127.0.0.1:9464     then scrape http://127.0.0.1:9464/metrics

Alert on rate(wiretape_feed_lost_messages_total[1m]) > 0; on packets lost in front of the worker,
the same of wiretape_worker_socket_ring_full_total, wiretape_worker_socket_dropped_total,
wiretape_worker_frame_oversize_total, wiretape_worker_xdp_no_socket_total and
wiretape_worker_xdp_unserved_total; on a ledger that does not close at rest,
wiretape_worker_unaccounted_packets != 0 and rate(wiretape_worker_frames_total[1m]) == 0;
on wiretape_worker_up == 0 and on
absent(wiretape_worker_up{worker=\"itch-a\"}), on wiretape_segments_unreadable > 0 and on
wiretape_feed_maybe_bad_book == 1; warn on
wiretape_feed_orders_peak / wiretape_feed_orders_capacity > 0.8 and on
rate(wiretape_worker_nic_refused_total[1m]) > 0.")]
pub struct MetricsArguments {
    #[command(flatten)]
    source: Source,
    /// Serve on this address and port until interrupted; port 0 takes any and says which.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

/// Runs the command.
pub fn run(arguments: &MetricsArguments) -> Result<ExitCode, Failure> {
    match arguments.listen {
        None => {
            io::Write::write_all(&mut io::stdout(), exposition(&arguments.source)?.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Some(address) => serve(address, &arguments.source),
    }
}

fn serve(address: SocketAddr, source: &Source) -> Result<ExitCode, Failure> {
    let cannot = |error| Failure::Told(format!("cannot serve on {address}: {error}"));
    let server = PageServer::bind(address).map_err(cannot)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let address = server.address().map_err(cannot)?;
    io::Write::write_fmt(&mut io::stdout(), format_args!("serving http://{address}/metrics\n"))?;
    let source = source.clone();
    let pages: Arc<Pages> = Arc::new(move |path| {
        let (status, text) = match path {
            "/metrics" => match exposition(&source) {
                Ok(text) => ("200 OK", text),
                // No worker runs: nothing to scrape, which Prometheus shows as down.
                Err(failure) => ("503 Service Unavailable", format!("{failure}\n")),
            },
            _ => ("404 Not Found", "see /metrics\n".to_owned()),
        };
        Answer { status, content_type: CONTENT_TYPE, text }
    });
    server.run(&stop, &pages);
    Ok(ExitCode::SUCCESS)
}

/// Everything about the workers meant.
fn exposition(source: &Source) -> Result<String, Failure> {
    let (mut looks, mut unreadable) = (Vec::new(), 0_u64);
    for path in source.all()? {
        match Segment::attach(&path) {
            Ok(segment) => looks.extend(Look::take(&segment, Totals::read(&segment))),
            Err(_) => unreadable += 1,
        }
    }
    let mut text = Exposition::default();
    text.family("segments_unreadable", Kind::Gauge, "Segments that could not be read.");
    text.sample(&[], unreadable);
    workers(&mut text, &looks);
    queues(&mut text, &looks);
    feeds(&mut text, &looks);
    lines(&mut text, &looks);
    Ok(text.text)
}

fn workers(text: &mut Exposition, looks: &[Look]) {
    let mut gauge = |name: &str, help: &str, value: &dyn Fn(&Look) -> Option<f64>| {
        text.family(name, Kind::Gauge, help);
        for look in looks {
            if let Some(value) = value(look) {
                text.sample(&[("worker", &look.worker)], value);
            }
        }
    };
    gauge("worker_up", "1 while the worker runs and gives signs of life.", &|look| {
        Some(f64::from(u8::from(!look.over)))
    });
    gauge("worker_epoch_seconds", "When the worker started, seconds since 1970.", &|look| {
        Some(look.epoch as f64 / 1e9)
    });
    gauge("worker_heartbeat_age_seconds", "Time since its last sign of life.", &|look| {
        Some(look.heartbeat_age_ns as f64 / 1e9)
    });
    gauge(
        "worker_unaccounted_packets",
        "Packets that the ledger does not account for; 0 once nothing is in flight.",
        &|look| {
            let ledger = &look.ledger;
            let sums = [
                ledger.unaccounted_verdicts(),
                ledger.unaccounted_arrivals(),
                ledger.unaccounted_outcomes(),
            ];
            // They could cancel each other out.
            sums.map(|sum| sum as f64).into_iter().max_by(|a, b| a.abs().total_cmp(&b.abs()))
        },
    );
    text.family(
        "worker_latency_seconds",
        Kind::Summary,
        "From the receive stamp to the published event, since the start.",
    );
    for look in looks {
        for (quantile, ns) in
            ["0.5", "0.99", "0.999", "1"].iter().zip(look.latency_ns.iter().flatten())
        {
            let labels = [("worker", look.worker.as_str()), ("quantile", quantile)];
            text.sample(&labels, *ns as f64 / 1e9);
        }
    }
    for counter in Counter::ALL {
        text.family(&format!("worker_{}_total", counter.name()), Kind::Counter, counter.help());
        for look in looks {
            text.sample(&[("worker", &look.worker)], look.counter(*counter));
        }
    }
}

fn queues(text: &mut Exposition, looks: &[Look]) {
    for counter in Counter::ALL {
        let of_queues = |look: &Look| {
            look.queues.iter().any(|queue| queue.counters.iter().any(|one| one.0 == *counter))
        };
        if !looks.iter().any(of_queues) {
            continue;
        }
        text.family(&format!("queue_{}_total", counter.name()), Kind::Counter, counter.help());
        for look in looks {
            for queue in &look.queues {
                let number = queue.identity.queue.to_string();
                let labels = [
                    ("worker", look.worker.as_str()),
                    ("interface", queue.identity.interface.as_str()),
                    ("queue", &number),
                ];
                text.sample(&labels, queue.counter(*counter));
            }
        }
    }
}

/// The feeds of a worker, of those of one name the latest: a label stands for one series.
fn current(look: &Look) -> impl Iterator<Item = &FeedLook> {
    let name = |feed: &FeedLook| feed.identity.name.clone();
    look.feeds.iter().enumerate().filter_map(move |(index, feed)| {
        let later = look.feeds.iter().skip(index + 1);
        (!later.into_iter().any(|other| name(other) == name(feed))).then_some(feed)
    })
}

fn feeds(text: &mut Exposition, looks: &[Look]) {
    let all = || looks.iter().flat_map(|look| current(look).map(move |feed| (look, feed)));
    for counter in FeedCounter::ALL {
        text.family(&format!("feed_{}_total", counter.name()), Kind::Counter, counter.help());
        for (look, feed) in all() {
            let labels = [("worker", look.worker.as_str()), ("feed", feed.identity.name.as_str())];
            text.sample(&labels, feed.counter(*counter));
        }
    }
    type State = (&'static str, &'static str, fn(&FeedLook) -> u64);
    let states: [State; 5] = [
        ("feed_up", "1 for a feed of the worker, 0 once it was removed.", |feed| {
            (!feed.removed).into()
        }),
        ("feed_next_sequence", "The message expected next.", |feed| feed.session.next_seq),
        ("feed_session_ended", "1 once the venue ended the session.", |feed| {
            feed.session.ended.into()
        }),
        ("feed_maybe_bad_book", "1 while books may be wrong since a loss.", |feed| {
            feed.session.maybe_bad_book.into()
        }),
        ("feed_joining", "1 while packets wait for a snapshot.", |feed| {
            feed.session.joining.into()
        }),
    ];
    for gauge in FeedGauge::ALL {
        text.family(&format!("feed_{}", gauge.name()), Kind::Gauge, gauge.help());
        for (look, feed) in all() {
            let labels = [("worker", look.worker.as_str()), ("feed", feed.identity.name.as_str())];
            text.sample(&labels, feed.gauge(*gauge));
        }
    }
    for (name, help, value) in states {
        text.family(name, Kind::Gauge, help);
        for (look, feed) in all() {
            let labels = [("worker", look.worker.as_str()), ("feed", feed.identity.name.as_str())];
            text.sample(&labels, value(feed));
        }
    }
    type Causes = fn(&FeedLook) -> &[(&'static str, u64)];
    let causes: [(&str, &str, Causes); 2] = [
        ("feed_malformed_by_cause_total", "Why packets were malformed.", |feed| {
            &feed.packet_causes
        }),
        ("feed_book_errors_by_cause_total", "Why the book could not apply messages.", |feed| {
            &feed.book_causes
        }),
    ];
    for (name, help, list) in causes {
        text.family(name, Kind::Counter, help);
        for (look, feed) in all() {
            for (cause, count) in list(feed) {
                let (worker, feed) = (look.worker.as_str(), feed.identity.name.as_str());
                text.sample(&[("worker", worker), ("feed", feed), ("cause", cause)], count);
            }
        }
    }
}

fn lines(text: &mut Exposition, looks: &[Look]) {
    let feeds = || looks.iter().flat_map(|look| current(look).map(move |feed| (look, feed)));
    for counter in LineCounter::ALL {
        // The two that are states and no sums.
        match counter {
            LineCounter::LastPacketNs => text.family(
                "line_last_packet_timestamp_seconds",
                Kind::Gauge,
                "When its latest packet was received, seconds since 1970.",
            ),
            LineCounter::NextSeq => text.family("line_next_seq", Kind::Gauge, counter.help()),
            _ => {
                let name = format!("line_{}_total", counter.name());
                text.family(&name, Kind::Counter, counter.help());
            }
        }
        for (look, feed) in feeds() {
            for (letter, line) in ["A", "B", "recovery"].iter().zip(&feed.lines) {
                // Without a line B, what re-request servers sent comes second.
                let letter = if line.address.1 == 0 { "recovery" } else { letter };
                let (worker, feed) = (look.worker.as_str(), feed.identity.name.as_str());
                let labels = [("worker", worker), ("feed", feed), ("line", letter)];
                let value = line.counter(*counter);
                match counter {
                    LineCounter::LastPacketNs => text.sample(&labels, value as f64 / 1e9),
                    _ => text.sample(&labels, value),
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    /// Quantiles; they alone, where neither sum nor count is kept.
    Summary,
}

/// The text, a family of samples after the other.
#[derive(Default)]
struct Exposition {
    text: String,
    /// The family begun last.
    family: String,
}

impl Exposition {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.family = format!("wiretape_{name}");
        let name = &self.family;
        // Writing to a String cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A sample of the family begun last.
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, text)| {
                let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                format!("{label}=\"{escaped}\"")
            })
            .collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{labels} {value}", self.family);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_carry_their_familys_name_and_labels_are_escaped() {
        let mut text = Exposition::default();
        text.family("a_total", Kind::Counter, "Counts\na \\.");
        text.sample(&[("worker", "x\"y\\z\n")], 7_u64);
        text.sample(&[], 1.5);
        text.family("b", Kind::Gauge, "Is.");
        text.sample(&[], 0_u64);
        let expected = "# HELP wiretape_a_total Counts\\na \\\\.\n\
                        # TYPE wiretape_a_total counter\n\
                        wiretape_a_total{worker=\"x\\\"y\\\\z\\n\"} 7\n\
                        wiretape_a_total 1.5\n\
                        # HELP wiretape_b Is.\n# TYPE wiretape_b gauge\nwiretape_b 0\n";
        assert_eq!(text.text, expected);
    }
}
