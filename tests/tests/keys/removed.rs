//! A state, and its key, that are removed while they are kept, and files that cannot be written.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tests::{Daemon, finish};

use super::{CLIENT, KEY, SOON, Site, is_kept, open_alert, silence, told, wait_for, waits};

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
    limit(&daemon, "4096")?;
    let said = silence(&daemon, "rule == \"weak-tls\"")?;
    ensure!(said.contains("in memory alone"), "{said}");
    wait_for(&daemon, SOON, "waiting", waits)?;
    limit(&daemon, "unlimited")?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "kept", is_kept)?;
    let ended = daemon.stop()?;
    ensure!(ended.stderr.contains("the state is not kept now"), "{}", ended.stderr);
    let daemon = site.start("", &[])?;
    open_alert(&daemon)?;
    ensure!(daemon.list("/v1/silences")?.len() == 1, "the silence is gone: {}", daemon.stderr());
    daemon.stop().map(drop)
}

/// The size of the files that a daemon may write.
fn limit(daemon: &Daemon, bytes: &str) -> Result<()> {
    let mut prlimit = Command::new("prlimit");
    prlimit.args([&format!("--pid={}", daemon.pid()), &format!("--fsize={bytes}:unlimited")]);
    finish(prlimit, CLIENT)?.success().map(drop)
}

/// What was told and acknowledged before is on no disk any more when the disk takes something again.
pub fn removed_while_limited() -> Result<()> {
    let site = Site::new()?;
    let directory = site.state.parent().context("no parent")?;
    let daemon = site.start("", &[])?;
    site.alert(&daemon)?;
    wait_for(&daemon, SOON, "kept", is_kept)?;
    let before = told(&daemon)?;
    ensure!(!before.is_empty(), "nothing was told");
    limit(&daemon, "4096")?;
    let said = silence(&daemon, "rule == \"weak-tls\"")?;
    ensure!(said.contains("in memory alone"), "{said}");
    wait_for(&daemon, SOON, "waiting", waits)?;
    fs::remove_dir_all(directory)?;
    daemon.signal(Signal::HUP);
    // It is tried again meanwhile.
    thread::sleep(Duration::from_secs(3));
    wait_for(&daemon, SOON, "waiting", waits)?;
    limit(&daemon, "unlimited")?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "kept", is_kept)?;
    let ended = daemon.stop()?;
    ensure!(!ended.stderr.contains("not kept:"), "{}", ended.stderr);
    ensure!(
        ended.stderr.contains("was removed or replaced while it could not be written"),
        "{}",
        ended.stderr
    );
    let daemon = site.start("", &[])?;
    open_alert(&daemon)?;
    let after = told(&daemon)?;
    ensure!(before.iter().all(|cursor| after.contains(cursor)), "{before:?} {after:?}");
    ensure!(daemon.list("/v1/silences")?.len() == 1, "the silence is gone: {}", daemon.stderr());
    ensure!(daemon.stderr().is_empty(), "{}", daemon.stderr());
    daemon.stop().map(drop)
}

/// A directory stands in the place of one copy.
pub fn one_copy() -> Result<()> {
    let site = Site::new()?;
    let copy = site.state.with_file_name("state.redb.copy");
    let daemon = site.start("", &[])?;
    site.alert(&daemon)?;
    wait_for(&daemon, SOON, "kept", is_kept)?;
    fs::remove_file(&copy)?;
    fs::create_dir(&copy)?;
    let said = silence(&daemon, "rule == \"weak-tls\"")?;
    ensure!(said.starts_with("silence 1 until") && !said.contains("memory"), "{said}");
    let state = wait_for(&daemon, SOON, "one copy", |state| is_kept(state) && state["whole"] == false)?;
    let line = format!("{} cannot be written (", copy.display());
    ensure!(state["damage"].to_string().contains(&line), "{state}");
    // It is told once, and known at the next start.
    thread::sleep(Duration::from_secs(3));
    let ended = daemon.stop()?;
    ensure!(ended.stderr.matches(&line).count() == 1, "{}", ended.stderr);
    let daemon = site.start("", &[])?;
    open_alert(&daemon)?;
    ensure!(daemon.list("/v1/silences")?.len() == 1, "the silence is gone: {}", daemon.stderr());
    ensure!(daemon.stderr().contains(&line), "{}", daemon.stderr());
    fs::remove_dir(&copy)?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "two copies", |state| is_kept(state) && state["whole"] == true)?;
    daemon.stop()?;
    let daemon = site.start("", &[])?;
    ensure!(daemon.stderr().is_empty(), "{}", daemon.stderr());
    daemon.stop().map(drop)
}

/// A directory stands where the key file is made.
pub fn key_cannot_be_made() -> Result<()> {
    let site = Site::new()?;
    let directory = site.state.parent().context("no parent")?;
    let key = site.state.with_file_name("state.key");
    let in_the_way = site.state.with_file_name("state.key.new");
    fs::create_dir(&in_the_way)?;
    let daemon = site.start("", &[])?;
    let state = wait_for(&daemon, SOON, "waiting", waits)?;
    ensure!(state["reason"].as_str().is_some_and(|why| why.contains("state.key: can't be made")), "{state}");
    site.alert(&daemon)?;
    let said = silence(&daemon, "rule == \"weak-tls\"")?;
    ensure!(said.contains("in memory alone"), "{said}");
    fs::remove_dir(&in_the_way)?;
    // By itself.
    wait_for(&daemon, KEY, "kept", is_kept)?;
    ensure!(key.exists(), "there is no key");

    // The same of a running daemon, whose state is removed with the key.
    for file in fs::read_dir(directory)? {
        fs::remove_file(file?.path())?;
    }
    fs::create_dir(&in_the_way)?;
    let said = silence(&daemon, "rule == \"weak-cipher\"")?;
    ensure!(!said.contains("memory"), "{said}");
    wait_for(&daemon, SOON, "without a key", |state| {
        state["reason"].as_str().is_some_and(|why| why.contains("state.key: can't be made"))
    })?;
    ensure!(!key.exists(), "there is a key");
    fs::remove_dir(&in_the_way)?;
    wait_for(&daemon, KEY, "under another key", |state| {
        is_kept(state) && state["reason"].is_null() && daemon.stderr().contains("written anew under the key")
    })?;
    let ended = daemon.stop()?;
    ensure!(!ended.stderr.contains("not kept:"), "{}", ended.stderr);
    let daemon = site.start("", &[])?;
    open_alert(&daemon)?;
    ensure!(daemon.list("/v1/silences")?.len() == 2, "silences are gone: {}", daemon.stderr());
    daemon.stop().map(drop)
}
