//! Connections that this host refuses because nobody listens: no socket takes part, but the kernel answers
//! with a reset, on a socket of its own (net/ipv4/tcp_ipv4.c, `tcp_v4_send_reset`). Over IPv6 that packet
//! belongs to no socket (net/ipv6/tcp_ipv6.c, `tcp_v6_send_response`), and no program sees it.
//!
//! In: packets that leave on a raw socket of protocol TCP. Out: an event for each reset that answers a SYN,
//! at most [`MOST`] a tick and processor, so that a flood of them pushes nothing else out of the ring: the
//! kernel's own count of resets is whole (`OutRsts`).

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use monitor_common::Kind;

use crate::maps::{REFUSALS, tick};
use crate::socket::TCP;
use crate::{emit, packet, tcp};

const SOCK_RAW: u32 = 3;

const MOST: u64 = 64;

/// What was told on one processor.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Told {
    /// Jiffies: when the tick ends.
    until: u64,
    /// In this tick.
    told: u64,
}

/// Whether a socket is one on which the kernel refuses connections (or a process forges packets: that takes
/// CAP_NET_RAW).
#[inline(always)]
pub fn may_refuse(kind: u32, transport: u32) -> bool {
    kind == SOCK_RAW && transport == TCP
}

/// A packet that such a socket sends.
#[inline(never)]
pub fn sent(skb: *mut __sk_buff) -> i32 {
    if skb.is_null() {
        return 0;
    }
    let Some(packet) = packet::parse(skb) else { return 0 };
    if packet.transport != TCP {
        return 0;
    }
    let Some(segment) = tcp::segment(skb, &packet) else { return 0 };
    // What acknowledges anything is answered without an ACK (RFC 9293 section 3.10.7.1): so this one
    // answers a SYN.
    if segment.flags != tcp::RST | tcp::ACK || segment.sequence != 0 {
        return 0;
    }
    let Some(told) = REFUSALS.get_ptr_mut(0) else { return 0 };
    // SAFETY: this processor's value of the map, checked to be there.
    unsafe {
        let now = bpf_jiffies64();
        if now >= (*told).until {
            (*told).until = now + tick();
            (*told).told = 0;
        }
        if (*told).told >= MOST {
            return 0;
        }
        (*told).told += 1;
        emit::flow(Kind::Refused, 0, None, |event| {
            (*event).transport = TCP as u8;
            (*event).local_port = segment.source_port;
            (*event).remote_port = segment.destination_port;
            emit::write_address(&raw mut (*event).local, packet.source);
            emit::write_address(&raw mut (*event).remote, packet.destination);
        });
    }
    0
}
