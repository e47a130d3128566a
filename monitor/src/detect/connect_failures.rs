//! `connect-failures`: connections of one client to one service that keep failing.
//!
//! False positives: a client that waits for a service to start by trying again and again.

use std::sync::Arc;

use super::failures::Failures;
use super::{Fill, Finding, ends};
use crate::model::{FailReason, FlowView, Rule, Severity};

/// Failures of each stream within the window.
#[derive(Debug)]
pub struct ConnectFailures {
    failures: Failures,
}

impl ConnectFailures {
    pub fn new(threshold: u32, window_s: u32) -> Self {
        ConnectFailures { failures: Failures::new(threshold, window_s) }
    }

    pub fn fill(&self) -> Fill {
        self.failures.fill()
    }

    /// One more connection that never came up.
    pub fn failed(&mut self, flow: &Arc<FlowView>, subject: &str, now_ns: u64) -> Option<Finding> {
        let count = self.failures.add(flow, subject, now_ns)?;
        let (client, server) = ends(flow);
        let why = match flow.failure {
            Some(FailReason::Refused) => "the peer refuses",
            Some(FailReason::TimedOut) => "nobody answers",
            Some(FailReason::Unreachable) => "there is no way to it",
            _ => "the client gives up",
        };
        Some(Finding {
            rule: Rule::ConnectFailures,
            subject: subject.to_owned(),
            severity: Severity::Medium,
            reason: format!(
                "{client} cannot connect to {server}: {count} failures in {} s, {why}",
                self.failures.window_s()
            ),
            remedy:
                "Check that the service runs and listens there, and that the client has the right address."
                    .to_owned(),
            flow: Some(flow.clone()),
            listener: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::*;
    use dissect::{Facts, UnknownReason};

    fn flow() -> Arc<FlowView> {
        let facts = Facts::unknown(UnknownReason::Silent);
        let verdict = crate::verdict::judge(&facts, crate::verdict::Seen::default(), None);
        Arc::new(FlowView {
            id: "x".into(),
            transport: Transport::Tcp,
            direction: Direction::Egress,
            state: FlowState::Failed,
            failure: Some(FailReason::Refused),
            local: "10.0.0.1:40000".parse().expect("address"),
            remote: "10.0.0.2:80".parse().expect("address"),
            netns: 0,
            owner: Arc::default(),
            peer: None,
            sent: Count::default(),
            received: Count::default(),
            opened_at: jiff::Timestamp::UNIX_EPOCH,
            closed_at: None,
            duration_ns: 0,
            setup_ns: None,
            handshake_ns: None,
            before_start: false,
            rtt_us: None,
            retransmits: 0,
            facts: Arc::new(facts),
            tunnel: None,
            verdict: Arc::new(verdict),
        })
    }

    #[test]
    fn fires_at_the_threshold_within_the_window_only() {
        let second = 1_000_000_000;
        let mut detector = ConnectFailures::new(3, 10);
        assert!(detector.failed(&flow(), "a", 0).is_none());
        assert!(detector.failed(&flow(), "a", 20 * second).is_none());
        assert!(detector.failed(&flow(), "b", 21 * second).is_none());
        assert!(detector.failed(&flow(), "a", 22 * second).is_none());
        assert!(detector.failed(&flow(), "a", 23 * second).is_some());
    }
}
