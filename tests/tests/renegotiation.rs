//! A second handshake within a connection of TLS 1.2: seen where it follows the first, and by later looks;
//! and what was said of the client's certificate before it is not said any more.

use std::io::Write as _;
use std::process::{ChildStdin, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{Certificates, Daemon, DaemonOptions, Lab, Process, Suite, field, is_flow, number, show, text};

const PORT: u16 = 34_611;
/// For a busy machine; nothing here is about speed.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    Suite::new("renegotiation")
        .test("a server that asks for a certificate after the handshake is seen to", &["openssl"], at_once)
        .test("a server that asks later is seen to by a later look", &["openssl"], later)
        .test("without it, a client is said to have been asked for nothing", &["openssl"], never)
        .main()
}

/// OpenSSL at both ends, and what is typed to each.
struct Talk {
    daemon: Daemon,
    server: ChildStdin,
    client: ChildStdin,
    said: std::path::PathBuf,
    _processes: [Process; 2],
    _lab: Lab,
}

impl Talk {
    fn new(config: &str) -> Result<Self> {
        let lab = Lab::new("renegotiation")?;
        let certificates = Certificates::new(&lab.directory)?;
        let options = DaemonOptions { config: Some(config.to_owned()), ..DaemonOptions::default() };
        let daemon = Daemon::start(&lab, options)?;
        let mut command = lab.server().command("openssl");
        command.args([
            "s_server",
            "-tls1_2",
            "-accept",
            &PORT.to_string(),
            "-CAfile",
            &certificates.authority,
        ]);
        command.args(["-cert", &certificates.certificate, "-key", &certificates.key]);
        let (mut server, answers) = piped(&lab, "server", command)?;
        server.wait_for_port("tcp", PORT, PATIENCE)?;
        let mut command = lab.client().command("openssl");
        command.args([
            "s_client",
            "-connect",
            &format!("10.213.0.2:{PORT}"),
            "-CAfile",
            &certificates.authority,
        ]);
        command.args(["-cert", &certificates.client_certificate, "-key", &certificates.client_key]);
        let (client, _) = piped(&lab, "client", command)?;
        let mut processes = [server, client];
        let [server, client] = [processes[0].take_stdin()?, processes[1].take_stdin()?];
        let talk = Talk { daemon, server, client, said: answers, _processes: processes, _lab: lab };
        talk.until("the handshake", |said| said.contains("CIPHER is "))?;
        Ok(talk)
    }

    /// Waits for something that the server says.
    fn until(&self, what: &str, enough: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = String::from_utf8_lossy(&std::fs::read(&self.said)?).into_owned();
            if enough(&said) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{what} is not there; the server said:\n{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The server asks for another handshake, in which it asks for a certificate.
    fn ask(&mut self) -> Result<()> {
        Ok(self.server.write_all(b"R\n")?)
    }

    /// The flow of both ends, as the daemon says it is now.
    fn flows(&self) -> Result<Vec<Value>> {
        let flows = self.daemon.list("/v1/flows")?;
        Ok(flows.into_iter().filter(|flow| number(flow, "server.port") == Some(PORT.into())).collect())
    }

    /// Waits until the daemon says so of both ends, and does `meanwhile` before each look.
    fn until_both(
        &mut self,
        what: &str,
        so: impl Fn(&Value) -> bool,
        mut meanwhile: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            meanwhile(self)?;
            let flows = self.flows()?;
            if flows.len() == 2 && flows.iter().all(&so) {
                return Ok(());
            }
            let shown: Vec<String> = flows.iter().map(show).collect();
            ensure!(Instant::now() < deadline, "not {what}:\n{}", shown.join("\n"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn piped(lab: &Lab, name: &str, mut command: std::process::Command) -> Result<(Process, std::path::PathBuf)> {
    let said = lab.directory.path().join(format!("{name}.said"));
    let file = std::fs::File::create(&said)?;
    command.stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file);
    Ok((Process::start_piped(name, command)?, said))
}

fn state(record: &Value) -> &str {
    text(record, "streamwatch.tls.client_certificate.state")
}

fn renegotiated(record: &Value) -> bool {
    field(record, "streamwatch.tls.renegotiated") == &Value::Bool(true)
}

fn encrypted(record: &Value) -> bool {
    text(record, "streamwatch.verdict.encrypted.answer") == "yes"
}

/// Told of it, and nothing else than that the rest is hidden.
fn left_open(record: &Value) -> bool {
    let reason = text(record, "streamwatch.verdict.authenticated.reason");
    renegotiated(record)
        && encrypted(record)
        && state(record) == "unknown"
        && reason.contains("server proved")
        && reason.contains("renegotiation")
}

fn at_once() -> Result<()> {
    let mut talk = Talk::new("")?;
    talk.ask()?;
    talk.until_both("seen to renegotiate", left_open, |_| Ok(()))
}

fn later() -> Result<()> {
    let mut talk = Talk::new("[sampling]\nencrypted_every_s = 1\n")?;
    // Data both ways, and the flow is settled.
    talk.client.write_all(b"hello\n")?;
    talk.server.write_all(b"hello\n")?;
    talk.until_both("settled", |flow| encrypted(flow) && state(flow) == "not_requested", |_| Ok(()))?;
    ensure!(!talk.flows()?.iter().any(renegotiated), "told of what was not");
    // A look waits for the bytes of the next handshake, which it may or may not see from its start.
    talk.until_both("seen to renegotiate", left_open, |talk| {
        std::thread::sleep(Duration::from_millis(700));
        talk.ask()
    })?;
    let heard = talk.daemon.heard();
    let wrong = heard.iter().find(|heard| is_flow(&heard.record) && state(&heard.record) == "refused");
    ensure!(wrong.is_none(), "{wrong:?}");
    Ok(())
}

fn never() -> Result<()> {
    let mut talk = Talk::new("[sampling]\nencrypted_every_s = 1\n")?;
    let settled = |flow: &Value| encrypted(flow) && state(flow) == "not_requested" && !renegotiated(flow);
    let samples = |talk: &Talk| Ok::<_, anyhow::Error>(talk.daemon.status()?["sampling"]["samples"].as_u64());
    talk.until_both("settled", settled, |talk| Ok(talk.client.write_all(b"hello\n")?))?;
    let deadline = Instant::now() + PATIENCE;
    // Looked at several times, though the server says nothing.
    while samples(&talk)? < Some(4) {
        ensure!(Instant::now() < deadline, "{}", talk.daemon.status()?);
        talk.client.write_all(&[b"hello".repeat(100), b"\n".to_vec()].concat())?;
        std::thread::sleep(Duration::from_millis(100));
    }
    talk.until_both("as it was", settled, |_| Ok(()))
}
