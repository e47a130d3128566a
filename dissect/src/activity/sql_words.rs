//! Words, literals and signs of SQL, as a server's own lexer has them (PostgreSQL `scan.l`, MySQL and
//! MariaDB `sql_lex.cc`).
//!
//! In: the text of statements, and the settings under which a server reads it. Out: what stands outside of
//! comments. Where servers differ in what that is, or may, the text is marked as unclear.

use super::sql_kinds::is_kind;

/// Where the texts, comments and names of two servers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgresql,
    /// And MariaDB.
    Mysql,
}

/// Which quotes heed backslashes. It is the session's to choose (`standard_conforming_strings`; `sql_mode`
/// with `NO_BACKSLASH_ESCAPES`, `ANSI_QUOTES`; its character set), and how it chose is not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Escapes {
    single: bool,
    double: bool,
    charset: Charset,
    /// The versioned comments of MySQL that are left out, one a bit; of those that are counted.
    without: u8,
}

/// Where the second byte of a character may be a backslash or a backtick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    /// Nowhere: UTF-8, and what has one byte a character.
    Plain,
    /// And GB18030.
    Gbk,
    /// And CP932.
    Sjis,
    Big5,
}

impl Charset {
    /// How many bytes the character takes that `rest` begins with, as far as it matters.
    fn width(self, rest: &[u8]) -> usize {
        let [first, second @ (0x40..=0x7e | 0x80..=0xfe), ..] = rest else { return 1 };
        let is_wide = match self {
            Charset::Plain => false,
            Charset::Gbk => matches!(first, 0x81..=0xfe),
            Charset::Sjis => matches!(first, 0x81..=0x9f | 0xe0..=0xfc) && *second <= 0xfc,
            Charset::Big5 => matches!(first, 0xa1..=0xf9) && !matches!(second, 0x80..=0xa0),
        };
        if is_wide { 2 } else { 1 }
    }
}

impl Escapes {
    /// As a server does by default first, then every other way.
    pub fn of(dialect: Dialect) -> &'static [Escapes] {
        const NONE: Escapes = Escapes { single: false, double: false, charset: Charset::Plain, without: 0 };
        const SINGLE: Escapes = Escapes { single: true, ..NONE };
        const BOTH: Escapes = Escapes { double: true, ..SINGLE };
        match dialect {
            Dialect::Postgresql => &[NONE, SINGLE],
            Dialect::Mysql => &[BOTH, SINGLE, NONE],
        }
    }

    /// The same in every character set where it is not the same.
    pub fn in_charsets(self) -> [Escapes; 3] {
        [Charset::Gbk, Charset::Sjis, Charset::Big5].map(|charset| Escapes { charset, ..self })
    }

    /// The same with every choice of that many versioned comments left out.
    pub fn without(self, versioned: u8) -> impl Iterator<Item = Escapes> {
        (1..1 << versioned.min(MOST_VERSIONED)).map(move |without| Escapes { without, ..self })
    }

    /// Whether the character set may matter: a backslash, or in MySQL a backtick, may be half a character.
    pub fn hang_on_charset(text: &[u8], dialect: Dialect) -> bool {
        let is_half = |b: u8| b == b'\\' || (b == b'`' && dialect == Dialect::Mysql);
        text.windows(2).any(|pair| pair[0] >= 0x80 && is_half(pair[1]))
    }
}

/// Versioned comments of one text that are read both ways.
const MOST_VERSIONED: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Word(&'a [u8]),
    /// A string literal, without its quotes.
    Text(&'a [u8]),
    /// A name in quotes; in MySQL what stands in `"` may be a text.
    Name,
    /// Any other byte that is no space.
    Sign(u8),
    /// `;`
    End,
}

pub(super) struct Words<'a> {
    text: &'a [u8],
    escapes: Escapes,
    pub dialect: Dialect,
    /// Servers may read it otherwise.
    pub unclear: bool,
    /// Versioned comments so far that are no statements of their own.
    pub versioned: u8,
    place: Place,
}

/// What is known of what stands before.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    at: usize,
    /// A statement has begun.
    is_within: bool,
    /// The last item was a text of PostgreSQL with escapes, which the next one may continue.
    continues: bool,
    /// Where the versioned comment ends that is open.
    closes: Option<usize>,
}

impl<'a> Words<'a> {
    pub fn new(text: &'a [u8], dialect: Dialect, escapes: Escapes) -> Words<'a> {
        Words { text, escapes, dialect, unclear: text.contains(&0), versioned: 0, place: Place::default() }
    }

    pub fn skip_statement(&mut self) {
        for item in self.by_ref() {
            if item == Item::End {
                return;
            }
        }
    }

    /// What comes next, and stays there.
    pub fn peek(&mut self) -> Option<Item<'a>> {
        let (place, versioned) = (self.place, self.versioned);
        let item = self.next();
        (self.place, self.versioned) = (place, versioned);
        item
    }

    /// Whether the last item, a word, stands right behind `.` or `@`: it is a name, whichever word it is. A
    /// number may end with a dot.
    pub fn is_part_of_name(&self, word: &[u8]) -> bool {
        match &self.text[..self.place.at - word.len()] {
            [.., before, b'.'] => !before.is_ascii_digit() && !before.is_ascii_whitespace(),
            [.., b'@'] => true,
            _ => false,
        }
    }

    fn rest(&self) -> &'a [u8] {
        &self.text[self.place.at..]
    }

    /// A text in single quotes, which `rest` begins with.
    fn literal(&mut self, escapes: bool) -> Item<'a> {
        let rest = self.rest();
        self.skip_quoted(b'\'', escapes);
        let inner = &self.text[self.place.at - (rest.len() - self.rest().len()) + 1..self.place.at];
        Item::Text(inner.strip_suffix(b"'").unwrap_or(inner))
    }

    fn skip_quoted(&mut self, quote: u8, escapes: bool) {
        self.place.at += quoted(self.rest(), quote, escapes, self.escapes.charset);
    }

    /// MySQL wants a space or a control character behind the dashes: which bytes are any, its character
    /// set says.
    fn is_line_comment(&mut self, rest: &[u8]) -> bool {
        match (self.dialect, rest) {
            (Dialect::Postgresql, [b'-', b'-', ..]) | (Dialect::Mysql, [b'#', ..]) => true,
            (Dialect::Mysql, [b'-', b'-', rest @ ..]) => {
                self.unclear |= rest.first().is_some_and(|b| *b >= 0x7f);
                rest.first().is_none_or(|b| *b <= b' ')
            }
            _ => false,
        }
    }

    fn skip_line_comment(&mut self) {
        let ends = |b: &u8| *b == b'\n' || (*b == b'\r' && self.dialect == Dialect::Postgresql);
        let rest = self.rest();
        self.place.at += rest.iter().position(ends).unwrap_or(rest.len());
    }

    /// MySQL runs what is in such a comment, or does not, by its version. It is read; where it is not the whole
    /// statement, so is the text without it.
    fn open_versioned(&mut self) {
        let rest = self.rest();
        let open = if rest[2] == b'!' { 3 } else { 4 };
        let open = open + rest[open..].iter().take_while(|b| b.is_ascii_digit()).count();
        let end = if self.unclear { None } else { memchr::memmem::find(&rest[open..], b"*/") };
        let Some(end) = end.map(|end| open + end).filter(|end| is_balanced(&rest[open..*end])) else {
            self.unclear = true;
            self.place.at += open;
            return;
        };
        let is_begun = std::mem::replace(&mut self.place.is_within, true);
        if is_begun || !matches!(rest[end + 2..].trim_ascii_start(), [] | [b';', ..]) {
            let is_left_out = self.escapes.without >> self.versioned & 1 == 1;
            self.unclear |= self.versioned >= MOST_VERSIONED;
            self.versioned = (self.versioned + 1).min(MOST_VERSIONED);
            if is_left_out {
                self.place.is_within = is_begun;
                self.place.at += end + 2;
                return;
            }
        }
        self.place.closes = Some(self.place.at + end);
        self.place.at += open;
    }

    fn skip_comment(&mut self) {
        let rest = self.rest();
        let length = comment(rest, self.dialect == Dialect::Postgresql);
        // Quotes in hints of MySQL may hold the end of the comment.
        let is_hint = self.dialect == Dialect::Mysql && rest.starts_with(b"/*+");
        self.unclear |= is_hint && rest[..length].iter().any(|b| matches!(b, b'\'' | b'"' | b'`'));
        self.place.at += length;
    }

    fn word(&mut self) -> Item<'a> {
        let rest = self.rest();
        let mut length = 0;
        while rest.get(length).is_some_and(|b| is_word(*b) || *b == b'$') {
            length += self.escapes.charset.width(&rest[length..]);
        }
        let word = &rest[..length];
        // In some character sets of MySQL there are spaces among the bytes from 0x80 on.
        self.unclear |=
            self.dialect == Dialect::Mysql && !word.is_ascii() && word.split(|b| *b >= 0x80).any(is_kind);
        self.place.at += length;
        Item::Word(word)
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let item = self.item();
        self.place.is_within = !matches!(item, None | Some(Item::End));
        item
    }
}

impl<'a> Words<'a> {
    fn item(&mut self) -> Option<Item<'a>> {
        let is_mysql = self.dialect == Dialect::Mysql;
        let continues = std::mem::take(&mut self.place.continues);
        loop {
            let rest = self.text.get(self.place.at..).filter(|rest| !rest.is_empty())?;
            match rest {
                [b'*', b'/', ..] if self.place.closes == Some(self.place.at) => {
                    self.place.closes = None;
                    self.place.at += 2;
                }
                [b';', ..] => {
                    self.place.at += 1;
                    return Some(Item::End);
                }
                [b'\'', ..] => {
                    // PostgreSQL section 4.1.2.1: behind a new line it goes on as it began.
                    self.unclear |= continues;
                    return Some(self.literal(self.escapes.single));
                }
                // PostgreSQL section 4.1.2.2: only here do backslashes escape, whatever the settings.
                [b'e' | b'E', b'\'', ..] if !is_mysql => {
                    self.place.at += 1;
                    self.place.continues = true;
                    return Some(self.literal(true));
                }
                [b'"', ..] => {
                    self.skip_quoted(b'"', self.escapes.double);
                    return Some(Item::Name);
                }
                [b'`', ..] if is_mysql => {
                    self.skip_quoted(b'`', false);
                    return Some(Item::Name);
                }
                _ if self.is_line_comment(rest) => self.skip_line_comment(),
                [b'/', b'*', b'!', ..] | [b'/', b'*', b'M', b'!', ..] if is_mysql => self.open_versioned(),
                [b'/', b'*', ..] => self.skip_comment(),
                // Behind `[` stands a name where `sql_mode` has MSSQL.
                [b'[', ..] if is_mysql => {
                    self.unclear = true;
                    self.place.at += 1;
                }
                [b'$', ..] if !is_mysql && let Some(length) = dollar_quoted(rest) => {
                    self.place.at += length;
                    return Some(Item::Name);
                }
                [first, ..] if is_word(*first) && !first.is_ascii_digit() => return Some(self.word()),
                [b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, ..] => self.place.at += 1,
                [sign, ..] => {
                    self.place.at += 1;
                    return Some(Item::Sign(*sign));
                }
                [] => return None,
            }
        }
    }
}

/// Whether a versioned comment ends where it seems to, for whoever reads what is in it.
fn is_balanced(inner: &[u8]) -> bool {
    let mut quote = None;
    for byte in inner {
        match (quote, *byte) {
            (None, b'\'' | b'"' | b'`') => quote = Some(*byte),
            (Some(open), byte) if open == byte => quote = None,
            (_, b'\\' | b'#' | b'[' | b'/' | 0x80..) => return false,
            _ => {}
        }
    }
    quote.is_none() && memchr::memmem::find(inner, b"--").is_none()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The length of a string in quotes; a doubled quote does not end it, nor one that is escaped.
fn quoted(rest: &[u8], quote: u8, escapes: bool, charset: Charset) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        match *byte {
            b'\\' if escapes => at += 2,
            byte if byte == quote && rest.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += charset.width(&rest[at..]),
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

/// PostgreSQL's `$tag$…$tag$`, of any length; `$1` and `$` alone are none.
fn dollar_quoted(rest: &[u8]) -> Option<usize> {
    let name = rest[1..].iter().take_while(|b| is_word(**b)).count();
    if rest.get(1 + name) != Some(&b'$') || rest[1].is_ascii_digit() {
        return None;
    }
    let tag = &rest[..name + 2];
    let body = &rest[tag.len()..];
    Some(memchr::memmem::find(body, tag).map_or(rest.len(), |at| 2 * tag.len() + at))
}
