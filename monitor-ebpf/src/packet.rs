//! Every packet of every socket: to whom it belongs, and where its parts are.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock, bpf_skb_load_bytes};
use aya_ebpf::programs::SkBuffContext;
use monitor_common::{flow_flag, totals};

use crate::socket::{self, TCP, UDP};
use crate::{counters, emit, tcp, udp};

/// Where a packet's parts are, in host byte order where it says so.
#[derive(Clone, Copy)]
pub struct Packet {
    pub transport: u32,
    /// Offset of the TCP or UDP header from the network header.
    pub header: u32,
    pub source: [u32; 4],
    pub destination: [u32; 4],
}

/// One packet on its way out of or into a socket.
#[inline(always)]
pub fn seen(ctx: &SkBuffContext, sent: bool) {
    let skb = ctx.skb.skb;
    // SAFETY: context fields; null is checked; the helper gives a full socket or null.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return;
        }
        let mut state = socket::get(sk.cast());
        if state.is_null() {
            state = adopt(skb, sk);
            if state.is_null() {
                no_storage(skb, sk);
                return;
            }
        }
        let transport = (*state).transport;
        if transport == TCP {
            tcp::packet(skb, sk, state, sent);
        } else if transport == UDP {
            udp::packet(skb, state, sent);
        }
    }
}

/// A socket from before the programs were attached.
#[inline(never)]
fn adopt(skb: *mut __sk_buff, sk: *mut bpf_sock) -> *mut socket::SocketState {
    // SAFETY: fields of a full socket; its storage is checked for null.
    unsafe {
        if skb.is_null() || sk.is_null() {
            return core::ptr::null_mut();
        }
        let transport = (*sk).protocol;
        if !socket::is_followed((*sk).type_, transport) {
            return core::ptr::null_mut();
        }
        let state = socket::get_or_create(sk.cast());
        if state.is_null() {
            return state;
        }
        (*state).transport = transport;
        (*state).cookie = bpf_get_socket_cookie(skb.cast());
        (*state).flags = u32::from(flow_flag::MIDSTREAM);
        socket::arm(state);
        state
    }
}

/// Datagrams of a socket without storage still count; TCP has the kernel's own counters.
#[inline(always)]
unsafe fn no_storage(skb: *mut __sk_buff, sk: *mut bpf_sock) {
    // SAFETY: fields of a full socket.
    if unsafe { (*sk).protocol } != UDP {
        return;
    }
    if let Some(packet) = parse(skb) {
        let payload = counters::packet_len(skb).saturating_sub(packet.header + 8);
        counters::total::<{ totals::UDP_NO_STORAGE }>(u64::from(payload));
    }
}

#[inline(always)]
pub fn load<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes exactly the size of `T`, or fails.
    unsafe {
        if bpf_skb_load_bytes(skb.cast(), offset, value.as_mut_ptr().cast(), size_of::<T>() as u32) != 0 {
            return None;
        }
        Some(value.assume_init())
    }
}

/// Finds the transport header behind IPv4 options and IPv6 extension headers (RFC 8200, 4.1).
#[inline(always)]
pub fn parse(skb: *mut __sk_buff) -> Option<Packet> {
    let first: u8 = load(skb, 0)?;
    if first >> 4 == 4 {
        let transport: u8 = load(skb, 9)?;
        let addresses: [u32; 2] = load(skb, 12)?;
        return Some(Packet {
            transport: u32::from(transport),
            header: u32::from(first & 0xf) * 4,
            source: emit::mapped(addresses[0]),
            destination: emit::mapped(addresses[1]),
        });
    }
    if first >> 4 != 6 {
        return None;
    }
    let mut next: u8 = load(skb, 6)?;
    let mut header = 40;
    let mut hops = 0;
    while hops < 8 {
        match next {
            // Hop-by-hop, routing, destination, mobility: length in units of 8 bytes, less one.
            0 | 43 | 60 | 135 => {
                let extension: [u8; 2] = load(skb, header)?;
                next = extension[0];
                header += (u32::from(extension[1]) + 1) * 8;
            }
            // Fragment header of an atomic fragment.
            44 => {
                next = load(skb, header)?;
                header += 8;
            }
            // Authentication header: length in units of 4 bytes, less two (RFC 4302, 2.2).
            51 => {
                let extension: [u8; 2] = load(skb, header)?;
                next = extension[0];
                header += (u32::from(extension[1]) + 2) * 4;
            }
            _ => break,
        }
        hops += 1;
    }
    let source: [u32; 4] = load(skb, 8)?;
    let destination: [u32; 4] = load(skb, 24)?;
    Some(Packet { transport: u32::from(next), header, source, destination })
}
