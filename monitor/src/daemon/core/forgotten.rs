//! What flows had counted that a full table pushed out so long ago that they are no longer remembered one by one.
//!
//! In: flows that are forgotten, and flows that are heard of again. Out: what of the latter's totals, which are
//! cumulative, is in the sums already. Must never: grow with the traffic, or have a byte counted twice.
//!
//! Forgotten flows are held by groups, of which only sums are kept: how many, the sum (exclusive or) of their
//! hashes, and of their bytes. A group of one is that flow. Of a larger one nobody can tell what each had
//! counted, but what all had is known: when the last of them was heard of again, their totals less that sum
//! are what had not been counted. Until then that is left out, and told to be.

/// Bytes of client and server.
pub(super) type Bytes = (u64, u64);

/// What is known of a flow that is heard of again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// It was never counted.
    Never,
    /// It had counted so much.
    Counted(Bytes),
    /// It does not count: its other end does.
    Elsewhere,
    /// It may have counted any part of its bytes. What all of its group had not counted: known now that it was
    /// the last of them.
    Unsure(Option<Bytes>),
}

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Flows that were not heard of since.
    inside: u32,
    /// Flows that were, and could not be told apart.
    back: u32,
    /// There is one that does not count.
    elsewhere: bool,
    /// Of all that came and went.
    hashes: u64,
    /// What they had counted when they were forgotten; what they had all in all when they were heard of.
    counted: Bytes,
    had: Bytes,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Forgotten {
    /// Empty until something is forgotten. With fewer flows than groups, most are alone in theirs.
    groups: Vec<Group>,
    size: usize,
    /// Flows that could not be told apart, and their bytes by then: ever.
    pub unsure: (u64, u64),
    /// Bytes that may or may not be in the sums, now.
    pub open: u64,
}

impl Forgotten {
    /// In so many groups, 56 bytes each.
    pub fn new(groups: usize) -> Self {
        Forgotten { groups: Vec::new(), size: groups.max(1), unsure: (0, 0), open: 0 }
    }

    fn group(&mut self, hash: u64) -> Option<&mut Group> {
        let at = self.place(hash);
        self.groups.get_mut(at)
    }

    fn place(&self, hash: u64) -> usize {
        (hash % self.size as u64) as usize
    }

    /// A flow is no longer remembered. `counted`: `None` where it does not count.
    pub fn forget(&mut self, hash: u64, counted: Option<Bytes>) {
        if self.groups.is_empty() {
            self.groups = vec![Group::default(); self.size];
        }
        let Some(group) = self.group(hash) else { return };
        group.inside = group.inside.saturating_add(1);
        group.hashes ^= hash;
        group.elsewhere |= counted.is_none();
        group.counted = plus(group.counted, counted.unwrap_or_default());
    }

    /// Whether a flow may be one of them.
    pub fn may_hold(&self, hash: u64) -> bool {
        self.groups.get(self.place(hash)).is_some_and(|group| match group {
            Group { inside: 1, back: 0, hashes, .. } => *hashes == hash,
            group => group.inside > 0,
        })
    }

    /// A flow is heard of that may be one of them. `bytes`: those that are not counted, if none of it was when it was
    /// forgotten; of one whose other end counts, none.
    pub fn heard(&mut self, hash: u64, bytes: Bytes) -> Before {
        if !self.may_hold(hash) {
            return Before::Never;
        }
        let at = self.place(hash);
        let Some(group) = self.groups.get_mut(at) else { return Before::Never };
        if (group.inside, group.back) == (1, 0) {
            let alone = std::mem::take(group);
            return if alone.elsewhere { Before::Elsewhere } else { Before::Counted(alone.counted) };
        }
        group.hashes ^= hash;
        group.back = group.back.saturating_add(1);
        group.had = plus(group.had, bytes);
        self.unsure.0 += 1;
        self.unsure.1 = self.unsure.1.saturating_add(bytes.0.saturating_add(bytes.1));
        self.open = self.open.saturating_add(bytes.0.saturating_add(bytes.1));
        if group.inside > 1 || group.hashes != 0 {
            // A stranger, whose beginning was lost, may have been taken for one of them: the last stays.
            group.inside = group.inside.saturating_sub(1).max(1);
            return Before::Unsure(None);
        }
        let all = std::mem::take(group);
        if all.elsewhere {
            // Not to be known any more: it stays open.
            return Before::Unsure(None);
        }
        self.open = self.open.saturating_sub(all.had.0.saturating_add(all.had.1));
        Before::Unsure(Some(less(all.had, all.counted)))
    }
}

pub(super) fn plus(a: Bytes, b: Bytes) -> Bytes {
    (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
}

pub(super) fn less(a: Bytes, b: Bytes) -> Bytes {
    (a.0.saturating_sub(b.0), a.1.saturating_sub(b.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn a_flow_alone_in_its_group_is_told_apart() {
        let mut forgotten = Forgotten::new(1);
        assert_eq!(forgotten.heard(hash(1), (5, 5)), Before::Never);
        forgotten.forget(hash(1), Some((3, 4)));
        assert_eq!(forgotten.heard(hash(2), (5, 5)), Before::Never);
        assert_eq!(forgotten.heard(hash(1), (5, 5)), Before::Counted((3, 4)));
        assert_eq!(forgotten.heard(hash(1), (5, 5)), Before::Never);
        forgotten.forget(hash(1), None);
        assert_eq!(forgotten.heard(hash(1), (5, 5)), Before::Elsewhere);
        assert_eq!((forgotten.unsure, forgotten.open), ((0, 0), 0));
    }

    #[test]
    fn a_group_is_known_when_the_last_was_heard_of() {
        let mut forgotten = Forgotten::new(1);
        for number in 1..=5 {
            forgotten.forget(hash(number), Some((number, 0)));
        }
        for number in 2..=5 {
            assert_eq!(forgotten.heard(hash(number), (100, 10)), Before::Unsure(None));
            // It is forgotten once more, with what it had by then.
            if number == 3 {
                forgotten.forget(hash(3), Some((100, 10)));
                assert_eq!(forgotten.heard(hash(3), (101, 10)), Before::Unsure(None));
            }
        }
        assert_eq!(forgotten.open, 4 * 110 + 111);
        // 501 is what all five have in the end, less 15 that had been counted; the third's first hundred and its
        // ten are in both sums.
        assert_eq!(forgotten.heard(hash(1), (100, 10)), Before::Unsure(Some((501 - 15, 50))));
        assert_eq!(forgotten.open, 0);
        assert_eq!(forgotten.heard(hash(1), (100, 10)), Before::Never);
    }

    #[test]
    fn a_stranger_is_never_taken_for_the_last() {
        let mut forgotten = Forgotten::new(1);
        for number in 1..=3 {
            forgotten.forget(hash(number), Some((7, 0)));
        }
        for number in [1, 9, 2, 3] {
            assert_eq!(forgotten.heard(hash(number), (10, 0)), Before::Unsure(None), "{number}");
        }
        assert_eq!((forgotten.open, forgotten.unsure), (40, (4, 40)));
    }
}
