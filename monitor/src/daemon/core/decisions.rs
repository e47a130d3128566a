//! What the policy says, asked once of every pair of ends.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dissect::Facts;
use foldhash::fast::RandomState;

use super::named;
use crate::flows::{Flow, Interned};
use crate::model::{Identity, Transport};
use crate::names::Names;
use crate::policy::{Decision, Policy};

/// Pairs remembered; with more, all are forgotten and asked again.
const REMEMBERED: usize = 16_384;

/// All that a decision rests on, next to the policy.
#[derive(PartialEq, Eq, Hash)]
struct Pair {
    /// Addresses in memory, of identities and facts that [`Known`] holds. What is known of
    /// executables and containers is part of the identity.
    client: Option<usize>,
    server: Option<usize>,
    /// `None`: the policy does not ask what the wire tells.
    facts: Option<usize>,
    client_ip: IpAddr,
    server_address: SocketAddr,
    transport: Transport,
    /// Of client and server; empty where the policy does not ask for them.
    names: [Vec<Arc<str>>; 2],
    names_complete: bool,
}

struct Known {
    decision: Arc<Decision>,
    /// So that nothing else comes to lie at their addresses.
    _ends: [Option<Arc<Identity>>; 2],
    _facts: Option<Arc<Facts>>,
}

/// Decisions of the policy in force.
#[derive(Default)]
pub(super) struct Decisions {
    known: HashMap<Pair, Known, RandomState>,
    decisions: Interned<Decision>,
}

impl Decisions {
    /// Whether this client may use this service.
    pub fn decide(&mut self, policy: &Policy, names: &Names, flow: &Flow) -> Arc<Decision> {
        if policy.is_empty() {
            return self.decisions.get(Decision::NoPolicy);
        }
        let [(client, client_address), (server, server_address)] = flow.ends();
        let told = named::of(policy, names, flow);
        let facts = told.wire().cloned();
        let (names, names_complete) = told.names();
        let pair = Pair {
            client: client.map(address),
            server: server.map(address),
            facts: facts.as_ref().map(address),
            client_ip: client_address.ip(),
            server_address,
            transport: flow.transport,
            names,
            names_complete,
        };
        if let Some(known) = self.known.get(&pair) {
            return known.decision.clone();
        }
        let decision = self.decisions.get(told.with(|facts, seen| policy.decide_seen(facts, seen)));
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let ends = [client.cloned(), server.cloned()];
        let known = Known { decision: decision.clone(), _ends: ends, _facts: facts };
        self.known.insert(pair, known);
        decision
    }

    /// Another policy is in force.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}

fn address<T>(shared: &Arc<T>) -> usize {
    Arc::as_ptr(shared).addr()
}
