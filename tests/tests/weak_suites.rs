//! Versions and suites that nobody should use any more, as real stacks still speak them: each is named, told
//! of under its rule with its reason, and taken for encryption only where it is some.

use std::collections::HashMap;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::program;
use tests::{
    Certificates, Daemon, DaemonOptions, Lab, Process, Suite, finish, is_alert, is_flow, number, text,
};

/// Each case has the next port.
const FIRST_PORT: u16 = 34_680;
/// For a busy machine; nothing here is about speed.
const PATIENCE: Duration = Duration::from_secs(90);
const HOST: &str = "10.213.0.2";

fn main() -> ExitCode {
    Suite::new("weak_suites")
        .test("what Java's settings keep from it", &["openssl", "java", "javac"], java)
        .test("3DES and RC4 of GnuTLS", &["openssl", "gnutls-serv", "gnutls-cli"], || others(GNUTLS, gnutls))
        .test("what OpenSSL has at its lowest level", &["openssl"], || others(OPENSSL, openssl))
        .main()
}

/// What is said of a connection.
struct Case {
    /// Protocols and suite, as the stack names them.
    spoken: &'static str,
    version: &'static str,
    encrypted: &'static str,
    authenticated: &'static str,
    /// Rule, severity, a part of the reason.
    told: &'static [(&'static str, u64, &'static str)],
}

const fn case(
    spoken: &'static str,
    version: &'static str,
    encrypted: &'static str,
    authenticated: &'static str,
    told: &'static [(&'static str, u64, &'static str)],
) -> Case {
    Case { spoken, version, encrypted, authenticated, told }
}

const STATIC: (&str, u64, &str) = ("weak-cipher", 2, "has no forward secrecy");

const JAVA: &[Case] = &[
    case(
        "SSLv3:SSL_RSA_WITH_RC4_128_MD5",
        "SSL 3.0",
        "unknown",
        "unknown",
        &[("weak-tls", 4, "SSL 3.0"), ("weak-cipher", 3, "uses RC4"), ("weak-cipher", 3, "uses MD5")],
    ),
    case(
        "SSLv2Hello+SSLv3:SSL_DHE_RSA_WITH_3DES_EDE_CBC_SHA",
        "SSL 3.0",
        "unknown",
        "unknown",
        &[("weak-tls", 4, "SSL 3.0"), ("weak-cipher", 3, "uses 3DES")],
    ),
    case(
        "SSLv2Hello+TLSv1:SSL_RSA_WITH_DES_CBC_SHA",
        "TLS 1.0",
        "unknown",
        "unknown",
        &[("weak-tls", 4, "TLS 1.0"), ("weak-cipher", 4, "uses a cipher that is broken by brute force")],
    ),
    case(
        "TLSv1:SSL_RSA_EXPORT_WITH_RC4_40_MD5",
        "TLS 1.0",
        "unknown",
        "unknown",
        &[("weak-tls", 4, "TLS 1.0"), ("weak-cipher", 4, "has export-grade keys")],
    ),
    case(
        "TLSv1.1:SSL_DH_anon_WITH_DES_CBC_SHA",
        "TLS 1.1",
        "unknown",
        "unknown",
        &[("weak-tls", 4, "TLS 1.1"), ("weak-cipher", 4, "authenticates nobody")],
    ),
    case(
        "TLSv1.2:TLS_ECDHE_RSA_WITH_RC4_128_SHA",
        "TLS 1.2",
        "yes",
        "yes",
        &[("weak-cipher", 3, "uses RC4")],
    ),
    case(
        "TLSv1.2:SSL_RSA_WITH_3DES_EDE_CBC_SHA",
        "TLS 1.2",
        "yes",
        "yes",
        &[("weak-cipher", 3, "uses 3DES"), ("weak-cipher", 3, "has no forward secrecy")],
    ),
    case(
        "TLSv1.2:TLS_ECDH_anon_WITH_AES_128_CBC_SHA",
        "TLS 1.2",
        "yes",
        "no",
        &[("weak-cipher", 4, "authenticates nobody")],
    ),
    case(
        "TLSv1.2:TLS_DH_anon_WITH_AES_128_GCM_SHA256",
        "TLS 1.2",
        "yes",
        "no",
        &[("weak-cipher", 4, "authenticates nobody")],
    ),
    case(
        "TLSv1.2:TLS_ECDHE_RSA_WITH_NULL_SHA",
        "TLS 1.2",
        "no",
        "unknown",
        &[("weak-cipher", 4, "encrypts nothing")],
    ),
    case("TLSv1.2:TLS_RSA_WITH_AES_128_GCM_SHA256", "TLS 1.2", "yes", "yes", &[STATIC]),
    // By policy only.
    case("TLSv1.2:TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "TLS 1.2", "yes", "yes", &[]),
    case("TLSv1.2:TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS 1.2", "yes", "yes", &[]),
    case("TLSv1.3:TLS_AES_128_GCM_SHA256", "TLS 1.3", "yes", "yes", &[]),
];

/// With `cbc_sha1 = true`.
const GNUTLS: &[Case] = &[
    case(
        "NONE:+VERS-TLS1.2:+3DES-CBC:+SHA1:+ECDHE-RSA:+GROUP-ALL:+SIGN-ALL:+COMP-NULL",
        "TLS 1.2",
        "yes",
        "yes",
        &[("weak-cipher", 3, "uses TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, which uses 3DES")],
    ),
    case(
        "NONE:+VERS-TLS1.2:+ARCFOUR-128:+SHA1:+RSA:+SIGN-ALL:+COMP-NULL",
        "TLS 1.2",
        "yes",
        "yes",
        &[("weak-cipher", 3, "uses TLS_RSA_WITH_RC4_128_SHA, which uses RC4")],
    ),
    case(
        "NONE:+VERS-TLS1.1:+AES-128-CBC:+SHA1:+ECDHE-RSA:+GROUP-ALL:+SIGN-ALL:+SIGN-RSA-SHA1:+COMP-NULL",
        "TLS 1.1",
        "unknown",
        "unknown",
        &[("weak-tls", 4, "TLS 1.1"), ("weak-cipher", 1, "uses CBC with SHA-1")],
    ),
];

const OPENSSL: &[Case] = &[
    case(
        "ECDHE-RSA-AES256-SHA",
        "TLS 1.2",
        "yes",
        "yes",
        &[("weak-cipher", 1, "uses TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, which uses CBC with SHA-1")],
    ),
    case("NULL-MD5", "TLS 1.2", "no", "unknown", &[("weak-cipher", 4, "encrypts nothing")]),
    case("AECDH-NULL-SHA", "TLS 1.2", "no", "unknown", &[("weak-cipher", 4, "encrypts nothing")]),
    case("ADH-AES256-GCM-SHA384", "TLS 1.2", "yes", "no", &[("weak-cipher", 4, "authenticates nobody")]),
    case("AES256-SHA256", "TLS 1.2", "yes", "yes", &[STATIC]),
];

fn java() -> Result<()> {
    let lab = Lab::new("weak-suites")?;
    let certificates = Certificates::new(&lab.directory)?;
    let archive = lab.directory.file("server.p12");
    let mut make = Command::new("openssl");
    make.args(["pkcs12", "-export", "-passout", "pass:password", "-out", &archive]);
    make.args(["-in", &certificates.certificate, "-inkey", &certificates.key]);
    finish(make, PATIENCE)?.success()?;
    let classes = lab.directory.file("classes");
    let mut compile = Command::new("javac");
    compile.args(["-d", &classes]).arg(program("OldPeer.java"));
    finish(compile, PATIENCE)?.success()?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let peer = |mut command: Command, role: &str| {
        command.args(["-cp", &classes, "OldPeer", role, HOST, &FIRST_PORT.to_string(), &archive]);
        command.args(JAVA.iter().map(|case| case.spoken));
        command
    };
    let mut server = Process::start("java", &lab.directory, peer(lab.server().command("java"), "server"))?;
    for (port, _) in (FIRST_PORT..).zip(JAVA) {
        server.wait_for_port("tcp", port, PATIENCE)?;
    }
    let said = lab.run(peer(lab.client().command("java"), "client"), PATIENCE).context(server.said())?.stdout;
    let agreed: HashMap<u16, &str> = said
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?.parse().ok()?, words.nth(1)?))
        })
        .collect();
    ensure!(agreed.len() == JAVA.len(), "not all were spoken to: {said}");
    all(&daemon, JAVA, |port, _| Ok(agreed.get(&port).context("not spoken to")?.replace("SSL_", "TLS_")))
}

/// A server and a client for each case; what they agreed on is the client's word, in its own words.
fn others(
    cases: &'static [Case],
    speak: fn(&Lab, &Certificates, &Case, u16) -> Result<Process>,
) -> Result<()> {
    let lab = Lab::new("weak-suites")?;
    let certificates = Certificates::new(&lab.directory)?;
    let config = Some("[detect.weak_cipher]\ncbc_sha1 = true\n".to_owned());
    let daemon = Daemon::start(&lab, DaemonOptions { config, ..DaemonOptions::default() })?;
    let mut servers = Vec::new();
    for (port, case) in (FIRST_PORT..).zip(cases) {
        servers.push(speak(&lab, &certificates, case, port).with_context(|| case.spoken)?);
    }
    all(&daemon, cases, |_, case| {
        // Of a name with a rule about it, the reason names the suite.
        let names = case.told.iter().filter_map(|(_, _, reason)| reason.strip_prefix("uses TLS_"));
        Ok(names
            .map(|rest| format!("TLS_{}", rest.split(',').next().unwrap_or(rest)))
            .next()
            .unwrap_or_default())
    })
}

fn gnutls(lab: &Lab, certificates: &Certificates, case: &Case, port: u16) -> Result<Process> {
    let mut command = lab.server().command("gnutls-serv");
    command.args(["--echo", "-p", &port.to_string(), "--priority", case.spoken, "--disable-client-cert"]);
    command.args(["--x509certfile", &certificates.certificate, "--x509keyfile", &certificates.key]);
    let mut server = Process::start(&format!("gnutls-serv-{port}"), &lab.directory, command)?;
    server.wait_for_port("tcp", port, PATIENCE)?;
    let mut client = lab.client().command("gnutls-cli");
    client.args(["--insecure", "-p", &port.to_string(), "--priority", case.spoken, HOST]);
    lab.run(quiet(client), PATIENCE)?;
    Ok(server)
}

fn openssl(lab: &Lab, certificates: &Certificates, case: &Case, port: u16) -> Result<Process> {
    let suite = format!("{}:@SECLEVEL=0", case.spoken);
    let mut command = lab.server().command("openssl");
    command.args(["s_server", "-www", "-accept", &port.to_string(), "-tls1_2", "-cipher", &suite]);
    command.args(["-cert", &certificates.certificate, "-key", &certificates.key]);
    let mut server = Process::start(&format!("s_server-{port}"), &lab.directory, quiet(command))?;
    server.wait_for_port("tcp", port, PATIENCE)?;
    let mut client = lab.client().command("openssl");
    client.args(["s_client", "-connect", &format!("{HOST}:{port}"), "-tls1_2", "-cipher", &suite]);
    let said = lab.run(quiet(client), PATIENCE)?.stdout;
    ensure!(said.contains(&format!("Cipher is {}\n", case.spoken)), "{said}");
    Ok(server)
}

/// Without input: clients end once the handshake is through.
fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null());
    command
}

/// `suite`: what was agreed on, by the name of the registry; empty: not known.
fn all(daemon: &Daemon, cases: &'static [Case], suite: impl Fn(u16, &Case) -> Result<String>) -> Result<()> {
    let with_ports = || (FIRST_PORT..).zip(cases);
    // Of whom nothing is told last: by then it would have been.
    let (silent, told): (Vec<_>, Vec<_>) = with_ports().partition(|(_, case)| case.told.is_empty());
    for (port, case) in told.into_iter().chain(silent) {
        judged(daemon, case, port, &suite(port, case)?).with_context(|| case.spoken)?;
    }
    Ok(())
}

fn judged(daemon: &Daemon, case: &Case, port: u16, suite: &str) -> Result<()> {
    let here = |record: &Value| number(record, "server.port") == Some(port.into());
    for direction in ["egress", "ingress"] {
        let closed = daemon.wait_for("closed flow", PATIENCE, here, |record| {
            is_flow(record)
                && here(record)
                && text(record, "network.direction") == direction
                && text(record, "event.action") == "flow_closed"
        })?;
        let record = closed.record;
        let version = match text(&record, "tls.version_protocol") {
            "ssl" => format!("SSL {}", text(&record, "tls.version")),
            _ => format!("TLS {}", text(&record, "tls.version")),
        };
        ensure!(version == case.version, "{direction}: {version}: {record}");
        ensure!(
            suite.is_empty() || text(&record, "tls.cipher") == suite,
            "{direction}: not {suite}: {record}"
        );
        // A hello in the SSL 2 format has no fingerprint.
        let old_format = text(&record, "tls.client.ja3").is_empty();
        ensure!(old_format == case.spoken.starts_with("SSLv2Hello"), "{direction}: {record}");
        for (question, answer) in [("encrypted", case.encrypted), ("authenticated", case.authenticated)] {
            let said = text(&record, &format!("streamwatch.verdict.{question}.answer"));
            ensure!(said == answer, "{direction}: {question} is {said}, not {answer}: {record}");
        }
    }
    let alert = |record: &Value| {
        is_alert(record) && here(record) && ["weak-tls", "weak-cipher"].contains(&text(record, "rule.id"))
    };
    for (rule, severity, reason) in case.told {
        daemon.wait_for(reason, PATIENCE, here, |record| {
            alert(record)
                && text(record, "rule.id") == *rule
                && number(record, "event.severity") == Some(*severity)
                && text(record, "event.reason").contains(reason)
        })?;
    }
    if case.told.is_empty() {
        let wrong = daemon.heard().into_iter().find(|heard| alert(&heard.record));
        ensure!(wrong.is_none(), "nothing is wrong with it: {wrong:?}");
    }
    Ok(())
}
