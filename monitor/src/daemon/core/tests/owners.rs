//! Connections whose maker the kernel does not know: who is said to have them, and when.

use super::*;

/// A connection to a server here, of which nobody knows who made it; and its end.
fn passing(rig: &mut Rig) {
    let open = FlowEvent { owner: Owner::default(), ..rig.event(Kind::Open, 1, SERVER, CLIENT, true) };
    rig.feed(Kind::Open, open);
    rig.pass(SECOND / 100);
    rig.feed(Kind::Close, open);
}

fn looked(rig: &mut Rig, sockets: Vec<Existing>) {
    rig.core.found(Found::Existing { sockets, at_ns: rig.now_ns }, rig.now_ns);
}

/// A socket that listens, as it is found.
fn listening(cookie: u64, local: &str, holder: Identity) -> Existing {
    let socket = bound(Transport::Tcp, TcpState::Listen, cookie, local);
    Existing { socket, netns: 1, realm: Some(Realm::ROOT), direction: None, holders: vec![holder] }
}

/// Ends that are told while no look-up is answered: the pids of their owners.
fn ends(rig: &mut Rig) -> Vec<Option<u32>> {
    let records = rig.core.take_output().records;
    let ends = flows(&records).into_iter().filter(|(action, _)| *action == FlowAction::FlowClosed);
    ends.map(|(_, flow)| flow.owner.pid).collect()
}

#[test]
fn an_end_does_not_wait_for_a_look_that_can_find_nobody() {
    let mut rig = Rig::new(settings());
    looked(&mut rig, Vec::new());
    passing(&mut rig);
    assert_eq!(ends(&mut rig), []);
    rig.pass(SECOND / 20);
    assert_eq!(ends(&mut rig), [None]);
}

#[test]
fn where_nobody_answers_what_the_kernel_saw_has_to_do() {
    let mut rig = Rig::new(settings());
    let look = |rig: &mut Rig, times: u32| {
        for _ in 0..times {
            rig.pass(SECOND);
            rig.core.look_for_loader(0, rig.now_ns);
        }
    };
    let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, open);
    rig.feed(Kind::Close, open);
    look(&mut rig, 9);
    assert_eq!(ends(&mut rig), []);
    look(&mut rig, 1);
    assert_eq!(ends(&mut rig), [Some(open.owner.tgid)]);

    // The next one has not to wait as long.
    let open = rig.event(Kind::Open, 2, CLIENT, SERVER, false);
    rig.feed(Kind::Open, open);
    look(&mut rig, 2);
    let records = rig.core.take_output().records;
    let (action, flow) = flows(&records)[0];
    assert_eq!(
        (action, flow.owner.missing.as_deref()),
        (FlowAction::FlowOpened, Some("it was not looked up"))
    );
    // Late is better than never.
    let identity = Identity { pid: flow.owner.pid, name: Some("it".into()), ..Identity::default() };
    rig.owned(&open, identity);
    rig.feed(Kind::Close, open);
    let records = rig.core.take_output().records;
    let told = flows(&records);
    let (_, flow) = told.last().unwrap();
    assert_eq!(flow.owner.name.as_deref(), Some("it"));
}

#[test]
fn an_end_waits_until_the_listeners_are_known() {
    let mut rig = Rig::new(settings());
    passing(&mut rig);
    rig.pass(SECOND / 20);
    assert_eq!(ends(&mut rig), []);
    let holder = Identity { pid: Some(7), ..Identity::default() };
    looked(&mut rig, vec![listening(9, SERVER, holder)]);
    rig.pass(SECOND / 20);
    assert_eq!(ends(&mut rig), [Some(7)]);
}

/// What was heard of began to listen while the first look was made: both tell of it.
#[test]
fn a_service_that_began_while_the_first_look_was_made_is_new() {
    let mut rig = Rig::new(settings());
    let listen = FlowEvent {
        owner: Owner { tgid: 7, seen_ns: 1, ..Owner::default() },
        ..rig.event(Kind::Listen, 9, SERVER, "0.0.0.0:0", true)
    };
    rig.feed(Kind::Listen, listen);
    let named = |pid: u32| Identity {
        pid: Some(pid),
        uid: Some(pid),
        name: Some(format!("p{pid}")),
        ..Identity::default()
    };
    looked(&mut rig, vec![listening(9, SERVER, named(7)), listening(10, "10.0.0.2:22", named(8))]);
    let new = |records: Vec<Record>| {
        let alerts = records.into_iter().filter_map(|record| match record {
            Record::Alert { alert, .. } if alert.rule == Rule::NewService => Some(alert.reason.clone()),
            _ => None,
        });
        alerts.collect::<Vec<_>>()
    };
    let told = new(rig.records());
    assert_eq!(told.len(), 1, "{told:?}");
    // What was there before is not.
    let again = FlowEvent {
        owner: Owner { tgid: 8, seen_ns: 1, ..Owner::default() },
        ..rig.event(Kind::Listen, 11, "10.0.0.2:22", "0.0.0.0:0", true)
    };
    rig.feed(Kind::Listen, again);
    assert!(new(rig.records()).is_empty());
}

/// Another policy may ask more of a process, but who waits for an answer that is under way still gets one.
#[test]
fn another_policy_leaves_nobody_waiting() {
    let mut rig = Rig::new(settings());
    looked(&mut rig, Vec::new());
    rig.core.keep_position();
    let opens: Vec<FlowEvent> = (1..=2)
        .map(|cookie| {
            let local = format!("10.0.0.1:{}", 40_000 + cookie);
            let open = rig.event(Kind::Open, cookie, &local, SERVER, false);
            FlowEvent { owner: Owner { tgid: 7, seen_ns: 1, ..Owner::default() }, ..open }
        })
        .collect();
    opens.iter().for_each(|open| rig.feed(Kind::Open, *open));
    rig.core.set_policy(Arc::new(Policy::builtin()), rig.now_ns);
    rig.feed(Kind::Close, opens[1]);
    assert_eq!(rig.records().iter().filter(|record| matches!(record, Record::Flow { .. })).count(), 3);
    rig.pass(SECOND);
    assert_eq!(rig.core.told_up_to(9), 9);
}

/// A connection that one made and another closed, and who has it in the end: by its process id.
fn handed_on(direction: Direction, maker: u32) -> Option<u32> {
    let mut rig = Rig::new(settings());
    looked(&mut rig, Vec::new());
    let passive = direction == Direction::Ingress;
    let (local, remote) = if passive { (SERVER, CLIENT) } else { (CLIENT, SERVER) };
    let of = |tgid: u32| Owner { tgid, seen_ns: u64::from(tgid), ..Owner::default() };
    let open = FlowEvent { owner: of(maker), ..rig.event(Kind::Open, 1, local, remote, passive) };
    rig.feed(Kind::Open, open);
    let named = |tgid: u32| {
        let identity = Identity { pid: Some(tgid), name: Some(format!("p{tgid}")), ..Identity::default() };
        Found::Owner { key: key_of(&open), seen: seen_of(&of(tgid)), identity: Arc::new(identity) }
    };
    if maker != 0 {
        rig.core.found(named(maker), rig.now_ns);
    }
    rig.feed(Kind::Close, FlowEvent { owner: of(9), ..open });
    rig.core.found(named(9), rig.now_ns);
    rig.pass(SECOND);
    ends(&mut rig).pop().flatten()
}

/// Or who may not connect would hand what it has said to one that may.
#[test]
fn who_connected_stays_who_did_whoever_closes_it() {
    assert_eq!(handed_on(Direction::Egress, 7), Some(7));
    // Nobody knows who that was.
    assert_eq!(handed_on(Direction::Egress, 0), Some(9));
    // Who serves a connection is not who listens.
    assert_eq!(handed_on(Direction::Ingress, 7), Some(9));
}

/// Who made a listener does not hold what it accepted, and who does has more files open than are looked at.
#[test]
fn who_could_not_be_looked_at_is_said_to_be_unknown_and_why() {
    const WHY: &str = "more open files than are looked at";
    let mut rig = Rig::new(settings());
    looked(&mut rig, Vec::new());
    let owner = Owner { tgid: 7, seen_ns: 1, ..Owner::default() };
    let open = FlowEvent { owner, ..rig.event(Kind::Open, 1, SERVER, CLIENT, true) };
    rig.feed(Kind::Open, open);
    rig.records();
    let shown = |rig: &Rig| {
        let id = rig.core.table.id(&key_of(&open)).unwrap();
        let owner = rig.core.table.get(id).unwrap().owner.clone().unwrap();
        (owner.pid, owner.missing.clone())
    };
    assert_eq!(shown(&rig), (Some(7), None));
    let answer = |rig: &mut Rig, identity: Identity| {
        rig.core.found(Found::User { key: key_of(&open), identity: Some(Arc::new(identity)) }, rig.now_ns);
    };
    let unknown = Identity { missing: Some(WHY.into()), ..Identity::default() };
    answer(&mut rig, unknown.clone());
    assert_eq!(shown(&rig), (None, Some(WHY.into())));
    // Found after all.
    answer(&mut rig, Identity { pid: Some(8), ..Identity::default() });
    assert_eq!(shown(&rig), (Some(8), None));
    // Its end says who had it last; a look that is late does not undo that.
    rig.feed(Kind::Close, FlowEvent { owner: Owner { tgid: 9, seen_ns: 2, ..Owner::default() }, ..open });
    answer(&mut rig, unknown);
    let told = rig.records();
    let (_, flow) = *flows(&told).last().unwrap();
    assert_eq!((flow.state, flow.owner.pid), (FlowState::Closed, Some(9)));
}

/// Two connections of one process: the first asks, and the other waits for its answer.
fn two_of_one(rig: &mut Rig) -> [FlowEvent; 2] {
    let owner = Owner { tgid: 7, uid: 8, comm: *b"it\0\0\0\0\0\0\0\0\0\0\0\0\0\0", seen_ns: 1, cgroup: 9 };
    [1, 2].map(|cookie| {
        let local = format!("10.0.0.1:{}", 40_000 + cookie);
        let open = FlowEvent { owner, ..rig.event(Kind::Open, cookie, &local, SERVER, false) };
        rig.feed(Kind::Open, open);
        open
    })
}

/// What is asked of a process.
fn questions(rig: &mut Rig) -> Vec<(FlowKey, ProcessSeen)> {
    let lookups = rig.core.take_output().lookups.into_iter();
    lookups
        .filter_map(|it| if let Lookup::Owner { key, seen } = it { Some((key, seen)) } else { None })
        .collect()
}

fn look_on(rig: &mut Rig, seconds: u32) {
    for _ in 0..seconds {
        rig.pass(SECOND);
        rig.core.look_for_loader(0, rig.now_ns);
    }
}

fn answer(rig: &mut Rig, (key, seen): (FlowKey, ProcessSeen), missing: Option<&str>) {
    let name = missing.is_none().then(|| "it".to_owned());
    let identity =
        Identity { pid: Some(seen.tgid), name, missing: missing.map(Into::into), ..Identity::default() };
    rig.core.found(Found::Owner { key, seen, identity: Arc::new(identity) }, rig.now_ns);
}

fn named(rig: &Rig, open: &FlowEvent) -> Option<String> {
    let id = rig.core.table.id(&key_of(open)).unwrap();
    rig.core.table.get(id).unwrap().owner.as_ref().filter(|it| it.missing.is_none())?.name.clone()
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again() {
    let mut rig = Rig::new(settings());
    looked(&mut rig, Vec::new());
    let opens = two_of_one(&mut rig);
    let lost = questions(&mut rig);
    assert_eq!(lost.len(), 1);
    look_on(&mut rig, 1);
    assert!(questions(&mut rig).is_empty(), "there is time");
    look_on(&mut rig, 1);
    let again = questions(&mut rig);
    assert_eq!(again, lost);
    answer(&mut rig, again[0], None);
    assert!(opens.iter().all(|open| named(&rig, open).as_deref() == Some("it")));
}

/// Each is told without its owner by then, and none is asked for by half of what the kernel saw.
#[test]
fn an_answer_that_comes_after_all_names_all_who_waited_for_it() {
    let mut rig = Rig::new(settings());
    looked(&mut rig, Vec::new());
    let opens = two_of_one(&mut rig);
    let asked = questions(&mut rig);
    look_on(&mut rig, 12);
    assert!(opens.iter().all(|open| named(&rig, open).as_deref() != Some("it")));
    assert!(questions(&mut rig).iter().all(|question| question.1 == asked[0].1));
    answer(&mut rig, asked[0], None);
    assert!(questions(&mut rig).is_empty());
    assert!(opens.iter().all(|open| named(&rig, open).as_deref() == Some("it")));
}

#[test]
fn of_two_answers_to_one_question_the_one_that_knows_more_counts() {
    let mut rig = Rig::new(settings());
    looked(&mut rig, Vec::new());
    let opens = two_of_one(&mut rig);
    let asked = questions(&mut rig);
    answer(&mut rig, asked[0], None);
    answer(&mut rig, asked[0], Some("process ended"));
    assert!(opens.iter().all(|open| named(&rig, open).as_deref() == Some("it")));
}

/// By the time of the third, the process may run another program under the same name.
#[test]
fn what_was_glimpsed_of_a_process_counts_for_its_moment_alone() {
    let mut rig = Rig::new(settings());
    looked(&mut rig, Vec::new());
    let opens = [1, 50_000_000, 500_000_000].map(|seen_ns| {
        let owner = Owner { tgid: 7, uid: 8, comm: *b"it\0\0\0\0\0\0\0\0\0\0\0\0\0\0", seen_ns, cgroup: 9 };
        let local = format!("10.0.0.1:{}", 40_000 + seen_ns % 10_000);
        let open = FlowEvent { owner, ..rig.event(Kind::Open, seen_ns, &local, SERVER, false) };
        rig.feed(Kind::Open, open);
        open
    });
    let asked = questions(&mut rig);
    assert_eq!(asked.iter().map(|(_, seen)| seen.seen_ns).collect::<Vec<_>>(), [1]);
    let (key, seen) = asked[0];
    let identity = Identity {
        pid: Some(7),
        executable: Some("/usr/bin/it".into()),
        missing: Some("process ended before its arguments could be read".into()),
        ..Identity::default()
    };
    rig.core.found(Found::Owner { key, seen, identity: Arc::new(identity) }, rig.now_ns);
    let told = opens.map(|open| {
        let id = rig.core.table.id(&key_of(&open)).unwrap();
        rig.core.table.get(id).unwrap().owner.as_ref().is_some_and(|it| it.executable.is_some())
    });
    assert_eq!(told, [true, true, false]);
    assert_eq!(questions(&mut rig), [(key_of(&opens[2]), seen_of(&opens[2].owner))]);
}
