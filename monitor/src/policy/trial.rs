//! `policy test`: what a policy would say of what was observed. Nothing is changed by it.

use std::fmt::Write as _;

use dissect::{Cipher, Facts, Protection, TlsFacts, UnknownReason};

use super::{Decision, FlowFacts, Observations, Observed, Policy, Seen, Side};
use crate::model::{Identity, Transport};
use crate::record::printable;

/// What a policy would say.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    pub allowed: u64,
    pub unexpected: u64,
    pub unknown: u64,
    pub uncovered: u64,
    /// A line for each stream that breaks it, or of which it can't be said; for people.
    pub lines: Vec<String>,
}

/// Decides about everything observed, by who is at the ends.
pub fn trial(policy: &Policy, observations: &Observations) -> Trial {
    let mut trial = Trial::default();
    let mut told: std::collections::BTreeMap<(bool, String), u64> = std::collections::BTreeMap::new();
    for seen in &observations.list {
        let facts = FlowFacts {
            client: seen.client.as_ref(),
            client_address: seen.client_address,
            server: seen.server.as_ref(),
            server_address: seen.server_address,
            transport: seen.transport,
        };
        let wire = wire(seen);
        let decision = policy.decide_seen(&facts, Seen { facts: wire.as_ref(), ..Seen::default() });
        let stream = stream(seen);
        match decision {
            Decision::Allowed { .. } => trial.allowed += seen.flows,
            Decision::NoPolicy => trial.uncovered += seen.flows,
            Decision::Unexpected { service, expected, place, side, .. } => {
                trial.unexpected += seen.flows;
                let whose = if side == Side::Egress { "the client " } else { "" };
                let line =
                    format!("unexpected-peer: {stream}: {whose}'{service}' expects {expected} ({place})");
                *told.entry((false, line)).or_default() += seen.flows;
            }
            Decision::Unknown { service, why } => {
                trial.unknown += seen.flows;
                *told.entry((true, format!("unknown: {stream}: '{service}': {why}"))).or_default() +=
                    seen.flows;
            }
        }
    }
    trial.lines = told
        .into_iter()
        .map(|((_, line), flows)| {
            let plural = if flows == 1 { "" } else { "s" };
            printable(&format!("{line}, {flows} flow{plural}")).into_owned()
        })
        .collect();
    trial
}

/// What a record tells of a handshake. Names from DNS are in none.
fn wire(seen: &Observed) -> Option<Facts> {
    let name = seen.server_name.clone()?;
    let tls = TlsFacts { server_name: Some(name), established: true, ..TlsFacts::default() };
    let protection = Protection::Encrypted(Cipher::Tls);
    Some(Facts { protection, tls: Some(tls), ..Facts::unknown(UnknownReason::Silent) })
}

impl Trial {
    /// All lines, and a sum.
    pub fn report(&self, ignored: u64) -> String {
        let mut text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "{} flows allowed, {} unexpected, {} unknown, {} that no rule is about",
            self.allowed, self.unexpected, self.unknown, self.uncovered
        );
        if ignored > 0 {
            let _ = write!(text, "; {ignored} records of no connection, or of one that failed");
        }
        text.push('\n');
        text
    }
}

fn stream(seen: &Observed) -> String {
    let name = |identity: &Option<Identity>, address: std::net::IpAddr| {
        identity.as_ref().map_or_else(|| address.to_string(), Identity::label)
    };
    let transport = match seen.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let client = name(&seen.client, seen.client_address.ip());
    let server = name(&seen.server, seen.server_address.ip());
    format!("{client} → {server}:{}/{transport}", seen.server_address.port())
}
