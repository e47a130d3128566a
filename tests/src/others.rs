//! Others beside a user who wants all of something for itself: what they do is to be told as if they were alone.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::servers::python;
use crate::{Daemon, Lab, Process, is_flow, number, text};

/// How long they may take, on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

/// Accepts, and holds on to what it accepted last.
const HOLD: &str = r#"
import collections, socket, sys
listener = socket.create_server(("10.213.0.2", int(sys.argv[1])), backlog=200)
held = collections.deque(maxlen=100)
while True:
    held.append(listener.accept()[0])
"#;

/// A connection of half a second.
const CLIENT: &str = r#"
import socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
connection.sendall(b"who am I?\n")
time.sleep(0.5)
"#;

/// A server in the lab that accepts, and says nothing.
///
/// # Errors
/// It does not start, or does not listen in time.
pub fn holding_server(lab: &Lab, port: u16) -> Result<Process> {
    let mut command = lab.server().command(python());
    command.args(["-c", HOLD, &port.to_string()]);
    let mut server = Process::start("hold", &lab.directory, command)?;
    server.wait_for_port("tcp", port, PATIENCE)?;
    Ok(server)
}

/// So many clients of half a second, one begun so long after the other: the last record of each.
///
/// # Errors
/// One does not start, or does not end, or its end is not told.
pub fn short_clients(
    lab: &Lab,
    daemon: &Daemon,
    port: u16,
    count: usize,
    apart: Duration,
) -> Result<Vec<Value>> {
    let mut clients = Vec::new();
    for number in 0..count {
        let mut command = lab.client().command(python());
        command.args(["-c", CLIENT, "10.213.0.2", &port.to_string()]);
        clients.push(Process::start(&format!("client{number}"), &lab.directory, command)?);
        std::thread::sleep(apart);
    }
    let mut last = Vec::new();
    for client in &mut clients {
        client.wait(PATIENCE)?;
        let pid = u64::from(client.pid());
        let end = daemon.wait_for("closed flow", PATIENCE, is_flow, |record| {
            number(record, "server.port") == Some(port.into())
                && number(record, "process.pid") == Some(pid)
                && text(record, "event.action") == "flow_closed"
        })?;
        last.push(end.record);
    }
    Ok(last)
}
