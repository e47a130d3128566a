//! `plaintext`: a flow that carries readable data without encryption.
//!
//! False positives: a private protocol that is encrypted and still looks like text (base64 of
//! ciphertext). What is in the clear by design (DNS, NTP, DHCP, mDNS, SSDP, and all
//! that goes to a multicast or broadcast address) is never a finding.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dissect::{Plain, Protection};

use super::{Finding, ends};
use crate::model::{FlowView, Reach, Rule, Severity, Transport, reach};

/// Judges one flow. With `loopback`, what never leaves the host counts too.
pub fn plaintext(flow: &Arc<FlowView>, subject: &str, loopback: bool) -> Option<Finding> {
    let Protection::Plaintext(plain) = flow.facts.protection else { return None };
    let severity = severity_of_plaintext(&flow.facts, flow.transport, (flow.local, flow.remote), loopback)?;
    let whereto = match far(flow) {
        Reach::Loopback => "within this host",
        Reach::Private => "over the private network",
        Reach::Public => "over a public network",
    };
    let (client, server) = ends(flow);
    let what = match plain {
        Plain::Protocol(protocol) => protocol.as_str().to_owned(),
        Plain::Readable => "readable data".to_owned(),
    };
    let detail = flow.facts.detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    Some(Finding {
        rule: Rule::Plaintext,
        subject: subject.to_owned(),
        severity,
        reason: format!("{client} talks {what} in the clear to {server}, {whereto}{detail}"),
        remedy: remedy(plain, &flow.facts),
        flow: Some(flow.clone()),
        listener: None,
    })
}

/// How bad that is, between these addresses, ours first; `None`: it is no finding.
pub fn severity_of_plaintext(
    facts: &dissect::Facts,
    transport: Transport,
    (local, remote): (SocketAddr, SocketAddr),
    loopback: bool,
) -> Option<Severity> {
    let Protection::Plaintext(plain) = facts.protection else { return None };
    if let Plain::Protocol(protocol) = plain
        && protocol.clear_by_design()
    {
        return None;
    }
    if is_to_a_group(transport, local.ip(), remote.ip()) {
        return None;
    }
    match distance(local.ip(), remote.ip()) {
        Reach::Loopback => loopback.then_some(Severity::Low),
        Reach::Private => Some(Severity::High),
        Reach::Public => Some(Severity::Critical),
    }
}

/// Multicast and broadcast: how hosts of a network find each other, in the clear by design.
fn is_to_a_group(transport: Transport, local: IpAddr, remote: IpAddr) -> bool {
    let group = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => {
            // The broadcast address of most networks; their masks are not known here.
            let of_network = v4.octets()[3] == 255 && reach(ip) == Reach::Private;
            v4.is_multicast() || v4.is_broadcast() || of_network
        }
        IpAddr::V6(v6) => v6.is_multicast(),
    };
    transport == Transport::Udp && (group(remote) || group(local))
}

/// How far the data goes. An address of this host's own, reached from this host in the same
/// namespace, is still loopback to the kernel: the packets never leave.
pub(super) fn far(flow: &FlowView) -> Reach {
    distance(flow.local.ip(), flow.remote.ip())
}

fn distance(local: IpAddr, remote: IpAddr) -> Reach {
    if local == remote { Reach::Loopback } else { reach(remote) }
}

fn remedy(plain: Plain, facts: &dissect::Facts) -> String {
    use dissect::{Protocol, Upgrade};
    if facts.upgrade == Some(Upgrade::NotTaken) {
        return "The server offers TLS: have the client require it.".to_owned();
    }
    if facts.upgrade == Some(Upgrade::Refused) {
        return "Switch TLS on at the server: the client asked for it.".to_owned();
    }
    match plain {
        Plain::Protocol(Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Websocket) => {
            "Serve it over HTTPS, and redirect or close the plain port.".to_owned()
        }
        Plain::Protocol(Protocol::Postgresql) => {
            "Set ssl = on at the server and sslmode=verify-full at the client.".to_owned()
        }
        Plain::Protocol(Protocol::Mysql) => {
            "Set require_secure_transport=ON at the server and ssl-mode=VERIFY_IDENTITY at the client."
                .to_owned()
        }
        Plain::Protocol(Protocol::Redis) => {
            "Set tls-port and port 0 at the server, and --tls at the client.".to_owned()
        }
        Plain::Protocol(Protocol::Kafka) => {
            "Use a SASL_SSL or SSL listener, and close the plain one.".to_owned()
        }
        Plain::Protocol(Protocol::Telnet | Protocol::Ftp | Protocol::Rsync) => "Use SSH instead.".to_owned(),
        Plain::Protocol(protocol) => format!("Use {} over TLS.", protocol.as_str()),
        Plain::Readable => "Find out what this is, and carry it over TLS or SSH.".to_owned(),
    }
}
