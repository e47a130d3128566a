//! Ring to core: drained in bounded steps, decoded, sent on in batches.
//!
//! The kernel wakes a consumer that has caught up with every record, and a wake-up costs more than
//! the record itself. So under load this thread falls behind on purpose, by [`PAUSE`]: then one
//! record in many wakes it. After silence the first record is read at once.
//!
//! A core that is slow makes this thread wait, then the ring fills, and the kernel counts what does
//! not fit: a loss is always counted where it happens.
//!
//! Where the hooks outlive the daemon, a record is given back to the kernel once everything that came of it
//! was told: what a killed daemon had read and not told is read again. That holds up nobody: no more than a
//! part of the ring is kept, not for long, and not where the kernel would find no room for first bytes. What has
//! to be given back before it was told leaves its ends in the journal (`kernel/journal.rs`), for the next reader.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendError, Sender};
use monitor_common::Kind;
use serde::{Deserialize, Serialize};

use super::newcomers::Newcomers;
use crate::event::{Event, decode};
use crate::kernel::{Left, Ring};
use crate::tally::{Tallies, Tally};

/// Records taken at one go.
pub const BATCH: usize = 256;

/// How far the reader falls behind under load. Longer costs less, and what is asked of the kernel because of what
/// was read comes too late: sampled sessions then miss what they are read for.
const PAUSE: Duration = Duration::from_millis(2);

/// How often it looks at the ring meanwhile, where processes come and go: only they are told at once, what else it reads goes on
/// together as before.
const LOOKS: u32 = 4;

/// How long it sleeps while nothing comes: a record wakes it; the end, and ends that found the ring full, do not.
const IDLE: Duration = Duration::from_millis(500);

/// How much of the ring is kept for what is still to be told, in a thousand: no more is read before something of
/// it was told. Captures have half of the ring, and the fuller it is, the less of it a cgroup may fill.
const KEPT: u64 = 350;

/// With so much of the ring filled, in a thousand, the kernel soon has no room for first bytes: then what is kept is given
/// back, told or not. Else they would be lost to all for the sake of a daemon that may be killed.
const SHORT: u64 = 425;

/// How long it reads on at its end where another one goes on from there.
const LEAVE: Duration = Duration::from_millis(100);

/// How long something is kept in the ring without anything being told.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Where nothing more is read until then.
    pub held_up: Duration,
    /// Where there is room; and at the start, when everybody has to be found out.
    pub otherwise: Duration,
}

impl Patience {
    /// Where the hooks go with the daemon nothing is: on a busy machine that costs first bytes, and only a worker
    /// that ends by itself would have it read again.
    pub const NONE: Patience = Patience { held_up: Duration::ZERO, otherwise: Duration::ZERO };
}

impl Default for Patience {
    fn default() -> Self {
        Patience { held_up: Duration::from_secs(1), otherwise: Duration::from_secs(10) }
    }
}

/// Events on their way to the core.
#[derive(Debug, Default)]
pub struct Batch {
    pub events: Vec<Event>,
    /// The ring's position after them; `None`: they did not come from it.
    pub end: Option<u64>,
    /// All that connections did before this time (CLOCK_MONOTONIC, ns) went before, or is in here. 0: nobody knows.
    pub until_ns: u64,
}

/// Ends that found the ring full.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct LateEnds {
    pub ends: Vec<Event>,
    /// All there were at this time (CLOCK_MONOTONIC, ns) went before, or are in here.
    pub until_ns: u64,
}

/// Kinds of events: those of the ring, and those that are read from maps.
pub(super) const KINDS: [&str; monitor_common::KINDS + 2] = {
    let mut names = ["unknown"; monitor_common::KINDS + 2];
    let mut kind = 0;
    while kind < Kind::ALL.len() {
        names[kind + 1] = Kind::ALL[kind].as_str();
        kind += 1;
    }
    names[monitor_common::KINDS] = "udp";
    names[monitor_common::KINDS + 1] = "counters";
    names
};

/// The place of an event in [`KINDS`].
pub(super) fn kind_of(event: &Event) -> usize {
    match event {
        Event::Flow(kind, _) => *kind as usize,
        Event::Capture(..) => Kind::Capture as usize,
        Event::Udp { .. } => monitor_common::KINDS,
        Event::UdpLeft(..) => monitor_common::KINDS,
        Event::Counters(_) | Event::Tampered(_) => monitor_common::KINDS + 1,
    }
}

/// Events by kind, added up before they are counted where others look: counting costs more than adding.
#[derive(Default)]
pub(super) struct Sums([u64; KINDS.len()]);

impl Sums {
    pub fn add(&mut self, kind: usize) {
        self.0[kind] += 1;
    }

    pub fn of(events: &[Event]) -> Sums {
        let mut sums = Sums::default();
        events.iter().for_each(|event| sums.add(kind_of(event)));
        sums
    }

    pub fn each(&self, mut each: impl FnMut(usize, u64)) {
        self.0
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .for_each(|(kind, count)| each(kind, *count));
    }
}

/// What the reader counts: records read from the ring; those that went on as events; those that could not be
/// decoded, or that nobody takes any more.
#[derive(Debug)]
pub struct ReaderCounters {
    pub(super) tallies: Tallies,
}

impl Default for ReaderCounters {
    fn default() -> Self {
        ReaderCounters { tallies: Tallies::new(&KINDS) }
    }
}

impl ReaderCounters {
    fn count(&self, sums: &Sums, how: fn(&Tally, u64)) {
        sums.each(|kind, count| how(self.tallies.of(kind), count));
    }
}

/// Where records come from.
pub(super) trait Source {
    /// See [`Ring::drain`].
    fn drain(&mut self, limit: usize, each: impl FnMut(&[u8])) -> usize;
    /// See [`Ring::wait`].
    fn wait(&mut self, at_most: Duration);
    /// See [`Ring::produced`].
    fn produced(&self) -> u64;
    /// See [`Ring::position`].
    fn position(&self) -> u64;
    /// See [`Ring::held`].
    fn held(&self) -> u64;
    /// See [`Ring::held_share`].
    fn held_share(&self) -> u64;
    /// See [`Ring::filled_share`].
    fn filled_share(&self) -> u64;
    /// See [`Ring::give_back`].
    fn give_back(&mut self, up_to: u64);
    /// See [`Ring::give_back_untold`].
    fn give_back_untold(&mut self);
    /// See [`Ring::left`].
    fn left(&mut self) -> Left;
    /// See [`Ring::late_told`].
    fn late_told(&mut self, rounds: u64);
}

impl Source for Ring {
    fn drain(&mut self, limit: usize, each: impl FnMut(&[u8])) -> usize {
        Ring::drain(self, limit, each)
    }

    fn wait(&mut self, at_most: Duration) {
        Ring::wait(self, at_most);
    }

    fn produced(&self) -> u64 {
        Ring::produced(self)
    }

    fn position(&self) -> u64 {
        Ring::position(self)
    }

    fn held(&self) -> u64 {
        Ring::held(self)
    }

    fn held_share(&self) -> u64 {
        Ring::held_share(self)
    }

    fn filled_share(&self) -> u64 {
        Ring::filled_share(self)
    }

    fn give_back(&mut self, up_to: u64) {
        Ring::give_back(self, up_to);
    }

    fn give_back_untold(&mut self) {
        Ring::give_back_untold(self);
    }

    fn left(&mut self) -> Left {
        Ring::left(self)
    }

    fn late_told(&mut self, rounds: u64) {
        Ring::late_told(self, rounds);
    }
}

/// What is read when, and given back when.
pub struct Reading {
    pub counters: Arc<ReaderCounters>,
    pub stop: Arc<AtomicBool>,
    /// By then: the hooks outlive this one, and another one goes on from here.
    pub hooks_stay: Arc<AtomicBool>,
    /// The position up to which everything was told.
    pub told: Arc<AtomicU64>,
    /// Ends that found the ring full: they come after what stood in it before them.
    pub late: Receiver<LateEnds>,
    pub patience: Patience,
    /// See [`Newcomers`].
    pub newcomers: Option<File>,
}

/// How far it came.
pub(super) struct Ended<R> {
    pub ring: R,
    rounds: Rounds,
    /// All that was in the ring was read. If not, the ends that found it full, and were not taken by then, are for the
    /// next one: they come after what is still in it.
    pub all: bool,
}

impl<R: Source> Ended<R> {
    /// Gives back what was told: everything before `up_to`. Whether that was all that was read.
    pub fn give_back(&mut self, up_to: u64) -> bool {
        self.ring.give_back(up_to);
        let all = up_to >= self.ring.position();
        if let Some(rounds) = if all { Some(self.rounds.went) } else { self.rounds.told(up_to) } {
            self.ring.late_told(rounds);
        }
        all
    }
}

/// Reads until `stop` is set and what was in the ring by then is read; where another one goes on from there, for a
/// moment at most: nobody reads before that one does.
pub(super) fn run<R: Source>(mut ring: R, events: &Sender<Batch>, reading: &Reading) -> Ended<R> {
    let Reading { counters, stop, hooks_stay, told, late, patience, newcomers } = reading;
    let mut newcomers = Newcomers::new(newcomers.as_ref());
    let mut rounds = Rounds::default();
    if tell_what_was_left(&mut ring, events, counters).is_err() {
        return Ended { ring, rounds, all: false };
    }
    let mut held_back: Option<(u64, LateEnds)> = None;
    let mut until = None;
    let mut took = Took::default();
    let mut busy = false;
    let mut last = None;
    let mut moved = Instant::now();
    let mut ever_moved = false;
    loop {
        if last.is_none() && stop.load(Ordering::Acquire) {
            last = Some(ring.produced());
            until = hooks_stay.load(Ordering::Acquire).then(|| Instant::now() + LEAVE);
        }
        // Nothing is read far ahead of what was told: a backlog that was read at one go would have to be given
        // back untold.
        let waits = last.is_none() && ring.held_share() > KEPT;
        if !waits {
            took.more(&mut ring, counters, &mut newcomers);
        }
        let Took { events: batch, read } = std::mem::take(&mut took);
        if read > 0 {
            let sums = Sums::of(&batch);
            if events.send(Batch { events: batch, end: Some(ring.position()), until_ns: 0 }).is_err() {
                counters.count(&sums, Tally::lose);
                return Ended { ring, rounds, all: false };
            }
            counters.count(&sums, Tally::deliver);
        }
        if let Some((after, _)) = &held_back
            && (ring.position() >= *after || (read == 0 && !waits))
            && let Some((after, LateEnds { ends, until_ns })) = held_back.take()
        {
            if !ends.is_empty() {
                rounds.went(ring.position());
            }
            // What a processor is still writing into the ring came before, too.
            let until_ns = if ring.position() >= after { until_ns } else { 0 };
            if events.send(Batch { events: ends, end: None, until_ns }).is_err() {
                return Ended { ring, rounds, all: false };
            }
        }
        if held_back.is_none()
            && let Ok(ends) = late.try_recv()
        {
            held_back = Some((ring.produced(), ends));
        }
        if held_back.is_none() && last.is_some_and(|last| ring.position() >= last || read == 0) {
            return Ended { ring, rounds, all: true };
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ended { ring, rounds, all: false };
        }
        let before = ring.held();
        let up_to = told.load(Ordering::Acquire);
        ring.give_back(up_to);
        if let Some(rounds) = rounds.told(up_to) {
            ring.late_told(rounds);
        }
        ever_moved |= ring.held() < before;
        if ring.held() < before || ring.held() == 0 {
            moved = Instant::now();
        }
        // Nobody takes our records, or somebody has to be found out: the kernel needs the room.
        let patience = if waits && ever_moved { patience.held_up } else { patience.otherwise };
        let is_short = waits && ring.filled_share() > SHORT;
        if ring.held() > 0 && (is_short || moved.elapsed() >= patience) {
            ring.give_back_untold();
        }
        if read == 0 && !busy && ring.held() == 0 && held_back.is_none() {
            ring.wait(IDLE);
        } else if read < BATCH {
            let looks = if newcomers.come(Instant::now()) && ring.held_share() <= KEPT { LOOKS } else { 1 };
            for look in 0..looks {
                if look > 0 {
                    took.more(&mut ring, counters, &mut newcomers);
                }
                thread::sleep(PAUSE / looks);
            }
        }
        busy = read > 0;
    }
}

/// What was read and has not gone on yet.
#[derive(Default)]
struct Took {
    events: Vec<Event>,
    /// Records.
    read: usize,
}

impl Took {
    /// As much more as there is room for.
    fn more(&mut self, ring: &mut impl Source, counters: &ReaderCounters, newcomers: &mut Newcomers<'_>) {
        let (mut offered, mut broken) = (Sums::default(), Sums::default());
        self.events.reserve(BATCH - self.events.len());
        self.read += ring.drain(BATCH - self.read, |record| {
            let kind = record.first().and_then(|byte| Kind::from_byte(*byte)).map_or(0, |kind| kind as usize);
            offered.add(kind);
            match decode(record) {
                Ok(event) => {
                    newcomers.note(&event);
                    self.events.push(event);
                }
                Err(_) => broken.add(kind),
            }
        });
        newcomers.tell();
        counters.count(&offered, Tally::offer);
        counters.count(&broken, Tally::lose);
    }
}

/// What the reader before gave back and perhaps did not tell comes before all that stands in the ring.
fn tell_what_was_left<R: Source>(
    ring: &mut R,
    events: &Sender<Batch>,
    counters: &ReaderCounters,
) -> Result<(), SendError<Batch>> {
    let Left { ends, lost, skipped } = ring.left();
    let of_ends = counters.tallies.of(Kind::Close as usize);
    of_ends.offer(lost);
    of_ends.lose(lost);
    if skipped > 0 {
        // How many records that was, nobody can tell.
        let unknown = counters.tallies.of(0);
        unknown.offer(1);
        unknown.lose(1);
        unknown.lose_bytes(skipped);
    }
    if ends.is_empty() {
        return Ok(());
    }
    let left: Vec<Event> = ends.into_iter().map(|(kind, end)| Event::Flow(kind, end)).collect();
    let sums = Sums::of(&left);
    counters.count(&sums, Tally::offer);
    events.send(Batch { events: left, end: Some(ring.position()), until_ns: 0 })?;
    counters.count(&sums, Tally::deliver);
    Ok(())
}

/// Rounds of ends that found the ring full, on their way to be told.
#[derive(Default)]
struct Rounds {
    went: u64,
    /// Each with the position that the ring was read to when it went.
    waits: VecDeque<(u64, u64)>,
}

impl Rounds {
    fn went(&mut self, position: u64) {
        self.went += 1;
        self.waits.push_back((position, self.went));
    }

    /// How many were told, if those are more than before, where everything before `up_to` was. They have no position
    /// of their own: what came after them was told, then.
    fn told(&mut self, up_to: u64) -> Option<u64> {
        let mut told = None;
        while let Some((_, round)) = self.waits.pop_front_if(|(position, _)| *position < up_to) {
            told = Some(round);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crossbeam_channel::{never, unbounded};
    use monitor_common::FlowEvent;

    use super::*;

    /// A ring of records that nobody can read.
    #[derive(Default)]
    struct Records {
        all: u64,
        read: u64,
        given_back: u64,
        /// So much of it was told then.
        told: u64,
        /// What it says of itself once something is held, in a thousand; and of what is filled.
        share: u64,
        filled: u64,
        stop: Arc<AtomicBool>,
        looks: u32,
        /// How often something could have been given back.
        turns: u32,
        left: Option<Left>,
        /// Rounds of late ends.
        rounds_told: u64,
        /// Records at its end that are still being written.
        unwritten: u64,
    }

    impl Source for Records {
        fn drain(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> usize {
            let count = limit.min((self.all - self.unwritten - self.read) as usize);
            (0..count).for_each(|_| each(&[0]));
            self.read += count as u64;
            self.looks += 1;
            if self.looks == 20 {
                self.stop.store(true, Ordering::Release);
            }
            count
        }

        fn wait(&mut self, _: Duration) {}

        fn produced(&self) -> u64 {
            self.all
        }

        fn position(&self) -> u64 {
            self.read
        }

        fn held(&self) -> u64 {
            self.read - self.given_back
        }

        fn held_share(&self) -> u64 {
            if self.held() > 0 { self.share } else { 0 }
        }

        fn filled_share(&self) -> u64 {
            self.filled
        }

        fn give_back(&mut self, up_to: u64) {
            self.given_back = self.given_back.max(up_to);
            self.told = self.told.max(up_to);
            self.turns += 1;
            if self.turns == 40 {
                self.stop.store(true, Ordering::Release);
            }
        }

        fn give_back_untold(&mut self) {
            self.given_back = self.read;
        }

        fn left(&mut self) -> Left {
            self.left.take().unwrap_or_default()
        }

        fn late_told(&mut self, rounds: u64) {
            self.rounds_told = rounds;
        }
    }

    /// So much was told.
    fn reading(told: u64, patience: Patience) -> Reading {
        Reading {
            counters: Arc::default(),
            stop: Arc::default(),
            hooks_stay: Arc::default(),
            told: Arc::new(AtomicU64::new(told)),
            late: never(),
            patience,
            newcomers: None,
        }
    }

    /// How much is given back when of so much of the ring only the first record was told, where so much is filled, and how
    /// much of that as told.
    fn given_back(share: u64, filled: u64, held_up: Duration) -> (u64, u64) {
        let patience = Patience { held_up, otherwise: Duration::from_secs(3600) };
        let reading = reading(1, patience);
        let ring = Records { all: 100, share, filled, stop: reading.stop.clone(), ..Records::default() };
        let (events, taken) = unbounded();
        let Ended { ring, all, .. } = run(ring, &events, &reading);
        assert_eq!((ring.read, taken.len(), all), (100, 1, true));
        (ring.given_back, ring.told)
    }

    #[test]
    fn what_is_not_told_is_given_back_only_where_it_holds_up_others() {
        assert_eq!(given_back(KEPT, 1000, Duration::ZERO), (1, 1));
        assert_eq!(given_back(KEPT + 1, KEPT + 1, Duration::ZERO), (100, 1));
    }

    #[test]
    fn where_first_bytes_would_find_no_room_what_is_not_told_is_given_back_at_once() {
        let patience = Duration::from_secs(3600);
        assert_eq!(given_back(KEPT + 1, SHORT, patience), (1, 1));
        assert_eq!(given_back(KEPT + 1, SHORT + 1, patience), (100, 1));
    }

    #[test]
    fn a_round_of_late_ends_is_told_when_what_came_after_it_is() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.told(u64::MAX), None);
        rounds.went(10);
        rounds.went(10);
        rounds.went(20);
        assert_eq!(rounds.told(10), None);
        assert_eq!(rounds.told(11), Some(2));
        assert_eq!(rounds.told(20), None);
        assert_eq!(rounds.told(21), Some(3));
        assert_eq!(rounds.told(21), None);
    }

    /// What was passed on with a time: how many of the ring's records went before, and the time.
    fn heard(unwritten: u64, late: Vec<LateEnds>) -> (Vec<(u64, u64)>, usize) {
        let (sender, late_out) = unbounded();
        late.into_iter().for_each(|ends| sender.send(ends).unwrap());
        let reading = Reading { late: late_out, ..reading(0, Patience::NONE) };
        let ring = Records { all: 1000, unwritten, stop: reading.stop.clone(), ..Records::default() };
        let (events, taken) = unbounded();
        run(ring, &events, &reading);
        let (mut heard, mut position, mut ends) = (Vec::new(), 0, 0);
        for batch in taken.try_iter() {
            position = batch.end.unwrap_or(position);
            ends += batch.events.len();
            if batch.end.is_none() {
                heard.push((position, batch.until_ns));
            }
        }
        (heard, ends)
    }

    #[test]
    fn that_all_before_a_time_was_read_is_said_behind_what_stood_in_the_ring_by_then() {
        let end = || Event::Flow(Kind::Close, FlowEvent::default());
        let late =
            || vec![LateEnds { ends: vec![end()], until_ns: 7 }, LateEnds { ends: Vec::new(), until_ns: 9 }];
        assert_eq!(heard(0, late()), (vec![(1000, 7), (1000, 9)], 1));
        // What is still being written may be an end from before.
        assert_eq!(heard(1, late()), (vec![(999, 0), (999, 0)], 1));
    }

    /// Of a ring that has more than anybody can read: what it passed on, what was told to the next of what it did where
    /// so much was told, and whether that was all that it had read.
    fn left_behind(late: Receiver<LateEnds>, told: impl Fn(u64) -> u64) -> (Vec<Batch>, u64, bool) {
        let reading = Reading { late, ..reading(0, Patience::default()) };
        reading.hooks_stay.store(true, Ordering::Release);
        let ring = Records { all: u64::MAX, stop: reading.stop.clone(), ..Records::default() };
        let (events, taken) = unbounded();
        let mut ended = run(ring, &events, &reading);
        assert!(!ended.all && ended.ring.read > 0);
        let told = told(ended.ring.read);
        let all = ended.give_back(told);
        assert_eq!(ended.ring.given_back, told);
        (taken.try_iter().collect(), ended.ring.rounds_told, all)
    }

    #[test]
    fn where_another_one_goes_on_it_does_not_read_for_ever() {
        let (sender, late) = unbounded();
        let end = Event::Flow(Kind::Close, FlowEvent::default());
        sender.send(LateEnds { ends: vec![end], until_ns: 7 }).unwrap();
        let (passed_on, rounds, all) = left_behind(late, |read| read);
        // Its place is behind what is left in the ring.
        assert_eq!((passed_on.iter().filter(|batch| batch.end.is_none()).count(), rounds, all), (0, 0, true));
        assert!(!left_behind(never(), |read| read - 1).2);
    }

    #[test]
    fn rounds_of_late_ends_are_told_at_the_end_where_all_was_that_was_read() {
        let ended = |told| {
            let mut ended = Ended {
                ring: Records { read: 20, ..Records::default() },
                rounds: Rounds::default(),
                all: false,
            };
            ended.rounds.went(10);
            ended.rounds.went(20);
            (ended.give_back(told), ended.ring.rounds_told)
        };
        assert_eq!([10, 11, 19, 20].map(ended), [(false, 0), (false, 1), (false, 1), (true, 2)]);
    }

    #[test]
    fn what_the_reader_before_left_comes_first_and_what_it_had_no_room_for_is_lost() {
        let ends = [Kind::Close, Kind::Failed, Kind::SocketClosed].map(|kind| (kind, FlowEvent::default()));
        let left = Left { ends: ends.to_vec(), lost: 4, skipped: 808 };
        let reading = reading(0, Patience::NONE);
        let ring = Records { all: 3, stop: reading.stop.clone(), left: Some(left), ..Records::default() };
        let (events, taken) = unbounded();
        run(ring, &events, &reading);
        let first = taken.recv().unwrap();
        let kinds: Vec<usize> = first.events.iter().map(kind_of).collect();
        assert_eq!(kinds, [Kind::Close, Kind::Failed, Kind::SocketClosed].map(|kind| kind as usize));
        assert_eq!(first.end, Some(0));
        let rows = reading.counters.tallies.rows("reader");
        let closes = rows.iter().find(|row| row.kind == "close").unwrap();
        assert_eq!((closes.offered, closes.delivered, closes.lost), (5, 1, 4));
        let skipped = rows.iter().find(|row| row.lost_bytes > 0).unwrap();
        assert_eq!((skipped.kind.as_str(), skipped.lost_bytes), ("unknown", 808));
    }
}
