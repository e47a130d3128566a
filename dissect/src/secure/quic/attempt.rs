//! What the Initial packets of a flow hold, one attempt at a connection at a time. A client begins
//! anew, with another connection id, after a Retry and, as a rule, after a version negotiation.

use super::frames::{Frame, frames};
use super::initial::{Keys, is_retry_of};
use super::packet::{Kind, Long, packets};
use crate::bytes::Reader;
use crate::{End, Reassembly};

/// An original connection id, the one after a Retry, the one that the server chose, and the same
/// again after a version negotiation.
const MOST_IDS: usize = 6;
/// Of one direction's handshake in Initial packets: more than is ever captured.
const LONGEST: u32 = 1 << 14;

/// The Initial packets that are protected with the keys of one connection id.
pub(super) struct Attempt<'a> {
    /// The client's first destination connection id, which the keys come from.
    pub id: &'a [u8],
    keys: Keyring,
    pub client: Side<'a>,
    pub server: Side<'a>,
    /// The client was sent here by a Retry.
    pub retried: bool,
    /// The client sent 0-RTT packets.
    pub early_data: bool,
}

/// What one end said.
#[derive(Default)]
pub(super) struct Side<'a> {
    /// Pieces of the handshake: version of the packet, offset, bytes.
    pieces: Vec<(u32, u32, Vec<u8>)>,
    /// Its own connection ids.
    pub ids: Vec<&'a [u8]>,
    /// Version of the last packet that was opened.
    pub version: Option<u32>,
    /// Error code of its CONNECTION_CLOSE.
    pub close: Option<u64>,
}

/// All attempts, in order. Packets that cannot be opened count for none.
pub(super) fn attempts<'a>(client: &[&'a [u8]], server: &[&'a [u8]]) -> Vec<Attempt<'a>> {
    let from_client = || client.iter().flat_map(|datagram| packets(datagram));
    let mut attempts: Vec<Attempt<'a>> = Vec::new();
    for long in from_client().filter(|long| long.kind == Kind::Initial) {
        if attempts.len() < MOST_IDS && !attempts.iter().any(|attempt| attempt.id == long.destination) {
            attempts.push(Attempt::new(long.destination));
        }
    }
    for long in from_client() {
        match long.kind {
            Kind::Initial => give(&mut attempts, End::Client, &long),
            Kind::EarlyData => {
                for attempt in attempts.iter_mut().filter(|attempt| attempt.id == long.destination) {
                    attempt.early_data = true;
                }
            }
            _ => {}
        }
    }
    attempts.retain(|attempt| attempt.client.version.is_some());
    for long in server.iter().flat_map(|datagram| packets(datagram)) {
        match long.kind {
            Kind::Initial => give(&mut attempts, End::Server, &long),
            Kind::Retry if attempts.iter().any(|attempt| is_retry_of(&long, attempt.id)) => {
                for attempt in attempts.iter_mut().filter(|attempt| attempt.id == long.source) {
                    attempt.retried = true;
                }
            }
            _ => {}
        }
    }
    attempts
}

/// Gives a packet to the attempt whose keys open it.
fn give<'a>(attempts: &mut [Attempt<'a>], from: End, long: &Long<'a>) {
    for attempt in attempts {
        let Some(keys) = attempt.keys.of(long.version, attempt.id) else { return };
        let (keys, side) = match from {
            End::Client => (&keys.client, &mut attempt.client),
            End::Server => (&keys.server, &mut attempt.server),
        };
        if let Some(payload) = keys.open(long) {
            side.take(long, &payload);
            return;
        }
    }
}

impl<'a> Attempt<'a> {
    fn new(id: &'a [u8]) -> Self {
        Attempt {
            id,
            keys: Keyring::default(),
            client: Side::default(),
            server: Side::default(),
            retried: false,
            early_data: false,
        }
    }
}

/// The keys of one connection id, by version.
#[derive(Default)]
struct Keyring(Vec<(u32, Keys)>);

impl Keyring {
    fn of(&mut self, version: u32, id: &[u8]) -> Option<&Keys> {
        if !self.0.iter().any(|(known, _)| *known == version) {
            self.0.push((version, Keys::new(version, id)?));
        }
        self.0.iter().find(|(known, _)| *known == version).map(|(_, keys)| keys)
    }
}

impl<'a> Side<'a> {
    fn take(&mut self, long: &Long<'a>, payload: &[u8]) {
        self.version = Some(long.version);
        if !self.ids.contains(&long.source) {
            self.ids.push(long.source);
        }
        for frame in frames(payload) {
            match frame {
                Frame::Crypto { offset, data } => {
                    if let Ok(offset) = u32::try_from(offset)
                        && offset < LONGEST
                    {
                        self.pieces.push((long.version, offset, data.to_vec()));
                    }
                }
                Frame::Close { code } => self.close = self.close.or(Some(code)),
            }
        }
    }

    /// Its handshake as this version's packets have it and, where it `goes_on` in them, those of others.
    pub fn stream(&self, version: u32, goes_on: bool) -> Reassembly {
        let mut stream = Reassembly::new(LONGEST);
        for preferred in [true, false] {
            let pieces = self.pieces.iter().filter(|piece| (piece.0 == version) == preferred);
            for (_, offset, data) in pieces.filter(|_| preferred || goes_on) {
                stream.push(*offset, data);
            }
        }
        stream
    }
}

/// The whole messages of a handshake: kind, body, and that it is all of it.
pub(super) fn messages(stream: &[u8]) -> impl Iterator<Item = (u8, &[u8], bool)> {
    let mut reader = Reader::new(stream);
    std::iter::from_fn(move || {
        let (kind, length) = (reader.u8()?, reader.u24()?);
        Some((kind, reader.take(length)?, true))
    })
}
