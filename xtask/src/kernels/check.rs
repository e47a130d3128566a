//! Is what was seen in a machine right? In: observations. Out: a line for everything that was
//! looked at, passed or failed. What was not seen has failed.

use std::collections::HashMap;

use serde_json::Value;

use super::budget::Budget;
use super::observations::Observations;

/// The observations, and what they are worth.
pub struct Checked {
    pub seen: Observations,
    pub lines: Vec<Line>,
    /// Whether the budget names this kernel.
    pub covered: bool,
}

/// One thing that was looked at.
pub struct Line {
    pub name: String,
    /// What is wrong.
    pub wrong: Option<String>,
}

impl Line {
    /// What is wrong, and with what.
    pub fn told(&self) -> Option<String> {
        Some(format!("{}: {}", self.name, self.wrong.as_ref()?))
    }
}

impl Checked {
    /// What was wrong, a line each.
    pub fn wrong(&self) -> impl Iterator<Item = String> {
        self.lines.iter().filter_map(Line::told)
    }

    pub fn failed(&self) -> bool {
        self.lines.iter().any(|line| line.wrong.is_some())
    }
}

/// Everything: the programs, and what the daemon made of the traffic.
pub fn judge(seen: Observations, budget: &Budget) -> Checked {
    let mut lines = survey(&seen, budget);
    lines.push(line("doctor", doctor(&seen)));
    lines.push(line("hooks", hooks(&seen)));
    for expected in &seen.traffic {
        let name = expected.get("name").map_or("traffic", String::as_str);
        lines.push(line(name, super::flows::check(expected, &seen.records)));
    }
    // The script says what it does as it does it: one that ended early has said too little.
    lines.push(line("script", (!seen.complete).then(|| format!("ended early: {}", last(&seen.console)))));
    lines.push(line("loss", loss(seen.status.as_ref(), &seen.records)));
    lines.push(line("daemon", daemon(&seen.daemon, &seen.daemon_said)));
    lines.push(line("kernel", complaints(&seen.complaints)));
    let covered = seen.programs.iter().all(|one| one.verified.is_none()) || budget.covers(&seen.release);
    Checked { seen, lines, covered }
}

/// The programs alone.
pub fn judge_survey(seen: Observations, budget: &Budget) -> Checked {
    let lines = survey(&seen, budget);
    let covered = seen.programs.iter().all(|one| one.verified.is_none()) || budget.covers(&seen.release);
    Checked { seen, lines, covered }
}

/// One that is right, or wrong.
pub fn line(name: &str, wrong: Option<String>) -> Line {
    Line { name: name.to_owned(), wrong }
}

fn survey(seen: &Observations, budget: &Budget) -> Vec<Line> {
    if seen.programs.is_empty() {
        return vec![line("programs", Some(format!("the survey said nothing: {}", last(&seen.console))))];
    }
    let mut lines = Vec::new();
    for program in &seen.programs {
        let wrong = program.refused.clone().or_else(|| budget.exceeded(&seen.release, program));
        lines.push(line(&format!("program {}", program.name), wrong));
    }
    lines
}

fn doctor(seen: &Observations) -> Option<String> {
    if seen.doctor.is_empty() {
        return Some("said nothing".to_owned());
    }
    let missing: Vec<String> = shortcomings(seen, "missing");
    (!missing.is_empty()).then(|| missing.join("; "))
}

/// What `doctor` calls so, with its reason.
pub fn shortcomings(seen: &Observations, outcome: &str) -> Vec<String> {
    seen.doctor
        .iter()
        .filter(|check| check["outcome"] == outcome)
        .map(|check| format!("{}: {}", text(&check["name"]), text(&check["detail"])))
        .collect()
}

fn hooks(seen: &Observations) -> Option<String> {
    let hooks = seen.status.as_ref().and_then(|status| status["hooks"].as_array());
    let Some(hooks) = hooks.filter(|hooks| !hooks.is_empty()) else {
        return Some(format!("the daemon told of none; it said: {}", seen.daemon_said.join(" | ")));
    };
    let missing: Vec<&str> =
        hooks.iter().filter(|hook| hook["attached"] != true).map(|hook| text(&hook["name"])).collect();
    (!missing.is_empty()).then(|| format!("not attached: {}", missing.join(", ")))
}

/// Is anything lost, by the daemon's own account?
pub fn loss(status: Option<&Value>, records: &[Value]) -> Option<String> {
    let kinds = status.and_then(|status| status["loss"].as_array());
    let Some(kinds) = kinds else { return Some("the daemon gave no account of losses".to_owned()) };
    let lost: Vec<String> = kinds
        .iter()
        .filter(|kind| kind["lost"].as_u64() != Some(0) || kind["offered"] != kind["delivered"])
        .map(|kind| format!("{} {}", kind["lost"], text(&kind["kind"])))
        .collect();
    if !lost.is_empty() {
        return Some(lost.join(", "));
    }
    let told = records.iter().any(|record| record["event"]["dataset"] == "streamwatch.loss");
    told.then(|| "the daemon wrote a record of a loss".to_owned())
}

/// Did it end in order? `ended`: how; `said`: what it wrote on stderr.
pub fn daemon(ended: &HashMap<String, String>, said: &[String]) -> Option<String> {
    let exit = ended.get("exit").map_or("unknown", String::as_str);
    (exit != "0").then(|| format!("exit status {exit}; it said: {}", said.join(" | ")))
}

/// Emulation makes the kernel warn of things that are not ours; what names BPF, or is worse than a
/// warning, is.
pub fn complaints(said: &[String]) -> Option<String> {
    let grave =
        |line: &&String| ["BUG:", "Oops", "general protection", "bpf"].iter().any(|word| line.contains(word));
    let found: Vec<&String> = said.iter().filter(grave).collect();
    found.first().map(|first| (*first).clone())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// The end of what a machine said.
pub fn last(console: &str) -> String {
    let mut lines: Vec<&str> = console.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
    lines.reverse();
    if lines.is_empty() { "nothing on the console".to_owned() } else { lines.join(" | ") }
}
