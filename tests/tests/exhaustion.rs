//! A user without privileges who wants to make bytes vanish: by using up the memory that the kernel keeps a
//! socket's notes in, and by opening sockets as fast as it can. What passed is counted to the byte; what was
//! refused or lost is counted and alerted. And a cgroup that makes so many connections that the ring fills.

#[path = "exhaustion/full.rs"]
mod full;

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{self, Security, python};
use tests::stages::each_stage_got_what_the_one_before_gave;
use tests::traffic::{self, Connection};
use tests::{
    Certificates, Daemon, DaemonOptions, Lab, Process, Stopped, Suite, is_alert, is_flow, is_loss, number,
    text,
};

const PORT: u16 = 34_680;
const PATIENCE: Duration = Duration::from_secs(60);
const USER: &str = "daemon";

fn main() -> ExitCode {
    Suite::new("exhaustion")
        .test(
            "a socket without room for notes: every byte is counted, the refusal is alerted",
            &["setpriv"],
            full::clients,
        )
        .test("the same of UDP: every byte is counted as of no flow, and alerted", &["setpriv"], full::udp)
        .test("… of the socket of a server: the same", &["setpriv"], full::udp_server)
        .test(
            "… and of one that listens, with those that it accepts: every byte",
            &["setpriv"],
            full::listener,
        )
        .test("sockets as fast as it can: every byte is counted", &["setpriv"], fast)
        .test("a noisy cgroup leaves others their share of the ring", &["nginx", "openssl"], share)
        .main()
}

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
    each_stage_got_what_the_one_before_gave(&daemon, PATIENCE, |_| Vec::new()).map(drop)
}

/// A few connections of somebody who makes no noise: in the clear and encrypted.
const QUIET: &str = r#"
import http.client, ssl, sys
host, plain, secure, count = sys.argv[1], *(int(it) for it in sys.argv[2:])
trusting = ssl._create_unverified_context()
for _ in range(count):
    for it in [
        http.client.HTTPConnection(host, plain, timeout=30),
        http.client.HTTPSConnection(host, secure, timeout=30, context=trusting),
    ]:
        it.request("GET", "/")
        it.getresponse().read()
        it.close()
"#;

/// While nobody reads the ring, one cgroup makes many times as many connections as the ring has room for. What
/// another makes afterwards is seen as if nothing were the matter.
fn share() -> Result<()> {
    const NOISE: u32 = 12_000;
    const QUIET_CONNECTIONS: usize = 3;
    let (plain, secure) = (34_682, 34_683);
    let lab = Lab::new("exhaustion")?;
    let (noisy, quiet) = (lab.cgroup.child("noisy")?, lab.cgroup.child("quiet")?);
    let certificates = Certificates::new(&lab.directory)?;
    let _plain = servers::nginx(&lab, &certificates, plain, Security::Plain)?;
    let _secure = servers::nginx(&lab, &certificates, secure, Security::Tls13)?;
    let mut outside = lab.server();
    outside.cgroup = None;
    let (taken, made) = (lab.directory.file("server.log"), lab.directory.file("client.log"));
    let mut command = outside.command(traffic::program());
    command.args(["serve", "--listen", &format!("[::]:{PORT}"), "--log", &taken]);
    let mut server = Process::start("serve", &lab.directory, command)?;
    server.wait_for_port("tcp", PORT, PATIENCE)?;

    // A queue that takes what comes at one go, however busy whoever reads the records is.
    let config =
        "[kernel]\nring_bytes = 4194304\n[pipeline]\nsink_queue = 65536\n[memory]\nlimit_mib = 512\n";
    let daemon =
        Daemon::start(&lab, DaemonOptions { config: Some(config.into()), ..DaemonOptions::default() })?;
    {
        let _stopped = Stopped::new(daemon.pid())?;
        let mut place = lab.client();
        place.cgroup = Some(noisy.path().to_owned());
        let mut command = place.command(traffic::program());
        command.args(["load", "--count", &NOISE.to_string(), "--largest", "1000", "--parallel", "4"]);
        command.args(["--to", &format!("10.213.0.2:{PORT}"), "--log", &made]);
        lab.run(command, 2 * PATIENCE)?;
        place.cgroup = Some(quiet.path().to_owned());
        let mut command = place.command(python());
        command.args(["-c", QUIET, "10.213.0.2"]);
        command.args([usize::from(plain), usize::from(secure), QUIET_CONNECTIONS].map(|it| it.to_string()));
        lab.run(command, PATIENCE)?;
    }
    let made = traffic::read_log::<Connection>(&made)?;
    let of_port = |record: &Value, port: u16| is_end(record) && record["server"]["port"] == port;
    daemon.wait_until("the ends of all connections", 2 * PATIENCE, is_end, |heard| {
        let ends = |port: u16| heard.iter().filter(|heard| of_port(&heard.record, port)).count();
        let quiet = 2 * QUIET_CONNECTIONS;
        (ends(PORT) >= made.len() && ends(plain) >= quiet && ends(secure) >= quiet).then_some(())
    })?;
    let status = each_stage_got_what_the_one_before_gave(&daemon, PATIENCE, |_| Vec::new())?;
    // Otherwise the test would prove less than it says.
    let rows = status["loss"].as_array().context("no losses")?;
    for kind in ["capture", "open"] {
        let row =
            rows.iter().find(|row| row["stage"] == "kernel" && row["kind"] == kind).context("no row")?;
        let number = |name: &str| row[name].as_u64().unwrap_or_default();
        ensure!(number("lost") > u64::from(NOISE) / 10, "the ring had room: {row}");
    }
    // Whom that was, is told when it begins and when it is over; the other cgroup is not.
    let of_noisy = std::fs::metadata(noisy.path())?.ino();
    let of_ring = |record: &Value, action: &str| {
        text(record, "event.action") == action && text(record, "streamwatch.throttle.of") == "ring"
    };
    for action in ["throttling_started", "throttling_stopped"] {
        daemon.wait_for(
            action,
            PATIENCE,
            |record| of_ring(record, action),
            |record| of_ring(record, action) && record["streamwatch"]["throttle"]["cgroup"] == of_noisy,
        )?;
    }
    let of_quiet = std::fs::metadata(quiet.path())?.ino();
    let wrong = daemon.count(|record| record["streamwatch"]["throttle"]["cgroup"] == of_quiet);
    ensure!(wrong == 0, "the quiet cgroup is said to be throttled");
    let ended = daemon.stop()?;
    let ends: Vec<&Value> = ended.heard.iter().map(|heard| &heard.record).filter(|it| is_end(it)).collect();
    let noise: Vec<&Value> = ends.iter().copied().filter(|record| of_port(record, PORT)).collect();
    ensure!(noise.len() == made.len(), "{} ends of {} connections", noise.len(), made.len());
    let sum = |name: &str| noise.iter().filter_map(|record| number(record, name)).sum::<u64>();
    let client: u64 = made.iter().map(|connection| connection.client_bytes).sum();
    let server: u64 = made.iter().map(|connection| connection.server_bytes).sum();
    ensure!((sum("client.bytes"), sum("server.bytes")) == (client, server), "bytes of the noise are missing");
    for (port, encrypted) in [(plain, "no"), (secure, "yes")] {
        for record in ends.iter().filter(|record| of_port(record, port)) {
            let reason = text(record, "streamwatch.verdict.encrypted.reason");
            // Where it goes may not be known by its end, while other tests make tunnels: what it holds is.
            let is_known = text(record, "streamwatch.verdict.encrypted.answer") == encrypted
                || encrypted == "no" && reason.contains("(inside: http in the clear)");
            ensure!(is_known, "{record}");
            ensure!(text(record, "streamwatch.verdict.watched.answer") == "yes", "{record}");
        }
    }
    Ok(())
}

fn is_end(record: &Value) -> bool {
    is_flow(record) && text(record, "event.action") == "flow_closed"
}
