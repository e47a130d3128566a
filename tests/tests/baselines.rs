//! What is usual for a stream outlives the daemon, and a file that was damaged costs what was damaged.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// A bit of each baseline is changed: the daemon says so, keeps the rest of the file, and watches.
fn damaged() -> Result<()> {
    let site = Site::new()?;
    let daemon = site.daemon(5)?;
    site.requests(30, "0.4")?;
    daemon.stop()?;
    let whole = std::fs::read(&site.state)?;
    // Every baseline in it: when it was written, and the length of an interval.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let is_one = |window: &[u8]| {
        let (at, interval) = window.split_at(8);
        let at = u64::from_le_bytes(at.try_into().unwrap_or_default());
        (now - 600..=now).contains(&at) && interval == 1_u32.to_le_bytes()
    };
    let mut broken = whole.clone();
    let mut found = 0;
    for at in 0..whole.len() - 40 {
        if is_one(&whole[at..at + 12]) {
            found += 1;
            broken[at + 20] ^= 0x10;
        }
    }
    ensure!(found > 0, "no baseline in the file");
    std::fs::write(&site.state, &broken)?;
    let daemon = site.daemon(5)?;
    site.requests(2, "0")?;
    daemon.wait_for("the flow", SOON, is_flow, |record| {
        text(record, "event.action") == "flow_closed" && number(record, "server.port") == Some(PORT.into())
    })?;
    // What was not damaged is there.
    let open = daemon.status()?["alerts"]["open"].as_u64();
    ensure!(open > Some(0), "alerts that were open before are lost: {open:?}");
    let stderr = daemon.stop()?.stderr;
    ensure!(stderr.contains("was damaged"), "nobody was told of any damage: {stderr}");
    Ok(())
}
