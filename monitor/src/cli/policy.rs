//! `policy`: what is in force, whether a file would be, and what it would say.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use hyper::Method;

use super::args::PolicyCommand;
use super::client::Client;
use super::{Failure, many, tell, write_out};
use crate::policy::{self, Export, Observations, Policy};
use crate::record::printable;

/// Longest file of records that is read.
const LONGEST_RECORDS: u64 = 2 << 30;

pub(super) fn policy(what: PolicyCommand, socket: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let text = match what {
        PolicyCommand::Show { built_in: true, .. } => Policy::builtin().show(),
        PolicyCommand::Show { file: Some(file), .. } => load(&file)?.show(),
        PolicyCommand::Show { built_in: false, file: None } => in_force(socket)?,
        PolicyCommand::Check { file } => {
            let refused = |error: policy::PolicyError| Failure::Usage(error.to_string());
            let texts = Policy::texts(&file).map_err(refused)?;
            let policy = Policy::compile(&texts).map_err(refused)?;
            if let Some(others) = texts.others() {
                say!("streamwatch: {others}");
            }
            check(&file, &policy)
        }
        PolicyCommand::Schema => policy::schema(),
        PolicyCommand::Learn { flows } => policy::learn(&observations(flows, socket)?),
        PolicyCommand::Test { file, flows } => {
            let policy = load(&file)?;
            let observations = observations(flows, socket)?;
            let trial = policy::trial(&policy, &observations);
            tell(trial.report(observations.ignored).as_bytes())?;
            return Ok(ExitCode::from(u8::from(trial.unexpected > 0)));
        }
        PolicyCommand::Diff { before, after } => {
            let difference = policy::diff(&load(&before)?, &load(&after)?);
            let said = if difference.is_empty() { "no difference\n" } else { &difference };
            tell(said.as_bytes())?;
            return Ok(ExitCode::from(u8::from(!difference.is_empty())));
        }
        PolicyCommand::Export { file, format } => {
            let export = Export::new(&load(&file)?, format);
            for line in &export.left_out {
                // Stderr may be gone: the comments tell it as well.
                let _ = writeln!(std::io::stderr(), "streamwatch: not expressed: {}", printable(line));
            }
            export.to_yaml()
        }
    };
    write_out(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn load(path: &Path) -> Result<Policy, Failure> {
    Policy::load(path).map_err(|error| Failure::Usage(error.to_string()))
}

fn check(path: &Path, policy: &Policy) -> String {
    let clients = policy.len() - policy.service_count();
    let mut text = format!(
        "{}: a policy for {}",
        printable(&path.to_string_lossy()),
        many(policy.service_count() as u64, "service")
    );
    if clients > 0 {
        text.push_str(&format!(" and {}", many(clients as u64, "client")));
    }
    text.push('\n');
    text
}

fn in_force(socket: Option<PathBuf>) -> Result<String, Failure> {
    let text = Client::new(socket)?.text(Method::GET, "/v1/policy").map_err(|failure| match failure {
        Failure::Unreachable(why) => {
            Failure::Unreachable(format!("{why} (--built-in shows the built-in rules without it)"))
        }
        other => other,
    })?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// From a file of records, or what the daemon has seen.
fn observations(flows: Option<PathBuf>, socket: Option<PathBuf>) -> Result<Observations, Failure> {
    let Some(path) = flows else {
        let client = Client::new(socket)?;
        let mut streams = Observations::new(client.records(Method::GET, "/v1/streams")?);
        streams.name_servers(&Observations::new(client.records(Method::GET, "/v1/flows")?));
        return Ok(streams);
    };
    let unreadable =
        |error: std::io::Error| Failure::Usage(format!("{}: can't be read: {error}", path.display()));
    let mut bytes = Vec::new();
    let limit = LONGEST_RECORDS + 1;
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let file = std::fs::File::open(&path).map_err(unreadable)?;
        file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if bytes.len() as u64 > LONGEST_RECORDS {
        return Err(Failure::Usage(format!("{}: is larger than {LONGEST_RECORDS} bytes", path.display())));
    }
    let found = Observations::from_lines(&String::from_utf8_lossy(&bytes));
    if found.list.is_empty() {
        return Err(Failure::Usage(format!(
            "{}: holds no record of a flow, expected JSON lines as `streamwatch run --output ecs` writes them",
            path.display()
        )));
    }
    Ok(found)
}
