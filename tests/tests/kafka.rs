//! Kafka: a real broker (Tansu) and real clients (librdkafka), held to the topics that a policy lets them
//! read, write and administer; what TLS hides is said to be hidden; log-ins by SASL.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::servers::{self, Security, Server, guarded, program, python};
use tests::{
    Authorisation, Certificates, Daemon, DaemonOptions, Finished, Lab, Place, Suite, Units, finish, is_alert,
    number, text,
};

const PORT: u16 = 34_592;
const HOST: &str = "10.213.0.2";
/// The client's own patience is 30 s.
const CLIENT: Duration = Duration::from_secs(60);
/// From the last byte to the record, on a busy host.
const SOON: Duration = Duration::from_secs(20);

/// Word for word: only payment-processing services may write to the Kafka topic `payments`; audit services
/// may only read it.
const POLICY: &str = r#"
[groups]
payment-processing = [{ unit = "payment-processor.service" }]
audit = [{ unit = "audit.service" }, { process = "python", user = "www-data" }]

[[service]]
name = "kafka"
ports = [34592]
encrypted = "ENCRYPTED"

[[service.client]]
group = "payment-processing"
may = ["read", "write"]
topic = "payments"

[[service.client]]
group = "audit"
may = ["read"]
topic = "payments"

[[service.client]]
unit = "orders.service"
may = ["read", "write"]
topic = "!payments"

[[service.client]]
unit = "operator.service"
may = ["admin"]
"#;

fn main() -> ExitCode {
    Suite::new("kafka")
        .test("only payment processing writes to payments, and audit only reads it", &[], payments)
        .test("what roles allow finds nothing", &[], allowed)
        .test(
            "in TLS it is unknown who does what, and the policy says whether that may be",
            &["haproxy"],
            within_tls,
        )
        .test("guessing is told, and a guess that works: SCRAM", &[], || {
            guess("SCRAM-SHA-256", guarded::kafka)
        })
        .test("guessing is told, and a guess that works: PLAIN", &[], || guess("PLAIN", guarded::kafka_plain))
        .main()
}

fn policy(encrypted: &str) -> DaemonOptions {
    DaemonOptions { policy: Some(POLICY.replace("ENCRYPTED", encrypted)), ..DaemonOptions::default() }
}

/// A client does `what` with a topic.
fn command(place: &Place, what: &str, topic: &str) -> Command {
    let mut command = place.command(python());
    command.arg(program("kafka_client.py")).args([&format!("{HOST}:{PORT}"), what, topic]);
    command
}

/// Runs a client of this unit to its end.
fn run(
    lab: &Lab,
    units: &Units<'_>,
    authority: Option<&str>,
    (unit, what, topic): (&str, &str, &str),
) -> Result<()> {
    let mut command = command(&units.place(unit)?, what, topic);
    command.envs(authority.map(|authority| ("CA", authority)));
    lab.run(command, CLIENT).map(drop)
}

/// A broker with two topics, of which one has something to read; and the authority of its certificate.
fn broker(lab: &Lab, units: &Units<'_>, security: Security) -> Result<(Vec<Server>, Option<String>)> {
    let certificates = Certificates::new(&lab.directory)?;
    let servers = servers::kafka(lab, &certificates, PORT, security)?;
    let authority = (security != Security::Plain).then_some(certificates.authority);
    for (what, topic) in [("create", "payments"), ("create", "orders"), ("produce", "payments")] {
        run(lab, units, authority.as_deref(), ("before.service", what, topic))?;
    }
    Ok((servers, authority))
}

fn payments() -> Result<()> {
    let lab = Lab::new("kafka")?;
    let units = Units::new(&lab);
    let _broker = broker(&lab, &units, Security::Plain)?;
    let daemon = Daemon::start(&lab, policy("alert"))?;
    let told = Authorisation { daemon: &daemon, port: PORT };
    let run = |unit, what, topic| run(&lab, &units, None, (unit, what, topic));
    run("payment-processor.service", "produce", "payments")?;
    run("audit.service", "consume", "payments")?;
    for unit in ["payment-processor.service", "audit.service"] {
        told.answer(unit, "yes")?;
        told.no_alert(unit)?;
    }
    run("audit.service", "produce", "payments")?;
    let said = told.answer("audit.service", "no")?;
    let expected = "group=audit (may=read topic=payments), not to write topic payments (policy.toml:16)";
    ensure!(said["evidence"] == format!("expected: {expected}"), "{said}");
    told.alert("audit.service", expected)?;
    // Others: the topic that is not theirs, what only operators do, and who is in no rule.
    run("orders.service", "produce", "payments")?;
    told.alert("orders.service", "not to write topic payments")?;
    run("payment-processor.service", "create", "mine")?;
    told.alert("payment-processor.service", "not to admin topic mine")?;
    run("stranger.service", "consume", "payments")?;
    told.alert("stranger.service", "expects only")
}

fn allowed() -> Result<()> {
    let lab = Lab::new("kafka")?;
    let units = Units::new(&lab);
    let _broker = broker(&lab, &units, Security::Plain)?;
    let daemon = Daemon::start(&lab, policy("alert"))?;
    let told = Authorisation { daemon: &daemon, port: PORT };
    for client in [
        ("payment-processor.service", "produce", "payments"),
        ("payment-processor.service", "consume", "payments"),
        ("audit.service", "consume", "payments"),
        ("orders.service", "produce", "orders"),
        ("orders.service", "consume", "orders"),
        ("operator.service", "create", "new"),
    ] {
        run(&lab, &units, None, client)?;
    }
    // Who it is may be told by the user as well.
    let www_data = units.place("shared.service")?.as_user("www-data");
    lab.run(command(&www_data, "consume", "payments"), CLIENT)?;
    for unit in ["payment-processor", "audit", "orders", "operator", "shared"] {
        told.answer(&format!("{unit}.service"), "yes")?;
        told.no_alert(&format!("{unit}.service"))?;
    }
    Ok(())
}

fn within_tls() -> Result<()> {
    let lab = Lab::new("kafka")?;
    let units = Units::new(&lab);
    let (_broker, authority) = broker(&lab, &units, Security::Tls)?;
    for (encrypted, expected) in [("accept", "unknown"), ("alert", "no")] {
        let daemon = Daemon::start(&lab, policy(encrypted))?;
        let told = Authorisation { daemon: &daemon, port: PORT };
        run(&lab, &units, authority.as_deref(), ("audit.service", "produce", "payments"))?;
        let said = told.answer("audit.service", expected)?;
        ensure!(said["reason"].as_str().unwrap_or_default().contains("encrypted"), "{said}");
        match encrypted {
            "accept" => told.no_alert("audit.service")?,
            _ => told.alert("audit.service", "encrypted")?,
        }
    }
    Ok(())
}

fn guess(mechanism: &str, start: fn(&Lab, u16) -> Result<Server>) -> Result<()> {
    let lab = Lab::new("kafka")?;
    let daemon = Daemon::start(&lab, DaemonOptions::default())?;
    let _broker = start(&lab, PORT)?;
    let log_in = |password: &str| -> Result<Finished> {
        let mut command = command(&lab.client(), "log-in", "-");
        command.env("MECHANISM", mechanism).env("USERNAME", "alice").env("PASSWORD", password);
        finish(command, CLIENT)
    };
    let is = |record: &Value, rule: &str| {
        is_alert(record)
            && text(record, "rule.id") == rule
            && number(record, "server.port") == Some(PORT.into())
    };
    for number in 0..6 {
        let refused = log_in(&format!("wrong-{number}"))?;
        ensure!(refused.status.code() == Some(3), "{refused:?}");
    }
    daemon.wait_for("auth-failures", SOON, is_alert, |record| {
        is(record, "auth-failures") && text(record, "event.reason").contains("Kafka")
    })?;
    let let_in = log_in(guarded::RIGHT)?;
    ensure!(let_in.status.success(), "{let_in:?}");
    daemon.wait_for("a guess that worked", SOON, is_alert, |record| {
        is(record, "auth-failures") && text(record, "event.reason").contains("the guess worked")
    })?;
    if mechanism == "PLAIN" {
        daemon.wait_for("credential-in-clear", SOON, is_alert, |record| is(record, "credential-in-clear"))?;
    } else {
        let told = daemon.heard().iter().any(|heard| is(&heard.record, "credential-in-clear"));
        ensure!(!told, "told of a password that did not cross");
    }
    Ok(())
}
