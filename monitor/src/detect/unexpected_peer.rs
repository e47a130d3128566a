//! `unexpected-peer`: the policy covers the service and does not name this client, or it covers the
//! client and does not name this service, or hides from the policy what a role limits.
//!
//! False positives: none beyond those of the policy itself; an end whose identity could not be
//! found out is "unknown", not unexpected. Rules with `action = "report"` open no alert.

use std::sync::Arc;

use super::{Finding, ends};
use crate::model::{FlowView, Rule, Severity};
use crate::policy::{Action, Decision, Side};

/// Judges one flow by what the policy decided.
pub fn unexpected_peer(flow: &Arc<FlowView>, subject: &str, decision: &Decision) -> Option<Finding> {
    let Decision::Unexpected { service, expected, place, side, action: Action::Alert } = decision else {
        return None;
    };
    let (client, server) = ends(flow);
    let (reason, remedy) = match side {
        Side::Ingress | Side::Operation => (
            format!("{client} uses '{service}' ({server}), and the policy expects only {expected} ({place})"),
            format!(
                "If it belongs there, add it as a client of '{service}'; if not, stop it and find out who started it."
            ),
        ),
        Side::Egress => (
            format!(
                "{client} connects to {server}, and the policy for the client '{service}' expects only {expected} ({place})"
            ),
            format!(
                "If it belongs there, add it to what '{service}' may connect to; if not, stop it and find out what it sent."
            ),
        ),
        Side::Hidden => (
            format!(
                "{client} uses '{service}' ({server}) encrypted, and the policy expects {expected} ({place})"
            ),
            format!(
                "Let the client use '{service}' in a way that can be looked into, or set encrypted = \"accept\" there."
            ),
        ),
    };
    Some(Finding {
        rule: Rule::UnexpectedPeer,
        subject: subject.to_owned(),
        severity: Severity::High,
        reason,
        remedy,
        flow: Some(flow.clone()),
        listener: None,
    })
}
