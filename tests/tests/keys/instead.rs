//! Something else than a file under the names of the state, and a disk that does not answer.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;
use tests::servers::python;
use tests::{Daemon, DaemonOptions, Process, finish};

use super::{CLIENT, KEY, SOON, Site, is_kept, open_alert, wait_for, waits};

fn pipe(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
    }
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).with_context(|| path.display().to_string())
}

/// Of the two copies, then of every other file, the daemon's own and the hooks'.
pub fn pipes() -> Result<()> {
    let site = Site::new()?;
    let beside = |name: &str| site.state.with_file_name(name);
    let daemon = site.start("", &[])?;
    site.alert(&daemon)?;
    wait_for(&daemon, SOON, "kept", is_kept)?;
    daemon.stop()?;
    for (copy, is_sum) in [("state.redb", false), ("state.redb.copy", false), ("state.redb.sum", true)] {
        pipe(&beside(copy))?;
        let daemon = site.start("", &[])?;
        if let Err(error) = open_alert(&daemon) {
            bail!("{copy}: {error:#}: {:?}; it said:\n{}", daemon.list("/v1/alerts")?, daemon.stderr());
        }
        let told = daemon.stderr();
        ensure!(!told.is_empty(), "{copy}: nobody was told");
        ensure!(
            is_sum || (told.contains("is a named pipe (FIFO)") && told.contains("nothing is lost")),
            "{copy}: {told}"
        );
        daemon.stop()?;
        ensure!(fs::symlink_metadata(beside(copy))?.is_file(), "{copy} is no file");
    }
    // What nothing can be kept without: told, until it is taken away.
    let in_the_way = beside("state.redb.lock");
    pipe(&in_the_way)?;
    pipe(&beside("state.redb.posted"))?;
    let daemon = site.start("[[alerts.hooks]]\nlog = true\n", &[])?;
    let state = wait_for(&daemon, SOON, "waiting", waits)?;
    let reason = state["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("state.redb.lock: is a named pipe (FIFO), expected a regular file"), "{state}");
    let told = daemon.stderr();
    ensure!(told.contains("state.redb.posted: is a named pipe (FIFO)"), "{told}");
    fs::remove_file(&in_the_way)?;
    daemon.signal(Signal::HUP);
    wait_for(&daemon, KEY, "kept", is_kept)?;
    open_alert(&daemon)?;
    daemon.stop().map(drop)
}

/// Mounts FUSE at a place, and reads nothing of what is asked there.
const MOUNT: &str = "
import ctypes, os, sys, time
device = os.open('/dev/fuse', os.O_RDWR)
options = f'fd={device},rootmode=40755,user_id=0,group_id=0'
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b'hung', sys.argv[1].encode(), b'fuse', ctypes.c_ulong(0), options.encode()):
    sys.exit(os.strerror(ctypes.get_errno()))
print('mounted', flush=True)
time.sleep(3600)
";

/// A file system that answers nothing. Gone on drop.
struct Hung<'a> {
    place: &'a Path,
    _server: Process,
}

impl Hung<'_> {
    fn over<'a>(site: &Site, place: &'a Path) -> Result<Hung<'a>> {
        let mut command = Command::new(python());
        command.args(["-c", MOUNT]).arg(place);
        let mut server = Process::start("fuse", &site.lab.directory, command)?;
        let since = Instant::now();
        while server.said().trim() != "mounted" {
            let ended = server.ended()?.is_some();
            ensure!(!ended && since.elapsed() < SOON, "not mounted: {}", server.said());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Hung { place, _server: server })
    }
}

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        let mut away = Command::new("umount");
        away.arg("-l").arg(self.place);
        let _ = finish(away, CLIENT);
    }
}

/// The start: watched without, told, put together when the disk is there; and the end, whenever it is asked for.
pub fn hung() -> Result<()> {
    let mut site = Site::new()?;
    // Out of the way of the web server, which lists the directory above.
    let directory = site.state.with_file_name("disk");
    fs::create_dir(&directory)?;
    site.state = directory.join("state.redb");
    let daemon = site.start("", &[])?;
    site.alert(&daemon)?;
    wait_for(&daemon, SOON, "kept", is_kept)?;
    daemon.stop()?;

    let disk = Hung::over(&site, &directory)?;
    // While it is waited for.
    let config = format!("[alerts]\nstate = \"{}\"\n", site.state.display());
    for signal in [Signal::TERM, Signal::INT] {
        let options = DaemonOptions { config: Some(config.clone()), ..DaemonOptions::default() };
        let daemon = Daemon::launch(&site.lab, options)?;
        let since = Instant::now();
        while !daemon.socket().exists() {
            ensure!(since.elapsed() < SOON, "no socket: {}", daemon.stderr());
            thread::sleep(Duration::from_millis(20));
        }
        let since = Instant::now();
        let ended = daemon.stop_with(signal)?;
        let (status, took) = (ended.status, since.elapsed());
        ensure!(status.success() && took.as_secs() < 5, "{status} after {took:?}: {}", ended.stderr);
    }

    let daemon = site.start("", &[])?;
    let state = wait_for(&daemon, SOON, "waiting", waits)?;
    let reason = state["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("no answer yet from the disk of"), "{state}");
    let told = daemon.stderr();
    ensure!(
        told.contains("the state is not kept now: no answer yet") && told.contains("watching goes on"),
        "{told}"
    );
    site.alert(&daemon)?;
    daemon.stop()?;
    drop(disk);
    let daemon = site.start("", &[])?;
    open_alert(&daemon)?;
    daemon.stop().map(drop)
}
