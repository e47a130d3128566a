//! A PROXY header before TLS changes no fact: HAProxy in front of nginx, with and without it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Certificates, Daemon, DaemonOptions, Lab, Process, Suite, field, is_flow, number, text};

/// Where HAProxy listens, how it says for whom it connects, and where nginx takes that.
struct Way {
    front: u16,
    send: &'static str,
    back: u16,
}

const WITHOUT: Way = Way { front: 34_811, send: "", back: 34_821 };
const WITH: [Way; 3] = [
    Way { front: 34_812, send: "send-proxy", back: 34_822 },
    Way { front: 34_813, send: "send-proxy-v2", back: 34_823 },
    // With extensions of the header (TLVs): a checksum, and who the client wanted to see.
    Way { front: 34_814, send: "send-proxy-v2 proxy-v2-options crc32c,authority,unique-id", back: 34_824 },
];
const PATIENCE: Duration = Duration::from_secs(30);

/// What a flow tells of its handshake.
const FACTS: [&str; 17] = [
    "network.protocol",
    "tls.version",
    "tls.cipher",
    "tls.curve",
    "tls.next_protocol",
    "tls.client.server_name",
    "tls.client.ja3",
    "tls.client.ja4",
    "tls.server.ja3s",
    "tls.server.subject",
    "tls.server.not_after",
    "tls.established",
    "tls.resumed",
    "streamwatch.posture",
    "streamwatch.tls",
    "streamwatch.verdict.encrypted",
    "streamwatch.verdict.authenticated",
];

fn main() -> ExitCode {
    const PROGRAMS: &[&str] = &["haproxy", "nginx", "openssl"];
    Suite::new("proxy_protocol")
        .test("TLS 1.2 behind PROXY headers", PROGRAMS, || check(Some("1.2")))
        .test("TLS 1.3 behind PROXY headers", PROGRAMS, || check(Some("1.3")))
        .test("HTTP in the clear behind PROXY headers stays in the clear", PROGRAMS, || check(None))
        .main()
}

fn ways() -> impl Iterator<Item = &'static Way> {
    std::iter::once(&WITHOUT).chain(&WITH)
}

fn nginx(lab: &Lab, certificates: &Certificates, tls: bool) -> Result<Process> {
    let directory = lab.directory.directory("nginx", None)?;
    let (flag, files) = match tls {
        true => (
            " ssl",
            format!(
                "ssl_certificate {}; ssl_certificate_key {};",
                certificates.certificate, certificates.key
            ),
        ),
        false => ("", String::new()),
    };
    let servers: String = ways()
        .map(|way| {
            let proxied = if way.send.is_empty() { "" } else { " proxy_protocol" };
            // What the header said comes back, so that the client knows that there was one.
            let answer = if way.send.is_empty() { "none" } else { "$proxy_protocol_addr" };
            format!(
                "server {{ listen 127.0.0.1:{}{flag}{proxied}; {files} ssl_protocols TLSv1.2 TLSv1.3; \
                 return 200 \"for {answer}\\n\"; }}\n",
                way.back
            )
        })
        .collect();
    let config = format!(
        "daemon off; user root; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
         events {{}}
         http {{
           access_log off;
           client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
           uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
           {servers}
         }}"
    );
    let config = lab.directory.write("nginx.conf", &config)?;
    let mut command = lab.server().command("nginx");
    command.args(["-p", &directory, "-c", &config, "-e", &format!("{directory}/error.log")]);
    let mut process = Process::start("nginx", &lab.directory, command)?;
    for way in ways() {
        process.wait_for_port("tcp", way.back, PATIENCE)?;
    }
    Ok(process)
}

fn haproxy(lab: &Lab) -> Result<Process> {
    let mut config =
        "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 20s\n  timeout client 30s\n  \
                      timeout server 30s\n"
            .to_owned();
    for Way { front, send, back } in ways() {
        config += &format!(
            "listen way{front}\n  bind *:{front}\n  unique-id-format %ci-%cp\n  \
             server nginx 127.0.0.1:{back} {send}\n"
        );
    }
    let config = lab.directory.write("haproxy.conf", &config)?;
    let mut command = lab.server().command("haproxy");
    command.args(["-db", "-f", &config]);
    let mut process = Process::start("haproxy", &lab.directory, command)?;
    for way in ways() {
        process.wait_for_port("tcp", way.front, PATIENCE)?;
    }
    Ok(process)
}

fn check(tls: Option<&str>) -> Result<()> {
    let lab = Lab::new("proxy")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _nginx = nginx(&lab, &certificates, tls.is_some())?;
    let haproxy = haproxy(&lab)?;
    for way in ways() {
        let mut command = lab.client().command("curl");
        // Else the name would hold the port, which is another one each time.
        command.args(["-sSf", "-m", "20", "-H", "Host: localhost", "--cacert", &certificates.authority]);
        let scheme = match tls {
            Some(version) => {
                let only = format!("--tlsv{version}");
                command.args([only.as_str(), "--tls-max", version]);
                "https"
            }
            None => "http",
        };
        command.args(["--resolve", &format!("localhost:{}:10.213.0.2", way.front)]);
        command.arg(format!("{scheme}://localhost:{}/", way.front));
        let answer = lab.run(command, PATIENCE).with_context(|| haproxy.said())?.stdout;
        let wanted = if way.send.is_empty() { "for none" } else { "for 10.213.0.1" };
        ensure!(answer.trim() == wanted, "{}: the server says {answer:?}", way.send);
    }
    for (direction, process) in [("egress", "haproxy"), ("ingress", "nginx")] {
        let plain = facts(&daemon, &WITHOUT, direction, process)?;
        ensure!(text(&plain, "tls.version") == tls.unwrap_or_default(), "{plain}");
        let encrypted = text(&plain, "streamwatch.verdict.encrypted.answer");
        ensure!(encrypted == if tls.is_some() { "yes" } else { "no" }, "{plain}");
        for way in &WITH {
            let wrapped = facts(&daemon, way, direction, process)?;
            for name in FACTS {
                let (ours, theirs) = (field(&wrapped, name), field(&plain, name));
                ensure!(ours == theirs, "{}, {direction}: {name} is {ours}, without {theirs}", way.send);
            }
        }
    }
    Ok(())
}

/// The last record of the connection between HAProxy and nginx.
fn facts(daemon: &Daemon, way: &Way, direction: &str, process: &str) -> Result<Value> {
    let of = |record: &Value| {
        is_flow(record)
            && number(record, "server.port") == Some(way.back.into())
            && text(record, "network.direction") == direction
    };
    let heard = daemon.wait_for("closed flow behind HAProxy", PATIENCE, of, |record| {
        of(record)
            && text(record, "event.action") == "flow_closed"
            && text(record, "process.name") == process
            && !field(record, "network.protocol").is_null()
    })?;
    Ok(heard.record)
}
