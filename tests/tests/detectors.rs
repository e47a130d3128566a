//! Log-ins that fail, credentials in the clear, scans and unusual rates are told; ordinary ones are
//! not; and no secret that crossed the wire is in anything that the daemon says.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{self, Security, Server, guarded, program, python};
use tests::{Certificates, Daemon, DaemonOptions, Lab, Suite, finish, is_alert, number, show, text};

const PORT: u16 = 34_600;
const HOST: &str = "10.213.0.2";
/// The slowest client on a busy host.
const CLIENT: Duration = Duration::from_secs(40);
/// From the last answer to the alert, on a busy host.
const SOON: Duration = Duration::from_secs(20);
/// More than the threshold.
const TIMES: usize = 6;

/// A server that wants a password, and how a client presents one.
struct Row {
    name: &'static str,
    programs: &'static [&'static str],
    server: fn(&Lab, u16) -> Result<Server>,
    client: fn(&Lab, &str) -> Command,
    /// What stands in the reason of the alert.
    code: &'static str,
    /// Whether the password crosses in the clear.
    clear: bool,
    process: &'static str,
}

fn command(lab: &Lab, program: &str, arguments: &[&str]) -> Command {
    let mut command = lab.client().command(program);
    command.args(arguments);
    command
}

fn log_in(lab: &Lab, what: &str, user: &str, password: &str) -> Command {
    let mut command = lab.client().command(python());
    command.arg(program("log_in.py")).args([what, HOST, &PORT.to_string(), user]);
    command.env("PASSWORD", password);
    command
}

const ROWS: &[Row] = &[
    Row {
        name: "nginx with Basic authentication",
        programs: &["nginx"],
        server: guarded::nginx,
        client: |lab, password| {
            let url = format!("http://{HOST}:{PORT}/index.html");
            command(lab, "curl", &["-sSf", "-m", "20", "-u", &format!("alice:{password}"), &url])
        },
        code: "HTTP 401",
        clear: true,
        process: "curl",
    },
    Row {
        name: "PostgreSQL by its password message",
        programs: &["psql", "setpriv"],
        server: guarded::postgresql,
        client: |lab, password| psql(lab, "postgres", password),
        code: "PostgreSQL 28P01",
        clear: true,
        process: "psql",
    },
    Row {
        name: "PostgreSQL by SCRAM",
        programs: &["psql", "setpriv"],
        server: guarded::postgresql,
        client: |lab, password| psql(lab, "template1", password),
        code: "PostgreSQL 28P01",
        clear: false,
        process: "psql",
    },
    Row {
        name: "MariaDB",
        programs: &["mariadb", "mariadbd"],
        server: guarded::mariadb,
        client: |lab, password| {
            let password = format!("-p{password}");
            let port = PORT.to_string();
            command(lab, "mariadb", &["-h", HOST, "-P", &port, "-u", "alice", &password, "-e", "select 1"])
        },
        code: "MySQL 1045",
        clear: false,
        process: "mariadb",
    },
    Row {
        name: "Redis",
        programs: &["redis-server", "redis-cli"],
        server: guarded::redis,
        client: |lab, password| {
            let port = PORT.to_string();
            command(
                lab,
                "redis-cli",
                &["-h", HOST, "-p", &port, "-e", "--no-auth-warning", "-a", password, "get", "a"],
            )
        },
        code: "Redis WRONGPASS",
        clear: true,
        process: "redis-cli",
    },
    Row {
        name: "RabbitMQ",
        programs: &["rabbitmq-server"],
        server: |lab, port| {
            servers::rabbitmq(lab, &Certificates::new(&lab.directory)?, port, Security::Plain)
        },
        client: |lab, password| {
            log_in(lab, "amqp", "guest", if password == guarded::RIGHT { "guest" } else { password })
        },
        code: "AMQP 403",
        clear: true,
        process: "python",
    },
    Row {
        name: "Mosquitto",
        programs: &["mosquitto", "mosquitto_pub"],
        server: guarded::mosquitto,
        client: |lab, password| {
            let port = PORT.to_string();
            let who = ["-h", HOST, "-p", &port, "-u", "alice", "-P", password];
            command(lab, "mosquitto_pub", &[&who[..], &["-t", "payments/in", "-m", "x"]].concat())
        },
        code: "MQTT CONNACK 5",
        clear: true,
        process: "mosquitto_pub",
    },
    Row {
        name: "Mosquitto, MQTT 5",
        programs: &["mosquitto", "mosquitto_pub"],
        server: guarded::mosquitto,
        client: |lab, password| {
            let port = PORT.to_string();
            let who = ["-V", "5", "-h", HOST, "-p", &port, "-u", "alice", "-P", password];
            command(lab, "mosquitto_pub", &[&who[..], &["-t", "payments/in", "-m", "x"]].concat())
        },
        code: "MQTT CONNACK 0x87",
        clear: true,
        process: "mosquitto_pub",
    },
    Row {
        name: "NATS",
        programs: &["nats-server"],
        server: guarded::nats,
        client: |lab, password| log_in(lab, "nats", "alice", password),
        code: "NATS Authorization Violation",
        clear: true,
        process: "python",
    },
    Row {
        name: "SMTP",
        programs: &[],
        server: guarded::smtp,
        client: |lab, password| log_in(lab, "smtp", "alice", password),
        code: "SMTP 535",
        clear: true,
        process: "python",
    },
    Row {
        name: "IMAP",
        programs: &["dovecot"],
        server: guarded::imap,
        client: |lab, password| log_in(lab, "imap", "alice", password),
        code: "IMAP NO",
        clear: true,
        process: "python",
    },
    Row {
        name: "POP3",
        programs: &["dovecot"],
        server: guarded::pop3,
        client: |lab, password| log_in(lab, "pop3", "alice", password),
        code: "POP3 -ERR",
        clear: true,
        process: "python",
    },
    Row {
        name: "SSH, by keys",
        programs: &["sshd", "ssh", "ssh-keygen"],
        server: |lab, port| servers::sshd(lab, &Certificates::new(&lab.directory)?, port, Security::Plain),
        client: ssh,
        code: "SSH, by the pattern",
        clear: false,
        process: "ssh",
    },
    Row {
        name: "LDAP",
        programs: &["slapd", "ldapwhoami"],
        server: guarded::ldap,
        client: |lab, password| {
            let url = format!("ldap://{HOST}:{PORT}");
            command(lab, "ldapwhoami", &["-x", "-H", &url, "-D", "cn=alice,dc=example", "-w", password])
        },
        code: "LDAP 49",
        clear: true,
        process: "ldapwhoami",
    },
];

/// With the key that the server knows, or with one that it does not.
fn ssh(lab: &Lab, password: &str) -> Command {
    let known = if password == guarded::RIGHT { "ssh-client" } else { "ssh-host" };
    let mut command = command(lab, "ssh", &["-F", "none", "-i", &lab.directory.file(known)]);
    // Lengths that are encrypted (ChaCha20) would tell nothing.
    command.args(["-c", "aes256-gcm@openssh.com"]);
    for option in ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"] {
        command.args(["-o", option]);
    }
    command.args(["-o", "IdentitiesOnly=yes", "-p", &PORT.to_string(), &format!("root@{HOST}"), "true"]);
    command
}

fn psql(lab: &Lab, database: &str, password: &str) -> Command {
    let mut command = command(lab, "psql", &["-h", HOST, "-p", &PORT.to_string(), "-U", "alice"]);
    command.args(["-d", database, "-c", "select 1"]).env("PGPASSWORD", password);
    command
}

fn main() -> ExitCode {
    let mut suite = Suite::new("detectors");
    for row in ROWS {
        suite = suite
            .test(&format!("guessing is told, and a guess that works: {}", row.name), row.programs, || {
                guess(row)
            })
            .test(&format!("right passwords are no failures: {}", row.name), row.programs, || right(row));
    }
    suite
        .test("the thousandth request's failure counts as the first's", &["nginx"], long_session)
        .test("a password within TLS is nobody's to read", &["nginx", "openssl"], within_tls)
        .test("TLS that is closed, and what follows in the clear, is seen", &["openssl"], || {
            tls_then_plain("closed")
        })
        .test("TLS that ends without a word, and what follows in the clear, is seen", &["openssl"], || {
            tls_then_plain("abrupt")
        })
        .test("a scan of ports is told", &["nmap"], vertical)
        .test("a scan of hosts is told", &["nmap"], horizontal)
        .test(
            "a scan of what is served, from elsewhere, is seen and is no failure",
            &["nmap", "nginx"],
            inbound,
        )
        .test("a scan of closed ports, from elsewhere, is told", &["nmap"], closed_ports)
        .test("sudden load is told", &["nginx"], sudden_load)
        .main()
}

fn wrong(n: usize) -> String {
    format!("wrong-horse-{n}-staple")
}

fn about(record: &Value, rule: &str) -> bool {
    is_alert(record) && text(record, "rule.id") == rule && number(record, "server.port") == Some(PORT.into())
}

fn alerts(daemon: &Daemon, rule: &str) -> Vec<Value> {
    daemon.heard().into_iter().map(|heard| heard.record).filter(|record| about(record, rule)).collect()
}

fn list(records: &[Value]) -> String {
    records.iter().map(show).collect::<Vec<_>>().join("\n  ")
}

/// Without alerts of a stream in the clear the log is shorter; they are told all the same.
fn is_ours(record: &Value) -> bool {
    is_alert(record) && text(record, "rule.id") != "plaintext"
}

fn guess(row: &'static Row) -> Result<()> {
    let lab = Lab::new("detectors")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = (row.server)(&lab, PORT)?;
    for n in 0..TIMES {
        let refused = finish((row.client)(&lab, &wrong(n)), CLIENT)?;
        ensure!(!refused.status.success(), "a wrong password was let in: {refused:?}");
    }
    let told = daemon.wait_for("auth-failures", SOON, is_ours, |record| about(record, "auth-failures"))?;
    let record = &told.record;
    ensure!(
        text(record, "event.reason").contains(row.code),
        "not {}: {}",
        row.code,
        text(record, "event.reason")
    );
    ensure!(text(record, "process.name").starts_with(row.process), "process.name: {record}");
    ensure!(number(record, "event.severity") == Some(3), "event.severity is not 3: {record}");
    lab.run((row.client)(&lab, guarded::RIGHT), CLIENT).context("the right password")?;
    daemon.wait_for("a guess that worked", SOON, is_ours, |record| {
        about(record, "auth-failures")
            && text(record, "event.reason").contains("the guess worked")
            && number(record, "event.severity") == Some(4)
    })?;
    let opened = alerts(&daemon, "auth-failures");
    ensure!(opened.len() <= 3, "{} lines about one stream:\n  {}", opened.len(), list(&opened));
    if row.clear {
        daemon
            .wait_for("credential-in-clear", SOON, is_ours, |record| about(record, "credential-in-clear"))?;
    } else {
        let told = alerts(&daemon, "credential-in-clear");
        ensure!(told.is_empty(), "no password crossed in the clear:\n  {}", list(&told));
    }
    no_secret(daemon)
}

fn right(row: &'static Row) -> Result<()> {
    let lab = Lab::new("detectors")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = (row.server)(&lab, PORT)?;
    for _ in 0..TIMES {
        lab.run((row.client)(&lab, guarded::RIGHT), CLIENT)?;
    }
    // What is told of the last flow: by then everything about those before it has been.
    daemon.wait_until("the flows", SOON, is_ours, |heard| {
        let closed = heard.iter().filter(|heard| {
            text(&heard.record, "event.action") == "flow_closed"
                && number(&heard.record, "server.port") == Some(PORT.into())
                && text(&heard.record, "network.direction") == "egress"
        });
        (closed.count() >= TIMES).then_some(())
    })?;
    let told = alerts(&daemon, "auth-failures");
    ensure!(told.is_empty(), "told of right passwords:\n  {}", list(&told));
    no_secret(daemon)
}

/// Looks for every password that crossed the wire, as it is and in base64, in all that can be got out
/// of the daemon.
fn no_secret(daemon: Daemon) -> Result<()> {
    let mut said = Vec::new();
    for path in ["/v1/alerts", "/v1/flows", "/v1/streams", "/v1/status", "/v1/histograms", "/metrics"] {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "10", "--unix-socket"]).arg(daemon.socket());
        curl.arg(format!("http://localhost{path}"));
        let answer = finish(curl, CLIENT)?.success()?;
        ensure!(!answer.stdout.is_empty() || path == "/v1/alerts", "nothing from {path}");
        said.push((path.to_owned(), answer.stdout));
    }
    // What was told is kept a moment later.
    std::thread::sleep(Duration::from_secs(1));
    let state = std::fs::read(daemon.socket().with_file_name("state.redb")).context("the state file")?;
    said.push(("state.redb".into(), String::from_utf8_lossy(&state).into_owned()));
    let ended = daemon.stop()?;
    ensure!(!ended.heard.is_empty(), "the daemon wrote nothing");
    said.push(("stderr".into(), ended.stderr));
    said.extend(ended.heard.iter().map(|heard| ("stdout".into(), heard.record.to_string())));
    for secret in [
        "opensesame",
        "wrong-horse",
        "b3BlbnNlc2FtZS",
        "d3JvbmctaG9yc2",
        "OndyB25nLWhvcnNl",
        "Om9wZW5zZXNhbWUt",
    ] {
        for (place, text) in &said {
            ensure!(!text.contains(secret), "{secret} is in {place}: {text}");
        }
    }
    Ok(())
}

fn long_session() -> Result<()> {
    let lab = Lab::new("detectors")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = guarded::nginx(&lab, PORT)?;
    let mut session = lab.client().command(python());
    session.arg(program("long_session.py")).args([HOST, &PORT.to_string(), "alice"]);
    session.env("RIGHT", guarded::RIGHT).env("WRONG", wrong(1));
    // Thousands at once are more than the rate allows; what comes later is seen again.
    session.args(["3000", "25"]);
    lab.run(session, Duration::from_secs(120))?;
    daemon.wait_for("auth-failures", SOON, is_ours, |record| about(record, "auth-failures"))?;
    let status = daemon.status()?;
    let cost = &status["sampling"];
    ensure!(
        cost["samples"].as_u64() > Some(0) && cost["bytes"].as_u64() > Some(0),
        "no cost in status: {cost}"
    );
    no_secret(daemon)
}

fn within_tls() -> Result<()> {
    let lab = Lab::new("detectors")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Tls)?;
    let url = format!("https://{HOST}:{PORT}/");
    let password = format!("alice:{}", guarded::RIGHT);
    lab.run(
        command(&lab, "curl", &["-sSf", "--cacert", &certificates.authority, "-u", &password, &url]),
        CLIENT,
    )?;
    daemon.wait_for(
        "the flow",
        SOON,
        |_| true,
        |record| {
            text(record, "event.action") == "flow_closed"
                && number(record, "server.port") == Some(PORT.into())
        },
    )?;
    let told = alerts(&daemon, "credential-in-clear");
    ensure!(told.is_empty(), "told of a password within TLS:\n  {}", list(&told));
    no_secret(daemon)
}

fn tls_then_plain(how: &str) -> Result<()> {
    let lab = Lab::new("detectors")?;
    let certificates = Certificates::new(&lab.directory)?;
    let config = "[sampling]\nencrypted_every_s = 1\n";
    let daemon =
        Daemon::start(&lab, DaemonOptions { config: Some(config.into()), ..DaemonOptions::default() })?;
    let run = |place: tests::Place, arguments: &[&str]| {
        let mut command = place.command(python());
        command.arg(program("tls_then_plain.py")).args(arguments);
        command
    };
    let port = PORT.to_string();
    let serve = run(lab.server(), &["serve", &port, &certificates.certificate, &certificates.key, how]);
    let mut server = tests::Process::start("serve", &lab.directory, serve)?;
    server.wait_for_port("tcp", PORT, CLIENT)?;
    let connect = run(lab.client(), &["connect", HOST, &port, &certificates.authority, "20", how]);
    let _client = tests::Process::start("connect", &lab.directory, connect)?;
    daemon.wait_for(
        "the flow, encrypted",
        SOON,
        |_| true,
        |record| {
            number(record, "server.port") == Some(PORT.into())
                && text(record, "streamwatch.verdict.encrypted.answer") == "yes"
        },
    )?;
    let told = daemon.wait_for("the alert", 2 * SOON, is_alert, |record| about(record, "plaintext"))?;
    ensure!(text(&told.record, "event.reason").contains("goes on in the clear"), "{}", told.record);
    ensure!(text(&told.record, "streamwatch.verdict.encrypted.answer") == "no", "{}", told.record);
    Ok(())
}

fn is_scan(record: &Value) -> bool {
    is_alert(record)
        && text(record, "rule.id") == "connect-failures"
        && text(record, "event.reason").contains("a scan")
}

fn vertical() -> Result<()> {
    let lab = Lab::new("detectors")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    lab.run(command(&lab, "nmap", &["-n", "-Pn", "-sT", "-p", "7000-7040", HOST]), Duration::from_secs(60))?;
    daemon.wait_for("a scan", SOON, is_ours, |record| {
        is_scan(record)
            && text(record, "process.name") == "nmap"
            && text(record, "event.reason").contains("more ports of 10.213.0.2")
    })?;
    Ok(())
}

/// One port of many hosts: of some that refuse, and some that are not there.
fn horizontal() -> Result<()> {
    let lab = Lab::new("detectors")?;
    for host in 100..130 {
        lab.pair.right.ip(&["addr", "add", &format!("10.213.0.{host}/24"), "dev", "link0"])?;
    }
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let scan = ["-n", "-Pn", "-sT", "-p", "7000", "10.213.0.100-129"];
    lab.run(command(&lab, "nmap", &scan), Duration::from_secs(60))?;
    daemon.wait_for("a scan", SOON, is_ours, |record| {
        is_scan(record)
            && text(record, "process.name") == "nmap"
            && text(record, "event.reason").contains("port 7000 of ")
    })?;
    Ok(())
}

/// The scanner is not on the watched side: of it there is what the server's sockets show.
fn inbound() -> Result<()> {
    let lab = Lab::new("detectors")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    let elsewhere = tests::Place { cgroup: None, ..lab.client() };
    for way in ["-sT", "-sS"] {
        let mut scan = elsewhere.command("nmap");
        scan.args(["-n", "-Pn", way, "-p", &format!("{PORT},7000-7040"), HOST]);
        let found = lab.run(scan, Duration::from_secs(60))?.stdout;
        ensure!(found.contains("1 open") || found.contains("/tcp open"), "nothing was scanned: {found}");
    }
    // Connected to and let go, without a byte.
    daemon.wait_for(
        "the connection",
        SOON,
        |_| true,
        |record| {
            text(record, "event.action") == "flow_closed"
                && number(record, "server.port") == Some(PORT.into())
                && text(record, "network.direction") == "ingress"
                && text(record, "client.ip") == "10.213.0.1"
                && number(record, "network.bytes") == Some(0)
        },
    )?;
    let told = alerts(&daemon, "connect-failures");
    ensure!(told.is_empty(), "what was accepted has not failed:\n  {}", list(&told));
    Ok(())
}

/// Half-open probes: no socket takes part at either end, but the kernel's own that refuses them.
fn closed_ports() -> Result<()> {
    let lab = Lab::new("detectors")?;
    let daemon =
        Daemon::start(&lab, DaemonOptions { whole_host: true, keep: is_alert, ..DaemonOptions::default() })?;
    let mut scan = lab.client().command("nmap");
    scan.args(["-n", "-Pn", "-sS", "-p", "7000-7040", HOST]);
    let found = lab.run(scan, Duration::from_secs(60))?.stdout;
    ensure!(found.contains("closed tcp ports"), "no scan: {found}");
    daemon.wait_for("a scan", SOON, is_alert, |record| {
        is_scan(record)
            && text(record, "client.ip") == "10.213.0.1"
            && text(record, "server.ip") == HOST
            && text(record, "network.direction") == "ingress"
            && text(record, "event.reason").contains(&format!("more ports of {HOST}"))
    })?;
    Ok(())
}

fn sudden_load() -> Result<()> {
    let lab = Lab::new("detectors")?;
    let certificates = Certificates::new(&lab.directory)?;
    let config = "[detect.traffic]\nsensitivity = \"high\"\ninterval_s = 1\nwarm_up_s = 5\n";
    let daemon =
        Daemon::start(&lab, DaemonOptions { config: Some(config.into()), ..DaemonOptions::default() })?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Plain)?;
    let url = format!("http://{HOST}:{PORT}/");
    let is_spike = |record: &Value| is_alert(record) && text(record, "rule.id") == "traffic-spike";
    // One request every half second is its past.
    for _ in 0..20 {
        lab.run(command(&lab, "curl", &["-sSf", "-m", "20", &url]), CLIENT)?;
        std::thread::sleep(Duration::from_millis(500));
    }
    let early = daemon.heard().iter().any(|heard| is_spike(&heard.record));
    ensure!(!early, "a spike without one");
    // A new connection each, for as long as it takes to be a departure.
    let mut load = lab.client().command("sh");
    load.args([
        "-c",
        &format!("i=0; while [ $i -lt 400 ]; do curl -sf -o /dev/null -m 20 {url}; i=$((i+1)); done"),
    ]);
    lab.run(load, Duration::from_secs(120))?;
    daemon.wait_for("a spike", SOON, is_ours, is_spike)?;
    Ok(())
}
