//! A user without privileges who has network namespaces without number, and connections that are handed on: who looks for
//! the holders of those would go into all namespaces. The processes of others' streams are named all the same, and soon.

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::others::short_clients;
use tests::servers::python;
use tests::{Daemon, DaemonOptions, Lab, Process, Suite, show, text, traffic};

const PORT: u16 = 34_930;
const USER: &str = "daemon";
const NAMESPACES: u64 = 800;
const VICTIMS: usize = 10;

fn main() -> ExitCode {
    Suite::new("many_namespaces")
        .test(
            "a user with network namespaces without number delays nobody's names",
            &["setpriv"],
            delays_nobody,
        )
        .main()
}

/// Processes with a network namespace each. They end with their parent.
const HOARD: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
ended, alive = os.pipe()
made, done = os.pipe()
count = int(sys.argv[1])
for _ in range(count):
    if os.fork() == 0:
        os.close(alive)
        # CLONE_NEWUSER | CLONE_NEWNET
        os.write(done, b"n" if libc.unshare(0x10000000 | 0x40000000) else b"y")
        os.read(ended, 1)
        os._exit(0)
answers = b""
while len(answers) < count:
    answers += os.read(made, count)
print(answers.count(b"y"), flush=True)
sys.stdin.read()
"#;

/// A listener that is made by one process, and whose connections another one accepts; as many as there is time for.
const HANDED: &str = r#"
import os, socket, sys, time
listener = socket.socket()
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(50)
if os.fork() == 0:
    while True:
        connection, _ = listener.accept()
        if not connection.recv(9):
            os._exit(0)
        time.sleep(0.2)
        connection.close()
while True:
    connection = socket.create_connection(listener.getsockname())
    connection.sendall(b"x" * 9)
    connection.recv(1)
    connection.close()
"#;

fn hoard(lab: &Lab) -> Result<Process> {
    let mut command = lab.client().as_user(USER).command(python());
    command.args(["-c", HOARD, &NAMESPACES.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut hoard = Process::start_piped("hoard", command)?;
    let said = hoard.first_line()?;
    let made: u64 = said.parse().with_context(|| format!("it said {said:?}"))?;
    ensure!(made >= NAMESPACES / 2, "only {made} namespaces may be made here");
    Ok(hoard)
}

fn delays_nobody() -> Result<()> {
    let lab = Lab::new("many_namespaces")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = traffic::echo(&lab, PORT)?;
    let mut hoard = hoard(&lab)?;
    let mut command = lab.client().as_user(USER).command(python());
    command.args(["-c", HANDED, &(PORT + 1).to_string()]);
    let mut handed = Process::start("handed", &lab.directory, command)?;
    std::thread::sleep(Duration::from_secs(2));
    for last in short_clients(&lab, &daemon, PORT, VICTIMS, Duration::from_millis(300))? {
        ensure!(
            text(&last, "process.executable").contains("python"),
            "it was not looked at in time: {} {last}",
            show(&last)
        );
    }
    ensure!(hoard.ended()?.is_none() && handed.ended()?.is_none(), "the load did not last as long");
    let status = daemon.status()?.to_string();
    ensure!(status.contains("\"looks\""), "what was looked up is not counted: {status}");
    Ok(())
}
