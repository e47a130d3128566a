//! Which TCP sockets of this network namespace listen, where they can be reached, and who holds them.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::identity::{Netns, SocketError, SocketLister, TcpState, holders};
use crate::model::Transport;

/// A listening socket, or several of one service at one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// As bound: `0.0.0.0:443`.
    pub bound: Vec<SocketAddr>,
    /// Addresses of this host to try, in this order.
    pub reach: Vec<SocketAddr>,
    /// `comm` of the youngest process that holds it.
    pub process: Option<String>,
    pub pid: Option<u32>,
}

/// Why they can't be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("the network namespace of this process can't be found: {0}")]
    Namespace(io::Error),
    #[error(transparent)]
    Sockets(#[from] SocketError),
}

/// All of them, by port. Sockets of one process at one port that are bound to every address are one
/// service, whether IPv4 or IPv6.
pub fn listening() -> Result<Vec<Listening>, ListenError> {
    let own = Netns::own().map_err(ListenError::Namespace)?;
    let sockets = SocketLister::enter(&own)?.list(Transport::Tcp)?;
    let sockets: Vec<_> = sockets.into_iter().filter(|socket| socket.state == TcpState::Listen).collect();
    let inodes: HashSet<u32> =
        sockets.iter().map(|socket| socket.inode).filter(|inode| *inode != 0).collect();
    let held = holders(&inodes);
    let mut services: BTreeMap<(u16, Option<IpAddr>, Option<u32>), Listening> = BTreeMap::new();
    for socket in sockets {
        let pid = held.get(&socket.inode).and_then(|pids| pids.first().copied());
        let ip = socket.local.ip();
        let key = (socket.local.port(), (!ip.is_unspecified()).then_some(ip), pid);
        let service = services.entry(key).or_insert_with(|| Listening {
            bound: Vec::new(),
            reach: Vec::new(),
            process: pid.and_then(name_of),
            pid,
        });
        for (list, addresses) in
            [(&mut service.bound, vec![socket.local]), (&mut service.reach, reachable(socket.local))]
        {
            for address in addresses {
                if !list.contains(&address) {
                    list.push(address);
                }
            }
        }
    }
    Ok(services.into_values().collect())
}

/// An unspecified address is served on loopback too; one of IPv6 on IPv4 too, unless it says not. Anybody may bind to
/// an address that this host does not have (IP_FREEBIND): what answers there is another host.
fn reachable(bound: SocketAddr) -> Vec<SocketAddr> {
    let at = |ip: IpAddr| SocketAddr::new(ip, bound.port());
    match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![at(Ipv4Addr::LOCALHOST.into())],
        IpAddr::V6(ip) if ip.is_unspecified() => {
            vec![at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())]
        }
        ip if is_here(ip.to_canonical()) => vec![bound],
        _ => Vec::new(),
    }
}

/// What goes to an address of this host comes from it. Nothing is sent.
fn is_here(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let from = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, 9))?;
        socket.local_addr()
    };
    match from() {
        Ok(from) => ip.is_loopback() || from.ip() == ip,
        // One of a link says nothing without the link.
        Err(_) => ip.is_loopback() || matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()),
    }
}

fn name_of(pid: u32) -> Option<String> {
    let name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_own_listener_is_found_with_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let all = listening().unwrap();
        let found = all.iter().find(|service| service.bound.contains(&address)).unwrap();
        assert_eq!(found.reach, [address]);
        assert_eq!(found.pid, Some(std::process::id()));
        drop(listener);
        assert!(!listening().unwrap().iter().any(|service| service.bound.contains(&address)));
    }

    #[test]
    fn unspecified_addresses_are_reached_over_loopback() {
        assert_eq!(reachable("0.0.0.0:1".parse().unwrap()), ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!(
            reachable("[::]:1".parse().unwrap()),
            ["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()]
        );
        assert_eq!(reachable("127.0.0.5:1".parse().unwrap()), ["127.0.0.5:1".parse().unwrap()]);
        assert_eq!(reachable("[::1]:1".parse().unwrap()), ["[::1]:1".parse().unwrap()]);
    }

    #[test]
    fn another_host_is_not_reached() {
        // For documentation alone (RFC 5737, RFC 3849).
        assert_eq!(reachable("192.0.2.1:9443".parse().unwrap()), []);
        assert_eq!(reachable("[2001:db8::1]:9443".parse().unwrap()), []);
    }
}
