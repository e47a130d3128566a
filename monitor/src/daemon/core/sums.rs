//! Sums over connections: each payload byte counts once, in its stream and in the total.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

use dissect::{Facts, UnknownReason};
use foldhash::quality::RandomState;

use super::forgotten::{Before, Forgotten};
use crate::flows::{Addresses, Flow, FlowKey, StreamId, Streams, addresses};
use crate::inventory::{Ledger, Place};
use crate::model::Direction;

/// What flows have added up to.
#[derive(Debug)]
pub struct Sums {
    /// Payload bytes of clients and of servers.
    pub bytes: (u64, u64),
    /// The same bytes by how they were protected.
    pub ledger: Ledger,
    /// Flows that were pushed out of the table, by a hash of their key: they may be heard of again.
    pushed_out: HashMap<u64, PushedOut, RandomState>,
    order: VecDeque<u64>,
    capacity: usize,
    /// Flows that were pushed out.
    pub pushed: u64,
    /// Those that are no longer remembered one by one.
    pub forgotten: Forgotten,
    /// Flows that were counted and have ended, by their addresses: their other ends may be heard of later, when
    /// events were lost on the way.
    ended: HashMap<Addresses, Ended, RandomState>,
    ended_order: VecDeque<Addresses>,
}

/// What a flow had counted when it was pushed out: its totals are cumulative.
#[derive(Clone, Copy, Debug)]
struct PushedOut {
    /// Bytes of client and server; `None`: it does not count, its other end does.
    counted: Option<(u64, u64)>,
    place: Place,
}

/// A flow that was counted and has ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    direction: Direction,
    began_ns: Option<u64>,
    closed_ns: u64,
    /// Bytes of client and server.
    counted: (u64, u64),
}

/// Ended flows remembered.
const ENDED: usize = 16_384;

impl Sums {
    /// Remembers up to `capacity` flows that were pushed out, and the sums of so many groups of those before.
    pub fn new(capacity: usize, groups: usize) -> Self {
        Sums {
            bytes: (0, 0),
            ledger: Ledger::default(),
            pushed_out: HashMap::default(),
            order: VecDeque::new(),
            capacity,
            pushed: 0,
            forgotten: Forgotten::new(groups),
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
        if other_counts || !flow.is_primary() {
            return;
        }
        if let Some(counted) = self.other_end_counted(flow) {
            flow.accounted = counted;
            return;
        }
        let before = self.before(flow);
        if before == Before::Elsewhere {
            return;
        }
        let id = streams.of(flow);
        flow.stream = Some(id);
        match before {
            Before::Counted(accounted) => flow.accounted = accounted,
            Before::Unsure(missing) => {
                // What it has by now is left to its group.
                flow.accounted = flow.countable();
                if let Some(missing) = missing {
                    self.make_up(streams, flow, missing);
                }
            }
            Before::Never | Before::Elsewhere => {}
        }
        if let Some(stream) = streams.get_mut(id) {
            stream.flows += u64::from(before == Before::Never);
            stream.open += 1;
        }
        streams.learn(id, flow);
    }

    /// What a flow had counted when it was pushed out, if it was.
    fn before(&mut self, flow: &mut Flow) -> Before {
        let hash = self.hash(&flow.key());
        match self.pushed_out.remove(&hash) {
            Some(PushedOut { counted: Some(accounted), place }) => {
                // It is what it was, until its bytes say otherwise.
                flow.in_ledger = place;
                Before::Counted(accounted)
            }
            Some(PushedOut { counted: None, .. }) => Before::Elsewhere,
            None if flow.seen.pushed_out => self.forgotten.heard(hash, flow.countable()),
            None => Before::Never,
        }
    }

    /// Counts what flows had that nobody can tell apart, under nobody's name.
    fn make_up(&mut self, streams: &mut Streams, flow: &Flow, missing: (u64, u64)) {
        let id = streams.others(flow);
        if let Some(stream) = streams.get_mut(id) {
            stream.client_bytes += missing.0;
            stream.server_bytes += missing.1;
        }
        self.bytes.0 += missing.0;
        self.bytes.1 += missing.1;
        let unknown = Facts::unknown(UnknownReason::Silent);
        self.ledger.count(&mut Place::default(), 0, &unknown, missing.0 + missing.1);
    }

    /// The end of a flow is heard of after it was taken to have ended: counts what it had that had not been counted
    /// by then.
    pub fn make_up_end(&mut self, streams: &mut Streams, flow: &Flow) {
        let began = Some(flow.opened_ns);
        let Some(ended) = self.ended.get_mut(&flow.addresses()).filter(|ended| ended.began_ns == began)
        else {
            return;
        };
        let ((client, server), counted) = (flow.countable(), ended.counted);
        ended.counted = (client.max(counted.0), server.max(counted.1));
        let missing = (client.saturating_sub(counted.0), server.saturating_sub(counted.1));
        self.make_up(streams, flow, missing);
    }

    /// Adds what the flow has counted since the last time.
    pub fn account(&mut self, streams: &mut Streams, flow: &mut Flow, changed: bool) {
        let Some(id) = flow.stream else { return };
        let Some(stream) = streams.get_mut(id) else { return };
        let (client, server) = flow.countable();
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
            streams.learn(id, flow);
        }
    }

    /// What was counted of this connection at its other end, where that has ended since.
    fn other_end_counted(&self, flow: &Flow) -> Option<(u64, u64)> {
        let (local, remote) = flow.endpoints();
        let other = self.ended.get(&addresses(flow.transport, remote, local, flow.netns))?;
        let in_order = match flow.direction {
            Direction::Egress => Flow::is_in_order(flow.began_ns(), other.began_ns),
            Direction::Ingress => Flow::is_in_order(other.began_ns, flow.began_ns()),
        };
        let same = other.direction != flow.direction && in_order && other.closed_ns >= flow.opened_ns;
        same.then_some(other.counted)
    }

    /// A flow that does not count has ended, and so has its other end, which does. What that end cannot have
    /// counted is counted here: the two were no ends of one connection, or the last of it was never acknowledged.
    /// Gives the stream where there is such.
    pub fn make_good(&mut self, streams: &mut Streams, flow: &mut Flow) -> Option<StreamId> {
        let ((client, server), counted) = (flow.countable(), flow.accounted);
        // What had been counted of one from before is not known here.
        let known = !flow.seen.before_start && !flow.seen.pushed_out;
        if flow.stream.is_some() || !known || (client <= counted.0 && server <= counted.1) {
            return None;
        }
        flow.stream = Some(streams.of(flow));
        self.account(streams, flow, true);
        flow.stream
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
        let ended = Ended {
            direction: flow.direction,
            began_ns: flow.began_ns(),
            closed_ns: if flow.closed_ns == 0 { flow.last_ns } else { flow.closed_ns },
            counted: flow.accounted,
        };
        self.ended.insert(own, ended);
    }

    /// Whether a flow that is heard of was pushed out before, or may have been.
    pub fn was_pushed_out(&self, key: &FlowKey) -> bool {
        let hash = self.hash(key);
        self.pushed_out.contains_key(&hash) || self.forgotten.may_hold(hash)
    }

    /// Whether so many bytes of a flow that was pushed out are counted, here or at its other end.
    pub fn has_all(&self, key: &FlowKey, bytes: u64) -> bool {
        self.pushed_out.get(&self.hash(key)).is_some_and(|flow| {
            flow.counted.is_none_or(|(client, server)| client.saturating_add(server) >= bytes)
        })
    }

    /// A flow begins anew under a key that another one had: it has counted nothing.
    pub fn begin(&mut self, key: &FlowKey) {
        let hash = self.hash(key);
        self.pushed_out.remove(&hash);
    }

    /// A flow was pushed out of the table while it lived.
    pub fn push_out(&mut self, flow: &Flow) {
        if self.order.len() >= self.capacity
            && let Some(oldest) = self.order.pop_front()
            && let Some(flow) = self.pushed_out.remove(&oldest)
        {
            self.forgotten.forget(oldest, flow.counted);
        }
        self.pushed += 1;
        let hash = self.hash(&flow.key());
        self.order.push_back(hash);
        let counted = flow.stream.is_some().then_some(flow.accounted);
        self.pushed_out.insert(hash, PushedOut { counted, place: flow.in_ledger });
    }

    /// Sixty-four bits, keyed anew at each start: two flows alike are not to be expected, and cannot be made.
    fn hash(&self, key: &FlowKey) -> u64 {
        self.pushed_out.hasher().hash_one(key)
    }
}
