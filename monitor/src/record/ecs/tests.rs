#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::record::{is_active, samples};

fn encoded(record: &Record) -> Value {
    let mut out = Vec::new();
    encode(&samples::context(), record, &mut out);
    serde_json::from_slice(&out).unwrap()
}

#[track_caller]
fn has(record: &Value, path: &str, expected: Value) {
    let pointer = format!("/{}", path.replace('.', "/"));
    assert_eq!(record.pointer(&pointer), Some(&expected), "{path} in {record:#}");
}

fn holds_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(holds_null),
        Value::Object(fields) => fields.values().any(holds_null),
        _ => false,
    }
}

#[test]
fn a_closed_flow_has_the_promised_fields() {
    let record = encoded(&samples::records()[0]);
    has(&record, "@timestamp", json!("2026-01-02T03:04:05.500000000Z"));
    has(&record, "event.kind", json!("event"));
    has(&record, "event.category", json!(["network"]));
    has(&record, "event.type", json!(["connection", "end"]));
    has(&record, "event.dataset", json!("streamwatch.flow"));
    has(&record, "event.duration", json!(1_000_000_000));
    has(&record, "event.end", json!("2026-01-02T03:04:06.500000000Z"));
    has(&record, "host.name", json!("web1"));
    has(&record, "observer.product", json!("streamwatch"));
    has(&record, "network.transport", json!("tcp"));
    has(&record, "network.type", json!("ipv4"));
    has(&record, "network.protocol", json!("http"));
    has(&record, "network.direction", json!("egress"));
    has(&record, "network.bytes", json!(1280));
    has(&record, "client.ip", json!("10.0.0.1"));
    has(&record, "client.bytes", json!(80));
    has(&record, "destination.port", json!(80));
    has(&record, "destination.bytes", json!(1200));
    has(&record, "process.pid", json!(4242));
    has(&record, "process.entity_id", json!("4242-99"));
    has(&record, "user.id", json!("1000"));
    has(&record, "streamwatch.flow.id", json!("b007-1"));
    has(&record, "streamwatch.flow.state", json!("closed"));
    has(&record, "streamwatch.tcp.rtt_us", json!(180));
    has(&record, "streamwatch.verdict.encrypted.answer", json!("no"));
    assert!(record.pointer("/streamwatch/peer").is_none());
    assert!(record.pointer("/tls").is_none());
}

#[test]
fn a_served_tls_flow_names_both_ends() {
    let record = encoded(&samples::records()[1]);
    has(&record, "client.ip", json!("fd00::1"));
    has(&record, "client.bytes", json!(1200));
    has(&record, "server.port", json!(443));
    has(&record, "source.port", json!(50000));
    has(&record, "network.type", json!("ipv6"));
    has(&record, "service.name", json!("nginx.service"));
    has(&record, "container.id", json!("deadbeefdeadbeef"));
    has(&record, "orchestrator.resource.id", json!("pod-7"));
    has(&record, "streamwatch.peer.process.name", json!("curl"));
    has(&record, "tls.version", json!("1.3"));
    has(&record, "tls.curve", json!("X25519MLKEM768"));
    has(&record, "tls.client.server_name", json!("example.org"));
    has(&record, "tls.established", json!(true));
    has(&record, "streamwatch.tls.post_quantum", json!(true));
    assert!(record.pointer("/event/end").is_none());
}

#[test]
fn certificates_have_ecs_names() {
    let mut out = Vec::new();
    encode_flow(&samples::context(), &samples::mutual_flow(), samples::at(), &mut out);
    let record: Value = serde_json::from_slice(&out).unwrap();
    has(&record, "tls.version", json!("1.2"));
    has(&record, "tls.client.ja3", json!("771,4865"));
    has(&record, "tls.client.ja4", json!("t13d"));
    has(&record, "tls.server.ja3s", json!("771,4866"));
    has(&record, "tls.server.subject", json!("CN=api"));
    has(&record, "tls.server.issuer", json!("CN=Test CA"));
    has(&record, "tls.server.hash.sha256", json!("AA11"));
    has(&record, "tls.server.not_after", json!("2027-01-01T00:00:00.000000000Z"));
    has(&record, "tls.server.x509.alternative_names", json!(["api.example.org"]));
    has(&record, "tls.server.x509.public_key_size", json!(256));
    has(&record, "tls.client.subject", json!("CN=batch"));
    has(&record, "streamwatch.tls.client.spiffe_id", json!("spiffe://example.org/batch"));
    has(&record, "streamwatch.tls.client_certificate", json!({ "state": "presented", "basis": "seen" }));
    has(&record, "streamwatch.tls.key_exchange", json!("secp256r1"));
    has(&record, "streamwatch.tls.post_quantum", json!(false));
    has(&record, "streamwatch.tls.version_offered", json!("1.3"));
    has(&record, "streamwatch.posture", json!("TLS 1.2 secp256r1 AES-128-GCM mTLS"));
    assert!(!holds_null(&record));
}

#[test]
fn ssh_has_its_own_names() {
    let mut out = Vec::new();
    encode_flow(&samples::context(), &samples::ssh_flow(), samples::at(), &mut out);
    let record: Value = serde_json::from_slice(&out).unwrap();
    has(&record, "streamwatch.ssh.host_key", json!("ssh-ed25519"));
    has(&record, "streamwatch.ssh.post_quantum", json!(true));
    has(&record, "streamwatch.ssh.authentication", json!({ "state": "succeeded", "failures": 1 }));
    assert!(record.pointer("/tls").is_none());
}

/// Filters may name every path that a record has.
#[test]
fn every_path_can_be_asked_for() {
    fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                    paths(value, &path, found);
                }
            }
            _ => found.push(at.to_owned()),
        }
    }
    let mut found = Vec::new();
    for flow in [samples::flow(), samples::tls_flow(), samples::mutual_flow(), samples::ssh_flow()] {
        let mut out = Vec::new();
        encode_flow(&samples::context(), &flow, samples::at(), &mut out);
        paths(&serde_json::from_slice(&out).unwrap(), "", &mut found);
    }
    for record in samples::hostile_records("x") {
        paths(&encoded(&record), "", &mut found);
    }
    // In no listing.
    let of_the_monitor = ["streamwatch.loss.", "streamwatch.throttle."];
    found.retain(|path| !of_the_monitor.iter().any(|own| path.starts_with(own)));
    found.retain(|path| crate::api::query::Field::named(path).is_none());
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn an_alert_carries_its_rule_and_its_flow() {
    let record = encoded(&samples::records()[2]);
    has(&record, "event.kind", json!("alert"));
    has(&record, "event.severity", json!(3));
    has(&record, "rule.id", json!("plaintext"));
    has(&record, "streamwatch.alert.state", json!("opened"));
    has(&record, "streamwatch.alert.remedy", json!("Use https."));
    has(&record, "process.name", json!("curl"));
    has(&record, "server.ip", json!("10.0.0.9"));
}

#[test]
fn loss_adds_up() {
    let record = encoded(&samples::records()[3]);
    has(&record, "event.dataset", json!("streamwatch.loss"));
    has(&record, "streamwatch.loss.lost", json!(3));
    has(&record, "streamwatch.loss.rows.0.lost_bytes", json!(768));
}

#[test]
fn a_stream_is_a_record_too() {
    let mut out = Vec::new();
    encode_stream(&samples::context(), &samples::stream(), samples::at(), &mut out);
    let record: Value = serde_json::from_slice(&out).unwrap();
    has(&record, "event.dataset", json!("streamwatch.stream"));
    has(&record, "streamwatch.stream.flows", json!(3));
    has(&record, "network.bytes", json!(3_600_240));
    has(&record, "process.name", json!("curl"));
}

#[test]
fn nothing_is_null() {
    for record in samples::records() {
        assert!(!holds_null(&encoded(&record)));
    }
}

proptest! {
    #[test]
    fn any_text_in_any_field_is_one_inert_line(text in any::<String>()) {
        for record in samples::hostile_records(&text) {
            let mut out = Vec::new();
            encode(&samples::context(), &record, &mut out);
            let line = std::str::from_utf8(&out).unwrap().strip_suffix('\n').unwrap();
            prop_assert!(!line.contains(is_active));
            prop_assert!(serde_json::from_str::<Value>(line).unwrap().is_object());
        }
    }
}
