//! SSH in depth: what was negotiated, and how the log-in ended, by the lengths of packets, or, where they are
//! encrypted, by the sizes of segments.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::servers::{self, Security, program, python};
use tests::{Certificates, Daemon, DaemonOptions, Lab, Process, Suite, field, is_flow, number, show, text};

const PORT: u16 = 34_567;
const HOST: &str = "10.213.0.2";
const CLIENT: Duration = Duration::from_secs(40);
const PATIENCE: Duration = Duration::from_secs(10);

const GCM: &str = "aes256-gcm@openssh.com";
const CHACHA20: &str = "chacha20-poly1305@openssh.com";
const ETM: &str = "hmac-sha2-256-etm@openssh.com";

/// A log-in, and what must be said of it.
struct Session {
    /// Arguments of `ssh`.
    options: &'static [&'static str],
    /// Whether the key is one that the server knows.
    known: bool,
    cipher: &'static str,
    mac: Option<&'static str>,
    state: &'static str,
    failures: Option<u64>,
}

const SESSIONS: &[Session] = &[
    Session {
        options: &["-c", GCM],
        known: true,
        cipher: GCM,
        mac: None,
        state: "succeeded",
        failures: Some(0),
    },
    Session {
        options: &["-c", "aes128-ctr", "-m", ETM],
        known: true,
        cipher: "aes128-ctr",
        mac: Some(ETM),
        state: "succeeded",
        failures: Some(0),
    },
    Session {
        options: &["-c", GCM],
        known: false,
        cipher: GCM,
        mac: None,
        state: "failed",
        failures: Some(1),
    },
    // Lengths are encrypted, too: the sizes of segments tell.
    Session {
        options: &["-c", CHACHA20],
        known: true,
        cipher: CHACHA20,
        mac: None,
        state: "succeeded",
        failures: Some(0),
    },
    Session {
        options: &["-c", "aes256-ctr", "-m", "hmac-sha2-512"],
        known: false,
        cipher: "aes256-ctr",
        mac: Some("hmac-sha2-512"),
        state: "failed",
        failures: Some(1),
    },
];

fn main() -> ExitCode {
    Suite::new("ssh")
        .test("OpenSSH: a key that is known, one that is not", &["sshd", "ssh", "ssh-keygen"], openssh)
        .test("OpenSSH: wrong passwords", &["sshd", "ssh", "ssh-keygen"], passwords)
        .test("a key exchange is post-quantum or not", &["sshd", "ssh", "ssh-keygen"], key_exchanges)
        .test("Dropbear serves", &["dropbear", "dropbearkey", "ssh", "ssh-keygen"], dropbear)
        .test("paramiko logs in, and does not", &["sshd", "ssh-keygen"], paramiko)
        .main()
}

fn ssh(lab: &Lab, key: &str, more: &[&str]) -> Command {
    let options = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"];
    let mut command = lab.client().command("ssh");
    command.args(options).args(["-o", "IdentitiesOnly=yes", "-i", key, "-p", &PORT.to_string()]);
    command.args(more).args([&format!("root@{HOST}"), "true"]);
    command
}

fn stranger(lab: &Lab) -> Result<String> {
    let key = lab.directory.file("ssh-stranger");
    if !Path::new(&key).exists() {
        let mut make = lab.client().command("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-f", &key]);
        lab.run(make, CLIENT)?;
    }
    Ok(key)
}

/// Both ends of the last connection to the server, told at their end.
fn last(daemon: &Daemon, connections: usize) -> Result<[Value; 2]> {
    let of = |direction: &'static str| {
        move |record: &Value| {
            is_flow(record)
                && number(record, "server.port") == Some(PORT.into())
                && text(record, "network.direction") == direction
                && text(record, "event.action") == "flow_closed"
        }
    };
    let mut ends = Vec::new();
    for direction in ["egress", "ingress"] {
        let what = format!("end of connection {connections}, {direction}");
        let found = daemon.wait_until(&what, PATIENCE, of(direction), |heard| {
            heard.iter().filter(|heard| of(direction)(&heard.record)).nth(connections - 1).cloned()
        })?;
        ends.push(found.record);
    }
    ends.try_into().map_err(|_| anyhow::anyhow!("two ends"))
}

fn said(record: &Value, name: &str) -> String {
    text(record, &format!("streamwatch.ssh.{name}")).to_owned()
}

fn check(record: &Value, session: &Session) -> Result<()> {
    let state = said(record, "authentication.state");
    ensure!(session.state == state, "{state:?}, not {:?}; {}", session.state, show(record));
    let failures = number(record, "streamwatch.ssh.authentication.failures");
    ensure!(
        failures == session.failures,
        "failures {failures:?}, not {:?}; {}",
        session.failures,
        show(record)
    );
    for end in ["client", "server"] {
        let (cipher, mac) = (said(record, &format!("{end}_cipher")), said(record, &format!("{end}_mac")));
        ensure!(cipher == session.cipher, "{end}: cipher {cipher:?}; {}", show(record));
        ensure!(mac == session.mac.unwrap_or_default(), "{end}: MAC {mac:?}; {}", show(record));
    }
    ensure!(said(record, "host_key") == "ssh-ed25519", "host key; {}", show(record));
    ensure!(text(record, "streamwatch.verdict.encrypted.answer") == "yes", "{}", show(record));
    Ok(())
}

fn openssh() -> Result<()> {
    let lab = Lab::new("ssh")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let server = servers::sshd(&lab, &certificates, PORT, Security::Tls)?;
    for (at, session) in SESSIONS.iter().enumerate() {
        let key = if session.known { lab.directory.file("ssh-client") } else { stranger(&lab)? };
        let outcome = lab.run(ssh(&lab, &key, &[&["-o", "BatchMode=yes"], session.options].concat()), CLIENT);
        ensure!(outcome.is_ok() == session.known, "{outcome:?}; the server said:\n{}", server.said());
        for end in last(&daemon, at + 1)? {
            check(&end, session).with_context(|| format!("{:?}", session.options))?;
        }
    }
    Ok(())
}

/// Three of them, asked for by a program that always says the same.
fn passwords() -> Result<()> {
    let lab = Lab::new("ssh")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = servers::sshd(&lab, &certificates, PORT, Security::Tls)?;
    let ask = lab.directory.write("askpass", "#!/bin/sh\necho wrong\n")?;
    let mut executable = lab.client().command("chmod");
    executable.args(["0755", &ask]);
    lab.run(executable, CLIENT)?;
    let more = ["-c", GCM, "-o", "PreferredAuthentications=password", "-o", "PubkeyAuthentication=no"];
    let mut command = ssh(&lab, "/dev/null", &more);
    command.env("SSH_ASKPASS", &ask).env("SSH_ASKPASS_REQUIRE", "force");
    ensure!(lab.run(command, CLIENT).is_err(), "a wrong password was taken");
    for end in last(&daemon, 1)? {
        let (state, failures) =
            (said(&end, "authentication.state"), number(&end, "streamwatch.ssh.authentication.failures"));
        ensure!(state == "failed", "{state:?}; {}", show(&end));
        ensure!(failures == Some(3), "failures {failures:?}; {}", show(&end));
    }
    Ok(())
}

fn key_exchanges() -> Result<()> {
    let lab = Lab::new("ssh")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _server = servers::sshd(&lab, &certificates, PORT, Security::Tls)?;
    let key = lab.directory.file("ssh-client");
    let exchanges = [
        ("sntrup761x25519-sha512@openssh.com", true),
        ("curve25519-sha256", false),
        ("ecdh-sha2-nistp384", false),
        ("diffie-hellman-group16-sha512", false),
        ("diffie-hellman-group-exchange-sha256", false),
    ];
    for (at, (name, post_quantum)) in exchanges.into_iter().enumerate() {
        lab.run(ssh(&lab, &key, &["-o", &format!("KexAlgorithms={name}")]), CLIENT)?;
        for end in last(&daemon, at + 1)? {
            ensure!(said(&end, "key_exchange") == name, "{}", show(&end));
            let told = field(&end, "streamwatch.ssh.post_quantum");
            ensure!(told == &Value::Bool(post_quantum), "post_quantum is {told} for {name}");
        }
    }
    Ok(())
}

fn dropbear() -> Result<()> {
    let lab = Lab::new("ssh")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let host_key = lab.directory.file("dropbear-host");
    let mut make = lab.server().command("dropbearkey");
    make.args(["-t", "ed25519", "-f", &host_key]);
    lab.run(make, CLIENT)?;
    let mut serve = lab.server().command("dropbear");
    serve.args([
        "-F",
        "-E",
        "-r",
        &host_key,
        "-p",
        &PORT.to_string(),
        "-P",
        &lab.directory.file("dropbear.pid"),
    ]);
    let mut server = Process::start("dropbear", &lab.directory, serve)?;
    server.wait_for_port("tcp", PORT, CLIENT)?;
    let key = stranger(&lab)?;
    let refused = lab.run(ssh(&lab, &key, &["-o", "BatchMode=yes", "-c", "aes128-ctr"]), CLIENT);
    ensure!(refused.is_err(), "a stranger was let in; the server said:\n{}", server.said());
    for end in last(&daemon, 1)? {
        ensure!(said(&end, "server_version").contains("dropbear"), "{}", show(&end));
        ensure!(said(&end, "key_exchange").starts_with("curve25519-sha256"), "{}", show(&end));
        ensure!(said(&end, "server_cipher") == "aes128-ctr", "{}", show(&end));
        ensure!(said(&end, "authentication.state") != "succeeded", "{}", show(&end));
    }
    Ok(())
}

fn paramiko() -> Result<()> {
    let lab = Lab::new("ssh")?;
    let certificates = Certificates::new(&lab.directory)?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let server = servers::sshd(&lab, &certificates, PORT, Security::Tls)?;
    let keys = [(lab.directory.file("ssh-client"), "succeeded"), (stranger(&lab)?, "failed")];
    for (at, (key, state)) in keys.into_iter().enumerate() {
        let mut command = lab.client().command(python());
        command.arg(program("ssh_client.py")).args([HOST, &PORT.to_string(), &key]);
        let outcome = lab.run(command, CLIENT);
        ensure!(
            outcome.is_ok() == (state == "succeeded"),
            "{outcome:?}; the server said:\n{}",
            server.said()
        );
        for end in last(&daemon, at + 1)? {
            ensure!(said(&end, "client_version").contains("paramiko"), "{}", show(&end));
            ensure!(said(&end, "client_mac") == ETM, "{}", show(&end));
            let told = said(&end, "authentication.state");
            ensure!(told == state, "{told:?}, not {state:?}; {}", show(&end));
        }
    }
    Ok(())
}
