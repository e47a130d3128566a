//! Segments: first bytes until the flow is settled, then nothing but one progress event a tick.

use aya_ebpf::bindings::{__sk_buff, bpf_tcp_sock};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns, bpf_tcp_sock as tcp_sock_of};
use monitor_common::{Kind, capture_flag, flow_flag};

use crate::capture::{self, Piece};
use crate::maps::{settings, tick};
use crate::packet::{self, Packet};
use crate::socket::{Sequence, Side, SocketState, TCP};
use crate::{counters, decision, emit, settled};

const FIN: u8 = 1;
const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

// include/net/tcp_states.h
const SYN_SENT: u32 = 2;
pub const LISTEN: u32 = 10;

/// Whether a segment of a settled flow is of no interest: no end of the flow, and no tick.
///
/// # Safety
/// `state` is a storage value.
#[inline(always)]
pub unsafe fn is_settled(skb: *mut __sk_buff, state: *mut SocketState, sent: bool) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        *SocketState::limit(state, sent) == 0
            && flags(skb) & (FIN | SYN) == 0
            && bpf_jiffies64() < (*state).due
    }
}

/// The flag byte by direct access; `FIN | SYN` where that cannot be had, so that nothing is missed.
#[inline(always)]
unsafe fn flags(skb: *mut __sk_buff) -> u8 {
    // SAFETY: bounds are checked as the verifier wants them.
    unsafe {
        let data = (*skb).data as usize;
        let end = (*skb).data_end as usize;
        if data + 40 > end {
            return FIN | SYN;
        }
        let first = *(data as *const u8);
        let offset = if first >> 4 == 4 {
            usize::from(first & 0xf) * 4
        } else if *((data + 6) as *const u8) == TCP as u8 {
            40
        } else {
            return FIN | SYN;
        };
        let header = data + offset;
        if header + 20 > end {
            return FIN | SYN;
        }
        *((header + 13) as *const u8)
    }
}

/// The fields of a TCP header that matter here, host byte order.
pub struct Segment {
    /// Of its first payload byte: data in a SYN begins one after its number.
    pub sequence: u32,
    pub flags: u8,
    payload_at: u32,
    payload: u32,
    pub source_port: u16,
    pub destination_port: u16,
}

/// `header` of a plain packet is 60 at most, and of any other the bytes are asked of the kernel.
#[inline(always)]
pub fn segment(skb: *mut __sk_buff, packet: &Packet) -> Option<Segment> {
    let (ports, sequence, bits): ([u16; 2], u32, [u8; 2]) =
        match packet::look::<Header>(skb, packet.header & 63) {
            Some(header) if packet.header < 64 => (header.ports, header.sequence, header.bits),
            _ => (
                packet::load(skb, packet.header)?,
                packet::load(skb, packet.header + 4)?,
                packet::load(skb, packet.header + 12)?,
            ),
        };
    let payload_at = packet.header + u32::from(bits[0] >> 4) * 4;
    Some(Segment {
        sequence: u32::from_be(sequence).wrapping_add(u32::from(bits[1] & SYN != 0)),
        flags: bits[1],
        payload_at,
        payload: counters::packet_len(skb).saturating_sub(payload_at),
        source_port: u16::from_be(ports[0]),
        destination_port: u16::from_be(ports[1]),
    })
}

/// The first bytes of a TCP header, as they lie on the wire (RFC 9293, 3.1).
#[derive(Clone, Copy)]
#[repr(C)]
struct Header {
    ports: [u16; 2],
    sequence: u32,
    acknowledgement: u32,
    bits: [u8; 2],
}

/// A segment that may matter.
#[inline(never)]
pub fn packet<const SENT: bool>(skb: *mut __sk_buff, state: *mut SocketState) -> i32 {
    let sent = SENT;
    if skb.is_null() || state.is_null() {
        return 0;
    }
    let Some(packet) = packet::parse(skb).filter(|packet| packet.transport == TCP) else {
        return unread(skb, state, sent);
    };
    let Some(segment) = segment(skb, &packet) else { return unread(skb, state, sent) };
    // SAFETY: context fields, null is checked; the caller's storage.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return 0;
        }
        let now = bpf_jiffies64();
        let ticked = now >= (*state).due;
        let midstream = (*state).flags & u32::from(flow_flag::MIDSTREAM) != 0;
        // An acknowledgement and nothing else, on a connection that tells its end by itself.
        if segment.payload == 0 && segment.flags & (FIN | SYN) == 0 && !ticked && !midstream {
            return 0;
        }
        if (*sk).state == LISTEN {
            if ticked {
                (*state).due = now + tick();
                (*state).listener_captures = 0;
                (*state).lost_captures = 0;
            }
            if !sent && segment.payload > 0 {
                before_accept(skb, state, &packet, &segment);
            }
            return 0;
        }
        // Accepted on another processor this very moment: its storage is still the listener's.
        if (*state).flags & SocketState::LISTENING != 0 {
            if !sent && segment.payload > 0 {
                capture::miss(state, segment.payload);
            }
            return 0;
        }
        let tcp = tcp_sock_of(sk);
        if tcp.is_null() {
            return 0;
        }
        let side = if sent { &raw mut (*state).sent } else { &raw mut (*state).received };
        let limit = SocketState::limit(state, sent);
        note_ends(side, tcp, &segment, sent);
        if midstream && (*state).asked & SocketState::RELEASED != 0 {
            // Nobody calls back for a socket from before: its last packets tell its end.
            totals(Kind::Close, state, tcp, &packet, &segment, sent);
            return 0;
        }
        // The end has been told, and a last acknowledgement or reset goes out.
        if !midstream && (*state).flags & SocketState::LIVE == 0 {
            return 0;
        }
        if ticked {
            (*state).due = now + tick();
            totals(Kind::Progress, state, tcp, &packet, &segment, sent);
        }
        if (ticked || (*limit != 0 && may_be_decided(state)))
            && let Some(wanted) = decision::take((*state).cookie)
        {
            decision::apply(state, wanted);
            settled::leave(sk);
        }
        if segment.payload == 0 || *limit == 0 {
            return 0;
        }
        if !sent && (*sk).state == SYN_SENT {
            // The kernel takes no data before the answer to our SYN: whoever sends some may hide what follows.
            if segment.flags & SYN == 0 {
                capture::miss(state, segment.payload);
            }
            return 0;
        }
        if (*side).first_ns == 0 {
            (*side).first_ns = bpf_ktime_get_ns();
        }
        if (*side).only_first != 0 {
            (*side).only_first = 0;
            *limit = 0;
            return 0;
        }
        first_bytes(skb, state, tcp, &packet, &segment, sent);
    }
    0
}

/// A segment whose header is not found: it may hold first bytes, which then nobody sees.
#[inline(always)]
fn unread(skb: *mut __sk_buff, state: *mut SocketState, sent: bool) -> i32 {
    // SAFETY: the caller's storage.
    unsafe {
        if *SocketState::limit(state, sent) != 0 {
            capture::miss(state, counters::packet_len(skb));
        }
    }
    0
}

/// User space decides by what it has seen: while nothing was captured it has decided nothing.
#[inline(always)]
unsafe fn may_be_decided(state: *mut SocketState) -> bool {
    // SAFETY: the caller's storage.
    unsafe { (*state).sent.spent | (*state).received.spent | (*state).generation != 0 }
}

/// Our SYN gives offset 0, FIN the end. The peer's SYN is believed when the kernel does (`lifecycle`): it may
/// acknowledge what was never sent, and is thrown away then.
#[inline(always)]
unsafe fn note_ends(side: *mut Side, tcp: *mut bpf_tcp_sock, segment: &Segment, sent: bool) {
    // SAFETY: a side of a storage value, and the socket's TCP view.
    unsafe {
        if sent && segment.flags & SYN != 0 {
            (*side).starts_at(segment.sequence);
        }
        if segment.flags & FIN != 0 {
            let taken = !sent && (*side).fin_end.is((*tcp).rcv_nxt);
            if !taken {
                (*side).fin_end =
                    Sequence::at(segment.sequence.wrapping_add(segment.payload).wrapping_add(1));
            }
        }
    }
}

/// Data that comes with the last packet of the handshake: the kernel knows only the listener yet.
#[inline(always)]
unsafe fn before_accept(skb: *mut __sk_buff, state: *mut SocketState, packet: &Packet, segment: &Segment) {
    let settings = settings();
    // SAFETY: the caller's storage.
    unsafe {
        let wanted = segment.payload.min(settings.tcp_budget);
        if (*state).listener_captures >= settings.listener_captures {
            capture::miss(state, wanted);
            return;
        }
        (*state).listener_captures += 1;
        capture::send(
            skb,
            state,
            Piece {
                transport: TCP,
                flags: capture_flag::LISTENER,
                offset: segment.sequence,
                payload: segment.payload,
                at: segment.payload_at,
                wanted,
                local: packet.destination,
                remote: packet.source,
                local_port: segment.destination_port,
                remote_port: segment.source_port,
                generation: 0,
            },
        );
    }
}

/// The first segment of a direction begins with a ServerHello of TLS 1.2 or earlier: what follows are
/// certificates. They may be sent at once, so this cannot wait for a decision of user space.
#[inline(always)]
fn shows_certificates(skb: *mut __sk_buff, segment: &Segment) -> bool {
    const HANDSHAKE: u8 = 22;
    const SERVER_HELLO: u8 = 2;
    // The suites of TLS 1.3 (RFC 8446 appendix B.4).
    const HIDES_CERTIFICATES: u8 = 0x13;
    // Record header, message header, version, random, session id, and the suite behind it.
    const SESSION_ID: u32 = 5 + 4 + 2 + 32;
    let Some(head) = packet::load::<[u8; 6]>(skb, segment.payload_at) else { return false };
    if head[0] != HANDSHAKE || head[1] != 3 || head[5] != SERVER_HELLO {
        return false;
    }
    let at = segment.payload_at + SESSION_ID;
    let Some(length) = packet::load::<u8>(skb, at) else { return false };
    let suite = packet::load::<u8>(skb, at + 1 + u32::from(length & 0x3f));
    suite.is_some_and(|first| first != HIDES_CERTIFICATES)
}

/// As long as the direction is captured at all.
#[inline(always)]
unsafe fn grow(state: *mut SocketState, sent: bool) {
    // SAFETY: the caller names a storage value.
    unsafe {
        let budget = settings().handshake_budget;
        let only_first = if sent { (*state).sent.only_first } else { (*state).received.only_first };
        let limit = SocketState::limit(state, sent);
        if *limit != 0 && only_first == 0 && *limit < budget {
            *limit = budget;
        }
    }
}

/// Captures what the budget leaves of this segment, at its place in the stream.
#[inline(always)]
unsafe fn first_bytes(
    skb: *mut __sk_buff,
    state: *mut SocketState,
    tcp: *mut bpf_tcp_sock,
    packet: &Packet,
    segment: &Segment,
    sent: bool,
) {
    // SAFETY: the caller's storage and TCP view.
    unsafe {
        let side = if sent { &raw mut (*state).sent } else { &raw mut (*state).received };
        if !(*side).base.is_known() {
            // In mid-stream: what is expected next is offset 0.
            (*side).base = Sequence::at(if sent { segment.sequence } else { (*tcp).rcv_nxt });
        }
        let base = (*side).base.number();
        if segment.sequence == base && shows_certificates(skb, segment) {
            grow(state, true);
            grow(state, false);
        }
        let budget = SocketState::limit(state, sent);
        let limit = *budget;
        let mut offset = segment.sequence.wrapping_sub(base);
        let mut skip = 0;
        if (offset as i32) < 0 {
            // A retransmission from before offset 0 that reaches past it, or an old one.
            skip = 0u32.wrapping_sub(offset);
            if skip >= segment.payload {
                return;
            }
            offset = 0;
        }
        let end = offset.wrapping_add(segment.payload - skip);
        if sent {
            let done = (*side).spent;
            if end <= done {
                return;
            }
            if offset < done {
                skip += done - offset;
                offset = done;
            }
        } else {
            let next = (*tcp).rcv_nxt.wrapping_sub(base);
            // All of it was taken already.
            if (end.wrapping_sub(next) as i32) <= 0 {
                return;
            }
            // Behind the budget, and everything within it has come: the direction is settled.
            if (next as i32) >= 0 && next >= limit {
                *budget = 0;
                return;
            }
            // Taken already, so thrown away now: it may be other content.
            if (next.wrapping_sub(offset) as i32) > 0 {
                skip += next - offset;
                offset = next;
            }
            // Segments out of order can come again and again.
            if (*side).spent >= limit.saturating_mul(4) {
                capture::miss(state, segment.payload);
                *budget = 0;
                return;
            }
        }
        if offset >= limit {
            if sent {
                *budget = 0;
            }
            return;
        }
        let length = (segment.payload - skip).min(limit - offset);
        let (local, remote, local_port, remote_port, direction) = if sent {
            (
                packet.source,
                packet.destination,
                segment.source_port,
                segment.destination_port,
                capture_flag::SENT,
            )
        } else {
            (packet.destination, packet.source, segment.destination_port, segment.source_port, 0)
        };
        let midstream = if (*state).flags & u32::from(flow_flag::MIDSTREAM) != 0 || (*state).generation != 0 {
            capture_flag::MIDSTREAM
        } else {
            0
        };
        let active =
            if (*state).flags & u32::from(flow_flag::ACTIVE) != 0 { capture_flag::ACTIVE } else { 0 };
        if sent {
            (*side).spent = offset + length;
        } else {
            (*side).spent += length;
        }
        capture::send(
            skb,
            state,
            Piece {
                transport: TCP,
                flags: direction | midstream | active,
                offset,
                payload: segment.payload - skip,
                at: segment.payload_at + skip,
                wanted: length,
                local,
                remote,
                local_port,
                remote_port,
                generation: (*state).generation,
            },
        );
    }
}

/// Totals so far, from the kernel's own counters.
#[inline(always)]
unsafe fn totals(
    kind: Kind,
    state: *mut SocketState,
    tcp: *mut bpf_tcp_sock,
    packet: &Packet,
    segment: &Segment,
    sent: bool,
) {
    // SAFETY: the caller's storage and TCP view.
    unsafe {
        emit::flow(kind, (*state).owner.cgroup, None, |event| {
            emit::copy_state(event, state);
            let (local, remote, local_port, remote_port) = if sent {
                (packet.source, packet.destination, segment.source_port, segment.destination_port)
            } else {
                (packet.destination, packet.source, segment.destination_port, segment.source_port)
            };
            emit::write_address(&raw mut (*event).local, local);
            emit::write_address(&raw mut (*event).remote, remote);
            (*event).local_port = local_port;
            (*event).remote_port = remote_port;
            (*event).detail = SocketState::first_of_client(state);
            let active = (*state).flags & u32::from(flow_flag::ACTIVE) != 0;
            let acked = (*tcp).bytes_acked.saturating_sub(u64::from(active));
            (*event).sent_bytes = (*state).sent.payload_up_to((*tcp).snd_una, acked);
            (*event).received_bytes = (*state).received.payload_up_to((*tcp).rcv_nxt, (*tcp).bytes_received);
            (*event).sent_packets = u64::from((*tcp).segs_out);
            (*event).received_packets = u64::from((*tcp).segs_in);
            (*event).rtt_us = (*tcp).srtt_us >> 3;
            (*event).retransmits = (*tcp).total_retrans;
        });
    }
}
