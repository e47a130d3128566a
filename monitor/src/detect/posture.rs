//! What is wrong with how a flow is encrypted and authenticated: one fault a rule at most, from the
//! detectors of [`super::weak_tls`] and its neighbours.
//!
//! Each looks at facts alone; who is at the ends is added only where something was found.

use std::net::SocketAddr;
use std::sync::Arc;

use dissect::Facts;
use jiff::Timestamp;

use super::{Finding, certificates, client_certificate, ends, post_quantum, weak_cipher, weak_tls};
use crate::config;
use crate::model::{FlowView, Reach, Rule, Severity, reach};
use crate::policy::{Outcome, Required};

/// What a detector looks at.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    pub facts: &'a Facts,
    /// How far the data goes.
    pub reach: Reach,
    pub settings: &'a config::Detect,
    /// What of the policy the flow breaks.
    pub breaches: &'a [Breach],
    pub now: Timestamp,
}

/// A requirement of the policy that a flow breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    pub rule: Rule,
    /// Name of the service that requires it.
    pub service: Arc<str>,
    /// The end of a sentence that begins with the stream.
    pub what: String,
}

/// All that breaks one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub rule: Rule,
    /// Of the worst of it.
    pub severity: Severity,
    /// Ends of a sentence that begins with the stream.
    pub what: Vec<String>,
    /// Against the worst of it.
    pub remedy: String,
}

impl Fault {
    pub(super) fn new(rule: Rule) -> Self {
        Fault { rule, severity: Severity::Low, what: Vec::new(), remedy: String::new() }
    }

    pub(super) fn add(&mut self, severity: Severity, what: impl Into<String>, remedy: impl Into<String>) {
        if self.what.is_empty() || severity > self.severity {
            self.severity = severity;
            self.remedy = remedy.into();
        }
        let what = what.into();
        if !self.what.contains(&what) {
            self.what.push(what);
        }
    }

    /// Adds what the policy has against the flow under this rule.
    pub(super) fn add_breaches(&mut self, sight: &Sight<'_>, severity: Severity, remedy: &str) {
        let rule = self.rule;
        for breach in sight.breaches.iter().filter(|breach| breach.rule == rule) {
            let what = format!("{} by the policy for '{}'", breach.what, breach.service);
            self.add(severity, what, remedy);
        }
    }

    /// `None` where nothing was added.
    pub(super) fn found(self) -> Option<Self> {
        (!self.what.is_empty()).then_some(self)
    }

    /// The finding, about this flow.
    pub fn finding(self, flow: &Arc<FlowView>, subject: &str) -> Finding {
        let (client, server) = ends(flow);
        Finding {
            rule: self.rule,
            subject: subject.to_owned(),
            severity: self.severity,
            reason: format!("{client} to {server}: the stream {}", self.what.join(", and ")),
            remedy: self.remedy,
            flow: Some(flow.clone()),
            listener: None,
        }
    }
}

/// Everything that is wrong with a flow, once a rule.
pub fn posture(
    facts: &Facts,
    (local, remote): (SocketAddr, SocketAddr),
    settings: &config::Detect,
    required: &[Required],
    now: Timestamp,
) -> Vec<Fault> {
    let breaches = breaches(facts, required);
    // An address of this host's own, reached from this host, never leaves it.
    let reach = if local.ip() == remote.ip() { Reach::Loopback } else { reach(remote.ip()) };
    let sight = Sight { facts, reach, settings, breaches: &breaches, now };
    [
        weak_tls::fault(&sight),
        weak_cipher::fault(&sight),
        post_quantum::fault(&sight),
        client_certificate::fault(&sight),
        certificates::expired(&sight),
        certificates::expiring(&sight),
        certificates::not_the_one(&sight),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn breaches(facts: &Facts, required: &[Required]) -> Vec<Breach> {
    let of = |required: &Required| {
        let service = required.service.clone();
        required.require.check(facts).into_iter().filter_map(move |outcome| match outcome {
            Outcome::Breach { rule, what } => Some(Breach { rule, service: service.clone(), what }),
            Outcome::Unknown { .. } => None,
        })
    };
    required.iter().flat_map(of).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::policy::Require;
    use crate::posture::tests::tls;

    /// What one detector says of facts, without a policy, at a time in seconds since 1970.
    pub(in crate::detect) fn looked(
        detector: impl Fn(&Sight<'_>) -> Option<Fault>,
        facts: &Facts,
        settings: &config::Detect,
        now_s: i64,
    ) -> Option<(Severity, String)> {
        let now = Timestamp::from_second(now_s).expect("in range");
        let sight = Sight { facts, reach: Reach::Private, settings, breaches: &[], now };
        detector(&sight).map(|fault| {
            assert!(!fault.remedy.is_empty(), "{fault:?}");
            (fault.severity, fault.what.join(", and "))
        })
    }

    fn addresses() -> (SocketAddr, SocketAddr) {
        ("10.0.0.1:40000".parse().expect("address"), "10.0.0.2:443".parse().expect("address"))
    }

    #[test]
    fn one_fault_a_rule_and_the_policy_names_itself() {
        let require =
            Require { post_quantum: true, tls: Some(crate::posture::TlsVersion::V1_3), ..Require::default() };
        let required = [Required { service: "payments".into(), require: Arc::new(require) }];
        let facts = tls("1.0", "TLS_RSA_WITH_RC4_128_SHA", None);
        let now = Timestamp::UNIX_EPOCH;
        let faults = posture(&facts, addresses(), &config::Detect::default(), &required, now);
        let rules: Vec<_> = faults.iter().map(|fault| fault.rule).collect();
        assert_eq!(rules, [Rule::WeakTls, Rule::WeakCipher, Rule::NotPostQuantum]);
        assert_eq!(faults[0].severity, Severity::Critical);
        assert!(faults[0].what[1].contains("by the policy for 'payments'"), "{faults:?}");
    }

    #[test]
    fn what_is_well_is_no_fault() {
        let facts = tls("1.3", "TLS_AES_256_GCM_SHA384", Some("X25519MLKEM768"));
        let faults = posture(&facts, addresses(), &config::Detect::default(), &[], Timestamp::UNIX_EPOCH);
        assert_eq!(faults, []);
    }
}
