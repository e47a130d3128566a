//! What the daemon costs inside, measured over its own library: no kernel, no privileges.
//!
//! In: which figure, and of how many. Out: a JSON line a sample:
//! `{"bench":"events","variant":"…","value":1234567.0,"unit":"events/s"}`. Times are processor time of
//! the thread that works, unless the unit or the variant says otherwise. Must never assert a time: what
//! is asserted are counts.

#![forbid(unsafe_code)]

mod connections;
mod events;
mod flood;
mod growth;
mod host;
mod memory;
mod output;
mod queries;
mod report;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use monitor_sys::counted::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting::NEW;

#[derive(Parser)]
struct Arguments {
    what: What,
    /// How many: events, flows or records, as the benchmark counts them
    #[arg(long)]
    count: Option<usize>,
    /// Of the events: only variants with this in their names
    #[arg(long, default_value = "")]
    only: String,
    /// How often each variant is measured
    #[arg(long, default_value_t = 3)]
    samples: usize,
    /// How long the flood of events lasts
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Recorded events through decode, tables, dissection, detection and encoding
    Events,
    /// User-space memory of an open flow, all in
    Memory,
    /// Listings of many flows, and what they cost those who bring events
    Queries,
    /// Records into a pipe: one that keeps up, one that does not
    Output,
    /// Cost per event as flows, streams and rules grow
    Growth,
    /// Ten million flows, a million names, two million events a second: memory, sums, neighbours
    Flood,
}

fn main() -> Result<()> {
    monitor_sys::memory::keep_little();
    let arguments = Arguments::parse();
    let (count, samples) = (arguments.count, arguments.samples);
    match arguments.what {
        What::Events => events::run(count.unwrap_or(1_000_000), samples, &arguments.only),
        What::Flood => flood::run(count.unwrap_or(10_000_000), arguments.seconds),
        What::Memory => memory::run(count.unwrap_or(1_000_000)),
        What::Queries => queries::run(count.unwrap_or(1_000_000), samples),
        What::Output => output::run(count.unwrap_or(1_000_000), samples),
        What::Growth => growth::run(count.unwrap_or(1_000_000)),
    }
}
