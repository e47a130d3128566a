//! The sockets of one network namespace, as the kernel lists them (sock_diag(7)).
//!
//! Out: TCP and UDP sockets with their addresses, cookie, inode and the kernel's own TCP counters.
//! v4-mapped addresses are given as IPv4.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use netlink_packet_core::{
    ErrorMessage, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, Nla as Attribute,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::Socket;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::namespaces::{Netns, sock_diag_socket};
use crate::model::Transport;

/// Every state.
const ALL: StateFlags = StateFlags::from_bits_retain(u32::MAX);

/// States in which a socket counts: neither those that listen or are only bound, for which the kernel goes through
/// tables of their own, nor what is left of a closed connection, of which a busy host has a hundred thousand.
const COUNTING: StateFlags = StateFlags::ESTABLISHED
    .union(StateFlags::SYN_SENT)
    .union(StateFlags::SYN_RECV)
    .union(StateFlags::FIN_WAIT1)
    .union(StateFlags::FIN_WAIT2)
    .union(StateFlags::CLOSE)
    .union(StateFlags::CLOSE_WAIT)
    .union(StateFlags::LAST_ACK)
    .union(StateFlags::CLOSING);

/// Room for one answer of the kernel: it never fills more than 32 KiB at a time.
const ANSWER: usize = 64 << 10;

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketSeen {
    pub transport: Transport,
    /// Of the socket: an IPv6 socket may carry IPv4.
    pub ipv6: bool,
    pub local: SocketAddr,
    /// Unspecified and port 0: not connected.
    pub remote: SocketAddr,
    pub state: TcpState,
    /// Unique on the host since boot.
    pub cookie: u64,
    /// Number in `/proc/PID/fd`; 0: no process holds it (closing, or not yet accepted).
    pub inode: u32,
    pub uid: u32,
    /// Interface that it is bound to (`SO_BINDTODEVICE`, or a link-local address); 0: none.
    pub device: u32,
    /// `SO_MARK`; the kernel tells it only to those with CAP_NET_ADMIN.
    pub mark: u32,
    /// Id of its cgroup, v2; 0: the kernel does not say (before 5.7).
    pub cgroup: u64,
    /// `None`: not TCP, listening, or no more than a closed remainder.
    pub tcp: Option<TcpCounts>,
}

/// State of a TCP socket (`include/net/tcp_states.h`). A UDP socket is `Established` when it is
/// connected and `Close` when it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TcpState {
    Established,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    /// One that this program does not know.
    Other(u8),
}

/// Counters of `struct tcp_info` (`include/uapi/linux/tcp.h`). An older kernel leaves out the last
/// ones: those are 0. All are, where they would not be those of the socket's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpCounts {
    /// Bytes that the peer acknowledged, its SYN and FIN included.
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub segments_sent: u32,
    pub segments_received: u32,
    pub data_segments_sent: u32,
    pub data_segments_received: u32,
    pub retransmits: u32,
    /// Smoothed round-trip time.
    pub rtt_us: u32,
}

/// A TCP socket that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketCounts {
    pub cookie: u64,
    pub state: TcpState,
    pub counts: TcpCounts,
}

/// Why a namespace's sockets can't be listed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// It is gone, or the capability to enter it (CAP_SYS_ADMIN) is missing.
    #[error("network namespace {inode} can't be entered: {source}")]
    Enter { inode: u64, source: io::Error },
    /// The kernel refused, or has no `tcp_diag` or `udp_diag`.
    #[error("the sockets of network namespace {inode} can't be listed: {source}")]
    List { inode: u64, source: io::Error },
}

/// All TCP and UDP sockets of a namespace. The calling thread stays in its own.
pub fn sockets(namespace: &Netns) -> Result<Vec<SocketSeen>, SocketError> {
    SocketLister::enter(namespace)?.all()
}

/// Asks the kernel for the sockets of one namespace.
pub struct SocketLister {
    netlink: Socket,
    inode: u64,
}

impl SocketLister {
    pub fn enter(namespace: &Netns) -> Result<SocketLister, SocketError> {
        let inode = namespace.inode;
        let netlink = sock_diag_socket(namespace).map_err(|source| SocketError::Enter { inode, source })?;
        Ok(SocketLister { netlink, inode })
    }

    /// What the kernel calls this namespace; `None`: it does not say.
    pub fn netns_cookie(&self) -> Option<u64> {
        monitor_sys::netns_cookie_of(&self.netlink).ok()
    }

    pub fn all(&self) -> Result<Vec<SocketSeen>, SocketError> {
        let mut found = self.list(Transport::Tcp)?;
        found.extend(self.list(Transport::Udp)?);
        Ok(found)
    }

    pub fn list(&self, transport: Transport) -> Result<Vec<SocketSeen>, SocketError> {
        let mut found = Vec::new();
        self.each(transport, ExtensionFlags::INFO, ALL, |socket| found.push(socket))?;
        Ok(found)
    }

    /// TCP sockets, with counters that are those of the state beside them. The kernel reads the state first and
    /// waits for the socket's lock then (`inet_sk_diag_fill` in net/ipv4/inet_diag.c): a FIN that comes or goes
    /// meanwhile is counted as a byte. So the states are asked for once more, and no state comes back.
    pub fn list_counted(&self) -> Result<Vec<SocketSeen>, SocketError> {
        let mut found = self.list(Transport::Tcp)?;
        if found.iter().any(|socket| socket.tcp.is_some()) {
            believe(&mut found, |each| self.each_later(each))?;
        }
        Ok(found)
    }

    /// Of those that have counters no more than these, by cookie: there may be hundreds of thousands.
    pub fn counts(&self) -> Result<Vec<SocketCounts>, SocketError> {
        let mut found = Vec::new();
        self.each(Transport::Tcp, ExtensionFlags::INFO, COUNTING, |socket| {
            // What is left of a closed connection (TIME-WAIT) bears its cookie, and no counters.
            if let SocketSeen { cookie, state, tcp: Some(counts), .. } = socket {
                found.push(SocketCounts { cookie, state, counts });
            }
        })?;
        // Each question has the kernel go through all connections of the host.
        if !found.is_empty() {
            found.sort_unstable_by_key(|socket| socket.cookie);
            found.dedup_by_key(|socket| socket.cookie);
            believe(&mut found, |each| self.each_later(each))?;
        }
        Ok(found)
    }

    fn each_later(&self, mut each: impl FnMut(u64, TcpState)) -> Result<(), SocketError> {
        self.each(Transport::Tcp, ExtensionFlags::empty(), COUNTING, |socket| {
            each(socket.cookie, socket.state);
        })
    }

    fn each(
        &self,
        transport: Transport,
        extensions: ExtensionFlags,
        states: StateFlags,
        mut each: impl FnMut(SocketSeen),
    ) -> Result<(), SocketError> {
        for id in [SocketId::new_v4(), SocketId::new_v6()] {
            self.ask(transport, id, NLM_F_DUMP, extensions.clone(), states.clone(), &mut each)
                .map_err(|source| SocketError::List { inode: self.inode, source })?;
        }
        Ok(())
    }

    /// One connection, without a walk over all. `cookie` 0: whichever has these addresses.
    pub fn connection(&self, local: SocketAddr, remote: SocketAddr, cookie: u64) -> Option<SocketSeen> {
        match self.one(Transport::Tcp, local, remote, cookie, scope(local)) {
            One::Found(socket) => Some(socket),
            One::Another | One::None | One::Unknown => None,
        }
    }

    /// The socket that packets between these addresses reach, where it has this cookie (0: whichever it is): looked up, as
    /// the kernel does for a packet that comes in through this interface (0: of none bound to one).
    pub fn one(
        &self,
        transport: Transport,
        local: SocketAddr,
        remote: SocketAddr,
        cookie: u64,
        interface: u32,
    ) -> One {
        let local = match local.ip().is_unspecified() && local.is_ipv4() != remote.is_ipv4() {
            true => SocketAddr::new(unspecified(remote), local.port()),
            false => local,
        };
        // "src and dst are swapped for historical reasons" (`udp_dump_one` in net/ipv4/udp_diag.c).
        let (source, destination) = match transport {
            Transport::Tcp => (local, remote),
            Transport::Udp => (remote, local),
        };
        let mut id = SocketId::new_v4();
        id.source_address = source.ip();
        id.source_port = source.port();
        id.destination_address = destination.ip();
        id.destination_port = destination.port();
        // `INET_DIAG_NOCOOKIE`.
        id.cookie = if cookie == 0 { [0xff; 8] } else { cookie_bytes(cookie) };
        id.interface_id = interface;
        let mut found = Vec::new();
        let each = &mut |socket| found.push(socket);
        if let Err(error) = self.ask(transport, id, 0, ExtensionFlags::INFO, ALL, each) {
            return not_found(&error);
        }
        match found.into_iter().find(|socket| cookie == 0 || socket.cookie == cookie) {
            Some(socket) => One::Found(socket),
            None => One::Another,
        }
    }

    /// The sockets at a port: the kernel goes through all there are, and tells those.
    pub fn at_port(&self, transport: Transport, port: u16) -> io::Result<Vec<SocketSeen>> {
        let mut found = Vec::new();
        for mut id in [SocketId::new_v4(), SocketId::new_v6()] {
            id.source_port = port;
            let each = &mut |socket| found.push(socket);
            self.ask(transport, id, NLM_F_DUMP, ExtensionFlags::INFO, COUNTING, each)?;
        }
        Ok(found)
    }

    fn ask(
        &self,
        transport: Transport,
        id: SocketId,
        flags: u16,
        extensions: ExtensionFlags,
        states: StateFlags,
        each: &mut impl FnMut(SocketSeen),
    ) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let request = InetRequest {
            family: if id.source_address.is_ipv4() { AF_INET } else { AF_INET6 },
            protocol: if transport == Transport::Tcp { IPPROTO_TCP } else { IPPROTO_UDP },
            extensions,
            states,
            socket_id: id,
        };
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.netlink.send(&bytes, 0)?;

        let mut answer = Vec::with_capacity(ANSWER);
        loop {
            answer.clear();
            self.netlink.recv(&mut answer, 0)?;
            if read_answer(&answer, transport, each)? == Progress::Done || flags & NLM_F_DUMP == 0 {
                return Ok(());
            }
        }
    }
}

/// What a look-up of one socket found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum One {
    Found(SocketSeen),
    /// Another one gets such packets: one of several at a port.
    Another,
    /// Nobody does.
    None,
    /// The kernel did not say.
    Unknown,
}

fn not_found(error: &io::Error) -> One {
    match error.raw_os_error() {
        Some(number) if number == Errno::STALE.raw_os_error() => One::Another,
        Some(number) if number == Errno::NOENT.raw_os_error() => One::None,
        _ => One::Unknown,
    }
}

/// The interface that a link-local address is one of.
pub(super) fn scope(address: SocketAddr) -> u32 {
    if let SocketAddr::V6(address) = address { address.scope_id() } else { 0 }
}

fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// A socket in a list, which may tell its counters.
trait Listed {
    fn cookie(&self) -> u64;
    fn state(&self) -> TcpState;
    fn forget_counts(&mut self);
}

impl Listed for SocketSeen {
    fn cookie(&self) -> u64 {
        self.cookie
    }

    fn state(&self) -> TcpState {
        self.state
    }

    fn forget_counts(&mut self) {
        self.tcp = self.tcp.map(|_| TcpCounts::default());
    }
}

impl Listed for SocketCounts {
    fn cookie(&self) -> u64 {
        self.cookie
    }

    fn state(&self) -> TcpState {
        self.state
    }

    fn forget_counts(&mut self) {
        self.counts = TcpCounts::default();
    }
}

/// Leaves the counters of those that are in the same state later, as `each_later` gives it with the cookie of each, and
/// all in the order of their cookies.
fn believe<T: Listed, E>(
    found: &mut [T],
    each_later: impl FnOnce(&mut dyn FnMut(u64, TcpState)) -> Result<(), E>,
) -> Result<(), E> {
    found.sort_unstable_by_key(Listed::cookie);
    let mut same = vec![false; found.len()];
    each_later(&mut |cookie, state| {
        let first = found.partition_point(|socket| socket.cookie() < cookie);
        // What is left of a closed connection bears its cookie.
        let alike = found[first..].iter().zip(&mut same[first..]);
        for (socket, same) in alike.take_while(|(socket, _)| socket.cookie() == cookie) {
            *same = socket.state() == state;
        }
    })?;
    for (socket, same) in found.iter_mut().zip(same) {
        if !same {
            socket.forget_counts();
        }
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
pub(super) enum Progress {
    More,
    Done,
}

/// What the kernel refuses, as an error of the system: negative, where it means well. The library's own conversion
/// fails on the least number of all.
pub(super) fn refusal(error: &ErrorMessage) -> io::Error {
    io::Error::from_raw_os_error(error.raw_code().saturating_neg())
}

pub(super) fn read_answer(
    mut bytes: &[u8],
    transport: Transport,
    each: &mut impl FnMut(SocketSeen),
) -> io::Result<Progress> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                socket_seen(&response, transport).into_iter().for_each(&mut *each);
            }
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(refusal(&error)),
            NetlinkPayload::Done(_) => return Ok(Progress::Done),
            _ => {}
        }
        // Messages start at multiples of four (`NLMSG_ALIGN`).
        let length = (message.header.length as usize).max(16).next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(Progress::More)
}

fn socket_seen(response: &InetResponse, transport: Transport) -> Option<SocketSeen> {
    let InetResponse { header, nlas } = response;
    let id = &header.socket_id;
    let address = |ip: IpAddr, port| {
        let ip = ip.to_canonical();
        match ip {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                SocketAddr::V6(SocketAddrV6::new(v6, port, 0, id.interface_id))
            }
            _ => SocketAddr::new(ip, port),
        }
    };
    let tcp = nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(info) if transport == Transport::Tcp => Some(tcp_counts(info)),
        _ => None,
    });
    let state = TcpState::from(header.state);
    let local = address(id.source_address, id.source_port);
    let mut remote = address(id.destination_address, id.destination_port);
    // An IPv6 socket that is bound to an IPv4 address lists its other end as `::`.
    if local.is_ipv4() && remote.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        remote = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), remote.port());
    }
    Some(SocketSeen {
        transport,
        ipv6: header.family == AF_INET6,
        local,
        remote,
        state,
        cookie: cookie(id.cookie),
        inode: header.inode,
        uid: header.uid,
        device: id.interface_id,
        mark: nlas
            .iter()
            .find_map(|nla| if let Nla::Mark(mark) = nla { Some(*mark) } else { None })
            .unwrap_or(0),
        cgroup: nlas.iter().find_map(cgroup_id).unwrap_or(0),
        tcp: tcp.filter(|_| state != TcpState::Listen),
    })
}

/// `INET_DIAG_CGROUP_ID` (`include/uapi/linux/inet_diag.h`), which the library does not know.
fn cgroup_id(nla: &Nla) -> Option<u64> {
    const CGROUP_ID: u16 = 21;
    let Nla::Other(attribute) = nla else { return None };
    if attribute.kind() != CGROUP_ID || attribute.value_len() != 8 {
        return None;
    }
    let mut id = [0; 8];
    attribute.emit_value(&mut id);
    Some(u64::from_ne_bytes(id))
}

/// `idiag_cookie`: two words in host order, the low one first (`net/core/sock_diag.c`).
fn cookie(bytes: [u8; 8]) -> u64 {
    let [a, b, c, d, e, f, g, h] = bytes;
    u64::from(u32::from_ne_bytes([a, b, c, d])) | u64::from(u32::from_ne_bytes([e, f, g, h])) << 32
}

fn cookie_bytes(cookie: u64) -> [u8; 8] {
    let low = (cookie & u64::from(u32::MAX)) as u32;
    let high = (cookie >> 32) as u32;
    let ([a, b, c, d], [e, f, g, h]) = (low.to_ne_bytes(), high.to_ne_bytes());
    [a, b, c, d, e, f, g, h]
}

fn tcp_counts(info: &[u8]) -> TcpCounts {
    let u32_at = |offset: usize| {
        let bytes = info.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_ne_bytes).unwrap_or(0)
    };
    let u64_at = |offset: usize| {
        let bytes = info.get(offset..offset + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_ne_bytes).unwrap_or(0)
    };
    TcpCounts {
        rtt_us: u32_at(68),
        retransmits: u32_at(100),
        bytes_acked: u64_at(120),
        bytes_received: u64_at(128),
        segments_sent: u32_at(136),
        segments_received: u32_at(140),
        data_segments_received: u32_at(152),
        data_segments_sent: u32_at(156),
    }
}

impl From<u8> for TcpState {
    fn from(number: u8) -> TcpState {
        match number {
            1 => TcpState::Established,
            2 => TcpState::SynSent,
            // 12: a request that has no socket yet.
            3 | 12 => TcpState::SynReceived,
            4 => TcpState::FinWait1,
            5 => TcpState::FinWait2,
            6 => TcpState::TimeWait,
            7 => TcpState::Close,
            8 => TcpState::CloseWait,
            9 => TcpState::LastAck,
            10 => TcpState::Listen,
            11 => TcpState::Closing,
            other => TcpState::Other(other),
        }
    }
}

#[cfg(test)]
#[path = "sockets_tests.rs"]
mod tests;
