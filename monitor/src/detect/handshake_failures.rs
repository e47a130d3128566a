//! `connect-failures`, for TLS handshakes: those of one client with one service that keep failing.
//!
//! False positives: a scanner that tries what a server accepts; a client that closes connections that it
//! opened ahead and did not need.

use std::sync::Arc;

use dissect::{End, Facts, Protection, UnknownReason};

use super::failures::Failures;
use super::{Fill, Finding, ends};
use crate::model::{FlowView, Rule, Severity};

/// Failures of each stream within the window.
#[derive(Debug)]
pub struct HandshakeFailures {
    failures: Failures,
}

/// Whether a flow that has ended is one of a handshake that began and did not get through.
pub fn is_failed_handshake(facts: &Facts) -> bool {
    let unfinished = facts.protection == Protection::Unknown(UnknownReason::Handshake);
    facts.tls.as_ref().is_some_and(|tls| !tls.established && (unfinished || tls.alert.is_some()))
}

impl HandshakeFailures {
    pub fn new(threshold: u32, window_s: u32) -> Self {
        HandshakeFailures { failures: Failures::new(threshold, window_s) }
    }

    pub fn fill(&self) -> Fill {
        self.failures.fill()
    }

    /// One more handshake that did not get through.
    pub fn failed(&mut self, flow: &Arc<FlowView>, subject: &str, now_ns: u64) -> Option<Finding> {
        let count = self.failures.add(flow, subject, now_ns)?;
        let (client, server) = ends(flow);
        let alert = flow.facts.tls.as_ref().and_then(|tls| tls.alert.as_ref());
        let (how, remedy) = match alert {
            None => (
                "without an alert".to_owned(),
                "Look into the log of the server: one of the two ends gives up without a word.".to_owned(),
            ),
            Some(alert) => {
                let (whose, end) = match alert.from {
                    End::Client => ("the client's", "client"),
                    End::Server => ("the server's", "server"),
                };
                match &alert.description {
                    Some(name) => {
                        (format!("the last one by {whose} alert {name}"), remedy(name, alert.from).to_owned())
                    }
                    None => (
                        format!("the last one by {whose} alert, which is encrypted"),
                        format!("Look into the log of the {end}: it says why it refused."),
                    ),
                }
            }
        };
        Some(Finding {
            rule: Rule::ConnectFailures,
            subject: subject.to_owned(),
            severity: Severity::Medium,
            reason: format!(
                "{client} does not get through a TLS handshake with {server}: {count} failures in {} s, {how}",
                self.failures.window_s()
            ),
            remedy,
            flow: Some(flow.clone()),
            listener: None,
        })
    }
}

/// RFC 8446 section 6.2.
fn remedy(alert: &str, from: End) -> &'static str {
    match (alert, from) {
        (
            "unknown_ca" | "bad_certificate" | "certificate_unknown" | "unsupported_certificate",
            End::Client,
        ) => {
            "Have the client trust the authority that issued the server's certificate, or have it issued by \
             one that it trusts."
        }
        (
            "unknown_ca" | "bad_certificate" | "certificate_unknown" | "unsupported_certificate",
            End::Server,
        ) => {
            "Have the server trust the authority that issued the client's certificate, or have it issued by \
             one that it trusts."
        }
        ("certificate_required", _) => "Give the client a certificate: the server requires one.",
        ("certificate_expired" | "certificate_revoked", _) => "Renew the certificate that was refused.",
        ("protocol_version" | "handshake_failure" | "insufficient_security", _) => {
            "Have both ends offer a version, a suite and a group that the other one takes."
        }
        ("unrecognized_name", _) => "Have the client ask for a name that the server has.",
        ("no_application_protocol", _) => "Have both ends offer an application protocol (ALPN) in common.",
        _ => "Look into the logs of both ends: they say more than the alert.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples;
    use dissect::{TlsAlert, TlsFacts};

    fn facts(alert: Option<TlsAlert>) -> Facts {
        Facts {
            tls: Some(TlsFacts { alert, ..TlsFacts::default() }),
            ..Facts::unknown(UnknownReason::Handshake)
        }
    }

    #[test]
    fn a_handshake_that_began_and_ended() {
        assert!(is_failed_handshake(&facts(None)));
        assert!(!is_failed_handshake(&Facts::unknown(UnknownReason::Handshake)));
        assert!(!is_failed_handshake(&samples::tls_flow().facts));
    }

    #[test]
    fn the_reason_names_the_alert() {
        let alert = TlsAlert { from: End::Client, description: Some("unknown_ca".into()) };
        let flow = Arc::new(FlowView { facts: Arc::new(facts(Some(alert))), ..samples::flow() });
        let mut detector = HandshakeFailures::new(2, 10);
        assert!(detector.failed(&flow, "a", 0).is_none());
        let finding = detector.failed(&flow, "a", 1).expect("twice");
        assert!(
            finding.reason.ends_with("2 failures in 10 s, the last one by the client's alert unknown_ca")
        );
        assert!(finding.remedy.starts_with("Have the client trust"));
    }
}
