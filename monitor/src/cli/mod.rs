//! The command line: asks the daemon over its socket and shows the answer; `run` is the daemon.
//!
//! In: arguments, the environment, records of the API. Out: tables and lines for people, or the
//! records as they are (`--json`). Must never: print a character that came from outside and that a
//! terminal acts on; end with 0 when what was asked for did not happen.

mod args;
mod audit;
mod check;
mod client;
mod doctor;
mod ending;
mod failure;
mod inventory;
mod listing;
mod own;
mod policy;
mod run;
mod screen;
mod shares;
mod status;
mod table;
mod views;
mod wide;
mod words;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::daemon;
use crate::record::printable;
pub use args::{Arguments, Command};
pub use failure::Failure;

/// Reads the arguments of this process, does what they say, and tells how it went (see
/// [`Failure::code`]).
pub fn main() -> ExitCode {
    monitor_sys::memory::keep_little();
    match arguments().and_then(dispatch) {
        Ok(code) => code,
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            // Stderr may be gone: the exit status still tells.
            let _ = writeln!(io::stderr(), "streamwatch: {}", printable(&failure.to_string()));
            ExitCode::from(failure.code())
        }
    }
}

/// Those of this process; where they ask for help, that is all it does.
fn arguments() -> Result<Arguments, Failure> {
    Arguments::try_parse().map_err(|error| match is_help(&error) {
        true => error.exit(),
        false => Failure::Usage(in_one_line(&error)),
    })
}

fn is_help(error: &clap::Error) -> bool {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    matches!(error.kind(), DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand | DisplayVersion)
}

/// What is wrong with the arguments, and where it is told how they are to be.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mut told = String::new();
    let mut command = vec!["streamwatch"];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            command = usage.split(' ').take_while(|word| !word.starts_with(['[', '<', '-'])).collect();
            break;
        }
        if line.starts_with("For more information") {
            break;
        }
        if !told.is_empty() {
            told.push_str(if told.ends_with(':') || line.starts_with('[') { " " } else { "; " });
        }
        told.push_str(line.strip_prefix("error: ").unwrap_or(line));
    }
    format!("{told}; see '{} --help'", command.join(" "))
}

/// "1 alert", "2 alerts".
fn many(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn dispatch(arguments: Arguments) -> Result<ExitCode, Failure> {
    let socket = arguments.socket;
    let done = |result: Result<(), Failure>| result.map(|()| ExitCode::SUCCESS);
    match arguments.command {
        Command::Run(run) => done(run::run(run, socket)),
        Command::Streams { listing, wide } => done(listing::streams(&listing, wide, socket)),
        Command::Flows { listing } => done(listing::flows(&listing, socket)),
        Command::Alerts { what: Some(what), .. } => done(words::say(what, socket)),
        Command::Alerts { listing, follow, what: None } => done(listing::alerts(&listing, follow, socket)),
        Command::Hist { listing, reset } => done(listing::histograms(&listing, reset, socket)),
        Command::Top { listing } => done(listing::top(&listing, socket)),
        Command::Status { json, watch } => done(status::show(json, watch, socket)),
        Command::Inventory { json, cyclonedx } => {
            let form = match (json, cyclonedx) {
                (_, true) => inventory::Form::CycloneDx,
                (true, false) => inventory::Form::Json,
                (false, false) => inventory::Form::Text,
            };
            done(inventory::show(form, socket))
        }
        Command::Audit(arguments) => audit::audit(&arguments),
        Command::Check { severity, quiet } => check::check(severity.into(), quiet, socket),
        Command::Policy { what } => policy::policy(what, socket),
        Command::Stop { place, detach } => ending::stop(place, socket, detach),
        Command::Uninstall { place, keep_state } => ending::uninstall(place, socket, keep_state),
        Command::Doctor { json, config, own: true } => own::report(json, config.as_deref(), socket),
        Command::Doctor { json, config, own: false } => done(doctor::report(json, config.as_deref())),
        Command::Worker { trial: true, config } => own::trial(config.as_deref()),
        Command::Worker { trial: false, .. } => {
            done(daemon::work().map_err(|error| Failure::Host(error.to_string())))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "streamwatch", &mut script);
            done(write_out(&script))
        }
        Command::Man { command } => done(manual(command.as_deref())),
    }
}

fn manual(name: Option<&str>) -> Result<(), Failure> {
    let mut command = Arguments::command();
    command.build();
    let command = match name {
        None => command,
        Some(name) => command
            .find_subcommand(name)
            .ok_or_else(|| Failure::Usage(format!("there is no command {name:?}: see streamwatch --help")))?
            .clone(),
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    write_out(&page)
}

/// [`write_out`] for a command whose exit status is its answer: it holds whether or not somebody reads on.
fn tell(bytes: &[u8]) -> Result<(), Failure> {
    match write_out(bytes) {
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes all of it to stdout.
fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests;
