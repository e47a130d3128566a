//! `cargo xtask kernels`: does everything load, and are the answers right, on the kernels that we
//! promise to run on?
//!
//! In: the names of kernel lines. Out: a table per kernel of what loads, what is missing, what the
//! verifier went through and what real traffic showed. Each is a distribution's own kernel, booted
//! in QEMU with what `guest.sh` does in it. Must never: install a kernel here, load anything into
//! the kernel that runs us (but for the survey of the host's own, which attaches nothing), or call a
//! kernel passed that could not be had.

mod budget;
mod check;
mod flows;
mod guest;
mod observations;
mod packages;
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
use check::Checked;
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
}

impl Outcome {
    fn failed(&self) -> bool {
        matches!(&self.verdict, Verdict::Ran(seen) if seen.failed())
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
    }
}

fn run(wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Outcome>> {
    guest::build_programs()?;
    let budget = Budget::read()?;
    let mut outcomes = Vec::new();
    let mut archive = None;
    for line in LINES.iter().filter(|line| wanted(line.name)) {
        println!("xtask: Linux {}", line.name);
        let verdict = match one(line, &mut archive) {
            Ok(seen) => Verdict::Ran(Box::new(check::judge(seen, &budget))),
            Err(Refusal::NotToBeHad(reason)) => Verdict::Skipped(reason),
            Err(Refusal::Failed(error)) => return Err(error),
        };
        outcomes.push(Outcome { name: line.name, verdict });
    }
    if wanted(HOST) {
        println!("xtask: this host's own kernel");
        let verdict = match host() {
            Ok(seen) => Verdict::Ran(Box::new(check::judge_survey(seen, &budget))),
            Err(reason) => Verdict::Skipped(reason),
        };
        outcomes.push(Outcome { name: HOST, verdict });
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

fn one(line: &Line, archive: &mut Option<Archive>) -> Result<Observations, Refusal> {
    let not_to_be_had = |error: anyhow::Error| Refusal::NotToBeHad(format!("{error:#}"));
    if std::env::consts::ARCH != "x86_64" {
        return Err(Refusal::NotToBeHad("its packages are for x86-64, and so is its machine".to_owned()));
    }
    let (kernel, root) = packages::fetch(line.name, line.versions, archive).map_err(not_to_be_had)?;
    let emulator = qemu::Emulator::find(archive).map_err(not_to_be_had)?;
    let image = guest::image(line.name, &kernel, &root).map_err(Refusal::Failed)?;
    let boot = || qemu::run(&emulator, line.name, line.processor, &kernel.image, &image);
    let mut session = boot().map_err(Refusal::Failed)?;
    if session.results.is_empty() {
        println!("xtask: the machine ended before anything of ours ran in it; once more");
        session = boot().map_err(Refusal::Failed)?;
    }
    Ok(Observations::read(&session))
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
