//! Flows and listeners as the kernel tells their lives.

use super::*;
use crate::flows::Party;

impl Core {
    pub(super) fn flow_event(&mut self, kind: Kind, event: &FlowEvent, now_ns: u64) {
        match kind {
            Kind::Listen => self.listen(event),
            Kind::Unlisten => {
                self.listeners.remove(&event.cookie);
            }
            Kind::SocketClosed => {
                // Its only peer, whose port can be 0; of several the event names none.
                if event.detail == 1 || event.remote_port != 0 {
                    let id = self.ensure(event, now_ns);
                    self.close(id, event.at_ns, FlowState::Closed);
                }
                for key in self.table.peers(event.cookie) {
                    self.out.commands.push(Command::EndUdp { key });
                }
            }
            Kind::Open | Kind::Established | Kind::Progress => {
                let id = self.ensure(event, now_ns);
                if kind == Kind::Open && self.join_early(id, event) {
                    self.grown.push(id);
                }
                if kind != Kind::Open && event.detail != 0 && event.transport == 6 {
                    self.pair_by_number(id, kind);
                }
                self.advance(id, now_ns);
            }
            // A socket from before us tells its end with every last packet.
            Kind::Close
                if event.flags & flow_flag::MIDSTREAM != 0 && self.table.id(&key_of(event)).is_none() => {}
            Kind::Close if self.is_end_before(event) => self.end_before(event),
            Kind::Close => {
                let id = self.ensure(event, now_ns);
                self.closed_by(id, event, now_ns);
                self.close(id, event.at_ns, FlowState::Closed);
            }
            Kind::Failed => {
                let id = self.ensure(event, now_ns);
                if let Some(mut flow) = self.table.get_mut(id) {
                    flow.failure = fail_reason(event);
                }
                self.close(id, event.at_ns, FlowState::Failed);
            }
            Kind::Refused => self.refused(event, now_ns),
            Kind::Capture => {}
        }
    }

    /// Somebody elsewhere was refused: no socket of this host took part, so there is no flow, and no stream.
    fn refused(&mut self, event: &FlowEvent, now_ns: u64) {
        let (here, there) =
            (address(event.local, event.local_port), address(event.remote, event.remote_port));
        // A client on this host tells by itself that it failed.
        if there.ip().is_loopback() || self.table.find_of_root(there, here).is_some() {
            return;
        }
        let mut flow = Flow::from_event(event, &mut self.judge);
        flow.state = FlowState::Failed;
        flow.failure = Some(FailReason::Refused);
        let view = Arc::new(flow.view(&self.boot_id, now_ns, self.wall()));
        let key = StreamKey {
            client: Party::Remote(there.ip()),
            server: Party::Remote(here.ip()),
            port: here.port(),
            transport: Transport::Tcp,
        };
        let mut findings = self.watching.failed(&view, now_ns);
        findings.extend(self.failures.failed(&view, &key.to_string(), now_ns));
        for finding in findings {
            self.tell(finding, None, now_ns);
        }
    }

    /// The flow of an event, brought up to its totals; made where there is none.
    pub(super) fn ensure(&mut self, event: &FlowEvent, now_ns: u64) -> FlowId {
        let key = key_of(event);
        if let Some(id) = self.table.id(&key)
            && !self.ended_for_another(id, event, now_ns)
        {
            if event.kind == Kind::Open as u8 {
                self.began(id, event);
            }
            self.update(id, event, now_ns);
            return id;
        }
        let mut flow = Flow::from_event(event, &mut self.judge);
        let first = matches!(Kind::from_byte(event.kind), Some(Kind::Open | Kind::Failed));
        let left = !first && self.was_there(event.opened_ns);
        if left {
            // The daemon before told that it opened.
            flow.seen.before_start = true;
            flow.marks.set(Marks::TOLD_OPENED, true);
        }
        if self.had_another(event) {
            flow.marks.set(Marks::AGAIN, true);
            if event.flags & flow_flag::NOT_SENT != 0 {
                flow.opened_ns = event.at_ns;
            }
        }
        if event.kind == Kind::Open as u8 {
            // A peer that the kernel had let go, or another connection of a socket: it counts from nothing.
            self.sums.begin(&key);
        } else if !first && !flow.marks.has(Marks::AGAIN) && self.sums.was_pushed_out(&key) {
            flow.seen.pushed_out = true;
        } else if !first && !flow.seen.before_start && flow.transport == Transport::Tcp {
            flow.seen.beginning_lost = true;
        }
        let lost = if flow.seen.before_start { 0 } else { event.lost_captures };
        let id = self.insert(flow, now_ns);
        self.captures_lost(id, lost, now_ns);
        id
    }

    /// A connection that the first look at the host found, and took for one from before, begins: it came up while
    /// this daemon took over, and its beginning stood in the ring.
    fn began(&mut self, id: FlowId, event: &FlowEvent) {
        if !self.took_over() {
            return;
        }
        let Some(mut flow) = self.table.get_mut(id) else { return };
        if flow.seen.before_start && flow.transport == Transport::Tcp {
            let active = event.flags & flow_flag::ACTIVE != 0;
            flow.turn(if active { Direction::Egress } else { Direction::Ingress });
            flow.opened_ns = event.opened_ns;
            flow.seen.before_start = false;
            // Unless the daemon before did, which is asked when it is told.
            flow.marks.set(Marks::TOLD_OPENED, false);
        }
    }

    fn update(&mut self, id: FlowId, event: &FlowEvent, now_ns: u64) {
        let Some(mut flow) = self.table.get_mut(id) else { return };
        let before = (flow.endpoints(), flow.netns);
        let old = flow.addresses();
        // What was lost of one from before was told by then.
        let before_start = flow.seen.before_start;
        let known = if before_start { event.lost_captures } else { flow.seen.lost_captures };
        flow.update(event);
        let moved = (flow.endpoints(), flow.netns) != before;
        if flow.claimed_address().is_some_and(|address| address != before.0.0.ip()) {
            // A datagram can have any source of its own.
            flow.realm = None;
        }
        drop(flow);
        self.captures_lost(id, event.lost_captures.saturating_sub(known), now_ns);
        if moved {
            self.table.note_addresses(id, old);
            self.find_realm(id, now_ns);
        }
    }

    pub(super) fn insert(&mut self, mut flow: Flow, now_ns: u64) -> FlowId {
        let key = flow.key();
        self.ask_way(&mut flow);
        if let Some(holder) = self.holder_of_old_listener(&flow) {
            flow.set_maker(holder.pid.unwrap_or(0));
            flow.set_owner(holder);
        } else {
            self.find_owner(&mut flow, now_ns);
        }
        if self.table.len() >= self.table.capacity() {
            // One that has to go goes with all that is known of it.
            self.look_at_grown(now_ns);
        }
        let id = self.take_in(flow, now_ns);
        self.waiting.push(id);
        self.will_tell(key);
        id
    }

    /// Asks which way the packets of a new flow go, where there are tunnels.
    pub(super) fn ask_way(&mut self, flow: &mut Flow) {
        if self.tunnels && flow.await_way() {
            self.out.lookups.push(Lookup::Tunnel { key: flow.key(), socket: socket_of(flow) });
        }
    }

    /// Whether there is any tunnel. What was open before the first one was seen may go through it: the walk asks for all of
    /// that, a share at a time.
    pub(super) fn tunnels_are(&mut self, any: bool) {
        let first = any && !self.tunnels;
        self.tunnels = any;
        let ids = if first { self.table.ids() } else { Vec::new() };
        for id in ids {
            if let Some(mut flow) = self.table.get_mut(id)
                && flow.routed_into().is_none()
            {
                flow.await_way();
            }
        }
    }

    /// The number that both ends of a connection have of it is known by now: of who connects, once it was answered.
    fn pair_by_number(&mut self, id: FlowId, kind: Kind) {
        let Some(flow) = self.table.get(id) else { return };
        let twin = flow.twin;
        let other = twin.and_then(|twin| self.table.get(twin));
        let is_another = other.is_some_and(|other| !flow.may_be_twin_of(&other));
        drop(flow);
        match twin {
            Some(twin) if is_another => self.part(id, twin),
            None if kind == Kind::Established => self.find_other_end(id),
            _ => {}
        }
    }

    /// They are no two ends of one connection after all.
    fn part(&mut self, a: FlowId, b: FlowId) {
        for (this, other) in [(a, b), (b, a)] {
            if let Some(mut flow) = self.table.get_mut(this)
                && flow.twin == Some(other)
            {
                flow.twin = None;
                flow.peer = None;
                flow.undecide();
            }
        }
    }

    pub(super) fn pair(&mut self, a: FlowId, b: FlowId) {
        for (this, other) in [(a, b), (b, a)] {
            let there = self.table.get(other);
            let owner = there.as_ref().and_then(|flow| flow.owner.clone());
            let known = there.as_ref().filter(|flow| !flow.marks.has(Marks::BEGUN_BY_GUESS));
            let direction = known.map(|flow| flow.direction);
            drop(there);
            self.is_sure(this);
            if let Some(mut flow) = self.table.get_mut(this) {
                flow.twin = Some(other);
                if let Some(direction) = direction {
                    flow.is_other_end_of(direction);
                }
                if owner.is_some() && flow.peer != owner {
                    flow.peer = owner;
                    // A policy that did not know the other end has to look again.
                    flow.undecide();
                }
            }
        }
    }

    pub(super) fn close(&mut self, id: FlowId, at_ns: u64, state: FlowState) {
        if let Some(mut flow) = self.table.get_mut(id) {
            flow.closed(at_ns);
        }
        self.inspect(id, true);
        let Some(mut flow) = self.table.get_mut(id) else { return };
        flow.state = state;
        flow.seen.never_up = state == FlowState::Failed;
        let key = flow.key();
        drop(flow);
        self.will_tell(key);
        self.ended_without_owner(id);
        self.advance(id, at_ns);
    }

    pub(super) fn listen(&mut self, event: &FlowEvent) {
        let address = address(event.local, event.local_port);
        self.listeners_seen += 1;
        self.meet_namespace_of(event);
        if self.listeners.len() >= self.settings.capacity {
            self.listeners_lost += 1;
        } else {
            self.listeners.insert(event.cookie, ListenerEntry { address, holder: None, realm: None });
            self.out.lookups.push(Lookup::Listener { cookie: event.cookie, seen: seen_of(&event.owner) });
        }
    }

    /// The kernel's counters, once a second: losses are told.
    pub(super) fn counters(&mut self, counters: &Counters, now_ns: u64) {
        let mut behind = self.table_losses();
        behind.extend(self.stage_rows.iter().cloned());
        if let Some(loss) = self.losses.update(counters, behind, self.clock.wall(now_ns)) {
            if let Some(finding) = detect::evidence_lost(&loss.rows) {
                self.tell(finding, None, now_ns);
            }
            self.out.records.push(Record::Loss(loss));
        }
        if counters.overflow_full > self.overflow_seen {
            self.overflow_seen = counters.overflow_full;
            self.sweep_all = true;
        }
    }
}
