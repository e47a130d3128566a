//! How much memory the daemon may take, and whether the tables that are configured fit into it.
//!
//! In: the sizes of all bounded tables and queues. Out: their sum at the worst, and a refusal where that is
//! more than `memory.limit_mib`: so that a flood fills tables, and never the host. The figures an entry are
//! measured (`inside memory`, `inside flood`; BENCHMARKS.md).

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, Field};
use crate::flows;

/// What the daemon may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Of all tables and queues together, and the program, MiB.
    pub limit_mib: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Memory { limit_mib: 256 }
    }
}

/// A flow with all that finds it, what is remembered of twice as many that were pushed out, and a quarter of a
/// group of those before, bytes.
const FLOW: u64 = 400 + 2 * 64 + 14;
/// A closed flow that is kept, a record that waits: of usual size, bytes.
const RECORD: u64 = 1024;
/// An event that waits, first bytes included, bytes.
const EVENT: u64 = 512;
/// Percentiles of a stream: seven measures, bytes.
const MEASURES: u64 = 4096;
/// A stream with its names and what finds it, of usual size, bytes.
const STREAM: u64 = 512;
/// Program, allocator, baselines, alerts, first bytes and messages that are read on: what is not configured, bytes.
const REST: u64 = 64 << 20;

impl Config {
    /// What the configured tables and queues take when they are full, bytes.
    pub fn memory(&self) -> u64 {
        REST + flows::STREAMS as u64 * STREAM
            + flows::IDENTITY_BYTES as u64
            + self.takers().iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// What is configured, and what each takes, bytes.
    fn takers(&self) -> [(&'static str, u64); 6] {
        let of = |count: u32, bytes: u64| u64::from(count) * bytes;
        [
            ("kernel.ring_bytes", u64::from(self.kernel.ring_bytes)),
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
                "at least {needed}, which flows.capacity, flows.closed_keep, pipeline, histograms.streams and \
                 kernel.ring_bytes add up to"
            ),
        })
    }
}
