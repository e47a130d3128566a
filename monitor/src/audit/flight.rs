//! How far a server's first flight has come: which messages are there, so that a probe knows when to
//! stop reading. What the messages say is read by the dissectors.
//!
//! Must never: panic or grow, whatever the server sends.

/// Bytes of handshake messages that are looked at.
const LONGEST: usize = 64 << 10;

/// `SHA-256("HelloRetryRequest")` (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// What a ServerHello or HelloRetryRequest chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    pub version: u16,
    pub suite: u16,
    /// In the clear with TLS 1.3 only.
    pub group: Option<u16>,
    pub retry: bool,
    /// Will send a session ticket (RFC 5077 section 3.2); TLS 1.2 and before.
    pub ticket: bool,
}

/// The first flight, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flight {
    pub chosen: Option<Chosen>,
    /// A CertificateRequest; TLS 1.2 and before.
    pub asks_for_certificate: bool,
    /// ServerHelloDone.
    pub done: bool,
    /// Number of the alert.
    pub alert: Option<u8>,
    /// These are no TLS records.
    pub foreign: bool,
}

impl Flight {
    /// Reads what the server has sent so far.
    pub fn read(bytes: &[u8]) -> Flight {
        let mut flight = Flight::default();
        let mut messages: Vec<u8> = Vec::new();
        let mut rest = bytes;
        while let Some((head, after)) = rest.split_at_checked(5) {
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            if head[1] != 3 || !(20..=23).contains(&head[0]) {
                flight.foreign = true;
                break;
            }
            let (body, whole) = match after.split_at_checked(length) {
                Some((body, after)) => {
                    rest = after;
                    (body, true)
                }
                None => (after, false),
            };
            match head[0] {
                21 if body.len() == 2 => {
                    flight.alert = Some(body[1]);
                    break;
                }
                22 if messages.len() + body.len() <= LONGEST => messages.extend_from_slice(body),
                // Encrypted from here on.
                _ => break,
            }
            if !whole {
                break;
            }
        }
        // Anything may begin like a record; three bytes tell a protocol of text from one.
        flight.foreign |= bytes.first().is_some_and(|first| !(20..=23).contains(first));
        flight.messages(&messages);
        flight
    }

    fn messages(&mut self, mut rest: &[u8]) {
        while let Some((head, after)) = rest.split_at_checked(4) {
            let length = usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]);
            let Some((body, next)) = after.split_at_checked(length) else { return };
            rest = next;
            match head[0] {
                2 if self.chosen.is_none() => self.chosen = server_hello(body),
                13 => self.asks_for_certificate = true,
                14 => {
                    // What comes now would answer something that nobody has said.
                    self.done = true;
                    return;
                }
                _ => {}
            }
            if self.chosen.is_some_and(|chosen| chosen.version >= super::hello::TLS_1_3) {
                // What follows is encrypted.
                return;
            }
        }
    }

    /// Nothing more will come that a probe can read.
    pub fn is_complete(&self) -> bool {
        let through = self.chosen.is_some_and(|chosen| chosen.version >= super::hello::TLS_1_3);
        self.foreign || self.alert.is_some() || self.done || through
    }
}

fn server_hello(body: &[u8]) -> Option<Chosen> {
    let u16_at =
        |bytes: &[u8], at: usize| bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    let version = u16_at(body, 0)?;
    let retry = body.get(2..34)? == RETRY;
    let session = usize::from(*body.get(34)?);
    let suite = u16_at(body, 35 + session)?;
    let mut chosen = Chosen { version, suite, retry, ..Chosen::default() };
    let mut at = 35 + session + 3;
    let Some(length) = u16_at(body, at) else { return Some(chosen) };
    at += 2;
    let end = (at + usize::from(length)).min(body.len());
    while let (Some(kind), Some(length)) = (u16_at(body, at), u16_at(body, at + 2)) {
        at += 4;
        if at + usize::from(length) > end {
            break;
        }
        match kind {
            35 => chosen.ticket = true,
            43 => chosen.version = u16_at(body, at).unwrap_or(version),
            51 => chosen.group = u16_at(body, at),
            _ => {}
        }
        at += usize::from(length);
    }
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello(version: u16, random: [u8; 32], extensions: &[u8]) -> Vec<u8> {
        let mut body = version.to_be_bytes().to_vec();
        body.extend_from_slice(&random);
        body.push(0);
        body.extend_from_slice(&[0x13, 0x01, 0]);
        body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
        body.extend_from_slice(extensions);
        let mut message = vec![2, 0, 0, body.len() as u8];
        message.extend_from_slice(&body);
        let mut record = vec![22, 3, 3, 0, message.len() as u8];
        record.extend_from_slice(&message);
        record
    }

    #[test]
    fn a_server_hello_and_a_retry() {
        let share = [0, 43, 0, 2, 3, 4, 0, 51, 0, 2, 0x11, 0xec];
        let flight = Flight::read(&hello(0x0303, RETRY, &share));
        let chosen = flight.chosen.expect("a hello");
        assert_eq!((chosen.version, chosen.suite, chosen.group), (0x0304, 0x1301, Some(0x11ec)));
        assert!(chosen.retry && flight.is_complete());
        let flight = Flight::read(&hello(0x0303, [0; 32], &[0, 35, 0, 0]));
        assert!(flight.chosen.is_some_and(|chosen| chosen.ticket && !chosen.retry));
        assert!(!flight.is_complete());
    }

    /// Found by fuzzing.
    #[test]
    fn what_was_chosen_stays_chosen() {
        let first = hello(0x0303, [0; 32], &[0, 35, 0, 0]);
        let done = [22, 3, 3, 0, 4, 14, 0, 0, 0];
        let other = hello(0x0302, [1; 32], &[]);
        let chosen = Flight::read(&first).chosen;
        assert!(chosen.is_some());
        for flight in [[&first[..], &done, &other].concat(), [&first[..], &other, &done].concat()] {
            let flight = Flight::read(&flight);
            assert!(flight.done);
            assert_eq!(flight.chosen, chosen);
        }
    }

    #[test]
    fn alerts_and_strangers() {
        assert_eq!(Flight::read(&[21, 3, 1, 0, 2, 2, 70]).alert, Some(70));
        for stranger in [b"HTTP/1.1 400 Bad".as_slice(), b"SSH-2.0-x", b"-ERR"] {
            assert!(Flight::read(stranger).foreign);
        }
        assert!(!Flight::read(&[22, 3]).foreign);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let mut record = vec![22, 3, 3];
            record.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
            record.extend_from_slice(&bytes);
            let _ = Flight::read(&bytes);
            let _ = Flight::read(&record[..cut.min(record.len())]);
        }
    }
}
