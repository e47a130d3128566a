//! A user without privileges who holds hundreds of thousands of descriptors: who looks for the holder of a socket would
//! have to go through them. The processes of others' streams are named all the same, and soon.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{program, python};
use tests::{Daemon, DaemonOptions, Lab, Process, Suite, number, text, traffic};

const PORT: u16 = 34_910;
const PATIENCE: Duration = Duration::from_secs(60);
/// A second or two, on a host that has others to serve. Who looks through all descriptors before each answer takes a
/// minute.
const SOON: Duration = Duration::from_secs(20);
const IDLING: u32 = 3000;
const USER: &str = "daemon";
const PROCESSES: u32 = 20;
const DESCRIPTORS: u32 = 19_000;

fn main() -> ExitCode {
    Suite::new("open_files")
        .test("a user with descriptors without number delays nobody's names", &["setpriv"], delays_nobody)
        .test("thousands of processes delay nobody's names", &["cat"], many_processes)
        .main()
}

/// Processes that do nothing, and hold nothing. They end with their parent.
const IDLE: &str = r#"
import os, subprocess, sys
# What they wait for ends with this process.
ended, alive = os.pipe()
idle = [subprocess.Popen(["cat"], stdin=ended) for _ in range(int(sys.argv[1]))]
print(len(idle), flush=True)
sys.stdin.read()
os.close(alive)
for process in idle:
    process.wait()
"#;

/// Processes with that many descriptors each, as far as they may. They end with their parent.
const HOARD: &str = r#"
import os, resource, sys
processes, count = int(sys.argv[1]), int(sys.argv[2])
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
if most != resource.RLIM_INFINITY:
    count = min(count, most - 100)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
else:
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, most))
ended, alive = os.pipe()
made, done = os.pipe()
for _ in range(processes):
    if os.fork() == 0:
        os.close(alive)
        null = os.open("/dev/null", os.O_RDONLY)
        for _ in range(count):
            os.dup(null)
        os.write(done, b"x")
        os.read(ended, 1)
        os._exit(0)
left = processes
while left:
    left -= len(os.read(made, left))
print(processes * count, flush=True)
sys.stdin.read()
"#;

fn hoard(lab: &Lab) -> Result<(Process, u32)> {
    let mut command = lab.client().as_user(USER).command(python());
    command.args(["-c", HOARD, &PROCESSES.to_string(), &DESCRIPTORS.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut hoard = Process::start_piped("hoard", command)?;
    let said = hoard.first_line()?;
    let held = said.parse().with_context(|| format!("it said {said:?}"))?;
    Ok((hoard, held))
}

/// A connection that is accepted by one process and used by its child: only a look at open files finds that one.
struct HandedOver {
    port: u16,
    serving: u64,
    client: Process,
    _stdin: ChildStdin,
    _server: Process,
}

impl HandedOver {
    fn begin(lab: &Lab, port: u16) -> Result<HandedOver> {
        let mut command = lab.server().command(python());
        command.arg(program("handing_server.py")).args([&port.to_string(), "forked"]).stdout(Stdio::piped());
        let mut server = Process::start_piped("server", command)?;
        let mut says = BufReader::new(server.child().stdout.take().context("the server has no stdout")?);
        server.wait_for_port("tcp", port, PATIENCE)?;
        let mut command = lab.client().command(traffic::program());
        command.args(["hold", "--to", &format!("10.213.0.2:{port}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut client = Process::start_piped("hold", command)?;
        let mut stdin = client.take_stdin()?;
        stdin.write_all(b"who serves me?\n")?;
        let mut line = String::new();
        says.read_line(&mut line)?;
        let serving = line.trim().parse().with_context(|| format!("the server said {line:?}"))?;
        ensure!(serving != u64::from(server.pid()), "the server serves by itself: nothing is handed over");
        Ok(HandedOver { port, serving, client, _stdin: stdin, _server: server })
    }

    /// Both ends, as the daemon shows them.
    fn named(&self, daemon: &Daemon) -> Result<(Option<Value>, Option<Value>)> {
        let flows = daemon.list("/v1/flows")?;
        let end = |direction: &str| {
            flows
                .iter()
                .find(|flow| {
                    flow["server"]["port"] == self.port && text(flow, "network.direction") == direction
                })
                .cloned()
        };
        Ok((end("egress"), end("ingress")))
    }

    /// Waits until both ends bear the names of who has them.
    fn wait(&self, daemon: &Daemon, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        let pid = |end: &Option<Value>| end.as_ref().and_then(|flow| number(flow, "process.pid"));
        loop {
            let (client, server) = self.named(daemon)?;
            let names = (pid(&client), pid(&server));
            let wanted = (u64::from(self.client.pid()), self.serving);
            if names == (Some(wanted.0), Some(wanted.1)) {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < patience,
                "after {patience:?}, {wanted:?} are told as {names:?}: {client:?} {server:?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn idle(lab: &Lab) -> Result<(Process, ChildStdin)> {
    let mut command = lab.client().command(python());
    command.args(["-c", IDLE, &IDLING.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut idle = Process::start_piped("idle", command)?;
    let stdin = idle.take_stdin()?;
    let said = idle.first_line()?;
    ensure!(said == IDLING.to_string(), "it said {said:?}");
    Ok((idle, stdin))
}

/// The cost of a look at each process is what the next look has to wait for.
fn many_processes() -> Result<()> {
    let lab = Lab::new("open_files")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let (mut idle, stdin) = idle(&lab)?;
    HandedOver::begin(&lab, PORT)?.wait(&daemon, PATIENCE)?;
    // All processes are known by now, and what that cost is paid.
    std::thread::sleep(SOON);
    for number in 1..6 {
        let connection = HandedOver::begin(&lab, PORT + number)?;
        connection.wait(&daemon, SOON)?;
    }
    drop(stdin);
    idle.wait(PATIENCE)?;
    Ok(())
}

fn delays_nobody() -> Result<()> {
    let lab = Lab::new("open_files")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    // The look at what was there before is over when something is named.
    HandedOver::begin(&lab, PORT)?.wait(&daemon, PATIENCE)?;
    let (mut hoard, held) = hoard(&lab)?;
    ensure!(held >= PROCESSES * DESCRIPTORS / 2, "only {held} descriptors may be held here");
    // The first may be waited for: what it costs is what those behind it would wait for.
    let first = HandedOver::begin(&lab, PORT + 1)?;
    first.wait(&daemon, PATIENCE)?;
    for number in 2..5 {
        let connection = HandedOver::begin(&lab, PORT + number)?;
        connection.wait(&daemon, SOON)?;
    }
    ensure!(hoard.ended()?.is_none(), "the descriptors were not held for as long");
    Ok(())
}
