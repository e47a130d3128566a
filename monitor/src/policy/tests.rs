#![allow(clippy::unwrap_used)]

mod ends;
mod files;
mod learning;
mod roles;

use proptest::prelude::*;

use super::*;
use crate::model::{Answer, Container, Rule};

fn parse(text: &str) -> Result<Policy, PolicyError> {
    Policy::parse(Path::new("policy.toml"), text)
}

fn unit(name: &str) -> Identity {
    Identity { pid: Some(1), name: Some("java".into()), unit: Some(name.into()), ..Identity::default() }
}

fn facts<'a>(
    client: Option<&'a Identity>,
    server: Option<&'a Identity>,
    server_address: &str,
) -> FlowFacts<'a> {
    FlowFacts {
        client,
        client_address: "10.1.2.3:40000".parse().unwrap(),
        server,
        server_address: server_address.parse().unwrap(),
        transport: Transport::Tcp,
    }
}

const PAYMENTS: &str = r#"
[[service]]
name = "payments-db"
ports = [5432, "6000-6010"]
transport = "tcp"
process = "postgres"
[[service.client]]
unit = "payments.service"
[[service.client]]
address = ["192.168.7.0/24"]
"#;

fn postgres() -> Identity {
    Identity { name: Some("postgres".into()), ..Identity::default() }
}

#[test]
fn a_named_client_is_allowed_and_everyone_else_is_not() {
    let policy = parse(PAYMENTS).unwrap();
    let (payments, other, server) = (unit("payments.service"), unit("cron.service"), postgres());
    assert_eq!(
        policy.decide(&facts(Some(&payments), Some(&server), "10.0.0.1:5432")),
        Decision::Allowed {
            service: "payments-db".into(),
            rule: "unit=payments.service".into(),
            place: "policy.toml:7".into(),
        }
    );
    let unexpected = Decision::Unexpected {
        service: "payments-db".into(),
        expected: "unit=payments.service or address=192.168.7.0/24".into(),
        place: "policy.toml:2".into(),
        side: Side::Ingress,
        action: Action::Alert,
    };
    assert_eq!(policy.decide(&facts(Some(&other), Some(&server), "10.0.0.1:6010")), unexpected);
    // A client on another host has no process that could match; its address may.
    assert_eq!(policy.decide(&facts(None, Some(&server), "10.0.0.1:5432")), unexpected);
    let mut near = facts(None, Some(&server), "10.0.0.1:5432");
    near.client_address = "[::ffff:192.168.7.9]:999".parse().unwrap();
    assert!(
        matches!(policy.decide(&near), Decision::Allowed { rule, .. } if &*rule == "address=192.168.7.0/24")
    );
}

#[test]
fn what_no_service_covers_has_no_policy() {
    let policy = parse(PAYMENTS).unwrap();
    let (payments, server) = (unit("payments.service"), postgres());
    for (server, address, transport) in [
        (Some(&server), "10.0.0.1:5433", Transport::Tcp),
        (Some(&server), "10.0.0.1:5432", Transport::Udp),
        (Some(&payments), "10.0.0.1:5432", Transport::Tcp),
        // A server on another host has no process that could match.
        (None, "10.0.0.1:5432", Transport::Tcp),
    ] {
        let flow = FlowFacts { transport, ..facts(Some(&payments), server, address) };
        assert_eq!(policy.decide(&flow), Decision::NoPolicy, "{flow:?}");
    }
    assert_eq!(Policy::builtin().decide(&facts(None, None, "1.2.3.4:80")), Decision::NoPolicy);
}

#[test]
fn what_could_not_be_seen_is_unknown() {
    let policy = parse(PAYMENTS).unwrap();
    let gone = Identity {
        name: Some("java".into()),
        missing: Some("process ended before it could be looked at".into()),
        ..Identity::default()
    };
    let unknown = Decision::Unknown {
        service: "payments-db".into(),
        why: "java: process ended before it could be looked at".into(),
    };
    assert_eq!(policy.decide(&facts(Some(&gone), Some(&postgres()), "10.0.0.1:5432")), unknown);
    // Of the server, its name is what is asked, and that is known.
    assert_eq!(policy.decide(&facts(Some(&gone), Some(&gone), "10.0.0.1:5432")), Decision::NoPolicy);
    let nameless = Identity { missing: Some("the kernel did not say".into()), ..Identity::default() };
    assert!(matches!(
        policy.decide(&facts(Some(&unit("payments.service")), Some(&nameless), "10.0.0.1:5432")),
        Decision::Unknown { why, .. } if &*why == "the process: the kernel did not say"
    ));
}

#[test]
fn one_service_that_allows_is_enough() {
    let policy = parse(
        r#"
        [[service]]
        name = "all-of-java"
        process = "java"
        [[service.client]]
        user = "root"
        [[service]]
        name = "web"
        ports = [80]
        [[service.client]]
        address = ["0.0.0.0/0", "::/0"]
        [[service]]
        name = "high"
        ports = ["1-65535"]
        container = "0123456789ab"
        [[service.client]]
        user = "0"
        "#,
    )
    .unwrap();
    let server = unit("a.service");
    let allowed = policy.decide(&facts(None, Some(&server), "10.0.0.1:80"));
    assert!(matches!(allowed, Decision::Allowed { ref service, .. } if &**service == "web"), "{allowed:?}");
    let denied = policy.decide(&facts(None, Some(&server), "10.0.0.1:81"));
    assert!(matches!(denied, Decision::Unexpected { ref service, .. } if &**service == "all-of-java"));

    let container = Container { id: "0123456789abcdef".into(), runtime: "docker".into(), pod: None };
    let server = Identity { container: Some(container), ..Identity::default() };
    let root = Identity { uid: Some(0), user: Some("root".into()), ..Identity::default() };
    let inside = policy.decide(&facts(Some(&root), Some(&server), "10.0.0.1:81"));
    assert!(matches!(inside, Decision::Allowed { ref service, .. } if &**service == "high"), "{inside:?}");
}

#[test]
fn a_listener_is_covered_or_not() {
    let policy = parse(&PAYMENTS.replace("process = \"postgres\"", "address = [\"10.0.0.0/8\"]")).unwrap();
    let any = "0.0.0.0".parse().unwrap();
    assert_eq!(policy.covers_service(Transport::Tcp, any, 5432, None), Answer::Yes);
    assert_eq!(policy.covers_service(Transport::Tcp, "11.0.0.1".parse().unwrap(), 5432, None), Answer::No);
    assert_eq!(policy.covers_service(Transport::Tcp, any, 22, None), Answer::No);
    assert_eq!(Policy::builtin().covers_service(Transport::Tcp, any, 22, None), Answer::No);
}

#[test]
fn errors_say_where_and_what_was_expected() {
    let service = "[[service]]\nname = \"a\"\n";
    let client = "[[service.client]]\nuser = \"root\"\n";
    for (text, expected) in [
        (format!("{service}prots = [1]\n{client}"), "policy.toml:3:1: unknown field `prots`"),
        (format!("{service}prots = [1]\n{client}"), "did you mean `ports`?"),
        (
            format!("{service}address = [\"::1\", \"10.0.0.0/40\"]\n{client}"),
            "policy.toml:3:19: address \"10.0.0.0/40\", expected an address or a range",
        ),
        (
            format!("{service}address = [\"10.0.0.1/8\"]\n{client}"),
            "policy.toml:3:12: address \"10.0.0.1/8\", expected 10.0.0.0/8 (no bits",
        ),
        (
            format!("{service}{client}"),
            "policy.toml:1:1: the service \"a\" has no selector, expected at least one of ports",
        ),
        (format!("{service}ports = [1]\n"), "policy.toml:1:1: the service \"a\" has no client"),
        (format!("{service}ports = [70000]\n{client}"), "policy.toml:3:10: port 70000, expected 1 to 65535"),
        (format!("{service}ports = [1, \"9-8\"]\n{client}"), "policy.toml:3:13: port \"9-8\", expected"),
        (
            format!("{service}ports = 80\n{client}"),
            "policy.toml:3:9: invalid type: integer `80`, expected a sequence",
        ),
        (format!("{service}ports = []\n{client}"), "policy.toml:3:9: ports is empty"),
        (
            format!("{service}transport = \"sctp\"\n{client}"),
            "unknown variant `sctp`, expected `tcp` or `udp`",
        ),
        (format!("{service}process = \"a-name-of-16-chs\"\n{client}"), "policy.toml:3:11: process = "),
        (format!("{service}executable = \"nginx\"\n{client}"), "expected an absolute path"),
        (format!("{service}unit = \" \"\n{client}"), "policy.toml:3:8: unit is empty, expected a name"),
        (format!("{service}ports = [1]\n[[service.client]]\n"), "policy.toml:4:1: a client without selector"),
        (
            format!("{service}ports = [1]\n{client}{service}ports = [2]\n{client}"),
            "policy.toml:7:8: the service \"a\" is there twice, expected a name that line 2 does not have",
        ),
        ("[[service]]\nports = [1]\n".to_owned(), "missing field `name`"),
    ] {
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.contains(expected), "\n{text}\n  says: {message}\n  want: {expected}");
    }
}

#[test]
fn a_mapped_range_is_one_of_ipv4() {
    let policy = parse(&PAYMENTS.replace("192.168.7.0/24", "::ffff:10.1.0.0/112")).unwrap();
    let decision = policy.decide(&facts(None, Some(&postgres()), "10.0.0.1:5432"));
    assert!(matches!(decision, Decision::Allowed { rule, .. } if &*rule == "address=10.1.0.0/16"));
}

#[test]
fn the_example_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/policy.example.toml");
    assert!(!Policy::load(&path).unwrap().is_empty());
}

#[test]
fn show_names_every_rule_and_service() {
    let text = parse(PAYMENTS).unwrap().show();
    for rule in Rule::ALL {
        assert!(text.lines().any(|line| line.trim_start().starts_with(rule.as_str())), "{text}");
    }
    assert!(text.contains("  payments-db: 5432,6000-6010/tcp process=postgres\n"), "{text}");
    assert!(text.contains("    client unit=payments.service\n"), "{text}");
    assert!(Policy::builtin().show().contains("none: no policy file"));
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_in_one_line(
        text in "(\\[\\[service(\\.client)?\\]\\]\n|(name|ports|address|process|unit) = (\\[?\"?[0-9a-z./:-]{0,12}\"?\\]?)\n|.){0,12}"
    ) {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}
