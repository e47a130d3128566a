//! What tshark says of the same bytes.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};
use tests::finish;

use crate::relay::Exchange;

const PATIENCE: Duration = Duration::from_secs(120);
const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];

/// What is compared. Lists are as tshark writes them, joined by commas.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Opinion {
    pub version: String,
    pub suite: String,
    pub group: String,
    pub server_name: String,
    pub alpn_offered: String,
    pub ja3: String,
    pub ja3s: String,
    pub ja4: String,
    pub ja4s: String,
}

/// The bytes of one connection each, as packets: connection n at client port 10000 + n.
pub fn write(path: &Path, exchanges: &[Exchange]) -> Result<()> {
    const RAW_IP: u32 = 101;
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 1 << 18, RAW_IP] {
        file.extend(word.to_le_bytes());
    }
    for (number, exchange) in exchanges.iter().enumerate() {
        let port = 10_000 + u16::try_from(number)?;
        let (mut sent, mut answered) = (1000u32, 5000u32);
        packet(&mut file, port, true, sent - 1, 0, 2, &[]);
        packet(&mut file, port, false, answered - 1, sent, 0x12, &[]);
        packet(&mut file, port, true, sent, answered, 0x10, &[]);
        // The hello first; then the server's side, then what is left of the client's.
        let hello =
            5 + exchange.client.get(3..5).map_or(0, |n| usize::from(u16::from_be_bytes([n[0], n[1]])));
        let (first, rest) = exchange.client.split_at(hello.min(exchange.client.len()));
        for (from_client, bytes) in [(true, first), (false, &exchange.server[..]), (true, rest)] {
            for segment in bytes.chunks(1400) {
                let (own, other) = if from_client { (&mut sent, answered) } else { (&mut answered, sent) };
                packet(&mut file, port, from_client, *own, other, 0x18, segment);
                *own += u32::try_from(segment.len())?;
            }
        }
    }
    Ok(std::fs::write(path, file)?)
}

fn packet(
    file: &mut Vec<u8>,
    port: u16,
    from_client: bool,
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    data: &[u8],
) {
    let length = 40 + data.len() as u16;
    let ends = if from_client { (CLIENT, SERVER, port, 443) } else { (SERVER, CLIENT, 443, port) };
    let mut bytes = vec![0x45, 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend(ends.0);
    bytes.extend(ends.1);
    bytes.extend(ends.2.to_be_bytes());
    bytes.extend(u16::to_be_bytes(ends.3));
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(acknowledged.to_be_bytes());
    bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(data);
    for word in [0u32, 0, u32::from(length), u32::from(length)] {
        file.extend(word.to_le_bytes());
    }
    file.extend(bytes);
}

const FIELDS: [&str; 16] = [
    "tcp.srcport",
    "tcp.dstport",
    "tls.handshake.type",
    "tls.handshake.version",
    "tls.handshake.extensions.supported_version",
    "tls.handshake.ciphersuite",
    "tls.handshake.extensions_key_share_group",
    "tls.handshake.extensions_server_name",
    "tls.handshake.extensions_alpn_str",
    "tls.handshake.ja3",
    "tls.handshake.ja3s",
    "tls.handshake.ja3s_full",
    "tls.handshake.extension.type",
    "tls.handshake.sig_hash_alg",
    "tls.handshake.random",
    "tls.handshake.sig_hash_alg_len",
];

/// The random of a HelloRetryRequest.
const RETRY: &str = "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c";

/// One a connection, in the order of [`write`].
pub fn opinions(path: &Path, count: usize) -> Result<Vec<Opinion>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path).args([
        "-Y",
        "tls.handshake.type == 1 || tls.handshake.type == 2",
        "-T",
        "fields",
    ]);
    command.args(["-E", "separator=|", "-E", "occurrence=a"]);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let output = finish(command, PATIENCE)?.success()?.stdout;
    let mut opinions: Vec<Opinion> = (0..count).map(|_| Opinion::default()).collect();
    for line in output.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let field = |name: &str| {
            let at = FIELDS.iter().position(|field| *field == name).unwrap_or(usize::MAX);
            fields.get(at).copied().unwrap_or_default()
        };
        let (from, to): (u16, u16) = (field("tcp.srcport").parse()?, field("tcp.dstport").parse()?);
        let opinion =
            opinions.get_mut(usize::from(from.min(to).max(from.max(to)) - 10_000)).context("no such port")?;
        let is_client = to == 443;
        if is_client && opinion.ja3.is_empty() {
            opinion.server_name = field("tls.handshake.extensions_server_name").into();
            opinion.alpn_offered = field("tls.handshake.extensions_alpn_str").into();
            opinion.ja3 = field("tls.handshake.ja3").into();
            opinion.ja4 = ja4(
                field("tls.handshake.version"),
                field("tls.handshake.extensions.supported_version"),
                field("tls.handshake.ciphersuite"),
                field("tls.handshake.extension.type"),
                &signatures(
                    field("tls.handshake.sig_hash_alg"),
                    field("tls.handshake.sig_hash_alg_len"),
                    field("tls.handshake.extension.type"),
                ),
                field("tls.handshake.extensions_alpn_str"),
            );
        } else if !is_client && last(field("tls.handshake.random")) != RETRY {
            // One packet may hold a HelloRetryRequest and the hello that follows.
            let chosen = last(field("tls.handshake.extensions.supported_version"));
            opinion.version =
                if chosen.is_empty() { last(field("tls.handshake.version")) } else { chosen }.into();
            opinion.suite = last(field("tls.handshake.ciphersuite")).into();
            opinion.group = last(field("tls.handshake.extensions_key_share_group")).into();
            opinion.ja3s = last(field("tls.handshake.ja3s")).into();
            opinion.ja4s = ja4s(
                &opinion.version,
                &opinion.suite,
                last(field("tls.handshake.ja3s_full")),
                field("tls.handshake.extensions_alpn_str"),
            );
        }
    }
    Ok(opinions)
}

/// JA4S from the fields that tshark took apart, the way of `technical_details/JA4S.md` of its authors: the
/// extensions in their order, joined by hyphens in decimal as JA3S has them.
fn ja4s(version: &str, suite: &str, extensions: &str, alpn: &str) -> String {
    let number = |text: &str| u16::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(0);
    let kinds: Vec<u16> = extensions.split('-').filter_map(|kind| kind.parse().ok()).collect();
    let shown = kinds.iter().map(|kind| format!("{kind:04x}")).collect::<Vec<_>>().join(",");
    format!(
        "t1{}{:02}{}_{:04x}_{}",
        number(version).saturating_sub(0x0301),
        kinds.len(),
        protocol(alpn),
        number(suite),
        hash(&shown)
    )
}

/// The first and the last character of the first name.
fn protocol(alpn: &str) -> String {
    let first = alpn.split(',').next().unwrap_or_default().as_bytes();
    match (first.first(), first.last()) {
        (Some(a), Some(z)) => format!("{}{}", char::from(*a), char::from(*z)),
        _ => "00".into(),
    }
}

/// The first twelve digits of SHA-256; of nothing, zeros.
fn hash(text: &str) -> String {
    if text.is_empty() {
        return "000000000000".into();
    }
    Sha256::digest(text.as_bytes()).iter().take(6).fold(String::new(), |mut hash, byte| {
        // Writing to a String does not fail.
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

fn last(list: &str) -> &str {
    list.rsplit(',').next().unwrap_or_default()
}

/// Those of the extension signature_algorithms. tshark gives the lists of signature_algorithms_cert and
/// delegated_credentials under the same name, in the order of the extensions.
fn signatures(all: &str, lengths: &str, extensions: &str) -> String {
    let mut rest: Vec<&str> = all.split(',').collect();
    let kinds = extensions.split(',').filter(|kind| matches!(*kind, "13" | "50" | "34"));
    for (kind, length) in kinds.zip(lengths.split(',')) {
        let count = length.parse::<usize>().unwrap_or(0) / 2;
        let tail = rest.split_off(count.min(rest.len()));
        if kind == "13" {
            return rest.join(",");
        }
        rest = tail;
    }
    String::new()
}

/// JA4 from the fields that tshark took apart, the way of `python/ja4.py` of its authors.
fn ja4(
    version: &str,
    versions: &str,
    suites: &str,
    extensions: &str,
    signatures: &str,
    alpn: &str,
) -> String {
    let list = |text: &str| -> Vec<u16> {
        let numbers = text.split(',').filter(|item| !item.is_empty());
        let parse = |item: &str| match item.strip_prefix("0x") {
            Some(digits) => u16::from_str_radix(digits, 16).unwrap_or(0),
            None => item.parse().unwrap_or(0),
        };
        numbers.map(parse).filter(|n| !(n & 0x0f0f == 0x0a0a && n >> 8 == n & 0xff)).collect()
    };
    let hex = |numbers: &[u16]| numbers.iter().map(|n| format!("{n:04x}")).collect::<Vec<_>>().join(",");
    let highest = list(versions).into_iter().max().or(list(version).first().copied()).unwrap_or(0);
    let (mut suites, mut extensions) = (list(suites), list(extensions));
    let (suite_count, extension_count) = (suites.len(), extensions.len());
    let name = if extensions.contains(&0) { 'd' } else { 'i' };
    let protocol = protocol(alpn);
    suites.sort_unstable();
    extensions.retain(|kind| !matches!(kind, 0 | 16));
    extensions.sort_unstable();
    let signatures = list(signatures);
    let tail = if signatures.is_empty() {
        hex(&extensions)
    } else {
        format!("{}_{}", hex(&extensions), hex(&signatures))
    };
    format!(
        "t1{}{name}{suite_count:02}{extension_count:02}{protocol}_{}_{}",
        highest - 0x0301,
        hash(&hex(&suites)),
        hash(&tail)
    )
}
