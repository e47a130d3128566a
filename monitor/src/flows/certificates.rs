//! Certificates that flows of a stream showed beside those of the flow that the stream shows itself: other names that
//! are asked for, other clients, what was renewed.
//!
//! Bounded, by number and in bytes, of each stream and over all streams: what finds no room is counted.

use std::sync::Arc;

use dissect::{Certificate, Facts};

/// Chains kept of a stream.
const MOST: usize = 64;

/// Bytes of them: who serves chooses how long a chain is.
const STREAM_BYTES: usize = 64 << 10;

/// The same, of all streams together.
pub(super) const BYTES: usize = 4 << 20;

/// See above.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub chains: Vec<Arc<Facts>>,
    /// That found no room; one that is shown again counts again.
    pub left_out: u64,
}

impl Shown {
    /// Another flow showed these, while there is `room`, bytes.
    fn keep(&mut self, facts: &Arc<Facts>, room: &mut usize) {
        let bytes = self::bytes(facts);
        let own = || STREAM_BYTES.saturating_sub(self.bytes());
        if self.chains.len() >= MOST || bytes > *room || bytes > own() {
            self.left_out += certificates(facts).count() as u64;
            return;
        }
        *room -= bytes;
        self.chains.push(facts.clone());
    }
}

impl Shown {
    /// What the chains take.
    pub(super) fn bytes(&self) -> usize {
        self.chains.iter().map(|facts| bytes(facts)).sum()
    }
}

/// Whether a flow showed what neither its stream shows, nor is kept.
pub(super) fn is_new(shown: Option<&Shown>, by_stream: &Facts, facts: &Facts) -> bool {
    let mut known = shown.iter().flat_map(|shown| &shown.chains);
    certificates(facts).next().is_some() && !same(by_stream, facts) && !known.any(|known| same(known, facts))
}

/// Keeps what a flow showed where its stream shows something else.
pub(super) fn keep(shown: &mut Option<Box<Shown>>, by_stream: &Facts, facts: &Arc<Facts>, room: &mut usize) {
    if is_new(shown.as_deref(), by_stream, facts) {
        shown.get_or_insert_default().keep(facts, room);
    }
}

fn certificates(facts: &Facts) -> impl Iterator<Item = &Certificate> {
    facts.tls.iter().flat_map(|tls| tls.server_certificates.iter().chain(&tls.client_certificates))
}

fn same(a: &Facts, b: &Facts) -> bool {
    certificates(a).map(|it| &it.sha256).eq(certificates(b).map(|it| &it.sha256))
}

fn bytes(facts: &Facts) -> usize {
    certificates(facts).map(bytes_of).sum()
}

fn bytes_of(certificate: &Certificate) -> usize {
    let Certificate { subject, issuer, serial, sha256, key_sha256, signature_algorithm, .. } = certificate;
    let texts = [subject, issuer, serial, sha256, key_sha256, signature_algorithm];
    let names = certificate.alternative_names.iter().chain(&certificate.spiffe_id);
    let length = texts.into_iter().chain(names).map(|text| size_of::<String>() + text.capacity());
    size_of::<Certificate>() + length.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use dissect::{TlsFacts, UnknownReason};

    use super::*;

    fn with(sha256: &[&str]) -> Arc<Facts> {
        let certificate =
            |sha256: &&str| Certificate { sha256: (*sha256).to_owned(), ..Certificate::default() };
        let server_certificates = sha256.iter().map(certificate).collect();
        let tls = Some(TlsFacts { server_certificates, ..TlsFacts::default() });
        Arc::new(Facts { tls, ..Facts::unknown(UnknownReason::Handshake) })
    }

    #[test]
    fn each_chain_is_kept_once_while_there_is_room_and_the_others_are_counted() {
        let (mut shown, mut room) = (None, BYTES);
        let own = with(&["own", "authority"]);
        for _ in 0..2 {
            for other in [&own, &with(&[]), &with(&["a", "authority"]), &with(&["b", "authority"])] {
                keep(&mut shown, &own, other, &mut room);
            }
        }
        let kept = shown.clone().unwrap_or_default();
        assert_eq!((kept.chains.len(), kept.left_out), (2, 0));
        assert!(room < BYTES);
        for n in 0..MOST {
            keep(&mut shown, &own, &with(&[&n.to_string()]), &mut room);
        }
        let kept = shown.unwrap_or_default();
        assert_eq!((kept.chains.len(), kept.left_out), (MOST, 2));
        let (mut none, mut full) = (None, 100);
        keep(&mut none, &own, &with(&["c", "d"]), &mut full);
        assert_eq!((none.unwrap_or_default().left_out, full), (2, 100));
    }

    #[test]
    fn chains_of_one_stream_leave_room_for_those_of_others() {
        let (mut shown, mut room, own) = (None, BYTES, with(&["own"]));
        for n in 0..4 {
            keep(&mut shown, &own, &with(&[&n.to_string().repeat(STREAM_BYTES / 3)]), &mut room);
        }
        let kept = shown.unwrap_or_default();
        assert_eq!((kept.chains.len(), kept.left_out), (2, 2));
        assert!(room > BYTES - STREAM_BYTES);
        let mut other = None;
        keep(&mut other, &own, &with(&["a"]), &mut room);
        assert_eq!(other.unwrap_or_default().chains.len(), 1);
    }
}
