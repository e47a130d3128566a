//! OCSF's objects, as far as the monitor has something to say in them.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use crate::model::{Direction, FlowView, Identity, LossRow, LossView, ThrottleView, Transport, Verdict};
use crate::posture;
use crate::record::Context;
use crate::record::community_id::{community_id, iana_number};
use crate::record::secure::{Ssh, TlsMore};

#[derive(Serialize)]
pub(super) struct Metadata<'a> {
    version: &'static str,
    product: Product<'a>,
    profiles: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_uid: Option<&'a str>,
}

#[derive(Serialize)]
struct Product<'a> {
    name: &'static str,
    vendor_name: &'static str,
    version: &'a str,
}

impl<'a> Metadata<'a> {
    /// `flow`: what all records of one flow have in common.
    pub fn new(context: &'a Context, flow: Option<&'a str>) -> Self {
        Metadata {
            version: "1.3.0",
            product: Product { name: "streamwatch", vendor_name: "streamwatch", version: &context.version },
            profiles: ["host"],
            correlation_uid: flow,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Device<'a> {
    type_id: u8,
    #[serde(skip_serializing_if = "str::is_empty")]
    hostname: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
}

impl<'a> Device<'a> {
    pub fn new(context: &'a Context) -> Option<Self> {
        let known = !context.host_name.is_empty() || !context.host_id.is_empty();
        known.then_some(Device { type_id: 0, hostname: &context.host_name, uid: &context.host_id })
    }
}

#[derive(Serialize)]
pub(super) struct Endpoint<'a> {
    ip: IpAddr,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    svc_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerObject<'a>>,
}

#[derive(Serialize)]
struct ContainerObject<'a> {
    uid: &'a str,
    runtime: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_uuid: Option<&'a str>,
}

impl<'a> Endpoint<'a> {
    pub fn new(address: SocketAddr, who: Option<&'a Identity>) -> Self {
        Endpoint {
            ip: address.ip(),
            port: address.port(),
            svc_name: who.and_then(|it| it.unit.as_deref()),
            container: who.and_then(|it| it.container.as_ref()).map(|it| ContainerObject {
                uid: &it.id,
                runtime: &it.runtime,
                pod_uuid: it.pod.as_deref(),
            }),
        }
    }
}

#[derive(Serialize)]
pub(super) struct ConnectionInfo<'a> {
    uid: &'a str,
    protocol_num: u8,
    protocol_name: Transport,
    protocol_ver_id: u8,
    direction_id: u8,
    direction: &'static str,
    community_uid: String,
}

impl<'a> ConnectionInfo<'a> {
    pub fn new(flow: &'a FlowView) -> Self {
        let (direction_id, direction) = match flow.direction {
            Direction::Ingress => (1, "Inbound"),
            Direction::Egress => (2, "Outbound"),
        };
        ConnectionInfo {
            uid: &flow.id,
            protocol_num: iana_number(flow.transport),
            protocol_name: flow.transport,
            protocol_ver_id: if flow.local.is_ipv4() { 4 } else { 6 },
            direction_id,
            direction,
            community_uid: community_id(flow.transport, flow.local, flow.remote),
        }
    }
}

/// `out` is from source (client) to destination (server).
#[derive(Serialize)]
pub(super) struct Traffic {
    bytes: u64,
    bytes_in: u64,
    bytes_out: u64,
    packets: u64,
    packets_in: u64,
    packets_out: u64,
}

impl Traffic {
    pub fn new(flow: &FlowView) -> Self {
        let (out, back) = (flow.client_count(), flow.server_count());
        Traffic {
            bytes: out.bytes.saturating_add(back.bytes),
            bytes_in: back.bytes,
            bytes_out: out.bytes,
            packets: out.packets.saturating_add(back.packets),
            packets_in: back.packets,
            packets_out: out.packets,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Actor<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<ProcessObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserObject<'a>>,
}

#[derive(Serialize)]
struct ProcessObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd_line: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<FileObject<'a>>,
}

#[derive(Serialize)]
struct FileObject<'a> {
    name: &'a str,
    path: &'a str,
    type_id: u8,
}

#[derive(Serialize)]
struct UserObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl<'a> Actor<'a> {
    pub fn new(who: &'a Identity) -> Option<Self> {
        let process = (who.pid.is_some() || who.name.is_some()).then(|| ProcessObject {
            pid: who.pid,
            name: who.name.as_deref(),
            cmd_line: who.command_line.as_deref(),
            file: who.executable.as_deref().map(|path| FileObject {
                name: path.rsplit('/').next().unwrap_or(path),
                path,
                type_id: 1,
            }),
        });
        let user = (who.uid.is_some() || who.user.is_some())
            .then(|| UserObject { uid: who.uid.map(|uid| uid.to_string()), name: who.user.as_deref() });
        (process.is_some() || user.is_some()).then_some(Actor { process, user })
    }
}

#[derive(Serialize)]
pub(super) struct FindingInfo<'a> {
    pub uid: &'a str,
    pub title: &'static str,
    pub desc: &'a str,
    pub first_seen_time: i64,
    pub last_seen_time: i64,
    pub analytic: Analytic,
}

#[derive(Serialize)]
pub(super) struct Analytic {
    pub uid: &'static str,
    pub name: &'static str,
    pub desc: &'static str,
    pub type_id: u8,
    #[serde(rename = "type")]
    pub kind: &'static str,
}

#[derive(Serialize)]
pub(super) struct Remediation<'a> {
    pub desc: &'a str,
}

#[derive(Serialize)]
pub(super) struct Evidence<'a> {
    src_endpoint: Endpoint<'a>,
    dst_endpoint: Endpoint<'a>,
    connection_info: ConnectionInfo<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<Actor<'a>>,
}

impl<'a> Evidence<'a> {
    pub fn new(flow: &'a FlowView) -> Self {
        Evidence {
            src_endpoint: Endpoint::new(flow.client(), flow.client_identity().map(AsRef::as_ref)),
            dst_endpoint: Endpoint::new(flow.server(), flow.server_identity().map(AsRef::as_ref)),
            connection_info: ConnectionInfo::new(flow),
            actor: Actor::new(&flow.owner),
        }
    }
}

#[derive(Serialize)]
pub(super) struct Unmapped<'a> {
    streamwatch: Own<'a>,
}

#[derive(Default, Serialize)]
struct Own<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'a Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    posture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsMore<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssh: Option<Ssh<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before_start: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<&'a [LossRow]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttle: Option<Throttled<'a>>,
}

#[derive(Serialize)]
struct Throttled<'a> {
    of: &'static str,
    cgroup: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    given_up: u64,
}

impl<'a> Unmapped<'a> {
    pub fn flow(flow: &'a FlowView) -> Self {
        let before_start = flow.before_start.then_some(true);
        Unmapped {
            streamwatch: Own {
                verdict: Some(&flow.verdict),
                posture: posture::line(&flow.facts),
                tls: flow.facts.tls.as_ref().map(TlsMore::new),
                ssh: flow.facts.ssh.as_ref().map(Ssh::new),
                before_start,
                loss: None,
                throttle: None,
            },
        }
    }

    pub fn loss(loss: &'a LossView) -> Self {
        Unmapped { streamwatch: Own { loss: Some(&loss.rows), ..Own::default() } }
    }

    pub fn throttle(throttle: &'a ThrottleView) -> Self {
        let ThrottleView { of, cgroup, name, given_up, .. } = throttle;
        let (of, name) = (of.as_str(), name.as_deref());
        let throttle = Throttled { of, cgroup: *cgroup, name, given_up: *given_up };
        Unmapped { streamwatch: Own { throttle: Some(throttle), ..Own::default() } }
    }
}
