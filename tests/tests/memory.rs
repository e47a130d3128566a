//! A real daemon, flooded with many more peers, connections, services and records than its tables hold, while nobody reads
//! its output: all that it takes, of both processes and of the kernel, within `memory.limit_mib`. Besides is what the
//! kernel keeps with each socket, and that goes with the socket.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use monitor::config::Config;
use serde_json::Value;
use tests::servers::python;
use tests::stages::disagreements;
use tests::{Daemon, DaemonOptions, Lab, Process, Suite, memory, number};

const PORT: u16 = 34_690;
const PATIENCE: Duration = Duration::from_secs(120);
/// Whose streams, names and alerts have shares of their own.
const USERS: [&str; 5] = ["root", "daemon", "bin", "sys", "mail"];

/// Tables a fraction of the usual ones.
const SMALL: &str = "
[kernel]
ring_bytes = 1048576
udp_flows = 16384
[flows]
capacity = 10000
closed_keep = 1000
[pipeline]
channel = 1024
sink_queue = 4096
[histograms]
streams = 512
";

fn main() -> ExitCode {
    Suite::new("memory")
        .test("flooded: both processes and what the kernel holds for them within the limit", &[], || {
            flooded(SMALL, 8)
        })
        .test("the same with the usual tables: 256 MiB", &[], || flooded("", 3))
        .main()
}

/// Takes connections: answers and closes at one port, keeps what comes at the next; there as several processes, each of
/// which keeps what it may.
const SERVER: &str = r#"
import os, resource, signal, socket, sys
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
def listen(port):
    it = socket.socket()
    it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    it.bind(("0.0.0.0", port))
    it.listen(4096)
    return it
port, processes = int(sys.argv[1]), int(sys.argv[2])
answering, keeping = listen(port), listen(port + 1)
for _ in range(processes):
    if os.fork() == 0:
        kept = []
        while len(kept) < most - 100:
            kept.append(keeping.accept()[0])
        signal.pause()
while True:
    with answering.accept()[0] as one:
        one.recv(65536)
        one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
"#;

/// Connections, each to another service: some that stay open with part of a handshake in them, and some that are in
/// the clear and end. Then datagrams to so many peers, of bytes that are no known protocol.
const FLOOD: &str = r#"
import os, resource, select, socket, sys
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
port, first, peers, open_ones, connections = (int(it) for it in sys.argv[1:])
def address(number):
    return f"127.{10 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
kept = []
for number in range(first, first + open_ones):
    kept.append(socket.create_connection((address(number), port + 1), 30))
    # A record of 16 KiB that has begun.
    kept[-1].sendall(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + os.urandom(1300))
for number in range(first, first + connections):
    with socket.create_connection((address(number), port), 30) as one:
        one.sendall(b"GET /%d HTTP/1.1\r\nHost: h%d.example.org\r\n\r\n" % (number, number))
        while one.recv(4096):
            pass
noise = os.urandom(1200)
for begin in range(first, first + peers, 64):
    # What the kernel counts of its peers goes with the socket.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
        for number in range(begin, begin + 64):
            try:
                it.sendto(noise, (address(number), port + 2))
            except ConnectionRefusedError:
                # Nobody is there, which an earlier one is told by.
                pass
print("all of it was sent", flush=True)
# Whose beginning found no room is heard of by what it sends now.
turn = 0
while not select.select([sys.stdin], [], [], 1)[0]:
    for one in kept[turn:turn + 500]:
        one.sendall(b"x")
    turn = (turn + 500) % len(kept)
"#;

/// `times`: so many more peers than the table of flows holds.
fn flooded(tables: &str, times: u32) -> Result<()> {
    const CONNECTIONS: u32 = 1000;
    let lab = Lab::new("memory")?;
    let (config, text) = limit(&lab, tables)?;
    let options = DaemonOptions { config: Some(text), unread: true, keep: |_| false, ..Default::default() };
    let daemon = Daemon::start(&lab, options)?;
    let watch = memory::Watch::new(&daemon)?;
    let users = USERS.len() as u32;
    let mut server = lab.server().command(python());
    server.args(["-c", SERVER, &PORT.to_string(), &users.to_string()]);
    let mut server = Process::start("server", &lab.directory, server)?;
    server.wait_for_port("tcp", PORT, PATIENCE)?;
    server.wait_for_port("tcp", PORT + 1, PATIENCE)?;
    // Of open connections, of which both ends are flows, as many as the table holds.
    let (peers, open) = (times * config.flows.capacity / users, config.flows.capacity / (2 * users) + 1);
    let mut noise = Vec::new();
    for (number, user) in USERS.iter().enumerate() {
        let mut command: Command = lab.server().as_user(user).command(python());
        let arguments = [PORT.into(), number as u32 * peers, peers, open, CONNECTIONS];
        command.args(["-c", FLOOD]).args(arguments.map(|it| it.to_string()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        noise.push(Process::start_piped(user, command)?);
    }
    for process in &mut noise {
        let said = process.first_line()?;
        ensure!(said == "all of it was sent", "it ended: {said:?}");
    }
    let status = full(&daemon, &config, times / 2)?;
    ensure!(number(&status, "worker.restarts") == Some(0), "the worker ended: {}", daemon.stderr());
    let taken = watch.taken()?;
    let most = u64::from(config.memory.limit_mib) << 20;
    println!("{} of {} MiB: {taken:?}", taken.total() >> 20, most >> 20);
    ensure!(taken.total() <= most, "{} bytes are more than {most}: {taken:?}", taken.total());
    Ok(())
}

/// The tables, and the text that sets them, with the least limit that it may have.
fn limit(lab: &Lab, tables: &str) -> Result<(Config, String)> {
    if tables.is_empty() {
        return Ok((Config::default(), String::new()));
    }
    let read = |text: &str| -> Result<Config> {
        let path = lab.directory.write("streamwatch.toml", text)?;
        Ok(Config::load(Some(path.as_ref()))?)
    };
    let least = read(tables)?.memory().div_ceil(1 << 20);
    let text = format!("{tables}[memory]\nlimit_mib = {least}\n");
    Ok((read(&text)?, text))
}

/// Waits until all of it has been read and the tables are full: otherwise the test would prove less than it says.
fn full(daemon: &Daemon, config: &Config, times: u32) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Where processors are short it may not answer at once.
        let wrong = match daemon.status() {
            Ok(status) => {
                let mut wrong = disagreements(&status).unwrap_or_else(|error| vec![error.to_string()]);
                let of = |name: &str| number(&status, name).unwrap_or(0);
                let (open, seen) = (of("flows.open"), of("flows.seen"));
                let most = u64::from(config.flows.capacity);
                if open < most * 9 / 10 || seen < u64::from(times) * most + most / 2 {
                    wrong.push(format!("{open} flows of {seen} are held"));
                }
                let rows = status["loss"].as_array().into_iter().flatten();
                let lost = rows.filter(|row| row["stage"] == "sink").filter_map(|row| number(row, "lost"));
                if lost.sum::<u64>() == 0 {
                    wrong.push("the output has room".to_owned());
                }
                if wrong.is_empty() {
                    return Ok(status);
                }
                wrong
            }
            Err(error) => vec![format!("{error:#}")],
        };
        ensure!(Instant::now() < deadline, "{}; {}", wrong.join("; "), daemon.stderr());
        std::thread::sleep(Duration::from_secs(1));
    }
}
