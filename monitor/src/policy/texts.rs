//! Rules by texts, with wildcards or without.
//!
//! A text with wildcards is found by one literal piece of it: by what it begins or ends with, or by what
//! it has in it. Which one, is decided by how many rules share it. What is found may hold; whether it
//! does is for the whole pattern to say.

use aho_corasick::{AhoCorasick, MatchKind};
use rustc_hash::FxHashMap;

use super::end::Field;
use super::pattern::Pattern;

type Ids = Vec<u32>;

/// A literal part of a pattern, which every text that matches has in this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Piece<'a> {
    Whole(&'a str),
    Begin(&'a str),
    End(&'a str),
    Within(&'a str),
}

/// How many rules share each piece.
#[derive(Default)]
pub struct TextShares<'a>(FxHashMap<(Field, Piece<'a>), usize>);

impl<'a> TextShares<'a> {
    pub fn add(&mut self, field: Field, pattern: &'a Pattern) {
        for piece in pieces(field, pattern) {
            *self.0.entry((field, piece)).or_default() += 1;
        }
    }

    /// How many rules are found together with this pattern.
    pub fn of(&self, field: Field, pattern: &Pattern) -> usize {
        self.rarest(field, pattern).map_or(usize::MAX, |(shares, _)| shares)
    }

    /// The piece that the fewest share. Of equal ones the first: a text has one beginning and one end.
    fn rarest<'p>(&self, field: Field, pattern: &'p Pattern) -> Option<(usize, Piece<'p>)> {
        let shares = |piece: Piece<'_>| self.0.get(&(field, piece)).copied().unwrap_or(usize::MAX);
        pieces(field, pattern).map(|piece| (shares(piece), piece)).min_by_key(|(shares, _)| *shares)
    }
}

fn pieces(field: Field, pattern: &Pattern) -> impl Iterator<Item = Piece<'_>> {
    let (whole, glob) = match pattern {
        Pattern::Exact(text) => (Some(Piece::Whole(lookup_key(field, text))), None),
        Pattern::Glob { text, .. } => (None, Some(&**text)),
    };
    let some = |piece: &&str| !piece.is_empty();
    let begin = glob.map(|_| pattern.prefix()).filter(some).map(Piece::Begin);
    let end = glob.map(|_| pattern.suffix()).filter(some).map(Piece::End);
    let inner = glob.into_iter().flat_map(|text| {
        let inner = text.get(pattern.prefix().len()..text.len() - pattern.suffix().len()).unwrap_or("");
        inner.split(['*', '?']).filter(|piece| !piece.is_empty()).map(Piece::Within)
    });
    whole.into_iter().chain(begin).chain(end).chain(inner)
}

/// What an exact text is found by: a container's id also by its beginning.
fn lookup_key(field: Field, text: &str) -> &str {
    if field == Field::Container { &text[..text.floor_char_boundary(Field::SHORT_ID)] } else { text }
}

/// The rules that are found by one field.
#[derive(Clone, Debug)]
pub struct Texts {
    pub field: Field,
    exact: FxHashMap<Box<str>, Ids>,
    prefixes: Affixes,
    suffixes: Affixes,
    within: Within,
    /// Nothing but wildcards.
    others: Ids,
    pub all: Ids,
}

/// Rules by a beginning or an end of a text.
#[derive(Clone, Debug, Default)]
struct Affixes {
    /// Lengths in bytes that occur, ascending.
    lengths: Vec<usize>,
    by_text: FxHashMap<Box<str>, Ids>,
}

/// Rules by what a text has in it.
#[derive(Clone, Debug, Default)]
struct Within {
    by_text: FxHashMap<Box<str>, Ids>,
    /// Finds all of them in one pass; its patterns are the positions of `ids`.
    finder: Option<AhoCorasick>,
    ids: Vec<Ids>,
}

impl Texts {
    pub fn new(field: Field) -> Texts {
        Texts {
            field,
            exact: FxHashMap::default(),
            prefixes: Affixes::default(),
            suffixes: Affixes::default(),
            within: Within::default(),
            others: Vec::new(),
            all: Vec::new(),
        }
    }

    pub fn add(&mut self, patterns: &[Pattern], shares: &TextShares<'_>, id: u32) {
        self.all.push(id);
        for pattern in patterns {
            match shares.rarest(self.field, pattern).map(|(_, piece)| piece) {
                Some(Piece::Whole(text)) => self.exact.entry(text.into()).or_default().push(id),
                Some(Piece::Begin(text)) => self.prefixes.add(text, id),
                Some(Piece::End(text)) => self.suffixes.add(text, id),
                Some(Piece::Within(text)) => self.within.by_text.entry(text.into()).or_default().push(id),
                None => self.others.push(id),
            }
        }
    }

    /// After the last rule, before the first look-up.
    pub fn finish(&mut self) {
        self.prefixes.sort();
        self.suffixes.sort();
        let (texts, ids): (Vec<Box<str>>, Vec<Ids>) = self.within.by_text.drain().unzip();
        if texts.is_empty() {
            return;
        }
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(texts.iter().map(|text| text.as_bytes()));
        match finder {
            Ok(finder) => (self.within.finder, self.within.ids) = (Some(finder), ids),
            // More than it can hold: they are asked one by one.
            Err(_) => self.others.extend(ids.into_iter().flatten()),
        }
    }

    /// Adds the rules that may hold for this value.
    pub fn find(&self, value: &str, found: &mut Ids) {
        found.extend(self.exact.get(lookup_key(self.field, value)).into_iter().flatten());
        for length in &self.prefixes.lengths {
            let Some(prefix) = value.get(..*length) else { continue };
            found.extend(self.prefixes.by_text.get(prefix).into_iter().flatten());
        }
        for length in &self.suffixes.lengths {
            let Some(suffix) = value.len().checked_sub(*length).and_then(|at| value.get(at..)) else {
                continue;
            };
            found.extend(self.suffixes.by_text.get(suffix).into_iter().flatten());
        }
        if let Some(finder) = &self.within.finder {
            for piece in finder.find_overlapping_iter(value) {
                found.extend(self.within.ids.get(piece.pattern().as_usize()).into_iter().flatten());
            }
        }
        found.extend(&self.others);
    }
}

impl Affixes {
    fn add(&mut self, text: &str, id: u32) {
        self.lengths.push(text.len());
        self.by_text.entry(text.into()).or_default().push(id);
    }

    fn sort(&mut self) {
        self.lengths.sort_unstable();
        self.lengths.dedup();
    }
}
