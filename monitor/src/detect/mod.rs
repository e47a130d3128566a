//! Detectors: what is known of a flow, a listener or the losses, in; findings, out. Pure: the clock
//! is an argument.
//!
//! Must never: look at captured bytes, or decide how often a finding is told (that is `alert`).

mod auth_failures;
pub(crate) mod certificates;
mod client_certificate;
mod connect_failures;
mod credential_in_clear;
mod failures;
mod handshake_failures;
mod new_service;
mod plaintext;
mod post_quantum;
mod posture;
mod scans;
pub(crate) mod traffic;
mod unexpected_peer;
mod watched;
pub(crate) mod weak_cipher;
mod weak_tls;

use std::sync::Arc;

pub use auth_failures::AuthFailures;
pub use connect_failures::ConnectFailures;
pub use credential_in_clear::credential_in_clear;
pub use handshake_failures::{HandshakeFailures, is_failed_handshake};
pub use new_service::{Listener, NewServices};
pub use plaintext::{plaintext, severity_of_plaintext};
pub use posture::{Breach, Fault, Sight, posture};
pub use scans::Scans;
pub use traffic::{Baseline, Departure, Totals, Traffic};
pub use unexpected_peer::unexpected_peer;
pub use watched::Fill;

use crate::model::{FlowView, ListenerView, LossRow, Rule, Severity, Tampered};

/// Something a detector saw once.
#[derive(Clone, Debug)]
pub struct Finding {
    pub rule: Rule,
    /// What it is about: with the rule, the key of the alert.
    pub subject: String,
    pub severity: Severity,
    /// One sentence for people.
    pub reason: String,
    /// What to do, one sentence.
    pub remedy: String,
    /// The flow that shows it.
    pub flow: Option<Arc<FlowView>>,
    /// The listening socket that shows it.
    pub listener: Option<Arc<ListenerView>>,
}

impl Finding {
    /// The key of the alert that this finding opens or repeats.
    pub fn key(&self) -> String {
        format!("{}|{}", self.rule.as_str(), self.subject)
    }
}

/// The monitor lost evidence: in the kernel, on the way, or for want of room in a table. What was lost on the
/// way out (records that nobody reads, a client that is too slow) is no evidence.
pub fn evidence_lost(rows: &[LossRow]) -> Option<Finding> {
    let evidence = |row: &&LossRow| matches!(&*row.stage, "kernel" | "reader" | "events" | "table");
    let rows: Vec<&LossRow> = rows.iter().filter(evidence).collect();
    let of_tables = rows.iter().all(|row| row.stage == "table");
    let lost: u64 = rows.iter().map(|row| row.lost).sum();
    if lost == 0 {
        return None;
    }
    let kinds: Vec<String> = rows
        .iter()
        .filter(|row| row.lost > 0)
        .map(|row| format!("{} {} at {}", row.lost, row.kind, row.stage))
        .collect();
    Some(Finding {
        rule: Rule::EvidenceLost,
        subject: "host".to_owned(),
        severity: Severity::Medium,
        reason: format!("{lost} events were lost ({})", kinds.join(", ")),
        remedy: match of_tables {
            true => {
                "Raise flows.capacity in the configuration; 'streamwatch status' says which table is full."
            }
            false => "Raise kernel.ring_bytes, or lower kernel.tcp_budget, in the configuration.",
        }
        .to_owned(),
        flow: None,
        listener: None,
    })
}

/// Looks at processes of somebody do not return. `who`: `user 1000`, `container …`.
pub fn looks_stall(who: &str) -> Finding {
    Finding {
        rule: Rule::EvidenceLost,
        subject: format!("looks at processes of {who}"),
        severity: Severity::Medium,
        reason: format!(
            "a look at a process of {who} did not return: until it has, what processes of {who} run and with which \
             arguments is not known, and what a policy asks of that is unknown"
        ),
        remedy: "Look at what that one's processes do: one may hold the lock of its own memory, or run from a file \
                 system that does not answer. 'streamwatch status' counts what was not looked at (stage looks)."
            .to_owned(),
        flow: None,
        listener: None,
    }
}

/// What the daemon sent to itself was not heard of.
pub fn silent(missing: &str) -> Finding {
    Finding {
        rule: Rule::MonitorTampered,
        subject: "self-check".to_owned(),
        severity: Severity::Critical,
        reason: format!(
            "a datagram that the monitor sent to itself was not seen ({missing}): others may not be either"
        ),
        remedy: "Look at the hooks and losses in 'streamwatch status', and restart streamwatch.".to_owned(),
        flow: None,
        listener: None,
    }
}

/// The process that holds the hooks and looks things up says nothing any more: it is stopped, or caught.
pub fn loader_silent(seconds: u64) -> Finding {
    Finding {
        rule: Rule::MonitorTampered,
        subject: "loader".to_owned(),
        severity: Severity::Critical,
        reason: format!(
            "the process of the monitor that holds the hooks has said nothing for {seconds} s or more: traffic is \
             counted and judged, but owners are not looked up, what is to be kept is not, and nobody sees whether a \
             hook is gone"
        ),
        remedy:
            "Find out who stopped it (state T in 'ps'), or what it waits for, and let it go on or restart \
                 streamwatch."
                .to_owned(),
        flow: None,
        listener: None,
    }
}

/// Somebody took a hook of ours away, put another program in its place, or changed what outlives the daemon.
pub fn tampered(done: &Tampered) -> Finding {
    let restored = match &done.restored {
        Some(Ok(())) if done.works => "; it was put right".to_owned(),
        Some(Ok(())) => "; it was put right, and what passed in between was not seen".to_owned(),
        Some(Err(error)) => format!("; it cannot be put right: {error}"),
        None if done.works => {
            "; it works for as long as this daemon runs, and not over its restart".to_owned()
        }
        None => "; what passes there is not seen".to_owned(),
    };
    Finding {
        rule: Rule::MonitorTampered,
        subject: done.part.to_string(),
        severity: Severity::Critical,
        reason: format!("the {} {}{restored}", done.part, done.what),
        remedy: "Find out who detaches or changes programs on this host, and restart streamwatch; with kernel.restore it puts its \
                 hooks right by itself."
            .to_owned(),
        flow: None,
        listener: None,
    }
}

/// The process that reads what comes from outside ended by itself: by a fault, or by what it read.
pub fn worker_ended(how: &str, times: u64, counts_only: bool) -> Finding {
    let now = match counts_only {
        true => "since that goes on, traffic is counted, and what is captured of it is not looked at",
        false => "another one goes on where it stopped",
    };
    let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
    Finding {
        rule: Rule::MonitorTampered,
        subject: "worker".to_owned(),
        severity: if counts_only { Severity::Critical } else { Severity::High },
        reason: format!("the process that reads traffic ended by itself ({how}; {times} since the start): {now}"),
        remedy: "Somebody may have sent what it cannot read: look at who connected at that time, and report it with \
                 what standard error says; 'streamwatch status' tells whether it goes on."
            .to_owned(),
        flow: None,
        listener: None,
    }
}

/// How people call the two ends of a flow.
fn ends(flow: &FlowView) -> (String, String) {
    let client = flow.client_identity().map_or_else(
        || flow.client().ip().to_string(),
        |identity| match identity.pid {
            Some(pid) => format!("{} (pid {pid})", identity.label()),
            None => identity.label(),
        },
    );
    let server = flow.server_identity().map_or_else(
        || flow.server().to_string(),
        |identity| format!("{} at {}", identity.label(), flow.server()),
    );
    (client, server)
}
