//! `cargo xtask kernels`: does everything load, and are the answers right, on the kernels that we
//! promise to run on?
//!
//! In: the names of kernel lines. Out: a table per kernel of what loads, what is missing, what the
//! verifier went through and what real traffic showed. Each is a distribution's own kernel, booted
//! in QEMU with what `guest/` does in it. On the newest of them the clocks are set and the power is lost, too
//! (`clocks.rs`, `power.rs`), which no test may do to the host. Must never: install a kernel here, load anything into
//! the kernel that runs us (but for the survey of the host's own, which attaches nothing), or call a
//! kernel passed that could not be had.

mod budget;
mod check;
mod clocks;
mod disk;
mod flows;
mod guest;
mod observations;
mod packages;
mod power;
mod qemu;
mod report;

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::setup::{self, Policy, Scope};
use crate::step::{self, failure};
use crate::tally::Tally;
use crate::{kernel_object, workspace};

use budget::Budget;
use check::{Checked, Line as Looked};
use observations::Observations;
use packages::Archive;

/// A line of kernels, and how its packages' versions begin.
struct Line {
    name: &'static str,
    versions: &'static str,
    /// QEMU's `-cpu`.
    processor: &'static str,
}

/// Oldest first. To add one: its versions, and in [`packages`] the suite that has it.
const LINES: &[Line] = &[
    Line { name: "5.10", versions: "5.10.", processor: "max" },
    Line { name: "6.1", versions: "6.1.", processor: "max" },
    // Without cmpxchg16b: QEMU 7.2 leaves the flags broken behind it, and this kernel, which allocates
    // memory with it, then dies of a double fault or a debug trap now and then. Not for 7.x: without
    // the instruction it has no kmalloc_nolock, from which all socket storage comes, and so no owners.
    Line { name: "6.12", versions: "6.12.", processor: "max,-cx16" },
    Line { name: "7.x", versions: "7.", processor: "max" },
];

/// The kernel that runs us: surveyed here, its traffic is what `cargo xtask test` is about.
const HOST: &str = "host";

/// What became of one kernel.
pub struct Outcome {
    name: &'static str,
    verdict: Verdict,
    /// Of the newest.
    trials: Vec<Trial>,
}

impl Outcome {
    fn failed(&self) -> bool {
        matches!(&self.verdict, Verdict::Ran(seen) if seen.failed()) || self.trials.iter().any(Trial::failed)
    }
}

/// What was done to a machine that nobody does to the host.
pub struct Trial {
    name: &'static str,
    /// What was looked at, or why nothing was.
    lines: Result<Vec<Looked>, String>,
    notes: Vec<String>,
}

impl Trial {
    fn failed(&self) -> bool {
        self.lines.as_ref().is_ok_and(|lines| lines.iter().any(|line| line.wrong.is_some()))
    }

    fn skipped(name: &'static str, reason: &str) -> Trial {
        Trial { name, lines: Err(reason.to_owned()), notes: Vec::new() }
    }
}

enum Verdict {
    Ran(Box<Checked>),
    Skipped(String),
}

/// Runs the kernels named in `only`, all without.
///
/// # Errors
/// A name that is not known, set-up failed, or a kernel failed.
pub fn kernels(policy: Policy, only: &[String], list: bool) -> Result<()> {
    if let Some(unknown) = only.iter().find(|name| !known(name)) {
        let names: Vec<&str> = LINES.iter().map(|line| line.name).chain([HOST]).collect();
        return Err(failure(
            format!("there is no kernel '{unknown}' here"),
            format!("name one of {}", names.join(", ")),
        ));
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    if list {
        return catalogue(&wanted);
    }
    setup::ensure(policy, Scope::Kernels)?;
    kernel_object::build()?;
    let outcomes = run(&wanted)?;
    report::print(&outcomes);
    if outcomes.iter().any(Outcome::failed) {
        return Err(failure(
            "not every kernel passed",
            format!("look for FAILED above; the machines' output is in {}", directory().display()),
        ));
    }
    Ok(())
}

/// One old kernel and one new one, for `cargo xtask test`, which has built the kernel object.
///
/// # Errors
/// The programs for the machines do not compile, or a machine cannot be made.
pub fn oldest_and_newest() -> Result<Vec<Outcome>> {
    run(&|name| name == "5.10" || name == "7.x")
}

/// Shows what became of them, and counts each.
pub fn conclude(outcomes: &[Outcome], tally: &mut Tally) {
    report::print(outcomes);
    for outcome in outcomes {
        match &outcome.verdict {
            Verdict::Ran(checked) => {
                let said = || checked.wrong().collect::<Vec<_>>().join("\n");
                tally.check(
                    &format!("Linux {}", outcome.name),
                    if checked.failed() { Err(said()) } else { Ok(()) },
                );
            }
            Verdict::Skipped(reason) => tally.skip(&format!("Linux {}", outcome.name), reason),
        }
        for trial in &outcome.trials {
            let name = format!("Linux {}: {}", outcome.name, trial.name);
            match &trial.lines {
                Ok(lines) => {
                    let wrong: Vec<String> = lines.iter().filter_map(Looked::told).collect();
                    tally.check(&name, if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) });
                }
                Err(reason) => tally.skip(&name, reason),
            }
        }
    }
}

fn run(wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Outcome>> {
    guest::build_programs()?;
    let budget = Budget::read()?;
    let mut outcomes = Vec::new();
    let mut archive = None;
    let newest = LINES.iter().rev().find(|line| wanted(line.name)).map(|line| line.name);
    for line in LINES.iter().filter(|line| wanted(line.name)) {
        println!("xtask: Linux {}", line.name);
        let is_newest = newest == Some(line.name);
        let (verdict, trials) = match one(line, is_newest, &mut archive) {
            Ok((seen, trials)) => (Verdict::Ran(Box::new(check::judge(seen, &budget))), trials),
            Err(Refusal::NotToBeHad(reason)) => {
                let names = if is_newest { &TRIALS[..] } else { &[] };
                let trials = names.iter().map(|name| Trial::skipped(name, &reason)).collect();
                (Verdict::Skipped(reason), trials)
            }
            Err(Refusal::Failed(error)) => return Err(error),
        };
        outcomes.push(Outcome { name: line.name, verdict, trials });
    }
    if wanted(HOST) {
        println!("xtask: this host's own kernel");
        let verdict = match host() {
            Ok(seen) => Verdict::Ran(Box::new(check::judge_survey(seen, &budget))),
            Err(reason) => Verdict::Skipped(reason),
        };
        outcomes.push(Outcome { name: HOST, verdict, trials: Vec::new() });
    }
    Ok(outcomes)
}

/// Where everything of this verb is kept.
fn directory() -> PathBuf {
    workspace::target().join("kernels")
}

fn known(name: &str) -> bool {
    name == HOST || LINES.iter().any(|line| line.name == name)
}

fn catalogue(wanted: &dyn Fn(&str) -> bool) -> Result<()> {
    for line in LINES.iter().filter(|line| wanted(line.name)) {
        match packages::cached_kernel(line.name) {
            Some(kernel) => println!("{:<6} {} (downloaded)", line.name, kernel.release()),
            None => println!(
                "{:<6} not downloaded yet: Debian's linux-…-{}*-cloud-amd64",
                line.name, line.versions
            ),
        }
    }
    if wanted(HOST) {
        println!("{HOST:<6} {}", rustix::system::uname().release().to_string_lossy());
    }
    Ok(())
}

/// Why there are no observations.
enum Refusal {
    /// The kernel or its machine cannot be had here: no judgement on the programs.
    NotToBeHad(String),
    Failed(anyhow::Error),
}

fn one(
    line: &Line,
    is_newest: bool,
    archive: &mut Option<Archive>,
) -> Result<(Observations, Vec<Trial>), Refusal> {
    let not_to_be_had = |error: anyhow::Error| Refusal::NotToBeHad(format!("{error:#}"));
    if std::env::consts::ARCH != "x86_64" {
        return Err(Refusal::NotToBeHad("its packages are for x86-64, and so is its machine".to_owned()));
    }
    let (kernel, root) = packages::fetch(line.name, line.versions, archive).map_err(not_to_be_had)?;
    let emulator = qemu::Emulator::find(archive).map_err(not_to_be_had)?;
    let image = guest::image(line.name, &kernel, &root).map_err(Refusal::Failed)?;
    let machine = qemu::Machine {
        emulator: &emulator,
        line: line.name,
        processor: line.processor,
        kernel: &kernel.image,
        image: &image,
    };
    let session = machine.run("traffic", "").map_err(Refusal::Failed)?;
    let trials = if is_newest { trials(&machine).map_err(Refusal::Failed)? } else { Vec::new() };
    Ok((Observations::read(&session), trials))
}

/// What no other kernel is put to.
const TRIALS: [&str; 2] = [clocks::NAME, power::NAME];

fn trials(machine: &qemu::Machine) -> Result<Vec<Trial>> {
    println!("xtask: Linux {}, whose clock is set", machine.line);
    let mut session = machine.run("clocks", "")?;
    let did_not_wake = clocks::did_not_wake(&session);
    if did_not_wake {
        println!("xtask: the machine did not wake; once more, without sleep");
        session = machine.run("clocks", "sleeps=no")?;
    }
    let (lines, mut awake) = clocks::judge(&session);
    if did_not_wake {
        awake = Some("this machine did not wake when it had slept".to_owned());
    }
    let mut trials = vec![Trial { name: clocks::NAME, lines: Ok(lines), notes: Vec::new() }];
    if let Some(reason) = awake {
        trials.push(Trial::skipped(clocks::ASLEEP, &reason));
    }
    println!("xtask: Linux {}, which loses its power", machine.line);
    trials.push(power::run(machine)?);
    Ok(trials)
}

/// Which programs the kernel here takes.
fn host() -> Result<Observations, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("loading programs needs root".to_owned());
    }
    let mut survey = Command::new(guest::program("kernel_survey"));
    survey.arg(workspace::target().join("bpf/streamwatch.bpf.o"));
    // Its exit status says that something was refused; its lines say what.
    let output = survey.output().map_err(|error| format!("the survey did not start: {error}"))?;
    let release = step::ask(Command::new("uname").arg("-r")).unwrap_or_default();
    Ok(Observations::of_survey(release, &String::from_utf8_lossy(&output.stdout)))
}
