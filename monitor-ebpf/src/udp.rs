//! Datagrams: one flow a peer of a socket, counted here because the kernel does not.

use core::arch::asm;
use core::mem::offset_of;

use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use monitor_common::{CAPTURE_SIZES, Kind, UdpFlow, UdpKey, capture_flag, decision, flow_flag, totals};

use crate::capture::{self, Piece};
use crate::counters::{self, add, packet_len};
use crate::maps::{UDP_FLOWS, decision_key, settings, tick};
use crate::packet::{self, Packet};
use crate::socket::{SocketState, UDP};
use crate::{decision as decisions, emit};

/// A datagram whose header is not found belongs to no flow. Its own headers are counted with it.
#[inline(always)]
fn unread(skb: *mut __sk_buff) -> i32 {
    counters::udp_untracked(u64::from(packet_len(skb)));
    0
}

/// One datagram.
#[inline(never)]
pub fn packet<const SENT: bool>(skb: *mut __sk_buff, state: *mut SocketState) -> i32 {
    let sent = SENT;
    if skb.is_null() || state.is_null() {
        return 0;
    }
    let Some(packet) = packet::parse(skb).filter(|packet| packet.transport == UDP) else {
        return unread(skb);
    };
    let ports = match packet::look::<[u16; 2]>(skb, packet.header & 63) {
        Some(ports) if packet.header < 64 => ports,
        _ => match packet::load(skb, packet.header) {
            Some(ports) => ports,
            None => return unread(skb),
        },
    };
    let payload = packet_len(skb).saturating_sub(packet.header + 8);
    let (local_port, remote_port) = if sent { (ports[0], ports[1]) } else { (ports[1], ports[0]) };
    let (local_port, remote_port) = (u16::from_be(local_port), u16::from_be(remote_port));
    let (local, remote) =
        if sent { (packet.source, packet.destination) } else { (packet.destination, packet.source) };
    // SAFETY: the caller's storage, and context fields.
    unsafe {
        let (remote, remote_port) = if SENT {
            connected_to(skb, state).unwrap_or((remote, remote_port))
        } else {
            (remote, remote_port)
        };
        // Several that the kernel handles as one (UDP_SEGMENT, UDP_GRO), without the headers between them.
        let datagrams = u64::from((*skb).gso_segs.max(1));
        if sent {
            counters::total::<{ totals::UDP_SENT }>(u64::from(payload));
        } else {
            counters::total::<{ totals::UDP_RECEIVED }>(u64::from(payload));
        }
        let mut key =
            UdpKey { cookie: (*state).cookie, remote: [0; 16], remote_port, local_port, reserved: 0 };
        emit::write_address(&raw mut key.remote, remote);
        let device = (*skb).ifindex;
        let mut fresh = false;
        let flow = match UDP_FLOWS.get_ptr_mut(key) {
            Some(flow) => flow,
            None => {
                let Some(flow) = begin(state, key, local, sent, device) else {
                    counters::udp_untracked(u64::from(payload));
                    return 0;
                };
                fresh = true;
                flow
            }
        };
        if sent {
            add(&raw mut (*flow).sent_packets, datagrams);
            add(&raw mut (*flow).sent_bytes, u64::from(payload));
        } else {
            add(&raw mut (*flow).received_packets, datagrams);
            add(&raw mut (*flow).received_bytes, u64::from(payload));
        }
        let known = if sent { &raw mut (*flow).sent_device } else { &raw mut (*flow).received_device };
        let now = bpf_jiffies64();
        // That there is another interface is told at once.
        let other = packet::note_device(known, device);
        let ticked = now.wrapping_sub((*flow).last_tick) | 0_u64.wrapping_sub(other) >= tick();
        let budget = if sent { (*flow).sent_budget } else { (*flow).received_budget };
        if !fresh && !ticked && budget == 0 {
            return 0;
        }
        if fresh || ticked {
            (*flow).last_tick = now;
            tell(if fresh { Kind::Open } else { Kind::Progress }, state, flow, key);
        }
        // Of a flow that nobody has been told of nothing can have been decided.
        if !fresh && let Some(wanted) = decisions::take(decision_key(&key)) {
            apply(flow, wanted);
        }
        let budget = if sent { (*flow).sent_budget } else { (*flow).received_budget };
        if budget > 0 && payload > 0 {
            first_bytes(skb, state, flow, &packet, payload, (local, remote, local_port, remote_port), sent);
        }
    }
    0
}

/// One load at a fixed offset: the compiler would make a pointer to several of them, which no verifier allows.
macro_rules! load {
    ($width:ident, $from:expr, $offset:expr) => {{
        let value: u64;
        asm!(
            concat!("{v} = *(", stringify!($width), " *)({p} + {o})"),
            v = out(reg) value,
            p = in(reg) $from,
            o = const $offset,
        );
        value as $width
    }};
}

/// The peer that the socket is connected to, where what it sends goes nowhere else. Behind address translation on
/// this host a packet on its way out bears the translated address already; an answer bears the peer's again.
#[inline(always)]
unsafe fn connected_to(skb: *mut __sk_buff, state: *mut SocketState) -> Option<([u32; 4], u16)> {
    const ESTABLISHED: u32 = 1;
    const AF_INET: u32 = 2;
    // SAFETY: the caller's storage; null is checked; fields that this program type may read, each by itself.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() || (*state).asked & SocketState::ADDRESSED != 0 || (*sk).state != ESTABLISHED {
            return None;
        }
        let port = u16::from_be(load!(u16, sk, offset_of!(bpf_sock, dst_port)));
        let address = if (*sk).family == AF_INET {
            emit::mapped(load!(u32, sk, offset_of!(bpf_sock, dst_ip4)))
        } else {
            const AT: usize = offset_of!(bpf_sock, dst_ip6);
            [load!(u32, sk, AT), load!(u32, sk, AT + 4), load!(u32, sk, AT + 8), load!(u32, sk, AT + 12)]
        };
        Some((address, port))
    }
}

/// Makes an entry for a new peer.
#[inline(always)]
unsafe fn begin(
    state: *mut SocketState,
    key: UdpKey,
    local: [u32; 4],
    sent: bool,
    device: u32,
) -> Option<*mut UdpFlow> {
    let budget = settings().udp_budget;
    // SAFETY: the caller's storage.
    unsafe {
        let mut flow = UdpFlow {
            sent_packets: 0,
            sent_bytes: 0,
            received_packets: 0,
            received_bytes: 0,
            opened_ns: bpf_ktime_get_ns(),
            last_tick: 0,
            sent_budget: budget,
            received_budget: budget,
            lost_captures: 0,
            generation: 0,
            flags: (*state).flags & u32::from(flow_flag::MIDSTREAM),
            sent_device: if sent { device } else { 0 },
            received_device: if sent { 0 } else { device },
            reserved: 0,
            local: [0; 16],
        };
        if sent {
            flow.flags |= u32::from(flow_flag::ACTIVE);
        }
        emit::write_address(&raw mut flow.local, local);
        // Another processor may have made it meanwhile; then that one counts.
        let _ = UDP_FLOWS.insert(key, flow, u64::from(BPF_NOEXIST));
        let made = UDP_FLOWS.get_ptr_mut(key)?;
        (*state).udp_peers += 1;
        if (*state).udp_peers == 1 {
            (*state).udp_remote = words(&key.remote);
            (*state).udp_ports = u32::from(key.remote_port) << 16 | u32::from(key.local_port);
        }
        Some(made)
    }
}

#[inline(always)]
fn words(bytes: &[u8; 16]) -> [u32; 4] {
    let from: *const u32 = bytes.as_ptr().cast();
    // SAFETY: 16 bytes, aligned to 8 within the key.
    unsafe { [from.read(), from.add(1).read(), from.add(2).read(), from.add(3).read()] }
}

#[inline(always)]
unsafe fn apply(flow: *mut UdpFlow, wanted: monitor_common::Decision) {
    // SAFETY: the caller's map value.
    unsafe {
        (*flow).generation = wanted.generation;
        if wanted.action == decision::SETTLE {
            (*flow).sent_budget = 0;
            (*flow).received_budget = 0;
        } else {
            (*flow).sent_budget = wanted.sent_limit;
            (*flow).received_budget = wanted.received_limit;
        }
    }
}

#[inline(always)]
unsafe fn first_bytes(
    skb: *mut __sk_buff,
    state: *mut SocketState,
    flow: *mut UdpFlow,
    packet: &Packet,
    payload: u32,
    (local, remote, local_port, remote_port): ([u32; 4], [u32; 4], u16, u16),
    sent: bool,
) {
    // SAFETY: the caller's storage and map value.
    unsafe {
        let budget = if sent { (*flow).sent_budget } else { (*flow).received_budget };
        let wanted = payload.min(budget).min(CAPTURE_SIZES[3] as u32);
        // An empty or tiny datagram uses up a little too, so that a flow of them ends.
        let cost = wanted.max(32).min(budget);
        let number = if sent {
            (*flow).sent_budget = budget - cost;
            (*flow).sent_packets
        } else {
            (*flow).received_budget = budget - cost;
            (*flow).received_packets
        };
        capture::send(
            skb,
            state,
            Piece {
                transport: UDP,
                flags: if sent { capture_flag::SENT } else { 0 }
                    | ((*flow).flags as u16 & flow_flag::MIDSTREAM) << 1
                    | ((*flow).flags as u16 & flow_flag::ACTIVE) << 3,
                offset: (number as u32).wrapping_sub(1),
                payload,
                at: packet.header + 8,
                wanted,
                local,
                remote,
                local_port,
                remote_port,
                generation: (*flow).generation,
            },
        );
    }
}

/// An event with the totals of one peer.
#[inline(always)]
unsafe fn tell(kind: Kind, state: *mut SocketState, flow: *mut UdpFlow, key: UdpKey) {
    // SAFETY: the caller's storage and map value.
    unsafe {
        let rescue = if kind as u8 == Kind::SocketClosed as u8 { Some(key.cookie) } else { None };
        emit::flow(kind, (*state).owner.cgroup, rescue, |event| {
            emit::copy_state(event, state);
            (*event).flags = (*flow).flags as u16;
            (*event).detail = u32::from(kind as u8 == Kind::SocketClosed as u8);
            (*event).sent_device = (*flow).sent_device;
            (*event).received_device = (*flow).received_device;
            (*event).opened_ns = (*flow).opened_ns;
            (*event).sent_bytes = (*flow).sent_bytes;
            (*event).sent_packets = (*flow).sent_packets;
            (*event).received_bytes = (*flow).received_bytes;
            (*event).received_packets = (*flow).received_packets;
            (*event).local_port = key.local_port;
            (*event).remote_port = key.remote_port;
            emit::write_address(&raw mut (*event).local, words(&(*flow).local));
            emit::write_address(&raw mut (*event).remote, words(&key.remote));
        });
    }
}

/// The socket closed. With one peer, that flow's end is told here; with several, the daemon reads
/// each from the table.
#[inline(always)]
pub unsafe fn socket_closed(state: *mut SocketState) {
    // SAFETY: the caller's storage.
    unsafe {
        let peers = (*state).udp_peers;
        if peers == 0 {
            return;
        }
        if peers == 1 {
            let ports = (*state).udp_ports;
            let mut key = UdpKey {
                cookie: (*state).cookie,
                remote: [0; 16],
                remote_port: (ports >> 16) as u16,
                local_port: ports as u16,
                reserved: 0,
            };
            emit::write_address(&raw mut key.remote, (*state).udp_remote);
            if let Some(flow) = UDP_FLOWS.get_ptr_mut(key) {
                tell(Kind::SocketClosed, state, flow, key);
                let _ = UDP_FLOWS.remove(key);
                decisions::forget(decision_key(&key));
            }
            return;
        }
        emit::flow(Kind::SocketClosed, (*state).owner.cgroup, Some((*state).cookie), |event| {
            emit::copy_state(event, state);
        });
    }
}
