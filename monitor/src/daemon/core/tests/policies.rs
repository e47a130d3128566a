//! Another policy comes into force: what the one before said is taken back, and nothing is said that it
//! was not asked.

use super::*;

fn policy(client: &str) -> Arc<Policy> {
    let text = format!("[[service]]\nname = \"web\"\nports = [8080]\n[[service.client]]\n{client}\n");
    Arc::new(Policy::parse(std::path::Path::new("p.toml"), &text).unwrap())
}

/// A connection of a user to the server, all of which are of one service.
fn connected(rig: &mut Rig, cookie: u64, uid: u32) -> FlowEvent {
    let open = rig.event(Kind::Open, cookie, &format!("10.0.0.1:{}", 40_000 + cookie), SERVER, false);
    rig.feed(Kind::Open, open);
    rig.core.take_output();
    let pid = Some(open.owner.tgid);
    let unit = Some("alike.service".into());
    rig.owned(&open, Identity { pid, uid: Some(uid), unit, ..Identity::default() });
    rig.capture(&open, true, 0, REQUEST);
    rig.capture(&open, false, 0, RESPONSE);
    rig.pass(4 * SECOND);
    rig.records();
    open
}

fn authorised(rig: &Rig) -> Answer {
    let streams: Vec<Answer> =
        rig.core.streams.iter().map(|stream| stream.verdict.authorised.answer).collect();
    assert_eq!(streams.len(), 1);
    streams[0]
}

fn alerted(rig: &Rig, rule: Rule) -> bool {
    rig.core.alerts.open().iter().any(|alert| alert.rule == rule)
}

#[test]
fn a_reload_makes_no_yes_of_what_was_none() {
    let mut rig = Rig::new(settings());
    let root = policy("user = \"0\"");
    rig.core.set_policy(root.clone(), rig.now_ns);
    let first = connected(&mut rig, 1, 0);
    assert_eq!(authorised(&rig), Answer::Yes);
    let second = connected(&mut rig, 2, 1000);
    assert_eq!(authorised(&rig), Answer::No);
    rig.feed(Kind::Close, first);
    rig.core.set_policy(root.clone(), rig.now_ns);
    assert_eq!(authorised(&rig), Answer::No, "the second is open");
    rig.feed(Kind::Close, second);
    rig.core.set_policy(root.clone(), rig.now_ns);
    assert_eq!(authorised(&rig), Answer::Unknown, "nobody was seen since");
    let third = connected(&mut rig, 3, 0);
    assert_eq!(authorised(&rig), Answer::Yes);
    rig.feed(Kind::Close, third);
    rig.core.set_policy(root, rig.now_ns);
    assert_eq!(authorised(&rig), Answer::Yes);
}

#[test]
fn an_unexpected_peer_that_is_expected_by_now_is_resolved_while_its_flow_is_open() {
    let mut rig = Rig::new(settings());
    rig.core.set_policy(policy("user = \"0\""), rig.now_ns);
    let open = connected(&mut rig, 1, 1000);
    assert!(alerted(&rig, Rule::UnexpectedPeer));
    rig.pass(400 * SECOND);
    assert!(alerted(&rig, Rule::UnexpectedPeer));
    rig.core.set_policy(policy("user = \"1000\""), rig.now_ns);
    rig.pass(400 * SECOND);
    assert!(!alerted(&rig, Rule::UnexpectedPeer));
    rig.core.set_policy(policy("user = \"0\""), rig.now_ns);
    assert!(alerted(&rig, Rule::UnexpectedPeer));
    rig.feed(Kind::Close, open);
    rig.pass(400 * SECOND);
    assert!(!alerted(&rig, Rule::UnexpectedPeer));
}

/// Whatever of a flow has come when the new policy is there, and whichever of its ends: it is judged as if no other had
/// been in force.
#[test]
fn a_flow_that_began_under_the_policy_before_is_judged_by_the_new_one() {
    for within in [false, true] {
        for (before, after) in [("0", "1000"), ("1000", "0")] {
            for at_step in 0..=6 {
                let mut rig = Rig::new(settings());
                rig.core.set_policy(policy(&format!("user = \"{before}\"")), rig.now_ns);
                let open = rig.event(Kind::Open, 1, CLIENT, SERVER, false);
                let other = rig.event(Kind::Open, 2, SERVER, CLIENT, true);
                for step in 0..=6 {
                    if step == at_step {
                        rig.core.set_policy(policy(&format!("user = \"{after}\"")), rig.now_ns);
                    }
                    match step {
                        0 => rig.feed(Kind::Open, open),
                        1 if within => rig.feed(Kind::Open, other),
                        2 => {
                            rig.core.take_output();
                            let pid = Some(open.owner.tgid);
                            rig.owned(&open, Identity { pid, uid: Some(1000), ..Identity::default() });
                        }
                        3 if within => {
                            let pid = Some(other.owner.tgid);
                            rig.owned(&other, Identity { pid, uid: Some(7), ..Identity::default() });
                        }
                        4 => rig.capture(&open, true, 0, REQUEST),
                        5 => rig.capture(&open, false, 0, RESPONSE),
                        _ => {}
                    }
                    rig.pass(SECOND / 10);
                }
                rig.pass(4 * SECOND);
                rig.pass(SECOND);
                let allowed = after == "1000";
                if allowed {
                    // An alert that nobody holds any more is over by then.
                    rig.pass(400 * SECOND);
                }
                let said = (authorised(&rig), alerted(&rig, Rule::UnexpectedPeer));
                let expected = if allowed { (Answer::Yes, false) } else { (Answer::No, true) };
                let what = format!("{within} {before} {after} at {at_step}");
                assert_eq!(said, expected, "{what}");
                let at_ns = rig.now_ns;
                rig.feed(Kind::Close, FlowEvent { kind: Kind::Close as u8, at_ns, ..open });
                let told = rig.records();
                let (_, flow) = *flows(&told).last().unwrap();
                assert_eq!(flow.verdict.authorised.answer, expected.0, "{what}");
            }
        }
    }
}
