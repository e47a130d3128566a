//! What was said of client certificates, against what was so: right, wrong, or left open.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use std::path::Path;

use anyhow::Result;
use dissect::{ClientCertificateState as State, End, Hint, Prefix, TlsFacts, inspect_stream};

use crate::relay::Exchange;
use crate::stacks::Stack;
use crate::tshark::Opinion;

/// What was so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    NotRequested,
    Refused,
    Presented,
    /// It sent one, and the server turned it down.
    TurnedDown,
}

impl Truth {
    fn name(self) -> &'static str {
        match self {
            Truth::NotRequested => "not asked",
            Truth::Refused => "asked, none sent",
            Truth::Presented => "presented",
            Truth::TurnedDown => "presented, turned down",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Right,
    Wrong,
    Open,
}

/// What the dissectors say of a whole exchange.
pub fn facts(exchange: &Exchange, ended: bool) -> Option<TlsFacts> {
    let prefix = |bytes| Prefix { bytes, ended, midstream: false, ..Prefix::default() };
    inspect_stream(prefix(&exchange.client), prefix(&exchange.server), Hint::default()).facts.tls
}

pub fn judge(truth: Truth, facts: &TlsFacts) -> Said {
    let alerted = facts.alert.as_ref().is_some_and(|alert| alert.from == End::Server);
    match (truth, facts.client_certificate.state) {
        (Truth::TurnedDown, State::Unknown) if alerted => Said::Right,
        (Truth::NotRequested, State::NotRequested)
        | (Truth::Refused, State::Refused)
        | (Truth::Presented, State::Presented) => Said::Right,
        (_, State::Unknown) => Said::Open,
        _ => Said::Wrong,
    }
}

/// The same in tshark's words. It gives numbers of suites and groups: names stand in the lists below, and one
/// that does not equals nothing.
pub fn as_tshark(facts: &TlsFacts, theirs: &Opinion) -> Opinion {
    let of = |fact: &Option<String>| fact.clone().unwrap_or_default();
    let version = match facts.version.as_deref() {
        Some("1.0") => "0x0301",
        Some("1.1") => "0x0302",
        Some("1.2") => "0x0303",
        Some("1.3") => "0x0304",
        _ => "",
    };
    let same = |number: &str, name: &Option<String>, names: &[(&str, &str)]| {
        let known = names.iter().find(|(known, _)| Some(*known) == name.as_deref());
        match name {
            None if number.is_empty() => String::new(),
            _ => known.map_or_else(|| format!("{name:?}"), |(_, number)| (*number).to_owned()),
        }
    };
    Opinion {
        version: version.into(),
        suite: same(&theirs.suite, &facts.cipher, &SUITES),
        group: match facts.version.as_deref() {
            Some("1.3") => same(&theirs.group, &facts.group, &GROUPS),
            _ => String::new(),
        },
        server_name: of(&facts.server_name),
        alpn_offered: facts.alpn_offered.join(","),
        ja3: of(&facts.ja3),
        ja3s: of(&facts.ja3s),
        ja4: of(&facts.ja4),
        ja4s: of(&facts.ja4s),
    }
}

const SUITES: [(&str, &str); 12] = [
    ("TLS_AES_128_GCM_SHA256", "0x1301"),
    ("TLS_AES_256_GCM_SHA384", "0x1302"),
    ("TLS_CHACHA20_POLY1305_SHA256", "0x1303"),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "0xc02f"),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "0xc030"),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "0xcca8"),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "0xcca9"),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "0xc014"),
    ("TLS_DH_anon_WITH_AES_128_CBC_SHA", "0x0034"),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", "0x002f"),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", "0x0035"),
    ("TLS_RSA_WITH_NULL_SHA256", "0x003b"),
];
const GROUPS: [(&str, &str); 4] =
    [("x25519", "29"), ("secp256r1", "23"), ("secp384r1", "24"), ("X25519MLKEM768", "4588")];

/// The captured TLS exchanges of the dissectors' own tests.
pub fn fixtures() -> Result<Vec<(String, Exchange)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dissect/fixtures");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".client").filter(|name| name.starts_with("tls1")) else {
            continue;
        };
        let read = |side: &str| std::fs::read(folder.join(format!("{name}.{side}")));
        all.push((name.to_owned(), Exchange { client: read("client")?, server: read("server")? }));
    }
    Ok(all)
}

/// Counts by client, server and truth.
#[derive(Default)]
pub struct Table(BTreeMap<(Stack, Truth), [usize; 3]>, BTreeMap<(Stack, Truth), [usize; 3]>);

impl Table {
    pub fn add(&mut self, client: Stack, server: Stack, truth: Truth, said: Said) {
        let at = match said {
            Said::Right => 0,
            Said::Wrong => 1,
            Said::Open => 2,
        };
        self.0.entry((client, truth)).or_default()[at] += 1;
        self.1.entry((server, truth)).or_default()[at] += 1;
    }

    /// Right, wrong, left open.
    pub fn sums(&self) -> [usize; 3] {
        self.0.values().fold([0; 3], |sums, row| [sums[0] + row[0], sums[1] + row[1], sums[2] + row[2]])
    }

    /// Of one stack as a client.
    pub fn of_client(&self, stack: Stack) -> [usize; 3] {
        let rows = self.0.iter().filter(|((client, _), _)| *client == stack);
        rows.fold([0; 3], |sums, (_, row)| [sums[0] + row[0], sums[1] + row[1], sums[2] + row[2]])
    }

    /// As Markdown.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (side, rows) in [("client", &self.0), ("server", &self.1)] {
            // Writing to a String does not fail.
            let _ = write!(
                text,
                "| {side} | what was so | right | wrong | left open |\n|---|---|---:|---:|---:|\n"
            );
            for ((stack, truth), [right, wrong, open]) in rows {
                let _ =
                    writeln!(text, "| {} | {} | {right} | {wrong} | {open} |", stack.name(), truth.name());
            }
            text.push('\n');
        }
        text
    }
}
