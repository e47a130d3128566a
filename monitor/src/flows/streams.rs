//! Streams: all flows from one client identity to one service.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use dissect::{Protection, Protocol, UnknownReason};
use foldhash::quality::RandomState;
use jiff::Timestamp;

use super::{Flow, Shown, certificates};
use crate::hist::{Measures, Sample};
use crate::model::{Answer, Direction, Identity, Judged, StreamView, Transport, Verdict};
use crate::policy::{FlowFacts, Policy};
use crate::posture;
use crate::verdict;

/// Position of a stream in the table, from 1: so that "none" takes no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(NonZeroU32);

impl StreamId {
    fn at(index: usize) -> Self {
        let position = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        StreamId(NonZeroU32::new(position).unwrap_or(NonZeroU32::MAX))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// One end of a stream: who, as people call it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// On this host.
    Local(String),
    /// Somewhere else, or unknown.
    Remote(IpAddr),
    /// What did not fit into the table, all together.
    Other,
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Party::Local(name) => f.write_str(name),
            Party::Remote(address) => address.fmt(f),
            Party::Other => f.write_str("(others)"),
        }
    }
}

/// What makes flows one stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    pub client: Party,
    pub server: Party,
    pub port: u16,
    pub transport: Transport,
}

impl std::fmt::Display for StreamKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        write!(f, "{} → {}:{}/{transport}", self.client, self.server, self.port)
    }
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    pub key: StreamKey,
    /// The key as text: what alerts about it are called by.
    pub subject: Arc<str>,
    pub direction: Direction,
    pub client_address: IpAddr,
    pub server_address: SocketAddr,
    pub client_identity: Option<Arc<Identity>>,
    pub server_identity: Option<Arc<Identity>>,
    /// Of the flow that is protected worst, or, where that is not known of any, the last that was seen.
    pub protocol: Option<Protocol>,
    pub flows: u64,
    pub open: u64,
    pub failed: u64,
    pub client_bytes: u64,
    pub server_bytes: u64,
    pub first_ns: u64,
    pub last_ns: u64,
    pub verdict: Arc<Verdict>,
    /// Of the flow that is protected worst.
    pub facts: Arc<dissect::Facts>,
    /// Certificates that other flows showed.
    shown: Option<Box<Shown>>,
    /// The verdict is of a flow that carried something.
    judged: bool,
    /// Another policy is in force since a flow was learned: its third answer is of none.
    undecided: bool,
    /// `None`: beyond the number of streams that have histograms of their own.
    pub measures: Option<Box<Measures>>,
    /// What it took over from streams that gave way: nothing that happened when it was.
    pub taken_over: TakenOver,
}

/// Of streams that gave way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    pub flows: u64,
    pub failed: u64,
    pub bytes: u64,
}

/// Streams that the daemon holds at a time; the flows of more go under one name, and are counted.
pub const STREAMS: usize = 65_536;
/// Bytes of identities in them: who is named chooses how long that is, and a stream is held until it gives way.
pub const IDENTITY_BYTES: usize = 16 << 20;

/// How long a stream without an open flow is left in peace, ns, and how often some are asked to give way.
const QUIET: u64 = 60_000_000_000;
const ASKED_EVERY: u64 = 1_000_000_000;
/// How many do so at one go, and parties that ask for it.
const GIVE_WAY: usize = 1024;
const ASKING: usize = 64;

/// Pairs of ends remembered in [`Streams::by_ends`].
const ENDS: usize = 4096;

/// Who is at both ends, client first: an identity by its address in memory, anybody else by IP address;
/// and the service.
type Ends = (End, End, (u16, Transport));
type End = (usize, Option<IpAddr>);

/// What a party has: streams, and bytes of identities and of certificates in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Has {
    streams: usize,
    /// Places that others gave up for it, and that it has not taken yet.
    may_take: usize,
    identity_bytes: usize,
    certificate_bytes: usize,
}

/// Streams of parties that may give way: bytes, when something happened last, and which.
type Quiet = HashMap<Party, Vec<(u64, u64, StreamId)>, RandomState>;

/// An identity that streams hold: how many ends of them, and to whom its bytes are charged.
#[derive(Debug)]
struct Held {
    ends: usize,
    bytes: usize,
    party: Party,
}

/// A stream, and the identities whose addresses stand for them in [`Ends`].
#[derive(Debug)]
struct Known {
    id: StreamId,
    _identities: [Option<Arc<Identity>>; 2],
}

/// The table of streams, bounded.
#[derive(Debug)]
pub struct Streams {
    list: Vec<Option<Stream>>,
    /// Places in it that were given up.
    free: Vec<StreamId>,
    by_key: HashMap<StreamKey, StreamId, RandomState>,
    /// The same by who exactly is at the ends: without putting names together.
    by_ends: HashMap<Ends, Known, RandomState>,
    /// What each party of this host has ([`Identity::party`]): one may have as much as there is room for others.
    by_party: HashMap<Party, Has, RandomState>,
    /// Identities that streams hold, by their addresses in memory, and the bytes of all.
    identities: HashMap<usize, Held, RandomState>,
    identity_bytes: usize,
    /// Parties that found no room lately, and for which streams: hashes of them.
    asking: HashMap<Party, HashSet<u64, RandomState>, RandomState>,
    asked_ns: u64,
    /// For certificates, bytes.
    certificate_room: usize,
    capacity: usize,
    with_measures: usize,
    /// Flows that were put into a stream.
    pub assigned: u64,
    /// Flows counted under [`Party::Other`] because the table was full.
    pub refused: u64,
    /// Streams that gave way to others of their party.
    pub gave_way: u64,
}

impl Streams {
    pub fn new(capacity: usize, with_measures: usize) -> Self {
        Streams {
            list: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::default(),
            by_ends: HashMap::default(),
            by_party: HashMap::default(),
            identities: HashMap::default(),
            identity_bytes: 0,
            asking: HashMap::default(),
            asked_ns: 0,
            certificate_room: certificates::BYTES,
            capacity,
            with_measures,
            assigned: 0,
            refused: 0,
            gave_way: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.list.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.list.iter().flatten()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.list.iter_mut().flatten()
    }

    pub fn get(&self, id: StreamId) -> Option<&Stream> {
        self.list.get(id.index())?.as_ref()
    }

    pub fn get_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.list.get_mut(id.index())?.as_mut()
    }

    /// A stream takes over what a flow of its own knows now.
    pub fn learn(&mut self, id: StreamId, flow: &Flow) {
        let Some(stream) = self.list.get_mut(id.index()).and_then(Option::as_mut) else { return };
        let before = stream.facts.clone();
        stream.learn(flow);
        for facts in [&before, &flow.facts] {
            if Arc::ptr_eq(facts, &stream.facts)
                || !certificates::is_new(stream.shown.as_deref(), &stream.facts, facts)
            {
                continue;
            }
            // As for streams: as much as there is room for others.
            let own = own_party([&stream.client_identity, &stream.server_identity].map(Option::as_ref));
            let has = self.by_party.entry(own).or_default();
            let room = self.certificate_room.saturating_sub(has.certificate_bytes) / 2;
            let mut left = room;
            certificates::keep(&mut stream.shown, &stream.facts, facts, &mut left);
            has.certificate_bytes += room - left;
            self.certificate_room -= room - left;
        }
    }

    /// The stream of a flow, made where there is none.
    pub fn of(&mut self, flow: &Flow) -> StreamId {
        self.assigned += 1;
        let [(client_identity, client), (server_identity, server)] = flow.ends();
        let end = |identity: Option<&Arc<Identity>>, address: SocketAddr| match identity {
            Some(identity) => (in_memory(identity), None),
            None => (0, Some(address.ip())),
        };
        let service = (server.port(), flow.transport);
        let ends = (end(client_identity, client), end(server_identity, server), service);
        if let Some(known) = self.by_ends.get(&ends) {
            return known.id;
        }
        let party = |identity: Option<&Arc<Identity>>, address: SocketAddr| match identity {
            Some(identity) => Party::Local(identity.label()),
            None => Party::Remote(address.ip()),
        };
        let mut key = StreamKey {
            client: party(client_identity, client),
            server: party(server_identity, server),
            port: server.port(),
            transport: flow.transport,
        };
        if let Some(id) = self.by_key.get(&key).copied() {
            if self.by_ends.len() >= ENDS {
                self.by_ends.clear();
            }
            let identities = [client_identity.cloned(), server_identity.cloned()];
            self.by_ends.insert(ends, Known { id, _identities: identities });
            return id;
        }
        let own = own_party([client_identity, server_identity]);
        let has = self.by_party.get(&own).copied().unwrap_or_default();
        let more = self.new_bytes([client_identity, server_identity]);
        let fits = more == 0
            || has.identity_bytes + more <= IDENTITY_BYTES.saturating_sub(self.identity_bytes + more);
        let free = self.capacity.saturating_sub(self.len());
        let is_full = has.streams >= free;
        if is_full && fits && has.may_take > 0 && free > 0 {
            self.by_party.entry(own.clone()).or_default().may_take -= 1;
        } else if !fits || is_full {
            self.refused += 1;
            // A place is no help where there is no room for a name.
            if fits {
                self.ask_for_room(&own, &key);
            }
            key = self.others_of(key, &own);
        }
        self.make(key, own, flow)
    }

    /// Bytes of those identities that no stream holds yet.
    fn new_bytes(&self, identities: [Option<&Arc<Identity>>; 2]) -> usize {
        let new =
            identities.into_iter().flatten().filter(|who| !self.identities.contains_key(&in_memory(who)));
        new.map(|identity| identity.bytes()).sum()
    }

    /// The stream of what is nobody's, made where there is none.
    pub fn others(&mut self, flow: &Flow) -> StreamId {
        let key =
            StreamKey { client: Party::Other, server: Party::Other, port: 0, transport: flow.transport };
        self.make(key, Party::Other, flow)
    }

    fn make(&mut self, key: StreamKey, own: Party, flow: &Flow) -> StreamId {
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        let [(client_identity, client), (server_identity, server)] = flow.ends();
        let place = self.free.pop();
        let id = place.unwrap_or_else(|| StreamId::at(self.list.len()));
        self.by_key.insert(key.clone(), id);
        self.hold([client_identity, server_identity], &own);
        self.by_party.entry(own).or_default().streams += 1;
        let stream = Stream {
            subject: key.to_string().into(),
            key,
            direction: flow.direction,
            client_address: client.ip(),
            server_address: server,
            client_identity: client_identity.cloned(),
            server_identity: server_identity.cloned(),
            protocol: None,
            flows: 0,
            open: 0,
            failed: 0,
            client_bytes: 0,
            server_bytes: 0,
            first_ns: flow.opened_ns,
            last_ns: flow.last_ns(),
            verdict: flow.verdict.clone(),
            facts: flow.facts.clone(),
            shown: None,
            judged: false,
            undecided: false,
            measures: (id.index() < self.with_measures).then(Box::default),
            taken_over: TakenOver::default(),
        };
        match self.list.get_mut(id.index()) {
            Some(place) => *place = Some(stream),
            None => self.list.push(Some(stream)),
        }
        id
    }

    /// A stream of that party holds these.
    fn hold(&mut self, identities: [Option<&Arc<Identity>>; 2], own: &Party) {
        for identity in identities.into_iter().flatten() {
            let held = self.identities.entry(in_memory(identity));
            let held = held.or_insert_with(|| Held { ends: 0, bytes: identity.bytes(), party: own.clone() });
            held.ends += 1;
            if held.ends == 1 {
                self.identity_bytes += held.bytes;
                self.by_party.entry(own.clone()).or_default().identity_bytes += held.bytes;
            }
        }
    }

    fn let_go(&mut self, identities: [Option<&Arc<Identity>>; 2]) {
        for identity in identities.into_iter().flatten() {
            let address = in_memory(identity);
            let Some(held) = self.identities.get_mut(&address) else { continue };
            held.ends -= 1;
            if held.ends == 0
                && let Some(Held { bytes, party, .. }) = self.identities.remove(&address)
            {
                self.identity_bytes -= bytes;
                self.by_party.entry(party).or_default().identity_bytes -= bytes;
            }
        }
    }
}

impl Streams {
    /// What has no stream of its own: counted together for a party of this host, and for all where there is
    /// no room even for that.
    fn others_of(&self, key: StreamKey, own: &Party) -> StreamKey {
        let of_party = of_party(&key, own);
        let room = self.by_key.contains_key(&of_party) || self.len() < self.capacity;
        let all = Party::Other;
        if room { of_party } else { StreamKey { client: all.clone(), server: all, ..of_party } }
    }

    fn ask_for_room(&mut self, own: &Party, key: &StreamKey) {
        let hash = self.by_key.hasher().hash_one(key);
        if let Some(streams) = self.asking.get_mut(own) {
            if streams.len() < GIVE_WAY {
                streams.insert(hash);
            }
        } else if self.asking.len() < ASKING {
            self.asking.entry(own.clone()).or_default().insert(hash);
        }
    }

    /// From time to time: streams in which nothing goes on make room for new ones of the same party, those that carried
    /// least first; for a party that has few, those of the one that has most do. What they counted goes on under
    /// "(others)" of their own party, with the worst of their answers.
    pub fn give_way(&mut self, now_ns: u64) {
        if self.asking.is_empty() || now_ns.saturating_sub(self.asked_ns) < ASKED_EVERY {
            return;
        }
        self.asked_ns = now_ns;
        // What was not taken by now was not needed.
        self.by_party.values_mut().for_each(|has| has.may_take = 0);
        let asking = std::mem::take(&mut self.asking);
        let each = (GIVE_WAY / asking.len()).max(1);
        let most = self.by_party.iter().max_by_key(|(_, has)| has.streams);
        let most = most.map(|(party, has)| (party.clone(), has.streams));
        let mut quiet = self.quiet_ones(asking.keys().chain(most.iter().map(|(party, _)| party)), now_ns);
        for (own, streams) in asking {
            let mut wanted = streams.len().min(each);
            let has = self.by_party.get(&own).map_or(0, |has| has.streams);
            let largest = most.as_ref().filter(|(party, streams)| *party != own && *streams > 2 * (has + 1));
            for from in [Some(&own), largest.map(|(party, _)| party)].into_iter().flatten() {
                let Some(its) = quiet.get_mut(from).filter(|_| wanted > 0) else { continue };
                let going = its.split_off(its.len().saturating_sub(wanted));
                wanted -= going.len();
                let places = going.into_iter().rev().filter(|(.., id)| self.fold(*id, from)).count();
                if places > 0 {
                    self.by_party.entry(own.clone()).or_default().may_take += places;
                }
            }
        }
        // A place that was given up is another stream's soon.
        self.by_ends.clear();
        self.by_party.retain(|_, has| *has != Has::default());
    }

    /// Of these parties, streams without an open flow and anything lately, those that carried least last: no flow has them
    /// any more.
    fn quiet_ones<'a>(&self, parties: impl Iterator<Item = &'a Party>, now_ns: u64) -> Quiet {
        let mut quiet: Quiet = parties.map(|party| (party.clone(), Vec::new())).collect();
        // A party has few identities, and many streams.
        let mut of_identity: HashMap<usize, Party, RandomState> = HashMap::default();
        for (index, stream) in self.list.iter().enumerate() {
            let Some(stream) = stream else { continue };
            let is_others = stream.key.client == Party::Other || stream.key.server == Party::Other;
            if is_others || stream.open > 0 || now_ns.saturating_sub(stream.last_ns) < QUIET {
                continue;
            }
            let identity = stream.client_identity.as_ref().or(stream.server_identity.as_ref());
            let party = match identity {
                Some(identity) => {
                    of_identity.entry(in_memory(identity)).or_insert_with(|| Party::Local(identity.party()))
                }
                None => &Party::Other,
            };
            if let Some(its) = quiet.get_mut(party) {
                let bytes = stream.client_bytes + stream.server_bytes;
                its.push((bytes, stream.last_ns, StreamId::at(index)));
            }
        }
        for its in quiet.values_mut() {
            its.sort_unstable_by_key(|(bytes, last_ns, id)| {
                std::cmp::Reverse((*bytes, *last_ns, id.index()))
            });
        }
        quiet
    }

    /// A stream goes on under its party's "(others)": that is what becomes of the first one. Whether its place is free.
    fn fold(&mut self, id: StreamId, own: &Party) -> bool {
        let Some(key) = self.get(id).map(|stream| stream.key.clone()) else { return false };
        self.by_key.remove(&key);
        self.gave_way += 1;
        let others = of_party(&key, own);
        let Some(into) = self.by_key.get(&others).copied() else {
            self.by_key.insert(others.clone(), id);
            if let Some(stream) = self.get_mut(id) {
                stream.subject = others.to_string().into();
                stream.key = others;
                stream.taken_over = TakenOver::of(stream);
            }
            return false;
        };
        let Some(gone) = self.list.get_mut(id.index()).and_then(Option::take) else { return false };
        self.free.push(id);
        self.let_go([gone.client_identity.as_ref(), gone.server_identity.as_ref()]);
        let certificates = gone.shown.as_deref().map_or(0, Shown::bytes);
        self.certificate_room += certificates;
        let has = self.by_party.entry(own.clone()).or_default();
        has.streams -= 1;
        has.certificate_bytes -= certificates;
        if let Some(stream) = self.get_mut(into) {
            stream.take_over(gone);
        }
        true
    }
}

/// What a party of this host has beside its streams.
fn of_party(key: &StreamKey, own: &Party) -> StreamKey {
    let (client, server) = match (own, &key.client) {
        (Party::Local(_), Party::Local(_)) => (own.clone(), Party::Other),
        (Party::Local(_), _) => (Party::Other, own.clone()),
        _ => (Party::Other, Party::Other),
    };
    StreamKey { client, server, port: 0, transport: key.transport }
}

impl TakenOver {
    fn of(stream: &Stream) -> TakenOver {
        TakenOver {
            flows: stream.flows,
            failed: stream.failed,
            bytes: stream.client_bytes + stream.server_bytes,
        }
    }
}

impl Stream {
    /// Takes over what a flow knows now. The stream's answer is the worst of those of the flows that
    /// carried payload; without any, the last one's.
    fn learn(&mut self, flow: &Flow) {
        self.last_ns = self.last_ns.max(flow.last_ns());
        self.show(&flow.facts, flow.facts.protocol);
        let carried = flow.bytes() != (0, 0) || flow.facts.protocol.is_some();
        self.answer(&flow.verdict, carried);
    }

    /// Shows the facts of what is protected worst.
    fn show(&mut self, facts: &Arc<dissect::Facts>, protocol: Option<Protocol>) {
        if !Arc::ptr_eq(&self.facts, facts) && posture::rank(facts) <= posture::rank(&self.facts) {
            self.facts = facts.clone();
        }
        self.protocol = match self.facts.protection {
            Protection::Unknown(reason) if reason != UnknownReason::Opaque => protocol.or(self.protocol),
            _ => self.facts.protocol,
        };
    }

    /// Answers with what is worse.
    fn answer(&mut self, verdict: &Arc<Verdict>, carried: bool) {
        if !self.judged {
            self.verdict = verdict.clone();
            self.judged = carried;
            self.undecided = false;
            return;
        }
        if !carried {
            return;
        }
        if std::mem::take(&mut self.undecided) {
            self.verdict =
                Arc::new(Verdict { authorised: verdict.authorised.clone(), ..(*self.verdict).clone() });
        }
        if Arc::ptr_eq(&self.verdict, verdict) {
            return;
        }
        let old = &*self.verdict;
        let [encrypted, authenticated, authorised, watched] = [
            (&old.encrypted, &verdict.encrypted),
            (&old.authenticated, &verdict.authenticated),
            (&old.authorised, &verdict.authorised),
            (&old.watched, &verdict.watched),
        ]
        .map(|(old, new)| (worse(old, new), old));
        if [encrypted, authenticated, authorised, watched].iter().any(|(worst, old)| worst != old) {
            self.verdict = Arc::new(Verdict {
                encrypted: encrypted.0.clone(),
                authenticated: authenticated.0.clone(),
                authorised: authorised.0.clone(),
                watched: watched.0.clone(),
            });
        }
    }

    /// Another stream gives way to this one.
    fn take_over(&mut self, gone: Stream) {
        self.flows += gone.flows;
        self.failed += gone.failed;
        self.client_bytes += gone.client_bytes;
        self.server_bytes += gone.server_bytes;
        self.first_ns = self.first_ns.min(gone.first_ns);
        self.last_ns = self.last_ns.max(gone.last_ns);
        let more = TakenOver::of(&gone);
        let TakenOver { flows, failed, bytes } = self.taken_over;
        self.taken_over =
            TakenOver { flows: flows + more.flows, failed: failed + more.failed, bytes: bytes + more.bytes };
        self.show(&gone.facts, gone.protocol);
        // It is no flow that says what another policy makes of this.
        let undecided = std::mem::take(&mut self.undecided);
        self.answer(&gone.verdict, gone.judged);
        self.undecided = undecided;
    }

    /// Another policy is in force: what the old one said of this stream no longer counts. The first flow's
    /// ends are all that the new one can be asked about, and others may have had others: so that makes no yes
    /// of what was none.
    pub fn decide(&mut self, policy: &Policy) {
        let decision = policy.decide(&FlowFacts {
            client: self.client_identity.as_deref(),
            client_address: SocketAddr::new(self.client_address, 0),
            server: self.server_identity.as_deref(),
            server_address: self.server_address,
            transport: self.key.transport,
        });
        let mut authorised = verdict::authorised(Some(&decision));
        if authorised.answer == Answer::Yes && self.verdict.authorised.answer != Answer::Yes {
            authorised = Judged::new(Answer::Unknown, "not seen since the policy changed");
        }
        self.verdict = Arc::new(Verdict { authorised, ..(*self.verdict).clone() });
        self.undecided = true;
    }

    pub fn sample(&mut self, sample: &Sample) {
        if let Some(measures) = &mut self.measures {
            measures.record(sample);
        }
    }

    pub fn view(&self, wall: impl Fn(u64) -> Timestamp) -> StreamView {
        StreamView {
            key: self.subject.to_string(),
            client: self.key.client.to_string(),
            server: self.key.server.to_string(),
            server_address: self.server_address,
            client_address: self.client_address,
            transport: self.key.transport,
            direction: self.direction,
            client_identity: self.client_identity.clone(),
            server_identity: self.server_identity.clone(),
            protocol: self.protocol.map(|protocol| protocol.as_str().to_owned()),
            flows: self.flows,
            open: self.open,
            failed: self.failed,
            client_bytes: self.client_bytes,
            server_bytes: self.server_bytes,
            first_seen: wall(self.first_ns),
            last_seen: wall(self.last_ns),
            verdict: self.verdict.clone(),
            facts: self.facts.clone(),
            shown: self.shown.as_deref().cloned().unwrap_or_default(),
        }
    }
}

/// Whose a stream is: its client's, where that is of this host.
fn own_party([client, server]: [Option<&Arc<Identity>>; 2]) -> Party {
    client.or(server).map_or(Party::Other, |identity| Party::Local(identity.party()))
}

fn in_memory(identity: &Arc<Identity>) -> usize {
    Arc::as_ptr(identity) as usize
}

fn rank(answer: Answer) -> u8 {
    match answer {
        Answer::No => 0,
        Answer::Unknown => 1,
        Answer::Yes => 2,
    }
}

/// The worse of two answers; of equal ones the newer, whose reason is the present one.
fn worse<'a>(old: &'a Judged, new: &'a Judged) -> &'a Judged {
    if rank(new.answer) <= rank(old.answer) { new } else { old }
}

#[cfg(test)]
mod tests {
    use dissect::{Certificate, Facts, TlsFacts};
    use monitor_common::FlowEvent;

    use super::super::Judge;
    use super::*;

    #[test]
    fn certificates_of_one_user_leave_room_for_those_of_others() {
        let (mut streams, mut judge) = (Streams::new(1000, 0), Judge::default());
        let mut show = |uid: u32, port: u16| {
            let event = FlowEvent { local_port: port, transport: 6, ..FlowEvent::default() };
            let mut flow = Flow::from_event(&event, &mut judge);
            flow.owner = Some(Arc::new(Identity {
                uid: Some(uid),
                name: Some(format!("p{uid}")),
                ..Identity::default()
            }));
            let id = streams.of(&flow);
            for n in 0..3 {
                let sha256 = n.to_string().repeat(30_000);
                let server_certificates = vec![Certificate { sha256, ..Certificate::default() }];
                let tls = Some(TlsFacts { server_certificates, ..TlsFacts::default() });
                flow.facts = Arc::new(Facts { tls, ..Facts::unknown(UnknownReason::Handshake) });
                streams.learn(id, &flow);
            }
            let shown =
                streams.get(id).and_then(|stream| stream.shown.as_deref().cloned()).unwrap_or_default();
            (shown.chains.len(), shown.left_out)
        };
        assert_eq!(show(1000, 1), (2, 0));
        for port in 2..200 {
            show(1000, port);
        }
        assert_eq!(show(1000, 200), (0, 2), "counted");
        assert_eq!(show(1001, 1), (2, 0));
    }
}
