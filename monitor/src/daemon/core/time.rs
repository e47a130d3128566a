//! Time passes, the policy changes, the end comes.

use std::ops::Range;

use super::*;
use crate::flows::FlowRead;

/// Flows within tunnels that are looked at again in each share of the walk.
const TUNNELS: usize = 16;

/// Those whose way is not known that ask for it again.
const LATE: usize = 64;

/// Encrypted flows that are looked into in each share of the walk, of which there are 20 a second at most.
const GLANCES: usize = 4;

impl Core {
    /// Time passes: call it a few times a second.
    pub fn tick(&mut self, now_ns: u64, clock: Clock) {
        self.clock = self.clock.or(clock);
        self.forget_the_past(now_ns);
        self.look_for_self_check(now_ns);
        self.ask_for_users(now_ns);
        self.ask_again(now_ns);
        self.ask_for_realms_again(now_ns);
        self.settle_doubts(now_ns);
        self.look_at_postponed(now_ns);
        let waiting = std::mem::take(&mut self.waiting);
        for id in waiting {
            self.advance(id, now_ns);
            let waits = self.table.get(id).is_some_and(|flow| {
                !flow.assigned
                    || (flow.captured_ns != 0 && !flow.is_ripe(now_ns))
                    || self.may_stand_in(&flow, now_ns)
            });
            if waits {
                self.waiting.push(id);
            }
        }
        let wall = self.wall();
        for alert in self.alerts.tick(now_ns, wall) {
            self.announce(alert, now_ns);
        }
        self.early.retain(|early| now_ns.saturating_sub(early.head.at_ns) < 5 * PATIENCE);
        self.reset_histograms_in_time(now_ns);
        self.end_some();
        self.streams.give_way(now_ns);
        self.walk(now_ns);
        self.watch_on(now_ns);
        let due = self.sweep_all || now_ns >= self.sockets_due_ns;
        if due && !self.sockets_asked && self.table.has_tcp() {
            self.sockets_asked = true;
            // What was lost before it was asked.
            self.sweeps |= std::mem::take(&mut self.sweep_all);
            self.sockets_due_ns = now_ns + REFRESH;
            self.out.lookups.push(Lookup::Sockets);
        }
    }

    fn reset_histograms_in_time(&mut self, now_ns: u64) {
        let every_ns = self.settings.reset_histograms_ns;
        if self.histograms_ns == 0 {
            self.histograms_ns = now_ns;
        } else if every_ns > 0 && now_ns.saturating_sub(self.histograms_ns) >= every_ns {
            self.histograms_ns = now_ns;
            self.reset_histograms();
        }
    }

    /// Looks at every flow once a second, a share of them at a time: with a million of them, all at once
    /// would hold up the events.
    fn walk(&mut self, now_ns: u64) {
        let places = self.table.places();
        let passed_ns = now_ns.saturating_sub(self.walked_ns).min(PATIENCE);
        self.walked_ns = now_ns;
        let share = (places as u64 * passed_ns).div_ceil(PATIENCE) as usize;
        let begin = if self.walked < places { self.walked } else { 0 };
        let end = begin + share;
        self.visit(begin..end.min(places), now_ns);
        self.visit(0..end.saturating_sub(places).min(begin), now_ns);
        self.walked = if end < places { end } else { end - places };
    }

    fn visit(&mut self, places: Range<usize>, now_ns: u64) {
        let idle_ns = self.settings.udp_idle_ns;
        let interval_ns = self.settings.interval_ns;
        let (sampling, watching) = (&self.settings.sampling, &self.watching);
        let mut told = Vec::new();
        let mut glances = Vec::new();
        let mut quiet = Vec::new();
        let (mut late, mut overdue) = (Vec::new(), Vec::new());
        let (mut tunnels, mut asked) = (0, 0);
        let commands = &mut self.out.commands;
        let lookups = &mut self.out.lookups;
        self.table.each_in(places, |id, flow| {
            if flow.transport == Transport::Udp && now_ns.saturating_sub(flow.last_ns()) >= idle_ns {
                let packets = flow.sent.packets + flow.received.packets;
                commands.push(Command::EndUdpIfIdle { key: flow.key(), packets });
            } else if flow.transport == Transport::Udp
                && (PATIENCE..2 * PATIENCE).contains(&now_ns.saturating_sub(flow.last_ns()))
            {
                // Quiet since its last event, which may have been told before its last datagram.
                commands.push(Command::ReadUdp { key: flow.key() });
            }
            if flow.is_sealed_and_quiet(now_ns) || flow.is_followed_in_vain(now_ns) {
                quiet.push(id);
            }
            if interval_ns > 0
                && flow.marks.has(Marks::TOLD_OPENED)
                && flow.is_progress_due(now_ns, interval_ns)
            {
                told.push(id);
            }
            if glances.len() < GLANCES && Core::is_to_be_glanced_at(sampling, flow, now_ns) {
                glances.push(id);
            }
            if Core::has_waited_for_its_way(watching, flow, now_ns) {
                overdue.push(id);
            }
            // Routes and policies change.
            let is_routed = flow.routed_into().is_some() && tunnels < TUNNELS;
            let is_late = flow.asks_for_its_way_again(now_ns) && !flow.is_over();
            if is_late && !flow.marks.has(Marks::WAY_AWAITED) {
                late.push(id);
            }
            let is_asked = is_late && asked < LATE;
            if (is_routed || is_asked) && !flow.is_over() {
                tunnels += usize::from(is_routed);
                asked += usize::from(is_asked);
                lookups.push(Lookup::Tunnel { key: flow.key(), socket: socket_of(flow) });
            }
            // A connection that was accepted by one process and is used by another: look once it
            // has lived a moment, and once more for those found in the first second.
            let age = now_ns.saturating_sub(flow.opened_ns);
            if flow.direction == Direction::Ingress
                && flow.transport == Transport::Tcp
                && !flow.seen.before_start
                && (PATIENCE / 5..PATIENCE + PATIENCE / 5).contains(&age)
            {
                lookups.push(Lookup::User { key: flow.key(), socket: socket_of(flow) });
            }
        });
        for id in late {
            // Those that had no turn, or get no answer, ask in a second.
            if let Some(mut flow) = self.table.get_mut(id) {
                flow.marks.set(Marks::WAY_AWAITED, true);
            }
        }
        for id in glances {
            self.glance(id, now_ns);
        }
        for id in quiet {
            self.conclude(id);
            self.advance(id, now_ns);
        }
        for id in overdue {
            self.advance(id, now_ns);
        }
        for id in told {
            if let Some(mut flow) = self.table.get_mut(id) {
                flow.told_progress(now_ns);
            }
            self.record(id, FlowAction::FlowProgress, now_ns);
        }
    }

    /// Puts another policy in force: every live flow is judged again.
    pub fn set_policy(&mut self, policy: Arc<Policy>, now_ns: u64) {
        for stream in self.streams.iter_mut() {
            stream.decide(&policy);
        }
        self.names.trust(policy.resolvers().iter().copied());
        self.policy = policy;
        self.decisions.forget();
        // The new one may go by what was not asked of a process before.
        self.recent.forget_known();
        for id in self.table.ids() {
            if let Some(mut flow) = self.table.get_mut(id) {
                flow.undecide();
            }
            self.advance(id, now_ns);
            // Its stream is told anew what it says, alike or not.
            self.account(id, true);
        }
    }

    /// Whether something waits for the next tick.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.postponed.is_empty() || self.gone.is_some()
    }

    /// Whether flows are there whose owner is still being looked up.
    pub fn waits_for_owners(&self) -> bool {
        self.unowned().next().is_some()
    }

    /// The same of flows that are over: nobody else tells who theirs were.
    pub fn waits_for_owners_of_ended(&self) -> bool {
        self.unowned().any(|flow| flow.is_over())
    }

    fn unowned(&self) -> impl Iterator<Item = FlowRead<'_>> {
        self.waiting.iter().filter_map(|id| self.table.get(*id)).filter(|flow| flow.owner.is_none())
    }

    /// The end: every open flow is told as it stands. Where the hooks stay, that is no end of it: the next
    /// daemon goes on.
    pub fn shut_down(&mut self, now_ns: u64, hooks_stay: bool) {
        self.keep_all_baselines(now_ns);
        for id in self.table.ids() {
            self.inspect(id, true);
            if let Some(mut flow) = self.table.get_mut(id) {
                if flow.owner.is_none() {
                    let owner = unseen(&flow.process_seen());
                    flow.set_owner(self.identities.get(owner));
                }
                flow.marks.set(Marks::WAY_AWAITED, false);
            }
            self.leave_unsure(id);
            self.advance(id, now_ns);
            self.harvest_now(id, now_ns);
            // What has ended has no other who would tell it.
            let goes_on = self.table.get(id).is_some_and(|flow| !flow.is_over());
            if hooks_stay && goes_on {
                self.record(id, FlowAction::FlowProgress, now_ns);
            } else if let Some(flow) = self.table.remove(id) {
                self.finish(id, flow, now_ns);
            }
        }
        self.alerts.keep_all();
    }
}
