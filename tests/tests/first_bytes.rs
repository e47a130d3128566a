//! First bytes are put together in the order of the stream, however they come: one at a time, out of
//! order and twice, behind extension headers, on a v4-mapped socket. What is said of them is the same.

use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{self, Security, program, python};
use tests::{
    Certificates, Daemon, DaemonOptions, Lab, LinkKind, Skip, Suite, is_closed, is_flow, number, show, text,
};

const PORT: u16 = 34_567;
const PATIENCE: Duration = Duration::from_secs(60);
const UNRULY_REQUESTS: u16 = 100;

fn main() -> ExitCode {
    Suite::new("first_bytes")
        .test("one byte at a time, IPv4", &["nginx"], || odd("10.213.0.2", "bytewise"))
        .test("one byte at a time, IPv6", &["nginx"], || odd("fd13::2", "bytewise"))
        .test("behind IPv6 extension headers", &["nginx"], || odd("fd13::2", "extension-headers"))
        .test("on a v4-mapped socket", &["nginx"], || odd("10.213.0.2", "mapped"))
        .test("over a link that drops and reorders", &["nginx", "python3"], unruly)
        .main()
}

fn closed(record: &Value, client_port: u16) -> bool {
    is_closed(record, PORT) && number(record, "client.port") == Some(client_port.into())
}

fn odd(host: &'static str, way: &'static str) -> Result<()> {
    let lab = Lab::new("first-bytes")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    let mut client = lab.client().command(python());
    client.arg(program("odd_client.py")).args([host, &PORT.to_string(), way]).stdout(Stdio::piped());
    let said = client.output().context("odd_client.py")?;
    ensure!(said.status.success(), "the client failed: {}", String::from_utf8_lossy(&said.stderr));
    let port: u16 = String::from_utf8_lossy(&said.stdout).trim().parse().context("the client's port")?;
    let request = format!("GET /odd/{way} HTTP/1.1\r\nHost: odd\r\nConnection: close\r\n\r\n");
    for direction in ["egress", "ingress"] {
        let last = daemon.wait_for("closed flow", PATIENCE, is_flow, |record| {
            closed(record, port) && text(record, "network.direction") == direction
        })?;
        let record = &last.record;
        ensure!(text(record, "network.protocol") == "http", "{direction}: not http: {}", show(record));
        ensure!(
            text(record, "streamwatch.verdict.encrypted.answer") == "no",
            "{direction}: not in the clear: {}",
            show(record)
        );
        let evidence = text(record, "streamwatch.verdict.encrypted.evidence");
        ensure!(
            evidence.contains(&format!("/odd/{way}")),
            "{direction}: the request is not read: {evidence}"
        );
        ensure!(text(record, "server.ip") == host, "{direction}: server.ip is not {host}: {}", show(record));
        let family = if host.contains(':') { "ipv6" } else { "ipv4" };
        ensure!(text(record, "network.type") == family, "{direction}: not {family}: {record}");
        ensure!(
            number(record, "client.bytes") == Some(request.len() as u64),
            "{direction}: {} bytes were sent: {}",
            request.len(),
            show(record)
        );
    }
    Ok(())
}

/// Requests of several segments, of which some are lost, come late or come twice.
fn unruly() -> Result<()> {
    if !std::path::Path::new("/dev/net/tun").exists() {
        return Err(Skip::because("there is no /dev/net/tun"));
    }
    let lab = Lab::with_link("first-bytes", LinkKind::Unruly)?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    let padding = format!("X-Padding: {}", "x".repeat(5000));
    for page in 0..UNRULY_REQUESTS {
        let mut client = lab.client().command("curl");
        client.args(["-sSf", "-m", "50", "-H", &padding, &format!("http://10.213.0.2:{PORT}/page/{page}")]);
        lab.run(client, PATIENCE)?;
    }
    for direction in ["egress", "ingress"] {
        let ours = |record: &Value| is_closed(record, PORT) && text(record, "network.direction") == direction;
        let wanted = usize::from(UNRULY_REQUESTS);
        let records = daemon.wait_until("records of all requests", PATIENCE, is_flow, |heard| {
            let found: Vec<Value> =
                heard.iter().map(|one| &one.record).filter(|record| ours(record)).cloned().collect();
            (found.len() >= wanted).then_some(found)
        })?;
        ensure!(records.len() == wanted, "{direction}: {} records of {wanted} requests", records.len());
        for record in &records {
            ensure!(
                text(record, "network.protocol") == "http"
                    && text(record, "streamwatch.verdict.encrypted.answer") == "no"
                    && text(record, "streamwatch.verdict.encrypted.evidence").contains("GET /page/"),
                "{direction}: not read: {} {record}",
                show(record)
            );
        }
    }
    Ok(())
}
