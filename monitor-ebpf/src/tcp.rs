//! Segments: first bytes until the flow is settled, then nothing but one progress event a tick.

use aya_ebpf::bindings::{__sk_buff, bpf_sock, bpf_tcp_sock};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns, bpf_tcp_sock as tcp_sock_of};
use monitor_common::{Kind, capture_flag, flow_flag};

use crate::capture::{self, Piece};
use crate::maps::settings;
use crate::packet::{self, Packet};
use crate::socket::{Sequence, Side, SocketState, TCP};
use crate::{decision, emit};

const FIN: u8 = 1;
const SYN: u8 = 2;

const TCP_LISTEN: u32 = 10;

/// One segment. A settled flow leaves after a look at the flags and a comparison of jiffies.
#[inline(always)]
pub unsafe fn packet(skb: *mut __sk_buff, sk: *mut bpf_sock, state: *mut SocketState, sent: bool) {
    // SAFETY (all of it): the caller's full socket and its storage.
    unsafe {
        let limit = if sent { (*state).sent.limit } else { (*state).received.limit };
        if limit == 0
            && flags(skb) & (FIN | SYN) == 0
            && bpf_jiffies64().wrapping_sub((*state).last_tick) < settings().tick
        {
            return;
        }
        slow(skb, sk, state, sent);
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
struct Segment {
    sequence: u32,
    flags: u8,
    payload_at: u32,
    payload: u32,
    source_port: u16,
    destination_port: u16,
}

#[inline(always)]
fn segment(skb: *mut __sk_buff, packet: &Packet) -> Option<Segment> {
    let ports: [u16; 2] = packet::load(skb, packet.header)?;
    let sequence: u32 = packet::load(skb, packet.header + 4)?;
    let bits: [u8; 2] = packet::load(skb, packet.header + 12)?;
    let payload_at = packet.header + u32::from(bits[0] >> 4) * 4;
    Some(Segment {
        sequence: u32::from_be(sequence),
        flags: bits[1],
        payload_at,
        payload: crate::counters::packet_len(skb).saturating_sub(payload_at),
        source_port: u16::from_be(ports[0]),
        destination_port: u16::from_be(ports[1]),
    })
}

#[inline(always)]
unsafe fn slow(skb: *mut __sk_buff, sk: *mut bpf_sock, state: *mut SocketState, sent: bool) {
    let Some(packet) = packet::parse(skb) else { return };
    if packet.transport != TCP {
        return;
    }
    let Some(segment) = segment(skb, &packet) else { return };
    // SAFETY: the caller's full socket and its storage.
    unsafe {
        let now = bpf_jiffies64();
        let ticked = now.wrapping_sub((*state).last_tick) >= settings().tick;
        if (*sk).state == TCP_LISTEN {
            if ticked {
                (*state).last_tick = now;
                (*state).listener_captures = 0;
            }
            if !sent && segment.payload > 0 {
                before_accept(skb, state, &packet, &segment);
            }
            return;
        }
        let tcp = tcp_sock_of(sk);
        if tcp.is_null() {
            return;
        }
        let side = if sent { &raw mut (*state).sent } else { &raw mut (*state).received };
        note_ends(side, tcp, &segment, sent);
        let midstream = (*state).flags & u32::from(flow_flag::MIDSTREAM) != 0;
        if midstream && (*state).asked & SocketState::RELEASED != 0 {
            // Nobody calls back for a socket from before: its last packets tell its end.
            totals(Kind::Close, state, tcp, &packet, &segment, sent);
            return;
        }
        // The end has been told, and a last acknowledgement or reset goes out.
        if !midstream && (*state).flags & SocketState::LIVE == 0 {
            return;
        }
        if ticked {
            (*state).last_tick = now;
            totals(Kind::Progress, state, tcp, &packet, &segment, sent);
        }
        if ((*side).limit != 0 || ticked)
            && let Some(wanted) = decision::take((*state).cookie)
        {
            decision::apply(state, wanted);
        }
        if segment.payload == 0 || (*side).limit == 0 {
            return;
        }
        if (*side).first_ns == 0 {
            (*side).first_ns = bpf_ktime_get_ns();
        }
        if (*side).only_first != 0 {
            (*side).only_first = 0;
            (*side).limit = 0;
            return;
        }
        first_bytes(skb, state, tcp, &packet, &segment, sent);
    }
}

/// SYN gives offset 0, FIN the end.
#[inline(always)]
unsafe fn note_ends(side: *mut Side, tcp: *mut bpf_tcp_sock, segment: &Segment, sent: bool) {
    // SAFETY: a side of a storage value, and the socket's TCP view.
    unsafe {
        if segment.flags & SYN != 0 && !(*side).base.is_known() {
            (*side).base = Sequence::at(segment.sequence.wrapping_add(1));
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
        if (*state).listener_captures >= settings.listener_captures {
            return;
        }
        (*state).listener_captures += 1;
        let wanted = segment.payload.min(settings.tcp_budget);
        // Data in a SYN begins one after its sequence number.
        let sequence = segment.sequence.wrapping_add(u32::from(segment.flags & SYN != 0));
        capture::send(
            skb,
            state,
            Piece {
                transport: TCP,
                flags: capture_flag::LISTENER,
                offset: sequence,
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
unsafe fn grow(side: *mut Side) {
    // SAFETY: the caller names a side of a storage value.
    unsafe {
        let budget = settings().handshake_budget;
        if (*side).limit != 0 && (*side).only_first == 0 && (*side).limit < budget {
            (*side).limit = budget;
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
            grow(&raw mut (*state).sent);
            grow(&raw mut (*state).received);
        }
        let limit = (*side).limit;
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
                (*side).limit = 0;
                return;
            }
            // Segments out of order can come again and again.
            if (*side).spent >= limit.saturating_mul(4) {
                return;
            }
        }
        if offset >= limit {
            if sent {
                (*side).limit = 0;
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
        emit::flow(kind, None, |event| {
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
            let mut acked = (*tcp).bytes_acked;
            if (*state).flags & u32::from(flow_flag::ACTIVE) != 0 && acked > 0 {
                acked -= 1;
            }
            if (*state).sent.fin_end.is((*tcp).snd_una) && acked > 0 {
                acked -= 1;
            }
            let mut taken = (*tcp).bytes_received;
            if (*state).received.fin_end.is((*tcp).rcv_nxt) && taken > 0 {
                taken -= 1;
            }
            (*event).sent_bytes = acked;
            (*event).received_bytes = taken;
            (*event).sent_packets = u64::from((*tcp).segs_out);
            (*event).received_packets = u64::from((*tcp).segs_in);
            (*event).rtt_us = (*tcp).srtt_us >> 3;
            (*event).retransmits = (*tcp).total_retrans;
        });
    }
}
