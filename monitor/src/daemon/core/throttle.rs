//! Cgroups that have to give something up, because they fill more than their share of what is full, or there was no room
//! in the kernel's ring: told when that begins and when it is over.

use super::*;
use crate::model::ThrottleView;
use crate::status::ThrottleCount;

/// Nothing given up for so long: it is over, ns.
const OVER: u64 = 10_000_000_000;

/// Cgroups that are told as throttled at a time. A table that is full of as many is not one noisy cgroup's. As many more
/// are counted that lost too little to be told, and begin anew where there are more.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Throttles {
    now: HashMap<(u32, Shared), Throttle>,
    /// How many of them are told.
    told: usize,
}

#[derive(Debug)]
struct Throttle {
    name: Option<String>,
    since_ns: u64,
    last_ns: u64,
    given_up: u64,
    is_told: bool,
}

/// So much given up is worth a word. A capture or two of a flow can be lost for other reasons than the ring's: its
/// headers were too many, or it waited for an accept.
const fn enough(of: Shared) -> u64 {
    match of {
        Shared::Flows | Shared::FirstBytes => 1,
        Shared::Ring => 16,
    }
}

impl Core {
    /// Something of a cgroup had to go for another one.
    pub(super) fn throttled(
        &mut self,
        of: Shared,
        cgroup: u32,
        name: Option<String>,
        count: u64,
        now_ns: u64,
    ) {
        let throttles = &mut self.throttles;
        if throttles.now.len() - throttles.told >= MOST && !throttles.now.contains_key(&(cgroup, of)) {
            throttles.now.retain(|_, it| it.is_told);
        }
        let throttle = throttles.now.entry((cgroup, of)).or_insert_with(|| Throttle {
            name: None,
            since_ns: now_ns,
            last_ns: now_ns,
            given_up: 0,
            is_told: false,
        });
        throttle.last_ns = throttle.last_ns.max(now_ns);
        throttle.given_up += count;
        throttle.name = throttle.name.take().or(name);
        if throttle.is_told || throttle.given_up < enough(of) || throttles.told >= MOST {
            return;
        }
        throttle.is_told = true;
        throttles.told += 1;
        let view = view(self.clock, of, cgroup, throttle, true, now_ns);
        self.out.records.push(Record::Throttle(view));
    }

    /// A flow of which the kernel lost so many captures more.
    pub(super) fn captures_lost(&mut self, id: FlowId, count: u32, now_ns: u64) {
        if count == 0 {
            return;
        }
        let Some(flow) = self.table.get(id) else { return };
        let (cgroup, name) = (flow.cgroup, label(&flow));
        drop(flow);
        self.throttled(Shared::Ring, cgroup, name, count.into(), now_ns);
    }

    /// Tells of those that are through with it.
    pub(super) fn end_throttles(&mut self, now_ns: u64) {
        let mut over: Vec<((u32, Shared), Throttle)> =
            self.throttles.now.extract_if(|_, it| now_ns.saturating_sub(it.last_ns) >= OVER).collect();
        over.retain(|(_, throttle)| throttle.is_told);
        self.throttles.told -= over.len();
        over.sort_by_key(|(of, _)| *of);
        for ((cgroup, of), throttle) in over {
            let view = view(self.clock, of, cgroup, &throttle, false, now_ns);
            self.out.records.push(Record::Throttle(view));
        }
    }

    /// For `status`.
    pub(in crate::daemon) fn throttle_counts(&self) -> Vec<ThrottleCount> {
        let count = |(&(cgroup, of), throttle): (&(u32, Shared), &Throttle)| ThrottleCount {
            cgroup,
            of,
            name: throttle.name.clone(),
            given_up: throttle.given_up,
        };
        let told = self.throttles.now.iter().filter(|(_, throttle)| throttle.is_told);
        let mut counts: Vec<ThrottleCount> = told.map(count).collect();
        counts
            .sort_by(|a, b| b.given_up.cmp(&a.given_up).then(a.cgroup.cmp(&b.cgroup)).then(a.of.cmp(&b.of)));
        counts
    }
}

/// Whose a flow is, where that is known.
pub(super) fn label(flow: &Flow) -> Option<String> {
    flow.owner.as_ref().map(|owner| owner.label())
}

fn view(
    clock: Clock,
    of: Shared,
    cgroup: u32,
    throttle: &Throttle,
    begins: bool,
    now_ns: u64,
) -> ThrottleView {
    ThrottleView {
        at: clock.wall(now_ns),
        begins,
        of,
        cgroup,
        name: throttle.name.clone(),
        since: clock.wall(throttle.since_ns),
        given_up: throttle.given_up,
    }
}
