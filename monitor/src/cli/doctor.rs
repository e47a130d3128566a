//! `doctor`: what this host offers, before anything is loaded.

use std::path::Path;

use serde_json::json;

use super::screen::Screen;
use super::table::{Align, Cell, Column, Table};
use super::{Failure, write_out};
use crate::config::{Config, Overrides};
use crate::daemon::{check_settings, sizes};
use crate::doctor::{Check, Outcome, checks, memory};
use crate::record::write_line;

const CHECKS: &[Column] = &[("CHECK", Align::Left), ("RESULT", Align::Left), ("DETAIL", Align::Left)];

/// Fails when something is missing without which the daemon does not run.
pub(super) fn report(json: bool, config: Option<&Path>) -> Result<(), Failure> {
    let (config, origin) =
        Config::read(config, Overrides::default()).map_err(|error| Failure::Usage(error.to_string()))?;
    check_settings(&config, &origin).map_err(|error| Failure::Usage(error.to_string()))?;
    let mut found = checks();
    found.extend(memory(&config, &sizes(&config)));
    if json {
        let mut lines = Vec::new();
        for check in &found {
            let line = json!({
                "name": check.name,
                "outcome": word(check.outcome),
                "detail": check.detail,
            });
            write_line(&mut lines, &line);
        }
        write_out(&lines)?;
    } else {
        write_out(table(&found, Screen::detect()).as_bytes())?;
    }
    let missing: Vec<_> =
        found.iter().filter(|check| check.outcome == Outcome::Missing).map(|check| check.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::Host(format!("this host cannot run it; missing: {}", missing.join(", "))))
}

fn table(found: &[Check], screen: Screen) -> String {
    let mut table = Table::new(CHECKS);
    for check in found {
        let sgr = match check.outcome {
            Outcome::Ok => "32",
            Outcome::Limited => "33",
            Outcome::Missing => "31",
        };
        let result = Cell::coloured(word(check.outcome), sgr);
        table.row(vec![Cell::new(check.name), result, Cell::new(&check.detail)]);
    }
    // Never shortened: what to do stands at the end of a line.
    table.render(true, None, screen.style)
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Limited => "limited",
        Outcome::Missing => "missing",
    }
}
