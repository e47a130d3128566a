//! Reading records: a field by its dotted name, and a record on one line for a failure message.

use serde_json::Value;

/// A field by its dotted name; null if it is not there.
pub fn field<'a>(record: &'a Value, name: &str) -> &'a Value {
    name.split('.').fold(record, |value, part| value.get(part).unwrap_or(&Value::Null))
}

/// A text field; empty if it is not there or not text.
pub fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    field(record, name).as_str().unwrap_or("")
}

/// A number; `None` if it is not there or no whole, positive number.
pub fn number(record: &Value, name: &str) -> Option<u64> {
    field(record, name).as_u64()
}

pub fn is_flow(record: &Value) -> bool {
    text(record, "event.dataset") == "streamwatch.flow"
}

/// The last record of a flow to this port.
pub fn is_closed(record: &Value, server_port: u16) -> bool {
    is_flow(record)
        && text(record, "event.action") == "flow_closed"
        && number(record, "server.port") == Some(server_port.into())
}

pub fn is_alert(record: &Value) -> bool {
    text(record, "event.dataset") == "streamwatch.alert"
}

pub fn is_loss(record: &Value) -> bool {
    text(record, "event.dataset") == "streamwatch.loss"
}

/// The parts of a record that tests look at, on one line.
pub fn show(record: &Value) -> String {
    const SHOWN: &[&str] = &[
        "event.dataset",
        "event.action",
        "streamwatch.flow.state",
        "rule.id",
        "streamwatch.alert.state",
        "streamwatch.alert.count",
        "network.transport",
        "network.protocol",
        "network.direction",
        "client.ip",
        "client.port",
        "client.bytes",
        "server.ip",
        "server.port",
        "server.bytes",
        "process.name",
        "process.pid",
        "tls.version",
        "streamwatch.verdict.encrypted.answer",
        "streamwatch.verdict.encrypted.reason",
        "streamwatch.verdict.watched.answer",
        "event.reason",
    ];
    let parts = SHOWN.iter().filter(|name| !field(record, name).is_null());
    let line: Vec<String> = parts.map(|name| format!("{name}={}", field(record, name))).collect();
    if line.is_empty() { record.to_string() } else { line.join(" ") }
}
