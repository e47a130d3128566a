//! WireGuard (its paper, section 5.4): messages of fixed sizes, led by a type and three zero bytes.
//!
//! In: both directions' datagrams. Out: encrypted once a handshake was answered and data followed.
//! Must never: go by a message's size alone; the indices of the two ends have to agree, and data
//! that can be read is none.

use super::record::can_be_read;
use super::{DATAGRAMS_BEHIND, Secure};
use crate::{Cipher, Facts, Inspection, Protection, Protocol, UnknownReason, readable};

/// Type, receiver and counter of a message of data.
const DATA_HEADER: usize = 16;

#[derive(Clone, Copy)]
enum Message {
    Initiation { sender: [u8; 4] },
    Response { sender: [u8; 4], receiver: [u8; 4] },
    Cookie,
    Data { receiver: [u8; 4] },
}

impl Message {
    fn parse(datagram: &[u8]) -> Option<Message> {
        let word = |at: usize| datagram.get(at..at + 4)?.first_chunk().copied();
        match (word(0)?, datagram.len()) {
            ([1, 0, 0, 0], 148) => Some(Message::Initiation { sender: word(4)? }),
            ([2, 0, 0, 0], 92) => Some(Message::Response { sender: word(4)?, receiver: word(8)? }),
            ([3, 0, 0, 0], 64) => Some(Message::Cookie),
            // What can be read was not sealed.
            ([4, 0, 0, 0], length) if length >= 32 && !readable::is_no_chance(&datagram[DATA_HEADER..]) => {
                Some(Message::Data { receiver: word(4)? })
            }
            _ => None,
        }
    }
}

pub(crate) fn look(client: &[&[u8]], server: &[&[u8]]) -> Secure {
    let first = client.first().or(server.first());
    match first.map(|datagram| Message::parse(datagram)) {
        None => return Secure::Maybe,
        Some(Some(Message::Initiation { .. })) => {}
        Some(_) => return Secure::No,
    }
    let [(client_seen, client_done), (server_seen, server_done)] = [client, server].map(window);
    let seen = || client_seen.iter().chain(server_seen).copied();
    let short = seen().filter_map(|datagram| datagram.strip_prefix(&[4, 0, 0, 0])?.get(DATA_HEADER - 4..));
    if seen().any(is_in_the_clear) || readable::is_text_together(short) {
        return Secure::Broken { at: (0, 0), detail: "began like WireGuard, went on without" };
    }
    match through(client, server) || through(server, client) {
        true => {
            let settled = client_done && server_done;
            inspection(Protection::Encrypted(Cipher::Wireguard), "WireGuard tunnel", settled)
        }
        false => {
            let detail = "WireGuard handshake, not completed so far";
            inspection(Protection::Unknown(UnknownReason::Handshake), detail, false)
        }
    }
}

/// The datagrams that are looked at, and whether no more will be.
fn window<'a, 'b>(datagrams: &'b [&'a [u8]]) -> (&'b [&'a [u8]], bool) {
    let is_handshake =
        |datagram: &[u8]| !matches!(Message::parse(datagram), None | Some(Message::Data { .. }));
    let behind = datagrams.iter().enumerate().filter(|(_, datagram)| !is_handshake(datagram));
    match behind.map(|(at, _)| at).nth(DATAGRAMS_BEHIND - 1) {
        Some(last) => (&datagrams[..=last], true),
        None => (datagrams, false),
    }
}

/// No message, and to be read, or a message of data that is no secret.
fn is_in_the_clear(datagram: &[u8]) -> bool {
    match datagram {
        [4, 0, 0, 0, ..] if datagram.len() >= 2 * DATA_HEADER => {
            readable::is_no_chance(&datagram[DATA_HEADER..])
        }
        // Keys, what is sealed, and a sum over both; a nonce, and what is sealed.
        [1, 0, 0, 0, ..] if datagram.len() == 148 => can_be_read(&datagram[8..132]),
        [2, 0, 0, 0, ..] if datagram.len() == 92 => can_be_read(&datagram[12..76]),
        [3, 0, 0, 0, ..] if datagram.len() == 64 => can_be_read(&datagram[8..]),
        _ => Message::parse(datagram).is_none() && readable::is_in_the_clear(datagram),
    }
}

/// One end's initiation was answered by the other, and data followed from either.
fn through(initiator: &[&[u8]], responder: &[&[u8]]) -> bool {
    let parse = |datagrams: &[&[u8]]| datagrams.iter().filter_map(|d| Message::parse(d)).collect::<Vec<_>>();
    let (asked, answered) = (parse(initiator), parse(responder));
    answered.iter().any(|message| {
        let Message::Response { sender, receiver } = message else { return false };
        let data_to = |messages: &[Message], index: &[u8; 4]| {
            messages.iter().any(|m| matches!(m, Message::Data { receiver } if receiver == index))
        };
        asked.iter().any(|m| matches!(m, Message::Initiation { sender } if sender == receiver))
            && (data_to(&asked, sender) || data_to(&answered, receiver))
    })
}

fn inspection(protection: Protection, detail: &str, settled: bool) -> Secure {
    let facts = Facts {
        protocol: Some(Protocol::Wireguard),
        protection,
        tls: None,
        ssh: None,
        upgrade: None,
        detail: Some(detail.into()),
    };
    Secure::Is(Inspection::new(facts, settled))
}
