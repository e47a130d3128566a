//! Statements of SQL: which kind, and the passwords that some of them hold.
//!
//! In: the text that a client sends. Out: an operation a statement, by its first words: `SELECT` reads;
//! `INSERT`, `UPDATE`, `DELETE` and their kin write; what changes tables, users or the server
//! administers; transactions and session settings are none. What a prepared statement, a cursor or a
//! query expression does is what it leads to. A `SELECT` that calls a function which writes is taken for
//! a read. A statement of a kind that is not known here counts as passed over, and so does one that a
//! server may read otherwise. Must never: tell more of a statement than its kind.

use super::event::{CredentialKind, Verb};
use super::machine::{LOOK, Sink};
use super::sql_statement::Statement;
pub(super) use super::sql_words::Dialect;
use super::sql_words::{Escapes, Item, Words};

/// Statements of one message that are told.
const MOST: usize = 32;
/// Statements within texts within statements.
const DEEPEST: usize = 3;

/// Tells what the statements in `text` do; `is_cut`: more follows that is not there.
pub(super) fn statements(text: &[u8], dialect: Dialect, is_cut: bool, sink: &mut Sink<'_>) {
    let is_whole = !is_cut && text.len() <= LOOK;
    let text = &text[..text.len().min(LOOK)];
    let all = Escapes::of(dialect);
    // Without a backslash they are all one.
    let all = if text.contains(&b'\\') { all } else { &all[..1] };
    let Some((first, others)) = all.split_first() else { return };
    let reading = |escapes: Escapes| Reading::of(text, dialect, escapes);
    let usual = reading(*first);
    let holds = |escapes: Escapes| usual.holds(&reading(escapes));
    let has_charsets = Escapes::hang_on_charset(text, dialect);
    // Not every choice with every other.
    let is_settled = !(has_charsets && usual.versioned > 0)
        && others.iter().all(|other| holds(*other))
        && all.iter().flat_map(|escapes| escapes.without(usual.versioned)).all(holds)
        && (!has_charsets || Escapes::of(dialect).iter().flat_map(|other| other.in_charsets()).all(holds));
    if !is_whole || usual.passed_over || !is_settled {
        sink.passed_over();
    }
    for told in &usual.told {
        match told {
            Told::Operation(verb, kind) => sink.operation(*verb, "statement", Some(kind)),
            Told::Password(secret) => sink.credential(CredentialKind::Password, "SQL statement", secret),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Told<'a> {
    Operation(Verb, Vec<u8>),
    Password(&'a [u8]),
}

/// What a text holds under one choice of escapes.
struct Reading<'a> {
    told: Vec<Told<'a>>,
    passed_over: bool,
    /// Versioned comments that are no statements of their own.
    versioned: u8,
    dialect: Dialect,
    escapes: Escapes,
}

impl<'a> Reading<'a> {
    fn of(text: &'a [u8], dialect: Dialect, escapes: Escapes) -> Reading<'a> {
        let mut reading = Reading { told: Vec::new(), passed_over: false, versioned: 0, dialect, escapes };
        reading.within(text, DEEPEST);
        reading
    }

    /// Whether the other one does nothing more.
    fn holds(&self, other: &Reading<'_>) -> bool {
        let is_here = |told: &Told<'_>| matches!(told, Told::Password(_)) || self.told.contains(told);
        !other.passed_over && other.told.iter().all(is_here)
    }

    fn within(&mut self, text: &'a [u8], depth: usize) {
        let mut words = Words::new(text, self.dialect, self.escapes);
        for _ in 0..MOST {
            match words.next() {
                None => break,
                Some(Item::End) => {}
                Some(first) => self.statement(first, &mut words, depth),
            }
        }
        self.passed_over |= words.unclear || words.next().is_some();
        if depth == DEEPEST {
            self.versioned = words.versioned;
        } else {
            self.passed_over |= words.versioned > 0;
        }
    }

    fn statement(&mut self, mut first: Item<'a>, words: &mut Words<'a>, depth: usize) {
        while first == Item::Sign(b'(') {
            let Some(next) = words.next() else { return };
            first = next;
        }
        let (Item::Word(first), Some(depth)) = (first, depth.checked_sub(1)) else {
            self.passed_over = true;
            return if first != Item::End {
                words.skip_statement()
            };
        };
        let first = first.to_ascii_uppercase();
        match (&first[..], self.dialect) {
            (b"PREPARE", Dialect::Mysql) => {
                words.next();
                self.behind(b"FROM", words, depth);
            }
            (b"EXECUTE", Dialect::Mysql) if is_word(words.peek(), b"IMMEDIATE") => {
                self.behind(b"IMMEDIATE", words, depth);
            }
            (b"SET", Dialect::Mysql) if is_word(words.peek(), b"STATEMENT") => {
                self.behind_settings(words, depth);
            }
            _ => self.plain(first, words),
        }
    }

    /// MySQL's PREPARE … FROM 'text' and EXECUTE IMMEDIATE 'text'; another source is not seen.
    fn behind(&mut self, word: &[u8], words: &mut Words<'a>, depth: usize) {
        let is_so = is_word(words.next(), word);
        match words.next() {
            Some(Item::Text(text)) if is_so => {
                self.within(text, depth);
                let is_plain = !text.contains(&b'\\') && !text.contains(&b'\'');
                let next = words.peek();
                let is_all = matches!(next, None | Some(Item::End)) || is_word(next, b"USING");
                self.passed_over |= !is_plain || !is_all;
                words.skip_statement();
            }
            None | Some(Item::End) => self.passed_over = true,
            Some(_) => {
                self.passed_over = true;
                words.skip_statement();
            }
        }
    }

    /// MariaDB's SET STATEMENT … FOR and a statement.
    fn behind_settings(&mut self, words: &mut Words<'a>, depth: usize) {
        let mut open = 0_usize;
        while let Some(item) = words.next() {
            match item {
                Item::End => break,
                Item::Sign(b'(') => open += 1,
                Item::Sign(b')') => open = open.saturating_sub(1),
                Item::Word(word) if open == 0 && word.eq_ignore_ascii_case(b"FOR") => {
                    let Some(first) = words.next() else { return };
                    return self.statement(first, words, depth);
                }
                _ => {}
            }
        }
        self.passed_over = true;
    }

    fn plain(&mut self, first: Vec<u8>, words: &mut Words<'a>) {
        let mut statement = Statement::new(first, self.dialect);
        while let Some(item) = words.next() {
            match item {
                Item::End => break,
                Item::Word(word) => {
                    let is_name = words.is_part_of_name(word);
                    let is_call = words.peek() == Some(Item::Sign(b'('));
                    statement.word(&word.to_ascii_uppercase(), is_name, is_call);
                }
                Item::Text(secret) => {
                    if statement.text() {
                        self.told.push(Told::Password(secret));
                    }
                }
                Item::Name => statement.sign(b'"'),
                Item::Sign(sign) => statement.sign(sign),
            }
        }
        let (operations, is_clear) = statement.conclude();
        self.told.extend(operations.into_iter().map(|(verb, kind)| Told::Operation(verb, kind)));
        self.passed_over |= !is_clear;
    }
}

fn is_word(item: Option<Item<'_>>, expected: &[u8]) -> bool {
    matches!(item, Some(Item::Word(word)) if word.eq_ignore_ascii_case(expected))
}
