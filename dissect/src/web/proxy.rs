//! The PROXY protocol, versions 1 and 2: a header before the client's first byte.
//!
//! In: the client's bytes. Out: where what it wraps begins.

use crate::bytes::{line, may_start_with};

const VERSION_1: &[u8] = b"PROXY ";
/// Version 1 promises to fit into this.
const LONGEST_VERSION_1: usize = 107;
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Header {
    No,
    Maybe,
    /// The wrapped bytes begin here.
    Ends(usize),
}

pub(crate) fn header(bytes: &[u8]) -> Header {
    if bytes.is_empty() {
        Header::No
    } else if may_start_with(bytes, VERSION_1) {
        match line(&bytes[..bytes.len().min(LONGEST_VERSION_1)]) {
            Some((text, end)) if is_version_1(text) => Header::Ends(end),
            Some(_) => Header::No,
            None if bytes.len() >= LONGEST_VERSION_1 => Header::No,
            None => Header::Maybe,
        }
    } else if may_start_with(bytes, VERSION_2) {
        match bytes.get(VERSION_2.len()..) {
            Some([command, ..]) if command >> 4 != 2 => Header::No,
            Some([_, _, high, low, ..]) => {
                Header::Ends(VERSION_2.len() + 4 + usize::from(u16::from_be_bytes([*high, *low])))
            }
            _ => Header::Maybe,
        }
    } else {
        Header::No
    }
}

fn is_version_1(text: &[u8]) -> bool {
    [&b"PROXY TCP4 "[..], b"PROXY TCP6 ", b"PROXY UNKNOWN"].iter().any(|start| text.starts_with(start))
}
