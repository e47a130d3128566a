//! Statements of SQL: which kind, and the passwords that some of them hold.
//!
//! In: the text that a client sends. Out: an operation a statement, by its first words: `SELECT` reads;
//! `INSERT`, `UPDATE`, `DELETE` and their kin write; what changes tables, users or the server
//! administers; transactions and session settings are none. A `SELECT` that calls a function which
//! writes is taken for a read. Must never: tell more of a statement than its kind.

use super::event::{CredentialKind, Verb};
use super::machine::{LOOK, Sink};

/// Statements of one message that are told.
const MOST: usize = 32;

/// Tells what the statements in `text` do.
pub(super) fn statements(text: &[u8], sink: &mut Sink<'_>) {
    let text = &text[..text.len().min(LOOK)];
    let mut words = Words { text, at: 0 };
    for _ in 0..MOST {
        let Some(first) = words.next() else { return };
        if first == Item::End {
            continue;
        }
        statement(&first, &mut words, sink);
    }
}

fn statement(first: &Item<'_>, words: &mut Words<'_>, sink: &mut Sink<'_>) {
    let Item::Word(first) = first else {
        words.skip_statement();
        return;
    };
    let mut kind = first.to_ascii_uppercase();
    let mut verb = verb_of(&kind);
    let mut position = 0;
    let mut password_follows = false;
    let mut from = false;
    for item in words.by_ref() {
        position += 1;
        match item {
            Item::End => break,
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
                match kind.as_slice() {
                    b"WITH" | b"EXPLAIN" => {
                        // What a query expression leads to, or what is explained.
                        if let Some(inner @ (Verb::Write | Verb::Admin)) = verb_of(&word)
                            && matches!(word.as_slice(), b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE")
                        {
                            verb = Some(inner);
                            kind = word;
                        }
                    }
                    b"SELECT" if word == b"INTO" => verb = Some(Verb::Write),
                    b"COPY" if word == b"FROM" && !from => {
                        from = true;
                        verb = Some(Verb::Write);
                    }
                    b"COPY" if word == b"TO" && !from => {
                        from = true;
                        verb = Some(Verb::Read);
                    }
                    b"SET" if position == 1 && matches!(word.as_slice(), b"GLOBAL" | b"PASSWORD") => {
                        verb = Some(Verb::Admin);
                    }
                    _ => {}
                }
            }
        }
    }
    if let Some(verb) = verb {
        sink.operation(verb, "statement", Some(&kind));
    }
}

fn verb_of(word: &[u8]) -> Option<Verb> {
    Some(match word {
        b"SELECT" | b"WITH" | b"TABLE" | b"VALUES" | b"FETCH" | b"EXPLAIN" | b"DESCRIBE" | b"DESC" => {
            Verb::Read
        }
        b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"REPLACE" | b"COPY" | b"LOAD" | b"TRUNCATE"
        | b"CALL" | b"DO" | b"IMPORT" => Verb::Write,
        b"CREATE" | b"ALTER" | b"DROP" | b"GRANT" | b"REVOKE" | b"RENAME" | b"COMMENT" | b"VACUUM"
        | b"ANALYZE" | b"REINDEX" | b"CLUSTER" | b"REFRESH" | b"REASSIGN" | b"SECURITY" | b"CHECKPOINT"
        | b"FLUSH" | b"KILL" | b"RESET" | b"PURGE" | b"CHANGE" | b"INSTALL" | b"UNINSTALL" | b"OPTIMIZE"
        | b"REPAIR" | b"SHUTDOWN" => Verb::Admin,
        _ => return None,
    })
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
}

impl Words<'_> {
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
                [b'\'', ..] => {
                    let length = quoted(rest, b'\'');
                    self.at += length;
                    let inner = &rest[1..length];
                    return Some(Item::Text(inner.strip_suffix(b"'").unwrap_or(inner)));
                }
                [quote @ (b'"' | b'`'), ..] => self.at += quoted(rest, *quote),
                [b'-', b'-', ..] | [b'#', ..] => {
                    self.at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
                }
                [b'/', b'*', ..] => {
                    let end = rest.windows(2).position(|pair| pair == b"*/");
                    self.at += end.map_or(rest.len(), |end| end + 2);
                }
                [b'$', ..] => self.at += dollar_quoted(rest),
                [first, ..] if first.is_ascii_alphabetic() => {
                    let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
                    self.at += length;
                    return Some(Item::Word(&rest[..length]));
                }
                _ => self.at += 1,
            }
        }
    }
}

/// The length of a string in quotes; a doubled or escaped quote does not end it.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        match *byte {
            b'\\' => at += 2,
            byte if byte == quote && rest.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// PostgreSQL's `$tag$…$tag$`; `$1` is one byte.
fn dollar_quoted(rest: &[u8]) -> usize {
    let Some(end) = rest[1..].iter().take(64).position(|b| *b == b'$') else { return 1 };
    let tag = &rest[..end + 2];
    if !tag[1..tag.len() - 1].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_') {
        return 1;
    }
    let body = &rest[tag.len()..];
    body.windows(tag.len()).position(|window| window == tag).map_or(rest.len(), |at| 2 * tag.len() + at)
}
