//! What a benchmark found: rows for people, the same and the raw figures as JSON for programs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use crate::statistics::Ratio;

/// What the figure must reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Must {
    AtMost(f64),
    AtLeast(f64),
}

/// Whether it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The figure, with its whole confidence interval where it has one.
    Met,
    /// The same, on the other side.
    Missed,
    /// The interval holds the limit: these samples do not tell.
    Unclear,
    /// A figure without a limit.
    Stated,
    /// Not measured; the note says why. Never counted as met.
    Skipped,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub bench: &'static str,
    pub figure: String,
    pub value: f64,
    pub unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub must: Option<Must>,
    pub state: State,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// All that one benchmark found.
pub struct Findings {
    bench: &'static str,
    pub rows: Vec<Row>,
    raw: serde_json::Map<String, Value>,
}

impl Findings {
    pub fn new(bench: &'static str) -> Self {
        Findings { bench, rows: Vec::new(), raw: serde_json::Map::new() }
    }

    /// A figure with a limit.
    pub fn judged(
        &mut self,
        figure: impl Into<String>,
        value: f64,
        unit: &'static str,
        must: Must,
    ) -> &mut Row {
        let state = judge(value, value, must);
        self.push(figure.into(), value, unit, None, Some(must), state)
    }

    /// A paired ratio with a limit.
    pub fn ratio(&mut self, figure: impl Into<String>, ratio: Ratio, must: Option<Must>) -> &mut Row {
        let state = must.map_or(State::Stated, |must| judge(ratio.low, ratio.high, must));
        self.push(figure.into(), ratio.value, "ratio", Some([ratio.low, ratio.high]), must, state)
    }

    /// A figure that is only stated.
    pub fn stated(&mut self, figure: impl Into<String>, value: f64, unit: &'static str) -> &mut Row {
        self.push(figure.into(), value, unit, None, None, State::Stated)
    }

    /// What could not be measured, and why.
    pub fn skipped(&mut self, figure: impl Into<String>, why: impl Into<String>) {
        let row = self.push(figure.into(), f64::NAN, "", None, None, State::Skipped);
        row.note = why.into();
    }

    /// Figures as they were taken.
    pub fn raw(&mut self, name: impl Into<String>, figures: impl Serialize) {
        self.raw.insert(name.into(), json!(figures));
    }

    fn push(
        &mut self,
        figure: String,
        value: f64,
        unit: &'static str,
        interval: Option<[f64; 2]>,
        must: Option<Must>,
        state: State,
    ) -> &mut Row {
        self.rows.push(Row {
            bench: self.bench,
            figure,
            value,
            unit,
            interval,
            must,
            state,
            note: String::new(),
        });
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }

    /// Writes `target/bench/NAME.json`.
    pub fn write(&self, directory: &Path, about: &Value) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let path = directory.join(format!("{}.json", self.bench));
        let text = serde_json::to_string_pretty(&json!({
            "bench": self.bench, "about": about, "rows": self.rows, "raw": self.raw,
        }))?;
        fs::write(&path, text + "\n").with_context(|| path.display().to_string())
    }
}

fn judge(low: f64, high: f64, must: Must) -> State {
    let (met, missed) = match must {
        Must::AtMost(limit) => (high <= limit, low > limit),
        Must::AtLeast(limit) => (low >= limit, high < limit),
    };
    match (met, missed) {
        (true, _) => State::Met,
        (_, true) => State::Missed,
        _ => State::Unclear,
    }
}

/// A table of what one benchmark found, with what it ran on.
pub fn table(rows: &[Row], about: &Value) -> String {
    let of = |name: &str| about[name].as_str().unwrap_or("?").to_owned();
    let mut text = format!(
        "{}, Linux {}, {} processors ({}), load average before {}; {} pairs, {} s a comparison.\n\n\
         | benchmark | figure | value | must | | how |\n|---|---|---|---|---|---|\n",
        of("date"),
        of("kernel"),
        about["processors"],
        of("processor"),
        of("load").split(' ').next().unwrap_or("?"),
        about["pairs"],
        about["seconds"],
    );
    for row in rows {
        text.push_str(&markdown(row));
        text.push('\n');
    }
    text
}

/// Puts a table between the two comments that name its benchmark: `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
///
/// # Errors
/// The text has no such place.
pub fn replace(text: &str, bench: &str, table: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {bench}: begin -->\n"), format!("<!-- {bench}: end -->"));
    let from = text.find(&begin).with_context(|| format!("there is no line {begin}"))? + begin.len();
    let to = from + text[from..].find(&end).with_context(|| format!("there is no line {end}"))?;
    Ok(format!("{}{table}{}", &text[..from], &text[to..]))
}

/// As a row of a Markdown table.
pub fn markdown(row: &Row) -> String {
    let value = match row.interval {
        _ if row.state == State::Skipped => "–".to_owned(),
        Some([low, high]) => format!("{} [{}, {}]", number(row.value), number(low), number(high)),
        None => format!("{} {}", number(row.value), row.unit).trim_end().to_owned(),
    };
    let must = match row.must {
        Some(Must::AtMost(limit)) => format!("≤ {}", number(limit)),
        Some(Must::AtLeast(limit)) => format!("≥ {}", number(limit)),
        None => String::new(),
    };
    let state = match row.state {
        State::Met => "met",
        State::Missed => "**missed**",
        State::Unclear => "unclear",
        State::Stated => "",
        State::Skipped => "skipped",
    };
    let note = row.note.replace('|', "/");
    format!("| {} | {} | {value} | {must} | {state} | {note} |", row.bench, row.figure)
}

/// With as many digits as say something.
pub fn number(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 && value.abs() < 1e15 => format!("{value}"),
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_across_the_limit_is_unclear() {
        assert_eq!(judge(0.98, 1.01, Must::AtLeast(0.99)), State::Unclear);
        assert_eq!(judge(0.99, 1.01, Must::AtLeast(0.99)), State::Met);
        assert_eq!(judge(0.95, 0.98, Must::AtLeast(0.99)), State::Missed);
        assert_eq!(judge(1.0, 1.02, Must::AtMost(1.02)), State::Met);
        assert_eq!(judge(1.03, 1.05, Must::AtMost(1.02)), State::Missed);
    }

    #[test]
    fn a_table_takes_the_place_of_the_last_one() {
        let text = "a\n<!-- udp: begin -->\nold\n<!-- udp: end -->\nb\n";
        let new = replace(text, "udp", "new\n").expect("there is a place");
        assert_eq!(new, "a\n<!-- udp: begin -->\nnew\n<!-- udp: end -->\nb\n");
        assert!(replace(text, "bulk", "").is_err());
    }

    #[test]
    fn every_benchmark_has_its_place_in_the_document() {
        let text = include_str!("../../../../BENCHMARKS.md");
        for benchmark in crate::ALL {
            replace(text, benchmark.name, "").expect(benchmark.name);
        }
    }

    #[test]
    fn what_is_not_a_number_is_never_met() {
        assert_eq!(judge(f64::NAN, f64::NAN, Must::AtMost(1.0)), State::Unclear);
        assert_eq!(judge(f64::NAN, f64::NAN, Must::AtLeast(1.0)), State::Unclear);
    }
}
