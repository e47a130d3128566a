#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::Value;

use super::field::{FULL, SHORT};
use super::*;
use crate::record::{ecs, samples};

fn record(at: usize) -> Value {
    let mut out = Vec::new();
    ecs::encode(&samples::context(), &samples::records()[at], &mut out);
    serde_json::from_slice(&out).unwrap()
}

#[track_caller]
fn matches(filter: &str, at: usize) -> bool {
    filter.parse::<Expression>().unwrap().matches(&record(at))
}

#[test]
fn the_promised_filter() {
    assert!(matches(r#"client.process == "curl" && encrypted == "no""#, 0));
    assert!(!matches(r#"client.process == "curl" && encrypted == "no""#, 1));
}

#[test]
fn the_client_is_found_on_either_end() {
    assert!(matches("client.process == curl && server.unit == nginx.service", 1));
    assert!(matches("server.unit != nginx.service", 0));
}

#[test]
fn numbers_units_ranges_and_likeness() {
    assert!(matches("bytes > 1kB && bytes <= 1280 && duration >= 1s", 0));
    assert!(matches("server.ip == 10.0.0.0/8 && server.port == 80", 0));
    assert!(matches("client.ip == fd00::/16 && client.ip == fd00:0::1", 1));
    assert!(matches("process.command_line =~ HTTP && sni != x", 0));
    assert!(matches("sni =~ *.ORG && event.type == info", 1));
    assert!(matches("severity >= high && rule == plaintext && severity < critical", 2));
    assert!(matches("!(encrypted == yes) || protocol == dns", 0));
}

#[test]
fn a_bad_filter_says_where_and_what() {
    let error = |text: &str| text.parse::<Expression>().unwrap_err().to_string();
    assert_eq!(error("encrypted = no"), "column 11: expected a field, a comparison, &&, || or a parenthesis");
    assert_eq!(error("encrypted == "), "column 14: expected a value, such as \"curl\", no or 443");
    assert!(error("encryptd == no").contains("did you mean encrypted?"));
    assert_eq!(error("(bytes > 1"), "column 11: expected &&, || or a closing parenthesis");
    assert_eq!(error("bytes > 1 bytes"), "column 11: expected &&, || or the end");
    assert_eq!(error("id == \"x"), "column 7: expected a closing \"");
    assert!(error(&"!".repeat(4000)).contains("nested"));
    assert!(error(&"(".repeat(5000)).contains("at most 4096 bytes"));
}

#[test]
fn a_value_that_a_field_cannot_have_is_refused() {
    let error = |text: &str| text.parse::<Expression>().unwrap_err().to_string();
    assert_eq!(
        error("bytes > 1XB"),
        "column 9: expected a number, with or without a unit (kB, MB, GB), found \"1XB\""
    );
    assert!(error("server.pid == nginx").starts_with("column 15: expected a number"));
    assert!(error("client.ip == 10.0.0.0/99").starts_with("column 14: expected an address or a range"));
    assert_eq!(error("encrypted != maybe"), "column 14: expected yes, no or unknown, found \"maybe\"");
    assert!(error("uid == root").starts_with("column 8: expected a user's number"));
    assert_eq!(
        error("streamwatch.tls.early_data == TRUE"),
        "column 31: expected offered or rejected, found \"TRUE\""
    );
    assert_eq!(error("tls.resumed == TRUE"), "column 16: expected true or false, found \"TRUE\"");
    assert!(error("state == up").contains("opened, repeated, resolved, opening, open, closed or failed"));
    for taken in [
        "bytes =~ 1X",
        "client.ip =~ 10.0.",
        "client == gateway",
        "user == root",
        "severity >= high",
        "duration > 1.5s",
        "encrypted =~ n",
    ] {
        assert!(taken.parse::<Expression>().is_ok(), "{taken}");
    }
}

#[test]
fn a_unit_is_one_of_what_the_field_counts() {
    let is = |filter: &str, record: Value| filter.parse::<Expression>().unwrap().matches(&record);
    let rtt = |micros: u64| serde_json::json!({ "streamwatch": { "tcp": { "rtt_us": micros } } });
    assert!(is("rtt > 10ms", rtt(10_001)) && !is("rtt > 10ms", rtt(9_999)));
    assert!(is("rtt == 1.5ms && streamwatch.tcp.rtt_us < 0.5s && rtt > 1499", rtt(1500)));
    let setup = serde_json::json!({ "streamwatch": { "tcp": { "setup_ns": 1_500_000 } } });
    assert!(is("streamwatch.tcp.setup_ns == 1.5ms", setup));
    for refused in [
        "bytes > 1min",
        "duration > 1MB",
        "rtt > 1k",
        "server.port == high",
        "pid < 1s",
        "flows > 1kB",
        "severity > 1s",
        "severity == 1k",
    ] {
        let error = refused.parse::<Expression>().unwrap_err().to_string();
        assert!(error.contains("expected a number") || error.contains("expected low"), "{refused}: {error}");
    }
    for taken in ["bytes > 1M", "packets > 2k", "severity >= 3", "rtt > 300us", "handshake < 1h", "p50 > 1s"]
    {
        assert!(taken.parse::<Expression>().is_ok(), "{taken}");
    }
}

#[test]
fn what_is_called_a_number_is_one_in_every_record() {
    let mut out = Vec::new();
    let mut numbers = 0;
    let mut look = |line: &[u8]| {
        let record: Value = serde_json::from_slice(line).unwrap();
        for path in super::meant::NUMBERS {
            if let Some(found) = Field::named(path).unwrap().value(&record) {
                assert!(found.is_number(), "{path}: {found}");
                numbers += 1;
            }
        }
    };
    for record in samples::records().iter().chain(&samples::hostile_records("x")) {
        out.clear();
        ecs::encode(&samples::context(), record, &mut out);
        look(&out);
    }
    out.clear();
    ecs::encode_stream(&samples::context(), &samples::stream(), samples::at(), &mut out);
    look(&out);
    assert!(numbers > super::meant::NUMBERS.len());
}

/// Records by what they are rows of.
fn rows() -> Vec<(Rows, Value)> {
    use crate::model::Record;

    let mut out = Vec::new();
    let mut all = Vec::new();
    let read = |out: &mut Vec<u8>| {
        let record: Value = serde_json::from_slice(out).unwrap();
        out.clear();
        record
    };
    for record in samples::records().iter().chain(&samples::hostile_records("x")) {
        let rows = match record {
            Record::Flow { .. } => Rows::Flows,
            Record::Alert { .. } => Rows::Alerts,
            _ => continue,
        };
        ecs::encode(&samples::context(), record, &mut out);
        all.push((rows, read(&mut out)));
    }
    ecs::encode_stream(&samples::context(), &samples::stream(), samples::at(), &mut out);
    all.push((Rows::Streams, read(&mut out)));
    let mut measures = crate::hist::Measures::default();
    measures.record(&crate::hist::Sample::default());
    for view in [measures.views(None), measures.views(Some("a → b"))].concat() {
        all.push((Rows::Histograms, serde_json::to_value(view).unwrap()));
    }
    all
}

#[test]
fn what_is_called_one_of_a_few_words_is_one_in_every_record() {
    use crate::model::{AlertState, Direction, FlowState};
    use dissect::EarlyData;

    for (path, words) in super::meant::WORDS {
        for (_, record) in rows() {
            if let Some(found) = Field::named(path).unwrap().value(&record) {
                let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
                assert!(words.contains(&found.as_str()), "{path}: {found}");
            }
        }
    }
    let all = |path: &str, values: &[Value]| {
        let (_, words) = super::meant::WORDS.iter().find(|(of, _)| *of == path).unwrap();
        let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        assert_eq!(values, *words, "{path}");
    };
    let states = [AlertState::Opened, AlertState::Repeated, AlertState::Resolved];
    all("streamwatch.alert.state", &states.map(|state| serde_json::to_value(state).unwrap()));
    let states = [FlowState::Opening, FlowState::Open, FlowState::Closed, FlowState::Failed];
    all("streamwatch.flow.state", &states.map(|state| serde_json::to_value(state).unwrap()));
    let ways = [Direction::Ingress, Direction::Egress];
    all("network.direction", &ways.map(|way| serde_json::to_value(way).unwrap()));
    let early = [EarlyData::Offered, EarlyData::Rejected];
    all("streamwatch.tls.early_data", &early.map(|early| serde_json::to_value(early).unwrap()));
}

#[test]
fn a_field_that_a_row_has_is_never_said_to_be_none_of_its_listing() {
    let all = rows();
    for kind in [Rows::Flows, Rows::Streams, Rows::Alerts, Rows::Histograms] {
        assert!(all.iter().any(|(rows, _)| *rows == kind), "{kind:?}");
    }
    for (rows, record) in &all {
        let mut found = Vec::new();
        leaves(record, "", &mut found);
        for path in found.iter().filter_map(|path| Field::named(path)) {
            let sort = Sort { field: path, descending: false };
            assert_eq!(rows.check_sort(&sort), Ok(()), "{rows:?}");
        }
    }
}

#[test]
fn a_field_that_no_row_of_a_listing_has_is_refused() {
    let refused = |rows: Rows, filter: &str| {
        rows.check_filter(&filter.parse().unwrap()).err().map(|error| error.to_string())
    };
    let no = |text: &str| Some(text.to_owned());
    assert_eq!(refused(Rows::Flows, "p50 > 1"), no("no flow has the field p50 (histograms have)"));
    assert_eq!(
        refused(Rows::Flows, "bytes > 1 && !(flows > 1 || rule == x)"),
        no("no flow has the field streamwatch.stream.flows (streams, alerts have)")
    );
    assert_eq!(
        refused(Rows::Streams, "rtt > 1"),
        no("no stream has the field streamwatch.tcp.rtt_us (flows, alerts have)")
    );
    assert_eq!(
        refused(Rows::Histograms, "client.process == curl"),
        no("no histogram has the field client.* (flows, streams, alerts have)")
    );
    for (rows, filter) in [
        (Rows::Flows, "client == 10.0.0.1 && first > 2026 && state == open"),
        (Rows::Streams, "flows > 1 && client.process == curl && encrypted != yes && start > 2026"),
        (Rows::Alerts, "count > 1 && rule == plaintext && state == opened"),
        (Rows::Histograms, "count > 1 && stream =~ curl && unit == ns && p50 > 1"),
    ] {
        assert_eq!(refused(rows, filter), None, "{filter}");
    }
}

#[test]
fn order_is_by_value_and_absent_comes_last() {
    let sort = Sort::parse("bytes:desc").unwrap();
    let (small, big) = (Value::from(9), Value::from(10));
    assert_eq!(sort.compare(Some(&big), Some(&small)), std::cmp::Ordering::Less);
    assert_eq!(sort.compare(None, Some(&small)), std::cmp::Ordering::Greater);
    assert_eq!(Sort::parse("bytes:down").unwrap_err().column, 7);
}

fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, &path, found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[test]
fn every_field_of_a_record_can_be_asked_for() {
    let mut found = Vec::new();
    let mut out = Vec::new();
    for record in samples::records().iter().chain(&samples::hostile_records("x")) {
        out.clear();
        ecs::encode(&samples::context(), record, &mut out);
        leaves(&serde_json::from_slice(&out).unwrap(), "", &mut found);
    }
    out.clear();
    ecs::encode_stream(&samples::context(), &samples::stream(), samples::at(), &mut out);
    leaves(&serde_json::from_slice(&out).unwrap(), "", &mut found);
    // In no listing.
    found.retain(|path| !path.starts_with("streamwatch.loss") && !path.starts_with("streamwatch.throttle"));
    for path in &found {
        assert!(FULL.contains(&path.as_str()), "{path}");
    }
    for (short, paths) in SHORT {
        assert!(Field::named(short).is_some());
        assert!(paths.iter().all(|path| FULL.contains(path)), "{short}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_harm(text in any::<String>()) {
        let _ = text.parse::<Expression>();
        let _ = Sort::parse(&text);
    }

    #[test]
    fn any_marks_are_read_without_harm(text in "[!()=<>&|a-z\"'\\\\ 0-9]{0,80}") {
        if let Ok(expression) = text.parse::<Expression>() {
            expression.matches(&Value::Null);
        }
    }
}

/// What a column says of a flow is what its record says, under every name, by every comparison.
#[test]
fn columns_say_what_records_say() {
    use super::field::IDENTITY;
    use crate::flows::{Flow, Judge, Row, Scene};
    use crate::model::{Direction, FailReason, FlowState, FlowView, Transport};
    use monitor_common::FlowEvent;
    use std::sync::Arc;

    let failed = FlowView {
        state: FlowState::Failed,
        failure: Some(FailReason::TimedOut),
        before_start: true,
        netns: 0,
        rtt_us: None,
        setup_ns: None,
        owner: Arc::default(),
        ..samples::flow()
    };
    let udp = FlowView { transport: Transport::Udp, closed_at: Some(samples::at()), ..samples::tls_flow() };
    let hostile =
        samples::hostile_records("10.0.0.9 \u{1b}*").into_iter().filter_map(|record| match record {
            crate::model::Record::Flow { flow, .. } => Some(flow),
            _ => None,
        });
    let flows: Vec<Arc<FlowView>> =
        [samples::flow(), failed, udp].into_iter().map(Arc::new).chain(hostile).collect();
    let names: Vec<String> = SHORT
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .chain(FULL.iter().map(|name| (*name).to_owned()))
        .chain(IDENTITY.iter().flat_map(|(name, _)| [format!("client.{name}"), format!("server.{name}")]))
        .collect();
    // Live ones, of which some share what they are asked for.
    let scene = Scene { boot_id: "boot".into(), now_ns: 9_000_000_000, wall_offset_ns: 1_700_000_000 << 30 };
    let live: Vec<Flow> = (0..24)
        .map(|number: usize| {
            let (one, other) = (&flows[number % flows.len()], &flows[number / 8 % flows.len()]);
            let event = FlowEvent { transport: 6, cookie: number as u64, ..FlowEvent::default() };
            let mut flow = Flow::from_event(&event, &mut Judge::default());
            flow.direction = [Direction::Ingress, Direction::Egress][number % 2];
            flow.set_owner(one.owner.clone());
            flow.peer = Some(other.owner.clone()).filter(|_| number >= 6);
            (flow.facts, flow.verdict) = (other.facts.clone(), one.verdict.clone());
            flow
        })
        .collect();
    let rows = flows.iter().map(|view| Row::Read { view, place: None, now: samples::at() });
    let rows = rows.chain(live.iter().map(|flow| Row::Live { flow, scene: &scene, index: 0 }));
    // Each with its record, which is written once.
    let rows: Vec<(Row<'_>, Value)> = rows
        .map(|row| {
            let mut line = Vec::new();
            let now = if matches!(row, Row::Live { .. }) { scene.wall(scene.now_ns) } else { samples::at() };
            ecs::encode_flow(&samples::context(), &row.view(), now, &mut line);
            (row, serde_json::from_slice(&line).unwrap())
        })
        .collect();
    let sorted = &rows[..flows.len() + 4];
    let values = [
        "443",
        "80",
        "1kB",
        "1280",
        "1000",
        "yes",
        "no",
        "unknown",
        "tcp",
        "10.0.0.0/8",
        "10.0.0.9",
        "fd00::1",
        "true",
        "false",
        "*1*",
        "HTTP",
        "curl",
        "1.3",
        "closed",
        "a",
        "2026-01-02T03:04:05.500000000Z",
        "low",
        "x y",
    ];
    let operators = [
        Operator::Equal,
        Operator::NotEqual,
        Operator::Less,
        Operator::LessOrEqual,
        Operator::Greater,
        Operator::GreaterOrEqual,
        Operator::Like,
    ];
    let mut in_columns = 0;
    for name in &names {
        let field = Field::named(name).unwrap();
        for (operator, value) in operators.iter().flat_map(|it| values.iter().map(move |value| (*it, *value)))
        {
            let filter = Expression::Compare { field: field.clone(), operator, value: value.to_owned() };
            let plan = Plan::new(&Selection { filter: Some(filter.clone()), ..Selection::default() });
            if plan.looks() {
                // It asks the record itself.
                break;
            }
            in_columns += 1;
            for (row, record) in &rows {
                let record_of = |_: &FlowView| record.clone();
                let found = plan.matches(&Candidate::new(*row, &record_of));
                assert_eq!(found, filter.matches(record), "{name} {operator:?} {value}: {:?}", row.view());
            }
        }
        for descending in ["asc", "desc"] {
            let sort = Sort::parse(&format!("{name}:{descending}")).unwrap();
            let plan = Plan::new(&Selection { sort: Some(sort.clone()), ..Selection::default() });
            for ((one, first), (other, second)) in
                sorted.iter().flat_map(|one| sorted.iter().map(move |other| (one, other)))
            {
                let (of_first, of_second) = (|_: &FlowView| first.clone(), |_: &FlowView| second.clone());
                let candidate = Candidate::new(*one, &of_first);
                let keys = (plan.key(&candidate), plan.key(&Candidate::new(*other, &of_second)));
                let expected = sort.compare(sort.field.value(first), sort.field.value(second));
                assert_eq!(plan.compare(&keys.0, &keys.1), expected, "{name}");
                assert_eq!(plan.is_before(&candidate, &keys.1), expected.is_lt(), "{name}");
            }
        }
    }
    assert!(in_columns > 100 * operators.len());
}
