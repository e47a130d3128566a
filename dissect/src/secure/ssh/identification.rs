//! Identification strings (RFC 4253 section 4.2).

use crate::Prefix;
use crate::bytes::{line, may_start_with, position, printable};

const IDENTIFICATION: &[u8] = b"SSH-";
/// What a server may say before its identification string, as far as we wait for it.
const LONGEST_PREAMBLE: usize = 1024;
const LONGEST_IDENTIFICATION: usize = 255;

/// How one side began.
#[derive(Clone, Copy)]
pub(super) enum Identification<'a> {
    No,
    Maybe,
    /// `SSH-` is there, its line's end is not.
    Begun,
    Line {
        text: &'a [u8],
        next: usize,
    },
}

impl<'a> Identification<'a> {
    /// A server may send other lines first.
    pub fn find(prefix: Prefix<'a>, preamble: bool) -> Self {
        let mut at = 0;
        while at <= LONGEST_PREAMBLE {
            let rest = prefix.bytes.get(at..).unwrap_or(&[]);
            if rest.starts_with(IDENTIFICATION) {
                return match line(rest) {
                    Some((text, next)) if text.len() <= LONGEST_IDENTIFICATION => {
                        Identification::Line { text, next: at + next }
                    }
                    None if rest.len() <= LONGEST_IDENTIFICATION => Identification::Begun,
                    _ => Identification::No,
                };
            }
            let readable = || position(&rest[..rest.len().min(LONGEST_IDENTIFICATION)], 0).is_none();
            match line(rest) {
                _ if may_start_with(rest, IDENTIFICATION) => break,
                Some((_, next)) if preamble && readable() => at += next,
                None if preamble && readable() && rest.len() <= LONGEST_PREAMBLE => break,
                _ => return Identification::No,
            }
        }
        match at > LONGEST_PREAMBLE || prefix.ended && !prefix.bytes.is_empty() {
            true => Identification::No,
            false => Identification::Maybe,
        }
    }

    pub fn text(&self) -> Option<String> {
        match self {
            Identification::Line { text, .. } => Some(printable(text)),
            _ => None,
        }
    }
}

/// The name of the software, as the identification string has it.
pub(super) fn software(identification: Option<&str>) -> &str {
    identification.and_then(|text| text.splitn(3, '-').nth(2)).unwrap_or("unnamed")
}
