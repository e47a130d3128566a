//! How well streams are encrypted, and who proved who they are: alerts, answers, sums, the inventory.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{self, Security};
use tests::{
    Certificates, Daemon, DaemonOptions, Lab, Place, Process, Suite, binary, field, finish, is_alert,
    is_flow, number, text,
};

const PORT: u16 = 34_601;
/// For a busy machine; nothing here is about speed.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    Suite::new("posture")
        .test("TLS 1.0 is a critical alert, and no encryption to rely on", &["openssl"], old_version)
        .test("TLS 1.2 shows who proved what at both ends", &["openssl"], mutual)
        .test("an expired certificate is told", &["openssl"], expired)
        .test("a short key, SHA-1, another's name and nobody's word are told", &["openssl"], poor_certificate)
        .test("thresholds are those of the settings", &["openssl"], thresholds)
        .test(
            "a suite that encrypts nothing is a critical alert, and no encryption",
            &["openssl"],
            null_suite,
        )
        .test("a service that requires client certificates is held to it", &["openssl"], client_missing)
        .test("a service that requires TLS 1.3 is held to it", &["nginx", "openssl"], required_version)
        .test("handshakes that keep failing are told, with the alert", &["nginx", "openssl"], failures)
        .test("each certificate that a service shows is in the inventory", &["openssl"], shown)
        .test("status, hist and the inventory sum it up", &["nginx", "openssl"], sums)
        .main()
}

fn is_alert_of(record: &Value, rule: &str) -> bool {
    is_alert(record) && text(record, "rule.id") == rule && number(record, "server.port") == Some(PORT.into())
}

fn alert(daemon: &Daemon, rule: &str) -> Result<Value> {
    let heard = daemon.wait_for(rule, PATIENCE, |_| true, |record| is_alert_of(record, rule))?;
    Ok(heard.record)
}

/// The flow of this port, once its facts are settled.
fn settled(daemon: &Daemon) -> Result<Value> {
    let heard = daemon.wait_for("settled flow", PATIENCE, is_flow, |record| {
        is_flow(record)
            && number(record, "server.port") == Some(PORT.into())
            && matches!(text(record, "event.action"), "flow_settled" | "flow_closed")
            && !field(record, "tls.version").is_null()
    })?;
    Ok(heard.record)
}

fn s_server(lab: &Lab, certificates: (&str, &str), arguments: &[&str]) -> Result<Process> {
    let mut command = lab.server().command("openssl");
    command.args(["s_server", "-www", "-accept", &PORT.to_string()]);
    command.args(["-cert", certificates.0, "-key", certificates.1]).args(arguments);
    let mut process = Process::start("s_server", &lab.directory, command)?;
    process.wait_for_port("tcp", PORT, PATIENCE)?;
    Ok(process)
}

fn curl(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let mut command = lab.client().command("curl");
    command.args(["-sSf", "-m", "20", "-o", "/dev/null"]).args(arguments);
    command.arg(format!("https://10.213.0.2:{PORT}/"));
    lab.run(command, PATIENCE).map(drop)
}

fn old_version() -> Result<()> {
    let lab = Lab::new("posture")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let weak = ["-cipher", "DEFAULT@SECLEVEL=0", "-tls1"];
    let _server = s_server(&lab, (&certificates.certificate, &certificates.key), &weak)?;
    let mut client = lab.client().command("openssl");
    client.args(["s_client", "-connect", &format!("10.213.0.2:{PORT}")]).args(weak);
    finish(client, PATIENCE)?.success()?;
    let record = alert(&daemon, "weak-tls")?;
    ensure!(number(&record, "event.severity") == Some(4), "not critical: {record}");
    ensure!(!text(&record, "streamwatch.alert.remedy").is_empty(), "no remedy: {record}");
    let flow = settled(&daemon)?;
    ensure!(text(&flow, "streamwatch.verdict.encrypted.answer") == "unknown", "{flow}");
    ensure!(text(&flow, "streamwatch.posture").starts_with("TLS 1.0"), "{flow}");
    Ok(())
}

fn mutual() -> Result<()> {
    let lab = Lab::new("posture")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let demand = ["-tls1_2", "-Verify", "2", "-CAfile", certificates.authority.as_str()];
    let _server = s_server(&lab, (&certificates.certificate, &certificates.key), &demand)?;
    let (cert, key) = (certificates.client_certificate.as_str(), certificates.client_key.as_str());
    curl(&lab, &["--cacert", &certificates.authority, "--cert", cert, "--key", key])?;
    let flow = settled(&daemon)?;
    ensure!(text(&flow, "streamwatch.verdict.authenticated.answer") == "yes", "{flow}");
    let reason = text(&flow, "streamwatch.verdict.authenticated.reason");
    ensure!(reason.contains("server proved") && reason.contains("client proved `client`"), "{reason}");
    ensure!(text(&flow, "streamwatch.posture").ends_with("mTLS"), "{flow}");
    ensure!(text(&flow, "tls.server.subject") == "CN=server", "{flow}");
    ensure!(text(&flow, "tls.client.subject") == "CN=client", "{flow}");
    ensure!(text(&flow, "streamwatch.tls.client_certificate.state") == "presented", "{flow}");
    Ok(())
}

/// A certificate that ended in 2021.
fn expired_certificate(lab: &Lab) -> Result<(String, String)> {
    let (request, key) = (lab.directory.file("expired.csr"), lab.directory.file("expired.key"));
    let cert = lab.directory.file("expired.pem");
    lab.directory.write("index.txt", "")?;
    let config = lab.directory.write(
        "ca.conf",
        &format!(
            "[ca]\ndefault_ca=it\n[it]\nnew_certs_dir={0}\ndatabase={0}/index.txt\nrand_serial=yes\n\
             default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n",
            lab.directory.path().display()
        ),
    )?;
    let mut make = Command::new("openssl");
    make.args(["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=expired.example"]);
    make.args(["-keyout", &key, "-out", &request]);
    finish(make, PATIENCE)?.success()?;
    let mut sign = Command::new("openssl");
    sign.args(["ca", "-config", &config, "-batch", "-selfsign", "-keyfile", &key, "-in", &request]);
    sign.args(["-startdate", "20200101000000Z", "-enddate", "20210101000000Z", "-notext", "-out", &cert]);
    finish(sign, PATIENCE)?.success()?;
    Ok((cert, key))
}

fn expired() -> Result<()> {
    let lab = Lab::new("posture")?;
    let (cert, key) = expired_certificate(&lab)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = s_server(&lab, (&cert, &key), &["-tls1_2"])?;
    curl(&lab, &["--insecure"])?;
    let record = alert(&daemon, "cert-expired")?;
    ensure!(text(&record, "event.reason").contains("expired.example"), "{record}");
    ensure!(text(&record, "tls.server.not_after").starts_with("2021-01-01"), "{record}");
    // Signed by itself, and not on loopback.
    alert(&daemon, "unexpected-peer")?;
    Ok(())
}

/// Signed by itself, for 300 days.
fn self_signed(lab: &Lab, name: &str, arguments: &[&str]) -> Result<(String, String)> {
    let (cert, key) = (lab.directory.file("own.pem"), lab.directory.file("own.key"));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-nodes", "-days", "300", "-subj", &format!("/CN={name}")]).args(arguments);
    make.args(["-addext", &format!("subjectAltName=DNS:{name}"), "-keyout", &key, "-out", &cert]);
    finish(make, PATIENCE)?.success()?;
    Ok((cert, key))
}

/// A client that takes any certificate, and asks for this name.
fn s_client(place: &Place, host: &str, arguments: &[&str]) -> Result<()> {
    let mut client = place.command("openssl");
    client.args(["s_client", "-connect", &format!("{host}:{PORT}"), "-servername", "api.example.org"]);
    client.args(arguments);
    finish(client, PATIENCE)?.success().map(drop)
}

fn poor_certificate() -> Result<()> {
    let lab = Lab::new("posture")?;
    let (cert, key) = self_signed(&lab, "other.example", &["-newkey", "rsa:1024", "-sha1"])?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let weak = ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0"];
    let _server = s_server(&lab, (&cert, &key), &weak)?;
    s_client(&lab.server(), "127.0.0.1", &weak)?;
    // Key and signature are poor anywhere; name and signer do not matter on loopback.
    let record = alert(&daemon, "weak-cipher")?;
    let reason = text(&record, "event.reason");
    ensure!(reason.contains("1024 bits") && reason.to_ascii_lowercase().contains("sha1"), "{reason}");
    ensure!(number(&record, "event.severity") == Some(3), "not high: {record}");
    daemon.wait_for("settled flow on loopback", PATIENCE, is_flow, |record| {
        is_flow(record) && text(record, "server.ip") == "127.0.0.1" && text(record, "tls.version") == "1.2"
    })?;
    s_client(&lab.client(), "10.213.0.2", &weak)?;
    let told = |what: &str| {
        daemon.wait_for(what, PATIENCE, is_alert, |record| {
            is_alert_of(record, "unexpected-peer") && text(record, "event.reason").contains(what)
        })
    };
    for what in ["nobody but itself vouches for", "asked for `api.example.org`"] {
        let record = told(what)?.record;
        ensure!(text(&record, "server.ip") == "10.213.0.2", "{record}");
    }
    let heard = daemon.heard();
    let early = heard.iter().find(|heard| {
        is_alert_of(&heard.record, "unexpected-peer") && text(&heard.record, "server.ip") == "127.0.0.1"
    });
    ensure!(early.is_none(), "on loopback: {early:?}");
    Ok(())
}

fn thresholds() -> Result<()> {
    let lab = Lab::new("posture")?;
    let (cert, key) = self_signed(&lab, "api.example.org", &["-newkey", "rsa:2048"])?;
    let config = "[detect.certificates]\nexpiring_days = [365, 350, 10]\nself_signed = false\n\
                  [detect.weak_cipher]\nrsa_bits = 3072\n[detect.post_quantum]\nenabled = true\n\
                  [detect.weak_tls]\nminimum = \"1.3\"\n";
    let options = DaemonOptions { config: Some(config.to_owned()), ..DaemonOptions::default() };
    let daemon = Daemon::start(&lab, options)?;
    let _server = s_server(&lab, (&cert, &key), &["-tls1_2"])?;
    s_client(&lab.client(), "10.213.0.2", &["-tls1_2"])?;
    let expiring = alert(&daemon, "cert-expiring")?;
    // Two of three thresholds are crossed.
    ensure!(number(&expiring, "event.severity") == Some(2), "{expiring}");
    ensure!(text(&alert(&daemon, "weak-cipher")?, "event.reason").contains("2048 bits"), "another reason");
    ensure!(text(&alert(&daemon, "weak-tls")?, "event.reason").contains("TLS 1.2"), "another reason");
    alert(&daemon, "not-post-quantum")?;
    let heard = daemon.heard();
    let signed = heard.iter().find(|heard| is_alert_of(&heard.record, "unexpected-peer"));
    ensure!(signed.is_none(), "a rule that is off: {signed:?}");
    Ok(())
}

fn null_suite() -> Result<()> {
    let lab = Lab::new("posture")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let null = ["-tls1_2", "-cipher", "NULL-SHA256:@SECLEVEL=0"];
    let _server = s_server(&lab, (&certificates.certificate, &certificates.key), &null)?;
    s_client(&lab.client(), "10.213.0.2", &null)?;
    let record = alert(&daemon, "weak-cipher")?;
    ensure!(number(&record, "event.severity") == Some(4), "not critical: {record}");
    let flow = settled(&daemon)?;
    ensure!(text(&flow, "tls.cipher") == "TLS_RSA_WITH_NULL_SHA256", "{flow}");
    ensure!(text(&flow, "streamwatch.verdict.encrypted.answer") == "no", "{flow}");
    Ok(())
}

fn policy(require: &str) -> DaemonOptions {
    let text = format!(
        "[[service]]\nname = \"web\"\nports = [{PORT}]\nrequire = {{ {require} }}\n\
         [[service.client]]\naddress = [\"0.0.0.0/0\"]\n"
    );
    DaemonOptions { policy: Some(text), ..DaemonOptions::default() }
}

fn client_missing() -> Result<()> {
    let lab = Lab::new("posture")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, policy("client_certificate = true"))?;
    let _server = s_server(&lab, (&certificates.certificate, &certificates.key), &["-tls1_2"])?;
    curl(&lab, &["--cacert", &certificates.authority])?;
    let record = alert(&daemon, "client-cert-missing")?;
    ensure!(text(&record, "event.reason").contains("policy for 'web'"), "{record}");
    Ok(())
}

fn required_version() -> Result<()> {
    let lab = Lab::new("posture")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, policy("tls = \"1.3\""))?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Tls)?;
    let authority = ["--cacert", certificates.authority.as_str()];
    curl(&lab, &authority)?;
    settled(&daemon)?;
    let early = daemon.heard().iter().any(|heard| is_alert_of(&heard.record, "weak-tls"));
    ensure!(!early, "TLS 1.3 was alerted");
    curl(&lab, &[authority[0], authority[1], "--tls-max", "1.2"])?;
    let record = alert(&daemon, "weak-tls")?;
    ensure!(text(&record, "event.reason").contains("uses TLS 1.2"), "{record}");
    Ok(())
}

fn failures() -> Result<()> {
    let lab = Lab::new("posture")?;
    let certificates = Certificates::new(&lab.directory)?;
    // A minute is short on a machine with other work.
    let config = "[detect.handshake_failures]\nthreshold = 4\nwindow_s = 600\n".to_owned();
    let daemon = Daemon::start(&lab, DaemonOptions { config: Some(config), ..DaemonOptions::default() })?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Tls12)?;
    for _ in 0..6 {
        let mut command = lab.client().command("curl");
        command.args(["-s", "-m", "20", &format!("https://10.213.0.2:{PORT}/")]);
        let finished = finish(command, PATIENCE)?;
        ensure!(!finished.status.success(), "curl trusts an authority of a test");
    }
    let record = alert(&daemon, "connect-failures")?;
    let reason = text(&record, "event.reason");
    ensure!(reason.contains("TLS handshake") && reason.contains("unknown_ca"), "{reason}");
    Ok(())
}

/// One by the name that is asked for.
fn shown() -> Result<()> {
    let lab = Lab::new("posture")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let (second, key) = (certificates.client_certificate.as_str(), certificates.client_key.as_str());
    let by_name = ["-tls1_2", "-servername", "second.example", "-cert2", second, "-key2", key];
    let _server = s_server(&lab, (&certificates.certificate, &certificates.key), &by_name)?;
    for (name, subject) in [("second.example", "CN=client"), ("first.example", "CN=server")] {
        let mut client = lab.client().command("openssl");
        client.args(["s_client", "-connect", &format!("10.213.0.2:{PORT}"), "-servername", name]);
        finish(client, PATIENCE)?.success()?;
        daemon.wait_for("certificate", PATIENCE, is_flow, |record| {
            is_flow(record)
                && text(record, "network.direction") == "egress"
                && text(record, "event.action") == "flow_closed"
                && text(record, "tls.server.subject") == subject
        })?;
    }
    let inventory = daemon.get("/v1/inventory")?;
    let all = inventory["certificates"].as_array().cloned().unwrap_or_default();
    for subject in ["CN=client", "CN=server"] {
        let of = |view: &&Value| view["end"] == "server" && view["subject"] == subject;
        let view = all.iter().find(of).with_context(|| format!("no {subject} in {inventory}"))?;
        ensure!(view["streams"].as_array().map(Vec::len) == Some(1), "{view}");
    }
    ensure!(inventory["certificates_left_out"] == 0, "{inventory}");
    Ok(())
}

fn sums() -> Result<()> {
    let lab = Lab::new("posture")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _nginx = servers::nginx(&lab, &certificates, PORT, Security::Tls)?;
    curl(&lab, &["--cacert", &certificates.authority, "--tls-max", "1.2"])?;
    daemon.wait_for("closed flow", PATIENCE, is_flow, |record| {
        is_flow(record)
            && text(record, "event.action") == "flow_closed"
            && text(record, "process.name") == "curl"
            && number(record, "streamwatch.handshake_ns").is_some_and(|ns| ns > 0)
    })?;
    let inventory = daemon.get("/v1/inventory")?;
    let versions = inventory["by_version"].as_array().cloned().unwrap_or_default();
    let tls = versions.iter().find(|share| share["name"] == "TLS 1.2");
    ensure!(tls.is_some_and(|share| share["bytes"].as_u64() > Some(1000)), "{inventory}");
    ensure!(inventory["certificates"][0]["subject"] == "CN=server", "{inventory}");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--socket").arg(daemon.socket());
        finish(command, PATIENCE)?.success()
    };
    let status = run(&["status"])?.stdout;
    ensure!(status.contains("TLS 1.2") && status.contains("classical"), "{status}");
    let hist = run(&["hist"])?.stdout;
    ensure!(hist.contains("handshake"), "{hist}");
    let streams = run(&["streams"])?.stdout;
    ensure!(streams.contains("TLS 1.2 "), "{streams}");
    let bill: Value = serde_json::from_str(&run(&["inventory", "--cyclonedx"])?.stdout)?;
    let components = bill["components"].as_array().cloned().unwrap_or_default();
    ensure!(components.iter().any(|it| it["bom-ref"] == "crypto/protocol/tls-1.2"), "{bill}");
    Ok(())
}
