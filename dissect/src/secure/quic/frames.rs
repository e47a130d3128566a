//! The frames that Initial packets may hold (RFC 9000 sections 12.4 and 19).

use super::packet::variable;
use crate::bytes::Reader;

pub(super) enum Frame<'a> {
    /// A piece of the TLS handshake.
    Crypto { offset: u64, data: &'a [u8] },
    /// The end of the connection, with a code of section 20.1.
    Close { code: u64 },
}

/// Those that matter; ends where they end, or at one that has no place here.
pub(super) fn frames(payload: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut reader = Reader::new(payload);
    std::iter::from_fn(move || {
        while !reader.is_empty() {
            match variable(&mut reader)? {
                0x00 | 0x01 => {}
                kind @ (0x02 | 0x03) => acknowledgement(&mut reader, kind == 0x03)?,
                0x06 => {
                    let offset = variable(&mut reader)?;
                    let length = usize::try_from(variable(&mut reader)?).ok()?;
                    return Some(Frame::Crypto { offset, data: reader.take(length)? });
                }
                0x1c => {
                    let code = variable(&mut reader)?;
                    variable(&mut reader)?;
                    let length = usize::try_from(variable(&mut reader)?).ok()?;
                    reader.take(length)?;
                    return Some(Frame::Close { code });
                }
                _ => return None,
            }
        }
        None
    })
}

/// Section 19.3.
fn acknowledgement(reader: &mut Reader<'_>, with_ecn: bool) -> Option<()> {
    variable(reader)?;
    variable(reader)?;
    let ranges = variable(reader)?;
    variable(reader)?;
    // Each takes two bytes at least, so the packet's end bounds the loop.
    for _ in 0..ranges {
        variable(reader)?;
        variable(reader)?;
    }
    if with_ecn {
        for _ in 0..3 {
            variable(reader)?;
        }
    }
    Some(())
}

/// The name of a transport error (section 20.1, RFC 9368 section 10).
pub(super) fn error(code: u64) -> String {
    let known = match code {
        0x00 => "NO_ERROR",
        0x01 => "INTERNAL_ERROR",
        0x02 => "CONNECTION_REFUSED",
        0x03 => "FLOW_CONTROL_ERROR",
        0x04 => "STREAM_LIMIT_ERROR",
        0x05 => "STREAM_STATE_ERROR",
        0x06 => "FINAL_SIZE_ERROR",
        0x07 => "FRAME_ENCODING_ERROR",
        0x08 => "TRANSPORT_PARAMETER_ERROR",
        0x09 => "CONNECTION_ID_LIMIT_ERROR",
        0x0a => "PROTOCOL_VIOLATION",
        0x0b => "INVALID_TOKEN",
        0x0c => "APPLICATION_ERROR",
        0x0d => "CRYPTO_BUFFER_EXCEEDED",
        0x0e => "KEY_UPDATE_ERROR",
        0x0f => "AEAD_LIMIT_REACHED",
        0x10 => "NO_VIABLE_PATH",
        0x11 => "VERSION_NEGOTIATION_ERROR",
        _ => return format!("error {code:#x}"),
    };
    known.into()
}
