//! Who, by all that a policy can ask.

use std::collections::BTreeMap;

use dissect::{Certificate, Facts, Protection, TlsFacts, UnknownReason};

use super::*;
use crate::model::Workload;

/// A service at port 443 with this client entry.
fn with_client(client: &str) -> Policy {
    parse(&format!("[[service]]\nname = \"a\"\nports = [443]\n[[service.client]]\n{client}\n")).unwrap()
}

/// `y`, `n` or `?`, by who the client is.
fn says(policy: &Policy, client: Option<&Identity>, seen: Seen<'_>) -> char {
    match policy.decide_seen(&facts(client, None, "198.51.100.7:443"), seen) {
        Decision::Allowed { .. } => 'y',
        Decision::Unexpected { .. } => 'n',
        Decision::Unknown { .. } => '?',
        Decision::NoPolicy => '-',
    }
}

fn container() -> Identity {
    Identity {
        name: Some("java".into()),
        executable: Some("/usr/bin/java (deleted)".into()),
        executable_sha256: Some("ab".repeat(32)),
        uid: Some(1000),
        container: Some(Container { id: "0123456789abcdef".into(), runtime: "docker".into(), pod: None }),
        workload: Some(Box::new(Workload {
            name: Some("cart".into()),
            image: Some("docker.io/shop/cart:7".into()),
            namespace: Some("shop".into()),
            pod: Some("cart-0".into()),
            labels: Some(BTreeMap::from([("app".to_owned(), "cart".to_owned())])),
        })),
        ..Identity::default()
    }
}

#[test]
fn every_selector_of_a_process_holds_or_does_not() {
    let own = container();
    for (entry, expected) in [
        ("process = \"java\"", 'y'),
        ("process = \"ja?a\"", 'y'),
        ("process = [\"ruby\", \"java\"]", 'y'),
        ("process = \"ruby\"", 'n'),
        ("executable = \"/usr/bin/java\"", 'y'),
        ("executable = \"/usr/*\"", 'y'),
        ("executable = \"/opt/*\"", 'n'),
        ("sha256 = \"ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB\"", 'y'),
        ("sha256 = \"00ababababababababababababababababababababababababababababababab\"", 'n'),
        ("user = \"1000\"", 'y'),
        ("user = \"1001\"", 'n'),
        ("container = \"0123456789ab\"", 'y'),
        ("container = \"0123456789ac\"", 'n'),
        ("container = \"cart\"", 'y'),
        ("image = \"docker.io/shop/*\"", 'y'),
        ("image = \"*:7\"", 'y'),
        ("image = \"*:8\"", 'n'),
        ("namespace = \"shop\"", 'y'),
        ("pod = \"cart-*\"", 'y'),
        ("labels = { app = \"cart\" }", 'y'),
        ("labels = { app = \"cart\", tier = \"web\" }", 'n'),
        ("process = \"java\"\nuser = \"0\"", 'n'),
        ("process = \"java\"\naddress = \"10.1.0.0/16\"", 'y'),
        ("process = \"java\"\naddress = \"10.2.0.0/16\"", 'n'),
    ] {
        assert_eq!(says(&with_client(entry), Some(&own), Seen::default()), expected, "{entry}");
        // On another host there is no process; and no address that matters here.
        assert_eq!(says(&with_client(entry), None, Seen::default()), 'n', "{entry}");
    }
}

#[test]
fn what_was_not_looked_at_is_unknown() {
    let bare = Identity { executable_sha256: None, workload: None, ..container() };
    let quiet = Workload { labels: None, ..*container().workload.unwrap() };
    let unlabelled = Identity { workload: Some(Box::new(quiet)), ..container() };
    let outside = Identity { container: None, workload: None, ..container() };
    for (entry, identity, expected) in [
        ("sha256 = \"00ababababababababababababababababababababababababababababababab\"", &bare, '?'),
        ("image = \"a\"", &bare, '?'),
        ("labels = { app = \"cart\" }", &bare, '?'),
        ("labels = { app = \"cart\" }", &unlabelled, '?'),
        // It is in no container: nothing is missing.
        ("image = \"a\"", &outside, 'n'),
        ("labels = { app = \"cart\" }", &outside, 'n'),
    ] {
        assert_eq!(says(&with_client(entry), Some(identity), Seen::default()), expected, "{entry}");
    }
}

/// Its user has a name that nobody has looked up: only a number says that it is another one.
#[test]
fn a_user_whose_name_was_not_looked_up_may_be_the_one_that_is_named() {
    let looked_at = Identity { name: Some("curl".into()), uid: Some(1000), ..Identity::default() };
    let unseen = Identity { missing: Some("it was not looked up".into()), ..looked_at.clone() };
    let named = Identity { user: Some("alice".into()), ..unseen.clone() };
    for (entry, of_unseen, of_named, of_looked_at) in [
        ("user = \"alice\"", '?', 'y', 'n'),
        ("user = \"bob\"", '?', 'n', 'n'),
        ("user = \"a*\"", '?', 'y', 'n'),
        ("user = \"1000\"", 'y', 'y', 'y'),
        ("user = [\"1001\", \"1002\"]", 'n', 'n', 'n'),
        ("user = [\"1001\", \"bob\"]", '?', 'n', 'n'),
        ("user = \"bob\"\nprocess = \"wget\"", 'n', 'n', 'n'),
        ("user = \"bob\"\nexecutable = \"/usr/bin/curl\"", '?', 'n', 'n'),
        ("unit = \"a.service\"", '?', '?', 'n'),
        ("container = \"cart\"", '?', '?', 'n'),
        ("executable = \"/usr/bin/curl\"", '?', '?', 'n'),
    ] {
        let says = |identity: &Identity| says(&with_client(entry), Some(identity), Seen::default());
        let said = (says(&unseen), says(&named), says(&looked_at));
        assert_eq!(said, (of_unseen, of_named, of_looked_at), "{entry}");
    }
}

#[test]
fn a_container_of_a_user_is_not_that_of_the_host_with_its_id() {
    let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let within = |outer: &str| Identity {
        container: Some(Container { id: format!("{outer}/{id}"), runtime: "docker".into(), pod: None }),
        workload: None,
        ..container()
    };
    let (of_user, nested) = (within("user@1000.service"), within(&"ab".repeat(32)));
    for (entry, user, inner) in [
        (format!("container = \"{id}\""), 'n', 'n'),
        ("container = \"0123456789ab\"".to_owned(), 'n', 'n'),
        ("container = \"cart\"".to_owned(), 'n', 'n'),
        (format!("container = \"user@1000.service/{id}\""), 'y', 'n'),
        // All that is in a container is in it.
        ("container = \"abababababab\"".to_owned(), 'n', 'y'),
        ("image = \"docker.io/shop/*\"".to_owned(), 'n', '?'),
        ("labels = { app = \"cart\" }".to_owned(), 'n', '?'),
        ("process = \"java\"\nuser = \"1000\"".to_owned(), 'y', 'y'),
    ] {
        assert_eq!(says(&with_client(&entry), Some(&of_user), Seen::default()), user, "{entry}");
        assert_eq!(says(&with_client(&entry), Some(&nested), Seen::default()), inner, "{entry}");
    }
}

fn tls(change: impl FnOnce(&mut TlsFacts)) -> Facts {
    let mut tls = TlsFacts { established: true, ..TlsFacts::default() };
    change(&mut tls);
    Facts {
        protection: Protection::Encrypted(dissect::Cipher::Tls),
        tls: Some(tls),
        ..Facts::unknown(UnknownReason::Silent)
    }
}

fn plain() -> Facts {
    let readable = Protection::Plaintext(dissect::Plain::Readable);
    Facts { protection: readable, ..Facts::unknown(UnknownReason::Silent) }
}

/// The name that is asked for may be one of those that were left out.
#[test]
fn a_list_of_names_that_was_cut_denies_none() {
    let shown = tls(|tls| {
        tls.client_certificates = vec![Certificate {
            alternative_names: vec!["DNS:pay.example".into()],
            names_cut: true,
            ..Certificate::default()
        }];
    });
    for (entry, expected) in [
        ("san = \"pay.example\"", 'y'),
        ("san = \"other.example\"", '?'),
        ("spiffe = \"spiffe://example.org/pay\"", '?'),
    ] {
        let seen = Seen { facts: Some(&shown), ..Seen::default() };
        assert_eq!(says(&with_client(entry), None, seen), expected, "{entry}");
    }
}

/// Authorities that let their clients choose a URI or a mailbox do not say that a host's name is theirs.
#[test]
fn a_name_of_another_kind_is_not_the_one_that_a_policy_means() {
    let shown = tls(|tls| {
        let names = ["URI:DNS:pay.example", "URI:spiffe://corp/sa/x.bank.example", "email:a@pay.example"];
        tls.client_certificates = vec![Certificate {
            alternative_names: names.map(str::to_owned).to_vec(),
            spiffe_id: Some("spiffe://corp/sa/x.bank.example".into()),
            ..Certificate::default()
        }];
    });
    let seen = Seen { facts: Some(&shown), ..Seen::default() };
    for (entry, expected) in [
        ("san = \"DNS:pay.example\"", 'n'),
        ("san = \"*.bank.example\"", 'n'),
        ("san = \"*pay.example\"", 'n'),
        ("san = \"*@pay.example\"", 'y'),
        ("san = \"spiffe://corp/*\"", 'y'),
        ("san = \"URI:spiffe://corp/*\"", 'y'),
        // One of several URIs.
        ("spiffe = \"spiffe://corp/*\"", '?'),
    ] {
        assert_eq!(says(&with_client(entry), None, seen), expected, "{entry}");
    }
}

#[test]
fn certificates_name_a_client_where_they_can_be_seen() {
    let certificate = Certificate {
        alternative_names: vec!["DNS:pay.example".into(), "IP:10.1.2.3".into()],
        spiffe_id: Some("spiffe://example.org/pay".into()),
        ..Certificate::default()
    };
    let shown = tls(|tls| tls.client_certificates = vec![certificate.clone()]);
    let begun = tls(|tls| {
        tls.client_certificates = vec![certificate.clone()];
        tls.established = false;
    });
    let hidden = tls(|_| {});
    // Anybody may give himself any name.
    let made_up = Certificate { self_signed: true, ..certificate.clone() };
    let made_up = tls(|tls| tls.client_certificates = vec![made_up]);
    let none = tls(|tls| tls.client_certificate.state = dissect::ClientCertificateState::NotRequested);
    for (entry, expected) in [
        ("san = \"pay.example\"", "y???nn?"),
        ("san = \"DNS:pay.*\"", "y???nn?"),
        ("san = \"10.1.2.3\"", "y???nn?"),
        ("san = \"other.example\"", "n???nn?"),
        ("spiffe = \"spiffe://example.org/*\"", "y???nn?"),
        ("spiffe = \"spiffe://example.org/audit\"", "n???nn?"),
    ] {
        let policy = with_client(entry);
        assert!(policy.wants().facts);
        let said: String =
            [Some(&shown), Some(&begun), Some(&made_up), Some(&hidden), Some(&none), Some(&plain()), None]
                .into_iter()
                .map(|facts| says(&policy, None, Seen { facts, ..Seen::default() }))
                .collect();
        assert_eq!(said, expected, "{entry}");
    }
}

/// A client that may connect to this and nothing else.
fn with_target(to: &str) -> Policy {
    parse(&format!("[[client]]\nname = \"pay\"\nunit = \"pay.service\"\n[[client.to]]\n{to}\n")).unwrap()
}

#[test]
fn egress_by_port_address_and_names() {
    let own = unit("pay.service");
    let names: [Arc<str>; 1] = ["api.stripe.test".into()];
    let asked = tls(|tls| tls.server_name = Some("API.stripe.test".into()));
    let veiled = tls(|tls| {
        tls.server_name = Some("api.stripe.test".into());
        tls.encrypted_client_hello = true;
    });
    let none = Seen { names_complete: true, ..Seen::default() };
    let named = Seen { server_names: &names, ..none };
    let named_in_part = Seen { server_names: &names, ..Seen::default() };
    let many: Vec<Arc<str>> =
        (0..crate::names::MOST_OF_ONE).map(|n| format!("n{n}.stripe.test").into()).collect();
    let named_to_the_full = Seen { server_names: &many, ..Seen::default() };
    for (to, seen, expected) in [
        ("ports = [443]", none, 'y'),
        ("ports = [80]", none, 'n'),
        ("transport = \"udp\"\nports = [443]", none, 'n'),
        ("address = \"198.51.100.0/24\"", none, 'y'),
        ("address = [\"10.0.0.0/8\", \"198.51.0.0/16\"]\nports = [443]", none, 'y'),
        ("address = \"10.0.0.0/8\"", none, 'n'),
        ("dns = \"*.stripe.test.\"", named, 'y'),
        ("dns = \"stripe.test\"", named, 'n'),
        ("dns = \"*.stripe.test.\"", named_in_part, 'y'),
        ("dns = \"stripe.test\"", named_in_part, 'n'),
        ("dns = \"stripe.test\"", named_to_the_full, '?'),
        ("dns = \"n7.stripe.test\"", named_to_the_full, 'y'),
        ("dns = \"*.stripe.test\"", none, 'n'),
        ("dns = \"*.stripe.test\"", Seen::default(), '?'),
        ("sni = \"*.stripe.test\"", Seen { facts: Some(&asked), ..none }, 'y'),
        ("sni = \"stripe.test\"", Seen { facts: Some(&asked), ..none }, 'n'),
        ("sni = \"*.stripe.test\"", Seen { facts: Some(&veiled), ..none }, '?'),
        ("sni = \"*.stripe.test\"", Seen { facts: Some(&plain()), ..none }, 'n'),
        ("sni = \"*.stripe.test\"", none, '?'),
    ] {
        assert_eq!(says(&with_target(to), Some(&own), seen), expected, "{to}");
    }
    let other = unit("other.service");
    assert_eq!(says(&with_target("ports = [80]"), Some(&other), none), '-', "no rule is about it");
}

#[test]
fn both_sides_must_agree_and_a_service_can_be_named() {
    let policy = parse(
        "[groups]\nshop = [{ unit = \"cart.service\" }, { unit = \"pay.service\" }]\n\
         [[service]]\nname = \"db\"\nports = [443]\naddress = \"198.51.100.7\"\n\
         [[service.client]]\ngroup = \"shop\"\n\
         [[client]]\nname = \"pay\"\nunit = \"pay.service\"\n[[client.to]]\nservice = \"db\"\n\
         [[client]]\nname = \"cart\"\nunit = \"cart.service\"\naction = \"report\"\n",
    )
    .unwrap();
    let (pay, cart, other) = (unit("pay.service"), unit("cart.service"), unit("other.service"));
    assert_eq!(says(&policy, Some(&pay), Seen::default()), 'y');
    assert_eq!(says(&policy, Some(&other), Seen::default()), 'n');
    let decision = policy.decide(&facts(Some(&cart), None, "198.51.100.7:443"));
    let reported = Decision::Unexpected {
        service: "cart".into(),
        expected: "nothing".into(),
        place: "policy.toml:14".into(),
        side: Side::Egress,
        action: Action::Report,
    };
    assert_eq!(decision, reported);
}

/// Asks every rule, without an index.
fn slow(policy: &Policy, flow: &FlowFacts<'_>) -> bool {
    let plain = |policy: &Policy| Policy { groups: policy.groups.clone(), ..policy.clone() };
    let mut unindexed = plain(policy);
    for service in &mut unindexed.services {
        service.client_index = Index::default();
    }
    let end = end::End::new(end::Role::Client, flow.client, flow.client_address.ip(), Seen::default());
    policy.services.iter().any(|service| {
        service.ports.holds(flow.server_address.port())
            && service.clients.iter().any(|rule| rule.selector.holds(&end) == selector::Held::Yes)
    })
}

proptest! {
    /// However rules are found, the answer is that of asking each.
    #[test]
    fn the_index_finds_what_asking_every_rule_finds(
        entries in proptest::collection::vec(
            (0usize..8, "[ab]{1,3}", "[ab*?]{1,6}", 0u8..4, 8u8..=32), 1..20),
        name in "[ab]{1,6}", third in 0u8..4,
    ) {
        let mut text = String::from("[[service]]\nname = \"a\"\nports = [443]\n");
        for (kind, word, pattern, octet, length) in entries {
            let range = ipnet::Ipv4Net::new([10, 0, octet, 0].into(), length).unwrap().trunc();
            text += "[[service.client]]\n";
            text += &match kind {
                0 => format!("process = \"{word}\"\n"),
                1 => format!("process = \"{word}*\"\n"),
                2 => format!("process = \"*{word}\"\n"),
                3 => format!("process = \"*{word}*\"\n"),
                4 => format!("address = \"{range}\"\n"),
                7 => format!("process = \"{pattern}\"\n"),
                5 => format!("process = \"{word}\"\naddress = \"{range}\"\n"),
                _ => format!("unit = \"{word}.service\"\nprocess = [\"{word}\", \"a?\"]\n"),
            };
        }
        let policy = parse(&text).unwrap();
        let identity = Identity { name: Some(name.clone()), unit: Some(format!("{name}.service")), ..Identity::default() };
        let mut flow = facts(Some(&identity), None, "198.51.100.7:443");
        flow.client_address = SocketAddr::from(([10, 0, third, 1], 9));
        let found = matches!(policy.decide(&flow), Decision::Allowed { .. });
        prop_assert_eq!(found, slow(&policy, &flow));
    }
}
