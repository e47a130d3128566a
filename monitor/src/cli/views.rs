//! Records as rows for people.

use jiff::Timestamp;
use serde_json::Value;

use super::table::{Align, Cell, Column, Table};
use super::wide;
use crate::api::query::Field;
use crate::api::query::field::at;
use crate::model::called;
use crate::record::units;

use Align::{Elastic, Left, Right};

const STREAMS: &[Column] = &[
    ("CLIENT", Elastic),
    ("SERVICE", Elastic),
    ("PROTO", Left),
    ("ENCRYPTED", Left),
    ("AUTH", Left),
    ("ALLOWED", Left),
    ("WATCHED", Left),
    ("POSTURE", Elastic),
    ("FLOWS", Right),
    ("BYTES", Right),
    ("LAST", Right),
    ("WHY", Elastic),
];

const FLOWS: &[Column] = &[
    ("START", Right),
    ("STATE", Left),
    ("SEEN", Left),
    ("CLIENT", Elastic),
    ("SERVER", Elastic),
    ("PROTO", Left),
    ("ENCRYPTED", Left),
    ("AUTH", Left),
    ("ALLOWED", Left),
    ("WATCHED", Left),
    ("SENT", Right),
    ("BACK", Right),
    ("TIME", Right),
    ("WHAT", Elastic),
];

const ALERTS: &[Column] = &[
    ("LAST", Right),
    ("SEVERITY", Left),
    ("RULE", Left),
    ("COUNT", Right),
    ("WHAT", Elastic),
    ("REMEDY", Elastic),
];

const HISTOGRAMS: &[Column] = &[
    ("STREAM", Elastic),
    ("WHAT", Left),
    ("COUNT", Right),
    ("MIN", Right),
    ("P50", Right),
    ("P90", Right),
    ("P99", Right),
    ("P99.9", Right),
    ("MAX", Right),
    ("MEAN", Right),
];

pub(super) const ANSWERS: [(&str, &str); 4] = [
    ("encrypted", "encrypted"),
    ("authenticated", "authenticated"),
    ("authorised", "allowed"),
    ("watched", "watched"),
];

/// `wide`: below each stream a line for each answer, with its reason.
pub(super) fn streams(records: &[Value], wide: bool, now: Timestamp) -> Table {
    let mut table = Table::sparing(STREAMS, &["POSTURE", "WHY", "FLOWS", "LAST", "PROTO", "BYTES"]);
    for record in records {
        let mut cells =
            vec![text(record, "streamwatch.stream.client").into(), service(record), protocol(record)];
        cells.extend(ANSWERS.map(|(name, _)| answer(record, name)));
        let posture = text(record, "streamwatch.posture");
        cells.push(if posture.is_empty() { Cell::new("-") } else { posture.into() });
        cells.push(flow_count(record));
        cells.push(units::bytes(number(record, "network.bytes")).into());
        cells.push(ago(record, "streamwatch.stream.last_seen", now));
        cells.push(why(record).into());
        table.row(cells);
        if wide {
            wide::notes(&mut table, record);
        }
    }
    table
}

/// At which end of the connection this socket is: with both on this host there are two flows.
fn seen_at(record: &Value) -> &'static str {
    match text(record, "network.direction").as_ref() {
        "egress" => "at client",
        "ingress" => "at server",
        _ => "",
    }
}

pub(super) fn flows(records: &[Value], now: Timestamp) -> Table {
    let mut table =
        Table::sparing(FLOWS, &["SEEN", "WHAT", "TIME", "START", "BACK", "SENT", "STATE", "PROTO"]);
    for record in records {
        let mut cells = vec![
            ago(record, "event.start", now),
            state(record),
            seen_at(record).to_owned().into(),
            end(record, "client").into(),
            end(record, "server").into(),
            protocol(record),
        ];
        cells.extend(ANSWERS.map(|(name, _)| answer(record, name)));
        cells.push(units::bytes(number(record, "client.bytes")).into());
        cells.push(units::bytes(number(record, "server.bytes")).into());
        cells.push(units::duration(number(record, "event.duration")).into());
        let detail = text(record, "streamwatch.detail");
        cells.push(if detail.is_empty() { why(record).into() } else { detail.into() });
        table.row(cells);
    }
    table
}

pub(super) fn alerts(records: &[Value], now: Timestamp) -> Table {
    let mut table = Table::sparing(ALERTS, &["REMEDY", "COUNT", "LAST"]);
    for record in records {
        table.row(vec![
            ago(record, "streamwatch.alert.last_seen", now),
            severity(record),
            text(record, "rule.id").into(),
            number(record, "streamwatch.alert.count").to_string().into(),
            format!("{}{}", standing(record), text(record, "event.reason")).into(),
            text(record, "streamwatch.alert.remedy").into(),
        ]);
    }
    table
}

/// What somebody said of an alert, before its reason.
fn standing(record: &Value) -> &'static str {
    let said = |what: &str| at(record, &format!("streamwatch.alert.{what}.by")).is_some();
    match (said("acknowledged"), said("silenced")) {
        (true, _) => "(acknowledged) ",
        (false, true) => "(silenced) ",
        (false, false) => "",
    }
}

pub(super) fn histograms(records: &[Value]) -> Table {
    let mut table = Table::sparing(HISTOGRAMS, &["MEAN", "MIN", "P99.9", "P90", "COUNT"]);
    for record in records {
        let unit = text(record, "unit");
        let shown = |value: u64| match unit.as_str() {
            "bytes" => units::bytes(value),
            "ns" => units::duration(value),
            "us" => units::duration(value.saturating_mul(1000)),
            other => format!("{value} {other}"),
        };
        let stream = text(record, "stream");
        let name = text(record, "name");
        let name = name.strip_suffix("_ns").or_else(|| name.strip_suffix("_us")).unwrap_or(&name);
        let mut cells: Vec<Cell> = vec![
            if stream.is_empty() { "(all)".to_owned() } else { stream }.into(),
            name.replace('_', " ").into(),
            number(record, "count").to_string().into(),
        ];
        for field in ["min", "p50", "p90", "p99", "p999", "max"] {
            cells.push(shown(number(record, field)).into());
        }
        let mean = at(record, "mean").and_then(Value::as_f64).unwrap_or(0.0);
        cells.push(shown(mean.max(0.0).round() as u64).into());
        table.row(cells);
    }
    table
}

/// The text of a field; empty where there is none.
pub(super) fn text(record: &Value, path: &str) -> String {
    match at(record, path) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

pub(super) fn number(record: &Value, path: &str) -> u64 {
    at(record, path).and_then(Value::as_u64).unwrap_or(0)
}

/// `name:port/transport`, with the address where it has no name.
fn service(record: &Value) -> Cell {
    let (name, port) = (text(record, "streamwatch.stream.server"), text(record, "server.port"));
    let transport = text(record, "network.transport");
    let bracketed = if name.contains(':') && !name.contains('[') && name.parse::<std::net::IpAddr>().is_ok() {
        format!("[{name}]")
    } else {
        name
    };
    let ended = format!(":{port}");
    let whole = if bracketed.ends_with(&ended) { bracketed } else { bracketed + &ended };
    if transport == "tcp" { whole.into() } else { format!("{whole}/{transport}").into() }
}

/// Address and port, and who it is where that is known.
fn end(record: &Value, side: &str) -> String {
    let (ip, port) = (text(record, &format!("{side}.ip")), text(record, &format!("{side}.port")));
    let address = if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
    let of = |part: &str| {
        let field = Field::named(&format!("{side}.{part}"))?;
        field.value(record).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    match (of("process"), of("pid")) {
        (Some(name), Some(pid)) => format!("{}[{pid}] {address}", called(&name)),
        (Some(name), None) => format!("{} {address}", called(&name)),
        _ => address,
    }
}

fn protocol(record: &Value) -> Cell {
    let name = text(record, "network.protocol");
    if name.is_empty() { Cell::new("-") } else { name.into() }
}

fn answer(record: &Value, name: &str) -> Cell {
    match text(record, &format!("streamwatch.verdict.{name}.answer")).as_str() {
        "yes" => Cell::coloured("yes", "32"),
        "no" => Cell::coloured("no", "31"),
        "unknown" => Cell::coloured("unknown", "33"),
        "" => Cell::new("-"),
        other => Cell::new(other),
    }
}

/// The reason of the first "no"; where there is none, of the first of the two questions about encryption
/// that is not answered with a yes; else who proved what.
fn why(record: &Value) -> String {
    let of = |name: &str, part: &str| text(record, &format!("streamwatch.verdict.{name}.{part}"));
    let no = ANSWERS.iter().find(|(name, _)| of(name, "answer") == "no");
    let open = || if of("encrypted", "answer") == "yes" { "authenticated" } else { "encrypted" };
    of(no.map_or_else(open, |(name, _)| name), "reason")
}

/// `3 (1 open)`, `3 (2 failed)`.
fn flow_count(record: &Value) -> Cell {
    let of = |part: &str| number(record, &format!("streamwatch.stream.{part}"));
    let (flows, open, failed) = (of("flows"), of("open"), of("failed"));
    let mut more = Vec::new();
    if open > 0 {
        more.push(format!("{open} open"));
    }
    if failed > 0 {
        more.push(format!("{failed} failed"));
    }
    if more.is_empty() { flows.to_string().into() } else { format!("{flows} ({})", more.join(", ")).into() }
}

fn state(record: &Value) -> Cell {
    match (text(record, "streamwatch.flow.state"), text(record, "streamwatch.flow.failure")) {
        (state, failure) if failure.is_empty() => state.into(),
        (_, failure) => Cell::coloured(&failure.replace('_', " "), "31"),
    }
}

pub(super) fn severity(record: &Value) -> Cell {
    match number(record, "event.severity") {
        1 => Cell::coloured("low", "36"),
        2 => Cell::coloured("medium", "33"),
        3 => Cell::coloured("high", "31"),
        4 => Cell::coloured("critical", "1;31"),
        other => other.to_string().into(),
    }
}

fn ago(record: &Value, path: &str, now: Timestamp) -> Cell {
    let then = text(record, path);
    match then.parse() {
        Ok(then) => units::ago(then, now).into(),
        Err(_) => Cell::new("-"),
    }
}
