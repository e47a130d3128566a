//! How much memory the daemon may take, and whether the tables that are configured fit into it.
//!
//! In: the sizes of all bounded tables and queues. Out: their sum at the worst, and a refusal where that is
//! more than `memory.limit_mib`: so that a flood fills tables, and never the host. The figures an entry are
//! measured (`inside memory`, `inside flood`; BENCHMARKS.md); that all of it together is within the sum is what
//! `tests/tests/memory.rs` holds a real daemon to.

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, Field};
use crate::daemon::{EVIDENCE, HELD};
use crate::flows;

/// What the daemon may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Of all tables and queues together, those of the kernel included, and both processes, MiB.
    pub limit_mib: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Memory { limit_mib: 256 }
    }
}

/// A flow with all that finds it, what is remembered of twice as many that were pushed out, and a quarter of a
/// group of those before, bytes. What was captured of it is in [`CAPTURED`].
const FLOW: u64 = 312 + 80 + 172 + 2 * 64 + 14;
/// A closed flow that is kept, a record that waits: of usual size, bytes.
const RECORD: u64 = 592;
/// An event that waits, first bytes included, bytes.
const EVENT: u64 = 512;
/// Percentiles of a stream: seven measures, bytes.
const MEASURES: u64 = 4096;
/// A stream with its names and what finds it, of usual size, bytes.
const STREAM: u64 = 448;
/// Bytes that were captured, with what holds them, and of flows that are read on.
const CAPTURED: u64 = (EVIDENCE + HELD) as u64;
/// Entries of the kernel's tables, as the kernel says what they take (bpf_map_memory_usage), bytes.
const UDP_FLOW: u64 = 192;
const OVERFLOWN: u64 = 264;
const DECISION: u64 = 88;
/// What else there is in the kernel: the journal, what was executed, programs, bytes.
const KERNEL: u64 = 6 << 20;
/// The loader, bytes.
const LOADER: u64 = 28 << 20;
/// Program, allocator, baselines, alerts, messages that are read on: what is not configured, bytes.
const REST: u64 = 20 << 20;

impl Config {
    /// What the configured tables and queues take when they are full, bytes.
    pub fn memory(&self) -> u64 {
        REST + LOADER
            + KERNEL
            + CAPTURED
            + flows::STREAMS as u64 * STREAM
            + flows::IDENTITY_BYTES as u64
            + self.takers().iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// What is configured, and what each takes, bytes.
    fn takers(&self) -> [(&'static str, u64); 9] {
        let of = |count: u32, bytes: u64| u64::from(count) * bytes;
        [
            ("kernel.ring_bytes", u64::from(self.kernel.ring_bytes)),
            ("kernel.udp_flows", of(self.kernel.udp_flows, UDP_FLOW)),
            ("kernel.overflow", of(self.kernel.overflow, OVERFLOWN)),
            ("kernel.decisions", of(self.kernel.decisions, DECISION)),
            ("flows.capacity", of(self.flows.capacity, FLOW)),
            ("flows.closed_keep", of(self.flows.closed_keep, RECORD)),
            ("pipeline.channel", of(self.pipeline.channel, EVENT)),
            ("pipeline.sink_queue", of(self.pipeline.sink_queue, RECORD)),
            ("histograms.streams", of(self.histograms.streams, MEASURES)),
        ]
    }

    /// Refuses tables that do not fit.
    pub(super) fn check_memory(&self) -> Result<(), ConfigError> {
        let needed = self.memory().div_ceil(1 << 20);
        if needed <= u64::from(self.memory.limit_mib) {
            return Ok(());
        }
        // Where the limit is not set, the largest that is set is what is too large.
        let mut takers = self.takers();
        takers.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        Err(ConfigError::Range {
            field: Field::with("memory.limit_mib", &takers.map(|(field, _)| field)),
            value: self.memory.limit_mib.to_string(),
            allowed: format!(
                "at least {needed}, which flows.capacity, flows.closed_keep, pipeline, histograms.streams and the \
                 sizes under kernel add up to"
            ),
        })
    }
}
