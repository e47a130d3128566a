//! The crypto inventory of this host: how its streams are protected, and with which algorithms and
//! certificates.
//!
//! In: streams as they stand, and bytes a class ([`Ledger`]). Out: one [`Inventory`], as JSON or as a
//! CycloneDX cryptographic bill of materials ([`cyclonedx`]). Pure. Must never: list what was only
//! offered, or let what is not known count as anything else.

pub mod cyclonedx;
mod ledger;

use std::collections::BTreeMap;

use dissect::{Certificate, Facts, Protection};
use serde::{Deserialize, Serialize};

use crate::model::StreamView;
use crate::posture::{self, Class};
use crate::record::Context;

pub use ledger::{Ledger, Place};

/// Certificates listed; a host with more of them has an authority of its own to ask.
const CERTIFICATES: usize = 4096;

/// One way of being protected, and how much of it there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassView {
    /// `TLS 1.3`, `SSH 2.0`, `plaintext`, `unknown`.
    pub version: String,
    pub key_exchange: String,
    pub cipher: String,
    /// Absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_quantum: Option<bool>,
    /// Streams, by the flow of theirs that is protected worst.
    pub streams: u64,
    /// Payload bytes, by the flow that carried them.
    pub bytes: u64,
}

impl ClassView {
    pub fn new(class: &Class, streams: u64, bytes: u64) -> Self {
        ClassView {
            version: class.version.clone(),
            key_exchange: class.key_exchange.clone(),
            cipher: class.cipher.clone(),
            post_quantum: class.post_quantum,
            streams,
            bytes,
        }
    }

    fn class(&self) -> Class {
        Class {
            version: self.version.clone(),
            key_exchange: self.key_exchange.clone(),
            cipher: self.cipher.clone(),
            post_quantum: self.post_quantum,
        }
    }
}

/// Adds the streams to what the ledger says of bytes. Most bytes first.
pub fn classes<'a>(bytes: &[ClassView], streams: impl Iterator<Item = &'a StreamView>) -> Vec<ClassView> {
    let mut sums: BTreeMap<Class, (u64, u64)> = BTreeMap::new();
    for row in bytes {
        sums.entry(row.class()).or_default().1 += row.bytes;
    }
    for stream in streams {
        sums.entry(Class::of(&stream.facts)).or_default().0 += 1;
    }
    let mut rows: Vec<ClassView> =
        sums.iter().map(|(class, (streams, bytes))| ClassView::new(class, *streams, *bytes)).collect();
    rows.sort_by(|a, b| {
        b.bytes.cmp(&a.bytes).then(b.streams.cmp(&a.streams)).then(a.version.cmp(&b.version))
    });
    rows
}

/// One line of a sum: a name, and its share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    pub name: String,
    pub streams: u64,
    pub bytes: u64,
    /// Of all streams, 0 to 1.
    pub stream_share: f64,
    /// Of all bytes, 0 to 1.
    pub byte_share: f64,
}

/// Sums up classes by a name each. Most bytes first.
pub fn shares(classes: &[ClassView], name: impl Fn(&ClassView) -> String) -> Vec<Share> {
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for row in classes {
        let sum = sums.entry(name(row)).or_default();
        sum.0 += row.streams;
        sum.1 += row.bytes;
    }
    let all_streams: u64 = classes.iter().map(|row| row.streams).sum();
    let all_bytes: u64 = classes.iter().map(|row| row.bytes).sum();
    let share = |part: u64, all: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
    let mut shares: Vec<Share> = sums
        .into_iter()
        .map(|(name, (streams, bytes))| Share {
            name,
            streams,
            bytes,
            stream_share: share(streams, all_streams),
            byte_share: share(bytes, all_bytes),
        })
        .collect();
    shares.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(b.streams.cmp(&a.streams)).then(a.name.cmp(&b.name)));
    shares
}

/// `post-quantum`, `classical`, `plaintext`, `unknown`.
pub fn quantum(row: &ClassView) -> String {
    match row.post_quantum {
        _ if row.version == "plaintext" => "plaintext",
        Some(true) => "post-quantum",
        Some(false) => "classical",
        None => posture::UNKNOWN,
    }
    .to_owned()
}

/// A certificate that was seen on the wire, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateView {
    /// `server` or `client`.
    pub end: String,
    pub subject: String,
    pub issuer: String,
    pub alternative_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<String>,
    pub serial: String,
    pub sha256: String,
    pub key_sha256: String,
    pub key_type: String,
    pub key_bits: u32,
    pub signature_algorithm: String,
    /// RFC 3339; empty: could not be read.
    pub not_before: String,
    pub not_after: String,
    pub self_signed: bool,
    /// Keys of the streams that showed it, at most 32.
    pub streams: Vec<String>,
}

impl CertificateView {
    fn new(certificate: &Certificate, end: &str) -> Self {
        let time = |seconds| posture::date_of(seconds).map(|date| format!("{date}Z")).unwrap_or_default();
        CertificateView {
            end: end.to_owned(),
            subject: certificate.subject.clone(),
            issuer: certificate.issuer.clone(),
            alternative_names: certificate.alternative_names.clone(),
            spiffe_id: certificate.spiffe_id.clone(),
            serial: certificate.serial.clone(),
            sha256: certificate.sha256.clone(),
            key_sha256: certificate.key_sha256.clone(),
            key_type: certificate.key_type.clone(),
            key_bits: certificate.key_bits,
            signature_algorithm: certificate.signature_algorithm.clone(),
            not_before: time(certificate.not_before),
            not_after: time(certificate.not_after),
            self_signed: certificate.self_signed,
            streams: Vec::new(),
        }
    }
}

/// What encrypts streams, in detail: one a way that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProtocolView {
    /// `tls`, `dtls`, `quic`, `ssl`, `ssh`, `wireguard`.
    pub protocol: String,
    /// `1.3`, `2.0`; empty: not seen.
    pub version: String,
    /// IANA name of the suite; of SSH its ciphers; empty: not seen.
    pub suite: String,
    /// The cipher alone, as people call it.
    pub cipher: String,
    /// Group or method; empty: not seen.
    pub key_exchange: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_quantum: Option<bool>,
    /// How the server signed, where that is in the clear: a scheme of TLS, a host key algorithm of SSH.
    pub signature: String,
    /// Keys of the streams that use it, at most 32.
    pub streams: Vec<String>,
    /// How many there are.
    pub stream_count: u64,
}

/// The answer of `GET /v1/inventory`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// RFC 3339, UTC.
    pub at: String,
    pub host_name: String,
    pub host_id: String,
    /// Of the daemon.
    pub version: String,
    pub streams: u64,
    pub bytes: u64,
    pub by_version: Vec<Share>,
    pub by_key_exchange: Vec<Share>,
    pub by_post_quantum: Vec<Share>,
    pub classes: Vec<ClassView>,
    pub protocols: Vec<ProtocolView>,
    pub certificates: Vec<CertificateView>,
    /// Certificates that were seen and are not listed, because there are too many; one that is shown again counts
    /// again.
    pub certificates_left_out: u64,
}

/// Streams named under one entry.
const NAMED: usize = 32;

impl Inventory {
    /// `bytes`: what the ledger says.
    pub fn new(context: &Context, bytes: &[ClassView], streams: &[&StreamView], at: jiff::Timestamp) -> Self {
        let classes = classes(bytes, streams.iter().copied());
        let mut protocols: BTreeMap<ProtocolView, (Vec<String>, u64)> = BTreeMap::new();
        let mut certificates: BTreeMap<(String, &'static str), CertificateView> = BTreeMap::new();
        let mut certificates_left_out = 0;
        for stream in streams {
            if let Some(protocol) = protocol(&stream.facts) {
                let (named, count) = protocols.entry(protocol).or_default();
                *count += 1;
                if named.len() < NAMED {
                    named.push(stream.key.clone());
                }
            }
            certificates_left_out += stream.shown.left_out;
            let all = std::iter::once(&stream.facts).chain(&stream.shown.chains);
            for tls in all.filter_map(|facts| facts.tls.as_ref()) {
                let server = tls.server_certificates.iter().map(|certificate| ("server", certificate));
                let client = tls.client_certificates.iter().map(|certificate| ("client", certificate));
                for (end, certificate) in server.chain(client) {
                    let key = (certificate.sha256.clone(), end);
                    if certificates.len() >= CERTIFICATES && !certificates.contains_key(&key) {
                        certificates_left_out += 1;
                        continue;
                    }
                    let view =
                        certificates.entry(key).or_insert_with(|| CertificateView::new(certificate, end));
                    if view.streams.len() < NAMED && view.streams.last() != Some(&stream.key) {
                        view.streams.push(stream.key.clone());
                    }
                }
            }
        }
        Inventory {
            at: at.to_string(),
            host_name: context.host_name.clone(),
            host_id: context.host_id.clone(),
            version: context.version.clone(),
            streams: streams.len() as u64,
            bytes: classes.iter().map(|row| row.bytes).sum(),
            by_version: shares(&classes, |row| row.version.clone()),
            by_key_exchange: shares(&classes, |row| row.key_exchange.clone()),
            by_post_quantum: shares(&classes, quantum),
            classes,
            protocols: protocols
                .into_iter()
                .map(|(view, (streams, stream_count))| ProtocolView { streams, stream_count, ..view })
                .collect(),
            certificates: certificates.into_values().collect(),
            certificates_left_out,
        }
    }
}

/// What encrypts a stream; `None`: nothing that was seen.
fn protocol(facts: &Facts) -> Option<ProtocolView> {
    let Protection::Encrypted(cipher) = facts.protection else { return None };
    let mut view = ProtocolView {
        protocol: match cipher {
            dissect::Cipher::Tls => "tls",
            dissect::Cipher::Dtls => "dtls",
            dissect::Cipher::Quic => "quic",
            dissect::Cipher::Ssh => "ssh",
            dissect::Cipher::Wireguard => "wireguard",
        }
        .to_owned(),
        cipher: posture::bulk_cipher(facts).unwrap_or_default(),
        key_exchange: posture::key_exchange(facts).unwrap_or_default(),
        post_quantum: posture::post_quantum(facts),
        ..ProtocolView::default()
    };
    if let Some(tls) = &facts.tls {
        if let Some(protocol) = &tls.version_protocol {
            view.protocol.clone_from(protocol);
        }
        view.version = tls.version.clone().unwrap_or_default();
        view.suite = tls.cipher.clone().unwrap_or_default();
        view.signature = tls.signature.clone().unwrap_or_default();
    } else if let Some(ssh) = &facts.ssh {
        let named = posture::version(facts).unwrap_or_default();
        view.version = named.strip_prefix("SSH ").unwrap_or_default().to_owned();
        view.suite = ssh.client_cipher.clone().or(ssh.server_cipher.clone()).unwrap_or_default();
        view.signature = ssh.host_key.clone().unwrap_or_default();
    }
    Some(view)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::StreamView;
    use crate::record::samples;

    /// Plaintext, TLS 1.2 with certificates at both ends, TLS 1.3, SSH.
    pub(crate) fn inventory() -> Inventory {
        let with = |key: &str, facts| StreamView { key: key.into(), facts, ..samples::stream() };
        let streams = [
            samples::stream(),
            with("a", samples::mutual_flow().facts),
            with("b", samples::tls_flow().facts),
            with("c", samples::ssh_flow().facts),
            with("d", samples::tls_flow().facts),
        ];
        let mut ledger = Ledger::default();
        for (stream, bytes) in streams.iter().zip([100, 50, 25, 15, 10]) {
            ledger.count(&mut Place::default(), 0, &stream.facts, bytes);
        }
        let streams: Vec<&StreamView> = streams.iter().collect();
        Inventory::new(&samples::context(), &ledger.views(), &streams, samples::at())
    }

    #[test]
    fn shares_add_up() {
        let inventory = inventory();
        assert_eq!((inventory.streams, inventory.bytes), (5, 200));
        let of = |list: &[Share], name: &str| {
            list.iter().find(|share| share.name == name).map(|share| (share.streams, share.bytes))
        };
        assert_eq!(of(&inventory.by_version, "plaintext"), Some((1, 100)));
        assert_eq!(of(&inventory.by_version, "TLS 1.3"), Some((2, 35)));
        assert_eq!(of(&inventory.by_key_exchange, "X25519MLKEM768"), Some((2, 35)));
        assert_eq!(of(&inventory.by_post_quantum, "post-quantum"), Some((3, 50)));
        assert_eq!(of(&inventory.by_post_quantum, "classical"), Some((1, 50)));
        for list in [&inventory.by_version, &inventory.by_key_exchange, &inventory.by_post_quantum] {
            assert_eq!(list.iter().map(|share| share.bytes).sum::<u64>(), 200);
            assert!((list.iter().map(|share| share.stream_share).sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn protocols_and_certificates_are_listed_once() {
        let inventory = inventory();
        assert_eq!(inventory.protocols.len(), 3);
        let tls13 = inventory.protocols.iter().find(|it| it.version == "1.3").expect("TLS 1.3");
        assert_eq!(
            (tls13.stream_count, tls13.streams.as_slice()),
            (2, ["b".to_owned(), "d".to_owned()].as_slice())
        );
        let ends: Vec<_> =
            inventory.certificates.iter().map(|it| (it.end.as_str(), it.sha256.as_str())).collect();
        assert_eq!(ends, [("server", "aa11"), ("client", "bb22")]);
        assert_eq!(inventory.certificates[0].not_after, "2027-01-01T00:00:00Z");
    }

    #[test]
    fn all_certificates_that_a_service_showed_are_listed_and_what_was_not_kept_is_counted() {
        let with = |sha256: &str| {
            let mut facts = (*samples::mutual_flow().facts).clone();
            if let Some(tls) = &mut facts.tls {
                tls.server_certificates[0].sha256 = sha256.to_owned();
            }
            std::sync::Arc::new(facts)
        };
        let shown = crate::flows::Shown { chains: vec![with("cc33"), with("dd44")], left_out: 5 };
        let stream = StreamView { key: "a".into(), facts: with("aa11"), shown, ..samples::stream() };
        let inventory = Inventory::new(&samples::context(), &[], &[&stream], samples::at());
        let listed: Vec<_> =
            inventory.certificates.iter().map(|it| (it.sha256.as_str(), it.streams.len())).collect();
        assert_eq!(listed, [("aa11", 1), ("bb22", 1), ("cc33", 1), ("dd44", 1)]);
        assert_eq!(inventory.certificates_left_out, 5);
    }
}
