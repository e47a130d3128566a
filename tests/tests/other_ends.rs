//! Who is at the other end of a UDP flow: a process on this host is named only where nobody else could have given itself its
//! address. A user makes network namespaces for itself, and has in them the address of any peer elsewhere.

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{program, python};
use tests::{
    Daemon, DaemonOptions, LEFT, Lab, Place, Process, RIGHT, Suite, finish, is_flow, number, show, text,
};

const PORT: u16 = 34_960;
/// The client's: of a server's socket that was there before the daemon, the higher port is taken to be the client's.
const FROM: u16 = 44_960;
/// From this one on it is IPv6 that is spoken.
const FREE: u16 = 45_960;
/// Whom the policy allows.
const USER: &str = "daemon";
const PATIENCE: Duration = Duration::from_secs(20);
const CLIENT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    Suite::new("other_ends")
        .test(
            "a peer elsewhere whose address a user has in a namespace of its own is not that user",
            &["unshare"],
            || taken("false", "no"),
        )
        .test("… nor is it known where nobody can say whose that namespace is", &["unshare"], || {
            taken("hidden", "unknown")
        })
        .test(
            "a client in a namespace that root made is named, however short it lives",
            &["setpriv"],
            of_root,
        )
        .test("a peer elsewhere whose address a user's datagrams have is not that user", &["setpriv"], free)
        .test("the two ends in namespaces of one user namespace are named", &["unshare"], joined)
        .main()
}

fn options() -> DaemonOptions {
    let policy =
        format!("[[service]]\nname = \"s\"\nports = [{PORT}]\n[[service.client]]\nuser = \"{USER}\"\n");
    DaemonOptions { policy: Some(policy), ..DaemonOptions::default() }
}

/// As the program wants it: `from` is the port of the client.
fn arguments(mut command: Command, what: &str, from: u16) -> Command {
    let family = usize::from(from >= FREE);
    let (client, server) = ([LEFT[family], &from.to_string()], [RIGHT[family], &PORT.to_string()]);
    let ends = if what == "server" { [server, client] } else { [client, server] };
    command.arg(python()).arg(program("ends.py")).arg(what).args(ends.concat());
    command
}

fn start(name: &str, place: &Place, through: &[&str], from: u16) -> Result<Process> {
    let mut command = place.command("env");
    command.args(through);
    let mut command = arguments(command, name, from);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start_piped(name, command)?;
    ensure!(process.first_line()?.trim() == "ready", "{name} is not ready");
    Ok(process)
}

/// What is told of the server's flow with this port when it has ended.
fn ended(daemon: &Daemon, from: u16) -> Result<Value> {
    let heard = daemon.wait_for("end of the server's flow", PATIENCE, is_flow, |record| {
        is_flow(record)
            && text(record, "event.action") == "flow_closed"
            && text(record, "network.direction") == "ingress"
            && number(record, "client.port") == Some(from.into())
    })?;
    Ok(heard.record)
}

fn answer(record: &Value) -> &str {
    text(record, "streamwatch.verdict.authorised.answer")
}

fn peer(record: &Value) -> &str {
    text(record, "streamwatch.peer.user.name")
}

fn taken(how: &str, expected: &str) -> Result<()> {
    let from = FROM;
    for server_is_first in [false, true] {
        let lab = Lab::new("other_ends")?;
        let serve = || start("server", &lab.server(), &[], from);
        let before = if server_is_first { Some(serve()?) } else { None };
        let daemon = Daemon::start(&lab, options())?;
        let server = before.map_or_else(serve, Ok)?;
        let false_one = start(how, &lab.client().as_user(USER), &["unshare", "-Urn"], from)?;
        std::thread::sleep(Duration::from_secs(1));
        // In no cgroup that is watched: elsewhere.
        let elsewhere = Place { cgroup: None, ..lab.client() };
        finish(arguments(elsewhere.command("env"), "client", from), CLIENT)?.success()?;
        drop(server);
        let record = ended(&daemon, from)?;
        ensure!(
            answer(&record) == expected && peer(&record).is_empty(),
            "it is {:?} of {:?}: {}",
            answer(&record),
            peer(&record),
            show(&record)
        );
        ensure!(number(&record, "client.bytes") == Some(80), "not all was counted: {}", show(&record));
        drop(false_one);
        let streams = daemon.list("/v1/streams")?;
        let bytes: u64 = streams.iter().filter_map(|stream| number(stream, "server.bytes")).sum();
        ensure!(bytes == 76, "the false end hides {bytes} of 76 bytes: {streams:?}");
    }
    Ok(())
}

/// In no network namespace of their own: a socket may have any IPv6 address.
fn free() -> Result<()> {
    let lab = Lab::new("other_ends")?;
    let daemon = Daemon::start(&lab, options())?;
    let server = start("server", &lab.server(), &[], FREE)?;
    let false_one = start("freebind", &lab.server().as_user(USER), &[], FREE)?;
    std::thread::sleep(Duration::from_secs(1));
    let elsewhere = Place { cgroup: None, ..lab.client() };
    finish(arguments(elsewhere.command("env"), "client", FREE), CLIENT)?.success()?;
    // A client with the address of where it is.
    let client = lab.client().as_user(USER).command("env");
    finish(arguments(client, "client", FREE + 1), CLIENT)?.success()?;
    drop((false_one, server));
    let record = ended(&daemon, FREE)?;
    ensure!((answer(&record), peer(&record)) == ("no", ""), "{} {}", peer(&record), show(&record));
    let record = ended(&daemon, FREE + 1)?;
    ensure!((answer(&record), peer(&record)) == ("yes", USER), "{} {}", peer(&record), show(&record));
    Ok(())
}

fn of_root() -> Result<()> {
    for server_is_first in [false, true] {
        let lab = Lab::new("other_ends")?;
        let serve = || start("server", &lab.server(), &[], 0);
        let before = if server_is_first { Some(serve()?) } else { None };
        let daemon = Daemon::start(&lab, options())?;
        let server = before.map_or_else(serve, Ok)?;
        let mut ports = Vec::new();
        for what in ["client", "once"] {
            for _ in 0..2 {
                let from = FROM + ports.len() as u16;
                let client = lab.client().as_user(USER).command("env");
                finish(arguments(client, what, from), CLIENT)?.success()?;
                ports.push(from);
            }
        }
        std::thread::sleep(Duration::from_secs(1));
        drop(server);
        for from in ports {
            let record = ended(&daemon, from)?;
            ensure!((answer(&record), peer(&record)) == ("yes", USER), "{from}: {}", show(&record));
        }
    }
    Ok(())
}

fn joined() -> Result<()> {
    let lab = Lab::new("other_ends")?;
    let daemon = Daemon::start(&lab, options())?;
    let mut through = lab.client().as_user(USER).command("env");
    through.args(["unshare", "-Urn"]);
    finish(arguments(through, "joined", FROM), CLIENT)?.success().context("both ends")?;
    let record = ended(&daemon, FROM)?;
    ensure!((answer(&record), peer(&record)) == ("yes", USER), "{}", show(&record));
    Ok(())
}
