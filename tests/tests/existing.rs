//! Connections that were there before the daemon: found, with their owners, marked, and what their
//! later bytes show still counts.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{self, Security};
use tests::traffic;
use tests::{
    Certificates, Cgroup, Daemon, DaemonOptions, Lab, Place, Process, Suite, field, is_flow, number, show,
    text,
};

const PORT: u16 = 34_567;
/// The end of a connection from before, where both ends close at once, shows when all sockets are looked at:
/// every half a minute on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sent, and back again, before the daemon starts.
const BEFORE: &[u8] = b"said before\n";

fn main() -> ExitCode {
    Suite::new("existing")
        .test("a plaintext connection is found, marked, and seen for what it is", &[], plaintext)
        .test("a connection that is busy while the daemon starts is marked, too", &[], busy)
        .test("a TLS connection is found, marked, and never called plaintext", &["openssl"], tls)
        .test("only what is within the watched cgroup is found", &[], outside)
        .main()
}

fn of_connection(record: &Value, direction: &str) -> bool {
    is_flow(record)
        && number(record, "server.port") == Some(PORT.into())
        && text(record, "network.direction") == direction
}

fn marked(record: &Value) -> bool {
    field(record, "streamwatch.flow.before_start") == &Value::Bool(true)
}

/// An echo server, a client that holds a connection to it, and the client's stdin.
fn held_connection(lab: &Lab) -> Result<(Process, Process, ChildStdin)> {
    held_at(lab, lab.cgroup.path(), PORT)
}

/// The same, both ends in that cgroup.
fn held_at(lab: &Lab, cgroup: &Path, port: u16) -> Result<(Process, Process, ChildStdin)> {
    let within = |place: Place| Place { cgroup: Some(cgroup.to_owned()), ..place };
    let mut serve = within(lab.server()).command(traffic::program());
    serve.args(["echo", "--listen", &format!("[::]:{port}")]);
    let mut server = Process::start("echo", &lab.directory, serve)?;
    server.wait_for_port("tcp", port, PATIENCE)?;
    let mut hold = within(lab.client()).command(traffic::program());
    hold.args(["hold", "--to", &format!("[fd13::2]:{port}")]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = Process::start_piped("hold", hold)?;
    let mut stdin = client.take_stdin()?;
    stdin.write_all(BEFORE)?;
    // Back again: the connection stands, and everything said so far has arrived.
    let mut back = BufReader::new(client.child().stdout.take().context("hold has no stdout")?);
    back.read_line(&mut String::new())?;
    thread::spawn(move || std::io::copy(&mut back, &mut std::io::sink()));
    thread::sleep(Duration::from_millis(200));
    Ok((server, client, stdin))
}

/// Waits until both ends are judged to be in the clear. Another test may just make tunnels: then which way packets go is
/// asked first, and one that ends before the answer comes is unknown.
fn in_the_clear(daemon: &Daemon) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let flows = daemon.list("/v1/flows")?;
        let judged = |direction| {
            flows.iter().any(|flow| {
                of_connection(flow, direction) && text(flow, "streamwatch.verdict.encrypted.answer") == "no"
            })
        };
        if judged("egress") && judged("ingress") {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "not in the clear: {flows:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Bytes flow while the hooks come: what is seen first is a packet, not the list of sockets.
fn busy() -> Result<()> {
    let lab = Lab::new("existing")?;
    let (_server, mut client, mut stdin) = held_connection(&lab)?;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) && stdin.write_all(b"said all the time\n").is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
        })
    };
    thread::sleep(Duration::from_millis(300));
    let started = Daemon::start(&lab, DaemonOptions::default()).and_then(|daemon| {
        in_the_clear(&daemon)?;
        Ok(daemon)
    });
    stop.store(true, Ordering::Relaxed);
    let _ = writer.join();
    let daemon = started?;
    client.wait(PATIENCE)?;
    for direction in ["egress", "ingress"] {
        let last = daemon.wait_for("closed flow", PATIENCE, is_flow, |record| {
            of_connection(record, direction) && text(record, "event.action") == "flow_closed"
        })?;
        ensure!(marked(&last.record), "{direction}: not marked: {}", last.record);
        let verdict = field(&last.record, "streamwatch.verdict");
        ensure!(text(verdict, "encrypted.answer") == "no", "{direction}: not in the clear: {verdict}");
        ensure!(
            text(verdict, "watched.answer") != "yes",
            "{direction}: watched, though it was not from its start: {verdict}"
        );
    }
    Ok(())
}

fn plaintext() -> Result<()> {
    let lab = Lab::new("existing")?;
    let (server, mut client, mut stdin) = held_connection(&lab)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    for direction in ["egress", "ingress"] {
        let found = daemon
            .wait_for("flow found at start", PATIENCE, is_flow, |record| of_connection(record, direction))?;
        ensure!(
            text(&found.record, "process.name") == "traffic",
            "{direction}: the owner is missing: {}",
            found.record
        );
        ensure!(marked(&found.record), "{direction}: not marked: {}", found.record);
        let pid = number(&found.record, "process.pid");
        let owner = if direction == "egress" { client.pid() } else { server.pid() };
        ensure!(pid == Some(owner.into()), "{direction}: process.pid is {pid:?}, not {owner}");
    }
    let mut said = 0;
    for number in 0..50 {
        let line = format!("GET /page/{number} HTTP/1.1, or what looks like it\n");
        stdin.write_all(line.as_bytes())?;
        said += line.len() as u64;
        thread::sleep(Duration::from_millis(10));
    }
    in_the_clear(&daemon)?;
    drop(stdin);
    client.wait(PATIENCE)?;
    for direction in ["egress", "ingress"] {
        let last = daemon.wait_for("closed flow", PATIENCE, is_flow, |record| {
            of_connection(record, direction) && text(record, "event.action") == "flow_closed"
        })?;
        let record = &last.record;
        ensure!(
            text(record, "streamwatch.verdict.encrypted.answer") == "no",
            "{direction}: not in the clear: {}",
            show(record)
        );
        // Whether the bytes from before count is not promised; those since then do.
        let before = BEFORE.len() as u64;
        for end in ["client.bytes", "server.bytes"] {
            let bytes = number(record, end).unwrap_or(0);
            ensure!(
                (said..=said + before).contains(&bytes),
                "{direction}: {end} is {bytes}, {said} were sent since"
            );
        }
    }
    Ok(())
}

fn tls() -> Result<()> {
    let lab = Lab::new("existing")?;
    let certificates = Certificates::new(&lab.directory)?;
    let _server = servers::openssl(&lab, &certificates, PORT, Security::Tls13)?;
    let mut connect = lab.client().command("openssl");
    connect.args(["s_client", "-quiet", "-no_ign_eof", "-connect", &format!("10.213.0.2:{PORT}")]);
    connect.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = Process::start_piped("s_client", connect)?;
    let mut stdin = client.take_stdin()?;
    thread::sleep(Duration::from_secs(1));
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    daemon.wait_for("flow found at start", PATIENCE, is_flow, |record| {
        of_connection(record, "egress") && marked(record)
    })?;
    // Three records; the server answers the request and closes.
    for line in [&b"hello\r\n"[..], b"hello\r\n", b"GET / HTTP/1.0\r\n\r\n"] {
        stdin.write_all(line)?;
        thread::sleep(Duration::from_millis(200));
    }
    let last = daemon.wait_for("closed flow", PATIENCE, is_flow, |record| {
        of_connection(record, "egress") && text(record, "event.action") == "flow_closed"
    })?;
    let record = &last.record;
    ensure!(text(record, "process.name") == "openssl", "the owner is missing: {}", show(record));
    ensure!(text(record, "network.protocol") == "tls", "TLS records were not seen: {}", show(record));
    ensure!(
        text(record, "streamwatch.verdict.encrypted.answer") != "no",
        "called plaintext: {}",
        show(record)
    );
    ensure!(marked(record), "not marked: {record}");
    Ok(())
}

/// The hooks see nothing of other cgroups: neither may the list of sockets.
fn outside() -> Result<()> {
    let lab = Lab::new("existing")?;
    let inner = lab.cgroup.child("inner.slice")?;
    let other = Cgroup::new("existing-other")?;
    let _within = held_connection(&lab)?;
    let _inner = held_at(&lab, inner.path(), PORT + 1)?;
    let _outside = held_at(&lab, other.path(), PORT + 2)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let ports = || -> Result<BTreeSet<u64>> {
        let flows = daemon.list("/v1/flows")?;
        Ok(flows.iter().filter_map(|flow| number(flow, "server.port")).collect())
    };
    // All were listed at once: with one of them there, the others are, or never come.
    let deadline = Instant::now() + PATIENCE;
    while ports()?.len() < 2 {
        ensure!(Instant::now() < deadline, "found only {:?}", ports()?);
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(Duration::from_secs(1));
    let found = ports()?;
    ensure!(found == BTreeSet::from([PORT.into(), u64::from(PORT) + 1]), "found {found:?}");
    Ok(())
}
