//! Connections that never come up are flows that failed, each with why.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Daemon, DaemonOptions, Lab, Suite, finish, is_flow, number, show, text};

const PORT: u16 = 34_567;
const PATIENCE: Duration = Duration::from_secs(60);
/// Nobody answers a client that has this address: the other side has no way back.
const NO_WAY_BACK: &str = "10.214.0.1";
/// There is no way there.
const NO_WAY_THERE: &str = "10.215.0.1";

fn main() -> ExitCode {
    Suite::new("failures")
        .test("refused, IPv4 and IPv6", &[], || {
            fails(&["10.213.0.2"], &[], "refused")?;
            fails(&["fd13::2"], &[], "refused")
        })
        .test("nobody answers", &[], || fails(&["10.213.0.2"], &["--interface", NO_WAY_BACK], "timed_out"))
        .test("no way there", &[], || fails(&[NO_WAY_THERE], &[], "unreachable"))
        .test("given up by the client", &[], || {
            fails(&["10.213.0.2"], &["--interface", NO_WAY_BACK, "--connect-timeout", "0.5"], "abandoned")
        })
        .main()
}

fn fails(hosts: &[&str], options: &[&str], why: &str) -> Result<()> {
    let lab = Lab::new("failures")?;
    let (left, right) = (&lab.pair.left, &lab.pair.right);
    left.ip(&["address", "add", &format!("{NO_WAY_BACK}/32"), "dev", "link0"])?;
    right.ip(&["route", "add", "blackhole", &format!("{NO_WAY_BACK}/32")])?;
    left.ip(&["route", "add", "unreachable", &format!("{NO_WAY_THERE}/32")])?;
    // A second SYN and no more: three seconds instead of two minutes.
    let mut patience = lab.client().command("sh");
    patience.args(["-c", "echo 1 > /proc/sys/net/ipv4/tcp_syn_retries"]);
    lab.run(patience, PATIENCE)?;
    // The other side does not answer an ARP request of an address without a way back, either: so that
    // its SYN is what stays unanswered, the neighbour is known before.
    let mut neighbour = lab.client().command("curl");
    neighbour.args(["-s", &format!("http://10.213.0.2:{}/", PORT + 1)]);
    finish(neighbour, PATIENCE).context("curl")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    for host in hosts {
        let url = if host.contains(':') {
            format!("http://[{host}]:{PORT}/")
        } else {
            format!("http://{host}:{PORT}/")
        };
        let mut curl = lab.client().command("curl");
        curl.args(["-s"]).args(options).arg(url);
        let finished = finish(curl, PATIENCE).context("curl")?;
        ensure!(!finished.status.success(), "curl was answered: {finished:?}");
        let ours = |record: &Value| {
            is_flow(record)
                && text(record, "server.ip") == *host
                && number(record, "server.port") == Some(PORT.into())
                && text(record, "streamwatch.flow.state") == "failed"
        };
        let failed = daemon.wait_for("flow that failed", PATIENCE, is_flow, ours)?;
        let record = &failed.record;
        ensure!(text(record, "streamwatch.flow.failure") == why, "not {why}: {record}");
        ensure!(text(record, "process.name") == "curl", "whose it was is missing: {}", show(record));
        ensure!(
            text(record, "streamwatch.verdict.encrypted.answer") == "unknown",
            "something is said of bytes that never were: {}",
            show(record)
        );
        let told = daemon.heard().iter().filter(|heard| ours(&heard.record)).count();
        ensure!(told == 1, "{told} records of one failure");
    }
    Ok(())
}
