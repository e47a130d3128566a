//! Which fields the rows of a listing can have at all: where one is asked for that none of them ever has, no row matching
//! it would look like an answer.

use super::column::is_of_others;
use super::field::{HISTOGRAM, Side};
use super::{Expression, Field, Sort};

/// What a listing is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    Flows,
    Streams,
    Alerts,
    Histograms,
}

/// A field that those rows never have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {of} has the field {field}{}", .others.as_ref().map(|others| format!(" ({others})")).unwrap_or_default())]
pub struct Absent {
    of: &'static str,
    field: &'static str,
    /// Which do.
    others: Option<String>,
}

impl Rows {
    const ALL: [Rows; 4] = [Rows::Flows, Rows::Streams, Rows::Alerts, Rows::Histograms];

    /// Refuses a filter that asks for what these rows never have.
    ///
    /// # Errors
    /// The first such field.
    pub fn check_filter(self, filter: &Expression) -> Result<(), Absent> {
        let mut left = vec![filter];
        while let Some(expression) = left.pop() {
            match expression {
                Expression::Compare { field, .. } => self.check(field)?,
                Expression::Not(inner) => left.push(inner),
                Expression::And(parts) | Expression::Or(parts) => left.extend(parts.iter().rev()),
            }
        }
        Ok(())
    }

    /// The same of what they are sorted by.
    ///
    /// # Errors
    /// They never have it.
    pub fn check_sort(self, sort: &Sort) -> Result<(), Absent> {
        self.check(&sort.field)
    }

    fn check(self, field: &Field) -> Result<(), Absent> {
        if self.may_have(field) {
            return Ok(());
        }
        let others: Vec<_> =
            Rows::ALL.into_iter().filter(|rows| rows.may_have(field)).map(Rows::many).collect();
        let others = (!others.is_empty()).then(|| format!("{} have", others.join(", ")));
        let field = match field {
            Field::Paths(paths) => paths.first().copied().unwrap_or_default(),
            Field::Of(Side::Client, _) => "client.*",
            Field::Of(Side::Server, _) => "server.*",
        };
        Err(Absent { of: self.one(), field, others })
    }

    fn may_have(self, field: &Field) -> bool {
        match field {
            Field::Paths(paths) => paths.iter().any(|path| self.may_have_path(path)),
            Field::Of(..) => self != Rows::Histograms,
        }
    }

    fn may_have_path(self, path: &str) -> bool {
        const OF_FLOWS: [&str; 2] = ["streamwatch.flow.", "streamwatch.tcp."];
        const OF_ALERTS: [&str; 2] = ["streamwatch.alert.", "rule."];
        let of = |those: &[&str]| those.iter().any(|prefix| path.starts_with(prefix));
        match self {
            Rows::Flows => !is_of_others(path),
            Rows::Streams => !HISTOGRAM.contains(&path) && !of(&OF_FLOWS) && !of(&OF_ALERTS),
            Rows::Alerts => !HISTOGRAM.contains(&path),
            Rows::Histograms => HISTOGRAM.contains(&path),
        }
    }

    fn one(self) -> &'static str {
        match self {
            Rows::Flows => "flow",
            Rows::Streams => "stream",
            Rows::Alerts => "alert",
            Rows::Histograms => "histogram",
        }
    }

    fn many(self) -> &'static str {
        match self {
            Rows::Flows => "flows",
            Rows::Streams => "streams",
            Rows::Alerts => "alerts",
            Rows::Histograms => "histograms",
        }
    }
}
