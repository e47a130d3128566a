//! Names from DNS answers, and what else the wire tells the policy.

use dissect::Facts;

use super::*;
use crate::names::{self, Asker};
use crate::policy::{FlowFacts, Seen};

/// Bytes of DNS messages that the kernel captures of each direction before it is told to go on.
const DNS_BUDGET: u32 = 8192;

/// What the policy may ask about a flow, beside who is at its ends.
pub(super) struct Told<'a> {
    facts: FlowFacts<'a>,
    wire: Option<&'a Arc<Facts>>,
    client_names: Vec<Arc<str>>,
    server_names: Vec<Arc<str>>,
    names_complete: bool,
}

/// What is known of a flow now, of what the policy asks.
pub(super) fn of<'a>(policy: &Policy, names: &Names, flow: &'a Flow) -> Told<'a> {
    let [(client, client_address), (server, server_address)] = flow.ends();
    let facts = FlowFacts {
        client: client.map(|identity| &**identity),
        client_address,
        server: server.map(|identity| &**identity),
        server_address,
        transport: flow.transport,
    };
    let wants = policy.wants();
    let named = |address: SocketAddr| match wants.names {
        true => names.of(flow.netns, address.ip(), flow.opened_ns),
        false => Vec::new(),
    };
    Told {
        facts,
        wire: wants.facts.then_some(&flow.facts),
        client_names: named(client_address),
        server_names: named(server_address),
        names_complete: wants.names && names.is_complete(flow.opened_ns),
    }
}

impl Told<'_> {
    pub(super) fn with<T>(&self, with: impl FnOnce(&FlowFacts<'_>, Seen<'_>) -> T) -> T {
        let seen = Seen {
            facts: self.wire.map(|facts| &**facts),
            client_names: &self.client_names,
            server_names: &self.server_names,
            names_complete: self.names_complete,
        };
        with(&self.facts, seen)
    }

    /// The facts that the wire told, where the policy asks for them.
    pub(super) fn wire(&self) -> Option<&Arc<Facts>> {
        self.wire
    }

    /// Names of client and server, and whether those are all.
    pub(super) fn names(&self) -> ([Vec<Arc<str>>; 2], bool) {
        ([self.client_names.clone(), self.server_names.clone()], self.names_complete)
    }
}

/// Whether what a settled flow still carries is wanted: answers of DNS servers.
pub(super) fn is_listened_to(policy: &Policy, names: &Names, flow: &Flow) -> bool {
    policy.wants().names && flow.transport == Transport::Udp && names.trusts(flow.remote())
}

impl Core {
    /// A datagram to or from a DNS server.
    pub(super) fn learn_names(&mut self, id: FlowId, head: &CaptureHead, data: &[u8]) {
        let whole = head.payload_len as usize == data.len();
        if !self.policy.wants().names || head.transport != 17 || head.remote_port != names::PORT || !whole {
            return;
        }
        let asker = Asker {
            netns: head.netns,
            cookie: head.cookie,
            local_port: head.local_port,
            server: address(head.remote, head.remote_port),
        };
        if head.flags & capture_flag::SENT != 0 {
            self.names.asked(asker, data, head.at_ns);
        } else if !self.is_answered_from_within(id, asker.server)
            && self.names.answered(asker, data, head.at_ns)
        {
            // A socket may be used for many questions.
            let decision = Decision {
                action: decision::EXTEND,
                sent_limit: DNS_BUDGET,
                received_limit: DNS_BUDGET,
                ..Decision::default()
            };
            self.out.commands.push(Command::Decide { key: key_of_capture(head), decision });
        }
    }

    /// Whether the server stands in the network namespace that asks it, which is not the daemon's own: whoever made that
    /// namespace gave the server its address, and has it say what they like.
    fn is_answered_from_within(&self, id: FlowId, server: SocketAddr) -> bool {
        let Some(flow) = self.table.get(id) else { return true };
        if self.settings.own_netns == Some(flow.netns) {
            return false;
        }
        let is_same = |twin: FlowId| self.table.get(twin).is_some_and(|twin| twin.netns == flow.netns);
        let other = flow.twin.or_else(|| self.unsure_end_of(id));
        server.ip().to_canonical().is_loopback() || other.is_some_and(is_same)
    }

    /// What was decided rested on what the wire had told before.
    pub(super) fn decide_again(&mut self, id: FlowId) {
        if !self.policy.wants().facts {
            return;
        }
        let Some(mut flow) = self.table.get_mut(id) else { return };
        if flow.decision.is_none() {
            return;
        }
        let seen = self.watching.seen(&flow);
        let decision = roles::decide(&mut self.decisions, &self.policy, &self.names, &flow, seen);
        if flow.decision.as_ref() != Some(&decision) {
            flow.undecide();
        }
    }
}
