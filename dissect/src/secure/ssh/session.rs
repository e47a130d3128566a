//! Whether a client logged in, told by the lengths of encrypted packets (RFC 4252).
//!
//! In: both sides' bytes behind NEWKEYS, where the negotiated algorithms leave the lengths of packets
//! in the clear (where they are encrypted, too, `segments` looks at the sizes of segments). Out: a state, and the number of attempts that were turned down. Must never: guess. It
//! rests on this: a client asks for the service `ssh-userauth`, and the server accepts, each in 17
//! bytes; a SUCCESS is a single byte, as no other answer to a log-in is; a request to log in takes 32
//! bytes or more. A server that pads its packets more than it has to hides all that.

use super::algorithms::{Framing, Shape};
use super::segments;
use crate::{Segments, SshAuthentication, SshAuthenticationState as State};

/// OpenSSH takes packets up to this.
const LONGEST: u32 = 1 << 18;

/// SERVICE_REQUEST and SERVICE_ACCEPT: type, and `ssh-userauth` (RFC 4253 section 10).
pub(super) const SERVICE: u32 = 17;
/// USERAUTH_SUCCESS: the type alone.
pub(super) const SUCCESS: u32 = 1;
/// The shortest request: type, a user's name of one byte, `ssh-connection`, `none`.
pub(super) const SHORTEST_REQUEST: u32 = 32;
/// CHANNEL_OPEN of a session (RFC 4254 section 6.1).
pub(super) const SESSION: u32 = 24;
/// USERAUTH_PK_OK of an Ed25519 key, the shortest of all keys.
const SHORTEST_KEY: u32 = 71;
/// DISCONNECT with "Too many authentication failures", as OpenSSH says it.
pub(super) const TOO_MANY: u32 = 45;

/// Bytes behind NEWKEYS that are more than a farewell: a request for a service, and a first attempt.
const CLIENT_BEGAN: usize = 200;
/// The acceptance of a service.
const SERVER_BEGAN: usize = 44;

/// One side.
pub(super) struct Encrypted<'a> {
    /// Behind NEWKEYS.
    pub bytes: &'a [u8],
    /// The same, as it was cut on the wire.
    pub segments: Segments<'a>,
    /// `None`: the lengths are encrypted, too.
    pub framing: Option<Framing>,
    /// They are, and this is how many bytes a packet takes.
    pub shape: Option<Shape>,
    pub software: &'a str,
    /// More padding than has to be, in the clear.
    pub pads_more: bool,
    /// No more will come.
    pub ended: bool,
}

/// What was found, and whether more bytes could change it.
pub(super) fn authentication(client: &Encrypted<'_>, server: &Encrypted<'_>) -> (SshAuthentication, bool) {
    let unknown = SshAuthentication::default();
    let begun = SshAuthentication { state: State::Begun, failures: None };
    if !server.pads_more
        && let Some(found) = segments::authentication(client, server)
    {
        return found;
    }
    let (Some(from_client), Some(from_server)) = (Packets::read(client), Packets::read(server)) else {
        return if began(client, server) { (begun, true) } else { (unknown, false) };
    };
    // What was told before one of them went on without packets stays; nothing is told after.
    let broken = from_client.broken || from_server.broken;
    let for_good = from_client.broken && from_server.broken;
    if server.pads_more {
        return if began(client, server) { (begun, true) } else { (unknown, false) };
    }
    let (Some(requests), Some(answers)) = (from_client.behind_service(), from_server.behind_service()) else {
        return (unknown, for_good);
    };
    let log_in = LogIn { client, block: from_client.block, requests, answers };
    let success = answers.iter().position(|length| *length == padded(SUCCESS, from_server.block));
    let succeeded = success.map(|at| log_in.succeeded(at, server).unwrap_or((begun, false)));
    match succeeded {
        Some((authentication, true)) => (authentication, true),
        _ if broken => (unknown, for_good),
        Some(open) => open,
        // The whole of the connection is there, and ends between two packets on either side.
        None if client.ended && server.ended && from_client.whole && from_server.whole => {
            let failures = log_in.failures(answers, requests.len());
            (SshAuthentication { state: State::Failed, failures }, false)
        }
        None => (begun, false),
    }
}

/// More than the service was asked for.
pub(super) fn began(client: &Encrypted<'_>, server: &Encrypted<'_>) -> bool {
    client.bytes.len() >= CLIENT_BEGAN && server.bytes.len() >= SERVER_BEGAN
}

/// The lengths of one side's whole packets.
struct Packets {
    lengths: Vec<u32>,
    block: u32,
    /// Something that is no packet.
    broken: bool,
    /// Nothing stands behind the last one.
    whole: bool,
}

impl Packets {
    fn read(side: &Encrypted<'_>) -> Option<Packets> {
        let framing = side.framing?;
        let mut packets = Packets { lengths: Vec::new(), block: framing.block, broken: false, whole: false };
        let mut rest = side.bytes;
        while let Some(head) = rest.first_chunk() {
            let length = u32::from_be_bytes(*head);
            if length == 0 || length > LONGEST || length % framing.block != 0 {
                packets.broken = true;
                break;
            }
            let Some(after) = rest.get(4 + length as usize + framing.tag..) else { break };
            packets.lengths.push(length);
            rest = after;
        }
        packets.whole = rest.is_empty();
        Some(packets)
    }

    /// What follows the request for the service, or its acceptance. EXT_INFO (RFC 8308) may come first.
    fn behind_service(&self) -> Option<&[u32]> {
        let service = padded(SERVICE, self.block);
        match &self.lengths[..] {
            [first, rest @ ..] if *first == service => Some(rest),
            [first, second, rest @ ..] if *first > service && *second == service => Some(rest),
            _ => None,
        }
    }
}

/// The length of a packet with this payload, padded as little as can be (RFC 4253 section 6).
const fn padded(payload: u32, block: u32) -> u32 {
    (1 + payload + 4).next_multiple_of(block)
}

/// Clients that ask for the ways to log in before they try one.
pub(super) fn asks_first(client: &str) -> bool {
    ["OpenSSH_", "dropbear_", "Go"].iter().any(|name| client.starts_with(name))
}

/// Servers that send nothing as short as a SUCCESS before it. An IGNORE can be as short.
pub(super) fn sends_no_other(server: &str) -> bool {
    ["OpenSSH_", "dropbear_"].iter().any(|name| server.starts_with(name))
}

/// What was said about logging in.
struct LogIn<'a> {
    client: &'a Encrypted<'a>,
    block: u32,
    /// Packets behind the service request.
    requests: &'a [u32],
    answers: &'a [u32],
}

impl LogIn<'_> {
    /// The answer `at` looks like a SUCCESS; `None`: not confirmed by what followed.
    fn succeeded(&self, at: usize, server: &Encrypted<'_>) -> Option<(SshAuthentication, bool)> {
        self.answers.get(at + 1)?;
        // Too short for a request to log in, as long as the opening of a session.
        let session = self.requests.iter().position(|length| *length <= padded(SESSION, self.block));
        let session = session.filter(|before| *before > 0);
        let goes_on = self.requests.len() >= 2;
        if session.is_none() && !(sends_no_other(server.software) && goes_on) {
            return None;
        }
        let failures = session.and_then(|requests| self.failures(&self.answers[..=at], requests));
        Some((SshAuthentication { state: State::Succeeded, failures }, session.is_some()))
    }

    /// How many attempts were turned down, where all `answers` to the first `requests` packets can be
    /// told apart. The first is the question for the ways to log in, not an attempt, with clients that are
    /// known to ask it.
    fn failures(&self, answers: &[u32], requests: usize) -> Option<u32> {
        let requests = self.requests.get(..requests)?;
        let [asked, attempts @ ..] = requests else { return None };
        // GSSAPI and keyboard-interactive, which have answers of any length, and nobody knows how many.
        let dialogue = asked + self.block..=asked + 4 * self.block - 1;
        if !asks_first(self.client.software)
            || self.block != 16
            || *asked < padded(SHORTEST_REQUEST, self.block)
            || attempts.iter().any(|length| dialogue.contains(length))
        {
            return None;
        }
        // One more: a banner before the first answer, or a farewell behind the last.
        let readings: &[&[u32]] = match answers.len().checked_sub(requests.len())? {
            0 => &[answers],
            1 => &[answers.get(1..)?, answers.get(..answers.len() - 1)?],
            _ => return None,
        };
        let mut counts = readings.iter().filter_map(|answers| self.count(answers));
        let count = counts.next()?;
        counts.all(|other| other == count).then_some(count)
    }

    /// One answer for each request: FAILURE is always as long as the first, PK_OK longer, SUCCESS shorter.
    fn count(&self, answers: &[u32]) -> Option<u32> {
        let (key, success) = (padded(SHORTEST_KEY, self.block), padded(SUCCESS, self.block));
        let (first, rest) = answers.split_first()?;
        if *first == success && rest.is_empty() {
            return Some(0);
        }
        if !(success + 1..key).contains(first) {
            return None;
        }
        let mut count = 0;
        for (at, length) in rest.iter().enumerate() {
            let last = at + 1 == rest.len();
            match *length {
                length if length == *first => count += 1,
                length if length >= key => {}
                length if length == success && last => {}
                length if length == padded(TOO_MANY, self.block) && last => count += 1,
                _ => return None,
            }
        }
        Some(count)
    }
}
