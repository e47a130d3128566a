//! First bytes: put together, handed to the dissectors, and let go.

use dissect::{Cipher, Protection, UnknownReason};

use super::named::is_listened_to;
use super::*;
use crate::flows::{Evidence, doubt_what_did_not_come, doubt_what_was_lost};

impl Core {
    /// Captures that came before the connection was accepted, now that it is.
    pub(super) fn join_early(&mut self, id: FlowId, event: &FlowEvent) -> bool {
        if self.early.is_empty() || event.flags & flow_flag::ACTIVE != 0 || event.transport != 6 {
            return false;
        }
        let mut found = Vec::new();
        self.early.retain_mut(|early| {
            let same = early.head.netns == event.netns
                && early.head.local_port == event.local_port
                && early.head.remote_port == event.remote_port
                && early.head.remote == event.remote
                && early.head.local == event.local;
            if same {
                found.push(EarlyCapture { head: early.head, data: std::mem::take(&mut early.data) });
            }
            !same
        });
        let mut grew = false;
        for early in found {
            let offset = early.head.offset.wrapping_sub(event.detail);
            grew |= self.evidence(id, false, offset, false, early.head.at_ns, early.data);
        }
        grew
    }

    pub(super) fn capture(&mut self, head: CaptureHead, data: Box<[u8]>, now_ns: u64) {
        if self.settings.counts_only {
            return self.pass_over(&head, now_ns);
        }
        if head.flags & capture_flag::LISTENER != 0 {
            self.early_seen += 1;
            if self.early.len() >= EARLY {
                self.early.remove(0);
                self.early_lost += 1;
            }
            self.early.push(EarlyCapture { head, data });
            return;
        }
        let id = self.table.id(&key_of_capture(&head)).unwrap_or_else(|| {
            // Its first event was lost: the capture tells enough to begin with.
            let event = FlowEvent {
                kind: Kind::Capture as u8,
                transport: head.transport,
                flags: flags_of(&head),
                cookie: head.cookie,
                netns: head.netns,
                at_ns: head.at_ns,
                local: head.local,
                remote: head.remote,
                local_port: head.local_port,
                remote_port: head.remote_port,
                ..FlowEvent::default()
            };
            self.ensure(&event, now_ns)
        });
        let seen_elsewhere = self.table.get_mut(id).is_some_and(|mut flow| flow.seen_on(head.sent_device, 0));
        if seen_elsewhere {
            self.advance(id, now_ns);
        }
        self.learn_names(id, &head, &data);
        if self.watch_capture(id, &head, &data, now_ns) {
            return;
        }
        let sent = head.flags & capture_flag::SENT != 0;
        let middle = head.flags & capture_flag::MIDSTREAM != 0;
        let is_record = dissect::begins_tls_record(&data);
        if self.evidence(id, sent, head.offset, middle, head.at_ns, data) {
            // What goes on as records do behind a handshake is looked at once there is enough of it, or no more.
            let is_more_of_it = is_record
                && self
                    .table
                    .get(id)
                    .is_some_and(|flow| flow.evidence().is_some_and(|it| it.follows() && !it.has_followed()));
            if !is_more_of_it {
                self.grown.push(id);
            }
        } else if self.table.get(id).is_some_and(|flow| {
            flow.settled && flow.evidence().is_none() && !is_listened_to(&self.policy, &self.names, &flow)
        }) {
            // Told already; the decision got lost on its way, or is still under way.
            self.settle(id);
        }
    }

    /// Asks the dissectors about flows of which more is there than before, each once.
    pub(in crate::daemon) fn look_at_grown(&mut self, now_ns: u64) {
        let mut grown = std::mem::take(&mut self.grown);
        grown.sort_unstable();
        grown.dedup();
        for id in grown.drain(..) {
            if !self.postpone(id) {
                self.look(id, now_ns);
            }
        }
        self.grown = grown;
    }

    /// Puts off another look at a flow, to the next tick, where little can come of it: what is in the middle of a
    /// handshake, or says more of the same, is not looked at with each packet. False where it is to be looked at now.
    fn postpone(&mut self, id: FlowId) -> bool {
        let Some(mut flow) = self.table.get_mut(id) else { return false };
        let is_handshake = flow.facts.protection == Protection::Unknown(UnknownReason::Handshake);
        let Some(is_first) = flow.evidence_mut().and_then(|evidence| evidence.postpone(is_handshake)) else {
            return false;
        };
        if is_first {
            self.postponed.push(id);
        }
        true
    }

    /// Looks at what was put off.
    pub(super) fn look_at_postponed(&mut self, now_ns: u64) {
        for id in std::mem::take(&mut self.postponed) {
            self.look(id, now_ns);
        }
    }

    /// One that has ended since it grew was looked at then.
    fn look(&mut self, id: FlowId, now_ns: u64) {
        if self.table.get(id).is_some_and(|flow| flow.evidence().is_some()) {
            self.inspect(id, false);
            self.advance(id, now_ns);
        }
    }

    /// Nobody looks at captures now: the flow counts as one whose captures were lost, and no more of them
    /// are wanted.
    fn pass_over(&mut self, head: &CaptureHead, now_ns: u64) {
        self.passed_over += 1;
        let Some(id) = self.table.id(&key_of_capture(head)) else { return };
        let Some(mut flow) = self.table.get_mut(id) else { return };
        flow.seen.lost_captures = flow.seen.lost_captures.max(1);
        drop(flow);
        self.conclude(id);
        self.advance(id, now_ns);
    }

    pub(super) fn evidence(
        &mut self,
        id: FlowId,
        sent: bool,
        offset: u32,
        middle: bool,
        at_ns: u64,
        data: Box<[u8]>,
    ) -> bool {
        let Some(mut guard) = self.table.get_mut(id) else { return false };
        let flow = &mut *guard;
        let from_client = flow.from_client(sent);
        let first = if from_client { &mut flow.first_client_ns } else { &mut flow.first_server_ns };
        if *first == 0 && !middle {
            *first = at_ns;
        }
        flow.heard(at_ns);
        flow.captured_ns = at_ns;
        let cgroup = flow.cgroup;
        let Some(evidence) = evidence_of(flow, &mut self.held, self.settings.tcp_budget) else {
            return false;
        };
        let before = evidence.memory();
        let grew = evidence.add(from_client, offset, middle, data);
        let fits = self.held.take(cgroup, evidence.memory() - before);
        let name = (!fits).then(|| throttle::label(flow)).flatten();
        drop(guard);
        if !fits {
            // Better to judge this one by what there is than to grow with the number of flows.
            self.evidence_cut += 1;
            self.throttled(Shared::FirstBytes, cgroup, name, 1, at_ns);
            self.conclude(id);
        }
        grew
    }

    /// Asks the dissectors again. Once settled, the bytes go and the kernel is told to stop.
    pub(super) fn inspect(&mut self, id: FlowId, ended: bool) {
        let Some(mut flow) = self.table.get_mut(id) else { return };
        let (key, server_port, sent_by_client) = (flow.key(), flow.server_port(), flow.from_client(true));
        let (closed, lost, bytes) = (flow.closed_ns() != 0, flow.seen.lost_captures > 0, flow.bytes());
        let Some(evidence) = evidence_of(&mut flow, &mut self.held, self.settings.tcp_budget) else { return };
        let mut inspection = evidence.inspect(server_port, ended);
        let grown = match ended || evidence.follows() {
            true => None,
            false => evidence.grow(inspection.wants, self.settings.handshake_budget),
        };
        if grown.is_some() {
            inspection = evidence.inspect(server_port, false);
        }
        let (full, held) = (evidence.is_full(), evidence.memory());
        let whole = closed && !lost && evidence.holds(bytes);
        if !whole {
            doubt_what_did_not_come(&mut inspection.facts);
        }
        // Of datagrams only what was lost is known to be missing.
        let unseen = match evidence.is_stream() {
            true => !whole && (closed || ended || full),
            false => closed && lost,
        };
        if unseen {
            doubt_what_was_lost(&mut inspection.facts);
        }
        let layers = inspection.layers;
        if let Some(limits) = grown {
            let (sent_limit, received_limit) = match sent_by_client {
                true => (limits.client, limits.server),
                false => (limits.server, limits.client),
            };
            let decision =
                Decision { action: decision::EXTEND, sent_limit, received_limit, ..Decision::default() };
            self.out.commands.push(Command::Decide { key, decision });
        }
        let changed = *flow.facts != inspection.facts;
        if changed {
            let facts = self.judge.share(inspection.facts);
            flow.learn(facts);
        }
        let settled = flow.settled || inspection.settled || full || ended;
        let follows = settled && !full && !ended && is_followed(&mut flow, &self.held);
        let done = settled && !follows;
        if done {
            self.held.give_back(flow.cgroup, held);
        }
        flow.settled = settled;
        let listened = is_listened_to(&self.policy, &self.names, &flow);
        let evidence = if done { flow.take_evidence() } else { None };
        let limit = self.settings.tcp_budget;
        let decision =
            evidence.and_then(|evidence| self.watching.begin(&flow, &evidence, &layers, limit, ended));
        drop(flow);
        if let Some(decision) = decision
            && !ended
            && !listened
        {
            self.out.commands.push(Command::Decide { key, decision });
        }
        if changed {
            self.decide_again(id);
        }
    }

    /// Judges a flow by what there is, for good.
    pub(super) fn conclude(&mut self, id: FlowId) {
        self.inspect(id, true);
        self.settle(id);
    }

    /// Tells the kernel to capture no more of a flow.
    pub(super) fn settle(&mut self, id: FlowId) {
        let Some(key) = self.table.get(id).map(|flow| flow.key()) else { return };
        let decision = Decision { action: decision::SETTLE, ..Decision::default() };
        self.out.commands.push(Command::Decide { key, decision });
    }
}

/// [`Flow::evidence_from`], counted as held from its beginning.
fn evidence_of<'a>(flow: &'a mut Flow, held: &mut Held, budget: u32) -> Option<&'a mut Evidence> {
    let (cgroup, begins) = (flow.cgroup, flow.evidence().is_none());
    let evidence = flow.evidence_from(budget)?;
    if begins {
        held.take(cgroup, evidence.memory());
    }
    Some(evidence)
}

/// Whether a flow that is settled is to be seen further: where a handshake of TLS went through, and not enough
/// was seen of what follows it. What waits for that leaves room for what is not settled.
fn is_followed(flow: &mut Flow, held: &Held) -> bool {
    let cgroup = flow.cgroup;
    let is_tls = flow.facts.protection == Protection::Encrypted(Cipher::Tls);
    let in_the_clear = matches!(flow.facts.protection, Protection::Plaintext(_));
    let now_ns = flow.captured_ns;
    let Some(evidence) = flow.evidence_mut() else { return false };
    match evidence.follows() {
        // What is in the clear is read on by others.
        true => !in_the_clear && !evidence.has_followed(),
        false => is_tls && held.is_little(cgroup) && evidence.follow(now_ns),
    }
}

/// What a capture tells of its flow, as the events have it.
fn flags_of(head: &CaptureHead) -> u16 {
    let mut flags = 0;
    if head.flags & capture_flag::MIDSTREAM != 0 && head.generation == 0 {
        flags |= flow_flag::MIDSTREAM;
    }
    if head.flags & capture_flag::ACTIVE != 0 {
        flags |= flow_flag::ACTIVE;
    }
    flags
}
