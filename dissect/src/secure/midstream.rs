//! Connections whose start was not seen: opened before we started, or first bytes lost.
//!
//! In: both directions from somewhere in their middle. Out: encrypted where a chain of TLS
//! records of application data shows, plaintext where the bytes can be read. Must never: decide on
//! less than three records that follow each other exactly, or take the headers and the counters of less
//! for plaintext.

use super::record::{
    ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, Header, are_text_together, can_be_read,
    holds_text, not_records, sample,
};
use crate::readable;
use crate::{Cipher, Facts, Inspection, Plain, Prefix, Protection, Protocol, TlsFacts, UnknownReason};

/// Headers that have to chain. By chance one fits once in 2^25 offsets.
const CHAIN: usize = 3;
/// As far as a first header is looked for: a record that began before is at most this long.
const SEARCH: usize = 4096;
/// Records of a sample that are looked at for a handshake.
const MOST_RECORDS: usize = 16;

/// A protected HelloRequest is at most as long: four bytes, padded, with an initialisation vector and a
/// MAC of SHA-384 (RFC 5246 section 6.2.3.2).
const LONGEST_HELLO_REQUEST: u16 = 16 + 48 + 16;
/// A protected ChangeCipherSpec is at least as long: a byte and an authentication tag of 8.
const SHORTEST_SWITCH: u16 = 9;

/// Whether another handshake goes on in a sample of TLS 1.2 or earlier (RFC 5246 section 7.4.1.1): a
/// protected ChangeCipherSpec either way, or a message of the server that is more than a request. The
/// client's hello alone is none: the server may refuse.
pub(crate) fn renegotiates(client: &[u8], server: &[u8]) -> bool {
    let switches = |(kind, length)| kind == CHANGE_CIPHER_SPEC && length >= SHORTEST_SWITCH;
    let answers = |(kind, length)| kind == HANDSHAKE && length > LONGEST_HELLO_REQUEST;
    handshake_records(client).any(switches) || handshake_records(server).any(|it| switches(it) || answers(it))
}

/// Kind and length of the records at the start of a sample that begins with a message of a handshake, as
/// long as they follow each other; none, if no second header confirms the first.
fn handshake_records(bytes: &[u8]) -> impl Iterator<Item = (u8, u16)> {
    let version = bytes.get(1..3).filter(|version| matches!(version, [3, 1..=3]));
    let mut rest = bytes;
    let records: Vec<(u8, u16)> = std::iter::from_fn(|| match Header::parse(rest) {
        Header::Whole { kind, length } if rest.get(1..3) == version => {
            rest = rest.get(5 + usize::from(length)..).unwrap_or(&[]);
            Some((kind, length))
        }
        _ => None,
    })
    .take(MOST_RECORDS)
    .collect();
    let begins = matches!(records[..], [(HANDSHAKE, _), _, ..]);
    records.into_iter().filter(move |_| begins)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Records,
    Http,
    Readable,
    /// A chain of records, and behind it what is none.
    BrokenOff,
    /// Nothing but an alert in the clear, the last that was sent: no handshake went through.
    Alert,
    Nothing,
}

pub(crate) fn inspect(client: Prefix<'_>, server: Prefix<'_>) -> Inspection {
    let (from_client, client_done) = look(client);
    let (from_server, server_done) = look(server);
    let both = [from_client, from_server];
    let has = |look: Look| both.contains(&look);
    let readable = has(Look::Http) || has(Look::Readable);
    let beside_records = if readable {
        Some("readable bytes")
    } else if has(Look::BrokenOff) {
        Some("more than records")
    } else if has(Look::Alert) {
        Some("an alert in the clear")
    } else {
        None
    };
    let mixed_with = beside_records.filter(|_| has(Look::Records));
    // What looked like records may turn out to be none behind those that were looked at.
    let settled = client_done && server_done && mixed_with.is_none();
    let facts = if let Some(other) = mixed_with {
        let mut facts = Facts::unknown(UnknownReason::OpenedBefore);
        facts.detail = Some(format!("TLS records one way, {other} the other"));
        facts
    } else if has(Look::Records) {
        let mut facts = Facts::unknown(UnknownReason::OpenedBefore);
        facts.protocol = Some(Protocol::Tls);
        facts.protection = Protection::Encrypted(Cipher::Tls);
        facts.tls = Some(TlsFacts { established: true, ..TlsFacts::default() });
        facts.detail = Some("records of an established TLS connection".into());
        facts
    } else if has(Look::Http) {
        let mut facts = Facts::unknown(UnknownReason::OpenedBefore);
        facts.protocol = Some(Protocol::Http);
        facts.protection = Protection::Plaintext(Plain::Protocol(Protocol::Http));
        facts
    } else if readable {
        let mut facts = Facts::unknown(UnknownReason::OpenedBefore);
        facts.protection = Protection::Plaintext(Plain::Readable);
        facts
    } else {
        Facts::unknown(UnknownReason::OpenedBefore)
    };
    Inspection::new(facts, settled)
}

/// One direction, and whether more bytes could change it.
fn look(prefix: Prefix<'_>) -> (Look, bool) {
    let bytes = prefix.bytes;
    if let Some(found) = http(bytes) {
        return (found, true);
    }
    let mut broken_off = false;
    match chain(bytes, 0) {
        Chain::Holds if goes_on(prefix, 0) => return (Look::Records, true),
        Chain::Holds => broken_off = true,
        Chain::Short if !prefix.ended => return (Look::Nothing, false),
        _ => {}
    }
    if are_text_together(bytes) {
        return (Look::Readable, true);
    }
    if prefix.ended && is_records(bytes) {
        return (without_records(bytes), true);
    }
    let (protection, _, done) = readable::judge(prefix, Prefix { ended: true, ..Prefix::default() });
    let is_readable = protection == Protection::Plaintext(Plain::Readable);
    if is_readable && readable::is_in_words(bytes) {
        return (Look::Readable, done);
    }
    let limit = bytes.len().min(SEARCH);
    let starts = (1..limit).filter(|at| bytes[*at..].starts_with(&[APPLICATION_DATA, 3, 3]));
    let mut open = false;
    // Bounded: a hostile run of short "records" must not make this quadratic.
    for at in starts.take(64) {
        match chain(bytes, at) {
            Chain::Wrong => {}
            Chain::Short => open |= !prefix.ended,
            Chain::Holds if are_text_together(&bytes[at..]) => return (Look::Readable, done && !open),
            // The first that holds is the one that counts, so that a yes that was taken back stays that. Before it
            // are no text, but for the rest of a record, and none that may still hold.
            Chain::Holds if open || broken_off || holds_text(&bytes[..at]) => {}
            Chain::Holds if goes_on(prefix, at) => return (Look::Records, done),
            Chain::Holds => broken_off = true,
        }
    }
    // Of less, the headers and counters of short records may be most.
    let repeats = is_readable && bytes.len() >= readable::SAMPLE;
    let look = match prefix.ended {
        _ if repeats => Look::Readable,
        _ if broken_off => Look::BrokenOff,
        true => without_records(bytes),
        false => Look::Nothing,
    };
    (look, prefix.ended || bytes.len() >= SEARCH && !open)
}

/// A request or status line at the start of a segment.
fn http(bytes: &[u8]) -> Option<Look> {
    const STARTS: [&[u8]; 9] = [
        b"GET /",
        b"POST /",
        b"PUT /",
        b"HEAD /",
        b"DELETE /",
        b"PATCH /",
        b"OPTIONS ",
        b"HTTP/1.1 ",
        b"HTTP/1.0 ",
    ];
    STARTS.iter().any(|start| bytes.starts_with(start)).then_some(Look::Http)
}

/// What ended, and is too little to show encryption.
fn without_records(bytes: &[u8]) -> Look {
    match bytes.last_chunk() {
        Some([ALERT, 3, 0..=4, 0, 2, 1 | 2, _]) => Look::Alert,
        _ => Look::Nothing,
    }
}

/// Nothing but records of one version whose payloads cannot be read, of whatever kind and however few; the
/// last may be cut short.
fn is_records(bytes: &[u8]) -> bool {
    let version = bytes.get(1..3);
    let mut rest = bytes;
    loop {
        match Header::parse(rest) {
            Header::Whole { kind, length }
                if kind <= APPLICATION_DATA && length > 0 && rest.get(1..3) == version =>
            {
                let payload = &rest[5..];
                let (payload, next) = payload.split_at(payload.len().min(usize::from(length)));
                if can_be_read(payload) {
                    return false;
                }
                rest = next;
            }
            Header::Short => return rest.len() < bytes.len(),
            _ => return false,
        }
    }
}

/// From here on there is nothing but records, none of which can be read.
fn goes_on(prefix: Prefix<'_>, at: usize) -> bool {
    let rest = prefix.after(at);
    not_records(rest).is_none() && !are_text_together(rest.bytes)
}

enum Chain {
    Holds,
    /// Right so far.
    Short,
    Wrong,
}

fn chain(bytes: &[u8], mut at: usize) -> Chain {
    let version = bytes.get(at + 1..at + 3);
    for _ in 0..CHAIN {
        let rest = bytes.get(at..).unwrap_or(&[]);
        match Header::parse(rest) {
            // Nearly all that is sent after the handshake, and always with the same version.
            Header::Whole { kind: APPLICATION_DATA, length }
                if rest.get(1..3) == version && version != Some(&[3, 0]) && length >= 17 =>
            {
                // A record whose first bytes are not there yet may still turn out to be text.
                let Some(sample) = sample(&rest[5..], length) else {
                    return Chain::Short;
                };
                if can_be_read(sample) {
                    return Chain::Wrong;
                }
                at += 5 + usize::from(length);
            }
            Header::Short if rest.first().is_none_or(|kind| *kind == APPLICATION_DATA) => {
                return Chain::Short;
            }
            _ => return Chain::Wrong,
        }
    }
    Chain::Holds
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn record(kind: u8, length: u16) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        let mut bytes = vec![kind, 3, 3, high, low];
        bytes.extend((0..length).map(|n| (n.wrapping_mul(40_503) >> 3) as u8 | 0x80));
        bytes
    }

    /// Records of AES-128-GCM as TLS 1.2 has them: a nonce that counts, and what looks random.
    fn sealed(kind: u8, first: u64, payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (count, payload) in (first..).zip(payloads) {
            let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
            bytes.extend([kind, 3, 3]);
            bytes.extend(length.to_be_bytes());
            bytes.extend(count.to_be_bytes());
            bytes.extend(payload);
        }
        bytes
    }

    fn in_a_glance(bytes: &[u8]) -> Protection {
        crate::inspect_sample(bytes, &[]).facts.protection
    }

    proptest! {
        /// The tag takes 16 bytes of each. Of less than 32 bytes nobody makes a sample.
        #[test]
        fn few_and_short_records_are_not_called_plaintext(
            payloads in vec(vec(any::<u8>(), 18..=46), 1..=3),
            first in 0u64..1000,
            cut in 0usize..80,
            kind in 20u8..=23,
        ) {
            let bytes = sealed(kind, first, &payloads);
            let cut = cut.min(bytes.len());
            let cuts = [&bytes[..], &bytes[cut..], &bytes[..bytes.len() - cut]];
            for bytes in cuts.into_iter().filter(|bytes| bytes.len() >= 32) {
                let found = in_a_glance(bytes);
                prop_assert!(!matches!(found, Protection::Plaintext(_)), "{:?} of {:?}", found, bytes);
            }
            if kind == APPLICATION_DATA && payloads.len() == 3 {
                prop_assert_eq!(in_a_glance(&bytes), Protection::Encrypted(Cipher::Tls));
            }
        }
    }

    #[test]
    fn a_farewell_alone_is_not_called_plaintext() {
        let payload: Vec<u8> = (0..18u8).map(|n| n.wrapping_mul(157) ^ 0xa5).collect();
        let bytes = sealed(21, 3, &[payload]);
        assert_eq!(in_a_glance(&bytes), Protection::Unknown(UnknownReason::OpenedBefore));
    }

    /// Whatever follows what is no record, and however the client's bytes are cut.
    #[test]
    fn a_yes_that_was_taken_back_does_not_come_again() {
        let server = record(APPLICATION_DATA, 40).repeat(4);
        let zeroes = [&[APPLICATION_DATA, 3, 3, 0, 17][..], &[0; 17]].concat();
        let found = |bytes: &[u8], ended| {
            let client = Prefix { bytes, ended, midstream: true, ..Prefix::default() };
            inspect(client, Prefix { bytes: &server, ended, midstream: true, ..Prefix::default() })
        };
        let is_yes = |it: &Inspection| matches!(it.facts.protection, Protection::Encrypted(_));
        for first in [zeroes.repeat(3), record(APPLICATION_DATA, 40).repeat(3)] {
            for none in [vec![0; 600], vec![0x99; 30], b"\x17\x03\x09 of a length".to_vec()] {
                for more in [record(APPLICATION_DATA, 40).repeat(4), [0x17, 3, 3, 0x40, 0].repeat(400)] {
                    let bytes = [&first[..], &none, &more].concat();
                    assert!(found(&bytes[..first.len()], false).settled);
                    for length in first.len()..=bytes.len() {
                        let now = found(&bytes[..length], false);
                        // The third byte shows that there is no header.
                        assert_eq!(is_yes(&now), length <= first.len() + usize::from(none[0] == 0x17) * 2);
                    }
                    assert!(!is_yes(&found(&bytes, true)));
                }
            }
        }
        let whole = found(&[&zeroes.repeat(3)[..], &[0x99; 30]].concat(), true);
        assert_eq!(whole.facts.detail.as_deref(), Some("TLS records one way, more than records the other"));
    }

    /// What is framed like records, and can be read, is still found.
    #[test]
    fn readable_records_are_called_plaintext() {
        let words =
            "Ein Satz mit Umlauten, \u{e4}hnlich wie dieser hier, und noch ein St\u{fc}ck mehr davon. ";
        let bytes = sealed(APPLICATION_DATA, 1, &std::array::from_fn::<_, 8, _>(|_| words.into()));
        assert_eq!(in_a_glance(&bytes), Protection::Plaintext(Plain::Readable));
    }

    /// Each is too short to be judged.
    #[test]
    fn short_records_of_text_are_called_plaintext() {
        let words = b"a word or two, and another one, in the clear, ";
        for length in [17, 20, 23] {
            let records = |count: usize| -> Vec<u8> {
                let piece = |n: usize| words.iter().copied().cycle().skip(n).take(length);
                let head = [APPLICATION_DATA, 3, 3, 0, length as u8];
                (0..count).flat_map(|n| head.into_iter().chain(piece(n))).collect()
            };
            assert_eq!(in_a_glance(&records(12)), Protection::Plaintext(Plain::Readable), "{length}");
            // Behind records that are none.
            let behind = [record(APPLICATION_DATA, 400).repeat(4), records(12)].concat();
            assert_eq!(in_a_glance(&behind), Protection::Plaintext(Plain::Readable), "{length}");
            let cut = &behind[33..];
            assert_eq!(in_a_glance(cut), Protection::Plaintext(Plain::Readable), "{length}");
        }
    }

    /// The lengths are those of OpenSSL 3.0 with AES-256-GCM, which were seen on the wire.
    #[test]
    fn another_handshake_shows_in_a_sample() {
        let data = record(APPLICATION_DATA, 60);
        let request = record(HANDSHAKE, 28);
        let flight = [request.clone(), record(HANDSHAKE, 117), record(HANDSHAKE, 834)].concat();
        let hello = [record(HANDSHAKE, 229), record(HANDSHAKE, 834)].concat();
        let through = [record(HANDSHAKE, 61), record(CHANGE_CIPHER_SPEC, 25), record(HANDSHAKE, 40)].concat();
        for (client, server, told) in [
            (&[][..], &flight[..], true),
            (&[], &flight[..400], true),
            (&through, &[], true),
            // Asked for, and not yet answered.
            (&hello, &request, false),
            (&[], &[request.clone(), data.clone()].concat(), false),
            (&data, &[data.clone(), flight.clone()].concat(), false),
            // One header is no evidence.
            (&[], &flight[33..100], false),
            (&[], &[], false),
        ] {
            assert_eq!(renegotiates(client, server), told);
        }
    }
}
