//! Log-ins that fail are told, by the servers' own answers, and that a guess worked; ordinary ones are not; and
//! no secret that crossed the wire is in anything that the daemon says.

#[path = "log_ins/services.rs"]
mod services;

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use services::{REFUSALS, ROWS, Refusal, Row};
use tests::guesses::{PORT, about, alerts, is_ours, list, wrong};
use tests::servers::guarded;
use tests::{Certificates, Daemon, DaemonOptions, Lab, Suite, finish, no_secret, number, show, text};

const HOST: &str = "10.213.0.2";
/// The slowest client on a busy host.
const CLIENT: Duration = Duration::from_secs(40);
/// From the last answer to the alert, on a busy host.
const SOON: Duration = Duration::from_secs(20);
/// More than the threshold.
const TIMES: usize = 6;

fn main() -> ExitCode {
    let mut suite = Suite::new("log_ins");
    for row in ROWS {
        suite = suite
            .test(&format!("guessing is told, and a guess that works: {}", row.name), row.programs, || {
                guess(row)
            })
            .test(&format!("right passwords are no failures: {}", row.name), row.programs, || right(row));
    }
    for refusal in REFUSALS {
        let name = format!("who is refused again and again is told: {}", refusal.name);
        suite = suite.test(&name, refusal.programs, || refused(refusal));
    }
    for (version, presented, told) in [
        ("1.2", true, "TLS alert unknown_ca"),
        ("1.2", false, "TLS alert handshake_failure, without a certificate"),
        ("1.3", false, "TLS alert, encrypted, without a certificate (inferred)"),
    ] {
        let what = if presented { "with a certificate of their own making" } else { "without a certificate" };
        let name = format!("clients {what} that are refused are told, TLS {version}");
        suite = suite.test(&name, &["openssl", "curl"], move || uncertified(version, presented, told));
    }
    suite
        .test("an encrypted refusal of a certificate is told as a failed handshake", &["openssl", "curl"], {
            || handshakes("1.3", true, "connect-failures", "the server's alert, which is encrypted").map(drop)
        })
        .test("right certificates are no failures", &["openssl", "curl"], certified)
        .main()
}

fn guess(row: &'static Row) -> Result<()> {
    let lab = Lab::new("log_ins")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = (row.server)(&lab, PORT)?;
    for n in 0..TIMES {
        let refused = finish((row.client)(&lab, &wrong(n)), CLIENT)?;
        ensure!(!refused.status.success(), "a wrong password was let in: {refused:?}");
    }
    let told = daemon.wait_for("auth-failures", SOON, is_ours, |record| about(record, "auth-failures"))?;
    let record = &told.record;
    ensure!(
        text(record, "event.reason").contains(row.code),
        "not {}: {}",
        row.code,
        text(record, "event.reason")
    );
    ensure!(text(record, "process.name").starts_with(row.process), "process.name: {record}");
    ensure!(number(record, "event.severity") == Some(3), "event.severity is not 3: {record}");
    lab.run((row.client)(&lab, guarded::RIGHT), CLIENT).context("the right password")?;
    daemon.wait_for("a guess that worked", SOON, is_ours, |record| {
        about(record, "auth-failures")
            && text(record, "event.reason").contains("the guess worked")
            && number(record, "event.severity") == Some(4)
    })?;
    let opened = alerts(&daemon, "auth-failures");
    ensure!(opened.len() <= 3, "{} lines about one stream:\n  {}", opened.len(), list(&opened));
    if row.clear {
        daemon
            .wait_for("credential-in-clear", SOON, is_ours, |record| about(record, "credential-in-clear"))?;
    } else {
        let told = alerts(&daemon, "credential-in-clear");
        ensure!(told.is_empty(), "no password crossed in the clear:\n  {}", list(&told));
    }
    no_secret(daemon)
}

fn right(row: &'static Row) -> Result<()> {
    let lab = Lab::new("log_ins")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = (row.server)(&lab, PORT)?;
    for _ in 0..TIMES {
        lab.run((row.client)(&lab, guarded::RIGHT), CLIENT)?;
    }
    closed(&daemon, TIMES)?;
    let told = alerts(&daemon, "auth-failures");
    ensure!(told.is_empty(), "told of right passwords:\n  {}", list(&told));
    no_secret(daemon)
}

/// What is told of the last flow: by then everything about those before it has been.
fn closed(daemon: &Daemon, times: usize) -> Result<()> {
    daemon.wait_until("the flows", SOON, is_ours, |heard| {
        let closed = heard.iter().filter(|heard| {
            text(&heard.record, "event.action") == "flow_closed"
                && number(&heard.record, "server.port") == Some(PORT.into())
                && text(&heard.record, "network.direction") == "egress"
        });
        (closed.count() >= times).then_some(())
    })
}

/// Nobody is let in, whatever he presents.
fn refused(refusal: &'static Refusal) -> Result<()> {
    let lab = Lab::new("log_ins")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = (refusal.server)(&lab, PORT)?;
    for _ in 0..TIMES {
        let refused = finish((refusal.client)(&lab), CLIENT)?;
        ensure!(!refused.status.success(), "it was let in: {refused:?}");
    }
    let told = daemon.wait_for("auth-failures", SOON, is_ours, |record| about(record, "auth-failures"))?;
    let (record, reason) = (&told.record, text(&told.record, "event.reason"));
    ensure!(reason.contains(refusal.code) && reason.contains(refusal.says), "{reason}");
    ensure!(number(record, "event.severity") == Some(refusal.severity), "event.severity: {}", show(record));
    let told = alerts(&daemon, "auth-failures");
    ensure!(!list(&told).contains("the guess worked"), "nobody was let in:\n  {}", list(&told));
    no_secret(daemon)
}

/// A client whom a server that wants a certificate turns away.
fn uncertified(version: &str, presented: bool, told: &str) -> Result<()> {
    let told = handshakes(version, presented, "auth-failures", told)?;
    let severity = number(&told, "event.severity");
    ensure!(severity == Some(if presented { 3 } else { 1 }), "event.severity: {}", show(&told));
    Ok(())
}

/// [`TIMES`] handshakes that fail, and the alert about them.
fn handshakes(version: &str, presented: bool, rule: &str, says: &str) -> Result<Value> {
    let lab = Lab::new("log_ins")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = guarded::openssl(&lab, &certificates, PORT)?;
    let identity = if presented { Some(stranger(&lab)?) } else { None };
    for _ in 0..TIMES {
        let finished = finish(https(&lab, &certificates, version, identity.as_ref()), CLIENT)?;
        ensure!(!finished.status.success(), "it was let in: {finished:?}");
    }
    let told = daemon.wait_for(rule, SOON, is_ours, |record| about(record, rule))?;
    let reason = text(&told.record, "event.reason");
    ensure!(reason.contains(says), "not {says:?}: {reason}");
    Ok(told.record)
}

fn certified() -> Result<()> {
    let lab = Lab::new("log_ins")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = guarded::openssl(&lab, &certificates, PORT)?;
    let identity = [certificates.client_certificate.clone(), certificates.client_key.clone()];
    for n in 0..TIMES {
        let version = if n % 2 == 0 { "1.2" } else { "1.3" };
        lab.run(https(&lab, &certificates, version, Some(&identity)), CLIENT)?;
    }
    closed(&daemon, TIMES)?;
    for rule in ["auth-failures", "connect-failures"] {
        let told = alerts(&daemon, rule);
        ensure!(told.is_empty(), "told of right certificates:\n  {}", list(&told));
    }
    Ok(())
}

fn https(lab: &Lab, certificates: &Certificates, version: &str, identity: Option<&[String; 2]>) -> Command {
    let mut client = lab.client().command("curl");
    client.args(["-sS", "-o", "/dev/null", "-m", "20", "--cacert", &certificates.authority]);
    client.args([&format!("--tlsv{version}"), "--tls-max", version]);
    if let Some([certificate, key]) = identity {
        client.args(["--cert", certificate, "--key", key]);
    }
    client.arg(format!("https://{HOST}:{PORT}/"));
    client
}

/// A certificate that no authority vouches for, and its key.
fn stranger(lab: &Lab) -> Result<[String; 2]> {
    let [certificate, key] = ["stranger.pem", "stranger.key"].map(|name| lab.directory.file(name));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=stranger"]);
    make.args(["-keyout", &key, "-out", &certificate]);
    finish(make, CLIENT)?.success()?;
    Ok([certificate, key])
}
