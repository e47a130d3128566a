//! The places of flows in order of arrival, for each share of its own: doubly linked lists, eight bytes a
//! place. Whoever asks knows which share a place is in.

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
}

#[derive(Debug, Default)]
pub(super) struct Order {
    links: Vec<Link>,
    /// By share.
    ends: Vec<Ends>,
}

impl Order {
    /// The one that has been in a share for longest.
    pub fn first(&self, share: u32) -> Option<u32> {
        self.ends.get(share as usize).map(|ends| ends.first).filter(|first| *first != NONE)
    }

    /// A place that is not in there.
    pub fn push_back(&mut self, index: u32, share: u32) {
        let (at, of) = (index as usize, share as usize);
        if self.links.len() <= at {
            self.links.resize(at + 1, Link { before: NONE, after: NONE });
        }
        if self.ends.len() <= of {
            self.ends.resize(of + 1, Ends { first: NONE, last: NONE });
        }
        let ends = &mut self.ends[of];
        self.links[at] = Link { before: ends.last, after: NONE };
        match self.links.get_mut(ends.last as usize) {
            Some(last) => last.after = index,
            None => ends.first = index,
        }
        ends.last = index;
    }

    /// A place that is in this share.
    pub fn remove(&mut self, index: u32, share: u32) {
        let Link { before, after } = self.links[index as usize];
        let ends = &mut self.ends[share as usize];
        match self.links.get_mut(before as usize) {
            Some(link) => link.after = after,
            None => ends.first = after,
        }
        match self.links.get_mut(after as usize) {
            Some(link) => link.before = before,
            None => ends.last = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// As a queue from which anything can be taken.
        #[test]
        fn the_order_is_that_of_arrival(steps in proptest::collection::vec(0u32..16, 0..200)) {
            let mut order = Order::default();
            let mut queues = [const { VecDeque::new() }; 3];
            for index in steps {
                let share = index % 3;
                let queue: &mut VecDeque<u32> = &mut queues[share as usize];
                if let Some(at) = queue.iter().position(|other| *other == index) {
                    queue.remove(at);
                    order.remove(index, share);
                } else {
                    queue.push_back(index);
                    order.push_back(index, share);
                }
                prop_assert_eq!(order.first(share), queue.front().copied());
            }
            for (share, mut queue) in (0..).zip(queues) {
                while let Some(index) = queue.pop_front() {
                    prop_assert_eq!(order.first(share), Some(index));
                    order.remove(index, share);
                }
                prop_assert_eq!(order.first(share), None);
            }
        }
    }
}
