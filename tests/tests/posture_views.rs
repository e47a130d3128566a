//! What people are shown of how streams are protected, held against what was spoken: a line a stream, all of
//! it below with `--wide`, and the sums of `status`.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{self, Security, program, python, tool};
use tests::{
    Certificates, Daemon, DaemonOptions, Lab, Process, Server, Suite, binary, finish, is_flow, number, text,
};

const PORT: u16 = 34_710;
const HOST: &str = "10.213.0.2";
/// For a busy machine; nothing here is about speed.
const PATIENCE: Duration = Duration::from_secs(60);

const PROGRAMS: &[&str] = &["openssl", "nginx", "sshd", "ssh", "ssh-keygen"];

fn main() -> ExitCode {
    Suite::new("posture_views")
        .test(
            "a line a stream, all of it with --wide, sums that add up, a bill of materials",
            PROGRAMS,
            shown,
        )
        .main()
}

/// What was spoken, each to the next port.
struct Spoken {
    client: &'static str,
    protocol: &'static str,
    /// Encrypted, authenticated, allowed, watched.
    answers: &'static str,
    version: &'static str,
    key_exchange: &'static str,
    quantum: &'static str,
    posture: &'static str,
    /// Each in a line below the stream's.
    wide: &'static [&'static str],
}

const SPOKEN: [Spoken; 6] = [
    Spoken {
        client: "curl",
        protocol: "http",
        answers: "no no unknown yes",
        version: "plaintext",
        key_exchange: "none",
        quantum: "plaintext",
        posture: "http in the clear",
        wide: &["encrypted: no: http in the clear (GET / to", "authenticated: no: nothing in http"],
    },
    Spoken {
        client: "openssl",
        protocol: "tls",
        answers: "yes yes unknown yes",
        version: "TLS 1.2",
        key_exchange: "x25519",
        quantum: "classical",
        posture: "TLS 1.2 x25519 AES-256-GCM mTLS",
        wide: &[
            "encrypted: yes: TLS 1.2, x25519, AES-256-GCM, for api.example.org",
            "client proved `client`",
            "suite TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
            "name api.example.org",
            "client certificate presented, basis seen",
            "server certificate: of CN=server, by CN=streamwatch test authority",
            "client certificate: of CN=client, by CN=streamwatch test authority",
            "fingerprints: JA3 ",
        ],
    },
    Spoken {
        client: "curl",
        protocol: "tls",
        answers: "yes yes unknown yes",
        version: "TLS 1.3",
        key_exchange: "x25519",
        quantum: "classical",
        posture: "TLS 1.3 x25519 AES-256-GCM",
        wide: &[
            "encrypted: yes: TLS 1.3, x25519, AES-256-GCM",
            "client was asked for no certificate (inferred)",
            "client certificate not_requested, basis inferred",
            "alpn offered h2 http/1.1",
        ],
    },
    Spoken {
        client: "tls-peer",
        protocol: "tls",
        answers: "yes yes unknown yes",
        version: "TLS 1.3",
        key_exchange: "X25519MLKEM768",
        quantum: "post-quantum",
        posture: "TLS 1.3 X25519MLKEM768 AES-256-GCM",
        wide: &["for localhost", "post-quantum true", "name localhost"],
    },
    Spoken {
        client: "ssh",
        protocol: "ssh",
        answers: "yes yes unknown yes",
        version: "SSH 2.0",
        key_exchange: "sntrup761x25519-sha512",
        quantum: "post-quantum",
        posture: "SSH 2.0 sntrup761x25519-sha512 aes256-gcm logged-in",
        wide: &["host key ssh-ed25519", "cipher aes256-gcm@openssh.com", "log-in succeeded", "failures 0"],
    },
    Spoken {
        client: "quic-echo",
        protocol: "quic",
        answers: "yes yes unknown yes",
        version: "QUIC (TLS 1.3)",
        key_exchange: "X25519MLKEM768",
        quantum: "post-quantum",
        posture: "QUIC (TLS 1.3) X25519MLKEM768 AES-256-GCM",
        wide: &["alpn h3", "post-quantum true", "client certificate unknown"],
    },
];

enum Running {
    Server(#[expect(dead_code, reason = "ends with it")] Server),
    Process(#[expect(dead_code, reason = "ends with it")] Process),
}

/// Starts the servers, and speaks to each.
fn speak(lab: &Lab, certificates: &Certificates) -> Result<Vec<Running>> {
    let [http, mutual, modern, quantum, ssh, quic] = std::array::from_fn(|at| PORT + at as u16);
    let authority = certificates.authority.as_str();
    let mut running = vec![
        Running::Server(servers::nginx(lab, certificates, http, Security::Plain)?),
        Running::Server(servers::nginx(lab, certificates, modern, Security::Tls13)?),
        Running::Server(servers::sshd(lab, certificates, ssh, Security::Plain)?),
    ];
    let own = [certificates.certificate.as_str(), &certificates.key];
    let mut serve = |name: &str, command: Command, transport: &str, port: u16| -> Result<()> {
        let mut process = Process::start(name, &lab.directory, quiet(command))?;
        process.wait_for_port(transport, port, PATIENCE)?;
        running.push(Running::Process(process));
        Ok(())
    };
    let mut command = lab.server().command("openssl");
    command.args(["s_server", "-www", "-tls1_2", "-accept", &mutual.to_string(), "-Verify", "2"]);
    command.args(["-CAfile", authority, "-cert", own[0], "-key", own[1]]);
    serve("s_server", command, "tcp", mutual)?;
    let mut command = lab.server().command(tool("tls-peer")?);
    command.args(["tls", &format!("{HOST}:{quantum}")]).args(own);
    serve("tls-peer", command, "tcp", quantum)?;
    let mut command = lab.server().command(tool("quic-echo")?);
    command.args(["server", &format!("[::]:{quic}")]).args(own);
    serve("quic-echo", command, "udp", quic)?;

    let run = |command: Command| lab.run(quiet(command), PATIENCE).map(drop);
    let curl = |arguments: &[&str]| {
        let mut command = lab.client().command("curl");
        command.args(["-sSf", "-m", "20", "-o", "/dev/null"]).args(arguments);
        command
    };
    run(curl(&[&format!("http://{HOST}:{http}/")]))?;
    let mut command = lab.client().command("openssl");
    command.args(["s_client", "-connect", &format!("{HOST}:{mutual}"), "-servername", "api.example.org"]);
    command.args(["-cert", &certificates.client_certificate, "-key", &certificates.client_key]);
    run(command)?;
    run(curl(&["--cacert", authority, &format!("https://{HOST}:{modern}/")]))?;
    let mut command = lab.client().command(tool("tls-peer")?);
    command.args(["tls-client", &format!("{HOST}:{quantum}"), authority, "localhost"]);
    run(command)?;
    let mut command = lab.client().command("ssh");
    command.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
    command.args(["-o", "IdentitiesOnly=yes", "-i", &lab.directory.file("ssh-client")]);
    command.args(["-c", "aes256-gcm@openssh.com", "-p", &ssh.to_string(), &format!("root@{HOST}"), "true"]);
    run(command)?;
    let mut command = lab.client().command(tool("quic-echo")?);
    command.args(["client", &format!("{HOST}:{quic}"), authority]);
    run(command)?;
    Ok(running)
}

/// Without input, at the end of which clients end.
fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null());
    command
}

fn shown() -> Result<()> {
    let lab = Lab::new("posture-views")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let running = speak(&lab, &certificates)?;
    for (at, spoken) in SPOKEN.iter().enumerate() {
        let port = u64::from(PORT) + at as u64;
        daemon.wait_for(spoken.posture, PATIENCE, is_flow, |record| {
            is_flow(record)
                && number(record, "server.port") == Some(port)
                && (spoken.protocol == "quic" || text(record, "event.action") == "flow_closed")
                && text(record, "streamwatch.posture") == spoken.posture
        })?;
    }
    drop(running);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--socket").arg(daemon.socket());
        Ok::<_, anyhow::Error>(finish(command, PATIENCE)?.success()?.stdout)
    };
    lines(&run(&["streams"])?, &run(&["streams", "--wide"])?)?;
    sums(&run(&["status"])?, &daemon)?;
    bill(&lab, &run(&["inventory", "--cyclonedx"])?)
}

/// The bill of materials is one by the published schema, and holds what was spoken.
fn bill(lab: &Lab, text: &str) -> Result<()> {
    let file = lab.directory.write("bill.json", text)?;
    let mut validate = Command::new(python());
    validate.arg(program("validate_bill.py")).arg(file);
    let said = finish(validate, PATIENCE)?.success().context("the published schema of CycloneDX 1.6")?.stdout;
    ensure!(said.trim() == "valid", "{said}");
    let bill: Value = serde_json::from_str(text)?;
    let components = bill["components"].as_array().context("no components")?;
    let of_kind = |kind: &str| -> Vec<&str> {
        let of_it = components.iter().filter(|it| it["cryptoProperties"]["assetType"] == kind);
        of_it.filter_map(|it| it["name"].as_str()).collect()
    };
    for (kind, names) in [
        ("protocol", &["TLS 1.2", "TLS 1.3", "SSH 2.0", "QUIC with TLS 1.3"][..]),
        ("algorithm", &["X25519MLKEM768", "x25519", "AES-256-GCM"]),
        ("certificate", &["CN=server", "CN=client"]),
    ] {
        let listed = of_kind(kind);
        ensure!(names.iter().all(|name| listed.contains(name)), "{kind}: {listed:?}, not {names:?}");
    }
    Ok(())
}

/// Each stream once, in one line, with the right words; and with `--wide` what belongs to it below.
fn lines(narrow: &str, wide: &str) -> Result<()> {
    // Connections that were open before may belong to anybody on this host.
    let ours = narrow.lines().filter(|line| !line.contains("opened before we started"));
    ensure!(ours.count() == 1 + SPOKEN.len(), "not a line a stream:\n{narrow}");
    for (at, spoken) in SPOKEN.iter().enumerate() {
        let service = format!(":{}", usize::from(PORT) + at);
        let of_it = |text: &'static str| move |line: &&str| line.contains(text);
        let line = narrow
            .lines()
            .find(|line| line.contains(&service))
            .context("no line")
            .context(service.clone())?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let wanted = format!(" {} {} {} ", spoken.protocol, spoken.answers, spoken.posture);
        ensure!(words.join(" ").contains(&wanted), "not {wanted:?}: {line}");
        ensure!(line.contains(spoken.client), "whose is it? {line}");
        let mut below = wide.lines().skip_while(|line| !line.contains(&service));
        ensure!(below.next().is_some_and(|first| of_it(spoken.posture)(&first)), "{service}:\n{wide}");
        let notes: Vec<&str> = below.take_while(|line| line.starts_with(' ')).collect();
        for part in spoken.wide {
            ensure!(notes.iter().any(of_it(part)), "{service}: no {part:?}:\n{}", notes.join("\n"));
        }
    }
    Ok(())
}

/// A table of `status`: name, streams, their share, the bytes' share.
fn table(page: &str, title: &str) -> Result<Vec<(String, u64, f64, f64)>> {
    let rows = page.lines().skip_while(|line| !line.starts_with(title)).skip(1);
    let percent = |text: &str| text.trim_end_matches(" %").parse::<f64>();
    rows.take_while(|line| !line.is_empty())
        .map(|line| {
            let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
            let [name, streams, stream_share, _, byte_share] = cells[..] else {
                anyhow::bail!("no row of shares: {line:?}");
            };
            Ok((name.to_owned(), streams.parse()?, percent(stream_share)?, percent(byte_share)?))
        })
        .collect()
}

/// Title of a table, name of the same in the inventory, and what it counts by.
type Sum = (&'static str, &'static str, fn(&Spoken) -> &'static str);

fn sums(page: &str, daemon: &Daemon) -> Result<()> {
    let streams = daemon.list("/v1/streams")?;
    let bytes_of = |at: usize| {
        let port = u64::from(PORT) + at as u64;
        let here = |record: &&Value| number(record, "server.port") == Some(port);
        streams.iter().filter(here).filter_map(|record| number(record, "network.bytes")).sum::<u64>()
    };
    let all_bytes: u64 = (0..SPOKEN.len()).map(bytes_of).sum();
    const TABLES: [Sum; 3] = [
        ("PROTECTION", "by_version", |it| it.version),
        ("KEY EXCHANGE", "by_key_exchange", |it| it.key_exchange),
        ("QUANTUM COMPUTERS", "by_post_quantum", |it| it.quantum),
    ];
    let inventory = daemon.get("/v1/inventory")?;
    for (title, list, name) in TABLES {
        let mut truth: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (at, spoken) in SPOKEN.iter().enumerate() {
            let sum = truth.entry(name(spoken)).or_default();
            *sum = (sum.0 + 1, sum.1 + bytes_of(at));
        }
        let rows = table(page, title).with_context(|| format!("{title} in:\n{page}"))?;
        // Connections that were open before may belong to anybody on this host; they count, as unknown.
        let others = rows.iter().any(|(name, ..)| name == "unknown");
        ensure!(rows.len() == truth.len() + usize::from(others), "{title}: {rows:?}, not {truth:?}");
        let mut all = (0.0, 0.0);
        for (name, streams, stream_share, byte_share) in &rows {
            all = (all.0 + stream_share, all.1 + byte_share);
            if name == "unknown" {
                continue;
            }
            let (count, bytes) = truth.get(name.as_str()).with_context(|| format!("{title}: {name}?"))?;
            ensure!(streams == count, "{title}: {name} has {streams} streams, not {count}");
            let share = |part: u64, all: u64| 100.0 * part as f64 / all as f64;
            let close = |said: f64, part, all| others || (said - share(part, all)).abs() <= 0.11;
            ensure!(close(*stream_share, *count, SPOKEN.len() as u64), "{title}: {name}: {stream_share} %");
            ensure!(
                close(*byte_share, *bytes, all_bytes),
                "{title}: {name}: {byte_share} % of bytes: {truth:?}"
            );
        }
        ensure!(
            (all.0 - 100.0).abs() < 1.0 && (all.1 - 100.0).abs() < 1.0,
            "{title}: {all:?} % in all:\n{page}"
        );
        // The same numbers, to the byte, for machines.
        let shares = inventory[list].as_array().with_context(|| format!("no {list} in {inventory}"))?;
        for share in shares.iter().filter(|share| share["name"] != "unknown") {
            let name = share["name"].as_str().unwrap_or_default();
            let said = (share["streams"].as_u64(), share["bytes"].as_u64());
            let (count, bytes) = truth.get(name).with_context(|| format!("{list}: {name}?"))?;
            ensure!(said == (Some(*count), Some(*bytes)), "{list}: {name}: {share}, not {truth:?}");
        }
        for sum in ["streams", "bytes"] {
            let added: u64 = shares.iter().filter_map(|share| share[sum].as_u64()).sum();
            ensure!(inventory[sum].as_u64() == Some(added), "{list}: {added} {sum}: {inventory}");
        }
    }
    Ok(())
}
