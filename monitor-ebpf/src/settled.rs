//! The short way of settled connections: which sockets' packets are of no interest until the next tick.
//!
//! In: connections of which both directions are settled. Out: for a packet, whether it may pass at once.
//! Must never: let a packet pass that may begin, end or carry first bytes of a connection, or the first
//! of a tick. A place that another connection has taken costs time, never a packet.
//!
//! The socket's storage knows the same, but lies behind four lines of memory that nothing else has
//! touched: this is one. A connection is in it from when it is settled until its end or until user space
//! wants to see more, both of which take it out, on whatever processor they run.

use core::arch::asm;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use monitor_common::flow_flag;

use crate::socket::{SocketState, TCP};

/// Places, a power of two. All of them are one value that user space zeroes in one call, for which Linux
/// before 5.15 wants that much memory in one piece.
const PLACES: usize = 1 << 14;

/// One connection, if any.
///
/// Two words that are written one after the other, perhaps by two processors at once: a mixture of two
/// connections is none, because the socket's address comes out of both words together.
#[derive(Clone, Copy)]
#[repr(C)]
struct Place {
    /// The socket's address, exclusive or with `until`.
    key: u64,
    /// Jiffies from which on it is no longer so, and the interface that it sends through.
    until: u64,
}

/// Bits of [`Place::until`] that are the interface.
const DEVICE_BITS: u32 = 24;
const DEVICE: u64 = (1 << DEVICE_BITS) - 1;

const NOBODY: Place = Place { key: 0, until: 0 };

#[unsafe(no_mangle)]
#[unsafe(link_section = ".bss.settled")]
static mut SETTLED: [Place; PLACES] = [NOBODY; PLACES];

const _: () = assert!(size_of::<[Place; PLACES]>() == monitor_common::SETTLED);

/// Where a socket's place is. A TCP socket takes more than 2 KiB, and its neighbours begin where it ends.
#[inline(always)]
fn place<T>(sk: *const T) -> *mut Place {
    const SOCKET_BITS: u32 = 11;
    let index = low(sk) >> SOCKET_BITS & (PLACES as u64 - 1);
    // SAFETY: an index below `PLACES`.
    unsafe { (&raw mut SETTLED).cast::<Place>().add(index as usize) }
}

/// The lower half of an address. The verifier takes it for a number.
#[inline(always)]
fn low<T>(sk: *const T) -> u64 {
    let low: u64;
    // SAFETY: a move between registers.
    unsafe { asm!("w3 = w2", out("r3") low, in("r2") sk, options(pure, nomem, nostack)) };
    low
}

/// The address that is in a place, and its other word.
#[inline(always)]
unsafe fn read(place: *const Place) -> (u64, u64) {
    // SAFETY: the caller names a place.
    unsafe {
        let mut key = (&raw const (*place).key).read_volatile();
        let until = (&raw const (*place).until).read_volatile();
        // Not for the compiler to turn round: the verifier allows no arithmetic on the other side of a comparison.
        asm!("{key} ^= {until}", key = inout(reg) key, until = in(reg) until, options(pure, nomem, nostack));
        (key, until)
    }
}

/// Whether a packet is of no interest. One without a socket may be: it is of none then.
#[inline(always)]
pub fn passes(skb: *mut __sk_buff, sent: bool) -> bool {
    // SAFETY: a place; context fields. An address is compared, and never followed.
    unsafe {
        // First: the compiler has to keep nothing over the call then but the packet.
        let now = bpf_jiffies64();
        let sk = (*skb).__bindgen_anon_2.sk;
        let (socket, until) = read(place(sk));
        socket == sk as u64
            && now < until >> DEVICE_BITS
            && (!sent || until & DEVICE == u64::from((*skb).ifindex))
    }
}

/// Takes a connection in whose directions are both settled, if its place is free.
///
/// # Safety
/// `state` is the storage of `sk`.
#[inline(always)]
pub unsafe fn enter<T>(sk: *const T, state: *const SocketState) {
    // SAFETY: a place; the caller's promise.
    unsafe {
        let place = place(sk);
        let (_, held) = read(place);
        let device = u64::from((*state).sent_device);
        if held >> DEVICE_BITS > bpf_jiffies64() || device == 0 || device > DEVICE || !may_stay(state) {
            return;
        }
        let until = ((*state).due << DEVICE_BITS) | device;
        (&raw mut (*place).key).write_volatile(number(sk) ^ until);
        (&raw mut (*place).until).write_volatile(until);
        barrier(place);
        // Ends or is wanted again on another processor, this very moment.
        if !may_stay(state) {
            vacate(place);
        }
    }
}

/// Takes a connection out, after its storage says that it ends or is to be seen again.
#[inline(always)]
pub fn leave<T>(sk: *const T) {
    // SAFETY: a place.
    unsafe {
        let place = place(sk);
        barrier(place);
        let (socket, _) = read(place);
        if socket == sk as u64 {
            vacate(place);
        }
    }
}

/// Nobody takes a place whose time is not over: so its time ends last.
#[inline(always)]
unsafe fn vacate(place: *mut Place) {
    // SAFETY: the caller names a place.
    unsafe {
        (&raw mut (*place).key).write_volatile(0);
        (&raw mut (*place).until).write_volatile(0);
    }
}

/// A connection that is up, tells by itself when that is over, and of which nothing is to be captured.
#[inline(always)]
unsafe fn may_stay(state: *const SocketState) -> bool {
    const UP: u32 = SocketState::LIVE | SocketState::ESTABLISHED;
    const NOT: u32 = SocketState::ENDING | flow_flag::MIDSTREAM as u32;
    // SAFETY: the caller names a storage value.
    unsafe {
        let flags = (&raw const (*state).flags).read_volatile();
        (*state).transport == TCP
            && flags & (UP | NOT) == UP
            && (&raw const (*state).sent_limit).read_volatile() == 0
            && (&raw const (*state).received_limit).read_volatile() == 0
    }
}

/// What was written before is seen by all processors before anything is read after: on x86, where this is a full
/// barrier. Elsewhere it may not be, and a connection that ends at the very moment at which it enters could stay for
/// a tick.
#[inline(always)]
unsafe fn barrier(place: *mut Place) {
    // SAFETY: adds nothing to a word. Linux 5.10 has no other instruction that orders.
    unsafe { asm!("lock *(u64 *)({at} + 8) += {nothing}", at = in(reg) place, nothing = in(reg) 0_u64) };
}

/// A socket's address as a number. The verifier allows no arithmetic on it, and sees no address any more
/// in a word of the stack whose half was written anew.
#[inline(always)]
unsafe fn number<T>(sk: *const T) -> u64 {
    let mut word = core::mem::MaybeUninit::<u64>::uninit();
    let at = word.as_mut_ptr();
    // SAFETY: a word of our own.
    unsafe {
        at.write_volatile(sk as u64);
        at.cast::<u32>().write_volatile(low(sk) as u32);
        let high = at.cast::<u32>().add(1).read_volatile();
        (u64::from(high) << 32) | low(sk)
    }
}
