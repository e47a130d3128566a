#![allow(clippy::unwrap_used)]

use std::net::{TcpListener, TcpStream};

use rustix::net::sockopt::socket_cookie;

use super::*;
use crate::identity::{Executions, ProcessSeen};
use crate::model::Transport;

struct Rig {
    lookups: Sender<Lookup>,
    found: Receiver<Found>,
    looks: Arc<Stage>,
    resolving: Resolving,
}

fn rig() -> Rig {
    let (lookups, lookups_out) = bounded(2 * QUEUE);
    let (found_in, found) = bounded(4 * QUEUE);
    let looks = Stage::looks(QUEUE);
    let resolving = Resolving::new(
        lookups_out,
        found_in,
        Asked::default(),
        "/sys/fs/cgroup".into(),
        looks.clone(),
        LeftHanging::default(),
        Executions::default(),
    );
    Rig { lookups, found, looks, resolving }
}

fn owner(key: FlowKey) -> Lookup {
    let seen = ProcessSeen {
        tgid: std::process::id(),
        seen_ns: super::super::clock::monotonic_ns(),
        ..ProcessSeen::default()
    };
    Lookup::Owner { key, seen }
}

fn user(connection: &TcpStream) -> Lookup {
    let socket = SocketKey {
        transport: Transport::Tcp,
        netns: monitor_sys::netns_cookie().unwrap(),
        local: connection.local_addr().unwrap(),
        remote: connection.peer_addr().unwrap(),
        cookie: socket_cookie(connection).unwrap(),
        maker: 0,
    };
    Lookup::User { key: FlowKey { cookie: socket.cookie, ..FlowKey::default() }, socket }
}

/// A walk, a listing and a look for tunnels may take as long as they like: here they never end.
#[test]
fn who_a_process_is_is_said_while_all_else_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let Rig { lookups, found, looks, resolving } = rig();
    let Resolving { names, walker: _walker, listings: _listings, ways: _ways, .. } = resolving;
    for _ in 0..QUEUE + 7 {
        lookups.send(user(&client)).unwrap();
    }
    for _ in 0..LISTINGS + 1 {
        lookups.send(Lookup::Sockets).unwrap();
    }
    lookups.send(owner(FlowKey::default())).unwrap();
    drop(lookups);
    let naming = std::thread::spawn(move || names.run());
    let answers: Vec<Found> = found.iter().take(9).collect();
    let refused = answers.iter().filter(|it| matches!(it, Found::User { identity: None, .. })).count();
    assert_eq!(refused, 7);
    assert!(matches!(answers[7], Found::Sockets { rest: Rest::Unseen, .. }));
    let Found::Owner { identity, .. } = &answers[8] else { panic!("{:?}", answers[8]) };
    assert_eq!(identity.pid, Some(std::process::id()));
    naming.join().unwrap();
    // What was not looked up is counted, by kind.
    let counts = |kind: &str| {
        let tally = looks.look(kind);
        (tally.offered(), tally.delivered(), tally.lost())
    };
    assert_eq!(counts("owner"), (1, 1, 0));
    assert_eq!(counts("user"), (QUEUE as u64 + 7, 0, 7));
    assert_eq!(counts("sockets"), (LISTINGS as u64 + 1, 0, 1));
}

#[test]
fn what_was_there_before_comes_first_and_everything_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let Rig { lookups, found, looks, mut resolving } = rig();
    resolving.names.patience = Duration::from_secs(30);
    lookups.send(owner(FlowKey::default())).unwrap();
    lookups.send(user(&client)).unwrap();
    lookups.send(Lookup::Sockets).unwrap();
    let (newcomers, _) = super::super::newcomers::pipe().unwrap();
    let threads = resolving.threads(newcomers).map(|(_, run)| std::thread::spawn(run));
    let (mut named, mut used, mut listed) = (None, None, None);
    let mut kinds = Vec::new();
    while named.is_none() || used.is_none() || listed.is_none() {
        match found.recv_timeout(Duration::from_secs(30)).unwrap() {
            Found::Existing { .. } => kinds.push("existing"),
            Found::Owner { identity, .. } => {
                kinds.push("owner");
                named = identity.pid;
            }
            Found::User { identity, .. } => {
                kinds.push("user");
                used = identity.unwrap().pid;
            }
            Found::Sockets { rest: Rest::Follows, seen, .. } => assert!(!seen.is_empty()),
            Found::Sockets { rest, .. } => listed = Some(rest),
            _ => {}
        }
    }
    assert_eq!((named, used), (Some(std::process::id()), Some(std::process::id())));
    assert_eq!(kinds.first(), Some(&"existing"), "{kinds:?}");
    drop(lookups);
    drop(found);
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(looks.rows().iter().all(|row| row.lost == 0 && row.offered == row.delivered));
}

/// Each question has one answer, and by those the rows are held: what was found, and what there was no room to look for.
#[test]
fn what_is_asked_is_answered_and_is_counted_as_looked_up_or_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let Rig { lookups, found, looks, resolving } = rig();
    let asked = [("owner", 300), ("user", QUEUE + 300), ("sockets", 1)];
    // All wait before anybody looks.
    for _ in 0..asked[1].1 {
        lookups.send(user(&client)).unwrap();
    }
    for number in 0..asked[0].1 {
        lookups.send(owner(FlowKey { cookie: number as u64, ..FlowKey::default() })).unwrap();
    }
    lookups.send(Lookup::Sockets).unwrap();
    let (newcomers, _) = super::super::newcomers::pipe().unwrap();
    let threads = resolving.threads(newcomers).map(|(_, run)| std::thread::spawn(run));
    // Found, and not.
    let mut answers = [(0_u64, 0_u64); 3];
    let all: usize = asked.iter().map(|(_, count)| count).sum();
    while answers.iter().map(|(found, not)| found + not).sum::<u64>() < all as u64 {
        let (kind, is_found) = match found.recv_timeout(Duration::from_secs(60)).unwrap() {
            Found::Owner { identity, .. } => (0, identity.pid.is_some()),
            Found::User { identity, .. } => (1, identity.is_some()),
            Found::Sockets { rest: Rest::Follows, .. } => continue,
            Found::Sockets { rest, .. } => (2, rest == Rest::Nothing),
            _ => continue,
        };
        let (found, not) = &mut answers[kind];
        *(if is_found { found } else { not }) += 1;
    }
    drop(lookups);
    drop(found);
    for thread in threads {
        thread.join().unwrap();
    }
    for ((kind, count), (found, not)) in asked.into_iter().zip(answers) {
        let tally = looks.look(kind);
        let counted = (tally.offered(), tally.delivered(), tally.lost());
        assert_eq!(counted, (count as u64, found, not), "{kind}");
    }
}
