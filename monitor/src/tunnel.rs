//! What a tunnel changes in the answers.
//!
//! Must never: take what was not seen for encrypted because a tunnel is there; where nothing was sent,
//! nothing is known.

use dissect::{Facts, Plain, Protection, UnknownReason};

use crate::model::{Answer, Judged, Tunnel, TunnelKind};

impl Tunnel {
    /// For people: `WireGuard tunnel wg0`.
    pub fn label(&self) -> String {
        match self.kind {
            TunnelKind::Wireguard => format!("WireGuard tunnel {}", self.name),
            TunnelKind::Ipsec => format!("IPsec {}", self.name),
        }
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
    use dissect::Protocol;

    fn tunnel() -> Tunnel {
        Tunnel { kind: TunnelKind::Wireguard, name: "wg0".to_owned(), evidence: "the route".to_owned() }
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
    fn silence_stays_unknown_and_a_yes_keeps_its_reason() {
        let facts = Facts::unknown(UnknownReason::Silent);
        assert_eq!(tunnel().covers(judged(Answer::Unknown), &facts), judged(Answer::Unknown));
        let yes = tunnel().covers(judged(Answer::Yes), &facts);
        assert_eq!((yes.answer, yes.reason.as_str()), (Answer::Yes, "as it is, within WireGuard tunnel wg0"));
    }
}
