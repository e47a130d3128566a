//! The TLS record layer (RFC 8446 section 5, RFC 5246 section 6.2), up to the first protected record.
//!
//! In: one direction's bytes. Out: its handshake messages in the clear, and what ended them. Must
//! never: look past the first protected record, so that later bytes cannot change the answer.

use crate::readable;

const HEADER: usize = 5;
/// 2^14 and the most that protection may add (RFC 5246 section 6.2.3).
const LONGEST: u16 = 16384 + 2048;
/// As much of a protected record as is looked at, to see that it is not text.
const SAMPLE: usize = 64;
/// No protected record is shorter: an authentication tag alone takes as much.
const SHORTEST_PROTECTED: u16 = 8;

pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;

/// A record's header, as far as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    Whole {
        kind: u8,
        length: u16,
    },
    /// Cut short, and right so far.
    Short,
    Wrong,
}

impl Header {
    pub fn parse(bytes: &[u8]) -> Header {
        let right = |at: usize, allowed: &dyn Fn(u8) -> bool| bytes.get(at).is_none_or(|b| allowed(*b));
        if !right(0, &|kind| (CHANGE_CIPHER_SPEC..=HEARTBEAT).contains(&kind))
            || !right(1, &|major| major == 3)
            || !right(2, &|minor| minor <= 4)
        {
            return Header::Wrong;
        }
        match bytes {
            [kind, _, _, high, low, ..] => match u16::from_be_bytes([*high, *low]) {
                length if length > LONGEST => Header::Wrong,
                length => Header::Whole { kind: *kind, length },
            },
            _ => Header::Short,
        }
    }
}

/// How a direction's records are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// TLS 1.2 and earlier: the record after ChangeCipherSpec is the first protected one.
    Switched,
    /// TLS 1.3, or not known yet: the first record of application data is, and ChangeCipherSpec
    /// means nothing.
    Marked,
}

/// What ended the handshake messages in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing yet: the bytes end first.
    Open,
    /// A protected record, enough of it there to see that it is not text. Its length, as sent.
    Protected(u16),
    /// An alert that ends the handshake; its description, where it is in the clear.
    Alert(Option<u8>),
    /// From this offset on it is no TLS.
    Broken(usize),
}

/// One direction up to its first protected record.
#[derive(Debug)]
pub(crate) struct Side {
    /// The handshake messages, taken out of their records.
    pub handshake: Vec<u8>,
    pub end: End,
    /// Its ChangeCipherSpec was there (TLS 1.2 and earlier).
    pub switched: bool,
}

impl Side {
    pub fn read(bytes: &[u8], style: Style) -> Side {
        let mut side = Side { handshake: Vec::new(), end: End::Open, switched: false };
        let mut at = 0;
        while let Some(rest) = bytes.get(at..)
            && !rest.is_empty()
        {
            let (kind, length) = match Header::parse(rest) {
                Header::Whole { kind, length } => (kind, length),
                Header::Short => break,
                Header::Wrong => {
                    side.end = End::Broken(at);
                    break;
                }
            };
            let whole = HEADER + usize::from(length);
            let payload = &rest[HEADER..rest.len().min(whole)];
            if let Some(end) = side.record(kind, length, payload, style, at) {
                side.end = end;
                break;
            }
            if rest.len() < whole {
                break;
            }
            at += whole;
        }
        side
    }

    /// Takes one record; an end, when it is one.
    fn record(&mut self, kind: u8, length: u16, payload: &[u8], style: Style, at: usize) -> Option<End> {
        let whole = payload.len() == usize::from(length);
        match (kind, style) {
            (HANDSHAKE, Style::Switched) if self.switched => Some(protected(length, payload, at)),
            (APPLICATION_DATA, Style::Marked) => Some(protected(length, payload, at)),
            (ALERT, _) if self.switched && length != 2 => Some(End::Alert(None)),
            (HANDSHAKE, _) if length > 0 => {
                self.handshake.extend_from_slice(payload);
                None
            }
            (CHANGE_CIPHER_SPEC, _) if length == 1 && !self.switched => {
                if whole && payload != [1] {
                    return Some(End::Broken(at));
                }
                self.switched = whole && style == Style::Switched;
                None
            }
            (ALERT, _) if length == 2 => match payload {
                // A warning may be passed over, but for the one that closes.
                [1, description] if *description != 0 => None,
                [1 | 2, description] => Some(End::Alert(Some(*description))),
                [level, ..] if !matches!(level, 1 | 2) => Some(End::Broken(at)),
                _ => None,
            },
            (HEARTBEAT, _) if !self.switched => None,
            _ => Some(End::Broken(at)),
        }
    }

    /// The messages in the clear: their kind, their body as far as it is there, and whether that is
    /// all of it.
    pub fn messages(&self) -> impl Iterator<Item = (u8, &[u8], bool)> {
        let mut rest = &self.handshake[..];
        std::iter::from_fn(move || {
            let [kind, a, b, c, body @ ..] = rest else { return None };
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            let body = &body[..body.len().min(length)];
            rest = &rest[4 + body.len()..];
            Some((*kind, body, body.len() == length))
        })
    }
}

fn protected(length: u16, payload: &[u8], at: usize) -> End {
    let sample = &payload[..payload.len().min(SAMPLE)];
    if length < SHORTEST_PROTECTED || readable::is_text(sample) {
        End::Broken(at)
    } else if sample.len() < SAMPLE.min(usize::from(length)) {
        End::Open
    } else {
        End::Protected(length)
    }
}
