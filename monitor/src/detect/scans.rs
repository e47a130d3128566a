//! `connect-failures`, of one client at many places: a scan. Vertical: many ports of one host;
//! horizontal: many hosts at one port.
//!
//! False positives: a client of many peers that lose their way at once (a cluster that restarts, a
//! peer-to-peer program after the network was down). Seen are connections whose socket is on this host,
//! on either end, and what the kernel refuses with a reset; a SYN that is dropped, or a probe of a port that is
//! served and never becomes a connection, is not.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use super::Finding;
use super::watched::{Fill, Watched, party, source};
use crate::config;
use crate::model::{FlowView, Rule, Severity};

/// Clients and directions watched at a time.
const WATCHED: usize = 4096;

/// Where one client failed lately.
#[derive(Debug)]
pub struct Scans {
    targets: usize,
    window_ns: u64,
    clients: Watched<Scan, Targets>,
}

/// What is the same in all connections of a scan: whose they are, and where they go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Scan {
    /// Many ports of this host.
    Vertical(String, IpAddr),
    /// Many hosts at this port.
    Horizontal(String, u16),
}

#[derive(Debug, Default)]
struct Targets {
    /// What differs, and when it was seen last; no longer than the number of targets that matters.
    seen: VecDeque<((IpAddr, u16), u64)>,
    /// What the client was called that was seen first: one alert, whatever it calls itself next.
    client: String,
}

impl Scans {
    pub fn new(settings: &config::Scans) -> Self {
        let window_ns = u64::from(settings.window_s) * 1_000_000_000;
        let clients = Watched::new(WATCHED, window_ns);
        Scans { targets: settings.targets as usize, window_ns, clients }
    }

    pub fn fill(&self) -> Fill {
        self.clients.fill()
    }

    /// A connection never came up.
    pub fn failed(&mut self, flow: &Arc<FlowView>, now_ns: u64) -> Vec<Finding> {
        let client = source(flow);
        let server = flow.server();
        let target = (server.ip(), server.port());
        let scans = [Scan::Vertical(client.clone(), server.ip()), Scan::Horizontal(client, server.port())];
        scans.into_iter().filter_map(|scan| self.add(scan, target, flow, now_ns)).collect()
    }

    fn add(
        &mut self,
        scan: Scan,
        target: (IpAddr, u16),
        flow: &Arc<FlowView>,
        now_ns: u64,
    ) -> Option<Finding> {
        let window_ns = self.window_ns;
        let is_old = |at: u64| now_ns.saturating_sub(at) > window_ns;
        let Targets { seen, client } = self.clients.add(scan.clone(), || party(flow), now_ns);
        seen.retain(|(known, at)| *known != target && !is_old(*at));
        if seen.is_empty() {
            *client = match flow.client_identity() {
                Some(identity) => identity.label(),
                None => source(flow),
            };
        }
        seen.push_back((target, now_ns));
        if seen.len() < self.targets {
            return None;
        }
        while seen.len() > self.targets {
            seen.pop_front();
        }
        let within = format!("within {} s", window_ns / 1_000_000_000);
        let (subject, what) = match &scan {
            Scan::Vertical(_, host) => (
                format!("{client} → {host}, many ports"),
                format!(
                    "{client} failed to connect to {} and more ports of {host} {within}: a scan",
                    self.targets
                ),
            ),
            Scan::Horizontal(_, port) => (
                format!("{client} → many hosts, port {port}"),
                format!(
                    "{client} failed to connect to port {port} of {} and more hosts {within}: a scan",
                    self.targets
                ),
            ),
        };
        Some(Finding {
            rule: Rule::ConnectFailures,
            subject,
            severity: Severity::High,
            reason: what,
            remedy:
                "Find out who started it; if it is a monitor of yours, give it the ports that are served."
                    .to_owned(),
            flow: Some(flow.clone()),
            listener: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Identity;
    use crate::record::samples;
    use std::net::SocketAddr;

    fn to(address: &str) -> Arc<FlowView> {
        let mut view = samples::flow();
        view.remote = address.parse::<SocketAddr>().expect("address");
        view.direction = crate::model::Direction::Egress;
        Arc::new(view)
    }

    #[test]
    fn many_ports_of_one_host_and_many_hosts_at_one_port() {
        let settings = config::Scans { targets: 10, window_s: 60 };
        let mut scans = Scans::new(&settings);
        let found = |scans: &mut Scans, address: String| {
            scans.failed(&to(&address), 0).into_iter().map(|finding| finding.subject).collect::<Vec<_>>()
        };
        for port in 1..10 {
            assert_eq!(found(&mut scans, format!("10.0.0.2:{port}")), Vec::<String>::new());
        }
        assert!(found(&mut scans, "10.0.0.2:10".into())[0].ends_with("10.0.0.2, many ports"));
        let mut scans = Scans::new(&settings);
        for host in 1..10 {
            assert_eq!(found(&mut scans, format!("10.0.0.{host}:22")), Vec::<String>::new());
        }
        assert!(found(&mut scans, "10.0.0.10:22".into())[0].ends_with("many hosts, port 22"));
    }

    #[test]
    fn whatever_it_calls_itself_it_is_one_scan() {
        let mut scans = Scans::new(&config::Scans { targets: 10, window_s: 60 });
        let mut told = Vec::new();
        for port in 1..=11u16 {
            let mut view = (*to(&format!("10.0.0.2:{port}"))).clone();
            view.owner = Arc::new(Identity {
                uid: Some(1001),
                name: Some(format!("a{port}")),
                unit: None,
                container: None,
                ..(*view.owner).clone()
            });
            told.extend(scans.failed(&Arc::new(view), 0).into_iter().map(|finding| finding.subject));
        }
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("a1 (") && told.iter().all(|it| *it == told[0]), "{told:?}");
        // Another user's are not counted along.
        let mut view = (*to("10.0.0.2:99")).clone();
        view.owner = Arc::new(Identity { uid: Some(1002), ..Identity::default() });
        assert!(scans.failed(&Arc::new(view), 0).is_empty());
    }

    #[test]
    fn one_target_again_and_again_is_no_scan() {
        let mut scans = Scans::new(&config::Scans { targets: 3, window_s: 60 });
        for second in 0..100 {
            assert!(scans.failed(&to("10.0.0.2:80"), second * 1_000_000_000).is_empty());
        }
    }
}
