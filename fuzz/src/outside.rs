//! Well-formed outsides around pieces of an input: the first bytes of each say which, the rest is inside.

/// Versions of records: SSL 3 to TLS 1.3.
const VERSIONS: [[u8; 2]; 4] = [[3, 3], [3, 1], [3, 2], [3, 0]];

/// A TLS record. The first byte: its type in two bits, its version in two, and whether the rest is a
/// message of the handshake, without its length.
pub fn tls_record(piece: &[u8]) -> Vec<u8> {
    let Some((head, rest)) = piece.split_first() else { return Vec::new() };
    let kind = 20 + (head & 3);
    let [major, minor] = VERSIONS[usize::from(head >> 2 & 3)];
    let content = if head & 0x10 != 0 { message(rest) } else { rest.to_vec() };
    let length = (content.len() as u16).to_be_bytes();
    [&[kind, major, minor], &length[..], &content].concat()
}

/// Type and body of a message of a TLS handshake; its length is put in between.
fn message(piece: &[u8]) -> Vec<u8> {
    let Some((kind, body)) = piece.split_first() else { return Vec::new() };
    let length = (body.len() as u32).to_be_bytes();
    [&[*kind], &length[1..], body].concat()
}

/// A DTLS record. The first byte: its type in two bits, its version in two, its epoch in one, and whether
/// the rest is a fragment: type and number of the message, its length and the fragment's offset in two bytes
/// each.
pub fn dtls_record(piece: &[u8]) -> Vec<u8> {
    const VERSIONS: [[u8; 2]; 4] = [[0xfe, 0xfd], [0xfe, 0xff], [0xfe, 0xfc], [1, 0]];
    let Some((head, rest)) = piece.split_first() else { return Vec::new() };
    let kind = 20 + (head & 3);
    let version = VERSIONS[usize::from(head >> 2 & 3)];
    let content = match (head & 0x10 != 0, rest) {
        (true, [message, number, a, b, c, d, fragment @ ..]) => {
            let length = (fragment.len() as u32).to_be_bytes();
            [&[*message, 0, *a, *b, 0, *number, 0, *c, *d], &length[1..], fragment].concat()
        }
        _ => rest.to_vec(),
    };
    let length = (content.len() as u16).to_be_bytes();
    [&[kind], &version[..], &[0, head >> 5 & 1, 0, 0, 0, 0, 0, 0], &length, &content].concat()
}

/// What SSH sends: the first byte says whether the rest is a line of identification, a packet in the clear
/// (RFC 4253 section 6, with as little padding as it may have), or bytes as they are.
pub fn ssh(piece: &[u8]) -> Vec<u8> {
    let Some((head, rest)) = piece.split_first() else { return Vec::new() };
    match head & 3 {
        0 => [b"SSH-2.0-", rest, b"\r\n"].concat(),
        1 | 2 => {
            let padding = 4 + (3usize.wrapping_sub(rest.len() + 4 + 2) % 8);
            let length = ((1 + rest.len() + padding) as u32).to_be_bytes();
            [&length[..], &[padding as u8], rest, &vec![0; padding]].concat()
        }
        _ => rest.to_vec(),
    }
}

/// A PROXY header that is whole, of version 1 or 2; the first byte says which and of what kind.
pub fn proxy_header(head: u8, content: &[u8]) -> Vec<u8> {
    if head & 1 == 0 {
        let [a, b] = [content.first().copied().unwrap_or(1), content.get(1).copied().unwrap_or(1)];
        return match head & 2 {
            0 => format!("PROXY TCP4 10.0.{a}.1 10.0.{b}.2 4{a:03} 443\r\n"),
            _ => format!("PROXY TCP6 fd00::{a:x} fd00::{b:x} 4{a:03} 443\r\n"),
        }
        .into_bytes();
    }
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let (family, addresses) = if head & 2 == 0 { (0x11, 12) } else { (0x21, 36) };
    let mut body = content[..content.len().min(500)].to_vec();
    body.resize(body.len().max(addresses), 7);
    let length = (body.len() as u16).to_be_bytes();
    [SIGNATURE, &[0x21, family], &length, &body].concat()
}
