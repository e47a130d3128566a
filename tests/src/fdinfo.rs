//! What the kernel says of the descriptors of a process: `/proc/PID/fdinfo` (proc_pid_fdinfo(5)).

use std::fs;

use anyhow::{Context, Result};

/// A text for each that is open. One that is closed meanwhile says nothing.
///
/// # Errors
/// There is no such process.
pub fn of(pid: u32) -> Result<impl Iterator<Item = String>> {
    let path = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&path).context(path)?.flatten();
    Ok(entries.map(|entry| fs::read_to_string(entry.path()).unwrap_or_default()))
}

/// A line of a file of `/proc`: `name`, with its colon, and a number behind it.
pub fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
