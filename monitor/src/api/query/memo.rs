//! What a comparison said of what many flows share: who has them, what was found out, how it was judged.
//!
//! In: a flow, and the comparison. Out: its answer, asked once of each such thing, as a rule. Must never: answer for
//! another one that has come to lie where one was. So what is remembered is kept alive.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::column::Column;
use super::field::Side;
use crate::flows::Row;
use crate::model::Direction;

/// A power of two: most hosts have fewer processes with connections.
const PLACES: usize = 1024;

/// Comparisons of one filter that have a memory, of 32 KiB each: a long filter has hundreds.
pub(super) const MOST: usize = 16;

/// What a column is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Facts,
    Verdict,
    Owner,
    Peer,
    Of(Side),
}

impl Whole {
    /// `None`: they are no parts of one thing, or of the flow itself.
    pub fn of(columns: &[Column]) -> Option<Whole> {
        let mut wholes = columns.iter().map(|column| match column {
            Column::Tls(_) | Column::Detail | Column::Protocol => Some(Whole::Facts),
            Column::Answer(_) | Column::Reason(_) | Column::Evidence(_) => Some(Whole::Verdict),
            Column::Owner(_) => Some(Whole::Owner),
            Column::Peer(_) => Some(Whole::Peer),
            Column::Of(side, _) => Some(Whole::Of(*side)),
            _ => None,
        });
        let first = wholes.next()??;
        wholes.all(|whole| whole == Some(first)).then_some(first)
    }
}

/// Answers, each in the place that its thing's address gives it; the last one has it.
#[derive(Debug)]
pub(super) struct Memo {
    whole: Whole,
    answers: Box<[Cell<(usize, bool)>]>,
    kept: RefCell<Vec<Option<Arc<dyn Any + Send + Sync>>>>,
}

impl Memo {
    /// One of those that are `left`; `None`: none is.
    pub fn new(whole: Whole, left: &mut usize) -> Option<Memo> {
        *left = left.checked_sub(1)?;
        let (answers, kept) = (vec![Cell::default(); PLACES].into(), RefCell::new(vec![None; PLACES]));
        Some(Memo { whole, answers, kept })
    }

    /// What `ask` says of a flow, which must depend on nothing but this whole.
    #[inline]
    pub fn answer(&self, row: Row<'_>, ask: impl FnOnce() -> bool) -> bool {
        let Row::Live { flow, .. } = row else { return ask() };
        let is_ours = |side| (side == Side::Client) == (flow.direction == Direction::Egress);
        let end = match self.whole {
            Whole::Facts => return self.of(&flow.facts, ask),
            Whole::Verdict => return self.of(&flow.verdict, ask),
            Whole::Owner => &flow.owner,
            Whole::Of(side) if is_ours(side) => &flow.owner,
            Whole::Peer | Whole::Of(_) => &flow.peer,
        };
        match end {
            Some(identity) => self.of(identity, ask),
            None => ask(),
        }
    }

    fn of<T: Any + Send + Sync>(&self, thing: &Arc<T>, ask: impl FnOnce() -> bool) -> bool {
        let at = Arc::as_ptr(thing).addr();
        let place =
            (at / align_of::<T>()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS - PLACES.ilog2());
        let (known, answer) = self.answers[place].get();
        if known == at {
            return answer;
        }
        let answer = ask();
        self.kept.borrow_mut()[place] = Some(thing.clone());
        self.answers[place].set((at, answer));
        answer
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_thing_is_asked_once_and_none_answers_for_another() {
        let memo = Memo::new(Whole::Facts, &mut 1).unwrap();
        let mut asked = 0;
        for round in 0..3 {
            // Each lies where the one before did, as soon as that may be.
            for number in 0..10_000_u32 {
                let thing = Arc::new(number);
                let is_even = number % 2 == 0;
                assert_eq!(memo.of(&thing, || is_even), is_even, "{round}");
                assert_eq!(memo.of(&thing, || unreachable!("asked before")), is_even);
            }
            let thing = Arc::new(round);
            for _ in 0..100 {
                memo.of(&thing, || {
                    asked += 1;
                    true
                });
            }
        }
        assert_eq!(asked, 3);
    }

    #[test]
    fn a_filter_has_no_more_memories_than_are_left() {
        let mut left = 2;
        let made = [(); 4].map(|()| Memo::new(Whole::Verdict, &mut left).is_some());
        assert_eq!(made, [true, true, false, false]);
    }
}
