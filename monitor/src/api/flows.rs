//! A listing of flows: walked beside the core, judged by columns, cut to what was asked for.
//!
//! Must never hold more of a million flows than it was asked for: beyond [`VIEWS`] only where each one
//! lies.

use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::query::{Candidate, Key, Plan, Selection};
use crate::flows::{FlowsReader, Place, Row};
use crate::model::FlowView;
use crate::record::{Context, ecs};

/// Flows held as they were met; those beyond are read again when they are written.
const VIEWS: usize = 1024;

/// One flow that was asked for.
#[derive(Debug)]
pub(super) enum Item {
    Met(Arc<FlowView>),
    At(Place),
}

/// The flows that were asked for, in order.
pub(super) fn select(flows: &FlowsReader, selection: &Selection, context: &Context) -> Vec<Item> {
    let now = flows.now();
    let record_of = |view: &FlowView| -> Value {
        let mut line = Vec::new();
        ecs::encode_flow(context, view, now, &mut line);
        // Our own line is JSON; if ever not, it is a record without fields.
        serde_json::from_slice(&line).unwrap_or_default()
    };
    let plan = Plan::new(selection);
    let limit = selection.limit.unwrap_or(usize::MAX);
    if limit == 0 {
        return Vec::new();
    }
    let mut chosen = Chosen { plan: &plan, limit, kept: Vec::new(), met: 0, worst: None };
    let each = |row: Row<'_>| {
        let candidate = Candidate::new(row, &record_of);
        let is_wanted = !chosen.is_behind_at_once(&candidate) && plan.matches(&candidate);
        if is_wanted { chosen.take(row, &candidate) } else { ControlFlow::Continue(()) }
    };
    if plan.looks() {
        flows.each_apart(each);
    } else {
        flows.each(each);
    }
    let mut items = chosen.items();
    // As they stand now, rather than when the client comes to read them.
    for item in items.iter_mut().take(VIEWS) {
        if let Item::At(place) = item
            && let Some(view) = flows.view(*place)
        {
            *item = Item::Met(Arc::new(view));
        }
    }
    items
}

/// Appends a flow; nothing where it has ended since it was met.
pub(super) fn encode(flows: &FlowsReader, item: &Item, context: &Context, now: Timestamp, out: &mut Vec<u8>) {
    match item {
        Item::Met(view) => ecs::encode_flow(context, view, now, out),
        Item::At(place) => {
            if let Some(view) = flows.view(*place) {
                ecs::encode_flow(context, &view, now, out);
            }
        }
    }
}

/// What was chosen so far.
struct Chosen<'a> {
    plan: &'a Plan,
    limit: usize,
    /// With the number of the flow in the walk, which decides between equals.
    kept: Vec<(Key, u64, Item)>,
    met: u64,
    /// What comes behind this is not among those that were asked for.
    worst: Option<Key>,
}

impl Chosen<'_> {
    /// Whether it would not be chosen even if it matched, where that is quicker to say than whether it does.
    fn is_behind_at_once(&self, candidate: &Candidate<'_>) -> bool {
        matches!(self.worst, Some(Key::Number(_))) && self.is_behind(candidate)
    }

    fn is_behind(&self, candidate: &Candidate<'_>) -> bool {
        self.worst.as_ref().is_some_and(|worst| !self.plan.is_before(candidate, worst))
    }

    fn take(&mut self, row: Row<'_>, candidate: &Candidate<'_>) -> ControlFlow<()> {
        self.met += 1;
        if self.is_behind(candidate) {
            return ControlFlow::Continue(());
        }
        let item = row.place().map_or_else(|| Item::Met(row.view()), Item::At);
        self.kept.push((self.plan.key(candidate), self.met, item));
        if !self.plan.sorts() {
            return if self.kept.len() < self.limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            };
        }
        if self.kept.len() >= self.limit.saturating_mul(2).max(1024) {
            self.cut();
        }
        ControlFlow::Continue(())
    }

    /// Lets go of what is not among the first, as many as were asked for.
    fn cut(&mut self) {
        if self.kept.len() <= self.limit {
            return;
        }
        let plan = self.plan;
        let last = self.limit - 1;
        self.kept.select_nth_unstable_by(last, |one, other| {
            plan.compare(&one.0, &other.0).then(one.1.cmp(&other.1))
        });
        self.kept.truncate(self.limit);
        self.worst = self.kept.last().map(|(key, ..)| key.clone());
    }

    fn items(mut self) -> Vec<Item> {
        if self.plan.sorts() {
            self.cut();
            let plan = self.plan;
            self.kept.sort_unstable_by(|one, other| plan.compare(&one.0, &other.0).then(one.1.cmp(&other.1)));
        }
        self.kept.into_iter().map(|(_, _, item)| item).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::query::Sort;
    use super::*;
    use crate::model::Count;
    use crate::record::samples;
    use proptest::prelude::*;

    fn asked(flows: &FlowsReader, filter: &str, sort: Option<&str>, limit: Option<usize>) -> Vec<u64> {
        let selection = Selection {
            filter: (!filter.is_empty()).then(|| filter.parse().unwrap()),
            sort: sort.map(|sort| Sort::parse(sort).unwrap()),
            limit,
        };
        let items = select(flows, &selection, &samples::context());
        let bytes = items.iter().map(|item| match item {
            Item::Met(view) => view.sent.bytes,
            Item::At(_) => panic!("a flow that does not live"),
        });
        bytes.collect()
    }

    fn of_bytes(bytes: &[u64]) -> FlowsReader {
        let flow = |bytes| FlowView {
            sent: Count { bytes, packets: 1 },
            received: Count { bytes: 0, packets: 0 },
            ..samples::flow()
        };
        FlowsReader::of(bytes.iter().map(|bytes| Arc::new(flow(*bytes))).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        /// As sorting everything and cutting would give; equals stay in order.
        #[test]
        fn the_first_of_many(bytes in proptest::collection::vec(0u64..5000, 0..4000), limit in 0usize..60) {
            let flows = of_bytes(&bytes);
            let mut sorted = bytes.clone();
            sorted.sort_unstable_by_key(|bytes| std::cmp::Reverse(*bytes));
            sorted.truncate(limit);
            prop_assert_eq!(asked(&flows, "", Some("bytes:desc"), Some(limit)), sorted);
            let wanted: Vec<u64> = bytes.iter().copied().filter(|bytes| *bytes > 2500).take(limit).collect();
            prop_assert_eq!(asked(&flows, "bytes > 2500", None, Some(limit)), wanted);
            // Of more than are kept at a time, where a flow is sorted out before it is looked at.
            let mut least: Vec<u64> = bytes.iter().copied().filter(|bytes| *bytes > 2500).collect();
            least.sort_unstable();
            least.truncate(limit);
            prop_assert_eq!(asked(&flows, "bytes > 2500", Some("bytes"), Some(limit)), least);
            let first: Vec<u64> = bytes.iter().copied().filter(|bytes| *bytes > 2500).take(limit).collect();
            prop_assert_eq!(asked(&flows, "bytes > 2500", Some("server.port"), Some(limit)), first);
            // By a field that all have alike: the order stays.
            let few = of_bytes(&bytes[..bytes.len().min(100)]);
            let first: Vec<u64> = bytes.iter().copied().take(limit).collect();
            prop_assert_eq!(asked(&flows, "", Some("server.port"), Some(limit)), first.clone());
            prop_assert_eq!(asked(&few, "", Some("event.category"), Some(limit)), first);
        }
    }
}
