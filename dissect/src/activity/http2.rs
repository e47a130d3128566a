//! HTTP/2 in the clear (RFC 9113) and gRPC on it: method and path, what is presented, and the refusals:
//! status 401, 403 and 407, gRPC status 16 (UNAUTHENTICATED) and 7 (PERMISSION_DENIED).
//!
//! Headers are compressed against a table of what came before (HPACK, RFC 7541), so after a gap a direction
//! can no longer be read. Bodies are passed over.

use std::collections::VecDeque;

use loona_hpack::Decoder;

use super::LIMIT;
use super::event::Verb;
use super::http1::{look_at_destination, look_at_header, look_at_target, tell};
use super::http1_framing::is_form;
use super::machine::{Aligned, LOOK, Machine, Sink, Step};
use super::path::shown_host;
use super::secrets;
use crate::End;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x01;
const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// The largest table that is kept for a direction, in bytes by RFC 7541 section 4.1; four times what is
/// usual. A peer that wants more is not read.
const TABLE: usize = 16 * 1024;
/// Fields of a header section that are looked at. One byte may stand for a field of kilobytes.
const FIELDS: usize = 128;
/// Requests that wait for their answer.
const PENDING: usize = 256;

pub(super) struct Http2 {
    prefaced: bool,
    client: Direction,
    server: Direction,
    pending: VecDeque<Request>,
}

struct Direction {
    decoder: Decoder<'static>,
    /// A header section that goes on in the next frame: its stream, and whether it is a promise.
    open: Option<(u32, bool)>,
    block: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    stream: u32,
    presented: bool,
}

/// What a header section says.
#[derive(Debug, Default)]
struct Section {
    method: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    authority: Option<Vec<u8>>,
    status: Option<u16>,
    grpc_status: Option<u32>,
    is_grpc: bool,
    presented: bool,
    destination: Option<Vec<u8>>,
    is_form: bool,
}

impl Default for Http2 {
    fn default() -> Self {
        let direction = || {
            let mut decoder = Decoder::new();
            decoder.set_max_allowed_table_size(TABLE);
            Direction { decoder, open: None, block: Vec::new() }
        };
        Http2 { prefaced: false, client: direction(), server: direction(), pending: VecDeque::new() }
    }
}

impl Machine for Http2 {
    fn step(&mut self, from: End, rest: &[u8], sink: &mut Sink<'_>) -> Step {
        if from == End::Client && !self.prefaced {
            if rest.len() < PREFACE.len() {
                return Step::More;
            }
            self.prefaced = rest.starts_with(PREFACE);
            return if self.prefaced { Step::Take(PREFACE.len() as u64) } else { Step::Lost };
        }
        let [a, b, c, kind, flags, s, t, u, v, payload @ ..] = rest else { return Step::More };
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let stream = u32::from_be_bytes([*s, *t, *u, *v]) & 0x7fff_ffff;
        let total = (FRAME_HEADER + length) as u64;
        let side = match from {
            End::Client => &mut self.client,
            End::Server => &mut self.server,
        };
        let fits = match (side.open, *kind) {
            // RFC 9113 section 6.10: nothing comes between.
            (Some((open, _)), CONTINUATION) => open == stream,
            (Some(_), _) | (None, CONTINUATION) => false,
            (None, HEADERS) => stream != 0,
            (None, PUSH_PROMISE) => from == End::Server,
            (None, _) => return Step::Take(total),
        };
        if !fits || FRAME_HEADER + length + side.block.len() >= LIMIT {
            return Step::Lost;
        }
        let Some(payload) = payload.get(..length) else { return Step::More };
        let Some(fragment) = fragment(*kind, *flags, payload) else { return Step::Lost };
        side.block.extend_from_slice(fragment);
        let is_promise = side.open.map_or(*kind == PUSH_PROMISE, |(_, is_promise)| is_promise);
        if flags & END_HEADERS == 0 {
            side.open = Some((stream, is_promise));
            return Step::Take(total);
        }
        side.open = None;
        let block = std::mem::take(&mut side.block);
        let Some(section) = read(&mut side.decoder, &block, from, sink) else { return Step::Lost };
        match from {
            _ if is_promise => {}
            End::Client => {
                // A form may name another method, and is not read.
                if section.is_form && !(*kind == HEADERS && flags & END_STREAM != 0) {
                    sink.passed_over();
                }
                self.request(stream, section, sink);
            }
            End::Server => self.response(stream, &section, sink),
        }
        Step::Take(total)
    }

    fn aligned(&self, _: End, _: &[u8]) -> Aligned {
        Aligned::No
    }

    fn held(&self) -> usize {
        self.client.block.capacity() + self.server.block.capacity()
    }

    fn gap(&mut self, from: End) {
        self.pending.clear();
        self.prefaced = true;
        match from {
            End::Client => (self.client.open, self.client.block) = (None, Vec::new()),
            End::Server => (self.server.open, self.server.block) = (None, Vec::new()),
        }
    }

    fn tells_all(&self) -> bool {
        true
    }
}

/// What of a frame belongs to the header section.
fn fragment(kind: u8, flags: u8, payload: &[u8]) -> Option<&[u8]> {
    if kind == CONTINUATION {
        return Some(payload);
    }
    let mut rest = payload;
    if flags & PADDED != 0 {
        let (padding, inner) = rest.split_first()?;
        rest = inner.get(..inner.len().checked_sub(usize::from(*padding))?)?;
    }
    match kind {
        PUSH_PROMISE => rest.get(4..),
        _ if flags & PRIORITY != 0 => rest.get(5..),
        _ => Some(rest),
    }
}

/// `None`: it cannot be decoded, nor can what follows it.
fn read(decoder: &mut Decoder<'static>, block: &[u8], from: End, sink: &mut Sink<'_>) -> Option<Section> {
    let mut section = Section::default();
    let mut fields = 0;
    let decoded = decoder.decode_with_cb(block, |name, value| {
        fields += 1;
        if fields <= FIELDS {
            field(&mut section, &name, &value, from, sink);
        }
    });
    if fields > FIELDS {
        sink.passed_over();
    }
    decoded.ok().map(|()| section)
}

fn field(section: &mut Section, name: &[u8], value: &[u8], from: End, sink: &mut Sink<'_>) {
    if from == End::Client && !is_clear(section, name, value) {
        sink.passed_over();
    }
    let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    match (from, name) {
        (End::Client, b":method") => section.method = Some(value[..value.len().min(LOOK)].to_vec()),
        (End::Client, b":path") => section.path = Some(value.to_vec()),
        (End::Client, b":authority") => section.authority = Some(value[..value.len().min(LOOK)].to_vec()),
        (End::Client, [b':', ..]) => {}
        (End::Client, b"destination") => section.destination = Some(value[..value.len().min(LOOK)].to_vec()),
        (End::Client, _) => {
            section.is_form |= name == b"content-type" && is_form(value);
            section.presented |= look_at_header(name, value, sink);
        }
        (End::Server, b":status") => section.status = number().and_then(|status| u16::try_from(status).ok()),
        (End::Server, b"grpc-status") => section.grpc_status = number(),
        (End::Server, b"content-type") => section.is_grpc = value.starts_with(b"application/grpc"),
        (End::Server, b"set-cookie") => {
            let cookie = value.split(|b| *b == b';').next().unwrap_or(value);
            secrets::in_cookies(cookie, "HTTP Set-Cookie header", sink);
        }
        (End::Server, _) => {}
    }
}

/// Whether it means the same to a server behind this one, which may speak HTTP/1 (RFC 9113 sections 8.2.1, 8.2.2,
/// 8.3): no second method or path, no framing, nothing that would end a line or a word of it.
fn is_clear(section: &Section, name: &[u8], value: &[u8]) -> bool {
    let is_text = value.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f));
    let is_name = name.iter().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase());
    let is_own = match name {
        b":method" => section.method.is_none() && value.iter().all(u8::is_ascii_uppercase),
        b":path" => section.path.is_none() && value.iter().all(|b| !matches!(b, b' ' | b'\t' | b'#')),
        b"transfer-encoding" => false,
        [b':', ..] => true,
        _ => !name.contains(&b':'),
    };
    is_text && is_name && is_own
}

impl Http2 {
    /// The request that turned the connection into this is answered on the first stream (RFC 7540 section 3.2).
    pub(super) fn upgraded(&mut self, presented: bool) {
        self.pending.push_front(Request { stream: 1, presented });
    }

    fn request(&mut self, stream: u32, section: Section, sink: &mut Sink<'_>) {
        // Without a method they are the trailers of a body.
        let Some(method) = section.method else { return };
        match section.path {
            Some(path) if path.len() <= LOOK => look_at_target(&method, &path, sink),
            None if method == b"CONNECT" => {
                let authority = section.authority.unwrap_or_default();
                tell(&method, &shown_host(&authority), sink);
            }
            _ => sink.operation(Verb::of_http_method(&method), "path", None),
        }
        if let Some(destination) = section.destination {
            look_at_destination(&method, &destination, sink);
        }
        if self.pending.len() >= PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(Request { stream, presented: section.presented });
    }

    fn response(&mut self, stream: u32, section: &Section, sink: &mut Sink<'_>) {
        // RFC 9110 section 15.2: an interim answer is not the answer.
        if section.status.is_some_and(|status| (100..200).contains(&status)) {
            return;
        }
        let at = self.pending.iter().position(|request| request.stream == stream);
        let request = at.and_then(|at| self.pending.get(at).copied());
        let presented = request.is_none_or(|request| request.presented);
        let let_in = request.is_some_and(|request| request.presented);
        match (section.status, section.grpc_status) {
            (_, Some(status @ (7 | 16))) => {
                let name = if status == 16 { "UNAUTHENTICATED" } else { "PERMISSION_DENIED" };
                sink.failed(format!("gRPC {status} ({name})"), presented);
            }
            (_, Some(0)) if let_in => sink.succeeded("gRPC 0"),
            (Some(status @ (401 | 403 | 407)), _) => sink.failed(format!("HTTP {status}"), presented),
            // The outcome of gRPC comes in the trailers.
            (Some(200), None) if section.is_grpc => return,
            (Some(status @ 200..=399), _) if let_in => sink.succeeded(format!("HTTP {status}")),
            _ => {}
        }
        if let Some(at) = at {
            self.pending.remove(at);
        }
    }
}
