//! The flows of one UDP socket: a ring of places, found by one of them.
//!
//! A server may have tens of thousands of peers, so they must not share a bucket.

use super::places::Places;

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    /// One place a socket.
    heads: Places,
    links: Vec<Link>,
}

impl Peers {
    /// The place that stands for a socket; `is_of` tells whether a place's flow is of it.
    pub fn head(&self, hash: u64, is_of: impl Fn(u32) -> bool) -> Option<u32> {
        self.heads.candidates(hash).find(|index| is_of(*index))
    }

    /// Adds a place to the ring of `head`, or begins one.
    pub fn insert(&mut self, hash: u64, head: Option<u32>, index: u32) {
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, Link { before: 0, after: 0 });
        }
        let Some(head) = head else {
            self.links[index as usize] = Link { before: index, after: index };
            self.heads.insert(hash, index);
            return;
        };
        let after = self.links[head as usize].after;
        self.links[index as usize] = Link { before: head, after };
        self.links[head as usize].after = index;
        self.links[after as usize].before = index;
    }

    /// Takes a place out of its ring.
    pub fn remove(&mut self, hash: u64, index: u32) {
        let Link { before, after } = self.links[index as usize];
        if self.heads.remove(hash, index) && after != index {
            self.heads.insert(hash, after);
        }
        self.links[before as usize].after = after;
        self.links[after as usize].before = before;
    }

    /// The ring of a place.
    pub fn ring(&self, head: u32) -> impl Iterator<Item = u32> {
        let mut next = Some(head);
        std::iter::from_fn(move || {
            let index = next?;
            let after = self.links[index as usize].after;
            next = (after != head).then_some(after);
            Some(index)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_seven(peers: &Peers) -> Vec<u32> {
        let mut all: Vec<u32> =
            peers.head(7 << 32, |_| true).map(|head| peers.ring(head).collect()).unwrap_or_default();
        all.sort_unstable();
        all
    }

    #[test]
    fn a_ring_holds_what_was_put_in_whoever_stands_for_it() {
        let mut peers = Peers::default();
        for index in 0..5 {
            let head = peers.head(7 << 32, |_| true);
            peers.insert(7 << 32, head, index);
        }
        peers.insert(8 << 32, None, 9);
        assert_eq!(of_seven(&peers), [0, 1, 2, 3, 4]);
        let head = peers.head(7 << 32, |_| true).unwrap_or_default();
        peers.remove(7 << 32, head);
        peers.remove(7 << 32, 3);
        assert_eq!(of_seven(&peers), [1, 2, 4]);
        for index in [1, 2, 4] {
            peers.remove(7 << 32, index);
        }
        assert!(of_seven(&peers).is_empty());
    }
}
