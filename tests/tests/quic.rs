//! QUIC in depth: version, name, application protocol, cipher and group, from packets that anyone can
//! open; two stacks, both as client and as server.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tests::servers::{program, python};
use tests::{
    Certificates, Daemon, DaemonOptions, Lab, Place, Process, Skip, Suite, field, is_flow, number, show, text,
};

const PORT: u16 = 34_567;
const CLIENT: Duration = Duration::from_secs(40);
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stack {
    Aioquic,
    Quinn,
}

/// A server, a client, and what must be said of them.
#[derive(Clone, Copy)]
struct Row {
    server: Stack,
    retry: bool,
    client: Stack,
    version_2: bool,
    application: &'static str,
    group: &'static [&'static str],
}

const AIOQUIC: Row = Row {
    server: Stack::Aioquic,
    retry: false,
    client: Stack::Aioquic,
    version_2: false,
    application: "echo",
    group: &["x25519", "secp256r1"],
};

const QUINN: Row = Row {
    server: Stack::Quinn,
    client: Stack::Quinn,
    application: "h3",
    group: &["X25519MLKEM768"],
    ..AIOQUIC
};

fn main() -> ExitCode {
    Suite::new("quic")
        .test("aioquic, version 1", &["openssl"], || check(AIOQUIC))
        .test("aioquic, version 2", &["openssl"], || check(Row { version_2: true, ..AIOQUIC }))
        .test("aioquic, after a Retry", &["openssl"], || check(Row { retry: true, ..AIOQUIC }))
        .test("quinn, post-quantum", &["openssl"], || check(QUINN))
        .test("quinn, post-quantum, after a Retry", &["openssl"], || check(Row { retry: true, ..QUINN }))
        .test("quinn at aioquic", &["openssl"], || {
            check(Row { server: Stack::Aioquic, group: &["x25519", "secp256r1"], ..QUINN })
        })
        .test("a client that does not trust the server", &["openssl"], refused)
        .test("tshark reads the same from the fixtures", &["tshark"], compare)
        .main()
}

fn quinn() -> Result<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/quic-echo");
    if ours.is_file() { Ok(ours) } else { Err(Skip::because("quic-echo is not there: cargo xtask setup")) }
}

fn serve(row: Row, lab: &Lab, certificates: &Certificates) -> Result<Process> {
    let own = [certificates.certificate.as_str(), &certificates.key];
    let mut command = match row.server {
        Stack::Aioquic => {
            let mut command = lab.server().command(python());
            command.arg(program("quic_server.py")).arg(PORT.to_string());
            command
        }
        Stack::Quinn => {
            let mut command = lab.server().command(quinn()?);
            command.args(["server", &format!("[::]:{PORT}")]);
            command
        }
    };
    command.args(own).args(row.retry.then_some("retry"));
    let mut process = Process::start("quic", &lab.directory, command)?;
    process.wait_for_port("udp", PORT, CLIENT)?;
    Ok(process)
}

fn client(row: Row, place: &Place, host: &str, authority: &str) -> Result<Command> {
    let command = match row.client {
        Stack::Aioquic => {
            let mut command = place.command(python());
            command.arg(program("quic_client.py")).args([host, &PORT.to_string(), authority]);
            command.args(row.version_2.then_some("v2"));
            command
        }
        Stack::Quinn => {
            let target =
                if host.contains(':') { format!("[{host}]:{PORT}") } else { format!("{host}:{PORT}") };
            let mut command = place.command(quinn()?);
            command.args(["client", &target, authority]);
            command
        }
    };
    Ok(command)
}

fn check(row: Row) -> Result<()> {
    let lab = Lab::new("quic")?;
    let certificates = Certificates::new(&lab.directory)?;
    if row.client == Stack::Quinn {
        quinn()?;
    }
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let server = serve(row, &lab, &certificates)?;
    for (place, host) in
        [(lab.server(), "127.0.0.1"), (lab.client(), "10.213.0.2"), (lab.client(), "fd13::2")]
    {
        lab.run(client(row, &place, host, &certificates.authority)?, CLIENT)
            .with_context(|| format!("{host}; the server said:\n{}", server.said()))?;
        for direction in ["egress", "ingress"] {
            let right = |record: &Value| of(host, direction)(record) && wrong(row, record).is_none();
            if let Err(error) =
                daemon.wait_for("flow with the right facts", PATIENCE, of(host, direction), right)
            {
                let heard = daemon.heard();
                let last = heard.iter().rev().find(|heard| of(host, direction)(&heard.record));
                let wrong = last.and_then(|heard| wrong(row, &heard.record)).unwrap_or_default();
                return Err(error.context(format!("{host}, {direction}: {wrong}")));
            }
        }
    }
    let ended = daemon.stop()?;
    ensure!(ended.status.success(), "the daemon ended with {}:\n{}", ended.status, ended.stderr);
    Ok(())
}

fn of(host: &str, direction: &str) -> impl Fn(&Value) -> bool {
    move |record: &Value| {
        is_flow(record)
            && text(record, "server.ip") == host
            && number(record, "server.port") == Some(PORT.into())
            && text(record, "network.direction") == direction
    }
}

/// What is wrong with a record, if anything.
fn wrong(row: Row, record: &Value) -> Option<String> {
    let group = text(record, "tls.curve");
    let wanted = [
        ("network.protocol", "quic"),
        ("tls.version", "1.3"),
        ("tls.version_protocol", "quic"),
        ("tls.client.server_name", "localhost"),
        ("tls.next_protocol", row.application),
        ("streamwatch.verdict.encrypted.answer", "yes"),
    ];
    if let Some((name, value)) = wanted.into_iter().find(|(name, value)| text(record, name) != *value) {
        return Some(format!("{name} is {}, not {value:?}; {}", field(record, name), show(record)));
    }
    if !text(record, "tls.cipher").starts_with("TLS_") {
        return Some(format!("tls.cipher is {}", field(record, "tls.cipher")));
    }
    (!row.group.contains(&group)).then(|| format!("tls.curve is {group:?}, not one of {:?}", row.group))
}

/// Its refusal is encrypted, and no connection came of it.
fn refused() -> Result<()> {
    let lab = Lab::new("quic")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let server = serve(AIOQUIC, &lab, &certificates)?;
    let refusing = client(AIOQUIC, &lab.client(), "10.213.0.2", &certificates.client_certificate)?;
    if lab.run(refusing, CLIENT).is_ok() {
        bail!("the client trusted a stranger; the server said:\n{}", server.said());
    }
    let of = |record: &Value| of("10.213.0.2", "egress")(record);
    let told = |record: &Value| of(record) && text(record, "event.action") == "flow_closed";
    let closed = daemon.wait_for("end of the flow", PATIENCE, of, told)?.record;
    let answer = text(&closed, "streamwatch.verdict.encrypted.answer");
    ensure!(answer == "unknown", "encrypted is {answer:?} for a handshake that failed; {}", show(&closed));
    let name = text(&closed, "tls.client.server_name");
    ensure!(name == "localhost", "tls.client.server_name is {name:?}; {}", show(&closed));
    Ok(())
}

/// Each datagram is led by its length in two bytes.
fn fixture(name: &str, side: &str) -> Result<Vec<Vec<u8>>> {
    let file = format!("../dissect/fixtures/{name}.{side}.datagrams");
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))?;
    let (mut rest, mut all) = (&bytes[..], Vec::new());
    while let [high, low, after @ ..] = rest {
        let (datagram, next) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        all.push(datagram.to_vec());
        rest = next;
    }
    Ok(all)
}

/// Server name, offered application protocols, JA3 of the first hello; JA3S of its answer.
fn compare() -> Result<()> {
    const NAMES: [&str; 7] = [
        "quic_early_data",
        "quic_long_hello",
        "quic_post_quantum",
        "quic_retry",
        "quic_retry_long_hello",
        "quic_v1",
        "quic_v2",
    ];
    let lab = Lab::new("quic")?;
    for name in NAMES {
        let (client, server) = (fixture(name, "client")?, fixture(name, "server")?);
        let hello = if name.contains("long") || name.contains("quantum") { 2 } else { 1 };
        // As they went over the wire: a flight of the client's, then by turns.
        let mut order: Vec<(bool, &[u8])> = client.iter().take(hello).map(|d| (true, d.as_slice())).collect();
        let mut rest = client.iter().skip(hello);
        for datagram in &server {
            order.push((false, datagram));
            order.extend(rest.next().map(|d| (true, d.as_slice())));
        }
        order.extend(rest.map(|d| (true, d.as_slice())));
        let path = lab.directory.file(&format!("{name}.pcap"));
        tests::pcap::write_datagrams(&mut std::fs::File::create(&path)?, order)?;
        let theirs = |kind: u8, fields: &[&str]| -> Result<Vec<String>> {
            let mut tshark = Command::new("tshark");
            tshark.args(["-r", &path, "-Y", &format!("tls.handshake.type == {kind}"), "-T", "fields"]);
            tshark.args(fields.iter().flat_map(|field| ["-e", field]));
            let all = lab.run(tshark, CLIENT)?.stdout;
            let line = all.lines().next().with_context(|| format!("tshark sees no hello in {name}"))?;
            Ok(line.split('\t').map(str::to_owned).collect())
        };
        let client: Vec<&[u8]> = client.iter().map(Vec::as_slice).collect();
        let server: Vec<&[u8]> = server.iter().map(Vec::as_slice).collect();
        let facts = dissect::inspect_datagrams(&client, &server, dissect::Hint::default()).facts;
        let ours = facts.tls.with_context(|| format!("nothing is told of {name}"))?;
        let asked = theirs(
            1,
            &[
                "tls.handshake.extensions_server_name",
                "tls.handshake.extensions_alpn_str",
                "tls.handshake.ja3",
            ],
        )?;
        let told =
            [ours.server_name.unwrap_or_default(), ours.alpn_offered.join(","), ours.ja3.unwrap_or_default()];
        ensure!(asked == told, "{name}: tshark reads {asked:?}, we {told:?}");
        let answered = theirs(2, &["tls.handshake.ja3s"])?;
        let told = [ours.ja3s.unwrap_or_default()];
        ensure!(answered == told, "{name}: tshark reads {answered:?}, we {told:?}");
    }
    Ok(())
}
