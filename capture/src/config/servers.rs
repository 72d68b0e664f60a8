//! Rules about servers that a feed may ask: for what is missing, and for snapshots.

use std::net::SocketAddrV4;
use std::time::Duration;

use super::error::{ConfigError, Place};
use super::meaning::{address, origin_of, value, within};
use super::tables::{FeedTable, Located};
use super::{Protocol, RecoveryConfig, SnapshotConfig};

/// What a re-request server answers in, with a few tries.
const RECOVERY_MS: usize = 500;
/// Nobody waits through a whole day.
const RECOVERY_MS_RANGE: std::ops::RangeInclusive<usize> = 1..=86_400_000;
/// What a server takes for the orders of a whole market, with room.
const SNAPSHOT_MS: usize = 5_000;
/// An answer takes its time; and nobody waits for one through a whole day.
const SNAPSHOT_MS_RANGE: std::ops::RangeInclusive<usize> = 1..=86_400_000;
/// Some seconds of a busy feed.
const SNAPSHOT_HOLD_MIB: usize = 64;
const HOLD_MIB: std::ops::RangeInclusive<usize> = 1..=65_536;
/// SoupBinTCP's fields.
const USER_MAX: usize = 6;
const PASSWORD_MAX: usize = 10;

pub(super) fn check_recovery(
    place: Place<'_>,
    table: &FeedTable,
    protocol: Protocol,
) -> Result<Option<RecoveryConfig>, ConfigError> {
    let Some(recovery) = &table.recovery else {
        return match &table.recovery_ms {
            Some(ms) => {
                let sentence =
                    "'recovery_ms' says how long servers may take; 'recovery' names none";
                Err(ConfigError::at(place, ms.origin, sentence))
            }
            None => Ok(None),
        };
    };
    if protocol != Protocol::Itch50 {
        let sentence = format!(
            "{} has no re-request servers that capture can ask; those of MoldUDP64 it can",
            protocol.name()
        );
        return Err(ConfigError::at(place, recovery.origin, sentence));
    }
    let example = "a list of addresses and ports, such as [\"10.1.2.3:26400\"]";
    let servers = recovery.value.iter();
    let servers: Vec<SocketAddrV4> = servers
        .map(|text| address(place, recovery.origin, "recovery", text, example))
        .collect::<Result<_, _>>()?;
    if servers.is_empty() {
        let sentence = format!("'recovery' is empty: it is {example}");
        return Err(ConfigError::at(place, recovery.origin, sentence));
    }
    for (key, number) in [
        ("reorder_packets", table.reorder_packets.as_ref().map(|n| (n.value, n.origin))),
        ("recovery_ms", table.recovery_ms.as_ref().map(|n| (n.value, n.origin))),
    ] {
        if let Some((0, origin)) = number {
            let sentence =
                format!("{key} = 0 gives up at once what is missing: the servers are never asked");
            return Err(ConfigError::at(place, origin, sentence));
        }
    }
    let patience_ms =
        within(place, &table.recovery_ms, "recovery_ms", RECOVERY_MS, &RECOVERY_MS_RANGE)?;
    Ok(Some(RecoveryConfig { servers, patience: Duration::from_millis(patience_ms as u64) }))
}

pub(super) fn check_snapshot(
    place: Place<'_>,
    table: &FeedTable,
    protocol: Protocol,
) -> Result<Option<SnapshotConfig>, ConfigError> {
    let Some(snapshot) = &table.snapshot else {
        let lonely = [
            ("snapshot_login", origin_of(&table.snapshot_login)),
            ("snapshot_ms", origin_of(&table.snapshot_ms)),
            ("snapshot_hold_mib", origin_of(&table.snapshot_hold_mib)),
            ("snapshot_after_loss", origin_of(&table.snapshot_after_loss)),
        ];
        return match lonely.into_iter().find_map(|(key, origin)| Some((key, origin?))) {
            Some((key, origin)) => {
                let sentence = format!("'{key}' is about servers; 'snapshot' names none");
                Err(ConfigError::at(place, origin, sentence))
            }
            None => Ok(None),
        };
    };
    if !protocol.has_snapshots() {
        let sentence = format!(
            "{} has no snapshots that capture can fetch; those of Nasdaq's GLIMPSE it can",
            protocol.name()
        );
        return Err(ConfigError::at(place, snapshot.origin, sentence));
    }
    let example = "a list of addresses and ports, such as [\"10.1.2.3:26401\"]";
    let servers: Vec<SocketAddrV4> = snapshot
        .value
        .iter()
        .map(|text| address(place, snapshot.origin, "snapshot", text, example))
        .collect::<Result<_, _>>()?;
    if servers.is_empty() {
        let sentence = format!("'snapshot' is empty: it is {example}");
        return Err(ConfigError::at(place, snapshot.origin, sentence));
    }
    let hold_mib =
        within(place, &table.snapshot_hold_mib, "snapshot_hold_mib", SNAPSHOT_HOLD_MIB, &HOLD_MIB)?;
    let patience_ms =
        within(place, &table.snapshot_ms, "snapshot_ms", SNAPSHOT_MS, &SNAPSHOT_MS_RANGE)?;
    Ok(Some(SnapshotConfig {
        servers,
        login: check_login(place, &table.snapshot_login)?,
        patience: Duration::from_millis(patience_ms as u64),
        hold_bytes: hold_mib << 20,
        after_loss: value(&table.snapshot_after_loss).unwrap_or(true),
    }))
}

fn check_login(
    place: Place<'_>,
    login: &Option<Located<String>>,
) -> Result<Option<(String, String)>, ConfigError> {
    let Some(Located { value, origin }) = login else { return Ok(None) };
    let fits = |text: &str, most| text.len() <= most && text.bytes().all(|b| b.is_ascii_graphic());
    match value.split_once(':') {
        Some((user, password)) if fits(user, USER_MAX) && fits(password, PASSWORD_MAX) => {
            Ok(Some((user.to_owned(), password.to_owned())))
        }
        // The value stays out of the message: it holds a password.
        _ => {
            let sentence = format!(
                "snapshot_login is \"USER:PASSWORD\", of up to {USER_MAX} and {PASSWORD_MAX} \
                 letters and digits"
            );
            Err(ConfigError::at(place, *origin, sentence))
        }
    }
}
