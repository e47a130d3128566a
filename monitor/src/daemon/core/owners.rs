//! Who is behind a flow or a listener: questions out, answers in.

use super::recent::Answer;
use super::*;
use crate::flows::Endpoint;

/// Flows that ask again in one look.
const ASKED_AGAIN: usize = 256;

impl Core {
    /// Names the owner, where it is known, or asks who that is.
    pub(super) fn find_owner(&mut self, flow: &mut Flow, now_ns: u64) {
        if self.user_is_another(flow) {
            self.ask_for_user(flow, now_ns);
        } else if let Some(identity) = self.known_or_asked(flow.key(), flow.process_seen(), now_ns) {
            flow.set_owner(identity);
        }
    }

    /// Whether who made the socket is not known, or known to hand over what it accepts: then its user is looked
    /// for.
    fn user_is_another(&self, flow: &Flow) -> bool {
        let seen = flow.process_seen();
        let handed_over = flow.direction == Direction::Ingress
            && flow.transport == Transport::Tcp
            && (seen.tgid == 1 || self.handed_over.contains(&(seen.tgid, seen.seen_ns)));
        seen.tgid == 0 || handed_over
    }

    /// A connection ended whose user is still looked for: by now there is none to be found. A look that saw it in
    /// time has answered before the next tick.
    pub(super) fn ended_without_owner(&mut self, id: FlowId) {
        let Some(flow) = self.table.get(id) else { return };
        if flow.owner.is_none() && self.user_is_another(&flow) {
            self.users_wanted.push(flow.key());
        }
    }

    /// Who that process is, where it is known; else it is asked for, once.
    fn known_or_asked(&mut self, key: FlowKey, seen: ProcessSeen, now_ns: u64) -> Option<Arc<Identity>> {
        match self.recent.ask(&seen, key, &self.executions, now_ns) {
            Answer::Known(identity) => return Some(identity),
            Answer::UnderWay => {}
            Answer::Ask => self.out.lookups.push(Lookup::Owner { key, seen }),
        }
        None
    }

    /// The same for a flow that has its place.
    fn find_owner_of(&mut self, id: FlowId, now_ns: u64) {
        let Some(flow) = self.table.get(id) else { return };
        let (key, seen) = (flow.key(), flow.process_seen());
        drop(flow);
        if let Some(identity) = self.known_or_asked(key, seen, now_ns) {
            self.owner(id, identity, now_ns);
        }
    }

    /// Flows whose question is no longer kept ask again.
    pub(super) fn ask_again(&mut self, now_ns: u64) {
        for key in self.recent.take_left() {
            if let Some(id) = self.table.id(&key)
                && self.table.get(id).is_some_and(|flow| flow.awaits_owner())
            {
                self.find_owner_of(id, now_ns);
            }
        }
    }

    /// Who has waited for two seconds asks again, and after twice as long each time: an answer may have been
    /// lost. So many at a time that nobody who asks for the first time has to stand behind them.
    pub(super) fn ask_once_more(&mut self, now_ns: u64) {
        let mut left = ASKED_AGAIN;
        for id in self.waiting.clone() {
            let Some(flow) = self.table.get(id) else { continue };
            let seconds = now_ns.saturating_sub(flow.opened_ns) / PATIENCE;
            let is_late = flow.owner.is_none() && seconds >= 2 && seconds.is_power_of_two();
            let (key, of_user) = (flow.key(), self.user_is_another(&flow));
            drop(flow);
            match (is_late, of_user) {
                (false, _) => continue,
                (true, true) => self.users_wanted.push(key),
                (true, false) => self.find_owner_of(id, now_ns),
            }
            left -= 1;
            if left == 0 {
                return;
            }
        }
    }

    /// One walk over all processes answers for many sockets. So the first question of a while is asked
    /// at once, and the others with the next tick, for those connections that are still there.
    fn ask_for_user(&mut self, flow: &Flow, now_ns: u64) {
        if now_ns.saturating_sub(self.user_asked_ns) >= USER_EVERY {
            self.user_asked_ns = now_ns;
            self.out.lookups.push(Lookup::User { key: flow.key(), socket: socket_of(flow) });
        } else {
            self.users_wanted.push(flow.key());
        }
    }

    /// Asks for the users that could wait. A connection that is over has none any more: who closed it was
    /// its last.
    pub fn ask_for_users(&mut self, now_ns: u64) {
        // Who holds the listeners comes first, and answers for most.
        if self.ended_early.is_some() {
            return;
        }
        for key in std::mem::take(&mut self.users_wanted) {
            let Some(id) = self.table.id(&key) else { continue };
            let Some(flow) = self.table.get(id) else { continue };
            let seen = flow.process_seen();
            let (known, over, socket) = (flow.owner.is_some(), flow.is_over(), socket_of(&flow));
            let holder = if known { None } else { self.holder_of_old_listener(&flow) };
            drop(flow);
            if let Some(holder) = holder {
                self.held_by(id, holder, now_ns);
                continue;
            }
            match (known, over) {
                (true, _) => {}
                (false, false) => self.out.lookups.push(Lookup::User { key, socket }),
                (false, true) if seen.tgid == 0 => self.nobody_is_known(id, &seen, now_ns),
                (false, true) => self.find_owner_of(id, now_ns),
            }
        }
    }

    /// Who holds the listener that accepted a flow has it.
    fn held_by(&mut self, id: FlowId, holder: Arc<Identity>, now_ns: u64) {
        if let Some(mut flow) = self.table.get_mut(id) {
            flow.set_maker(holder.pid.unwrap_or(0));
        }
        self.owner(id, holder, now_ns);
    }

    /// The process behind the listener from before us that accepted this flow, where there is no
    /// doubt: every listener on the host with this port is held by one and the same process.
    pub(super) fn holder_of_old_listener(&self, flow: &Flow) -> Option<Arc<Identity>> {
        if flow.direction != Direction::Ingress || flow.maker() != 0 {
            return None;
        }
        let mut serving = self.listeners_at(flow.endpoints().0);
        let holder = serving.next()?.holder.clone()?;
        serving.all(|other| other.holder.as_ref() == Some(&holder)).then_some(holder)
    }

    /// The listeners on the host that may have accepted what has this address.
    pub(super) fn listeners_at(&self, local: Endpoint) -> impl Iterator<Item = &ListenerEntry> {
        let (port, ip) = (local.port(), local.ip());
        self.listeners.values().filter(move |listener| {
            listener.address.port() == port
                && (listener.address.ip().is_unspecified() || listener.address.ip() == ip)
        })
    }

    /// Nobody answers: what the kernel saw has to do. An answer that comes after all is taken.
    pub(super) fn tell_without_owners(&mut self, now_ns: u64) {
        for id in self.waiting.clone() {
            let Some(flow) = self.table.get(id) else { continue };
            let (seen, age_ns) = (flow.process_seen(), now_ns.saturating_sub(flow.opened_ns));
            let waits = flow.owner.is_none() && age_ns > PATIENCE;
            drop(flow);
            if waits {
                self.nobody_is_known(id, &seen, now_ns);
            }
        }
    }

    /// An answer from the resolver.
    pub fn found(&mut self, found: Found, now_ns: u64) {
        self.silence.answers += 1;
        match found {
            Found::Owner { key, seen, identity } => {
                let identity = self.identities.share(identity);
                let waiting = self.recent.found(&seen, &identity, now_ns);
                self.owner_as_asked(&key, &identity, now_ns);
                // Nobody could be found: all there is is what the kernel saw, which is alike. What is missing of one that
                // was found, is so for its own moment.
                let (is_found, is_whole) = (identity.executable.is_some(), identity.missing.is_none());
                for key in waiting {
                    let Some(id) = self.table.id(&key) else { continue };
                    let Some(flow) = self.table.get(id) else { continue };
                    let is_told =
                        !is_found || recent::is_of_moment(&flow.process_seen(), &seen, &self.executions);
                    let waits = flow.awaits_owner();
                    drop(flow);
                    if !is_whole && is_told {
                        self.owner_as_asked(&key, &identity, now_ns);
                    } else if waits {
                        self.find_owner_of(id, now_ns);
                    }
                }
            }
            Found::User { key, identity } => {
                if let Some(id) = self.table.id(&key) {
                    self.user(id, identity, now_ns);
                }
            }
            Found::Listener { cookie, identity } => self.listener(cookie, &identity, now_ns),
            Found::Sockets { seen, rest, began_ns } => self.sockets(&seen, rest, began_ns, now_ns),
            Found::Tunnels(any) => self.tunnels_are(any),
            Found::Tunnel { key, way } => {
                if let Some(id) = self.table.id(&key) {
                    self.tunnel(id, way, now_ns);
                }
            }
            Found::Namespace { netns, cookie, address, realm: Some(realm) } => {
                self.realm_is((netns, cookie, address), realm, now_ns)
            }
            Found::Namespace { .. } => {}
            Found::Stalled { who } => self.tell(detect::looks_stall(&who), None, now_ns),
            Found::Existing { sockets, at_ns } => self.existing(sockets, at_ns),
        }
    }

    /// An answer about who made a flow's socket. Asked before the flow was handed over, it is about
    /// another process. Of two answers to one question, the one that knows more counts.
    fn owner_as_asked(&mut self, key: &FlowKey, identity: &Arc<Identity>, now_ns: u64) {
        let Some(id) = self.table.id(key) else { return };
        let Some(flow) = self.table.get(id) else { return };
        let maker = flow.maker();
        let is_answered = !flow.awaits_owner();
        drop(flow);
        let is_worse = is_answered && identity.missing.is_some();
        if !is_worse && identity.pid.is_none_or(|pid| maker == 0 || pid == maker) {
            self.owner(id, identity.clone(), now_ns);
        }
    }

    /// Who closed a connection that was accepted used it: the socket was made by another one, and handed over. Who
    /// connected stays who did: no client becomes another one by handing on what it has said already.
    pub(super) fn closed_by(&mut self, id: FlowId, event: &FlowEvent, now_ns: u64) {
        let Some(mut flow) = self.table.get_mut(id) else { return };
        let (made_by, closed_by) = (flow.process_seen(), event.owner);
        let known = flow.owner.as_ref().and_then(|owner| owner.pid);
        if flow.direction == Direction::Egress && (made_by.tgid != 0 || flow.owner.is_some()) {
            return;
        }
        if closed_by.tgid == 0 || closed_by.tgid == made_by.tgid || known == Some(closed_by.tgid) {
            return;
        }
        flow.handed_to(closed_by);
        drop(flow);
        if made_by.tgid != 0 && self.handed_over.len() < HANDED_OVER {
            self.handed_over.insert((made_by.tgid, made_by.seen_ns));
        }
        self.find_owner_of(id, now_ns);
    }

    /// Who uses a socket now. Where that is another one than who made the listener, its other
    /// connections are looked at in the same way.
    pub(super) fn user(&mut self, id: FlowId, identity: Option<Arc<Identity>>, now_ns: u64) {
        let Some(flow) = self.table.get(id) else { return };
        let (seen, owner, is_over) = (flow.process_seen(), flow.owner.clone(), flow.is_over());
        drop(flow);
        let is_unknown = identity.as_ref().is_some_and(|identity| identity.pid.is_none());
        let is_late = is_unknown && is_over && seen.tgid != 0;
        match identity {
            // Who closed it was its last user.
            Some(_) if is_late && owner.is_none() => self.find_owner_of(id, now_ns),
            Some(_) if is_late => {}
            Some(identity) => {
                let made_by = (seen.tgid, seen.seen_ns);
                if seen.tgid != 0 && identity.pid != Some(seen.tgid) && self.handed_over.len() < HANDED_OVER {
                    self.handed_over.insert(made_by);
                }
                if owner.as_ref() != Some(&identity) {
                    let identity = self.identities.share(identity);
                    self.owner(id, identity, now_ns);
                }
            }
            None if owner.is_none() && seen.tgid != 0 => self.find_owner_of(id, now_ns),
            None if owner.is_none() => self.nobody_is_known(id, &seen, now_ns),
            None => {}
        }
    }

    /// Where the packets of a flow go now. What could not be found out changes nothing.
    fn tunnel(&mut self, id: FlowId, way: Way, now_ns: u64) {
        let Some(mut flow) = self.table.get_mut(id) else { return };
        let waited = flow.marks.has(Marks::WAY_AWAITED);
        flow.marks.set(Marks::WAY_AWAITED, false);
        let known = match way {
            Way::Through(tunnel) => Some(Some(tunnel)),
            Way::Direct => Some(None),
            Way::Unknown => None,
        };
        let was_unknown = flow.marks.has(Marks::WAY_UNKNOWN);
        if known.is_some() {
            flow.marks.set(Marks::WAY_UNKNOWN, false);
        }
        let changed_from =
            |tunnel: &Option<crate::model::Tunnel>| flow.routed_into().map(|into| &**into) != tunnel.as_ref();
        let other = known.filter(|tunnel| was_unknown || changed_from(tunnel));
        let changes = other.is_some();
        if let Some(tunnel) = other {
            flow.route_into(tunnel.map(|tunnel| self.judge.tunnel(tunnel)));
            flow.undecide();
        }
        drop(flow);
        if changes || waited {
            self.advance(id, now_ns);
        }
    }

    /// There is only what the kernel saw.
    fn nobody_is_known(&mut self, id: FlowId, seen: &ProcessSeen, now_ns: u64) {
        let identity = self.identities.share(Arc::new(unseen(seen)));
        self.owner_is(id, identity, now_ns, Flow::presume_owner);
    }

    /// `identity`: one that is shared.
    fn owner(&mut self, id: FlowId, identity: Arc<Identity>, now_ns: u64) {
        self.owner_is(id, identity, now_ns, Flow::set_owner);
    }

    fn owner_is(
        &mut self,
        id: FlowId,
        identity: Arc<Identity>,
        now_ns: u64,
        note: fn(&mut Flow, Arc<Identity>),
    ) {
        let Some(mut flow) = self.table.get_mut(id) else { return };
        note(&mut flow, identity.clone());
        // A policy that went by the old owner has to look again.
        flow.undecide();
        let twin = flow.twin;
        drop(flow);
        if let Some(twin) = twin {
            if let Some(mut other) = self.table.get_mut(twin) {
                other.peer = Some(identity);
                other.undecide();
            }
            self.advance(twin, now_ns);
        }
        self.advance(id, now_ns);
    }

    pub(super) fn listener(&mut self, cookie: u64, identity: &Identity, now_ns: u64) {
        let Some(entry) = self.listeners.get(&cookie) else { return };
        let address = entry.address;
        let covered =
            self.policy.covers_service(Transport::Tcp, address.ip(), address.port(), Some(identity));
        if let Some(finding) = self.services.listening(&Listener { address, owner: identity, covered }) {
            self.tell(finding, None, now_ns);
        }
    }
}
