//! What `guest.sh` wrote, taken apart. Judges nothing; what is not there stays empty.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::qemu::Session;

/// One kernel program, as the survey found it.
pub struct Program {
    pub name: String,
    /// Instructions that the verifier went through, where the kernel tells (5.16 and later).
    pub verified: Option<u64>,
    /// Why it does not load.
    pub refused: Option<String>,
}

/// What was seen in one machine.
#[derive(Default)]
pub struct Observations {
    pub release: String,
    pub programs: Vec<Program>,
    /// The lines of `streamwatch doctor --json`.
    pub doctor: Vec<Value>,
    /// What the programs at both ends say that they did: a line each, by key.
    pub traffic: Vec<HashMap<String, String>>,
    /// `streamwatch status --json`.
    pub status: Option<Value>,
    /// The daemon's records of ended flows and of losses.
    pub records: Vec<Value>,
    /// `exit` and `ready_after`, and what the daemon wrote on stderr.
    pub daemon: HashMap<String, String>,
    pub daemon_said: Vec<String>,
    /// The kernel's own complaints.
    pub complaints: Vec<String>,
    /// Whether the script came to its end.
    pub complete: bool,
    pub console: String,
    pub took: Duration,
}

impl Observations {
    /// Reads what came over the serial lines.
    pub fn read(session: &Session) -> Self {
        let mut seen =
            Observations { console: session.console.clone(), took: session.took, ..Self::default() };
        for (section, lines) in session.sections() {
            seen.complete |= section == "end";
            lines.iter().for_each(|line| seen.line(section, line));
        }
        seen
    }

    /// The survey alone.
    pub fn of_survey(release: String, lines: &str) -> Self {
        let mut seen = Observations { release, complete: true, ..Self::default() };
        lines.lines().for_each(|line| seen.line("survey", line));
        seen
    }

    fn line(&mut self, section: &str, line: &str) {
        let json = || serde_json::from_str::<Value>(line).ok();
        match section {
            "release" => line.clone_into(&mut self.release),
            "survey" => self.programs.extend(json().and_then(|value| program(&value))),
            "doctor" => self.doctor.extend(json()),
            "traffic" => self.traffic.push(pairs(line)),
            "status" => self.status = json(),
            "records" => self.records.extend(json()),
            "daemon" if self.daemon.is_empty() => self.daemon = pairs(line),
            "daemon" => self.daemon_said.push(line.to_owned()),
            "complaints" => self.complaints.push(line.to_owned()),
            _ => {}
        }
    }
}

fn program(line: &Value) -> Option<Program> {
    let loads = line["loads"].as_bool()?;
    Some(Program {
        name: line["program"].as_str()?.to_owned(),
        verified: line["verified"].as_u64(),
        refused: (!loads).then(|| line["reason"].as_str().unwrap_or("no reason given").to_owned()),
    })
}

/// `a=1 b=2`.
pub fn pairs(line: &str) -> HashMap<String, String> {
    let pair = |word: &str| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    line.split_whitespace().filter_map(pair).collect()
}
