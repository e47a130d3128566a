//! HTTP/2 with prior knowledge (RFC 9113 section 3.3), and gRPC on it.
//!
//! In: both directions. Out: HTTP/2, or gRPC where the first header block says so. Must never:
//! decompress; the content type of gRPC has two spellings in HPACK, and both are looked for.

use crate::bytes::{find, may_start_with};
use crate::probe::{Found, Prefix, Probe};
use crate::{Hint, Protocol};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

const CONTENT_TYPE: &[u8] = b"application/grpc";
/// The same in HPACK's Huffman code (RFC 7541 appendix B): 88 bits, so nothing of what follows.
const CONTENT_TYPE_HUFFMAN: &[u8] = &[0x1d, 0x75, 0xd0, 0x62, 0x0d, 0x26, 0x3d, 0x4c, 0x4d, 0x65, 0x64];

pub(crate) fn probe(client: Prefix<'_>, _server: Prefix<'_>, _hint: Hint) -> Probe {
    let bytes = client.bytes;
    if !may_start_with(bytes, PREFACE) {
        return Probe::No;
    }
    let Some(frames) = bytes.strip_prefix(PREFACE) else {
        return if client.ended { Probe::No } else { Probe::Maybe };
    };
    let (block, whole) = first_block(frames);
    let is_grpc = find(&block, CONTENT_TYPE).or_else(|| find(&block, CONTENT_TYPE_HUFFMAN)).is_some();
    let protocol = if is_grpc { Protocol::Grpc } else { Protocol::Http2 };
    Probe::Yes(Found { settled: is_grpc || whole || client.ended, ..Found::plain(protocol) })
}

/// The first header block, as far as it is there, and whether that is all of it (or there is none).
fn first_block(mut frames: &[u8]) -> (Vec<u8>, bool) {
    let mut block = Vec::new();
    let mut begun = false;
    while let [a, b, c, kind, flags, _, _, _, _, rest @ ..] = frames {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let wanted = if begun { CONTINUATION } else { HEADERS };
        let payload = &rest[..rest.len().min(length)];
        if *kind == wanted {
            begun = true;
            block.extend_from_slice(payload);
            if flags & END_HEADERS != 0 {
                return (block, payload.len() == length);
            }
        } else if begun || *kind > 0x20 {
            return (block, true);
        }
        match frames.get(FRAME_HEADER + length..) {
            Some(next) => frames = next,
            None => break,
        }
    }
    (block, false)
}
