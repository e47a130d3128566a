//! Cgroups that have to give flows up, because they fill more than their share of a full table: told when
//! that begins and when it is over.

use super::*;
use crate::model::ThrottleView;
use crate::status::ThrottleCount;

/// Nothing given up for so long: it is over, ns.
const OVER: u64 = 10_000_000_000;

/// Cgroups that are throttled at a time. A table that is full of as many is not one noisy cgroup's.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Throttles {
    now: HashMap<u32, Throttle>,
    /// Times that it began.
    began: u64,
}

#[derive(Debug)]
struct Throttle {
    name: Option<String>,
    since_ns: u64,
    last_ns: u64,
    given_up: u64,
}

impl Core {
    /// A flow of a cgroup had to go for another one.
    pub(super) fn throttled(&mut self, flow: &Flow, now_ns: u64) {
        let throttles = &mut self.throttles;
        if let Some(throttle) = throttles.now.get_mut(&flow.cgroup) {
            throttle.last_ns = now_ns;
            throttle.given_up += 1;
            return;
        }
        if throttles.now.len() >= MOST {
            return;
        }
        let name = flow.owner.as_ref().map(|owner| owner.label());
        let throttle = Throttle { name, since_ns: now_ns, last_ns: now_ns, given_up: 1 };
        let view = self.throttle_view(flow.cgroup, &throttle, true, now_ns);
        self.throttles.began += 1;
        self.throttles.now.insert(flow.cgroup, throttle);
        self.out.records.push(Record::Throttle(view));
    }

    /// Tells of those that are through with it.
    pub(super) fn end_throttles(&mut self, now_ns: u64) {
        let mut over: Vec<(u32, Throttle)> =
            self.throttles.now.extract_if(|_, it| now_ns.saturating_sub(it.last_ns) >= OVER).collect();
        over.sort_by_key(|(cgroup, _)| *cgroup);
        for (cgroup, throttle) in over {
            let view = self.throttle_view(cgroup, &throttle, false, now_ns);
            self.out.records.push(Record::Throttle(view));
        }
    }

    fn throttle_view(&self, cgroup: u32, throttle: &Throttle, begins: bool, now_ns: u64) -> ThrottleView {
        ThrottleView {
            at: self.clock.wall(now_ns),
            begins,
            cgroup,
            name: throttle.name.clone(),
            since: self.clock.wall(throttle.since_ns),
            given_up: throttle.given_up,
        }
    }

    /// For `status`.
    pub(in crate::daemon) fn throttle_counts(&self) -> Vec<ThrottleCount> {
        let count = |(cgroup, throttle): (&u32, &Throttle)| ThrottleCount {
            cgroup: *cgroup,
            name: throttle.name.clone(),
            given_up: throttle.given_up,
        };
        let mut counts: Vec<ThrottleCount> = self.throttles.now.iter().map(count).collect();
        counts.sort_by(|a, b| b.given_up.cmp(&a.given_up).then(a.cgroup.cmp(&b.cgroup)));
        counts
    }
}
