//! More than the tables hold: it is told, totals stay, and others keep what they have.

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
