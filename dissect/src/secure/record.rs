//! The TLS record layer (RFC 8446 section 5, RFC 5246 section 6.2): the handshake in the clear, and
//! the first protected records.
//!
//! In: one direction's bytes. Out: its handshake messages in the clear, what ended them, and the kinds
//! and lengths of the records after that. Must never: look past [`MOST_PROTECTED`] of those.

use super::alert;
use super::order::Order;
use crate::probe::{Sealed, SealedRecords};
use crate::readable::NONCE;
use crate::{Prefix, readable};

const HEADER: usize = 5;
/// 2^14 and the most that protection may add (RFC 5246 section 6.2.3).
const LONGEST: u16 = 16384 + 2048;
/// As much of a protected record as is looked at, to see that it cannot be read.
const SAMPLE: usize = NONCE + 64;
/// So many bytes that are all text are no accident: random ones are that once in 10^17.
const TEXT: usize = 40;
/// As many in short records that follow each other: random ones are that once in 10^10.
const SHORTEST_TEXT: usize = 24;
/// No protected record is shorter: an authentication tag alone takes as much.
const SHORTEST_PROTECTED: u16 = 8;

pub(crate) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;

/// Protected records that are looked at: a flight of six messages, a chain of certificates of 256 kB, and what
/// follows them; as many short ones as fit into what is captured at first.
const MOST_PROTECTED: usize = 512;
/// Records that are looked at where the version is not known.
const MOST_RECORDS: usize = 32;

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
    Switched {
        /// The suite does not encrypt: text is no sign of anything.
        readable: bool,
    },
    /// TLS 1.3, or not known yet: the first record of application data is, and ChangeCipherSpec
    /// means nothing.
    Marked {
        /// Early data may come before the second ClientHello.
        early_data: bool,
    },
}

impl Style {
    /// What the version is not known from yet.
    pub const UNKNOWN: Style = Style::Marked { early_data: false };
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

/// A protected record, enough of it there to see that it is not text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protected {
    pub kind: u8,
    /// As sent.
    pub length: u16,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Side {
    /// The handshake messages in the clear, taken out of their records.
    pub handshake: Vec<u8>,
    /// Where pieces of them begin, and where each was in the stream.
    pieces: Vec<(usize, usize)>,
    /// What ended them.
    pub end: End,
    /// Where the record begins that ended them, unless that is an alert in the clear.
    pub left_at: Option<usize>,
    /// Its ChangeCipherSpec was there (TLS 1.2 and earlier).
    pub switched: bool,
    /// SSL 3's way to say that a client has no certificate (RFC 6101 section 5.6.6).
    pub no_certificate: bool,
    /// The records from the first protected one on.
    pub protected: Vec<Protected>,
    /// Behind protected records, from this offset on, it is no TLS: nothing that belongs there, or a record that
    /// can be read.
    pub off_track: Option<usize>,
    /// Where the record ends that is not all there; what is there ends here, if its length is not
    /// known yet.
    pub record_end: usize,
    /// An alert in the clear behind protected records, its description as far as it is there: nothing but
    /// another one belongs behind it.
    pub gave_up: Option<Option<u8>>,
    /// Alerts in the clear.
    alerts: usize,
    /// What protected records that are too short to be judged hold together.
    short: Vec<u8>,
    /// Where the last ones of them begin that are all text, and how long they are together.
    text: Option<(usize, usize)>,
    /// Nothing more will come.
    pub ended: bool,
    /// What an earlier look found sealed, and what this one did.
    sealed: (SealedRecords, SealedRecords),
}

impl Side {
    pub fn read(prefix: Prefix<'_>, style: Style) -> Side {
        let bytes = prefix.bytes;
        let mut side = Side {
            handshake: Vec::new(),
            pieces: Vec::new(),
            end: End::Open,
            left_at: None,
            switched: false,
            no_certificate: false,
            protected: Vec::new(),
            off_track: None,
            record_end: bytes.len(),
            gave_up: None,
            alerts: 0,
            short: Vec::new(),
            text: None,
            ended: prefix.ended,
            sealed: (prefix.sealed.map_or(SealedRecords::default(), Sealed::get), SealedRecords::default()),
        };
        let mut at = 0;
        while let Some(rest) = bytes.get(at..)
            && !rest.is_empty()
            && side.protected.len() < MOST_PROTECTED
        {
            let (kind, length) = match Header::parse(rest) {
                Header::Whole { kind, length } => (kind, length),
                Header::Short if side.gave_up.is_none() || rest[0] == ALERT => break,
                Header::Short | Header::Wrong => {
                    side.derail(at);
                    break;
                }
            };
            let whole = HEADER + usize::from(length);
            side.record_end = at + whole;
            let payload = &rest[HEADER..rest.len().min(whole)];
            if !side.record(kind, length, payload, style, at) || rest.len() < whole {
                break;
            }
            at += whole;
        }
        if let Some(sealed) = prefix.sealed
            && side.sealed.1.to > side.sealed.0.to
        {
            sealed.set(side.sealed.1);
        }
        side
    }

    /// What begins at this offset is no record.
    fn derail(&mut self, at: usize) {
        self.left_at.get_or_insert(at);
        if self.protected.is_empty() {
            self.end = End::Broken(at);
        } else {
            self.off_track = Some(at);
        }
    }

    /// Takes one record; whether to go on to the next.
    fn record(&mut self, kind: u8, length: u16, payload: &[u8], style: Style, at: usize) -> bool {
        if kind == ALERT && alert::in_the_clear(length) {
            return self.take_alerts(length, payload, at);
        }
        match self.end {
            End::Protected(_) if self.gave_up.is_some() => {
                self.derail(at);
                return false;
            }
            End::Protected(_) => return self.after_handshake(kind, length, payload, style, at),
            // What stacks still send behind an alert is protected, or another one.
            End::Alert(_) => {
                if can_be_read(payload) {
                    self.derail(at);
                }
                return false;
            }
            End::Open | End::Broken(_) => {}
        }
        match self.in_the_clear(kind, length, payload, style, at) {
            None => true,
            Some(End::Protected(length)) => {
                self.left_at.get_or_insert(at);
                self.end = End::Protected(length);
                self.protected.push(Protected { kind, length });
                true
            }
            Some(end) => {
                match end {
                    End::Open => {}
                    End::Broken(at) => self.derail(at),
                    End::Protected(_) | End::Alert(_) => _ = self.left_at.get_or_insert(at),
                }
                self.end = end;
                matches!(end, End::Alert(_))
            }
        }
    }

    /// A record of alerts in the clear; whether to go on to the next.
    fn take_alerts(&mut self, length: u16, payload: &[u8], at: usize) -> bool {
        self.alerts += usize::from(length / 2);
        let behind = matches!(self.end, End::Protected(_));
        let alerts = alert::read(payload).filter(|_| self.alerts <= alert::MOST);
        // A peer that cannot make sense of what it got says so in the clear, and no more.
        let Some(alerts) = alerts.filter(|alerts| !behind || alerts.iter().all(|it| it.is_known())) else {
            self.derail(at);
            return false;
        };
        if behind {
            self.gave_up.get_or_insert(alerts.first().map(|alert| alert.description));
            return true;
        }
        for alert in alerts {
            match self.end {
                End::Open if alert.ends() => self.end = End::Alert(Some(alert.description)),
                End::Open => self.no_certificate |= alert.is_no_certificate(),
                _ => {}
            }
        }
        true
    }

    /// A record behind a protected one.
    fn after_handshake(&mut self, kind: u8, length: u16, payload: &[u8], style: Style, at: usize) -> bool {
        let end = match (kind, style) {
            (HANDSHAKE, Style::Marked { early_data: true })
                if payload.first().is_none_or(|kind| *kind == 1) =>
            {
                // What came so far was early data; the server asked for another hello.
                if !payload.is_empty() {
                    self.protected.clear();
                    self.end = End::Open;
                    self.shake(payload, at);
                }
                return true;
            }
            (CHANGE_CIPHER_SPEC, Style::Marked { .. }) if length == 1 && payload.iter().all(|b| *b == 1) => {
                return true;
            }
            (APPLICATION_DATA, Style::Marked { .. }) | (_, Style::Switched { .. }) => {
                self.protected(length, payload, style, at)
            }
            _ => End::Broken(at),
        };
        match end {
            End::Protected(length) => {
                self.protected.push(Protected { kind, length });
                true
            }
            End::Broken(at) => {
                self.derail(at);
                false
            }
            End::Open | End::Alert(_) => false,
        }
    }

    /// A record of the handshake in the clear; an end, when it is one.
    fn in_the_clear(
        &mut self,
        kind: u8,
        length: u16,
        payload: &[u8],
        style: Style,
        at: usize,
    ) -> Option<End> {
        let whole = payload.len() == usize::from(length);
        match (kind, style) {
            (HANDSHAKE, Style::Switched { .. }) if self.switched => {
                Some(self.protected(length, payload, style, at))
            }
            (APPLICATION_DATA, Style::Marked { .. }) => Some(self.protected(length, payload, style, at)),
            (ALERT, _) if self.switched && length >= SHORTEST_PROTECTED => Some(End::Alert(None)),
            (HANDSHAKE, _) if length > 0 => {
                self.shake(payload, at);
                None
            }
            (CHANGE_CIPHER_SPEC, _) if length == 1 && !self.switched => {
                if whole && payload != [1] {
                    return Some(End::Broken(at));
                }
                self.switched = whole && matches!(style, Style::Switched { .. });
                None
            }
            _ => Some(End::Broken(at)),
        }
    }

    /// Takes what a record holds of the handshake.
    fn shake(&mut self, payload: &[u8], at: usize) {
        self.pieces.push((self.handshake.len(), at + HEADER));
        self.handshake.extend_from_slice(payload);
    }

    /// From the first message on that has no place in the order it is no TLS.
    pub(super) fn hold_to(&mut self, order: Order) {
        let Some(wrong) = order.first_wrong(self.messages()) else { return };
        let piece = self.pieces.iter().rev().find(|(begins, _)| *begins <= wrong);
        self.protected.clear();
        self.end = End::Broken(piece.map_or(0, |(begins, at)| at + wrong - begins));
    }

    /// What a record is that should be protected. As long as more of its sample may come, what is there
    /// says nothing for good: bytes that repeat may go on without.
    fn protected(&mut self, length: u16, payload: &[u8], style: Style, at: usize) -> End {
        let readable = style == Style::Switched { readable: true };
        let whole = sample(payload, length).is_some();
        let judged = (whole || self.ended) && !readable;
        if length < SHORTEST_PROTECTED || judged && self.can_be_read(payload, at) {
            End::Broken(at)
        } else if let Some(at) = self.short_pieces(payload, style, at).filter(|_| judged) {
            End::Broken(at)
        } else if whole {
            End::Protected(length)
        } else {
            End::Open
        }
    }

    /// See [`can_be_read`]; what an earlier look said of a record's first bytes stands.
    fn can_be_read(&mut self, payload: &[u8], at: usize) -> bool {
        let (before, now) = self.sealed;
        let read = match before.of(at, at + HEADER) {
            seen if seen >= payload.len() => false,
            seen if seen >= SAMPLE => can_be_read_beyond(payload, seen),
            _ => can_be_read(payload),
        };
        if !read {
            self.sealed.1 = now.and(at, at + HEADER + payload.len());
        }
        read
    }

    /// From where on short records, up to this one, can be read together.
    fn short_pieces(&mut self, payload: &[u8], style: Style, at: usize) -> Option<usize> {
        if payload.len() >= SAMPLE {
            self.text = None;
            return None;
        }
        let (begins, length) = self.text.unwrap_or((at, 0));
        self.text = readable::is_all_text(payload).then_some((begins, length + payload.len()));
        if let Some((begins, SHORTEST_TEXT..)) = self.text {
            return Some(begins);
        }
        let nonce = if matches!(style, Style::Switched { .. }) { NONCE } else { 0 };
        let judged = self.short.len() / readable::PART * readable::PART;
        self.short.extend_from_slice(payload.get(nonce..).unwrap_or(&[]));
        readable::has_no_chance_within(&self.short[judged..]).then_some(at)
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

    /// Bytes that the last message in the clear still lacks, as its length says.
    pub fn lacks(&self) -> usize {
        let mut rest = &self.handshake[..];
        while let [_, a, b, c, body @ ..] = rest {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            match body.get(length..) {
                Some(next) => rest = next,
                None => return length - body.len(),
            }
        }
        0
    }
}

/// From where on it is no records, of whatever version.
pub(crate) fn not_records(prefix: Prefix<'_>) -> Option<usize> {
    let mut at = 0;
    for _ in 0..MOST_RECORDS {
        let rest = prefix.bytes.get(at..).filter(|rest| !rest.is_empty())?;
        match Header::parse(rest) {
            Header::Whole { kind, length } => {
                let payload = &rest[HEADER..rest.len().min(HEADER + usize::from(length))];
                let judged = prefix.ended || sample(payload, length).is_some();
                if kind == APPLICATION_DATA && judged && can_be_read(payload) {
                    return Some(at);
                }
                at += HEADER + usize::from(length);
            }
            Header::Short => return None,
            Header::Wrong => return Some(at),
        }
    }
    None
}

/// Whether records of application data that follow each other from here on are text together, though each is too
/// short to be judged.
pub(crate) fn are_text_together(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let pieces = std::iter::from_fn(|| {
        loop {
            let Header::Whole { kind, length } = Header::parse(rest) else { return None };
            let payload = &rest[HEADER..rest.len().min(HEADER + usize::from(length))];
            let is_whole = payload.len() == usize::from(length);
            rest = &rest[HEADER + payload.len()..];
            if kind == APPLICATION_DATA && is_whole {
                return Some(payload);
            }
        }
    });
    readable::is_text_together(pieces.take(MOST_RECORDS))
}

/// As much of a record's payload as [`can_be_read`] has to have.
pub(crate) fn sample(payload: &[u8], length: u16) -> Option<&[u8]> {
    payload.get(..SAMPLE.min(usize::from(length)))
}

/// Whether anyone can read the payload of a record, by what its first bytes look like, or for text behind them:
/// what is protected has none, wherever it is cut.
pub(crate) fn can_be_read(payload: &[u8]) -> bool {
    let sample = &payload[..payload.len().min(SAMPLE)];
    readable::is_text(sample)
        || sample.get(NONCE..).is_some_and(readable::is_no_chance)
        || can_be_read_beyond(payload, SAMPLE)
}

/// The same of what is behind the first `seen` bytes, [`SAMPLE`] at least, that were found to be sealed.
fn can_be_read_beyond(payload: &[u8], seen: usize) -> bool {
    let whole_parts = |part: usize| SAMPLE + (seen - SAMPLE) / part * part;
    payload.get(whole_parts(TEXT)..).is_some_and(holds_text)
        || payload.get(whole_parts(readable::PART)..).is_some_and(readable::has_no_chance_within)
}

/// Whether there is text somewhere in what looks random.
pub(crate) fn holds_text(bytes: &[u8]) -> bool {
    bytes.chunks_exact(TEXT).any(readable::is_text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_byte_that_is_no_letter_does_not_make_a_secret() {
        let line = "GET /caf\u{e9}/de/la/paix HTTP/1.1\r\nHost: example.org\r\n\r\n";
        assert!(can_be_read(line.as_bytes()));
        assert!(can_be_read("Привет, это не зашифровано, и любой прочтёт".as_bytes()));
        assert!(can_be_read(b"twenty-four bytes of text"));
        assert!(can_be_read(&[0; 40]));
    }

    /// Seven equal bytes of 24 are no accident, and of 64 they may be.
    #[test]
    fn a_record_is_judged_when_its_sample_is_whole_or_nothing_follows() {
        let payload: Vec<u8> =
            (0u8..80).map(|n| if n % 3 == 2 && n < 29 { 0xee } else { n ^ 0x80 }).collect();
        let bytes = [&[APPLICATION_DATA, 3, 3, 0, 80][..], &payload].concat();
        let end = |n: usize, ended: bool| {
            Side::read(Prefix { bytes: &bytes[..n], ended, ..Prefix::default() }, Style::UNKNOWN).end
        };
        assert!(can_be_read(&payload[..32]) && !can_be_read(&payload));
        for n in 0..=bytes.len() {
            let expected = if n < HEADER + SAMPLE { End::Open } else { End::Protected(80) };
            assert_eq!(end(n, false), expected, "{n}");
        }
        // A record that never becomes whole hides nothing.
        assert_eq!(end(HEADER + 32, true), End::Broken(0));
        assert_eq!(end(HEADER + 20, true), End::Open);
    }

    proptest! {
        /// A nonce that counts, and what looks random behind it.
        #[test]
        fn what_is_protected_is_not_called_readable(
            mut payload in proptest::collection::vec(any::<u8>(), 8..600),
            count in any::<u16>(),
        ) {
            payload[..NONCE].copy_from_slice(&u64::from(count).to_be_bytes());
            prop_assert!(!can_be_read(&payload));
        }
    }
}
