//! Time passes, the policy changes, the end comes.

use super::*;

impl Core {
    /// Time passes: call it a few times a second.
    pub fn tick(&mut self, now_ns: u64, clock: Clock) {
        self.clock = self.clock.or(clock);
        let waiting = std::mem::take(&mut self.waiting);
        for key in waiting {
            self.advance(key, now_ns);
            let waits = self
                .table
                .get(&key)
                .is_some_and(|flow| !flow.assigned || (flow.captured_ns != 0 && !flow.is_ripe(now_ns)));
            if waits {
                self.waiting.push(key);
            }
        }
        let wall = self.wall();
        for alert in self.alerts.tick(now_ns, wall) {
            self.announce(alert, now_ns);
        }
        self.early.retain(|early| now_ns.saturating_sub(early.head.at_ns) < 5 * PATIENCE);
        if now_ns.saturating_sub(self.swept_ns) >= PATIENCE {
            self.swept_ns = now_ns;
            self.every_second(now_ns);
            self.watch_second(now_ns);
            self.expire_silences(now_ns);
        }
    }

    pub(super) fn every_second(&mut self, now_ns: u64) {
        let every_ns = self.settings.reset_histograms_ns;
        if self.histograms_ns == 0 {
            self.histograms_ns = now_ns;
        } else if every_ns > 0 && now_ns.saturating_sub(self.histograms_ns) >= every_ns {
            self.histograms_ns = now_ns;
            self.reset_histograms();
        }
        let idle_ns = self.settings.udp_idle_ns;
        let interval_ns = self.settings.interval_ns;
        let mut told = Vec::new();
        let mut users = Vec::new();
        let mut tcp = false;
        for flow in self.table.iter() {
            tcp |= flow.transport == Transport::Tcp;
            if flow.transport == Transport::Udp && now_ns.saturating_sub(flow.last_ns) >= idle_ns {
                let packets = flow.sent.packets + flow.received.packets;
                self.out.commands.push(Command::EndUdpIfIdle { key: flow.key, packets });
            } else if flow.transport == Transport::Udp
                && (PATIENCE..2 * PATIENCE).contains(&now_ns.saturating_sub(flow.last_ns))
            {
                // Quiet since its last event, which may have been told before its last datagram.
                self.out.commands.push(Command::ReadUdp { key: flow.key });
            }
            if interval_ns > 0
                && flow.told.opened
                && now_ns.saturating_sub(flow.told.progress_ns) >= interval_ns
            {
                told.push(flow.key);
            }
            // A connection that was accepted by one process and is used by another: look once it
            // has lived a moment, and once more for those found in the first second.
            let age = now_ns.saturating_sub(flow.opened_ns);
            if flow.direction == Direction::Ingress
                && flow.transport == Transport::Tcp
                && !flow.seen.before_start
                && (PATIENCE / 5..PATIENCE + PATIENCE / 5).contains(&age)
            {
                users.push((flow.key, socket_of(flow)));
            }
        }
        for (key, socket) in users {
            self.out.lookups.push(Lookup::User { key, socket });
        }
        for key in told {
            if let Some(flow) = self.table.get_mut(&key) {
                flow.told.progress_ns = now_ns;
            }
            self.record(key, FlowAction::FlowProgress, now_ns);
        }
        if tcp && !self.sockets_asked && (self.sweep_all || now_ns.saturating_sub(self.sockets_ns) >= REFRESH)
        {
            self.sockets_asked = true;
            self.sockets_ns = now_ns;
            self.out.lookups.push(Lookup::Sockets);
        }
    }

    /// Puts another policy in force: every live flow is judged again.
    pub fn set_policy(&mut self, policy: Arc<Policy>, now_ns: u64) {
        for stream in self.streams.iter_mut() {
            stream.decide(&policy);
        }
        self.policy = policy;
        let keys: Vec<FlowKey> = self.table.keys().copied().collect();
        for key in keys {
            if let Some(flow) = self.table.get_mut(&key) {
                flow.undecide();
            }
            self.advance(key, now_ns);
        }
    }

    /// Whether flows are there whose owner is still being looked up.
    pub fn waits_for_owners(&self) -> bool {
        self.table.iter().any(|flow| flow.owner.is_none())
    }

    /// The end: every open flow is told as it stands.
    pub fn shut_down(&mut self, now_ns: u64) {
        let keys: Vec<FlowKey> = self.table.keys().copied().collect();
        for key in keys {
            self.inspect(key, true);
            if let Some(flow) = self.table.get_mut(&key) {
                let owner = unseen(&seen_of(&flow.owner_seen));
                flow.owner.get_or_insert_with(|| Arc::new(owner));
            }
            self.advance(key, now_ns);
            if let Some(flow) = self.table.remove(&key) {
                self.finish(flow, now_ns);
            }
        }
    }
}
