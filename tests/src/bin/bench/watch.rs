//! The monitor, as a benchmark runs it: in a cgroup of its own, so that its processor time can be told
//! from that of the load, with its records read and forgotten.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::accounting;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::{Bpffs, Cgroup, Directory, Place, Process, api, binary, now_ns};

/// Where a monitor runs: its socket, and, as in service, a place for pinned hooks.
pub struct Home {
    directory: Directory,
    pins: Bpffs,
    cgroup: Cgroup,
}

impl Home {
    pub fn new() -> Result<Self> {
        let directory = Directory::new()?;
        let pins = Bpffs::new(&directory)?;
        let cgroup = Cgroup::new("bench-monitor")?;
        Ok(Home { directory, pins, cgroup })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    fn said(&self) -> PathBuf {
        self.directory.path().join("stderr")
    }

    /// Starts one on a cgroup. Its records have to be read at once.
    pub fn start(&self, watched: &Path) -> Result<(Process, ChildStdout)> {
        let place = Place { cgroup: Some(self.cgroup.path().to_owned()), ..Place::default() };
        let mut command = place.command(binary());
        command.args(["run", "--output", "ecs", "--cgroup"]).arg(watched);
        command.arg("--socket").arg(self.socket()).arg("--pin").arg(self.pins.place());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(self.said())?);
        let mut process = Process::start_piped("streamwatch", command)?;
        let stdout = process.child().stdout.take().context("no stdout")?;
        Ok((process, stdout))
    }

    /// Waits until it answers.
    pub fn wait_for_answer(&self, process: &mut Process) -> Result<()> {
        let deadline = Instant::now() + READY;
        while self.status().is_err() {
            if process.ended()?.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(self.said()).unwrap_or_default();
                bail!("the monitor does not answer; it said:\n{said}");
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn status(&self) -> Result<Value> {
        api::get(&self.socket(), "/v1/status")
    }

    /// Removes the hooks that its monitors left.
    pub fn detach(&self) -> Result<()> {
        let mut command = Place::default().command(binary());
        command.args(["stop", "--detach", "--socket"]).arg(self.socket()).arg("--pin").arg(self.pins.place());
        let output = command.output()?;
        ensure!(output.status.success(), "hooks stay: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

/// A running monitor; killed on drop.
pub struct Watch {
    process: Process,
    home: Home,
    alerts: Arc<Mutex<Vec<Line>>>,
    reader: Option<JoinHandle<()>>,
}

/// When a line was read (CLOCK_MONOTONIC, ns), and the line.
pub type Line = (u64, Vec<u8>);

/// What is in the lines that are kept.
const ALERT: &[u8] = b"streamwatch.alert";

const READY: Duration = Duration::from_secs(30);

impl Watch {
    /// Starts it on a cgroup, and waits until it answers.
    pub fn start(watched: &Path) -> Result<Self> {
        Watch::launch(watched, false)
    }

    /// The same, and keeps its alerts.
    pub fn listen(watched: &Path) -> Result<Self> {
        Watch::launch(watched, true)
    }

    fn launch(watched: &Path, listen: bool) -> Result<Self> {
        let home = Home::new()?;
        let (mut process, stdout) = home.start(watched)?;
        let alerts = Arc::new(Mutex::new(Vec::new()));
        let reader = {
            let alerts = Arc::clone(&alerts);
            thread::spawn(move || if listen { hear(stdout, &alerts) } else { forget(stdout) })
        };
        home.wait_for_answer(&mut process)?;
        let watch = Watch { process, home, alerts, reader: Some(reader) };
        watch.settled();
        Ok(watch)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Alert records so far, if it was started to listen.
    pub fn alerts(&self) -> Vec<Line> {
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Processor time of all its threads so far, ns.
    pub fn cpu_ns(&self) -> u64 {
        cgroup_cpu_ns(self.home.cgroup.path())
    }

    /// # Errors
    /// It ended; with what it said.
    pub fn alive(&mut self) -> Result<()> {
        if let Some(status) = self.process.ended()? {
            let said = fs::read_to_string(self.home.said()).unwrap_or_default();
            bail!("the monitor ended ({status}); it said:\n{said}");
        }
        Ok(())
    }

    /// Waits until it has nothing left to do: less than 1 ms of work in 50 ms.
    pub fn settled(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let before = self.cpu_ns();
            thread::sleep(Duration::from_millis(50));
            if self.cpu_ns() - before < 1_000_000 {
                return;
            }
        }
    }

    pub fn status(&self) -> Result<Value> {
        self.home.status()
    }

    /// Flows seen, and everything that was lost on the way from the kernel to stdout.
    pub fn seen_and_lost(&self) -> Result<(u64, u64)> {
        let status = self.status()?;
        let seen = status["flows"]["seen"].as_u64().context("no flows.seen in the status")?;
        let sum = |list: &str, field: &str| -> Result<u64> {
            let rows = status[list].as_array().with_context(|| format!("no {list} in the status"))?;
            Ok(rows.iter().filter_map(|row| row[field].as_u64()).sum())
        };
        // The status has the kernel's part of a second ago.
        let counters = accounting::counters(self.pid())?;
        let kernel = counters.lost.iter().sum::<u64>() - counters.rescued;
        Ok((seen, kernel + sum("stages", "dropped")? + sum("tables", "refused")?))
    }

    /// Resident memory of both of its processes, bytes, as it says itself.
    pub fn resident(&self) -> u64 {
        let said = self.status().ok().and_then(|status| status["memory_bytes"].as_u64());
        said.unwrap_or(0)
    }

    /// Ends it, and removes its hooks.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::TERM);
        self.process.wait(Duration::from_secs(20))?;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        self.home.detach()
    }
}

/// Reads as fast as anything comes.
fn forget(mut stdout: ChildStdout) {
    let mut buffer = vec![0; 1 << 16];
    while stdout.read(&mut buffer).is_ok_and(|length| length > 0) {}
}

/// The same, but keeps alerts.
fn hear(stdout: ChildStdout, alerts: &Mutex<Vec<Line>>) {
    for line in BufReader::with_capacity(1 << 18, stdout).split(b'\n') {
        let at_ns = now_ns();
        let Ok(line) = line else { return };
        if line.windows(ALERT.len()).any(|part| part == ALERT) {
            alerts.lock().unwrap_or_else(PoisonError::into_inner).push((at_ns, line));
        }
    }
}

/// Processor time of everything that ran in a cgroup, ns; 0 where it cannot be read.
pub fn cgroup_cpu_ns(cgroup: &Path) -> u64 {
    let text = fs::read_to_string(cgroup.join("cpu.stat")).unwrap_or_default();
    let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
    usage.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1000
}

/// Resident memory of a process, bytes; 0 where it cannot be read.
pub fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
