#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;

fn user(uid: u32) -> Who {
    Who::User { uid, is_named: true }
}

fn nameless(uid: u32) -> Who {
    Who::User { uid, is_named: false }
}

/// Looks that hang until they are let go.
struct Gate {
    open: Option<Sender<()>>,
    wait: Receiver<()>,
    within: Arc<AtomicUsize>,
}

impl Gate {
    fn new() -> Gate {
        let (open, wait) = bounded(0);
        Gate { open: Some(open), wait, within: Arc::default() }
    }

    fn hangs(&self) -> impl FnOnce() -> u32 + Send + 'static {
        let (wait, within) = (self.wait.clone(), Arc::clone(&self.within));
        move || {
            within.fetch_add(1, Ordering::Relaxed);
            let _ = wait.recv();
            within.fetch_sub(1, Ordering::Relaxed);
            0
        }
    }

    fn open(&mut self) {
        self.open = None;
        while self.within.load(Ordering::Relaxed) > 0 {
            thread::sleep(Duration::from_millis(1));
        }
        // What they saw is on its way.
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_look_that_hangs_costs_others_a_moment_once_and_its_own_user_the_answer() {
    let (mut lookers, mut gate) = (Lookers::default(), Gate::new());
    let begun = Instant::now();
    assert_eq!(lookers.look(&user(7), gate.hangs()), Err(Stalled::Now));
    let first = begun.elapsed();
    assert!(first >= SLICE && first < Duration::from_secs(10), "{first:?}");
    for _ in 0..1000 {
        assert_eq!(lookers.look(&user(7), || 7), Err(Stalled::Before));
        assert_eq!(lookers.look(&user(8), || 8), Ok(8));
    }
    assert_eq!(gate.within.load(Ordering::Relaxed), 1);
    assert_eq!((lookers.out.len(), lookers.idle.len()), (1, 1));
    // Its late answer is nobody's; its own user has looks again when there is patience again.
    gate.open();
    let end = Instant::now() + Duration::from_secs(10);
    while lookers.look(&user(7), || 7) != Ok(7) {
        assert!(Instant::now() < end);
        thread::sleep(SLICE);
    }
    assert_eq!((lookers.out.len(), lookers.idle.len()), (0, 1));
}

/// One after the other, each for a while.
#[test]
fn looks_that_hang_again_and_again_keep_nobody_waiting_for_more_than_a_share() {
    let mut lookers = Lookers::default();
    let begun = Instant::now();
    let mut stalled = 0;
    while begun.elapsed() < Duration::from_secs(2) {
        let slow = || {
            thread::sleep(Duration::from_millis(30));
            1
        };
        stalled += u32::from(lookers.look(&user(7), slow).is_err());
        assert_eq!(lookers.look(&user(8), || 8), Ok(8));
        thread::sleep(Duration::from_millis(1));
    }
    // None is out for as long as one is waited for: all of these were not begun, since the share was used up. How long that
    // takes depends on the processors.
    assert!(stalled > 0);
    assert!(lookers.patiences.contains_key(&user(7).payer()));
}

#[test]
fn there_are_so_many_threads_and_no_more_and_who_has_no_name_gets_half() {
    let (mut lookers, mut gate) = (Lookers::default(), Gate::new());
    let begun = Instant::now();
    for uid in 0..1000 {
        assert!(lookers.look(&nameless(100_000 + uid), gate.hangs()).is_err());
    }
    // They have one patience between them.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(lookers.out.len() <= MOST_OUT_OF_NAMELESS);
    for uid in 0..30 {
        let _ = lookers.look(&user(uid), gate.hangs());
    }
    assert_eq!(lookers.out.len(), MOST_OUT);
    assert_eq!(lookers.look(&user(99), || 1), Err(Stalled::Many));
    assert_eq!(lookers.look(&Who::Container("a".into()), || 1), Err(Stalled::Many));
    gate.open();
    assert_eq!(lookers.look(&user(99), || 1), Ok(1));
    assert!(lookers.out.is_empty() && lookers.idle.len() == 1);
}

/// The worker ends, and with it who asks; what hangs stays, and is as many as there may be.
#[test]
fn what_hangs_counts_on_where_another_one_asks() {
    let (mut gate, still_out) = (Gate::new(), StillOut::default());
    for life in 0..8 {
        let mut lookers = Lookers::after(still_out.clone());
        for uid in 0..6 {
            let _ = lookers.look(&user(10 * life + uid), gate.hangs());
        }
        if life > 0 {
            assert_eq!(lookers.look(&user(0), || 1), Err(Stalled::Before));
        }
    }
    assert_eq!(gate.within.load(Ordering::Relaxed), MOST_OUT);
    let mut lookers = Lookers::after(still_out.clone());
    assert_eq!(lookers.look(&user(99), || 1), Err(Stalled::Many));
    gate.open();
    assert_eq!(lookers.look(&user(0), || 1), Ok(1));
    assert!(still_out.now().is_empty());
}

/// A host under load is not one whose looks hang.
#[test]
fn a_look_that_only_takes_a_processor_is_waited_for() {
    let mut lookers = Lookers::default();
    let busy = || {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(400) {
            std::hint::spin_loop();
        }
        5
    };
    assert_eq!(lookers.look(&user(7), busy), Ok(5));
}

#[test]
fn a_look_that_fails_takes_nobody_along() {
    let mut lookers: Lookers<u32> = Lookers::default();
    assert_eq!(lookers.look(&user(7), || panic!("as told")), Err(Stalled::Now));
    assert_eq!(lookers.look(&user(7), || 7), Ok(7));
    assert!(lookers.out.is_empty());
}

#[test]
fn who_has_no_name_is_not_told_that_its_own_looks_stall_where_those_of_others_do() {
    let (mut lookers, mut gate) = (Lookers::default(), Gate::new());
    assert_eq!(lookers.look(&nameless(100_001), gate.hangs()), Err(Stalled::Now));
    // What there is again since.
    let _ = lookers.look(&nameless(100_000), gate.hangs());
    let others: Vec<Stalled> =
        (100_002..100_030).filter_map(|uid| lookers.look(&nameless(uid), || 1).err()).collect();
    assert!(others.contains(&Stalled::Shared) && !others.contains(&Stalled::Before), "{others:?}");
    assert!(!Stalled::Shared.why(&nameless(100_002)).contains("100002"));
    // Whose look is out is told so.
    assert_eq!(lookers.look(&nameless(100_001), || 1), Err(Stalled::Before));
    gate.open();
}
