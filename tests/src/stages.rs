//! What the stages of a daemon say of themselves, each by counters of its own, held against each other.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Daemon;

/// Kinds of events that come to the core by the ring alone.
const OF_THE_RING: [&str; 8] =
    ["open", "established", "progress", "failed", "listen", "unlisten", "capture", "refused"];

/// Ends: those that found the ring full come by the overflow map, past the reader.
const ENDS: [&str; 2] = ["close", "socket_closed"];

/// Waits until all is quiet, and each stage got what the one before it gave. `more`: what else is wrong with a status.
/// Gives the status that it is true of.
///
/// # Errors
/// It is not so after `patience`.
pub fn each_stage_got_what_the_one_before_gave(
    daemon: &Daemon,
    patience: Duration,
    more: impl Fn(&Value) -> Vec<String>,
) -> Result<Value> {
    let deadline = Instant::now() + patience;
    loop {
        let status = daemon.status()?;
        let mut wrong = disagreements(&status)?;
        wrong.extend(more(&status));
        if wrong.is_empty() {
            return Ok(status);
        }
        ensure!(Instant::now() < deadline, "{}: {}", wrong.join("; "), status["loss"]);
        thread::sleep(Duration::from_millis(200));
    }
}

/// Where a daemon at rest says that a stage got something else than the one before it gave, by kind, or that something
/// was neither passed on nor lost. Once something is under way, that is no fault.
///
/// # Errors
/// The status has no losses.
pub fn disagreements(status: &Value) -> Result<Vec<String>> {
    let rows = status["loss"].as_array().context("no losses")?;
    let mut wrong = Vec::new();
    if !rows.iter().any(|row| row["stage"] == "kernel") {
        // Its counters are read once a second.
        wrong.push("nothing of the kernel".to_owned());
    }
    let mut same = |what: &str, gave: u64, got: u64| {
        if gave != got {
            wrong.push(format!("{what}: {gave} were given, {got} came"));
        }
    };
    for kind in OF_THE_RING {
        same(
            &format!("{kind}, kernel to reader"),
            delivered(status, "kernel", kind),
            offered(status, "reader", kind),
        );
        same(
            &format!("{kind}, reader to core"),
            delivered(status, "reader", kind),
            offered(status, "events", kind),
        );
    }
    let ends: u64 = ENDS.iter().map(|kind| offered(status, "events", kind)).sum();
    same("ends, kernel to core", delivered(status, "kernel", "close"), ends);
    for kind in ENDS {
        let (gave, got) = (delivered(status, "reader", kind), offered(status, "events", kind));
        if gave > got {
            wrong.push(format!("{kind}, reader to core: {gave} were given, {got} came"));
        }
    }
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap_or_default();
    let is_whole = |row: &&Value| number(row, "offered") == number(row, "delivered") + number(row, "lost");
    wrong
        .extend(rows.iter().filter(|row| !is_whole(row)).map(|row| format!("not delivered and lost: {row}")));
    Ok(wrong)
}

/// What a stage says that it was offered of a kind.
pub fn offered(status: &Value, stage: &str, kind: &str) -> u64 {
    count(status, stage, kind, "offered")
}

/// What a stage says that it passed on of a kind.
pub fn delivered(status: &Value, stage: &str, kind: &str) -> u64 {
    count(status, stage, kind, "delivered")
}

/// A row that is not there counts nothing.
fn count(status: &Value, stage: &str, kind: &str, name: &str) -> u64 {
    let rows = status["loss"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = rows.iter().find(|row| row["stage"] == stage && row["kind"] == kind);
    row.and_then(|row| row[name].as_u64()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// One open and two ends, one of them by the overflow map; a stage can say that it got less.
    fn status(read: u64, taken: u64, ends: u64) -> Value {
        let row = |stage: &str, kind: &str, offered: u64, delivered: u64| json!({ "stage": stage, "kind": kind, "offered": offered, "delivered": delivered, "lost": offered - delivered });
        json!({ "loss": [
            row("kernel", "open", 3, 1), row("reader", "open", read, read), row("events", "open", taken, taken),
            row("kernel", "close", 2, 2), row("reader", "close", 1, 1), row("events", "close", ends, ends),
        ] })
    }

    #[test]
    fn what_a_stage_did_not_get_is_told() {
        let wrong = |read, taken, ends| disagreements(&status(read, taken, ends)).map(|all| all.len()).ok();
        assert_eq!(wrong(1, 1, 2), Some(0));
        assert_eq!(wrong(2, 2, 2), Some(1), "more than the kernel gave");
        assert_eq!(wrong(1, 0, 2), Some(1), "less than the reader gave");
        assert_eq!(wrong(1, 1, 1), Some(1), "an end is missing");
        assert_eq!(wrong(1, 1, 0), Some(2), "nor did the reader's come");
        assert_eq!(disagreements(&json!({ "loss": [] })).unwrap_or_default(), ["nothing of the kernel"]);
        assert!(disagreements(&json!({})).is_err());
        let mut of_kernel = status(1, 1, 2);
        of_kernel["loss"][0]["lost"] = 1.into();
        let wrong = disagreements(&of_kernel).unwrap_or_default();
        assert!(wrong.len() == 1 && wrong[0].contains("not delivered and lost"), "{wrong:?}");
    }
}
