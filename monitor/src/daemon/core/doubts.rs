//! Of a connection with both ends on this host one end counts. Who is the other one is told by the addresses,
//! and those can be used once more in another network namespace: so what an end that does not count has seen is
//! held against what the one that counts has seen.

use std::collections::VecDeque;

use super::*;
use crate::flows::Detected;

/// How long the other end may take to end, too, or its totals to be brought up to date, ns.
const LATER: u64 = 2 * OLDEST;

/// Flows that wait for that.
const MOST: usize = 16_384;

/// How long after the last capture of one end the other may still be told what the connection carries, ns.
const HEARD: u64 = 5 * PATIENCE;

/// Flows that ended and do not count, by the other end that does.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    waiting: HashMap<FlowId, (u64, Box<Flow>)>,
    /// When the time of each is up. Of those that wait no longer, it goes when there is need for the room.
    order: VecDeque<(u64, FlowId)>,
}

impl Doubts {
    fn is_waiting(&self, (due_ns, twin): (u64, FlowId)) -> bool {
        self.waiting.get(&twin).is_some_and(|(due, _)| *due == due_ns)
    }

    /// Room for one more; false where one has to go for it.
    fn make_room(&mut self) -> bool {
        if self.order.len() >= 2 * MOST {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|entry| self.is_waiting(*entry));
            self.order = order;
        }
        self.waiting.len() < MOST
    }
}

impl Core {
    /// A flow has ended.
    pub(super) fn compare_ends(&mut self, id: FlowId, mut flow: Flow, now_ns: u64) {
        if flow.stream.is_none() {
            if let Some(twin) = flow.twin
                && self.table.get(twin).is_some_and(|other| other.stream.is_some() || !other.assigned)
            {
                while !self.doubts.make_room() {
                    self.settle_oldest(now_ns);
                }
                let due_ns = now_ns + LATER;
                self.doubts.order.push_back((due_ns, twin));
                if let Some((_, older)) = self.doubts.waiting.insert(twin, (due_ns, Box::new(flow))) {
                    self.settle_one(twin, *older, now_ns);
                }
                return;
            }
            self.make_good(&mut flow, now_ns);
        }
        if flow.stream.is_none() {
            return;
        }
        let counted = flow.accounted;
        let add = |other: &mut Flow| {
            other.accounted.0 = other.accounted.0.saturating_add(counted.0);
            other.accounted.1 = other.accounted.1.saturating_add(counted.1);
        };
        if let Some(mut twin) = flow.twin.and_then(|twin| self.table.get_mut(twin))
            && twin.stream.is_none()
            && twin.twin == Some(id)
        {
            twin.assigned = true;
            add(&mut twin);
        }
        if let Some((_, mut other)) = self.doubts.waiting.remove(&id) {
            add(&mut other);
            self.make_good(&mut other, now_ns);
        }
    }

    /// Time is up for those whose other ends go on.
    pub(super) fn settle_doubts(&mut self, now_ns: u64) {
        while let Some(entry) = self.doubts.order.front()
            && (entry.0 <= now_ns || !self.doubts.is_waiting(*entry))
        {
            self.settle_oldest(now_ns);
        }
    }

    fn settle_oldest(&mut self, now_ns: u64) {
        if let Some(entry) = self.doubts.order.pop_front()
            && self.doubts.is_waiting(entry)
            && let Some((_, flow)) = self.doubts.waiting.remove(&entry.1)
        {
            self.settle_one(entry.1, *flow, now_ns);
        }
    }

    /// What the other end has counted by now has to do.
    fn settle_one(&mut self, twin: FlowId, mut flow: Flow, now_ns: u64) {
        let Some((client, server)) = self.table.get(twin).map(|other| other.countable()) else { return };
        flow.accounted.0 = flow.accounted.0.saturating_add(client);
        flow.accounted.1 = flow.accounted.1.saturating_add(server);
        self.make_good(&mut flow, now_ns);
    }

    /// Counts what the other end cannot have counted, and tells of it what is new to its stream.
    fn make_good(&mut self, flow: &mut Flow, now_ns: u64) {
        let Some(id) = self.sums.make_good(&mut self.streams, flow) else { return };
        let Some(stream) = self.streams.get_mut(id) else { return };
        let plaintext = flow.verdict.encrypted.answer == Answer::No;
        if plaintext && !flow.detected.has(Detected::PLAINTEXT) {
            let subject = stream.subject.clone();
            let view = Arc::new(flow.view(&self.boot_id, now_ns, self.wall()));
            if let Some(finding) = detect::plaintext(&view, &subject, self.settings.loopback_alerts) {
                self.tell(finding, None, now_ns);
            }
        }
    }

    /// Whether a flow that does not count may be the only one that shows what is wrong with its connection.
    pub(super) fn may_stand_in(&self, flow: &Flow, now_ns: u64) -> bool {
        flow.assigned
            && flow.stream.is_none()
            && flow.verdict.encrypted.answer == Answer::No
            && !flow.detected.has(Detected::PLAINTEXT)
            && now_ns.saturating_sub(flow.captured_ns) <= HEARD + PATIENCE
    }

    /// Tells what a flow shows that does not count, where the one that counts in its place does not show it.
    pub(super) fn stand_in(&mut self, id: FlowId, now_ns: u64) {
        let Some(flow) = self.table.get(id) else { return };
        if !self.may_stand_in(&flow, now_ns) {
            return;
        }
        let Some(twin) = flow.twin.and_then(|twin| self.table.get(twin)) else { return };
        let heard = twin.is_ripe(now_ns) || now_ns.saturating_sub(flow.captured_ns) > HEARD;
        let shows = twin.verdict.encrypted.answer == Answer::No || twin.tunnel().is_some();
        let Some(stream) = twin.stream.filter(|_| heard) else { return };
        drop((flow, twin));
        let wall = self.wall();
        let Some(mut flow) = self.table.get_mut(id) else { return };
        flow.detected.insert(Detected::PLAINTEXT);
        if shows {
            return;
        }
        let view = Arc::new(flow.view(&self.boot_id, now_ns, wall));
        self.streams.learn(stream, &flow);
        drop(flow);
        let Some(stream) = self.streams.get(stream) else { return };
        let found = detect::plaintext(&view, &stream.subject, self.settings.loopback_alerts);
        if let Some(finding) = found {
            self.tell(finding, None, now_ns);
        }
    }
}
