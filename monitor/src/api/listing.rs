//! A snapshot to what was asked of it: parameters, filter, order, limit.

use form_urlencoded::parse;
use serde_json::Value;

use super::query::{Absent, QueryError, Rows, Selection, Sort};

/// What a query string may say.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    pub selection: Selection,
    pub follow: bool,
    /// With `follow`: what was told after this cursor first.
    pub after: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ParameterError {
    #[error("{name}: {source}")]
    Query { name: &'static str, source: QueryError },
    #[error("{name}: {source}")]
    Absent { name: &'static str, source: Absent },
    #[error("{name}: expected {expected}, found {found:?}")]
    Value { name: &'static str, expected: &'static str, found: String },
    #[error("unknown parameter {0:?}: expected filter, sort, limit, follow or after")]
    Unknown(String),
    #[error("{0}: only alerts can be followed; ask for this list again")]
    Still(&'static str),
    #[error("after: goes with follow=true")]
    AfterWhat,
}

impl Parameters {
    fn read(query: Option<&str>, rows: Rows) -> Result<Self, ParameterError> {
        let mut parameters = Parameters::default();
        for (name, value) in parse(query.unwrap_or_default().as_bytes()) {
            match name.as_ref() {
                "filter" if value.trim().is_empty() => {}
                "filter" => {
                    let filter =
                        value.parse().map_err(|source| ParameterError::Query { name: "filter", source })?;
                    parameters.selection.filter = Some(filter);
                }
                "sort" => {
                    let sort = Sort::parse(&value)
                        .map_err(|source| ParameterError::Query { name: "sort", source })?;
                    parameters.selection.sort = Some(sort);
                }
                "limit" => parameters.selection.limit = Some(limit(&value)?),
                "follow" => parameters.follow = flag(&value)?,
                "after" => {
                    let cursor = value.parse().map_err(|_| ParameterError::Value {
                        name: "after",
                        expected: "the streamwatch.alert.cursor of a record",
                        found: shown(&value),
                    })?;
                    parameters.after = Some(cursor);
                }
                other => return Err(ParameterError::Unknown(shown(other))),
            }
        }
        let absent = |name| move |source| ParameterError::Absent { name, source };
        let Selection { filter, sort, .. } = &parameters.selection;
        filter.as_ref().map_or(Ok(()), |filter| rows.check_filter(filter)).map_err(absent("filter"))?;
        sort.as_ref().map_or(Ok(()), |sort| rows.check_sort(sort)).map_err(absent("sort"))?;
        Ok(parameters)
    }

    /// Of a list that nobody can follow.
    pub fn of_still(query: Option<&str>, rows: Rows) -> Result<Self, ParameterError> {
        match Self::read(query, rows)? {
            Parameters { follow: true, .. } => Err(ParameterError::Still("follow")),
            Parameters { after: Some(_), .. } => Err(ParameterError::Still("after")),
            parameters => Ok(parameters),
        }
    }

    /// Of one that can be.
    pub fn of_followed(query: Option<&str>, rows: Rows) -> Result<Self, ParameterError> {
        match Self::read(query, rows)? {
            Parameters { follow: false, after: Some(_), .. } => Err(ParameterError::AfterWhat),
            parameters => Ok(parameters),
        }
    }
}

/// As much of a value that is refused as an error repeats.
fn shown(value: &str) -> String {
    const MOST: usize = 64;
    match value.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

fn limit(value: &str) -> Result<usize, ParameterError> {
    value.parse().map_err(|_| ParameterError::Value {
        name: "limit",
        expected: "a whole number",
        found: shown(value),
    })
}

fn flag(value: &str) -> Result<bool, ParameterError> {
    match value {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(ParameterError::Value { name: "follow", expected: "true or false", found: shown(value) }),
    }
}

/// The items that were asked for, in order. `encode` gives an item's record.
pub(super) fn select<T>(
    mut items: Vec<T>,
    selection: &Selection,
    encode: impl Fn(&T, &mut Vec<u8>),
) -> Vec<T> {
    if selection.looks_inside() {
        let mut line = Vec::new();
        let mut record_of = |item: &T| -> Value {
            line.clear();
            encode(item, &mut line);
            // Our own line is JSON; if ever not, it is a record without fields.
            serde_json::from_slice(&line).unwrap_or_default()
        };
        match &selection.sort {
            None => items.retain(|item| selection.matches(&record_of(item))),
            Some(sort) => {
                let mut keyed: Vec<(Option<Value>, T)> = Vec::with_capacity(items.len());
                for item in items {
                    let record = record_of(&item);
                    if selection.matches(&record) {
                        keyed.push((sort.field.value(&record).cloned(), item));
                    }
                }
                keyed.sort_by(|one, other| sort.compare(one.0.as_ref(), other.0.as_ref()));
                items = keyed.into_iter().map(|(_, item)| item).collect();
            }
        }
    }
    items.truncate(selection.limit.unwrap_or(usize::MAX));
    items.shrink_to_fit();
    items
}
