//! `policy learn`: a policy that says what was observed, for a person to read and correct.
//!
//! Clients and servers on this host stand there by their unit, else by executable and user; those
//! elsewhere by address, many of one network as that network. What could not be attributed is left
//! out and counted: a policy that named it by guess would be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::observed::Evidence;
use super::{Observations, Observed};
use crate::model::{Identity, Transport};
use crate::record::is_active;

/// This many addresses of one IPv4 network of 256, or of one IPv6 network of 2^64, stand for the
/// network.
const CROWD: [usize; 2] = [4, 2];
/// More ranges than this are made wider.
const MOST_RANGES: usize = 64;
/// Ports from here on are handed out by the kernel (net.ipv4.ip_local_port_range).
const EPHEMERAL: u16 = 32_768;
/// A server at more ephemeral ports than this is taken to be at any of them.
const MOST_EPHEMERAL: usize = 4;
/// More names of servers than this, and addresses say it as well.
const MOST_NAMES: usize = 32;

/// Who, as a policy names it: keys and values of a selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Who {
    name: String,
    selector: Vec<(&'static str, String)>,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    transport: &'static str,
    ports: String,
}

#[derive(Default)]
struct Learnt {
    services: BTreeMap<(Who, Port), Clients>,
    egress: BTreeMap<Who, Destinations>,
}

#[derive(Default)]
struct Clients {
    evidence: Evidence,
    local: BTreeMap<Who, Evidence>,
    remote: BTreeMap<IpAddr, Evidence>,
}

#[derive(Default)]
struct Destinations {
    evidence: Evidence,
    services: BTreeMap<(Who, Port), Evidence>,
    elsewhere: BTreeMap<Port, Elsewhere>,
}

#[derive(Default)]
struct Elsewhere {
    evidence: Evidence,
    addresses: BTreeSet<IpAddr>,
    names: BTreeSet<String>,
    nameless: bool,
}

/// The policy, as TOML with the evidence in comments.
pub fn learn(observations: &Observations) -> String {
    let ephemeral = ephemeral_servers(observations);
    let mut learnt = Learnt::default();
    let (mut unattributed, mut whole) = (0, Evidence::default());
    for seen in &observations.list {
        let client = seen.client.as_ref().map(who);
        let server = seen.server.as_ref().map(who);
        if matches!(client, Some(None)) || matches!(server, Some(None)) {
            unattributed += seen.flows;
            continue;
        }
        whole.add(seen);
        learnt.add(seen, client.flatten(), server.flatten(), &ephemeral);
    }
    learnt.write(&whole, unattributed)
}

impl Learnt {
    fn add(
        &mut self,
        seen: &Observed,
        client: Option<Who>,
        server: Option<Who>,
        ephemeral: &BTreeSet<(Who, &'static str)>,
    ) {
        let transport = transport(seen.transport);
        let number = seen.server_address.port();
        let any = |server: &Who| number >= EPHEMERAL && ephemeral.contains(&(server.clone(), transport));
        let ports = match &server {
            Some(server) if any(server) => format!("\"{EPHEMERAL}-65535\""),
            _ => number.to_string(),
        };
        let port = Port { transport, ports };
        if let Some(server) = &server {
            let clients = self.services.entry((server.clone(), port.clone())).or_default();
            clients.evidence.add(seen);
            match &client {
                Some(client) => clients.local.entry(client.clone()).or_default().add(seen),
                None => clients.remote.entry(seen.client_address.ip()).or_default().add(seen),
            }
        }
        let Some(client) = client else { return };
        let to = self.egress.entry(client).or_default();
        to.evidence.add(seen);
        match server {
            Some(server) => to.services.entry((server, port)).or_default().add(seen),
            None => {
                let elsewhere = to.elsewhere.entry(port).or_default();
                elsewhere.evidence.add(seen);
                elsewhere.addresses.insert(seen.server_address.ip());
                match seen.server_name.as_deref().filter(|name| !is_blank(name)) {
                    Some(name) => drop(elsewhere.names.insert(escaped(name.to_ascii_lowercase()))),
                    None => elsewhere.nameless = true,
                }
            }
        }
    }

    fn write(&self, whole: &Evidence, unattributed: u64) -> String {
        let mut text = format!(
            "# Learnt from {whole}.\n\
             # It says what was, not what ought to be: read it, and take out what does not belong there.\n\
             # `streamwatch policy test FILE` says what it would find now.\n"
        );
        if unattributed > 0 {
            let are = if unattributed == 1 { "flow is" } else { "flows are" };
            let _ = writeln!(
                text,
                "# {unattributed} {are} not in it: who was at one end could not be found out."
            );
        }
        let mut names = Names::default();
        let mut named: BTreeMap<&(Who, Port), String> = BTreeMap::new();
        let mut ports_of: BTreeMap<&Who, usize> = BTreeMap::new();
        for (server, _) in self.services.keys() {
            *ports_of.entry(server).or_default() += 1;
        }
        for (service, clients) in &self.services {
            let (server, port) = service;
            let wanted = match ports_of.get(server) {
                Some(1) => server.name.clone(),
                _ => format!("{}-{}-{}", server.name, port.transport, port.ports.trim_matches('"')),
            };
            let name = names.unique(wanted);
            let _ = write!(text, "\n# {}\n[[service]]\nname = {}\n", clients.evidence, quoted(&name));
            let _ = write!(text, "ports = [{}]\ntransport = \"{}\"\n", port.ports, port.transport);
            write_selector(&mut text, server);
            for (client, evidence) in &clients.local {
                let _ = write!(text, "\n# {evidence}\n[[service.client]]\n");
                write_selector(&mut text, client);
            }
            if !clients.remote.is_empty() {
                write_remote(&mut text, &clients.remote);
            }
            named.insert(service, name);
        }
        let mut names = Names::default();
        for (client, to) in &self.egress {
            let name = names.unique(client.name.clone());
            let _ = write!(text, "\n# {}\n[[client]]\nname = {}\n", to.evidence, quoted(&name));
            write_selector(&mut text, client);
            for (service, evidence) in &to.services {
                if let Some(name) = named.get(service) {
                    let _ = write!(text, "\n# {evidence}\n[[client.to]]\nservice = {}\n", quoted(name));
                }
            }
            for (port, elsewhere) in &to.elsewhere {
                elsewhere.write(&mut text, port);
            }
        }
        text
    }
}

impl Elsewhere {
    fn write(&self, text: &mut String, port: &Port) {
        let _ = write!(text, "\n# {}\n[[client.to]]\n", self.evidence);
        let _ = write!(text, "ports = [{}]\ntransport = \"{}\"\n", port.ports, port.transport);
        if !self.names.is_empty() && !self.nameless && self.names.len() <= MOST_NAMES {
            let names: Vec<String> = self.names.iter().map(|name| quoted(name)).collect();
            let _ = writeln!(text, "sni = [{}]", names.join(", "));
        } else {
            let _ = writeln!(text, "address = [{}]", listed(&ranges(&self.addresses)));
        }
    }
}

fn write_remote(text: &mut String, remote: &BTreeMap<IpAddr, Evidence>) {
    let mut together = Evidence::default();
    for evidence in remote.values() {
        together.flows += evidence.flows;
        together.protocols.extend(evidence.protocols.clone());
        if together.first_seen.is_empty() || evidence.first_seen < together.first_seen {
            together.first_seen.clone_from(&evidence.first_seen);
        }
        if evidence.last_seen > together.last_seen {
            together.last_seen.clone_from(&evidence.last_seen);
        }
    }
    let addresses: BTreeSet<IpAddr> = remote.keys().copied().collect();
    let plural = if addresses.len() == 1 { "" } else { "es" };
    let _ = write!(
        text,
        "\n# {together}, from {} address{plural} elsewhere\n[[service.client]]\naddress = [{}]\n",
        addresses.len(),
        listed(&ranges(&addresses))
    );
}

fn write_selector(text: &mut String, who: &Who) {
    for (key, value) in &who.selector {
        let _ = writeln!(text, "{key} = {}", quoted(value));
    }
}

fn listed(ranges: &[IpNet]) -> String {
    let all: Vec<String> = ranges.iter().map(|range| format!("\"{range}\"")).collect();
    all.join(", ")
}

/// A text as TOML has it: whatever it holds, it is one string, on one line, and does nothing to a terminal.
fn quoted(text: &str) -> String {
    if text.contains(is_active) {
        let mut quoted = String::from('"');
        for character in text.chars().filter(|character| *character != '\0') {
            match character {
                '"' | '\\' => quoted.extend(['\\', character]),
                // Writing to a String cannot fail.
                active if is_active(active) => {
                    let _ = write!(quoted, "\\U{:08x}", active as u32);
                }
                plain => quoted.push(plain),
            }
        }
        quoted.push('"');
        return quoted;
    }
    toml::Value::String(text.chars().filter(|character| *character != '\0').collect()).to_string()
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

/// `None`: it cannot be told from others, or would be told by what is not the whole of it, or by what is another's: the
/// path of its executable in a mount namespace of its own.
fn who(identity: &Identity) -> Option<Who> {
    let label = identity.label();
    if identity.unit.as_ref().is_some_and(|unit| *unit == label) {
        let name = label.strip_suffix(".service").unwrap_or(&label).to_owned();
        return Some(Who { name, selector: vec![("unit", escaped(label))] });
    }
    let is_elsewhere = identity.executable_elsewhere && identity.container.is_none();
    if identity.missing.is_some() || is_elsewhere {
        return None;
    }
    let name = identity.name.as_ref()?;
    let mut selector = Vec::new();
    let executable =
        identity.executable.as_deref().map(|path| path.strip_suffix(" (deleted)").unwrap_or(path));
    match executable.filter(|path| path.starts_with('/')) {
        Some(path) => selector.push(("executable", escaped(path.to_owned()))),
        None if is_blank(name) => return None,
        // Of 15 bytes, what is no text is longer as one.
        None => selector.push(("process", escaped(name.replace(char::REPLACEMENT_CHARACTER, "?")))),
    }
    if let Some(container) = &identity.container {
        selector.push(("container", container.id.clone()));
    }
    if let Some(user) = identity.user.clone().or(identity.uid.map(|uid| uid.to_string())) {
        selector.push(("user", escaped(user)));
    }
    Some(Who { name: name.clone(), selector })
}

/// Nothing of it is left in a policy.
fn is_blank(text: &str) -> bool {
    text.chars().all(|character| character.is_whitespace() || character == '\0')
}

/// `*` in a name stands for itself: `?` holds it too, and there is no other way to write it.
fn escaped(text: String) -> String {
    text.replace('*', "?")
}

/// Servers at so many ephemeral ports that the next one may be any.
fn ephemeral_servers(observations: &Observations) -> BTreeSet<(Who, &'static str)> {
    let mut ports: BTreeMap<(Who, &'static str), BTreeSet<u16>> = BTreeMap::new();
    for seen in &observations.list {
        let number = seen.server_address.port();
        if number >= EPHEMERAL
            && let Some(server) = seen.server.as_ref().and_then(who)
        {
            ports.entry((server, transport(seen.transport))).or_default().insert(number);
        }
    }
    ports.into_iter().filter(|(_, ports)| ports.len() > MOST_EPHEMERAL).map(|(server, _)| server).collect()
}

/// Addresses as ranges: those of a network with many of them as that network.
fn ranges(addresses: &BTreeSet<IpAddr>) -> Vec<IpNet> {
    let mut ranges = crowds(addresses, [24, 64], CROWD);
    if ranges.len() > MOST_RANGES {
        ranges = crowds(addresses, [16, 48], [1, 1]);
    }
    if ranges.len() > MOST_RANGES {
        ranges = crowds(addresses, [0, 0], [1, 1]);
    }
    ranges
}

/// `lengths` and `least`: of IPv4 and of IPv6.
fn crowds(addresses: &BTreeSet<IpAddr>, lengths: [u8; 2], least: [usize; 2]) -> Vec<IpNet> {
    let mut networks: BTreeMap<IpNet, Vec<IpAddr>> = BTreeMap::new();
    for address in addresses {
        let network = match address {
            IpAddr::V4(v4) => Ipv4Net::new(*v4, lengths[0]).map(|net| IpNet::V4(net.trunc())),
            IpAddr::V6(v6) => Ipv6Net::new(*v6, lengths[1]).map(|net| IpNet::V6(net.trunc())),
        };
        if let Ok(network) = network {
            networks.entry(network).or_default().push(*address);
        }
    }
    let mut ranges = Vec::new();
    for (network, of_it) in networks {
        let enough = if network.addr().is_ipv4() { least[0] } else { least[1] };
        if of_it.len() >= enough {
            ranges.push(network);
        } else {
            ranges.extend(of_it.into_iter().map(IpNet::from));
        }
    }
    ranges
}

/// Names that are given once.
#[derive(Default)]
struct Names {
    given: BTreeSet<String>,
    /// The number that the next one of that name is tried with.
    next: BTreeMap<String, u64>,
}

impl Names {
    fn unique(&mut self, wanted: String) -> String {
        let wanted = if is_blank(&wanted) { "unnamed".to_owned() } else { wanted.replace('\0', "") };
        let next = self.next.entry(wanted.clone()).or_insert(2);
        let mut name = wanted.clone();
        while !self.given.insert(name.clone()) {
            name = format!("{wanted}-{next}");
            *next += 1;
        }
        name
    }
}
