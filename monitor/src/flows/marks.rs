//! Small sets that a flow carries: what it was told, what looked at it, and the rules that it holds.

use crate::model::Rule;

/// What a bit is enough for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u8);

impl Marks {
    /// The record that it opened was written.
    pub const TOLD_OPENED: Marks = Marks(1);
    /// The record that it is settled was written.
    pub const TOLD_SETTLED: Marks = Marks(2);
    /// Its socket had another connection before.
    pub const AGAIN: Marks = Marks(4);
    /// It was asked whether it goes through a tunnel, and is not known yet.
    pub const WAY_UNKNOWN: Marks = Marks(8);
    /// Nobody has answered that since it was asked; nothing is told of it before, for a moment.
    pub const WAY_AWAITED: Marks = Marks(16);
    /// There is a flow that has the addresses of its other end, and nobody knows whose the network namespace of one of the two
    /// is.
    pub const OTHER_END_UNSURE: Marks = Marks(32);

    /// Its end was heard.
    pub(super) const CLOSED: Marks = Marks(64);
    /// Who began it is guessed, by its ports.
    pub const BEGUN_BY_GUESS: Marks = Marks(128);

    pub fn has(self, which: Marks) -> bool {
        self.0 & which.0 != 0
    }

    pub fn set(&mut self, which: Marks, value: bool) {
        self.0 = if value { self.0 | which.0 } else { self.0 & !which.0 };
    }
}

/// What looked at a flow and need not look again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detected(u8);

impl Detected {
    pub const PLAINTEXT: Detected = Detected(1);
    pub const UNEXPECTED: Detected = Detected(2);
    /// How it is encrypted, since its facts last changed.
    pub const POSTURE: Detected = Detected(4);
    pub const HANDSHAKE: Detected = Detected(8);
    /// That a client logged in, where that cannot be read.
    pub const LOGGED_IN: Detected = Detected(16);

    pub fn has(self, which: Detected) -> bool {
        self.0 & which.0 != 0
    }

    pub fn insert(&mut self, which: Detected) {
        self.0 |= which.0;
    }

    pub fn remove(&mut self, which: Detected) {
        self.0 &= !which.0;
    }
}

/// A set of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds(u32);

impl Holds {
    pub fn has(self, rule: Rule) -> bool {
        let mut with = self;
        !with.insert(rule)
    }

    /// True where it was not in there.
    pub fn insert(&mut self, rule: Rule) -> bool {
        let before = self.0;
        self.0 |= Self::bit(rule);
        self.0 != before
    }

    /// True where it was in there.
    pub fn remove(&mut self, rule: Rule) -> bool {
        let before = self.0;
        self.0 &= !Self::bit(rule);
        self.0 != before
    }

    pub fn iter(self) -> impl Iterator<Item = Rule> {
        Rule::ALL.into_iter().filter(move |rule| self.0 & Self::bit(*rule) != 0)
    }

    fn bit(rule: Rule) -> u32 {
        const { assert!(Rule::ALL.len() <= 32) };
        1 << rule as u32
    }
}
