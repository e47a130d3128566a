//! The inventory as a CycloneDX 1.6 cryptographic bill of materials (CBOM).
//!
//! <https://cyclonedx.org/docs/1.6/json/>, `cryptoProperties`; a test holds it to the published schema.
//! Protocols name the suites and algorithms that were negotiated, certificates their keys; how much is
//! protected how stands in `properties`, since the format has no field for it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha1::{Digest, Sha1};

use super::{CertificateView, Inventory, ProtocolView, Share};
use crate::posture;

/// The document.
pub fn document(inventory: &Inventory) -> Value {
    let mut bill = Bill::default();
    bill.protocols(&inventory.protocols);
    for certificate in &inventory.certificates {
        bill.certificate(certificate);
    }
    let components: Vec<Value> = bill.components.into_values().collect();
    let dependencies: Vec<Value> = bill
        .uses
        .into_iter()
        .map(|(user, used)| json!({ "ref": user, "dependsOn": used.into_keys().collect::<Vec<_>>() }))
        .collect();
    let mut host = Map::new();
    host.insert("type".into(), "platform".into());
    host.insert("bom-ref".into(), "host".into());
    let name = if inventory.host_name.is_empty() { "host" } else { &inventory.host_name };
    host.insert("name".into(), name.into());
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": inventory.at,
            "tools": { "components": [
                { "type": "application", "name": "streamwatch", "version": inventory.version },
            ] },
            "component": host,
            "properties": properties(inventory),
        },
        "components": components,
        "dependencies": dependencies,
    });
    let serial = serial_number(&document.to_string());
    if let Some(fields) = document.as_object_mut() {
        fields.insert("serialNumber".into(), serial.into());
    }
    document
}

/// A name-based UUID (RFC 9562 section 5.5) of the content: the same for the same inventory.
fn serial_number(content: &str) -> String {
    let digest = Sha1::digest(content.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn property(name: String, value: impl ToString) -> Value {
    json!({ "name": name, "value": value.to_string() })
}

fn properties(inventory: &Inventory) -> Vec<Value> {
    let mut all = vec![
        property("streamwatch:streams".into(), inventory.streams),
        property("streamwatch:bytes".into(), inventory.bytes),
    ];
    let lists: [(&str, &[Share]); 3] = [
        ("version", &inventory.by_version),
        ("key-exchange", &inventory.by_key_exchange),
        ("post-quantum", &inventory.by_post_quantum),
    ];
    for (kind, shares) in lists {
        for share in shares {
            let name = &share.name;
            all.push(property(format!("streamwatch:{kind}:{name}:streams"), share.streams));
            all.push(property(format!("streamwatch:{kind}:{name}:bytes"), share.bytes));
        }
    }
    if inventory.certificates_left_out > 0 {
        all.push(property("streamwatch:certificates-left-out".into(), inventory.certificates_left_out));
    }
    all
}

/// Components by their reference, so that each is there once.
#[derive(Default)]
struct Bill {
    components: BTreeMap<String, Value>,
    uses: BTreeMap<String, BTreeMap<String, ()>>,
}

impl Bill {
    fn add(&mut self, reference: &str, name: &str, crypto: Value, properties: Vec<Value>) {
        let mut component = json!({
            "type": "cryptographic-asset",
            "bom-ref": reference,
            "name": name,
            "cryptoProperties": crypto,
        });
        if !properties.is_empty()
            && let Some(fields) = component.as_object_mut()
        {
            fields.insert("properties".into(), properties.into());
        }
        self.components.entry(reference.to_owned()).or_insert(component);
    }

    fn uses(&mut self, user: &str, used: &str) {
        self.uses.entry(user.to_owned()).or_default().insert(used.to_owned(), ());
    }

    /// One component a protocol and version, with all its suites.
    fn protocols(&mut self, protocols: &[ProtocolView]) {
        let mut by_version: BTreeMap<(&str, &str), Vec<&ProtocolView>> = BTreeMap::new();
        for view in protocols {
            by_version.entry((&view.protocol, &view.version)).or_default().push(view);
        }
        for ((protocol, version), views) in by_version {
            let reference =
                format!("crypto/protocol/{protocol}{}{version}", if version.is_empty() { "" } else { "-" });
            let mut suites: BTreeMap<&str, BTreeMap<String, ()>> = BTreeMap::new();
            let mut all: BTreeMap<String, ()> = BTreeMap::new();
            for view in &views {
                let mut refs: Vec<String> = Vec::new();
                for (name, kind) in [
                    (&view.cipher, Kind::Cipher),
                    (&view.key_exchange, Kind::KeyExchange),
                    (&view.signature, Kind::Signature),
                ] {
                    refs.extend(self.algorithm(name, kind));
                }
                for used in &refs {
                    self.uses(&reference, used);
                    all.insert(used.clone(), ());
                }
                if !view.suite.is_empty() {
                    suites.entry(&view.suite).or_default().extend(refs.into_iter().map(|used| (used, ())));
                }
            }
            let suites: Vec<Value> = suites
                .into_iter()
                .map(|(name, used)| json!({ "name": name, "algorithms": used.into_keys().collect::<Vec<_>>() }))
                .collect();
            let mut inside = Map::new();
            inside.insert("type".into(), protocol_type(protocol).into());
            if !version.is_empty() {
                inside.insert("version".into(), version.into());
            }
            if !suites.is_empty() {
                inside.insert("cipherSuites".into(), suites.into());
            }
            if !all.is_empty() {
                inside.insert("cryptoRefArray".into(), all.into_keys().collect::<Vec<_>>().into());
            }
            let count: u64 = views.iter().map(|view| view.stream_count).sum();
            let mut more = vec![property("streamwatch:streams".into(), count)];
            let named = views.iter().flat_map(|view| &view.streams).take(super::NAMED);
            more.extend(named.map(|stream| property("streamwatch:stream".into(), stream)));
            let name = format!("{} {version}", protocol_name(protocol));
            self.add(
                &reference,
                name.trim_end(),
                json!({ "assetType": "protocol", "protocolProperties": inside }),
                more,
            );
        }
    }

    /// Its reference; `None` where there is no name.
    fn algorithm(&mut self, name: &str, kind: Kind) -> Option<String> {
        if name.is_empty() {
            return None;
        }
        let reference = format!("crypto/algorithm/{}/{name}", kind.as_str());
        let inside = algorithm_properties(name, kind);
        self.add(
            &reference,
            name,
            json!({ "assetType": "algorithm", "algorithmProperties": inside }),
            Vec::new(),
        );
        Some(reference)
    }

    fn certificate(&mut self, view: &CertificateView) {
        let reference = format!("crypto/certificate/{}/{}", view.end, view.sha256);
        let mut inside = Map::new();
        inside.insert("subjectName".into(), view.subject.clone().into());
        inside.insert("issuerName".into(), view.issuer.clone().into());
        inside.insert("certificateFormat".into(), "X.509".into());
        for (name, value) in [("notValidBefore", &view.not_before), ("notValidAfter", &view.not_after)] {
            if !value.is_empty() {
                inside.insert(name.into(), value.clone().into());
            }
        }
        if let Some(signature) = self.algorithm(&view.signature_algorithm, Kind::Signature) {
            self.uses(&reference, &signature);
            inside.insert("signatureAlgorithmRef".into(), signature.into());
        }
        if !view.key_sha256.is_empty() {
            let key = self.public_key(view);
            self.uses(&reference, &key);
            inside.insert("subjectPublicKeyRef".into(), key.into());
        }
        let mut more = vec![
            property("streamwatch:end".into(), &view.end),
            property("streamwatch:serial-number".into(), &view.serial),
            property("streamwatch:sha256".into(), &view.sha256),
            property("streamwatch:self-signed".into(), view.self_signed),
        ];
        let names = view.alternative_names.iter();
        more.extend(names.map(|name| property("streamwatch:alternative-name".into(), name)));
        more.extend(view.streams.iter().map(|stream| property("streamwatch:stream".into(), stream)));
        let name = if view.subject.is_empty() { &view.sha256 } else { &view.subject };
        self.add(
            &reference,
            name,
            json!({ "assetType": "certificate", "certificateProperties": inside }),
            more,
        );
    }

    fn public_key(&mut self, view: &CertificateView) -> String {
        let reference = format!("crypto/key/{}", view.key_sha256);
        let mut inside = Map::new();
        inside.insert("type".into(), "public-key".into());
        inside.insert("id".into(), view.key_sha256.clone().into());
        inside.insert("format".into(), "SubjectPublicKeyInfo".into());
        if view.key_bits > 0 {
            inside.insert("size".into(), view.key_bits.into());
        }
        if let Some(algorithm) = self.algorithm(&view.key_type, Kind::Signature) {
            self.uses(&reference, &algorithm);
            inside.insert("algorithmRef".into(), algorithm.into());
        }
        let name = format!("{} public key", view.key_type);
        self.add(
            &reference,
            name.trim(),
            json!({ "assetType": "related-crypto-material", "relatedCryptoMaterialProperties": inside }),
            Vec::new(),
        );
        reference
    }
}

/// The format knows `tls`, `ssh` and a few more.
fn protocol_type(protocol: &str) -> &'static str {
    match protocol {
        "tls" | "ssl" | "dtls" => "tls",
        "ssh" => "ssh",
        _ => "other",
    }
}

fn protocol_name(protocol: &str) -> &str {
    match protocol {
        "tls" => "TLS",
        "ssl" => "SSL",
        "dtls" => "DTLS",
        "quic" => "QUIC with TLS",
        "ssh" => "SSH",
        "wireguard" => "WireGuard",
        other => other,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Cipher,
    KeyExchange,
    Signature,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Cipher => "cipher",
            Kind::KeyExchange => "key-exchange",
            Kind::Signature => "signature",
        }
    }
}

fn algorithm_properties(name: &str, kind: Kind) -> Map<String, Value> {
    let mut inside = Map::new();
    let upper = name.to_ascii_uppercase().replace('_', "-");
    match kind {
        Kind::Cipher => cipher_properties(&upper, &mut inside),
        Kind::KeyExchange => key_exchange_properties(name, &upper, &mut inside),
        Kind::Signature => {
            inside.insert("primitive".into(), "signature".into());
            inside.insert("cryptoFunctions".into(), json!(["sign", "verify"]));
            let quantum = upper.starts_with("ML-DSA") || upper.contains("MLDSA") || upper.contains("SLH-DSA");
            if !quantum {
                inside.insert("nistQuantumSecurityLevel".into(), 0.into());
            }
        }
    }
    inside
}

/// Levels: NIST's call for proposals of 2016, section 4.A.5: AES-128 is level 1, AES-192 3, AES-256 5.
fn cipher_properties(upper: &str, inside: &mut Map<String, Value>) {
    let authenticated = ["GCM", "CCM", "POLY1305"].iter().any(|part| upper.contains(part));
    let stream = upper.starts_with("RC4") || upper.starts_with("ARCFOUR");
    let primitive = match () {
        () if authenticated => "ae",
        () if stream => "stream-cipher",
        () if upper.contains("CBC") || upper.contains("CTR") => "block-cipher",
        () => "unknown",
    };
    inside.insert("primitive".into(), primitive.into());
    let functions =
        if authenticated { json!(["encrypt", "decrypt", "tag"]) } else { json!(["encrypt", "decrypt"]) };
    inside.insert("cryptoFunctions".into(), functions);
    if let Some(mode) = ["GCM", "CCM", "CBC", "CTR"].iter().find(|mode| upper.contains(**mode)) {
        inside.insert("mode".into(), mode.to_ascii_lowercase().into());
    }
    // AES-256-GCM, aes256-ctr.
    let bits = ["128", "192", "256"]
        .into_iter()
        .find(|bits| upper.starts_with("AES") && upper.get(3..8).is_some_and(|part| part.contains(bits)));
    match bits {
        Some(bits) => {
            inside.insert("parameterSetIdentifier".into(), bits.into());
            let (classical, quantum) = match bits {
                "128" => (128, 1),
                "192" => (192, 3),
                _ => (256, 5),
            };
            inside.insert("classicalSecurityLevel".into(), classical.into());
            inside.insert("nistQuantumSecurityLevel".into(), quantum.into());
        }
        None if upper.starts_with("CHACHA20") => {
            inside.insert("classicalSecurityLevel".into(), 256.into());
        }
        None if upper.starts_with("3DES") => {
            inside.insert("classicalSecurityLevel".into(), 112.into());
        }
        None => {}
    }
}

fn key_exchange_properties(name: &str, upper: &str, inside: &mut Map<String, Value>) {
    let lattice = posture::is_post_quantum_group(name) || upper.contains("MLKEM") || upper.contains("SNTRUP");
    let pure = upper.starts_with("MLKEM") && !upper.contains("25519") && !upper.contains("NISTP");
    let (primitive, functions) = match () {
        () if pure => ("kem", json!(["encapsulate", "decapsulate"])),
        () if lattice => ("combiner", json!(["keyderive", "encapsulate", "decapsulate"])),
        () if upper == "RSA" => ("pke", json!(["encrypt", "decrypt"])),
        () if name.starts_with("0x") => ("unknown", json!(["unknown"])),
        () => ("key-agree", json!(["keyderive"])),
    };
    inside.insert("primitive".into(), primitive.into());
    inside.insert("cryptoFunctions".into(), functions);
    let level = match () {
        () if upper.contains("MLKEM1024") => Some(5),
        () if upper.contains("MLKEM768") || upper.contains("KYBER768") => Some(3),
        () if upper.contains("MLKEM512") => Some(1),
        // No level was given to the others, and an unknown one is not known.
        () if lattice || name.starts_with("0x") => None,
        () => Some(0),
    };
    if let Some(level) = level {
        inside.insert("nistQuantumSecurityLevel".into(), level.into());
    }
    let curve = match () {
        () if upper.contains("25519") => Some(("Curve25519", 128)),
        () if upper.contains("448") => Some(("Curve448", 224)),
        () if upper.contains("P256") => Some(("P-256", 128)),
        () if upper.contains("P384") => Some(("P-384", 192)),
        () if upper.contains("P521") => Some(("P-521", 256)),
        () => None,
    };
    if let Some((curve, classical)) = curve {
        inside.insert("curve".into(), curve.into());
        inside.insert("classicalSecurityLevel".into(), classical.into());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::inventory::tests::inventory;

    fn schema(name: &str) -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cyclonedx").join(name);
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    /// The published schema, as `tests/cyclonedx/README.md` says where from.
    fn validator() -> jsonschema::Validator {
        let base = "http://cyclonedx.org/schema";
        let registry = jsonschema::Registry::new()
            .add(format!("{base}/spdx.SNAPSHOT.schema.json"), schema("spdx.schema.json"))
            .unwrap()
            .add(format!("{base}/jsf-0.82.SNAPSHOT.schema.json"), schema("jsf-0.82.schema.json"))
            .unwrap()
            .prepare()
            .unwrap();
        jsonschema::options()
            .with_registry(&registry)
            .should_validate_formats(true)
            .build(&schema("bom-1.6.schema.json"))
            .unwrap()
    }

    fn errors(document: &Value) -> Vec<String> {
        validator().iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    #[test]
    fn the_bill_is_what_the_schema_wants() {
        assert_eq!(errors(&document(&inventory())), Vec::<String>::new());
        assert_eq!(
            errors(&document(&Inventory { at: inventory().at, ..Inventory::default() })),
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_schema_refuses_what_is_wrong() {
        let mut broken = document(&inventory());
        broken["components"][0]["cryptoProperties"]["assetType"] = "spell".into();
        assert!(!errors(&broken).is_empty());
        let mut twice = document(&inventory());
        twice["metadata"]["timestamp"] = "yesterday".into();
        assert!(!errors(&twice).is_empty());
    }

    #[test]
    fn protocols_refer_to_their_algorithms() {
        let document = document(&inventory());
        let find = |reference: &str| {
            let components = document["components"].as_array().unwrap();
            components.iter().find(|it| it["bom-ref"] == reference).cloned().unwrap()
        };
        let tls = find("crypto/protocol/tls-1.3");
        let suite = &tls["cryptoProperties"]["protocolProperties"]["cipherSuites"][0];
        assert_eq!(suite["name"], "TLS_AES_256_GCM_SHA384");
        for used in suite["algorithms"].as_array().unwrap() {
            find(used.as_str().unwrap());
        }
        let group = find("crypto/algorithm/key-exchange/X25519MLKEM768");
        assert_eq!(group["cryptoProperties"]["algorithmProperties"]["nistQuantumSecurityLevel"], 3);
        assert_eq!(group["cryptoProperties"]["algorithmProperties"]["primitive"], "combiner");
        let certificate = find("crypto/certificate/server/aa11");
        let key =
            certificate["cryptoProperties"]["certificateProperties"]["subjectPublicKeyRef"].as_str().unwrap();
        assert_eq!(find(key)["cryptoProperties"]["relatedCryptoMaterialProperties"]["size"], 256);
    }

    #[test]
    fn the_same_inventory_has_the_same_serial_number() {
        assert_eq!(document(&inventory()), document(&inventory()));
    }
}
