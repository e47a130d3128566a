//! A program that is told: the record on its standard input, a status of 0 back in time.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use monitor_sys::memory::as_others;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::priority;

/// How often a look is taken whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Runs it; after the timeout it is killed, with its children.
pub(super) fn run(command: &[String], record: &[u8], timeout: Duration) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Err("no program".to_owned()) };
    let mut child = as_others(&mut Command::new(program))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| error.to_string())?;
    priority::goes_as_others(Some(child.id()));
    if let Some(mut stdin) = child.stdin.take() {
        let record = record.to_vec();
        // It may not read: then this ends when it does.
        thread::spawn(move || stdin.write_all(&record));
    }
    let deadline = Instant::now() + timeout;
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(status.to_string()),
            None if Instant::now() >= deadline => break,
            None => thread::sleep(LOOK),
        }
    }
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        // It may have ended just now.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
    Err(format!("it took more than {} s", timeout.as_secs()))
}
