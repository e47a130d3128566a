//! More than the tables hold: it is told, totals stay, and others keep what they have.

use proptest::prelude::*;

use super::*;

fn loss(records: &[Record]) -> Vec<(String, String, u64, u64, u64)> {
    let rows = records.iter().filter_map(|record| match record {
        Record::Loss(loss) => Some(&loss.rows),
        _ => None,
    });
    rows.flatten()
        .map(|row| (row.stage.clone(), row.kind.clone(), row.offered, row.delivered, row.lost))
        .collect()
}

#[test]
fn what_a_table_has_no_room_for_is_a_loss_record_and_an_alert() {
    let mut rig = Rig::new(CoreSettings { capacity: 4, streams: 2, ..settings() });
    for cookie in 1..=6 {
        let to = format!("10.0.0.2:{}", 8000 + cookie);
        let open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), &to, false);
        rig.feed(Kind::Open, open);
        rig.records();
    }
    rig.pass(2 * SECOND);
    rig.core.event(Event::Counters(Box::default()), rig.now_ns);
    let told = rig.records();
    let rows = loss(&told);
    assert!(rows.contains(&("table".into(), "flow".into(), 6, 4, 2)), "{rows:?}");
    assert!(rows.contains(&("table".into(), "stream".into(), 6, 2, 4)), "{rows:?}");
    let alert = alerts(&told).into_iter().find(|alert| alert.rule == Rule::EvidenceLost).unwrap();
    assert!(alert.reason.contains("2 flow at table") && alert.remedy.contains("flows.capacity"), "{alert:?}");
    // What is lost on the way out is a loss, and no evidence.
    let row = LossRow {
        stage: "sink".into(),
        kind: "flow".into(),
        offered: 9,
        delivered: 2,
        lost: 7,
        lost_bytes: 0,
    };
    rig.core.note_stages(vec![row]);
    rig.core.event(Event::Counters(Box::default()), rig.now_ns);
    let told = rig.records();
    assert_eq!(loss(&told), [("sink".into(), "flow".into(), 9, 2, 7)]);
    assert!(alerts(&told).is_empty());
    rig.core.event(Event::Counters(Box::default()), rig.now_ns);
    assert!(loss(&rig.records()).is_empty(), "told once");
}

#[test]
fn what_a_detector_had_no_room_for_is_a_loss_record_and_an_alert() {
    let mut rig = Rig::new(settings());
    for n in 0..5_000_u32 {
        let remote = format!("10.{}.{}.9:{}", n / 200, n % 200, 1_000 + n).parse().unwrap();
        let flow = FlowView { direction: Direction::Egress, remote, ..crate::record::samples::flow() };
        rig.core.watching.failed(&Arc::new(flow), rig.now_ns);
    }
    let scans = rig.core.table_views().into_iter().find(|table| table.name == "scans").unwrap();
    assert_eq!((scans.used, scans.capacity, scans.evicted), (4_096, 4_096, 10_000 - 4_096));
    rig.core.event(Event::Counters(Box::default()), rig.now_ns);
    let told = rig.records();
    let rows = loss(&told);
    assert!(rows.contains(&("table".into(), "scan".into(), 10_000, 4_096, 5_904)), "{rows:?}");
    let alert = alerts(&told).into_iter().find(|alert| alert.rule == Rule::EvidenceLost).unwrap();
    assert!(alert.reason.contains("5904 scan at table"), "{alert:?}");
}

/// The settings of a small host: 1,000 flows.
fn small() -> CoreSettings {
    CoreSettings { capacity: 1_000, closed_keep: 200, streams: 2_000, ..settings() }
}

fn of_cgroup(event: FlowEvent, cgroup: u64, tgid: u32) -> FlowEvent {
    FlowEvent { owner: Owner { cgroup, tgid, ..event.owner }, ..event }
}

fn throttles(records: &[Record]) -> Vec<(bool, u32, u64)> {
    let told = records.iter().filter_map(|record| match record {
        Record::Throttle(it) => Some((it.begins, it.cgroup, it.given_up)),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_noisy_cgroup_pushes_out_nobody_else() {
    const NOISE: u64 = 200_000;
    let mut rig = Rig::new(small());
    let quiet = |rig: &Rig, cookie: u64| {
        let at = format!("10.0.0.1:{}", 20_000 + cookie);
        of_cgroup(rig.event(Kind::Open, cookie, &at, SERVER, false), 7, 77)
    };
    for cookie in 1..=100 {
        let open = quiet(&rig, cookie);
        rig.feed(Kind::Open, open);
        // Half of its first bytes: what is to come decides.
        rig.capture(&open, true, 0, &REQUEST[..10]);
    }
    rig.records();
    // Half of them close before the noise begins.
    for cookie in 51..=100 {
        let open = quiet(&rig, cookie);
        rig.capture(&open, true, 10, &REQUEST[10..]);
        rig.feed(Kind::Close, FlowEvent { sent_bytes: 100, received_bytes: 10, ..open });
    }
    rig.records();
    let mut told = Vec::new();
    for n in 0..NOISE {
        let at = format!(
            "10.{}.{}.{}:{}",
            1 + n / 60_000_000,
            n / 50_000 % 250,
            n / 250 % 200,
            10_000 + n % 50_000
        );
        let open = of_cgroup(rig.event(Kind::Open, 1_000 + n, &at, "10.9.9.9:443", false), 666, 6);
        rig.feed(Kind::Open, open);
        rig.feed(Kind::Progress, FlowEvent { sent_bytes: 3, ..open });
        if n % 4 == 0 {
            rig.feed(Kind::Close, FlowEvent { sent_bytes: 3, ..open });
        }
        if n % 1_000 == 0 {
            rig.pass(5_000_000);
            told.extend(rig.records());
        }
    }
    told.extend(rig.records());
    rig.pass(SECOND);
    told.extend(rig.records());
    assert_eq!(throttles(&told), [(true, 666, 1)]);
    assert_eq!(rig.core.throttle_counts()[0].name.as_deref(), Some("p6 (uid 6)"));
    assert!(rig.core.table.len() <= 1_000);
    // The quiet one's flows and their evidence are there, and so is what is kept of those that have closed.
    for cookie in 1..=50 {
        let open = quiet(&rig, cookie);
        rig.capture(&open, true, 10, &REQUEST[10..]);
        rig.capture(&open, false, 0, RESPONSE);
    }
    told.extend(rig.records());
    let mut listed = Vec::new();
    rig.core.flows(rig.now_ns).each(|row| {
        listed.push(row.view());
        std::ops::ControlFlow::Continue(())
    });
    let of_quiet = |flow: &&Arc<FlowView>| flow.owner.pid == Some(77);
    let (open, closed): (Vec<_>, Vec<_>) =
        listed.iter().filter(of_quiet).partition(|flow| flow.state != FlowState::Closed);
    assert_eq!((open.len(), closed.len()), (50, 50));
    for flow in &open {
        assert_eq!(flow.verdict.encrypted.answer, Answer::No, "{flow:?}");
        assert_eq!(flow.verdict.watched.answer, Answer::Yes, "{flow:?}");
    }
    // Every byte of both is counted.
    assert_eq!(rig.core.total_bytes().0, 50 * 100 + 3 * NOISE);
    assert_eq!(rig.core.total_bytes().1, 50 * 10);
    // It is over when nothing has been given up for a while.
    rig.pass(11 * SECOND);
    let over = throttles(&rig.records());
    assert_eq!(over.len(), 1, "{over:?}");
    assert!(!over[0].0 && over[0].1 == 666 && over[0].2 > 100_000, "{over:?}");
    assert!(rig.core.throttle_counts().is_empty());
}

/// Those of a share: whether it begins, of whom, how many, and their name.
fn throttles_of(records: &[Record], of: Shared) -> Vec<(bool, u32, u64, Option<String>)> {
    let told = records.iter().filter_map(|record| match record {
        Record::Throttle(it) if it.of == of => Some((it.begins, it.cgroup, it.given_up, it.name.clone())),
        _ => None,
    });
    told.collect()
}

#[test]
fn who_fills_the_room_for_first_bytes_is_told_when_it_begins_and_is_over() {
    let mut rig = Rig::new(CoreSettings { capacity: 10_000, ..settings() });
    // A record of TLS that does not come to its end.
    let bytes = [&[22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xfb, 3, 3][..], &[7; 8_000]].concat();
    let mut told = Vec::new();
    for cookie in 1..=4_000_u64 {
        let at = format!("10.1.{}.{}:30000", cookie / 250, cookie % 250);
        let open = of_cgroup(rig.event(Kind::Open, cookie, &at, "10.9.9.9:443", false), 666, 6);
        rig.feed(Kind::Open, open);
        rig.capture(&open, true, 0, &bytes);
        told.extend(rig.records());
    }
    let begun = throttles_of(&told, Shared::FirstBytes);
    assert_eq!(begun.len(), 1, "{begun:?}");
    assert_eq!((begun[0].0, begun[0].1, begun[0].2), (true, 666, 1));
    let counts = rig.core.throttle_counts();
    assert_eq!((counts.len(), counts[0].of, counts[0].cgroup), (1, Shared::FirstBytes, 666));
    assert_eq!(counts[0].given_up, rig.core.evidence_cut);
    // Nobody else is.
    let open = of_cgroup(rig.event(Kind::Open, 9_000, CLIENT, SERVER, false), 7, 77);
    rig.feed(Kind::Open, open);
    rig.capture(&open, true, 0, &bytes);
    rig.pass(11 * SECOND);
    let told = rig.records();
    let over = throttles_of(&told, Shared::FirstBytes);
    assert_eq!(over.len(), 1, "{over:?}");
    assert_eq!((over[0].0, over[0].1, over[0].2), (false, 666, rig.core.evidence_cut));
    assert!(throttles(&told).iter().all(|(_, cgroup, _)| *cgroup == 666));
}

#[test]
fn whose_captures_the_ring_has_no_room_for_is_told_when_it_begins_and_is_over() {
    let mut rig = Rig::new(settings());
    let lost = |rig: &mut Rig, cookie: u64, cgroup: u64, captures: u32| {
        let at = format!("10.0.0.1:{}", 20_000 + cookie);
        let open = of_cgroup(rig.event(Kind::Open, cookie, &at, SERVER, false), cgroup, cgroup as u32);
        rig.feed(Kind::Open, open);
        let told = rig.records();
        rig.feed(Kind::Progress, FlowEvent { lost_captures: captures / 2, ..open });
        rig.feed(Kind::Close, FlowEvent { lost_captures: captures, ..open });
        [told, rig.records()].concat()
    };
    // One or the other is no ring that is full.
    let mut told = lost(&mut rig, 1, 7, 2);
    // Of this one the beginning was lost, too.
    let close = of_cgroup(rig.event(Kind::Close, 2, "10.0.0.1:20002", SERVER, false), 666, 666);
    rig.feed(Kind::Close, FlowEvent { lost_captures: 9, ..close });
    told.extend(rig.records());
    assert!(throttles_of(&told, Shared::Ring).is_empty(), "{told:?}");
    let told = lost(&mut rig, 3, 666, 9);
    assert_eq!(throttles_of(&told, Shared::Ring), [(true, 666, 18, Some("p666 (uid 666)".into()))]);
    let told = lost(&mut rig, 4, 666, 30);
    assert!(throttles_of(&told, Shared::Ring).is_empty(), "told once");
    let counts = rig.core.throttle_counts();
    assert_eq!((counts.len(), counts[0].of, counts[0].given_up), (1, Shared::Ring, 48));
    rig.pass(11 * SECOND);
    let told = rig.records();
    assert_eq!(throttles_of(&told, Shared::Ring), [(false, 666, 48, Some("p666 (uid 666)".into()))]);
    assert!(rig.core.throttle_counts().is_empty());
}

#[test]
fn those_that_lost_too_little_to_be_told_hide_nobody_who_lost_much() {
    let mut rig = Rig::new(settings());
    let lost = |rig: &mut Rig, cgroup: u32, captures: u64| {
        rig.core.throttled(Shared::Ring, cgroup, None, captures, rig.now_ns);
        throttles(&rig.records())
    };
    for cgroup in 1..5_000 {
        assert!(lost(&mut rig, cgroup, 1).is_empty());
    }
    assert_eq!(lost(&mut rig, 6_000, 16), [(true, 6_000, 16)]);
    // Nor do those that are told take more than there is room for.
    let told: usize = (10_000..15_000).map(|cgroup| lost(&mut rig, cgroup, 16).len()).sum();
    assert_eq!((told, rig.core.throttle_counts().len()), (1_023, 1_024));
    rig.pass(11 * SECOND);
    assert_eq!(throttles(&rig.records()).len(), 1_024);
    assert!(rig.core.throttle_counts().is_empty());
    assert_eq!(lost(&mut rig, 6_000, 16), [(true, 6_000, 16)]);
}

#[test]
fn a_noisy_party_leaves_streams_and_alerts_to_others() {
    let mut rig = Rig::new(CoreSettings { capacity: 10_000, streams: 100, ..settings() });
    for n in 0..1_000_u64 {
        let to = format!("10.9.{}.{}:80", n / 250, 1 + n % 250);
        let open = of_cgroup(rig.event(Kind::Open, 1_000 + n, "10.0.0.1:30000", &to, false), 666, 6);
        rig.feed(Kind::Open, open);
        rig.feed(Kind::Close, FlowEvent { sent_bytes: 3, ..open });
        rig.records();
    }
    let open = of_cgroup(rig.event(Kind::Open, 1, CLIENT, SERVER, false), 7, 77);
    rig.feed(Kind::Open, open);
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 5, ..open });
    rig.records();
    let bytes = |key: &str| {
        rig.core.streams.iter().find(|it| it.key.to_string() == key).map(|it| (it.flows, it.client_bytes))
    };
    assert_eq!(bytes("p77 (uid 77) → 10.0.0.2:8080/tcp"), Some((1, 5)));
    assert_eq!(bytes("uid:6 → (others):0/tcp"), Some((950, 2_850)), "named as whose they are");
    assert_eq!(rig.core.streams.refused, 950);
    assert_eq!(rig.core.total_bytes().0, 3_005);
}

/// Whoever names itself at length is held to as much as is free, and others have room.
#[test]
fn identities_of_streams_are_bounded_and_shared() {
    let mut rig = Rig::new(CoreSettings { capacity: 10_000, ..small() });
    let made = |rig: &mut Rig, n: u64, uid: u32, long: usize| {
        let to = format!("10.9.{}.{}:80", n / 250, 1 + n % 250);
        let tgid = 1_000 + n as u32;
        let open = of_cgroup(rig.event(Kind::Open, 1 + n, "10.0.0.1:30000", &to, false), 666, tgid);
        rig.feed(Kind::Open, open);
        let key = crate::flows::key_of(&open);
        let seen = ProcessSeen { tgid, ..ProcessSeen::default() };
        let identity = Identity {
            pid: Some(tgid),
            uid: Some(uid),
            name: Some(format!("p{n}")),
            command_line: Some("x".repeat(long)),
            ..Identity::default()
        };
        rig.core.found(Found::Owner { key, seen, identity: Arc::new(identity) }, rig.now_ns);
        rig.feed(Kind::Close, FlowEvent { sent_bytes: 3, ..open });
        rig.records();
    };
    // As many bytes as are held at most, five times.
    let most = crate::flows::IDENTITY_BYTES >> 20;
    for n in 0..5 * most as u64 {
        made(&mut rig, n, 1000, 1 << 20);
    }
    let streams = rig.core.streams.len();
    assert!((most / 2 - 2..=most / 2 + 2).contains(&streams), "{streams}");
    made(&mut rig, 500, 1001, 100);
    assert!(rig.core.streams.iter().any(|it| it.key.to_string().starts_with("p500 (uid 1001) → ")));
    assert!(rig.core.streams.refused > 3 * most as u64);
}

/// What so many flows of a table of 16 have counted, in the totals, by stream and by class; and what is not told
/// apart.
fn counted(rig: &Rig) -> (u64, u64, u64, u64) {
    let streams = rig.core.streams.iter().map(|stream| stream.client_bytes).sum();
    let classes = rig.core.class_bytes().iter().map(|class| class.bytes).sum();
    (rig.core.total_bytes().0, streams, classes, rig.core.sums.forgotten.open)
}

/// Beyond three times the table's size, flows are remembered by groups only: nothing counts twice when they are
/// heard of again, what is left out until a group is whole is told, and in the end every byte is there.
#[test]
fn flows_that_were_forgotten_count_once_when_they_are_heard_of_again() {
    const FLOWS: u64 = 400;
    let mut rig = Rig::new(CoreSettings { capacity: 16, closed_keep: 0, ..settings() });
    let event = |rig: &Rig, kind, cookie: u64| {
        rig.event(kind, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false)
    };
    for cookie in 1..=FLOWS {
        let open = event(&rig, Kind::Open, cookie);
        rig.feed(Kind::Open, open);
        rig.records();
        rig.feed(Kind::Progress, FlowEvent { sent_bytes: 10, ..open });
        rig.pass(2 * SECOND);
        rig.records();
    }
    assert_eq!(counted(&rig), (10 * FLOWS, 10 * FLOWS, 10 * FLOWS, 0));
    // Each goes on, and is pushed out again by the next.
    for cookie in 1..=FLOWS {
        let more = event(&rig, Kind::Progress, cookie);
        rig.feed(Kind::Progress, FlowEvent { sent_bytes: 30, ..more });
        rig.pass(2 * SECOND);
        rig.records();
        let (total, streams, classes, open) = counted(&rig);
        let truth = 10 * FLOWS + 20 * cookie;
        assert_eq!((total, total), (streams, classes));
        assert!(total <= truth && truth <= total + open, "{total} and {open}, of {truth}");
    }
    let told = rig.core.table_losses().into_iter().find(|row| row.kind == "pushed_out").unwrap();
    assert!(told.lost > 0 && told.lost_bytes > 0, "{told:?}");
    let open = |rig: &Rig| {
        rig.core.table_views().iter().find(|it| it.name == "bytes_not_told_apart").map(|it| it.used)
    };
    assert!(open(&rig) > Some(0));
    for cookie in 1..=FLOWS {
        let close = event(&rig, Kind::Close, cookie);
        rig.feed(Kind::Close, FlowEvent { sent_bytes: 37, ..close });
        rig.records();
    }
    assert_eq!(counted(&rig), (37 * FLOWS, 37 * FLOWS, 37 * FLOWS, 0));
    assert_eq!(open(&rig), Some(0));
}

/// The server's end of a connection does not count where the client's does, pushed out or not.
#[test]
fn an_end_that_does_not_count_does_not_count_when_it_is_heard_of_again() {
    let mut rig = Rig::new(CoreSettings { capacity: 4, closed_keep: 0, ..settings() });
    for (cookie, passive) in [(1, false), (2, true)] {
        let (local, remote) = if passive { (SERVER, CLIENT) } else { (CLIENT, SERVER) };
        let open = rig.event(Kind::Open, cookie, local, remote, passive);
        rig.feed(Kind::Open, open);
    }
    rig.records();
    let (client, server) = (
        rig.event(Kind::Progress, 1, CLIENT, SERVER, false),
        rig.event(Kind::Progress, 2, SERVER, CLIENT, true),
    );
    rig.feed(Kind::Progress, FlowEvent { sent_bytes: 10, ..client });
    rig.feed(Kind::Progress, FlowEvent { received_bytes: 10, ..server });
    rig.pass(2 * SECOND);
    rig.records();
    assert_eq!(rig.core.total_bytes(), (10, 0));
    for cookie in 3..=7 {
        let open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false);
        rig.feed(Kind::Open, open);
        rig.records();
    }
    rig.feed(Kind::Progress, FlowEvent { received_bytes: 20, ..server });
    rig.pass(2 * SECOND);
    rig.records();
    assert_eq!(rig.core.total_bytes(), (20, 0), "the client's end has not told of more yet");
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 20, ..client });
    rig.feed(Kind::Close, FlowEvent { received_bytes: 20, ..server });
    rig.records();
    assert_eq!(rig.core.total_bytes(), (20, 0));
}

/// A row of a table: what came, what it took, what it had no room for.
fn row(rig: &Rig, kind: &str) -> (u64, u64, u64) {
    let rows = rig.core.table_losses();
    let row = rows.iter().find(|row| row.kind == kind);
    row.map(|row| (row.offered, row.delivered, row.lost)).unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// What is counted beside them: by what was told, and by what is there.
    #[test]
    fn rows_of_tables_are_what_came_and_is_held_and_has_ended_and_was_pushed_out(
        capacity in 2usize..24,
        streams in 2usize..24,
        steps in proptest::collection::vec((0usize..16, 0u8..8), 0..160),
    ) {
        let mut rig = Rig::new(CoreSettings { capacity, streams, ..settings() });
        let mut open: Vec<Option<FlowEvent>> = vec![None; 16];
        let (mut made, mut listening, mut told) = (0, 0, Vec::new());
        let ends = (0..16).map(|place| (place, 0));
        for (place, what) in steps.into_iter().chain(ends) {
            rig.now_ns += SECOND / 1000;
            let at_ns = rig.now_ns;
            match (open[place], what) {
                (Some(event), 0..=2) => {
                    let kind = Kind::Close;
                    rig.feed(kind, FlowEvent { kind: kind as u8, at_ns, sent_bytes: 9, ..event });
                    open[place] = None;
                }
                (Some(event), 3..=6) => {
                    let kind = Kind::Progress;
                    rig.feed(kind, FlowEvent { kind: kind as u8, at_ns, sent_bytes: 5, ..event });
                }
                (None, 1..=6) => {
                    made += 1;
                    let (at, to) = (format!("10.0.0.1:{}", 20_000 + made), format!("10.0.0.2:{}", 1000 + made));
                    let event = rig.event(Kind::Open, made, &at, &to, false);
                    rig.feed(Kind::Open, event);
                    open[place] = Some(event);
                }
                (_, 7) => {
                    listening += 1;
                    let event = rig.event(Kind::Listen, 1_000_000 + listening, "10.0.0.1:1", "0.0.0.0:0", true);
                    rig.feed(Kind::Listen, event);
                }
                _ => {}
            }
            if what % 2 == 0 {
                told.extend(rig.records());
            }
        }
        told.extend(rig.records());
        rig.pass(2 * SECOND);
        told.extend(rig.records());
        let count = |wanted: FlowAction| flows(&told).iter().filter(|(action, _)| *action == wanted).count() as u64;
        // Here no flow is told of in between unless it is pushed out.
        let (held, closed, pushed) =
            (rig.core.table.ids().len() as u64, count(FlowAction::FlowClosed), count(FlowAction::FlowProgress));
        let (offered, _, lost) = row(&rig, "flow");
        prop_assert_eq!((offered, lost), (held + closed + pushed, pushed));
        prop_assert_eq!(row(&rig, "pushed_out").0, pushed);
        let held = rig.core.listeners.len() as u64;
        prop_assert_eq!(row(&rig, "listener"), (listening, held, listening - held));
        if pushed == 0 {
            // Those that found no room count together, for their client.
            let of = |is_others: bool| {
                let streams = rig.core.streams.iter();
                let of = streams.filter(|it| it.key.to_string().contains("(others)") == is_others);
                of.map(|stream| stream.flows).sum::<u64>()
            };
            prop_assert_eq!(row(&rig, "stream"), (made, of(false), of(true)));
        }
    }
}
