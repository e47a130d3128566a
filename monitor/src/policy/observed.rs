//! What was observed, for `learn` and `test`: flow and stream records of the Elastic Common Schema,
//! as the daemon writes them, in; one [`Observed`] a connection or stream out.
//!
//! A record file is somebody's text: what is no such record is counted, never guessed at.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::model::{Container, Identity, Transport};

/// One connection, or all of one stream.
#[derive(Clone, Debug)]
pub struct Observed {
    pub transport: Transport,
    /// `None`: on another host.
    pub client: Option<Identity>,
    /// Port 0: a stream's many.
    pub client_address: SocketAddr,
    pub server: Option<Identity>,
    pub server_address: SocketAddr,
    pub protocol: Option<String>,
    pub server_name: Option<String>,
    pub flows: u64,
    /// RFC 3339, as the records have it; empty: not said.
    pub first_seen: String,
    pub last_seen: String,
    /// Some end of it could not be wholly looked at.
    pub incomplete: bool,
}

/// Observations, and what could not be one.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    pub list: Vec<Observed>,
    /// Lines or records that are about something else, or broken.
    pub ignored: u64,
}

/// Connections held; the rest is counted as ignored.
const MOST: usize = 1 << 20;

impl Observations {
    /// From records. Of one flow the last record counts; of a connection with both ends on this
    /// host, what the client's end tells.
    pub fn new(records: impl IntoIterator<Item = Value>) -> Observations {
        let mut flows: HashMap<String, Observed> = HashMap::new();
        let mut ends: HashMap<(Transport, SocketAddr, SocketAddr), (String, bool)> = HashMap::new();
        let mut all = Observations::default();
        for record in records {
            let Some(seen) = observed(&record) else {
                all.ignored += 1;
                continue;
            };
            if text(&record, "/event/dataset") == Some("streamwatch.stream") {
                all.list.push(seen);
                continue;
            }
            let id = text(&record, "/streamwatch/flow/id").unwrap_or_default().to_owned();
            if flows.len() >= MOST || id.is_empty() {
                all.ignored += 1;
                continue;
            }
            let egress = text(&record, "/network/direction") == Some("egress");
            let connection = (seen.transport, seen.client_address, seen.server_address);
            match ends.get(&connection) {
                Some((other, from_client)) if *other != id => {
                    if *from_client || !egress {
                        continue;
                    }
                    flows.remove(other);
                    ends.insert(connection, (id.clone(), egress));
                }
                _ => {
                    ends.insert(connection, (id.clone(), egress));
                }
            }
            let first = flows.get(&id).map(|known| known.first_seen.clone());
            let seen = Observed { first_seen: first.unwrap_or(seen.first_seen.clone()), ..seen };
            flows.insert(id, seen);
        }
        let mut flows: Vec<(String, Observed)> = flows.into_iter().collect();
        flows.sort_by(|(a, one), (b, other)| one.first_seen.cmp(&other.first_seen).then(a.cmp(b)));
        all.list.extend(flows.into_iter().map(|(_, seen)| seen));
        all
    }

    /// Gives streams the server names that flow records tell of the same service.
    pub fn name_servers(&mut self, flows: &Observations) {
        let mut names: HashMap<SocketAddr, Option<&str>> = HashMap::new();
        for flow in &flows.list {
            let name = flow.server_name.as_deref();
            // Two names for one address, or none at times, and it is not known which was meant.
            names
                .entry(flow.server_address)
                .and_modify(|known| *known = known.filter(|known| Some(*known) == name))
                .or_insert(name);
        }
        for seen in &mut self.list {
            if seen.server_name.is_none() {
                seen.server_name = names.get(&seen.server_address).copied().flatten().map(str::to_owned);
            }
        }
    }

    /// From JSON lines.
    pub fn from_lines(text: &str) -> Observations {
        let mut broken = 0;
        let records = text.lines().filter(|line| !line.trim().is_empty()).filter_map(|line| {
            let record = serde_json::from_str(line).ok();
            broken += u64::from(record.is_none());
            record
        });
        let records: Vec<Value> = records.collect();
        let mut all = Observations::new(records);
        all.ignored += broken;
        all
    }
}

fn text<'a>(record: &'a Value, path: &str) -> Option<&'a str> {
    record.pointer(path)?.as_str()
}

fn observed(record: &Value) -> Option<Observed> {
    let dataset = text(record, "/event/dataset")?;
    if !matches!(dataset, "streamwatch.flow" | "streamwatch.stream") {
        return None;
    }
    // What never came up is no use of a service: a scan would be learnt.
    let count = |path: &str| record.pointer(path).and_then(Value::as_u64);
    let failed = count("/streamwatch/stream/failed").unwrap_or(0);
    let flows = count("/streamwatch/stream/flows").map_or(1, |flows| flows.saturating_sub(failed));
    if text(record, "/streamwatch/flow/state") == Some("failed") || flows == 0 {
        return None;
    }
    let address =
        |path: &str| -> Option<IpAddr> { Some(text(record, path)?.parse::<IpAddr>().ok()?.to_canonical()) };
    let port =
        |path: &str| record.pointer(path).and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let own = identity(record, text(record, "/streamwatch/missing"));
    let peer = record.pointer("/streamwatch/peer").and_then(|peer| identity(peer, text(peer, "/missing")));
    // Without a word on our own end it is still on this host: something about it is missing.
    let own = Some(own.unwrap_or_else(|| Identity {
        missing: Some("the record does not say who".to_owned()),
        ..Identity::default()
    }));
    let (client, server) = match text(record, "/network/direction")? {
        "egress" => (own, peer),
        "ingress" => (peer, own),
        _ => return None,
    };
    let incomplete = [&client, &server].into_iter().flatten().any(|end| end.missing.is_some());
    let hides_name =
        record.pointer("/streamwatch/tls/encrypted_client_hello").and_then(Value::as_bool) == Some(true);
    let when =
        |paths: [&str; 2]| paths.iter().find_map(|path| text(record, path)).unwrap_or_default().to_owned();
    Some(Observed {
        transport: match text(record, "/network/transport")? {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            _ => return None,
        },
        client,
        client_address: SocketAddr::new(address("/client/ip")?, port("/client/port").unwrap_or(0)),
        server,
        server_address: SocketAddr::new(address("/server/ip")?, port("/server/port")?),
        protocol: text(record, "/network/protocol").map(str::to_owned),
        // That of an encrypted hello stands for many.
        server_name: text(record, "/tls/client/server_name").filter(|_| !hides_name).map(str::to_owned),
        flows,
        first_seen: when(["/streamwatch/stream/first_seen", "/event/start"]),
        last_seen: when(["/streamwatch/stream/last_seen", "/@timestamp"]),
        incomplete,
    })
}

/// The same fields stand at the top level and below `streamwatch.peer`.
fn identity(at: &Value, missing: Option<&str>) -> Option<Identity> {
    let get = |path: &str| text(at, path).map(str::to_owned);
    let identity = Identity {
        pid: at.pointer("/process/pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok()),
        name: get("/process/name"),
        executable: get("/process/executable"),
        executable_elsewhere: at.pointer("/process/executable_elsewhere").and_then(Value::as_bool)
            == Some(true),
        executable_sha256: get("/process/hash/sha256"),
        uid: text(at, "/user/id").and_then(|id| id.parse().ok()),
        user: get("/user/name"),
        unit: get("/service/name"),
        container: get("/container/id").map(|id| Container {
            id,
            runtime: get("/container/runtime").unwrap_or_default(),
            pod: get("/orchestrator/resource/id"),
        }),
        missing: missing.map(str::to_owned),
        ..Identity::default()
    };
    (identity != Identity::default()).then_some(identity)
}

/// Evidence of several observations together.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub flows: u64,
    pub first_seen: String,
    pub last_seen: String,
    pub protocols: BTreeMap<String, u64>,
}

impl Evidence {
    pub fn add(&mut self, seen: &Observed) {
        self.flows += seen.flows;
        // RFC 3339 in UTC with a fixed number of digits sorts as text.
        if !seen.first_seen.is_empty() && (self.first_seen.is_empty() || seen.first_seen < self.first_seen) {
            self.first_seen.clone_from(&seen.first_seen);
        }
        if seen.last_seen > self.last_seen {
            self.last_seen.clone_from(&seen.last_seen);
        }
        if let Some(protocol) = &seen.protocol {
            *self.protocols.entry(protocol.clone()).or_default() += seen.flows;
        }
    }
}

impl std::fmt::Display for Evidence {
    /// `12 flows, 2026-01-02T03:04:05Z to 2026-01-03T03:04:05Z, http`: for a comment, one line.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.flows == 1 { "" } else { "s" };
        write!(out, "{} flow{plural}", self.flows)?;
        let second = |when: &str| match when.split_once('.') {
            Some((seconds, _)) => format!("{}Z", seconds.escape_debug()),
            None => when.escape_debug().to_string(),
        };
        if !self.first_seen.is_empty() {
            write!(out, ", {} to {}", second(&self.first_seen), second(&self.last_seen))?;
        }
        for protocol in self.protocols.keys() {
            write!(out, ", {}", protocol.escape_debug())?;
        }
        Ok(())
    }
}
