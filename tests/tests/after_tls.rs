//! TLS first, and then in the clear on the same connection: seen where it follows the handshake at once, where it
//! comes soon after, and by later looks.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::guesses::{PORT, about, alerts, list};
use tests::servers::{program, python};
use tests::{Certificates, Daemon, DaemonOptions, Lab, Place, Process, Suite, is_alert, number, text};

const HOST: &str = "10.213.0.2";
/// The slowest client on a busy host.
const CLIENT: Duration = Duration::from_secs(60);
/// From the last byte to the alert, on a busy host.
const SOON: Duration = Duration::from_secs(40);

fn main() -> ExitCode {
    Suite::new("after_tls")
        .test("TLS that is closed, and what follows in the clear, is seen", &["openssl"], || later("closed"))
        .test("TLS that ends without a word, and what follows in the clear, is seen", &["openssl"], || {
            later("abrupt")
        })
        .test("a line in the clear right behind the handshake, and the end, is no TLS", &["openssl"], || {
            at_once("0")
        })
        .test("a line in the clear behind a few within TLS, and the end, is no TLS", &["openssl"], || {
            at_once("3")
        })
        .test(
            "what goes on in the clear after seconds is seen without a word in the configuration",
            &["openssl"],
            soon,
        )
        .test("TLS that ends as it began stays TLS", &["openssl"], stays)
        .main()
}

/// Both ends, and what they do.
struct Talk {
    daemon: Daemon,
    _processes: [Process; 2],
    _lab: Lab,
}

/// What the client does: lines within TLS, how it leaves it, how long it waits before, and the lines in the clear,
/// a quarter of a second apart ("-1": until it is killed).
#[derive(Clone, Copy)]
struct Script {
    within: &'static str,
    how: &'static str,
    pause_s: &'static str,
    clear: &'static str,
}

impl Talk {
    fn new(config: &str, script: Script) -> Result<Talk> {
        let lab = Lab::new("after-tls")?;
        let certificates = Certificates::new(&lab.directory)?;
        let options = DaemonOptions { config: Some(config.to_owned()), ..DaemonOptions::default() };
        let daemon = Daemon::start(&lab, options)?;
        let run = |place: Place, arguments: &[&str]| {
            let mut command = place.command(python());
            command.arg(program("tls_then_plain.py")).args(arguments);
            command
        };
        let port = PORT.to_string();
        let Script { within, how, pause_s, clear } = script;
        let serve = run(lab.server(), &["serve", &port, &certificates.certificate, &certificates.key, how]);
        let mut server = Process::start("serve", &lab.directory, serve)?;
        server.wait_for_port("tcp", PORT, CLIENT)?;
        let authority = &certificates.authority;
        let connect = ["connect", HOST, &port, authority, within, how, pause_s, clear];
        let client = Process::start("connect", &lab.directory, run(lab.client(), &connect))?;
        Ok(Talk { daemon, _processes: [server, client], _lab: lab })
    }

    /// Waits for the last record of both ends.
    fn ends(&self) -> Result<()> {
        for end in ["client", "server"] {
            self.daemon.wait_for(
                "the end",
                SOON + CLIENT,
                |_| true,
                |record| {
                    is_ours(record)
                        && text(record, "event.action") == "flow_closed"
                        && (text(record, "network.direction") == "egress") == (end == "client")
                },
            )?;
        }
        Ok(())
    }

    /// What was said last of both ends.
    fn last_words(&self) -> Vec<Value> {
        let heard = self.daemon.heard();
        let closed = |record: &Value| is_ours(record) && text(record, "event.action") == "flow_closed";
        heard.into_iter().map(|heard| heard.record).filter(closed).collect()
    }
}

fn is_ours(record: &Value) -> bool {
    number(record, "server.port") == Some(PORT.into())
}

fn answer(record: &Value) -> &str {
    text(record, "streamwatch.verdict.encrypted.answer")
}

fn later(how: &'static str) -> Result<()> {
    let script = Script { within: "20", how, pause_s: "2", clear: "-1" };
    let talk = Talk::new("[sampling]\nencrypted_every_s = 1\n", script)?;
    talk.daemon.wait_for(
        "the flow, encrypted",
        SOON,
        |_| true,
        |record| is_ours(record) && answer(record) == "yes",
    )?;
    let told = talk.daemon.wait_for("the alert", SOON, is_alert, |record| about(record, "plaintext"))?;
    // By a later look, or, on a busy host, while what follows the handshake was still looked at.
    let said = ["goes on in the clear", "began like TLS, went on without"];
    let reason = text(&told.record, "event.reason");
    ensure!(said.iter().any(|said| reason.contains(said)), "{}", told.record);
    ensure!(answer(&told.record) == "no", "{}", told.record);
    Ok(())
}

fn at_once(within: &'static str) -> Result<()> {
    let talk = Talk::new("", Script { within, how: "abrupt", pause_s: "0", clear: "1" })?;
    talk.ends()?;
    for record in talk.last_words() {
        ensure!(answer(&record) == "no", "{record}");
    }
    talk.daemon.wait_for("the alert", SOON, is_alert, |record| about(record, "plaintext"))?;
    Ok(())
}

fn soon() -> Result<()> {
    let script = Script { within: "40", how: "abrupt", pause_s: "3", clear: "40" };
    let talk = Talk::new("", script)?;
    talk.ends()?;
    for record in talk.last_words() {
        ensure!(answer(&record) == "no", "{record}");
    }
    talk.daemon.wait_for("the alert", SOON, is_alert, |record| about(record, "plaintext"))?;
    Ok(())
}

fn stays() -> Result<()> {
    let talk = Talk::new("", Script { within: "40", how: "closed", pause_s: "3", clear: "0" })?;
    talk.ends()?;
    for record in talk.last_words() {
        ensure!(answer(&record) == "yes", "{record}");
    }
    let told = alerts(&talk.daemon, "plaintext");
    ensure!(told.is_empty(), "told of what was not:\n  {}", list(&told));
    Ok(())
}
