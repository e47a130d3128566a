//! Open Cybersecurity Schema Framework 1.3: Network Activity (4001) for flows, Detection Finding
//! (2004) for alerts, Base Event (0) for loss.
//!
//! Schema: <https://schema.ocsf.io/1.3.0/classes/network_activity>, `detection_finding`. What OCSF
//! has no name for stands under `unmapped.streamwatch`, with the names of the ECS records. Source is
//! the client, destination the server. Times are milliseconds, as OCSF wants them.

mod objects;
mod tls;

use jiff::Timestamp;
use serde::Serialize;

use self::objects::{
    Actor, Analytic, ConnectionInfo, Device, Endpoint, Evidence, FindingInfo, Metadata, Remediation, Traffic,
    Unmapped,
};
use self::tls::TlsObject;
use super::{Context, write_line};
use crate::model::{
    AlertState, AlertView, FailReason, FlowAction, FlowView, LossView, Record, Severity, Shared, ThrottleView,
};

/// Appends one line.
pub fn encode(context: &Context, record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Flow { flow, action, at } => write_line(out, &network_activity(context, flow, *action, *at)),
        Record::Alert { alert, at } => write_line(out, &detection_finding(context, alert, *at)),
        Record::Loss(loss) => write_line(out, &lost(context, loss)),
        Record::Throttle(throttle) => write_line(out, &throttled(context, throttle)),
    }
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(flatten)]
    class: Class,
    severity_id: u8,
    severity: &'static str,
    time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    metadata: Metadata<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Device<'a>>,
    #[serde(flatten)]
    body: Body<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unmapped: Option<Unmapped<'a>>,
}

#[derive(Clone, Copy, Serialize)]
struct Class {
    class_uid: u32,
    class_name: &'static str,
    category_uid: u32,
    category_name: &'static str,
    activity_id: u32,
    activity_name: &'static str,
    type_uid: u32,
}

impl Class {
    fn new(
        (class_uid, class_name): (u32, &'static str),
        (category_uid, category_name): (u32, &'static str),
        (activity_id, activity_name): (u32, &'static str),
    ) -> Self {
        let type_uid = class_uid * 100 + activity_id;
        Class { class_uid, class_name, category_uid, category_name, activity_id, activity_name, type_uid }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Network(Box<Network<'a>>),
    Finding(Box<Finding<'a>>),
    Base { status_id: u8, status: &'static str },
}

#[derive(Serialize)]
struct Network<'a> {
    start_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<i64>,
    duration: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_id: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_name: Option<&'static str>,
    src_endpoint: Endpoint<'a>,
    dst_endpoint: Endpoint<'a>,
    connection_info: ConnectionInfo<'a>,
    traffic: Traffic,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Actor<'a>>,
}

#[derive(Serialize)]
struct Finding<'a> {
    is_alert: bool,
    status_id: u8,
    status: &'static str,
    count: u64,
    start_time: i64,
    end_time: i64,
    finding_info: FindingInfo<'a>,
    remediation: Remediation<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidences: Option<[Evidence<'a>; 1]>,
}

fn network_activity<'a>(
    context: &'a Context,
    flow: &'a FlowView,
    action: FlowAction,
    at: Timestamp,
) -> Event<'a> {
    let activity = match action {
        FlowAction::FlowOpened => (1, "Open"),
        FlowAction::FlowClosed => (2, "Close"),
        FlowAction::ConnectionFailed if flow.failure == Some(FailReason::Refused) => (5, "Refuse"),
        FlowAction::ConnectionFailed => (4, "Fail"),
        FlowAction::FlowSettled | FlowAction::FlowProgress => (6, "Traffic"),
    };
    let status = match action {
        FlowAction::FlowOpened => None,
        FlowAction::ConnectionFailed => Some((2, "Failure")),
        _ => Some((1, "Success")),
    };
    Event {
        class: Class::new((4001, "Network Activity"), (4, "Network Activity"), activity),
        severity_id: 1,
        severity: "Informational",
        time: at.as_millisecond(),
        message: flow.facts.detail.as_deref(),
        metadata: Metadata::new(context, Some(&flow.id)),
        device: Device::new(context),
        body: Body::Network(Box::new(Network {
            start_time: flow.opened_at.as_millisecond(),
            end_time: flow.closed_at.map(Timestamp::as_millisecond),
            duration: flow.duration_ns / 1_000_000,
            status_id: status.map(|it| it.0),
            status: status.map(|it| it.1),
            app_name: flow.facts.protocol.map(dissect::Protocol::as_str),
            src_endpoint: Endpoint::new(flow.client(), flow.client_identity().map(AsRef::as_ref)),
            dst_endpoint: Endpoint::new(flow.server(), flow.server_identity().map(AsRef::as_ref)),
            connection_info: ConnectionInfo::new(flow),
            traffic: Traffic::new(flow),
            tls: flow.facts.tls.as_ref().and_then(|tls| TlsObject::new(tls, flow.handshake_ns)),
            actor: Actor::new(&flow.owner),
        })),
        unmapped: Some(Unmapped::flow(flow)),
    }
}

fn detection_finding<'a>(context: &'a Context, alert: &'a AlertView, at: Timestamp) -> Event<'a> {
    let (activity, status) = match alert.state {
        AlertState::Opened => ((1, "Create"), (1, "New")),
        AlertState::Repeated => ((2, "Update"), (2, "In Progress")),
        AlertState::Resolved => ((3, "Close"), (4, "Resolved")),
    };
    let (severity_id, severity) = match alert.severity {
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
        Severity::Critical => (5, "Critical"),
    };
    let (first, last) = (alert.first_seen.as_millisecond(), alert.last_seen.as_millisecond());
    Event {
        class: Class::new((2004, "Detection Finding"), (2, "Findings"), activity),
        severity_id,
        severity,
        time: at.as_millisecond(),
        message: Some(&alert.reason),
        metadata: Metadata::new(context, None),
        device: Device::new(context),
        body: Body::Finding(Box::new(Finding {
            is_alert: true,
            status_id: status.0,
            status: status.1,
            count: alert.count,
            start_time: first,
            end_time: last,
            finding_info: FindingInfo {
                uid: &alert.key,
                title: alert.rule.title(),
                desc: &alert.reason,
                first_seen_time: first,
                last_seen_time: last,
                analytic: Analytic {
                    uid: alert.rule.as_str(),
                    name: alert.rule.title(),
                    desc: alert.rule.description(),
                    type_id: 1,
                    kind: "Rule",
                },
            },
            remediation: Remediation { desc: &alert.remedy },
            evidences: alert.flow.as_deref().map(|flow| [Evidence::new(flow)]),
        })),
        unmapped: alert.flow.as_deref().map(Unmapped::flow),
    }
}

fn lost<'a>(context: &'a Context, loss: &'a LossView) -> Event<'a> {
    Event {
        class: Class::new((0, "Base Event"), (0, "Uncategorized"), (99, "Evidence Lost")),
        severity_id: 3,
        severity: "Medium",
        time: loss.at.as_millisecond(),
        message: Some("The monitor lost events."),
        metadata: Metadata::new(context, None),
        device: Device::new(context),
        body: Body::Base { status_id: 2, status: "Failure" },
        unmapped: Some(Unmapped::loss(loss)),
    }
}

fn throttled<'a>(context: &'a Context, throttle: &'a ThrottleView) -> Event<'a> {
    let message = match (throttle.begins, throttle.of) {
        (true, Shared::Flows) => "A cgroup fills more than its share of the table of flows.",
        (false, Shared::Flows) => "A cgroup no longer fills more than its share of the table of flows.",
        (true, Shared::FirstBytes) => "A cgroup fills more than its share of the room for first bytes.",
        (false, Shared::FirstBytes) => {
            "A cgroup no longer fills more than its share of the room for first bytes."
        }
        (true, Shared::Ring) => "A cgroup loses first bytes: no room in the kernel's ring.",
        (false, Shared::Ring) => {
            "A cgroup no longer loses first bytes for want of room in the kernel's ring."
        }
    };
    Event {
        class: Class::new((0, "Base Event"), (0, "Uncategorized"), (99, "Throttling")),
        severity_id: 1,
        severity: "Informational",
        time: throttle.at.as_millisecond(),
        message: Some(message),
        metadata: Metadata::new(context, None),
        device: Device::new(context),
        body: Body::Base { status_id: 1, status: "Success" },
        unmapped: Some(Unmapped::throttle(throttle)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::record::{is_active, samples};

    #[test]
    fn whose_first_bytes_the_ring_had_no_room_for_is_not_who_filled_it() {
        for begins in [true, false] {
            let record = Record::Throttle(ThrottleView { begins, of: Shared::Ring, ..samples::throttle() });
            let mut out = Vec::new();
            encode(&samples::context(), &record, &mut out);
            let line = String::from_utf8(out).unwrap();
            assert!(line.contains("first bytes") && !line.contains("share"), "{line}");
        }
    }

    fn encoded(record: &Record) -> Value {
        let mut out = Vec::new();
        encode(&samples::context(), record, &mut out);
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_closed_flow_is_network_activity() {
        let event = encoded(&samples::records()[0]);
        assert_eq!(event["class_uid"], 4001);
        assert_eq!(event["type_uid"], 400_102);
        assert_eq!(event["src_endpoint"]["ip"], "10.0.0.1");
        assert_eq!(event["dst_endpoint"]["port"], 80);
        assert_eq!(event["traffic"]["bytes_out"], 80);
        assert_eq!(event["traffic"]["bytes_in"], 1200);
        assert_eq!(event["connection_info"]["protocol_num"], 6);
        assert_eq!(event["connection_info"]["direction_id"], 2);
        assert_eq!(event["actor"]["process"]["name"], "curl");
        assert_eq!(event["unmapped"]["streamwatch"]["verdict"]["encrypted"]["answer"], "no");
        assert!(event.get("tls").is_none());
    }

    #[test]
    fn an_alert_is_a_detection_finding() {
        let event = encoded(&samples::records()[2]);
        assert_eq!(event["type_uid"], 200_401);
        assert_eq!(event["severity_id"], 4);
        assert_eq!(event["finding_info"]["analytic"]["uid"], "plaintext");
        assert_eq!(event["evidences"][0]["dst_endpoint"]["ip"], "10.0.0.9");
        assert_eq!(event["remediation"]["desc"], "Use https.");
    }

    #[test]
    fn tls_and_loss() {
        let event = encoded(&samples::records()[1]);
        assert_eq!(event["tls"]["sni"], "example.org");
        assert_eq!(event["connection_info"]["direction"], "Inbound");
        let event = encoded(&samples::records()[3]);
        assert_eq!(event["type_uid"], 99);
        assert_eq!(event["unmapped"]["streamwatch"]["loss"][0]["lost"], 3);
    }

    proptest! {
        #[test]
        fn any_text_is_one_inert_line(text in any::<String>()) {
            for record in samples::hostile_records(&text) {
                let mut out = Vec::new();
                encode(&samples::context(), &record, &mut out);
                let line = std::str::from_utf8(&out).unwrap().strip_suffix('\n').unwrap();
                prop_assert!(!line.contains(is_active));
                prop_assert!(serde_json::from_str::<Value>(line).unwrap().is_object());
            }
        }
    }
}
