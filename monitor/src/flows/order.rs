//! The places of flows in order of arrival: a doubly linked list, eight bytes a place.

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

#[derive(Debug)]
pub(super) struct Order {
    links: Vec<Link>,
    first: u32,
    last: u32,
}

impl Default for Order {
    fn default() -> Self {
        Order { links: Vec::new(), first: NONE, last: NONE }
    }
}

impl Order {
    pub fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// A place that is not in there.
    pub fn push_back(&mut self, index: u32) {
        let at = index as usize;
        if self.links.len() <= at {
            self.links.resize(at + 1, Link { before: NONE, after: NONE });
        }
        self.links[at] = Link { before: self.last, after: NONE };
        match self.links.get_mut(self.last as usize) {
            Some(last) => last.after = index,
            None => self.first = index,
        }
        self.last = index;
    }

    /// A place that is in there.
    pub fn remove(&mut self, index: u32) {
        let Link { before, after } = self.links[index as usize];
        match self.links.get_mut(before as usize) {
            Some(link) => link.after = after,
            None => self.first = after,
        }
        match self.links.get_mut(after as usize) {
            Some(link) => link.before = before,
            None => self.last = before,
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
            let mut queue = VecDeque::new();
            for index in steps {
                if let Some(at) = queue.iter().position(|other| *other == index) {
                    queue.remove(at);
                    order.remove(index);
                } else {
                    queue.push_back(index);
                    order.push_back(index);
                }
                prop_assert_eq!(order.first(), queue.front().copied());
            }
            while let Some(index) = queue.pop_front() {
                prop_assert_eq!(order.first(), Some(index));
                order.remove(index);
            }
            prop_assert_eq!(order.first(), None);
        }
    }
}
