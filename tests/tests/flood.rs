//! More flows, names and events than anybody should send, through the daemon's own library (`inside flood`):
//! sums are exact, memory stays within its bound, a quiet neighbour keeps what it has. Small here;
//! `STREAMWATCH_TEST_FLOOD=full` makes it ten million flows, a million names, two million events a second for a
//! minute.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use tests::{Suite, finish};

const PATIENCE: Duration = Duration::from_secs(1800);

fn main() -> ExitCode {
    Suite::new("flood").test("sums stay exact, memory bounded, and neighbours unharmed", &[], flood).main()
}

fn flood() -> Result<()> {
    let full = std::env::var_os("STREAMWATCH_TEST_FLOOD").is_some_and(|size| size == "full");
    let (count, seconds) = if full { ("10000000", "60") } else { ("130000", "3") };
    let mut command = Command::new(env!("CARGO_BIN_EXE_inside"));
    command.args(["flood", "--count", count, "--seconds", seconds]);
    finish(command, PATIENCE)?.success().map(drop)
}
