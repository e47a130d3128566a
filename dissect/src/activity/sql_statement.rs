//! One statement of SQL, word by word: what it does.
//!
//! In: its words in upper case, its texts, its signs. Out: the operations that it stands for, and whether they
//! are all: what a word means hangs on where it stands, and where that is not certain, nor is the answer.

use super::event::Verb;
use super::sql_kinds::{changes, is_neutral, verb_of};
use super::sql_words::Dialect;

/// Words of BEGIN and START TRANSACTION.
const BEGINS: [&[u8]; 15] = [
    b"WORK",
    b"TRANSACTION",
    b"ISOLATION",
    b"LEVEL",
    b"SERIALIZABLE",
    b"REPEATABLE",
    b"READ",
    b"WRITE",
    b"COMMITTED",
    b"UNCOMMITTED",
    b"ONLY",
    b"NOT",
    b"DEFERRABLE",
    b"CONSISTENT",
    b"SNAPSHOT",
];
/// Words of COMMIT and ROLLBACK. Not PREPARED: that is another transaction.
const ENDS: [&[u8]; 8] = [b"WORK", b"TRANSACTION", b"AND", b"NO", b"CHAIN", b"RELEASE", b"TO", b"SAVEPOINT"];

pub(super) struct Statement {
    dialect: Dialect,
    first: Vec<u8>,
    /// `None`: neutral, or not known.
    verb: Option<Verb>,
    /// Statements within it.
    inner: Vec<(Verb, Vec<u8>)>,
    is_clear: bool,
    /// Words and names so far, behind the first.
    position: usize,
    /// Open parentheses.
    open: usize,
    /// The last word, or sign.
    before: Vec<u8>,
    has_with: bool,
    is_into: bool,
    password_follows: bool,
}

impl Statement {
    pub fn new(first: Vec<u8>, dialect: Dialect) -> Statement {
        let verb = match &first[..] {
            b"COPY" => None,
            first => verb_of(first, dialect),
        };
        Statement {
            dialect,
            verb,
            has_with: first == b"WITH",
            first,
            inner: Vec::new(),
            is_clear: true,
            position: 0,
            open: 0,
            before: Vec::new(),
            is_into: false,
            password_follows: false,
        }
    }

    /// A sign, or a name in quotes: `"`.
    pub fn sign(&mut self, sign: u8) {
        match sign {
            b'(' => self.open += 1,
            b')' => self.open = self.open.saturating_sub(1),
            b'"' => self.position += 1,
            _ => {}
        }
        if matches!(&self.first[..], b"BEGIN" | b"START") {
            self.is_clear &= sign == b',';
        }
        // Of a system variable.
        self.before = if sign == b'@' && self.before == b"@" { b"@@".to_vec() } else { vec![sign] };
    }

    /// A text; whether it is a password.
    pub fn text(&mut self) -> bool {
        // COPY … TO 'file'
        if self.first == b"COPY" && self.open == 0 && self.before == b"TO" {
            self.verb = self.verb.max(Some(Verb::Write));
        }
        self.is_clear &= self.first != b"BEGIN";
        self.before = vec![b'\''];
        std::mem::take(&mut self.password_follows)
    }

    /// `is_name`: it is a name, whichever word it is. `is_call`: a parenthesis follows.
    pub fn word(&mut self, word: &[u8], is_name: bool, is_call: bool) {
        self.position += 1;
        self.password(word);
        self.by_kind(word);
        if !is_name {
            self.has_with |= word == b"WITH";
            if let Some(verb) = changes(word, self.dialect)
                && !(is_call && matches!(word, b"INSERT" | b"REPLACE"))
            {
                self.change(verb, word);
            }
            let of_insert: [&[u8]; 7] =
                [b"INSERT", b"REPLACE", b"MERGE", b"IGNORE", b"DELAYED", b"LOW_PRIORITY", b"HIGH_PRIORITY"];
            self.is_into |= word == b"INTO" && !of_insert.contains(&&self.before[..]);
        }
        self.before = if is_name { b"\"".to_vec() } else { word.to_vec() };
    }

    /// What it does, and whether that is all.
    pub fn conclude(mut self) -> (Vec<(Verb, Vec<u8>)>, bool) {
        let kind = match &self.first[..] {
            b"WITH" | b"PREPARE" | b"DECLARE" => b"SELECT".to_vec(),
            _ => std::mem::take(&mut self.first),
        };
        if kind == b"COPY" && self.inner.is_empty() {
            self.verb = self.verb.or(Some(Verb::Write));
        }
        let mut told = Vec::new();
        match self.verb {
            Some(Verb::Read) if self.is_into => told.push((Verb::Write, kind)),
            // It is a way to write what stands in it.
            Some(Verb::Read) if !self.inner.is_empty() => {}
            Some(verb) => told.push((verb, kind)),
            None => self.is_clear &= is_neutral(&kind) || !self.inner.is_empty(),
        }
        told.append(&mut self.inner);
        (told, self.is_clear)
    }

    /// A word that would begin a statement that changes something, did it stand at the start of one.
    fn change(&mut self, verb: Verb, word: &[u8]) {
        // Locks of SELECT … FOR UPDATE, and FOR NO KEY UPDATE, change nothing.
        let is_lock = word == b"UPDATE" && matches!(&self.before[..], b"FOR" | b"KEY");
        let is_begun = matches!(&self.before[..], b"(" | b")");
        let leads = matches!(&self.first[..], b"EXPLAIN" | b"DESCRIBE" | b"DESC" | b"PREPARE" | b"DECLARE");
        let may_hold = leads || self.has_with || self.first == b"COPY";
        match self.verb {
            _ if is_lock => {}
            Some(Verb::Admin) => {}
            _ if may_hold && (leads || is_begun) => self.inner(verb, word),
            Some(Verb::Read) => self.is_clear &= !may_hold && self.dialect == Dialect::Postgresql,
            Some(_) => {}
            None => self.is_clear &= matches!(&self.first[..], b"SHOW" | b"HELP" | b"COPY"),
        }
    }

    fn inner(&mut self, verb: Verb, word: &[u8]) {
        // EXPLAIN CREATE TABLE … AS, and MERGE … THEN INSERT: the first says it all.
        let is_first = !matches!(&self.first[..], b"EXPLAIN" | b"DESCRIBE" | b"DESC");
        if is_first || self.inner.is_empty() || matches!(&self.before[..], b"(" | b")") {
            self.inner.push((verb, word.to_vec()));
        }
    }

    /// What only statements of its kind may have.
    fn by_kind(&mut self, word: &[u8]) {
        let before = &self.before[..];
        // What is set: the first, or in MySQL a further one.
        let is_next = self.dialect == Dialect::Mysql && self.open == 0 && before == b",";
        let is_set = before.is_empty() || is_next;
        match (&self.first[..], word) {
            (b"SET", b"GLOBAL" | b"PERSIST" | b"PERSIST_ONLY") if before != b"@" => {
                self.verb = Some(Verb::Admin);
            }
            (b"SET", b"PASSWORD" | b"DEFAULT") if is_set => self.verb = Some(Verb::Admin),
            (b"SET", b"RESOURCE") if self.position == 1 => self.is_clear = false,
            (b"PREPARE", b"TRANSACTION") if self.position == 1 => {
                (self.verb, self.first) = (None, b"COMMIT".to_vec());
            }
            (b"BEGIN", word) => self.is_clear &= BEGINS.contains(&word),
            (b"START", b"SLAVE" | b"REPLICA" | b"ALL" | b"GROUP_REPLICATION") if self.position == 1 => {
                self.verb = Some(Verb::Admin);
            }
            (b"START", word) if self.verb.is_none() => {
                self.is_clear &= (self.position > 1 || word == b"TRANSACTION")
                    && (word == b"WITH" || BEGINS.contains(&word));
            }
            (b"COMMIT" | b"END" | b"ROLLBACK" | b"ABORT", word) => {
                self.is_clear &= ENDS.contains(&word) || matches!(before, b"TO" | b"SAVEPOINT");
            }
            // Of a transaction that may be another's.
            (b"XA", b"COMMIT" | b"ROLLBACK") if self.position == 1 => self.is_clear = false,
            (b"BASE_BACKUP", b"TARGET") => self.verb = Some(Verb::Write),
            (b"COPY", b"PROGRAM") if self.open == 0 && matches!(before, b"TO" | b"FROM") => {
                self.verb = Some(Verb::Admin);
            }
            (b"COPY", b"FROM") if self.open == 0 => self.verb = self.verb.max(Some(Verb::Write)),
            (b"COPY", b"TO") if self.open == 0 => self.verb = self.verb.max(Some(Verb::Read)),
            _ => {}
        }
    }

    fn password(&mut self, word: &[u8]) {
        self.password_follows = match word {
            b"PASSWORD" => true,
            // MySQL: IDENTIFIED [WITH plugin] BY, SET PASSWORD … = PASSWORD('…').
            b"BY" => matches!(&self.first[..], b"CREATE" | b"ALTER" | b"GRANT"),
            b"FOR" | b"WITH" => false,
            _ => self.password_follows && self.first == b"SET",
        };
    }
}
