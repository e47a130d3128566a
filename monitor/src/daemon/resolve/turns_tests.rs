#![allow(clippy::unwrap_used)]

use std::os::fd::AsFd;

use super::*;
use crate::identity::test_executables::{pretend_to_read, version};
use crate::identity::{Hashes, TestDirectory};

const SECOND: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;
const SLICE: u64 = 4 * MIB;

/// Of which nobody knows more than its number and size.
fn file(number: u64, size: u64) -> Executable {
    Executable::of(1, version(number, size))
}

fn named(uid: u32) -> Who {
    Who::User { uid, is_named: true }
}

fn nameless(uid: u32) -> Who {
    Who::User { uid, is_named: false }
}

fn uid(who: &Who) -> u32 {
    match who {
        Who::User { uid, .. } => *uid,
        _ => panic!("{who:?}"),
    }
}

#[derive(Default)]
struct Rig {
    turns: Turns<u64>,
}

impl Rig {
    fn ask(&mut self, uid: u32, number: u64, size: u64, now_ns: u64) -> bool {
        self.ask_of(&named(uid), number, size, now_ns)
    }

    fn ask_of(&mut self, who: &Who, number: u64, size: u64, now_ns: u64) -> bool {
        self.turns.ask(file(number, size), who, number, now_ns).is_ok()
    }

    /// One turn that does not end: whose it is.
    fn hangs(&mut self, now_ns: u64) -> Option<u32> {
        self.turns.next(now_ns).map(|_| uid(&self.turns.reading.as_ref().unwrap().0))
    }

    /// One turn: who had it, and who is answered.
    fn turn(&mut self, now_ns: u64) -> Option<(u32, Vec<u64>)> {
        self.turn_that_takes(0, now_ns)
    }

    fn turn_that_takes(&mut self, ns: u64, now_ns: u64) -> Option<(u32, Vec<u64>)> {
        let mut executable = self.turns.next(now_ns)?;
        let uid = uid(&self.turns.reading.as_ref().unwrap().0);
        let bytes = SLICE.min(executable.left());
        pretend_to_read(&mut executable, bytes);
        let cost = Cost { bytes, ns };
        if executable.left() > 0 {
            self.turns.read(executable, cost, now_ns);
            return Some((uid, Vec::new()));
        }
        Some((uid, self.turns.done(&executable.version(), cost, now_ns)))
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
    assert!(rig.turns.ask(large, &named(7), 20, 0).is_ok());
    assert_eq!(rig.turn(0), None);
    assert!(
        rig.turns.ask(file(2, 8 * MIB), &named(8), 21, 0).is_ok()
            && rig.turns.ask(file(2, 8 * MIB), &named(8), 22, 0).is_ok()
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
    // Where a read does not return, nobody waits, and nothing else is read on.
    assert!(rig.ask(7, 3, 500 * MIB, 0) && rig.turn(0).is_some());
    assert!(rig.ask(7, 4, MIB, 0));
    let _stuck = rig.turns.next(0).unwrap();
    assert_eq!(rig.turns.overdue(true, 1).len(), 2);
    assert_eq!((rig.turns.files.len(), rig.turns.next(0).is_none()), (1, true));
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
    assert!(rig.ask(0, 5000, MIB, 0), "root has a credit of its own");
    assert!(rig.turns.users.iter().any(|user| is_root(&user.who)));
    while rig.turn(0).is_some() {}
    rig.turns.overdue(true, 0);
    // All credit is back after a while.
    rig.ask(2000, 6000, MIB, 9 * SECOND);
    let uids: Vec<u32> = rig.turns.users.iter().map(|user| uid(&user.who)).collect();
    assert_eq!(uids, [2000]);
}

/// One of many numbers, or one with a name: of the others' time, they cost a small share.
#[test]
fn whose_reads_hang_rests_so_that_others_are_kept_waiting_for_a_small_share_of_the_time() {
    let took = 2 * SECOND;
    for many in [nameless, |_| named(7)] {
        let mut rig = Rig::default();
        let (mut hung, mut now_ns) = (0, 0);
        while now_ns < 1000 * SECOND {
            let tick = now_ns / (SECOND / 10);
            // Each of another file, that does not return until it was given up.
            rig.ask_of(&many(10_000 + tick as u32), tick, MIB, now_ns);
            assert!(rig.ask(8, 1_000_000 + tick, MIB, now_ns));
            for _ in 0..2 {
                let Some(reading) = rig.turns.next(now_ns) else { break };
                if uid(&rig.turns.reading.as_ref().unwrap().0) == 8 {
                    let told = rig.turns.done(&reading.version(), Cost { bytes: MIB, ns: 0 }, now_ns);
                    assert_eq!(told.len(), 1);
                    continue;
                }
                (hung, now_ns) = (hung + took, now_ns + took);
                // Only their own are told without.
                assert!(rig.turns.lost(took, now_ns).iter().all(|number| *number < 1_000_000));
                rig.turns.returned(&reading.version());
            }
            rig.turns.overdue(false, now_ns);
            now_ns += SECOND / 10;
        }
        assert!(hung > 0 && hung <= now_ns / 40, "{} of {} s", hung / SECOND, now_ns / SECOND);
    }
}

#[test]
fn who_is_slow_rests_too_and_root_does_not() {
    let mut rig = Rig::default();
    assert!(rig.ask(7, 1, 100 * MIB, 0) && rig.ask(0, 2, 100 * MIB, 0));
    assert_eq!(rig.turn_that_takes(SLOW, 0), Some((7, vec![])));
    for _ in 0..3 {
        assert_eq!(rig.turn_that_takes(SLOW, 0), Some((0, vec![])));
    }
    let later = SLOW * RESTS;
    assert_eq!(rig.turns.overdue(false, later).len(), 2);
    assert!(!rig.ask(7, 3, MIB, 0), "too long for who waits");
    assert!(rig.ask(7, 3, MIB, later - PATIENCE) && rig.ask(0, 4, MIB, later));
    assert_eq!(rig.turn(later - 1), Some((0, vec![4])));
    assert_eq!(rig.turn(later).unwrap().0, 7);
}

#[test]
fn a_file_whose_read_hung_is_waited_for_by_nobody_until_it_returned_and_then_read_again() {
    let mut rig = Rig::default();
    assert!(
        rig.ask(7, 1, MIB, 0) && rig.ask(8, 1, MIB, 0) && rig.ask(7, 2, 2 * MIB, 0) && rig.ask(8, 3, MIB, 0)
    );
    assert_eq!(rig.hangs(0), Some(7));
    let mut told = rig.turns.lost(SECOND, SECOND);
    told.sort_unstable();
    assert_eq!(told, [1, 1, 2], "who waits for it, and its user");
    assert!(rig.turns.overdue(false, SECOND).is_empty());
    for minutes in 1..10 {
        let now_ns = minutes * 30 * SECOND;
        assert!(!rig.ask(0, 1, MIB, now_ns) && !rig.ask(8, 1, MIB, now_ns));
        assert!(!rig.ask(7, 4, MIB, now_ns), "of its user, nothing is read");
    }
    assert_eq!(rig.turn(2 * SECOND), Some((8, vec![3])));
    rig.turns.returned(&version(1, MIB));
    assert!(rig.ask(8, 1, MIB, 400 * SECOND));
    assert_eq!(rig.turn(400 * SECOND), Some((8, vec![1])));
    assert!(rig.ask(7, 4, MIB, 400 * SECOND));
}

#[test]
fn reads_that_hang_leave_root_and_users_with_names_their_places() {
    let mut rig = Rig::default();
    // However many numbers there are, one.
    for number in 0..20 {
        rig.ask_of(&nameless(1000 + number), number.into(), MIB, 0);
    }
    let hung = |rig: &mut Rig| {
        let hung = std::iter::from_fn(|| rig.hangs(0).inspect(|_| drop(rig.turns.lost(SECOND, 0))));
        hung.count()
    };
    assert_eq!(hung(&mut rig), 1);
    for number in 0..20 {
        rig.ask(100 + number, 200 + u64::from(number), MIB, 0);
    }
    assert_eq!(hung(&mut rig), MOST_LOST - 1);
    assert!(!rig.ask(999, 300, MIB, 1000 * SECOND));
    for number in 0..20 {
        rig.ask(0, 400 + number, MIB, 0);
    }
    assert_eq!(rig.turn(0).map(|(uid, told)| (uid, told.len())), Some((0, 1)));
    assert_eq!(hung(&mut rig), MOST_LOST_OF_ROOT);
    assert!(!rig.ask(0, 500, MIB, 0));
    // One of the others has returned: it may be one of theirs again.
    let returned = *rig.turns.lost.iter().find(|(_, who)| !is_root(who)).unwrap().0;
    rig.turns.returned(&returned);
    assert!(rig.ask(999, 300, MIB, 0) && !rig.ask(0, 500, MIB, 0));
    assert!(rig.turn(0).is_some_and(|(uid, told)| uid >= 100 && told.len() == 1));
}

#[test]
fn users_without_a_name_have_one_turn_together() {
    let mut rig = Rig::default();
    for number in 0..100 {
        assert!(rig.ask_of(&nameless(1000 + number), number.into(), 100 * MIB, 0));
    }
    for number in 0..10 {
        assert!(rig.ask(8, 200 + number, MIB, 0));
    }
    let mut turns: Vec<u32> = std::iter::from_fn(|| rig.turn(0)).take(20).map(|(uid, _)| uid).collect();
    assert_eq!(turns.iter().filter(|uid| **uid == 8).count(), 10, "{turns:?}");
    // And they take turns among each other.
    turns.retain(|uid| *uid != 8);
    turns.sort_unstable();
    turns.dedup();
    assert_eq!(turns.len(), 10);
}

/// It would be gone when the first one's process has ended.
#[test]
fn a_file_that_is_held_by_who_runs_it_too_is_kept_while_it_is_read() {
    let (hashes, pid) = (Hashes::default(), std::process::id());
    let process = TestDirectory::open(pid).unwrap();
    let held = hashes.executable(process.as_fd(), pid).unwrap();
    let version = held.version();
    let mut turns = Turns::default();
    assert!(turns.ask(Executable::of(pid, version), &named(7), 1, 0).is_ok());
    let read = turns.next(0).unwrap();
    assert!(!read.is_held());
    assert!(turns.ask(held, &named(8), 2, 0).is_ok());
    turns.read(read, Cost { bytes: 0, ns: 0 }, 0);
    assert!(turns.next(0).unwrap().is_held());
}
