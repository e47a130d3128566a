//! A password for a proxy goes over the wire in the clear, whatever goes through its tunnel: it is told, once a
//! credential, and the flow's answer stays that of what is inside.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::guesses::{PORT, about, alerts, is_ours, list, wrong};
use tests::servers::{self, Security, Server, guarded};
use tests::{
    Certificates, Daemon, DaemonOptions, Lab, Suite, finish, is_flow, no_secret, number, show, text,
};

const HOST: &str = "10.213.0.2";
/// The slowest client on a busy host.
const CLIENT: Duration = Duration::from_secs(40);
/// From the last byte to the alert, on a busy host.
const SOON: Duration = Duration::from_secs(20);
/// More than the threshold.
const TIMES: usize = 6;

struct Proxy {
    name: &'static str,
    programs: &'static [&'static str],
    server: fn(&Lab, u16) -> Result<Server>,
    /// Of its URL.
    scheme: &'static str,
    place: &'static str,
    code: &'static str,
}

const PROXIES: [Proxy; 2] = [
    Proxy {
        name: "tinyproxy, CONNECT",
        programs: &["tinyproxy", "nginx", "openssl", "curl"],
        server: guarded::tinyproxy,
        scheme: "http",
        place: "HTTP Proxy-Authorization header (Basic)",
        // As it answers CONNECT.
        code: "HTTP 401",
    },
    Proxy {
        name: "microsocks, SOCKS 5",
        programs: &["microsocks", "nginx", "openssl", "curl"],
        server: guarded::microsocks,
        scheme: "socks5h",
        place: "SOCKS 5 password (RFC 1929)",
        code: "SOCKS 5 status 2",
    },
];

fn main() -> ExitCode {
    let mut suite = Suite::new("proxies");
    for proxy in &PROXIES {
        suite = suite
            .test(
                &format!("the password for a proxy is told, whatever its tunnel carries: {}", proxy.name),
                proxy.programs,
                || told(proxy),
            )
            .test(&format!("guessing at a proxy is told: {}", proxy.name), proxy.programs, || guessed(proxy));
    }
    suite.main()
}

/// The daemon, and a service with TLS behind a proxy.
struct Ground {
    lab: Lab,
    daemon: Daemon,
    /// Of the service, as the proxy reaches it.
    url: String,
    _servers: [Server; 2],
}

impl Ground {
    fn new(proxy: &Proxy) -> Result<Ground> {
        let lab = Lab::new("proxies")?;
        let certificates = Certificates::new(&lab.directory)?;
        let daemon = Daemon::start(&lab, DaemonOptions::default())?;
        let inside = servers::nginx(&lab, &certificates, PORT + 1, Security::Tls)?;
        let servers = [inside, (proxy.server)(&lab, PORT)?];
        let url = format!("https://127.0.0.1:{}/", PORT + 1);
        Ok(Ground { lab, daemon, url, _servers: servers })
    }
}

fn curl(lab: &Lab, proxy: &Proxy, password: &str, url: &str) -> Command {
    let through = format!("{}://alice:{password}@{HOST}:{PORT}", proxy.scheme);
    let mut curl = lab.client().command("curl");
    curl.args(["-sSkf", "-m", "20", "-o", "/dev/null", "--proxytunnel", "-x", &through, url]);
    curl
}

fn told(proxy: &Proxy) -> Result<()> {
    let Ground { lab, daemon, url, _servers } = Ground::new(proxy)?;
    lab.run(curl(&lab, proxy, guarded::RIGHT, &url), CLIENT)?;
    let found =
        daemon.wait_for("the password", SOON, is_ours, |record| about(record, "credential-in-clear"))?;
    let reason = text(&found.record, "event.reason");
    ensure!(
        reason.contains(proxy.place) && reason.contains(", for the proxy, before its tunnel"),
        "{reason}"
    );
    ensure!(number(&found.record, "event.severity") == Some(3), "{}", show(&found.record));
    let flow = daemon.wait_for(
        "the flow",
        SOON,
        |_| true,
        |record| {
            is_flow(record)
                && text(record, "event.action") == "flow_closed"
                && number(record, "server.port") == Some(PORT.into())
                && text(record, "network.direction") == "egress"
        },
    )?;
    let answer = text(&flow.record, "streamwatch.verdict.encrypted.answer");
    ensure!(answer == "yes", "encrypted: {answer}: {}", show(&flow.record));
    let credentials = alerts(&daemon, "credential-in-clear");
    ensure!(credentials.len() == 1, "told more than once:\n  {}", list(&credentials));
    let plaintext = alerts(&daemon, "plaintext");
    ensure!(plaintext.is_empty(), "what is inside is encrypted:\n  {}", list(&plaintext));
    let failures = alerts(&daemon, "auth-failures");
    ensure!(failures.is_empty(), "nobody failed:\n  {}", list(&failures));
    no_secret(daemon)
}

fn guessed(proxy: &Proxy) -> Result<()> {
    let Ground { lab, daemon, url, _servers } = Ground::new(proxy)?;
    for n in 0..TIMES {
        let refused = finish(curl(&lab, proxy, &wrong(n), &url), CLIENT)?;
        ensure!(!refused.status.success(), "a wrong password was let in: {refused:?}");
    }
    let found = daemon.wait_for("the guesses", SOON, is_ours, |record| about(record, "auth-failures"))?;
    let reason = text(&found.record, "event.reason");
    ensure!(reason.contains(proxy.code), "not {}: {reason}", proxy.code);
    ensure!(number(&found.record, "event.severity") == Some(3), "{}", show(&found.record));
    lab.run(curl(&lab, proxy, guarded::RIGHT, &url), CLIENT).context("the right password")?;
    daemon.wait_for("a guess that worked", SOON, is_ours, |record| {
        about(record, "auth-failures") && text(record, "event.reason").contains("the guess worked")
    })?;
    no_secret(daemon)
}
