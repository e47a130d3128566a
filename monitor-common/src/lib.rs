//! What the kernel programs and the daemon share: fixed layouts, without `std`.
//!
//! Every structure is `repr(C)`, has no implicit padding (checked at compile time), and is valid
//! for any bit pattern. Integers are in host byte order unless a field says otherwise.
//! [`ABI_VERSION`] changes whenever a layout or the meaning of a field does.

#![no_std]

mod counters;
mod decode;
mod event;
mod settings;

pub use counters::{Counters, KINDS, Kind, totals};
pub use decode::{Record, Refusal, decode};
pub use event::{
    CAPTURE_SIZES, CaptureHead, DEVICES, Decision, EXECUTED, Executed, FlowEvent, JOURNAL_SLOTS, JournalSlot,
    Owner, Secret, UdpFlow, UdpKey, capture_flag, decision, flow_flag,
};
pub use settings::Settings;

/// Layout version; the daemon refuses an object built with another one.
pub const ABI_VERSION: u32 = 9;

/// What the programs keep in the storage of each socket, bytes.
pub const SOCKET_STATE: usize = 240;

/// What they keep for settled connections, all in all, bytes.
pub const SETTLED: usize = 256 << 10;

/// A structure that may be read from any bytes of its size.
///
/// # Safety
/// The type is `repr(C)`, has no padding, and every bit pattern is a valid value.
pub unsafe trait Plain: Copy + 'static {
    /// Reads a value from the front of `bytes`; `None` when there are too few.
    fn read_from(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < size_of::<Self>() {
            return None;
        }
        // SAFETY: the length was checked, the read is unaligned, and `Plain` promises that every
        // bit pattern is valid.
        Some(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }

    /// The value as the bytes it consists of.
    fn as_bytes(&self) -> &[u8] {
        // SAFETY: `Plain` promises that there is no padding, so every byte is initialised.
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }
}
