//! Encrypted Client Hello: the name in it is told as the outer one, wherever it is told.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{program, python, tool};
use tests::{
    Certificates, Daemon, DaemonOptions, Lab, Process, binary, field, finish, is_flow, number, text,
};

const PORT: u16 = 34_621;
const PATIENCE: Duration = Duration::from_secs(60);
const OUTER: &str = "public.example";
const INNER: &str = "secret.example";

/// Rust's rustls, with a key of the server's: the name that is asked for is on no wire. OpenSSL cannot read
/// such a hello, answers the outer one, and the client breaks off.
pub fn real() -> Result<()> {
    told(|lab, certificates| {
        let mut client = lab.client().command(tool("tls-peer")?);
        client.args(["ech", &format!("10.213.0.2:{PORT}"), &certificates.authority, OUTER, INNER]);
        Ok(client)
    })
    .map(drop)
}

/// BoringSSL as a browser has it: made up, which nobody can tell from a real one.
pub fn made_up() -> Result<()> {
    let record = told(|lab, _| {
        let mut client = lab.client().command(python());
        client.arg(program("encrypted_hello.py")).args(["10.213.0.2", &PORT.to_string(), OUTER]);
        Ok(client)
    })?;
    ensure!(text(&record, "streamwatch.verdict.encrypted.answer") == "yes", "{record}");
    let reason = text(&record, "streamwatch.verdict.encrypted.reason");
    ensure!(reason.contains(&format!("for {OUTER} (the outer name")), "{reason}");
    let reason = text(&record, "streamwatch.verdict.authenticated.reason");
    ensure!(reason.contains(&format!("`{OUTER}`, which is the outer name")), "{reason}");
    Ok(())
}

/// A hello without: nothing is marked.
pub fn none() -> Result<()> {
    let lab = Lab::new("tls")?;
    let (daemon, _server, _) = watched(&lab)?;
    let mut client = lab.client().command("openssl");
    client.args(["s_client", "-connect", &format!("10.213.0.2:{PORT}"), "-servername", OUTER]);
    finish(client, PATIENCE)?.success()?;
    let record = closed(&daemon)?;
    ensure!(field(&record, "streamwatch.tls.encrypted_client_hello").is_null(), "{record}");
    let streams = wide(&daemon)?;
    ensure!(streams.contains(&format!(", name {OUTER}")) && !streams.contains("outer name"), "{streams}");
    Ok(())
}

fn told(client: impl FnOnce(&Lab, &Certificates) -> Result<Command>) -> Result<Value> {
    let lab = Lab::new("tls")?;
    let (daemon, _server, certificates) = watched(&lab)?;
    lab.run(client(&lab, &certificates)?, PATIENCE)?;
    let record = closed(&daemon)?;
    ensure!(text(&record, "tls.client.server_name") == OUTER, "{record}");
    ensure!(field(&record, "streamwatch.tls.encrypted_client_hello") == &Value::Bool(true), "{record}");
    let streams = wide(&daemon)?;
    ensure!(streams.contains(&format!("outer name (encrypted client hello) {OUTER}")), "{streams}");
    // It stands on the client's command line, and nowhere else.
    let seen = [field(&record, "tls"), field(&record, "streamwatch")].map(Value::to_string).concat();
    ensure!(!seen.contains(INNER), "how is it known? {seen}");
    Ok(record)
}

fn watched(lab: &Lab) -> Result<(Daemon, Process, Certificates)> {
    let certificates = Certificates::new(&lab.directory)?;
    // For the outer name: rustls wants to know whom it breaks off with.
    let (cert, key) = (lab.directory.file("outer.pem"), lab.directory.file("outer.key"));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=outer"]);
    make.args(["-addext", &format!("subjectAltName=DNS:{OUTER}"), "-addext", "basicConstraints=CA:FALSE"]);
    make.args(["-CA", &certificates.authority, "-CAkey", &lab.directory.file("ca.key")]);
    make.args(["-keyout", &key, "-out", &cert]);
    finish(make, PATIENCE)?.success()?;
    let daemon = Daemon::start(lab, DaemonOptions::default())?;
    let mut command = lab.server().command("openssl");
    command.args(["s_server", "-www", "-tls1_3", "-accept", &PORT.to_string(), "-cert", &cert, "-key", &key]);
    let mut server = Process::start("s_server", &lab.directory, command)?;
    server.wait_for_port("tcp", PORT, PATIENCE)?;
    Ok((daemon, server, certificates))
}

/// The client's flow at its end.
fn closed(daemon: &Daemon) -> Result<Value> {
    let wanted = |record: &Value| {
        is_flow(record)
            && number(record, "server.port") == Some(PORT.into())
            && text(record, "network.direction") == "egress"
            && text(record, "event.action") == "flow_closed"
    };
    Ok(daemon.wait_for("closed flow", PATIENCE, is_flow, wanted)?.record)
}

fn wide(daemon: &Daemon) -> Result<String> {
    let mut command = Command::new(binary());
    command.args(["streams", "--wide", "--socket"]).arg(daemon.socket());
    Ok(finish(command, PATIENCE)?.success().context("streams --wide")?.stdout)
}
