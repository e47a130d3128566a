//! A state, and its key, that are removed while they are kept, and files that cannot be written.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tests::{Daemon, finish};

use super::{CLIENT, KEY, SOON, Site, is_kept, open_alert, silence, wait_for, waits};

/// What is acknowledged after that is there at the next start, and so is what was before.
pub fn removed() -> Result<()> {
    let site = Site::new()?;
    let directory = site.state.parent().context("no parent")?;
    let daemon = site.start("", &[])?;
    site.alert(&daemon)?;
    let said = silence(&daemon, "rule == \"weak-tls\"")?;
    ensure!(!said.contains("memory"), "{said}");
    // The key with it: there is another one then.
    fs::remove_dir_all(directory)?;
    let said = silence(&daemon, "rule == \"weak-cipher\"")?;
    ensure!(!said.contains("memory"), "{said}");
    let told = |daemon: &Daemon| daemon.stderr().matches("removed or replaced while open").count();
    ensure!(told(&daemon) == 1, "{}", daemon.stderr());
    wait_for(&daemon, SOON, "under another key", |state| {
        is_kept(state) && daemon.stderr().contains("written anew under the key")
    })?;
    daemon.stop()?;
    let daemon = site.start("", &[])?;
    open_alert(&daemon)?;
    ensure!(daemon.list("/v1/silences")?.len() == 2, "silences are gone");

    // Where there is no place for it, nobody is told that it is kept.
    let aside = site.lab.directory.path().join("aside");
    fs::rename(directory, &aside)?;
    fs::write(directory, "no directory")?;
    let said = silence(&daemon, "rule == \"scan\"")?;
    ensure!(said.contains("in memory alone"), "{said}");
    let state = wait_for(&daemon, SOON, "waiting", waits)?;
    let reason = state["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("was removed or replaced, and cannot be written there anew"), "{state}");
    fs::remove_file(directory)?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "kept", is_kept)?;
    ensure!(told(&daemon) == 1, "{}", daemon.stderr());
    // The key is made soon after, or at the end at the latest.
    let ended = daemon.stop()?;
    ensure!(!ended.stderr.contains("not kept:"), "{}", ended.stderr);
    let daemon = site.start("", &[])?;
    open_alert(&daemon)?;
    ensure!(daemon.list("/v1/silences")?.len() == 3, "silences are gone: {}", daemon.stderr());
    daemon.stop().map(drop)
}

/// A write beyond the limit is an error, and no signal that ends the process.
pub fn limited() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.start("", &[])?;
    site.alert(&daemon)?;
    wait_for(&daemon, SOON, "kept", is_kept)?;
    let limit = |bytes: &str| {
        let mut prlimit = Command::new("prlimit");
        prlimit.args([&format!("--pid={}", daemon.pid()), &format!("--fsize={bytes}:unlimited")]);
        finish(prlimit, CLIENT)?.success().map(drop)
    };
    limit("4096")?;
    let said = silence(&daemon, "rule == \"weak-tls\"")?;
    ensure!(said.contains("in memory alone"), "{said}");
    wait_for(&daemon, SOON, "waiting", waits)?;
    limit("unlimited")?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "kept", is_kept)?;
    let ended = daemon.stop()?;
    ensure!(ended.stderr.contains("the state is not kept now"), "{}", ended.stderr);
    let daemon = site.start("", &[])?;
    open_alert(&daemon)?;
    ensure!(daemon.list("/v1/silences")?.len() == 1, "the silence is gone: {}", daemon.stderr());
    daemon.stop().map(drop)
}
