//! What has been done to the host and must be undone, whichever way the tests end.
//!
//! Guards register an [`Undo`]; dropping the guard performs it, and so does the thread that waits
//! for SIGTERM and SIGINT, newest first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A change to the host, by how it is taken back.
#[derive(Clone, Debug)]
pub(crate) enum Undo {
    KillGroup(Pid),
    DeleteNamespace(String),
    RemoveCgroup(PathBuf),
    RemoveDirectory(PathBuf),
    Unmount(PathBuf),
}

static PENDING: Mutex<Vec<(u64, Undo)>> = Mutex::new(Vec::new());
/// A signal came: the thread that waits for it undoes everything, and nothing new may begin.
static ENDING: AtomicBool = AtomicBool::new(false);
static NEXT: AtomicU64 = AtomicU64::new(1);

fn pending() -> MutexGuard<'static, Vec<(u64, Undo)>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Performs its undo once, on drop.
#[derive(Debug)]
pub(crate) struct Guard(u64);

impl Guard {
    pub fn new(undo: Undo) -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        {
            let mut pending = pending();
            if !ENDING.load(Ordering::Relaxed) {
                pending.push((id, undo));
                return Guard(id);
            }
        }
        undo.perform();
        wait_if_ending();
        Guard(id)
    }

    /// It has come undone by itself (a process ended).
    pub fn forget(&self) {
        pending().retain(|(id, _)| *id != self.0);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut pending = pending();
        if let Some(index) = pending.iter().position(|(id, _)| *id == self.0) {
            let (_, undo) = pending.remove(index);
            drop(pending);
            undo.perform();
        }
    }
}

/// A number that no other test process and no other guard of this one uses.
pub(crate) fn unique() -> String {
    format!("{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Keeps the calling thread from ending the process while everything is being undone.
pub fn wait_if_ending() {
    while ENDING.load(Ordering::Relaxed) {
        thread::park();
    }
}

/// On SIGTERM and SIGINT: undoes everything and ends this process.
///
/// # Errors
/// The handlers could not be set.
pub fn undo_on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("signal handlers")?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let mut all = {
                let mut pending = pending();
                ENDING.store(true, Ordering::Relaxed);
                std::mem::take(&mut *pending)
            };
            while let Some((_, undo)) = all.pop() {
                undo.perform();
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

impl Undo {
    /// Best effort: there is nobody left to tell but stderr.
    fn perform(self) {
        match self {
            Undo::KillGroup(group) => {
                let _ = kill_process_group(group, Signal::KILL);
            }
            Undo::DeleteNamespace(name) => {
                let _ = Command::new("ip").args(["netns", "delete", &name]).status();
            }
            Undo::RemoveCgroup(path) => remove_cgroup(&path),
            Undo::Unmount(path) => {
                let _ = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
            }
            Undo::RemoveDirectory(path) => {
                let _ = fs::remove_dir_all(path);
            }
        }
    }
}

/// Kills whatever is left in it (`cgroup.kill`, Linux 5.14; one by one before) and removes it.
fn remove_cgroup(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if fs::write(path.join("cgroup.kill"), "1").is_err() {
            let processes = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
            for pid in processes.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        for child in fs::read_dir(path).into_iter().flatten().flatten() {
            // Of its children only those are directories that a test made; the rest says no.
            let _ = fs::remove_dir(child.path());
        }
        if fs::remove_dir(path).is_ok() || !path.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    eprintln!("tests: {} could not be removed", path.display());
}

/// A temporary directory that servers with a user of their own may enter.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _guard: Guard,
}

impl Directory {
    /// An empty directory.
    ///
    /// # Errors
    /// The file system refused.
    pub fn new() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let path = tempfile::Builder::new()
            .prefix("streamwatch-test-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .context("temporary directory")?
            .keep();
        let guard = Guard::new(Undo::RemoveDirectory(path.clone()));
        Ok(Directory { path, _guard: guard })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` in it, as text for a command line.
    pub fn file(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// Writes a file and returns its path.
    ///
    /// # Errors
    /// The file system refused.
    pub fn write(&self, name: &str, text: &str) -> Result<String> {
        let path = self.file(name);
        fs::write(&path, text).with_context(|| path.clone())?;
        Ok(path)
    }

    /// Makes a directory in it that belongs to `user`, and returns its path.
    ///
    /// # Errors
    /// The file system refused, or there is no such user.
    pub fn directory(&self, name: &str, user: Option<&str>) -> Result<String> {
        let path = self.file(name);
        fs::create_dir_all(&path).with_context(|| path.clone())?;
        if let Some(user) = user {
            let status = Command::new("chown").args([user, &path]).status()?;
            anyhow::ensure!(status.success(), "chown {user} {path}: {status}");
        }
        Ok(path)
    }
}
