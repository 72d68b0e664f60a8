//! The status of an interface, for the eye.

use std::io::{self, Write};

use wiretape_xdp::status::QueueStatus;
use wiretape_xdp::{Counters, State, Status};

/// Writes one interface's status.
pub fn write_status(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let interface = match &status.renamed {
        Some(now) => format!("{} (now called {now})", status.interface),
        None => status.interface.clone(),
    };
    let program = status.program_id.map_or("?".to_string(), |id| id.to_string());
    let tag = status.program_tag.as_deref().unwrap_or("?");
    match (status.state, status.mode) {
        (State::Gone, _) => writeln!(out, "{interface}: gone; these are its last counters")?,
        (_, Some(mode)) => writeln!(out, "{interface}: {mode} mode, program {program}, tag {tag}")?,
        _ => {
            let where_from = "in another network namespace, where its mode can be asked";
            writeln!(out, "{interface}: program {program}, tag {tag}, {where_from}")?;
        }
    }
    writeln!(out, "  pins    {}", status.pins.display())?;
    if !status.driver_features.is_empty() {
        writeln!(out, "  driver  {}", status.driver_features.join(" "))?;
    }
    if status.receive_stamps {
        let Counters { stamped, unstamped, .. } = status.total;
        let without = if unstamped > 0 { ", for which the driver had none" } else { "" };
        writeln!(
            out,
            "  stamps  {stamped} packets with the NIC's time, {unstamped} without{without}"
        )?;
    }
    for (index, group) in status.groups.iter().enumerate() {
        writeln!(out, "  {:<7} {group}", if index == 0 { "groups" } else { "" })?;
    }
    if status.groups.is_empty() {
        writeln!(out, "  groups  none")?;
    }
    if let Some(card) = &status.card {
        if let Some(before) = card.queues_before {
            writeln!(out, "  card    had {before} receive queues before")?;
        }
        for (group, queue) in &card.rules {
            writeln!(out, "  card    puts {group} into queue {queue}")?;
        }
    }
    write_queues(out, status)?;
    if !status.closes {
        writeln!(out, "  ledger  does not close; while packets arrive it may not for a moment")?;
    }
    Ok(())
}

fn write_queues(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let heads = [
        "queue",
        "socket",
        "seen",
        "passed",
        "fragments",
        "malformed",
        "matched",
        "redirected",
        "no-socket",
        "bytes",
        "vlan",
    ];
    let mut rows = vec![heads.map(str::to_string)];
    rows.extend(
        status.queues.iter().map(|queue| row(queue_name(queue), socket(queue), &queue.counters)),
    );
    rows.push(row("all".to_string(), "", &status.total));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    for row in &rows {
        let cells = row.iter().enumerate();
        let cells: Vec<String> =
            cells.map(|(column, cell)| format!("{cell:>width$}", width = width(column))).collect();
        writeln!(out, "  {}", cells.join("  "))?;
    }
    Ok(())
}

fn queue_name(queue: &QueueStatus) -> String {
    queue.queue.map_or("other".to_string(), |number| number.to_string())
}

fn socket(queue: &QueueStatus) -> &'static str {
    match queue.socket {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    }
}

fn row(queue: String, socket: &str, count: &Counters) -> [String; 11] {
    [
        queue,
        socket.to_string(),
        count.seen.to_string(),
        count.passed.to_string(),
        count.fragments.to_string(),
        count.malformed.to_string(),
        count.matched.to_string(),
        count.redirected.to_string(),
        count.no_socket.to_string(),
        count.matched_bytes.to_string(),
        count.vlan.to_string(),
    ]
}
