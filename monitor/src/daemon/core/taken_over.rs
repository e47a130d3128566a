//! A daemon that goes on where another was ended or killed: what it reads again and what was told already;
//! and how far the ring may be given back, so that the next one can.

use std::collections::VecDeque;

use monitor_common::UdpFlow;

use super::*;
use crate::sink::{Past, Said};

/// How long records may come a second time, ns: what was in the ring is read within moments, and told when
/// its owner is known.
const AGAIN: u64 = 30_000_000_000;

/// The ring up to the oldest event of which something is still to be told.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// Somebody wants to know.
    wanted: bool,
    /// Where the batch begins that is being taken.
    at: u64,
    waits: VecDeque<(u64, FlowKey)>,
}

/// The daemon before.
#[derive(Debug, Default)]
pub(super) struct Before {
    past: Past,
    /// When this one took over, CLOCK_MONOTONIC ns; 0: there was none before.
    since_ns: u64,
}

impl Before {
    /// Whether the daemon before told this of a flow. What it was writing when it was killed counts as told,
    /// but for an end: an end that is told twice can be told apart by its flow's id, one that is missing
    /// cannot be had any more.
    pub(super) fn told(&self, flow: &Flow, action: FlowAction, boot_id: &str) -> bool {
        // Once everything comes for the first time, as a rule, no id need be written for this.
        if self.past.is_empty() {
            return false;
        }
        match self.past.said(&flow.id(boot_id), action) {
            Said::No => false,
            Said::Told => true,
            Said::Perhaps => !matches!(action, FlowAction::FlowClosed | FlowAction::ConnectionFailed),
        }
    }

    /// Whether the daemon before told the end of a connection of a socket that has another one since.
    pub(super) fn told_end_of(&self, cookie: u64, opened_ns: u64, boot_id: &str) -> bool {
        if self.past.is_empty() || opened_ns < self.since_ns {
            return false;
        }
        let id = crate::flows::id_of_socket(boot_id, cookie);
        let ends = [FlowAction::FlowClosed, FlowAction::ConnectionFailed];
        ends.into_iter().any(|end| self.past.said(&id, end) != Said::No)
    }
}

impl Unfinished {
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }
}

impl Core {
    /// The hooks went on when the daemon before ended: what it told is not told again.
    pub fn take_over(&mut self, past: Past, now_ns: u64) {
        self.losses.go_on(&past.losses);
        if past.alerts > 0 {
            // Kept as told, and not written: it was killed before, or nobody took them.
            let at = self.clock.wall(now_ns);
            let told = self.rest(Some(past.alerts)).told.into_iter();
            self.out.records.extend(told.map(|alert| Record::Alert { alert, at }));
        }
        self.before = Before { past, since_ns: now_ns };
    }

    /// Everything comes for the first time by now.
    pub(super) fn forget_the_past(&mut self, now_ns: u64) {
        if !self.before.past.is_empty() && now_ns.saturating_sub(self.before.since_ns) > AGAIN {
            self.before.past = Past::default();
        }
    }

    /// The kernel's counters when a loss was told last.
    pub fn losses_told(&self) -> &Counters {
        self.losses.told()
    }

    /// From now on [`Core::told_up_to`] is wanted.
    pub fn keep_position(&mut self) {
        self.unfinished.wanted = true;
    }

    /// A batch of the ring is taken up to this position. Only ends are waited for: a connection whose beginning
    /// was read by a daemon that is killed is found by the next one, or tells all its totals when it ends.
    pub fn told_up_to(&mut self, end: u64) -> u64 {
        self.unfinished.at = end;
        while let Some((at, key)) = self.unfinished.waits.front().copied() {
            let waits =
                self.table.id(&key).and_then(|id| self.table.get(id)).is_some_and(|flow| flow.is_over());
            if waits {
                return at;
            }
            self.unfinished.waits.pop_front();
        }
        end
    }

    /// Something of this flow is still to be told.
    pub(super) fn will_tell(&mut self, key: FlowKey) {
        if self.unfinished.wanted {
            self.unfinished.waits.push_back((self.unfinished.at, key));
        }
    }

    /// Whether a flow that is heard of for the first time was there when this daemon took over.
    pub(super) fn was_there(&self, opened_ns: u64) -> bool {
        self.before.since_ns != 0 && opened_ns < self.before.since_ns
    }

    /// Hooks went on from a daemon before this one.
    pub(super) fn took_over(&self) -> bool {
        self.before.since_ns != 0
    }

    /// A peer of a UDP socket that the kernel counts: heard of no more, because it had to leave a full table, or
    /// not heard of at all, because the word of it was lost.
    pub(super) fn udp_left(&mut self, key: &FlowKey, totals: &UdpFlow, now_ns: u64) {
        if self.table.id(key).is_some() || self.ended_sockets.has_told(key, totals.opened_ns) {
            return;
        }
        if self.sums.has_all(key, totals.sent_bytes.saturating_add(totals.received_bytes)) {
            // It makes room for others, unless it is used meanwhile.
            let packets = totals.sent_packets + totals.received_packets;
            self.out.commands.push(Command::EndUdpIfIdle { key: *key, packets });
            return;
        }
        let event = FlowEvent {
            kind: Kind::Progress as u8,
            transport: 17,
            flags: totals.flags as u16,
            cookie: key.cookie,
            at_ns: now_ns,
            opened_ns: totals.opened_ns,
            local: totals.local,
            remote: key.remote,
            local_port: key.local_port,
            remote_port: key.remote_port,
            sent_bytes: totals.sent_bytes,
            sent_packets: totals.sent_packets,
            received_bytes: totals.received_bytes,
            received_packets: totals.received_packets,
            lost_captures: totals.lost_captures,
            sent_device: totals.sent_device,
            received_device: totals.received_device,
            ..FlowEvent::default()
        };
        let id = self.ensure(&event, now_ns);
        self.advance(id, now_ns);
    }

    /// An answer about a peer that is not in the table: what is not counted yet of it is.
    pub(super) fn udp_apart(&mut self, key: &FlowKey, totals: Option<UdpFlow>, ended: bool, now_ns: u64) {
        let Some(totals) = totals else { return };
        let counted = self.sums.has_all(key, totals.sent_bytes.saturating_add(totals.received_bytes));
        if counted && ended {
            // Whatever comes now begins from nothing.
            self.sums.begin(key);
        } else if !counted && self.sums.was_pushed_out(key) {
            self.udp_left(key, &totals, now_ns);
            if ended && let Some(id) = self.table.id(key) {
                self.close(id, now_ns, FlowState::Closed);
            }
        }
    }
}
