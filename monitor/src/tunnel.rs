//! What a tunnel changes in the answers.
//!
//! In: what the route and the policies say, and the interfaces that the flow's packets were seen on. Must never:
//! take what was not seen for encrypted because a tunnel is there; where nothing was sent, nothing is known.

use std::sync::Arc;

use dissect::{Facts, Plain, Protection, UnknownReason};

use monitor_common::DEVICES;

use crate::model::{Answer, Judged, Tunnel, TunnelKind};

/// The interfaces that a flow's packets were seen on, as the kernel's events tell them
/// ([`monitor_common::FlowEvent::sent_device`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Devices {
    sent: u32,
    received: u32,
}

impl Devices {
    /// Takes in what an event says of all packets up to it; whether that is more than was known.
    pub fn learn(&mut self, sent: u32, received: u32) -> bool {
        let before = *self;
        self.sent = both(self.sent, sent);
        self.received = both(self.received, received);
        *self != before
    }
}

fn both(known: u32, told: u32) -> u32 {
    match (known, told) {
        (one, 0) | (0, one) => one,
        (known, told) if known == told => known,
        _ => DEVICES,
    }
}

/// Whether a flow's packets pass the tunnel that their route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// All that were seen do.
    Through,
    /// Not all.
    Around,
    /// None was seen yet.
    Unseen,
}

/// Where a flow's packets go, as far as is known.
#[derive(Clone, Copy, Debug)]
pub enum Course<'a> {
    /// Past every tunnel.
    Direct,
    /// It was asked, and not answered yet.
    Unknown,
    /// Their route leads there.
    Into(&'a Arc<Tunnel>, Passed),
}

/// The answer to "encrypted?" of a flow of which is not known whether it goes through a tunnel, `inside` being the one of
/// what was seen of it.
pub fn way_unknown(inside: Judged) -> Judged {
    if inside.answer != Answer::No {
        return inside;
    }
    let reason = format!("whether it goes through a tunnel is not known yet (inside: {})", inside.reason);
    Judged::new(Answer::Unknown, reason)
}

impl Tunnel {
    /// For people: `WireGuard tunnel wg0`.
    pub fn label(&self) -> String {
        match self.kind {
            TunnelKind::Wireguard => format!("WireGuard tunnel {}", self.name),
            TunnelKind::Ipsec => format!("IPsec {}", self.name),
        }
    }

    /// Whether packets that were seen on these interfaces pass it. One that has no interface of its own is none that
    /// a socket could choose to go around.
    pub fn passed(&self, devices: Devices) -> Passed {
        let Some(interface) = self.interface else { return Passed::Through };
        let arrives = |device| device == interface.index || Some(device) == interface.vrf;
        match (devices.sent, devices.received) {
            (0, 0) => Passed::Unseen,
            (0, received) if arrives(received) => Passed::Through,
            (sent, 0) if sent == interface.index => Passed::Through,
            (sent, received) if sent == interface.index && arrives(received) => Passed::Through,
            _ => Passed::Around,
        }
    }

    /// The answer to "encrypted?" of a flow whose route leads there, of which no packet was seen to pass it, `inside`
    /// being the one without it.
    pub fn may_cover(&self, inside: Judged, facts: &Facts) -> Judged {
        if inside.answer == Answer::Yes || facts.protection == Protection::Unknown(UnknownReason::Silent) {
            return inside;
        }
        let reason =
            format!("the route leads to {}, and no packet was seen to leave there yet", self.label());
        Judged::new(Answer::Unknown, reason)
    }

    /// The answer to "encrypted?" of a flow that goes through it, `inside` being the one without it.
    pub fn covers(&self, inside: Judged, facts: &Facts) -> Judged {
        let label = self.label();
        let reason = match (inside.answer, facts.protection) {
            (Answer::Yes, _) => {
                let reason = format!("{}, within {label}", inside.reason);
                return Judged { reason, ..inside };
            }
            (_, Protection::Unknown(UnknownReason::Silent)) => return inside,
            (_, Protection::Plaintext(Plain::Protocol(protocol))) => {
                format!("{label} ({} in the clear inside)", protocol.as_str())
            }
            (_, Protection::Plaintext(Plain::Readable)) => format!("{label} (readable data inside)"),
            (_, Protection::Encrypted(_) | Protection::Unknown(_)) => {
                format!("{label} (inside: {})", inside.reason)
            }
        };
        let evidence = match inside.evidence {
            Some(evidence) => format!("{}; inside: {evidence}", self.evidence),
            None => self.evidence.clone(),
        };
        Judged::new(Answer::Yes, reason).with_evidence(evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Interface;
    use dissect::Protocol;

    fn tunnel() -> Tunnel {
        Tunnel {
            kind: TunnelKind::Wireguard,
            name: "wg0".to_owned(),
            evidence: "the route".to_owned(),
            interface: Some(Interface { index: 5, vrf: None }),
        }
    }

    fn judged(answer: Answer) -> Judged {
        Judged::new(answer, "as it is")
    }

    #[test]
    fn plaintext_inside_is_encrypted_by_the_tunnel() {
        let mut facts = Facts::unknown(UnknownReason::Silent);
        facts.protection = Protection::Plaintext(Plain::Protocol(Protocol::Http));
        let found = tunnel().covers(judged(Answer::No), &facts);
        assert_eq!(found.answer, Answer::Yes);
        assert_eq!(found.reason, "WireGuard tunnel wg0 (http in the clear inside)");
        assert_eq!(found.evidence.as_deref(), Some("the route"));
    }

    #[test]
    fn it_counts_where_all_packets_pass_its_interface() {
        let passed = |tunnel: &Tunnel, devices: &[(u32, u32)]| {
            let mut seen = Devices::default();
            for (sent, received) in devices {
                seen.learn(*sent, *received);
            }
            tunnel.passed(seen)
        };
        let wireguard = tunnel();
        assert_eq!(passed(&wireguard, &[]), Passed::Unseen);
        assert_eq!(passed(&wireguard, &[(0, 0)]), Passed::Unseen);
        for through in [&[(5, 0)][..], &[(0, 5)], &[(5, 5), (0, 0)]] {
            assert_eq!(passed(&wireguard, through), Passed::Through, "{through:?}");
        }
        for around in [
            &[(2, 0)][..],
            &[(0, 2)],
            &[(5, 0), (2, 0)],
            &[(2, 0), (5, 0)],
            &[(5, 2)],
            &[(2, 5)],
            &[(5, 5), (DEVICES, 5), (5, 5)],
        ] {
            assert_eq!(passed(&wireguard, around), Passed::Around, "{around:?}");
        }
        let in_vrf = Tunnel { interface: Some(Interface { index: 5, vrf: Some(9) }), ..tunnel() };
        assert_eq!(passed(&in_vrf, &[(5, 9)]), Passed::Through);
        assert_eq!(passed(&in_vrf, &[(9, 5)]), Passed::Around);
        // A policy of IPsec holds wherever they leave.
        assert_eq!(passed(&Tunnel { interface: None, ..tunnel() }, &[(2, 3)]), Passed::Through);
    }

    #[test]
    fn where_no_packet_was_seen_nothing_is_known() {
        let mut facts = Facts::unknown(UnknownReason::Silent);
        assert_eq!(tunnel().may_cover(judged(Answer::Unknown), &facts), judged(Answer::Unknown));
        facts.protection = Protection::Plaintext(Plain::Readable);
        assert_eq!(tunnel().may_cover(judged(Answer::No), &facts).answer, Answer::Unknown);
        assert_eq!(tunnel().may_cover(judged(Answer::Yes), &facts), judged(Answer::Yes));
    }

    #[test]
    fn silence_stays_unknown_and_a_yes_keeps_its_reason() {
        let facts = Facts::unknown(UnknownReason::Silent);
        assert_eq!(tunnel().covers(judged(Answer::Unknown), &facts), judged(Answer::Unknown));
        let yes = tunnel().covers(judged(Answer::Yes), &facts);
        assert_eq!((yes.answer, yes.reason.as_str()), (Answer::Yes, "as it is, within WireGuard tunnel wg0"));
    }
}
