//! Datagrams to an address that the host translates, as a container's resolver or the address of a service: one
//! conversation is one flow, with the peer that the program asked for.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{Daemon, DaemonOptions, Lab, Process, Suite, field, finish, is_flow, number, show, text};

/// Where the service is really, and where it is asked for.
const PORT: u16 = 34_590;
const ASKED: u16 = 53;
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends every datagram back, from the addresses and ports that it is told.
const SERVER: &str = "import socket, sys, threading\n\
    def echo(address, port):\n    \
    s = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)\n    \
    s.bind((address, port))\n    \
    while True:\n        \
    data, peer = s.recvfrom(2000)\n        \
    s.sendto(data, peer)\n\
    for i in range(1, len(sys.argv), 2):\n    \
    threading.Thread(target=echo, args=(sys.argv[i], int(sys.argv[i + 1]))).start()\n";

/// Connects to the first address, asks there five times, and asks once at each other address, without connecting.
/// Writes its port.
const CLIENT: &str = "import socket, sys\n\
    to = [(sys.argv[i], int(sys.argv[i + 1])) for i in range(1, len(sys.argv), 2)]\n\
    s = socket.socket(socket.AF_INET6 if ':' in to[0][0] else socket.AF_INET, socket.SOCK_DGRAM)\n\
    s.settimeout(10)\n\
    s.connect(to[0])\n\
    for i in range(5):\n    \
    s.send(b'x' * 100)\n    \
    assert s.recv(2000) == b'x' * 100\n\
    for other in to[1:]:\n    \
    s.sendto(b'x' * 100, other)\n\
    print(s.getsockname()[1])\n";

fn main() -> ExitCode {
    Suite::new("translated")
        .test("a resolver of the same host, as containers have it", &["nft", "python3"], || {
            one_conversation("ip", "127.0.0.11", "127.0.0.11")
        })
        .test("the address of a service elsewhere", &["nft", "python3"], || {
            one_conversation("ip", "10.96.0.10", "10.213.0.2")
        })
        .test("the same with IPv6", &["nft", "python3"], || one_conversation("ip6", "fd96::10", "fd13::2"))
        .test("connected to one, and sent to another: each by itself", &["python3"], sent_elsewhere)
        .main()
}

fn serve(lab: &Lab, place: tests::Place, at: &[(&str, u16)]) -> Result<Process> {
    let mut command = place.command("python3");
    command.args(["-c", SERVER]);
    for (address, port) in at {
        command.args([*address, &port.to_string()]);
    }
    let mut server = Process::start("echo", &lab.directory, command)?;
    for (_, port) in at {
        server.wait_for_port("udp", *port, PATIENCE)?;
    }
    Ok(server)
}

/// The client's port.
fn ask(lab: &Lab, to: &[(&str, u16)]) -> Result<u64> {
    let mut command = lab.client().command("python3");
    command.args(["-c", CLIENT]);
    for (address, port) in to {
        command.args([*address, &port.to_string()]);
    }
    Ok(finish(command, PATIENCE)?.success()?.stdout.trim().parse()?)
}

/// Ends of flows as the client's socket has them.
fn ends(daemon: &Daemon, port: u64, count: usize) -> Result<Vec<Value>> {
    let ours = |record: &Value| {
        is_flow(record)
            && text(record, "network.direction") == "egress"
            && number(record, "source.port") == Some(port)
    };
    let end = |record: &Value| ours(record) && text(record, "event.action") == "flow_closed";
    daemon.wait_until("ends of the flows", PATIENCE, ours, |heard| {
        let ends: Vec<Value> =
            heard.iter().map(|heard| &heard.record).filter(|record| end(record)).cloned().collect();
        (ends.len() >= count).then_some(ends)
    })
}

fn one_conversation(family: &str, asked: &str, real: &str) -> Result<()> {
    let lab = Lab::new("translated")?;
    let loopback = asked == real;
    let at = if loopback { lab.client() } else { lab.server() };
    let rules = format!(
        "add table {family} nat\n\
         add chain {family} nat output {{ type nat hook output priority -100; }}\n\
         add rule {family} nat output {family} daddr {asked} udp dport {ASKED} dnat to {}\n",
        if family == "ip" { format!("{real}:{PORT}") } else { format!("[{real}]:{PORT}") }
    );
    let mut translate = lab.client().command("nft");
    translate.args(["-f", &lab.directory.write("rules", &rules)?]);
    lab.run(translate, PATIENCE)?;
    if !loopback {
        lab.pair.left.ip(&["route", "add", asked, "via", real])?;
    }
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = serve(&lab, at, &[(real, PORT)])?;
    let port = ask(&lab, &[(asked, ASKED)])?;
    let ends = ends(&daemon, port, 1)?;
    ensure!(ends.len() == 1, "one conversation is {} flows: {ends:?}", ends.len());
    let end = &ends[0];
    ensure!(
        text(end, "server.ip") == asked
            && number(end, "server.port") == Some(ASKED.into())
            && number(end, "client.bytes") == Some(500)
            && number(end, "server.bytes") == Some(500),
        "not the whole conversation with {asked}:{ASKED}: {}",
        show(end)
    );
    // What was captured belongs to it: readable, both ways.
    ensure!(
        text(end, "streamwatch.verdict.encrypted.answer") == "no",
        "{}",
        field(end, "streamwatch.verdict.encrypted")
    );
    // Nothing else was made of it.
    let all = daemon.stop()?.heard;
    let others: Vec<&Value> = all
        .iter()
        .map(|heard| &heard.record)
        .filter(|record| is_flow(record) && text(record, "network.direction") == "egress")
        .filter(|record| number(record, "source.port") == Some(port))
        .filter(|record| number(record, "server.port") != Some(ASKED.into()))
        .collect();
    ensure!(others.is_empty(), "another flow was told: {others:?}");
    Ok(())
}

fn sent_elsewhere() -> Result<()> {
    let lab = Lab::new("translated")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let other = PORT + 1;
    let _server = serve(&lab, lab.server(), &[("10.213.0.2", PORT), ("10.213.0.2", other)])?;
    let port = ask(&lab, &[("10.213.0.2", PORT), ("10.213.0.2", other)])?;
    let ends = ends(&daemon, port, 2)?;
    let of = |server: u16| {
        ends.iter()
            .filter(|end| number(end, "server.port") == Some(server.into()))
            .map(|end| (number(end, "client.bytes"), number(end, "server.bytes")))
            .collect::<Vec<_>>()
    };
    ensure!(of(PORT) == [(Some(500), Some(500))], "{ends:?}");
    ensure!(of(other) == [(Some(100), Some(0))], "{ends:?}");
    Ok(())
}
