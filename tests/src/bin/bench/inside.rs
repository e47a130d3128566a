//! What is measured inside the process, without the kernel: by the program `inside`, which prints a
//! JSON object a sample: `bench`, `variant`, `value`, `unit`, and whatever else it wants to say.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::finish;

use crate::programs::beside;
use crate::report::{Findings, Must};
use crate::statistics::{median, spread};

/// What a variant must reach, by bench, unit, and a part of the variant's name.
const LIMITS: &[(&str, &str, &str, Must)] = &[
    ("events", "events/s", "", Must::AtLeast(1e6)),
    ("events", "allocations/event", "progress", Must::AtMost(0.0)),
    ("memory", "bytes/flow", "", Must::AtMost(400.0)),
    ("queries", "ms, wall clock", "", Must::AtMost(50.0)),
    ("queries", "%", "", Must::AtMost(5.0)),
    ("output", "records/s", "keeps up", Must::AtLeast(300_000.0)),
];

/// Patience with one of its verbs.
const PATIENCE: Duration = Duration::from_secs(300);

pub fn run(verb: &'static str) -> Result<Findings> {
    let mut findings = Findings::new(verb);
    let program = beside("inside");
    if !program.is_file() {
        findings.skipped("all", "the program 'inside' is not part of this build");
        return Ok(findings);
    }
    let mut command = Command::new(program);
    command.arg(verb);
    let said = finish(command, PATIENCE)?.success()?.stdout;
    let mut variants: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    let mut samples = Vec::new();
    for line in said.lines().filter(|line| line.starts_with('{')) {
        let sample: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let of = |name: &str| sample[name].as_str().unwrap_or_default().to_owned();
        let value = sample["value"].as_f64().with_context(|| format!("no value in {line}"))?;
        variants.entry((of("variant"), of("unit"))).or_default().push(value);
        samples.push(sample);
    }
    if variants.is_empty() {
        findings.skipped("all", "the program 'inside' printed no sample");
    }
    for ((variant, unit), values) in variants {
        let note = format!("{} samples, spread {:.1} %", values.len(), 100.0 * spread(&values));
        let limit = LIMITS
            .iter()
            .find(|(bench, of, part, _)| *bench == verb && *of == unit && variant.contains(part));
        // A unit is one of few words; leaking them is no growth.
        let unit: &'static str = Box::leak(unit.into_boxed_str());
        let row = match limit {
            Some((_, _, _, must)) => findings.judged(variant, median(&values), unit, *must),
            None => findings.stated(variant, median(&values), unit),
        };
        row.note = note;
    }
    findings.raw("samples", samples);
    Ok(findings)
}
