//! What `--wide` adds below a stream: why the answers are what they are, and all that the handshake told.

use serde_json::Value;

use super::table::Table;
use super::views::{ANSWERS, text};
use crate::api::query::field::at;

/// A line for each answer, with its reason and what it rests on; then the handshake's.
pub(super) fn notes(table: &mut Table, record: &Value) {
    for (name, shown) in ANSWERS {
        let of = |part: &str| text(record, &format!("streamwatch.verdict.{name}.{part}"));
        let evidence = of("evidence");
        let evidence = if evidence.is_empty() { evidence } else { format!(" ({evidence})") };
        table.note(&format!("{shown}: {}: {}{evidence}", of("answer"), of("reason")));
    }
    for (name, fields) in HANDSHAKE {
        let said = fields.iter().filter_map(|(label, path)| {
            let value = listed(record, path);
            (!value.is_empty()).then(|| format!("{} {value}", said_of(label, record)))
        });
        let said: Vec<String> = said.collect();
        if !said.is_empty() {
            table.note(&format!("{name}: {}", said.join(", ")));
        }
    }
}

/// The text of a field; of a list, its members.
fn listed(record: &Value, path: &str) -> String {
    match at(record, path) {
        Some(Value::Array(members)) => {
            let members = members.iter().map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned));
            members.collect::<Vec<_>>().join(" ")
        }
        _ => text(record, path),
    }
}

/// The name that an encrypted hello shows is not the one that is asked for.
fn said_of(label: &'static str, record: &Value) -> &'static str {
    let hidden = at(record, "streamwatch.tls.encrypted_client_hello") == Some(&Value::Bool(true));
    if label == NAME && hidden { OUTER_NAME } else { label }
}

const NAME: &str = "name";
const OUTER_NAME: &str = "outer name (encrypted client hello)";

/// A line each of `--wide`.
type Line = (&'static str, &'static [(&'static str, &'static str)]);

const HANDSHAKE: &[Line] = &[
    (
        "tls",
        &[
            ("version", "tls.version"),
            ("offered", "streamwatch.tls.version_offered"),
            ("suite", "tls.cipher"),
            ("key exchange", "streamwatch.tls.key_exchange"),
            ("post-quantum", "streamwatch.tls.post_quantum"),
            ("signature", "streamwatch.tls.signature"),
            (NAME, "tls.client.server_name"),
            ("alpn", "tls.next_protocol"),
            ("alpn offered", "streamwatch.tls.alpn_offered"),
            ("resumed", "tls.resumed"),
            ("retried", "streamwatch.tls.retried"),
            ("renegotiated", "streamwatch.tls.renegotiated"),
            ("early data", "streamwatch.tls.early_data"),
            ("client certificate", "streamwatch.tls.client_certificate.state"),
            ("basis", "streamwatch.tls.client_certificate.basis"),
            ("alert of the", "streamwatch.tls.alert.from"),
            ("alert", "streamwatch.tls.alert.description"),
        ],
    ),
    (
        "fingerprints",
        &[
            ("JA3", "tls.client.ja3"),
            ("JA3S", "tls.server.ja3s"),
            ("JA4", "tls.client.ja4"),
            ("JA4S", "streamwatch.tls.ja4s"),
        ],
    ),
    (
        "server certificate",
        &[
            ("of", "tls.server.subject"),
            ("by", "tls.server.issuer"),
            ("names", "tls.server.x509.alternative_names"),
            ("SPIFFE ID", "streamwatch.tls.server.spiffe_id"),
            ("serial", "tls.server.x509.serial_number"),
            ("from", "tls.server.not_before"),
            ("until", "tls.server.not_after"),
            ("key", "tls.server.x509.public_key_algorithm"),
            ("bits", "tls.server.x509.public_key_size"),
            ("signed with", "tls.server.x509.signature_algorithm"),
            ("SHA-256", "tls.server.hash.sha256"),
            ("self-signed", "streamwatch.tls.server.self_signed"),
            ("chain of", "streamwatch.tls.server.chain_length"),
            ("in order", "streamwatch.tls.server.in_order"),
        ],
    ),
    (
        "client certificate",
        &[
            ("of", "tls.client.subject"),
            ("by", "tls.client.issuer"),
            ("names", "tls.client.x509.alternative_names"),
            ("SPIFFE ID", "streamwatch.tls.client.spiffe_id"),
            ("serial", "tls.client.x509.serial_number"),
            ("from", "tls.client.not_before"),
            ("until", "tls.client.not_after"),
            ("key", "tls.client.x509.public_key_algorithm"),
            ("bits", "tls.client.x509.public_key_size"),
            ("signed with", "tls.client.x509.signature_algorithm"),
            ("SHA-256", "tls.client.hash.sha256"),
            ("self-signed", "streamwatch.tls.client.self_signed"),
            ("chain of", "streamwatch.tls.client.chain_length"),
            ("in order", "streamwatch.tls.client.in_order"),
        ],
    ),
    (
        "ssh",
        &[
            ("client", "streamwatch.ssh.client_version"),
            ("server", "streamwatch.ssh.server_version"),
            ("key exchange", "streamwatch.ssh.key_exchange"),
            ("post-quantum", "streamwatch.ssh.post_quantum"),
            ("host key", "streamwatch.ssh.host_key"),
            ("cipher", "streamwatch.ssh.client_cipher"),
            ("MAC", "streamwatch.ssh.client_mac"),
            ("log-in", "streamwatch.ssh.authentication.state"),
            ("failures", "streamwatch.ssh.authentication.failures"),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::super::screen::Screen;
    use super::super::views;
    use crate::record::text::Style;

    fn shown(record: serde_json::Value) -> String {
        let screen = Screen { style: Style::default(), size: None };
        views::streams(&[record], true, Timestamp::UNIX_EPOCH).render(true, screen.width(), screen.style)
    }

    #[test]
    fn an_outer_name_is_marked_as_such() {
        let with = |ech: bool| {
            json!({
                "tls": { "version": "1.3", "client": { "server_name": "public.example" } },
                "streamwatch": { "tls": { "encrypted_client_hello": ech, "alpn_offered": ["h2", "http/1.1"] } },
            })
        };
        let outer = shown(with(true));
        assert!(outer.contains("outer name (encrypted client hello) public.example"), "{outer}");
        assert!(outer.contains("alpn offered h2 http/1.1"), "{outer}");
        let inner = shown(with(false));
        assert!(inner.contains(", name public.example") && !inner.contains("outer"), "{inner}");
    }
}
