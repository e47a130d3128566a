//! What is usual for a stream outlives the daemon, and a file that was damaged costs what was damaged.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tests::servers::{self, Security, Server};
use tests::{Certificates, Daemon, DaemonOptions, Lab, Suite, is_alert, is_flow, number, text};

const PORT: u16 = 34_700;
const HOST: &str = "10.213.0.2";
/// The slowest client on a busy host.
const CLIENT: Duration = Duration::from_secs(120);
/// From the last answer to the alert, on a busy host.
const SOON: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    Suite::new("baselines")
        .test("the usual is known over a restart: load is told at once", &["nginx"], || restart(Signal::TERM))
        .test("the usual is known over a crash", &["nginx"], || restart(Signal::KILL))
        .test("a damaged state file is told, and watching goes on", &["nginx"], damaged)
        .main()
}

struct Site {
    lab: Lab,
    _nginx: Server,
    state: PathBuf,
}

impl Site {
    fn new() -> Result<Site> {
        let lab = Lab::new("baselines")?;
        let certificates = Certificates::new(&lab.directory)?;
        let nginx = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
        let state = Path::new(&lab.directory.file("state.redb")).to_owned();
        Ok(Site { lab, _nginx: nginx, state })
    }

    /// With so many seconds of warm-up.
    fn daemon(&self, warm_up_s: u32) -> Result<Daemon> {
        let config = format!(
            "[alerts]\nstate = \"{}\"\n[detect.traffic]\nsensitivity = \"high\"\ninterval_s = 1\n\
             warm_up_s = {warm_up_s}\n",
            self.state.display()
        );
        Daemon::start(&self.lab, DaemonOptions { config: Some(config), ..DaemonOptions::default() })
    }

    /// Requests, a connection each, one after the other.
    fn requests(&self, times: u32, pause_s: &str) -> Result<()> {
        let mut load = self.lab.client().command("sh");
        let url = format!("http://{HOST}:{PORT}/");
        let request = format!("curl -sf -o /dev/null -m 20 {url}; sleep {pause_s}");
        load.args(["-c", &format!("i=0; while [ $i -lt {times} ]; do {request}; i=$((i+1)); done")]);
        self.lab.run(load, CLIENT)?;
        Ok(())
    }
}

fn is_spike(record: &Value) -> bool {
    is_alert(record) && text(record, "rule.id") == "traffic-spike"
}

/// Streams whose past is known.
fn baselines(daemon: &Daemon) -> Result<u64> {
    let status = daemon.status()?;
    let tables = status["tables"].as_array().context("no tables")?;
    let row = tables.iter().find(|row| text(row, "name") == "baselines").context("no row")?;
    number(row, "used").context("no number")
}

fn restart(how: Signal) -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(10)?;
    // It is written down after half a minute at the latest.
    site.requests(90, "0.4")?;
    if how == Signal::KILL {
        site.requests(60, "0.4")?;
        thread::sleep(Duration::from_secs(2));
    }
    let before = daemon.stop_with(how)?;
    ensure!(!before.heard.iter().any(|heard| is_spike(&heard.record)), "a spike without one");
    let daemon = site.daemon(10)?;
    let known = baselines(&daemon)?;
    ensure!(known > 0, "nothing of the past is known");
    // For a stream that was new this would be its warm-up.
    let began = Instant::now();
    site.requests(300, "0")?;
    daemon.wait_for("a spike", SOON, is_alert, is_spike)?;
    let heard = daemon.heard();
    let spike = heard.iter().find(|heard| is_spike(&heard.record)).context("no spike")?;
    ensure!(
        !text(&spike.record, "event.reason").contains(" 0.0 are usual"),
        "the usual is not known: {}",
        spike.record
    );
    eprintln!("told {:?} after the load began", began.elapsed());
    Ok(())
}

/// One copy of the state is damaged, then both: the daemon says so, keeps the rest, and watches.
fn damaged() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(5)?;
    site.requests(30, "0.4")?;
    daemon.stop()?;
    let daemon = site.daemon(5)?;
    let (open, known) = (daemon.status()?["alerts"]["open"].as_u64(), baselines(&daemon)?);
    ensure!(open > Some(0), "no alert is open: nothing to be lost");
    daemon.stop()?;
    let copy = site.state.with_extension("redb.copy");

    spoil(&site.state, 1)?;
    let daemon = site.daemon(5)?;
    let stderr = daemon.stderr();
    ensure!(
        stderr.contains("written anew") && stderr.contains("nothing is lost"),
        "nobody was told: {stderr}"
    );
    let status = daemon.status()?;
    ensure!(status["alerts"]["open"].as_u64() == open, "{open:?} alerts were open: {}", status["alerts"]);
    ensure!(baselines(&daemon)? == known, "{known} baselines were known");
    ensure!(
        status["state"]["damage"].as_array().is_some_and(|lines| !lines.is_empty()),
        "{}",
        status["state"]
    );
    daemon.stop()?;

    // Every page but the first: nothing can be as it was.
    spoil(&site.state, 4096)?;
    spoil(&copy, 4096)?;
    let daemon = site.daemon(5)?;
    site.requests(2, "0")?;
    daemon.wait_for("the flow", SOON, is_flow, |record| {
        text(record, "event.action") == "flow_closed" && number(record, "server.port") == Some(PORT.into())
    })?;
    let stderr = daemon.stop()?.stderr;
    ensure!(
        stderr.contains("lost") || stderr.contains("could be saved"),
        "nobody was told of any damage: {stderr}"
    );
    ensure!(!stderr.contains("nothing is lost"), "{stderr}");
    Ok(())
}

/// Changes a bit of the middle of a file, or of every so many bytes.
fn spoil(path: &Path, every: usize) -> Result<()> {
    let mut bytes = std::fs::read(path)?;
    if every == 1 {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    } else {
        (every..bytes.len()).step_by(every).for_each(|at| bytes[at + 5] ^= 0x10);
    }
    std::fs::write(path, bytes).map_err(Into::into)
}
