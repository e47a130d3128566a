//! Flows and listeners as the kernel tells their lives.

use super::*;

impl Core {
    pub(super) fn flow_event(&mut self, kind: Kind, event: &FlowEvent, now_ns: u64) {
        match kind {
            Kind::Listen => self.listen(event),
            Kind::Unlisten => {
                self.listeners.remove(&event.cookie);
            }
            Kind::SocketClosed => {
                if event.remote_port != 0 {
                    let key = self.ensure(event, now_ns);
                    self.close(key, event.at_ns, FlowState::Closed);
                }
                for key in self.table.peers(event.cookie) {
                    self.out.commands.push(Command::EndUdp { key });
                }
            }
            Kind::Open | Kind::Established | Kind::Progress => {
                let key = self.ensure(event, now_ns);
                if kind == Kind::Open && self.join_early(key, event) {
                    self.inspect(key, false);
                }
                self.advance(key, now_ns);
            }
            // A socket from before us tells its end with every last packet.
            Kind::Close
                if event.flags & flow_flag::MIDSTREAM != 0 && self.table.get(&key_of(event)).is_none() => {}
            Kind::Close => {
                let key = self.ensure(event, now_ns);
                self.close(key, event.at_ns, FlowState::Closed);
            }
            Kind::Failed => {
                let key = self.ensure(event, now_ns);
                if let Some(flow) = self.table.get_mut(&key) {
                    flow.failure = Some(fail_reason(event));
                }
                self.close(key, event.at_ns, FlowState::Failed);
            }
            Kind::Capture => {}
        }
    }

    /// The flow of an event, brought up to its totals; made where there is none.
    pub(super) fn ensure(&mut self, event: &FlowEvent, now_ns: u64) -> FlowKey {
        let key = key_of(event);
        if let Some(flow) = self.table.get_mut(&key) {
            let addresses = (flow.local, flow.remote);
            flow.update(event);
            if (flow.local, flow.remote) != addresses {
                self.table.note_addresses(key);
            }
            return key;
        }
        let mut flow = Flow::from_event(event, self.settings.tcp_budget);
        let first = matches!(Kind::from_byte(event.kind), Some(Kind::Open | Kind::Failed));
        if self.sums.was_pushed_out(&key) {
            flow.seen.pushed_out = true;
        } else if !first && !flow.seen.before_start && flow.transport == Transport::Tcp {
            flow.seen.beginning_lost = true;
        }
        self.insert(flow, now_ns);
        key
    }

    pub(super) fn insert(&mut self, mut flow: Flow, now_ns: u64) {
        let key = flow.key;
        // Before its owner is asked for: so that it is known when the flow is judged.
        if self.tunnels && !flow.remote.ip().is_loopback() {
            self.out.lookups.push(Lookup::Tunnel { key, socket: socket_of(&flow) });
        }
        if let Some(holder) = self.holder_of_old_listener(&flow) {
            flow.owner_seen.tgid = holder.pid.unwrap_or(0);
            flow.owner = Some(holder);
        } else {
            self.ask_for_owner(&flow);
        }
        if let Some(evicted) = self.table.insert(flow) {
            self.push_out(evicted, now_ns);
        }
        if let Some(twin) = self.table.find_twin(&key) {
            self.pair(key, twin);
        }
        self.waiting.push(key);
    }

    pub(super) fn pair(&mut self, a: FlowKey, b: FlowKey) {
        for (this, other) in [(a, b), (b, a)] {
            let owner = self.table.get(&other).and_then(|flow| flow.owner.clone());
            if let Some(flow) = self.table.get_mut(&this) {
                flow.twin = Some(other);
                if owner.is_some() {
                    flow.peer = owner;
                }
            }
        }
    }

    pub(super) fn close(&mut self, key: FlowKey, at_ns: u64, state: FlowState) {
        self.inspect(key, true);
        let Some(flow) = self.table.get_mut(&key) else { return };
        flow.state = state;
        flow.seen.never_up = state == FlowState::Failed;
        flow.closed_ns = Some(at_ns);
        self.advance(key, at_ns);
    }

    pub(super) fn listen(&mut self, event: &FlowEvent) {
        let address = address(event.local, event.local_port);
        if self.listeners.len() < self.settings.capacity {
            self.listeners.insert(event.cookie, ListenerEntry { address, holder: None });
            self.out.lookups.push(Lookup::Listener { cookie: event.cookie, seen: seen_of(&event.owner) });
        }
    }

    /// The kernel's counters, once a second: losses are told.
    pub(super) fn counters(&mut self, counters: &Counters, now_ns: u64) {
        if let Some(loss) = self.losses.update(counters, self.clock.wall(now_ns)) {
            if let Some(finding) = detect::evidence_lost(&loss.rows) {
                self.tell(finding, false, now_ns);
            }
            self.out.records.push(Record::Loss(loss));
        }
        if counters.overflow_full > self.overflow_seen {
            self.overflow_seen = counters.overflow_full;
            self.sweep_all = true;
        }
    }
}
