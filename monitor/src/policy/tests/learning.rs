//! Learn, test, export.

use serde_json::{Value, json};

use super::*;

/// A flow record of this end, as the daemon writes it.
fn record(
    id: u32,
    direction: &str,
    client: (&str, u16),
    server: (&str, u16),
    own: Value,
    peer: Value,
) -> Value {
    let mut record = json!({
        "@timestamp": format!("2026-01-02T03:04:{:02}.000000000Z", id % 60),
        "event": { "dataset": "streamwatch.flow", "start": "2026-01-02T03:04:00.000000000Z" },
        "network": { "transport": "tcp", "direction": direction, "protocol": "http" },
        "client": { "ip": client.0, "port": client.1 },
        "server": { "ip": server.0, "port": server.1 },
        "streamwatch": { "flow": { "id": format!("f{id}"), "state": "closed" } },
    });
    for (key, value) in own.as_object().unwrap() {
        record[key] = value.clone();
    }
    if !peer.is_null() {
        record["streamwatch"]["peer"] = peer;
    }
    record
}

fn by_unit(name: &str, unit: &str) -> Value {
    json!({ "process": { "pid": 7, "name": name }, "user": { "id": "0", "name": "root" }, "service": { "name": unit } })
}

fn observed() -> Observations {
    let web = || by_unit("nginx", "nginx.service");
    let curl = json!({
        "process": { "pid": 9, "name": "curl", "executable": "/usr/bin/curl" }, "user": { "id": "33", "name": "www" },
    });
    let mut records = Vec::new();
    for last in 1..=9u8 {
        let client = format!("10.9.8.{last}");
        records.push(record(
            u32::from(last),
            "ingress",
            (&client, 40_000),
            ("10.0.0.1", 80),
            web(),
            Value::Null,
        ));
    }
    records.push(record(20, "ingress", ("203.0.113.5", 1), ("10.0.0.1", 80), web(), Value::Null));
    // Both ends of one connection.
    records.push(record(30, "ingress", ("127.0.0.1", 5), ("127.0.0.1", 80), web(), curl.clone()));
    records.push(record(31, "egress", ("127.0.0.1", 5), ("127.0.0.1", 80), curl.clone(), web()));
    let mut out = record(40, "egress", ("10.0.0.1", 6), ("198.51.100.1", 443), curl, Value::Null);
    out["tls"] = json!({ "client": { "server_name": "API.example.org" } });
    records.push(out.clone());
    records.push(out);
    let gone = json!({ "process": { "pid": 8, "name": "gone" }, "user": { "id": "0", "name": "root" } });
    let mut unseen = record(50, "egress", ("10.0.0.1", 7), ("198.51.100.2", 22), gone, Value::Null);
    unseen["streamwatch"]["missing"] = json!("process ended before it could be looked at");
    records.push(unseen);
    records.push(json!({ "event": { "dataset": "streamwatch.alert" } }));
    let lines: Vec<String> = records.iter().map(Value::to_string).collect();
    Observations::from_lines(&format!("{}\nnot json\n\n", lines.join("\n")))
}

#[test]
fn records_are_counted_once_a_connection() {
    let all = observed();
    assert_eq!((all.list.len(), all.ignored), (13, 2));
    assert_eq!(all.list.iter().filter(|seen| seen.incomplete).count(), 1);
}

/// A scan is no use of what it tried, in records of flows and of streams alike.
#[test]
fn what_never_came_up_is_not_learnt() {
    let nmap = || by_unit("nmap", "nmap.service");
    let stream = |port: u16, flows: u32, failed: u32| {
        let mut record = record(1, "egress", ("10.0.0.1", 0), ("10.0.0.2", port), nmap(), Value::Null);
        record["event"]["dataset"] = json!("streamwatch.stream");
        record["streamwatch"] = json!({ "stream": { "flows": flows, "failed": failed } });
        record
    };
    let mut flow = record(2, "egress", ("10.0.0.1", 6), ("10.0.0.2", 7004), nmap(), Value::Null);
    flow["streamwatch"]["flow"]["state"] = json!("failed");
    let observations =
        Observations::new(vec![stream(7001, 1, 1), stream(7002, 5, 2), stream(7003, 4, 4), flow]);
    let learnt = learn(&observations);
    assert!(learnt.contains("ports = [7002]") && learnt.contains("# 3 flows, "), "{learnt}");
    for port in ["7001", "7003", "7004"] {
        assert!(!learnt.contains(port), "{learnt}");
    }
}

#[test]
fn what_is_learnt_holds_for_what_it_was_learnt_from() {
    let observations = observed();
    let text = learn(&observations);
    let policy = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let said = trial(&policy, &observations);
    assert_eq!((said.unexpected, said.unknown), (0, 0), "{text}\n{said:?}");
    // The user of the one that was left out is known, and is none of those.
    assert_eq!((said.allowed, said.uncovered), (12, 1), "{text}\n{said:?}");
    for expected in [
        "name = \"nginx\"",
        "unit = \"nginx.service\"",
        // Nine clients of one network are the network; one is itself; the port of a client is none.
        "address = [\"10.9.8.0/24\", \"203.0.113.5/32\"]",
        "executable = \"/usr/bin/curl\"\nuser = \"www\"",
        "# 11 flows, 2026-01-02T03:04:00Z to 2026-01-02T03:04:31Z, http\n[[service]]",
        "service = \"nginx\"",
        "sni = [\"api.example.org\"]",
        "# 1 flow is not in it",
    ] {
        assert!(text.contains(expected), "no {expected} in\n{text}");
    }
    // Somebody else is not in it.
    let stranger = record(
        60,
        "ingress",
        ("172.16.0.9", 1),
        ("10.0.0.1", 80),
        by_unit("nginx", "nginx.service"),
        Value::Null,
    );
    let said = trial(&policy, &Observations::new([stranger]));
    assert_eq!(said.unexpected, 1);
    assert!(
        said.lines[0].starts_with("unexpected-peer: 172.16.0.9 → nginx.service:80/tcp: 'nginx' expects"),
        "{said:?}"
    );
}

#[test]
fn hostile_names_stay_texts() {
    let name = "a\"]\n[[service]]\nname='x'\u{1b}[31m*\u{202e}";
    let own = json!({ "process": { "pid": 7, "name": name }, "user": { "id": "0", "name": name } });
    let seen = Observations::new([record(1, "ingress", ("10.0.0.2", 1), ("10.0.0.1", 80), own, Value::Null)]);
    let text = learn(&seen);
    let policy = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!((policy.service_count(), trial(&policy, &seen).unexpected), (1, 0), "{text}");
    assert!(!text.lines().any(|line| line.contains(crate::record::is_active)), "{text:?}");
}

/// A policy that holds what nobody can name, or means more than was seen, would be everybody's to spoil.
#[test]
fn names_that_are_nobodys_or_everybodys_spoil_no_policy() {
    let process = |name: &str| {
        let path = "… (a path of 523 bytes)";
        json!({
            "process": { "pid": 7, "name": name, "executable": path }, "user": { "id": "1000", "name": "eve" },
        })
    };
    let learnt = |own: Value, more: &[(&str, Value)]| {
        let mut seen = record(1, "egress", ("10.0.0.2", 1), ("198.51.100.1", 443), own, Value::Null);
        more.iter().for_each(|(key, value)| seen[*key] = value.clone());
        let text = learn(&Observations::new([seen]));
        parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        text
    };
    let asks = |name: &str| ("tls", json!({ "client": { "server_name": name } }));
    let address = "address = [\"198.51.100.1/32\"]";
    for name in ["", " "] {
        assert!(learnt(process("curl"), &[asks(name)]).contains(address), "{name:?}");
    }
    assert!(learnt(process("curl"), &[asks("*")]).contains("sni = [\"?\"]"));
    let outer = ("streamwatch", json!({ "flow": { "id": "f1" }, "tls": { "encrypted_client_hello": true } }));
    assert!(learnt(process("curl"), &[asks("outer.example"), outer]).contains(address));
    // As the kernel has it: 15 bytes that are no text, and one that is blank.
    let odd = learnt(process(&"\u{fffd}".repeat(15)), &[]);
    assert!(odd.contains("process = \"???????????????\""), "{odd}");
    assert!(learnt(process(" "), &[]).contains("# 1 flow is not in it"));
    let mut elsewhere = process("curl");
    elsewhere["process"]["executable"] = json!("/usr/bin/curl");
    assert!(learnt(elsewhere.clone(), &[]).contains("executable = \"/usr/bin/curl\""));
    elsewhere["process"]["executable_elsewhere"] = json!(true);
    assert!(learnt(elsewhere.clone(), &[]).contains("# 1 flow is not in it"));
    elsewhere["container"] = json!({ "id": "0123456789abcdef" });
    assert!(learnt(elsewhere, &[]).contains("container = \"0123456789abcdef\""));
}

#[test]
fn many_of_one_name_have_names_of_their_own() {
    let seen = (0..2000u16).map(|id| {
        let own = json!({
            "process": { "pid": 7, "name": "a", "executable": format!("/tmp/{id}") }, "user": { "id": "1000" },
        });
        record(u32::from(id), "ingress", ("10.0.0.2", 1 + id), ("10.0.0.1", 80), own, Value::Null)
    });
    let text = learn(&Observations::new(seen));
    assert_eq!(parse(&text).unwrap().service_count(), 2000);
    assert!(text.contains("name = \"a-2000\"") && !text.contains("name = \"a-2001\""));
}

/// What a policy's text cannot hold is no part of a name: neither of an empty one nor of one that is given twice.
#[test]
fn names_differ_by_what_a_policy_holds() {
    let seen = ["\0", "a", "a\0"].into_iter().zip(1..).map(|(name, id): (&str, u16)| {
        let own = json!({ "process": { "pid": 7, "name": name }, "service": { "name": format!("{name}.service") } });
        record(id.into(), "ingress", ("10.0.0.2", id), ("10.0.0.1", 80), own, Value::Null)
    });
    let text = learn(&Observations::new(seen));
    assert_eq!(parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}")).service_count(), 3);
    for name in ["unnamed", "a", "a-2"] {
        assert!(text.contains(&format!("name = \"{name}\"")), "{name}: {text}");
    }
}

proptest! {
    #[test]
    fn any_text_learns_a_policy(name in ".{0,20}", unit in ".{0,20}", sni in ".{0,20}", protocol in ".{0,10}") {
        let own = json!({ "process": { "pid": 7, "name": name }, "service": { "name": format!("{unit}.service") } });
        let mut seen = record(1, "egress", ("10.0.0.2", 1), ("10.0.0.1", 80), own, Value::Null);
        seen["tls"] = json!({ "client": { "server_name": sni } });
        seen["network"]["protocol"] = json!(protocol);
        let text = learn(&Observations::new([seen]));
        if let Err(error) = parse(&text) {
            return Err(TestCaseError::fail(format!("{error}\n{text}")));
        }
    }

    #[test]
    fn any_lines_are_records_or_ignored(text in ".{0,200}") {
        let all = Observations::from_lines(&text);
        prop_assert!(all.list.is_empty());
    }
}

/// Two entries that ask for another value of one label hold nothing together.
#[test]
fn a_label_that_is_asked_for_twice_is_exported_as_neither() {
    let text = "[groups]\nb = [{ namespace = \"n\", labels = { app = \"b\" } }]\n\
        [[service]]\nname = \"s\"\nlabels = { app = \"a\" }\ngroup = \"b\"\nports = [1]\n\
        [[service.client]]\nnamespace = \"n\"\n\
        [[service]]\nname = \"t\"\nnamespace = \"n\"\nlabels = { app = \"t\" }\nports = [2]\n\
        [[service.client]]\nlabels = { app = \"a\" }\ngroup = \"b\"\n";
    let policy = parse(text).unwrap();
    let network = Export::new(&policy, ExportFormat::Networkpolicy);
    assert_eq!((network.documents.len(), network.left_out.len()), (1, 2), "{network:?}");
    assert_eq!(network.documents[0]["spec"]["ingress"], json!([]));
    let istio = Export::new(&policy, ExportFormat::Istio);
    assert_eq!(istio.documents.len(), 1, "{istio:?}");
    assert_eq!(istio.documents[0]["spec"]["rules"], json!([]));
}

const KUBERNETES: &str = r#"
[groups]
shop = [{ namespace = "shop", labels = { app = "cart" } }, { spiffe = "spiffe://cluster.local/ns/shop/sa/cart" }]

[[service]]
name = "Pay API"
namespace = "pay"
labels = { app = "pay" }
ports = [8443, "9000-9002"]
transport = "tcp"

[[service.client]]
namespace = ["shop", "audit"]

[[service.client]]
address = ["10.0.0.0/8", "fd00::/8"]

[[service.client]]
spiffe = "spiffe://cluster.local/ns/audit/sa/*"
may = ["read"]
method = ["GET"]
path = "/v1"

[[service.client]]
unit = "cron.service"
address = "10.0.0.0/8"

[[service]]
name = "host"
unit = "sshd.service"
ports = [22]

[[service.client]]
group = "shop"

[[client]]
name = "cart"
namespace = "shop"
labels = { app = "cart" }

[[client.to]]
service = "Pay API"

[[client.to]]
dns = "api.example.org"
ports = [443]
"#;

#[test]
fn an_export_never_says_more_than_the_policy_and_lists_the_rest() {
    let policy = parse(KUBERNETES).unwrap();
    let network = Export::new(&policy, ExportFormat::Networkpolicy);
    assert_eq!(network.documents.len(), 2, "{network:?}");
    let from = network.documents[0]["spec"]["ingress"][0]["from"].as_array().unwrap();
    // Two selectors of namespaces are one peer; two ranges are two; a unit is none.
    assert_eq!(from.len(), 3, "{from:?}");
    let listed = network.left_out.join("\n");
    for expected in [
        "service \"Pay API\": client unit=cron.service address=10.0.0.0/8: a NetworkPolicy knows nothing of unit",
        "client spiffe=spiffe://cluster.local/ns/audit/sa/*: a NetworkPolicy knows nothing of spiffe",
        "service \"host\": unit is nothing of Kubernetes",
        "client \"cart\": to dns=api.example.org port 443: a NetworkPolicy knows nothing of dns",
    ] {
        assert!(listed.contains(expected), "no {expected:?} in\n{listed}");
    }
    let istio = Export::new(&policy, ExportFormat::Istio);
    let kinds: Vec<&str> = istio.documents.iter().filter_map(|document| document["kind"].as_str()).collect();
    assert_eq!(kinds, ["AuthorizationPolicy", "PeerAuthentication"]);
    let rules = istio.documents[0]["spec"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 3, "{rules:?}");
    assert_eq!(rules[2]["from"][0]["source"]["principals"][0], "cluster.local/ns/audit/sa/*");
    assert_eq!(rules[2]["to"][0]["operation"]["paths"], json!(["/v1", "/v1/*"]));
    let listed = istio.left_out.join("\n");
    assert!(listed.contains("client unit=cron.service address=10.0.0.0/8: Istio knows nothing"), "{listed}");
    assert!(listed.contains("client \"cart\": Istio has no rule"), "{listed}");
    let yaml = istio.to_yaml();
    assert!(yaml.contains("# not expressed: service") && yaml.contains("\n---\napiVersion: "), "{yaml}");
}
