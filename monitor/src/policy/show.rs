//! The policy in force, as text for `streamwatch policy show`.

use std::fmt::Write as _;

use super::Policy;
use crate::model::{Rule, Severity, Transport};

/// How bad a finding of this rule is, where nothing says otherwise.
pub fn default_severity(rule: Rule) -> Severity {
    match rule {
        Rule::WeakTls => Severity::Critical,
        Rule::Plaintext
        | Rule::UnexpectedPeer
        | Rule::WeakCipher
        | Rule::ClientCertMissing
        | Rule::CertExpired
        | Rule::EvidenceLost
        | Rule::AuthFailures
        | Rule::CredentialInClear => Severity::High,
        Rule::CertExpiring | Rule::ConnectFailures | Rule::NewService => Severity::Medium,
        Rule::NotPostQuantum | Rule::TrafficSpike | Rule::TrafficStopped => Severity::Low,
    }
}

/// What changes it.
fn exceptions(rule: Rule) -> &'static str {
    match rule {
        Rule::Plaintext => " Critical outside private address space; no alert on loopback by default.",
        Rule::UnexpectedPeer => " Needs a service in the policy.",
        Rule::WeakTls => " Medium for TLS 1.2, where 1.3 is required.",
        Rule::WeakCipher => " Medium for what only lacks forward secrecy, low for CBC with SHA-1.",
        Rule::NotPostQuantum => " Off unless detect.post_quantum.enabled, or a service requires it.",
        Rule::ClientCertMissing => " Needs a service that requires it.",
        Rule::CertExpiring => " Low at first, high at the last threshold.",
        Rule::AuthFailures => " Critical when a log-in succeeds after the failures.",
        Rule::CredentialInClear => {
            " Critical outside private address space; no alert on loopback by default."
        }
        Rule::CertExpired
        | Rule::ConnectFailures
        | Rule::EvidenceLost
        | Rule::NewService
        | Rule::TrafficSpike
        | Rule::TrafficStopped => "",
    }
}

impl Policy {
    /// What is in force: one line a built-in rule, then the services and their clients.
    pub fn show(&self) -> String {
        let mut text = String::from("built-in rules\n");
        for rule in Rule::ALL {
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "  {:<19} {:<9} {}{}",
                rule.as_str(),
                default_severity(rule).as_str(),
                rule.description(),
                exceptions(rule),
            );
        }
        if self.is_empty() {
            text.push_str("services\n  none: no policy file, so who may talk to whom is unknown\n");
            return text;
        }
        text.push_str("services\n");
        for service in &self.services {
            let transport = match service.transport {
                Some(Transport::Tcp) => "/tcp",
                Some(Transport::Udp) => "/udp",
                None => "",
            };
            let space = if service.server.is_empty() { "" } else { " " };
            let name = service.name.escape_debug();
            let _ = writeln!(text, "  {name}: {}{transport}{space}{}", service.ports, service.server);
            for client in &service.clients {
                let _ = writeln!(text, "    client {client}");
            }
            text.push_str("    everyone else is unexpected\n");
            if let Some(require) = &service.require {
                let _ = writeln!(text, "    requires {require}");
            }
        }
        text
    }
}
