//! Flow records, straight into the output: most of what is written.
//!
//! The same lines as [`Document::flow`] gives, which a test holds them to. What flows share (facts,
//! verdicts, identities) is encoded once and kept; times and numbers are written without formatting
//! machinery.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dissect::{Facts, Protocol};
use jiff::Timestamp;
use serde::Serialize;

use super::ECS_VERSION;
use super::document::{action_name, flow_outcome, flow_types};
use super::kept::Kept;
use super::parts::{Host, Observer, Own, Peer, Who, network_type};
use crate::model::{Count, Direction, FlowAction, FlowView, Identity, Transport, Verdict};
use crate::record::community_id::digest;
use crate::record::secure::Tls;
use crate::record::{Context, write_value};

/// Seconds whose text is kept.
const SECONDS: usize = 64;

/// Writes flow records of one host.
pub struct FlowWriter {
    /// `,"host":{…},"observer":{…}`.
    place: Vec<u8>,
    facts: Kept<Facts, 2>,
    verdicts: Kept<Verdict, 1>,
    identities: Kept<Identity, 3>,
    /// A second since 1970 and its text up to there.
    seconds: Box<[(i64, [u8; 19]); SECONDS]>,
}

impl FlowWriter {
    pub fn new(context: &Context) -> Self {
        #[derive(Serialize)]
        struct Place<'a> {
            host: Host<'a>,
            observer: Observer<'a>,
        }
        let mut place = Vec::new();
        add_fields(&mut place, &Place { host: Host::of(context), observer: Observer::of(context) });
        FlowWriter {
            place,
            facts: Kept::default(),
            verdicts: Kept::default(),
            identities: Kept::default(),
            seconds: Box::new([(i64::MIN, [0; 19]); SECONDS]),
        }
    }

    /// Appends one line.
    pub fn write(&mut self, flow: &FlowView, action: FlowAction, at: Timestamp, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"@timestamp\":\"");
        self.time(at, out);
        out.extend_from_slice(b"\",\"ecs\":{\"version\":\"");
        out.extend_from_slice(ECS_VERSION.as_bytes());
        out.extend_from_slice(b"\"},\"event\":{\"kind\":\"event\",\"category\":[\"network\"],\"type\":[");
        for (index, kind) in flow_types(flow, action).iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
            out.extend_from_slice(kind.as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b"],\"action\":\"");
        out.extend_from_slice(action_name(action).as_bytes());
        out.extend_from_slice(b"\",\"dataset\":\"streamwatch.flow\",\"module\":\"streamwatch\"");
        if let Some(outcome) = flow_outcome(action) {
            out.extend_from_slice(b",\"outcome\":\"");
            out.extend_from_slice(outcome.as_bytes());
            out.push(b'"');
        }
        out.extend_from_slice(b",\"start\":\"");
        self.time(flow.opened_at, out);
        out.push(b'"');
        if let Some(closed_at) = flow.closed_at {
            out.extend_from_slice(b",\"end\":\"");
            self.time(closed_at, out);
            out.push(b'"');
        }
        number(out, b",\"duration\":", flow.duration_ns);
        out.push(b'}');
        out.extend_from_slice(&self.place);
        network(flow, out);
        ends(flow, out);
        self.own(flow, out);
        out.extend_from_slice(b"}\n");
    }

    /// Who, the handshake, and everything under `streamwatch`.
    fn own(&mut self, flow: &FlowView, out: &mut Vec<u8>) {
        let [who, missing, _] = self.identities.get(&flow.owner, encode_identity);
        out.extend_from_slice(who);
        let [tls, rest] = self.facts.get(&flow.facts, encode_facts);
        out.extend_from_slice(tls);
        out.extend_from_slice(b",\"streamwatch\":{\"flow\":{\"id\":");
        text(&flow.id, out);
        out.extend_from_slice(b",\"state\":");
        write_value(out, &flow.state);
        if let Some(failure) = flow.failure {
            out.extend_from_slice(b",\"failure\":");
            write_value(out, &failure);
        }
        if flow.before_start {
            out.extend_from_slice(b",\"before_start\":true");
        }
        if flow.netns != 0 {
            number(out, b",\"netns\":", flow.netns);
        }
        out.push(b'}');
        let [verdict] = self.verdicts.get(&flow.verdict, encode_verdict);
        out.extend_from_slice(verdict);
        out.extend_from_slice(missing);
        if let Some(peer) = &flow.peer {
            // Last of what is kept: it may push out the owner's.
            let [_, _, peer] = self.identities.get(peer, encode_identity);
            out.extend_from_slice(peer);
        }
        if let Some(handshake_ns) = flow.handshake_ns {
            number(out, b",\"handshake_ns\":", handshake_ns);
        }
        if flow.transport == Transport::Tcp {
            out.extend_from_slice(b",\"tcp\":{");
            if let Some(rtt_us) = flow.rtt_us {
                number(out, b"\"rtt_us\":", u64::from(rtt_us));
                out.push(b',');
            }
            number(out, b"\"retransmits\":", u64::from(flow.retransmits));
            if let Some(setup_ns) = flow.setup_ns {
                number(out, b",\"setup_ns\":", setup_ns);
            }
            out.push(b'}');
        }
        out.extend_from_slice(rest);
        out.push(b'}');
    }

    /// RFC 3339, UTC, always nine digits of a second.
    fn time(&mut self, at: Timestamp, out: &mut Vec<u8>) {
        let (second, Ok(nanosecond)) = (at.as_second(), u32::try_from(at.subsec_nanosecond())) else {
            // Before 1970.
            let _ = write!(out, "{at:.9}");
            return;
        };
        let kept = &mut self.seconds[second.rem_euclid(SECONDS as i64) as usize];
        if kept.0 != second {
            let mut text = [0; 19];
            // `2026-01-02T03:04:05.000Z`; years of more than four digits do not exist.
            let whole = format!("{:.3}", Timestamp::from_second(second).unwrap_or(at));
            text.copy_from_slice(whole.as_bytes().get(..19).unwrap_or(b"0000-00-00T00:00:00"));
            *kept = (second, text);
        }
        out.extend_from_slice(&kept.1);
        let mut digits = *b".000000000Z";
        let mut rest = nanosecond;
        for digit in digits[1..10].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        out.extend_from_slice(&digits);
    }
}

fn network(flow: &FlowView, out: &mut Vec<u8>) {
    out.extend_from_slice(match flow.transport {
        Transport::Tcp => b",\"network\":{\"transport\":\"tcp\",\"type\":\"",
        Transport::Udp => b",\"network\":{\"transport\":\"udp\",\"type\":\"",
    });
    out.extend_from_slice(network_type(flow.local.ip()).as_bytes());
    if let Some(protocol) = flow.facts.protocol.map(Protocol::as_str) {
        out.extend_from_slice(b"\",\"protocol\":\"");
        out.extend_from_slice(protocol.as_bytes());
    }
    out.extend_from_slice(match flow.direction {
        Direction::Ingress => b"\",\"direction\":\"ingress\",\"community_id\":\"1:",
        Direction::Egress => b"\",\"direction\":\"egress\",\"community_id\":\"1:".as_slice(),
    });
    let mut text = [0; 28];
    let digest = digest(flow.transport, flow.local, flow.remote);
    // 20 bytes give 28 characters.
    let length = STANDARD.encode_slice(digest, &mut text).unwrap_or_default();
    out.extend_from_slice(&text[..length]);
    let (client, server) = (flow.client_count(), flow.server_count());
    number(out, b"\",\"bytes\":", client.bytes.saturating_add(server.bytes));
    number(out, b",\"packets\":", client.packets.saturating_add(server.packets));
    out.push(b'}');
}

/// Client and server, and the same again as source and destination.
fn ends(flow: &FlowView, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"client\":");
    let start = out.len();
    end(flow.client(), flow.client_count(), out);
    let client = start..out.len();
    out.extend_from_slice(b",\"server\":");
    let start = out.len();
    end(flow.server(), flow.server_count(), out);
    let server = start..out.len();
    out.extend_from_slice(b",\"source\":");
    out.extend_from_within(client);
    out.extend_from_slice(b",\"destination\":");
    out.extend_from_within(server);
}

fn end(address: SocketAddr, count: Count, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"ip\":\"");
    match address.ip() {
        IpAddr::V4(v4) => {
            for (index, octet) in v4.octets().into_iter().enumerate() {
                number(out, if index == 0 { b"" } else { b"." }, u64::from(octet));
            }
        }
        // A Vec takes every write.
        IpAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
    number(out, b"\",\"port\":", u64::from(address.port()));
    number(out, b",\"bytes\":", count.bytes);
    number(out, b",\"packets\":", count.packets);
    out.push(b'}');
}

/// What needs no escape, as it is.
fn text(text: &str, out: &mut Vec<u8>) {
    if !text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'[' | b']'))
    {
        return write_value(out, &text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Our end's fields at the top level, what is missing of it, and the same of the other end.
fn encode_identity(identity: &Identity, parts: [&mut Vec<u8>; 3]) {
    let [who, missing, peer] = parts;
    add_fields(who, &Who::new(identity));
    add_fields(missing, &Own { missing: identity.missing.as_deref(), ..Own::default() });
    add_fields(peer, &Own { peer: Some(Peer::new(identity)), ..Own::default() });
}

fn encode_facts(facts: &Facts, parts: [&mut Vec<u8>; 2]) {
    #[derive(Serialize)]
    struct Top<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        tls: Option<Tls<'a>>,
    }
    let [top, own] = parts;
    add_fields(top, &Top { tls: Tls::of(facts) });
    let mut rest = Own::default();
    rest.add_facts(facts);
    add_fields(own, &rest);
}

fn encode_verdict(verdict: &Verdict, parts: [&mut Vec<u8>; 1]) {
    let [own] = parts;
    add_fields(own, &Own { verdict: Some(verdict), ..Own::default() });
}

/// The fields of an object, each with a comma before it.
fn add_fields(out: &mut Vec<u8>, object: &impl Serialize) {
    let start = out.len();
    write_value(out, object);
    out.pop();
    match out.len() - start {
        ..=1 => out.truncate(start),
        _ => out[start] = b',',
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Document;
    use super::*;
    use crate::model::{FailReason, FlowState, Record};
    use crate::record::{samples, write_line};
    use proptest::prelude::*;
    use std::sync::Arc;

    const ACTIONS: [FlowAction; 5] = [
        FlowAction::FlowOpened,
        FlowAction::FlowSettled,
        FlowAction::FlowProgress,
        FlowAction::FlowClosed,
        FlowAction::ConnectionFailed,
    ];

    /// Twice: what is kept must be the same as what is new.
    #[track_caller]
    fn is_the_document(writer: &mut FlowWriter, flow: &FlowView, at: Timestamp) {
        let context = samples::context();
        for action in ACTIONS.into_iter().chain(ACTIONS) {
            let (mut own, mut document) = (Vec::new(), Vec::new());
            writer.write(flow, action, at, &mut own);
            write_line(&mut document, &Document::flow(&context, flow, action, at));
            assert_eq!(String::from_utf8(own).unwrap(), String::from_utf8(document).unwrap());
        }
    }

    fn some() -> Vec<FlowView> {
        let failed = FlowView {
            state: FlowState::Failed,
            failure: Some(FailReason::Refused),
            netns: 0,
            rtt_us: None,
            setup_ns: None,
            before_start: true,
            owner: Arc::default(),
            ..samples::flow()
        };
        let udp = FlowView { transport: Transport::Udp, ..samples::tls_flow() };
        vec![samples::flow(), samples::tls_flow(), failed, udp]
    }

    #[test]
    fn lines_are_those_of_the_document() {
        let mut writer = FlowWriter::new(&samples::context());
        for flow in some() {
            is_the_document(&mut writer, &flow, samples::at());
        }
        for text in ["1969-12-31T23:59:59.5Z", "1970-01-01T00:00:00Z", "9999-12-30T00:00:00Z"] {
            is_the_document(&mut writer, &samples::flow(), text.parse().unwrap());
        }
    }

    proptest! {
        #[test]
        fn whatever_the_text_and_the_numbers(
            text in any::<String>(),
            bytes in any::<u64>(),
            packets in any::<u64>(),
            nanosecond in 0i128..4_000_000_000_000_000_000,
        ) {
            let mut writer = FlowWriter::new(&samples::context());
            let at = Timestamp::from_nanosecond(nanosecond).unwrap();
            let hostile = samples::hostile_records(&text).into_iter().filter_map(|record| match record {
                Record::Flow { flow, .. } => Some(flow),
                _ => None,
            });
            for flow in hostile {
                let flow = FlowView { sent: Count { bytes, packets }, opened_at: at, ..(*flow).clone() };
                is_the_document(&mut writer, &flow, at);
            }
        }
    }
}
