//! More flows, names and events than anybody should send, through the daemon's own library (`inside flood`):
//! sums are exact, memory stays within its bound, a quiet neighbour keeps what it has. Small here;
//! `STREAMWATCH_TEST_FULL=1` (`tests::amounts`) makes it ten million flows, a million names, two million events a second for a
//! minute.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use tests::{Suite, amounts, finish};

const PATIENCE: Duration = Duration::from_secs(1800);

fn main() -> ExitCode {
    Suite::new("flood").test("sums stay exact, memory bounded, and neighbours unharmed", &[], flood).main()
}

fn flood() -> Result<()> {
    let [count, seconds] = [amounts::FLOOD, amounts::FLOOD_SECONDS].map(|amount| amount.get().to_string());
    let mut command = Command::new(env!("CARGO_BIN_EXE_inside"));
    command.args(["flood", "--count", &count, "--seconds", &seconds]);
    finish(command, PATIENCE)?.success().map(drop)
}
