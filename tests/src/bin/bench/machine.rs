//! On what was measured.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::pairs::Effort;

/// Machine, kernel, time and load, for the file of raw figures.
pub fn about(effort: &Effort) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "date": said("date", &["--utc", "--iso-8601=seconds"]),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "processor": model.map(|(_, model)| model),
        "processors": processors.lines().filter(|line| line.starts_with("processor")).count(),
        "memory": read("/proc/meminfo").lines().next(),
        // Of other work on the machine, the more of it the noisier.
        "load": read("/proc/loadavg"),
        "commit": said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]),
        "pairs": effort.pairs,
        "seconds": effort.time.as_secs(),
        "clock_ns": effort.clock,
    })
}

fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
