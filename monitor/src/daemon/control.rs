//! Core to kernel: decisions into the maps; totals, overflow and counters out of them. And whether the
//! hooks are still ours.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select};
use monitor_common::{Counters, Kind, UdpFlow, UdpKey};

use super::clock::monotonic_ns;
use super::core::Command;
use super::reader::{Batch, LateEnds};
use crate::event::Event;
use crate::kernel::{Control, Hooks, SharedHooks};
use crate::watch::Budget;

/// How often the counters are read, and looked whether the hooks are still ours.
const EVERY: Duration = Duration::from_secs(1);

/// Who detaches a hook or exchanges its program is told of within two seconds: at most one round until it is looked at,
/// and as much again until it is written.
const _: () = assert!(2 * EVERY.as_millis() <= 2000);

/// How often all peers of UDP sockets are looked through for some that the core does not hold; and how soon again
/// where words of them were lost.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const SWEEP_SOON: Duration = Duration::from_secs(5);

/// Peers of UDP sockets that go to the core at one go.
const SWEPT: usize = 1024;

/// Questions for peers of UDP sockets in a second, each a call into the kernel or two; four times as many at once.
/// What is beyond waits: who asks is held up then, and in the end its own queue counts what it loses.
const UDP_PER_S: u32 = 50_000;

/// How long nothing is taken from one who asks for more.
const HELD_UP: Duration = Duration::from_millis(10);

/// The hooks while the daemon runs; taken out before its end, so that nobody holds them any more.
#[derive(Clone)]
pub struct Watched {
    pub hooks: SharedHooks,
    /// What was done to them is put right.
    pub restore: bool,
}

impl Watched {
    /// What is wrong with them; once also that nothing is any more.
    fn look(&self, was_wrong: &mut bool) -> Option<Event> {
        let mut hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner);
        let tampered = hooks.as_mut()?.look(self.restore);
        let was_wrong = std::mem::replace(was_wrong, !tampered.is_empty());
        (was_wrong || !tampered.is_empty()).then_some(Event::Tampered(tampered))
    }

    /// The end: nobody looks any more.
    pub fn take(&self) -> Option<Hooks> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Where ends that found the ring full wait for what stood in it before them: to the reader.
pub struct Late {
    pub sender: Sender<LateEnds>,
    /// The reader's, too: what it has not taken at its end is taken here.
    pub receiver: Receiver<LateEnds>,
    /// Set before the end: the reader has left something in the ring, and those that came after it are the next one's.
    pub left: Arc<AtomicBool>,
}

/// Ends that found the ring full, and were read.
pub struct Read {
    /// When each was written, by its place in the table.
    seen: HashMap<u64, u64>,
    /// Their places, each with the round in which it goes to the worker.
    order: VecDeque<(u64, u64)>,
    /// Rounds that went.
    sent: u64,
    /// With more of them the table needs the room.
    most: usize,
    /// Rounds of which some had to make room before they were told, each with how many.
    untold: VecDeque<(u64, u64)>,
}

impl Read {
    fn new(most: usize) -> Read {
        Read { seen: HashMap::new(), order: VecDeque::new(), sent: 0, most, untold: VecDeque::new() }
    }

    /// Those that were not read before: for the next round.
    fn new_ones(&mut self, control: &Control) -> Vec<Event> {
        let mut ends = Vec::new();
        for (key, event) in control.overflow() {
            if let Some(kind) = Kind::from_byte(event.kind)
                && self.seen.insert(key, event.at_ns) != Some(event.at_ns)
            {
                self.order.push_back((self.sent + 1, key));
                ends.push(Event::Flow(kind, event));
            }
        }
        ends
    }

    /// Frees the places of those that were told by now: until then, whoever is killed leaves them to the next.
    pub fn forget(&mut self, control: &mut Control) {
        let free = self.free_up_to(control.late_told());
        control.set_late_untold(self.untold());
        for (key, at_ns) in free {
            control.forget_overflow(key, at_ns);
        }
    }

    /// Which are to be freed where so many rounds were told: the place of each, and when it was written.
    fn free_up_to(&mut self, told: u64) -> Vec<(u64, u64)> {
        let mut free = Vec::new();
        while let Some((round, key)) = self.order.front().copied()
            && (round <= told || self.order.len() > self.most)
        {
            self.order.pop_front();
            if round > told {
                match self.untold.back_mut() {
                    Some((last, count)) if *last == round => *count += 1,
                    _ => self.untold.push_back((round, 1)),
                }
            }
            free.extend(self.seen.remove(&key).map(|at_ns| (key, at_ns)));
        }
        while self.untold.pop_front_if(|(round, _)| *round <= told).is_some() {}
        free
    }

    /// How many had to make room, and are not told.
    fn untold(&self) -> u64 {
        self.untold.iter().map(|(_, count)| count).sum()
    }

    /// All of them: everything was told.
    pub fn forget_all(mut self, control: &mut Control) {
        control.set_late_untold(0);
        for (key, at_ns) in self.seen.drain() {
            control.forget_overflow(key, at_ns);
        }
    }
}

/// When the peers of UDP sockets are looked through.
struct Sweep {
    last: Instant,
    /// Words of flows that found the ring full, by then.
    lost: u64,
}

impl Sweep {
    fn new(now: Instant) -> Self {
        Sweep { last: now, lost: 0 }
    }

    /// True where it is time.
    fn is_due(&mut self, counters: &Counters, now: Instant) -> bool {
        let lost = [Kind::Open, Kind::Progress, Kind::SocketClosed].map(|kind| counters.lost[kind as usize]);
        let lost = lost.into_iter().fold(0, u64::saturating_add);
        let wait = if lost == self.lost { SWEEP_EVERY } else { SWEEP_SOON };
        let due = now.saturating_duration_since(self.last) >= wait;
        if due {
            *self = Sweep { last: now, lost };
        }
        due
    }
}

/// Works until the other end of `stop` is gone; the counters are read once more after that. Where nobody
/// takes the events any more, what was read stays in its table for the next one. Else it is given, and stays there
/// until it is known to be told.
pub fn run(
    control: &mut Control,
    watched: &Watched,
    commands: &Receiver<Command>,
    events: &Sender<Batch>,
    late: &Late,
    stop: &Receiver<()>,
) -> Option<Read> {
    let mut due = Instant::now() + EVERY;
    let mut sweep = Sweep::new(Instant::now());
    let mut wrong = false;
    let mut ends = Vec::new();
    let mut read = Read::new(control.overflow_capacity() / 2);
    let mut questions = Questions::new();
    let nothing = never();
    loop {
        let held_up = questions.hold_up(monotonic_ns());
        let patience = if held_up { HELD_UP } else { EVERY };
        select! {
            recv(if held_up { &nothing } else { commands }) -> command => {
                let Ok(command) = command else { return None };
                questions.took(&command, monotonic_ns());
                if let Some(event) = apply(control, command)
                    && events.send(alone(event)).is_err()
                {
                    return None;
                }
            }
            recv(stop) -> _ => {
                while let Ok(command) = commands.try_recv() {
                    if let Some(event) = apply(control, command) {
                        let _ = events.send(alone(event));
                    }
                }
                if !late.left.load(Ordering::Acquire) {
                    // The reader has ended: nothing stands before these.
                    for LateEnds { ends, .. } in late.receiver.try_iter() {
                        let _ = events.send(Batch { events: ends, ..Batch::default() });
                    }
                    ends.extend(read.new_ones(control));
                    events.send(Batch { events: ends, ..Batch::default() }).ok()?;
                }
                let _ = report(control, None, events);
                return Some(read);
            }
            default(due.saturating_duration_since(Instant::now()).min(patience)) => {}
        }
        if Instant::now() >= due {
            due = Instant::now() + EVERY;
            let until_ns = monotonic_ns();
            ends.extend(read.new_ones(control));
            read.forget(control);
            let any = u64::from(!ends.is_empty());
            // A reader that has still to take earlier ones takes these with the next round.
            match late.sender.try_send(LateEnds { ends: std::mem::take(&mut ends), until_ns }) {
                Ok(()) => read.sent += any,
                Err(refused) => ends = refused.into_inner().ends,
            }
            let counters = report(control, watched.look(&mut wrong), events).ok()?;
            if counters.is_some_and(|counters| sweep.is_due(&counters, Instant::now()))
                && sweep_udp(control, events).is_err()
            {
                return None;
            }
        }
    }
}

/// Questions for peers of UDP sockets, and how many there may be.
struct Questions(Budget);

impl Questions {
    fn new() -> Self {
        Questions(Budget::new(UDP_PER_S))
    }

    /// There were so many that the next commands wait.
    fn hold_up(&mut self, now_ns: u64) -> bool {
        !self.0.allows(1, now_ns)
    }

    fn took(&mut self, command: &Command, now_ns: u64) {
        if !matches!(command, Command::Decide { .. }) {
            self.0.spend(1, now_ns);
        }
    }
}

fn apply(control: &mut Control, command: Command) -> Option<Event> {
    match command {
        Command::Decide { key, decision } => {
            let key = control.decision_key(&key);
            if !control.decide(key, decision) {
                // Full of decisions that no packet came to fetch. Without one a flow is captured up
                // to its budget at most, and what still matters is decided again.
                control.forget_decisions();
                let _ = control.decide(key, decision);
            }
            None
        }
        Command::ReadUdp { key } => Some(Event::Udp { key, totals: control.udp(&key), ended: false }),
        Command::EndUdp { key } => Some(Event::Udp { key, totals: control.end_udp(&key), ended: true }),
        Command::EndUdpIfIdle { key, packets } => {
            let totals = control.udp(&key);
            let counted = totals.map_or(0, |totals| totals.sent_packets + totals.received_packets);
            if counted > packets {
                return Some(Event::Udp { key, totals, ended: false });
            }
            Some(Event::Udp { key, totals: control.end_udp(&key), ended: true })
        }
    }
}

fn alone(event: Event) -> Batch {
    Batch { events: vec![event], ..Batch::default() }
}

/// All peers of UDP sockets, some at a time: the core knows most of them, and takes the others.
///
/// # Errors
/// Nobody takes them any more.
pub fn sweep_udp(control: &Control, events: &Sender<Batch>) -> Result<(), ()> {
    in_pieces(&control.udp_peers(), |key| control.udp(key), events)
}

/// Totals are read as they go: all at once they would take more than the map itself.
fn in_pieces(
    peers: &[UdpKey],
    totals: impl Fn(&UdpKey) -> Option<UdpFlow>,
    events: &Sender<Batch>,
) -> Result<(), ()> {
    for peers in peers.chunks(SWEPT) {
        let left = peers.iter().filter_map(|key| Some(Event::UdpLeft(*key, totals(key)?)));
        events.send(Batch { events: left.collect(), ..Batch::default() }).map_err(|_| ())?;
    }
    Ok(())
}

/// Sends the counters, and gives them; `None`: they could not be read.
fn report(control: &Control, seen: Option<Event>, events: &Sender<Batch>) -> Result<Option<Counters>, ()> {
    let mut batch = Vec::from_iter(seen);
    let counters = control.counters().ok();
    batch.extend(counters.map(|counters| Event::Counters(Box::new(counters))));
    events.send(Batch { events: batch, ..Batch::default() }).map_err(|_| ())?;
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use monitor_common::Decision;

    use super::*;
    use crate::flows::FlowKey;

    #[test]
    fn ends_that_make_room_before_they_are_told_are_counted_until_they_are() {
        let mut read = Read::new(3);
        for (key, round) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3)] {
            read.seen.insert(key, 100 + key);
            read.order.push_back((round, key));
        }
        assert_eq!(read.free_up_to(0), [(1, 101), (2, 102), (3, 103)]);
        assert_eq!(read.untold(), 3);
        assert_eq!(read.free_up_to(1), []);
        assert_eq!(read.untold(), 1);
        assert_eq!(read.free_up_to(2), [(4, 104)]);
        assert_eq!(read.untold(), 0);
        assert_eq!(read.free_up_to(3), [(5, 105), (6, 106)]);
        assert_eq!((read.untold(), read.order.len(), read.seen.len()), (0, 0, 0));
    }

    #[test]
    fn who_asks_for_peers_of_udp_sockets_without_end_is_held_up() {
        let mut questions = Questions::new();
        let (mut taken, mut decisions) = (0, 0);
        let peer = Command::EndUdp { key: FlowKey::default() };
        let decision = Command::Decide { key: FlowKey::default(), decision: Decision::default() };
        // A thousand each millisecond, for ten seconds.
        for at_ns in (1..10_000).map(|ms| ms * 1_000_000) {
            for _ in 0..1000 {
                if questions.hold_up(at_ns) {
                    break;
                }
                questions.took(&peer, at_ns);
                questions.took(&decision, at_ns);
                (taken, decisions) = (taken + 1, decisions + 1);
            }
        }
        assert!((12..=14).contains(&(taken / u64::from(UDP_PER_S))), "{taken}");
        assert_eq!(taken, decisions);
        // Decisions alone are no questions.
        let mut questions = Questions::new();
        (0..10 * UDP_PER_S).for_each(|_| questions.took(&decision, 1));
        assert!(!questions.hold_up(1));
    }

    #[test]
    fn peers_of_udp_sockets_go_some_at_a_time_and_no_further_than_somebody_takes_them() {
        let peers: Vec<UdpKey> =
            (0..2 * SWEPT as u64 + 7).map(|cookie| UdpKey { cookie, ..UdpKey::default() }).collect();
        // One has ended meanwhile.
        let totals = |key: &UdpKey| (key.cookie != 5).then(UdpFlow::default);
        let (events_in, events) = crossbeam_channel::bounded(3);
        assert_eq!(in_pieces(&peers, totals, &events_in), Ok(()));
        let sizes: Vec<usize> = events.try_iter().map(|batch: Batch| batch.events.len()).collect();
        assert_eq!(sizes, [SWEPT - 1, SWEPT, 7]);
        drop(events);
        let read = std::cell::Cell::new(0);
        let counted = |_: &UdpKey| {
            read.set(read.get() + 1);
            None
        };
        assert_eq!(in_pieces(&peers, counted, &events_in), Err(()));
        assert_eq!(read.get(), SWEPT);
    }

    #[test]
    fn udp_is_looked_through_now_and_then_and_soon_where_words_were_lost() {
        let begin = Instant::now();
        let mut sweep = Sweep::new(begin);
        let mut counters = Counters::default();
        let due: Vec<u64> = (1..=300)
            .filter(|second| {
                // Lost for ten seconds.
                counters.lost[Kind::Open as usize] += u64::from((100..110).contains(second));
                sweep.is_due(&counters, begin + Duration::from_secs(*second))
            })
            .collect();
        assert_eq!(due, [60, 100, 105, 110, 170, 230, 290]);
    }
}
