//! The daemon: the one place that sees every stage.
//!
//! ```text
//! ring ─ reader ─┐                 ┌─ sink ── stdout
//! maps ─ control ┼─ events → core ─┤
//! /proc ─ resolver ┘               └─ api ── Unix socket
//! ```
//! Every arrow is a bounded channel, and each says how full it is in `status`. The core waits for none of
//! them; where a listing reads along, for one chunk of the table at most.

mod clock;
mod confine;
mod control;
mod core;
mod descriptors;
#[cfg(fuzzing)]
pub mod fuzzing;
mod keep;
mod link;
mod lives;
mod loader;
mod loss;
#[cfg(test)]
mod loss_tests;
mod newcomers;
mod pinned;
mod policy;
mod private;
mod reader;
mod resolve;
mod self_check;
mod serve;
mod session;
mod settings;
mod signals;
mod stages;
mod start;
mod state;
mod work;
mod worker;

pub use clock::{Clock, monotonic_ns};
pub use confine::{Attempt, Confined, User, attempt_all, capabilities, confine};
pub use core::{Command, Core, CoreSettings, Found, Lookup, Output, Rest, unseen};
pub(crate) use core::{EVIDENCE, watching::HELD};
pub use loss::Losses;
pub use pinned::{note_file, place as pin_place, told_file};
pub use serve::About;
pub use settings::check as check_settings;
pub use stages::{Stage, Stages};
pub use start::{RunError, RunOptions, load_config, run, sizes};
pub use state::{Keeping, path as state_path};
pub use worker::run as work;
