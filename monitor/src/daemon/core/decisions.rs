//! What the policy says, asked once of every pair of ends.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::flows::{Flow, Interned};
use crate::model::{Identity, Transport};
use crate::policy::{Decision, FlowFacts, Policy};

/// Pairs remembered; with more, all are forgotten and asked again.
const REMEMBERED: usize = 16_384;

/// All that a decision rests on, next to the policy.
#[derive(PartialEq, Eq, Hash)]
struct Pair {
    /// Addresses in memory, of identities that [`Known`] holds.
    client: Option<usize>,
    server: Option<usize>,
    client_ip: IpAddr,
    server_address: SocketAddr,
    transport: Transport,
}

struct Known {
    decision: Arc<Decision>,
    /// So that no other identity comes to lie at their addresses.
    _ends: [Option<Arc<Identity>>; 2],
}

/// Decisions of the policy in force.
#[derive(Default)]
pub(super) struct Decisions {
    known: HashMap<Pair, Known, RandomState>,
    decisions: Interned<Decision>,
}

impl Decisions {
    /// Whether this client may use this service.
    pub fn decide(&mut self, policy: &Policy, flow: &Flow) -> Arc<Decision> {
        if policy.is_empty() {
            return self.decisions.get(Decision::NoPolicy);
        }
        let [(client, client_address), (server, server_address)] = flow.ends();
        let address =
            |identity: Option<&Arc<Identity>>| identity.map(|identity| Arc::as_ptr(identity).addr());
        let pair = Pair {
            client: address(client),
            server: address(server),
            client_ip: client_address.ip(),
            server_address,
            transport: flow.transport,
        };
        if let Some(known) = self.known.get(&pair) {
            return known.decision.clone();
        }
        let decision = self.decisions.get(policy.decide(&FlowFacts {
            client: client.map(|identity| &**identity),
            client_address,
            server: server.map(|identity| &**identity),
            server_address,
            transport: flow.transport,
        }));
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let known = Known { decision: decision.clone(), _ends: [client.cloned(), server.cloned()] };
        self.known.insert(pair, known);
        decision
    }

    /// Another policy is in force.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}
