//! HTTP/1 (RFC 9112), and what it turns into: WebSocket (RFC 6455), HTTP/2 by `Upgrade: h2c`
//! (RFC 7540 section 3.2), TLS within (RFC 2817).
//!
//! In: both directions. Out: the protocol, method, path without its query, and host. Must never:
//! show a query, a credential, or any header but Host.

use super::connect::{self, Connect};
use crate::activity::{shown, shown_host};
use crate::bytes::{capped, find, line, may_start_with, position, printable, starts_with_ignore_case};
use crate::probe::{Found, Prefix, Probe};
use crate::{Hint, Protocol};

/// Registered methods that are seen in the wild (RFC 9110, WebDAV, UPnP). One of these names the protocol by itself.
const METHODS: [&[u8]; 26] = [
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"PATCH",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SEARCH",
    b"PURGE",
    b"NOTIFY",
    b"SUBSCRIBE",
    b"UNSUBSCRIBE",
    b"MKCALENDAR",
    b"MERGE",
    b"ACL",
    b"QUERY",
];
/// None that is registered is longer than 17 bytes.
const LONGEST_METHOD: usize = 32;
const ANSWER: &[u8] = b"HTTP/1.";

pub(crate) fn probe(client: Prefix<'_>, server: Prefix<'_>, _hint: Hint) -> Probe {
    if client.bytes.is_empty() {
        let response = server.bytes.starts_with(ANSWER);
        return match (client.ended, response) {
            (true, true) => Probe::Yes(Found::plain(Protocol::Http)),
            (true, false) if !may_start_with(server.bytes, ANSWER) => Probe::No,
            _ => Probe::Maybe,
        };
    }
    // A method that is not known may be a word of something else: the server must answer in HTTP.
    let is_known = may_be_known(&client.bytes[empty_lines(client.bytes)..]);
    if !is_known && !may_start_with(server.bytes, ANSWER) {
        return Probe::No;
    }
    let request = match Request::parse(client) {
        Begin::No => return Probe::No,
        Begin::Maybe => return Probe::Maybe,
        Begin::Request(_) if !is_known && server.bytes.len() < ANSWER.len() && !server.ended => {
            return Probe::Maybe;
        }
        Begin::Request(request) => request,
    };
    let mut found =
        Found { detail: Some(request.describe()), settled: false, ..Found::plain(Protocol::Http) };
    let Some(body_at) = request.end else {
        found.settled = client.ended;
        return Probe::Yes(found);
    };
    if request.is_connect() {
        // What a proxy answers decides, whatever else was asked of it; the engine follows the tunnel.
        match Response::parse(server.bytes) {
            Some(response) if !(200..300).contains(&response.status) && response.status != 407 => {
                found.upgrade_refused = true;
                found.settled = true;
            }
            _ => found.settled = server.ended || matches!(connect::look(client, server), Connect::Refused),
        }
        return Probe::Yes(found);
    }
    match (&request.upgrade, Response::parse(server.bytes)) {
        (Upgrade::None, _) => found.settled = true,
        (_, None) => found.settled = server.ended,
        (Upgrade::Tls, Some(response)) => {
            found.upgrade_offered = true;
            match (response.status, response.end) {
                (101, Some(end)) => {
                    // The response to the request itself follows within TLS.
                    found.upgraded_at = Some((body_at, end));
                    found.settled = true;
                }
                (101, None) => found.settled = server.ended,
                _ => found.settled = true,
            }
        }
        (upgrade, Some(response)) => {
            found.settled = true;
            found.protocol = match (upgrade, response.status) {
                (Upgrade::Websocket, 101) => Protocol::Websocket,
                (Upgrade::H2c, 101) => Protocol::Http2,
                _ => Protocol::Http,
            };
            found.switched = found.protocol != Protocol::Http;
        }
    }
    Probe::Yes(found)
}

/// What the client would turn the connection into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upgrade {
    None,
    Websocket,
    H2c,
    Tls,
}

pub(super) struct Request<'a> {
    pub method: &'a [u8],
    pub target: &'a [u8],
    host: Option<&'a [u8]>,
    upgrade: Upgrade,
    /// Where the body begins, once the header section is complete.
    pub end: Option<usize>,
}

pub(super) enum Begin<'a> {
    No,
    Maybe,
    Request(Request<'a>),
}

impl<'a> Request<'a> {
    pub fn parse(client: Prefix<'a>) -> Begin<'a> {
        let begin = empty_lines(client.bytes);
        let bytes = &client.bytes[begin..];
        let Some(length) = bytes.iter().take(LONGEST_METHOD + 1).position(|b| !is_token_byte(b)) else {
            return if bytes.len() > LONGEST_METHOD || client.ended { Begin::No } else { Begin::Maybe };
        };
        let (method, after) = bytes.split_at(length);
        if method.is_empty() || !is_space(&after[0]) {
            return Begin::No;
        }
        let target = trim_start(after);
        if !may_be_known(bytes) && !may_be_target(target) {
            return Begin::No;
        }
        let Some((line, next)) = line(after) else {
            // A target longer than what was captured.
            let is_long = client.ended && target.starts_with(b"/") && may_be_known(bytes);
            return match is_long {
                _ if !is_plausible(after) => Begin::No,
                false if client.ended => Begin::No,
                false => Begin::Maybe,
                true => Begin::Request(Request {
                    method,
                    target: target.split(is_space).next().unwrap_or(target),
                    host: None,
                    upgrade: Upgrade::None,
                    end: None,
                }),
            };
        };
        // What is none while it comes is none when it has come.
        let Some((target, _)) = target_and_version(line).filter(|_| is_plausible(line)) else {
            return Begin::No;
        };
        let mut request = Request { method, target, host: None, upgrade: Upgrade::None, end: None };
        request.headers(client.bytes, begin + length + next);
        Begin::Request(request)
    }

    fn headers(&mut self, bytes: &'a [u8], mut at: usize) {
        while let Some((header, next)) = bytes.get(at..).and_then(line) {
            at += next;
            if header.is_empty() {
                self.end = Some(at);
                return;
            }
            let Some(colon) = position(header, b':') else { continue };
            let (name, value) = (&header[..colon], header[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"host") && self.host.is_none() {
                self.host = Some(value);
            } else if name.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = match value {
                    _ if starts_with_ignore_case(value, b"websocket") => Upgrade::Websocket,
                    _ if starts_with_ignore_case(value, b"h2c") => Upgrade::H2c,
                    _ if starts_with_ignore_case(value, b"tls/") => Upgrade::Tls,
                    _ => self.upgrade,
                };
            }
        }
    }

    pub fn is_connect(&self) -> bool {
        self.method == b"CONNECT"
    }

    /// `GET /health to example.org`: the path only, without its long parts, since a query may hold a
    /// secret, and so may these, and what stands before `@` in an absolute target.
    fn describe(&self) -> String {
        let target = self.target.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or(&[]);
        let path = match find(target, b"://") {
            _ if self.is_connect() => host(target),
            Some(at) if !target.starts_with(b"/") => {
                let rest = &target[at + 3..];
                shown_path(rest.iter().position(|b| *b == b'/').map_or(&b"/"[..], |slash| &rest[slash..]))
            }
            _ => shown_path(target),
        };
        let phrase = format!("{} {path}", printable(self.method));
        capped(match self.host {
            Some(named) if !self.is_connect() => format!("{phrase} to {}", host(named)),
            _ => phrase,
        })
    }
}

/// What activity tells of a path.
fn shown_path(path: &[u8]) -> String {
    // Of printable ASCII, only what stands for a part that is left out is more than that.
    String::from_utf8_lossy(&shown(printable(path).as_bytes())).into_owned()
}

/// No control characters stand in a request line (RFC 9112 section 3), but for what servers take for spaces.
fn is_plausible(line: &[u8]) -> bool {
    line.iter().all(|b| b.is_ascii_graphic() || is_space(b) || *b >= 0x80)
}

/// RFC 9112 section 2.2: servers pass over empty lines before a request, however they end.
fn empty_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()
}

/// Whether a known method stands there, as far as it is there.
fn may_be_known(bytes: &[u8]) -> bool {
    METHODS.iter().any(|method| {
        may_start_with(bytes, method) && bytes.get(method.len()).is_none_or(|b| !is_token_byte(b))
    })
}

/// Whether a path, `*`, or a URL of HTTP stands there (RFC 9112 section 3.2), as far as it is there.
fn may_be_target(target: &[u8]) -> bool {
    let may_be = |scheme: &[u8]| {
        let length = target.len().min(scheme.len());
        target[..length].eq_ignore_ascii_case(&scheme[..length])
    };
    matches!(target.first(), None | Some(b'/' | b'*')) || may_be(b"http://") || may_be(b"https://")
}

/// Servers may take any of these for the space in a request line (RFC 9112 section 3), and many for one.
fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0b | 0x0c | b'\r')
}

fn trim_start(text: &[u8]) -> &[u8] {
    &text[text.iter().position(|b| !is_space(b)).unwrap_or(text.len())..]
}

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// RFC 9110 section 9.1: a token.
pub(crate) fn is_method(word: &[u8]) -> bool {
    (1..=LONGEST_METHOD).contains(&word.len()) && word.iter().all(is_token_byte)
}

/// The three parts of a request line. Spaces may stand in its target, to servers that take the last word for the version.
pub(crate) fn request_line(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (method, rest) = line.split_at(line.iter().position(is_space)?);
    let (target, version) = target_and_version(rest)?;
    Some((method, target, version))
}

/// What stands behind the method.
fn target_and_version(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = trim_start(rest);
    let word = rest.split(is_space).next()?;
    let second = trim_start(&rest[word.len()..]);
    let second = second.split(is_space).next()?;
    let (target, version) = match second.starts_with(ANSWER) {
        true => (word, second),
        false => {
            let end = rest.iter().rposition(|b| !is_space(b))? + 1;
            let last = rest[..end].iter().rposition(is_space)?;
            (rest[..last].trim_ascii_end(), &rest[last + 1..end])
        }
    };
    (!target.is_empty() && version.starts_with(ANSWER)).then_some((target, version))
}

/// What activity tells of a host.
pub(super) fn host(authority: &[u8]) -> String {
    String::from_utf8_lossy(&shown_host(printable(authority).as_bytes())).into_owned()
}

pub(super) struct Response {
    pub status: u16,
    /// Where the header section ends, once it is complete.
    pub end: Option<usize>,
    /// None: one was said that is no length.
    pub content_length: Option<usize>,
}

impl Response {
    pub fn parse(bytes: &[u8]) -> Option<Response> {
        let (status_line, mut at) = line(bytes)?;
        let rest = status_line.strip_prefix(ANSWER)?.get(2..5)?;
        let status = std::str::from_utf8(rest).ok()?.parse().ok()?;
        let mut response = Response { status, end: None, content_length: Some(0) };
        while let Some((header, next)) = bytes.get(at..).and_then(line) {
            at += next;
            if header.is_empty() {
                response.end = Some(at);
                break;
            }
            if starts_with_ignore_case(header, b"content-length:") {
                let value = header[b"content-length:".len()..].trim_ascii();
                response.content_length =
                    std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
            }
        }
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Hint, Prefix, inspect_stream};

    #[test]
    fn a_path_is_told_without_what_may_be_secret() {
        for (target, told) in [
            ("/reset/0123456789abcdef0123456789abcdef01234567", "GET /reset/… to h"),
            ("/bot123456:AAF-abcdefghijklmnopqrstuvwxyz012345/send?token=x", "GET /…/send to h"),
            ("/health", "GET /health to h"),
        ] {
            let bytes = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            let client =
                Prefix { bytes: bytes.as_bytes(), ended: true, midstream: false, ..Prefix::default() };
            let server = Prefix { ended: true, ..Prefix::default() };
            let detail = inspect_stream(client, server, Hint::default()).facts.detail.unwrap_or_default();
            assert_eq!(detail, told);
        }
    }
}
