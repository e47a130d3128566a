//! What was there before us, and what is gone without a word.

use super::*;

/// Places of the table that are brought up to date at a time.
const SHARE: usize = 16_384;

/// How long what happens to a connection may stand in the ring, ns, where nobody waits until it is read.
const UNREAD: u64 = 2_000_000_000;

/// How long a connection from before us waits for the first look at the host, which knows who began it, ns.
const FIRST_LOOK: u64 = 5_000_000_000;

/// A look at all TCP sockets.
#[derive(Default)]
pub(super) struct Look {
    /// Which one it is, of 255 in turn ([`Flow::looked`]).
    number: u8,
    /// When it began, CLOCK_MONOTONIC ns.
    began_ns: u64,
}

/// Flows that a look did not find are gone, unless they began since.
pub(super) struct Gone {
    number: u8,
    began_ns: u64,
    /// When it was over: an end that came before stands in the ring, or beside it, until all that came before is read.
    over_ns: u64,
    /// Whether that is so of every flow, not only of those from before us.
    all: bool,
    next: usize,
}

impl Core {
    /// What was there before us.
    pub(super) fn existing(&mut self, sockets: Vec<Existing>, at_ns: u64) {
        let ended = self.ended_early.take().unwrap_or_default();
        let begun: HashSet<(SocketAddr, SocketAddr)> = sockets
            .iter()
            .filter(|existing| existing.direction == Some(Direction::Egress))
            .map(|existing| (existing.socket.local, existing.socket.remote))
            .collect();
        for mut existing in sockets {
            let socket = &existing.socket;
            // With the listener gone both ends look like clients: the lower port served, as a rule.
            if begun.contains(&(socket.remote, socket.local)) && socket.local.port() < socket.remote.port() {
                existing.direction = Some(Direction::Ingress);
            }
            let socket = &existing.socket;
            if socket.transport == Transport::Tcp && socket.state == TcpState::Listen {
                let unknown = Identity::default();
                let owner = existing.holder().unwrap_or(&unknown);
                // One that began while the look was made, and was heard of, was not there before.
                if !self.listeners.contains_key(&socket.cookie) {
                    self.services.known(&Listener { address: socket.local, owner, covered: Answer::Unknown });
                }
                let holder = match existing.holders.as_slice() {
                    [one] if one.pid.is_some() => Some(Arc::new(one.clone())),
                    _ => None,
                };
                let realm = existing.realm;
                self.listeners.insert(socket.cookie, ListenerEntry { address: socket.local, holder, realm });
            } else if socket.transport == Transport::Udp {
                if let Some(realm) = existing.realm {
                    self.realm_is((0, socket.cookie, None), realm, at_ns);
                }
            } else if ended.contains(&socket.cookie) {
                // All of it was told while the look was made.
            } else if socket.transport == Transport::Tcp && carries_data(socket.state) {
                self.adopt(&existing, at_ns);
            }
        }
        self.find_realms_of_accepted(at_ns);
        self.find_who_began();
        self.waiting.extend(self.table.ids());
    }

    /// Who began a connection from before us is known, and with that what it is at its other end.
    fn is_begun(&mut self, id: FlowId, direction: Direction) {
        let Some(mut flow) = self.table.get_mut(id) else { return };
        flow.turn(direction);
        let twin = flow.twin;
        drop(flow);
        if let Some(mut twin) = twin.and_then(|twin| self.table.get_mut(twin)) {
            twin.is_other_end_of(direction);
        }
    }

    /// Connections from before us that the look did not find any more.
    fn find_who_began(&mut self) {
        let mut begun = Vec::new();
        self.table.each(|id, flow| {
            if flow.is_over() {
                begun.extend(self.who_began(flow).map(|direction| (id, direction)));
            }
        });
        begun.into_iter().for_each(|(id, direction)| self.is_begun(id, direction));
    }

    /// What is at a port that is listened on came in, what goes to one went out: that is more than a guess by ports.
    fn who_began(&self, flow: &Flow) -> Option<Direction> {
        if !flow.marks.has(Marks::BEGUN_BY_GUESS) || self.ended_early.is_some() {
            return None;
        }
        let (local, remote) = flow.endpoints();
        let is_here = |listener: &ListenerEntry| flow.realm.is_none() || listener.realm == flow.realm;
        let (came_in, went_out) =
            (self.listeners_at(local).any(is_here), self.listeners_at(remote).next().is_some());
        match (came_in, went_out) {
            (true, true) if flow.realm.is_none() => None,
            (true, _) => Some(Direction::Ingress),
            (false, true) => Some(Direction::Egress),
            (false, false) => None,
        }
    }

    pub(super) fn adopt(&mut self, existing: &Existing, at_ns: u64) {
        let socket = &existing.socket;
        let key = FlowKey { cookie: socket.cookie, ..FlowKey::default() };
        let Some(direction) = existing.direction else { return };
        if let Some(realm) = existing.realm {
            self.realm_is((0, socket.cookie, None), realm, at_ns);
        }
        let identity = self.identities.get(existing.holder().cloned().unwrap_or_else(|| Identity {
            missing: Some("no process holds this socket".to_owned()),
            uid: Some(socket.uid),
            ..Identity::default()
        }));
        let id = if let Some(id) = self.table.id(&key) {
            if self.table.get(id).is_some_and(|flow| flow.seen.before_start) {
                self.is_begun(id, direction);
                if let Some(mut flow) = self.table.get_mut(id) {
                    flow.set_owner(identity);
                }
            }
            id
        } else {
            let event = FlowEvent {
                kind: Kind::Progress as u8,
                transport: 6,
                flags: flow_flag::MIDSTREAM,
                cookie: socket.cookie,
                at_ns,
                local: crate::event::to_bytes(socket.local.ip()),
                remote: crate::event::to_bytes(socket.remote.ip()),
                local_port: socket.local.port(),
                remote_port: socket.remote.port(),
                ..FlowEvent::default()
            };
            let mut flow = Flow::from_event(&event, &mut self.judge);
            flow.turn(direction);
            flow.cgroup = socket.cgroup as u32;
            flow.set_owner(identity);
            // It was told by the daemon before, as new or as there before it; or its beginning stands in the ring.
            flow.marks.set(Marks::TOLD_OPENED, self.took_over());
            if let Some(counts) = &socket.tcp {
                flow.refresh(socket.state, counts);
            }
            self.ask_way(&mut flow);
            self.take_in(flow, at_ns)
        };
        self.advance(id, at_ns);
    }

    /// Puts a flow into the table: one that has to go goes, and its other end is found.
    pub(super) fn take_in(&mut self, mut flow: Flow, now_ns: u64) -> FlowId {
        // This look may have told of its socket before.
        flow.looked = self.look.number;
        flow.realm = self.realm_of(&flow, now_ns);
        if let Some(direction) = self.who_began(&flow) {
            flow.turn(direction);
        }
        let is_stranger = flow.realm.is_none();
        let (id, evicted) = self.table.insert(flow);
        if let Some((place, evicted)) = evicted {
            self.push_out(place, evicted, now_ns);
        }
        match is_stranger {
            true => self.ask_for_realm(id, now_ns),
            false => self.check_address_again(id, now_ns),
        }
        self.find_other_end(id);
        id
    }

    /// The first look at the host is still to tell who began it. What is told before may have client and server the
    /// wrong way round.
    pub(super) fn waits_for_first_look(&self, flow: &Flow, now_ns: u64) -> bool {
        self.ended_early.is_some()
            && flow.marks.has(Marks::BEGUN_BY_GUESS)
            && now_ns.saturating_sub(flow.opened_ns) <= FIRST_LOOK
    }

    /// Puts a flow together with the other end of its connection, where that is in the table.
    pub(super) fn find_other_end(&mut self, id: FlowId) {
        match self.table.find_twin(id) {
            Some(twin) => self.pair(id, twin),
            None => self.doubt_other_end(id),
        }
    }

    /// What the kernel knows of every TCP socket, some at a time: the totals of flows that were quiet since their
    /// last event are brought up to date. Once that is all, flows whose sockets are gone without a word end.
    pub(super) fn sockets(&mut self, seen: &[SocketCounts], rest: Rest, began_ns: u64, now_ns: u64) {
        // One that was refused may be told between the parts of another, and changes nothing of it.
        if rest != Rest::Unseen && (self.look.began_ns != began_ns || self.look.number == 0) {
            self.look = Look { number: self.look.number % u8::MAX + 1, began_ns };
        }
        for socket in seen {
            self.seen_in_look(socket);
        }
        match rest {
            Rest::Follows => return,
            Rest::Nothing => {
                let Look { number, began_ns } = self.look;
                let all = std::mem::take(&mut self.sweeps);
                self.gone = Some(Gone { number, began_ns, over_ns: now_ns, all, next: 0 });
                self.end_some();
            }
            Rest::Unseen => {
                self.sweep_all |= std::mem::take(&mut self.sweeps);
                self.sockets_asked = false;
            }
        }
        let took_ns = now_ns.saturating_sub(began_ns);
        let rest_ns = took_ns.saturating_mul(REFRESH_SHARE).min(OLDEST);
        self.sockets_due_ns = self.sockets_due_ns.max(now_ns + rest_ns);
    }

    fn seen_in_look(&mut self, socket: &SocketCounts) {
        let key = FlowKey { cookie: socket.cookie, ..FlowKey::default() };
        let Some((_, mut flow)) = self.table.find_mut(&key) else { return };
        // What began since may not be what its socket was then.
        if flow.transport != Transport::Tcp || flow.opened_ns > self.look.began_ns {
            return;
        }
        flow.looked = self.look.number;
        if flow.refresh(socket.state, &socket.counts) {
            self.sums.account(&mut self.streams, &mut flow, false);
        }
    }

    /// All that connections did before this time was taken.
    pub fn heard_until(&mut self, until_ns: u64) {
        if until_ns > self.heard_ns {
            self.heard_ns = until_ns;
            self.end_some();
        }
    }

    /// Ends the next share of the flows that the look did not find, and whose ends stand nowhere.
    pub(super) fn end_some(&mut self) {
        let (hurries, heard_ns) = (self.hurries, self.heard_ns);
        let due = self.gone.take_if(|gone| hurries || heard_ns >= gone.over_ns);
        let Some(Gone { number, began_ns, over_ns, all, next }) = due else { return };
        let is_heard = heard_ns >= over_ns;
        // The next daemon finds them.
        if !is_heard && self.unfinished.is_wanted() {
            self.sockets_asked = false;
            return;
        }
        let unread_ns = if is_heard { 0 } else { UNREAD };
        let share = if self.hurries { usize::MAX } else { SHARE };
        let end = next.saturating_add(share).min(self.table.places());
        let mut gone = Vec::new();
        self.table.each_in(next..end, |id, flow| {
            let is_missed = flow.transport == Transport::Tcp
                && flow.opened_ns <= began_ns
                && flow.looked != number
                && !flow.is_over();
            if is_missed && (all || flow.seen.before_start) && flow.last_ns() + unread_ns < began_ns {
                gone.push(id);
            }
        });
        for id in gone {
            if let Some(mut flow) = self.table.get_mut(id) {
                flow.seen.end_concluded = true;
            }
            self.close(id, began_ns, FlowState::Closed);
        }
        if end < self.table.places() {
            self.gone = Some(Gone { number, began_ns, over_ns, all, next: end });
        } else {
            self.sockets_asked = false;
        }
    }

    /// Asks for the totals of everything that lives.
    pub fn refresh(&mut self) {
        let commands = &mut self.out.commands;
        self.table.each(|_, flow| {
            if flow.transport == Transport::Udp {
                commands.push(Command::ReadUdp { key: flow.key() });
            }
        });
        // What a look before it did not find is found so again.
        if let Some(gone) = self.gone.take() {
            self.sweep_all |= gone.all;
        }
        self.hurries = true;
        self.sweeps |= std::mem::take(&mut self.sweep_all);
        self.sockets_asked = true;
        self.out.lookups.push(Lookup::Sockets);
    }

    /// Whether such a question is open.
    pub fn is_refreshing(&self) -> bool {
        self.sockets_asked
    }
}
