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
            "/v1/alerts": listing("Alerts that are not resolved.", &[follow]),
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
            "/v1/policy": single("The policy in force, built-in rules included.", "application/toml"),
            "/metrics": single("Prometheus text.", "text/plain"),
            "/v1/openapi.json": single("This document.", "application/json"),
        },
    })
    .to_string()
}

fn parameter(name: &str, kind: &str, description: &str) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": { "type": kind } })
}

fn responses(content: &str) -> Value {
    json!({
        "200": { "description": "The answer.", "content": { content: {} } },
        "400": { "description": "A parameter that is not understood." },
        "403": { "description": "Neither root nor in the configured group." },
        "503": { "description": "Busy: try again." },
    })
}
