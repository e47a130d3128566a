//! Facts, identity and policy to the four answers, each with its reason. Pure.
//!
//! Must never: answer "yes" for want of evidence.

mod authenticated;
mod encrypted;

use dissect::Facts;

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
        encrypted: encrypted::judge(facts, seen),
        authenticated: authenticated::judge(facts),
        authorised: authorised(decision),
        watched: watched(seen),
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
        let (lost, were) =
            (encrypted::captures(seen.lost_captures), if seen.lost_captures == 1 { "was" } else { "were" });
        Judged::new(Answer::No, format!("{lost} of this flow {were} lost; its totals are exact"))
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
    use dissect::UnknownReason;

    use super::*;

    #[test]
    fn unknown_is_never_yes() {
        for reason in [
            UnknownReason::Silent,
            UnknownReason::TooFew,
            UnknownReason::Handshake,
            UnknownReason::Opaque,
            UnknownReason::NotRead,
            UnknownReason::FirstBytesLost,
            UnknownReason::OpenedBefore,
            UnknownReason::Contradictory,
        ] {
            let verdict = judge(&Facts::unknown(reason), Seen::default(), None);
            assert_eq!(verdict.encrypted.answer, Answer::Unknown);
            assert_ne!(verdict.authenticated.answer, Answer::Yes);
            assert_ne!(verdict.authorised.answer, Answer::Yes);
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
