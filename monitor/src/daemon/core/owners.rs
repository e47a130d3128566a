//! Who is behind a flow or a listener: questions out, answers in.

use super::*;

impl Core {
    pub(super) fn ask_for_owner(&mut self, flow: &Flow) {
        let seen = seen_of(&flow.owner_seen);
        let handed_over = flow.direction == Direction::Ingress
            && flow.transport == Transport::Tcp
            && (seen.tgid == 1 || self.handed_over.contains(&(seen.tgid, seen.seen_ns)));
        if seen.tgid == 0 || handed_over {
            self.out.lookups.push(Lookup::User { key: flow.key, socket: socket_of(flow) });
        } else {
            self.out.lookups.push(Lookup::Owner { key: flow.key, seen });
        }
    }

    /// The process behind the listener from before us that accepted this flow, where there is no
    /// doubt: every listener on the host with this port is held by one and the same process.
    pub(super) fn holder_of_old_listener(&self, flow: &Flow) -> Option<Arc<Identity>> {
        if flow.direction != Direction::Ingress || flow.owner_seen.tgid != 0 {
            return None;
        }
        let mut serving = self.listeners.values().filter(|listener| {
            listener.address.port() == flow.local.port()
                && (listener.address.ip().is_unspecified() || listener.address.ip() == flow.local.ip())
        });
        let holder = serving.next()?.holder.clone()?;
        serving.all(|other| other.holder.as_ref() == Some(&holder)).then_some(holder)
    }

    /// An answer from the resolver.
    pub fn found(&mut self, found: Found, now_ns: u64) {
        match found {
            Found::Owner { key, identity } => self.owner(key, identity, now_ns),
            Found::User { key, identity } => {
                self.user(key, identity, now_ns);
            }
            Found::Listener { cookie, identity } => self.listener(cookie, &identity, now_ns),
            Found::Sockets { seen, began_ns } => self.sockets(seen.as_ref(), began_ns),
            Found::Tunnels(any) => self.tunnels = any,
            Found::Tunnel { key, way } => self.tunnel(key, way, now_ns),
            Found::Existing { sockets, at_ns } => self.existing(sockets, at_ns),
        }
    }

    /// Who uses a socket now. Where that is another one than who made the listener, its other
    /// connections are looked at in the same way.
    pub(super) fn user(&mut self, key: FlowKey, identity: Option<Arc<Identity>>, now_ns: u64) {
        let Some(flow) = self.table.get(&key) else { return };
        let seen = seen_of(&flow.owner_seen);
        match identity {
            Some(identity) => {
                let made_by = (seen.tgid, seen.seen_ns);
                if seen.tgid != 0 && identity.pid != Some(seen.tgid) && self.handed_over.len() < HANDED_OVER {
                    self.handed_over.insert(made_by);
                }
                if flow.owner.as_ref() != Some(&identity) {
                    self.owner(key, identity, now_ns);
                }
            }
            None if flow.owner.is_none() && seen.tgid != 0 => {
                self.out.lookups.push(Lookup::Owner { key, seen });
            }
            None if flow.owner.is_none() => self.owner(key, Arc::new(unseen(&seen)), now_ns),
            None => {}
        }
    }

    /// Where the packets of a flow go now. What could not be found out changes nothing.
    fn tunnel(&mut self, key: FlowKey, way: Way, now_ns: u64) {
        let Some(flow) = self.table.get_mut(&key) else { return };
        let tunnel = match way {
            Way::Through(tunnel) => Some(Arc::new(tunnel)),
            Way::Direct => None,
            Way::Unknown => return,
        };
        if flow.tunnel != tunnel {
            flow.tunnel = tunnel;
            flow.undecide();
            self.advance(key, now_ns);
        }
    }

    pub(super) fn owner(&mut self, key: FlowKey, identity: Arc<Identity>, now_ns: u64) {
        let Some(flow) = self.table.get_mut(&key) else { return };
        flow.owner = Some(identity.clone());
        // A policy that went by the old owner has to look again.
        flow.undecide();
        let twin = flow.twin;
        if let Some(twin) = twin
            && let Some(other) = self.table.get_mut(&twin)
        {
            other.peer = Some(identity);
            other.undecide();
            self.advance(twin, now_ns);
        }
        self.advance(key, now_ns);
    }

    pub(super) fn listener(&mut self, cookie: u64, identity: &Identity, now_ns: u64) {
        let Some(entry) = self.listeners.get(&cookie) else { return };
        let address = entry.address;
        let covered =
            self.policy.covers_service(Transport::Tcp, address.ip(), address.port(), Some(identity));
        if let Some(finding) = self.services.listening(&Listener { address, owner: identity, covered }) {
            self.tell(finding, false, now_ns);
        }
    }
}
