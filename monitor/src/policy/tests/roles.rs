//! What a client may do.

use super::*;
use crate::policy::operation::Verb::{Admin, Read, Write};

/// Word for word: only payment-processing services may write to the Kafka topic `payments`; audit
/// services may only read it.
const KAFKA: &str = r#"
[groups]
payment-processing = [{ unit = "payment-processor.service" }, { unit = "payment-gateway@*.service" }]
audit = [{ unit = "audit.service" }]

[[service]]
name = "kafka"
ports = [9092]

[[service.client]]
group = "payment-processing"
may = ["read", "write"]
topic = "payments"

[[service.client]]
group = "audit"
may = ["read"]
topic = "payments"

[[service.client]]
unit = "orders.service"
may = ["read", "write"]
topic = "!payments"
"#;

fn topic(verb: Verb, name: &str) -> Operation {
    Operation { verb, kind: "topic", object: Some(name.into()) }
}

fn answer(policy: &Policy, client: &str, operation: &Operation) -> char {
    let client = unit(client);
    match policy.operation(&facts(Some(&client), None, "10.0.0.1:9092"), operation) {
        Decision::Allowed { .. } => 'y',
        Decision::Unexpected { side: Side::Operation, .. } => 'n',
        Decision::Unexpected { .. } => '!',
        Decision::Unknown { .. } => '?',
        Decision::NoPolicy => '-',
    }
}

#[test]
fn only_payment_processing_writes_to_payments_and_audit_only_reads() {
    for policy in [parse(KAFKA).unwrap(), example()] {
        for (client, operation, expected) in [
            ("payment-processor.service", topic(Write, "payments"), 'y'),
            ("payment-processor.service", topic(Read, "payments"), 'y'),
            ("payment-gateway@7.service", topic(Write, "payments"), 'y'),
            ("audit.service", topic(Read, "payments"), 'y'),
            ("audit.service", topic(Write, "payments"), 'n'),
            ("audit.service", topic(Admin, "payments"), 'n'),
            ("payment-processor.service", topic(Admin, "payments"), 'n'),
        ] {
            assert_eq!(answer(&policy, client, &operation), expected, "{client} {operation}");
        }
    }
}

fn example() -> Policy {
    Policy::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/policy.example.toml")).unwrap()
}

#[test]
fn what_a_role_is_silent_on_is_unknown_and_never_allowed() {
    let policy = parse(KAFKA).unwrap();
    for (client, operation, expected) in [
        ("audit.service", Operation { verb: Read, kind: "topic", object: None }, '?'),
        ("audit.service", Operation { verb: Read, kind: "command", object: Some("metadata".into()) }, '?'),
        ("audit.service", Operation { verb: Write, kind: "command", object: None }, 'n'),
        ("orders.service", topic(Write, "orders"), 'y'),
        ("orders.service", topic(Write, "payments"), 'n'),
        // Nobody whom the policy names: that is for `decide` to say.
        ("cron.service", topic(Write, "payments"), '-'),
    ] {
        assert_eq!(answer(&policy, client, &operation), expected, "{client} {operation}");
    }
    // Who is not wholly known may be one who may.
    let gone = Identity { missing: Some("ended".into()), ..Identity::default() };
    let decision = policy.operation(&facts(Some(&gone), None, "10.0.0.1:9092"), &topic(Write, "payments"));
    assert!(matches!(decision, Decision::Unknown { .. }), "{decision:?}");
}

#[test]
fn a_subscription_with_wildcards_takes_in_what_is_excepted() {
    let policy = parse(KAFKA).unwrap();
    for (name, expected) in [("#", 'n'), ("+", 'n'), ("pay+", 'n'), (">", 'n'), ("orders/#", 'y')] {
        assert_eq!(answer(&policy, "orders.service", &topic(Read, name)), expected, "{name}");
        assert_ne!(answer(&policy, "audit.service", &topic(Read, name)), 'y', "{name}");
    }
}

/// Of MQTT and of NATS, in the policy as in what a client subscribes to.
#[test]
fn a_policy_may_name_topics_as_brokers_do() {
    for (kind, named, asked, expected) in [
        ("topic", "a/#", "a", 'y'),
        ("topic", "a/#", "a/b/c", 'y'),
        ("topic", "a/#", "a/+/c", 'y'),
        ("topic", "a/#", "a/#", 'y'),
        ("topic", "a/#", "ab", 'n'),
        ("topic", "a/#", "#", 'n'),
        ("topic", "#", "a/b", 'y'),
        ("topic", "#", "$SYS/broker/uptime", 'n'),
        ("topic", "#", "$CONTROL/dynamic-security/v1", 'n'),
        ("topic", "+/broker/#", "$SYS/broker/uptime", 'n'),
        ("topic", "$SYS/#", "$SYS/broker/uptime", 'y'),
        ("topic", "a/+", "a/b", 'y'),
        ("topic", "a/+", "a/+", 'y'),
        ("topic", "a/+", "a/b/c", 'n'),
        ("topic", "a/+", "a/#", 'n'),
        ("topic", "+/b", "a/b", 'y'),
        ("topic", "+/b", "+/c", 'n'),
        ("subject", "a.>", "a.b.c", 'y'),
        ("subject", "a.>", "a", 'n'),
        ("subject", "a.>", "a.*", 'y'),
        ("subject", "a.>", ">", 'n'),
        ("subject", "a.*", "a.b", 'y'),
        ("subject", "!a.>", "b", 'y'),
        ("subject", "!a.>", "a.b", 'n'),
        ("subject", "!a.>", "*.b", 'n'),
        ("topic", "!a/#", "+", 'n'),
        ("topic", "!a", "a/#", 'n'),
        ("topic", "!a/b", "c/#", 'y'),
        ("statement", "select", "SELECT", 'y'),
        ("command", "createacls", "CreateAcls", 'y'),
        ("queue", "Select", "SELECT", 'n'),
    ] {
        let policy = format!(
            "[[service]]\nname = \"a\"\nports = [9092]\n[[service.client]]\nunit = \"*\"\n\
             may = [\"read\"]\n{kind} = \"{named}\"\n"
        );
        let operation = Operation { verb: Read, kind, object: Some(asked.into()) };
        assert_eq!(answer(&parse(&policy).unwrap(), "a.service", &operation), expected, "{named}: {asked}");
    }
}

#[test]
fn paths_hold_what_is_below_them_and_nothing_beside() {
    let policy = parse(
        "[roles]\nreader = [{ may = [\"read\"], method = [\"get\", \"HEAD\"], \
         path = [\"/api\", \"!/api/secret\", \"/*.css\"] }]\n\
         [[service]]\nname = \"web\"\nports = [9092]\n[[service.client]]\nunit = \"*\"\nrole = \"reader\"\n",
    )
    .unwrap();
    for (object, expected) in [
        ("GET /api", 'y'),
        ("GET /api/v1?x=/admin", 'y'),
        ("GET /%61pi/v1", 'y'),
        ("HEAD /api/", 'y'),
        ("OPTIONS /api/", 'n'),
        ("GET /apix", 'n'),
        ("GET /admin", 'n'),
        ("GET /api/../admin", 'n'),
        ("GET /api/%2e%2E/admin", 'n'),
        ("GET /api/..%2fadmin", 'n'),
        ("GET /api//admin", 'n'),
        // To a server that decodes twice, cuts off parameters or dots, or knows other escapes.
        ("GET /api/%252e%252E/admin", 'n'),
        ("GET /api/..%252fadmin", 'n'),
        ("GET /api/..%3Ba/admin", 'n'),
        ("GET /api/..%20/admin", 'n'),
        ("GET /api/.../admin", 'n'),
        ("GET /api/%c0%ae%c0%ae/admin", 'n'),
        ("GET /api/%u002e%u002e/admin", 'n'),
        ("GET /api/a..b/.well-known/100%25/caf%C3%A9", 'y'),
        ("GET /api/secret", 'n'),
        ("GET /api/secret/a", 'n'),
        ("GET /api/%73ecret", 'n'),
        ("GET /a/b.css", 'y'),
        // What was left out may be anything.
        ("GET /api/v1/…/a", 'y'),
        ("GET /…/v1", '?'),
        ("GET /api/…%2F…", 'n'),
        ("GET /api/…", '?'),
        ("GET api", '?'),
        ("OPTIONS *", 'n'),
        ("/api", '?'),
    ] {
        let operation = Operation { verb: Read, kind: "path", object: Some(object.into()) };
        assert_eq!(answer(&policy, "a.service", &operation), expected, "{object}");
    }
    let connect = Operation { verb: Write, kind: "path", object: Some("CONNECT a:443".into()) };
    assert_eq!(answer(&policy, "a.service", &connect), 'n');
}

#[test]
fn a_method_that_the_verbs_do_not_hold_is_refused() {
    let file = "[[service]]\nname = \"a\"\nports = [80]\n[[service.client]]\nunit = \"*\"\n\
                may = [\"read\"]\nmethod = \"POST\"\n";
    let wrong = parse(file).unwrap_err().to_string();
    assert!(wrong.contains(":7:10: method \"POST\" can never hold, expected \"write\" in may"), "{wrong}");
}

#[test]
fn an_encrypted_stream_of_a_limited_client_is_unknown_or_breaks_the_policy() {
    let wire = dissect::Facts {
        protection: dissect::Protection::Encrypted(dissect::Cipher::Tls),
        ..dissect::Facts::unknown(dissect::UnknownReason::Silent)
    };
    let seen = Seen { facts: Some(&wire), ..Seen::default() };
    let audit = unit("audit.service");
    let flow = facts(Some(&audit), None, "10.0.0.1:9092");
    let decision = parse(KAFKA).unwrap().decide_seen(&flow, seen);
    assert!(
        matches!(&decision, Decision::Unknown { why, .. } if why.starts_with("encrypted")),
        "{decision:?}"
    );
    let strict = KAFKA.replace("ports = [9092]", "ports = [9092]\nencrypted = \"alert\"");
    let decision = parse(&strict).unwrap().decide_seen(&flow, seen);
    assert!(matches!(&decision, Decision::Unexpected { side: Side::Hidden, .. }), "{decision:?}");
    // In the clear it could be read, and was not: that is no yes either.
    let clear = dissect::Facts {
        protection: dissect::Protection::Plaintext(dissect::Plain::Readable),
        ..wire.clone()
    };
    for facts in [&clear, &dissect::Facts::unknown(dissect::UnknownReason::Silent)] {
        let decision = parse(&strict).unwrap().decide_seen(&flow, Seen { facts: Some(facts), ..seen });
        assert!(
            matches!(&decision, Decision::Unknown { why, .. } if why.contains("was not read")),
            "{decision:?}"
        );
    }
    // Whom no role limits may hide what it does.
    let free = "[[service]]\nname = \"a\"\nports = [9092]\n[[service.client]]\nunit = \"audit.service\"\n";
    let decision = parse(free).unwrap().decide_seen(&flow, seen);
    assert!(matches!(decision, Decision::Allowed { .. }), "{decision:?}");
}

proptest! {
    #[test]
    fn any_object_gets_an_answer(object in ".{0,40}", kind in 0usize..4) {
        let policy = parse(KAFKA).unwrap();
        let kind = ["topic", "path", "subject", "command"][kind];
        let operation = Operation { verb: Write, kind, object: Some(object) };
        prop_assert_ne!(answer(&policy, "audit.service", &operation), 'y');
    }
}
