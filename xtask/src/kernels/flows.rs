//! Do the daemon's records of a flow say what the programs at its ends say? Exact: to the byte, at
//! both ends, with their owners and the verdict.

use std::collections::HashMap;

use serde_json::Value;

type Expected = HashMap<String, String>;

/// What is wrong with the records of one line of `== traffic`, if anything.
pub fn check(expected: &Expected, records: &[Value]) -> Option<String> {
    let mut wrong = Vec::new();
    let want = |key: &str| expected.get(key).map(String::as_str);
    if want("existing") == Some("yes") {
        existing(expected, records, &mut wrong);
    } else {
        let state = want("state").unwrap_or("closed");
        one_end(expected, records, "egress", "client", state, &mut wrong);
        if state == "closed" {
            one_end(expected, records, "ingress", "server", state, &mut wrong);
            same_at_both_ends(expected, records, &mut wrong);
        }
    }
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

/// The records of flows to a service.
fn of_service<'a>(expected: &Expected, records: &'a [Value]) -> impl Iterator<Item = &'a Value> {
    let want = |key: &str| expected.get(key).cloned().unwrap_or_default();
    let (port, transport, family) = (want("port").parse::<u64>().ok(), want("transport"), want("type"));
    records.iter().filter(move |record| {
        record["server"]["port"].as_u64() == port
            && record["network"]["transport"] == *transport
            && record["network"]["type"] == *family
            // A record of an earlier moment can still be written when the flow has ended.
            && matches!(record["event"]["action"].as_str(), Some("flow_closed" | "connection_failed"))
    })
}

fn one_end(
    expected: &Expected,
    records: &[Value],
    direction: &str,
    role: &str,
    state: &str,
    wrong: &mut Vec<String>,
) {
    let found: Vec<&Value> =
        of_service(expected, records).filter(|record| record["network"]["direction"] == direction).collect();
    let &[record] = found.as_slice() else {
        wrong.push(format!("{} records of the {role}'s end instead of 1", found.len()));
        return;
    };
    let ours = &record["streamwatch"];
    let mut same = |what: &str, is: &Value, wanted: Option<&String>| {
        let Some(wanted) = wanted else { return };
        let matches =
            is.as_str() == Some(wanted) || is.as_u64().is_some_and(|number| number.to_string() == *wanted);
        if !matches {
            wrong.push(format!("{role}'s end: {what} is {is}, not {wanted}"));
        }
    };
    same("the state", &ours["flow"]["state"], Some(&state.to_owned()));
    same("the owner", &record["process"]["name"], expected.get(role));
    same("the container", &record["container"]["id"], expected.get(&format!("{role}_container")));
    same("bytes of the client", &record["client"]["bytes"], expected.get("sent"));
    same("bytes of the server", &record["server"]["bytes"], expected.get("received"));
    same("the protocol", &record["network"]["protocol"], expected.get("protocol"));
    same("the version", &record["tls"]["version"], expected.get("version"));
    same("'encrypted'", &ours["verdict"]["encrypted"]["answer"], expected.get("encrypted"));
    same("'watched'", &ours["verdict"]["watched"]["answer"], Some(&"yes".to_owned()));
}

/// Where the programs do not say how much they sent (TLS), both ends must have counted the same.
fn same_at_both_ends(expected: &Expected, records: &[Value], wrong: &mut Vec<String>) {
    let counts: Vec<(&Value, &Value)> = of_service(expected, records)
        .map(|record| (&record["client"]["bytes"], &record["server"]["bytes"]))
        .collect();
    if let [one, other] = counts.as_slice()
        && one != other
    {
        wrong.push(format!("one end counted {} and {}, the other {} and {}", one.0, one.1, other.0, other.1));
    }
}

/// A connection from before the daemon: found at both ends, with its owners and all of its bytes.
fn existing(expected: &Expected, records: &[Value], wrong: &mut Vec<String>) {
    let port = expected.get("port").and_then(|port| port.parse::<u64>().ok());
    let ends: Vec<&Value> = records
        .iter()
        .filter(|record| record["streamwatch"]["flow"]["before_start"] == true)
        // Which end is the server cannot always be told: the listener may have gone.
        .filter(|record| {
            [&record["server"]["port"], &record["client"]["port"]].iter().any(|one| one.as_u64() == port)
        })
        .collect();
    if ends.len() != 2 {
        wrong.push(format!("{} ends of it are known instead of 2", ends.len()));
    }
    for end in ends {
        let bytes =
            end["client"]["bytes"].as_u64().unwrap_or(0) + end["server"]["bytes"].as_u64().unwrap_or(0);
        if expected.get("sent").is_some_and(|sent| *sent != bytes.to_string()) {
            wrong.push(format!("{bytes} bytes instead of {}", expected["sent"]));
        }
        let owner = end["process"]["name"].as_str().unwrap_or("nobody");
        if expected.get("client").is_some_and(|client| client != owner) {
            wrong.push(format!("its owner is {owner}, not {}", expected["client"]));
        }
    }
}
