use super::*;

const SECOND: u64 = 1_000_000_000;

fn finding() -> Finding {
    Finding {
        rule: Rule::Plaintext,
        subject: "curl → 10.0.0.2:80/tcp".into(),
        severity: Severity::High,
        reason: "r".into(),
        remedy: "m".into(),
        flow: None,
        listener: None,
    }
}

fn flow(n: u32) -> Holder {
    Holder::Flow(FlowId::first_of(n))
}

fn wall(_: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH
}

#[test]
fn what_is_found_again_is_counted_without_words_until_it_shows_something_old() {
    let mut alerts = Alerts::new(10, 30);
    let key = finding().key();
    assert!(!alerts.again(&key, Severity::High, flow(0), 0, wall), "nothing is open");
    alerts.find(finding(), Some(flow(0)), 0, wall);
    assert!(alerts.again(&key, Severity::High, flow(1), SHOWN_FOR - 1, wall));
    assert!(!alerts.again(&key, Severity::Critical, flow(0), 1, wall), "it gets worse");
    assert!(!alerts.again(&key, Severity::High, flow(0), SHOWN_FOR, wall), "what it shows is old");
    assert!(alerts.again(&key, Severity::Low, flow(2), SHOWN_FOR, wall), "what it shows is worse");
    assert!(!alerts.again(&key, Severity::Low, flow(0), 10 * SECOND, wall), "it is to be told again");
    assert_eq!(alerts.open()[0].count, 3);
    for n in 0..3 {
        assert!(alerts.tick(50 * SECOND, wall).is_empty(), "{n} holds it");
        alerts.release(&key, flow(n), 11 * SECOND);
    }
    assert_eq!(alerts.tick(41 * SECOND, wall).len(), 1, "each held it open, and let it go");
    assert!(!alerts.again(&key, Severity::High, flow(0), 42 * SECOND, wall), "it is resolved");
}

#[test]
fn opened_once_repeated_at_a_bounded_rate_resolved_and_opened_again() {
    let mut alerts = Alerts::new(10, 30);
    assert_eq!(alerts.find(finding(), None, 0, wall).map(|a| a.state), Some(AlertState::Opened));
    for second in 1..10 {
        assert!(alerts.find(finding(), None, second * SECOND, wall).is_none());
    }
    let repeated = alerts.find(finding(), None, 10 * SECOND, wall).expect("told again");
    assert_eq!((repeated.state, repeated.count), (AlertState::Repeated, 11));
    assert!(alerts.tick(39 * SECOND, wall).is_empty());
    assert_eq!(alerts.tick(40 * SECOND, wall).len(), 1);
    assert!(alerts.tick(41 * SECOND, wall).is_empty());
    assert_eq!(
        alerts.find(finding(), None, 42 * SECOND, wall).map(|a| (a.state, a.count)),
        Some((AlertState::Opened, 1))
    );
}

fn listening(name: String, uid: u32) -> Finding {
    let owner = crate::model::Identity { name: Some(name.clone()), uid: Some(uid), ..Default::default() };
    let listener = ListenerView { address: "0.0.0.0:1".parse().expect("an address"), owner };
    Finding { rule: Rule::NewService, subject: name, listener: Some(Arc::new(listener)), ..finding() }
}

#[test]
fn a_process_of_many_names_is_one_party_and_the_monitor_itself_is_always_heard() {
    let mut alerts = Alerts::new(10, 30);
    for n in 0..HELD {
        alerts.find(listening(format!("a{n}"), 1000), None, 0, wall);
    }
    assert!(alerts.len() <= HELD / 2, "{}", alerts.len());
    assert!(alerts.find(listening("b".into(), 1001), None, 0, wall).is_some());
    // Even where as many others as there may be fill what they can.
    for n in 0..2 * HELD {
        alerts.find(listening(format!("c{n}"), 5000 + n as u32), None, 0, wall);
    }
    assert!(alerts.find(listening("d".into(), 7), None, 0, wall).is_none());
    for rule in [Rule::MonitorTampered, Rule::EvidenceLost] {
        for n in 0..OWN / 2 {
            let own = Finding { rule, subject: format!("{n}"), ..finding() };
            assert!(alerts.find(own, None, 0, wall).is_some());
        }
    }
    assert_eq!(alerts.len(), HELD);
}

#[test]
fn a_worse_alert_of_a_full_party_takes_the_place_of_its_least_severe_and_oldest() {
    let mut alerts = Alerts::new(10, 30);
    let new = |n: usize, severity, uid| Finding { severity, ..listening(format!("a{n}"), uid) };
    // Others' are older, and as little severe.
    alerts.find(new(0, Severity::Low, 7), Some(flow(0)), 0, wall);
    alerts.find(new(1, Severity::Medium, 1000), Some(flow(0)), 0, wall);
    for n in 2..HELD {
        alerts.find(new(n, Severity::Low, 1000), Some(flow(0)), 0, wall);
    }
    alerts.take_changes();
    let (full, refused) = (alerts.len(), alerts.refused);
    assert!(full <= HELD / 2 + 1 && refused > 0);
    let worse = |n| Finding { rule: Rule::Plaintext, ..new(HELD + n, Severity::Critical, 1000) };
    for n in 0..2 {
        assert!(alerts.find(worse(n), Some(flow(0)), SECOND, wall).is_some(), "no room for what is worse");
    }
    assert_eq!((alerts.len(), alerts.refused, alerts.given_up), (full, refused, 2));
    for (n, severity, uid, stays) in [
        (0, Severity::Low, 7, true),
        (1, Severity::Medium, 1000, true),
        (2, Severity::Low, 1000, false),
        (3, Severity::Low, 1000, false),
        (4, Severity::Low, 1000, true),
    ] {
        assert_eq!(alerts.is_open(&new(n, severity, uid).key()), stays, "{n}");
    }
    // What is no worse does not.
    assert!(alerts.find(new(2, Severity::Low, 1000), Some(flow(0)), SECOND, wall).is_none());
    // Whoever was told of them is told, in the order of the row, and they are kept no longer.
    let gone = [2, 3].map(|n| new(n, Severity::Low, 1000).key());
    let changes = alerts.take_changes();
    assert!(gone.iter().all(|key| changes.contains(&Change::Closed(key.clone()))), "{changes:?}");
    let told = alerts.tick(SECOND, wall);
    assert_eq!(told.iter().map(|alert| &alert.key).collect::<Vec<_>>(), gone.iter().collect::<Vec<_>>());
    for alert in &told {
        assert!(alert.state == AlertState::Resolved && alert.cursor > alerts.open()[0].cursor);
        assert!(alert.reason.starts_with("given up for a worse one"), "{}", alert.reason);
    }
    assert!(alerts.tick(SECOND, wall).is_empty());
    // What somebody knows of stays.
    let known = new(4, Severity::Low, 1000).key();
    alerts.acknowledge(&known, self::known("1970-01-01T01:00:00Z"));
    assert!(alerts.find(worse(2), Some(flow(0)), SECOND, wall).is_some());
    assert!(alerts.is_open(&known) && !alerts.is_open(&new(5, Severity::Low, 1000).key()));
    // Until all are as bad.
    for n in 3..HELD {
        alerts.find(worse(n), Some(flow(0)), SECOND, wall);
    }
    assert_eq!(alerts.len(), full);
    assert!(alerts.is_open(&new(0, Severity::Low, 7).key()), "others' are left alone");
}

#[test]
fn what_was_kept_is_of_its_party_once_it_is_found_again() {
    let mut before = Alerts::new(10, 30);
    let new = |n: usize, severity| Finding { severity, ..listening(format!("a{n}"), 1000) };
    for n in 0..HELD {
        before.find(new(n, Severity::Low), None, 0, wall);
    }
    let mut alerts = Alerts::new(10, 30);
    alerts.restore(before.open().iter().map(SavedAlert::of).collect(), Vec::new(), 0);
    let full = alerts.len();
    for n in 0..HELD {
        alerts.find(new(n, Severity::Low), None, 0, wall);
    }
    assert_eq!(alerts.len(), full, "it has no second half");
    assert!(alerts.find(new(HELD, Severity::High), None, 0, wall).is_some());
    assert_eq!((alerts.len(), alerts.given_up), (full, 1));
}

#[test]
fn what_gets_worse_is_told_at_once_and_the_worst_stays() {
    let mut alerts = Alerts::new(300, 300);
    alerts.find(finding(), None, 0, wall);
    let worse = Finding { severity: Severity::Critical, reason: "public".into(), ..finding() };
    let told = alerts.find(worse, None, SECOND, wall).expect("told");
    assert_eq!((told.state, told.severity, told.count), (AlertState::Repeated, Severity::Critical, 2));
    assert!(alerts.find(finding(), None, 2 * SECOND, wall).is_none());
    assert_eq!(alerts.open()[0].reason, "public");
}

#[test]
fn an_open_flow_holds_its_alert() {
    let mut alerts = Alerts::new(10, 30);
    alerts.find(finding(), Some(flow(0)), 0, wall);
    assert!(alerts.tick(100 * SECOND, wall).is_empty());
    alerts.release(&finding().key(), flow(0), 100 * SECOND);
    assert!(alerts.tick(129 * SECOND, wall).is_empty());
    assert_eq!(alerts.tick(130 * SECOND, wall).len(), 1);
}

#[test]
fn who_held_an_alert_that_was_given_up_does_not_release_the_next() {
    let mut alerts = Alerts::new(10, 30);
    let key = finding().key();
    alerts.find(finding(), Some(flow(0)), 0, wall);
    alerts.find(finding(), Some(flow(1)), 0, wall);
    assert!(alerts.gives_up("", Severity::Critical));
    alerts.find(finding(), Some(flow(2)), SECOND, wall);
    alerts.release(&key, flow(0), 2 * SECOND);
    alerts.release(&key, flow(1), 2 * SECOND);
    assert!(alerts.tick(100 * SECOND, wall).is_empty(), "its flow is open");
    alerts.release(&key, flow(2), 100 * SECOND);
    alerts.release(&key, flow(0), 110 * SECOND);
    assert_eq!(alerts.tick(130 * SECOND, wall).len(), 1, "who does not hold it does not keep it");
}

fn known(until: &str) -> Acknowledgement {
    let until = until.parse().expect("a time");
    Acknowledgement { by: 0, at: Timestamp::UNIX_EPOCH, until, why: "known".into() }
}

#[test]
fn what_is_acknowledged_is_not_repeated_until_then_unless_it_gets_worse() {
    let at = |ns: u64| Timestamp::from_nanosecond(i128::from(ns)).expect("a time");
    let mut alerts = Alerts::new(10, 300);
    assert!(alerts.acknowledge("nobody", known("1970-01-01T00:01:00Z")).is_none());
    alerts.find(finding(), Some(flow(0)), 0, at);
    let told = alerts.acknowledge(&finding().key(), known("1970-01-01T00:01:00Z")).expect("told");
    assert_eq!(told.acknowledged.map(|known| known.by), Some(0));
    assert!(alerts.find(finding(), None, 59 * SECOND, at).is_none());
    let again = alerts.find(finding(), None, 61 * SECOND, at).expect("told again");
    assert_eq!((again.state, again.acknowledged), (AlertState::Repeated, None));
    alerts.acknowledge(&finding().key(), known("1970-01-01T01:00:00Z"));
    let worse = Finding { severity: Severity::Critical, ..finding() };
    assert!(alerts.find(worse, None, 62 * SECOND, at).is_some());
}

#[test]
fn what_was_kept_and_comes_late_is_put_together_with_what_was_seen_meanwhile() {
    let at = |ns: u64| Timestamp::from_nanosecond(i128::from(ns)).expect("a time");
    let mut before = Alerts::new(10, 30);
    let told = before.find(finding(), None, 0, at).expect("told");
    before.note(Arc::new(told));
    before.acknowledge(&finding().key(), known("1970-01-01T01:00:00Z"));
    let other = Finding { subject: "other".into(), ..finding() };
    before.find(other.clone(), None, SECOND, at);
    let open: Vec<SavedAlert> = before.open().iter().map(SavedAlert::of).collect();
    let row: Vec<SavedAlert> = before.after(0).told.iter().map(|alert| SavedAlert::of(alert)).collect();

    let mut late = Alerts::new(10, 30);
    let told = late.find(finding(), None, 100 * SECOND, at).expect("nothing is known yet");
    late.note(Arc::new(told));
    late.take_changes();
    late.restore(open, row, 110 * SECOND);
    let open = late.open();
    assert_eq!(open.len(), 2);
    let both = open.iter().find(|alert| alert.key == finding().key()).expect("both");
    assert_eq!((both.count, both.first_seen), (2, at(0)));
    assert!(both.acknowledged.is_some());
    let row = late.after(0).told;
    assert!(row.len() == 2 && row[0].cursor < row[1].cursor);
    // What was put together is kept.
    let kept = late.take_changes();
    assert!(kept.iter().any(|change| matches!(change, Change::Open(alert) if alert.count == 2)));
    assert!(kept.iter().any(|change| matches!(change, Change::Open(alert) if alert.key == other.key())));
}

#[test]
fn alerts_outlive_the_daemon() {
    let mut alerts = Alerts::new(10, 30);
    let told = alerts.find(finding(), Some(flow(0)), 0, wall).expect("told");
    alerts.note(Arc::new(told));
    let (mut open, mut row) = (Vec::new(), Vec::new());
    for change in alerts.take_changes() {
        match change {
            Change::Open(saved) => open.push(saved),
            Change::Told(saved) => row.push(saved),
            _ => {}
        }
    }
    let mut again = Alerts::new(10, 30);
    again.restore(open, row, 100 * SECOND);
    assert_eq!(again.open().len(), 1);
    assert_eq!(again.after(0).told.len(), 1);
    assert!(again.find(finding(), None, 101 * SECOND, wall).is_none(), "it was opened already");
    assert!(again.tick(130 * SECOND, wall).is_empty());
    let resolved = again.tick(131 * SECOND, wall);
    assert_eq!(resolved.len(), 1);
    assert!(resolved[0].cursor > again.after(0).told[0].cursor);
    assert!(again.take_changes().contains(&Change::Closed(finding().key())));
}

#[test]
fn what_was_kept_and_is_not_held_is_kept_no_longer() {
    let one = SavedAlert::of(&view_of(&finding()));
    let open = (0..HELD).map(|n| SavedAlert { key: format!("{n:06}"), ..one.clone() }).collect();
    let mut alerts = Alerts::new(10, 30);
    alerts.restore(open, Vec::new(), 0);
    assert_eq!(alerts.open().len(), HELD - OWN);
    let gone = (HELD - OWN..HELD).map(|n| Change::Closed(format!("{n:06}")));
    assert_eq!(alerts.take_changes(), gone.collect::<Vec<_>>());
}

/// As it is told.
fn view_of(finding: &Finding) -> AlertView {
    Alerts::new(10, 30).find(finding.clone(), None, 0, wall).expect("told")
}

#[test]
fn counts_are_kept_at_the_end() {
    let mut alerts = Alerts::new(10, 30);
    alerts.find(finding(), Some(flow(0)), 0, wall);
    alerts.find(finding(), None, SECOND, wall);
    alerts.take_changes();
    alerts.keep_all();
    let kept = alerts.take_changes();
    assert!(matches!(kept.as_slice(), [Change::Open(alert)] if alert.count == 2), "{kept:?}");
}
