//! What the programs do, in words, on the daemon's stderr: in debug builds (feature `log`), never else.
//!
//! Must never: say a byte of what was sent or received.

/// One line. No arguments: with any, verifiers refuse what aya-log-ebpf 0.2 makes of them ("R0 max
/// value is outside of the allowed memory range", seen on 6.18).
macro_rules! note {
    ($ctx:expr, $line:literal) => {{
        #[cfg(feature = "log")]
        aya_log_ebpf::debug!($ctx, $line);
    }};
}

pub(crate) use note;
