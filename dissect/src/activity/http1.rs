//! HTTP/1 (RFC 9110, 9112): method and path, refusals 401, 403 and 407, and what is presented for them.
//!
//! A head is read field by field, however long it is. Bodies are framed as RFC 9112 section 6.3 has it; of a form or
//! of JSON, in chunks or not, the first 64 KiB are looked through, part by part, for fields that name themselves as
//! passwords. A refusal of a request that presented nothing is marked so: it is the first half of Basic, Digest, NTLM
//! and of a registry's log-in.
//!
//! Where a request asked for HTTP/2 (`Upgrade: h2c`, RFC 7540 section 3.2), each direction is read as that from where
//! it turns: the client's with the preface, the server's behind its 101.

use std::collections::VecDeque;

use super::event::{CredentialKind, Verb};
use super::http1_framing::{
    Content, Framing, chunk_size, has_no_content, header, is_field, is_only_json, is_strict_field,
    is_strict_request, names_method, part_names_method, request_within,
};
use super::http2::{Http2, PREFACE};
use super::machine::{Aligned, LOOK, Machine, Sink, Step, base64, begins_with_word, line, whole};
use super::path::{shown, shown_host};
use super::secrets;
use crate::End;
use crate::bytes::{find, lines, may_start_with, position};
use crate::web::http1::{is_method, is_token_byte, request_line};

/// Headers that name another method or path than the request line, to servers that heed them.
const OVERRIDES: [&[u8]; 5] =
    [b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-original-url", b"x-rewrite-url"];
/// Requests that wait for their answer.
const PENDING: usize = 64;
/// A field that is longer, with its folds, is looked at no further.
const LONGEST_FIELD: usize = 3 * LOOK;
const LONGEST_CHUNK_LINE: usize = 256;
/// So much of a body is looked through for passwords.
const LONGEST_FORM: usize = 64 * 1024;
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
    /// The head of a request that is being read.
    head: Head,
    /// The client's body in chunks: what it is, and its beginning.
    chunked: Content,
    text: Vec<u8>,
    /// Bytes in front of that which were looked through.
    looked: usize,
    /// What a request asked to go on in.
    http2: Option<Box<Http2>>,
}

#[derive(Default)]
struct Head {
    request: Request,
    framing: Framing,
    /// `COPY` and `MOVE` have another target among the fields.
    method: &'static [u8],
    is_version_0: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Request {
    is_head: bool,
    is_connect: bool,
    presented: bool,
    /// It asks to go on in HTTP/2.
    is_upgrade: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    Head,
    /// The fields of a request.
    Fields,
    /// What is left of one that is too long.
    LongField,
    /// This many bytes, in a form that is looked through.
    Body(u64, Content),
    /// The same of what is behind its beginning; so much in front of it was looked through.
    RestOfBody(u64, Content, usize),
    ChunkSize,
    /// This many bytes are left of it.
    Chunk(u64),
    ChunkEnd,
    Trailer,
    /// It goes on in HTTP/2.
    Http2,
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
            Phase::RestOfBody(length, content, looked) => {
                self.rest_of_body(rest, length, content, looked, sink)
            }
            Phase::Fields => self.field(rest, sink),
            Phase::LongField => rest_of_field(rest, sink.examined),
            Phase::ChunkSize => self.chunk_size(from, rest, sink),
            Phase::Chunk(length) => self.chunk(from, rest, length, sink),
            Phase::ChunkEnd => match rest {
                [b'\r', b'\n', ..] => (Step::Take(2), Phase::ChunkSize),
                [b'\r'] => (Step::More, phase),
                _ => (Step::Lost, phase),
            },
            Phase::Trailer => trailer(from, rest, sink),
            Phase::Http2 => match &mut self.http2 {
                Some(http2) => (http2.step(from, rest, sink), phase),
                None => (Step::Done, phase),
            },
        };
        match from {
            End::Client => self.client = next,
            End::Server => self.server = next,
        }
        step
    }

    fn aligned(&self, from: End, rest: &[u8]) -> Aligned {
        match from {
            _ if self.is_http2(from) => Aligned::No,
            End::Client => begins_request(rest),
            End::Server if rest.len() < 9 => Aligned::More,
            End::Server if rest.starts_with(b"HTTP/1.") => Aligned::Yes,
            End::Server => Aligned::No,
        }
    }

    fn gap(&mut self, from: End) {
        self.pending.clear();
        match from {
            // Nothing begins there that could be read.
            _ if self.is_http2(from) => {
                if let Some(http2) = &mut self.http2 {
                    http2.gap(from);
                }
            }
            End::Client => {
                self.client = Phase::Head;
                self.text = Vec::new();
            }
            End::Server => self.server = Phase::Head,
        }
    }

    fn held(&self) -> usize {
        self.text.len() + self.http2.as_ref().map_or(0, |http2| http2.held())
    }

    fn tells_all(&self) -> bool {
        true
    }
}

impl Http {
    fn is_http2(&self, from: End) -> bool {
        let phase = match from {
            End::Client => self.client,
            End::Server => self.server,
        };
        matches!(phase, Phase::Http2)
    }

    fn request(&mut self, rest: &[u8], sink: &mut Sink<'_>) -> (Step, Phase) {
        // RFC 9112 section 2.2: an empty line before a request is ignored; by most servers, however it ends.
        match rest {
            [b'\r'] => return (Step::More, Phase::Head),
            [b'\r', b'\n', ..] => return (Step::Take(2), Phase::Head),
            [b'\r' | b'\n', ..] => {
                sink.passed_over();
                return (Step::Take(1), Phase::Head);
            }
            _ => {}
        }
        if self.http2.is_some() && may_start_with(rest, PREFACE) {
            if rest.len() < PREFACE.len() {
                return (Step::More, Phase::Head);
            }
            sink.turned_to_http2();
            let step = self.http2.as_mut().map_or(Step::Done, |http2| http2.step(End::Client, rest, sink));
            return (step, Phase::Http2);
        }
        match begins_with_method(rest) {
            Aligned::Yes => {}
            Aligned::No => return (Step::Lost, Phase::Head),
            Aligned::More => return (Step::More, Phase::Head),
        }
        let Some(end) = memchr::memchr(b'\n', &rest[sink.examined..]).map(|at| sink.examined + at + 1) else {
            return (Step::More, Phase::Head);
        };
        let Some((method, target, version)) = lines(&rest[..end]).next().and_then(request_line) else {
            return (Step::Lost, Phase::Head);
        };
        if !is_strict_request(&rest[..end]) {
            sink.passed_over();
        }
        self.no_content = has_no_content(&method.to_ascii_uppercase());
        let request = Request {
            is_head: method == b"HEAD",
            is_connect: method == b"CONNECT",
            presented: false,
            is_upgrade: false,
        };
        if request.is_connect {
            // Without user information, which has no place there.
            tell(method, &shown_host(target), sink);
        } else {
            look_at_target(method, target, sink);
        }
        self.head = Head {
            request,
            framing: Framing::default(),
            method: [&b"COPY"[..], b"MOVE"].into_iter().find(|known| *known == method).unwrap_or(&[]),
            is_version_0: version == b"HTTP/1.0",
        };
        (Step::Take(end as u64), Phase::Fields)
    }

    /// A field, or the empty line behind the last one.
    fn field(&mut self, rest: &[u8], sink: &mut Sink<'_>) -> (Step, Phase) {
        if rest.starts_with(b"\n") || rest.starts_with(b"\r\n") {
            if rest.starts_with(b"\n") {
                sink.passed_over();
            }
            let end = if rest.starts_with(b"\n") { 1 } else { 2 };
            return (Step::Take(end), self.head_ends(sink));
        }
        match field_end(rest, sink.examined) {
            Some(end) if end <= LONGEST_FIELD => {
                self.look_at_field(&rest[..end], sink);
                (Step::Take(end as u64), Phase::Fields)
            }
            _ if rest.len() > LONGEST_FIELD => {
                sink.passed_over();
                self.look_at_field(&rest[..LONGEST_FIELD], sink);
                (Step::Take(LONGEST_FIELD as u64), Phase::LongField)
            }
            _ => (Step::More, Phase::Fields),
        }
    }

    /// With the line ends behind it and within. What is folded (RFC 9112 section 5.2) some servers put together, and
    /// others take its first line alone.
    fn look_at_field(&mut self, field: &[u8], sink: &mut Sink<'_>) {
        if !is_strict_field(field) {
            sink.passed_over();
        }
        let first = lines(field).next().unwrap_or(field);
        let whole = field.trim_ascii_end();
        let unfolded: Vec<u8>;
        let whole = match whole.len() > first.len() {
            true => {
                let lines: Vec<&[u8]> = whole.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).collect();
                unfolded = lines.join(&b' ');
                if let Some((name, value)) = header(first) {
                    self.head.request.presented |= look_at_header(name, value, sink);
                }
                &unfolded
            }
            false => first,
        };
        let Some((name, value)) = header(whole) else { return };
        self.head.framing.header(name, value);
        self.head.request.is_upgrade |= name.eq_ignore_ascii_case(b"upgrade") && names_h2c(value);
        self.head.request.presented |= look_at_header(name, value, sink);
        if name.eq_ignore_ascii_case(b"destination") {
            look_at_destination(self.head.method, value, sink);
        }
    }

    fn head_ends(&mut self, sink: &mut Sink<'_>) -> Phase {
        let Head { request, framing, is_version_0, .. } = std::mem::take(&mut self.head);
        // Servers that heed a method in a form may find it behind what is looked at.
        let is_form = matches!(framing.content, Content::Form | Content::Multipart);
        let is_unread = framing.chunked && (self.no_content || is_form);
        if framing.is_unclear(is_version_0) || is_unread {
            sink.passed_over();
        }
        if self.pending.len() >= PENDING {
            self.pending.pop_front();
        }
        self.presents = Some(request.presented);
        self.pending.push_back(request);
        if request.is_upgrade && self.http2.is_none() {
            self.http2 = Some(Box::default());
        }
        self.chunked = framing.content;
        self.looked = 0;
        Phase::of(&framing)
    }

    fn response(&mut self, rest: &[u8], sink: &mut Sink<'_>) -> (Step, Phase) {
        if rest.len() >= 7 && !rest.starts_with(b"HTTP/1.") {
            return (Step::Lost, Phase::Head);
        }
        let Some(end) = head_end(rest, sink.examined) else { return (Step::More, Phase::Head) };
        let status = rest.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u16>().ok());
        let Some(status) = status else { return (Step::Lost, Phase::Head) };
        let mut framing = Framing::default();
        let mut is_http2 = true;
        for (name, value) in lines(&rest[..end]).skip(1).filter_map(header) {
            framing.header(name, value);
            is_http2 &= !name.eq_ignore_ascii_case(b"upgrade") || names_h2c(value);
            if name.eq_ignore_ascii_case(b"set-cookie") {
                let cookie = value.split(|b| *b == b';').next().unwrap_or(value);
                secrets::in_cookies(cookie, "HTTP Set-Cookie header", sink);
            }
        }
        // RFC 9110 section 15.2: an interim answer is not the answer.
        if (100..200).contains(&status) {
            if status != 101 {
                return (Step::Take(end as u64), Phase::Head);
            }
            let request = self.pending.pop_front().filter(|request| request.is_upgrade && is_http2);
            let (Some(request), Some(http2)) = (request, &mut self.http2) else {
                return (Step::Done, Phase::Head);
            };
            http2.upgraded(request.presented);
            sink.turned_to_http2();
            return (Step::Take(end as u64), Phase::Http2);
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
        let is_whole = body.len() as u64 == length;
        match from {
            End::Client => {
                self.look_for_request(body, is_whole, content, sink);
                let looked = self.look_at_part(body, is_whole, content, sink);
                if !is_whole && content.is_form() {
                    return (
                        Step::Take(looked as u64),
                        Phase::RestOfBody(length - looked as u64, content, looked),
                    );
                }
            }
            End::Server => {
                look_for_secrets(body, "HTTP response body", content, sink);
            }
        }
        (Step::Take(length), Phase::Head)
    }

    fn rest_of_body(
        &mut self,
        rest: &[u8],
        length: u64,
        content: Content,
        before: usize,
        sink: &mut Sink<'_>,
    ) -> (Step, Phase) {
        let Some(part) = whole(rest, length) else {
            return (Step::More, Phase::RestOfBody(length, content, before));
        };
        let is_last = part.len() as u64 == length;
        let looked = self.look_at_part(part, is_last, content, sink);
        let before = before + looked;
        if is_last || before >= LONGEST_FORM {
            return (Step::Take(length), Phase::Head);
        }
        (Step::Take(looked as u64), Phase::RestOfBody(length - looked as u64, content, before))
    }

    /// Looks through a part of what the client sends, up to the last field that may go on behind it: so much of it.
    fn look_at_part(&mut self, part: &[u8], is_last: bool, content: Content, sink: &mut Sink<'_>) -> usize {
        let end = if is_last { part.len() } else { content.last_field(part) };
        let mut found = look_for_secrets(&part[..end], "HTTP request body", content, sink);
        // A part may begin within a text, at whose end the next name follows.
        if content == Content::Json
            && !matches!(part.trim_ascii_start().first(), Some(b'"' | b'{' | b'['))
            && let Some(quote) = position(&part[..end], b'"')
        {
            found |= secrets::in_json(&part[quote + 1..end], "HTTP request body", sink);
        }
        if found {
            if let Some(request) = self.pending.back_mut() {
                request.presented = true;
            }
            self.presents = Some(true);
        }
        end
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
            Content::Multipart => !is_whole || part_names_method(body),
            Content::Json | Content::Text | Content::Other => false,
        };
        if within.is_some() || is_unread || is_another_method {
            sink.passed_over();
        }
    }

    /// The size of a chunk (RFC 9112 section 7.1).
    fn chunk_size(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> (Step, Phase) {
        // Whether more has come by now must not matter.
        let Some((line, next)) = line(&rest[..rest.len().min(LONGEST_CHUNK_LINE + 1)]) else {
            let step = if rest.len() > LONGEST_CHUNK_LINE { Step::Lost } else { Step::More };
            return (step, Phase::ChunkSize);
        };
        let size = chunk_size(line);
        let is_plain = line.iter().all(u8::is_ascii_graphic) && is_ended(rest, next);
        if from == End::Client && size.is_some() && !is_plain {
            sink.passed_over();
        }
        match size {
            Some(0) => {
                if from == End::Client && !self.text.is_empty() {
                    self.look_at_chunks(true, sink);
                }
                (Step::Take(next), Phase::Trailer)
            }
            Some(size) => (Step::Take(next), Phase::Chunk(size)),
            None => (Step::Lost, Phase::ChunkSize),
        }
    }

    /// The bytes of a chunk: the beginning of a body is put together, for what it is looked through for.
    fn chunk(&mut self, from: End, rest: &[u8], length: u64, sink: &mut Sink<'_>) -> (Step, Phase) {
        if from == End::Server || self.chunked == Content::Other {
            return (Step::Take(length), Phase::ChunkEnd);
        }
        let room = LOOK.saturating_sub(self.text.len());
        let taken = usize::try_from(length).map_or(room, |length| length.min(room)).min(rest.len());
        self.text.extend_from_slice(&rest[..taken]);
        if self.text.len() == LOOK {
            self.look_at_chunks(false, sink);
        }
        let left = length - taken as u64;
        (Step::Take(taken as u64), if left == 0 { Phase::ChunkEnd } else { Phase::Chunk(left) })
    }

    fn look_at_chunks(&mut self, is_whole: bool, sink: &mut Sink<'_>) {
        let (mut text, content) = (std::mem::take(&mut self.text), self.chunked);
        if self.looked == 0 {
            self.look_for_request(&text, is_whole, content, sink);
        }
        let looked = self.look_at_part(&text, is_whole, content, sink);
        self.looked += looked;
        if is_whole || !content.is_form() || self.looked >= LONGEST_FORM {
            self.chunked = Content::Other;
            return;
        }
        text.drain(..looked);
        self.text = text;
    }
}

fn look_for_secrets(body: &[u8], place: &'static str, content: Content, sink: &mut Sink<'_>) -> bool {
    let named = match content {
        Content::Form => secrets::in_form(body, place, sink),
        Content::Json => secrets::in_json(body, place, sink),
        Content::Multipart => return secrets::in_parts(body, place, sink),
        Content::Text => false,
        Content::Other => return false,
    };
    secrets::by_shape(body, place, sink);
    named
}

/// Whether one of the protocols in this field (RFC 9110 section 7.8) is HTTP/2.
fn names_h2c(value: &[u8]) -> bool {
    value.split(|b| *b == b',').any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

/// Whether a method stands at the start, of whatever name, and a space behind it.
fn begins_with_method(rest: &[u8]) -> Aligned {
    let end = rest.iter().position(|b| !is_token_byte(b)).unwrap_or(rest.len());
    match rest.get(end) {
        Some(b' ' | b'\t' | 0x0b | 0x0c | b'\r') if is_method(&rest[..end]) => Aligned::Yes,
        None if is_method(rest) => Aligned::More,
        _ => Aligned::No,
    }
}

/// Whether a request stands at the start. A method that is not known may be any word: the rest of the line decides then.
fn begins_request(rest: &[u8]) -> Aligned {
    let begin = rest.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let rest = &rest[begin..];
    match (begins_with_word(rest, &METHODS), begins_with_method(rest)) {
        (Aligned::No, Aligned::Yes) => {}
        (known, _) => return known,
    }
    let end = rest.iter().position(|b| !is_token_byte(b)).unwrap_or(rest.len());
    match (rest[end..].trim_ascii_start().first(), line(rest)) {
        (Some(b'/' | b'h' | b'H'), None) | (None, None) => Aligned::More,
        (Some(b'/' | b'h' | b'H'), Some((line, _))) if request_line(line).is_some() => Aligned::Yes,
        _ => Aligned::No,
    }
}

/// Where a field ends: with a line that no other one continues, which shows by the byte behind it (RFC 9112 section
/// 5.2). Not in the first `examined` bytes but the last of these.
fn field_end(rest: &[u8], examined: usize) -> Option<usize> {
    let from = examined.saturating_sub(1);
    memchr::memchr_iter(b'\n', &rest[from..])
        .map(|at| from + at + 1)
        .find(|end| rest.get(*end).is_none_or(|next| !matches!(next, b' ' | b'\t')))
        .filter(|end| *end < rest.len())
}

fn rest_of_field(rest: &[u8], examined: usize) -> (Step, Phase) {
    let open = rest.len() - usize::from(rest.ends_with(b"\n"));
    match field_end(rest, examined) {
        Some(end) => (Step::Take(end as u64), Phase::Fields),
        None if open == 0 => (Step::More, Phase::LongField),
        None => (Step::Take(open as u64), Phase::LongField),
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
        return ["authorization", "proxy-authorization"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
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
    let space = value.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(value.len());
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
