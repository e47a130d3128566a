//! connect() and sendmsg(): the process that really uses a socket, and where it wants to go.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie};
use aya_ebpf::programs::SockAddrContext;

use crate::socket::{self, SocketState, TCP};
use crate::{emit, owner};

/// The destination of a connect4.
#[inline(always)]
pub fn v4(ctx: &SockAddrContext) -> [u32; 4] {
    // SAFETY: a context field of this program type.
    emit::mapped(unsafe { (*ctx.sock_addr).user_ip4 })
}

/// The destination of a connect6.
#[inline(always)]
pub fn v6(ctx: &SockAddrContext) -> [u32; 4] {
    // SAFETY: context fields of this program type.
    unsafe {
        [
            core::ptr::read_volatile(&raw const (*ctx.sock_addr).user_ip6[0]),
            core::ptr::read_volatile(&raw const (*ctx.sock_addr).user_ip6[1]),
            core::ptr::read_volatile(&raw const (*ctx.sock_addr).user_ip6[2]),
            core::ptr::read_volatile(&raw const (*ctx.sock_addr).user_ip6[3]),
        ]
    }
}

#[inline(always)]
fn storage(ctx: &SockAddrContext) -> *mut SocketState {
    // SAFETY: the socket that the context names.
    unsafe { socket::get_or_create((*ctx.sock_addr).__bindgen_anon_1.sk.cast()) }
}

/// connect() was called.
#[inline(always)]
pub fn connecting(ctx: &SockAddrContext, destination: [u32; 4]) {
    // SAFETY: context fields, and the storage of the context's socket.
    unsafe {
        let state = storage(ctx);
        if state.is_null() {
            return;
        }
        let transport = (*ctx.sock_addr).protocol;
        if (*state).transport == 0 {
            (*state).transport = transport;
            (*state).cookie = bpf_get_socket_cookie(ctx.as_ptr());
            (*state).netns = bpf_get_netns_cookie(ctx.as_ptr());
            socket::arm(state);
        }
        owner::note(&raw mut (*state).owner);
        if transport == TCP && (*state).flags & SocketState::LIVE == 0 {
            (*state).asked = SocketState::CONNECTING;
            (*state).destination = destination;
            (*state).destination_port = u32::from(u16::from_be((*ctx.sock_addr).user_port as u16));
        } else if transport != TCP {
            (*state).asked = 0;
        }
    }
}

/// A datagram is being sent to an address of its own.
#[inline(always)]
pub fn sending(ctx: &SockAddrContext) {
    // SAFETY: as in `connecting`.
    unsafe {
        let state = storage(ctx);
        if state.is_null() {
            return;
        }
        if (*state).transport == 0 {
            (*state).transport = (*ctx.sock_addr).protocol;
            (*state).cookie = bpf_get_socket_cookie(ctx.as_ptr());
            (*state).netns = bpf_get_netns_cookie(ctx.as_ptr());
        }
        (*state).asked = SocketState::ADDRESSED;
        if (*state).owner.tgid != owner::current_tgid() {
            owner::note(&raw mut (*state).owner);
        }
    }
}
