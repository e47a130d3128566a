//! `audit`: asks this host's own TLS services what they accept, and judges it.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};

use super::args::AuditArguments;
use super::screen::Screen;
use super::{Failure, many, tell};
use crate::audit::{
    ClientCertificate, DEFAULT_STATE, Memory, MemoryError, Offered, Options, Outcome, Report, Rotation,
    Target, audit as ask, listening,
};
use crate::config::{Config, Overrides};
use crate::model::{Severity, called};
use crate::posture::date_of;
use crate::record::text::Style;
use crate::record::{printable, write_line};

pub(super) fn audit(arguments: &AuditArguments) -> Result<ExitCode, Failure> {
    let (config, _) = Config::read(arguments.config.as_deref(), Overrides::default())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(name) = &arguments.name
        && ServerName::try_from(name.as_str()).is_err()
    {
        return Err(Failure::Usage(format!("--name {name}: expected a DNS name or an address")));
    }
    let targets = targets(arguments)?;
    let options = Options {
        settings: config.detect.clone(),
        name: arguments.name.clone(),
        timeout: seconds("--timeout", arguments.timeout)?,
        deadline: seconds("--deadline", arguments.deadline)?,
    };
    let state = arguments.state.clone().unwrap_or_else(|| DEFAULT_STATE.into());
    let named = arguments.state.is_some();
    let mut memory = match arguments.no_state {
        true => None,
        false => open(&state, named, &config)?,
    };
    let now = Timestamp::now();
    let reports = ask(targets, &options, now);
    let least: Severity = arguments.severity.into();
    let mut text = Vec::new();
    let (mut found, mut plain, mut unclear, mut failed) = (0, 0, 0, 0);
    for report in &reports {
        let rotation = memory.as_mut().and_then(|memory| report.remember(memory, now));
        found += report.findings().iter().filter(|finding| finding.severity >= least).count();
        match &report.outcome {
            Outcome::Plain => plain += 1,
            Outcome::Unclear(_) => unclear += 1,
            Outcome::Failed(_) => failed += 1,
            Outcome::Tls { .. } => {}
        }
        if arguments.json {
            if !matches!(report.outcome, Outcome::Plain) {
                write_line(&mut text, &record(report, rotation.as_ref(), now));
            }
        } else {
            text.extend_from_slice(block(report, rotation.as_ref(), now, Screen::detect().style).as_bytes());
        }
    }
    if !arguments.json {
        let tls = reports.len() - plain - unclear - failed;
        let mut line = format!(
            "{}, {}; {plain} without TLS",
            many(tls as u64, "TLS service"),
            many(found as u64, "finding")
        );
        if unclear > 0 {
            let _ = write!(line, ", {unclear} unknown (did not answer TLS in time)");
        }
        if failed > 0 {
            let _ = write!(line, ", {failed} could not be asked");
        }
        line.push('\n');
        text.extend_from_slice(line.as_bytes());
    }
    let kept = memory.map_or(Ok(()), |memory| keep(memory, named));
    tell(&text)?;
    kept?;
    // Of what was named an answer is expected.
    let unanswered = unclear + failed > 0 && !(arguments.target.is_empty() && arguments.port.is_empty());
    Ok(ExitCode::from(u8::from(found > 0 || unanswered)))
}

fn seconds(option: &str, value: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|time| !time.is_zero() && *time <= Duration::from_secs(3600))
        .ok_or_else(|| {
            Failure::Usage(format!("{option} {value}: expected seconds, more than 0 and at most 3600"))
        })
}

fn targets(arguments: &AuditArguments) -> Result<Vec<Target>, Failure> {
    if arguments.target.is_empty() {
        let listening = listening().map_err(|error| Failure::Host(error.to_string()))?;
        let wanted = |port: u16| arguments.port.is_empty() || arguments.port.contains(&port);
        return Ok(listening
            .into_iter()
            .filter(|it| it.bound.iter().any(|address| wanted(address.port())))
            .map(|it| Target { starttls: arguments.starttls, ..Target::from(it) })
            .collect());
    }
    let resolve = |name: &String| {
        let addresses = name.to_socket_addrs().map_err(|error| {
            Failure::Usage(match error.kind() {
                ErrorKind::InvalidInput => format!("--target {name}: expected HOST:PORT"),
                _ => format!("--target {name}: the name is not known here: {error}"),
            })
        })?;
        let reach: Vec<_> = addresses.take(4).collect();
        let bound = reach.iter().take(1).copied().collect();
        Ok(Target { bound, reach, process: None, pid: None, starttls: arguments.starttls })
    };
    arguments.target.iter().map(resolve).collect()
}

/// Without a file of somebody's choice, or without its key, an audit that cannot remember still audits.
fn open(state: &Path, named: bool, config: &Config) -> Result<Option<Memory>, Failure> {
    match Memory::open(state, &config.state) {
        Ok(memory) => {
            for line in &memory.damage {
                eprintln!("streamwatch: {}", printable(line));
            }
            Ok(Some(memory))
        }
        Err(error) => cannot(&error, named, "nothing is remembered").map(|()| None),
    }
}

fn keep(mut memory: Memory, named: bool) -> Result<(), Failure> {
    match memory.save() {
        Ok(()) => memory.close(),
        Err(error) => cannot(&error, named, "what was seen may not be remembered")?,
    }
    Ok(())
}

fn cannot(error: &MemoryError, named: bool, so: &str) -> Result<(), Failure> {
    if !error.passes() && (named || matches!(error, MemoryError::Wrong { .. })) {
        return Err(Failure::Usage(error.to_string()));
    }
    eprintln!("streamwatch: {}; {so}", printable(&error.to_string()));
    Ok(())
}

/// One line of JSON, with the names of the records.
fn record(report: &Report, rotation: Option<&Rotation>, now: Timestamp) -> Value {
    let address = report.address.or(report.target.bound.first().copied());
    let mut audit = json!({
        "bound": report.target.bound.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "findings": report.findings().iter().map(|finding| json!({
            "rule": { "id": finding.rule.as_str(), "name": finding.rule.title() },
            "severity": finding.severity as u8,
            "reason": finding.reason,
            "remedy": finding.remedy,
        })).collect::<Vec<_>>(),
    });
    let mut document = json!({
        "@timestamp": format!("{now:.9}"),
        "ecs": { "version": crate::record::ecs::ECS_VERSION },
        "event": {
            "kind": "state",
            "category": ["configuration", "network"],
            "type": ["info"],
            "action": "audit",
            "dataset": "streamwatch.audit",
            "module": "streamwatch",
            "outcome": match report.outcome {
                Outcome::Tls { .. } | Outcome::Plain => "success",
                Outcome::Unclear(_) => "unknown",
                Outcome::Failed(_) => "failure",
            },
        },
        "observer": { "product": "streamwatch", "version": env!("CARGO_PKG_VERSION") },
    });
    if let Some(address) = address {
        document["server"] = json!({ "ip": address.ip().to_string(), "port": address.port() });
    }
    if let Some(name) = &report.target.process {
        document["process"] = json!({ "name": name });
        if let Some(pid) = report.target.pid {
            document["process"]["pid"] = pid.into();
        }
    }
    if let Some(starttls) = report.starttls {
        audit["starttls"] = starttls.to_string().into();
    }
    match &report.outcome {
        Outcome::Unclear(error) | Outcome::Failed(error) => document["error"] = json!({ "message": error }),
        Outcome::Plain => {}
        Outcome::Tls { offered, .. } => {
            // Its own fields; the certificates follow in the names of ECS.
            if let (Some(fields), Ok(Value::Object(more))) =
                (audit.as_object_mut(), serde_json::to_value(offered))
            {
                fields.extend(more);
            }
            audit["certificates"] = offered.certificates.iter().map(crate::record::certificate).collect();
        }
    }
    if let Some(rotation) = rotation {
        audit["rotation"] = serde_json::to_value(rotation).unwrap_or_default();
    }
    document["streamwatch"] = json!({ "audit": audit });
    document
}

/// Some lines a service; nothing of one without TLS.
fn block(report: &Report, rotation: Option<&Rotation>, now: Timestamp, style: Style) -> String {
    let mut text = String::new();
    let bound: Vec<String> = report.target.bound.iter().map(ToString::to_string).collect();
    let mut title = bound.join(", ");
    if let Some(name) = &report.target.process {
        let _ = write!(title, " {}", called(name));
    }
    if let Some(pid) = report.target.pid {
        let _ = write!(title, " (pid {pid})");
    }
    if let Some(starttls) = report.starttls {
        let _ = write!(title, ", STARTTLS in {starttls}");
    }
    let title = printable(&title).into_owned();
    match &report.outcome {
        Outcome::Plain => return text,
        Outcome::Unclear(why) => {
            let why = printable(why);
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "{}\n  unknown whether it speaks TLS: {why}\n", style.paint("1", &title));
            return text;
        }
        Outcome::Failed(error) => {
            let _ = writeln!(text, "{}\n  {}\n", style.paint("1", &title), printable(error));
            return text;
        }
        Outcome::Tls { offered, findings } => {
            let _ = writeln!(text, "{}", style.paint("1", &title));
            facts(&mut text, offered, rotation, now);
            for finding in findings {
                let severity = style.severity(finding.severity);
                let reason = printable(&finding.reason);
                let _ =
                    writeln!(text, "  {severity} {}: {reason} → {}", finding.rule.as_str(), finding.remedy);
            }
            if findings.is_empty() {
                let _ = writeln!(text, "  {}", style.paint("32", "nothing to find fault with"));
            }
        }
    }
    text.push('\n');
    text
}

fn facts(text: &mut String, offered: &Offered, rotation: Option<&Rotation>, now: Timestamp) {
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<12} {}", printable(value));
    };
    let list = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(", ") };
    line("versions", &list(&offered.versions));
    line("suites", &list(&offered.suites));
    if !offered.groups.is_empty() {
        line("groups", &list(&offered.groups));
    }
    line(
        "post-quantum",
        match offered.post_quantum {
            Some(true) => "yes",
            Some(false) => "no",
            None => "no TLS 1.3",
        },
    );
    line(
        "client cert",
        match offered.client_certificate {
            ClientCertificate::Required => "required",
            ClientCertificate::Requested => "asked for",
            ClientCertificate::NotRequested => "not asked for",
            ClientCertificate::Unknown => "unknown",
        },
    );
    line(
        "tickets",
        match offered.tickets {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        },
    );
    for (at, certificate) in offered.certificates.iter().enumerate() {
        let until = match date_of(certificate.not_after) {
            Some(until) => {
                let days = (certificate.not_after - now.as_second()).div_euclid(86_400);
                format!(", until {} ({days} days)", until.date())
            }
            None => String::new(),
        };
        let bits = if certificate.key_type.starts_with("RSA") {
            format!(" {}", certificate.key_bits)
        } else {
            String::new()
        };
        let issuer = if certificate.self_signed { "itself" } else { &certificate.issuer };
        line(
            if at == 0 { "certificate" } else { "" },
            &format!(
                "{} by {issuer}{until}, {}{bits}, {}",
                certificate.subject, certificate.key_type, certificate.signature_algorithm
            ),
        );
        if at == 0 && !certificate.alternative_names.is_empty() {
            line("names", &certificate.alternative_names.join(", "));
        }
    }
    if let Some(rotation) = rotation {
        let day = |time: Timestamp| time.to_string().get(..10).unwrap_or_default().to_owned();
        let mut said = format!("first seen {} ({} days)", day(rotation.first_seen), rotation.age_days);
        match rotation.last_change {
            None => said.push_str(", no other one before"),
            Some(at) => {
                let _ = write!(said, ", replaced another one on {}", day(at));
            }
        }
        if rotation.key_reused {
            said.push_str(", with a key that was used before");
        }
        line("rotation", &said);
    }
    if let Some(trouble) = &offered.trouble {
        line("trouble", trouble);
    }
    if offered.cut_short {
        line("", "not all questions were asked: more may be accepted");
    }
}
