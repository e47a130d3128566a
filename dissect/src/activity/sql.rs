//! Statements of SQL: which kind, and the passwords that some of them hold.
//!
//! In: the text that a client sends. Out: an operation a statement, by its first words: `SELECT` reads;
//! `INSERT`, `UPDATE`, `DELETE` and their kin write; what changes tables, users or the server
//! administers; transactions and session settings are none. What a prepared statement, a cursor or a
//! query expression does is what it leads to. A `SELECT` that calls a function which writes is taken for
//! a read. A statement of a kind that is not known here counts as passed over. Must never: tell more of a
//! statement than its kind.

use super::event::{CredentialKind, Verb};
use super::machine::{LOOK, Sink};

/// Statements of one message that are told.
const MOST: usize = 32;
/// Statements within texts within statements.
const DEEPEST: usize = 3;

/// Where the texts, comments and names of two servers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgresql,
    /// And MariaDB.
    Mysql,
}

/// Tells what the statements in `text` do; `is_cut`: more follows that is not there.
pub(super) fn statements(text: &[u8], dialect: Dialect, is_cut: bool, sink: &mut Sink<'_>) {
    if is_cut || text.len() > LOOK {
        sink.passed_over();
    }
    within(&text[..text.len().min(LOOK)], dialect, DEEPEST, sink);
}

fn within(text: &[u8], dialect: Dialect, depth: usize, sink: &mut Sink<'_>) {
    if depth == 0 {
        sink.passed_over();
        return;
    }
    let mut words = Words { text, at: 0, dialect };
    for _ in 0..MOST {
        let Some(first) = words.next() else { return };
        if first == Item::End {
            continue;
        }
        statement(&first, &mut words, depth, sink);
    }
    if words.next().is_some() {
        sink.passed_over();
    }
}

fn statement(first: &Item<'_>, words: &mut Words<'_>, depth: usize, sink: &mut Sink<'_>) {
    let Item::Word(first) = first else {
        sink.passed_over();
        words.skip_statement();
        return;
    };
    let dialect = words.dialect;
    let first = first.to_ascii_uppercase();
    let mut kind = match first.as_slice() {
        b"WITH" | b"PREPARE" | b"DECLARE" => b"SELECT".to_vec(),
        _ => first.clone(),
    };
    let mut verb = verb_of(&kind);
    let mut position = 0;
    let mut password_follows = false;
    let mut direction = false;
    let mut before: Vec<u8> = Vec::new();
    // MySQL's PREPARE … FROM 'text' and EXECUTE IMMEDIATE 'text'; another source is not seen.
    let mut from_text = dialect == Dialect::Mysql && first == b"PREPARE";
    for item in words.by_ref() {
        position += 1;
        match item {
            Item::End => break,
            Item::Text(inner) if from_text => {
                from_text = false;
                verb = None;
                kind = b"EXECUTE".to_vec();
                within(inner, dialect, depth - 1, sink);
            }
            Item::Text(secret) if password_follows => {
                sink.credential(CredentialKind::Password, "SQL statement", secret);
                password_follows = false;
            }
            Item::Text(_) => {}
            Item::Word(word) => {
                let word = word.to_ascii_uppercase();
                password_follows = match word.as_slice() {
                    b"PASSWORD" => true,
                    // MySQL: IDENTIFIED [WITH plugin] BY, SET PASSWORD … = PASSWORD('…').
                    b"BY" => kind == b"CREATE" || kind == b"ALTER" || kind == b"GRANT",
                    b"FOR" | b"WITH" => false,
                    _ => password_follows && kind == b"SET",
                };
                match first.as_slice() {
                    // Locks of SELECT … FOR UPDATE change nothing.
                    b"WITH" | b"EXPLAIN" | b"PREPARE" | b"DECLARE"
                        if before != b"FOR"
                            && matches!(
                                word.as_slice(),
                                b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"CREATE" | b"REPLACE"
                            )
                            && verb == Some(Verb::Read) =>
                    {
                        verb = verb_of(&word);
                        kind = word.clone();
                    }
                    b"PREPARE" if position == 1 && word == b"TRANSACTION" => {
                        (verb, kind) = (None, b"COMMIT".to_vec())
                    }
                    b"SELECT" | b"WITH" | b"PREPARE" if word == b"INTO" && verb == Some(Verb::Read) => {
                        verb = Some(Verb::Write);
                    }
                    b"COPY" if word == b"PROGRAM" => verb = Some(Verb::Admin),
                    b"COPY" if !direction && matches!(word.as_slice(), b"FROM" | b"TO") => {
                        direction = true;
                        verb = Some(if word == b"FROM" { Verb::Write } else { Verb::Read });
                    }
                    b"SET"
                        if matches!(word.as_slice(), b"GLOBAL" | b"PERSIST" | b"PERSIST_ONLY")
                            || (position == 1 && word == b"PASSWORD") =>
                    {
                        verb = Some(Verb::Admin);
                    }
                    b"EXECUTE" if position == 1 && word == b"IMMEDIATE" => from_text = true,
                    _ => {}
                }
                before = word;
            }
        }
    }
    match verb {
        _ if from_text => sink.passed_over(),
        Some(verb) => sink.operation(verb, "statement", Some(&kind)),
        None if is_neutral(&kind) => {}
        None => sink.passed_over(),
    }
}

fn verb_of(word: &[u8]) -> Option<Verb> {
    Some(match word {
        b"SELECT"
        | b"TABLE"
        | b"VALUES"
        | b"FETCH"
        | b"MOVE"
        | b"EXPLAIN"
        | b"DESCRIBE"
        | b"DESC"
        | b"HANDLER"
        | b"CHECK"
        | b"CHECKSUM"
        | b"BASE_BACKUP"
        | b"START_REPLICATION"
        | b"READ_REPLICATION_SLOT" => Verb::Read,
        b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"REPLACE" | b"COPY" | b"LOAD" | b"TRUNCATE"
        | b"CALL" | b"DO" | b"IMPORT" | b"LOCK" | b"NOTIFY" => Verb::Write,
        b"CREATE"
        | b"ALTER"
        | b"DROP"
        | b"GRANT"
        | b"REVOKE"
        | b"RENAME"
        | b"COMMENT"
        | b"VACUUM"
        | b"ANALYZE"
        | b"ANALYSE"
        | b"REINDEX"
        | b"CLUSTER"
        | b"REFRESH"
        | b"REASSIGN"
        | b"SECURITY"
        | b"CHECKPOINT"
        | b"FLUSH"
        | b"KILL"
        | b"RESET"
        | b"PURGE"
        | b"CHANGE"
        | b"INSTALL"
        | b"UNINSTALL"
        | b"OPTIMIZE"
        | b"REPAIR"
        | b"SHUTDOWN"
        | b"STOP"
        | b"BACKUP"
        | b"BINLOG"
        | b"CREATE_REPLICATION_SLOT"
        | b"DROP_REPLICATION_SLOT"
        | b"ALTER_REPLICATION_SLOT" => Verb::Admin,
        _ => return None,
    })
}

/// Of transactions and of the session: they touch no data. What EXECUTE does was told with its PREPARE.
fn is_neutral(word: &[u8]) -> bool {
    matches!(
        word,
        b"BEGIN"
            | b"START"
            | b"COMMIT"
            | b"END"
            | b"ROLLBACK"
            | b"ABORT"
            | b"SAVEPOINT"
            | b"RELEASE"
            | b"SET"
            | b"SHOW"
            | b"USE"
            | b"LISTEN"
            | b"UNLISTEN"
            | b"DISCARD"
            | b"DEALLOCATE"
            | b"CLOSE"
            | b"EXECUTE"
            | b"UNLOCK"
            | b"XA"
            | b"HELP"
            | b"IDENTIFY_SYSTEM"
            | b"TIMELINE_HISTORY"
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Item<'a> {
    Word(&'a [u8]),
    /// A string literal, without its quotes.
    Text(&'a [u8]),
    /// `;`
    End,
}

/// Words and strings; comments, names in quotes and everything else are passed over.
struct Words<'a> {
    text: &'a [u8],
    at: usize,
    dialect: Dialect,
}

impl<'a> Words<'a> {
    /// A text in single quotes, which `rest` begins with.
    fn literal(&mut self, rest: &'a [u8], escapes: bool) -> Item<'a> {
        let length = quoted(rest, b'\'', escapes);
        self.at += length;
        let inner = &rest[1..length];
        Item::Text(inner.strip_suffix(b"'").unwrap_or(inner))
    }

    /// MySQL wants a space behind the dashes.
    fn is_line_comment(&self, rest: &[u8]) -> bool {
        match (self.dialect, rest) {
            (Dialect::Postgresql, [b'-', b'-', ..]) | (Dialect::Mysql, [b'#', ..]) => true,
            (Dialect::Mysql, [b'-', b'-', rest @ ..]) => rest.first().is_none_or(|b| *b <= b' '),
            _ => false,
        }
    }

    fn skip_statement(&mut self) {
        for item in self.by_ref() {
            if item == Item::End {
                return;
            }
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        loop {
            let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
            match rest {
                [b';', ..] => {
                    self.at += 1;
                    return Some(Item::End);
                }
                [b'\'', ..] => return Some(self.literal(rest, self.dialect == Dialect::Mysql)),
                // In MySQL a text as well, whose escapes count.
                [b'"', ..] => self.at += quoted(rest, b'"', self.dialect == Dialect::Mysql),
                [b'`', ..] => self.at += quoted(rest, b'`', false),
                _ if self.is_line_comment(rest) => {
                    self.at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
                }
                // MySQL runs what is in such a comment.
                [b'/', b'*', b'!', ..] | [b'/', b'*', b'M', b'!', ..] if self.dialect == Dialect::Mysql => {
                    let open = if rest[2] == b'!' { 3 } else { 4 };
                    self.at += open + rest[open..].iter().take_while(|b| b.is_ascii_digit()).count();
                }
                [b'/', b'*', ..] => self.at += comment(rest, self.dialect == Dialect::Postgresql),
                [b'$', ..] if self.dialect == Dialect::Postgresql => self.at += dollar_quoted(rest),
                [first, ..] if is_word(*first) && !first.is_ascii_digit() => {
                    let length = rest.iter().take_while(|b| is_word(**b) || **b == b'$').count();
                    self.at += length;
                    let word = &rest[..length];
                    // PostgreSQL section 4.1.2.2: only here do backslashes escape.
                    if matches!(word, b"e" | b"E") && rest.get(1) == Some(&b'\'') {
                        return Some(self.literal(&rest[1..], true));
                    }
                    return Some(Item::Word(word));
                }
                _ => self.at += 1,
            }
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The length of a string in quotes; a doubled quote does not end it, nor one that is escaped.
fn quoted(rest: &[u8], quote: u8, escapes: bool) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        match *byte {
            b'\\' if escapes => at += 2,
            byte if byte == quote && rest.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a comment; those of PostgreSQL may hold others.
fn comment(rest: &[u8], nests: bool) -> usize {
    let (mut at, mut depth) = (2, 1);
    while let Some(pair) = rest.get(at..at + 2) {
        match pair {
            b"*/" => (at, depth) = (at + 2, depth - 1),
            b"/*" if nests => (at, depth) = (at + 2, depth + 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// PostgreSQL's `$tag$…$tag$`; `$1` is one byte.
fn dollar_quoted(rest: &[u8]) -> usize {
    let Some(end) = rest[1..].iter().take(64).position(|b| *b == b'$') else { return 1 };
    let tag = &rest[..end + 2];
    let name = &tag[1..tag.len() - 1];
    if !name.iter().all(|b| is_word(*b)) || name.first().is_some_and(u8::is_ascii_digit) {
        return 1;
    }
    let body = &rest[tag.len()..];
    body.windows(tag.len()).position(|window| window == tag).map_or(rest.len(), |at| 2 * tag.len() + at)
}
