//! `streamwatch audit`: what this host's own TLS services accept and show, without a daemon.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{self, Security};
use tests::{Certificates, Lab, Process, Suite, binary, finish};

const PATIENCE: Duration = Duration::from_secs(150);
const READY: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    Suite::new("audit")
        .test(
            "old versions, weak suites, an expired certificate and a short key are found",
            &["openssl"],
            old,
        )
        .test("a modern server has nothing but what it has", &["nginx", "openssl"], modern)
        .test("a server that requires client certificates says so", &["openssl"], mutual)
        .test("STARTTLS of PostgreSQL and SMTP", &["psql", "openssl"], starttls)
        .test("STARTTLS of IMAP and POP3", &["openssl", "dovecot"], || {
            let not = "not_requested";
            upgrades(&[(34_710, "imap", servers::imap, not), (34_711, "pop3", servers::pop3, not)])
        })
        // vsftpd asks for a certificate unless it is told not to (`ssl_request_cert`).
        .test("STARTTLS of FTP", &["openssl", "vsftpd"], || {
            upgrades(&[(34_712, "ftp", servers::ftp, "requested")])
        })
        .test("STARTTLS of LDAP", &["openssl", "slapd"], || {
            upgrades(&[(34_713, "ldap", servers::ldap, "not_requested")])
        })
        // MariaDB asks as soon as it knows an authority (`ssl_ca`).
        .test("STARTTLS of MySQL", &["openssl", "mariadbd"], || {
            upgrades(&[(34_714, "mysql", servers::mariadb, "requested")])
        })
        // Its program is Lua's: only the port tells what it speaks.
        .test("STARTTLS of XMPP", &["openssl", "prosody"], || {
            upgrades(&[(5222, "xmpp", servers::xmpp, "not_requested")])
        })
        .test("a server that offers no STARTTLS has nothing to judge", &["dovecot", "slapd"], no_upgrade)
        .test("post-quantum key exchange is seen where it is", &["openssl"], post_quantum)
        .test("a renewed certificate with its old key is seen", &["openssl"], rotation)
        .test("a renewed certificate with a new key is seen as that", &["openssl"], new_key)
        .test("what does not speak TLS is left alone", &["nginx"], plain)
        .test("a service that does not answer in time is unknown, and counts where it was named", &[], silent)
        .test("a state file that is none is not written over", &[], state)
        .test(
            "what is remembered is sealed; without its key the audit is made all the same",
            &["openssl"],
            sealed,
        )
        .main()
}

/// The records of an audit in the lab's right namespace, and its exit status.
fn audit(lab: &Lab, arguments: &[&str]) -> Result<(Vec<Value>, i32)> {
    let mut command = lab.server().command(binary());
    command.args(["audit", "--json", "--deadline", "120"]).args(arguments);
    if !arguments.contains(&"--timeout") {
        command.args(["--timeout", "20"]);
    }
    if !arguments.contains(&"--state") {
        command.arg("--no-state");
    }
    let finished = finish(command, PATIENCE)?;
    let code = finished.status.code().context("killed")?;
    ensure!(code < 2, "exit {code}: {}", finished.stderr);
    let records = finished.stdout.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    Ok((records, code))
}

fn at_port(records: &[Value], port: u16) -> Result<&Value> {
    let found = records.iter().find(|record| record["server"]["port"] == port);
    found.with_context(|| format!("no record of port {port} in {records:#?}"))
}

fn rules(record: &Value) -> Vec<String> {
    let findings = record["streamwatch"]["audit"]["findings"].as_array().cloned().unwrap_or_default();
    findings.iter().filter_map(|finding| finding["rule"]["id"].as_str().map(str::to_owned)).collect()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// `openssl s_server` with arguments of a test's own.
fn s_server(lab: &Lab, port: u16, arguments: &[&str]) -> Result<Process> {
    let mut command = lab.server().command("openssl");
    command.args(["s_server", "-www", "-accept", &port.to_string()]).args(arguments);
    let mut process = Process::start(&format!("s_server-{port}"), &lab.directory, command)?;
    process.wait_for_port("tcp", port, READY)?;
    Ok(process)
}

/// A self-signed certificate; `days` as `openssl x509 -days` takes them, or the key of another one.
fn certificate(lab: &Lab, name: &str, key: &[&str], days: &str) -> Result<(String, String)> {
    let (cert, secret) =
        (lab.directory.file(&format!("{name}.pem")), lab.directory.file(&format!("{name}.key")));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-nodes", "-subj", &format!("/CN={name}"), "-days", days, "-out", &cert]);
    if key.first() == Some(&"-key") {
        make.args(key);
    } else {
        make.args(["-newkey"]).args(key).args(["-keyout", &secret]);
    }
    finish(make, READY)?.success()?;
    Ok((cert, secret))
}

/// One that has expired: `x509 -days` does not take negative days everywhere, `ca` takes dates.
fn expired(lab: &Lab) -> Result<(String, String)> {
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
    make.args(["req", "-new", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=expired.example"]);
    make.args(["-keyout", &key, "-out", &request]);
    finish(make, READY)?.success()?;
    let mut sign = Command::new("openssl");
    sign.args(["ca", "-config", &config, "-batch", "-selfsign", "-keyfile", &key, "-in", &request]);
    sign.args(["-startdate", "20200101000000Z", "-enddate", "20210101000000Z", "-notext", "-out", &cert]);
    finish(sign, READY)?.success()?;
    Ok((cert, key))
}

fn old() -> Result<()> {
    let lab = Lab::new("audit")?;
    let (cert, key) = expired(&lab)?;
    let port = 34_701;
    let _server = s_server(&lab, port, &["-cert", &cert, "-key", &key, "-cipher", "ALL:eNULL:@SECLEVEL=0"])?;
    let (records, code) = audit(&lab, &[])?;
    ensure!(code == 1, "exit {code}");
    let record = at_port(&records, port)?;
    let audit = &record["streamwatch"]["audit"];
    let versions = strings(&audit["versions"]);
    ensure!(versions == ["TLS 1.3", "TLS 1.2", "TLS 1.1", "TLS 1.0"], "versions: {versions:?}");
    let suites = strings(&audit["suites"]);
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_RSA_WITH_NULL_SHA256", "TLS_DH_anon_WITH_AES_128_CBC_SHA"] {
        ensure!(suites.contains(&suite), "{suite} is not in {suites:?}");
    }
    ensure!(audit["cut_short"] == false, "cut short: {audit}");
    let found = rules(record);
    for rule in ["weak-tls", "weak-cipher", "cert-expired"] {
        ensure!(found.iter().any(|it| it == rule), "{rule} is not in {found:?}");
    }
    ensure!(audit["certificates"][0]["x509"]["public_key_size"] == 1024, "{audit}");
    ensure!(record["process"]["name"] == "openssl", "{record}");
    Ok(())
}

fn modern() -> Result<()> {
    let lab = Lab::new("audit")?;
    let certificates = Certificates::new(&lab.directory)?;
    let port = 34_702;
    let _nginx = servers::nginx(&lab, &certificates, port, Security::Tls)?;
    // The certificates of the tests are made for 30 days: that is worth a low finding.
    let (records, _) = audit(&lab, &["--severity", "high"])?;
    let record = at_port(&records, port)?;
    let audit = &record["streamwatch"]["audit"];
    let versions = strings(&audit["versions"]);
    ensure!(versions == ["TLS 1.3", "TLS 1.2"], "versions: {versions:?}");
    ensure!(audit["client_certificate"] == "not_requested", "{audit}");
    ensure!(audit["tickets"].is_boolean() && audit["post_quantum"].is_boolean(), "{audit}");
    ensure!(strings(&audit["groups"]).contains(&"x25519"), "{audit}");
    let found = rules(record);
    ensure!(!found.iter().any(|rule| rule == "weak-tls" || rule == "cert-expired"), "{found:?}");
    let names = &audit["certificates"][0]["x509"]["alternative_names"];
    ensure!(strings(names).contains(&"localhost"), "{names}");
    Ok(())
}

fn mutual() -> Result<()> {
    let lab = Lab::new("audit")?;
    let certificates = Certificates::new(&lab.directory)?;
    let port = 34_703;
    let _server = servers::openssl(&lab, &certificates, port, Security::Mutual)?;
    let (records, _) = audit(&lab, &[])?;
    let audit = &at_port(&records, port)?["streamwatch"]["audit"];
    ensure!(audit["client_certificate"] == "required", "{audit}");
    ensure!(audit["certificates"][0]["subject"] == "CN=server", "{audit}");
    Ok(())
}

fn starttls() -> Result<()> {
    let lab = Lab::new("audit")?;
    let certificates = Certificates::new(&lab.directory)?;
    let (postgres, smtp) = (34_704, 34_705);
    let _postgres = servers::postgresql(&lab, &certificates, postgres, Security::Tls)?;
    let _smtp = servers::smtp(&lab, &certificates, smtp, Security::Tls)?;
    let (records, _) = audit(&lab, &[])?;
    for (port, protocol) in [(postgres, "postgresql"), (smtp, "smtp")] {
        let audit = &at_port(&records, port)?["streamwatch"]["audit"];
        ensure!(audit["starttls"] == protocol, "{audit}");
        ensure!(strings(&audit["versions"]).contains(&"TLS 1.3"), "{protocol}: {audit}");
        ensure!(audit["certificates"][0]["subject"] == "CN=server", "{protocol}: {audit}");
    }
    Ok(())
}

type Start = fn(&Lab, &Certificates, u16, Security) -> Result<servers::Server>;

/// Each is found without a word of what it speaks, and shows its versions, its certificate, and whether it
/// asks for one (the last of each).
fn upgrades(services: &[(u16, &str, Start, &str)]) -> Result<()> {
    let lab = Lab::new("audit")?;
    let certificates = Certificates::new(&lab.directory)?;
    let mut running = Vec::new();
    for (port, _, start, _) in services {
        running.push(start(&lab, &certificates, *port, Security::Tls)?);
    }
    let (records, _) = audit(&lab, &[])?;
    for (port, protocol, _, asks) in services {
        let audit = &at_port(&records, *port)?["streamwatch"]["audit"];
        ensure!(audit["starttls"] == *protocol, "{audit}");
        ensure!(strings(&audit["versions"]).contains(&"TLS 1.2"), "{protocol}: {audit}");
        ensure!(audit["certificates"][0]["subject"] == "CN=server", "{protocol}: {audit}");
        ensure!(!strings(&audit["suites"]).is_empty(), "{protocol}: {audit}");
        ensure!(audit["client_certificate"] == *asks, "{protocol}: {audit}");
        ensure!(audit["cut_short"] == false, "{protocol}: {audit}");
    }
    Ok(())
}

/// The same servers in the clear: nothing is made up.
fn no_upgrade() -> Result<()> {
    let lab = Lab::new("audit")?;
    let certificates = Certificates::new(&lab.directory)?;
    let _imap = servers::imap(&lab, &certificates, 34_715, Security::Plain)?;
    let _ldap = servers::ldap(&lab, &certificates, 34_716, Security::Plain)?;
    let (records, code) = audit(&lab, &[])?;
    ensure!(code == 0 && records.is_empty(), "exit {code}: {records:?}");
    Ok(())
}

fn post_quantum() -> Result<()> {
    let lab = Lab::new("audit")?;
    let certificates = Certificates::new(&lab.directory)?;
    let (new, old) = (34_717, 34_718);
    let _new = servers::post_quantum(&lab, &certificates, new, Security::Tls)?;
    let rest = ["-cert", &certificates.certificate, "-key", &certificates.key, "-groups", "X25519:P-256"];
    let _old = s_server(&lab, old, &rest)?;
    let (records, _) = audit(&lab, &[])?;
    let audit = &at_port(&records, new)?["streamwatch"]["audit"];
    ensure!(audit["post_quantum"] == true, "{audit}");
    ensure!(strings(&audit["groups"]).contains(&"X25519MLKEM768"), "{audit}");
    ensure!(audit["certificates"][0]["subject"] == "CN=server", "{audit}");
    let audit = &at_port(&records, old)?["streamwatch"]["audit"];
    ensure!(audit["post_quantum"] == false, "{audit}");
    Ok(())
}

/// Twice the same certificate is no change; another one with a key of its own is one.
fn new_key() -> Result<()> {
    let lab = Lab::new("audit")?;
    let port = 34_719;
    let state = lab.directory.file("state/audit.redb");
    let first = certificate(&lab, "first", &["rsa:2048"], "300")?;
    let second = certificate(&lab, "second", &["rsa:2048"], "300")?;
    let mut seen = Vec::new();
    for (cert, key) in [&first, &first, &second] {
        let _server = s_server(&lab, port, &["-cert", cert, "-key", key])?;
        let (records, _) = audit(&lab, &["--state", &state])?;
        seen.push(at_port(&records, port)?["streamwatch"]["audit"]["rotation"].clone());
    }
    for unchanged in &seen[..2] {
        ensure!(unchanged["last_change"].is_null() && unchanged["seen"] == 1, "{unchanged}");
    }
    ensure!(seen[1]["first_seen"] == seen[0]["first_seen"], "{seen:?}");
    ensure!(seen[2]["last_change"].is_string() && seen[2]["seen"] == 2, "{}", seen[2]);
    ensure!(seen[2]["key_reused"] == false, "{}", seen[2]);
    Ok(())
}

fn rotation() -> Result<()> {
    let lab = Lab::new("audit")?;
    let port = 34_706;
    let state = lab.directory.file("state/audit.redb");
    let (first, key) = certificate(&lab, "first", &["rsa:2048"], "300")?;
    let (second, _) = certificate(&lab, "second", &["-key", &key], "300")?;
    let mut seen = Vec::new();
    for cert in [&first, &second] {
        let _server = s_server(&lab, port, &["-cert", cert, "-key", &key])?;
        let (records, _) = audit(&lab, &["--state", &state])?;
        seen.push(at_port(&records, port)?["streamwatch"]["audit"]["rotation"].clone());
    }
    ensure!(seen[0]["key_reused"] == false && seen[0]["last_change"].is_null(), "{}", seen[0]);
    ensure!(seen[1]["key_reused"] == true && seen[1]["last_change"].is_string(), "{}", seen[1]);
    ensure!(seen[1]["seen"] == 2, "{}", seen[1]);
    ensure!(Path::new(&state).exists(), "no {state}");
    Ok(())
}

fn plain() -> Result<()> {
    let lab = Lab::new("audit")?;
    let certificates = Certificates::new(&lab.directory)?;
    let _nginx = servers::nginx(&lab, &certificates, 34_707, Security::Plain)?;
    let (records, code) = audit(&lab, &[])?;
    ensure!(code == 0 && records.is_empty(), "exit {code}: {records:?}");
    Ok(())
}

fn silent() -> Result<()> {
    const SILENT: &str = "import socket, time\nserver = socket.create_server(('', 34722))\ntime.sleep(600)";
    let lab = Lab::new("audit")?;
    let mut command = lab.server().command("/usr/bin/python3");
    command.args(["-c", SILENT]);
    let mut server = Process::start("silent", &lab.directory, command)?;
    server.wait_for_port("tcp", 34_722, READY)?;
    let named = ["--target", "127.0.0.1:34722"];
    for (arguments, expected) in [(&named[..], 1), (&[], 0)] {
        let (records, code) = audit(&lab, &[&["--timeout", "0.5"], arguments].concat())?;
        let record = at_port(&records, 34_722)?;
        ensure!(code == expected, "exit {code} of {arguments:?}: {record}");
        ensure!(record["event"]["outcome"] == "unknown", "{record}");
        ensure!(record["error"]["message"] == "it did not answer in time", "{record}");
    }
    let mut command = lab.server().command(binary());
    command.args(["audit", "--no-state", "--timeout", "0.5"]).args(named);
    let finished = finish(command, PATIENCE)?;
    ensure!(finished.status.code() == Some(1), "{finished:?}");
    ensure!(
        finished.stdout.contains("; 0 without TLS, 1 unknown (did not answer TLS in time)"),
        "{finished:?}"
    );
    Ok(())
}

fn state() -> Result<()> {
    let lab = Lab::new("audit")?;
    let file = lab.directory.write("notes.txt", "not an audit's\n")?;
    let mut command = lab.server().command(binary());
    command.args(["audit", "--state", &file]);
    let finished = finish(command, PATIENCE)?;
    ensure!(finished.status.code() == Some(2), "{finished:?}");
    ensure!(finished.stderr.contains("--state"), "{}", finished.stderr);
    ensure!(std::fs::read_to_string(&file)? == "not an audit's\n", "it was written over");
    Ok(())
}

fn sealed() -> Result<()> {
    let lab = Lab::new("audit")?;
    let port = 34_721;
    let state = lab.directory.file("audit.redb");
    let (cert, key) = certificate(&lab, "sealed", &["rsa:2048"], "300")?;
    let _server = s_server(&lab, port, &["-cert", &cert, "-key", &key])?;
    let (records, _) = audit(&lab, &["--state", &state])?;
    let audited = &at_port(&records, port)?["streamwatch"]["audit"];
    let fingerprint = audited["certificates"][0]["hash"]["sha256"].as_str().context("no fingerprint")?;
    for file in [state.clone(), format!("{state}.copy")] {
        let bytes = std::fs::read(&file)?;
        for secret in [fingerprint, "openssl", "key_sha256"] {
            let found =
                bytes.windows(secret.len()).any(|window| window.eq_ignore_ascii_case(secret.as_bytes()));
            ensure!(!found, "{secret} can be read in {file}");
        }
    }
    // Its key is elsewhere now, and not to be had.
    let config = lab.directory.write("other.toml", "[state]\nkey = \"credential:not.there\"\n")?;
    let before = std::fs::read(&state)?;
    let mut command = lab.server().command(binary());
    command.args(["audit", "--json", "--state", &state, "--config", &config]);
    let finished = finish(command, PATIENCE)?;
    ensure!(finished.status.code().is_some_and(|code| code < 2), "{finished:?}");
    let said: Vec<&str> = finished.stderr.lines().collect();
    ensure!(said.len() == 1 && said[0].contains("nothing is remembered"), "{said:?}");
    let record: Value = serde_json::from_str(finished.stdout.lines().next().context("no record")?)?;
    ensure!(record["server"]["port"] == port, "{record}");
    ensure!(record["streamwatch"]["audit"]["rotation"].is_null(), "{record}");
    ensure!(std::fs::read(&state)? == before, "it was written over");
    // With it, all is there.
    let (records, _) = audit(&lab, &["--state", &state])?;
    ensure!(at_port(&records, port)?["streamwatch"]["audit"]["rotation"]["seen"] == 1, "{records:?}");
    Ok(())
}
