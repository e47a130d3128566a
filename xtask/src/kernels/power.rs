//! The power goes while alerts are acknowledged and silenced (`guest/power.sh`), at any moment, again and
//! again. In: a machine, whose disk loses what it was not told to keep (`disk.rs`). Out: a line a boot: the
//! state opens, and what was answered with 200 in any boot before is there.
//!
//! The machine is killed. That is seldom just when a commit is half on the disk: so of what it wrote within its
//! last moments, after the last answer that counts, the disk has as much as chance has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use serde_json::Value;

use super::Trial;
use super::check::{self, Line, line};
use super::disk::Disk;
use super::observations::pairs;
use super::qemu::{self, Machine, Session};
use crate::step::failure;

/// What it is called where it is told.
pub const NAME: &str = "what was answered with 200 is there after the power is lost";

/// How often the power is lost: a number, or `full`; `STREAMWATCH_TEST_FULL=1` is `full`, too.
const VARIABLE: &str = "STREAMWATCH_TEST_POWER_LOSSES";
const USUAL: u32 = 3;
const FULL: u32 = 50;
/// A number, from which all that is left to chance here follows, but for the machine's own pace.
const SEED: &str = "STREAMWATCH_TEST_POWER_SEED";

/// Answers with 200 before the power goes, at most.
const ANSWERS: usize = 24;
/// It goes so many milliseconds behind the last of them that counts.
const DELAY_MS: std::ops::RangeInclusive<u64> = 200..=2000;

/// What was promised: by alert (its port) the number of the last acknowledgement, and the silences.
#[derive(Default)]
struct Promised {
    acknowledged: BTreeMap<u64, u64>,
    silenced: BTreeSet<u64>,
}

/// Boots, and loses power, and boots, until the last one ends in order. What was looked at, or why nothing was, and
/// what the power took each time.
///
/// # Errors
/// QEMU did not start, or the disk's files cannot be read or written.
pub fn run(machine: &Machine) -> Result<Trial> {
    let (losses, seed) = (losses()?, seed()?);
    let mut chance = Rng::with_seed(seed);
    let disk = Disk::new(machine.line)?;
    let (mut lines, mut notes) = (Vec::new(), vec![format!("{SEED}={seed}")]);
    let mut promised = Promised::default();
    for boot in 0..=losses {
        let last = boot == losses;
        let (session, since) = one(machine, &disk, boot, last, &mut chance)?;
        if let Some(reason) = unfit(&session, boot) {
            // What was found wrong before stays so.
            if lines.iter().any(|line: &Line| line.wrong.is_some()) {
                notes.push(reason);
                break;
            }
            disk.remove();
            return Ok(Trial::skipped(NAME, &reason));
        }
        lines.push(line(&format!("boot {}", boot + 1), promised.broken(&session)));
        notes.extend(damage(&session).map(|told| format!("boot {}: {told}", boot + 1)));
        if last {
            lines.push(line("the end", ended(&session)));
            continue;
        }
        let answers = promised.take(&session);
        if session.over || answers == 0 {
            let said = check::last(&session.console);
            lines.push(line("load", Some(format!("{answers} answers before the power went: {said}"))));
            break;
        }
        let lost = disk.lose_power(since, &mut chance)?;
        notes.push(format!(
            "boot {}: {answers} answers and {} flushes before the power went, {} of {} blocks behind the last lost, \
             and {} later entries of the log",
            boot + 1,
            lost.flushes,
            lost.lost,
            lost.waiting,
            lost.never
        ));
    }
    disk.remove();
    for wrong in lines.iter_mut().filter_map(|line| line.wrong.as_mut()) {
        wrong.push_str(&format!(" ({SEED}={seed})"));
    }
    Ok(Trial { name: NAME, lines: Ok(lines), notes })
}

/// Why this boot says nothing about the state: the daemon had no part in it.
fn unfit(session: &Session, boot: u32) -> Option<String> {
    if session.results.is_empty() {
        return Some(format!("boot {} did not come up: {}", boot + 1, check::last(&session.console)));
    }
    (boot == 0 && !has_disk(session)).then(|| {
        format!("no disk: no virtio_blk, no ext4, or it ended before: {}", check::last(&session.console))
    })
}

fn has_disk(session: &Session) -> bool {
    let sections = session.sections();
    let disk = sections.iter().find(|(section, _)| *section == "disk");
    disk.is_some_and(|(_, mounts)| mounts.iter().any(|mount| mount.contains(" ext4 ")))
}

fn seed() -> Result<u64> {
    match std::env::var(SEED) {
        Err(_) => Ok(fastrand::u64(..)),
        Ok(said) => said
            .parse()
            .map_err(|_| failure(format!("{SEED}={said} is no number"), "say the one that a report told")),
    }
}

fn losses() -> Result<u32> {
    let all = std::env::var_os("STREAMWATCH_TEST_FULL").is_some_and(|all| !all.is_empty() && all != "0");
    match std::env::var(VARIABLE) {
        Err(_) => Ok(if all { FULL } else { USUAL }),
        Ok(said) if said == "full" => Ok(FULL),
        Ok(said) => said.parse().map_err(|_| {
            failure(format!("{VARIABLE}={said} is no number"), format!("say how many, or `full` ({FULL})"))
        }),
    }
}

/// What the machine said until the last answer that counts, and how much its disk had logged then or before.
fn one(machine: &Machine, disk: &Disk, boot: u32, last: bool, chance: &mut Rng) -> Result<(Session, u64)> {
    let words = format!("boot={} last={}", boot + 1, if last { "yes" } else { "no" });
    let wanted = chance.usize(1..=ANSWERS);
    let delay = Duration::from_millis(chance.u64(DELAY_MS));
    let mut counts = None;
    let mut enough = |said: &str| {
        if !last && counts.is_none() && answered(said) >= wanted {
            let goes = Instant::now() + delay;
            // In this order: what was said is on the disk.
            counts = Some((said.to_owned(), disk.logged(), goes));
        }
        counts.as_ref().is_some_and(|(_, _, goes)| *goes <= Instant::now())
    };
    let mut session = qemu::twice(|| machine.run_until("power", &words, &disk.options()?, &mut enough))?;
    // Where it was stuck, all that it logged is there.
    let mut since = u64::MAX;
    if let Some((said, logged, _)) = counts {
        (session.results, since) = (said, logged);
    }
    Ok((session, since))
}

/// How many answers were told. The last line may not be whole yet.
fn answered(said: &str) -> usize {
    said.rfind('\n').map_or(0, |end| said[..end].matches("status=200 ").count())
}

/// What a section has in JSON.
fn told<'a>(session: &'a Session, name: &'a str) -> impl Iterator<Item = Value> + 'a {
    let of = move |(section, _): &(&str, Vec<&str>)| *section == name;
    let lines = session.sections().into_iter().filter(of).flat_map(|(_, lines)| lines);
    lines.filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<_>>().into_iter()
}

fn status(session: &Session) -> Option<Value> {
    told(session, "before").find(|value| value["uptime_ns"].is_u64())
}

impl Promised {
    /// Takes in what was answered with 200 in this boot, and says how much that was.
    fn take(&mut self, session: &Session) -> usize {
        let mut answers = 0;
        for (_, lines) in session.sections().into_iter().filter(|(section, _)| *section == "answers") {
            for answer in lines
                .into_iter()
                .map(pairs)
                .filter(|answer| answer.get("status").is_some_and(|code| code == "200"))
            {
                let Some(number) = answer.get("number").and_then(|number| number.parse().ok()) else {
                    continue;
                };
                match answer.get("of").map(String::as_str) {
                    Some("silence") => {
                        self.silenced.insert(number);
                    }
                    Some(port) => {
                        let Ok(port) = port.parse() else { continue };
                        self.acknowledged.insert(port, number);
                    }
                    None => continue,
                }
                answers += 1;
            }
        }
        answers
    }

    /// What of it is not there when the daemon is asked, if anything.
    fn broken(&self, session: &Session) -> Option<String> {
        let Some(status) = status(session) else {
            return Some(format!("the daemon did not answer: {}", check::last(&session.console)));
        };
        if status["state"]["kept"] != true || status["state"]["whole"] != true {
            return Some(format!("the state is not kept: {}", status["state"]));
        }
        let mut missing = Vec::new();
        for (port, number) in &self.acknowledged {
            // Of an alert of an earlier boot no flow is known any more; its key names the port.
            let service = format!(":{port}/tcp");
            let is_it = |record: &Value| {
                record["rule"]["id"] == "plaintext"
                    && record["streamwatch"]["alert"]["key"]
                        .as_str()
                        .is_some_and(|key| key.ends_with(&service))
            };
            let why = told(session, "before")
                .find(is_it)
                .map(|record| record["streamwatch"]["alert"]["acknowledged"]["why"].clone());
            // One that was said later, and whose answer did not come any more, may be there in its place.
            let there = why.as_ref().and_then(Value::as_str).and_then(|why| why.parse::<u64>().ok());
            if there.is_none_or(|there| there < *number) {
                missing.push(format!("port {port}: acknowledgement {number}, there is {why:?}"));
            }
        }
        let silences: BTreeSet<u64> = told(session, "before")
            .filter(|value| value["filter"].is_string())
            .filter_map(|silence| silence["why"].as_str()?.parse().ok())
            .collect();
        missing.extend(self.silenced.difference(&silences).map(|number| format!("silence {number}")));
        (!missing.is_empty()).then(|| missing.join("; "))
    }
}

/// What the daemon says was not as it should be when it opened the state.
fn damage(session: &Session) -> Option<String> {
    let damage = status(session)?["state"]["damage"].as_array()?.clone();
    let lines: Vec<&str> = damage.iter().filter_map(Value::as_str).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

fn ended(session: &Session) -> Option<String> {
    let sections = session.sections();
    let lines = |name: &str| {
        let found = sections.iter().find(|(section, _)| *section == name);
        found
            .map(|(_, lines)| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
            .unwrap_or_default()
    };
    let said = lines("daemon");
    let ended = said.first().map(|line| pairs(line)).unwrap_or_default();
    check::daemon(&ended, said.get(1..).unwrap_or_default())
        .or_else(|| check::complaints(&lines("complaints")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(console: &str, results: &str) -> Session {
        Session {
            console: console.to_owned(),
            results: results.to_owned(),
            took: Duration::default(),
            over: true,
        }
    }

    #[test]
    fn an_answer_counts_once_its_line_is_whole() {
        assert_eq!(answered("== answers\nstatus=200 of=1 number=1\nstatus=200 of=2 num"), 1);
        assert_eq!(answered("status=200 of=1 number=1"), 0);
    }

    #[test]
    fn a_machine_without_a_disk_says_nothing_of_the_state() {
        let refused = session("qemu: Unknown driver 'blklogwrites'\n", "");
        assert!(unfit(&refused, 0).is_some_and(|why| why.contains("blklogwrites")));
        assert!(unfit(&refused, 2).is_some());
        assert!(unfit(&session("", "== release\n7.1\n== disk\n== before\n"), 0).is_some());
        assert!(unfit(&session("", "== release\n7.1\n"), 0).is_some());
        // Later ones had it: what is not there then is wrong.
        assert!(unfit(&session("", "== release\n7.1\n"), 1).is_none());
        let mounted = "== release\n7.1\n== disk\n/dev/vda /var/lib/streamwatch ext4 rw 0 0\n";
        assert!(unfit(&session("", mounted), 0).is_none());
    }
}
