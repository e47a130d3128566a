//! A machine under software emulation. In: a kernel and its initial file system. Out: what came over
//! its two serial lines. Has no network card: its traffic stays in it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::directory;
use crate::step::failure;

/// A run takes about a minute; a machine of which nothing comes for so long is stuck.
const LIMIT: Duration = Duration::from_secs(300);

/// What a machine said.
pub struct Session {
    pub console: String,
    /// See `guest.sh`.
    pub results: String,
    pub took: Duration,
}

/// Boots it and waits until it has turned itself off. One that does not is ended, and what it said
/// until then is what there is.
///
/// # Errors
/// QEMU did not start.
pub fn run(line: &str, processor: &str, kernel: &Path, image: &Path) -> Result<Session> {
    let console = directory().join(format!("{line}.console.log"));
    let results = directory().join(format!("{line}.results.log"));
    let began = Instant::now();
    let mut child = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-cpu", processor, "-smp", "1", "-m", "1024"])
        .args(["-nodefaults", "-no-reboot", "-display", "none"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-serial")
        .arg(format!("file:{}", results.display()))
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .args(["-append", "console=ttyS0 quiet panic=-1 rdinit=/init"])
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| {
            failure(format!("QEMU did not start: {error}"), "run cargo xtask kernels without --no-install")
        })?;
    loop {
        if child.try_wait().context("QEMU cannot be waited for")?.is_some() {
            break;
        }
        if began.elapsed() > LIMIT {
            child.kill().context("QEMU cannot be ended")?;
            child.wait().context("QEMU cannot be waited for")?;
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let read = |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Session {
        console: read(&console).unwrap_or_default(),
        results: read(&results).unwrap_or_default(),
        took: began.elapsed(),
    })
}
