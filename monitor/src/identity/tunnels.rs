//! Which tunnel a flow's packets leave through: a WireGuard interface that their route goes to, or an
//! IPsec policy that they fall under.
//!
//! In: sockets. Out: a [`Way`]. Everything is asked in the network namespace that the socket is found
//! in, with what decides its route: addresses, user, mark, bound interface. A socket may choose another interface
//! for itself (IP_UNICAST_IF, IP_PKTINFO), which nothing here knows of: the tunnel counts where the programs saw
//! the flow's packets pass its interface (`Tunnel::passed`). Must never: name a tunnel that
//! the packets need not go through. What comes *in* is known of IPsec, where the kernel drops what came
//! in the clear; of WireGuard it is inferred, and said to be.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::clock::monotonic_ns;
use super::namespaces::{Netns, namespaces};
use super::sockets::{One, scope};
use super::tunnels_ipsec::{Ipsec, Path};
use super::tunnels_routes::{Routes, Sender};
use super::tunnels_userspace::is_wireguard;
use super::{SocketKey, SocketLister, SocketSeen};
use crate::model::{Interface, Transport, Tunnel, TunnelKind};
use crate::watch::Budget;

/// How long what was read of the namespaces with tunnels counts.
const FRESH: Duration = Duration::from_secs(1);
/// All namespaces are looked through for tunnels this often: the more there are the longer it takes, and
/// it gets one part of the time in so many.
const SCAN_EVERY: Duration = Duration::from_secs(5);
const SCAN_SHARE: u32 = 1000;
const SCAN_AT_LEAST_EVERY: Duration = Duration::from_secs(30);

/// Microseconds a second in which sockets are walked through, of which another one has the addresses too; four times as many
/// at once.
const WALKS_PER_S: u32 = 200_000;

/// Tunnels' interfaces that a socket is looked for at, which may be bound to one.
const MOST_BOUND: usize = 8;

/// The way of a flow's packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    Through(Tunnel),
    /// Past every tunnel.
    Direct,
    /// The socket is gone, the kernel did not answer, or there was no time to ask.
    Unknown,
}

/// The tunnels of this host.
pub struct Tunnels {
    /// Those that have any.
    namespaces: Vec<Namespace>,
    /// Namespaces by the cookie that the kernel programs name them with: learnt from sockets found.
    inodes: HashMap<u64, u64>,
    /// When the next look is due.
    due: Option<Instant>,
    walks: Budget,
}

impl Default for Tunnels {
    fn default() -> Self {
        Tunnels { namespaces: Vec::new(), inodes: HashMap::new(), due: None, walks: Budget::new(WALKS_PER_S) }
    }
}

struct Namespace {
    netns: Netns,
    /// What the kernel programs call it; `None`: the kernel does not say.
    cookie: Option<u64>,
    wireguard: Vec<(Interface, String)>,
    ipsec: Ipsec,
    read: Instant,
}

impl Namespace {
    /// `None`: it has no tunnel, or can't be entered.
    fn read(netns: &Netns) -> Option<Namespace> {
        let routes = Routes::enter(netns);
        let cookie = routes.as_ref().ok().and_then(Routes::netns_cookie);
        let candidates = routes.and_then(|routes| routes.candidates()).unwrap_or_default();
        let wireguard: Vec<(Interface, String)> = candidates
            .into_iter()
            .filter(|candidate| candidate.in_kernel || is_wireguard(netns, &candidate.name))
            .map(|it| (Interface { index: it.index, vrf: it.vrf }, it.name))
            .collect();
        // A kernel without IPsec refuses the socket.
        let ipsec = Ipsec::read(netns).unwrap_or_default();
        let any = !wireguard.is_empty() || ipsec.has_policies();
        any.then(|| Namespace { netns: netns.clone(), cookie, wireguard, ipsec, read: Instant::now() })
    }

    fn way(&mut self, key: &SocketKey, socket: Option<&SocketSeen>) -> Way {
        if self.read.elapsed() > FRESH {
            match Namespace::read(&self.netns) {
                Some(read) => *self = read,
                None => return Way::Direct,
            }
        }
        self.look(key, socket).unwrap_or(Way::Unknown)
    }

    fn look(&self, key: &SocketKey, socket: Option<&SocketSeen>) -> Option<Way> {
        let remote = key.remote.ip();
        if remote.is_loopback() || remote.is_multicast() {
            return Some(Way::Direct);
        }
        let local = match socket {
            Some(socket) if key.local.ip().is_unspecified() => socket.local.ip(),
            _ => key.local.ip(),
        };
        let sender = Sender {
            transport: key.transport,
            local: SocketAddr::new(local, key.local.port()),
            remote: key.remote,
            uid: socket.map(|socket| socket.uid),
            mark: socket.map_or(0, |socket| socket.mark),
            device: socket.map_or(0, |socket| socket.device),
        };
        let Some(route) = Routes::enter(&self.netns).ok()?.to(&sender).ok()? else {
            return Some(Way::Direct);
        };
        let gone = match socket {
            Some(_) => "",
            None => "; the socket was gone already: that it had no route of its own is inferred",
        };
        if let Some((interface, name)) = self.wireguard.iter().find(|(it, _)| it.index == route.output) {
            // Whether its packets do is seen by the programs (`Tunnel::passed`).
            let inferred = match (key.transport, interface.vrf) {
                (Transport::Udp, None) => "",
                _ => "; that answers come in there is inferred",
            };
            let evidence = format!(
                "the route to {remote} goes out through {name}, and so do its packets{inferred}{gone}"
            );
            return Some(Way::Through(Tunnel {
                kind: TunnelKind::Wireguard,
                name: name.clone(),
                evidence,
                interface: Some(*interface),
            }));
        }
        let local = if local.is_unspecified() { route.source? } else { local };
        let path = Path {
            transport: key.transport,
            local: SocketAddr::new(local, key.local.port()),
            remote: key.remote,
        };
        Some(self.ipsec.protects(path).map_or(Way::Direct, |protected| {
            let inbound = match protected.inbound {
                true => "both ways",
                false => "on the way out; that answers come in the same way is inferred",
            };
            let evidence = format!("an IPsec policy demands ESP to {remote} {inbound}{gone}");
            Way::Through(Tunnel { kind: TunnelKind::Ipsec, name: protected.name, evidence, interface: None })
        }))
    }
}

impl Tunnels {
    /// How long until the next look is due.
    pub fn due_in(&self) -> Duration {
        self.due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()))
    }

    /// Looks through all namespaces; whether there is any tunnel.
    pub fn scan(&mut self) -> bool {
        let began = Instant::now();
        let all = namespaces();
        self.inodes.retain(|_, inode| all.iter().any(|netns| netns.inode == *inode));
        self.namespaces = all.iter().filter_map(Namespace::read).collect();
        let rest = (began.elapsed() * SCAN_SHARE).clamp(SCAN_EVERY, SCAN_AT_LEAST_EVERY);
        self.due = Some(Instant::now() + rest);
        !self.namespaces.is_empty()
    }

    /// Where the packets of this socket to its other end go.
    pub fn way(&mut self, key: &SocketKey) -> Way {
        if key.netns != 0 && self.namespaces.iter().all(|namespace| namespace.cookie.is_some()) {
            let Some(namespace) = self.namespaces.iter_mut().find(|it| it.cookie == Some(key.netns)) else {
                return Way::Direct;
            };
            return match find(namespace, key, &mut self.walks) {
                Find::Found(socket) => namespace.way(key, Some(&socket)),
                // It was short: what is left is the namespace.
                Find::Gone => namespace.way(key, None),
                Find::Unclear => Way::Unknown,
            };
        }
        let known = self.inodes.get(&key.netns).copied();
        for namespace in &mut self.namespaces {
            if known.is_some_and(|inode| inode != namespace.netns.inode) {
                continue;
            }
            let socket = match find(namespace, key, &mut self.walks) {
                Find::Found(socket) => socket,
                Find::Gone => continue,
                Find::Unclear => return Way::Unknown,
            };
            if key.netns != 0 {
                self.inodes.insert(key.netns, namespace.netns.inode);
            }
            return namespace.way(key, Some(&socket));
        }
        let process = || std::fs::metadata(format!("/proc/{}/ns/net", key.maker)).ok().map(|net| net.ino());
        let Some(inode) = known.or_else(process) else {
            // Wherever it was, if it has no tunnel there.
            let mut ways = self.namespaces.iter_mut().map(|namespace| namespace.way(key, None));
            let is_direct = ways.all(|way| !matches!(way, Way::Through(_)));
            return if is_direct { Way::Direct } else { Way::Unknown };
        };
        match self.namespaces.iter_mut().find(|namespace| namespace.netns.inode == inode) {
            Some(namespace) => namespace.way(key, None),
            None => Way::Direct,
        }
    }
}

enum Find {
    Found(SocketSeen),
    /// Or of another namespace.
    Gone,
    /// Another one has its addresses too, and there was no time for a look at all.
    Unclear,
}

/// The socket, by its cookie: addresses may be the same in two namespaces. Whoever likes has sockets without number: so it is
/// looked up, and walks over all of them have a share of the time.
fn find(namespace: &Namespace, key: &SocketKey, walks: &mut Budget) -> Find {
    let lister = match SocketLister::enter(&namespace.netns) {
        Ok(lister) if key.cookie != 0 => lister,
        _ => return Find::Gone,
    };
    let interfaces = namespace.wireguard.iter().take(MOST_BOUND).flat_map(|(it, _)| [Some(it.index), it.vrf]);
    let mut is_one_of_several = false;
    for interface in [scope(key.local)].into_iter().chain(interfaces.flatten()) {
        match lister.one(key.transport, key.local, key.remote, key.cookie, interface) {
            One::Found(socket) => return Find::Found(socket),
            One::Another => is_one_of_several = true,
            One::None => {}
        }
    }
    if key.transport == Transport::Tcp || !is_one_of_several {
        return Find::Gone;
    }
    let begun_ns = monotonic_ns();
    if !walks.allows(1, begun_ns) {
        return Find::Unclear;
    }
    let found = lister.at_port(key.local.port());
    let now_ns = monotonic_ns();
    walks.spend(u32::try_from((now_ns - begun_ns) / 1000).unwrap_or(u32::MAX), now_ns);
    let Ok(found) = found else { return Find::Unclear };
    found.into_iter().find(|socket| socket.cookie == key.cookie).map_or(Find::Gone, Find::Found)
}
