//! `policy diff`: what two policies say differently, whatever the order of their files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Action, Encrypted, Policy};
use crate::model::Transport;

/// One line a difference: `-` is only in the first, `+` only in the second. Empty: they mean the
/// same.
pub fn diff(before: &Policy, after: &Policy) -> String {
    let (before, after) = (statements(before), statements(after));
    let mut text = String::new();
    let titles: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for title in titles {
        let nothing = Vec::new();
        let (old, new) = (before.get(title), after.get(title));
        let mut lines = String::new();
        for line in old.unwrap_or(&nothing) {
            if !new.is_some_and(|new| new.contains(line)) {
                // Writing to a String can't fail.
                let _ = writeln!(lines, "  - {line}");
            }
        }
        for line in new.unwrap_or(&nothing) {
            if !old.is_some_and(|old| old.contains(line)) {
                let _ = writeln!(lines, "  + {line}");
            }
        }
        let change = match (old, new) {
            (None, _) => "+",
            (_, None) => "-",
            _ if lines.is_empty() => continue,
            _ => "~",
        };
        let _ = write!(text, "{change} {title}\n{lines}");
    }
    text
}

/// What a policy says, by what it says it of; each statement a line.
fn statements(policy: &Policy) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for group in &policy.groups {
        let members = policy.members.get(group.members.clone()).unwrap_or(&[]);
        let members = members.iter().map(|(member, _)| format!("member {member}")).collect();
        all.insert(format!("group {}", group.name.escape_debug()), members);
    }
    for (name, grants) in &policy.roles {
        let grants = grants.iter().map(ToString::to_string).collect();
        all.insert(format!("role {}", name.escape_debug()), grants);
    }
    for service in &policy.services {
        let mut lines = vec![
            format!("at {}{} {}", service.ports, transport(service.transport), service.server)
                .trim_end()
                .to_owned(),
        ];
        lines.extend(action(service.action));
        if service.encrypted == Encrypted::Alert {
            lines.push("encrypted: alert where roles limit the client".to_owned());
        }
        lines.extend(service.clients.iter().map(|rule| format!("client {}", rule.with_grants())));
        lines.extend(service.require.iter().map(|require| format!("requires {require}")));
        all.insert(format!("service {}", service.name.escape_debug()), lines);
    }
    for egress in &policy.egress {
        let mut lines = vec![format!("is {}", egress.client)];
        lines.extend(action(egress.action));
        lines.extend(egress.to.iter().map(|to| format!("to {}{}", to.text, transport(to.transport))));
        all.insert(format!("client {}", egress.name.escape_debug()), lines);
    }
    if !policy.resolvers.is_empty() {
        let resolvers = policy.resolvers.iter().map(ToString::to_string).collect();
        all.insert("names from".to_owned(), resolvers);
    }
    all
}

fn action(action: Action) -> Option<String> {
    (action == Action::Report).then(|| "anything else is only reported".to_owned())
}

fn transport(transport: Option<Transport>) -> &'static str {
    match transport {
        Some(Transport::Tcp) => "/tcp",
        Some(Transport::Udp) => "/udp",
        None => "",
    }
}
