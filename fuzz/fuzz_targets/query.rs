//! Any filter and order of a listing: an expression that can be asked, or an error.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use monitor::api::query::{Expression, Selection, Sort};
use serde_json::{Value, json};

static RECORD: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "client": { "ip": "10.0.0.1", "port": 40000, "bytes": 1200 },
        "server": { "ip": "fd13::2", "port": 443, "bytes": 99 },
        "network": { "transport": "tcp", "protocol": "tls" },
        "process": { "name": "curl" },
        "event": { "duration": 1_500_000 },
        "streamwatch": { "verdict": { "encrypted": { "answer": "yes", "reason": "TLS 1.3" } } },
    })
});

fuzz_target!(|text: &str| {
    let mut selection = Selection::default();
    let (filter, sort) = text.split_once('\n').unwrap_or((text, ""));
    match filter.parse::<Expression>() {
        Ok(filter) => selection.filter = Some(filter),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    selection.sort = Sort::parse(sort).ok();
    let matches = selection.matches(&RECORD);
    assert_eq!(matches, selection.matches(&RECORD));
    if let Some(sort) = &selection.sort {
        let key = sort.field.value(&RECORD);
        assert_eq!(sort.compare(key, key), std::cmp::Ordering::Equal);
    }
});
