//! Captured bytes of one flow, while they are needed: until it is settled.

use dissect::{
    Facts, Hint, Inspection, Prefix, Protection, Reassembly, Sealed, Segments, SshAuthentication,
    SshAuthenticationState, UnknownReason, Wants, inspect_datagrams, inspect_stream,
};

use crate::model::Transport;

/// The most that a direction ever holds, bytes: the upper end of `kernel.handshake_budget`. The kernel
/// keeps to the budget in force.
pub const MOST: u32 = 1 << 16;

/// Datagrams kept of one direction.
const DATAGRAMS: usize = 16;

/// What the allocator takes for a datagram besides, bytes.
const EACH: usize = 16;

/// What is to be seen of one direction behind a handshake, before it is let go, bytes.
const FOLLOWING: u32 = 1024;

/// More is looked at at once where it is no less than this part of what has been looked at, and otherwise a moment later.
const LITTLE: u32 = 4;

/// The first bytes of both directions. Gone as soon as the flow is settled.
#[derive(Debug)]
pub enum Evidence {
    Stream {
        client: Reassembly,
        server: Reassembly,
        midstream: bool,
        first: u32,
        limits: Wants,
        /// It is settled: so much of one direction or the other, and it has been seen what follows; and since when
        /// that is waited for, ns.
        enough: Option<(Wants, u64)>,
        /// What was found out of the bytes of client and server for good.
        sealed: [Sealed; 2],
        /// Bytes of both that the last look saw.
        looked_at: u32,
        /// Another look is to come, a moment later.
        is_postponed: bool,
    },
    Datagrams {
        client: Vec<Box<[u8]>>,
        server: Vec<Box<[u8]>>,
    },
}

impl Evidence {
    /// Room for the first `limit` bytes of each direction.
    pub fn new(transport: Transport, limit: u32) -> Self {
        match transport {
            Transport::Tcp => Evidence::Stream {
                client: Reassembly::new(MOST),
                server: Reassembly::new(MOST),
                midstream: false,
                first: limit,
                limits: Wants { client: limit, server: limit },
                enough: None,
                sealed: Default::default(),
                looked_at: 0,
                is_postponed: false,
            },
            Transport::Udp => Evidence::Datagrams { client: Vec::new(), server: Vec::new() },
        }
    }

    /// Adds a piece; returns whether an inspection could see more than before.
    pub fn add(&mut self, from_client: bool, offset: u32, from_middle: bool, data: Box<[u8]>) -> bool {
        match self {
            Evidence::Stream { client, server, midstream, .. } => {
                *midstream |= from_middle;
                if from_client { client.push_owned(offset, data) } else { server.push_owned(offset, data) }
            }
            Evidence::Datagrams { client, server } => {
                let list = if from_client { client } else { server };
                if list.len() >= DATAGRAMS {
                    return false;
                }
                list.push(data);
                true
            }
        }
    }

    /// What the bytes say so far; with `ended`, no more will come.
    pub fn inspect(&mut self, server_port: u16, ended: bool) -> Inspection {
        if let Evidence::Stream { client, server, looked_at, is_postponed, .. } = self {
            *looked_at = (client.prefix().len() + server.prefix().len()) as u32;
            *is_postponed = false;
        }
        let hint = Hint { server_port };
        match self {
            Evidence::Stream { client, server, midstream, first, limits, sealed, .. } => {
                let client_ended = ended || is_spent(client, *first, limits.client);
                let server_ended = ended || is_spent(server, *first, limits.server);
                let read = |copy: Reading| {
                    let prefix = |side, ended, sealed| Prefix {
                        ended,
                        midstream: *midstream,
                        ..copy.of(side, *first, sealed)
                    };
                    let client = prefix(client, client_ended, &sealed[0]);
                    inspect_stream(client, prefix(server, server_ended, &sealed[1]), hint)
                };
                let first = read(Reading::First);
                if client.later_prefix().is_none() && server.later_prefix().is_none() {
                    return first;
                }
                let mut inspection = either(first, read(Reading::Last));
                if client.is_disputed() || server.is_disputed() {
                    inspection.facts = Facts::unknown(UnknownReason::Contradictory);
                }
                inspection
            }
            Evidence::Datagrams { client, server } => {
                let client: Vec<&[u8]> = client.iter().map(|datagram| &**datagram).collect();
                let server: Vec<&[u8]> = server.iter().map(|datagram| &**datagram).collect();
                inspect_datagrams(&client, &server, hint)
            }
        }
    }

    /// Puts off the next look where that is enough: with little more than the last one saw, or in the middle of a handshake
    /// (`is_handshake`), which the next packets end or lead on. Not where the room may be too small for what comes, and
    /// not where nothing more can come. `None`: look now; else whether it was not put off before.
    pub fn postpone(&mut self, is_handshake: bool) -> Option<bool> {
        let is_full = self.is_full();
        let Evidence::Stream { client, server, limits, enough: None, looked_at, is_postponed, .. } = self
        else {
            return None;
        };
        let [from_client, from_server] = [&*client, &*server].map(|side| side.prefix().len() as u32);
        let seen = from_client + from_server;
        let has_room = from_client < limits.client / 2 && from_server < limits.server / 2;
        let is_little = seen.saturating_sub(*looked_at) < *looked_at / LITTLE;
        let can_wait = *looked_at > 0 && (is_little || is_handshake && has_room);
        (can_wait && !is_full).then(|| !std::mem::replace(is_postponed, true))
    }

    /// Makes room for what a handshake wants, up to `most` bytes of each direction: the new limits of
    /// client and server, if that is more than before.
    pub fn grow(&mut self, wants: Wants, most: u32) -> Option<Wants> {
        let Evidence::Stream { limits, .. } = self else { return None };
        let more = |limit: u32, wanted: u32| limit.max(wanted.min(most).min(MOST));
        let grown =
            Wants { client: more(limits.client, wants.client), server: more(limits.server, wants.server) };
        (*limits != grown).then(|| {
            *limits = grown;
            grown
        })
    }

    pub fn is_stream(&self) -> bool {
        matches!(self, Evidence::Stream { .. })
    }

    /// It is settled, and what follows the handshake is to be seen too. False where nothing can follow: it began
    /// before it was watched, or is a flow of datagrams.
    pub fn follow(&mut self, now_ns: u64) -> bool {
        let Evidence::Stream { client, server, midstream: false, enough, .. } = self else { return false };
        let behind = |side: &Reassembly| side.prefix().len() as u32 + FOLLOWING;
        enough.get_or_insert_with(|| (Wants { client: behind(client), server: behind(server) }, now_ns));
        true
    }

    /// Whether it is held only to see what follows the handshake.
    pub fn follows(&self) -> bool {
        matches!(self, Evidence::Stream { enough: Some(_), .. })
    }

    /// Since when that is waited for, ns.
    pub fn follows_since(&self) -> Option<u64> {
        match self {
            Evidence::Stream { enough: Some((_, since_ns)), .. } => Some(*since_ns),
            _ => None,
        }
    }

    /// Whether it has been seen what follows the handshake, as far as that is looked at.
    pub fn has_followed(&self) -> bool {
        let Evidence::Stream { client, server, enough: Some((enough, _)), .. } = self else { return false };
        client.prefix().len() as u32 >= enough.client || server.prefix().len() as u32 >= enough.server
    }

    /// Whether as many bytes of (client, server) as these are here.
    pub fn holds(&self, (from_client, from_server): (u64, u64)) -> bool {
        match self {
            Evidence::Stream { client, server, .. } => {
                client.prefix().len() as u64 >= from_client && server.prefix().len() as u64 >= from_server
            }
            Evidence::Datagrams { .. } => false,
        }
    }

    /// The first bytes of client and server of a connection, and whether it was open before, or more may have been
    /// said than these tell: they came twice, and not alike.
    pub fn first_bytes(&self) -> Option<(&[u8], &[u8], bool)> {
        match self {
            Evidence::Stream { client, server, midstream, .. } => {
                let twice = client.later_prefix().is_some() || server.later_prefix().is_some();
                let [client, server] =
                    [client, server].map(|side| side.later_prefix().unwrap_or(side.prefix()));
                Some((client, server, *midstream || twice))
            }
            Evidence::Datagrams { .. } => None,
        }
    }

    /// Nothing more can come that would tell more.
    pub fn is_full(&self) -> bool {
        match self {
            Evidence::Stream { client, server, first, limits, .. } => {
                is_spent(client, *first, limits.client) && is_spent(server, *first, limits.server)
            }
            Evidence::Datagrams { client, server } => client.len().max(server.len()) >= DATAGRAMS,
        }
    }

    /// Memory that it takes, bytes: what waits behind a gap included.
    pub fn memory(&self) -> usize {
        let beside = match self {
            Evidence::Stream { client, server, .. } => client.memory() + server.memory(),
            Evidence::Datagrams { client, server } => {
                let of = |side: &Vec<Box<[u8]>>| {
                    let each = side.iter().map(|datagram| datagram.len() + EACH);
                    side.capacity() * size_of::<Box<[u8]>>() + each.sum::<usize>()
                };
                of(client) + of(server)
            }
        };
        size_of::<Self>() + beside
    }
}

/// Which copies of bytes that came twice.
#[derive(Clone, Copy)]
enum Reading {
    First,
    Last,
}

impl Reading {
    /// The bytes of one direction, and how they were cut. `sealed` goes with the first copy alone, to which bytes are
    /// only added: the last one changes.
    fn of<'a>(self, side: &'a Reassembly, budget: u32, sealed: &'a Sealed) -> Prefix<'a> {
        let (bytes, sealed) = match self {
            Reading::First => (side.prefix(), Some(sealed)),
            Reading::Last => (side.later_prefix().unwrap_or(side.prefix()), None),
        };
        Prefix { bytes, segments: Segments::new(ends(side, budget)), sealed, ..Prefix::default() }
    }
}

/// What two readings of the same bytes have in common. The last one stands where both agree, and where only
/// it is in the clear: a copy that was taken is not captured again, so what came first was thrown away, as a
/// rule. Where one is encrypted and the other is not, nothing is known.
fn either(first: Inspection, last: Inspection) -> Inspection {
    let settled = first.settled && last.settled;
    let wants = Wants {
        client: first.wants.client.max(last.wants.client),
        server: first.wants.server.max(last.wants.server),
    };
    let alike = match (&first.facts.protection, &last.facts.protection) {
        (Protection::Unknown(_), Protection::Unknown(_) | Protection::Plaintext(_))
        | (Protection::Plaintext(_), Protection::Plaintext(_)) => true,
        (a, b) => a == b,
    };
    let facts = if alike { last.facts } else { Facts::unknown(UnknownReason::Contradictory) };
    Inspection { facts, settled, wants, layers: last.layers }
}

/// Where segments end. The kernel cuts the one that spends its budget.
fn ends(side: &Reassembly, budget: u32) -> &[u32] {
    let ends = side.ends();
    &ends[..ends.partition_point(|end| *end < budget)]
}

/// The direction's budget is spent; or its first one was, and what came until the kernel heard of a
/// larger one is lost.
fn is_spent(side: &Reassembly, first: u32, limit: u32) -> bool {
    let have = side.prefix().len() as u32;
    have >= limit || have >= first && side.has_gap()
}

/// Not all that there was has been seen, and no more will be: a handshake that was not seen to its end may have gone
/// through.
pub fn doubt_what_was_lost(facts: &mut Facts) {
    let gave_up = facts.tls.as_ref().is_some_and(|tls| tls.alert.is_some());
    if facts.protection == Protection::Unknown(UnknownReason::Handshake) && !gave_up {
        facts.protection = Protection::Unknown(UnknownReason::FirstBytesLost);
        facts.detail = Some("its handshake was not seen to its end".to_owned());
    }
}

/// The connection goes on, or not all of it was seen: nothing is concluded from what did not come.
pub fn doubt_what_did_not_come(facts: &mut Facts) {
    if let Some(ssh) = &mut facts.ssh
        && ssh.authentication.state == SshAuthenticationState::Failed
    {
        ssh.authentication = SshAuthentication { state: SshAuthenticationState::Begun, failures: None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: example.org\r\n\r\n";
    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    fn protection(pieces: &[(bool, u32, &[u8])]) -> Protection {
        let mut evidence = Evidence::new(Transport::Tcp, 8192);
        for (from_client, offset, data) in pieces {
            evidence.add(*from_client, *offset, false, (*data).into());
        }
        evidence.inspect(8080, true).facts.protection
    }

    /// Once somebody has looked: in the middle of a handshake, as long as there is room; and with little more.
    #[test]
    fn a_look_of_which_little_can_come_is_put_off_once() {
        let mut evidence = Evidence::new(Transport::Tcp, 8192);
        let more = |evidence: &mut Evidence, from_client: bool, offset: u32, length: usize| {
            evidence.add(from_client, offset, false, vec![0x99; length].into());
        };
        more(&mut evidence, true, 0, 400);
        assert_eq!((evidence.postpone(true), evidence.postpone(false)), (None, None), "nobody has looked");
        evidence.inspect(443, false);
        more(&mut evidence, false, 0, 100);
        assert_eq!(evidence.postpone(false), None, "a quarter");
        assert_eq!((evidence.postpone(true), evidence.postpone(true)), (Some(true), Some(false)));
        evidence.inspect(443, false);
        more(&mut evidence, false, 100, 124);
        assert_eq!((evidence.postpone(false), evidence.postpone(false)), (Some(true), Some(false)));
        more(&mut evidence, false, 224, 4000);
        assert_eq!(evidence.postpone(true), None, "what is to come may need more room");
        evidence.inspect(443, false);
        more(&mut evidence, false, 4224, 900);
        assert_eq!(evidence.postpone(false), Some(true));
        more(&mut evidence, true, 400, 7792);
        more(&mut evidence, false, 5124, 3068);
        assert_eq!(evidence.postpone(true), None, "nothing more will come");
    }

    /// What a peer may send that the receiver throws away (a wrong checksum, an old timestamp), in front
    /// of what it takes.
    #[test]
    fn a_decoy_in_front_of_plaintext_does_not_make_it_encrypted() {
        let undisturbed = protection(&[(true, 0, REQUEST), (false, 0, RESPONSE)]);
        assert!(matches!(undisturbed, Protection::Plaintext(_)));
        // As many bytes of what looks like a handshake, or like nothing.
        let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[7; 30]].concat();
        for decoy in [&hello[..], &[0; 40], b"SSH-2.0-OpenSSH_9.9\r\n"] {
            let found = protection(&[(true, 0, decoy), (true, 0, REQUEST), (false, 0, RESPONSE)]);
            assert_eq!(found, undisturbed);
        }
        // The other way round nobody knows which was taken.
        let found = protection(&[(true, 0, REQUEST), (true, 0, &hello), (false, 0, RESPONSE)]);
        assert_eq!(found, Protection::Unknown(UnknownReason::Contradictory));
        // Another request is one in the clear, too.
        let other = b"PUT /health HTTP/1.1\r\nHost: example.org\r\n\r\n";
        let found = protection(&[(true, 0, other), (true, 0, REQUEST), (false, 0, RESPONSE)]);
        assert_eq!(found, undisturbed);
    }
}
