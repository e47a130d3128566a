//! What the policy is asked about: names and what the wire tells are part of the question.

use super::*;
use crate::names::Asker;
use crate::names::tests::{query, reply};

fn with_policy(text: &str) -> Rig {
    let mut rig = Rig::new(settings());
    let policy = Policy::parse(std::path::Path::new("p.toml"), text).unwrap();
    rig.core.set_policy(Arc::new(policy), rig.now_ns);
    rig
}

/// A connection of the one client with the one server; with its request, if it says anything.
fn connect(rig: &mut Rig, cookie: u64, server: &str, speaks: bool) -> FlowEvent {
    let open = FlowEvent {
        owner: Owner { tgid: 40, seen_ns: 1, ..Owner::default() },
        ..rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), server, false)
    };
    rig.feed(Kind::Open, open);
    if speaks {
        rig.capture(&open, true, 0, REQUEST);
        rig.capture(&open, false, 0, RESPONSE);
    }
    open
}

fn authorised(rig: &Rig, event: &FlowEvent) -> (Answer, String) {
    let id = rig.core.table.id(&key_of(event)).unwrap();
    let judged = &rig.core.table.get(id).unwrap().verdict.authorised;
    (judged.answer, judged.reason.to_string())
}

#[test]
fn flows_of_the_same_ends_are_told_apart_by_what_they_carry() {
    let mut rig = with_policy(
        "[[service]]\nname = \"api\"\nsni = \"api.example.org\"\n[[service.client]]\nprocess = \"p40\"\n",
    );
    let silent = connect(&mut rig, 1, SERVER, false);
    let clear = connect(&mut rig, 2, SERVER, true);
    rig.records();
    rig.pass(2 * PATIENCE);
    rig.records();
    let (answer, reason) = authorised(&rig, &silent);
    assert_eq!(answer, Answer::Unknown);
    assert!(reason.contains("cannot be applied"), "a name may still come: {reason}");
    assert_eq!(authorised(&rig, &clear), (Answer::Unknown, "no policy covers this service".into()));
    // The silent one speaks after all: what was decided is asked again.
    rig.capture(&silent, true, 0, REQUEST);
    rig.capture(&silent, false, 0, RESPONSE);
    rig.records();
    assert_eq!(authorised(&rig, &silent), (Answer::Unknown, "no policy covers this service".into()));
}

#[test]
fn flows_of_the_same_ends_are_told_apart_by_the_names_of_their_time() {
    const NAMED: &str = "192.0.2.7:443";
    let mut rig = with_policy(
        "[names]\nresolvers = [\"10.0.0.53\"]\n\
         [[client]]\nname = \"app\"\nprocess = \"p40\"\n[[client.to]]\ndns = \"api.example.org\"\n",
    );
    let before = connect(&mut rig, 1, NAMED, true);
    rig.records();
    rig.now_ns += SECOND;
    let asker = Asker { netns: 1, cookie: 9, local_port: 5000, server: "10.0.0.53:53".parse().unwrap() };
    rig.core.names.asked(asker, &query(9, "api.example.org"), rig.now_ns);
    let answer = reply(9, "api.example.org", None, "api.example.org", 60);
    assert!(rig.core.names.answered(asker, &answer, rig.now_ns));
    rig.now_ns += SECOND;
    let named = connect(&mut rig, 2, NAMED, true);
    rig.records();
    rig.now_ns += 100 * SECOND;
    let expired = connect(&mut rig, 3, NAMED, true);
    rig.records();
    assert_eq!(authorised(&rig, &before).0, Answer::Unknown);
    assert_eq!(authorised(&rig, &named).0, Answer::Yes);
    assert_eq!(authorised(&rig, &expired).0, Answer::Unknown);
}

/// The client's event comes first, and it may be judged before the server's comes: with a server that is
/// known at once nothing else would ask the policy again.
#[test]
fn a_server_that_is_heard_of_after_its_client_was_judged_is_judged_with_it() {
    let mut rig = with_policy(
        "[[service]]\nname = \"web\"\nprocess = \"p50\"\n[[service.client]]\nprocess = \"p40\"\n\
         [[client]]\nname = \"app\"\nprocess = \"p40\"\n[[client.to]]\nservice = \"web\"\n",
    );
    for (cookie, port) in [(1, 40_001), (2, 40_002)] {
        let (from, to) = (format!("10.0.0.1:{port}"), SERVER);
        let (app, web) = (Owner { tgid: 40, seen_ns: 1, ..Owner::default() }, 50);
        let client = FlowEvent { owner: app, ..rig.event(Kind::Open, cookie, &from, to, false) };
        rig.feed(Kind::Open, client);
        rig.capture(&client, true, 0, REQUEST);
        rig.records();
        let owner = Owner { tgid: web, ..app };
        let server = FlowEvent { owner, ..rig.event(Kind::Open, 10 + cookie, to, &from, true) };
        rig.feed(Kind::Open, server);
        rig.records();
        rig.feed(Kind::Progress, client);
        rig.records();
        assert_eq!(authorised(&rig, &client).0, Answer::Yes, "connection {cookie}");
    }
}

/// Whoever makes a network namespace gives its addresses to whom they like, and its names too.
#[test]
fn what_a_namespace_is_told_by_itself_names_nothing() {
    const HOST: u64 = 1;
    const OTHER: u64 = 2;
    let learns = |asks_in: u64, server: &str, answers_in: Option<u64>| {
        let policy = "[names]\nresolvers = [\"10.0.0.53\", \"127.0.0.53\"]\n\
             [[client]]\nname = \"app\"\nprocess = \"p40\"\n[[client.to]]\ndns = \"api.example.org\"\n";
        let mut rig = with_policy(policy);
        let client = "10.0.0.1:5000";
        let udp = |event: FlowEvent, netns| FlowEvent { transport: 17, netns, ..event };
        let asker = udp(rig.event(Kind::Open, 1, client, server, false), asks_in);
        rig.feed(Kind::Open, asker);
        rig.capture(&asker, true, 0, &query(9, "api.example.org"));
        if let Some(netns) = answers_in {
            let answerer = udp(rig.event(Kind::Open, 2, server, client, true), netns);
            rig.feed(Kind::Open, answerer);
        }
        rig.capture(&asker, false, 0, &reply(9, "api.example.org", None, "api.example.org", 60));
        rig.core.names.learnt
    };
    assert_eq!(learns(HOST, "127.0.0.53:53", Some(HOST)), 1, "the host's own stub");
    assert_eq!(learns(HOST, "10.0.0.53:53", None), 1, "another host");
    assert_eq!(learns(OTHER, "10.0.0.53:53", Some(HOST)), 1, "a container asks the host");
    assert_eq!(learns(OTHER, "10.0.0.53:53", None), 1, "a container asks another host");
    assert_eq!(learns(OTHER, "10.0.0.53:53", Some(OTHER)), 0, "an address that was taken");
    assert_eq!(learns(OTHER, "127.0.0.53:53", Some(OTHER)), 0, "a stub of its own");
    assert_eq!(learns(OTHER, "127.0.0.53:53", None), 0, "the same, before its server was heard of");
}
