//! Zeek's logs as JSON lines, for tools made for Zeek.
//!
//! In: a record. Out: when a flow ended, `conn` and, with a TLS handshake, `ssl` and a line of `x509` a
//! certificate, with SSH `ssh`; for an alert `notice`; for loss `reporter`. Zeek logs a connection when it ends, so opened, settled and
//! progress records give no line. `_path` names the log.
//! Fields: <https://docs.zeek.org/en/master/logs/conn.html>, `ssl.html`, `notice.html`.

mod secure;

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::community_id::community_id;
use super::write_line;
use crate::model::{
    AlertState, AlertView, Direction, FailReason, FlowAction, FlowState, FlowView, LossView, Record, Rule,
    ThrottleView, Transport,
};

/// Appends the record's lines.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Flow { flow, action: FlowAction::FlowClosed | FlowAction::ConnectionFailed, .. } => {
            write_line(out, &Conn::new(flow));
            secure::encode(flow, out);
        }
        Record::Flow { .. } => {}
        Record::Alert { alert, at } if alert.state != AlertState::Resolved => {
            write_line(out, &Notice::new(alert, *at));
        }
        Record::Alert { .. } => {}
        Record::Loss(loss) => write_line(out, &Reporter::new(loss)),
        Record::Throttle(throttle) => write_line(out, &Reporter::throttle(throttle)),
    }
}

#[derive(Serialize)]
struct Connection<'a> {
    uid: &'a str,
    #[serde(rename = "id.orig_h")]
    orig_h: IpAddr,
    #[serde(rename = "id.orig_p")]
    orig_p: u16,
    #[serde(rename = "id.resp_h")]
    resp_h: IpAddr,
    #[serde(rename = "id.resp_p")]
    resp_p: u16,
}

impl<'a> Connection<'a> {
    fn new(flow: &'a FlowView) -> Self {
        let (client, server) = (flow.client(), flow.server());
        Connection {
            uid: &flow.id,
            orig_h: client.ip(),
            orig_p: client.port(),
            resp_h: server.ip(),
            resp_p: server.port(),
        }
    }
}

#[derive(Serialize)]
struct Conn<'a> {
    _path: &'static str,
    ts: f64,
    #[serde(flatten)]
    id: Connection<'a>,
    proto: Transport,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'static str>,
    duration: f64,
    orig_bytes: u64,
    resp_bytes: u64,
    conn_state: &'static str,
    local_orig: bool,
    local_resp: bool,
    orig_pkts: u64,
    resp_pkts: u64,
    community_id: String,
}

impl<'a> Conn<'a> {
    fn new(flow: &'a FlowView) -> Self {
        let (orig, resp) = (flow.client_count(), flow.server_count());
        let egress = flow.direction == Direction::Egress;
        Conn {
            _path: "conn",
            ts: seconds(flow.opened_at),
            id: Connection::new(flow),
            proto: flow.transport,
            service: flow.facts.protocol.map(service),
            duration: flow.duration_ns as f64 / 1e9,
            orig_bytes: orig.bytes,
            resp_bytes: resp.bytes,
            conn_state: conn_state(flow),
            local_orig: egress || flow.peer.is_some(),
            local_resp: !egress || flow.peer.is_some(),
            orig_pkts: orig.packets,
            resp_pkts: resp.packets,
            community_id: community_id(flow.transport, flow.local, flow.remote),
        }
    }
}

/// Zeek's own names for what it calls differently.
fn service(protocol: dissect::Protocol) -> &'static str {
    match protocol {
        dissect::Protocol::Tls => "ssl",
        other => other.as_str(),
    }
}

/// <https://docs.zeek.org/en/master/scripts/base/protocols/conn/main.zeek.html>, `conn_state`.
fn conn_state(flow: &FlowView) -> &'static str {
    match (flow.state, flow.transport) {
        (FlowState::Failed, _) if flow.failure == Some(FailReason::Refused) => "REJ",
        (FlowState::Failed, _) => "S0",
        // Begun before the monitor looked: Zeek's word for midstream traffic.
        _ if flow.before_start => "OTH",
        (_, Transport::Udp) if flow.server_count().packets == 0 => "S0",
        (FlowState::Closed, _) => "SF",
        (FlowState::Opening, _) => "S0",
        (FlowState::Open, _) => "S1",
    }
}

#[derive(Serialize)]
struct Notice<'a> {
    _path: &'static str,
    ts: f64,
    #[serde(flatten)]
    id: Option<Connection<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proto: Option<Transport>,
    note: &'static str,
    msg: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    src: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<u16>,
    n: u64,
    actions: [&'static str; 1],
}

impl<'a> Notice<'a> {
    fn new(alert: &'a AlertView, at: Timestamp) -> Self {
        let flow = alert.flow.as_deref();
        Notice {
            _path: "notice",
            ts: seconds(at),
            id: flow.map(Connection::new),
            proto: flow.map(|it| it.transport),
            note: match alert.rule {
                Rule::Plaintext => "Streamwatch::Plaintext",
                Rule::UnexpectedPeer => "Streamwatch::Unexpected_Peer",
                Rule::ConnectFailures => "Streamwatch::Connect_Failures",
                Rule::EvidenceLost => "Streamwatch::Evidence_Lost",
                Rule::MonitorTampered => "Streamwatch::Monitor_Tampered",
                Rule::NewService => "Streamwatch::New_Service",
                Rule::WeakTls => "Streamwatch::Weak_Tls",
                Rule::WeakCipher => "Streamwatch::Weak_Cipher",
                Rule::NotPostQuantum => "Streamwatch::Not_Post_Quantum",
                Rule::ClientCertMissing => "Streamwatch::Client_Cert_Missing",
                Rule::CertExpiring => "Streamwatch::Cert_Expiring",
                Rule::CertExpired => "Streamwatch::Cert_Expired",
                Rule::AuthFailures => "Streamwatch::Auth_Failures",
                Rule::CredentialInClear => "Streamwatch::Credential_In_Clear",
                Rule::TrafficSpike => "Streamwatch::Traffic_Spike",
                Rule::TrafficStopped => "Streamwatch::Traffic_Stopped",
            },
            msg: &alert.reason,
            sub: &alert.remedy,
            src: flow.map(|it| it.client().ip()),
            dst: flow.map(|it| it.server().ip()),
            p: flow.map(|it| it.server().port()),
            n: alert.count,
            actions: ["Notice::ACTION_LOG"],
        }
    }
}

#[derive(Serialize)]
struct Reporter {
    _path: &'static str,
    ts: f64,
    level: &'static str,
    message: String,
}

impl Reporter {
    fn new(loss: &LossView) -> Self {
        let parts: Vec<_> =
            loss.rows.iter().map(|row| format!("{} {} {}", row.stage, row.kind, row.lost)).collect();
        Reporter {
            _path: "reporter",
            ts: seconds(loss.at),
            level: "Reporter::WARNING",
            message: format!("streamwatch lost events: {}", parts.join(", ")),
        }
    }

    fn throttle(throttle: &ThrottleView) -> Self {
        let name = throttle.name.as_deref().unwrap_or("unknown");
        let what = if throttle.begins { throttle.of.begins() } else { throttle.of.is_over() };
        Reporter {
            _path: "reporter",
            ts: seconds(throttle.at),
            level: "Reporter::INFO",
            message: format!(
                "streamwatch: cgroup {} ({name}) {what}; {} {}",
                throttle.cgroup,
                throttle.given_up,
                throttle.of.given_up()
            ),
        }
    }
}

/// Seconds since 1970, as Zeek writes time: microseconds are what a double holds.
fn seconds(at: Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::model::Shared;
    use crate::record::{is_active, samples};

    #[test]
    fn whose_first_bytes_the_ring_had_no_room_for_is_not_who_filled_it() {
        for begins in [true, false] {
            let record = Record::Throttle(ThrottleView { begins, of: Shared::Ring, ..samples::throttle() });
            let mut out = Vec::new();
            encode(&record, &mut out);
            let line = String::from_utf8(out).unwrap();
            assert!(line.contains("first bytes") && !line.contains("share"), "{line}");
        }
    }

    fn lines(record: &Record) -> Vec<Value> {
        let mut out = Vec::new();
        encode(record, &mut out);
        std::str::from_utf8(&out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_closed_flow_is_a_conn_line() {
        let conn = lines(&samples::records()[0]).remove(0);
        assert_eq!(conn["_path"], "conn");
        assert_eq!(conn["id.orig_h"], "10.0.0.1");
        assert_eq!(conn["id.resp_p"], 80);
        assert_eq!(conn["orig_bytes"], 80);
        assert_eq!(conn["conn_state"], "SF");
        assert_eq!(conn["duration"], json!(1.0));
    }

    #[test]
    fn tls_gives_an_ssl_line_once_at_the_end() {
        assert!(lines(&samples::records()[1]).is_empty());
        let flow = Arc::new(FlowView { state: FlowState::Closed, ..samples::tls_flow() });
        let both = lines(&Record::Flow { flow, action: FlowAction::FlowClosed, at: samples::at() });
        assert_eq!(both[0]["service"], "ssl");
        assert_eq!(both[1]["_path"], "ssl");
        assert_eq!(both[1]["version"], "TLSv13");
        assert_eq!(both[1]["server_name"], "example.org");
    }

    #[test]
    fn failures_have_zeeks_states() {
        let failed =
            |failure| FlowView { state: FlowState::Failed, failure: Some(failure), ..samples::flow() };
        assert_eq!(conn_state(&failed(FailReason::Refused)), "REJ");
        assert_eq!(conn_state(&failed(FailReason::TimedOut)), "S0");
    }

    proptest! {
        #[test]
        fn any_text_is_inert(text in any::<String>()) {
            for record in samples::hostile_records(&text) {
                let mut out = Vec::new();
                encode(&record, &mut out);
                for line in std::str::from_utf8(&out).unwrap().split_terminator('\n') {
                    prop_assert!(!line.contains(is_active));
                    prop_assert!(serde_json::from_str::<Value>(line).unwrap().is_object());
                }
            }
        }
    }
}
