//! A user without privileges who wants to make bytes vanish: by using up the memory that the kernel keeps a
//! socket's notes in, and by opening sockets as fast as it can. What passed is counted to the byte; what was
//! refused or lost is counted and alerted.

use std::io::{BufRead, BufReader, Write};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::python;
use tests::traffic;
use tests::{Daemon, DaemonOptions, Lab, Process, Suite, is_alert, is_loss, text};

const PORT: u16 = 34_680;
const PATIENCE: Duration = Duration::from_secs(60);
const USER: &str = "daemon";

fn main() -> ExitCode {
    Suite::new("exhaustion")
        .test(
            "a socket without room for notes: every byte is counted, the refusal is alerted",
            &["setpriv"],
            full,
        )
        .test("sockets as fast as it can: every byte is counted", &["setpriv"], fast)
        .main()
}

/// Makes sockets, fills their option memory with keys for peers that nobody has (TCP_MD5SIG, which needs no
/// privilege), and waits. Then it connects, sends, and closes.
const FULL: &str = r#"
import socket, struct, sys
host, port, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
made = []
for _ in range(count):
    it = socket.socket()
    keys = 0
    try:
        while keys < 4096:
            address = struct.pack("=HH4s", socket.AF_INET, 0, bytes([127, 9, keys >> 8, keys & 255])).ljust(128, b"\0")
            it.setsockopt(socket.IPPROTO_TCP, 14, address + struct.pack("=BBHiI", 0, 0, 1, 0, 0) + b"k".ljust(80, b"\0"))
            keys += 1
    except OSError:
        pass
    made.append((it, keys))
print(min(keys for _, keys in made), flush=True)
sys.stdin.readline()
for it, _ in made:
    it.connect((host, port))
    it.sendall(b"x" * size)
    it.shutdown(socket.SHUT_WR)
    got = 0
    while chunk := it.recv(65536):
        got += len(chunk)
    assert got == size, got
    it.close()
"#;

fn echo(lab: &Lab) -> Result<Process> {
    // Outside the watched cgroup: what the client's end loses nobody else makes up for.
    let mut place = lab.server();
    place.cgroup = None;
    let mut command = place.command(traffic::program());
    command.args(["echo", "--listen", &format!("[::]:{PORT}")]);
    let mut server = Process::start("echo", &lab.directory, command)?;
    server.wait_for_port("tcp", PORT, PATIENCE)?;
    Ok(server)
}

fn totals(daemon: &Daemon) -> Result<(u64, u64)> {
    let status = daemon.status()?;
    let of = |name: &str| status["totals"][name].as_u64().with_context(|| format!("no {name}: {status}"));
    Ok((of("client_bytes")?, of("server_bytes")?))
}

fn wait_for_totals(daemon: &Daemon, wanted: (u64, u64)) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counted = totals(daemon)?;
        if counted == wanted {
            return Ok(());
        }
        ensure!(counted.0 <= wanted.0 && counted.1 <= wanted.1, "{counted:?} are more than {wanted:?}");
        ensure!(
            Instant::now() < deadline,
            "{counted:?} of {wanted:?} bytes are counted: {}",
            daemon.status()?
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn full() -> Result<()> {
    const SIZE: u64 = 30_000;
    const COUNT: u64 = 20;
    let lab = Lab::new("exhaustion")?;
    let _server = echo(&lab)?;
    // The sockets are there before the daemon is: later ones get their notes when they are made.
    let mut command = lab.client().as_user(USER).command(python());
    command.args(["-c", FULL, "10.213.0.2", &PORT.to_string(), &SIZE.to_string(), &COUNT.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut attacker = Process::start_piped("attacker", command)?;
    let mut said = String::new();
    let stdout = attacker.child().stdout.take().context("no stdout")?;
    BufReader::new(stdout).read_line(&mut said)?;
    let keys: u32 = said.trim().parse().with_context(|| format!("the attacker said {said:?}"))?;
    ensure!((1..4096).contains(&keys), "the option memory was not used up: {keys} keys");

    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    attacker.take_stdin()?.write_all(b"now\n")?;
    ensure!(attacker.wait(PATIENCE)?.success(), "the attacker's connections failed");
    wait_for_totals(&daemon, (COUNT * SIZE, COUNT * SIZE))?;

    let of_storage = |row: &Value| row["kind"] == "socket_storage" && row["lost"].as_u64() >= Some(COUNT);
    let refused = |record: &Value| {
        is_loss(record)
            && record.pointer("/streamwatch/loss/rows").and_then(Value::as_array).is_some_and(|rows| {
                rows.iter().any(|row| row["kind"] == "socket_storage" && row["lost"].as_u64() > Some(0))
            })
    };
    daemon.wait_for("the loss record", PATIENCE, is_loss, refused)?;
    daemon.wait_for("the alert", PATIENCE, is_alert, |record| {
        is_alert(record) && text(record, "rule.id") == "evidence-lost"
    })?;
    let status = daemon.status()?;
    let rows = status["loss"].as_array().context("no losses")?;
    ensure!(rows.iter().any(of_storage), "the refusals are not counted: {rows:?}");
    // What was not seen is not called seen.
    for flow in daemon.list("/v1/flows")?.iter().filter(|flow| flow["server"]["port"] == PORT) {
        ensure!(text(flow, "streamwatch.verdict.watched.answer") == "no", "{flow}");
        ensure!(text(flow, "streamwatch.verdict.encrypted.answer") == "unknown", "{flow}");
    }
    Ok(())
}

/// Opens sockets as fast as it can, most of them for nothing; every hundredth carries a known number of bytes.
const FAST: &str = r#"
import socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sent = 0
for n in range(count):
    kind = socket.SOCK_STREAM if n % 2 else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as it:
        if n % 100 == 1:
            it.connect((host, port))
            it.sendall(b"y" * 1000)
            it.shutdown(socket.SHUT_WR)
            got = 0
            while chunk := it.recv(65536):
                got += len(chunk)
            assert got == 1000, got
            sent += 1000
print(sent)
"#;

fn fast() -> Result<()> {
    const COUNT: u64 = 50_000;
    let lab = Lab::new("exhaustion")?;
    let _server = echo(&lab)?;
    // The smallest ring there is: what it has no room for is lost, and no byte with it.
    let config = "[kernel]\nring_bytes = 4096\n";
    let daemon =
        Daemon::start(&lab, DaemonOptions { config: Some(config.into()), ..DaemonOptions::default() })?;
    let mut command = lab.client().as_user(USER).command(python());
    command.args(["-c", FAST, "10.213.0.2", &PORT.to_string(), &COUNT.to_string()]);
    let said = lab.run(command, PATIENCE)?.stdout;
    let sent: u64 = said.trim().parse().with_context(|| said.clone())?;
    ensure!(sent == COUNT / 100 * 1000, "{sent}");
    wait_for_totals(&daemon, (sent, sent))?;
    let status = daemon.status()?;
    for row in status["loss"].as_array().context("no losses")? {
        let number = |name: &str| row[name].as_u64().unwrap_or_default();
        ensure!(number("offered") == number("delivered") + number("lost"), "{row}");
    }
    Ok(())
}
