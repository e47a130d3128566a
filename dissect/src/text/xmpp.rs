//! XMPP (RFC 6120), with STARTTLS (section 5).

use crate::bytes::{find, may_start_with};
use crate::probe::{Found, Prefix, Probe};
use crate::{Hint, Protocol};

/// The stream header names its namespace this early.
const HEADER: usize = 1024;

pub(crate) fn probe(client: Prefix<'_>, server: Prefix<'_>, _hint: Hint) -> Probe {
    let bytes = client.bytes;
    if ![&b"<?xml"[..], b"<stream:stream"].iter().any(|start| may_start_with(bytes, start)) {
        return Probe::No;
    }
    let header = &bytes[..bytes.len().min(HEADER)];
    let named = find(header, b"<stream:stream").is_some() && find(header, b"jabber:").is_some();
    if !named {
        return if client.ended || bytes.len() >= HEADER { Probe::No } else { Probe::Maybe };
    }
    Probe::Yes(follow(client, server))
}

fn follow(client: Prefix<'_>, server: Prefix<'_>) -> Found {
    let mut found = Found { settled: false, ..Found::plain(Protocol::Xmpp) };
    // What the server offers stands in its features; what it says later offers nothing.
    let features = find(server.bytes, b"</stream:features>");
    let offered = find(server.bytes, b"<starttls");
    found.upgrade_offered = offered.is_some_and(|at| features.is_none_or(|end| at < end));
    let asked = find(client.bytes, b"<starttls");
    // Whatever comes before it settles that there will be no TLS.
    let other = [&b"<auth"[..], b"<iq", b"<message", b"<presence", b"</stream"]
        .iter()
        .filter_map(|stanza| find(client.bytes, stanza))
        .min();
    match (asked, other) {
        (Some(asked), other) if other.is_none_or(|at| asked < at) => {
            found.upgrade_offered = true;
            let client_at = element_end(client.bytes, asked, b"</starttls>");
            let (granted, refused) = (find(server.bytes, b"<proceed"), find(server.bytes, b"<failure"));
            let refused = refused.filter(|refused| granted.is_none_or(|granted| *refused < granted));
            let granted = granted.filter(|_| refused.is_none());
            let server_at = granted.and_then(|at| element_end(server.bytes, at, b"</proceed>"));
            if let (Some(client_at), Some(server_at)) = (client_at, server_at) {
                found.upgraded_at = Some((client_at, server_at));
                found.settled = true;
                found.detail = Some("STARTTLS".into());
            } else if refused.is_some() {
                found.upgrade_refused = true;
                found.settled = true;
                found.detail = Some("the client asked for TLS, the server refused".into());
            }
        }
        (_, Some(_)) => {
            // The server's features came before, but may not be here yet.
            found.settled = features.is_some() || server.ended;
            if found.settled && found.upgrade_offered {
                found.detail = Some("the server offers TLS, the client did not use it".into());
            }
        }
        _ => {}
    }
    found
}

/// Where the element that starts at `at` ends, and white space after it.
fn element_end(bytes: &[u8], at: usize, closing: &[u8]) -> Option<usize> {
    let tag_end = at + bytes[at..].iter().position(|b| *b == b'>')? + 1;
    let mut end = match bytes[..tag_end].ends_with(b"/>") {
        true => tag_end,
        false => tag_end + find(&bytes[tag_end..], closing)? + closing.len(),
    };
    while bytes.get(end).is_some_and(u8::is_ascii_whitespace) {
        end += 1;
    }
    Some(end)
}
