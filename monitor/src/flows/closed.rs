//! The last closed flows, for listings: as many as there is room for, of every cgroup its share.

use std::collections::VecDeque;
use std::sync::Arc;

use super::shares::Shares;
use crate::model::FlowView;

#[derive(Debug)]
pub(super) struct Closed {
    keep: usize,
    shares: Shares,
    /// By share, with their place in the row of all.
    queues: Vec<VecDeque<(u64, Arc<FlowView>)>>,
    next: u64,
}

impl Closed {
    pub fn new(keep: usize) -> Self {
        Closed { keep, shares: Shares::default(), queues: Vec::new(), next: 0 }
    }

    /// Keeps one more; the oldest of who has most goes for it.
    pub fn add(&mut self, cgroup: u32, view: Arc<FlowView>) {
        if self.keep == 0 {
            return;
        }
        if self.shares.total() >= self.keep
            && let Some(share) = self.shares.victim()
        {
            self.queues[share as usize].pop_front();
            self.shares.remove(share);
        }
        let share = self.shares.add(cgroup) as usize;
        if self.queues.len() <= share {
            self.queues.resize_with(share + 1, VecDeque::new);
        }
        self.next += 1;
        self.queues[share].push_back((self.next, view));
    }

    /// All of them, in the order in which they were closed.
    pub fn all(&self) -> Vec<Arc<FlowView>> {
        let mut all: Vec<_> = self.queues.iter().flatten().collect();
        all.sort_unstable_by_key(|(place, _)| *place);
        all.into_iter().map(|(_, view)| view.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples;

    #[test]
    fn a_noisy_cgroup_pushes_out_its_own() {
        let mut closed = Closed::new(10);
        let view = |id: u64| Arc::new(FlowView { id: id.to_string(), ..samples::flow() });
        for id in 0..3 {
            closed.add(1, view(id));
        }
        for id in 10..1000 {
            closed.add(2, view(id));
        }
        let ids: Vec<String> = closed.all().iter().map(|view| view.id.clone()).collect();
        assert_eq!(ids, ["0", "1", "2", "993", "994", "995", "996", "997", "998", "999"]);
    }
}
