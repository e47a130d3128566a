//! The filter language of listings: which records, in which order, how many.
//!
//! ```text
//! client.process == "curl" && encrypted == no
//! bytes > 10MB || (server.port == 5432 && !(client.ip == 10.0.0.0/8))
//! rule == plaintext && severity >= high
//! ```
//!
//! Comparisons: `==`, `!=`, `<`, `<=`, `>`, `>=`, and `=~`: with `*` or `?` a glob over the whole
//! value, else a substring (both with case ignored). `&&` before `||`; `!` and parentheses. A value
//! is a word, a quoted text, a number with an optional unit (`kB MB GB`, `ns us ms s min h`) or an
//! address range; one that the field can never have is refused, as is a field that no row of the listing
//! ever has. A record without the field fulfils `!=` only. Fields: [`field::SHORT`] and the ECS paths of [`field::FULL`].
//!
//! In: text from a client, and records as JSON values. Out: yes or no. Must never: recurse or work
//! without bound, whatever the text.

mod column;
mod evaluate;
pub mod field;
mod lex;
mod meant;
mod memo;
mod parse;
mod plan;
mod rows;

use std::cmp::Ordering;

use serde_json::Value;

pub use field::Field;
pub use parse::{Expression, Operator, QueryError};
pub use plan::{Candidate, Key, Plan};
pub use rows::{Absent, Rows};

/// The longest filter that is read.
pub const LONGEST: usize = 4096;

/// What a listing is asked for.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub filter: Option<Expression>,
    pub sort: Option<Sort>,
    pub limit: Option<usize>,
}

impl Selection {
    /// Whether records have to be looked into at all.
    pub fn looks_inside(&self) -> bool {
        self.filter.is_some() || self.sort.is_some()
    }

    pub fn matches(&self, record: &Value) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(record))
    }
}

/// `FIELD` or `FIELD:desc`.
#[derive(Clone, Debug)]
pub struct Sort {
    pub field: Field,
    pub descending: bool,
}

impl Sort {
    /// Reads `FIELD`, `FIELD:asc` or `FIELD:desc`.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let (name, descending) = match text.split_once(':') {
            None => (text, false),
            Some((name, "asc")) => (name, false),
            Some((name, "desc")) => (name, true),
            Some((name, _)) => {
                let column = name.chars().count() + 2;
                return Err(QueryError { column, expected: "asc or desc after the colon".into() });
            }
        };
        let field = Field::named(name).ok_or_else(|| QueryError::unknown_field(1, name))?;
        Ok(Sort { field, descending })
    }

    /// Order of two keys (see [`Field::value`]); a record without the field comes last.
    pub fn compare(&self, one: Option<&Value>, other: Option<&Value>) -> Ordering {
        let order = match (one, other) {
            (Some(one), Some(other)) => evaluate::order(one, other),
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => return Ordering::Equal,
        };
        if self.descending { order.reverse() } else { order }
    }
}

#[cfg(test)]
mod tests;
