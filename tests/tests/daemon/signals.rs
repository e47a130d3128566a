//! Signals that come while the daemon is busy: with a policy as long as one may be, or with a worker that does not
//! come up.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, kill_process};
use rustix::time::Timespec;
use serde_json::Value;

use super::*;

/// One that takes a second and more to be checked.
fn long_policy() -> String {
    let mut text = GOOD.to_owned();
    for number in 0.. {
        let service = format!(
            "[[service]]\nname = \"s{number}\"\nports = [{}]\n[[service.client]]\nprocess = \"p{number}\"\n",
            1 + number % 30_000
        );
        if text.len() + service.len() > 4 << 20 {
            break;
        }
        text.push_str(&service);
    }
    text
}

/// Whatever comes to a process that stands still comes at once when it goes on, SIGHUP first.
fn signal_together(daemon: &Daemon, signals: &[Signal]) -> Result<()> {
    signal_alone(daemon, Signal::STOP)?;
    let stat = format!("/proc/{}/stat", daemon.pid());
    let deadline = Instant::now() + PATIENCE;
    // proc_pid_stat(5): behind the name in parentheses.
    while !std::fs::read_to_string(&stat)?.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T")) {
        ensure!(Instant::now() < deadline, "it does not stand still");
        thread::sleep(Duration::from_millis(5));
    }
    for signal in signals {
        signal_alone(daemon, *signal)?;
    }
    signal_alone(daemon, Signal::CONT)
}

/// To the loader, and not to its worker.
fn signal_alone(daemon: &Daemon, signal: Signal) -> Result<()> {
    Ok(kill_process(Pid::from_raw(daemon.pid().cast_signed()).context("a pid")?, signal)?)
}

fn wait_for_word(daemon: &Daemon, word: &str) -> Result<()> {
    let deadline = Instant::now() + 6 * PATIENCE;
    while !daemon.stderr().contains(word) {
        ensure!(Instant::now() < deadline, "it does not say '{word}':\n{}", daemon.stderr());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub fn end_while_reloading() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let daemon =
        Daemon::start(&lab, DaemonOptions { policy: Some(GOOD.into()), ..DaemonOptions::default() })?;
    daemon.write_policy(&long_policy())?;
    signal_together(&daemon, &[Signal::HUP, Signal::TERM])?;
    let ended = daemon.end()?;
    ensure!(ended.status.success(), "it ended with {}:\n{}", ended.status, ended.stderr);
    ensure!(!ended.stderr.contains("reloaded"), "it read the policy to its end first:\n{}", ended.stderr);
    Ok(())
}

/// A worker that ends while the policy is read is followed by another, which has the old policy at first.
pub fn next_worker_while_reloading() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let daemon =
        Daemon::start(&lab, DaemonOptions { policy: Some(ELSEWHERE.into()), ..DaemonOptions::default() })?;
    let worker = number(&daemon.status()?, "worker.pid").context("no worker")?;
    daemon.write_policy(&long_policy())?;
    let worker = Pid::from_raw(i32::try_from(worker)?).context("no process")?;
    signal_together(&daemon, &[Signal::HUP])?;
    kill_process(worker, Signal::KILL)?;
    wait_for_word(&daemon, "services and clients in it: ")?;
    let said = daemon.stderr();
    let place = |word: &str| said.find(word).with_context(|| format!("no '{word}':\n{said}"));
    ensure!(
        place("the worker ended by itself")? < place("reloaded: ")?,
        "the worker's end waits for the policy:\n{said}"
    );
    // The worker makes its own of it, beside all else: a connection may come before that.
    let is_yes =
        |record: &Value| is_flow(record) && text(record, "streamwatch.verdict.authorised.answer") == "yes";
    let deadline = Instant::now() + 6 * PATIENCE;
    while daemon.count(is_yes) == 0 {
        ensure!(
            Instant::now() < deadline,
            "the next worker does not have the new policy:\n{}",
            daemon.stderr()
        );
        let _connection = held_connection(&lab)?;
        thread::sleep(Duration::from_millis(500));
    }
    daemon.stop_cut(Signal::TERM, 1).map(drop)
}

/// Starts it with a long policy, which it has just read, and is to check.
fn started(lab: &Lab) -> Result<Daemon> {
    let policy = lab.directory.write("long.toml", &long_policy())?;
    let seen = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&seen, &policy, inotify::WatchFlags::CLOSE_NOWRITE)?;
    let config = Some(format!("[policy]\nfile = {policy:?}\n"));
    let daemon = Daemon::launch(lab, DaemonOptions { config, ..DaemonOptions::default() })?;
    let patience = Timespec::try_from(PATIENCE)?;
    let read = poll(&mut [PollFd::new(&seen, PollFlags::IN)], Some(&patience))?;
    ensure!(read == 1, "it does not read the policy:\n{}", daemon.stderr());
    Ok(daemon)
}

pub fn end_while_starting() -> Result<()> {
    let lab = Lab::new("daemon")?;
    for signal in [Signal::TERM, Signal::INT] {
        let ended = started(&lab)?.stop_with(signal)?;
        ensure!(ended.status.success(), "{signal:?}: it ended with {}:\n{}", ended.status, ended.stderr);
    }
    Ok(())
}

pub fn reload_while_starting() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let daemon = started(&lab)?;
    daemon.signal(Signal::HUP);
    wait_for_word(&daemon, "streamwatch: reloaded: ")?;
    daemon.stop().map(drop)
}

/// Its worker, as soon as that is there: before it serves, as a rule before it has ears for signals.
fn worker_at_once(daemon: &Daemon) -> Result<Pid> {
    let children = format!("/proc/{0}/task/{0}/children", daemon.pid());
    let deadline = Instant::now() + 6 * PATIENCE;
    loop {
        ensure!(Instant::now() < deadline, "it starts no worker:\n{}", daemon.stderr());
        // What starts it waits for nothing of it but that it runs.
        let Some(child) = std::fs::read_to_string(&children)?.split_whitespace().next().map(str::to_owned)
        else {
            continue;
        };
        if std::fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.ends_with(b"worker\0")) {
            return Pid::from_raw(child.parse()?).context("a pid");
        }
    }
}

/// Starts it, and stops its worker before that serves.
fn with_a_stopped_worker(lab: &Lab, policy: &str) -> Result<(Daemon, Pid)> {
    for _ in 0..5 {
        let daemon =
            Daemon::launch(lab, DaemonOptions { policy: Some(policy.into()), ..DaemonOptions::default() })?;
        let worker = worker_at_once(&daemon)?;
        kill_process(worker, Signal::STOP)?;
        // It serves already where that was too late.
        if daemon.notification(Duration::from_millis(200)).is_none() {
            return Ok((daemon, worker));
        }
        kill_process(worker, Signal::CONT)?;
        daemon.stop()?;
    }
    anyhow::bail!("the worker serves before anybody can stop it")
}

/// One that has heard what it is to do, and one that has not: as it is long, not all of it finds room on the way.
pub fn end_with_no_worker() -> Result<()> {
    let lab = Lab::new("daemon")?;
    for policy in [GOOD.to_owned(), long_policy()] {
        let (daemon, _) = with_a_stopped_worker(&lab, &policy)?;
        signal_alone(&daemon, Signal::TERM)?;
        let ended = daemon.end()?;
        ensure!(ended.status.success(), "it ended with {}:\n{}", ended.status, ended.stderr);
    }
    Ok(())
}

/// As a service manager does, and a terminal.
pub fn end_of_all_at_once() -> Result<()> {
    let lab = Lab::new("daemon")?;
    for signal in [Signal::TERM, Signal::INT] {
        let daemon = Daemon::launch(&lab, DaemonOptions::default())?;
        worker_at_once(&daemon)?;
        let ended = daemon.stop_with(signal)?;
        ensure!(ended.status.success(), "{signal:?}: it ended with {}:\n{}", ended.status, ended.stderr);
    }
    Ok(())
}

pub fn end_with_a_late_worker() -> Result<()> {
    let lab = Lab::new("daemon")?;
    let (daemon, worker) = with_a_stopped_worker(&lab, GOOD)?;
    let _connection = held_connection(&lab)?;
    signal_alone(&daemon, Signal::TERM)?;
    thread::sleep(Duration::from_millis(200));
    kill_process(worker, Signal::CONT)?;
    let ended = daemon.end()?;
    ensure!(ended.status.success(), "it ended with {}:\n{}", ended.status, ended.stderr);
    let is_ours = |record: &&Value| is_flow(record) && number(record, "server.port") == Some(PORT.into());
    let told = ended.heard.iter().map(|heard| &heard.record).filter(is_ours).count();
    ensure!(told > 0, "nothing was told of a connection:\n{}", ended.stderr);
    Ok(())
}
