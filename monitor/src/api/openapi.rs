//! The API's description, as OpenAPI 3.1 (<https://spec.openapis.org/oas/v3.1.0>).

use serde_json::{Value, json};

use super::query::field;

/// The document, as JSON.
pub(super) fn document(version: &str) -> String {
    let listing = |summary: &str, more: &[Value]| {
        let mut parameters = vec![
            parameter(
                "filter",
                "string",
                "An expression, e.g. client.process == \"curl\" && encrypted == no.",
            ),
            parameter("sort", "string", "FIELD, or FIELD:desc."),
            parameter("limit", "integer", "At most so many records."),
        ];
        parameters.extend_from_slice(more);
        json!({ "get": {
            "summary": summary,
            "parameters": parameters,
            "responses": responses("application/x-ndjson"),
        }})
    };
    let single = |summary: &str, content: &str| json!({ "get": { "summary": summary, "responses": responses(content) } });
    let follow = parameter("follow", "boolean", "Do not end: send each further alert as it comes.");
    let after = parameter(
        "after",
        "integer",
        "With follow: begin with what was told after this streamwatch.alert.cursor.",
    );
    let said = |subject: &str, description: &str| {
        json!([
            parameter(subject, "string", description),
            parameter("for", "string", "How long: 30min, 2h, 7d."),
            parameter("why", "string", "For the record."),
        ])
    };
    let short: Vec<_> = field::SHORT.iter().map(|(name, _)| *name).collect();
    let identity: Vec<_> = field::IDENTITY.iter().map(|(name, _)| *name).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "streamwatch",
            "version": version,
            "description": format!(
                "Who talks to whom on this host, and is it encrypted, authenticated, authorised and watched. \
                 Listings are JSON lines in the Elastic Common Schema. Filters know the fields {}, \
                 client. and server. with {}, and the ECS paths of the records.",
                short.join(", "),
                identity.join(", ")
            ),
        },
        "paths": {
            "/v1/streams": listing("Streams and their four answers.", &[]),
            "/v1/flows": listing("Single connections, live and recent.", &[]),
            "/v1/alerts": listing("Alerts that are not resolved.", &[follow, after]),
            "/v1/alerts/ack": { "post": {
                "summary": "Somebody knows of an alert: it is not repeated until then, unless it gets worse.",
                "parameters": said("key", "The streamwatch.alert.key of an open alert."),
                "responses": words(),
            }},
            "/v1/silences": {
                "get": { "summary": "Silences in force.", "responses": responses("application/x-ndjson") },
                "post": {
                    "summary": "Nobody wants to hear of alerts that fulfil a filter.",
                    "parameters": said("filter", "An expression, as for listings."),
                    "responses": words(),
                },
            },
            "/v1/silences/end": { "post": {
                "summary": "They are to be heard of again.",
                "parameters": [parameter("id", "integer", "The silence's.")],
                "responses": words(),
            }},
            "/v1/histograms": listing("Percentiles and HdrHistogram V2 encodings, a line each.", &[]),
            "/v1/histograms/reset": { "post": {
                "summary": "The histograms; then they begin anew.",
                "responses": responses("application/x-ndjson"),
            }},
            "/v1/status": single("Health: hooks, ring, queues, tables, losses; and how streams are protected.", "application/json"),
            "/v1/inventory": single(
                "How streams are protected: shares, protocols, algorithms, certificates.",
                "application/json"
            ),
            "/v1/policy": single("The policy in force, built-in rules included, for people.", "text/plain"),
            "/metrics": single("Prometheus text.", "text/plain"),
            "/v1/openapi.json": single("This document.", "application/json"),
        },
    })
    .to_string()
}

fn parameter(name: &str, kind: &str, description: &str) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": { "type": kind } })
}

/// To what somebody says, which is to be kept.
fn words() -> Value {
    let mut responses = responses("application/json");
    responses["200"]["description"] = json!("It is on the disk.");
    responses["202"] = json!({
        "description": "It holds, in memory alone: the state cannot be kept now.",
        "content": { "application/json": {} },
    });
    responses
}

fn responses(content: &str) -> Value {
    json!({
        "200": { "description": "The answer.", "content": { content: {} } },
        "400": { "description": "A parameter that is not understood." },
        "403": { "description": "Neither root nor in a configured group; or only in that of viewers, who may not change anything." },
        "413": { "description": "No call takes a body." },
        "503": { "description": "Busy: try again." },
    })
}
