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
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::clock::monotonic_ns;
use super::namespaces::{Netns, namespaces};
use super::sockets::{One, SocketError, scope};
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
    /// The socket is gone, the kernel did not answer, there was no time to ask, or there are more IPsec policies or
    /// associations than are kept.
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
    /// When it was read, or could not be.
    read: Instant,
    /// It could not be read again: this is what was there before, if that is known.
    failed: bool,
}

impl Namespace {
    /// `None`: it has no tunnel.
    fn read(netns: &Netns) -> io::Result<Option<Namespace>> {
        let Some(routes) = if_any(Routes::enter(netns))? else { return Ok(None) };
        let mut wireguard = Vec::new();
        for candidate in if_any(routes.candidates())?.unwrap_or_default() {
            if candidate.in_kernel || is_listening(is_wireguard(netns, &candidate.name))? {
                let interface = Interface { index: candidate.index, vrf: candidate.vrf };
                wireguard.push((interface, candidate.name));
            }
        }
        let ipsec = if_any(Ipsec::read(netns))?.unwrap_or_default();
        let any = !wireguard.is_empty() || ipsec.has_policies();
        Ok(any.then(|| Namespace {
            cookie: routes.netns_cookie(),
            wireguard,
            ipsec,
            ..Namespace::unread(netns)
        }))
    }

    /// Of which nothing is known.
    fn unread(netns: &Netns) -> Namespace {
        Namespace {
            netns: netns.clone(),
            cookie: None,
            wireguard: Vec::new(),
            ipsec: Ipsec::default(),
            read: Instant::now(),
            failed: false,
        }
    }

    /// It could not be read.
    fn fail(&mut self) {
        self.failed = true;
        self.read = Instant::now();
    }

    fn way(&mut self, key: &SocketKey, socket: Option<&SocketSeen>) -> Way {
        if self.read.elapsed() > FRESH {
            match Namespace::read(&self.netns) {
                Ok(Some(read)) => *self = read,
                Ok(None) => return Way::Direct,
                Err(_) => self.fail(),
            }
        }
        if self.failed {
            return Way::Unknown;
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
        Some(self.ipsec.protects(path).ok()?.map_or(Way::Direct, |protected| {
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
        let mut before = std::mem::take(&mut self.namespaces);
        self.namespaces = all.iter().filter_map(|netns| after(&mut before, netns)).collect();
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
            let is_direct = ways.all(|way| matches!(way, Way::Direct));
            return if is_direct { Way::Direct } else { Way::Unknown };
        };
        match self.namespaces.iter_mut().find(|namespace| namespace.netns.inode == inode) {
            Some(namespace) => namespace.way(key, None),
            None => Way::Direct,
        }
    }
}

/// What is there of what is asked for; `None`: the kernel has no such thing, or we may not ask for it, and never may.
/// What fails otherwise (no descriptors, no memory) says nothing of what is there.
fn if_any<T>(asked: io::Result<T>) -> io::Result<Option<T>> {
    const NEVER: [Errno; 5] =
        [Errno::PROTONOSUPPORT, Errno::AFNOSUPPORT, Errno::OPNOTSUPP, Errno::PERM, Errno::ACCESS];
    match asked {
        Ok(it) => Ok(Some(it)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(number) if NEVER.contains(&number) => Ok(None),
            _ => Err(error),
        },
    }
}

/// The same of a control socket, which may not be there, or be nobody's any more.
fn is_listening(asked: io::Result<bool>) -> io::Result<bool> {
    match asked {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(false)
        }
        asked => Ok(if_any(asked)?.unwrap_or(false)),
    }
}

/// What a namespace has now. Where it could not be read, it is as before, and that is said.
fn after(before: &mut Vec<Namespace>, netns: &Netns) -> Option<Namespace> {
    let error = match Namespace::read(netns) {
        Ok(read) => return read,
        Err(error) => error,
    };
    let known = before.iter().position(|it| it.netns.inode == netns.inode);
    let mut namespace = match known.map(|at| before.swap_remove(at)) {
        Some(known) => Namespace { netns: netns.clone(), ..known },
        // It ended while it was looked for: whoever likes makes such ones without number.
        None if error.kind() == io::ErrorKind::NotFound => return None,
        None => Namespace {
            cookie: Routes::enter(netns).ok().and_then(|routes| routes.netns_cookie()),
            ..Namespace::unread(netns)
        },
    };
    namespace.fail();
    Some(namespace)
}

enum Find {
    Found(SocketSeen),
    /// Or of another namespace.
    Gone,
    /// Another one has its addresses too, or it may be bound to an interface that was not asked for, and there was no time
    /// for a look at all; or the kernel did not answer.
    Unclear,
}

/// The socket, by its cookie: addresses may be the same in two namespaces. Whoever likes has sockets without number: so it is
/// looked up, and walks over all of them have a share of the time.
fn find(namespace: &Namespace, key: &SocketKey, walks: &mut Budget) -> Find {
    if key.cookie == 0 {
        return Find::Gone;
    }
    let lister = match SocketLister::enter(&namespace.netns) {
        Ok(lister) => lister,
        // What is said of the namespace then is not known.
        Err(SocketError::Enter { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Find::Gone;
        }
        Err(_) => return Find::Unclear,
    };
    let interfaces = namespace.wireguard.iter().take(MOST_BOUND).flat_map(|(it, _)| [Some(it.index), it.vrf]);
    let is_one_left_out = namespace.wireguard.len() > MOST_BOUND;
    let (mut is_one_of_several, mut is_unclear) = (false, false);
    for interface in [scope(key.local)].into_iter().chain(interfaces.flatten()) {
        match lister.one(key.transport, key.local, key.remote, key.cookie, interface) {
            One::Found(socket) => return Find::Found(socket),
            One::Another => is_one_of_several = true,
            One::None => {}
            One::Unknown => is_unclear = true,
        }
    }
    if is_unclear {
        return Find::Unclear;
    }
    // Of TCP no two have the same addresses.
    let may_be_another = is_one_of_several && key.transport == Transport::Udp;
    if !may_be_another && !is_one_left_out {
        return Find::Gone;
    }
    let begun_ns = monotonic_ns();
    if !walks.allows(1, begun_ns) {
        return Find::Unclear;
    }
    let found = lister.at_port(key.transport, key.local.port());
    let now_ns = monotonic_ns();
    walks.spend(u32::try_from((now_ns - begun_ns) / 1000).unwrap_or(u32::MAX), now_ns);
    let Ok(found) = found else { return Find::Unclear };
    found.into_iter().find(|socket| socket.cookie == key.cookie).map_or(Find::Gone, Find::Found)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;

    use rustix::net::sockopt::socket_cookie;

    use super::*;
    use crate::identity::NetnsSource;

    fn key(transport: Transport, local: SocketAddr, remote: &str, socket: impl AsFd) -> SocketKey {
        let remote = remote.parse().expect("an address");
        let cookie = socket_cookie(socket).expect("a cookie");
        SocketKey { transport, netns: 0, local, remote, cookie, maker: 0 }
    }

    fn with_interfaces(netns: &Netns, count: u32) -> Namespace {
        let interface = |at: u32| (Interface { index: 1_000_000 + at, vrf: None }, format!("wg{at}"));
        Namespace { wireguard: (0..count).map(interface).collect(), ..Namespace::unread(netns) }
    }

    #[test]
    fn where_it_could_not_be_looked_nothing_is_said_to_go_past_the_tunnels() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let local = socket.local_addr().expect("an address");
        let key = key(Transport::Udp, local, "192.0.2.1:9", &socket);
        // No process has this number.
        let gone = Netns { inode: 1, source: NetnsSource::Process(u32::MAX) };
        for age in [Duration::ZERO, 2 * FRESH] {
            let mut namespace = with_interfaces(&gone, 1);
            namespace.read = Instant::now().checked_sub(age).expect("a time");
            let mut tunnels = Tunnels { namespaces: vec![namespace], ..Tunnels::default() };
            assert_eq!(tunnels.way(&key), Way::Unknown, "{age:?}");
            assert_eq!(tunnels.way(&SocketKey { cookie: 0, ..key }), Way::Unknown, "{age:?}");
        }
        assert_eq!(Tunnels::default().way(&key), Way::Direct);
    }

    /// As long as nobody says that it is gone, what it had is kept; one that is new is there at least.
    #[test]
    fn a_namespace_that_cannot_be_read_has_what_it_had() {
        let gone = Netns { inode: 1, source: NetnsSource::Process(u32::MAX) };
        let mut before = vec![with_interfaces(&gone, 1)];
        let kept = after(&mut before, &gone).expect("it is kept");
        assert_eq!((kept.failed, kept.wireguard.len(), before.len()), (true, 1, 0));
        assert!(after(&mut before, &gone).is_none());
        let no_directory = Netns { inode: 1, source: NetnsSource::Path("/dev/null/net".into()) };
        let unread = after(&mut before, &no_directory).expect("it is there");
        assert_eq!((unread.failed, unread.cookie), (true, None));
    }

    #[test]
    fn what_the_kernel_has_not_is_told_from_what_failed() {
        let of = |error: Errno| if_any::<()>(Err(error.into()));
        for error in [Errno::PROTONOSUPPORT, Errno::PERM] {
            assert!(of(error).is_ok_and(|it| it.is_none()), "{error}");
        }
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::NOENT] {
            assert!(of(error).is_err(), "{error}");
        }
        assert!(is_listening(Err(Errno::NOENT.into())).is_ok_and(|it| !it));
        assert!(is_listening(Err(Errno::CONNREFUSED.into())).is_ok_and(|it| !it));
        assert!(is_listening(Err(Errno::MFILE.into())).is_err());
    }

    /// It is asked for at so many interfaces; as a socket that is bound to another one, these are not found by their addresses.
    #[test]
    fn a_socket_that_may_be_bound_to_an_interface_too_many_is_looked_for_among_all() {
        let own = Netns::own().expect("our own namespace");
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        datagrams.connect("127.0.0.1:9").expect("connected");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let other = "127.0.0.1:10";
        for key in [
            key(Transport::Udp, datagrams.local_addr().expect("an address"), other, &datagrams),
            key(Transport::Tcp, client.local_addr().expect("an address"), other, &client),
        ] {
            let found = |count: u32, walks: &mut Budget| {
                let namespace = with_interfaces(&own, count);
                match find(&namespace, &key, walks) {
                    Find::Found(socket) => Some(socket.cookie == key.cookie),
                    Find::Gone => Some(false),
                    Find::Unclear => None,
                }
            };
            let most = MOST_BOUND as u32;
            assert_eq!(found(most, &mut Budget::new(WALKS_PER_S)), Some(false), "{key:?}");
            assert_eq!(found(most + 1, &mut Budget::new(WALKS_PER_S)), Some(true), "{key:?}");
            assert_eq!(found(most + 1, &mut Budget::new(0)), None, "{key:?}");
        }
    }
}
