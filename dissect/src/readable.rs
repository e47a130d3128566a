//! Bytes of no known protocol: can anyone read them?
//!
//! In: both directions. Out: readable (text, low entropy, or a well-known format that needs no key)
//! or opaque. Must never: call anything encrypted; what looks random is unknown.
//!
//! The thresholds. *Text*: the first 24 bytes are all printable; random bytes are that once in
//! 10^10. *Low entropy*: in a sample of up to 512 bytes, four times as many pairs of equal bytes as
//! random bytes have (n(n-1)/512), and 16 more; that is the density of an alphabet of 64. Each
//! looks at a window of fixed size, so that more bytes change nothing that was decided.

use crate::{Plain, Prefix, Protection, UnknownReason};

const TEXT: usize = 24;
pub(crate) const SAMPLE: usize = 512;
/// With fewer bytes, and more to come, not even a first guess is given.
const FIRST_GUESS: usize = 8;
/// Parts that are looked at by themselves.
pub(crate) const PART: usize = 64;
/// More than any name of a host, a protocol or a key takes.
pub(crate) const LONG_TEXT: usize = 1024;

/// Formats that hide nothing, though they look random: compressed data.
const OPEN_FORMATS: [(&[u8], &str); 6] = [
    (&[0x1f, 0x8b, 0x08], "gzip data"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd data"),
    (b"PK\x03\x04", "zip data"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz data"),
    (b"BZh", "bzip2 data"),
    (&[0x89, b'P', b'N', b'G', b'\r', b'\n'], "a PNG image"),
];

/// What one direction looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Silent,
    TooFew,
    /// Readable, with the format's name where there is one.
    Readable(Option<&'static str>),
    Opaque,
}

/// The answer, its detail, and whether it is settled.
pub(crate) fn judge(client: Prefix<'_>, server: Prefix<'_>) -> (Protection, Option<&'static str>, bool) {
    let (from_client, client_done) = look(client);
    let (from_server, server_done) = look(server);
    // The client's name for the format comes first, so it must have had its chance.
    match (from_client, from_server) {
        (Look::Readable(format), _) => (Protection::Plaintext(Plain::Readable), format, client_done),
        (_, Look::Readable(format)) => {
            (Protection::Plaintext(Plain::Readable), format, server_done && client_done)
        }
        (Look::Opaque, _) | (_, Look::Opaque) => {
            (Protection::Unknown(UnknownReason::Opaque), None, client_done && server_done)
        }
        (Look::Silent, Look::Silent) => {
            (Protection::Unknown(UnknownReason::Silent), None, client_done && server_done)
        }
        _ => (Protection::Unknown(UnknownReason::TooFew), None, client_done && server_done),
    }
}

/// The same for datagrams, each of which is a window of its own.
pub(crate) fn judge_datagrams(client: &[&[u8]], server: &[&[u8]]) -> (Protection, Option<&'static str>) {
    let each = |bytes: &&[u8]| look(Prefix { bytes, ended: true, midstream: false, ..Prefix::default() }).0;
    let looks: Vec<Look> = client.iter().chain(server).map(each).collect();
    for look in &looks {
        if let Look::Readable(format) = look {
            return (Protection::Plaintext(Plain::Readable), *format);
        }
    }
    let reason = if looks.contains(&Look::Opaque) {
        UnknownReason::Opaque
    } else if looks.contains(&Look::TooFew) {
        UnknownReason::TooFew
    } else {
        UnknownReason::Silent
    };
    (Protection::Unknown(reason), None)
}

/// One direction can be read, and no later byte changes that.
pub(crate) fn is_readable_for_good(prefix: Prefix<'_>) -> bool {
    matches!(look(prefix), (Look::Readable(_), true))
}

/// Whether anyone can read a piece that is said to be sealed.
pub(crate) fn can_be_read(piece: &[u8]) -> bool {
    matches!(
        look(Prefix { bytes: piece, ended: true, midstream: false, ..Prefix::default() }).0,
        Look::Readable(_)
    )
}

/// All text, and enough of it to be no accident.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    bytes.len() >= TEXT && is_all_text(bytes)
}

/// All text, however short.
pub(crate) fn is_all_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| is_text_byte(*b))
}

/// Whether a datagram among sealed ones was not sealed: all text, however short (of what is sealed the
/// shortest is too long for that), or no accident.
pub(crate) fn is_in_the_clear(datagram: &[u8]) -> bool {
    !datagram.is_empty() && (is_all_text(datagram) || is_no_chance(datagram))
}

/// What leads a record that AES-GCM or AES-CCM protects, up to TLS 1.2 (RFC 5288 section 3, RFC 6655
/// section 3). Most count it up: it repeats, and hides nothing.
pub(crate) const NONCE: usize = 8;
/// The shortest that is behind it: a tag.
const SHORTEST_SEALED: usize = 16;

/// Whether pieces that are said to be sealed, each too short to be judged, are text together; or are that behind
/// a nonce.
pub(crate) fn is_text_together<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut text, mut behind_nonces) = (0, 0);
    for piece in pieces {
        if is_all_text(piece) {
            text += piece.len();
        }
        if let Some(sealed) = piece.get(NONCE..).filter(|it| it.len() >= SHORTEST_SEALED && is_all_text(it)) {
            behind_nonces += sealed.len();
        }
    }
    text >= TEXT || behind_nonces >= TEXT
}

/// Text, or bytes that repeat, and enough of them to be no accident.
pub(crate) fn is_no_chance(bytes: &[u8]) -> bool {
    bytes.len() >= TEXT && (is_text(&bytes[..TEXT]) || is_mostly_text(bytes) || repeats(bytes))
}

/// Whether a part of this length can be read: in random bytes one that is mostly text, or that repeats as much,
/// is there once in 10^18.
pub(crate) fn has_no_chance_within(bytes: &[u8]) -> bool {
    bytes.chunks_exact(PART).any(|part| is_mostly_text(part) || repeats(part))
}

/// Whether a part of this length is mostly text, whatever repeats elsewhere.
pub(crate) fn has_text_within(bytes: &[u8]) -> bool {
    bytes.chunks_exact(PART).any(is_part_of_text)
}

/// A letter over and over says nothing: hellos are filled up like that.
fn is_part_of_text(part: &[u8]) -> bool {
    is_mostly_text(part) && part.iter().any(|byte| *byte != part[0])
}

/// Whether a kilobyte of text is there in one piece.
pub(crate) fn has_long_text_within(bytes: &[u8]) -> bool {
    let mut run = 0;
    bytes.chunks_exact(PART).any(|part| {
        run = if is_part_of_text(part) { run + PART } else { 0 };
        run >= LONG_TEXT
    })
}

/// Text or an open format: readable, and not only because bytes repeat. Headers and counters do that,
/// too.
pub(crate) fn is_in_words(bytes: &[u8]) -> bool {
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    format(bytes).is_some() || are_words(bytes) || is_mostly_text(sample)
}

/// Text, and enough of it to be no accident, though not every byte may be.
pub(crate) fn are_words(bytes: &[u8]) -> bool {
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    bytes.len() >= TEXT && (is_text(&bytes[..TEXT]) || is_mostly_text(sample))
}

fn is_text_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// One direction, and whether more bytes could change it.
fn look(prefix: Prefix<'_>) -> (Look, bool) {
    let bytes = prefix.bytes;
    if bytes.is_empty() {
        return (Look::Silent, prefix.ended);
    }
    if let Some(name) = format(bytes) {
        return (Look::Readable(Some(name)), true);
    }
    if bytes.len() >= TEXT && is_text(&bytes[..TEXT]) {
        return (Look::Readable(None), true);
    }
    if bytes.len() < FIRST_GUESS && !prefix.ended {
        return (Look::TooFew, false);
    }
    let done = prefix.ended || bytes.len() >= SAMPLE;
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    let look = if is_mostly_text(sample) || repeats(sample) {
        Look::Readable(None)
    } else if sample.len() < TEXT {
        Look::TooFew
    } else {
        Look::Opaque
    };
    (look, done)
}

fn format(bytes: &[u8]) -> Option<&'static str> {
    let known = OPEN_FORMATS.iter().find(|(magic, _)| bytes.len() >= 16 && bytes.starts_with(magic));
    known.map(|(_, name)| *name)
}

/// Fifteen bytes of sixteen are text: UTF-8 with a few accents, text with terminal codes.
fn is_mostly_text(sample: &[u8]) -> bool {
    let too_many = sample.iter().filter(|b| !is_text_byte(**b)).nth(sample.len() / 16);
    too_many.is_none()
}

fn repeats(sample: &[u8]) -> bool {
    let mut counts = [0u16; 256];
    let mut pairs = 0;
    for byte in sample {
        let count = &mut counts[usize::from(*byte)];
        pairs += usize::from(*count);
        *count = count.saturating_add(1);
    }
    let n = sample.len();
    n >= TEXT && pairs > 4 * n * (n - 1) / 512 + 16
}
