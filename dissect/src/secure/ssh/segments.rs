//! Whether a client logged in where even the lengths of packets are encrypted (ChaCha20-Poly1305, OpenSSH's
//! first choice): told by the sizes of TCP segments.
//!
//! In: the sizes of the segments behind NEWKEYS. Out: a state, and the number of attempts that were turned
//! down. Must never: take a success for a failure. It rests on this: logging in is question and answer, so
//! that each packet leaves in a segment of its own; a packet takes 20 bytes and a multiple of eight
//! (OpenSSH's PROTOCOL.chacha20poly1305), so that two in one segment show; a SUCCESS takes 28, and nothing
//! else that little. Failed is a log-in only where no segment has room for a SUCCESS and another packet. A
//! peer that cuts its bytes on purpose can hide either; more than "inferred" it is never.

use super::session::{
    Encrypted, SESSION, SHORTEST_REQUEST, SUCCESS, TOO_MANY, asks_first, began, padded, sends_no_other,
};
use crate::{SshAuthentication, SshAuthenticationState as State};

/// The length, and the tag.
const AROUND: u32 = 4 + 16;
const BLOCK: u32 = 8;

/// SERVICE_REQUEST and SERVICE_ACCEPT.
const SERVICE_SIZE: u32 = size(super::session::SERVICE);
const SUCCESS_SIZE: u32 = size(SUCCESS);
const SHORTEST_REQUEST_SIZE: u32 = size(SHORTEST_REQUEST);
/// CHANNEL_OPEN of a session.
const SESSION_SIZE: u32 = size(SESSION);
/// An IGNORE without content, which has no answer; asyncssh sends some between its requests.
const IGNORE_SIZE: u32 = size(5);
/// Less than three packets take of which one is a SUCCESS and none an IGNORE or smaller: 28, and twice 36.
const ONE_PACKET: std::ops::RangeInclusive<u32> = 36..=92;
/// Longer than [`SHORTEST_REQUEST`] by so much: a request that has answers of any length, or a password.
const DIALOGUE: std::ops::RangeInclusive<u32> = 8..=56;

/// The bytes of a packet.
const fn size(payload: u32) -> u32 {
    padded(payload, BLOCK) + AROUND
}

/// Whether a segment of this size holds one packet, or an odd number of them.
const fn is_one(size: u32) -> bool {
    size % BLOCK == AROUND % BLOCK
}

/// What was found, and whether more bytes could change it; `None`: the sizes do not tell.
pub(super) fn authentication(
    client: &Encrypted<'_>,
    server: &Encrypted<'_>,
) -> Option<(SshAuthentication, bool)> {
    let (from_client, from_server) = (sizes(client)?, sizes(server)?);
    let begun = SshAuthentication { state: State::Begun, failures: None };
    let Some((requests, answers)) = behind_request(&from_client).zip(behind_acceptance(&from_server)) else {
        return Some((if began(client, server) { begun } else { SshAuthentication::default() }, false));
    };
    let log_in = LogIn { client, server, requests: &requests, answers };
    Some(log_in.succeeded().unwrap_or_else(|| {
        let whole = is_whole(&from_client, client) && is_whole(&from_server, server);
        if whole && log_in.failed() {
            let failures = log_in.failures(answers);
            (SshAuthentication { state: State::Failed, failures }, false)
        } else {
            (begun, false)
        }
    }))
}

/// The sizes of segments; `None`: of none it is known.
fn sizes(side: &Encrypted<'_>) -> Option<Vec<u32>> {
    let sizes: Vec<u32> = side.segments.lengths().collect();
    (!sizes.is_empty() || side.bytes.is_empty()).then_some(sizes)
}

/// They are all there, to the end of the connection.
fn is_whole(sizes: &[u32], side: &Encrypted<'_>) -> bool {
    side.ended && sizes.iter().map(|size| *size as usize).sum::<usize>() == side.bytes.len()
}

/// What follows the acceptance of the service. EXT_INFO (RFC 8308) may come first.
fn behind_acceptance(sizes: &[u32]) -> Option<&[u32]> {
    match sizes {
        [SERVICE_SIZE, rest @ ..] | [_, SERVICE_SIZE, rest @ ..] => Some(rest),
        _ => None,
    }
}

/// The requests to log in, and what follows; without what asks for nothing. Dropbear sends the first along
/// with the one for the service.
fn behind_request(sizes: &[u32]) -> Option<Vec<u32>> {
    let (first, rest) = match sizes {
        [SERVICE_SIZE, rest @ ..] | [_, SERVICE_SIZE, rest @ ..] => (None, rest),
        [both, rest @ ..] => {
            let first = both.checked_sub(SERVICE_SIZE)?;
            (Some(first).filter(|first| *first >= SHORTEST_REQUEST_SIZE && is_one(*first)), rest)
        }
        [] => return None,
    };
    let asking = rest.iter().copied().filter(|size| *size != IGNORE_SIZE);
    let requests: Vec<u32> = first.into_iter().chain(asking).collect();
    (!requests.is_empty()).then_some(requests)
}

struct LogIn<'a> {
    client: &'a Encrypted<'a>,
    server: &'a Encrypted<'a>,
    requests: &'a [u32],
    answers: &'a [u32],
}

impl LogIn<'_> {
    /// Some answer is as short as only SUCCESS is, and both went on; the client with something too short for a
    /// request to log in, or several packets at once, unless the server is one that sends nothing else that
    /// short.
    fn succeeded(&self) -> Option<(SshAuthentication, bool)> {
        let at = self.answers.iter().position(|size| *size == SUCCESS_SIZE)?;
        let (before, after) = (self.answers.get(1..at).unwrap_or(&[]), self.answers.get(at + 1..)?);
        if after.is_empty() || !before.iter().copied().all(is_one) {
            return None;
        }
        let session = self.requests.iter().position(|size| *size <= SESSION_SIZE || !is_one(*size));
        let session = session.filter(|requests| *requests > 0);
        let goes_on = self.requests.len() > at + 1;
        if session.is_none() && !(sends_no_other(self.server.software) && goes_on) {
            return None;
        }
        let in_step = session == Some(at + 1);
        let failures = if in_step { self.failures(&self.answers[..=at]) } else { None };
        Some((SshAuthentication { state: State::Succeeded, failures }, session.is_some()))
    }

    /// One answer for each request, none of which has room for a SUCCESS. The first may hold a banner or EXT_INFO
    /// as well. The last request may be a farewell.
    fn failed(&self) -> bool {
        let Some((first, rest)) = self.answers.split_first() else { return false };
        let Some(requests) = self.requests.get(..self.answers.len()) else { return false };
        let says_no = |size: &u32| is_one(*size) && ONE_PACKET.contains(size);
        self.requests.len() - requests.len() <= 1
            && requests.iter().all(|size| is_one(*size) && *size >= SHORTEST_REQUEST_SIZE)
            && rest.iter().all(says_no)
            && (says_no(first) || !rest.is_empty() && *first > SUCCESS_SIZE)
    }

    /// How many attempts were turned down, where the client is known to ask first for the ways to log in,
    /// and each of the answers that follow is as long as the one to that, or the farewell, or the last of these
    /// and a SUCCESS.
    fn failures(&self, answers: &[u32]) -> Option<u32> {
        let (asked, attempts) = self.requests.get(..answers.len())?.split_first()?;
        let (refusal, answers) = answers.split_first()?;
        let dialogue = |size: &u32| size.checked_sub(*asked).is_some_and(|more| DIALOGUE.contains(&more));
        if !asks_first(self.client.software) || attempts.iter().any(dialogue) {
            return None;
        }
        if !is_one(*refusal) || *refusal > *ONE_PACKET.end() {
            return None;
        }
        let mut count = 0;
        for (at, answer) in answers.iter().enumerate() {
            let last = at + 1 == answers.len();
            match *answer {
                answer if answer == *refusal => count += 1,
                answer if last && answer == size(TOO_MANY) => count += 1,
                SUCCESS_SIZE if last => {}
                // The key would do, and the client signs.
                answer if !last && is_one(answer) && answer > *ONE_PACKET.end() => {}
                _ => return None,
            }
        }
        Some(count)
    }
}
