//! DTLS of live stacks: version, suite, name, certificates, and who proved who they are at both ends.

#[path = "dtls/tshark.rs"]
mod tshark;

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::servers::tool;
use tests::{Certificates, Daemon, DaemonOptions, Lab, Process, Suite, field, is_flow, number, show, text};

const PORT: u16 = 34_801;
/// For a busy machine; nothing here is about speed.
const PATIENCE: Duration = Duration::from_secs(40);
const HOST: &str = "10.213.0.2";

/// What the handshake was, and so what must be said of it, of both sockets.
struct Truth {
    version: &'static str,
    /// Answer to "encrypted?": DTLS 1.0 is deprecated (RFC 8996).
    encrypted: &'static str,
    server_name: Option<&'static str>,
    /// Whether the wire shows certificates.
    shown: bool,
    /// `streamwatch.tls.client_certificate.state`
    client: &'static str,
    /// Where the stack says what it negotiated.
    suite: &'static str,
}

fn main() -> ExitCode {
    Suite::new("dtls")
        .test("OpenSSL, DTLS 1.2, both ends with certificates", &["openssl"], || {
            openssl(&["-dtls1_2"], &["-dtls1_2"], true, "1.2", "yes")
        })
        .test("OpenSSL, DTLS 1.2, the server alone", &["openssl"], || {
            openssl(&["-dtls1_2"], &["-dtls1_2"], false, "1.2", "yes")
        })
        .test("OpenSSL, DTLS 1.2, after a cookie", &["openssl"], || {
            openssl(&["-dtls1_2", "-listen"], &["-dtls1_2"], false, "1.2", "yes")
        })
        .test("OpenSSL, DTLS 1.0", &["openssl"], || {
            let old = ["-dtls1", "-cipher", "DEFAULT@SECLEVEL=0"];
            openssl(&old, &old, false, "1.0", "unknown")
        })
        .test(
            "GnuTLS, DTLS 1.2, both ends with certificates",
            &["openssl", "gnutls-serv", "gnutls-cli"],
            || gnutls(true),
        )
        .test("GnuTLS, DTLS 1.2, the server alone", &["openssl", "gnutls-serv", "gnutls-cli"], || {
            gnutls(false)
        })
        .test("DTLS 1.3 of dimpl, a client certificate required", &[], || dimpl(true))
        .test("DTLS 1.3 of dimpl, none required", &[], || dimpl(false))
        .test(
            "tshark reads the same of every stack",
            &["openssl", "gnutls-serv", "gnutls-cli", "tshark"],
            tshark::says_the_same,
        )
        .main()
}

/// `listening`: with `-listen` the server answers the first hello with a cookie.
fn openssl(
    server: &[&str],
    client: &[&str],
    mutual: bool,
    version: &'static str,
    encrypted: &'static str,
) -> Result<()> {
    let lab = Lab::new("dtls")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let mut command = lab.server().command("openssl");
    command.args(["s_server", "-accept", &format!("{HOST}:{PORT}"), "-quiet"]).args(server);
    command.args(["-cert", &certificates.certificate, "-key", &certificates.key]);
    if mutual {
        command.args(["-Verify", "2", "-verify_return_error", "-CAfile", &certificates.authority]);
    }
    let mut running = Process::start("s_server", &lab.directory, command)?;
    running.wait_for_port("udp", PORT, PATIENCE)?;
    let mut command = lab.client().command("openssl");
    command.args(["s_client", "-connect", &format!("{HOST}:{PORT}"), "-servername", "api.example.org"]);
    // Else it sends what does not fit through the link, and ends (EMSGSIZE).
    command.args(client).args(["-mtu", "1400", "-CAfile", &certificates.authority]);
    if mutual {
        command.args(["-cert", &certificates.client_certificate, "-key", &certificates.client_key]);
    }
    let said = talk(&lab, command, "Verify return code")?;
    ensure!(!said.contains("errno="), "the handshake failed:\n{said}");
    let suite = ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-SHA"]
        .into_iter()
        .find(|name| said.contains(&format!("Cipher is {name}\n")));
    ensure!(suite.is_some(), "the client does not say what it negotiated:\n{said}");
    let suite = match suite {
        Some("ECDHE-RSA-AES256-GCM-SHA384") => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        _ => "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    };
    let client = if mutual { "presented" } else { "not_requested" };
    let server_name = Some("api.example.org");
    let truth = Truth { version, encrypted, server_name, shown: true, client, suite };
    told(&daemon, &truth).with_context(|| format!("{said}\nthe server said: {}", running.said()))
}

fn gnutls(mutual: bool) -> Result<()> {
    let lab = Lab::new("dtls")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let mut command = lab.server().command("gnutls-serv");
    command.args(["--udp", "--echo", "-p", &PORT.to_string()]);
    command.args(["--x509certfile", &certificates.certificate, "--x509keyfile", &certificates.key]);
    command.args(["--x509cafile", &certificates.authority]);
    command.arg(if mutual { "--require-client-cert" } else { "--disable-client-cert" });
    let mut running = Process::start("gnutls-serv", &lab.directory, command)?;
    running.wait_for_port("udp", PORT, PATIENCE)?;
    let mut command = lab.client().command("gnutls-cli");
    command.args(["--udp", "-p", &PORT.to_string(), "--x509cafile", &certificates.authority]);
    command.args(["--sni-hostname", "localhost", "--verify-hostname", "localhost", HOST]);
    if mutual {
        command.args(["--x509certfile", &certificates.client_certificate]);
        command.args(["--x509keyfile", &certificates.client_key]);
    }
    let said = talk(&lab, command, "Handshake was completed")?;
    ensure!(said.contains("(DTLS1.2-X.509)-(ECDHE-SECP256R1)-(RSA-"), "{said}");
    let suite = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384";
    ensure!(said.contains("(AES-256-GCM)"), "{said}");
    let client = if mutual { "presented" } else { "not_requested" };
    let name = Some("localhost");
    let truth = Truth { version: "1.2", encrypted: "yes", server_name: name, shown: true, client, suite };
    told(&daemon, &truth).with_context(|| format!("{said}\nthe server said: {}", running.said()))
}

/// DTLS 1.3 hides certificates; whether the client presented one is left open.
fn dimpl(asks: bool) -> Result<()> {
    let lab = Lab::new("dtls")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let mut command = lab.server().command(tool("tls-peer")?);
    command.args(["dtls-server", &format!("{HOST}:{PORT}")]).args((!asks).then_some("anyone"));
    let mut running = Process::start("tls-peer", &lab.directory, command)?;
    running.wait_for_port("udp", PORT, PATIENCE)?;
    let mut command = lab.client().command(tool("tls-peer")?);
    command.args(["dtls-client", &format!("{HOST}:{PORT}")]);
    lab.run(command, PATIENCE)?;
    let suite = "TLS_AES_128_GCM_SHA256";
    told(
        &daemon,
        &Truth {
            version: "1.3",
            encrypted: "yes",
            server_name: None,
            shown: false,
            client: "unknown",
            suite,
        },
    )
}

/// Runs an interactive client until it says `done`, gives it a line to send, and ends it.
fn talk(lab: &Lab, mut command: Command, done: &str) -> Result<String> {
    let said = lab.directory.path().join("client.said");
    let file = std::fs::File::create(&said)?;
    command.stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file);
    let mut process = Process::start_piped("client", command)?;
    let mut stdin = process.take_stdin()?;
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut all = String::new();
    while !all.contains(done) {
        let ended = process.ended()?;
        all = String::from_utf8_lossy(&std::fs::read(&said)?).into_owned();
        ensure!(ended.is_none() || all.contains(done), "the client ended:\n{all}");
        ensure!(std::time::Instant::now() < deadline, "the client is not through:\n{all}");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::io::Write::write_all(&mut stdin, b"hello\n")?;
    drop(stdin);
    // Some wait for an answer that does not come: what was said is enough.
    let _ = process.wait(Duration::from_secs(5));
    Ok(all)
}

fn told(daemon: &Daemon, truth: &Truth) -> Result<()> {
    for direction in ["egress", "ingress"] {
        let this = |record: &Value| {
            is_flow(record)
                && number(record, "server.port") == Some(PORT.into())
                && text(record, "network.direction") == direction
        };
        let right = |record: &Value| this(record) && wrong(record, truth).is_none();
        let Err(error) = daemon.wait_for("flow with the right answers", PATIENCE, this, right) else {
            continue;
        };
        let heard = daemon.heard();
        let last = heard.iter().rev().map(|heard| &heard.record).find(|record| this(record));
        let why = last.and_then(|record| Some(format!("{}; {}", wrong(record, truth)?, show(record))));
        return Err(error.context(why.unwrap_or_default()).context(direction));
    }
    Ok(())
}

/// What is wrong with a record, if anything.
fn wrong(record: &Value, truth: &Truth) -> Option<String> {
    let mut expected = vec![
        ("network.transport", "udp"),
        ("network.protocol", "dtls"),
        ("tls.version", truth.version),
        ("tls.cipher", truth.suite),
        ("streamwatch.verdict.encrypted.answer", truth.encrypted),
        ("streamwatch.verdict.watched.answer", "yes"),
        ("streamwatch.tls.client_certificate.state", truth.client),
        ("tls.client.server_name", truth.server_name.unwrap_or_default()),
    ];
    if truth.shown {
        expected.push(("tls.server.subject", "CN=server"));
        expected.push(("tls.server.issuer", "CN=streamwatch test authority"));
        expected.push(("tls.client.subject", if truth.client == "presented" { "CN=client" } else { "" }));
    }
    let differs = expected.into_iter().find(|(name, value)| text(record, name) != *value);
    if let Some((name, value)) = differs {
        return Some(format!("{name} is {}, not {value:?}", field(record, name)));
    }
    let authenticated = text(record, "streamwatch.verdict.authenticated.answer");
    let reason = text(record, "streamwatch.verdict.authenticated.reason");
    let answer = if truth.encrypted == "yes" { "yes" } else { "unknown" };
    if authenticated != answer {
        return Some(format!("authenticated is {authenticated} ({reason})"));
    }
    let proved = reason.contains("client proved `client`");
    (proved != (truth.client == "presented")).then(|| format!("the reason is {reason:?}"))
}
