//! Every protocol is recognised by its content: real servers on ports that are not theirs, real
//! clients, over loopback and between namespaces, IPv4 and IPv6.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{self, Security, Server, program, python};
use tests::{Certificates, Daemon, DaemonOptions, Lab, Place, Suite, field, is_flow, number, show, text};

/// One row: a server, a client, and what must be said of them.
struct Row {
    name: &'static str,
    programs: &'static [&'static str],
    server: fn(&Lab, &Certificates, u16) -> Result<Server>,
    client: fn(&Way<'_>) -> Command,
    transport: &'static str,
    /// Values of `network.protocol` that are right; none: not looked at.
    protocol: &'static [&'static str],
    /// Answers to "encrypted?" that are right.
    encrypted: &'static [&'static str],
    tls: Option<&'static str>,
    /// `process.name` of the client and of the server.
    processes: [&'static str; 2],
}

/// How a client reaches the server.
struct Way<'a> {
    place: Place,
    host: &'static str,
    port: u16,
    lab: &'a Lab,
    certificates: &'a Certificates,
}

impl Way<'_> {
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.place.command(program);
        command.args(arguments);
        command
    }

    fn port(&self) -> String {
        self.port.to_string()
    }

    /// `host:port`, IPv6 in brackets.
    fn target(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}/", self.target())
    }

    /// One of our own clients, with host and port.
    fn python(&self, name: &str, more: &[&str]) -> Command {
        let mut command = self.place.command(python());
        command.arg(program(name)).args([self.host, &self.port()]).args(more);
        command
    }
}

const PLAIN: &[&str] = &["no"];
const ENCRYPTED: &[&str] = &["yes"];

/// What most rows share.
const ROW: Row = Row {
    name: "",
    programs: &[],
    server: |_, _, _| anyhow::bail!("a row without a server"),
    client: |way| way.command("false", &[]),
    transport: "tcp",
    protocol: &[],
    encrypted: PLAIN,
    tls: None,
    processes: ["", ""],
};

const ROWS: &[Row] = &[
    Row {
        name: "http of nginx",
        programs: &["nginx"],
        server: |lab, certificates, port| servers::nginx(lab, certificates, port, Security::Plain),
        client: |way| way.command("curl", &["-sSf", "-m", "15", &way.url("http")]),
        protocol: &["http"],
        processes: ["curl", "nginx"],
        ..ROW
    },
    Row {
        name: "https of nginx, TLS 1.2",
        programs: &["nginx", "openssl"],
        server: |lab, certificates, port| servers::nginx(lab, certificates, port, Security::Tls12),
        client: https,
        protocol: &["tls"],
        encrypted: ENCRYPTED,
        tls: Some("1.2"),
        processes: ["curl", "nginx"],
        ..ROW
    },
    Row {
        name: "https of nginx, TLS 1.3",
        programs: &["nginx", "openssl"],
        server: |lab, certificates, port| servers::nginx(lab, certificates, port, Security::Tls13),
        client: https,
        protocol: &["tls"],
        encrypted: ENCRYPTED,
        tls: Some("1.3"),
        processes: ["curl", "nginx"],
        ..ROW
    },
    Row {
        name: "openssl s_server, TLS 1.2",
        programs: &["openssl"],
        server: |lab, certificates, port| servers::openssl(lab, certificates, port, Security::Tls12),
        client: s_client,
        protocol: &["tls"],
        encrypted: ENCRYPTED,
        tls: Some("1.2"),
        processes: ["openssl", "openssl"],
        ..ROW
    },
    Row {
        name: "openssl s_server, TLS 1.3",
        programs: &["openssl"],
        server: |lab, certificates, port| servers::openssl(lab, certificates, port, Security::Tls13),
        client: s_client,
        protocol: &["tls"],
        encrypted: ENCRYPTED,
        tls: Some("1.3"),
        processes: ["openssl", "openssl"],
        ..ROW
    },
    Row {
        name: "openssl s_server, both ends with certificates",
        programs: &["openssl"],
        server: |lab, certificates, port| servers::openssl(lab, certificates, port, Security::Mutual),
        client: s_client,
        protocol: &["tls"],
        encrypted: ENCRYPTED,
        tls: Some("1.3"),
        processes: ["openssl", "openssl"],
        ..ROW
    },
    Row {
        name: "postgresql",
        programs: &["psql", "setpriv"],
        server: |lab, certificates, port| servers::postgresql(lab, certificates, port, Security::Plain),
        client: |way| psql(way, "disable"),
        protocol: &["postgresql"],
        processes: ["psql", "postgres"],
        ..ROW
    },
    Row {
        name: "postgresql that could have used TLS and did not",
        programs: &["psql", "setpriv", "openssl"],
        server: |lab, certificates, port| servers::postgresql(lab, certificates, port, Security::Tls),
        client: |way| psql(way, "disable"),
        protocol: &["postgresql"],
        processes: ["psql", "postgres"],
        ..ROW
    },
    Row {
        name: "postgresql with TLS",
        programs: &["psql", "setpriv", "openssl"],
        server: |lab, certificates, port| servers::postgresql(lab, certificates, port, Security::Tls),
        client: |way| psql(way, "require"),
        protocol: &["postgresql"],
        encrypted: ENCRYPTED,
        tls: Some("1.3"),
        processes: ["psql", "postgres"],
        ..ROW
    },
    Row {
        name: "mariadb",
        programs: &["mariadb", "mariadbd"],
        server: |lab, certificates, port| servers::mariadb(lab, certificates, port, Security::Plain),
        client: |way| mariadb(way, "--skip-ssl"),
        protocol: &["mysql"],
        processes: ["mariadb", "mariadbd"],
        ..ROW
    },
    Row {
        name: "mariadb with TLS",
        programs: &["mariadb", "mariadbd", "openssl"],
        server: |lab, certificates, port| servers::mariadb(lab, certificates, port, Security::Tls),
        client: |way| mariadb(way, "--ssl"),
        protocol: &["mysql"],
        encrypted: ENCRYPTED,
        tls: Some("1.3"),
        processes: ["mariadb", "mariadbd"],
        ..ROW
    },
    Row {
        name: "redis",
        programs: &["redis-server", "redis-cli"],
        server: |lab, certificates, port| servers::redis(lab, certificates, port, Security::Plain),
        client: |way| way.command("redis-cli", &["-h", way.host, "-p", &way.port(), "set", "hello", "hello"]),
        protocol: &["redis"],
        processes: ["redis-cli", "redis-server"],
        ..ROW
    },
    Row {
        name: "redis with TLS",
        programs: &["redis-server", "redis-cli", "openssl"],
        server: |lab, certificates, port| servers::redis(lab, certificates, port, Security::Tls),
        client: |way| {
            let options = ["-h", way.host, "-p", &way.port(), "--tls", "--insecure", "set", "hello", "hello"];
            way.command("redis-cli", &options)
        },
        protocol: &["tls"],
        encrypted: ENCRYPTED,
        tls: Some("1.3"),
        processes: ["redis-cli", "redis-server"],
        ..ROW
    },
    Row {
        name: "memcached",
        programs: &["memcached"],
        server: |lab, certificates, port| servers::memcached(lab, certificates, port, Security::Plain),
        client: |way| way.python("memcached_client.py", &[]),
        protocol: &["memcached"],
        processes: ["python", "memcached"],
        ..ROW
    },
    Row {
        name: "amqp of RabbitMQ",
        programs: &["rabbitmq-server"],
        server: |lab, certificates, port| servers::rabbitmq(lab, certificates, port, Security::Plain),
        client: |way| way.python("amqp_client.py", &[]),
        protocol: &["amqp"],
        processes: ["python", "beam.smp"],
        ..ROW
    },
    Row {
        name: "amqp of RabbitMQ with TLS",
        programs: &["rabbitmq-server", "openssl"],
        server: |lab, certificates, port| servers::rabbitmq(lab, certificates, port, Security::Tls),
        client: |way| way.python("amqp_client.py", &["tls"]),
        protocol: &["tls"],
        encrypted: ENCRYPTED,
        tls: Some("1.3"),
        processes: ["python", "beam.smp"],
        ..ROW
    },
    Row {
        name: "mqtt of Mosquitto",
        programs: &["mosquitto", "mosquitto_pub"],
        server: |lab, certificates, port| servers::mosquitto(lab, certificates, port, Security::Plain),
        client: |way| {
            way.command("mosquitto_pub", &["-h", way.host, "-p", &way.port(), "-t", "hello", "-m", "hello"])
        },
        protocol: &["mqtt"],
        processes: ["mosquitto_pub", "mosquitto"],
        ..ROW
    },
    Row {
        name: "mqtt of Mosquitto with TLS",
        programs: &["mosquitto", "mosquitto_pub", "openssl"],
        server: |lab, certificates, port| servers::mosquitto(lab, certificates, port, Security::Tls),
        client: |way| {
            let port = way.port();
            let to = ["-h", way.host, "-p", &port, "-t", "hello", "-m", "hello", "--insecure"];
            way.command("mosquitto_pub", &[&to[..], &["--cafile", &way.certificates.authority]].concat())
        },
        protocol: &["tls"],
        encrypted: ENCRYPTED,
        tls: Some("1.3"),
        processes: ["mosquitto_pub", "mosquitto"],
        ..ROW
    },
    Row {
        name: "nats",
        programs: &["nats-server"],
        server: |lab, certificates, port| servers::nats(lab, certificates, port, Security::Plain),
        client: |way| way.python("nats_client.py", &[]),
        protocol: &["nats"],
        processes: ["python", "nats-server"],
        ..ROW
    },
    Row {
        name: "nats with TLS",
        programs: &["nats-server", "openssl"],
        server: |lab, certificates, port| servers::nats(lab, certificates, port, Security::Tls),
        client: |way| way.python("nats_client.py", &["tls"]),
        // The server greets in the clear, then both turn to TLS.
        protocol: &["nats"],
        encrypted: ENCRYPTED,
        tls: Some("1.3"),
        processes: ["python", "nats-server"],
        ..ROW
    },
    Row {
        name: "ssh",
        programs: &["sshd", "ssh", "ssh-keygen"],
        server: |lab, certificates, port| servers::sshd(lab, certificates, port, Security::Tls),
        client: |way| {
            let (key, port) = (way.lab.directory.file("ssh-client"), way.port());
            let options =
                ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
            let to = ["-o", "BatchMode=yes", "-i", &key, "-p", &port, "-l", "root", way.host, "true"];
            way.command("ssh", &[&options[..], &to].concat())
        },
        protocol: &["ssh"],
        encrypted: ENCRYPTED,
        processes: ["ssh", "sshd"],
        ..ROW
    },
    Row {
        name: "smtp",
        server: |lab, certificates, port| servers::smtp(lab, certificates, port, Security::Plain),
        client: |way| way.python("smtp_client.py", &[]),
        protocol: &["smtp"],
        processes: ["python", "python"],
        ..ROW
    },
    Row {
        name: "smtp that could have used STARTTLS and did not",
        programs: &["openssl"],
        server: |lab, certificates, port| servers::smtp(lab, certificates, port, Security::Tls),
        client: |way| way.python("smtp_client.py", &[]),
        protocol: &["smtp"],
        processes: ["python", "python"],
        ..ROW
    },
    Row {
        name: "smtp with STARTTLS",
        programs: &["openssl"],
        server: |lab, certificates, port| servers::smtp(lab, certificates, port, Security::Tls),
        client: |way| way.python("smtp_client.py", &["starttls"]),
        protocol: &["smtp"],
        encrypted: ENCRYPTED,
        tls: Some("1.3"),
        processes: ["python", "python"],
        ..ROW
    },
    Row {
        name: "dns over UDP",
        programs: &["dnsmasq", "dig"],
        server: |lab, certificates, port| servers::dns(lab, certificates, port, Security::Plain),
        client: |way| dig(way, "+notcp"),
        transport: "udp",
        protocol: &["dns"],
        // dig's worker threads have names of their own; the process is what counts.
        processes: ["dig", "dnsmasq"],
        ..ROW
    },
    Row {
        name: "dns over TCP",
        programs: &["dnsmasq", "dig"],
        server: |lab, certificates, port| servers::dns(lab, certificates, port, Security::Plain),
        client: |way| dig(way, "+tcp"),
        protocol: &["dns"],
        processes: ["dig", "dnsmasq"],
        ..ROW
    },
    Row {
        name: "grpc",
        server: |lab, certificates, port| servers::grpc(lab, certificates, port, Security::Plain),
        client: |way| grpc(way, &[]),
        protocol: &["grpc"],
        processes: ["python", "python"],
        ..ROW
    },
    Row {
        name: "grpc with TLS",
        programs: &["openssl"],
        server: |lab, certificates, port| servers::grpc(lab, certificates, port, Security::Tls),
        client: |way| grpc(way, &[&way.certificates.authority]),
        protocol: &["tls"],
        encrypted: ENCRYPTED,
        tls: Some("1.3"),
        processes: ["python", "python"],
        ..ROW
    },
    Row {
        name: "quic",
        programs: &["openssl"],
        server: servers::quic,
        client: |way| way.python("quic_client.py", &[&way.certificates.authority]),
        transport: "udp",
        protocol: &["quic"],
        encrypted: ENCRYPTED,
        tls: Some("1.3"),
        processes: ["python", "python"],
    },
    Row {
        name: "iperf3, never taken for encrypted",
        programs: &["iperf3"],
        server: |lab, certificates, port| servers::iperf3(lab, certificates, port, Security::Plain),
        client: |way| way.command("iperf3", &["-c", way.host, "-p", &way.port(), "-n", "2M"]),
        transport: "tcp",
        protocol: &[],
        // Random bytes of no protocol on one connection, readable ones on the other.
        encrypted: &["no", "unknown"],
        tls: None,
        processes: ["iperf3", "iperf3"],
    },
];

fn https(way: &Way<'_>) -> Command {
    way.command("curl", &["-sSf", "-m", "15", "--cacert", &way.certificates.authority, &way.url("https")])
}

fn s_client(way: &Way<'_>) -> Command {
    let target = way.target();
    let own = ["-cert", &way.certificates.client_certificate, "-key", &way.certificates.client_key];
    let mut command = way.place.command("sh");
    // A request, and time for the answer before the end of stdin ends the connection.
    command.args(["-c", r#"(printf 'GET / HTTP/1.0\r\n\r\n'; sleep 0.5) | openssl s_client "$@""#, "sh"]);
    command.args(["-connect", &target]).args(own);
    command
}

fn psql(way: &Way<'_>, mode: &str) -> Command {
    let to = format!(
        "host={} port={} user=postgres dbname=postgres connect_timeout=15 gssencmode=disable sslmode={mode}",
        way.host, way.port
    );
    way.command("psql", &["-X", &to, "-c", "select 1"])
}

fn mariadb(way: &Way<'_>, tls: &str) -> Command {
    let port = way.port();
    way.command(
        "mariadb",
        &["--no-defaults", tls, "-h", way.host, "-P", &port, "-u", "test", "-e", "select 1"],
    )
}

fn dig(way: &Way<'_>, how: &str) -> Command {
    let at = format!("@{}", way.host);
    way.command("dig", &[&at, "-p", &way.port(), how, "+time=5", "+tries=1", "example.test"])
}

fn grpc(way: &Way<'_>, more: &[&str]) -> Command {
    let mut command = way.place.command(python());
    command.arg(program("grpc_client.py")).arg(way.target()).args(more);
    command
}

/// Namespaces of their own: every port is free, and none of these is any protocol's usual one.
const PORT: u16 = 34_567;
const CLIENT: Duration = Duration::from_secs(30);
/// A flow's last record may come up to a tick after its end.
const RECORD: Duration = Duration::from_secs(5);
/// UDP has no end: what was settled is in the records while the flow is open.
const FINAL: &[&str] = &["flow_settled", "flow_progress", "flow_closed"];

fn check(row: &Row) -> Result<()> {
    let lab = Lab::new("protocols")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let server = (row.server)(&lab, &certificates, PORT)?;
    let ways = [
        ("loopback, IPv4", lab.server(), "127.0.0.1"),
        ("loopback, IPv6", lab.server(), "::1"),
        ("veth, IPv4", lab.client(), "10.213.0.2"),
        ("veth, IPv6", lab.client(), "fd13::2"),
    ];
    for (name, place, host) in ways {
        let way = Way { place, host, port: PORT, lab: &lab, certificates: &certificates };
        lab.run((row.client)(&way), CLIENT)
            .with_context(|| format!("{name}; the server said:\n{}", server.said()))?;
        for (direction, process) in ["egress", "ingress"].into_iter().zip(row.processes) {
            recognised(&daemon, row, host, direction, process)
                .with_context(|| format!("{name}, {direction}"))?;
        }
    }
    let ended = daemon.stop()?;
    ensure!(ended.status.success(), "the daemon ended with {}:\n{}", ended.status, ended.stderr);
    Ok(())
}

/// One end of the connection was reported, and rightly.
fn recognised(daemon: &Daemon, row: &Row, host: &str, direction: &str, process: &str) -> Result<()> {
    let this_end = |record: &Value| {
        is_flow(record)
            && text(record, "server.ip") == host
            && number(record, "server.port") == Some(u64::from(PORT))
            && text(record, "network.transport") == row.transport
            && text(record, "network.direction") == direction
    };
    let settled = |record: &Value| this_end(record) && FINAL.contains(&text(record, "event.action"));
    let right = |record: &Value| settled(record) && wrong(row, record, process).is_none();
    let outcome = daemon.wait_for("flow with the right answers", RECORD, this_end, right);
    let Err(error) = outcome else { return Ok(()) };
    let heard = daemon.heard();
    let last = heard.iter().rev().map(|heard| &heard.record).find(|record| settled(record));
    Err(match last.and_then(|record| Some((record, wrong(row, record, process)?))) {
        Some((record, wrong)) => error.context(format!("{wrong}; {}", show(record))),
        None => error,
    })
}

/// What is wrong with a record, if anything.
fn wrong(row: &Row, record: &Value, process: &str) -> Option<String> {
    let protocol = text(record, "network.protocol");
    if !row.protocol.is_empty() && !row.protocol.contains(&protocol) {
        return Some(format!("network.protocol is {protocol:?}, not one of {:?}", row.protocol));
    }
    let verdict = field(record, "streamwatch.verdict");
    let answer = text(verdict, "encrypted.answer");
    if !row.encrypted.contains(&answer) {
        return Some(format!("encrypted is {answer:?}, not one of {:?}", row.encrypted));
    }
    for question in ["encrypted", "authenticated", "authorised", "watched"] {
        if text(verdict, &format!("{question}.reason")).len() < 5 {
            return Some(format!("{question} has no reason: {verdict}"));
        }
    }
    if text(verdict, "watched.answer") != "yes" {
        return Some(format!("not watched: {verdict}"));
    }
    if let Some(version) = row.tls
        && text(record, "tls.version") != version
    {
        return Some(format!("tls.version is {}, not {version}", field(record, "tls.version")));
    }
    if row.tls.is_none() && !field(record, "tls.version").is_null() {
        return Some(format!("tls.version is {}, and there was no TLS", field(record, "tls.version")));
    }
    let name = text(record, "process.name");
    // dig is gone with its answer. What the kernel saw of it is the name of a thread; then the record says so.
    let was_gone = process == "dig" && text(record, "streamwatch.missing").contains("ended before");
    (name != process && !was_gone).then(|| format!("process.name is {name:?}, not {process:?}"))
}

fn main() -> ExitCode {
    let suite = Suite::new("protocols");
    ROWS.iter().fold(suite, |suite, row| suite.test(row.name, row.programs, || check(row))).main()
}
