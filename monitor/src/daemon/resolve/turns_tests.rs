#![allow(clippy::unwrap_used)]

use super::*;
use crate::identity::test_executables::{pretend_to_read, version};

const SECOND: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;
const SLICE: u64 = 4 * MIB;

/// Of which nobody knows more than its number and size.
fn file(number: u64, size: u64) -> Executable {
    Executable::of(1, version(number, size))
}

#[derive(Default)]
struct Rig {
    turns: Turns<u64>,
}

impl Rig {
    fn ask(&mut self, uid: u32, number: u64, size: u64, now_ns: u64) -> bool {
        self.turns.ask(file(number, size), uid, number, now_ns).is_ok()
    }

    /// One turn: who had it, and who is answered.
    fn turn(&mut self, now_ns: u64) -> Option<(u32, Vec<u64>)> {
        let (uid, mut executable) = self.turns.next(now_ns)?;
        let bytes = SLICE.min(executable.left());
        pretend_to_read(&mut executable, bytes);
        if executable.left() > 0 {
            self.turns.read(uid, executable, bytes, now_ns);
            return Some((uid, Vec::new()));
        }
        Some((uid, self.turns.done(uid, &executable.version(), bytes, now_ns)))
    }
}

#[test]
fn one_users_large_files_cost_anothers_small_one_a_turn() {
    let mut rig = Rig::default();
    for number in 0..100 {
        assert!(rig.ask(7, number, 511 * MIB, 0));
    }
    for _ in 0..10 {
        assert_eq!(rig.turn(0), Some((7, vec![])));
    }
    assert!(rig.ask(8, 200, MIB, 0));
    let answers: Vec<Vec<u64>> = (0..2).map(|_| rig.turn(0).unwrap().1).collect();
    assert!(answers.concat() == [200], "{answers:?}");
    // Its own small one comes first as well.
    assert!(rig.ask(7, 201, MIB, 0));
    assert_eq!(rig.turn(0), Some((7, vec![201])));
}

#[test]
fn what_a_user_may_have_read_is_bounded_and_takes_nothing_from_others() {
    let mut rig = Rig::default();
    let mut bytes = 0;
    for tenth in 0..600 {
        let now_ns = tenth * SECOND / 10;
        for number in 0..20 {
            rig.ask(7, tenth * 20 + number, 400 * MIB, now_ns);
        }
        while rig.turn(now_ns).is_some() {
            bytes += SLICE;
        }
        rig.turns.overdue(false, now_ns);
        assert!(rig.ask(8, 1_000_000 + tenth, MIB, now_ns));
        assert_eq!(rig.turn(now_ns), Some((8, vec![1_000_000 + tenth])), "{tenth}");
    }
    let a_minute = 64 * u64::from(PER_S);
    assert!(bytes >= a_minute - 4 * u64::from(PER_S) && bytes <= a_minute + 2 * SLICE, "{}", bytes / MIB);
}

#[test]
fn all_users_together_are_bounded_too() {
    let mut rig = Rig::default();
    for uid in 1..100 {
        rig.ask(uid, uid.into(), 500 * MIB, 0);
    }
    let turns = std::iter::from_fn(|| rig.turn(0)).count() as u64;
    assert_eq!(turns, u64::from(PER_S_OF_ALL) * 4 / SLICE);
    assert!(rig.turn(SECOND).is_some());
}

#[test]
fn a_file_is_read_once_for_all_who_wait_and_at_the_cost_of_any_of_them() {
    let mut rig = Rig::default();
    // Its user has no credit left, and smaller files before it.
    assert!(rig.ask(7, 1, 500 * MIB, 0));
    while rig.turn(0).is_some() {}
    let large = file(2, 8 * MIB);
    assert!(rig.turns.ask(large, 7, 20, 0).is_ok());
    assert_eq!(rig.turn(0), None);
    assert!(
        rig.turns.ask(file(2, 8 * MIB), 8, 21, 0).is_ok()
            && rig.turns.ask(file(2, 8 * MIB), 8, 22, 0).is_ok()
    );
    assert_eq!(rig.turn(0), Some((8, vec![])));
    assert_eq!(rig.turn(0), Some((8, vec![20, 21, 22])));
    assert_eq!(rig.turn(0), None);
}

#[test]
fn no_answer_waits_for_longer_than_it_may() {
    let mut rig = Rig::default();
    assert!(rig.ask(7, 1, 500 * MIB, 0) && rig.ask(8, 2, 500 * MIB, SECOND));
    assert!(rig.turn(SECOND).is_some());
    assert_eq!(rig.turns.overdue(false, PATIENCE - 1), Vec::<u64>::new());
    let late = [rig.turns.overdue(false, PATIENCE), rig.turns.overdue(false, PATIENCE + SECOND)];
    assert_eq!(late, [[1], [2]]);
    // One was begun, and is read to its end; the other is not wanted any more.
    assert_eq!(rig.turns.files.len(), 1);
    rig.turns.overdue(false, READ_ON);
    assert!(rig.turns.is_empty());
    // Where a read does not return, nobody waits.
    assert!(rig.ask(7, 3, MIB, 0) && rig.ask(7, 4, MIB, 0));
    let _stuck = rig.turns.next(0).unwrap();
    assert_eq!(rig.turns.overdue(true, 1).len(), 2);
}

#[test]
fn who_asks_for_much_leaves_room_for_others() {
    let mut rig = Rig::default();
    let asked = (0..3000).filter(|number| rig.ask(7, *number, MIB, 0)).count();
    assert_eq!(asked, MOST_FILES / 2);
    let others = (3000..6000).filter(|number| rig.ask(8, *number, MIB, 0)).count();
    assert_eq!(others, MOST_FILES / 4);
    // Of one file, too.
    let mut rig = Rig::default();
    let asked = (0..3000).filter(|_| rig.ask(7, 1, MIB, 0)).count();
    assert_eq!(asked, MOST_ANSWERS / 2);
    assert!(rig.ask(8, 1, MIB, 0));
    while rig.turn(0).is_some() {}
    assert!(rig.turns.is_empty() && rig.turns.users.iter().all(|user| user.answers == 0));
}

#[test]
fn users_without_number_share_a_credit_and_those_who_are_done_make_room() {
    let mut rig = Rig::default();
    for uid in 1..=1000 {
        rig.ask(uid, uid.into(), MIB, 0);
    }
    assert!(rig.turns.users.len() <= MOST_USERS + 1);
    let others = rig.turns.files.values().filter(|wanted| wanted.users == [OTHERS]).count();
    assert!(others > 0);
    assert!(rig.ask(ROOT, 5000, MIB, 0), "root has a credit of its own");
    assert!(rig.turns.users.iter().any(|user| user.uid == ROOT));
    while rig.turn(0).is_some() {}
    rig.turns.overdue(true, 0);
    // All credit is back after a while.
    rig.ask(2000, 6000, MIB, 9 * SECOND);
    let uids: Vec<u32> = rig.turns.users.iter().map(|user| user.uid).collect();
    assert_eq!(uids, [2000]);
}
