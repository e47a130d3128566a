//! A fair share of the ring for each cgroup: where it fills up, a noisy one leaves room for others.
//!
//! In: who wants how much. Out: whether there is room for it. As in a switch whose ports share one memory
//! (Choudhury and Hahne, "Dynamic queue length thresholds", 1998), each may hold so many times what is free. The
//! less is free, the less a noisy one may put in, and what is left is for those that hold little.
//!
//! The ring cannot say whose its bytes are, so they are counted as they go in, and only once it is a quarter
//! full: before, nothing is looked at but that. Time is the ring's own: when the daemon has read up to where a
//! count began, all from before that is gone, and the next count begins. So what a cgroup is held to have is no
//! less than it has of what was counted, at most twice that, and never more than there is.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_CONS_POS, BPF_RB_PROD_POS};
use aya_ebpf::helpers::generated::bpf_ringbuf_query;
use monitor_common::{CAPTURE_SIZES, CaptureHead};

use crate::counters::add;
use crate::maps::{EVENTS, SHARES, settings};

/// Cgroups whose numbers are alike in their last byte share a share.
const CGROUPS: u32 = 256;
/// Behind them: where the ring was when this map began to count. What stands before that, put in by the programs of
/// a daemon that is gone, may be anybody's, and is held against everybody until it is read.
const BEGAN: u32 = CGROUPS;
pub const SLOTS: usize = CGROUPS as usize + 1;

/// What wants to go into the ring.
#[derive(Clone, Copy)]
pub enum Wants {
    /// First bytes: without them a flow is unknown.
    Capture = 0,
    /// What happens to a flow.
    Event = 1,
    /// An end, that has the overflow map besides.
    End = 2,
}

/// What a cgroup put in.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Share {
    /// Position of the ring at which the present count began.
    since: u64,
    /// Bytes since then, and those of the count before.
    now: u64,
    before: u64,
}

/// Whether there is room for so many bytes; if so, they are counted.
#[inline(always)]
pub fn has_room(cgroup: u64, bytes: u32, wants: Wants) -> bool {
    take(cgroup as u32 ^ (cgroup >> 32) as u32, bytes, wants as u32) != 0
}

/// A function of its own, of plain numbers: the verifier goes through it once.
#[inline(never)]
fn take(cgroup: u32, bytes: u32, wants: u32) -> u32 {
    let ring = (&raw const EVENTS).cast_mut().cast();
    let half = u64::from(settings().capture_room);
    let whole = 2 * half;
    // SAFETY: the helper reads the ring's head; slots are checked to be there.
    unsafe {
        let full = bpf_ringbuf_query(ring, u64::from(BPF_RB_AVAIL_DATA));
        let Some(began) = SHARES.get_ptr_mut(BEGAN) else { return 1 };
        if (*began).since == 0 {
            (*began).since = bpf_ringbuf_query(ring, u64::from(BPF_RB_PROD_POS)) + 1;
        }
        if full <= half / 2 {
            return 1;
        }
        let Some(share) = SHARES.get_ptr_mut(cgroup & (CGROUPS - 1)) else { return 1 };
        let read = bpf_ringbuf_query(ring, u64::from(BPF_RB_CONS_POS));
        // Two processors may do this at once: then the count before is lost, and this one begins twice.
        if read >= (*share).since {
            (*share).before = (*share).now;
            (*share).now = 0;
            (*share).since = bpf_ringbuf_query(ring, u64::from(BPF_RB_PROD_POS));
        }
        let bytes = u64::from(if wants == Wants::Capture as u32 { record(bytes) } else { bytes });
        let free = whole.saturating_sub(full);
        let counted = (*share).before + (*share).now + (*began).since.saturating_sub(read + 1);
        let own = counted.min(full) + bytes;
        let fits = if wants == Wants::Capture as u32 {
            // Half of the ring is for what happens to flows; but those that hold little are not to be unknown
            // because of those that hold much.
            full + bytes <= half || (own <= free / 4 && free > whole / 16)
        } else {
            // Three eighths are for ends, which say all that was said before, where nobody reads for a while. In numbers:
            // so the verifier goes one way.
            let is_end = u64::from(wants - Wants::Event as u32);
            own <= (1 + 7 * is_end) * free || free > whole / 8 * (3 - 2 * is_end)
        };
        if !fits {
            return 0;
        }
        add(&raw mut (*share).now, bytes);
    }
    1
}

/// What first bytes take as a record, or as several.
#[inline(always)]
fn record(bytes: u32) -> u32 {
    const HEAD: u32 = size_of::<CaptureHead>() as u32;
    let [small, middle, segment, large, _] = CAPTURE_SIZES;
    let data = if bytes <= small as u32 {
        small as u32
    } else if bytes <= middle as u32 {
        middle as u32
    } else if bytes <= segment as u32 {
        segment as u32
    } else {
        (bytes | (large as u32 - 1)) + 1
    };
    data + HEAD
}
