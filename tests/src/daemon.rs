//! The daemon under test: started on a lab's cgroup, ready, heard, stopped.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::record::show;
use crate::{Directory, Lab, Place, Process, api};

/// The program under test: `STREAMWATCH_BIN`, else the release build of this workspace.
pub fn binary() -> PathBuf {
    std::env::var_os("STREAMWATCH_BIN").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/streamwatch"),
        PathBuf::from,
    )
}

/// CLOCK_MONOTONIC, ns: the same in every process of this host.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How to start it.
pub struct DaemonOptions {
    /// Text of the configuration file.
    pub config: Option<String>,
    /// Text of the policy file.
    pub policy: Option<String>,
    /// What it writes: `ecs`, `ocsf`, `zeek` or `text`. A line of text is a record that is a string.
    pub format: &'static str,
    /// Records that are kept; the others are read and forgotten.
    pub keep: fn(&Value) -> bool,
    /// The API's socket; `None`: one of its own.
    pub socket: Option<PathBuf>,
    /// Where hooks outlive it.
    pub pin: Option<PathBuf>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// The program that starts it, with its arguments; empty: none.
    pub through: Vec<String>,
    /// Nobody reads its output until it has ended, or [`Daemon::read_on`].
    pub unread: bool,
    /// Watch the whole host, other tests' connections too, and not the lab's cgroup alone.
    pub whole_host: bool,
    /// The cgroup to watch; `None`: the lab's.
    pub cgroup: Option<PathBuf>,
}

impl Default for DaemonOptions {
    fn default() -> Self {
        DaemonOptions {
            config: None,
            policy: None,
            format: "ecs",
            keep: |_| true,
            socket: None,
            pin: None,
            environment: Vec::new(),
            through: Vec::new(),
            unread: false,
            whole_host: false,
            cgroup: None,
        }
    }
}

/// A record, and when its line was read (CLOCK_MONOTONIC, ns).
#[derive(Clone, Debug)]
pub struct Heard {
    pub at_ns: u64,
    pub record: Value,
}

#[derive(Default)]
struct Output {
    heard: Vec<Heard>,
    /// Lines that are no JSON: there must be none.
    broken: Vec<String>,
    ended: bool,
}

#[derive(Default)]
struct Shared {
    output: Mutex<Output>,
    more: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running daemon; killed on drop.
pub struct Daemon {
    process: Process,
    socket: PathBuf,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    /// Dropped when the output may be read.
    unread: Option<Sender<()>>,
    directory: Directory,
    notifications: UnixDatagram,
}

/// What a daemon left when it ended.
pub struct Ended {
    pub status: ExitStatus,
    pub heard: Vec<Heard>,
    pub stderr: String,
}

/// Loading the programs on a busy host takes seconds, not minutes.
const READY: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(20);

impl Daemon {
    /// Starts it on the cgroup of `lab` and waits until its API answers.
    ///
    /// # Errors
    /// It ended or did not answer; with what it said.
    pub fn start(lab: &Lab, options: DaemonOptions) -> Result<Self> {
        let mut daemon = Daemon::launch(lab, options)?;
        let deadline = Instant::now() + READY;
        while daemon.status().is_err() {
            if let Some(status) = daemon.process.ended()? {
                bail!("the daemon ended at once ({status}); it said:\n{}", daemon.stderr());
            }
            if Instant::now() > deadline {
                bail!("the daemon does not answer after {READY:?}; it said:\n{}", daemon.stderr());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// Starts it, and waits for nothing.
    ///
    /// # Errors
    /// There is no such program.
    pub fn launch(lab: &Lab, options: DaemonOptions) -> Result<Self> {
        let directory = Directory::new()?;
        let socket = options.socket.unwrap_or_else(|| directory.path().join("api.sock"));
        let notify = directory.path().join("notify.sock");
        let notifications = UnixDatagram::bind(&notify)?;
        let mut command = match options.through.split_first() {
            Some((program, arguments)) => {
                let mut command = Place::default().command(program);
                command.args(arguments).arg(binary());
                command
            }
            None => Place::default().command(binary()),
        };
        command.args(["run", "--output", options.format]);
        if !options.whole_host {
            command.arg("--cgroup").arg(options.cgroup.as_deref().unwrap_or(lab.cgroup.path()));
        }
        command.arg("--socket").arg(&socket).env("NOTIFY_SOCKET", &notify).envs(options.environment);
        if let Some(pin) = &options.pin {
            command.arg("--pin").arg(pin);
        }
        if let Some(text) = &options.config {
            command.arg("--config").arg(directory.write("config.toml", text)?);
        }
        if let Some(text) = &options.policy {
            command.arg("--policy").arg(directory.write("policy.toml", text)?);
        }
        let stderr = std::fs::File::create(directory.path().join("stderr"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut process = Process::start_piped("streamwatch", command)?;
        let stdout = process.child().stdout.take().context("the daemon has no stdout")?;
        let shared = Arc::new(Shared::default());
        let (unread, may_read) = channel();
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                // A collector that keeps up, also where processors are short: the daemon is ahead of others (-4), and
                // what it writes and nobody takes is lost.
                let _ = rustix::process::setpriority_process(None, -8);
                if options.unread {
                    let _ = may_read.recv();
                }
                let stdout = BufReader::with_capacity(1 << 20, stdout);
                read(stdout, &shared, options.keep, options.format == "text");
            })
        };
        Ok(Daemon {
            process,
            socket,
            shared,
            reader: Some(reader),
            unread: Some(unread),
            directory,
            notifications,
        })
    }

    /// Starts it and expects that it ends by itself (a second instance, a bad file).
    ///
    /// # Errors
    /// It still runs after 20 s.
    pub fn refused(lab: &Lab, options: DaemonOptions) -> Result<Ended> {
        Daemon::launch(lab, options)?.end()
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `GET /v1/status`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Result<Value> {
        self.get("/v1/status")
    }

    /// `GET path`.
    ///
    /// # Errors
    /// It does not answer with a success and JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        api::get(&self.socket, path)
    }

    /// `GET path` of a listing: its records.
    ///
    /// # Errors
    /// Nobody answers, or a line is no JSON.
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        api::list(&self.socket, path)
    }

    /// The message it sent to the service manager, if any came within `patience` (sd_notify(3)).
    pub fn notification(&self, patience: Duration) -> Option<String> {
        self.notifications.set_read_timeout(Some(patience)).ok()?;
        let mut buffer = [0; 4096];
        let length = self.notifications.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Writes its policy file anew.
    ///
    /// # Errors
    /// The file system refused.
    pub fn write_policy(&self, text: &str) -> Result<()> {
        self.directory.write("policy.toml", text).map(drop)
    }

    /// Its output is read from now on.
    pub fn read_on(&mut self) {
        self.unread = None;
    }

    /// What it has said on stderr.
    pub fn stderr(&self) -> String {
        std::fs::read(self.directory.path().join("stderr"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// What was heard so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.lock().heard.clone()
    }

    /// Waits for a record. `related` chooses what the message of a failure shows.
    ///
    /// # Errors
    /// It has not come after `patience`, or the daemon ended.
    pub fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        related: impl Fn(&Value) -> bool,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Heard> {
        self.wait_until(what, patience, related, |heard| {
            heard.iter().find(|heard| wanted(&heard.record)).cloned()
        })
    }

    /// Waits until all that was heard is enough.
    ///
    /// # Errors
    /// It is not after `patience`, or the daemon ended.
    pub fn wait_until<T>(
        &self,
        what: &str,
        patience: Duration,
        related: impl Fn(&Value) -> bool,
        mut enough: impl FnMut(&[Heard]) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        let mut output = self.shared.lock();
        loop {
            let began = Instant::now();
            if let Some(found) = enough(&output.heard) {
                return Ok(found);
            }
            // Whoever reads the records waits while this looks through all of them.
            let rest = Duration::from_millis(2).max(4 * began.elapsed());
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || output.ended {
                let why =
                    if output.ended { "the daemon ended".into() } else { format!("not after {patience:?}") };
                return Err(self.missing(what, &why, &output.heard, related));
            }
            // Woken by every record; under load a look now and then is enough.
            drop(output);
            thread::sleep(rest);
            output = self.shared.lock();
            let pause = left.min(Duration::from_millis(100));
            (output, _) =
                self.shared.more.wait_timeout(output, pause).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many records of this kind it has told so far.
    pub fn count(&self, which: impl Fn(&Value) -> bool) -> usize {
        self.shared.lock().heard.iter().filter(|heard| which(&heard.record)).count()
    }

    fn missing(
        &self,
        what: &str,
        why: &str,
        heard: &[Heard],
        related: impl Fn(&Value) -> bool,
    ) -> anyhow::Error {
        const SHOWN: usize = 30;
        let lines: Vec<String> =
            heard.iter().filter(|heard| related(&heard.record)).map(|heard| show(&heard.record)).collect();
        anyhow!(
            "no {what}: {why}; heard {} records, {} of them related, the last ones:\n  {}\nthe daemon said:\n{}",
            heard.len(),
            lines.len(),
            lines[lines.len().saturating_sub(SHOWN)..].join("\n  "),
            self.stderr(),
        )
    }

    /// Ends it with SIGTERM and returns everything it wrote.
    ///
    /// # Errors
    /// It does not end, or wrote something that is no JSON.
    pub fn stop(self) -> Result<Ended> {
        self.stop_with(Signal::TERM)
    }

    /// The same with another signal.
    ///
    /// # Errors
    /// See [`Daemon::stop`].
    pub fn stop_with(self, signal: Signal) -> Result<Ended> {
        self.signal(signal);
        self.end()
    }

    /// Kills it, at any moment: its last line may be cut.
    ///
    /// # Errors
    /// More than that is no JSON.
    pub fn kill(self) -> Result<Ended> {
        self.signal(Signal::KILL);
        self.end_with(1)
    }

    /// [`Daemon::stop_with`], of one whose worker was killed so many times: each may have cut a line, which the
    /// next has ended.
    ///
    /// # Errors
    /// More than that is no JSON.
    pub fn stop_cut(self, signal: Signal, lines: usize) -> Result<Ended> {
        self.signal(signal);
        self.end_with(lines)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// See [`Daemon::stop`].
    pub fn end(self) -> Result<Ended> {
        self.end_with(0)
    }

    fn end_with(mut self, broken: usize) -> Result<Ended> {
        let status = self.process.wait(END).with_context(|| self.stderr())?;
        self.read_on();
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_| anyhow!("the reader of the daemon's output panicked"))?;
        }
        let mut output = self.shared.lock();
        ensure!(output.broken.len() <= broken, "lines that are no JSON: {:?}", output.broken);
        let heard = std::mem::take(&mut output.heard);
        drop(output);
        Ok(Ended { status, heard, stderr: self.stderr() })
    }
}

/// Reads lines until the end; each is parsed after its time was taken.
fn read(stdout: impl BufRead, shared: &Shared, keep: fn(&Value) -> bool, is_text: bool) {
    for line in stdout.split(b'\n') {
        let at_ns = now_ns();
        let Ok(line) = line else { break };
        let parsed: Result<Value, _> = match is_text {
            true => Ok(Value::String(String::from_utf8_lossy(&line).into_owned())),
            false => serde_json::from_slice(&line),
        };
        let mut output = shared.lock();
        match parsed {
            Ok(record) if keep(&record) => output.heard.push(Heard { at_ns, record }),
            Ok(_) => continue,
            Err(_) => output.broken.push(String::from_utf8_lossy(&line).into_owned()),
        }
        shared.more.notify_all();
    }
    shared.lock().ended = true;
    shared.more.notify_all();
}
