//! The wall clock steps by hours, either way, or stands still while the host sleeps: labels follow it, and
//! nothing that is computed does.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::record::text::Style;
use crate::record::{Encoder, Format, samples};

const HOUR: i128 = 3600 * SECOND as i128;
/// 2026, about.
const NOW: i128 = 1_770_000_000 * SECOND as i128;

#[derive(Clone, Debug)]
enum Step {
    /// So much time passes, ns.
    Pass(u64),
    /// The wall clock is set, hours.
    Set(i64),
    /// The host sleeps: the wall clock goes on, and CLOCK_MONOTONIC does not. Hours.
    Sleep(u8),
    Open,
    Progress(u64),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3 * SECOND).prop_map(Step::Pass),
        1 => (-20_000_i64..20_000).prop_map(Step::Set),
        1 => any::<u8>().prop_map(Step::Sleep),
        2 => Just(Step::Open),
        3 => (0_u64..1_000_000).prop_map(Step::Progress),
        1 => Just(Step::Close),
    ]
}

fn encoded(record: &Record) -> Value {
    let mut out = Vec::new();
    Encoder::new(Format::Ecs, samples::context(), Style::default()).encode(record, &mut out);
    serde_json::from_slice(&out).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn durations_and_rates_follow_no_wall_clock(steps in proptest::collection::vec(step(), 1..120)) {
        let mut rig = Rig::new(settings());
        let began_ns = rig.now_ns;
        let mut offset = NOW;
        let (mut cookie, mut bytes, mut open) = (0_u64, 0_u64, None::<FlowEvent>);
        let mut cursor = 0;
        for step in steps {
            match step {
                Step::Pass(ns) => rig.now_ns += ns,
                Step::Set(hours) => offset = NOW + i128::from(hours) * HOUR,
                Step::Sleep(hours) => offset += i128::from(hours) * HOUR,
                Step::Open if open.is_none() => {
                    cookie += 1;
                    let event = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 20_000 + cookie), SERVER, false);
                    rig.feed(Kind::Open, event);
                    rig.capture(&event, true, 0, REQUEST);
                    rig.capture(&event, false, 0, RESPONSE);
                    (open, bytes) = (Some(event), 0);
                }
                Step::Progress(more) => {
                    if let Some(event) = open {
                        bytes += more;
                        let at_ns = rig.now_ns;
                        rig.feed(Kind::Progress, FlowEvent { sent_bytes: bytes, at_ns, ..event });
                    }
                }
                Step::Close => {
                    if let Some(event) = open.take() {
                        let at_ns = rig.now_ns;
                        rig.feed(Kind::Close, FlowEvent { sent_bytes: bytes, at_ns, ..event });
                    }
                }
                Step::Open => {}
            }
            rig.core.tick(rig.now_ns, Clock::at(offset));
            let passed = rig.now_ns - began_ns;
            for record in rig.records() {
                let line = encoded(&record);
                if let Some(duration) = line["event"].get("duration") {
                    prop_assert!(duration.as_u64().is_some_and(|ns| ns <= passed), "{} of {passed}", duration);
                    let time = |name: &str| line["event"][name].as_str().and_then(|at| at.parse::<Timestamp>().ok());
                    let (Some(start), end) = (time("start"), time("end")) else {
                        panic!("no start: {line}")
                    };
                    let end = end.unwrap_or(start);
                    // Both are labels of one clock: what lies between them is no step.
                    prop_assert!(start <= end, "{line}");
                    prop_assert!((end.as_nanosecond() - start.as_nanosecond()) as u64 <= passed, "{line}");
                }
                if let Record::Alert { alert, .. } = &record {
                    prop_assert!(alert.cursor > cursor, "a cursor went back");
                    cursor = alert.cursor;
                    prop_assert!(alert.first_seen <= alert.last_seen);
                    // The only traffic there is in the clear; no rate departs from what was never usual.
                    prop_assert!(alert.rule == Rule::Plaintext, "{:?}: {}", alert.rule, alert.reason);
                }
            }
        }
        for view in rig.core.overall.views(None).iter().filter(|view| view.unit == "ns") {
            // A histogram rounds to three digits.
            prop_assert!(view.max <= (rig.now_ns - began_ns) / 1000 * 1001 + 1000, "{view:?}");
        }
    }
}
