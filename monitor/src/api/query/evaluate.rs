//! Whether a record fulfils an expression.

use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;
use wildmatch::WildMatch;

use super::{Expression, Operator};

impl Expression {
    /// A record without the field fulfils `!=` only.
    pub fn matches(&self, record: &Value) -> bool {
        match self {
            Expression::And(parts) => parts.iter().all(|part| part.matches(record)),
            Expression::Or(parts) => parts.iter().any(|part| part.matches(record)),
            Expression::Not(inner) => !inner.matches(record),
            Expression::Compare { field, operator, value } => match field.value(record) {
                None => *operator == Operator::NotEqual,
                Some(Value::Array(items)) if *operator == Operator::NotEqual => {
                    items.iter().all(|item| holds(item, Operator::NotEqual, value))
                }
                Some(Value::Array(items)) => items.iter().any(|item| holds(item, *operator, value)),
                Some(found) => holds(found, *operator, value),
            },
        }
    }
}

fn holds(found: &Value, operator: Operator, wanted: &str) -> bool {
    let order = || compare(found, wanted);
    match operator {
        Operator::Equal => equal(found, wanted),
        Operator::NotEqual => !equal(found, wanted),
        Operator::Less => order().is_some_and(Ordering::is_lt),
        Operator::LessOrEqual => order().is_some_and(Ordering::is_le),
        Operator::Greater => order().is_some_and(Ordering::is_gt),
        Operator::GreaterOrEqual => order().is_some_and(Ordering::is_ge),
        Operator::Like => like(&text(found), wanted),
    }
}

fn equal(found: &Value, wanted: &str) -> bool {
    if let (Some(address), Ok(range)) = (address(found), wanted.parse::<IpNet>()) {
        return range.contains(&address);
    }
    if let (Some(address), Ok(wanted)) = (address(found), wanted.parse::<IpAddr>()) {
        return address == wanted;
    }
    compare(found, wanted).is_some_and(Ordering::is_eq)
}

fn address(found: &Value) -> Option<IpAddr> {
    found.as_str()?.parse().ok()
}

/// `None`: a number against what is not one.
fn compare(found: &Value, wanted: &str) -> Option<Ordering> {
    match found {
        Value::Number(found) => match (found.as_u64(), whole(wanted)) {
            (Some(found), Some(wanted)) => Some(found.cmp(&wanted)),
            _ => found.as_f64()?.partial_cmp(&number(wanted)?),
        },
        Value::Bool(found) => Some(found.to_string().as_str().cmp(wanted)),
        _ => Some(text(found).as_ref().cmp(wanted)),
    }
}

/// Order of two values of records.
pub(super) fn order(one: &Value, other: &Value) -> Ordering {
    if let (Some(one), Some(other)) = (one.as_u64(), other.as_u64()) {
        return one.cmp(&other);
    }
    if let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) {
        return one.total_cmp(&other);
    }
    if let (Some(one), Some(other)) = (address(one), address(other)) {
        return one.cmp(&other);
    }
    text(one).cmp(&text(other))
}

fn text(value: &Value) -> std::borrow::Cow<'_, str> {
    match value {
        Value::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    }
}

fn like(found: &str, pattern: &str) -> bool {
    let (found, pattern) = (found.to_lowercase(), pattern.to_lowercase());
    if pattern.contains(['*', '?']) {
        WildMatch::new(&pattern).matches(&found)
    } else {
        found.contains(&pattern)
    }
}

/// A whole number without unit, exact to the last digit.
pub(super) fn whole(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| {
        let value = number(text)?;
        // Exactly representable: below 2^53.
        (value.fract() == 0.0 && (0.0..9e15).contains(&value)).then_some(value as u64)
    })
}

/// A number with its unit, or the name of a severity.
pub(super) fn number(text: &str) -> Option<f64> {
    match text {
        "low" => return Some(1.0),
        "medium" => return Some(2.0),
        "high" => return Some(3.0),
        "critical" => return Some(4.0),
        _ => {}
    }
    let digits = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (value, unit) = text.split_at(digits);
    let scale = match unit.trim() {
        "" | "B" | "ns" => 1.0,
        "k" | "kB" | "us" => 1e3,
        "M" | "MB" | "ms" => 1e6,
        "G" | "GB" | "s" => 1e9,
        "T" | "TB" => 1e12,
        "min" => 60e9,
        "h" => 3600e9,
        _ => return None,
    };
    value.parse::<f64>().ok().map(|value| value * scale)
}
