//! The core thread: takes from every side, passes on to every side, waits for nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select};
use monitor_common::Counters;
use tokio::sync::broadcast;

use super::clock::{Clock, monotonic_ns};
use super::core::{Command, Core, Found, Lookup, Output, Rest, unseen};
use super::reader::{Batch, Sums};
use super::serve::About;
use super::stages::{Stage, Stages};
use crate::alert::{Change, Saved};
use crate::api::{Reply, Request};
use crate::hook::Notice;
use crate::model::{AlertView, Record};
use crate::policy::Policy;
use crate::record::Context;
use crate::sink::{LossesTold, Patience, SinkHandle};

/// How often the core looks around: where something waits for it, and where nothing does. On a quiet host
/// waking up is all that it costs.
const TICK: Duration = Duration::from_millis(50);
const QUIET_TICK: Duration = Duration::from_millis(250);

/// How long the next answer is waited for at the end; and how long where it is about flows that go on.
const LAST_ANSWER: Duration = Duration::from_millis(200);
const ANSWER_OF_OPEN: Duration = Duration::from_millis(10);

/// How often what was lost behind the kernel is added up.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Answers of the resolver that are taken at one go.
const ANSWERS: usize = 64;

/// What the core is told from outside the pipeline.
pub enum Order {
    /// A datagram to ourselves leaves when this is heard: from this port of this process.
    SelfCheck {
        port: u16,
        pid: u32,
        ready: Done<()>,
    },
    /// It could not be sent, for this reason.
    SelfCheckFailed(String),
    Policy(Arc<Policy>),
    /// Bring all totals up to date, and say when that is done.
    Refresh(Done<()>),
    /// What was kept by the daemon before, which could not be read until now; gives how many baselines were damaged.
    Restore(Box<Saved>, Done<usize>),
}

/// Called once, when something is done, with what came of it.
pub type Done<T> = Box<dyn FnOnce(T) + Send>;

/// What comes into the core thread.
pub struct Inlets {
    pub events: Receiver<Batch>,
    pub found: Receiver<Found>,
    pub requests: Receiver<Request>,
    pub orders: Receiver<Order>,
}

/// What goes out of it.
pub struct Outlets {
    /// Where it is noted what was told to be lost.
    pub losses: Option<LossesTold>,
    /// They outlive this one's end, too: open flows are not at theirs.
    pub hooks_stay: Arc<AtomicBool>,
    pub sink: SinkHandle,
    pub alerts: broadcast::Sender<Arc<AlertView>>,
    pub commands: Sender<Command>,
    pub lookups: Sender<Lookup>,
    pub found: Receiver<Found>,
    pub stages: Stages,
    pub changes: Sender<Vec<Change>>,
    /// When the core went round last, CLOCK_MONOTONIC ns: one that is caught in what it reads does not.
    pub alive: Arc<AtomicU64>,
    /// To whoever runs the hooks for alerts; `None`: there are none.
    pub hooks: Option<(Sender<Notice>, Context)>,
}

/// What the core leaves: records that are still to be written, and what they say of losses.
pub struct Ended {
    sink: SinkHandle,
    losses: Option<(LossesTold, Counters)>,
}

impl Ended {
    /// See [`SinkHandle::finish`]. Losses that were told are not told again by the next one.
    pub fn finish(self, patience: Patience) {
        let counters = self.sink.finish(patience);
        if let Some((losses, told)) = self.losses
            && counters.losses_are_told()
        {
            losses.note(&told);
        }
    }
}

/// The core thread: ends when the kernel side has hung up.
pub fn run(mut core: Core, mut inlets: Inlets, outlets: Outlets, about: &About) -> Ended {
    let mut ticked = Instant::now();
    let mut marked = 0;
    let mut noted = *core.losses_told();
    let mut counted = ticked;
    let mut refreshed: Vec<Done<()>> = Vec::new();
    let mut unkept: Vec<(u64, Reply<bool>)> = Vec::new();
    let mut end = None;
    loop {
        let every = if core.is_waiting() || !unkept.is_empty() { TICK } else { QUIET_TICK };
        let due = (ticked + every).saturating_duration_since(Instant::now());
        if due.is_zero() {
            ticked = Instant::now();
            outlets.alive.store(monotonic_ns(), Ordering::Relaxed);
            outlets.stages.events.observed(inlets.events.len());
            // What is not delivered is for the next one to tell.
            if let Some(losses) = &outlets.losses
                && noted != *core.losses_told()
                && outlets.sink.losses_are_told()
            {
                losses.note(core.losses_told());
                noted = *core.losses_told();
            }
            if ticked >= counted + COUNT_EVERY {
                counted = ticked;
                core.note_stages(outlets.stages.loss_rows());
                core.look_for_loader(outlets.stages.loader.heard(), monotonic_ns());
            }
            core.tick(monotonic_ns(), Clock::now());
            outlets.pass_on(&mut core);
        }
        select! {
            recv(inlets.events) -> batch => {
                let Ok(batch) = batch else { break };
                let stage = &outlets.stages.events;
                stage.observed(inlets.events.len() + 1);
                // A full channel makes the reader wait: nothing is lost here.
                Sums::of(&batch.events).each(|kind, count| {
                    stage.of(kind).offer(count);
                    stage.of(kind).deliver(count);
                });
                let now_ns = monotonic_ns();
                core.take(batch.events, now_ns);
                core.heard_until(batch.until_ns);
                // Who is asked for may be gone when their bytes have been looked at.
                outlets.ask(&mut core);
                core.look_at_grown(now_ns);
                end = batch.end.or(end);
            }
            recv(inlets.found) -> found => {
                match found {
                    Ok(found) => {
                        let now_ns = monotonic_ns();
                        core.found(found, now_ns);
                        for found in inlets.found.try_iter().take(ANSWERS) {
                            core.found(found, now_ns);
                        }
                    }
                    // A thread that is gone is not asked again and again.
                    Err(_) => inlets.found = never(),
                }
            }
            recv(inlets.requests) -> request => {
                match request {
                    Err(_) => inlets.requests = never(),
                    Ok(request) => {
                    outlets.stages.api.requests.deliver(1);
                    match request {
                        Request::Kept(reply) => {
                            // Of what was said before it.
                            outlets.pass_on(&mut core);
                            unkept.push((outlets.stages.changes.of(0).delivered(), reply));
                        }
                        request => core.answer(request, about, &outlets.stages, monotonic_ns()),
                    }
                    }
                }
            }
            recv(inlets.orders) -> order => {
                match order {
                    Ok(Order::SelfCheck { port, pid, ready }) => {
                        core.expect_self_check(port, pid, monotonic_ns());
                        ready(());
                    }
                    Ok(Order::SelfCheckFailed(error)) => core.self_check_failed(error),
                    Ok(Order::Policy(policy)) => core.set_policy(policy, monotonic_ns()),
                    Ok(Order::Refresh(done)) => {
                        core.refresh();
                        refreshed.push(done);
                    }
                    Ok(Order::Restore(saved, done)) => {
                        done(core.restore(*saved, monotonic_ns()));
                    }
                    Err(_) => inlets.orders = never(),
                }
            }
            default(due) => {}
        }
        outlets.pass_on(&mut core);
        if !unkept.is_empty() {
            let kept = outlets.stages.loader.kept();
            for (_, reply) in unkept.extract_if(.., |(wanted, _)| kept.is_none_or(|kept| kept >= *wanted)) {
                // Whoever asked may have left.
                let _ = reply.send(kept.is_some());
            }
        }
        if let Some(end) = end {
            let told = core.told_up_to(end);
            if told > marked {
                marked = told;
                outlets.sink.mark(told);
            }
        }
        if !core.is_refreshing() {
            for done in refreshed.drain(..) {
                done(());
            }
        }
    }
    // Nobody answers these any more.
    outlets.stages.api.requests.lose(inlets.requests.try_iter().count() as u64);
    let hooks_stay = outlets.hooks_stay.load(Ordering::Acquire);
    outlets.last_answers(&mut core, hooks_stay);
    core.shut_down(monotonic_ns(), hooks_stay);
    outlets.pass_on(&mut core);
    if let Some(end) = end {
        outlets.sink.mark(end);
    }
    let told = *core.losses_told();
    Ended { sink: outlets.sink, losses: outlets.losses.map(|losses| (losses, told)) }
}

impl Outlets {
    /// Passes on what the last step gave. Nothing here waits.
    fn pass_on(&self, core: &mut Core) {
        loop {
            let Output { records, commands, lookups, changes } = core.take_output();
            if records.is_empty() && commands.is_empty() && lookups.is_empty() && changes.is_empty() {
                return;
            }
            if !changes.is_empty() {
                let count = changes.len() as u64;
                self.stages.changes.of(0).offer(count);
                self.stages.changes.observed(self.changes.len() + 1);
                match self.changes.try_send(changes) {
                    Ok(()) => self.stages.changes.of(0).deliver(count),
                    Err(_) => self.stages.changes.of(0).lose(count),
                }
            }
            for record in records {
                if let Record::Alert { alert, .. } = &record {
                    // Without followers there is nobody to tell.
                    let _ = self.alerts.send(alert.clone());
                    if let Some((hooks, context)) = &self.hooks
                        && let Some(notice) = Notice::of(context, alert)
                    {
                        offer(&self.stages.alerts, 0, notice, hooks);
                    }
                }
                self.sink.send(record);
            }
            for command in commands {
                offer(&self.stages.commands, command.kind(), command, &self.commands);
            }
            self.ask_all(lookups, core);
        }
    }

    /// Passes on the questions alone.
    fn ask(&self, core: &mut Core) {
        self.ask_all(core.take_lookups(), core);
    }

    fn ask_all(&self, lookups: Vec<Lookup>, core: &mut Core) {
        for lookup in lookups {
            if let Some(refused) = offer(&self.stages.lookups, lookup.kind(), lookup, &self.lookups) {
                answer_unseen(core, refused);
            }
        }
    }

    /// Waits a moment for the answers that are still under way. Where the hooks stay, nobody reads the ring meanwhile, and
    /// the next daemon asks for the owners of flows that go on.
    fn last_answers(&self, core: &mut Core, hooks_stay: bool) {
        // Those that were to be asked for with the next tick.
        core.ask_for_users(monotonic_ns());
        self.pass_on(core);
        while core.waits_for_owners() {
            let all = !hooks_stay || core.waits_for_owners_of_ended();
            let Ok(found) = self.found.recv_timeout(if all { LAST_ANSWER } else { ANSWER_OF_OPEN }) else {
                return;
            };
            core.found(found, monotonic_ns());
            self.pass_on(core);
        }
    }
}

/// Puts a message into its channel, and counts it. Gives it back where there is no room.
fn offer<T>(stage: &Stage, kind: usize, message: T, channel: &Sender<T>) -> Option<T> {
    let tally = stage.of(kind);
    tally.offer(1);
    stage.observed(channel.len() + 1);
    match channel.try_send(message) {
        Ok(()) => {
            tally.deliver(1);
            None
        }
        Err(refused) => {
            tally.lose(1);
            Some(refused.into_inner())
        }
    }
}

/// Too many look-ups at once: what the kernel saw has to do.
fn answer_unseen(core: &mut Core, lookup: Lookup) {
    let now_ns = monotonic_ns();
    match lookup {
        Lookup::Owner { key, seen } => {
            core.found(Found::Owner { key, seen, identity: Arc::new(unseen(&seen)) }, now_ns)
        }
        Lookup::Listener { cookie, seen } => {
            core.found(Found::Listener { cookie, identity: Arc::new(unseen(&seen)) }, now_ns);
        }
        Lookup::User { key, .. } => core.found(Found::User { key, identity: None }, now_ns),
        // As it was.
        Lookup::Tunnel { .. } | Lookup::Namespace { .. } => {}
        Lookup::Sockets => {
            core.found(Found::Sockets { seen: Vec::new(), rest: Rest::Unseen, began_ns: now_ns }, now_ns)
        }
    }
}
