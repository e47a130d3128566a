//! Programs that a test starts: where they run, that they end, and what they said.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::ending::{Directory, Guard, Undo};

/// Where a program runs.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// A cgroup v2 directory.
    pub cgroup: Option<PathBuf>,
    /// Name of a network namespace.
    pub netns: Option<String>,
    /// A user to become.
    pub user: Option<String>,
}

impl Place {
    /// The same place, as another user.
    #[must_use]
    pub fn as_user(&self, user: &str) -> Place {
        Place { user: Some(user.into()), ..self.clone() }
    }

    /// A command that will run there. Its process id and name are the program's own: every step on
    /// the way is an `exec`.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let program = find(program.as_ref());
        let mut command = Command::new("sh");
        match &self.cgroup {
            Some(cgroup) => {
                command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(cgroup.join("cgroup.procs"))
            }
            None => command.args(["-c", r#"exec "$@""#, "sh"]),
        };
        if let Some(netns) = &self.netns {
            command.arg("nsenter").arg(format!("--net=/run/netns/{netns}")).arg("--");
        }
        if let Some(user) = &self.user {
            command.args(["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--"]);
        }
        command.arg(program);
        command
    }
}

/// Servers stand where an ordinary PATH does not look.
fn find(program: &Path) -> PathBuf {
    let beside =
        ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(|directory| Path::new(directory).join(program));
    beside.into_iter().find(|path| path.is_file()).unwrap_or_else(|| program.to_owned())
}

/// A running program with its children; all killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    said: Option<PathBuf>,
    guard: Guard,
}

impl Process {
    /// Starts it with nothing on stdin, and with what it says in a file of `directory`.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(name: &str, directory: &Directory, mut command: Command) -> Result<Self> {
        let said = directory.path().join(format!("{name}.said"));
        let file = File::options().create(true).append(true).open(&said)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut process = Process::start_piped(name, command)?;
        process.said = Some(said);
        Ok(process)
    }

    /// Starts it with stdin, stdout and stderr as the command has them.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start_piped(name: &str, mut command: Command) -> Result<Self> {
        // A group of its own, so that its children go with it.
        let child = command.process_group(0).spawn().with_context(|| format!("{name} did not start"))?;
        let guard = Guard::new(Undo::KillGroup(Pid::from_child(&child)));
        Ok(Process { child, name: name.to_owned(), said: None, guard })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// # Errors
    /// Stdin is not a pipe, or was taken before.
    pub fn take_stdin(&mut self) -> Result<ChildStdin> {
        self.child.stdin.take().with_context(|| format!("{} has no stdin", self.name))
    }

    /// The first line that it says, without the end. From then on nobody hears what it says.
    ///
    /// # Errors
    /// Stdout is not a pipe, or was taken before.
    pub fn first_line(&mut self) -> Result<String> {
        let stdout = self.child.stdout.take().with_context(|| format!("{} has no stdout", self.name))?;
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        Ok(said.trim().to_owned())
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// The kernel could not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.guard.forget();
        }
        Ok(status)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It still runs after `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {patience:?}; it said:\n{}", self.name, self.said());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal to it and its children.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }

    /// The end of what it has said so far.
    pub fn said(&self) -> String {
        let all = self.said.as_ref().map(|path| fs::read(path).unwrap_or_default()).unwrap_or_default();
        let all = String::from_utf8_lossy(&all);
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Waits until a socket of its network namespace serves `port`.
    ///
    /// # Errors
    /// It ended, or does not serve after `patience`.
    pub fn wait_for_port(&mut self, transport: &str, port: u16, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !serves(self.pid(), transport, port) {
            if let Some(status) = self.ended()? {
                bail!(
                    "{} ended ({status}) before it served port {port}; it said:\n{}",
                    self.name,
                    self.said()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "{} does not serve {transport} port {port} after {patience:?}; it said:\n{}",
                    self.name,
                    self.said()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.ended() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
            self.guard.forget();
        }
    }
}

/// Whether a socket in the network namespace of `pid` listens on `port` (TCP) or is bound to it
/// (UDP): read from the namespace's own tables, without a packet. Format: proc_net_tcp in the
/// kernel's documentation.
fn serves(pid: u32, transport: &str, port: u16) -> bool {
    let mut wanted = String::new();
    // Writing to a String does not fail.
    let _ = write!(wanted, ":{port:04X}");
    let state = if transport == "tcp" { "0A" } else { "07" };
    ["", "6"].iter().any(|family| {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{transport}{family}")).unwrap_or_default();
        table.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace();
            fields.nth(1).is_some_and(|local| local.ends_with(&wanted)) && fields.nth(1) == Some(state)
        })
    })
}

/// What a program that ran to its end left.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Itself, if the program ended with 0.
    ///
    /// # Errors
    /// It did not; with all it said.
    pub fn success(self) -> Result<Finished> {
        if self.status.success() {
            return Ok(self);
        }
        bail!("{}\nstdout: {}\nstderr: {}", self.status, self.stdout.trim(), self.stderr.trim())
    }
}

/// Runs a command to its end.
///
/// # Errors
/// It did not start, or still runs after `patience` (it is killed then).
pub fn finish(mut command: Command, patience: Duration) -> Result<Finished> {
    let directory = Directory::new()?;
    let (out, err) = (directory.path().join("stdout"), directory.path().join("stderr"));
    command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
    let shown = format!("{command:?}");
    let mut process = Process::start_piped("command", command)?;
    let status = process.wait(patience);
    let read = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (stdout, stderr) = (read(out)?, read(err)?);
    let status = status.with_context(|| format!("{shown}\nstdout: {stdout}\nstderr: {stderr}"))?;
    Ok(Finished { status, stdout, stderr })
}

/// A process, and those that it started, that stand still while this lives.
pub struct Stopped(Vec<Pid>);

impl Stopped {
    /// # Errors
    /// There is no such process.
    pub fn new(pid: u32) -> Result<Self> {
        let pid = Pid::from_raw(pid.cast_signed()).context("pid 0")?;
        kill_process(pid, Signal::STOP)?;
        // From here on it starts no other.
        let mut all = Stopped(vec![pid]);
        for process in procfs::process::all_processes()?.filter_map(Result::ok) {
            if process.stat().is_ok_and(|stat| stat.ppid == pid.as_raw_nonzero().get())
                && let Some(child) = Pid::from_raw(process.pid)
            {
                kill_process(child, Signal::STOP)?;
                all.0.push(child);
            }
        }
        Ok(all)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}
