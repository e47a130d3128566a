//! What user space decided about a flow. Read while capturing and once a tick, never otherwise.

use monitor_common::{Decision, decision};

use crate::maps::DECISIONS;
use crate::socket::{Sequence, Side, SocketState};

/// Takes a decision that waits for this flow, if there is one.
#[inline(always)]
pub fn take(cookie: u64) -> Option<Decision> {
    // SAFETY: copied at once; a concurrent update can at worst give a mixture of two decisions of
    // the same flow, each of whose fields is valid.
    let found = unsafe { DECISIONS.get(cookie).copied() }?;
    let _ = DECISIONS.remove(cookie);
    Some(found)
}

/// A flow ended: nothing waits for it any more.
#[inline(always)]
pub fn forget(cookie: u64) {
    let _ = DECISIONS.remove(cookie);
}

/// Applies a decision to a TCP connection.
///
/// # Safety
/// `state` is a storage value.
#[inline(always)]
pub unsafe fn apply(state: *mut SocketState, wanted: Decision) {
    // SAFETY: the caller's promise.
    unsafe {
        (*state).generation = wanted.generation;
        match wanted.action {
            decision::SETTLE => {
                SocketState::settle(state, true);
                SocketState::settle(state, false);
            }
            decision::EXTEND => {
                (*state).sent.only_first = 0;
                (*state).sent_limit = wanted.sent_limit;
                (*state).received.only_first = 0;
                (*state).received_limit = wanted.received_limit;
            }
            decision::SAMPLE => {
                begin_here(&raw mut (*state).sent);
                (*state).sent_limit = wanted.sent_limit;
                begin_here(&raw mut (*state).received);
                (*state).received_limit = wanted.received_limit;
            }
            _ => {}
        }
    }
}

/// The next packet of this direction gives the new offset 0.
#[inline(always)]
unsafe fn begin_here(side: *mut Side) {
    // SAFETY: the caller names a side of a storage value.
    unsafe {
        (*side).base = Sequence::UNKNOWN;
        (*side).only_first = 0;
        (*side).spent = 0;
    }
}
