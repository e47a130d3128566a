//! Words and marks to an expression.

use std::str::FromStr;

use super::field::{FULL, SHORT};
use super::lex::{Token, tokens};
use super::{Field, LONGEST, meant};

/// How deep parentheses and negations may nest.
const DEEPEST: usize = 64;

/// A filter that was understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    Compare { field: Field, operator: Operator, value: String },
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Like,
}

/// Where a filter stops making sense, and what could stand there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: expected {expected}")]
pub struct QueryError {
    /// In characters, from 1.
    pub column: usize,
    pub expected: String,
}

impl QueryError {
    pub(super) fn unknown_field(column: usize, name: &str) -> Self {
        let last = name.rsplit('.').next().unwrap_or(name);
        let near = SHORT
            .iter()
            .map(|(short, _)| *short)
            .chain(FULL.iter().copied())
            .find(|known| is_close(known, name) || known.rsplit('.').next() == Some(last));
        let expected = match near {
            Some(near) => format!("a known field (did you mean {near}?), found {name:?}"),
            None => format!(
                "a known field such as client.process, server.port, encrypted, protocol or bytes, found {name:?}"
            ),
        };
        QueryError { column, expected }
    }
}

/// One or two letters off.
fn is_close(known: &str, name: &str) -> bool {
    (3..=64).contains(&name.len())
        && known.len().abs_diff(name.len()) <= 2
        && strsim::damerau_levenshtein(known, name) <= 2
}

impl FromStr for Expression {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        if text.len() > LONGEST {
            return Err(QueryError {
                column: LONGEST,
                expected: format!("a filter of at most {LONGEST} bytes"),
            });
        }
        let tokens = tokens(text)?;
        let end = text.chars().count() + 1;
        let mut parser = Parser { tokens: &tokens, at: 0, end, depth: 0 };
        let expression = parser.any()?;
        if parser.at < tokens.len() {
            return Err(parser.expected("&&, || or the end"));
        }
        Ok(expression)
    }
}

struct Parser<'a> {
    tokens: &'a [(usize, Token)],
    at: usize,
    end: usize,
    depth: usize,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Expression, QueryError> {
        let mut parts = vec![self.all()?];
        while self.take("||") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Or(parts) })
    }

    fn all(&mut self) -> Result<Expression, QueryError> {
        let mut parts = vec![self.one()?];
        while self.take("&&") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::And(parts) })
    }

    fn one(&mut self) -> Result<Expression, QueryError> {
        if self.depth >= DEEPEST {
            return Err(self.expected(&format!("at most {DEEPEST} nested ! and parentheses")));
        }
        self.depth += 1;
        let expression = if self.take("!") {
            Expression::Not(Box::new(self.one()?))
        } else if self.take("(") {
            let inner = self.any()?;
            if !self.take(")") {
                return Err(self.expected("&&, || or a closing parenthesis"));
            }
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn comparison(&mut self) -> Result<Expression, QueryError> {
        let column = self.column();
        let Some((_, Token::Word(name))) = self.tokens.get(self.at) else {
            return Err(self.expected("a field, ! or an opening parenthesis"));
        };
        let field = Field::named(name).ok_or_else(|| QueryError::unknown_field(column, name))?;
        self.at += 1;
        let operator = self.operator()?;
        let value = match self.tokens.get(self.at) {
            Some((_, Token::Word(value) | Token::Quoted(value))) => value.clone(),
            _ => return Err(self.expected("a value, such as \"curl\", no or 443")),
        };
        if let Some(expected) = meant::expected(&field, operator, &value) {
            return Err(self.expected(&format!("{expected}, found {value:?}")));
        }
        self.at += 1;
        let value = if operator == Operator::Like { value } else { meant::as_counted(&field, value) };
        Ok(Expression::Compare { field, operator, value })
    }

    fn operator(&mut self) -> Result<Operator, QueryError> {
        let operator = match self.tokens.get(self.at) {
            Some((_, Token::Mark("=="))) => Operator::Equal,
            Some((_, Token::Mark("!="))) => Operator::NotEqual,
            Some((_, Token::Mark("<"))) => Operator::Less,
            Some((_, Token::Mark("<="))) => Operator::LessOrEqual,
            Some((_, Token::Mark(">"))) => Operator::Greater,
            Some((_, Token::Mark(">="))) => Operator::GreaterOrEqual,
            Some((_, Token::Mark("=~"))) => Operator::Like,
            _ => return Err(self.expected("a comparison: == != < <= > >= =~")),
        };
        self.at += 1;
        Ok(operator)
    }

    fn take(&mut self, mark: &str) -> bool {
        let there = matches!(self.tokens.get(self.at), Some((_, Token::Mark(found))) if *found == mark);
        self.at += usize::from(there);
        there
    }

    fn column(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(column, _)| *column)
    }

    fn expected(&self, what: &str) -> QueryError {
        QueryError { column: self.column(), expected: what.to_owned() }
    }
}
