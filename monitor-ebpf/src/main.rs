//! The hooks: one function each, which hands over to the file of its concern.
//!
//! In: sockets and packets of the cgroup they are attached to. Out: events in a ring, counters.
//! Must never: change, delay or drop anything. Every program returns "go on", whatever happens.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod address;
mod capture;
mod counters;
mod decision;
mod emit;
mod executed;
mod lifecycle;
mod log;
mod maps;
mod owner;
mod packet;
mod refused;
mod settled;
mod share;
mod socket;
mod tcp;
mod udp;

use aya_ebpf::macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, raw_tracepoint, sock_ops};
use aya_ebpf::programs::{RawTracePointContext, SkBuffContext, SockAddrContext, SockContext, SockOpsContext};

/// Go on.
const PASS: i32 = 1;

#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    socket::created(&ctx);
    PASS
}

#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    socket::released(&ctx);
    PASS
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    address::connecting(&ctx, address::v4(&ctx));
    PASS
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    address::connecting(&ctx, address::v6(&ctx));
    PASS
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    address::sending(&ctx);
    PASS
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    address::sending(&ctx);
    PASS
}

#[sock_ops]
pub fn lifecycle(ctx: SockOpsContext) -> u32 {
    lifecycle::callback(&ctx);
    PASS as u32
}

#[cgroup_skb]
pub fn received(ctx: SkBuffContext) -> i32 {
    packet::seen::<false>(&ctx);
    PASS
}

#[cgroup_skb]
pub fn sent(ctx: SkBuffContext) -> i32 {
    packet::seen::<true>(&ctx);
    PASS
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn executed(_ctx: RawTracePointContext) -> i32 {
    executed::began();
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn exited(_ctx: RawTracePointContext) -> i32 {
    executed::ended();
    0
}

/// Attached to nothing: what an empty program costs, for comparison.
#[cgroup_skb]
pub fn empty(_ctx: SkBuffContext) -> i32 {
    PASS
}

/// Attached to nothing: an empty program with one look-up of the socket's storage, what a program costs
/// that asks the kernel whose packet it sees. For comparison.
#[cgroup_skb]
pub fn look_up(ctx: SkBuffContext) -> i32 {
    packet::only_look_up(&ctx);
    PASS
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
