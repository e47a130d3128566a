//! Whether a client logged in where even the lengths of packets are encrypted (ChaCha20-Poly1305, OpenSSH's
//! first choice; MACs over what is not encrypted yet): told by the sizes of TCP segments.
//!
//! In: the sizes of the segments behind NEWKEYS. Out: a state, and the number of attempts that were turned
//! down. Must never: take a success for a failure. It rests on this: logging in is question and answer, so
//! that each packet leaves in a segment of its own; how many bytes a packet takes is known but for its
//! padding; a SUCCESS takes the fewest, as nothing else of the server before it. Failed is a log-in only where
//! no segment has room for a SUCCESS and another packet. A peer that cuts its bytes on purpose can hide
//! either; more than "inferred" it is never.

use super::algorithms::Shape;
use super::session::{
    Encrypted, SERVICE, SESSION, SHORTEST_REQUEST, SUCCESS, TOO_MANY, asks_first, began, sends_no_other,
};
use crate::{SshAuthentication, SshAuthenticationState as State};

/// An IGNORE without content, which has no answer; asyncssh sends some between its requests.
const IGNORE: u32 = 5;
/// What OpenSSH and Dropbear say behind a SUCCESS, the keys of the host: a GLOBAL_REQUEST with a single key.
const HOST_KEYS: u32 = 85;
/// Longer than the first request by so much at most: one that has answers of any length, or a password.
const DIALOGUE: u32 = 63;

impl Shape {
    /// The bytes of a packet with this payload, padded as little as can be.
    fn size(self, payload: u32) -> u32 {
        (self.inside + 1 + payload + 4).next_multiple_of(self.block) + self.around
    }

    /// Whether two packets in one segment show by its size.
    fn shows_two(self) -> bool {
        !self.around.is_multiple_of(self.block)
    }

    /// Whether a segment of this size can hold one packet; where two show, it does not hold two.
    fn is_one(self, size: u32) -> bool {
        size % self.block == self.around % self.block
    }

    /// Whether a segment of this size holds one packet, which is no SUCCESS.
    fn is_refusal(self, size: u32) -> bool {
        let room = if self.shows_two() { 2 * self.size(IGNORE) } else { self.size(HOST_KEYS) };
        self.is_one(size) && size > self.size(SUCCESS) && size < self.size(SUCCESS) + room
    }
}

/// What was found, and whether more bytes could change it; `None`: the sizes do not tell.
pub(super) fn authentication(
    client: &Encrypted<'_>,
    server: &Encrypted<'_>,
) -> Option<(SshAuthentication, bool)> {
    let (to_server, to_client) = (client.shape?, server.shape?);
    // Others may send an IGNORE along with a SUCCESS.
    if !to_client.shows_two() && !sends_no_other(server.software) {
        return None;
    }
    let (from_client, from_server) = (sizes(client)?, sizes(server)?);
    let begun = SshAuthentication { state: State::Begun, failures: None };
    let Some((requests, answers)) =
        behind_request(&from_client, to_server).zip(behind_acceptance(&from_server, to_client))
    else {
        return Some((if began(client, server) { begun } else { SshAuthentication::default() }, false));
    };
    let log_in = LogIn { client, server, to_server, to_client, requests: &requests, answers };
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
fn behind_acceptance(sizes: &[u32], shape: Shape) -> Option<&[u32]> {
    behind(sizes, shape.size(SERVICE))
}

fn behind(sizes: &[u32], service: u32) -> Option<&[u32]> {
    match sizes {
        [first, rest @ ..] if *first == service => Some(rest),
        [_, second, rest @ ..] if *second == service => Some(rest),
        _ => None,
    }
}

/// The requests to log in, and what follows; without what asks for nothing. Dropbear sends the first along
/// with the one for the service.
fn behind_request(sizes: &[u32], shape: Shape) -> Option<Vec<u32>> {
    let service = shape.size(SERVICE);
    let (first, rest) = match (behind(sizes, service), sizes) {
        (Some(rest), _) => (None, rest),
        (None, [both, rest @ ..]) => {
            let first = both.checked_sub(service)?;
            let is_request = first >= shape.size(SHORTEST_REQUEST) && shape.is_one(first);
            (Some(first).filter(|_| is_request && shape.shows_two()), rest)
        }
        (None, []) => return None,
    };
    let asking = rest.iter().copied().filter(|size| *size != shape.size(IGNORE));
    let requests: Vec<u32> = first.into_iter().chain(asking).collect();
    (!requests.is_empty()).then_some(requests)
}

struct LogIn<'a> {
    client: &'a Encrypted<'a>,
    server: &'a Encrypted<'a>,
    to_server: Shape,
    to_client: Shape,
    requests: &'a [u32],
    answers: &'a [u32],
}

impl LogIn<'_> {
    /// Some answer is as short as only SUCCESS is, and both went on; the client with something too short for a
    /// request to log in, or several packets at once, unless the server is one that sends nothing else that
    /// short.
    fn succeeded(&self) -> Option<(SshAuthentication, bool)> {
        let success = self.to_client.size(SUCCESS);
        let at = self.answers.iter().position(|size| *size == success)?;
        let (before, after) = (self.answers.get(1..at).unwrap_or(&[]), self.answers.get(at + 1..)?);
        if after.is_empty() || !before.iter().all(|size| self.to_client.is_one(*size)) {
            return None;
        }
        let session = self.requests.iter().position(|size| self.is_session(*size));
        let session = session.filter(|requests| *requests > 0);
        let goes_on = self.requests.len() > at + 1;
        if session.is_none() && !(sends_no_other(self.server.software) && goes_on) {
            return None;
        }
        let in_step = session == Some(at + 1);
        let failures = if in_step { self.failures(&self.answers[..=at]) } else { None };
        Some((SshAuthentication { state: State::Succeeded, failures }, session.is_some()))
    }

    /// Too short for a request to log in, as long as the opening of a session; or that, and more.
    fn is_session(&self, size: u32) -> bool {
        let shape = self.to_server;
        let session = shape.size(SESSION);
        shape.shows_two()
            && (!shape.is_one(size) || size <= session && session < shape.size(SHORTEST_REQUEST))
    }

    /// One answer for each request, none of which has room for a SUCCESS. The first may hold a banner or EXT_INFO
    /// as well. The last request may be a farewell.
    fn failed(&self) -> bool {
        let Some((first, rest)) = self.answers.split_first() else { return false };
        let Some(requests) = self.requests.get(..self.answers.len()) else { return false };
        let shape = self.to_server;
        let is_request = |size: &u32| shape.is_one(*size) && *size >= shape.size(SHORTEST_REQUEST);
        let says_no = |size: &u32| self.to_client.is_refusal(*size);
        self.requests.len() - requests.len() <= 1
            && requests.iter().all(is_request)
            && rest.iter().all(says_no)
            && (says_no(first) || !rest.is_empty() && *first > self.to_client.size(SUCCESS))
    }

    /// How many attempts were turned down, where the client is known to ask first for the ways to log in,
    /// and each of the answers that follow is as long as the one to that, or the farewell, or the last of these
    /// and a SUCCESS.
    fn failures(&self, answers: &[u32]) -> Option<u32> {
        let (asked, attempts) = self.requests.get(..answers.len())?.split_first()?;
        let (refusal, answers) = answers.split_first()?;
        let (shape, success) = (self.to_client, self.to_client.size(SUCCESS));
        let least = self.to_server.block;
        let dialogue =
            |size: &u32| size.checked_sub(*asked).is_some_and(|more| (least..=DIALOGUE).contains(&more));
        if !asks_first(self.client.software) || attempts.iter().any(dialogue) {
            return None;
        }
        if *refusal != success && !shape.is_refusal(*refusal) {
            return None;
        }
        let mut count = 0;
        for (at, answer) in answers.iter().enumerate() {
            let last = at + 1 == answers.len();
            match *answer {
                answer if answer == *refusal => count += 1,
                answer if last && answer == shape.size(TOO_MANY) => count += 1,
                answer if last && answer == success => {}
                // The key would do, and the client signs.
                answer if !last && shape.is_one(answer) && !shape.is_refusal(answer) => {}
                _ => return None,
            }
        }
        Some(count)
    }
}
