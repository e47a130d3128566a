//! What the targets share.

#![forbid(unsafe_code)]

use dissect::Facts;

/// Splits an input into pieces of two directions: each is led by its length in two bytes, of which the
/// highest bit says that it is the server's. The last may be shorter than it says.
pub fn turns(input: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    let mut rest = input;
    std::iter::from_fn(move || {
        let ([high, low], after) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes([high & 0x7f, *low])).min(after.len());
        let (piece, next) = after.split_at(length);
        rest = next;
        Some((high & 0x80 == 0, piece))
    })
}

/// Whether every string is short and holds no control character.
pub fn presentable(facts: &Facts) -> bool {
    let mut strings: Vec<&str> = facts.detail.iter().map(String::as_str).collect();
    if let Some(tls) = &facts.tls {
        let some = [
            &tls.version,
            &tls.version_protocol,
            &tls.cipher,
            &tls.group,
            &tls.server_name,
            &tls.alpn,
            &tls.signature,
            &tls.ja3,
            &tls.ja3s,
            &tls.ja4,
            &tls.ja4s,
        ];
        strings.extend(some.into_iter().flatten().map(String::as_str));
        strings.extend(tls.alpn_offered.iter().map(String::as_str));
        for certificate in tls.server_certificates.iter().chain(&tls.client_certificates) {
            strings.extend([certificate.subject.as_str(), &certificate.issuer, &certificate.key_type]);
            strings.extend(certificate.alternative_names.iter().map(String::as_str));
        }
    }
    if let Some(ssh) = &facts.ssh {
        let some = [
            &ssh.client_version,
            &ssh.server_version,
            &ssh.key_exchange,
            &ssh.host_key,
            &ssh.client_cipher,
            &ssh.server_cipher,
            &ssh.client_mac,
            &ssh.server_mac,
        ];
        strings.extend(some.into_iter().flatten().map(String::as_str));
    }
    strings.iter().all(|string| string.len() <= 255 && !string.chars().any(char::is_control))
}
