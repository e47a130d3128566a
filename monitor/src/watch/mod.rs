//! Flows that go on: what is sampled of them after their first bytes, and what that may cost.
//!
//! In: captures of flows that are settled, and the time. Out: what the kernel is to capture next
//! ([`Decision`]), and what was found in the bytes ([`dissect::activity::Event`]). Pure: no clock, no
//! I/O.
//!
//! A flow in the clear is read on from where its first bytes end, without a gap, for as long as it
//! stays within its rate; beyond, it is let go, and sampled again from some later packet once it may
//! spend more. A flow that is encrypted is looked at rarely, to see whether it still is.
//!
//! Must never: spend more than the total; keep bytes that have been read; let what one flow costs keep
//! another from being seen first.

mod budget;
mod flow;
mod lane;
#[cfg(test)]
mod tests;

use dissect::activity::TopicNames;
use monitor_common::{Decision, decision};

pub(crate) use budget::{Budget, Shares};
pub use flow::Watch;

use crate::config;
use crate::status::SamplingView;

/// What a flow's window grows by, bytes a direction.
const STEP: u32 = 8192;

/// The first look into an encrypted flow, bytes a direction.
const GLANCE: u32 = 1024;

/// What all flows together may cost, and did.
#[derive(Debug)]
pub struct Sampling {
    flow_rate: u32,
    total: Budget,
    generation: u32,
    cost: SamplingView,
    /// What one connection to a broker told of the names of topics serves the others.
    topics: TopicNames,
}

impl Sampling {
    pub fn new(settings: &config::Sampling) -> Self {
        Sampling {
            flow_rate: settings.flow_bytes_per_s,
            total: Budget::new(settings.total_bytes_per_s),
            generation: 0,
            cost: SamplingView::default(),
            topics: TopicNames::default(),
        }
    }

    /// What it has cost so far; `watched`: flows that are read on now.
    pub fn cost(&self, watched: u64) -> SamplingView {
        SamplingView { watched, ..self.cost }
    }

    /// Events of flows that had too many at a time.
    pub fn dropped(&mut self, events: u64) {
        self.cost.dropped += events;
    }

    /// The name of the next sample, over all flows: never 0, which names the first bytes.
    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1).max(1);
        self.generation
    }

    fn spend(&mut self, bytes: usize, now_ns: u64) {
        self.cost.bytes += bytes as u64;
        self.total.spend(bytes as u32, now_ns);
    }

    fn ask(&mut self, action: u32, generation: u32, limit: u32) -> Decision {
        match action {
            decision::EXTEND => self.cost.extended += 1,
            decision::SAMPLE => self.cost.samples += 1,
            _ => self.cost.paused += 1,
        }
        Decision { action, generation, sent_limit: limit, received_limit: limit }
    }
}
