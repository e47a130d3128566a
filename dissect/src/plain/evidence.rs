//! What one direction's bytes say for or against a protocol, and how two such words become one
//! answer that no later byte overturns.
//!
//! In: bytes that may stop anywhere. Out: [`Evidence`] of one side, or the answer of both. Must
//! never: index without a check; go back on anything but [`Evidence::Pending`].

use crate::{Prefix, probe::Probe};

/// The word of one direction. Only `Pending` may change when bytes are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// Not this protocol, whatever follows.
    Against,
    /// Too few bytes.
    Pending,
    /// The shape is right, but other things have that shape too: the other side must agree.
    Fits,
    /// Enough to name the protocol without the other side.
    Proof,
}

/// A value, or the evidence with which looking for it ended.
pub(super) type Seen<T> = Result<T, Evidence>;

/// Both ways out of a reader are evidence.
pub(super) fn evidence(seen: Seen<Evidence>) -> Evidence {
    seen.unwrap_or_else(|evidence| evidence)
}

/// The answer of two directions, before it has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    No,
    Maybe,
    Yes,
}

impl Answer {
    /// Gives a `Yes` its facts.
    pub fn found(self, found: impl FnOnce() -> crate::probe::Found) -> Probe {
        match self {
            Answer::No => Probe::No,
            Answer::Maybe => Probe::Maybe,
            Answer::Yes => Probe::Yes(found()),
        }
    }
}

/// One side, the `lead`, decides; the other is heard where the lead merely fits.
///
/// If either could say no while the other alone can say yes, the answer would hang on which bytes
/// came first. Only where the lead's start was not seen do both sides count alike.
pub(super) fn led_by(lead: (Prefix<'_>, Evidence), follow: (Prefix<'_>, Evidence)) -> Answer {
    let missing = lead.0.bytes.is_empty() && lead.0.ended;
    if missing || lead.0.midstream || follow.0.midstream {
        return either(lead, follow);
    }
    match (lead.1, follow.1) {
        (Evidence::Against, _) => Answer::No,
        (Evidence::Proof, _) => Answer::Yes,
        (Evidence::Pending, _) if lead.0.ended => Answer::No,
        (Evidence::Pending, _) => Answer::Maybe,
        (Evidence::Fits, Evidence::Fits | Evidence::Proof) => Answer::Yes,
        (Evidence::Fits, Evidence::Against) => Answer::No,
        (Evidence::Fits, Evidence::Pending) if follow.0.ended => Answer::No,
        (Evidence::Fits, Evidence::Pending) => Answer::Maybe,
    }
}

/// Proof from any side is enough, or a fit of both; only both together can say no.
pub(super) fn either(one: (Prefix<'_>, Evidence), other: (Prefix<'_>, Evidence)) -> Answer {
    match (at_end(one), at_end(other)) {
        (Evidence::Proof, _) | (_, Evidence::Proof) | (Evidence::Fits, Evidence::Fits) => Answer::Yes,
        (Evidence::Against, Evidence::Against | Evidence::Fits) => Answer::No,
        (Evidence::Fits, Evidence::Against) => Answer::No,
        _ => Answer::Maybe,
    }
}

/// What was still open when the last byte had come stays unproven.
fn at_end((prefix, evidence): (Prefix<'_>, Evidence)) -> Evidence {
    match evidence {
        Evidence::Pending if prefix.ended => Evidence::Against,
        evidence => evidence,
    }
}

/// Goes on if the condition holds, else speaks against.
pub(super) fn ensure(holds: bool) -> Seen<()> {
    if holds { Ok(()) } else { Err(Evidence::Against) }
}

/// `length` bytes at `at`.
pub(super) fn slice(bytes: &[u8], at: usize, length: usize) -> Seen<&[u8]> {
    let end = at.checked_add(length).ok_or(Evidence::Against)?;
    bytes.get(at..end).ok_or(Evidence::Pending)
}

pub(super) fn byte(bytes: &[u8], at: usize) -> Seen<u8> {
    bytes.get(at).copied().ok_or(Evidence::Pending)
}

/// A big-endian number of 16 bits.
pub(super) fn be16(bytes: &[u8], at: usize) -> Seen<u16> {
    Ok(u16::from_be_bytes([byte(bytes, at)?, byte(bytes, at + 1)?]))
}

/// A big-endian number of 32 bits.
pub(super) fn be32(bytes: &[u8], at: usize) -> Seen<u32> {
    Ok(u32::from(be16(bytes, at)?) << 16 | u32::from(be16(bytes, at + 2)?))
}

/// A little-endian number of 16 bits.
pub(super) fn le16(bytes: &[u8], at: usize) -> Seen<u16> {
    Ok(be16(bytes, at)?.swap_bytes())
}

/// A little-endian number of 32 bits.
pub(super) fn le32(bytes: &[u8], at: usize) -> Seen<u32> {
    Ok(be32(bytes, at)?.swap_bytes())
}

/// The literal stands at `at`; the first byte that differs speaks against.
pub(super) fn literal(bytes: &[u8], at: usize, literal: &[u8]) -> Seen<()> {
    let there = bytes.get(at..).unwrap_or(&[]);
    let common = there.len().min(literal.len());
    ensure(there.get(..common) == literal.get(..common))?;
    if common == literal.len() { Ok(()) } else { Err(Evidence::Pending) }
}

/// The first of `literals` that stands at the start.
pub(super) fn one_of<'a>(bytes: &[u8], literals: &[&'a [u8]]) -> Seen<&'a [u8]> {
    let mut open = false;
    for candidate in literals {
        match literal(bytes, 0, candidate) {
            Ok(()) => return Ok(candidate),
            Err(Evidence::Pending) => open = true,
            Err(_) => {}
        }
    }
    Err(if open { Evidence::Pending } else { Evidence::Against })
}

/// The bytes from `at` to the line feed (excluded, like a carriage return before it), and where the
/// next line starts. A byte that is not printable ASCII or a tab, or a line longer than `limit`,
/// speaks against.
pub(super) fn text_line(bytes: &[u8], at: usize, limit: usize) -> Seen<(&[u8], usize)> {
    let rest = bytes.get(at..).unwrap_or(&[]);
    let length = rest.iter().take(limit + 1).position(|byte| !is_text(*byte));
    match length {
        Some(length) => match (rest[length], rest.get(length + 1)) {
            (b'\n', _) => Ok((&rest[..length], at + length + 1)),
            (b'\r', Some(b'\n')) => Ok((&rest[..length], at + length + 2)),
            (b'\r', None) => Err(Evidence::Pending),
            _ => Err(Evidence::Against),
        },
        None if rest.len() > limit => Err(Evidence::Against),
        None => Err(Evidence::Pending),
    }
}

/// Printable ASCII, space and tab included.
pub(super) fn is_text(byte: u8) -> bool {
    byte == b'\t' || (b' '..=b'~').contains(&byte)
}

/// A decimal number without sign: all digits, at least one, at most `digits`.
pub(super) fn decimal(text: &[u8], digits: usize) -> Option<u64> {
    let shape = !text.is_empty() && text.len() <= digits.min(18) && text.iter().all(u8::is_ascii_digit);
    shape.then(|| text.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// The printable part of a string from the wire, at most 64 characters.
pub(super) fn shown(text: &[u8]) -> String {
    text.iter().filter(|byte| (b' '..=b'~').contains(*byte)).take(64).map(|byte| char::from(*byte)).collect()
}
