//! What is found, and the alerts that come of it.

use monitor_common::DEVICES;

use super::*;

#[test]
fn plaintext_is_one_alert_a_stream_with_a_count() {
    let mut rig = Rig::new(settings());
    let mut told = Vec::new();
    for cookie in 1..=3 {
        let mut open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false);
        open.owner.tgid = 7;
        rig.feed(Kind::Open, open);
        rig.capture(&open, true, 0, REQUEST);
        rig.capture(&open, false, 0, RESPONSE);
        told.extend(rig.records());
        rig.feed(Kind::Close, FlowEvent { sent_bytes: 10, received_bytes: 20, ..open });
        told.extend(rig.records());
    }
    let alerts = alerts(&told);
    assert_eq!(alerts.len(), 1);
    assert_eq!((alerts[0].rule, alerts[0].state), (Rule::Plaintext, AlertState::Opened));
    assert_eq!(rig.core.alerts.open()[0].count, 3);
    let stream = rig.core.streams.iter().next().unwrap();
    assert_eq!((stream.flows, stream.open, stream.client_bytes, stream.server_bytes), (3, 0, 30, 60));
}

/// A process gives itself its name: what is known of one user's says nothing of another's.
#[test]
fn a_name_that_another_user_has_as_well_is_another_alert_and_stream() {
    let mut rig = Rig::new(settings());
    let mut told = Vec::new();
    for (cookie, uid) in [(1, 1000), (2, 1001), (3, 1001)] {
        let open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false);
        rig.feed(Kind::Open, open);
        rig.core.take_output();
        let identity = Identity {
            pid: Some(open.owner.tgid),
            uid: Some(uid),
            name: Some("curl".into()),
            ..Identity::default()
        };
        rig.owned(&open, identity);
        rig.capture(&open, true, 0, REQUEST);
        rig.capture(&open, false, 0, RESPONSE);
        told.extend(rig.records());
    }
    let keys: Vec<&str> = alerts(&told).iter().map(|alert| alert.key.as_ref()).collect();
    let key = |uid: u32| format!("plaintext|curl (uid {uid}) → 10.0.0.2:8080/tcp");
    assert_eq!(keys, [key(1000), key(1001)]);
    let uid = |stream: &crate::flows::Stream| stream.client_identity.as_ref().and_then(|client| client.uid);
    let streams: Vec<_> = rig.core.streams.iter().map(|stream| (stream.flows, uid(stream))).collect();
    assert_eq!(streams, [(1, Some(1000)), (2, Some(1001))]);
}

#[test]
fn plaintext_within_a_tunnel_is_encrypted_and_no_alert_until_it_leaves_it() {
    let mut rig = Rig::new(settings());
    rig.core.found(Found::Tunnels(true), rig.now_ns);
    let mut open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, open);
    open.sent_device = WG0;
    rig.feed(Kind::Established, open);
    rig.capture(&open, true, 0, REQUEST);
    rig.capture(&open, false, 0, RESPONSE);
    let told = rig.records();
    assert!(alerts(&told).is_empty());
    let (_, flow) = *flows(&told).last().unwrap();
    assert_eq!(flow.verdict.encrypted.answer, Answer::Yes);
    assert_eq!(flow.verdict.encrypted.reason, "WireGuard tunnel wg0 (http in the clear inside)");
    assert_eq!(flow.tunnel.as_deref(), Some(&tunnel()));
    // It is looked at again, and what cannot be found out changes nothing.
    rig.pass(SECOND);
    let again = rig.core.take_output().lookups;
    let Some(key) = again.iter().find_map(|lookup| match lookup {
        Lookup::Tunnel { key, .. } => Some(*key),
        _ => None,
    }) else {
        panic!("{again:?}")
    };
    rig.core.found(Found::Tunnel { key, way: Way::Unknown }, rig.now_ns);
    assert!(alerts(&rig.records()).is_empty());
    rig.core.found(Found::Tunnel { key, way: Way::Direct }, rig.now_ns);
    assert_eq!(alerts(&rig.records()).len(), 1);
}

/// A socket may choose another interface than the one that its route leads to, from the beginning or later, by its
/// first bytes or when it has long been settled.
#[test]
fn a_tunnel_counts_where_all_packets_were_seen_to_pass_it() {
    for transport in [6, 17] {
        for devices in [[ETH0, ETH0], [WG0, DEVICES], [WG0, ETH0]] {
            let mut rig = Rig::new(settings());
            rig.core.found(Found::Tunnels(true), rig.now_ns);
            let mut open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
            open.transport = transport;
            open.sent_device = devices[0];
            rig.feed(Kind::Open, open);
            rig.capture(&open, true, 0, REQUEST);
            rig.capture(&open, false, 0, RESPONSE);
            rig.pass(SECOND);
            let mut told = rig.records();
            let first = if devices[0] == WG0 { Answer::Yes } else { Answer::No };
            let (_, flow) = *flows(&told).last().unwrap();
            assert_eq!(flow.verdict.encrypted.answer, first, "{transport} {devices:?}");
            open.sent_device = devices[1];
            rig.feed(Kind::Progress, open);
            told.extend(rig.records());
            assert_eq!(alerts(&told).len(), 1, "{transport} {devices:?}");
            rig.feed(Kind::Close, FlowEvent { sent_bytes: 9, ..open });
            let told = rig.records();
            let (action, flow) = *flows(&told).last().unwrap();
            assert_eq!((action, flow.verdict.encrypted.answer), (FlowAction::FlowClosed, Answer::No));
            assert_eq!(flow.tunnel, None);
        }
    }
}

/// Accepted, or from before: where its packets leave is not known before the first one does.
#[test]
fn a_flow_of_which_no_packet_was_seen_to_leave_is_unknown_in_a_tunnel() {
    let mut rig = Rig::new(settings());
    rig.core.found(Found::Tunnels(true), rig.now_ns);
    let mut open = rig.event(Kind::Open, 2, SERVER, CLIENT, true);
    rig.feed(Kind::Open, open);
    rig.capture(&open, false, 0, REQUEST);
    rig.pass(SECOND);
    let told = rig.records();
    assert!(alerts(&told).is_empty());
    let (_, flow) = *flows(&told).last().unwrap();
    assert_eq!((flow.verdict.encrypted.answer, flow.tunnel.is_some()), (Answer::Unknown, false));
    open.sent_device = WG0;
    rig.capture(&open, true, 0, RESPONSE);
    rig.feed(Kind::Close, FlowEvent { sent_bytes: 9, ..open });
    let told = rig.records();
    let (_, flow) = *flows(&told).last().unwrap();
    assert_eq!(flow.verdict.encrypted.answer, Answer::Yes);
    assert!(alerts(&told).is_empty());
}

/// Who answers where its packets go may be slower than who says whose it is. However slow: a flow that is within a tunnel is
/// not told as in the clear, nor is one told as encrypted that may not be.
#[test]
fn a_flow_is_not_judged_before_it_is_known_whether_it_goes_through_a_tunnel() {
    for (answer_after, way) in [
        (SECOND / 2, Way::Through(tunnel())),
        (SECOND / 2, Way::Direct),
        (5 * SECOND, Way::Through(tunnel())),
        (5 * SECOND, Way::Direct),
    ] {
        let mut rig = Rig::new(settings());
        rig.core.found(Found::Tunnels(true), rig.now_ns);
        let mut open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
        open.sent_device = WG0;
        rig.feed(Kind::Open, open);
        rig.capture(&open, true, 0, REQUEST);
        rig.capture(&open, false, 0, RESPONSE);
        let (ways, others): (Vec<_>, Vec<_>) =
            rig.core.take_output().lookups.into_iter().partition(|it| matches!(it, Lookup::Tunnel { .. }));
        assert_eq!((ways.len(), others.is_empty()), (1, false));
        rig.owned(&open, Identity { pid: Some(open.owner.tgid), ..Identity::default() });
        rig.pass(SECOND / 2);
        assert!(rig.core.take_output().records.is_empty());
        if answer_after > SECOND {
            let mut asked = 0;
            for _ in 0..answer_after / SECOND {
                rig.pass(SECOND);
                let out = rig.core.take_output();
                assert!(alerts(&out.records).is_empty());
                for (_, flow) in flows(&out.records) {
                    assert_eq!(flow.verdict.encrypted.answer, Answer::Unknown);
                    assert!(flow.verdict.encrypted.reason.starts_with("whether it goes through a tunnel is"));
                }
                asked += out.lookups.iter().filter(|it| matches!(it, Lookup::Tunnel { .. })).count();
            }
            assert!((4..=5).contains(&asked), "asked {asked} times again");
        }
        let expected = if way == Way::Direct { (1, Answer::No) } else { (0, Answer::Yes) };
        rig.core.found(Found::Tunnel { key: key_of(&open), way }, rig.now_ns);
        rig.feed(Kind::Close, FlowEvent { sent_bytes: 9, ..open });
        let told = rig.core.take_output().records;
        let (_, flow) = *flows(&told).last().unwrap();
        assert_eq!((alerts(&told).len(), flow.verdict.encrypted.answer), expected, "{answer_after}");
    }
}

/// Neither where it could not be looked for, or the flow or the monitor ends before.
#[test]
fn a_flow_whose_way_is_never_known_is_told_as_unknown() {
    for shut_down in [true, false] {
        let mut rig = Rig::new(settings());
        rig.core.found(Found::Tunnels(true), rig.now_ns);
        let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
        rig.feed(Kind::Open, open);
        rig.capture(&open, true, 0, REQUEST);
        rig.capture(&open, false, 0, RESPONSE);
        let _ = rig.core.take_output();
        rig.owned(&open, Identity { pid: Some(open.owner.tgid), ..Identity::default() });
        if shut_down {
            rig.core.shut_down(rig.now_ns, true);
        } else {
            rig.core.found(Found::Tunnel { key: key_of(&open), way: Way::Unknown }, rig.now_ns);
            rig.feed(Kind::Close, FlowEvent { sent_bytes: 9, ..open });
        }
        let told = rig.core.take_output().records;
        assert!(alerts(&told).is_empty(), "{shut_down}");
        let (_, flow) = *flows(&told).last().unwrap();
        assert_eq!(flow.verdict.encrypted.answer, Answer::Unknown, "{shut_down}");
    }
}

/// A secret within a tunnel is not in the clear; where nobody can say, it is told, and that nobody can.
#[test]
fn a_secret_of_a_flow_waits_until_it_is_known_whether_it_goes_through_a_tunnel() {
    const WITH_SECRET: &[u8] =
        b"GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YWxpY2U6aHVudGVyMi1TM2NyZXQ=\r\n\r\n";
    for way in [Way::Through(tunnel()), Way::Direct, Way::Unknown] {
        let mut rig = Rig::new(settings());
        rig.core.found(Found::Tunnels(true), rig.now_ns);
        let mut open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
        open.sent_device = WG0;
        rig.feed(Kind::Open, open);
        rig.capture(&open, true, 0, WITH_SECRET);
        rig.capture(&open, false, 0, RESPONSE);
        let _ = rig.core.take_output();
        rig.owned(&open, Identity { pid: Some(open.owner.tgid), ..Identity::default() });
        rig.pass(5 * SECOND);
        assert!(alerts(&rig.core.take_output().records).is_empty());
        let is_unknown = way == Way::Unknown;
        let expected: &[&str] = match way {
            Way::Through(_) => &[],
            Way::Direct => &["plaintext", "credential-in-clear"],
            Way::Unknown => &["credential-in-clear"],
        };
        rig.core.found(Found::Tunnel { key: key_of(&open), way }, rig.now_ns);
        rig.feed(Kind::Close, FlowEvent { sent_bytes: 9, ..open });
        let told = rig.core.take_output().records;
        let alerts = alerts(&told);
        assert_eq!(alerts.iter().map(|alert| alert.rule.as_str()).collect::<Vec<_>>(), expected);
        let said = alerts.last().is_some_and(|it| it.reason.ends_with("through a tunnel is not known"));
        assert_eq!(said, is_unknown);
    }
}

/// Open when the daemon came, or before it knew of any tunnel: such a flow is asked about like any other.
#[test]
fn a_flow_from_before_the_tunnels_were_known_is_asked_about_too() {
    let ways =
        |output: &Output| output.lookups.iter().filter(|it| matches!(it, Lookup::Tunnel { .. })).count();
    for is_found in [true, false] {
        let mut rig = Rig::new(settings());
        let mut open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
        open.sent_device = WG0;
        if is_found {
            rig.core.found(Found::Tunnels(true), rig.now_ns);
            let found = super::taken_over::found(&rig, 0);
            rig.core.found(found, rig.now_ns);
            assert_eq!(ways(&rig.core.take_output()), 1);
            open.flags |= flow_flag::MIDSTREAM;
            rig.feed(Kind::Progress, open);
        } else {
            rig.feed(Kind::Open, open);
            rig.core.found(Found::Tunnels(true), rig.now_ns);
            rig.core.take_output();
            rig.owned(&open, Identity { pid: Some(open.owner.tgid), ..Identity::default() });
        }
        rig.capture(&open, true, 0, REQUEST);
        rig.capture(&open, false, 0, RESPONSE);
        let mut asked = 0;
        for _ in 0..3 {
            rig.pass(SECOND);
            let output = rig.core.take_output();
            asked += ways(&output);
            assert!(alerts(&output.records).is_empty(), "{is_found}");
        }
        assert!(asked > 0, "{is_found}");
        rig.core.found(Found::Tunnel { key: key_of(&open), way: Way::Through(tunnel()) }, rig.now_ns);
        rig.feed(Kind::Close, FlowEvent { sent_bytes: 9, ..open });
        let told = rig.core.take_output().records;
        let (_, flow) = *flows(&told).last().unwrap();
        assert_eq!((alerts(&told).len(), flow.verdict.encrypted.answer), (0, Answer::Yes), "{is_found}");
    }
}

/// Whoever was not answered asks each second; who was told that nobody knows, after twice as long each time.
#[test]
fn a_look_up_that_nobody_answered_is_asked_again_each_second() {
    let asked = |count: u64, is_answered: bool, seconds: u64| {
        let mut rig = Rig::new(CoreSettings { capacity: 1024, ..settings() });
        rig.core.found(Found::Tunnels(true), rig.now_ns);
        for cookie in 1..=count {
            let open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false);
            rig.feed(Kind::Open, open);
        }
        let mut asked = HashSet::new();
        let mut times = 0;
        for second in 0..=seconds {
            let keys: Vec<FlowKey> = rig
                .core
                .take_output()
                .lookups
                .into_iter()
                .filter_map(|it| if let Lookup::Tunnel { key, .. } = it { Some(key) } else { None })
                .collect();
            for key in keys {
                if second > 0 {
                    times += 1;
                    asked.insert(key.cookie);
                }
                if is_answered {
                    rig.core.found(Found::Tunnel { key, way: Way::Unknown }, rig.now_ns);
                }
            }
            rig.pass(SECOND);
        }
        (asked.len(), times)
    };
    assert_eq!(asked(1, false, 16), (1, 16));
    assert_eq!(asked(1, true, 16), (1, 5));
    // More than are asked about in one step of the walk: the others have their turn in the next one.
    assert_eq!(asked(500, true, 16).0, 500);
}

/// A secret of an idle flow, of one that a full table pushes out, and of those that are open at the end.
#[test]
fn a_secret_is_told_also_where_nothing_more_happens_in_its_flow() {
    const WITH_SECRET: &[u8] =
        b"GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YWxpY2U6aHVudGVyMi1TM2NyZXQ=\r\n\r\n";
    for how in ["idle", "pushed out", "the end", "the end, and hooks stay"] {
        let mut rig = Rig::new(settings());
        rig.core.found(Found::Tunnels(true), rig.now_ns);
        let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
        rig.feed(Kind::Open, open);
        rig.capture(&open, true, 0, WITH_SECRET);
        rig.capture(&open, false, 0, RESPONSE);
        rig.core.take_output();
        rig.owned(&open, Identity { pid: Some(open.owner.tgid), ..Identity::default() });
        for _ in 0..5 {
            rig.pass(SECOND);
        }
        assert!(alerts(&rig.core.take_output().records).is_empty(), "{how}");
        match how {
            "idle" => (0..30).for_each(|_| rig.pass(SECOND)),
            "pushed out" => {
                for cookie in 2..=65 {
                    let client = format!("10.0.0.1:{}", 40_000 + cookie);
                    let other = rig.event(Kind::Open, cookie, &client, SERVER, false);
                    rig.feed(Kind::Open, other);
                }
            }
            _ => rig.core.shut_down(rig.now_ns, how != "the end"),
        }
        let told = rig.core.take_output().records;
        let rules: Vec<_> = alerts(&told)
            .into_iter()
            .filter(|alert| alert.state == AlertState::Opened)
            .map(|alert| (alert.rule, alert.reason.ends_with("through a tunnel is not known")))
            .collect();
        assert_eq!(rules, [(Rule::CredentialInClear, true)], "{how}");
    }
}

/// The rest of it was not captured: it may have gone through.
#[test]
fn a_handshake_that_was_not_seen_to_its_end_did_not_fail() {
    let hello =
        [&[22, 3, 1, 0, 47, 1, 0, 0, 43, 3, 3][..], &[7; 32], &[0, 0, 4, 0x13, 1, 0x13, 2, 1, 0]].concat();
    for lost in [0, 2] {
        let mut rig = Rig::new(settings());
        let sizes = FlowEvent { lost_captures: lost, sent_bytes: hello.len() as u64, ..FlowEvent::default() };
        let mut told = Vec::new();
        for cookie in 1..=6 {
            let open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false);
            let open = FlowEvent { owner: Owner { tgid: 40, seen_ns: 1, ..Owner::default() }, ..open };
            rig.feed(Kind::Open, open);
            rig.capture(&open, true, 0, &hello);
            let FlowEvent { lost_captures, sent_bytes, .. } = sizes;
            rig.feed(Kind::Close, FlowEvent { lost_captures, sent_bytes, ..open });
            told.extend(rig.records());
        }
        let failures = alerts(&told).iter().filter(|alert| alert.rule == Rule::ConnectFailures).count();
        let (_, flow) = *flows(&told).last().unwrap();
        assert_eq!(failures > 0, lost == 0, "lost: {lost}: {:?}", flow.facts);
        assert_eq!(flow.facts.is_established(), (lost == 0).then_some(false));
    }
}

#[test]
fn a_greeting_in_the_clear_is_no_alert_while_an_upgrade_may_follow() {
    let mut rig = Rig::new(settings());
    let open = rig.event(Kind::Open, 1, CLIENT, "10.0.0.2:2525", false);
    rig.feed(Kind::Open, open);
    rig.capture(&open, false, 0, b"220 mail.example.org ESMTP\r\n");
    rig.pass(SECOND);
    assert!(alerts(&rig.records()).is_empty());
    rig.pass(2 * SECOND);
    let records = rig.records();
    assert_eq!(alerts(&records).len(), 1, "it stays in the clear: {records:?}");
}

#[test]
fn what_fails_is_told_and_counted() {
    let mut rig = Rig::new(settings());
    let mut told = Vec::new();
    for cookie in 1..=5 {
        let mut open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false);
        open.owner.tgid = 7;
        rig.feed(Kind::Open, open);
        let failed = FlowEvent { flags: flow_flag::ACTIVE | flow_flag::ANSWERED, ..open };
        rig.feed(Kind::Failed, failed);
        told.extend(rig.records());
    }
    let failed: Vec<_> =
        flows(&told).into_iter().filter(|(action, _)| *action == FlowAction::ConnectionFailed).collect();
    assert_eq!(failed.len(), 5);
    assert!(failed.iter().all(|(_, flow)| flow.failure == Some(FailReason::Refused)));
    let alerts = alerts(&told);
    assert_eq!(alerts.iter().map(|alert| alert.rule).collect::<Vec<_>>(), [Rule::ConnectFailures]);
}

/// Nothing of a flow holds what is said of many places.
#[test]
fn a_scan_by_a_client_here_is_resolved_when_it_is_quiet() {
    let mut rig = Rig::new(settings());
    for port in 1..40 {
        let remote = format!("10.0.0.2:{port}");
        let mut open = rig.event(Kind::Open, port, CLIENT, &remote, false);
        open.owner.tgid = 7;
        rig.feed(Kind::Open, open);
        let flags = flow_flag::ACTIVE | flow_flag::ANSWERED;
        rig.feed(Kind::Failed, FlowEvent { flags, ..open });
        rig.records();
    }
    let open = |rig: &Rig| rig.core.alerts.open();
    let scans = |rig: &Rig| open(rig).iter().filter(|alert| alert.key.contains("many ports")).count();
    assert_eq!(scans(&rig), 1);
    rig.pass(400 * SECOND);
    assert_eq!(scans(&rig), 0);
}

/// No socket of ours takes part; a client on this host is told by its own flow.
#[test]
fn a_scan_from_elsewhere_is_told_by_what_is_refused() {
    let refused = |rig: &mut Rig, port: u16, client: &str| {
        let event = FlowEvent {
            owner: Owner::default(),
            ..rig.event(Kind::Refused, 0, &format!("10.0.0.1:{port}"), client, true)
        };
        rig.feed(Kind::Refused, event);
        alerts(&rig.records()).into_iter().map(|alert| alert.key.clone()).collect::<Vec<_>>()
    };
    let mut rig = Rig::new(settings());
    let told: Vec<String> = (1..40).flat_map(|port| refused(&mut rig, port, "10.0.0.9:4000")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("10.0.0.9 → 10.0.0.1, many ports"), "{told:?}");
    assert!(rig.core.table.is_empty(), "nothing of it is a flow");
    let told: Vec<String> = (0..20).flat_map(|_| refused(&mut rig, 23, "10.0.0.8:4000")).collect();
    assert_eq!(told.len(), 1, "one service, refused again and again: {told:?}");
    let mut rig = Rig::new(settings());
    for port in 1..40 {
        let client = "10.0.0.9:4000";
        let open = rig.event(Kind::Open, u64::from(port), client, &format!("10.0.0.1:{port}"), false);
        rig.feed(Kind::Open, open);
        assert_eq!(refused(&mut rig, port, client), Vec::<String>::new());
    }
}

/// A log-in that did not come has failed only if the connection is over and all of it was seen.
#[test]
fn an_ssh_log_in_fails_with_the_whole_of_its_connection() {
    use dissect::SshAuthenticationState::{Begun, Failed};
    const FROM_CLIENT: &[u8] = include_bytes!("../../../../../dissect/fixtures/ssh/refused_key.client");
    const FROM_SERVER: &[u8] = include_bytes!("../../../../../dissect/fixtures/ssh/refused_key.server");
    let state = |received: Option<usize>| {
        let mut rig = Rig::new(settings());
        let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
        rig.feed(Kind::Open, open);
        rig.capture(&open, true, 0, FROM_CLIENT);
        rig.capture(&open, false, 0, FROM_SERVER);
        let mut told = rig.records();
        match received {
            Some(received) => {
                let (sent_bytes, received_bytes) = (FROM_CLIENT.len() as u64, received as u64);
                rig.feed(Kind::Close, FlowEvent { sent_bytes, received_bytes, ..open });
            }
            None => rig.core.shut_down(rig.now_ns, false),
        }
        told.extend(rig.records());
        let (_, flow) = *flows(&told).last().unwrap();
        flow.facts.ssh.as_ref().unwrap().authentication.state
    };
    assert_eq!(state(Some(FROM_SERVER.len())), Failed);
    assert_eq!(state(Some(FROM_SERVER.len() + 1)), Begun);
    assert_eq!(state(None), Begun);
}

#[test]
fn a_loader_that_says_nothing_for_half_a_minute_is_told_and_told_again() {
    let mut rig = Rig::new(settings());
    for heard in 1..=100 {
        rig.core.look_for_loader(heard, rig.now_ns);
    }
    let mut look = |times: u32| {
        for _ in 0..times {
            rig.now_ns += SECOND;
            rig.core.look_for_loader(100, rig.now_ns);
        }
        let records = rig.records();
        alerts(&records).iter().map(|alert| (alert.rule, alert.severity)).collect::<Vec<_>>()
    };
    assert_eq!(look(29), []);
    assert_eq!(look(1), [(Rule::MonitorTampered, crate::model::Severity::Critical)]);
    look(29);
    assert_eq!(rig.core.open_alerts()[0].count, 1);
    rig.core.look_for_loader(100, rig.now_ns);
    assert_eq!(rig.core.open_alerts()[0].count, 2);
    for _ in 0..29 {
        rig.core.look_for_loader(101, rig.now_ns);
    }
    assert_eq!(rig.core.open_alerts()[0].count, 2);
}

#[test]
fn each_time_that_somebody_takes_a_hook_away_is_told() {
    let mut rig = Rig::new(settings());
    let mut told = |what: &'static str, restored: bool| {
        rig.now_ns += SECOND;
        let hook = crate::model::Tampered {
            part: "hook sent".into(),
            attach: "cgroup_inet_egress".into(),
            what: what.into(),
            works: restored,
            restored: restored.then_some(Ok(())),
        };
        rig.core.tampered(vec![hook], rig.now_ns);
        alerts(&rig.records()).iter().map(|alert| alert.reason.clone()).collect::<Vec<_>>()
    };
    // Put right each time: each is one of its own.
    for _ in 0..3 {
        assert_eq!(told("was detached", true).len(), 1);
    }
    let [reason] = &told("runs another program", true)[..] else { panic!("it was told once") };
    assert!(reason.contains("runs another program"), "{reason}");
    // Left as it is: once, and then every alerts.repeat seconds.
    assert_eq!(told("was detached", false).len(), 1);
    assert_eq!(told("was detached", false).len(), 0);
    assert_eq!(told("lost its pin", false).len(), 1);
}

/// Seen at both ends, which are both on this host, in one connection after its first bytes.
#[test]
fn log_ins_that_fail_count_once_and_late() {
    let mut rig = Rig::new(settings());
    let client = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    let server = rig.event(Kind::Open, 2, SERVER, CLIENT, true);
    rig.feed(Kind::Open, client);
    rig.feed(Kind::Open, server);
    let (mut asked, mut answered) = (0, 0);
    let mut told = Vec::new();
    let mut exchange = |rig: &mut Rig, request: &[u8], response: &[u8]| {
        for (event, passive) in [(&client, false), (&server, true)] {
            rig.capture(event, !passive, asked, request);
            rig.capture(event, passive, answered, response);
        }
        asked += request.len() as u32;
        answered += response.len() as u32;
        rig.pass(SECOND);
        told.extend(rig.records());
        told.iter()
            .filter(
                |record| matches!(record, Record::Alert { alert, .. } if alert.rule == Rule::AuthFailures),
            )
            .count()
    };
    assert_eq!(exchange(&mut rig, REQUEST, RESPONSE), 0);
    for _ in 0..4 {
        assert_eq!(exchange(&mut rig, LOG_IN, REFUSED), 0);
    }
    assert_eq!(exchange(&mut rig, LOG_IN, REFUSED), 1);
    let open = rig.core.alerts.open();
    let alert = open.iter().find(|alert| alert.rule == Rule::AuthFailures).unwrap();
    assert!(alert.reason.contains("5 times"), "{}", alert.reason);
    let credentials = open.iter().filter(|alert| alert.rule == Rule::CredentialInClear);
    assert_eq!(credentials.map(|alert| alert.count).collect::<Vec<_>>(), [1]);
}

/// What is silenced is marked, and the mark ends with the silence.
#[test]
fn silences_mark_what_they_cover() {
    let mut rig = Rig::new(settings());
    let word = crate::api::Word { by: 0, for_s: 60, why: "maintenance".into() };
    assert!(rig.core.silence("rule ==".into(), word.clone(), rig.now_ns).is_err());
    let made = rig.core.silence("rule == \"plaintext\"".into(), word, rig.now_ns).unwrap();
    let event = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    rig.feed(Kind::Open, event);
    rig.capture(&event, true, 0, REQUEST);
    rig.capture(&event, false, 0, RESPONSE);
    let told = rig.records();
    assert_eq!(alerts(&told)[0].silenced.as_ref().map(|silence| silence.id), Some(made.id));
    assert_eq!(rig.core.open_alerts()[0].silenced.as_ref().map(|silence| silence.by), Some(0));
    rig.pass(61 * SECOND);
    assert!(rig.core.silences().is_empty());
    assert!(rig.core.open_alerts()[0].silenced.is_none());
}

/// Also while it waits for its owner.
#[test]
fn the_kernel_is_told_nothing_of_what_has_ended() {
    let mut rig = Rig::new(settings());
    let client = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
    let server = rig.event(Kind::Open, 2, SERVER, CLIENT, true);
    let ids = [client, server].map(|open| {
        rig.feed(Kind::Open, open);
        rig.core.table.id(&key_of(&open)).unwrap()
    });
    for (event, passive) in [(&client, false), (&server, true)] {
        rig.capture(event, !passive, 0, REQUEST);
        rig.capture(event, passive, 0, RESPONSE);
    }
    let decided = |rig: &mut Rig| {
        ids.into_iter().for_each(|id| rig.core.settle(id));
        let commands = rig.core.take_output().commands;
        commands.into_iter().filter(|command| matches!(command, Command::Decide { .. })).count()
    };
    assert!(decided(&mut rig) >= 2);
    rig.feed(Kind::Close, rig.event(Kind::Close, 1, CLIENT, SERVER, false));
    rig.feed(Kind::Close, rig.event(Kind::Close, 2, SERVER, CLIENT, true));
    assert_eq!(rig.core.table.len(), 2);
    assert_eq!(decided(&mut rig), 0);
}
