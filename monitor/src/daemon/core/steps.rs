//! What can be done for a flow now: tell it, judge it, count it, find in it, end it.

use super::forgotten::{Bytes, plus};
use super::sums::{Is, OtherEnd};
use super::*;
use crate::alert::Holder;
use crate::flows::Detected;
use crate::model::FlowView;

impl Core {
    /// Does for a flow whatever can be done now: tell it, judge it, count it, end it.
    pub(super) fn advance(&mut self, id: FlowId, now_ns: u64) {
        self.look_whether_sure(id, now_ns);
        if !self.waits_for_its_other_end(id, now_ns) {
            self.leave_unsure(id);
            self.advance_alone(id, now_ns);
        }
    }

    /// The other end of a connection is on this host, and nothing is told before it is known whose it is.
    fn waits_for_its_other_end(&self, id: FlowId, now_ns: u64) -> bool {
        let Some(flow) = self.table.get(id) else { return false };
        let age = now_ns.saturating_sub(flow.opened_ns);
        if let Some(twin) = flow.twin
            && flow.peer.is_none()
            && age <= PATIENCE
            && self.table.get(twin).is_some_and(|twin| twin.owner.is_none())
        {
            return true;
        }
        // Whether it is on this host is not known yet.
        if flow.marks.has(Marks::OTHER_END_UNSURE)
            && flow.twin.is_none()
            && flow.peer.is_none()
            && (age <= PATIENCE || self.waits_for_realm(id, now_ns))
        {
            return true;
        }
        // A datagram comes with the first word of a flow: the other end, if it is on this host, is
        // heard of a moment later.
        flow.transport == Transport::Udp
            && flow.direction == Direction::Egress
            && flow.twin.is_none()
            && !flow.is_over()
            && age < UDP_TWIN
    }

    /// The same, whatever is known of the other end.
    pub(super) fn advance_alone(&mut self, id: FlowId, now_ns: u64) {
        let Some(flow) = self.table.get(id) else { return };
        if flow.owner.is_none()
            || waits_for_its_way(&flow, now_ns)
            || self.waits_for_first_look(&flow, now_ns)
        {
            return;
        }
        let over = flow.is_over();
        let old = now_ns.saturating_sub(flow.opened_ns) > PATIENCE;
        let known = !matches!(flow.facts.protection, dissect::Protection::Unknown(_));
        let ripe = over || flow.is_ripe(now_ns);
        let is_due = !flow.assigned && ((known && ripe) || flow.settled || over || old);
        let other = is_due.then(|| self.other_end(&flow));
        drop(flow);
        let Some(mut guard) = self.table.get_mut(id) else { return };
        let flow = &mut *guard;
        if flow.decision.is_none() {
            let seen = self.watching.seen(flow);
            flow.decision = Some(roles::decide(&mut self.decisions, &self.policy, &self.names, flow, seen));
        }
        let changed = flow.judge(&mut self.judge);
        let mut opened = None;
        if !flow.marks.has(Marks::TOLD_OPENED) {
            flow.marks.set(Marks::TOLD_OPENED, true);
            flow.told_progress(now_ns);
            if (!over || flow.state == FlowState::Closed)
                && !self.before.told(flow, FlowAction::FlowOpened, &self.boot_id)
            {
                let view = told(flow, &self.boot_id, self.clock, now_ns);
                opened = Some(view.clone());
                let at = self.clock.wall(now_ns);
                self.out.records.push(Record::Flow { flow: view, action: FlowAction::FlowOpened, at });
            }
        }
        let twice = other.and_then(|other| self.sums.assign(&mut self.streams, flow, &other));
        self.sums.account(&mut self.streams, flow, changed);
        if flow.settled && !flow.marks.has(Marks::TOLD_SETTLED) {
            flow.marks.set(Marks::TOLD_SETTLED, true);
            if flow.state != FlowState::Failed
                && (known || !over)
                && !self.before.told(flow, FlowAction::FlowSettled, &self.boot_id)
            {
                // Told with its beginning, it is the same.
                let view = opened.unwrap_or_else(|| told(flow, &self.boot_id, self.clock, now_ns));
                let at = self.clock.wall(now_ns);
                self.out.records.push(Record::Flow { flow: view, action: FlowAction::FlowSettled, at });
            }
        }
        let twin = flow.twin;
        drop(guard);
        self.counted_twice(twin, twice);
        if ripe {
            self.detect(id, now_ns);
        }
        self.harvest(id, now_ns);
        self.judge_hidden_success(id, now_ns);
        if over && let Some(flow) = self.table.remove(id) {
            self.finish(id, flow, now_ns);
        }
    }

    /// The flow at the other end of the connection, if that is on this host too.
    pub(super) fn other_end(&self, flow: &Flow) -> OtherEnd {
        let is = match flow.twin.and_then(|twin| self.table.get(twin)) {
            None => Is::Away,
            Some(twin) if twin.stream.is_some() => Is::Counting,
            Some(twin) if twin.assigned => Is::Silent,
            Some(_) => Is::Waiting,
        };
        let is_asked = !flow.assigned && self.sums.pushed > 0;
        let at = if is_asked { self.table.places_of_other_end(flow).collect() } else { Vec::new() };
        OtherEnd { is, at }
    }

    /// Puts a flow that has left the table into its stream, once. Gives its other end.
    fn assign(&mut self, flow: &mut Flow) -> OtherEnd {
        let other = self.other_end(flow);
        let twice = self.sums.assign(&mut self.streams, flow, &other);
        self.counted_twice(flow.twin, twice);
        other
    }

    /// The sums hold so much of a connection besides what the end that counts knows of: that one goes on beyond it.
    fn counted_twice(&mut self, twin: Option<FlowId>, bytes: Option<Bytes>) {
        if let Some(bytes) = bytes
            && let Some(mut twin) = twin.and_then(|twin| self.table.get_mut(twin))
        {
            twin.accounted = plus(twin.accounted, bytes);
        }
    }

    /// Adds to the stream what the flow has counted since the last time.
    pub(super) fn account(&mut self, id: FlowId, changed: bool) {
        if let Some(mut flow) = self.table.get_mut(id) {
            self.sums.account(&mut self.streams, &mut flow, changed);
        }
    }

    /// Asks each rule once about a flow that breaks it.
    pub(super) fn detect(&mut self, id: FlowId, now_ns: u64) {
        let Some(mut guard) = self.table.get_mut(id) else { return };
        let flow = &mut *guard;
        let Some(stream) = flow.stream.and_then(|id| self.streams.get(id)) else {
            drop(guard);
            return self.stand_in(id, now_ns);
        };
        let plaintext =
            flow.verdict.encrypted.answer == Answer::No && !flow.detected.has(Detected::PLAINTEXT);
        let unexpected =
            flow.verdict.authorised.answer == Answer::No && !flow.detected.has(Detected::UNEXPECTED);
        let failed = flow.state == FlowState::Failed;
        let broken = flow.is_over()
            && !flow.detected.has(Detected::HANDSHAKE)
            && detect::is_failed_handshake(&flow.facts);
        let faults = if flow.detected.has(Detected::POSTURE) {
            Vec::new()
        } else {
            posture(&self.policy, &self.names, flow, &self.settings.detect, self.clock.wall(now_ns))
        };
        flow.detected.insert(Detected::POSTURE);
        if flow.detected.has(Detected::PLAINTEXT) && flow.verdict.encrypted.answer == Answer::Yes {
            // It hesitated, and then upgraded after all.
            if flow.holds.remove(Rule::Plaintext) {
                self.alerts.release(&alert_key(Rule::Plaintext, &stream.subject), Holder::Flow(id), now_ns);
            }
            flow.detected.remove(Detected::PLAINTEXT);
        }
        if flow.verdict.authorised.answer != Answer::No && flow.holds.remove(Rule::UnexpectedPeer) {
            // Another policy is in force, or the ends turned out to be others.
            self.alerts.release(&alert_key(Rule::UnexpectedPeer, &stream.subject), Holder::Flow(id), now_ns);
        }
        if !plaintext && !unexpected && !failed && !broken && faults.is_empty() {
            return;
        }
        for (which, found) in [
            (Detected::HANDSHAKE, broken),
            (Detected::PLAINTEXT, plaintext),
            (Detected::UNEXPECTED, unexpected),
        ] {
            if found {
                flow.detected.insert(which);
            }
        }
        let subject = stream.subject.clone();
        let clock = self.clock;
        if plaintext && !unexpected && !failed && !broken && faults.is_empty() {
            let ends = (flow.local(), flow.remote());
            let loopback = self.settings.loopback_alerts;
            let severity = detect::severity_of_plaintext(&flow.facts, flow.transport, ends, loopback);
            let Some(severity) = severity.filter(|_| !flow.holds.has(Rule::Plaintext)) else { return };
            let key = alert_key(Rule::Plaintext, &subject);
            if self.alerts.again(&key, severity, Holder::Flow(id), now_ns, |ns| clock.wall(ns)) {
                flow.holds.insert(Rule::Plaintext);
                return;
            }
        }
        let view = Arc::new(flow.view(&self.boot_id, now_ns, |ns| clock.wall(ns)));
        let mut findings: Vec<Finding> = Vec::new();
        if plaintext {
            findings.extend(detect::plaintext(&view, &subject, self.settings.loopback_alerts));
        }
        if unexpected && let Some(decision) = &flow.decision {
            findings.extend(detect::unexpected_peer(&view, &subject, decision));
        }
        if failed {
            findings.extend(self.failures.failed(&view, &subject, now_ns));
            findings.extend(self.watching.failed(&view, now_ns));
        }
        if broken {
            findings.extend(self.handshakes.failed(&view, &subject, now_ns));
        }
        findings.extend(faults.into_iter().map(|fault| fault.finding(&view, &subject)));
        // A flow that is judged again repeats nothing. What is said of more than its stream is not held by it.
        let of_stream = |finding: &Finding| *finding.subject == *subject;
        findings.retain(|finding| !of_stream(finding) || flow.holds.insert(finding.rule));
        drop(guard);
        for finding in findings {
            let hold = of_stream(&finding).then_some(Holder::Flow(id));
            self.tell(finding, hold, now_ns);
        }
    }

    pub(super) fn tell(&mut self, finding: Finding, hold: Option<Holder>, now_ns: u64) {
        let wall = self.wall();
        if let Some(alert) = self.alerts.find(finding, hold, now_ns, wall) {
            self.announce(alert, now_ns);
        }
    }

    pub(super) fn record(&mut self, id: FlowId, action: FlowAction, now_ns: u64) {
        if let Some(flow) = self.table.get(id) {
            let (view, at) = (told(&flow, &self.boot_id, self.clock, now_ns), self.clock.wall(now_ns));
            self.out.records.push(Record::Flow { flow: view, action, at });
        }
    }

    /// A flow had to leave a full table while it lived. It may be heard of again.
    pub(super) fn push_out(&mut self, id: FlowId, mut flow: Flow, now_ns: u64) {
        self.throttled(Shared::Flows, flow.cgroup, throttle::label(&flow), 1, now_ns);
        let other = self.assign(&mut flow);
        let began_ns = flow.began_ns();
        flow.seen.pushed_out = true;
        flow.judge(&mut self.judge);
        self.sums.account(&mut self.streams, &mut flow, true);
        self.sums.push_out(&flow, began_ns, other.is);
        if flow.stream.is_some()
            && let Some(twin) = flow.twin
        {
            self.stay_alone(twin);
        }
        if let Some(stream) = flow.stream.and_then(|id| self.streams.get_mut(id)) {
            stream.open = stream.open.saturating_sub(1);
        }
        self.harvest_last(&flow, now_ns);
        self.let_go(id, &mut flow, now_ns);
        let view = Arc::new(flow.view(&self.boot_id, now_ns, self.wall()));
        let at = self.clock.wall(now_ns);
        self.out.records.push(Record::Flow { flow: view, action: FlowAction::FlowProgress, at });
    }

    /// The other end of a connection, which counted, was pushed out: from now on this one counts in its place.
    fn stay_alone(&mut self, id: FlowId) {
        let Some(mut flow) = self.table.get_mut(id).filter(|flow| flow.stream.is_none()) else { return };
        flow.accounted = (0, 0);
        let was_assigned = std::mem::take(&mut flow.assigned);
        drop(flow);
        let other = self.table.get(id).map(|flow| self.other_end(&flow)).filter(|_| was_assigned);
        if let Some(other) = other
            && let Some(mut flow) = self.table.get_mut(id)
        {
            self.sums.assign(&mut self.streams, &mut flow, &other);
            self.sums.account(&mut self.streams, &mut flow, true);
        }
        self.waiting.push(id);
    }

    /// Frees what a flow holds: captured bytes, and alerts.
    fn let_go(&mut self, id: FlowId, flow: &mut Flow, now_ns: u64) {
        if let Some(evidence) = flow.take_evidence() {
            self.held.give_back(flow.cgroup, evidence.memory());
        }
        for alert in self.watching.forget(flow) {
            self.alerts.release(&alert, Holder::Flow(id), now_ns);
        }
        let holds = std::mem::take(&mut flow.holds);
        if let Some(stream) = flow.stream.and_then(|id| self.streams.get(id)) {
            for rule in holds.iter() {
                self.alerts.release(&alert_key(rule, &stream.subject), Holder::Flow(id), now_ns);
            }
        }
    }

    /// A flow has left the table: its last record, its place in the histograms, its alerts.
    pub(super) fn finish(&mut self, id: FlowId, mut flow: Flow, now_ns: u64) {
        let failed = flow.state == FlowState::Failed;
        if let Some(ended) = &mut self.ended_early
            && flow.transport == Transport::Tcp
            && ended.len() < ENDED_EARLY
        {
            ended.insert(flow.cookie());
        }
        self.ended_sockets.ended(&flow);
        if !flow.is_over() {
            // The monitor ends before it.
            flow.seen.end_concluded = true;
            flow.judge(&mut self.judge);
        }
        self.assign(&mut flow);
        self.sums.account(&mut self.streams, &mut flow, true);
        self.sums.end(&flow);
        if flow.stream.is_some() {
            self.failed += u64::from(failed);
            self.sample(&flow, failed, now_ns);
        }
        self.judge_hidden_log_ins(&flow, now_ns);
        self.let_go(id, &mut flow, now_ns);
        let view = Arc::new(flow.view(&self.boot_id, now_ns, self.wall()));
        let action = if failed { FlowAction::ConnectionFailed } else { FlowAction::FlowClosed };
        if !self.before.told(&flow, action, &self.boot_id) {
            self.out.records.push(Record::Flow { flow: view.clone(), action, at: self.clock.wall(now_ns) });
        }
        self.table.keep_closed(flow.cgroup, view);
        self.compare_ends(id, flow, now_ns);
    }

    pub(super) fn sample(&mut self, flow: &Flow, failed: bool, now_ns: u64) {
        let (client_bytes, server_bytes) = flow.bytes();
        let sample = Sample {
            duration_ns: (!flow.seen.before_start).then(|| flow.duration_ns(now_ns)),
            client_bytes,
            server_bytes,
            rtt_us: (flow.rtt_us != 0).then_some(u64::from(flow.rtt_us)),
            setup_ns: flow.setup_ns(),
            handshake_ns: flow.handshake_ns(),
            first_response_ns: (!flow.seen.before_start
                && flow.first_client_ns != 0
                && flow.first_server_ns > flow.first_client_ns)
                .then(|| flow.first_server_ns - flow.first_client_ns),
        };
        if !failed {
            self.overall.record(&sample);
        }
        if let Some(stream) = flow.stream.and_then(|id| self.streams.get_mut(id)) {
            stream.open = stream.open.saturating_sub(1);
            stream.failed += u64::from(failed);
            if !failed {
                stream.sample(&sample);
            }
        }
    }
}

/// What a record tells of a flow that goes on.
fn told(flow: &Flow, boot_id: &str, clock: Clock, now_ns: u64) -> Arc<FlowView> {
    let mut view = flow.view(boot_id, now_ns, |ns| clock.wall(ns));
    if flow.is_over() {
        // Told late, because its owner had to be found: what is told is that it opened.
        view.state = FlowState::Open;
        view.closed_at = None;
    }
    Arc::new(view)
}

/// It was asked which way its packets go: within a tunnel, what can be read is no alert. Who answers that is another one
/// than who says whose it is. Where it takes too long, the flow is told without, and not as in the clear.
fn waits_for_its_way(flow: &Flow, now_ns: u64) -> bool {
    flow.marks.has(Marks::WAY_AWAITED) && now_ns.saturating_sub(flow.opened_ns) <= PATIENCE
}

/// What a flow holds open are alerts about its stream.
fn alert_key(rule: Rule, subject: &str) -> String {
    [rule.as_str(), "|", subject].concat()
}
