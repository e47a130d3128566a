//! `check`: do all streams keep the rules?

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use hyper::Method;
use serde_json::Value;

use super::client::Client;
use super::views::text;
use super::{Failure, many, tell};
use crate::api::query::field::at;
use crate::model::{Reach, Severity, reach};
use crate::record::printable;

/// In the clear by design, as [`dissect::Protocol::clear_by_design`] has it.
const BY_DESIGN: [dissect::Protocol; 6] = [
    dissect::Protocol::Dns,
    dissect::Protocol::Ntp,
    dissect::Protocol::Dhcp,
    dissect::Protocol::Mdns,
    dissect::Protocol::Ssdp,
    dissect::Protocol::Stun,
];

pub(super) fn check(severity: Severity, quiet: bool, socket: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let client = Client::new(socket)?;
    let alerts = client.records(Method::GET, "/v1/alerts")?;
    let streams = client.records(Method::GET, "/v1/streams")?;
    let mut broken = Vec::new();
    for alert in alerts.iter().filter(|alert| breaks(alert, severity)) {
        broken.push(format!("{}: {}", text(alert, "rule.id"), text(alert, "event.reason")));
    }
    for stream in streams.iter().filter(|stream| in_the_clear(stream)) {
        let reason = text(stream, "streamwatch.verdict.encrypted.reason");
        broken.push(format!("in the clear: {}: {reason}", text(stream, "streamwatch.stream.key")));
    }
    if !quiet {
        let mut lines: String = broken.iter().map(|line| format!("{}\n", printable(line))).collect();
        if broken.is_empty() {
            lines = format!("{}, no rule broken\n", many(streams.len() as u64, "stream"));
        }
        tell(lines.as_bytes())?;
    }
    Ok(ExitCode::from(u8::from(!broken.is_empty())))
}

fn breaks(alert: &Value, severity: Severity) -> bool {
    let found = at(alert, "event.severity").and_then(Value::as_u64).unwrap_or(u64::MAX);
    text(alert, "streamwatch.alert.state") != "resolved" && found >= severity as u64
}

/// In the clear, on its way to or from another host, and not by design.
fn in_the_clear(stream: &Value) -> bool {
    let protocol = text(stream, "network.protocol");
    let leaves = |path: &str| {
        // An address that cannot be read is not taken for loopback.
        text(stream, path).parse::<IpAddr>().map_or(true, |address| reach(address) != Reach::Loopback)
    };
    text(stream, "streamwatch.verdict.encrypted.answer") == "no"
        && leaves("server.ip")
        && leaves("client.ip")
        && !BY_DESIGN.iter().any(|it| it.as_str() == protocol)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::record::{ecs, samples};

    fn stream(change: impl FnOnce(&mut crate::model::StreamView)) -> Value {
        let mut stream = samples::stream();
        change(&mut stream);
        let mut out = Vec::new();
        ecs::encode_stream(&samples::context(), &stream, samples::at(), &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn plaintext_to_another_host_breaks_the_rules() {
        assert!(in_the_clear(&stream(|_| {})));
        assert!(!in_the_clear(&stream(|it| it.server_address = "127.0.0.1:80".parse().unwrap())));
        assert!(!in_the_clear(&stream(|it| it.protocol = Some("dns".into()))));
        assert!(BY_DESIGN.iter().all(|it| it.clear_by_design()));
    }

    #[test]
    fn alerts_count_from_the_severity_on() {
        let mut out = Vec::new();
        ecs::encode_alert(&samples::context(), &samples::alert(), &mut out);
        let alert: Value = serde_json::from_slice(&out).unwrap();
        assert!(breaks(&alert, Severity::High));
        assert!(!breaks(&alert, Severity::Critical));
    }
}
