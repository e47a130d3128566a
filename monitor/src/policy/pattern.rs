//! Texts that a policy names: as they are, or with `*` (any characters) and `?` (one).

use std::fmt;

use wildmatch::WildMatch;

/// One text of a policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    Exact(Box<str>),
    Glob { text: Box<str>, glob: WildMatch },
}

impl Pattern {
    pub fn new(text: &str) -> Pattern {
        if text.contains(['*', '?']) {
            return Pattern::Glob { text: text.into(), glob: WildMatch::new(text) };
        }
        Pattern::Exact(text.into())
    }

    pub fn as_str(&self) -> &str {
        match self {
            Pattern::Exact(text) | Pattern::Glob { text, .. } => text,
        }
    }

    pub fn matches(&self, value: &str) -> bool {
        match self {
            Pattern::Exact(text) => **text == *value,
            Pattern::Glob { glob, .. } => glob.matches(value),
        }
    }

    /// What every matching text begins with.
    pub fn prefix(&self) -> &str {
        let text = self.as_str();
        match self {
            Pattern::Exact(_) => text,
            Pattern::Glob { .. } => &text[..text.find(['*', '?']).unwrap_or(text.len())],
        }
    }

    /// What every matching text ends with.
    pub fn suffix(&self) -> &str {
        let text = self.as_str();
        match self {
            Pattern::Exact(_) => text,
            Pattern::Glob { .. } => &text[text.rfind(['*', '?']).map_or(0, |at| at + 1)..],
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().escape_debug().fmt(out)
    }
}
