//! `unexpected-peer`: the policy covers the service and does not name this client.
//!
//! False positives: none beyond those of the policy itself; a client whose identity could not be
//! found out is "unknown", not unexpected.

use std::sync::Arc;

use super::{Finding, ends};
use crate::model::{FlowView, Rule, Severity};
use crate::policy::Decision;

/// Judges one flow by what the policy decided.
pub fn unexpected_peer(flow: &Arc<FlowView>, subject: &str, decision: &Decision) -> Option<Finding> {
    let Decision::Unexpected { service, expected } = decision else { return None };
    let (client, server) = ends(flow);
    Some(Finding {
        rule: Rule::UnexpectedPeer,
        subject: subject.to_owned(),
        severity: Severity::High,
        reason: format!("{client} uses '{service}' ({server}), and the policy expects only {expected}"),
        remedy: format!(
            "If it belongs there, add it as a client of '{service}'; if not, stop it and find out who started it."
        ),
        flow: Some(flow.clone()),
    })
}
