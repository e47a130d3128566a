//! Sums over connections: each payload byte counts once, in its stream and in the total.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

use foldhash::quality::RandomState;

use crate::flows::{Addresses, Flow, FlowKey, Streams, addresses};
use crate::inventory::{Ledger, Place};

/// What flows have added up to.
#[derive(Debug)]
pub struct Sums {
    /// Payload bytes of clients and of servers.
    pub bytes: (u64, u64),
    /// The same bytes by how they were protected.
    pub ledger: Ledger,
    /// What flows that were pushed out of the table had counted by then, by a hash of their key: they may be
    /// heard of again, and their totals are cumulative.
    pushed_out: HashMap<u64, ((u64, u64), Place), RandomState>,
    order: VecDeque<u64>,
    capacity: usize,
    /// Flows that were pushed out, and those of them that are no longer remembered: should such a one be
    /// heard of again, what it had counted by then counts twice.
    pub pushed: u64,
    pub forgotten: u64,
    /// Addresses of flows that were counted and have ended, and when: their other ends may be heard
    /// of later, when events were lost on the way.
    ended: HashMap<Addresses, u64, RandomState>,
    ended_order: VecDeque<Addresses>,
}

/// Ended flows remembered.
const ENDED: usize = 16_384;

impl Sums {
    /// Remembers up to `capacity` flows that were pushed out.
    pub fn new(capacity: usize) -> Self {
        Sums {
            bytes: (0, 0),
            ledger: Ledger::default(),
            pushed_out: HashMap::default(),
            order: VecDeque::new(),
            capacity,
            pushed: 0,
            forgotten: 0,
            ended: HashMap::default(),
            ended_order: VecDeque::new(),
        }
    }

    /// Puts a flow into its stream, once. With both ends on this host one of them counts: the
    /// client's, unless the other one was counted before that was heard of (`other_counts`).
    pub fn assign(&mut self, streams: &mut Streams, flow: &mut Flow, other_counts: bool) {
        if flow.assigned {
            return;
        }
        flow.assigned = true;
        if other_counts || !flow.is_primary() || self.other_end_counted(flow) {
            return;
        }
        let id = streams.of(flow);
        flow.stream = Some(id);
        let counted = self.pushed_out.remove(&self.hash(&flow.key()));
        if let Some((accounted, place)) = counted {
            flow.accounted = accounted;
            // It is what it was, until its bytes say otherwise.
            flow.in_ledger = place;
        }
        if let Some(stream) = streams.get_mut(id) {
            stream.flows += u64::from(counted.is_none());
            stream.open += 1;
            stream.learn(flow);
        }
    }

    /// Adds what the flow has counted since the last time.
    pub fn account(&mut self, streams: &mut Streams, flow: &mut Flow, changed: bool) {
        let Some(stream) = flow.stream.and_then(|id| streams.get_mut(id)) else { return };
        let (client, server) = flow.bytes();
        let more = (client.saturating_sub(flow.accounted.0), server.saturating_sub(flow.accounted.1));
        stream.client_bytes += more.0;
        stream.server_bytes += more.1;
        self.bytes.0 += more.0;
        self.bytes.1 += more.1;
        let counted = flow.accounted.0 + flow.accounted.1;
        self.ledger.count(&mut flow.in_ledger, counted, &flow.facts, more.0 + more.1);
        flow.accounted = (client.max(flow.accounted.0), server.max(flow.accounted.1));
        stream.last_ns = stream.last_ns.max(flow.last_ns);
        if changed {
            stream.learn(flow);
        }
    }

    /// Whether this connection was counted at its other end, which has ended since.
    fn other_end_counted(&self, flow: &Flow) -> bool {
        let (local, remote) = flow.endpoints();
        let other = addresses(flow.transport, remote, local, flow.netns);
        self.ended.get(&other).is_some_and(|closed_ns| *closed_ns >= flow.opened_ns)
    }

    /// A flow that counted has ended.
    pub fn end(&mut self, flow: &Flow) {
        if flow.stream.is_none() {
            return;
        }
        if self.ended_order.len() >= ENDED
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        let own = flow.addresses();
        self.ended_order.push_back(own);
        self.ended.insert(own, if flow.closed_ns == 0 { flow.last_ns } else { flow.closed_ns });
    }

    /// Whether a flow that is heard of was pushed out before.
    pub fn was_pushed_out(&self, key: &FlowKey) -> bool {
        self.pushed_out.contains_key(&self.hash(key))
    }

    /// A flow was pushed out of the table while it lived.
    pub fn push_out(&mut self, flow: &Flow) {
        if flow.stream.is_none() {
            return;
        }
        if self.order.len() >= self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.forgotten += u64::from(self.pushed_out.remove(&oldest).is_some());
        }
        self.pushed += 1;
        let hash = self.hash(&flow.key());
        self.order.push_back(hash);
        self.pushed_out.insert(hash, (flow.accounted, flow.in_ledger));
    }

    /// Sixty-four bits, keyed anew at each start: two flows alike are not to be expected, and cannot be made.
    fn hash(&self, key: &FlowKey) -> u64 {
        self.pushed_out.hasher().hash_one(key)
    }
}
