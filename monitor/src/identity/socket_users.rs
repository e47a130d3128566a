//! Which processes use a socket now: of one that is asked for, and of all that were there before the monitor.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::census::Among;
use super::clock::monotonic_ns;
use super::executable::Unhashed;
use super::holders::{Holder, Looked, Made, Users, Wanted, held_by_maker, look, without_passing_by};
use super::namespaces::namespaces;
use super::resolver::{Named, Resolver};
use super::sockets::{SocketLister, SocketSeen, TcpState};
use super::{Existing, Realm, SocketError, SocketKey};
use crate::model::{Direction, Identity, Transport};

/// More wanted connections than this in one namespace, and one walk over all is cheaper.
pub(super) const MOST_SINGLE_QUESTIONS: usize = 64;

const TOO_MANY_FILES: &str = "the processes that may hold the socket have more open files than are looked at";

const COULD_NOT: &str = "not all processes that may hold the socket could be looked at";

const TOO_MANY_NAMESPACES: &str = "there are more network namespaces than are looked into";

/// A socket that somebody holds: its inode, and the user that made it.
type Held = (u32, u32);

/// What was found of the sockets that are asked for, by the places of their keys.
struct Sockets {
    held: Vec<Option<Held>>,
    /// Their namespaces were not looked into.
    not_reached: HashSet<usize>,
    /// See [`Entered::within_rate`](super::namespace_cookies::Entered::within_rate).
    within_rate: Duration,
}

impl Sockets {
    fn note(&mut self, found: Vec<(usize, SocketSeen)>) {
        for (index, socket) in found {
            self.held[index] = (socket.inode != 0).then_some((socket.inode, socket.uid));
        }
    }
}

/// Who uses sockets, in the order of the keys.
pub struct SocketUsers {
    /// `None`: the socket is gone, is held by nobody, or nothing can be said beyond who made it. An identity without a
    /// process says why it is not known.
    pub users: Vec<Option<Identity>>,
    /// What is to be read for the hashes that these lack, by the same places.
    pub unhashed: HashMap<usize, Unhashed>,
    /// Places of those whose network namespace was not looked into, since there are more than there is time for: to be
    /// asked for again.
    pub not_reached: HashSet<usize>,
    /// Places of those whose user could not be looked at, since looks stall.
    pub stalled: HashSet<usize>,
    /// How much of the processor's time was paid from users' purses, or was within a rate.
    pub from_purses: Duration,
}

/// What was there before the monitor.
pub struct Before {
    pub sockets: Vec<Existing>,
    /// What can't be listed.
    pub errors: Vec<SocketError>,
    /// What is to be read for the hashes that holders lack, by their pids and starts.
    pub unhashed: HashMap<(u32, u64), Unhashed>,
}

/// Nobody knows who uses a socket in a network namespace that was not looked into.
pub fn not_reached() -> Identity {
    Identity { missing: Some(TOO_MANY_NAMESPACES.to_owned()), ..Identity::default() }
}

/// What is known of who uses a socket.
enum Known {
    /// Who made it holds it.
    Maker(Holder),
    /// Who made it has more files open than are looked at: nothing says that it is another one.
    Left,
    /// All holders that were looked at have to be asked.
    Ask(Held),
}

impl Resolver {
    /// The processes that use these sockets now. One walk over `/proc` serves all keys.
    ///
    /// A socket may be held by several processes: handed over by systemd, or inherited through
    /// fork. The one that made it is named as long as it holds it: a server that leaves a connection
    /// to a child closes its own end of it. Otherwise the youngest, since a service forks to have
    /// the child do the work; not one that only passes by on its way from fork to exec.
    ///
    /// Open files of a user are looked at up to a limit. Where those beyond it may be of one who holds a socket, nobody is
    /// named.
    pub fn users_of(&mut self, keys: &[SocketKey]) -> SocketUsers {
        self.clock.sample();
        let Sockets { held: sockets, mut not_reached, mut within_rate } = self.held(keys);
        let (known, looked, from_purses) = self.look_for_users(keys, &sockets);
        let mut identities: Vec<Option<Identity>> = Vec::with_capacity(keys.len());
        let (mut unsure, mut unhashed, mut stalled) = (Vec::new(), HashMap::new(), HashSet::new());
        for (index, known) in known.into_iter().enumerate() {
            let named = match known {
                None | Some(Known::Left) => None,
                Some(Known::Maker(holder)) => self.holder(holder),
                Some(Known::Ask((inode, made_by))) => match looked.users(inode, made_by) {
                    Users::Nobody => None,
                    Users::These(holders) => holders.iter().find_map(|holder| self.holder(*holder)),
                    Users::NotSure(_) => {
                        unsure.push(index);
                        None
                    }
                },
            };
            identities.push(named.map(|Named { identity, unhashed: file, is_stalled }| {
                unhashed.extend(file.map(|file| (index, file)));
                stalled.extend(is_stalled.then_some(index));
                identity
            }));
        }
        if !unsure.is_empty() {
            // One that was closed meanwhile is held by nobody.
            let still: Vec<SocketKey> = unsure.iter().map(|index| keys[*index]).collect();
            let again = self.held(&still);
            within_rate += again.within_rate;
            not_reached.extend(again.not_reached.iter().map(|place| unsure[*place]));
            for (index, held) in unsure.into_iter().zip(again.held) {
                if held.is_some() && held == sockets[index] {
                    identities[index] = Some(not_looked_at(&looked));
                }
            }
        }
        let from_purses = from_purses + within_rate;
        SocketUsers { users: identities, unhashed, not_reached, stalled, from_purses }
    }

    /// First at who made the sockets: mostly that is enough. Then at all, for the others.
    fn look_for_users(
        &mut self,
        keys: &[SocketKey],
        sockets: &[Option<Held>],
    ) -> (Vec<Option<Known>>, Looked, Duration) {
        let mut of_makers: HashMap<u32, HashSet<u32>> = HashMap::new();
        for (key, socket) in keys.iter().zip(sockets) {
            if let Some((inode, _)) = socket.filter(|_| key.maker != 0) {
                of_makers.entry(key.maker).or_default().insert(inode);
            }
        }
        let mut allowance = self.purses.look(monotonic_ns());
        let made: HashMap<u32, Made> = of_makers
            .iter()
            .map(|(maker, inodes)| (*maker, held_by_maker(*maker, inodes, &mut allowance)))
            .collect();
        let known: Vec<Option<Known>> = keys
            .iter()
            .zip(sockets)
            .map(|(key, socket)| {
                let (inode, made_by) = (*socket)?;
                Some(match made.get(&key.maker) {
                    Some(Made::Holds(holder, held)) if held.contains(&inode) => Known::Maker(*holder),
                    Some(Made::LeftOut) => Known::Left,
                    _ => Known::Ask((inode, made_by)),
                })
            })
            .collect();
        let asked = |known: &Option<Known>| match known {
            Some(Known::Ask(held)) => Some(*held),
            _ => None,
        };
        let (inodes, users): (HashSet<u32>, HashSet<u32>) = known.iter().filter_map(asked).unzip();
        let makers = of_makers.into_keys().collect();
        let clock = &self.clock;
        let among = match inodes.is_empty() {
            true => Among::default(),
            false => self.census.take(monotonic_ns(), |start_ticks| clock.began_lately(start_ticks)),
        };
        let wanted = Wanted { among, inodes: &inodes, makers: &makers, users: &users, all: false };
        let mut looked = look(wanted, &mut allowance, |holder| !clock.began_lately(holder.start_ticks));
        let from_purses = allowance.paid_beyond();
        if !without_passing_by(&mut looked.holders, |holder| self.clock.began_lately(holder.start_ticks)) {
            looked.leave_out_anybody();
        }
        (known, looked, from_purses)
    }

    /// The sockets that these keys mean, of those that a process holds.
    fn held(&mut self, keys: &[SocketKey]) -> Sockets {
        let now_ns = monotonic_ns();
        let mut sockets = Sockets {
            held: vec![None; keys.len()],
            not_reached: HashSet::new(),
            within_rate: Duration::ZERO,
        };
        let mut anywhere = Vec::new();
        let mut by_cookie: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut wanted: HashMap<u64, HashSet<u32>> = HashMap::new();
        for (index, key) in keys.iter().enumerate() {
            if key.netns == 0 || !self.namespaces.are_told() {
                anywhere.push(index);
                continue;
            }
            by_cookie.entry(key.netns).or_default().push(index);
            wanted.entry(key.netns).or_default().extend(Some(key.maker).filter(|maker| *maker != 0));
        }
        let entered = self.namespaces.enter(&wanted, now_ns);
        sockets.within_rate = entered.within_rate;
        for (cookie, wanted) in &by_cookie {
            if entered.left.contains(cookie) {
                sockets.not_reached.extend(wanted);
            } else if let Some(lister) = entered.listers.get(cookie) {
                sockets.note(find(lister, keys, wanted));
            }
        }
        if !anywhere.is_empty() {
            self.look_anywhere(keys, anywhere, &mut sockets, now_ns);
        }
        sockets
    }

    /// Looks for sockets of which nobody knows in which namespace they are.
    fn look_anywhere(
        &mut self,
        keys: &[SocketKey],
        mut wanted: Vec<usize>,
        sockets: &mut Sockets,
        now_ns: u64,
    ) {
        let (namespaces, is_all) = self.namespaces.in_turn(now_ns);
        for namespace in namespaces {
            if wanted.is_empty() {
                return;
            }
            let Ok(lister) = SocketLister::enter(&namespace) else { continue };
            let found = find(&lister, keys, &wanted);
            for (index, _) in &found {
                wanted.retain(|it| it != index);
                // Addresses may be the same in two namespaces; a cookie is in one.
                if keys[*index].netns != 0 && keys[*index].cookie != 0 {
                    self.namespaces.note(keys[*index].netns, namespace.clone());
                }
            }
            sockets.note(found);
        }
        if !is_all {
            sockets.not_reached.extend(wanted);
        }
    }

    /// Every TCP and UDP socket on the host, in all network namespaces, with who holds it: what
    /// was there before the monitor.
    pub fn existing(&mut self) -> Before {
        self.clock.sample();
        let (mut found, errors) = listed();
        let is_held = |existing: &&Existing| existing.socket.inode != 0;
        let (inodes, users) =
            found.iter().filter(is_held).map(|existing| (existing.socket.inode, existing.socket.uid)).unzip();
        let mut allowance = self.purses.look_at_start(monotonic_ns());
        let among = self.census.take(monotonic_ns(), |start_ticks| self.clock.began_lately(start_ticks));
        let wanted = Wanted { among, inodes: &inodes, makers: &HashSet::new(), users: &users, all: true };
        let mut looked = look(wanted, &mut allowance, |_| true);
        if !without_passing_by(&mut looked.holders, |holder| self.clock.began_lately(holder.start_ticks)) {
            looked.leave_out_anybody();
        }
        let mut identities: HashMap<Holder, Option<Identity>> = HashMap::new();
        let mut unhashed = HashMap::new();
        let mut named = |holder: Holder| {
            let Named { identity, unhashed: file, .. } = self.holder(holder)?;
            unhashed.extend(file.map(|file| ((holder.pid, holder.start_ticks), file)));
            Some(identity)
        };
        for existing in found.iter_mut().filter(|existing| existing.socket.inode != 0) {
            let is_listening = existing.socket.state == TcpState::Listen;
            let (inode, made_by) = (existing.socket.inode, existing.socket.uid);
            let users =
                if is_listening { looked.all_users(inode, made_by) } else { looked.users(inode, made_by) };
            let (held, is_sure) = match users {
                Users::These(held) => (held, true),
                Users::NotSure(held) if is_listening => (held, false),
                Users::NotSure(_) => (&[][..], false),
                Users::Nobody => (&[][..], true),
            };
            let all = held
                .iter()
                .filter_map(|holder| identities.entry(*holder).or_insert_with(|| named(*holder)).clone());
            existing.holders = all.take(if is_listening { usize::MAX } else { 1 }).collect();
            if !is_sure {
                existing.holders.push(not_looked_at(&looked));
            }
        }
        Before { sockets: found, errors, unhashed }
    }
}

fn not_looked_at(looked: &Looked) -> Identity {
    let missing = if looked.failed { COULD_NOT } else { TOO_MANY_FILES };
    Identity { missing: Some(missing.to_owned()), ..Identity::default() }
}

/// All sockets, and nobody who holds them.
fn listed() -> (Vec<Existing>, Vec<SocketError>) {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for namespace in namespaces() {
        // Held open, so that it is the one that is listed.
        let held = namespace.open();
        let lister = match SocketLister::enter(&namespace) {
            Ok(lister) => lister,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        let realm = held.and_then(|held| Realm::of(&held)).ok();
        // One by one: a kernel without `udp_diag` still lists TCP.
        let mut sockets = Vec::new();
        for listed in [lister.list_counted(), lister.list(Transport::Udp)] {
            match listed {
                Ok(listed) => sockets.extend(listed),
                Err(error) => errors.push(error),
            }
        }
        let serving = Serving::new(&sockets);
        found.extend(sockets.into_iter().map(|socket| Existing {
            direction: serving.direction(&socket),
            socket,
            netns: namespace.inode,
            realm,
            holders: Vec::new(),
        }));
    }
    (found, errors)
}

/// The sockets of one namespace that these keys mean.
pub(super) fn find(lister: &SocketLister, keys: &[SocketKey], wanted: &[usize]) -> Vec<(usize, SocketSeen)> {
    let mut found = Vec::new();
    for transport in [Transport::Tcp, Transport::Udp] {
        let wanted: Vec<usize> =
            wanted.iter().copied().filter(|index| keys[*index].transport == transport).collect();
        let single = transport == Transport::Tcp
            && wanted.len() <= MOST_SINGLE_QUESTIONS
            && wanted.iter().all(|index| keys[*index].remote.port() != 0);
        if single {
            found.extend(wanted.iter().filter_map(|index| {
                let SocketKey { local, remote, cookie, .. } = keys[*index];
                lister.connection(local, remote, cookie).map(|socket| (*index, socket))
            }));
        } else if !wanted.is_empty() {
            let sockets = lister.list(transport).unwrap_or_default();
            let by_cookie: HashMap<u64, &SocketSeen> =
                sockets.iter().map(|socket| (socket.cookie, socket)).collect();
            found.extend(wanted.iter().filter_map(|index| {
                let key = &keys[*index];
                let socket = match key.cookie {
                    0 => {
                        sockets.iter().find(|socket| (socket.local, socket.remote) == (key.local, key.remote))
                    }
                    cookie => by_cookie.get(&cookie).copied(),
                };
                socket.map(|socket| (*index, socket.clone()))
            }));
        }
    }
    found
}

/// Where a namespace is served: tells which end of an old connection began it.
struct Serving {
    listening: HashSet<(std::net::IpAddr, u16)>,
}

impl Serving {
    fn new(sockets: &[SocketSeen]) -> Serving {
        let listening = sockets.iter().filter(|socket| socket.state == TcpState::Listen);
        Serving { listening: listening.map(|socket| (socket.local.ip(), socket.local.port())).collect() }
    }

    /// A connection at a port that is listened on came in; any other went out. `None`: no
    /// connection, or UDP, where nobody can tell afterwards.
    fn direction(&self, socket: &SocketSeen) -> Option<Direction> {
        if socket.transport == Transport::Udp || socket.remote.port() == 0 {
            return None;
        }
        let port = socket.local.port();
        let unspecified: [std::net::IpAddr; 2] =
            [std::net::Ipv4Addr::UNSPECIFIED.into(), std::net::Ipv6Addr::UNSPECIFIED.into()];
        let served = self.listening.contains(&(socket.local.ip(), port))
            || unspecified.iter().any(|any| self.listening.contains(&(*any, port)));
        Some(if served { Direction::Ingress } else { Direction::Egress })
    }
}
