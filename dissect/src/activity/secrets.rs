//! Secrets that show by their shape, wherever they stand: keys of clouds and forges, tokens, private
//! keys; and fields that name themselves as passwords.
//!
//! The shapes are those that their issuers publish: AWS access keys `AKIA…`/`ASIA…` (20 characters),
//! Google API keys `AIza…` (39) and service account files, GitHub `ghp_…` and kin, Slack `xox…-`, PEM
//! private keys (RFC 7468), JSON Web Tokens. A shape by chance in other text: under one in 2^60.
//! An AWS access key id in a signature (SigV4) is no secret and is not told.

use std::borrow::Cow;

use super::event::CredentialKind;
use super::machine::Sink;
use crate::bytes::{find, starts_with_ignore_case};

/// Looks through text for secrets by their shape.
pub(super) fn by_shape(text: &[u8], place: &'static str, sink: &mut Sink<'_>) {
    each_shape(text, |kind, secret| sink.credential(kind, place, secret));
    // In some encodings a newline is two characters: they stand before the text, not in the marker.
    if let Some(at) = find(text, b"-----BEGIN ")
        && let Some(label) = text[at + 11..].split(|b| *b == b'-').next()
        && label.len() < 40
        && label.ends_with(b"PRIVATE KEY")
    {
        let end = find(&text[at..], b"-----END").map_or(text.len(), |end| at + end);
        sink.credential(CredentialKind::PrivateKey, place, &text[at..end]);
    }
}

/// A shape begins where a word does, and not within what was looked at as one: else text made for it would be
/// looked at again and again.
fn each_shape(text: &[u8], mut found: impl FnMut(CredentialKind, &[u8])) {
    let mut at = 0;
    while let Some(start) = text[at..].iter().position(|b| is_word(*b)) {
        at += start;
        let length = match shape(&text[at..]) {
            Shape::Secret(kind, length) => {
                found(kind, &text[at..at + length]);
                length
            }
            Shape::No(length) => length,
        };
        at += length.max(1);
        // The rest of the word.
        if is_word(text[at - 1]) {
            at += word_length(&text[at..]);
        }
    }
}

/// What stands at the start of some text.
enum Shape {
    /// A secret of this length.
    Secret(CredentialKind, usize),
    /// None; so much need not be looked at again.
    No(usize),
}

fn shape(rest: &[u8]) -> Shape {
    if rest.starts_with(b"eyJ") {
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let length = rest.iter().take_while(|b| allowed(b)).count();
        return match super::token::read(&rest[..length]) {
            Some(_) => Shape::Secret(CredentialKind::JsonWebToken, length),
            None => Shape::No(length),
        };
    }
    match key(rest) {
        Some((kind, length)) => Shape::Secret(kind, length),
        None => Shape::No(1),
    }
}

/// No key of those that are known is longer.
const LONGEST_KEY: usize = 300;

/// The kind and length of a key at the start.
fn key(rest: &[u8]) -> Option<(CredentialKind, usize)> {
    let run = |from: usize, allowed: fn(u8) -> bool| {
        let rest = rest.get(from..).unwrap_or(&[]);
        rest.iter().take(LONGEST_KEY).take_while(|b| allowed(**b)).count()
    };
    let alphanumeric = |b: u8| b.is_ascii_alphanumeric();
    match rest.first()? {
        b'A' if rest.starts_with(b"AKIA") || rest.starts_with(b"ASIA") => {
            let upper = |b: u8| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b);
            (run(4, upper) == 16 && !rest.get(20).is_some_and(|b| is_word(*b)))
                .then_some((CredentialKind::AwsKey, 20))
        }
        b'A' if rest.starts_with(b"AIza") => {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            (run(4, allowed) == 35).then_some((CredentialKind::GcpKey, 39))
        }
        b'g' if rest.starts_with(b"github_pat_") => {
            let length = run(11, |b| b.is_ascii_alphanumeric() || b == b'_');
            (length >= 60).then_some((CredentialKind::GithubToken, 11 + length))
        }
        b'g' if rest.len() > 4 && matches!(&rest[1..4], b"hp_" | b"ho_" | b"hu_" | b"hs_" | b"hr_") => {
            let length = run(4, alphanumeric);
            (36..=255).contains(&length).then_some((CredentialKind::GithubToken, 4 + length))
        }
        b'x' if rest.len() > 5
            && rest.starts_with(b"xox")
            && matches!(rest[3], b'a' | b'b' | b'e' | b'o' | b'p' | b'r' | b's')
            && rest[4] == b'-' =>
        {
            let length = run(5, |b| b.is_ascii_alphanumeric() || b == b'-');
            (length >= 20).then_some((CredentialKind::SlackToken, 5 + length))
        }
        _ => None,
    }
}

/// How much of a word stands at the start. Long ones are gone through by many bytes at a time.
fn word_length(text: &[u8]) -> usize {
    const STEP: usize = 32;
    let is_one = |bytes: &[u8]| {
        bytes.iter().fold(true, |all, byte| all & (byte.is_ascii_alphanumeric() | (*byte == b'_')))
    };
    let whole = STEP * text.chunks_exact(STEP).take_while(|bytes| is_one(bytes)).count();
    let rest = &text[whole..];
    whole + rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len())
}

const fn is_word(byte: u8) -> bool {
    const WORD: [bool; 256] = {
        let mut word = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            word[byte] = (byte as u8).is_ascii_alphanumeric() || byte as u8 == b'_';
            byte += 1;
        }
        word
    };
    WORD[byte as usize]
}

/// Names of fields that hold a secret, and what kind.
pub(super) fn of_name(name: &[u8]) -> Option<CredentialKind> {
    const PASSWORDS: [&str; 8] =
        ["password", "passwd", "pwd", "pass", "passphrase", "client_secret", "secret", "new_password"];
    const TOKENS: [&str; 5] = ["access_token", "refresh_token", "id_token", "auth_token", "token"];
    const KEYS: [&str; 6] = ["api_key", "apikey", "api-key", "x-api-key", "secret_key", "private_token"];
    const AWS: [&str; 3] = ["aws_secret_access_key", "secretaccesskey", "secret_access_key"];
    let among = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
    match () {
        () if among(&PASSWORDS) => Some(CredentialKind::Password),
        () if among(&TOKENS) => Some(CredentialKind::BearerToken),
        () if among(&KEYS) => Some(CredentialKind::ApiKey),
        () if among(&AWS) => Some(CredentialKind::AwsKey),
        () => None,
    }
}

/// `name=value&name=value`: a query, or a form.
pub(super) fn in_form(form: &[u8], place: &'static str, sink: &mut Sink<'_>) -> bool {
    let mut found = false;
    for pair in form.split(|b| *b == b'&') {
        let Some(equals) = pair.iter().position(|b| *b == b'=') else { continue };
        if let Some(kind) = of_name(&pair[..equals])
            && pair.len() > equals + 1
        {
            sink.credential(kind, place, &pair[equals + 1..]);
            found = true;
        }
    }
    found
}

/// The fields of a form in parts (RFC 7578), as far as it is there.
pub(super) fn in_parts(form: &[u8], place: &'static str, sink: &mut Sink<'_>) -> bool {
    let mut found = false;
    let (mut in_head, mut kind) = (false, None);
    for line in form.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
        if line.starts_with(b"--") {
            (in_head, kind) = (true, None);
        } else if !in_head {
            // A password is one line.
            if let Some(kind) = kind.take().filter(|_| !line.is_empty()) {
                sink.credential(kind, place, line);
                found = true;
            }
        } else if line.is_empty() {
            in_head = false;
        } else if starts_with_ignore_case(line, b"content-disposition:") {
            kind = field_name(line).and_then(of_name);
        }
    }
    found
}

/// `name="…"` of a part, with quotes or without.
fn field_name(disposition: &[u8]) -> Option<&[u8]> {
    disposition.split(|b| *b == b';').find_map(|parameter| {
        let equals = parameter.iter().position(|b| *b == b'=')?;
        let (name, value) = (parameter[..equals].trim_ascii(), parameter[equals + 1..].trim_ascii());
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        name.eq_ignore_ascii_case(b"name").then(|| unquoted.unwrap_or(value))
    })
}

/// `"name": "value"` anywhere in JSON, however deep, without building it.
pub(super) fn in_json(json: &[u8], place: &'static str, sink: &mut Sink<'_>) -> bool {
    let mut found = false;
    each_string(json, |name, value| {
        let Some(kind) = of_name(name) else { return false };
        let value = unescaped(value);
        found |= !value.is_empty();
        sink.credential(kind, place, &value);
        true
    });
    found
}

/// The names of JSON that have a string as their value, without escapes, and that value as it stands there. What is
/// taken for nothing is looked into.
pub(super) fn each_string(json: &[u8], mut is_taken: impl FnMut(&[u8], &[u8]) -> bool) {
    let mut rest = json;
    while let Some((name, after)) = quoted(rest) {
        rest = after;
        let value = after.trim_ascii_start();
        let Some(value) = value.strip_prefix(b":") else { continue };
        if value.trim_ascii_start().starts_with(b"\"")
            && let Some((value, after)) = quoted(value)
            && is_taken(&plain_letters(&unescaped(name)), value)
        {
            rest = after;
        }
    }
}

/// A string of JSON without its escapes (RFC 8259 section 7); what is none stays.
fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let (mut plain, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        let (byte, next) = (text[at], text.get(at + 1).copied());
        at += 1;
        let Some(next) = next.filter(|_| byte == b'\\') else {
            plain.push(byte);
            continue;
        };
        at += 1;
        match next {
            b'b' => plain.push(8),
            b'f' => plain.push(12),
            b'n' => plain.push(b'\n'),
            b'r' => plain.push(b'\r'),
            b't' => plain.push(b'\t'),
            b'u' => match unit(text, at) {
                Some(unit) => {
                    at += 4;
                    let low = (0xd800..0xdc00).contains(&unit) && text[at..].starts_with(b"\\u");
                    let low = if low { unit_of(text, at + 2, 0xdc00..=0xdfff) } else { None };
                    at += if low.is_some() { 6 } else { 0 };
                    let code = low.map_or(unit, |low| 0x10000 + ((unit - 0xd800) << 10 | (low - 0xdc00)));
                    let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                    plain.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                None => plain.extend_from_slice(b"\\u"),
            },
            other => plain.push(other),
        }
    }
    Cow::Owned(plain)
}

/// Four digits of an escape.
fn unit(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 4)?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

fn unit_of(text: &[u8], at: usize, among: std::ops::RangeInclusive<u32>) -> Option<u32> {
    unit(text, at).filter(|unit| among.contains(unit))
}

/// The two letters beyond ASCII that are `s` and `k` where case does not matter (as in Go's `encoding/json`).
fn plain_letters(name: &[u8]) -> Cow<'_, [u8]> {
    if name.is_ascii() {
        return Cow::Borrowed(name);
    }
    let name = String::from_utf8_lossy(name).replace('\u{17f}', "s").replace('\u{212a}', "k");
    Cow::Owned(name.into_bytes())
}

/// The first string in double quotes, and what follows it.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = text.iter().position(|b| *b == b'"')? + 1;
    let mut at = start;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return Some((&text[start..at], &text[at + 1..])),
            _ => at += 1,
        }
    }
    None
}

/// `scheme://name:password@host` anywhere.
pub(super) fn in_url(text: &[u8], place: &'static str, sink: &mut Sink<'_>) {
    let Some(at) = find(text, b"://") else { return };
    let authority = &text[at + 3..];
    let end = authority
        .iter()
        .position(|b| matches!(b, b'/' | b' ' | b'"' | b'\'' | b'<' | b'>' | b'?' | b'#'))
        .unwrap_or(authority.len());
    in_authority(&authority[..end], place, sink);
}

/// `name:password@host`.
pub(super) fn in_authority(authority: &[u8], place: &'static str, sink: &mut Sink<'_>) {
    if let Some(at) = authority.iter().rposition(|b| *b == b'@')
        && let Some(colon) = authority[..at].iter().position(|b| *b == b':')
    {
        sink.credential(CredentialKind::Password, place, &authority[colon + 1..at]);
    }
}

/// Cookies of a session (RFC 6265 section 4.2.1), told by their names: `sid`, `PHPSESSID`, `auth_token`.
/// Those of advertising and language are no credentials.
pub(super) fn in_cookies(cookies: &[u8], place: &'static str, sink: &mut Sink<'_>) -> bool {
    let mut found = false;
    for cookie in cookies.split(|b| *b == b';') {
        let cookie = cookie.trim_ascii();
        let Some(equals) = cookie.iter().position(|b| *b == b'=') else { continue };
        let (name, value) = (&cookie[..equals], &cookie[equals + 1..]);
        if is_session(name) && value.len() >= 8 {
            sink.credential(CredentialKind::SessionCookie, place, value);
            found = true;
        }
    }
    found
}

fn is_session(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix(b"__host-").or_else(|| name.strip_prefix(b"__secure-")).unwrap_or(&name);
    if starts_with_ignore_case(name, b"csrf")
        || find(name, b"xsrf").is_some()
        || find(name, b"csrf").is_some()
    {
        return false;
    }
    ["sess", "auth", "token", "jwt", "login"].iter().any(|part| find(name, part.as_bytes()).is_some())
        || name == b"sid"
        || name.ends_with(b".sid")
        || name.ends_with(b"_sid")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same byte by byte.
    fn slowly(text: &[u8]) -> Vec<(CredentialKind, Vec<u8>)> {
        let (mut found, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let begins = at == 0 || !is_word(text[at - 1]);
            at += match begins.then(|| shape(&text[at..])) {
                Some(Shape::Secret(kind, length)) => {
                    found.push((kind, text[at..at + length].to_vec()));
                    length.max(1)
                }
                Some(Shape::No(length)) => length.max(1),
                None => 1,
            };
        }
        found
    }

    proptest! {
        #[test]
        fn words_are_passed_over_and_no_secret_with_them(parts in proptest::collection::vec(0..11_usize, 0..12)) {
            let github = format!("ghp_{}", "a1".repeat(18));
            let slack = format!("xoxb-{}", "1-".repeat(12));
            let pieces: [&[u8]; 11] = [
                b"AKIAIOSFODNN7EXAMPLE", github.as_bytes(), slack.as_bytes(), b"eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
                b"eyJ", b"x", b"_", b" ", b"-", b".", b"\xff",
            ];
            let text: Vec<u8> = parts.iter().flat_map(|part| pieces[*part]).copied().collect();
            let mut found = Vec::new();
            each_shape(&text, |kind, secret| found.push((kind, secret.to_vec())));
            prop_assert_eq!(found, slowly(&text));
        }
    }
}
