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

/// Order of two values of records: numbers, then addresses, then all else as text. Total: a sort that is given
/// another one panics.
pub(super) fn order(one: &Value, other: &Value) -> Ordering {
    match (one.as_f64(), other.as_f64()) {
        // Whole numbers to the last digit.
        (Some(first), Some(second)) => first.total_cmp(&second).then(one.as_u64().cmp(&other.as_u64())),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => order_of_texts(&text(one), &text(other)),
    }
}

/// Addresses, each as such, come before what is none.
pub(super) fn order_of_texts(one: &str, other: &str) -> Ordering {
    match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one.cmp(&other),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => one.cmp(other),
    }
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
    number_of(text).map(|(number, _)| number)
}

/// What a number is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// It does not say.
    Any,
    /// Thousands and more, of what is counted.
    Many,
    Bytes,
    /// The number is of nanoseconds.
    Time,
    Severity,
}

pub(super) fn number_of(text: &str) -> Option<(f64, Unit)> {
    match text {
        "low" => return Some((1.0, Unit::Severity)),
        "medium" => return Some((2.0, Unit::Severity)),
        "high" => return Some((3.0, Unit::Severity)),
        "critical" => return Some((4.0, Unit::Severity)),
        _ => {}
    }
    let digits = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (value, unit) = text.split_at(digits);
    let (scale, unit) = match unit.trim() {
        "" => (1.0, Unit::Any),
        "k" => (1e3, Unit::Many),
        "M" => (1e6, Unit::Many),
        "G" => (1e9, Unit::Many),
        "T" => (1e12, Unit::Many),
        "B" => (1.0, Unit::Bytes),
        "kB" => (1e3, Unit::Bytes),
        "MB" => (1e6, Unit::Bytes),
        "GB" => (1e9, Unit::Bytes),
        "TB" => (1e12, Unit::Bytes),
        "ns" => (1.0, Unit::Time),
        "us" => (1e3, Unit::Time),
        "ms" => (1e6, Unit::Time),
        "s" => (1e9, Unit::Time),
        "min" => (60e9, Unit::Time),
        "h" => (3600e9, Unit::Time),
        _ => return None,
    };
    value.parse::<f64>().ok().map(|value| (value * scale, unit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e19..1e19).prop_map(Value::from),
            (any::<[u8; 4]>()).prop_map(|bytes| IpAddr::from(bytes).to_string().into()),
            "[0-9.x:]{0,6}".prop_map(Value::from),
            Just(json!(null)),
            Just(json!(9_007_199_254_740_993_u64)),
            Just(json!(9_007_199_254_740_992.0)),
        ]
    }

    proptest! {
        /// Of any three values: what comes before, and what comes before that.
        #[test]
        fn the_order_of_values_is_total(one in values(), two in values(), three in values()) {
            prop_assert_eq!(order(&one, &two), order(&two, &one).reverse());
            if order(&one, &two).is_le() && order(&two, &three).is_le() {
                prop_assert!(order(&one, &three).is_le(), "{one} {two} {three}");
            }
        }
    }

    #[test]
    fn what_is_an_address_and_what_is_none_do_not_go_round_in_a_circle() {
        let mut texts: Vec<Value> =
            ["10.0.0.2", "1x", "9.0.0.1"].repeat(40).into_iter().map(Value::from).collect();
        texts.sort_by(order);
        assert_eq!(
            (&texts[0], &texts[40], &texts[80]),
            (&json!("9.0.0.1"), &json!("10.0.0.2"), &json!("1x"))
        );
    }
}
