//! What tests of log-ins and of detectors ask of one service: wrong passwords, and the alerts about it.

use serde_json::Value;

use crate::{Daemon, is_alert, number, show, text};

/// Where the service under test is.
pub const PORT: u16 = 34_600;

/// The nth wrong password.
pub fn wrong(n: usize) -> String {
    format!("wrong-horse-{n}-staple")
}

/// Whether it is an alert of this rule about the service under test.
pub fn about(record: &Value, rule: &str) -> bool {
    is_alert(record) && text(record, "rule.id") == rule && number(record, "server.port") == Some(PORT.into())
}

/// All of those that were heard.
pub fn alerts(daemon: &Daemon, rule: &str) -> Vec<Value> {
    daemon.heard().into_iter().map(|heard| heard.record).filter(|record| about(record, rule)).collect()
}

/// For the message of a failure.
pub fn list(records: &[Value]) -> String {
    records.iter().map(show).collect::<Vec<_>>().join("\n  ")
}

/// Without alerts of a stream in the clear the log is shorter; they are told all the same.
pub fn is_ours(record: &Value) -> bool {
    is_alert(record) && text(record, "rule.id") != "plaintext"
}
