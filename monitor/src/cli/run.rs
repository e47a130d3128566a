//! `run`: arguments to the daemon's options.

use std::path::PathBuf;

use super::Failure;
use super::args::RunArguments;
use crate::config::{Overrides, Pin};
use crate::daemon::{self, RunOptions};

pub(super) fn run(arguments: RunArguments, socket: Option<PathBuf>) -> Result<(), Failure> {
    let RunArguments { config, policy, output, interval, cgroup, pin } = arguments;
    let overrides =
        Overrides { socket, cgroup, policy, format: output, interval_s: interval, pin: pin.map(Pin::from) };
    daemon::run(RunOptions { config, overrides }).map_err(|error| match error.exit_code() {
        2 => Failure::Usage(error.to_string()),
        _ => Failure::Host(error.to_string()),
    })
}
