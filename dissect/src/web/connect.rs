//! HTTP CONNECT (RFC 9110 section 9.3.6): what begins after the proxy's answer.
//!
//! In: both directions. Out: where the tunnel begins in each, and to whom. Must never: enter a
//! tunnel that the proxy did not grant.

use super::http1::{Begin, Request, Response, host};
use crate::Prefix;

/// Refused for want of a password, a client asks again on the same connection, once or twice.
const MOST_ATTEMPTS: usize = 3;

pub(crate) struct Tunnel {
    pub client_at: usize,
    pub server_at: usize,
    /// `host:port`
    pub to: String,
}

pub(crate) enum Connect {
    /// Not granted, and it may be so far.
    Not,
    /// Nor will it be, as far as it is followed.
    Refused,
    Tunnel(Tunnel),
}

pub(crate) fn look(client: Prefix<'_>, server: Prefix<'_>) -> Connect {
    follow(client, server).unwrap_or(Connect::Not)
}

/// None: it goes on where the bytes end.
fn follow(client: Prefix<'_>, server: Prefix<'_>) -> Option<Connect> {
    let (mut client_at, mut server_at) = (0, 0);
    for _ in 0..MOST_ATTEMPTS {
        let rest = Prefix {
            bytes: client.bytes.get(client_at..)?,
            ended: false,
            midstream: false,
            ..Prefix::default()
        };
        let Begin::Request(request) = Request::parse(rest) else { return None };
        if !request.is_connect() {
            return Some(Connect::Refused);
        }
        let to = host(request.target);
        client_at += request.end?;
        let response = Response::parse(server.bytes.get(server_at..)?)?;
        server_at += response.end?;
        if (200..300).contains(&response.status) {
            return Some(Connect::Tunnel(Tunnel { client_at, server_at, to }));
        }
        let (407, Some(length)) = (response.status, response.content_length) else {
            return Some(Connect::Refused);
        };
        let Some(next) = server_at.checked_add(length) else { return Some(Connect::Refused) };
        server_at = next;
    }
    Some(Connect::Refused)
}
