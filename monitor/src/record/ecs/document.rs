//! One record as the object that is written.

use jiff::Timestamp;
use serde::Serialize;

use super::parts::{
    AlertFields, Ecs, Endpoint, Event, FlowFields, Host, LossFields, Nanoseconds, Network, Observer, Own,
    Peer, RuleFields, StreamFields, Tcp, ThrottleFields, Who, network_type,
};
use super::{ECS_VERSION, action_of};
use crate::model::{
    AlertState, AlertView, Count, Direction, FailReason, FlowAction, FlowView, Identity, LossView, Rule,
    StreamView, ThrottleView, Transport,
};
use crate::record::Context;
use crate::record::community_id::community_id;
use crate::record::secure::Tls;

/// A record, borrowed from what it is about; [`Serialize`] gives the ECS object.
#[derive(Serialize)]
pub struct Document<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: Nanoseconds,
    ecs: Ecs,
    event: Event<'a>,
    host: Host<'a>,
    observer: Observer<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<RuleFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Network<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<Endpoint>,
    #[serde(flatten)]
    owner: Who<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls<'a>>,
    streamwatch: Own<'a>,
}

impl<'a> Document<'a> {
    /// A flow record, written because of `action` at `at`.
    pub fn flow(context: &'a Context, flow: &'a FlowView, action: FlowAction, at: Timestamp) -> Self {
        let event = Event {
            types: flow_types(flow, action),
            outcome: flow_outcome(action),
            start: Some(Nanoseconds(flow.opened_at)),
            end: flow.closed_at.map(Nanoseconds),
            duration: Some(flow.duration_ns),
            ..event("event", &["network"], action_name(action), "streamwatch.flow")
        };
        let mut document = Document::bare(context, at, event);
        document.add_flow(flow);
        document
    }

    /// A flow as it stands.
    pub fn flow_now(context: &'a Context, flow: &'a FlowView, now: Timestamp) -> Self {
        let event_at = flow.closed_at.unwrap_or(now);
        Document::flow(context, flow, action_of(flow.state), event_at)
    }

    /// A stream as it stands.
    pub fn stream(context: &'a Context, stream: &'a StreamView, now: Timestamp) -> Self {
        let event = Event {
            start: Some(Nanoseconds(stream.first_seen)),
            types: &["connection", "info"],
            ..event("state", &["network"], "stream", "streamwatch.stream")
        };
        let mut document = Document::bare(context, now, event);
        document.network = Some(Network {
            transport: stream.transport,
            kind: network_type(stream.server_address.ip()),
            protocol: stream.protocol.as_deref(),
            direction: stream.direction,
            community_id: None,
            bytes: stream.client_bytes.saturating_add(stream.server_bytes),
            packets: None,
        });
        let client = Endpoint {
            ip: stream.client_address,
            port: None,
            bytes: Some(stream.client_bytes),
            packets: None,
        };
        let server = Endpoint {
            ip: stream.server_address.ip(),
            port: Some(stream.server_address.port()),
            bytes: Some(stream.server_bytes),
            packets: None,
        };
        document.set_endpoints(client, server);
        let (owner, peer) = match stream.direction {
            Direction::Egress => (&stream.client_identity, &stream.server_identity),
            Direction::Ingress => (&stream.server_identity, &stream.client_identity),
        };
        document.set_identities(owner.as_deref(), peer.as_deref());
        document.streamwatch.stream = Some(StreamFields {
            key: &stream.key,
            client: &stream.client,
            server: &stream.server,
            flows: stream.flows,
            open: stream.open,
            failed: stream.failed,
            first_seen: Nanoseconds(stream.first_seen),
            last_seen: Nanoseconds(stream.last_seen),
        });
        document.streamwatch.verdict = Some(&stream.verdict);
        document.add_facts(&stream.facts);
        document
    }

    /// An alert, with the fields of the flow that shows it.
    pub fn alert(context: &'a Context, alert: &'a AlertView, at: Timestamp) -> Self {
        let event = Event {
            types: &["info"],
            severity: Some(alert.severity as u8),
            reason: Some(&alert.reason),
            start: Some(Nanoseconds(alert.first_seen)),
            end: (alert.state == AlertState::Resolved).then_some(Nanoseconds(alert.last_seen)),
            ..event("alert", alert_categories(alert.rule), alert_action(alert), "streamwatch.alert")
        };
        let mut document = Document::bare(context, at, event);
        if let Some(flow) = &alert.flow {
            document.add_flow(flow);
        } else if let Some(listener) = &alert.listener {
            let (ip, port) = (listener.address.ip(), Some(listener.address.port()));
            document.server = Some(Endpoint { ip, port, bytes: None, packets: None });
            document.set_identities(Some(&listener.owner), None);
        }
        document.message = Some(&alert.reason);
        document.rule = Some(RuleFields {
            id: alert.rule.as_str(),
            name: alert.rule.title(),
            description: alert.rule.description(),
        });
        document.streamwatch.alert = Some(AlertFields {
            key: &alert.key,
            state: alert.state,
            count: alert.count,
            first_seen: Nanoseconds(alert.first_seen),
            last_seen: Nanoseconds(alert.last_seen),
            remedy: &alert.remedy,
            cursor: alert.cursor,
            acknowledged: alert.acknowledged.as_ref(),
            silenced: alert.silenced.as_ref(),
        });
        document
    }

    /// What was lost since the last such record.
    pub fn loss(context: &'a Context, loss: &'a LossView) -> Self {
        let event = Event {
            types: &["info"],
            ..event("pipeline_error", &["network"], "evidence_lost", "streamwatch.loss")
        };
        let sum =
            |of: fn(&crate::model::LossRow) -> u64| loss.rows.iter().map(of).fold(0, u64::saturating_add);
        let mut document = Document::bare(context, loss.at, event);
        document.streamwatch.loss = Some(LossFields {
            offered: sum(|row| row.offered),
            delivered: sum(|row| row.delivered),
            lost: sum(|row| row.lost),
            lost_bytes: sum(|row| row.lost_bytes),
            rows: &loss.rows,
        });
        document
    }

    /// A cgroup fills more than its share.
    pub fn throttle(context: &'a Context, throttle: &'a ThrottleView) -> Self {
        let (kind, action) = match throttle.begins {
            true => ("start", "throttling_started"),
            false => ("end", "throttling_stopped"),
        };
        let types: &[&str] = if throttle.begins { &["info", "start"] } else { &["info", "end"] };
        let event = Event { types, ..event("event", &["network"], action, "streamwatch.throttle") };
        let mut document = Document::bare(context, throttle.at, event);
        document.streamwatch.throttle = Some(ThrottleFields {
            state: kind,
            of: throttle.of.as_str(),
            cgroup: throttle.cgroup,
            name: throttle.name.as_deref(),
            since: Nanoseconds(throttle.since),
            given_up: throttle.given_up,
        });
        document
    }

    fn bare(context: &'a Context, at: Timestamp, event: Event<'a>) -> Self {
        Document {
            timestamp: Nanoseconds(at),
            ecs: Ecs { version: ECS_VERSION },
            event,
            host: Host::of(context),
            observer: Observer::of(context),
            message: None,
            rule: None,
            network: None,
            client: None,
            server: None,
            source: None,
            destination: None,
            owner: Who::default(),
            tls: None,
            streamwatch: Own::default(),
        }
    }

    fn add_flow(&mut self, flow: &'a FlowView) {
        let (client, server) = (flow.client_count(), flow.server_count());
        let total = Count {
            bytes: client.bytes.saturating_add(server.bytes),
            packets: client.packets.saturating_add(server.packets),
        };
        self.network = Some(Network {
            transport: flow.transport,
            kind: network_type(flow.local.ip()),
            protocol: flow.facts.protocol.map(dissect::Protocol::as_str),
            direction: flow.direction,
            community_id: Some(community_id(flow.transport, flow.local, flow.remote)),
            bytes: total.bytes,
            packets: Some(total.packets),
        });
        self.set_endpoints(Endpoint::new(flow.client(), client), Endpoint::new(flow.server(), server));
        self.set_identities(Some(&flow.owner), flow.peer.as_deref());
        self.add_facts(&flow.facts);
        self.streamwatch.handshake_ns = flow.handshake_ns;
        self.streamwatch.flow = Some(FlowFields {
            id: &flow.id,
            state: flow.state,
            failure: flow.failure,
            before_start: flow.before_start,
            netns: (flow.netns != 0).then_some(flow.netns),
        });
        self.streamwatch.verdict = Some(&flow.verdict);
        self.streamwatch.tcp = (flow.transport == Transport::Tcp).then_some(Tcp {
            rtt_us: flow.rtt_us,
            retransmits: flow.retransmits,
            setup_ns: flow.setup_ns,
        });
    }

    /// How it is encrypted, and who proved what.
    fn add_facts(&mut self, facts: &'a dissect::Facts) {
        self.tls = Tls::of(facts);
        self.streamwatch.add_facts(facts);
    }

    fn set_endpoints(&mut self, client: Endpoint, server: Endpoint) {
        self.client = Some(client);
        self.server = Some(server);
        self.source = Some(client);
        self.destination = Some(server);
    }

    fn set_identities(&mut self, owner: Option<&'a Identity>, peer: Option<&'a Identity>) {
        if let Some(owner) = owner {
            self.owner = Who::new(owner);
            self.streamwatch.missing = owner.missing.as_deref();
        }
        self.streamwatch.peer = peer.map(Peer::new);
    }
}

fn event<'a>(
    kind: &'static str,
    category: &'static [&'static str],
    action: &'a str,
    dataset: &'static str,
) -> Event<'a> {
    Event {
        kind,
        category,
        types: &["info"],
        action,
        dataset,
        module: "streamwatch",
        outcome: None,
        severity: None,
        reason: None,
        start: None,
        end: None,
        duration: None,
    }
}

/// ECS allows these `event.type` values with the category `network`.
pub(super) fn flow_types(flow: &FlowView, action: FlowAction) -> &'static [&'static str] {
    match action {
        FlowAction::FlowOpened => &["connection", "start"],
        FlowAction::FlowSettled if flow.facts.protocol.is_some() => &["connection", "info", "protocol"],
        FlowAction::FlowSettled | FlowAction::FlowProgress => &["connection", "info"],
        FlowAction::FlowClosed => &["connection", "end"],
        FlowAction::ConnectionFailed if flow.failure == Some(FailReason::Refused) => {
            &["connection", "denied", "end"]
        }
        FlowAction::ConnectionFailed => &["connection", "end"],
    }
}

pub(super) fn flow_outcome(action: FlowAction) -> Option<&'static str> {
    match action {
        FlowAction::FlowClosed => Some("success"),
        FlowAction::ConnectionFailed => Some("failure"),
        _ => None,
    }
}

pub(super) fn action_name(action: FlowAction) -> &'static str {
    match action {
        FlowAction::FlowOpened => "flow_opened",
        FlowAction::FlowSettled => "flow_settled",
        FlowAction::FlowProgress => "flow_progress",
        FlowAction::FlowClosed => "flow_closed",
        FlowAction::ConnectionFailed => "connection_failed",
    }
}

fn alert_action(alert: &AlertView) -> &'static str {
    match alert.state {
        // What is acknowledged is not repeated: it is told because it was acknowledged.
        AlertState::Opened | AlertState::Repeated if alert.acknowledged.is_some() => "alert_acknowledged",
        AlertState::Opened => "alert_opened",
        AlertState::Repeated => "alert_repeated",
        AlertState::Resolved => "alert_resolved",
    }
}

fn alert_categories(rule: Rule) -> &'static [&'static str] {
    match rule {
        Rule::UnexpectedPeer | Rule::NewService => &["network", "intrusion_detection"],
        Rule::AuthFailures | Rule::CredentialInClear => &["network", "authentication"],
        _ => &["network"],
    }
}
