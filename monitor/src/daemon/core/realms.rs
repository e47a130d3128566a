//! Whose the network namespaces of flows are. Who makes one gives it any addresses: those of a peer elsewhere, too. So only
//! flows of one namespace, or of namespaces of one [`Realm`], are the two ends of a connection.
//!
//! Datagrams need no answer that would come in where they were sent: of who sends them first it is asked as well whether their
//! address is one of its namespace. Else it is [`Realm::NOWHERE`].
//!
//! In: flows, and what the loader found of their namespaces. Out: questions, each asked once for all flows of a namespace,
//! and flows that are put together with their other ends when the answer comes. Must never: name an end that may be in
//! somebody else's namespace, or grow beyond its tables.

use std::net::IpAddr;

use foldhash::quality::RandomState;

use super::*;
use crate::flows::Endpoint;
use crate::identity::Realm;

/// Namespaces, and sockets in those that are not known, that are remembered.
const KNOWN: usize = 16_384;
/// Of those, questions that are open, and flows that wait for an answer: of all, and of one.
const ASKED: usize = 4096;
const WAITING: usize = 16_384;
const WAITING_FOR_ONE: usize = 1024;
/// Flows remembered by their addresses of which it is not known where they are.
const STRANGERS: usize = 16_384;
/// After twice this time a question is asked again, and after twice as long each time, up to sixteen times it, ns.
const AGAIN: u64 = 2_000_000_000;
const TIMES: u32 = 4;
/// That a namespace has an address is asked again after this time, and that it has not is forgotten, ns.
const CHECKED: u64 = 60_000_000_000;
const FORGOTTEN: u64 = 2_000_000_000;
/// So many in one look.
const ASKED_AGAIN: usize = 64;

/// Said of the other end of a flow.
const UNKNOWN: &str = "it is not known whose the network namespace of the other end is";

/// A network namespace; or, where the kernel programs saw none, the socket in it. And an address that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    netns: u64,
    cookie: u64,
    address: Option<IpAddr>,
}

impl Place {
    fn new(netns: u64, cookie: u64, address: Option<IpAddr>) -> Place {
        Place { netns, cookie: if netns == 0 { cookie } else { 0 }, address }
    }

    fn of(flow: &Flow) -> Place {
        Place::new(flow.netns, flow.cookie(), flow.claimed_address())
    }
}

#[derive(Clone, Copy, Debug)]
struct Known {
    realm: Realm,
    learnt_ns: u64,
}

impl Known {
    /// An address that a namespace has not it may have soon.
    fn holds(&self, now_ns: u64) -> bool {
        self.realm != Realm::NOWHERE || now_ns.saturating_sub(self.learnt_ns) < FORGOTTEN
    }
}

#[derive(Debug, Default)]
struct Question {
    asked_ns: u64,
    times: u32,
    waiting: Vec<FlowId>,
}

impl Question {
    fn is_due(&self, now_ns: u64) -> bool {
        self.times == 0 || now_ns.saturating_sub(self.asked_ns) >= AGAIN << self.times.min(TIMES)
    }

    /// The answer may come any moment.
    fn is_new(&self, now_ns: u64) -> bool {
        self.times == 1 && now_ns.saturating_sub(self.asked_ns) <= PATIENCE
    }

    fn ask(&mut self, now_ns: u64) {
        self.asked_ns = now_ns;
        self.times = self.times.saturating_add(1);
    }
}

#[derive(Debug, Default)]
pub(super) struct Realms {
    known: HashMap<Place, Known, RandomState>,
    asked: HashMap<Place, Question, RandomState>,
    /// How many wait in all of them.
    waiting: usize,
    /// When it was last looked which are to be asked again, and which were given up for others.
    looked_ns: u64,
    made_room_ns: u64,
    /// Flows whose realm is not known, by their addresses: the last one of each.
    strangers: HashMap<(Transport, Endpoint, Endpoint), FlowId, RandomState>,
    /// Flows that may be the two ends of one connection, each by the other.
    unsure: HashMap<FlowId, FlowId, RandomState>,
}

impl Realms {
    fn learn(&mut self, place: Place, realm: Realm, now_ns: u64) {
        if self.known.len() >= KNOWN {
            // Of those there may be any number.
            self.known.retain(|_, known| known.realm != Realm::NOWHERE);
            if self.known.len() >= KNOWN / 2 {
                self.known.clear();
            }
        }
        self.known.insert(place, Known { realm, learnt_ns: now_ns });
    }

    fn known(&self, place: Place, now_ns: u64) -> Option<Realm> {
        self.known.get(&place).filter(|known| known.holds(now_ns)).map(|known| known.realm)
    }

    /// A flow waits for the answer; whether that is to be asked now.
    fn wait(&mut self, place: Place, id: Option<FlowId>, now_ns: u64) -> bool {
        let is_full =
            self.waiting >= WAITING || self.asked.len() >= ASKED && !self.asked.contains_key(&place);
        if is_full && now_ns.saturating_sub(self.made_room_ns) >= PATIENCE {
            // What was asked for in vain is unknown for good.
            self.made_room_ns = now_ns;
            self.asked.retain(|_, question| question.times <= 1 && !question.is_due(now_ns));
            self.waiting = self.asked.values().map(|question| question.waiting.len()).sum();
        }
        if self.asked.len() >= ASKED && !self.asked.contains_key(&place) {
            return false;
        }
        let question = self.asked.entry(place).or_default();
        if let Some(id) = id
            && self.waiting < WAITING
            && question.waiting.len() < WAITING_FOR_ONE
        {
            self.waiting += 1;
            question.waiting.push(id);
        }
        let is_due = question.is_due(now_ns);
        if is_due {
            question.ask(now_ns);
        }
        is_due
    }

    fn take(&mut self, place: Place) -> Option<Question> {
        let question = self.asked.remove(&place)?;
        self.waiting = self.waiting.saturating_sub(question.waiting.len());
        Some(question)
    }
}

/// Accepted by a listener from before us: the kernel programs saw no namespace of it.
fn is_of_old_listener(flow: &Flow) -> bool {
    flow.netns == 0 && flow.direction == Direction::Ingress && flow.transport == Transport::Tcp
}

impl Core {
    /// Whose network namespace a flow is in, where that is known.
    pub(super) fn realm_of(&self, flow: &Flow, now_ns: u64) -> Option<Realm> {
        self.realms.known(Place::of(flow), now_ns).or_else(|| self.realm_of_old_listener(flow))
    }

    /// Our own network namespace: what is in the ring by now is mostly of flows in it.
    pub fn is_ours(&mut self, netns: u64, realm: Realm, now_ns: u64) {
        self.realm_is((netns, 0, None), realm, now_ns);
    }

    /// Whether it was asked a moment ago whose the namespace of a flow is, or of what may be its other end.
    pub(super) fn waits_for_realm(&self, id: FlowId, now_ns: u64) -> bool {
        let both = [Some(id), self.realms.unsure.get(&id).copied()];
        both.into_iter().flatten().filter_map(|id| self.table.get(id)).any(|flow| {
            let question = self.realms.asked.get(&Place::of(&flow)).filter(|_| flow.realm.is_none());
            question.is_some_and(|question| question.is_new(now_ns))
        })
    }

    /// Whose a network namespace is, where that is known.
    pub(super) fn realm_of_namespace(&self, netns: u64) -> Option<Realm> {
        self.realms.known(Place::new(netns, 0, None), 0).filter(|_| netns != 0)
    }

    /// Of a flow that a listener from before us accepted, where there is no doubt: every listener on the host with this
    /// port is in namespaces of one realm.
    fn realm_of_old_listener(&self, flow: &Flow) -> Option<Realm> {
        if !is_of_old_listener(flow) {
            return None;
        }
        let mut serving = self.listeners_at(flow.endpoints().0);
        let realm = serving.next()?.realm?;
        serving.all(|other| other.realm == Some(realm)).then_some(realm)
    }

    /// The addresses of a flow became known, or where it is.
    pub(super) fn find_realm(&mut self, id: FlowId, now_ns: u64) {
        self.take_known_realm(id, now_ns);
        self.ask_for_realm(id, now_ns);
    }

    /// A flow has its realm where that is known by now; where it is then.
    fn take_known_realm(&mut self, id: FlowId, now_ns: u64) -> Option<Place> {
        let flow = self.table.get(id).filter(|flow| flow.realm.is_none())?;
        let (realm, place) = (self.realm_of(&flow, now_ns)?, Place::of(&flow));
        drop(flow);
        self.is_in(id, place, realm, now_ns);
        Some(place)
    }

    /// Asks whose network namespace a flow is in. Until that is known it is by itself, or with others of its namespace.
    pub(super) fn ask_for_realm(&mut self, id: FlowId, now_ns: u64) {
        let Some(flow) = self.table.get(id).filter(|flow| flow.realm.is_none()) else { return };
        let (place, socket) = (Place::of(&flow), socket_of(&flow));
        let (local, remote) = flow.endpoints();
        let ends = (flow.transport, local, remote);
        // Where listeners from before us are is told soon, and with that of all that they accepted.
        let is_told = is_of_old_listener(&flow) && self.ended_early.is_some();
        drop(flow);
        if self.realms.strangers.len() >= STRANGERS {
            let table = &self.table;
            let is_one = |id: FlowId| table.get(id).is_some_and(|flow| flow.realm.is_none());
            self.realms.strangers.retain(|_, id| is_one(*id));
            if self.realms.strangers.len() >= STRANGERS / 2 {
                self.realms.strangers.clear();
            }
        }
        self.realms.strangers.insert(ends, id);
        // One that has chosen none yet asks when it has.
        let has_address = place.address.is_none_or(|address| !address.is_unspecified());
        if has_address && self.realms.wait(place, Some(id), now_ns) && !is_told {
            self.ask_for(place, socket);
        }
    }

    /// Listeners from before us became known: what they accepted is where they are.
    pub(super) fn find_realms_of_accepted(&mut self, now_ns: u64) {
        let strangers: Vec<FlowId> = self.realms.strangers.values().copied().collect();
        for id in strangers {
            if let Some(place) = self.take_known_realm(id, now_ns) {
                // Nobody is to be asked for it any more.
                self.realms.take(place);
            }
        }
    }

    fn ask_for(&mut self, place: Place, socket: SocketKey) {
        self.out.lookups.push(Lookup::Namespace { socket, checks_address: place.address.is_some() });
    }

    /// A namespace had the address of a flow a while ago.
    pub(super) fn check_address_again(&mut self, id: FlowId, now_ns: u64) {
        let Some(flow) = self.table.get(id) else { return };
        let (place, socket) = (Place::of(&flow), socket_of(&flow));
        drop(flow);
        let is_old = |known: &Known| now_ns.saturating_sub(known.learnt_ns) >= CHECKED;
        if place.address.is_some()
            && self.realms.known.get(&place).is_some_and(is_old)
            && self.realms.wait(place, None, now_ns)
        {
            self.ask_for(place, socket);
        }
    }

    /// Somebody listens there: whose namespace it is is known by the time that it accepts.
    pub(super) fn meet_namespace_of(&mut self, event: &FlowEvent) {
        let place = Place::new(event.netns, event.cookie, None);
        let is_known = event.netns == 0 || self.realms.known.contains_key(&place);
        if !is_known && self.realms.wait(place, None, event.at_ns) {
            let flow = Flow::from_event(event, &mut self.judge);
            self.ask_for(place, socket_of(&flow));
        }
    }

    /// Asks again what nobody has answered.
    pub(super) fn ask_for_realms_again(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.realms.looked_ns) < PATIENCE {
            return;
        }
        self.realms.looked_ns = now_ns;
        let due = self.realms.asked.iter().filter(|(_, question)| question.is_due(now_ns));
        let due: Vec<Place> = due.map(|(place, _)| *place).take(ASKED_AGAIN).collect();
        for place in due {
            let Some(mut question) = self.realms.take(place) else { continue };
            question.waiting.retain(|id| self.table.get(*id).is_some_and(|flow| flow.realm.is_none()));
            let first = question.waiting.first().and_then(|id| self.table.get(*id));
            let Some(socket) = first.map(|flow| socket_of(&flow)) else { continue };
            self.ask_for(place, socket);
            question.ask(now_ns);
            self.realms.waiting += question.waiting.len();
            self.realms.asked.insert(place, question);
        }
    }

    /// An answer. What is not known is asked again.
    pub(super) fn realm_is(
        &mut self,
        (netns, cookie, address): (u64, u64, Option<IpAddr>),
        realm: Realm,
        now_ns: u64,
    ) {
        let place = Place::new(netns, cookie, address);
        self.realms.learn(place, realm, now_ns);
        for id in self.realms.take(place).map(|question| question.waiting).unwrap_or_default() {
            self.is_in(id, place, realm, now_ns);
        }
    }

    /// From now on a flow is among all of its realm.
    fn is_in(&mut self, id: FlowId, place: Place, realm: Realm, now_ns: u64) {
        let unsure = self.realms.unsure.remove(&id);
        let is_its = |flow: &Flow| flow.realm.is_none() && Place::of(flow) == place;
        let Some(mut flow) = self.table.get_mut(id).filter(|flow| is_its(flow)) else { return };
        let (old, (local, remote)) = (flow.addresses(), flow.endpoints());
        let ends = (flow.transport, local, remote);
        flow.realm = Some(realm);
        drop(flow);
        self.table.note_addresses(id, old);
        if self.realms.strangers.get(&ends) == Some(&id) {
            self.realms.strangers.remove(&ends);
        }
        let both = [Some(id), unsure];
        for one in both.into_iter().flatten() {
            self.is_sure(one);
            self.find_other_end(one);
        }
        for one in both.into_iter().flatten() {
            self.advance(one, now_ns);
        }
    }

    /// No other end was found. There may be one, in a namespace of which nobody knows whose it is: then that is not known,
    /// and what was told already stays.
    pub(super) fn doubt_other_end(&mut self, id: FlowId) {
        let Some(other) = self.unsure_end_of(id) else { return };
        if self.realms.unsure.len() >= STRANGERS {
            self.realms.unsure.clear();
        }
        self.realms.unsure.extend([(id, other), (other, id)]);
        for one in [id, other] {
            if let Some(mut flow) = self.table.get_mut(one)
                && !flow.assigned
            {
                flow.marks.set(Marks::OTHER_END_UNSURE, true);
            }
        }
    }

    pub(super) fn unsure_end_of(&self, id: FlowId) -> Option<FlowId> {
        let flow = self.table.get(id).filter(|flow| flow.twin.is_none())?;
        let (local, remote) = flow.endpoints();
        // In most cases it is root's.
        let realms = [Some(Realm::ROOT), self.realm_of_namespace(flow.netns)];
        let spaces = realms.map(|realm| realm.filter(|_| flow.realm.is_none()));
        let spaces = spaces.map(|realm| realm.map(|realm| flow.space_of(Some(realm))));
        // Loopback addresses are those of one namespace.
        let is_anywhere = |other: &Flow| {
            !local.ip().is_loopback() || flow.netns == 0 || other.netns == 0 || flow.netns == other.netns
        };
        let stranger = self.realms.strangers.get(&(flow.transport, remote, local)).copied();
        let stranger = stranger.filter(|other| {
            let other = self.table.get(*other).filter(|other| other.realm.is_none());
            other.is_some_and(|other| other.endpoints() == (remote, local) && is_anywhere(&other))
        });
        drop(flow);
        let known = spaces.into_iter().flatten().find_map(|space| self.table.find_twin_in(id, space));
        known.or(stranger.filter(|other| *other != id && self.table.may_be_twins(id, *other)))
    }

    /// It is known by now where both are that may be the ends of one connection.
    pub(super) fn is_sure(&mut self, id: FlowId) {
        if let Some(mut flow) = self.table.get_mut(id)
            && flow.marks.has(Marks::OTHER_END_UNSURE)
        {
            flow.marks.set(Marks::OTHER_END_UNSURE, false);
            if flow.peer.as_ref().is_some_and(|peer| peer.missing.as_deref() == Some(UNKNOWN)) {
                flow.peer = None;
                flow.undecide();
            }
        }
    }

    /// More flows may wait for an answer than are remembered for it.
    pub(super) fn look_whether_sure(&mut self, id: FlowId, now_ns: u64) {
        if !self.table.get(id).is_some_and(|flow| flow.marks.has(Marks::OTHER_END_UNSURE)) {
            return;
        }
        let both = [Some(id), self.realms.unsure.get(&id).copied()];
        for one in both.into_iter().flatten() {
            self.take_known_realm(one, now_ns);
        }
    }

    /// Nobody knows in time whether what has the addresses of its other end is that.
    pub(super) fn leave_unsure(&mut self, id: FlowId) {
        let is_unsure = |flow: &Flow| {
            flow.marks.has(Marks::OTHER_END_UNSURE) && flow.twin.is_none() && flow.peer.is_none()
        };
        if !self.table.get(id).is_some_and(|flow| is_unsure(&flow)) {
            return;
        }
        let unknown = Identity { missing: Some(UNKNOWN.to_owned()), ..Identity::default() };
        let unknown = self.identities.get(unknown);
        if let Some(mut flow) = self.table.get_mut(id) {
            flow.peer = Some(unknown);
            flow.undecide();
        }
    }
}
