//! Interfaces and routes of one network namespace (rtnetlink(7)).

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::namespaces::{Netns, netlink_socket};
use super::sockets::refusal;
use crate::model::Transport;

/// Room for one answer of the kernel: it never fills more than 32 KiB at a time.
const ANSWER: usize = 64 << 10;

/// Asks the kernel for links and routes of one namespace.
pub(super) struct Routes {
    netlink: Socket,
}

/// An interface that is, or may be, WireGuard's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub index: u32,
    pub name: String,
    /// What it is in: of an interface without Ethernet, a VRF.
    pub vrf: Option<u32>,
    /// The kernel's own; else a TUN device, which may be anything.
    pub in_kernel: bool,
}

/// What decides the route of a socket's packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender {
    pub transport: Transport,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub uid: Option<u32>,
    pub mark: u32,
    /// The interface that it is bound to; 0: none.
    pub device: u32,
}

/// Where packets to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Index of the interface.
    pub output: u32,
    /// The address that they get, where the socket has chosen none.
    pub source: Option<IpAddr>,
}

impl Routes {
    pub fn enter(namespace: &Netns) -> io::Result<Routes> {
        Ok(Routes { netlink: netlink_socket(namespace, NETLINK_ROUTE)? })
    }

    /// What the kernel calls this namespace; `None`: it does not say (before 5.14).
    pub fn netns_cookie(&self) -> Option<u64> {
        monitor_sys::netns_cookie_of(&self.netlink).ok()
    }

    /// Interfaces that are up and may be WireGuard's.
    pub fn candidates(&self) -> io::Result<Vec<Candidate>> {
        let mut found = Vec::new();
        ask(&self.netlink, RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP, |answer| {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                found.extend(candidate(&link));
            }
        })?;
        Ok(found)
    }

    /// Whether this namespace has an address: packets to it stay there, or an interface bears it (in a VRF there is no route to
    /// it from outside of that).
    pub fn has(&self, address: IpAddr) -> io::Result<bool> {
        let mut request = RouteMessage::default();
        (request.header.address_family, request.header.destination_prefix_length) = family(address);
        request.attributes = vec![RouteAttribute::Destination(RouteAddress::from(address))];
        let mut is_there = false;
        // Where there is no route at all, that is an error.
        let _ = ask(&self.netlink, RouteNetlinkMessage::GetRoute(request), 0, |answer| {
            is_there |= matches!(answer, RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Local);
        });
        if is_there {
            return Ok(true);
        }
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        ask(&self.netlink, question, NLM_F_DUMP, |answer| {
            if let RouteNetlinkMessage::NewAddress(of) = answer {
                is_there |= of.attributes.iter().any(|attribute| match attribute {
                    AddressAttribute::Local(it) => *it == address,
                    // Of a link to one other, that is the other's.
                    AddressAttribute::Address(it) => *it == address && address.is_ipv6(),
                    _ => false,
                });
            }
        })?;
        Ok(is_there)
    }

    /// The route of packets; `None`: they stay on this host, or there is none.
    pub fn to(&self, sender: &Sender) -> io::Result<Option<Route>> {
        let (local, remote) = (sender.local.ip(), sender.remote.ip());
        let mut request = RouteMessage::default();
        let (family, length) = family(remote);
        request.header.address_family = family;
        request.header.destination_prefix_length = length;
        request.attributes = vec![
            RouteAttribute::Destination(RouteAddress::from(remote)),
            RouteAttribute::Mark(sender.mark),
            RouteAttribute::IpProto(if sender.transport == Transport::Tcp { 6 } else { 17 }),
            RouteAttribute::Dport(sender.remote.port()),
        ];
        // Zero is no port to the kernel, and refused.
        if sender.local.port() != 0 {
            request.attributes.push(RouteAttribute::Sport(sender.local.port()));
        }
        if let Some(uid) = sender.uid {
            request.attributes.push(RouteAttribute::Uid(uid));
        }
        if !local.is_unspecified() && local.is_ipv4() == remote.is_ipv4() {
            request.header.source_prefix_length = length;
            request.attributes.push(RouteAttribute::Source(RouteAddress::from(local)));
        }
        if sender.device != 0 {
            request.attributes.push(RouteAttribute::Oif(sender.device));
        }
        let mut found = None;
        ask(&self.netlink, RouteNetlinkMessage::GetRoute(request), 0, |answer| {
            if let RouteNetlinkMessage::NewRoute(route) = answer {
                found = found.or(chosen(&route));
            }
        })?;
        Ok(found)
    }
}

/// With the length of an address.
fn family(address: IpAddr) -> (AddressFamily, u8) {
    match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    }
}

fn candidate(link: &LinkMessage) -> Option<Candidate> {
    let kind = link.attributes.iter().find_map(|attribute| {
        let LinkAttribute::LinkInfo(infos) = attribute else { return None };
        infos.iter().find_map(|info| if let LinkInfo::Kind(kind) = info { Some(kind) } else { None })
    });
    let in_kernel = match kind {
        Some(InfoKind::Wireguard) => true,
        Some(InfoKind::Tun) => false,
        _ => return None,
    };
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let vrf = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    });
    let up = link.header.flags.contains(LinkFlags::Up);
    up.then_some(Candidate { index: link.header.index, name, vrf, in_kernel })
}

fn chosen(route: &RouteMessage) -> Option<Route> {
    let output = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })?;
    let source = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::PrefSource(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    (route.header.kind == RouteType::Unicast).then_some(Route { output, source })
}

/// One question, and each message of the answer.
pub(super) fn ask<M>(netlink: &Socket, question: M, flags: u16, mut each: impl FnMut(M)) -> io::Result<()>
where
    M: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<M>>,
{
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, question.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    netlink.send(&bytes, 0)?;
    let mut answer = Vec::with_capacity(ANSWER);
    loop {
        answer.clear();
        netlink.recv(&mut answer, 0)?;
        let mut rest = &answer[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<M>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => each(inner),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(refusal(&error)),
                NetlinkPayload::Done(_) => return Ok(()),
                _ => {}
            }
            // Messages start at multiples of four (`NLMSG_ALIGN`).
            let length = (message.header.length as usize).max(16).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
        if flags & NLM_F_DUMP == 0 {
            return Ok(());
        }
    }
}
