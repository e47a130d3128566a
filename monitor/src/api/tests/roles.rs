//! Every call, every role: what is not written down here may not exist.

use std::collections::BTreeSet;

use hyper::Method;
use serde_json::Value;

use super::super::routes::{Failure, ROUTES, find};
use super::super::{openapi, peer::Role};

/// Who may what: viewer, operator.
const MAY: [(&str, bool, bool); 14] = [
    ("GET /metrics", true, true),
    ("GET /v1/alerts", true, true),
    ("GET /v1/flows", true, true),
    ("GET /v1/histograms", true, true),
    ("GET /v1/inventory", true, true),
    ("GET /v1/openapi.json", true, true),
    ("GET /v1/policy", true, true),
    ("GET /v1/silences", true, true),
    ("GET /v1/status", true, true),
    ("GET /v1/streams", true, true),
    ("POST /v1/alerts/ack", false, true),
    ("POST /v1/histograms/reset", false, true),
    ("POST /v1/silences", false, true),
    ("POST /v1/silences/end", false, true),
];

#[test]
fn every_call_is_for_whom_it_is_for() {
    let named: BTreeSet<String> =
        ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(named.len(), ROUTES.len(), "a call is there twice");
    let known: BTreeSet<String> = MAY.iter().map(|(call, ..)| (*call).to_owned()).collect();
    assert_eq!(named, known, "a call without a row, or a row without a call");
    for (call, viewer, operator) in MAY {
        let (method, path) = call.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        for (role, may) in [(Role::Viewer, viewer), (Role::Operator, operator)] {
            let found = find(&method, path, role);
            assert_eq!(found.is_ok(), may, "{call} as {role:?}");
            assert!(may || matches!(found, Err(Failure::NotOperator)), "{call} as {role:?}");
        }
        if method == Method::GET {
            assert!(find(&Method::HEAD, path, Role::Viewer).is_ok(), "HEAD {path}");
        }
        for other in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            assert!(matches!(find(&other, path, Role::Operator), Err(Failure::Method(_))), "{other} {path}");
        }
    }
}

#[test]
fn the_document_describes_every_call() {
    let document: Value = serde_json::from_str(&openapi::document("1")).unwrap();
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, calls)| {
            calls.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let named = ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(described, named);
}
