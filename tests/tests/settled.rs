//! Connections whose packets pass the programs at once, because nothing of them is of interest any more: their ends
//! are, in whatever way they come, and so is all of the next connection of the same socket.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::servers::{program, python};
use tests::traffic::{self, Connection};
use tests::{
    Daemon, DaemonOptions, Heard, Lab, Place, Process, Suite, exact, is_closed, is_loss, show, text,
};

const PORT: u16 = 34_568;
const CLIENT: Duration = Duration::from_secs(120);
const RECORDS: Duration = Duration::from_secs(60);
/// Of each way to end, and of each host.
const COUNT: usize = 25;
const WAYS: usize = 4;
/// Connections, each closed before the next begins: the kernel gives them the same few sockets.
const AGAIN: usize = 400;

fn main() -> ExitCode {
    Suite::new("settled")
        .test("a settled connection is counted to the byte, however it ends", &["python3"], ends)
        .test("who gets the socket of a settled connection is seen from its first byte", &["python3"], again)
        .main()
}

fn ends() -> Result<()> {
    let lab = Lab::new("settled")?;
    let daemon = Daemon::start(&lab, DaemonOptions { keep: is_last_or_loss, ..DaemonOptions::default() })?;
    let _server = serve(&lab, "settled_ends.py", &["serve", &PORT.to_string()])?;
    let hosts = ["127.0.0.1", "::1", "10.213.0.2", "fd13::2"];
    let log = lab.directory.file("client.log");
    let (port, count) = (PORT.to_string(), COUNT.to_string());
    let arguments = [&["connect", &port, &count, &log], &hosts[..]].concat();
    lab.run(script(lab.server(), "settled_ends.py", &arguments), CLIENT)?;
    let made = traffic::read_log::<Connection>(&log)?;
    ensure!(made.len() == COUNT * WAYS * hosts.len(), "{} connections were made", made.len());
    let heard = all_ends(daemon, made.len())?;
    exact::compare(&made, heard.iter().map(|heard| &heard.record).filter(|record| is_last(record)))
}

fn again() -> Result<()> {
    let lab = Lab::new("settled")?;
    let daemon = Daemon::start(&lab, DaemonOptions { keep: is_last_or_loss, ..DaemonOptions::default() })?;
    let _server = serve(&lab, "long_answers.py", &["serve", &PORT.to_string()])?;
    let arguments = ["connect", &PORT.to_string(), &AGAIN.to_string()];
    lab.run(script(lab.server(), "long_answers.py", &arguments), CLIENT)?;
    let heard = all_ends(daemon, AGAIN)?;
    for record in heard.iter().map(|heard| &heard.record).filter(|record| is_last(record)) {
        ensure!(
            text(record, "network.protocol") == "http"
                && text(record, "streamwatch.verdict.encrypted.answer") == "no",
            "not seen from its beginning:\n{}",
            show(record)
        );
    }
    Ok(())
}

fn script(place: Place, name: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = place.command(python());
    command.arg(program(name)).args(arguments);
    command
}

fn serve(lab: &Lab, name: &str, arguments: &[&str]) -> Result<Process> {
    let mut server = Process::start("server", &lab.directory, script(lab.server(), name, arguments))?;
    server.wait_for_port("tcp", PORT, Duration::from_secs(10))?;
    Ok(server)
}

/// The last records of both ends of all connections, of which nothing was lost.
fn all_ends(daemon: Daemon, connections: usize) -> Result<Vec<Heard>> {
    let closed = |heard: &[Heard]| heard.iter().filter(|heard| is_last(&heard.record)).count();
    let what = format!("{} ends", 2 * connections);
    daemon.wait_until(&what, RECORDS, is_loss, |heard| (closed(heard) >= 2 * connections).then_some(()))?;
    let ended = daemon.stop()?;
    ensure!(ended.status.success(), "the daemon ended with {}:\n{}", ended.status, ended.stderr);
    let lost: Vec<String> =
        ended.heard.iter().map(|heard| &heard.record).filter(|record| is_loss(record)).map(show).collect();
    ensure!(lost.is_empty(), "events were lost:\n{}", lost.join("\n"));
    let ends = closed(&ended.heard);
    ensure!(ends == 2 * connections, "{ends} ends of {connections} connections");
    Ok(ended.heard)
}

fn is_last(record: &Value) -> bool {
    is_closed(record, PORT)
}

fn is_last_or_loss(record: &Value) -> bool {
    is_last(record) || is_loss(record)
}
