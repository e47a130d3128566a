//! What servers make of the head of a request (RFC 9112): where its body ends, and whether all of them agree.
//!
//! In: the head of a message. Out: its framing, and whether it is unclear: where the next message begins, or what
//! this one asks for, would be the reader's guess. Who guesses otherwise executes what we take for a body.

use super::http1::METHODS;
use super::path::decoded;
use crate::bytes::{find, position, starts_with_ignore_case};
use crate::web::http1::{is_method, is_token_byte};

/// A line end and what the boundary of a form in parts begins with (RFC 2046 section 5.1.1).
const MARK: usize = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Content {
    Form,
    Multipart,
    Json,
    Text,
    #[default]
    Other,
}

impl Content {
    /// Whether it has fields with names.
    pub fn is_form(self) -> bool {
        matches!(self, Content::Form | Content::Multipart | Content::Json)
    }

    /// Where the last field in this part of a body begins, which goes on behind it; in one that is all of one field, so
    /// much that the mark before the next one is not cut.
    pub fn last_field(self, part: &[u8]) -> usize {
        let begins = |at: &usize| match self {
            Content::Form => part[at - 1] == b'&',
            Content::Multipart => part[at - 1] == b'\n' && part[*at..].starts_with(b"--"),
            // The comma before a name.
            _ => part[at - 1] == b',' && part[*at..].trim_ascii_start().first() == Some(&b'"'),
        };
        let last = (1..part.len()).rev().find(begins);
        last.unwrap_or(part.len().saturating_sub(MARK).max(1))
    }
}

/// What the header section says of the body.
#[derive(Default)]
pub(super) struct Framing {
    pub length: Option<u64>,
    pub chunked: bool,
    pub content: Content,
    /// Two lengths, one that is none, codings that are not known to all.
    unclear: bool,
}

impl Framing {
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = digits(value);
            self.unclear |= length.is_none() || (self.length.is_some() && self.length != length);
            self.length = length;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.unclear |= self.chunked || !value.eq_ignore_ascii_case(b"chunked");
            self.chunked |= find(&value.to_ascii_lowercase(), b"chunked").is_some();
        } else if name.eq_ignore_ascii_case(b"content-type") {
            self.content = match value {
                _ if is_form(value) => Content::Form,
                _ if starts_with_ignore_case(value, b"multipart/form-data") => Content::Multipart,
                _ if find(value, b"json").is_some() => Content::Json,
                _ if starts_with_ignore_case(value, b"text/") => Content::Text,
                _ => Content::Other,
            };
        }
    }

    /// RFC 9112 section 6.3: servers differ in what they take for the next request. Those of HTTP/1.0 know no
    /// codings.
    pub fn is_unclear(&self, is_version_0: bool) -> bool {
        self.unclear || (self.chunked && (self.length.is_some() || is_version_0))
    }
}

/// RFC 9112 section 6.2: digits, and no sign.
fn digits(value: &[u8]) -> Option<u64> {
    let is_digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| is_digits)?.parse().ok()
}

/// The size that a line before a chunk begins with (RFC 9112 section 7.1).
pub(super) fn chunk_size(line: &[u8]) -> Option<u64> {
    let size = line.split(|b| matches!(b, b';' | b' ' | b'\t')).next().unwrap_or(line);
    let is_digits = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(std::str::from_utf8(size).ok().filter(|_| is_digits)?, 16).ok()
}

pub(super) fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = position(line, b':')?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}

/// Whether every server takes a field for the same one: its line ends with CRLF and in no other way, it is not folded,
/// its name is a token (RFC 9112 sections 2.2, 5).
pub(super) fn is_strict_field(field: &[u8]) -> bool {
    // Without a way out in the middle: so many bytes are looked at in one step.
    let is_text =
        |line: &[u8]| line.iter().fold(true, |all, b| all & ((*b == b'\t') | ((*b >= b' ') & (*b != 0x7f))));
    field.strip_suffix(b"\r\n").is_some_and(|line| is_text(line) && is_field(line))
}

/// RFC 9110 section 5.1: nothing stands between a name and its colon, nor before it.
pub(super) fn is_field(line: &[u8]) -> bool {
    header(line).is_some_and(|(name, _)| is_token(name))
}

/// The same of a request line: it has three parts (RFC 9112 section 3), methods are upper case as they are registered,
/// and targets have no fragment.
pub(super) fn is_strict_request(line: &[u8]) -> bool {
    let Some(line) = line.strip_suffix(b"\r\n") else { return false };
    let parts: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let [method, target, version] = parts[..] else { return false };
    method.iter().all(u8::is_ascii_uppercase)
        && target.iter().all(|b| *b > b' ' && !matches!(b, 0x7f | b'#'))
        && matches!(version, b"HTTP/1.0" | b"HTTP/1.1")
}

/// RFC 9110 section 9.3: their content has no meaning, so that servers leave it unread, and take it for the next
/// request.
pub(super) fn has_no_content(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"DELETE" | b"OPTIONS" | b"TRACE" | b"CONNECT")
}

/// The request that a server would find at the start of this body, did it not read it as one: method and target.
/// The version ends its line, or it has none (HTTP/0.9).
pub(super) fn request_within(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let body = body.trim_ascii_start();
    request_in_line(body.split(|b| matches!(b, b'\r' | b'\n')).next()?)
}

fn request_in_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    // As Python divides latin1.
    let is_space = |b: &u8| matches!(b, b'\t' | 0x0b | 0x0c | 0x1c..=b' ' | 0x85 | 0xa0);
    let mut words = line.split(is_space).filter(|word| !word.is_empty());
    let (method, target, third, fourth) = (words.next()?, words.next()?, words.next(), words.next());
    let is_versioned =
        fourth.is_none() && third.is_some_and(|version| starts_with_ignore_case(version, b"HTTP/"));
    let is_known = METHODS.iter().any(|known| method.eq_ignore_ascii_case(known.as_bytes()));
    let is_target = target.starts_with(b"/") || find(target, b"://").is_some();
    ((is_versioned && is_method(method)) || (is_known && is_target)).then_some((method, target))
}

/// RFC 9110 section 5.6.2.
fn is_token(word: &[u8]) -> bool {
    !word.is_empty() && word.iter().all(is_token_byte)
}

/// Whether a type of content is that of a form.
pub(super) fn is_form(value: &[u8]) -> bool {
    starts_with_ignore_case(value, b"application/x-www-form-urlencoded")
}

/// Whether a form or a query has the field that names another method, to servers that heed it.
pub(super) fn names_method(form: &[u8]) -> bool {
    let mut fields = form.split(|b| matches!(b, b'&' | b';'));
    fields.any(|field| is_method_field(&decoded(field.split(|b| *b == b'=').next().unwrap_or(&[]))))
}

/// The same of a form in parts (RFC 7578), as far as it is there.
pub(super) fn part_names_method(form: &[u8]) -> bool {
    let form = form.to_ascii_lowercase();
    memchr::memmem::find_iter(&form, b"name").any(|at| {
        let Some(value) = form[at + 4..].trim_ascii_start().strip_prefix(b"=") else { return false };
        let value = value[..value.len().min(64)].trim_ascii_start();
        let quote = value.first().filter(|b| matches!(b, b'"' | b'\''));
        let value = if quote.is_some() { &value[1..] } else { value };
        let ends = |b: &u8| matches!(b, b';' | b'\r' | b'\n') || Some(b) == quote;
        value.split(ends).next().is_some_and(is_method_field)
    })
}

/// PHP takes a dot for an underscore, leaves out spaces before it, and ends it at a zero byte or a bracket.
fn is_method_field(name: &[u8]) -> bool {
    let name = name.split(|b| matches!(b, 0 | b'[')).next().unwrap_or(name);
    let is_space = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'+' | 0x0b);
    let from = name.iter().position(|b| !is_space(b)).unwrap_or(name.len());
    matches!(name[from..].trim_ascii_end(), b"_method" | b".method")
}

/// Whether nobody takes this body for a request: JSON, all of it, as search engines are asked with GET. Texts in it
/// may be requests, lines of it may not.
pub(super) fn is_only_json(body: &[u8], is_whole: bool) -> bool {
    let mut lines = body.split(|b| matches!(b, b'\r' | b'\n'));
    is_whole
        && matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
        && lines.all(|line| request_in_line(line).is_none())
}
