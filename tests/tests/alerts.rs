//! Alerts: what is in the clear, unexpected or broken is said at once, once, and about the right
//! process.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{self, Security};
use tests::{
    Certificates, Daemon, DaemonOptions, Heard, Lab, Place, Suite, field, finish, is_alert, is_flow, number,
    show, text,
};

const PORT: u16 = 34_567;
const CLIENT: Duration = Duration::from_secs(15);
/// For something that comes at once; how soon that is, the latency test prints.
const PATIENCE: Duration = Duration::from_secs(20);
/// For something that must not come.
const QUIET: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    Suite::new("alerts")
        .test("curl to plaintext HTTP on another host is told", &["nginx"], plaintext)
        .test("plaintext on loopback is shown and not alerted", &["nginx"], loopback)
        .test("one alert per stream and rule, however many requests", &["nginx"], once)
        .test("a client that the policy does not name is unexpected", &["nginx"], unexpected_peer)
        .test("a client that the policy names is not", &["nginx"], expected_peer)
        .test("TLS raises no plaintext alert", &["nginx", "openssl"], tls)
        .test("connections that keep being refused are told", &[], connect_failures)
        .test("a service that was not there before is told, once", &["nginx"], new_service)
        .test(
            "a service that was there before, or that the policy names, is not new",
            &["nginx"],
            known_service,
        )
        .main()
}

fn is_alert_of(record: &Value, rule: &str) -> bool {
    is_alert(record) && text(record, "rule.id") == rule && number(record, "server.port") == Some(PORT.into())
}

fn curl(lab: &Lab, place: &Place, arguments: &[&str]) -> Result<()> {
    let mut command = place.command("curl");
    command.args(["-sSf", "-m", "10"]).args(arguments);
    lab.run(command, CLIENT).map(drop)
}

fn url(host: &str) -> String {
    format!("http://{host}:{PORT}/")
}

fn opened(heard: &[Heard], rule: &str) -> Vec<Value> {
    let of_rule = heard.iter().map(|heard| &heard.record).filter(|record| is_alert_of(record, rule));
    of_rule.filter(|record| text(record, "streamwatch.alert.state") == "opened").cloned().collect()
}

fn list(records: &[Value]) -> String {
    records.iter().map(show).collect::<Vec<_>>().join("\n  ")
}

fn plaintext() -> Result<()> {
    let lab = Lab::new("alerts")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    curl(&lab, &lab.client(), &[&url("10.213.0.2")])?;
    let alert =
        daemon.wait_for("plaintext alert", PATIENCE, is_alert, |record| is_alert_of(record, "plaintext"))?;
    let record = &alert.record;
    ensure!(text(record, "event.kind") == "alert", "event.kind: {record}");
    ensure!(text(record, "streamwatch.alert.state") == "opened", "not opened: {record}");
    ensure!(text(record, "process.name") == "curl", "process.name is not curl: {record}");
    ensure!(text(record, "server.ip") == "10.213.0.2", "server.ip: {record}");
    // Another host, in private address space: high.
    ensure!(number(record, "event.severity") == Some(3), "event.severity is not 3: {record}");
    for name in
        ["rule.name", "rule.description", "event.reason", "streamwatch.alert.key", "streamwatch.alert.remedy"]
    {
        ensure!(!text(record, name).is_empty(), "no {name}: {record}");
    }
    thread::sleep(QUIET);
    let all = opened(&daemon.heard(), "plaintext");
    ensure!(all.len() == 1, "{} plaintext alerts for one stream:\n  {}", all.len(), list(&all));
    let listed = daemon.list("/v1/alerts")?;
    let found = listed.iter().filter(|alert| is_alert_of(alert, "plaintext")).count();
    ensure!(found == 1, "GET /v1/alerts lists it {found} times:\n  {}", list(&listed));
    Ok(())
}

fn loopback() -> Result<()> {
    let lab = Lab::new("alerts")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    curl(&lab, &lab.server(), &[&url("127.0.0.1"), &url("[::1]")])?;
    for host in ["127.0.0.1", "::1"] {
        daemon.wait_for("flow in the clear", PATIENCE, is_flow, |record| {
            is_flow(record)
                && text(record, "server.ip") == host
                && text(record, "streamwatch.verdict.encrypted.answer") == "no"
        })?;
    }
    thread::sleep(QUIET);
    let all = opened(&daemon.heard(), "plaintext");
    ensure!(all.is_empty(), "alerted:\n  {}", list(&all));
    Ok(())
}

fn once() -> Result<()> {
    let lab = Lab::new("alerts")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    let url = url("10.213.0.2");
    // Fifty requests on one connection, twenty times.
    let many = vec![url.as_str(); 50];
    for _ in 0..20 {
        curl(&lab, &lab.client(), &many)?;
    }
    daemon.wait_for("plaintext alert", PATIENCE, is_alert, |record| is_alert_of(record, "plaintext"))?;
    thread::sleep(QUIET);
    let heard = daemon.heard();
    let all = opened(&heard, "plaintext");
    // One about clients that were gone before anybody looked is another one, and one as well.
    let known = all.iter().filter(|alert| !text(alert, "streamwatch.alert.key").contains('?')).count();
    ensure!(known == 1 && all.len() <= 2, "{} plaintext alerts for one stream:\n  {}", all.len(), list(&all));
    let lines = heard.iter().filter(|heard| is_alert_of(&heard.record, "plaintext")).count();
    ensure!(lines <= 10, "{lines} lines about one alert in a few seconds");
    Ok(())
}

/// A policy with one service at [`PORT`] and one client process.
fn policy(client: &str) -> DaemonOptions {
    let text = format!(
        "[[service]]\nname = \"web\"\nports = [{PORT}]\n[[service.client]]\nprocess = \"{client}\"\n"
    );
    DaemonOptions { policy: Some(text), ..DaemonOptions::default() }
}

fn unexpected_peer() -> Result<()> {
    let lab = Lab::new("alerts")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, policy("payments"))?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    curl(&lab, &lab.client(), &[&url("10.213.0.2")])?;
    let alert = daemon.wait_for("unexpected-peer alert", PATIENCE, is_alert, |record| {
        is_alert_of(record, "unexpected-peer")
    })?;
    ensure!(text(&alert.record, "process.name") == "curl", "process.name is not curl: {}", alert.record);
    daemon.wait_for("flow that is not authorised", PATIENCE, is_flow, |record| {
        is_flow(record) && text(record, "streamwatch.verdict.authorised.answer") == "no"
    })?;
    Ok(())
}

fn expected_peer() -> Result<()> {
    let lab = Lab::new("alerts")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, policy("curl"))?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    curl(&lab, &lab.client(), &[&url("10.213.0.2")])?;
    daemon.wait_for("flow that is authorised", PATIENCE, is_flow, |record| {
        is_flow(record) && text(record, "streamwatch.verdict.authorised.answer") == "yes"
    })?;
    thread::sleep(QUIET);
    let all = opened(&daemon.heard(), "unexpected-peer");
    ensure!(all.is_empty(), "alerted:\n  {}", list(&all));
    Ok(())
}

fn tls() -> Result<()> {
    let lab = Lab::new("alerts")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Tls)?;
    let url = format!("https://10.213.0.2:{PORT}/");
    curl(&lab, &lab.client(), &["--cacert", &certificates.authority, &url])?;
    daemon.wait_for("encrypted flow", PATIENCE, is_flow, |record| {
        is_flow(record) && text(record, "streamwatch.verdict.encrypted.answer") == "yes"
    })?;
    thread::sleep(QUIET);
    let all = opened(&daemon.heard(), "plaintext");
    ensure!(all.is_empty(), "alerted:\n  {}", list(&all));
    Ok(())
}

fn connect_failures() -> Result<()> {
    let lab = Lab::new("alerts")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    // More than any sensible threshold for "keep failing".
    for _ in 0..30 {
        let mut command = lab.client().command("curl");
        command.args(["-s", "-m", "5", &url("10.213.0.2")]);
        let finished = finish(command, CLIENT).context("curl")?;
        ensure!(finished.status.code() == Some(7), "curl was not refused: {finished:?}");
    }
    let failed = daemon.wait_for("flow that failed", PATIENCE, is_flow, |record| {
        is_flow(record)
            && text(record, "streamwatch.flow.state") == "failed"
            && text(record, "process.name") == "curl"
            && number(record, "server.port") == Some(PORT.into())
    })?;
    ensure!(
        field(&failed.record, "server.bytes").as_u64().unwrap_or(0) == 0,
        "bytes of nobody: {}",
        failed.record
    );
    daemon.wait_for(
        "connect-failures alert",
        PATIENCE,
        |record| !is_flow(record),
        |record| is_alert_of(record, "connect-failures") && text(record, "process.name") == "curl",
    )?;
    let all = opened(&daemon.heard(), "connect-failures");
    ensure!(all.len() == 1, "{} alerts for one stream:\n  {}", all.len(), list(&all));
    Ok(())
}

fn new_service() -> Result<()> {
    let lab = Lab::new("alerts")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let nginx = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    let of_nginx = |record: &Value| {
        is_alert(record)
            && text(record, "rule.id") == "new-service"
            && text(record, "process.name") == "nginx"
            && number(record, "server.port") == Some(PORT.into())
    };
    daemon.wait_for("new-service alert", PATIENCE, is_alert, of_nginx)?;
    // The same service, started anew, is not news.
    drop(nginx);
    let _again = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    curl(&lab, &lab.client(), &[&url("10.213.0.2")])?;
    daemon.wait_for("plaintext alert", PATIENCE, is_alert, |record| is_alert_of(record, "plaintext"))?;
    thread::sleep(QUIET);
    let all = opened(&daemon.heard(), "new-service");
    ensure!(all.len() == 1, "{} alerts for one service:\n  {}", all.len(), list(&all));
    Ok(())
}

fn known_service() -> Result<()> {
    let lab = Lab::new("alerts")?;
    let certificates = Certificates::new(&lab.directory)?;
    let before = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    let silent = |daemon: &Daemon| {
        curl(&lab, &lab.client(), &[&url("10.213.0.2")])?;
        daemon.wait_for("plaintext alert", PATIENCE, is_alert, |record| is_alert_of(record, "plaintext"))?;
        thread::sleep(QUIET);
        let all = opened(&daemon.heard(), "new-service");
        ensure!(all.is_empty(), "alerted:\n  {}", list(&all));
        Ok(())
    };
    silent(&Daemon::start(&lab, DaemonOptions::default())?).context("there before")?;
    drop(before);
    let daemon = Daemon::start(&lab, policy("curl"))?;
    let _after = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    silent(&daemon).context("in the policy")
}
