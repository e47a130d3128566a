//! HTTP/1 (RFC 9110, 9112): method and path, refusals 401, 403 and 407, and what is presented for them.
//!
//! Bodies are framed as RFC 9112 section 6.3 has it; of a form or of JSON the first 4 KiB are looked
//! through for fields that name themselves as passwords. A refusal of a request that presented nothing
//! is marked so: it is the first half of Basic, Digest, NTLM and of a registry's log-in.

use std::collections::VecDeque;

use super::event::{CredentialKind, Verb};
use super::http1_framing::{
    Content, Framing, chunk_size, has_no_content, header, is_field, is_method, is_only_json, is_strict,
    names_method, part_names_method, request_line, request_within,
};
use super::machine::{Aligned, LOOK, Machine, Sink, Step, base64, begins_with_word, line, whole};
use super::path::{shown, shown_host};
use super::secrets;
use crate::End;
use crate::bytes::{find, lines};

/// Headers that name another method or path than the request line, to servers that heed them.
const OVERRIDES: [&[u8]; 5] =
    [b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-original-url", b"x-rewrite-url"];
/// Requests that wait for their answer.
const PENDING: usize = 64;
pub(super) const METHODS: [&str; 22] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
    "MKCALENDAR",
    "PURGE",
    "LINK",
    "UNLINK",
];

#[derive(Default)]
pub(super) struct Http {
    client: Phase,
    server: Phase,
    pending: VecDeque<Request>,
    /// Whether the last request presented something; `None`: none was seen.
    presents: Option<bool>,
    /// Whether servers may leave the body of the last request unread.
    no_content: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Request {
    is_head: bool,
    is_connect: bool,
    presented: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    Head,
    /// This many bytes, in a form that is looked through.
    Body(u64, Content),
    ChunkSize,
    ChunkEnd,
    Trailer,
}

impl Phase {
    /// Behind the head.
    fn of(framing: &Framing) -> Phase {
        match framing.length {
            _ if framing.chunked => Phase::ChunkSize,
            Some(length) if length > 0 => Phase::Body(length, framing.content),
            _ => Phase::Head,
        }
    }
}

impl Machine for Http {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        let phase = match from {
            End::Client => self.client,
            End::Server => self.server,
        };
        let (step, next) = match phase {
            Phase::Head => match from {
                End::Client => self.request(rest, sink),
                End::Server => self.response(rest, sink),
            },
            Phase::Body(length, content) => self.body(from, rest, length, content, sink),
            Phase::ChunkSize => chunk(from, rest, sink),
            Phase::ChunkEnd => match rest {
                [b'\r', b'\n', ..] => (Step::Take(2), Phase::ChunkSize),
                [b'\r'] => (Step::More, phase),
                _ => (Step::Lost, phase),
            },
            Phase::Trailer => trailer(from, rest, sink),
        };
        match from {
            End::Client => self.client = next,
            End::Server => self.server = next,
        }
        step
    }

    fn aligned(&self, from: End, rest: &[u8]) -> Aligned {
        match from {
            End::Client => begins_with_word(rest, &METHODS),
            End::Server if rest.len() < 9 => Aligned::More,
            End::Server if rest.starts_with(b"HTTP/1.") => Aligned::Yes,
            End::Server => Aligned::No,
        }
    }

    fn gap(&mut self, from: End) {
        self.pending.clear();
        match from {
            End::Client => self.client = Phase::Head,
            End::Server => self.server = Phase::Head,
        }
    }

    fn tells_all(&self) -> bool {
        true
    }
}

impl Http {
    fn request(&mut self, rest: &[u8], sink: &mut Sink<'_>) -> (Step, Phase) {
        if begins_with_word(rest, &METHODS) == Aligned::No && !rest.starts_with(b"\r\n") {
            return (Step::Lost, Phase::Head);
        }
        // RFC 9112 section 2.2: an empty line before a request is ignored.
        if rest.starts_with(b"\r\n") {
            return (Step::Take(2), Phase::Head);
        }
        let Some(end) = head_end(rest, sink.examined) else { return (Step::More, Phase::Head) };
        let mut lines = lines(&rest[..end]);
        let Some((method, target, version)) = lines.next().and_then(request_line) else {
            return (Step::Lost, Phase::Head);
        };
        self.no_content = has_no_content(&method.to_ascii_uppercase());
        let mut request =
            Request { is_head: method == b"HEAD", is_connect: method == b"CONNECT", presented: false };
        if request.is_connect {
            // Without user information, which has no place there.
            tell(method, &shown_host(target), sink);
        } else {
            look_at_target(method, target, sink);
        }
        let mut framing = Framing::default();
        for (name, value) in lines.filter_map(header) {
            framing.header(name, value);
            request.presented |= look_at_header(name, value, sink);
            if name.eq_ignore_ascii_case(b"destination") {
                look_at_destination(method, value, sink);
            }
        }
        // What is in chunks is not looked at.
        let is_unread = framing.chunked && (self.no_content || framing.content == Content::Form);
        if framing.is_unclear(version) || is_unread || !is_strict(&rest[..end]) {
            sink.passed_over();
        }
        if self.pending.len() >= PENDING {
            self.pending.pop_front();
        }
        self.presents = Some(request.presented);
        self.pending.push_back(request);
        (Step::Take(end as u64), Phase::of(&framing))
    }

    fn response(&mut self, rest: &[u8], sink: &mut Sink<'_>) -> (Step, Phase) {
        if rest.len() >= 7 && !rest.starts_with(b"HTTP/1.") {
            return (Step::Lost, Phase::Head);
        }
        let Some(end) = head_end(rest, sink.examined) else { return (Step::More, Phase::Head) };
        let status = rest.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u16>().ok());
        let Some(status) = status else { return (Step::Lost, Phase::Head) };
        let mut framing = Framing::default();
        for (name, value) in lines(&rest[..end]).skip(1).filter_map(header) {
            framing.header(name, value);
            if name.eq_ignore_ascii_case(b"set-cookie") {
                let cookie = value.split(|b| *b == b';').next().unwrap_or(value);
                secrets::in_cookies(cookie, "HTTP Set-Cookie header", sink);
            }
        }
        // RFC 9110 section 15.2: an interim answer is not the answer.
        if (100..200).contains(&status) {
            let step = if status == 101 { Step::Done } else { Step::Take(end as u64) };
            return (step, Phase::Head);
        }
        let request = self.pending.pop_front();
        let presented = request.map(|request| request.presented).or(self.presents).unwrap_or(true);
        match status {
            401 | 403 | 407 => sink.failed(format!("HTTP {status}"), presented),
            200..=399 if request.is_some_and(|request| request.presented) => {
                sink.succeeded(format!("HTTP {status}"));
            }
            _ => {}
        }
        let request = request.unwrap_or_default();
        if request.is_connect && (200..300).contains(&status) {
            return (Step::Done, Phase::Head);
        }
        if request.is_head || matches!(status, 204 | 304) {
            return (Step::Take(end as u64), Phase::Head);
        }
        if framing.length.is_none() && !framing.chunked {
            // Until the connection closes; nothing follows it.
            return (Step::Lost, Phase::Head);
        }
        (Step::Take(end as u64), Phase::of(&framing))
    }

    fn body(
        &mut self,
        from: End,
        rest: &[u8],
        length: u64,
        content: Content,
        sink: &mut Sink<'_>,
    ) -> (Step, Phase) {
        if from == End::Server && matches!(content, Content::Multipart | Content::Other) {
            return (Step::Take(length), Phase::Head);
        }
        let Some(body) = whole(rest, length) else {
            return (Step::More, Phase::Body(length, content));
        };
        if from == End::Client {
            self.look_for_request(body, body.len() as u64 == length, content, sink);
        }
        if matches!(content, Content::Multipart | Content::Other) {
            return (Step::Take(length), Phase::Head);
        }
        let place = match from {
            End::Client => "HTTP request body",
            End::Server => "HTTP response body",
        };
        let named = match content {
            Content::Form => secrets::in_form(body, place, sink),
            Content::Json => secrets::in_json(body, place, sink),
            Content::Text | Content::Multipart | Content::Other => false,
        };
        secrets::by_shape(body, place, sink);
        if named && from == End::Client {
            if let Some(request) = self.pending.back_mut() {
                request.presented = true;
            }
            self.presents = Some(true);
        }
        (Step::Take(length), Phase::Head)
    }

    /// Who leaves a body unread takes it for the next request.
    fn look_for_request(&self, body: &[u8], is_whole: bool, content: Content, sink: &mut Sink<'_>) {
        let within = request_within(body);
        if let (Some((method, target)), true) = (within, self.no_content) {
            look_at_target(method, target, sink);
        }
        let is_unread = self.no_content && !is_only_json(body, is_whole);
        let is_another_method = match content {
            Content::Form => !is_whole || names_method(body),
            Content::Multipart => part_names_method(body),
            Content::Json | Content::Text | Content::Other => false,
        };
        if within.is_some() || is_unread || is_another_method {
            sink.passed_over();
        }
    }
}

/// The size of a chunk (RFC 9112 section 7.1), and its bytes.
fn chunk(from: End, rest: &[u8], sink: &mut Sink<'_>) -> (Step, Phase) {
    let Some((line, next)) = line(rest) else {
        let step = if rest.len() > 256 { Step::Lost } else { Step::More };
        return (step, Phase::ChunkSize);
    };
    let size = chunk_size(line);
    let is_plain = line.iter().all(u8::is_ascii_graphic) && is_ended(rest, next);
    if from == End::Client && size.is_some() && !is_plain {
        sink.passed_over();
    }
    match size {
        Some(0) => (Step::Take(next), Phase::Trailer),
        Some(size) => (Step::Take(next.saturating_add(size)), Phase::ChunkEnd),
        None => (Step::Lost, Phase::ChunkSize),
    }
}

fn trailer(from: End, rest: &[u8], sink: &mut Sink<'_>) -> (Step, Phase) {
    let Some((line, next)) = line(rest) else { return (Step::More, Phase::Trailer) };
    if from == End::Client && !(is_ended(rest, next) && (line.is_empty() || is_field(line))) {
        sink.passed_over();
    }
    (Step::Take(next), if line.is_empty() { Phase::Head } else { Phase::Trailer })
}

/// Whether the line that reaches to there ends with CRLF.
fn is_ended(rest: &[u8], next: u64) -> bool {
    usize::try_from(next).is_ok_and(|next| rest[..next].ends_with(b"\r\n"))
}

/// Where the header section ends, its empty line included; not in the first `examined` bytes. A line
/// may end without its CR (RFC 9112 section 2.2), and the empty one may have it all the same.
fn head_end(rest: &[u8], examined: usize) -> Option<usize> {
    let from = examined.saturating_sub(3).min(rest.len());
    let fresh = &rest[from..];
    memchr::memchr_iter(b'\n', fresh)
        .map(|at| at + 1)
        .find(|end| fresh[..*end].ends_with(b"\n\r\n") || fresh[..*end].ends_with(b"\n\n"))
        .map(|end| from + end)
}

pub(super) fn look_at_target(method: &[u8], target: &[u8], sink: &mut Sink<'_>) {
    let mut path = target;
    let slashed: Vec<u8>;
    // RFC 9112 section 3.2.2: the absolute form. Behind a slash it is a part of a path or a query.
    if target.starts_with(b"/") {
        secrets::in_url(target, "URL within a URL", sink);
    } else if let Some(authority) = behind_scheme(target) {
        let end = authority.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(authority.len());
        secrets::in_authority(&authority[..end], "URL user information", sink);
        slashed = [b"/", &authority[end..]].concat();
        path = if authority.get(end) == Some(&b'/') { &authority[end..] } else { &slashed };
    } else if target != b"*" {
        sink.passed_over();
    }
    if let Some(at) = path.iter().position(|b| *b == b'?') {
        let query = path[at + 1..].split(|b| *b == b'#').next().unwrap_or(&[]);
        if names_method(query) {
            sink.passed_over();
        }
        secrets::in_form(query, "URL query", sink);
        secrets::by_shape(without_key_id(query), "URL query", sink);
    }
    tell(method, &shown(path), sink);
}

/// Of `http://` and `https://`.
fn behind_scheme(target: &[u8]) -> Option<&[u8]> {
    let at = find(target, b"://")?;
    let is_http = ["http", "https"].iter().any(|scheme| target[..at].eq_ignore_ascii_case(scheme.as_bytes()));
    is_http.then(|| &target[at + 3..])
}

/// What COPY and MOVE write (RFC 4918 section 10.3).
pub(super) fn look_at_destination(method: &[u8], target: &[u8], sink: &mut Sink<'_>) {
    if matches!(method, b"COPY" | b"MOVE") {
        look_at_target(method, target, sink);
    }
}

pub(super) fn tell(method: &[u8], target: &[u8], sink: &mut Sink<'_>) {
    let method = method.to_ascii_uppercase();
    let object = [&method, &b" "[..], target].concat();
    sink.operation(Verb::of_http_method(&method), "path", is_method(&method).then_some(&object));
}

/// The key id of a presigned URL is no secret.
fn without_key_id(query: &[u8]) -> &[u8] {
    if find(query, b"X-Amz-Credential=").is_some() { &[] } else { query }
}

/// Looks for secrets; true where something is presented to be let in.
pub(super) fn look_at_header(name: &[u8], value: &[u8], sink: &mut Sink<'_>) -> bool {
    // Gateways (RFC 3875 section 4.1.18) make one of a hyphen and an underscore.
    let as_known = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (*a, *b) == (b'_', b'-');
    if OVERRIDES.iter().any(|known| name.len() == known.len() && name.iter().zip(*known).all(as_known)) {
        sink.passed_over();
    }
    if value.len() > LOOK * 2 {
        return false;
    }
    if name.eq_ignore_ascii_case(b"authorization") {
        authorization(value, ["HTTP Authorization header (Basic)", "HTTP Authorization header"], sink);
        return true;
    }
    if name.eq_ignore_ascii_case(b"proxy-authorization") {
        let places = ["HTTP Proxy-Authorization header (Basic)", "HTTP Proxy-Authorization header"];
        authorization(value, places, sink);
        return true;
    }
    if name.eq_ignore_ascii_case(b"cookie") {
        secrets::in_cookies(value, "HTTP Cookie header", sink);
        return false;
    }
    const KEYS: [&[u8]; 8] = [
        b"x-api-key",
        b"api-key",
        b"apikey",
        b"x-auth-token",
        b"x-access-token",
        b"x-vault-token",
        b"x-goog-api-key",
        b"private-token",
    ];
    if KEYS.iter().any(|key| name.eq_ignore_ascii_case(key)) {
        sink.credential(CredentialKind::ApiKey, "HTTP header of an API key", value);
        return true;
    }
    // Where a URL is named, its user information and its query are.
    if name.eq_ignore_ascii_case(b"referer") {
        secrets::in_url(value, "HTTP Referer header", sink);
        if let Some(at) = value.iter().position(|b| *b == b'?') {
            secrets::in_form(&value[at + 1..], "HTTP Referer header", sink);
        }
    }
    secrets::by_shape(value, "HTTP header", sink);
    false
}

/// RFC 7617 and 6750. Answers of Digest, Negotiate, NTLM and of request signatures are no secrets.
fn authorization(value: &[u8], places: [&'static str; 2], sink: &mut Sink<'_>) {
    let space = value.iter().position(|b| *b == b' ').unwrap_or(value.len());
    let (scheme, rest) = (&value[..space], value[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"basic") {
        if let Some(pair) = base64(rest)
            && let Some(colon) = pair.iter().position(|b| *b == b':')
        {
            sink.credential(CredentialKind::Password, places[0], &pair[colon + 1..]);
        }
    } else if ["bearer", "token", "apikey", "key", "splunk"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()))
    {
        sink.credential(CredentialKind::BearerToken, places[1], rest);
    } else if rest.is_empty() {
        // A key without a scheme.
        sink.credential(CredentialKind::ApiKey, places[1], scheme);
    }
}
