//! Every packet of every socket: to whom it belongs, and where its parts are.

use core::arch::asm;

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_sk_fullsock, bpf_skb_load_bytes};
use aya_ebpf::programs::SkBuffContext;
use monitor_common::{DEVICES, flow_flag, totals};

use crate::socket::{self, TCP, UDP};
use crate::{counters, emit, refused, settled, tcp, udp};

/// Where a packet's parts are, in host byte order where it says so.
#[derive(Clone, Copy)]
pub struct Packet {
    pub transport: u32,
    /// Offset of the TCP or UDP header from the network header.
    pub header: u32,
    pub source: [u32; 4],
    pub destination: [u32; 4],
}

/// One packet on its way out of or into a socket. Nearly all are of connections that are settled, and
/// pass at once.
#[inline(always)]
pub fn seen<const SENT: bool>(ctx: &SkBuffContext) {
    // From here, and not of each other: Linux before 6.8 counts 32 bytes of stack at least for each call.
    if !settled::passes(ctx.skb.skb, SENT) && followed::<SENT>(ctx.skb.skb) == UNKNOWN {
        unknown::<SENT>(ctx.skb.skb);
    }
}

/// What [`followed`] says of a packet whose socket has no storage.
const UNKNOWN: i32 = 1;

/// Any other packet. What comes first is what a settled flow without a place costs: one call of the kernel,
/// and looks at one line of the socket's storage, at the interface and at the TCP flags.
#[inline(never)]
fn followed<const SENT: bool>(skb: *mut __sk_buff) -> i32 {
    // SAFETY: context fields; null is checked.
    unsafe {
        if skb.is_null() {
            return 0;
        }
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return 0;
        }
        let state = socket::get(sk.cast());
        if state.is_null() {
            return UNKNOWN;
        }
        let transport = (*state).transport;
        if transport == TCP {
            if SENT && (*skb).ifindex != (*state).sent_device {
                leaves_elsewhere(skb, state);
            }
            if tcp::is_settled(skb, state, SENT) {
                settled::enter(sk, state);
            } else {
                tcp::packet::<SENT>(skb, state);
            }
        } else if transport == UDP {
            udp::packet::<SENT>(skb, state);
        }
    }
    0
}

/// A packet that leaves by an interface which is not the one that is known: the first, or there are several.
#[inline(never)]
fn leaves_elsewhere(skb: *mut __sk_buff, state: *mut socket::SocketState) -> i32 {
    if skb.is_null() || state.is_null() {
        return 0;
    }
    // SAFETY: a context field; the caller's storage.
    unsafe {
        if note_device(&raw mut (*state).sent_device, (*skb).ifindex) != 0 {
            // It is told with the totals, at once.
            (*state).due = 0;
        }
    }
    0
}

/// Notes which interface a packet passes; not 0: others passed another, which is new. What leaves has the one that its
/// route led to, or the socket's own choice: `ip_output` (net/ipv4/ip_output.c) and `ip6_output` set it before
/// the hook. A tunnel's is its own interface, both ways.
///
/// Nothing is written where nothing changes: another processor may write that there are several. Without more branches
/// than that: Linux 6.1 walks each way through what follows by itself.
///
/// # Safety
/// `known` is a field of a storage or map value.
#[inline(always)]
pub unsafe fn note_device(known: *mut u32, device: u32) -> u64 {
    // SAFETY: the caller's promise.
    let before = u64::from(unsafe { known.read_volatile() });
    if before == u64::from(device) {
        return 0;
    }
    let other = not_zero(before);
    // SAFETY: as above. All bits set are `DEVICES`.
    unsafe { known.write_volatile(device | 0_u32.wrapping_sub(other as u32)) };
    other & not_zero(before ^ u64::from(DEVICES))
}

/// 1, or 0 for 0; `value` is below 2^63.
#[inline(always)]
fn not_zero(value: u64) -> u64 {
    let mut result = value;
    // SAFETY: two instructions on a register. The compiler would make a branch of what they do.
    unsafe { asm!("{r} = -{r}", "{r} >>= 63", r = inout(reg) result) };
    result
}

/// See [`crate::look_up`].
#[inline(always)]
pub fn only_look_up(ctx: &SkBuffContext) {
    // SAFETY: context fields; null is checked.
    unsafe {
        let sk = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if !sk.is_null() {
            socket::get_or_create(sk.cast());
        }
    }
}

/// A packet of a socket without storage: of before the programs, of a kind that is not followed, or
/// of none at all (a request, or what is left of a connection).
#[inline(never)]
fn unknown<const SENT: bool>(skb: *mut __sk_buff) -> i32 {
    // SAFETY: context fields; null is checked; the helper gives a full socket or null.
    unsafe {
        if skb.is_null() {
            return 0;
        }
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return 0;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return 0;
        }
        if SENT && refused::may_refuse((*sk).type_, (*sk).protocol) {
            refused::sent(skb);
            return 0;
        }
        let state = adopt(skb, sk);
        if state.is_null() {
            no_storage(skb, sk);
        } else if (*state).transport == TCP {
            if SENT {
                leaves_elsewhere(skb, state);
            }
            tcp::packet::<SENT>(skb, state);
        } else {
            udp::packet::<SENT>(skb, state);
        }
    }
    0
}

/// A socket from before the programs were attached.
#[inline(always)]
fn adopt(skb: *mut __sk_buff, sk: *mut bpf_sock) -> *mut socket::SocketState {
    // SAFETY: fields of a full socket; its storage is checked for null.
    unsafe {
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
        if (*sk).state == tcp::LISTEN {
            (*state).flags |= socket::SocketState::LISTENING;
        }
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

/// The same, where the packet's head lies in memory: without a call. `offset` is 60 at most.
#[inline(always)]
pub fn look<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    // SAFETY: bounds are checked as the verifier wants them. A word may begin at any byte: the machines
    // that BPF reads packets on take that, and the verifier refuses the program where they do not.
    unsafe {
        let at = (*skb).data as usize + offset as usize;
        if at + size_of::<T>() > (*skb).data_end as usize {
            return None;
        }
        Some((at as *const T).read())
    }
}

/// The transport header. Where IP's header is a plain one and lies in memory, as nearly always, the
/// kernel is not called for it.
#[inline(always)]
pub fn parse(skb: *mut __sk_buff) -> Option<Packet> {
    let Some(packet) = parse_plain(skb) else {
        let mut packet = Packet { transport: 0, header: 0, source: [0; 4], destination: [0; 4] };
        return (parse_any(skb, &raw mut packet) != 0).then_some(packet);
    };
    Some(packet)
}

#[inline(always)]
fn parse_plain(skb: *mut __sk_buff) -> Option<Packet> {
    // Each with the shortest transport header behind it.
    let words: [u32; 5] = look::<[u32; 7]>(skb, 0).map(|all| [all[0], all[1], all[2], all[3], all[4]])?;
    let first = words[0].to_ne_bytes()[0];
    if first >> 4 == 4 {
        return Some(Packet {
            transport: u32::from(words[2].to_ne_bytes()[1]),
            header: u32::from(first & 0xf) * 4,
            source: emit::mapped(words[3]),
            destination: emit::mapped(words[4]),
        });
    }
    if first >> 4 != 6 {
        return None;
    }
    let words: [u32; 12] = look(skb, 0)?;
    let next = u32::from(words[1].to_ne_bytes()[2]);
    if next != TCP && next != UDP {
        return None;
    }
    Some(Packet {
        transport: next,
        header: 40,
        source: [words[2], words[3], words[4], words[5]],
        destination: [words[6], words[7], words[8], words[9]],
    })
}

/// Behind IPv6 extension headers too, and wherever the bytes lie. 0: that is no packet.
#[inline(never)]
fn parse_any(skb: *mut __sk_buff, into: *mut Packet) -> i32 {
    if skb.is_null() || into.is_null() {
        return 0;
    }
    let Some(packet) = walk(skb) else { return 0 };
    // SAFETY: the caller's own memory.
    unsafe { into.write(packet) };
    1
}

/// Extension headers that are walked: more than fit into a packet of 1500 bytes.
const HOPS: u32 = 192;

const NO_EXTENSION: u8 = 0xff;

/// By its number, what the second byte of an extension header counts, beyond the first 8 bytes.
static UNITS: [u8; 256] = {
    let mut units = [NO_EXTENSION; 256];
    // Hop-by-hop, routing, destination, mobility: 8 bytes.
    units[0] = 8;
    units[43] = 8;
    units[60] = 8;
    units[135] = 8;
    // Fragment header of an atomic fragment: nothing.
    units[44] = 0;
    // Authentication header: 4 bytes (RFC 4302, 2.2).
    units[51] = 4;
    units
};

/// Finds the transport header behind IPv4 options and IPv6 extension headers (RFC 8200, 4.1), wherever
/// they lie.
#[inline(always)]
fn walk(skb: *mut __sk_buff) -> Option<Packet> {
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
    while hops < HOPS {
        // SAFETY: an index below 256. Volatile: a table, and no branches of which the verifier follows each.
        let unit = unsafe { UNITS.as_ptr().add(usize::from(next)).read_volatile() };
        if unit == NO_EXTENSION {
            break;
        }
        let extension: [u8; 2] = load(skb, header)?;
        next = extension[0];
        header += u32::from(extension[1]) * u32::from(unit) + 8;
        hops += 1;
    }
    let source: [u32; 4] = load(skb, 8)?;
    let destination: [u32; 4] = load(skb, 24)?;
    Some(Packet { transport: u32::from(next), header, source, destination })
}
