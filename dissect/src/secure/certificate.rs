//! X.509 certificates as a handshake shows them (RFC 5280).
//!
//! In: the body of a Certificate message, up to TLS 1.2 and DTLS 1.2. Out: its chain, as sent. Must
//! never: verify, trust, or hand on a name that cannot be shown safely. What no parser takes still
//! has its place in the chain, by its digest.

use std::borrow::Cow;

use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::oid::Oid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::fingerprint::{hex, sha256};
use super::seen_chains;
use crate::Certificate;
use crate::bytes::{Reader, capped};

const LONGEST_CHAIN: usize = 8;
const MOST_NAMES: usize = 32;

/// The chain; empty where the message has none, `None` where it is none (RFC 5246 section 7.4.2).
pub(super) fn chain(message: &[u8]) -> Option<Vec<Certificate>> {
    seen_chains::chain(message, read_chain)
}

fn read_chain(message: &[u8]) -> Option<Vec<Certificate>> {
    let mut body = Reader::new(message);
    let length = body.u24()?;
    let mut list = Reader::new(body.take(length)?);
    let mut encoded = Vec::new();
    while !list.is_empty() {
        let length = list.u24()?;
        encoded.push(list.take(length)?);
    }
    Some(certificates(&encoded))
}

/// What certificates say, each DER, in the order of a chain; at most eight.
pub fn certificates(encoded: &[&[u8]]) -> Vec<Certificate> {
    let parsed: Vec<Option<X509Certificate<'_>>> = encoded
        .iter()
        .take(LONGEST_CHAIN + 1)
        .map(|der| X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate))
        .collect();
    let chain = encoded.iter().zip(&parsed).enumerate().take(LONGEST_CHAIN);
    let next_of = |at: usize| parsed.get(at + 1).and_then(Option::as_ref);
    chain.map(|(at, (der, parsed))| describe(der, parsed.as_ref(), next_of(at))).collect()
}

/// One by itself.
pub(super) fn single(der: &[u8]) -> Option<Certificate> {
    let parsed = X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate);
    (!der.is_empty()).then(|| describe(der, parsed.as_ref(), None))
}

fn describe(
    der: &[u8],
    parsed: Option<&X509Certificate<'_>>,
    next: Option<&X509Certificate<'_>>,
) -> Certificate {
    let sha256_of_it = sha256(der);
    let Some(certificate) = parsed else {
        return Certificate { sha256: sha256_of_it, ..Certificate::default() };
    };
    let (alternative_names, names_cut) = alternative_names(certificate);
    let (key_type, key_bits) = key(certificate.public_key());
    let (subject, issuer) = (certificate.subject(), certificate.issuer());
    Certificate {
        subject: name(subject),
        issuer: name(issuer),
        spiffe_id: alternative_names
            .iter()
            .filter_map(|name| name.strip_prefix("URI:"))
            .find(|uri| uri.starts_with("spiffe://"))
            .map(Into::into),
        alternative_names,
        names_cut,
        serial: serial(certificate.raw_serial()),
        sha256: sha256_of_it,
        key_sha256: sha256(certificate.public_key().raw),
        key_type,
        key_bits,
        signature_algorithm: signature_algorithm(&certificate.signature_algorithm.algorithm),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        self_signed: subject.as_raw() == issuer.as_raw(),
        issued_by_next: next.map(|next| next.subject().as_raw() == issuer.as_raw()),
    }
}

/// At most 255 bytes, as it can be shown: letters and digits of any script, and printable ASCII.
fn showable(text: &str) -> String {
    let is_fine = |c: char| c.is_alphanumeric() || c == ' ' || c.is_ascii_graphic();
    capped(text.chars().take(255).map(|c| if is_fine(c) { c } else { '?' }).collect())
}

fn serial(raw: &[u8]) -> String {
    // RFC 5280 section 4.1.2.2 allows 20 bytes.
    let zeros = raw.iter().take_while(|byte| **byte == 0).count().min(raw.len().saturating_sub(1));
    hex(&raw[zeros..raw.len().min(zeros + 64)])
}

/// RFC 4514: the last part first, with the short names of its section 3.
fn name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter().collect();
    let one = |part: &x509_parser::x509::RelativeDistinguishedName<'_>| {
        let pairs = part.iter().map(|pair| {
            let value =
                pair.as_str().map(Cow::Borrowed).unwrap_or_else(|_| Cow::Owned(wide(pair.attr_value())));
            format!("{}={}", attribute(pair.attr_type()), escaped(&value))
        });
        pairs.collect::<Vec<_>>().join("+")
    };
    let text = parts.iter().rev().map(|part| one(part)).collect::<Vec<_>>().join(",");
    showable(&text)
}

/// A string of an encoding that no standard name needs, or something else.
fn wide(value: &x509_parser::der_parser::asn1_rs::Any<'_>) -> String {
    const TELETEX: u32 = 20;
    const BMP: u32 = 30;
    match value.tag().0 {
        TELETEX => value.data.iter().map(|byte| char::from(*byte)).collect(),
        BMP => {
            let units = value.data.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
            char::decode_utf16(units).map(|c| c.unwrap_or('?')).collect()
        }
        _ => format!("#{}", hex(&value.data[..value.data.len().min(64)])),
    }
}

fn attribute(oid: &Oid<'_>) -> String {
    let known = match oid.to_id_string().as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "2.5.4.97" => "organizationIdentifier",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        other => return other.to_owned(),
    };
    known.to_owned()
}

/// RFC 4514 section 2.4.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let edge = c == ' ' && (at == 0 || at == last) || c == '#' && at == 0;
        if edge || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

fn alternative_names(certificate: &X509Certificate<'_>) -> (Vec<String>, bool) {
    let extension = match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension,
        Ok(None) => return (Vec::new(), false),
        Err(_) => return (Vec::new(), true),
    };
    let names = extension.value.general_names.iter().filter_map(|name| {
        Some(match name {
            GeneralName::DNSName(name) => format!("DNS:{name}"),
            GeneralName::IPAddress(address) => format!("IP:{}", address_text(address)?),
            GeneralName::URI(uri) => format!("URI:{uri}"),
            GeneralName::RFC822Name(mailbox) => format!("email:{mailbox}"),
            GeneralName::DirectoryName(directory) => format!("dirName:{}", self::name(directory)),
            _ => return None,
        })
    });
    at_most(names)
}

/// As many as are kept, and whether there are more.
fn at_most(mut names: impl Iterator<Item = String>) -> (Vec<String>, bool) {
    let kept = names.by_ref().take(MOST_NAMES).map(|name| showable(&name)).collect();
    (kept, names.next().is_some())
}

fn address_text(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|four| std::net::Ipv4Addr::from(*four).to_string()),
        16 => bytes.first_chunk::<16>().map(|sixteen| std::net::Ipv6Addr::from(*sixteen).to_string()),
        _ => None,
    }
}

/// The key's type and its size in bits; 0: not known.
fn key(info: &SubjectPublicKeyInfo<'_>) -> (String, u32) {
    let algorithm = info.algorithm.algorithm.to_id_string();
    let (name, bits) = match algorithm.as_str() {
        "1.2.840.113549.1.1.1" => ("RSA", modulus_bits(info)),
        "1.2.840.113549.1.1.10" => ("RSA-PSS", modulus_bits(info)),
        "1.2.840.10045.2.1" => return curve(info),
        "1.2.840.10040.4.1" => ("DSA", 0),
        "1.3.101.110" => ("X25519", 256),
        "1.3.101.112" => ("Ed25519", 256),
        "1.3.101.113" => ("Ed448", 448),
        "2.16.840.1.101.3.4.3.17" => ("ML-DSA-44", 0),
        "2.16.840.1.101.3.4.3.18" => ("ML-DSA-65", 0),
        "2.16.840.1.101.3.4.3.19" => ("ML-DSA-87", 0),
        _ => return (showable(&algorithm), 0),
    };
    (name.to_owned(), bits)
}

fn modulus_bits(info: &SubjectPublicKeyInfo<'_>) -> u32 {
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => {
            let zeros = key.modulus.iter().take_while(|byte| **byte == 0).count();
            let digits = &key.modulus[zeros..];
            let spare = digits.first().map_or(0, |byte| byte.leading_zeros());
            (u32::try_from(digits.len()).unwrap_or(0).saturating_mul(8)).saturating_sub(spare)
        }
        _ => 0,
    }
}

/// RFC 5480 section 2.1.1.
fn curve(info: &SubjectPublicKeyInfo<'_>) -> (String, u32) {
    let named = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let oid = named.map(|oid| oid.to_id_string()).unwrap_or_default();
    let (name, bits) = match oid.as_str() {
        "1.2.840.10045.3.1.1" => ("EC P-192", 192),
        "1.3.132.0.33" => ("EC P-224", 224),
        "1.2.840.10045.3.1.7" => ("EC P-256", 256),
        "1.3.132.0.34" => ("EC P-384", 384),
        "1.3.132.0.35" => ("EC P-521", 521),
        "1.3.132.0.10" => ("EC secp256k1", 256),
        "1.3.36.3.3.2.8.1.1.7" => ("EC brainpoolP256r1", 256),
        "1.3.36.3.3.2.8.1.1.11" => ("EC brainpoolP384r1", 384),
        "1.3.36.3.3.2.8.1.1.13" => ("EC brainpoolP512r1", 512),
        "1.2.156.10197.1.301" => ("EC SM2", 256),
        "" => ("EC", 0),
        other => return (format!("EC {}", showable(other)), 0),
    };
    (name.to_owned(), bits)
}

fn signature_algorithm(oid: &Oid<'_>) -> String {
    let oid = oid.to_id_string();
    let known = match oid.as_str() {
        "1.2.840.113549.1.1.2" => "md2WithRSAEncryption",
        "1.2.840.113549.1.1.4" => "md5WithRSAEncryption",
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => "sha1WithRSAEncryption",
        "1.2.840.113549.1.1.10" => "rsassaPss",
        "1.2.840.113549.1.1.11" => "sha256WithRSAEncryption",
        "1.2.840.113549.1.1.12" => "sha384WithRSAEncryption",
        "1.2.840.113549.1.1.13" => "sha512WithRSAEncryption",
        "1.2.840.113549.1.1.14" => "sha224WithRSAEncryption",
        "1.2.840.10045.4.1" => "ecdsa-with-SHA1",
        "1.2.840.10045.4.3.1" => "ecdsa-with-SHA224",
        "1.2.840.10045.4.3.2" => "ecdsa-with-SHA256",
        "1.2.840.10045.4.3.3" => "ecdsa-with-SHA384",
        "1.2.840.10045.4.3.4" => "ecdsa-with-SHA512",
        "1.2.840.10040.4.3" => "dsa-with-SHA1",
        "2.16.840.1.101.3.4.3.2" => "dsa-with-SHA256",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        "2.16.840.1.101.3.4.3.17" => "ML-DSA-44",
        "2.16.840.1.101.3.4.3.18" => "ML-DSA-65",
        "2.16.840.1.101.3.4.3.19" => "ML-DSA-87",
        "1.2.156.10197.1.501" => "SM2-with-SM3",
        other => return showable(other),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_was_cut_says_so() {
        for (count, kept, cut) in [(0, 0, false), (32, 32, false), (33, 32, true)] {
            let (names, names_cut) = at_most((0..count).map(|n| format!("DNS:{n}.example")));
            assert_eq!((names.len(), names_cut), (kept, cut));
        }
    }

    /// A tag, a length, and what it holds.
    fn der(tag: u8, value: &[u8]) -> Vec<u8> {
        [&[tag, 0x82][..], &(value.len() as u16).to_be_bytes(), value].concat()
    }

    fn certificate_of(names: &[&[u8]]) -> Certificate {
        let names = names.iter().map(|name| {
            let list = der(0x30, &der(0x82, name));
            der(0x30, &[&[6, 3, 0x55, 0x1d, 0x11][..], &der(4, &list)].concat())
        });
        let algorithm = der(0x30, b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02");
        let key_type =
            der(0x30, b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07");
        let key = der(3, &[&[0, 4][..], &[7; 64]].concat());
        let day = [&b"\x17\x0d"[..], b"250101000000Z"].concat();
        let signed = [
            der(0xa0, &[2, 1, 2]),
            vec![2, 1, 1],
            algorithm.clone(),
            der(0x30, &[]),
            der(0x30, &day.repeat(2)),
            der(0x30, &[]),
            der(0x30, &[key_type, key].concat()),
            der(0xa3, &der(0x30, &names.collect::<Vec<_>>().concat())),
        ];
        let encoded = der(0x30, &[der(0x30, &signed.concat()), algorithm, der(3, &[0; 65])].concat());
        certificates(&[&encoded]).remove(0)
    }

    /// RFC 5280 section 4.2 forbids it: OpenSSL takes none of the names, Go does not take the certificate.
    #[test]
    fn of_two_lists_of_names_it_is_said_that_they_are_not_told() {
        let one = certificate_of(&[b"a.example"]);
        assert_eq!((one.alternative_names, one.names_cut), (vec!["DNS:a.example".to_owned()], false));
        let two = certificate_of(&[b"a.example", b"b.example"]);
        assert_eq!((two.alternative_names.len(), two.names_cut), (0, true));
        assert_eq!(two.key_type, "EC P-256");
    }
}
