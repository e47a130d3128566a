//! The policy in force, as text for `streamwatch policy show`.

use std::fmt::Write as _;

use super::{Action, Encrypted, Policy};
use crate::model::{Rule, Severity, Transport};

/// How bad a finding of this rule is, where nothing says otherwise.
pub fn default_severity(rule: Rule) -> Severity {
    match rule {
        Rule::WeakTls | Rule::MonitorTampered => Severity::Critical,
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
        Rule::UnexpectedPeer => " Needs a service or a client in the policy, but for certificates.",
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
        | Rule::MonitorTampered
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
        self.show_names(&mut text);
        if !self.services.is_empty() {
            text.push_str("services\n");
        }
        for service in &self.services {
            let space = if service.server.is_empty() { "" } else { " " };
            let name = service.name.escape_debug();
            let transport = transport(service.transport);
            let _ = writeln!(text, "  {name}: {}{transport}{space}{}", service.ports, service.server);
            for rule in &service.clients {
                let _ = writeln!(text, "    client {}", rule.with_grants());
            }
            let limited = service.clients.iter().any(|rule| rule.grants.is_some());
            match (limited, service.encrypted) {
                (false, _) => {}
                (true, Encrypted::Accept) => {
                    text.push_str("    encrypted: what clients do is unknown, and accepted\n");
                }
                (true, Encrypted::Alert) => {
                    text.push_str("    encrypted: alert, because what clients do cannot be seen\n");
                }
            }
            let _ = writeln!(text, "    everyone else is unexpected{}", only_reported(service.action));
            if let Some(require) = &service.require {
                let _ = writeln!(text, "    requires {require}");
            }
        }
        if !self.egress.is_empty() {
            text.push_str("clients\n");
        }
        for egress in &self.egress {
            let _ = writeln!(text, "  {}: {}", egress.name.escape_debug(), egress.client);
            for to in &egress.to {
                let _ = writeln!(text, "    to {}{}", to.text, transport(to.transport));
            }
            let _ = writeln!(text, "    anything else is unexpected{}", only_reported(egress.action));
        }
        text
    }

    fn show_names(&self, text: &mut String) {
        if !self.groups.is_empty() {
            text.push_str("groups\n");
        }
        for group in &self.groups {
            let _ = writeln!(text, "  {}", group.name.escape_debug());
            for (member, _) in self.members.get(group.members.clone()).unwrap_or(&[]) {
                let _ = writeln!(text, "    {member}");
            }
        }
        if !self.roles.is_empty() {
            text.push_str("roles\n");
        }
        for (name, grants) in &self.roles {
            let _ = writeln!(text, "  {}", name.escape_debug());
            for grant in grants {
                let _ = writeln!(text, "    {grant}");
            }
        }
    }
}

fn transport(transport: Option<Transport>) -> &'static str {
    match transport {
        Some(Transport::Tcp) => "/tcp",
        Some(Transport::Udp) => "/udp",
        None => "",
    }
}

fn only_reported(action: Action) -> &'static str {
    match action {
        Action::Alert => "",
        Action::Report => ", and only reported",
    }
}
