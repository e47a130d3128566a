//! Scans and unusual rates are told; what is ordinary is not; and no secret that
//! crossed the wire is in anything that the daemon says. Log-ins that fail: `log_ins.rs`.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::guesses::{PORT, about, alerts, is_ours, list, wrong};
use tests::servers::{self, Security, guarded, program, python};
use tests::{Certificates, Daemon, DaemonOptions, Lab, Suite, is_alert, no_secret, number, text};

const HOST: &str = "10.213.0.2";
/// The slowest client on a busy host.
const CLIENT: Duration = Duration::from_secs(40);
/// From the last answer to the alert, on a busy host.
const SOON: Duration = Duration::from_secs(20);
fn command(lab: &Lab, program: &str, arguments: &[&str]) -> Command {
    let mut command = lab.client().command(program);
    command.args(arguments);
    command
}

fn main() -> ExitCode {
    Suite::new("detectors")
        .test("the thousandth request's failure counts as the first's", &["nginx"], long_session)
        .test("a password within TLS is nobody's to read", &["nginx", "openssl"], within_tls)
        .test("a scan of ports is told", &["nmap"], vertical)
        .test("a scan of hosts is told", &["nmap"], horizontal)
        .test(
            "a scan of what is served, from elsewhere, is seen and is no failure",
            &["nmap", "nginx"],
            inbound,
        )
        .alone("a scan of closed ports, from elsewhere, is told", &["nmap"], closed_ports)
        .test("sudden load is told", &["nginx"], sudden_load)
        .main()
}

fn long_session() -> Result<()> {
    let lab = Lab::new("detectors")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = guarded::nginx(&lab, PORT)?;
    let mut session = lab.client().command(python());
    session.arg(program("long_session.py")).args([HOST, &PORT.to_string(), "alice"]);
    session.env("RIGHT", guarded::RIGHT).env("WRONG", wrong(1));
    // Thousands at once are more than the rate allows; what comes later is seen again.
    session.args(["3000", "25"]);
    lab.run(session, Duration::from_secs(120))?;
    daemon.wait_for("auth-failures", SOON, is_ours, |record| about(record, "auth-failures"))?;
    let status = daemon.status()?;
    let cost = &status["sampling"];
    ensure!(
        cost["samples"].as_u64() > Some(0) && cost["bytes"].as_u64() > Some(0),
        "no cost in status: {cost}"
    );
    no_secret(daemon)
}

fn within_tls() -> Result<()> {
    let lab = Lab::new("detectors")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Tls)?;
    let url = format!("https://{HOST}:{PORT}/");
    let password = format!("alice:{}", guarded::RIGHT);
    lab.run(
        command(&lab, "curl", &["-sSf", "--cacert", &certificates.authority, "-u", &password, &url]),
        CLIENT,
    )?;
    daemon.wait_for(
        "the flow",
        SOON,
        |_| true,
        |record| {
            text(record, "event.action") == "flow_closed"
                && number(record, "server.port") == Some(PORT.into())
        },
    )?;
    let told = alerts(&daemon, "credential-in-clear");
    ensure!(told.is_empty(), "told of a password within TLS:\n  {}", list(&told));
    no_secret(daemon)
}

fn is_scan(record: &Value) -> bool {
    is_alert(record)
        && text(record, "rule.id") == "connect-failures"
        && text(record, "event.reason").contains("a scan")
}

fn vertical() -> Result<()> {
    let lab = Lab::new("detectors")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    lab.run(command(&lab, "nmap", &["-n", "-Pn", "-sT", "-p", "7000-7040", HOST]), Duration::from_secs(60))?;
    daemon.wait_for("a scan", SOON, is_ours, |record| {
        is_scan(record)
            && text(record, "process.name") == "nmap"
            && text(record, "event.reason").contains("more ports of 10.213.0.2")
    })?;
    Ok(())
}

/// One port of many hosts: of some that refuse, and some that are not there.
fn horizontal() -> Result<()> {
    let lab = Lab::new("detectors")?;
    for host in 100..130 {
        lab.pair.right.ip(&["addr", "add", &format!("10.213.0.{host}/24"), "dev", "link0"])?;
    }
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let scan = ["-n", "-Pn", "-sT", "-p", "7000", "10.213.0.100-129"];
    lab.run(command(&lab, "nmap", &scan), Duration::from_secs(60))?;
    daemon.wait_for("a scan", SOON, is_ours, |record| {
        is_scan(record)
            && text(record, "process.name") == "nmap"
            && text(record, "event.reason").contains("port 7000 of ")
    })?;
    Ok(())
}

/// The scanner is not on the watched side: of it there is what the server's sockets show.
fn inbound() -> Result<()> {
    let lab = Lab::new("detectors")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    let elsewhere = tests::Place { cgroup: None, ..lab.client() };
    for way in ["-sT", "-sS"] {
        let mut scan = elsewhere.command("nmap");
        scan.args(["-n", "-Pn", way, "-p", &format!("{PORT},7000-7040"), HOST]);
        let found = lab.run(scan, Duration::from_secs(60))?.stdout;
        ensure!(found.contains("1 open") || found.contains("/tcp open"), "nothing was scanned: {found}");
    }
    // Connected to and let go, without a byte.
    daemon.wait_for(
        "the connection",
        SOON,
        |_| true,
        |record| {
            text(record, "event.action") == "flow_closed"
                && number(record, "server.port") == Some(PORT.into())
                && text(record, "network.direction") == "ingress"
                && text(record, "client.ip") == "10.213.0.1"
                && number(record, "network.bytes") == Some(0)
        },
    )?;
    let told = alerts(&daemon, "connect-failures");
    ensure!(told.is_empty(), "what was accepted has not failed:\n  {}", list(&told));
    Ok(())
}

/// Half-open probes: no socket takes part at either end, but the kernel's own that refuses them.
fn closed_ports() -> Result<()> {
    let lab = Lab::new("detectors")?;
    let daemon =
        Daemon::start(&lab, DaemonOptions { whole_host: true, keep: is_alert, ..DaemonOptions::default() })?;
    let mut scan = lab.client().command("nmap");
    scan.args(["-n", "-Pn", "-sS", "-p", "7000-7040", HOST]);
    let found = lab.run(scan, Duration::from_secs(60))?.stdout;
    ensure!(found.contains("closed tcp ports"), "no scan: {found}");
    daemon.wait_for("a scan", SOON, is_alert, |record| {
        is_scan(record)
            && text(record, "client.ip") == "10.213.0.1"
            && text(record, "server.ip") == HOST
            && text(record, "network.direction") == "ingress"
            && text(record, "event.reason").contains(&format!("more ports of {HOST}"))
    })?;
    Ok(())
}

fn sudden_load() -> Result<()> {
    let lab = Lab::new("detectors")?;
    let certificates = Certificates::new(&lab.directory)?;
    let config = "[detect.traffic]\nsensitivity = \"high\"\ninterval_s = 1\nwarm_up_s = 5\n";
    let daemon =
        Daemon::start(&lab, DaemonOptions { config: Some(config.into()), ..DaemonOptions::default() })?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    let url = format!("http://{HOST}:{PORT}/");
    let is_spike = |record: &Value| is_alert(record) && text(record, "rule.id") == "traffic-spike";
    // One request every half second is its past.
    for _ in 0..20 {
        lab.run(command(&lab, "curl", &["-sSf", "-m", "20", &url]), CLIENT)?;
        std::thread::sleep(Duration::from_millis(500));
    }
    let early = daemon.heard().iter().any(|heard| is_spike(&heard.record));
    ensure!(!early, "a spike without one");
    // A new connection each, for as long as it takes to be a departure.
    let mut load = lab.client().command("sh");
    load.args([
        "-c",
        &format!("i=0; while [ $i -lt 400 ]; do curl -sf -o /dev/null -m 20 {url}; i=$((i+1)); done"),
    ]);
    lab.run(load, Duration::from_secs(120))?;
    daemon.wait_for("a spike", SOON, is_ours, is_spike)?;
    Ok(())
}
