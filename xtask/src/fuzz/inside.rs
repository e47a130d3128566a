//! Fixtures without their outsides, as `fuzz/src/outside.rs` and `fuzz/src/quic.rs` put them on again.

use super::seeds::piece;

/// TLS records, each led by its type.
pub fn records(mut bytes: &[u8], from_client: bool) -> Vec<u8> {
    let mut pieces = Vec::new();
    while let [kind @ 20..=23, _, minor, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (content, next) = rest.split_at(length);
        let version = match minor {
            0 => 3,
            1 => 1,
            2 => 2,
            _ => 0,
        };
        pieces.extend(piece(&[&[(kind - 20) | (version << 2)], content].concat(), from_client));
        bytes = next;
    }
    pieces
}

/// DTLS records; those of the handshake in the clear as fragments.
pub fn fragments(datagrams: &[u8], from_client: bool) -> Vec<u8> {
    let mut pieces = Vec::new();
    let mut rest = datagrams;
    while let [_, _, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]])).min(after.len());
        let (mut datagram, next) = after.split_at(length);
        while let [kind @ 20..=23, 0xfe, minor, _, epoch, _, _, _, _, _, _, high, low, body @ ..] = datagram {
            let length = usize::from(u16::from_be_bytes([*high, *low])).min(body.len());
            let (content, behind) = body.split_at(length);
            let head = (kind - 20) | (u8::from(*minor == 0xff) << 2) | (epoch << 5);
            pieces.extend(match (kind, epoch, content) {
                (22, 0, [message, _, a, b, _, number, _, c, d, _, _, _, fragment @ ..]) => piece(
                    &[&[head | 0x10, *message, *number, *a, *b, *c, *d], fragment].concat(),
                    from_client,
                ),
                _ => piece(&[&[head], content].concat(), from_client),
            });
            datagram = behind;
        }
        rest = next;
    }
    pieces
}

/// What stands in the records of a handshake in the clear, as CRYPTO frames of an Initial packet each (RFC
/// 9000 section 19.6).
pub fn crypto(mut bytes: &[u8], from_client: bool) -> Vec<u8> {
    let (mut pieces, mut offset) = (Vec::new(), 0u16);
    while let [22, _, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (content, next) = rest.split_at(length);
        for chunk in content.chunks(1000) {
            let mut frame = vec![0, 6];
            frame.extend((offset | 0x4000).to_be_bytes());
            frame.extend((chunk.len() as u16 | 0x4000).to_be_bytes());
            frame.extend(chunk);
            pieces.extend(piece(&frame, from_client));
            offset = (offset + chunk.len() as u16) & 0x3fff;
        }
        bytes = next;
    }
    pieces
}

/// The identification, packets in the clear, and the rest as it is.
pub fn packets(bytes: &[u8], from_client: bool) -> Vec<u8> {
    const IDENTIFICATION: &[u8] = b"SSH-2.0-";
    const NEW_KEYS: u8 = 21;
    let Some(end) =
        bytes.windows(2).position(|two| two == b"\r\n").filter(|_| bytes.starts_with(IDENTIFICATION))
    else {
        return piece(&[&[3], bytes].concat(), from_client);
    };
    let mut pieces = piece(&[&[0], &bytes[IDENTIFICATION.len()..end]].concat(), from_client);
    let mut rest = &bytes[end + 2..];
    while let [a, b, c, d, padding, after @ ..] = rest {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some(payload) = length.checked_sub(1 + usize::from(*padding)).and_then(|end| after.get(..end))
        else {
            break;
        };
        pieces.extend(piece(&[&[1], payload].concat(), from_client));
        rest = rest.get(4 + length..).unwrap_or(&[]);
        if payload.first() == Some(&NEW_KEYS) {
            break;
        }
    }
    pieces.extend(piece(&[&[3], rest].concat(), from_client));
    pieces
}

/// What looks like a certificate: a sequence that begins with another, each with its length in two bytes.
pub fn certificates(bytes: &[u8]) -> Vec<u8> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    while let Some(rest) = bytes.get(at..) {
        let [0x30, 0x82, high, low, 0x30, 0x82, ..] = *rest else {
            if rest.is_empty() {
                break;
            }
            at += 1;
            continue;
        };
        let length = 4 + usize::from(u16::from_be_bytes([high, low]));
        match rest.get(..length) {
            Some(certificate) => pieces.extend(piece(certificate, false)),
            None => break,
        }
        at += length;
    }
    pieces
}
