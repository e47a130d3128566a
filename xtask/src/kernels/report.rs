//! The tables, on stdout: a row a kernel, the verifier's counts by program, and what failed or was
//! skipped, each with its reason.

use std::collections::BTreeSet;

use super::check::{Checked, Line, shortcomings};
use super::{Outcome, Verdict};

/// Prints everything.
pub fn print(outcomes: &[Outcome]) {
    println!();
    println!(
        "{:<6} {:<28} {:>9} {:>6} {:>9} {:>6} {:>7}  RESULT",
        "KERNEL", "RELEASE", "PROGRAMS", "HOOKS", "CHECKS", "READY", "TOOK"
    );
    for outcome in outcomes {
        match &outcome.verdict {
            Verdict::Ran(checked) => row(outcome.name, checked),
            Verdict::Skipped(reason) => println!("{:<6} skipped: {reason}", outcome.name),
        }
    }
    counts(outcomes);
    details(outcomes);
    trials(outcomes);
    let ran = |wanted: bool| {
        let fits =
            |outcome: &&Outcome| matches!(outcome.verdict, Verdict::Ran(_)) && outcome.failed() == wanted;
        outcomes.iter().filter(fits).count()
    };
    let (passed, failed) = (ran(false), ran(true));
    println!("\nkernels: {passed} passed, {failed} failed, {} skipped", outcomes.len() - passed - failed);
}

fn row(name: &str, checked: &Checked) {
    let seen = &checked.seen;
    let loaded = seen.programs.iter().filter(|program| program.refused.is_none()).count();
    let hooks = seen.status.as_ref().and_then(|status| status["hooks"].as_array());
    let attached = hooks.map(|hooks| hooks.iter().filter(|hook| hook["attached"] == true).count());
    let passed = checked.lines.iter().filter(|line| line.wrong.is_none()).count();
    println!(
        "{name:<6} {:<28} {:>9} {:>6} {:>9} {:>6} {:>7}  {}",
        seen.release,
        format!("{loaded}/{}", seen.programs.len()),
        attached.map_or("-".to_owned(), |number| number.to_string()),
        format!("{passed}/{}", checked.lines.len()),
        seen.daemon.get("ready_after").map_or("-".to_owned(), |seconds| format!("{seconds} s")),
        format!("{} s", seen.took.as_secs()),
        if checked.failed() { "FAILED" } else { "passed" },
    );
}

/// Instructions that each verifier went through.
fn counts(outcomes: &[Outcome]) {
    let ran: Vec<(&str, &Checked)> = outcomes
        .iter()
        .filter_map(|outcome| match &outcome.verdict {
            Verdict::Ran(checked) => Some((outcome.name, &**checked)),
            Verdict::Skipped(_) => None,
        })
        .collect();
    let names: BTreeSet<&str> = ran
        .iter()
        .flat_map(|(_, checked)| &checked.seen.programs)
        .map(|program| program.name.as_str())
        .collect();
    if names.is_empty() {
        return;
    }
    print!("\n{:<14}", "VERIFIED");
    ran.iter().for_each(|(name, _)| print!(" {name:>9}"));
    println!();
    for name in names {
        print!("{name:<14}");
        for (_, checked) in &ran {
            let program = checked.seen.programs.iter().find(|program| program.name == name);
            let cell = match program {
                None => "-".to_owned(),
                Some(program) if program.refused.is_some() => "refused".to_owned(),
                // Before 5.16 no kernel tells.
                Some(program) => program.verified.map_or("not told".to_owned(), |count| count.to_string()),
            };
            print!(" {cell:>9}");
        }
        println!();
    }
}

/// What was done to the newest.
fn trials(outcomes: &[Outcome]) {
    for (kernel, trial) in outcomes.iter().flat_map(|one| one.trials.iter().map(|trial| (one.name, trial))) {
        match &trial.lines {
            Err(reason) => println!("{kernel}: skipped: {}: {reason}", trial.name),
            Ok(lines) => {
                let passed = lines.iter().filter(|line| line.wrong.is_none()).count();
                let result = if trial.failed() { "FAILED" } else { "passed" };
                println!("{kernel}: {}: {passed}/{} {result}", trial.name, lines.len());
                for told in lines.iter().filter_map(Line::told) {
                    println!("{kernel}: FAILED: {told}");
                }
            }
        }
        trial.notes.iter().for_each(|note| println!("{kernel}: note: {note}"));
    }
}

fn details(outcomes: &[Outcome]) {
    for outcome in outcomes {
        let Verdict::Ran(checked) = &outcome.verdict else { continue };
        for line in &checked.lines {
            if let Some(told) = line.told() {
                println!("{}: FAILED: {told}", outcome.name);
            }
        }
        for limited in shortcomings(&checked.seen, "limited") {
            println!("{}: missing: {limited}", outcome.name);
        }
        for complaint in &checked.seen.complaints {
            println!("{}: note: the kernel said: {complaint}", outcome.name);
        }
        if !checked.covered {
            println!("{}: note: no budget for this kernel yet: its counts are above", outcome.name);
        }
    }
}
