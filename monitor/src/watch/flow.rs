//! One flow that goes on.

use dissect::activity::{Broker, Event, Fingerprint, Observer};
use dissect::{End, Layer, Plain, Protection, UnknownReason, inspect_sample};
use monitor_common::{Decision, decision};

use super::budget::Budget;
use super::lane::{Lane, Piece};
use super::{GLANCE, STEP, Sampling};

/// An offset beyond this is not asked for: the kernel counts in 32 bits.
const FURTHEST: u32 = 1 << 30;

/// Bytes of one direction that tell whether they can be read: random ones look like text once in 10^9.
const SAMPLE: usize = 32;

/// After this time what was asked for is asked for again, ns.
const ASK_AGAIN: u64 = 10_000_000_000;

/// How the flow is read on.
#[derive(Debug)]
pub struct Watch {
    reads: Reads,
    client: Lane,
    server: Lane,
    budget: Budget,
    generation: u32,
    /// When a sample was last asked for.
    asked_ns: u64,
    state: State,
    /// Nothing was passed over.
    whole: bool,
}

#[derive(Debug)]
enum Reads {
    /// What goes on in the clear.
    Activity(Observer),
    /// Whether it is still encrypted.
    Glance { client: Vec<u8>, server: Vec<u8>, cut: [bool; 2] },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The kernel captures up to this offset.
    Open { limit: u32 },
    /// It captures nothing, since then.
    Paused { since_ns: u64 },
    /// It was asked for a sample.
    Asked,
}

/// Tens of thousands are watched at a time.
const _: () = assert!(size_of::<Watch>() <= 312);

impl Watch {
    /// Of a flow with `server` in the clear, or one of which some is (layers): reads its first bytes, of which the kernel
    /// captures up to `limit`. `None`: nothing can be read of that protocol.
    pub fn plaintext(
        (protection, layers): (Protection, &[Layer]),
        server: Broker,
        first: (&[u8], &[u8]),
        midstream: bool,
        limit: u32,
        sampling: &Sampling,
        fingerprint: &dyn Fingerprint,
    ) -> Option<Watch> {
        let observer = Observer::behind(layers, first, protection, midstream, fingerprint);
        let mut observer = observer?.sharing(&sampling.topics.of_broker(server));
        observer.feed(End::Client, first.0, fingerprint);
        observer.feed(End::Server, first.1, fingerprint);
        Some(Watch {
            reads: Reads::Activity(observer),
            client: Lane::at(first.0.len() as u32),
            server: Lane::at(first.1.len() as u32),
            budget: Budget::new(sampling.flow_rate),
            generation: 0,
            asked_ns: 0,
            state: State::Open { limit },
            whole: !midstream,
        })
    }

    /// A look into a flow that is encrypted and settled, and what the kernel is to be told for it.
    /// `None`: all together have spent what they may.
    pub fn encrypted(sampling: &mut Sampling, now_ns: u64) -> Option<(Watch, Decision)> {
        if !sampling.total.allows(GLANCE, now_ns) {
            return None;
        }
        let mut watch = Watch {
            reads: Reads::Glance { client: Vec::new(), server: Vec::new(), cut: [false; 2] },
            client: Lane::default(),
            server: Lane::default(),
            budget: Budget::new(GLANCE),
            generation: 0,
            asked_ns: now_ns,
            state: State::Paused { since_ns: now_ns },
            whole: false,
        };
        let decision = watch.ask(GLANCE, sampling, now_ns);
        Some((watch, decision))
    }

    /// Whether a look into an encrypted flow is over.
    pub fn has_glanced(&self) -> bool {
        matches!((&self.reads, self.state), (Reads::Glance { .. }, State::Paused { .. }))
    }

    /// Whether all that the client has sent, so many bytes, has been read.
    pub fn has_read_client(&self, bytes: u64) -> bool {
        let reads = match &self.reads {
            Reads::Activity(observer) => observer.is_in_step(),
            Reads::Glance { .. } => false,
        };
        reads && self.whole && u64::from(self.client.reached()) >= bytes
    }

    /// Whether something was found that was not taken so far.
    pub fn has_found(&self) -> bool {
        matches!(&self.reads, Reads::Activity(observer) if observer.has_found())
    }

    /// Whether there is nothing more to be read in it.
    pub fn is_done(&self) -> bool {
        matches!(&self.reads, Reads::Activity(observer) if observer.is_done())
    }

    /// The kernel captures no more of it.
    pub fn pause(&mut self, now_ns: u64) {
        self.state = State::Paused { since_ns: now_ns };
    }

    /// Whether what goes on in it is read.
    pub fn reads_activity(&self) -> bool {
        matches!(self.reads, Reads::Activity(_))
    }

    /// What the kernel is to be told first: to go on, or to stop for now.
    pub fn begin(&mut self, sampling: &mut Sampling, now_ns: u64) -> Option<Decision> {
        match self.state {
            State::Open { limit } if sampling.total.allows(STEP, now_ns) => {
                self.go_on(limit, sampling, now_ns)
            }
            // All together have spent what they may: this one is settled at once.
            State::Open { .. } => {
                self.whole = false;
                self.state = State::Paused { since_ns: now_ns };
                Some(sampling.ask(decision::SETTLE, self.generation, 0))
            }
            _ => Some(Decision { action: decision::SETTLE, ..Decision::default() }),
        }
    }

    /// A capture. Gives what the kernel is to be told.
    pub fn capture(
        &mut self,
        from: End,
        (generation, offset): (u32, u32),
        data: &[u8],
        sampling: &mut Sampling,
        fingerprint: &dyn Fingerprint,
        now_ns: u64,
    ) -> Option<Decision> {
        sampling.spend(data.len(), now_ns);
        self.budget.spend(data.len() as u32, now_ns);
        match self.state {
            State::Asked if generation == self.generation => self.new_window(),
            _ if generation != self.generation => return None,
            _ => {}
        }
        let lane = match from {
            End::Client => &mut self.client,
            End::Server => &mut self.server,
        };
        let pieces = lane.push(offset, data, now_ns);
        self.read(from, pieces, fingerprint);
        match self.state {
            State::Open { limit } => self.go_on(limit, sampling, now_ns),
            // Told to stop, and it has not heard.
            State::Paused { since_ns } if now_ns.saturating_sub(since_ns) > ASK_AGAIN => {
                self.state = State::Paused { since_ns: now_ns };
                Some(sampling.ask(decision::SETTLE, self.generation, 0))
            }
            _ => None,
        }
    }

    /// A second has passed; `active`: the flow has moved bytes since. Gives what the kernel is to be
    /// told.
    pub fn tick(
        &mut self,
        active: bool,
        sampling: &mut Sampling,
        fingerprint: &dyn Fingerprint,
        now_ns: u64,
    ) -> Option<Decision> {
        for from in [End::Client, End::Server] {
            let lane = if from == End::Client { &mut self.client } else { &mut self.server };
            let pieces = lane.tick(now_ns);
            self.read(from, pieces, fingerprint);
        }
        if !self.reads_activity() && now_ns.saturating_sub(self.asked_ns) >= ASK_AGAIN {
            // Nothing more came: what there is has to do.
            self.state = State::Paused { since_ns: now_ns };
            return Some(sampling.ask(decision::SETTLE, self.generation, 0));
        }
        if !active {
            return None;
        }
        match (&self.reads, self.state) {
            (_, State::Open { .. }) => None,
            (Reads::Activity(_), State::Asked) if now_ns.saturating_sub(self.asked_ns) < ASK_AGAIN => None,
            (Reads::Activity(observer), _) => {
                let wanted = !observer.is_done()
                    && self.budget.allows(STEP, now_ns)
                    && sampling.total.allows(STEP, now_ns);
                wanted.then(|| self.ask(STEP, sampling, now_ns))
            }
            (Reads::Glance { .. }, _) => None,
        }
    }

    /// Bytes held: of messages that are not whole yet, or behind a gap.
    pub fn held(&self) -> usize {
        let held = match &self.reads {
            Reads::Activity(observer) => observer.held(),
            Reads::Glance { client, server, .. } => client.len() + server.len(),
        };
        held + self.client.waiting() + self.server.waiting()
    }

    /// Lets go of all bytes, and pauses: they are too many. What the kernel is to be told is given.
    pub fn let_go(&mut self, sampling: &mut Sampling, now_ns: u64) -> Decision {
        self.whole = false;
        (self.client, self.server) = (Lane::default(), Lane::default());
        match &mut self.reads {
            Reads::Activity(observer) => {
                observer.gap(End::Client);
                observer.gap(End::Server);
            }
            Reads::Glance { client, server, .. } => (*client, *server) = (Vec::new(), Vec::new()),
        }
        self.state = State::Paused { since_ns: now_ns };
        sampling.ask(decision::SETTLE, self.generation, 0)
    }

    /// The flow has ended with so many bytes of client and server: where all were read, what nobody answered is answered
    /// with that.
    pub fn end(&mut self, (client, server): (u64, u64)) {
        let reached = |lane: &Lane, bytes| u64::from(lane.reached()) >= bytes;
        let has_read_all = self.whole && reached(&self.client, client) && reached(&self.server, server);
        match &mut self.reads {
            Reads::Activity(observer) if has_read_all => observer.end(),
            _ => {}
        }
    }

    /// What was found since the last time, and how much more there was than could be kept.
    pub fn take(&mut self) -> Vec<Event> {
        match &mut self.reads {
            Reads::Activity(observer) => observer.take(),
            Reads::Glance { .. } => Vec::new(),
        }
    }

    /// Whether an encrypted flow turned out to go on in the clear, one way at least: what can be read now.
    pub fn is_in_the_clear(&self) -> Option<Plain> {
        let Reads::Glance { client, server, .. } = &self.reads else { return None };
        // Less is no sample: it may be text by chance.
        let sample = |bytes: &Vec<u8>| match bytes.len() >= SAMPLE {
            true => inspect_sample(bytes, &[]).facts.protection,
            false => Protection::Unknown(UnknownReason::TooFew),
        };
        [client, server].into_iter().find_map(|side| match sample(side) {
            Protection::Plaintext(plain) => Some(plain),
            _ => None,
        })
    }

    /// Whether an encrypted flow of TLS 1.2 or earlier turned out to be in another handshake.
    pub fn renegotiates(&self) -> bool {
        match &self.reads {
            Reads::Glance { client, server, .. } => dissect::sample_renegotiates(client, server),
            Reads::Activity(_) => false,
        }
    }

    fn ask(&mut self, limit: u32, sampling: &mut Sampling, now_ns: u64) -> Decision {
        self.generation = sampling.next_generation();
        (self.state, self.asked_ns) = (State::Asked, now_ns);
        sampling.ask(decision::SAMPLE, self.generation, limit)
    }

    /// The first capture of a sample: offsets begin again.
    fn new_window(&mut self) {
        self.whole = false;
        (self.client, self.server) = (Lane::default(), Lane::default());
        match &mut self.reads {
            Reads::Activity(observer) => {
                self.state = State::Open { limit: STEP };
                observer.gap(End::Client);
                observer.gap(End::Server);
            }
            Reads::Glance { client, server, cut } => {
                self.state = State::Open { limit: GLANCE };
                (*client, *server, *cut) = (Vec::new(), Vec::new(), [false; 2]);
            }
        }
    }

    /// Near the end of the window: a larger one, or a pause.
    fn go_on(&mut self, limit: u32, sampling: &mut Sampling, now_ns: u64) -> Option<Decision> {
        let reached = self.client.reached().max(self.server.reached());
        let done = match &self.reads {
            Reads::Activity(observer) => {
                if !observer.is_done() && limit.saturating_sub(reached) > STEP / 2 {
                    return None;
                }
                observer.is_done() || reached > FURTHEST
            }
            Reads::Glance { client, server, .. } => {
                if client.len().max(server.len()) < GLANCE as usize / 2 {
                    return None;
                }
                true
            }
        };
        if !done && self.budget.allows(STEP, now_ns) && sampling.total.allows(STEP, now_ns) {
            let limit = reached.max(limit).saturating_add(STEP);
            self.state = State::Open { limit };
            return Some(sampling.ask(decision::EXTEND, self.generation, limit));
        }
        self.state = State::Paused { since_ns: now_ns };
        self.whole = false;
        Some(sampling.ask(decision::SETTLE, self.generation, 0))
    }

    fn read(&mut self, from: End, pieces: Vec<Piece>, fingerprint: &dyn Fingerprint) {
        for piece in pieces {
            self.whole &= piece != Piece::Gap;
            match (&mut self.reads, piece) {
                (Reads::Activity(observer), Piece::Bytes(bytes)) => observer.feed(from, &bytes, fingerprint),
                (Reads::Activity(observer), Piece::Gap) => observer.gap(from),
                (Reads::Glance { client, server, cut }, Piece::Bytes(bytes)) => {
                    let kept = if from == End::Client { client } else { server };
                    // Behind a gap nobody knows where a record begins.
                    if cut[from as usize] {
                        continue;
                    }
                    let room = (GLANCE as usize).saturating_sub(kept.len());
                    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
                (Reads::Glance { client, server, cut }, Piece::Gap) => {
                    let kept = if from == End::Client { client } else { server };
                    cut[from as usize] |= !kept.is_empty();
                }
            }
        }
    }
}
