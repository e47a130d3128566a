//! The process that reads traffic: what it may do, that another takes its place when it ends, and what is
//! left alone when that goes on.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use tests::traffic;
use tests::{
    Daemon, DaemonOptions, Lab, Place, Process, Suite, binary, exact, field, finish, is_alert, is_flow,
    number, text,
};

const PORT: u16 = 34_900;
const SOON: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    Suite::new("worker")
        .test("what each process may do is what the kernel says", &[], powers)
        .test("what the worker must not do, it cannot", &[], attempts)
        .test("a worker that dies leaves no core dump", &["prlimit"], no_core_dump)
        .test("with the loader killed, the worker is gone", &[], orphaned)
        .test("ended again and again: counted to the byte, not looked at, and said", &[], crash_loop)
        .test("caught in something: killed, and another goes on", &[], caught)
        .test("with the loader stopped, traffic is told, and so is that", &[], stopped_loader)
        .test("what a shell left open is not for the worker", &[], left_open)
        .main()
}

struct House {
    lab: Lab,
    daemon: Daemon,
}

impl House {
    fn new() -> Result<House> {
        let lab = Lab::new("worker")?;
        let daemon = Daemon::start(&lab, DaemonOptions::default())?;
        Ok(House { lab, daemon })
    }

    fn worker(&self) -> Result<u32> {
        worker_of(&self.daemon)
    }

    /// `doctor --self`, as JSON lines, and how it exits.
    fn doctor(&self) -> Result<(Vec<Value>, bool)> {
        let mut command = Place::default().command(binary());
        command.arg("--socket").arg(self.daemon.socket()).args(["doctor", "--self", "--json"]);
        let finished = finish(command, SOON)?;
        let lines = finished.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok((lines, finished.status.success()))
    }
}

fn worker_of(daemon: &Daemon) -> Result<u32> {
    let pid = number(&daemon.status()?, "worker.pid").context("the daemon names no worker")?;
    Ok(u32::try_from(pid)?)
}

fn process<'a>(lines: &'a [Value], name: &str) -> Result<&'a Value> {
    lines.iter().find(|line| line["process"] == name).with_context(|| format!("no process {name}: {lines:?}"))
}

/// What `doctor --self` says is what `/proc` says, and what is promised.
fn powers() -> Result<()> {
    let house = House::new()?;
    // Its word on how it is confined comes when it is ready, which may be after it has answered first.
    let deadline = Instant::now() + SOON;
    while text(&house.daemon.status()?, "worker.landlock").is_empty() {
        ensure!(Instant::now() < deadline, "the worker does not say how it is confined");
        thread::sleep(Duration::from_millis(20));
    }
    let (lines, good) = house.doctor()?;
    ensure!(good, "it is not content: {lines:?}");
    let (loader, worker) = (process(&lines, "loader")?, process(&lines, "worker")?);
    ensure!(number(loader, "pid") == Some(house.daemon.pid().into()), "{loader}");
    ensure!(number(worker, "pid") == Some(house.worker()?.into()), "{worker}");
    let none = Vec::new();
    for what in ["capabilities", "bounding", "groups"] {
        ensure!(worker[what].as_array() == Some(&none), "{what}: {worker}");
    }
    ensure!(number(worker, "uid") != Some(0) && number(worker, "gid") != Some(0), "{worker}");
    ensure!(worker["no_new_privileges"] == true && worker["seccomp"] == "filter", "{worker}");
    let held = field(worker, "descriptors").as_object().context("no descriptors")?;
    let known = ["output", "lock", "socket", "pipe", "device", "map of the kernel", "events"];
    ensure!(held.keys().all(|kind| known.contains(&kind.as_str())), "{held:?}");
    ensure!(
        held.get("map of the kernel").and_then(Value::as_u64) == Some(2),
        "the ring and its journal: {held:?}"
    );
    // Wherever the kernel has it. That it holds no word of it shows: the trial is in `confine/files.rs`.
    let landlock = text(worker, "landlock");
    let version = monitor_sys::confined::landlock_version();
    ensure!(landlock.starts_with("enforced") == (version > 0), "Landlock {version}: {landlock}");
    // The same in the kernel's own words.
    let status = std::fs::read_to_string(format!("/proc/{}/status", house.worker()?))?;
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        ensure!(line(set) == "0000000000000000", "{set} {}", line(set));
    }
    ensure!(line("NoNewPrivs:") == "1" && line("Seccomp:") == "2", "{status}");
    ensure!(!line("Uid:").split('\t').any(|uid| uid == "0"), "{}", line("Uid:"));
    loader_powers(loader)
}

/// The loader has what is promised, as far as this test has it to give, and nothing else.
fn loader_powers(loader: &Value) -> Result<()> {
    let pid = u32::try_from(number(loader, "pid").context("no pid")?)?;
    let of = |pid: u32, line: &str| -> Result<BTreeSet<String>> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let set = status.lines().find_map(|text| text.strip_prefix(line)).context("no such set")?;
        Ok(monitor::daemon::capabilities(u64::from_str_radix(set.trim(), 16)?).into_iter().collect())
    };
    let promised = promised()?;
    let ours = of(std::process::id(), "CapEff:")?;
    let wanted: BTreeSet<String> = promised.intersection(&ours).cloned().collect();
    eprintln!("of the loader's {} capabilities this test has {} to give", promised.len(), wanted.len());
    let said = loader["capabilities"].as_array().context("none")?.iter().filter_map(Value::as_str);
    ensure!(said.map(str::to_owned).collect::<BTreeSet<_>>() == wanted, "not {wanted:?}: {loader}");
    // The same in the kernel's own words: what it may do, what it could, and nothing to hand on.
    for (line, wanted) in [
        ("CapEff:", &wanted),
        ("CapPrm:", &wanted),
        ("CapInh:", &BTreeSet::new()),
        ("CapAmb:", &BTreeSet::new()),
    ] {
        let held = of(pid, line)?;
        ensure!(held == *wanted, "{line} {held:?}, and not {wanted:?}");
    }
    Ok(())
}

/// As the page on the two processes lists them.
fn promised() -> Result<BTreeSet<String>> {
    let page = include_str!("../../docs/architecture.md");
    let (_, list) = page.split_once("The loader's capabilities: ").context("the page has no such list")?;
    let (list, _) = list.split_once(". ").context("the list has no end")?;
    let names = list.split([',', ' ', '\n', '`']).filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

/// Each thing is refused to a confined process; most of them root may do, so that the refusal means something.
fn attempts() -> Result<()> {
    let house = House::new()?;
    let (lines, _) = house.doctor()?;
    let attempts: Vec<&Value> = lines.iter().filter(|line| line["what"].is_string()).collect();
    ensure!(attempts.len() >= 14, "{attempts:?}");
    for wanted in ["open a file", "connect over TCP", "load a kernel program", "signal another process"] {
        ensure!(attempts.iter().any(|attempt| attempt["what"] == wanted), "{wanted} was not tried");
    }
    for attempt in attempts {
        ensure!(attempt["refused"].is_string(), "{attempt}");
    }
    Ok(())
}

/// Its limit is none, it is not dumpable where somebody raises that, and it stands where it may write nothing. What a
/// process without all that leaves is looked at, too: otherwise that nothing is there would say little.
fn no_core_dump() -> Result<()> {
    let House { lab, daemon } = House::new()?;
    let worker = worker_of(&daemon)?;
    let limits = || -> Result<Vec<String>> {
        let limits = std::fs::read_to_string(format!("/proc/{worker}/limits"))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("no limit")?;
        Ok(core.split_whitespace().skip(4).take(2).map(str::to_owned).collect())
    };
    ensure!(limits()? == ["0", "0"], "{:?}", limits()?);
    // proc(5): of a process that is not dumpable, all but the directory itself is root's.
    let user = std::fs::metadata(format!("/proc/{worker}"))?.uid();
    ensure!(user != 0, "the worker is root");
    for file in ["environ", "maps", "mem", "fd", "limits"] {
        let owner = std::fs::metadata(format!("/proc/{worker}/{file}"))?.uid();
        ensure!(owner == 0, "{file} is of user {owner}: the worker ({user}) is dumpable");
    }
    let mut raise = Command::new("prlimit");
    raise.args(["--pid", &worker.to_string(), "--core=unlimited:unlimited"]);
    // Which needs CAP_SYS_RESOURCE; a pipe for dumps (core_pattern) minds no limit either.
    match finish(raise, SOON)?.success() {
        Ok(_) => ensure!(limits()? == ["unlimited", "unlimited"], "{:?}", limits()?),
        Err(_) => eprintln!("the worker's limit cannot be raised here"),
    }
    let place = std::fs::read_link(format!("/proc/{worker}/cwd"))?;
    ensure!(place == Path::new("/"), "it stands in {}", place.display());
    let before = cores(&place)?;
    kill_process(Pid::from_raw(worker.cast_signed()).context("a pid")?, Signal::ABORT)?;
    next_worker(&daemon, worker)?;
    let status = daemon.status()?;
    // It would say so, by what the kernel told whoever waited for it.
    ensure!(text(&status, "worker.last_end") == "signal 6, SIGABRT", "{}", status["worker"]);
    ensure!(cores(&place)? == before, "{:?} in {}", cores(&place)?, place.display());
    daemon.stop_cut(Signal::TERM, 1)?;
    dumpable(&lab)
}

/// What lies there under the name that dumps have where nobody chose another.
fn cores(place: &Path) -> Result<BTreeSet<String>> {
    let names = std::fs::read_dir(place)?.flatten().map(|it| it.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.starts_with("core")).collect())
}

/// One that may leave a dump does, where they lie beside the process.
fn dumpable(lab: &Lab) -> Result<()> {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern")?;
    if pattern.contains(['/', '|']) {
        eprintln!("core dumps go to {}: none is made", pattern.trim());
        return Ok(());
    }
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited; cd \"$0\" && exec sleep 60"]).arg(lab.directory.path());
    let mut other = Process::start("sleep", &lab.directory, command)?;
    let deadline = Instant::now() + SOON;
    while std::fs::read_to_string(format!("/proc/{}/comm", other.pid()))?.trim() != "sleep" {
        ensure!(Instant::now() < deadline, "sleep does not start");
        thread::sleep(Duration::from_millis(5));
    }
    other.signal(Signal::ABORT);
    let ended = other.wait(SOON)?;
    ensure!(ended.core_dumped(), "nothing leaves one here, which is no merit of the worker's: {ended}");
    Ok(())
}

fn orphaned() -> Result<()> {
    let house = House::new()?;
    let worker = house.worker()?;
    house.daemon.kill()?;
    let deadline = Instant::now() + SOON;
    while std::fs::exists(format!("/proc/{worker}"))? {
        ensure!(Instant::now() < deadline, "the worker outlives its loader");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// One that is stopped does as little as one that is caught in what it reads.
fn caught() -> Result<()> {
    let House { lab: _lab, daemon } = House::new()?;
    let worker = worker_of(&daemon)?;
    kill_process(Pid::from_raw(worker.cast_signed()).context("a pid")?, Signal::STOP)?;
    // Half a minute until it is given up.
    let deadline = Instant::now() + 4 * SOON;
    while !daemon.stderr().contains("did nothing for") {
        ensure!(Instant::now() < deadline, "it is not given up:\n{}", daemon.stderr());
        thread::sleep(Duration::from_millis(100));
    }
    next_worker(&daemon, worker)?;
    ensure!(number(&daemon.status()?, "worker.restarts") == Some(1), "{}", daemon.status()?["worker"]);
    daemon.stop_cut(Signal::TERM, 1).map(drop)
}

/// What holds the hooks stands still: what reads goes on, tells, and says what is amiss.
fn stopped_loader() -> Result<()> {
    let House { lab, daemon } = House::new()?;
    let _server = traffic::serve(&lab, PORT)?;
    let loader = Pid::from_raw(daemon.pid().cast_signed()).context("a pid")?;
    kill_process(loader, Signal::STOP)?;
    let mut command = lab.client().command(traffic::program());
    command.args(["load", "--count", "1", "--largest", "1000", "--to", &format!("10.213.0.2:{PORT}")]);
    command.args(["--log", &lab.directory.file("client.log")]);
    lab.run(command, SOON)?;
    let is_end = |record: &Value| is_flow(record) && text(record, "event.action") == "flow_closed";
    daemon.wait_for("end of the connection", SOON, is_flow, is_end)?;
    let is_told = |record: &Value| {
        text(record, "rule.id") == "monitor-tampered"
            && text(record, "message").contains("has said nothing for")
    };
    daemon.wait_for("alert that the loader is silent", 4 * SOON, is_alert, is_told)?;
    kill_process(loader, Signal::CONT)?;
    ensure!(number(&daemon.status()?, "worker.restarts") == Some(0), "{}", daemon.status()?["worker"]);
    daemon.stop().map(drop)
}

/// Waits until another worker than `old` serves.
fn next_worker(daemon: &Daemon, old: u32) -> Result<u32> {
    let deadline = Instant::now() + SOON;
    loop {
        match worker_of(daemon) {
            Ok(now) if now != old => return Ok(now),
            _ => ensure!(Instant::now() < deadline, "no other worker serves:\n{}", daemon.stderr()),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn crash_loop() -> Result<()> {
    let House { lab, daemon } = House::new()?;
    let _server = traffic::serve(&lab, PORT)?;
    let mut worker = worker_of(&daemon)?;
    for _ in 0..3 {
        kill_process(Pid::from_raw(worker.cast_signed()).context("a pid")?, Signal::KILL)?;
        worker = next_worker(&daemon, worker)?;
    }
    let status = daemon.status()?;
    ensure!(field(&status, "worker.counts_only") == &Value::Bool(true), "{}", status["worker"]);
    ensure!(number(&status, "worker.restarts") == Some(3), "{}", status["worker"]);
    ensure!(text(&status, "worker.last_end").contains("SIGKILL"), "{}", status["worker"]);
    let told = daemon.wait_for("alert that the worker ended", SOON, is_alert, |record| {
        is_alert(record)
            && text(record, "rule.id") == "monitor-tampered"
            && text(record, "event.reason").contains("not looked at")
    })?;
    ensure!(number(&told.record, "event.severity") == Some(4), "{}", told.record);
    let log = lab.directory.file("client.log");
    let mut command = lab.client().command(traffic::program());
    command.args(["load", "--count", "200", "--largest", "20000", "--parallel", "2", "--log", &log]);
    command.args(["--to", &format!("10.213.0.2:{PORT}")]);
    lab.run(command, SOON)?;
    let made = traffic::read_log(&log)?;
    let mine = |record: &Value| {
        is_flow(record)
            && text(record, "event.action") == "flow_closed"
            && number(record, "server.port") == Some(PORT.into())
    };
    daemon.wait_until("record of every connection", SOON, mine, |now| {
        (now.iter().filter(|heard| mine(&heard.record)).count() >= 2 * made.len()).then_some(())
    })?;
    let ended = daemon.stop_cut(Signal::TERM, 3)?;
    let ends: Vec<&Value> =
        ended.heard.iter().map(|heard| &heard.record).filter(|record| mine(record)).collect();
    for end in &ends {
        let verdict = field(end, "streamwatch.verdict");
        ensure!(verdict["encrypted"]["answer"] == "unknown", "{verdict}");
        ensure!(verdict["watched"]["answer"] == "no", "{verdict}");
    }
    exact::compare(&made, ends.into_iter())
}

/// A descriptor that whoever started the daemon had open, and a terminal's name of it.
fn left_open() -> Result<()> {
    let lab = Lab::new("left-open")?;
    let socket = lab.directory.file("api.sock");
    let mut command = Command::new("/bin/sh");
    let script = "exec 9</etc/passwd; exec \"$0\" --socket \"$1\" run --cgroup \"$2\" --output ecs";
    command.args(["-c", script]).arg(binary()).arg(&socket).arg(lab.cgroup.path());
    let process = Process::start("streamwatch", &lab.directory, command)?;
    let deadline = Instant::now() + SOON;
    let worker = loop {
        let mut command = Place::default().command(binary());
        command.args(["--socket", &socket, "status", "--json"]);
        let finished = finish(command, SOON)?;
        if let Ok(status) = serde_json::from_str::<Value>(&finished.stdout)
            && let Some(worker) = number(&status, "worker.pid")
        {
            break worker;
        }
        ensure!(Instant::now() < deadline, "the daemon does not answer:\n{}", process.said());
        thread::sleep(Duration::from_millis(50));
    };
    let opened = std::fs::read_dir(format!("/proc/{worker}/fd"))?
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .any(|target| target.ends_with("passwd"));
    ensure!(!opened, "the worker has what the shell left open");
    Ok(())
}
