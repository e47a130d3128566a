//! Facts, identity and policy to the four answers, each with its reason. Pure.
//!
//! Must never: answer "yes" for want of evidence.

use dissect::{Facts, Plain, Protection, Protocol, UnknownReason, Upgrade};

use crate::model::{Answer, Judged, Verdict};
use crate::policy::{Decision, Side};

/// What is known of how well a flow was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Captures of this flow that were lost.
    pub lost_captures: u32,
    /// Found at start-up.
    pub before_start: bool,
    /// Its beginning was lost.
    pub beginning_lost: bool,
    /// Its entry was pushed out of the full table of flows.
    pub pushed_out: bool,
    /// The connection failed before it was up.
    pub never_up: bool,
    /// Its end could not be seen, only concluded.
    pub end_concluded: bool,
}

/// The four answers for a flow.
pub fn judge(facts: &Facts, seen: Seen, decision: Option<&Decision>) -> Verdict {
    Verdict {
        encrypted: encrypted(facts, seen),
        authenticated: authenticated(facts),
        authorised: authorised(decision),
        watched: watched(seen),
    }
}

fn encrypted(facts: &Facts, seen: Seen) -> Judged {
    match facts.protection {
        Protection::Encrypted(_) if is_deprecated(facts) => Judged::new(
            Answer::Unknown,
            format!(
                "{}: deprecated, and no longer taken for encryption (RFC 8996)",
                describe_encryption(facts)
            ),
        ),
        Protection::Encrypted(_) => Judged::new(Answer::Yes, describe_encryption(facts)),
        Protection::Plaintext(plain) => {
            let mut judged = Judged::new(Answer::No, describe_plaintext(plain, facts));
            judged.evidence.clone_from(&facts.detail);
            judged
        }
        Protection::Unknown(reason) => {
            let reason = if seen.lost_captures > 0 { UnknownReason::FirstBytesLost } else { reason };
            let mut judged = Judged::new(Answer::Unknown, describe_unknown(reason, seen));
            judged.evidence.clone_from(&facts.detail);
            judged
        }
    }
}

/// TLS 1.1 and earlier, DTLS 1.0, and SSL.
fn is_deprecated(facts: &Facts) -> bool {
    facts.tls.as_ref().is_some_and(|tls| {
        tls.version_protocol.as_deref() == Some("ssl")
            || matches!(tls.version.as_deref(), Some("1.0" | "1.1"))
    })
}

fn describe_encryption(facts: &Facts) -> String {
    let mut parts: Vec<String> = Vec::new();
    if let Some(tls) = &facts.tls {
        let protocol = tls.version_protocol.as_deref().unwrap_or("tls");
        let name = match protocol {
            "quic" => "QUIC",
            "dtls" => "DTLS",
            "ssl" => "SSL",
            _ => "TLS",
        };
        match &tls.version {
            Some(version) => parts.push(format!("{name} {version}")),
            None => parts.push(name.to_owned()),
        }
        parts.extend(tls.group.clone());
        parts.extend(tls.cipher.clone());
        if let Some(server_name) = &tls.server_name {
            parts.push(format!("for {server_name}"));
        }
    } else {
        parts.push(
            match facts.protection {
                Protection::Encrypted(dissect::Cipher::Ssh) => "SSH",
                Protection::Encrypted(dissect::Cipher::Quic) => "QUIC",
                Protection::Encrypted(dissect::Cipher::Dtls) => "DTLS",
                Protection::Encrypted(dissect::Cipher::Wireguard) => "WireGuard",
                _ => "TLS",
            }
            .to_owned(),
        );
    }
    if facts.upgrade == Some(Upgrade::Taken)
        && let Some(protocol) = facts.protocol
        && protocol != Protocol::Tls
    {
        parts.push(format!("negotiated within {}", protocol.as_str()));
    }
    if parts.len() == 1 {
        parts.extend(facts.detail.clone());
    }
    parts.join(", ")
}

fn describe_plaintext(plain: Plain, facts: &Facts) -> String {
    let name = match plain {
        Plain::Protocol(protocol) => format!("{} in the clear", protocol.as_str()),
        Plain::Readable => "readable bytes of no known protocol".to_owned(),
    };
    match facts.upgrade {
        Some(Upgrade::NotTaken) => format!("{name}: TLS was offered and not used"),
        Some(Upgrade::Refused) => format!("{name}: the client asked for TLS and the server refused"),
        _ => match plain {
            Plain::Protocol(protocol) if protocol.clear_by_design() => format!("{name}, by design"),
            _ => name,
        },
    }
}

fn describe_unknown(reason: UnknownReason, seen: Seen) -> String {
    match reason {
        UnknownReason::Silent if seen.before_start => "opened before we started, and silent since".to_owned(),
        UnknownReason::Silent if seen.never_up => "the connection never came up".to_owned(),
        UnknownReason::Silent => "no payload yet".to_owned(),
        UnknownReason::TooFew => "too few bytes to tell".to_owned(),
        UnknownReason::Handshake => "a handshake that was not completed".to_owned(),
        UnknownReason::Opaque => "high-entropy bytes of no known protocol".to_owned(),
        UnknownReason::FirstBytesLost => match seen.lost_captures {
            0 => "the first bytes were not seen".to_owned(),
            lost => format!("first bytes lost ({lost} captures found the ring full)"),
        },
        UnknownReason::OpenedBefore => "opened before we started".to_owned(),
    }
}

fn authenticated(facts: &Facts) -> Judged {
    match facts.protection {
        Protection::Encrypted(_) => {
            Judged::new(Answer::Unknown, "the handshake completed; who proved what is not read from it")
        }
        Protection::Plaintext(Plain::Protocol(protocol)) => {
            Judged::new(Answer::Unknown, format!("authentication within {} is not read", protocol.as_str()))
        }
        Protection::Plaintext(Plain::Readable) => {
            Judged::new(Answer::Unknown, "no handshake that authenticates was seen")
        }
        Protection::Unknown(_) => Judged::new(Answer::Unknown, "cannot be seen on this wire"),
    }
}

/// The third answer alone.
pub fn authorised(decision: Option<&Decision>) -> Judged {
    match decision {
        None => Judged::new(Answer::Unknown, "not decided yet: the client is still being looked up"),
        Some(Decision::Allowed { service, rule, place }) => {
            Judged::new(Answer::Yes, format!("the policy for '{service}' allows this client"))
                .with_evidence(format!("{rule} ({place})"))
        }
        Some(Decision::Unexpected { service, expected, place, side, .. }) => {
            let reason = match side {
                Side::Ingress => format!("the policy for '{service}' does not name this client"),
                Side::Egress => format!("the policy for the client '{service}' does not name this service"),
                Side::Operation => format!("the policy for '{service}' does not let this client do that"),
                Side::Hidden => format!(
                    "encrypted: the policy for '{service}' wants to see that this client keeps to its role"
                ),
            };
            Judged::new(Answer::No, reason).with_evidence(format!("expected: {expected} ({place})"))
        }
        Some(Decision::Unknown { service, why }) => {
            Judged::new(Answer::Unknown, format!("the policy for '{service}' cannot be applied: {why}"))
        }
        Some(Decision::NoPolicy) => Judged::new(Answer::Unknown, "no policy covers this service"),
    }
}

fn watched(seen: Seen) -> Judged {
    if seen.lost_captures > 0 {
        Judged::new(
            Answer::No,
            format!("{} captures of this flow were lost; its totals are exact", seen.lost_captures),
        )
    } else if seen.end_concluded {
        Judged::new(Answer::No, "the end of this flow was not seen; its totals are those of its last event")
    } else if seen.pushed_out {
        Judged::new(
            Answer::No,
            "pushed out of the full table of flows for a while; its totals are exact (raise flows.capacity)",
        )
    } else if seen.beginning_lost {
        Judged::new(Answer::No, "the beginning of this flow was lost; its totals are exact")
    } else if seen.before_start {
        Judged::new(Answer::No, "opened before we started: what came earlier was not seen")
    } else {
        Judged::new(Answer::Yes, "every event of this flow was seen")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_never_yes() {
        for reason in [
            UnknownReason::Silent,
            UnknownReason::TooFew,
            UnknownReason::Handshake,
            UnknownReason::Opaque,
            UnknownReason::FirstBytesLost,
            UnknownReason::OpenedBefore,
        ] {
            let verdict = judge(&Facts::unknown(reason), Seen::default(), None);
            assert_eq!(verdict.encrypted.answer, Answer::Unknown);
            assert_ne!(verdict.authenticated.answer, Answer::Yes);
            assert_ne!(verdict.authorised.answer, Answer::Yes);
        }
    }

    #[test]
    fn old_versions_of_tls_are_no_yes() {
        for (protocol, version, answer) in [
            ("tls", "1.3", Answer::Yes),
            ("tls", "1.2", Answer::Yes),
            ("tls", "1.1", Answer::Unknown),
            ("tls", "1.0", Answer::Unknown),
            ("ssl", "3.0", Answer::Unknown),
            ("dtls", "1.0", Answer::Unknown),
        ] {
            let tls = dissect::TlsFacts {
                version: Some(version.into()),
                version_protocol: Some(protocol.into()),
                ..dissect::TlsFacts::default()
            };
            let facts = Facts {
                protection: Protection::Encrypted(dissect::Cipher::Tls),
                tls: Some(tls),
                ..Facts::unknown(UnknownReason::Silent)
            };
            let verdict = judge(&facts, Seen::default(), None);
            assert_eq!(verdict.encrypted.answer, answer, "{protocol} {version}");
        }
    }

    #[test]
    fn lost_captures_are_told() {
        let seen = Seen { lost_captures: 3, ..Seen::default() };
        let verdict = judge(&Facts::unknown(UnknownReason::Silent), seen, None);
        assert_eq!(verdict.watched.answer, Answer::No);
        assert!(verdict.encrypted.reason.contains("lost"), "{}", verdict.encrypted.reason);
    }
}
