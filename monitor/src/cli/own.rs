//! `doctor --self`: what the daemon's processes may do, as the kernel says it, and a trial of what the worker
//! must not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use procfs::process::{FDInfo, FDTarget};
use serde::Serialize;

use super::client::Client;
use super::screen::Screen;
use super::table::{Align, Cell, Column, Table};
use super::{Failure, write_out};
use crate::api::InstanceLock;
use crate::config::{Config, Overrides};
use crate::daemon::{self, Attempt, RunOptions, User, attempt_all, capabilities, confine};
use crate::record::write_line;
use crate::status::StatusView;

const PROCESSES: &[Column] =
    &[("PROCESS", Align::Left), ("WHAT", Align::Left), ("AS THE KERNEL SAYS", Align::Left)];
const ATTEMPTS: &[Column] =
    &[("A WORKER TRIES TO", Align::Left), ("RESULT", Align::Left), ("WHY", Align::Left)];

/// One process of the daemon.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Powers {
    process: &'static str,
    pid: u32,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    capabilities: Vec<String>,
    /// What it could get back by starting a program.
    bounding: Vec<String>,
    no_new_privileges: bool,
    /// `off`, `strict` or `filter`.
    seccomp: String,
    landlock: String,
    /// How many of each kind.
    descriptors: BTreeMap<String, u32>,
}

/// Tells both; exit 1 where the worker may do what it must not.
pub(super) fn report(
    json: bool,
    config: Option<&Path>,
    socket: Option<PathBuf>,
) -> Result<ExitCode, Failure> {
    let host = |error: &dyn std::fmt::Display| Failure::Host(error.to_string());
    let options = RunOptions {
        config: config.map(Path::to_owned),
        overrides: Overrides { socket, ..Overrides::default() },
    };
    let loaded = daemon::load_config(&options).map_err(|error| Failure::Usage(error.to_string()))?;
    let holder = InstanceLock::holder(&loaded.api.socket).map_err(|error| host(&error))?;
    let mut processes = Vec::new();
    if let Some(pid) = holder.map(|holder| holder.pid) {
        let status: StatusView = Client::new(Some(loaded.api.socket.clone()))?.value("/v1/status")?;
        let unlimited = "not limited: it opens what the worker may not".to_owned();
        processes.push(Powers::of("loader", pid, unlimited).map_err(|error| host(&error))?);
        let worker = Powers::of("worker", status.worker.pid, status.worker.landlock);
        processes.push(worker.map_err(|error| host(&error))?);
    }
    let attempts = try_it(config)?;
    let possible = attempts.iter().filter(|attempt| attempt.refused.is_none()).count();
    let too_much: Vec<&str> = processes.iter().flat_map(Powers::too_much).collect();
    if json {
        let mut lines = Vec::new();
        processes.iter().for_each(|process| write_line(&mut lines, process));
        attempts.iter().for_each(|attempt| write_line(&mut lines, attempt));
        write_out(&lines)?;
    } else {
        let screen = Screen::detect();
        let mut text = processes_table(&processes, screen);
        if processes.is_empty() {
            text = format!("no daemon runs at {}\n", loaded.api.socket.display());
        }
        text.push('\n');
        text.push_str(&attempts_table(&attempts, screen));
        write_out(text.as_bytes())?;
    }
    if possible == 0 && too_much.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let what = match too_much.is_empty() {
        true => format!("{possible} of what it must not do is possible"),
        false => too_much.join(", "),
    };
    eprintln!("streamwatch: the worker may do more than it should: {what}");
    Ok(ExitCode::FAILURE)
}

/// A process of its own does it: who is confined stays so.
fn try_it(config: Option<&Path>) -> Result<Vec<Attempt>, Failure> {
    let mut program = Command::new("/proc/self/exe");
    program.args(["worker", "--trial"]).stdin(Stdio::null());
    if let Some(config) = config {
        program.arg("--config").arg(config);
    }
    let output = program.output()?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        Failure::Host(format!("the trial failed: {}", said.trim().trim_start_matches("streamwatch: ")))
    })
}

/// Confines this process, tries, and tells on stdout.
pub(super) fn trial(config: Option<&Path>) -> Result<ExitCode, Failure> {
    let config = Config::load(config).map_err(|error| Failure::Usage(error.to_string()))?;
    let user = User::of(config.worker.user.as_deref()).map_err(|error| Failure::Usage(error.to_string()))?;
    confine(user).map_err(|error| Failure::Host(error.to_string()))?;
    let mut line = Vec::new();
    write_line(&mut line, &attempt_all());
    write_out(&line)?;
    Ok(ExitCode::SUCCESS)
}

impl Powers {
    fn of(process: &'static str, pid: u32, landlock: String) -> std::io::Result<Powers> {
        let gone = |error: procfs::ProcError| std::io::Error::other(format!("process {pid}: {error}"));
        let at = procfs::process::Process::new(pid.cast_signed()).map_err(gone)?;
        let status = at.status().map_err(gone)?;
        let mut descriptors = BTreeMap::new();
        let all: Vec<_> = at.fd().map_err(gone)?.filter_map(Result::ok).collect();
        let outputs: Vec<_> = all.iter().filter(|one| one.fd == 1 || one.fd == 2).map(path).collect();
        for one in &all {
            // What is written to has no other name for being opened twice.
            let output = path(one).is_some() && outputs.contains(&path(one));
            let kind = if output { "output" } else { kind(&one.target) };
            *descriptors.entry(kind.to_owned()).or_default() += 1;
        }
        Ok(Powers {
            process,
            pid,
            uid: status.euid,
            gid: status.egid,
            groups: status.groups,
            capabilities: capabilities(
                status.capeff | status.capprm | status.capinh | status.capamb.unwrap_or(0),
            ),
            bounding: capabilities(status.capbnd.unwrap_or(u64::MAX)),
            no_new_privileges: status.nonewprivs == Some(1),
            seccomp: match status.seccomp {
                Some(0) => "off",
                Some(1) => "strict",
                Some(2) => "filter",
                _ => "unknown",
            }
            .to_owned(),
            landlock,
            descriptors,
        })
    }

    /// Of the worker: what it must not have.
    fn too_much(&self) -> Vec<&'static str> {
        if self.process != "worker" {
            return Vec::new();
        }
        let opened = |kind: &&String| {
            matches!(kind.as_str(), "file" | "directory" | "program of the kernel" | "link of the kernel")
        };
        [
            (!self.capabilities.is_empty(), "it has capabilities"),
            (self.uid == 0 || self.gid == 0, "it is root"),
            (!self.no_new_privileges, "it may get new privileges"),
            (self.seccomp != "filter", "its system calls are not limited"),
            (self.descriptors.keys().any(|kind| opened(&kind)), "it has files open"),
        ]
        .into_iter()
        .filter_map(|(holds, what)| holds.then_some(what))
        .collect()
    }
}

/// Where a descriptor leads in the file system.
fn path(one: &FDInfo) -> Option<&Path> {
    match &one.target {
        FDTarget::Path(path) => Some(path),
        _ => None,
    }
}

/// What a descriptor is, for people.
fn kind(target: &FDTarget) -> &str {
    match target {
        // Held for as long as the process lives; nothing is read from it.
        FDTarget::Path(path) if path.extension().is_some_and(|it| it == "lock") => "lock",
        FDTarget::Path(path) if path.starts_with("/dev/pts") || path.ends_with("/tty") => "terminal",
        FDTarget::Path(path) if path.starts_with("/dev") => "device",
        FDTarget::Path(path) if path.is_dir() => "directory",
        FDTarget::Path(_) => "file",
        FDTarget::Socket(_) => "socket",
        FDTarget::Net(_) | FDTarget::Other(_, _) => "namespace",
        FDTarget::Unknown(_, _) => "unknown",
        FDTarget::Pipe(_) => "pipe",
        FDTarget::MemFD(_) => "memory",
        FDTarget::AnonInode(what) => match what.trim_matches(['[', ']']) {
            "bpf-map" => "map of the kernel",
            "bpf-prog" => "program of the kernel",
            "bpf_link" => "link of the kernel",
            "eventpoll" | "eventfd" => "events",
            other => other,
        },
    }
}

fn processes_table(processes: &[Powers], screen: Screen) -> String {
    let mut table = Table::new(PROCESSES);
    let list = |all: &[String]| if all.is_empty() { "none".to_owned() } else { all.join(" ") };
    for process in processes {
        let name = format!("{} (pid {})", process.process, process.pid);
        let groups: Vec<String> = process.groups.iter().map(u32::to_string).collect();
        let descriptors: Vec<String> =
            process.descriptors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let rows = [
            ("user", format!("{}, group {}, more groups: {}", process.uid, process.gid, list(&groups))),
            ("capabilities", list(&process.capabilities)),
            ("could get back", list(&process.bounding)),
            ("new privileges", if process.no_new_privileges { "never" } else { "allowed" }.to_owned()),
            ("seccomp", process.seccomp.clone()),
            ("Landlock", process.landlock.clone()),
            ("descriptors", descriptors.join(", ")),
        ];
        for (number, (what, value)) in rows.into_iter().enumerate() {
            let first = if number == 0 { name.as_str() } else { "" };
            table.row(vec![Cell::new(first), Cell::new(what), Cell::new(&value)]);
        }
    }
    table.render(true, None, screen.style)
}

fn attempts_table(attempts: &[Attempt], screen: Screen) -> String {
    let mut table = Table::new(ATTEMPTS);
    for attempt in attempts {
        let (result, colour) = if attempt.refused.is_some() { ("refused", "32") } else { ("POSSIBLE", "31") };
        let why = attempt.refused.as_deref().unwrap_or("nothing stands in the way");
        table.row(vec![Cell::new(&attempt.what), Cell::coloured(result, colour), Cell::new(why)]);
    }
    table.render(true, None, screen.style)
}
