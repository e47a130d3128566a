//! A selection made ready to be asked of many flows.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::Value;
use wildmatch::WildMatch;

use super::column::{Cell, Column, columns};
use super::evaluate::{number, order, order_of_texts, whole};
use super::memo::{MOST, Memo, Whole};
use super::{Expression, Field, Operator, Selection};
use crate::flows::Row;
use crate::model::FlowView;
use crate::record::time;

/// Gives a flow's record, for what no column says.
pub type Record<'a> = &'a dyn Fn(&FlowView) -> Value;

/// Which flows, and by what in order.
#[derive(Debug)]
pub struct Plan {
    filter: Option<Test>,
    sort: Option<(Source, bool)>,
}

#[derive(Debug)]
enum Test {
    Compare {
        columns: Vec<Column>,
        operator: Operator,
        wanted: Box<Wanted>,
        memo: Option<Memo>,
    },
    /// In the record itself.
    Look(Expression),
    Not(Box<Test>),
    And(Vec<Test>),
    Or(Vec<Test>),
}

#[derive(Debug)]
enum Source {
    Columns(Vec<Column>),
    Record(Field),
}

/// A value of a filter, read in every way that it can be meant.
#[derive(Debug)]
struct Wanted {
    text: String,
    whole: Option<u64>,
    number: Option<f64>,
    range: Option<IpNet>,
    address: Option<IpAddr>,
    /// Lower case; with a pattern if it is one.
    like: String,
    pattern: Option<WildMatch>,
}

/// What a flow is sorted by.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    Absent,
    Number(u64),
    Address(IpAddr),
    Text(Box<str>),
    Time(jiff::Timestamp),
    Value(Box<Value>),
}

/// A flow, and its view and record once they were needed.
pub struct Candidate<'a> {
    row: Row<'a>,
    record_of: Record<'a>,
    view: OnceCell<Arc<FlowView>>,
    record: OnceCell<Value>,
}

impl<'a> Candidate<'a> {
    pub fn new(row: Row<'a>, record_of: Record<'a>) -> Self {
        Candidate { row, record_of, view: OnceCell::new(), record: OnceCell::new() }
    }

    pub fn view(&self) -> &Arc<FlowView> {
        self.view.get_or_init(|| self.row.view())
    }

    fn record(&self) -> &Value {
        self.record.get_or_init(|| (self.record_of)(self.view()))
    }

    #[inline]
    fn first(&self, columns: &[Column]) -> Cell<'a> {
        if let [column] = columns {
            return column.of(self.row);
        }
        columns
            .iter()
            .map(|column| column.of(self.row))
            .find(|cell| !matches!(cell, Cell::Absent))
            .unwrap_or(Cell::Absent)
    }
}

impl Plan {
    pub fn new(selection: &Selection) -> Self {
        let source = |field: &Field| match columns(field) {
            Some(columns) => Source::Columns(columns),
            None => Source::Record(field.clone()),
        };
        Plan {
            filter: selection.filter.as_ref().map(|filter| Test::of(filter, &mut { MOST })),
            sort: selection.sort.as_ref().map(|sort| (source(&sort.field), sort.descending)),
        }
    }

    pub fn matches(&self, candidate: &Candidate<'_>) -> bool {
        self.filter.as_ref().is_none_or(|test| test.holds(candidate))
    }

    /// Whether records have to be written and read for it.
    pub fn looks(&self) -> bool {
        self.filter.as_ref().is_some_and(Test::looks) || matches!(self.sort, Some((Source::Record(_), _)))
    }

    pub fn sorts(&self) -> bool {
        self.sort.is_some()
    }

    /// Whether the candidate comes before what has this key. Of equals, the first stays first.
    pub fn is_before(&self, candidate: &Candidate<'_>, key: &Key) -> bool {
        let Some((source, descending)) = &self.sort else { return false };
        match (source, key) {
            // The common case, without a copy.
            (Source::Columns(columns), Key::Number(other)) => match candidate.first(columns) {
                Cell::Number(own) if *descending => own > *other,
                Cell::Number(own) => own < *other,
                _ => false,
            },
            _ => self.compare(&self.key(candidate), key).is_lt(),
        }
    }

    /// What the candidate is sorted by.
    pub fn key(&self, candidate: &Candidate<'_>) -> Key {
        match &self.sort {
            None => Key::Absent,
            Some((Source::Record(field), _)) => field
                .value(candidate.record())
                .map_or(Key::Absent, |value| Key::Value(Box::new(value.clone()))),
            Some((Source::Columns(columns), _)) => match candidate.first(columns) {
                Cell::Absent => Key::Absent,
                Cell::Number(number) => Key::Number(number),
                Cell::Address(address) => Key::Address(address),
                Cell::Time(at) => Key::Time(at),
                Cell::Text(text) => Key::Text(text.into()),
                Cell::Keyword(number) => Key::Text(number.to_string().into()),
                Cell::Flag(flag) => Key::Value(Box::new(Value::Bool(flag))),
                Cell::Made(row, made) => Key::Text(made.text(row).into()),
            },
        }
    }

    /// Order of two keys; a flow without the field comes last.
    pub fn compare(&self, one: &Key, other: &Key) -> Ordering {
        let descending = self.sort.as_ref().is_some_and(|(_, descending)| *descending);
        let order = match (one, other) {
            (Key::Absent, Key::Absent) => return Ordering::Equal,
            (Key::Absent, _) => return Ordering::Greater,
            (_, Key::Absent) => return Ordering::Less,
            (Key::Number(one), Key::Number(other)) => one.cmp(other),
            (Key::Address(one), Key::Address(other)) => one.cmp(other),
            (Key::Time(one), Key::Time(other)) => one.cmp(other),
            (Key::Text(one), Key::Text(other)) => order_of_texts(one, other),
            (one, other) => order(&one.value(), &other.value()),
        };
        if descending { order.reverse() } else { order }
    }
}

impl Key {
    fn value(&self) -> Value {
        match self {
            Key::Absent => Value::Null,
            Key::Number(number) => (*number).into(),
            Key::Address(address) => address.to_string().into(),
            Key::Text(text) => text.to_string().into(),
            Key::Time(at) => time(*at).into(),
            Key::Value(value) => (**value).clone(),
        }
    }
}

/// Patterns up to so many bytes are matched while the core may have to wait.
const SHORT: usize = 32;

impl Test {
    /// With as many memories as are `left`.
    fn of(expression: &Expression, left: &mut usize) -> Self {
        match expression {
            Expression::And(parts) => Test::And(cheap_first(parts, left)),
            Expression::Or(parts) => Test::Or(cheap_first(parts, left)),
            Expression::Not(inner) => Test::Not(Box::new(Test::of(inner, left))),
            Expression::Compare { field, operator, value } => match columns(field) {
                Some(columns) => Test::Compare {
                    memo: Whole::of(&columns).and_then(|whole| Memo::new(whole, left)),
                    columns,
                    operator: *operator,
                    wanted: Box::new(Wanted::new(value)),
                },
                None => Test::Look(expression.clone()),
            },
        }
    }

    fn holds(&self, candidate: &Candidate<'_>) -> bool {
        match self {
            Test::And(parts) => parts.iter().all(|part| part.holds(candidate)),
            Test::Or(parts) => parts.iter().any(|part| part.holds(candidate)),
            Test::Not(inner) => !inner.holds(candidate),
            Test::Look(expression) => expression.matches(candidate.record()),
            Test::Compare { columns, operator, wanted, memo } => {
                let ask = || match candidate.first(columns) {
                    Cell::Absent => *operator == Operator::NotEqual,
                    found => wanted.holds(found, *operator),
                };
                match memo {
                    Some(memo) => memo.answer(candidate.row, ask),
                    None => ask(),
                }
            }
        }
    }

    fn looks(&self) -> bool {
        match self {
            Test::Look(_) => true,
            // A long pattern takes its time with a long text.
            Test::Compare { operator: Operator::Like, wanted, .. } => wanted.like.len() > SHORT,
            Test::Compare { .. } => false,
            Test::Not(inner) => inner.looks(),
            Test::And(parts) | Test::Or(parts) => parts.iter().any(Test::looks),
        }
    }
}

/// What needs no record goes first: the answer is the same in any order.
fn cheap_first(parts: &[Expression], left: &mut usize) -> Vec<Test> {
    let mut tests: Vec<Test> = parts.iter().map(|part| Test::of(part, left)).collect();
    tests.sort_by_key(Test::looks);
    tests
}

impl Wanted {
    fn new(text: &str) -> Self {
        let like = text.to_lowercase();
        Wanted {
            whole: whole(text),
            number: number(text),
            range: text.parse().ok(),
            address: text.parse().ok(),
            pattern: like.contains(['*', '?']).then(|| WildMatch::new(&like)),
            like,
            text: text.to_owned(),
        }
    }

    fn holds(&self, found: Cell<'_>, operator: Operator) -> bool {
        let order = || self.order(found);
        match operator {
            Operator::Equal => self.equals(found),
            Operator::NotEqual => !self.equals(found),
            Operator::Less => order().is_some_and(Ordering::is_lt),
            Operator::LessOrEqual => order().is_some_and(Ordering::is_le),
            Operator::Greater => order().is_some_and(Ordering::is_gt),
            Operator::GreaterOrEqual => order().is_some_and(Ordering::is_ge),
            Operator::Like => with_text(found, |found| self.is_like(found)),
        }
    }

    fn equals(&self, found: Cell<'_>) -> bool {
        if self.range.is_some() || self.address.is_some() {
            let address = match found {
                Cell::Address(address) => Some(address),
                Cell::Text(text) => text.parse().ok(),
                _ => None,
            };
            if let (Some(address), Some(range)) = (address, self.range) {
                return range.contains(&address);
            }
            if let (Some(address), Some(wanted)) = (address, self.address) {
                return address == wanted;
            }
        }
        if let Cell::Text(text) = found {
            return text == self.text;
        }
        self.order(found).is_some_and(Ordering::is_eq)
    }

    /// `None`: a number against what is not one.
    fn order(&self, found: Cell<'_>) -> Option<Ordering> {
        match found {
            Cell::Number(found) => match self.whole {
                Some(wanted) => Some(found.cmp(&wanted)),
                None => (found as f64).partial_cmp(&self.number?),
            },
            found => Some(with_text(found, |found| found.cmp(self.text.as_str()))),
        }
    }

    fn is_like(&self, found: &str) -> bool {
        if self.pattern.is_none() && found.is_ascii() && self.like.is_ascii() {
            let (found, like) = (found.as_bytes(), self.like.as_bytes());
            return like.is_empty() || found.windows(like.len()).any(|part| part.eq_ignore_ascii_case(like));
        }
        let found = found.to_lowercase();
        match &self.pattern {
            Some(pattern) => pattern.matches(&found),
            None => found.contains(&self.like),
        }
    }
}

/// A value as the record writes it.
fn with_text<T>(cell: Cell<'_>, each: impl FnOnce(&str) -> T) -> T {
    match cell {
        Cell::Absent => each("null"),
        Cell::Text(text) => each(text),
        Cell::Flag(flag) => each(if flag { "true" } else { "false" }),
        Cell::Number(number) => each(itoa::Buffer::new().format(number)),
        Cell::Keyword(number) => each(itoa::Buffer::new().format(number)),
        Cell::Address(address) => each(&address.to_string()),
        Cell::Time(at) => each(&time(at)),
        Cell::Made(row, made) => each(&made.text(row)),
    }
}
