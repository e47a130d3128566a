//! Cipher suites by their IANA names: what people call them, and what is wrong with them.
//!
//! The names say it all: key exchange, authentication, cipher, hash
//! (<https://www.iana.org/assignments/tls-parameters>, "TLS Cipher Suites").

/// What is wrong with a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Weakness {
    /// Nothing is encrypted: `NULL`, and the integrity-only suites of RFC 9150.
    Null,
    /// Neither end proves who it is.
    Anonymous,
    /// Keys of 40 or 56 bits, by law of another century.
    Export,
    /// DES, RC2, IDEA: RFC 5469, or too short.
    Obsolete,
    /// RFC 7465.
    Rc4,
    /// Blocks of 64 bits (CVE-2016-2183); RFC 9155 and NIST SP 800-131A retire it.
    TripleDes,
    /// A MAC made with MD5.
    Md5,
    /// CBC with a MAC after the fact, made with SHA-1.
    CbcSha1,
    /// RSA key transport or a fixed Diffie-Hellman key: whoever gets the server's key reads all that was
    /// ever recorded.
    StaticKey,
}

impl Weakness {
    /// For people, as the end of "the cipher suite …".
    pub fn as_str(self) -> &'static str {
        match self {
            Weakness::Null => "encrypts nothing",
            Weakness::Anonymous => "authenticates nobody",
            Weakness::Export => "has export-grade keys",
            Weakness::Obsolete => "uses a cipher that is broken by brute force",
            Weakness::Rc4 => "uses RC4",
            Weakness::TripleDes => "uses 3DES",
            Weakness::Md5 => "uses MD5",
            Weakness::CbcSha1 => "uses CBC with SHA-1",
            Weakness::StaticKey => "has no forward secrecy",
        }
    }

    /// Not to be taken for encryption at all.
    pub fn is_no_encryption(self) -> bool {
        matches!(self, Weakness::Null | Weakness::Export | Weakness::Obsolete)
    }
}

/// All weaknesses of a suite; none of one whose name is not known (`0x1a2b`).
pub fn weaknesses(name: &str) -> Vec<Weakness> {
    let mut found = Vec::new();
    let key_exchange = key_exchange_part(name).unwrap_or_default();
    let bulk = bulk_part(name);
    // RFC 9150: TLS_SHA256_SHA256 and TLS_SHA384_SHA384.
    if bulk.starts_with("NULL") || bulk.starts_with("SHA") {
        found.push(Weakness::Null);
    }
    if key_exchange.contains("anon") || key_exchange == "NULL" {
        found.push(Weakness::Anonymous);
    }
    if name.contains("EXPORT") {
        found.push(Weakness::Export);
    }
    let obsolete = bulk.starts_with("DES") || bulk.starts_with("RC2") || bulk.starts_with("IDEA");
    if obsolete && !name.contains("EXPORT") {
        found.push(Weakness::Obsolete);
    }
    if bulk.starts_with("RC4") {
        found.push(Weakness::Rc4);
    }
    if bulk.starts_with("3DES") {
        found.push(Weakness::TripleDes);
    }
    if bulk.ends_with("_MD5") {
        found.push(Weakness::Md5);
    }
    if bulk.contains("_CBC") && bulk.ends_with("_SHA") {
        found.push(Weakness::CbcSha1);
    }
    let fixed = ["RSA", "DH_RSA", "DH_DSS", "ECDH_RSA", "ECDH_ECDSA"];
    if fixed.contains(&key_exchange.trim_end_matches("_EXPORT")) || key_exchange == "RSA_PSK" {
        found.push(Weakness::StaticKey);
    }
    found
}

/// The cipher as people call it: `AES-256-GCM`, `CHACHA20-POLY1305`, `AES-128-CBC-SHA`.
pub fn cipher(name: &str) -> String {
    let bulk = bulk_part(name);
    let authenticated = ["_GCM", "_CCM", "_CCM_8", "POLY1305"];
    let short = match bulk.rsplit_once('_') {
        Some((cipher, hash)) if hash.starts_with("SHA") || hash == "SM3" => {
            if authenticated.iter().any(|end| cipher.ends_with(end)) { cipher } else { bulk }
        }
        _ => bulk,
    };
    short.replace("_EDE_", "_").replace('_', "-")
}

/// The key exchange that the suite names, where it names one: `ECDHE`, `DHE`, `RSA`, `PSK`.
pub fn key_exchange(name: &str) -> Option<&str> {
    let part = key_exchange_part(name)?;
    let part = part.trim_end_matches("_EXPORT");
    Some(match part {
        "ECDHE_RSA" | "ECDHE_ECDSA" => "ECDHE",
        "DHE_RSA" | "DHE_DSS" => "DHE",
        "ECDH_RSA" | "ECDH_ECDSA" => "ECDH",
        "DH_RSA" | "DH_DSS" => "DH",
        other => other,
    })
}

/// How the two ends authenticate each other, as far as the suite says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// The server by a certificate (TLS 1.3: or by a key of an earlier session).
    Certificate,
    /// Both by a key or a password that they share (RFC 4279, 5054, 2712).
    Shared,
    /// Nobody.
    Anonymous,
    /// The suite is not known by name.
    Unknown,
}

/// See [`Authentication`].
pub fn authentication(name: &str) -> Authentication {
    if !name.starts_with("TLS_") {
        return Authentication::Unknown;
    }
    match key_exchange_part(name) {
        None => Authentication::Certificate,
        Some(part) if part.contains("anon") || part == "NULL" => Authentication::Anonymous,
        Some("SRP_SHA_RSA" | "SRP_SHA_DSS") => Authentication::Certificate,
        Some(part) if part.contains("PSK") || part.starts_with("SRP") || part.starts_with("KRB5") => {
            Authentication::Shared
        }
        Some("RSA" | "RSA_EXPORT") => Authentication::Certificate,
        Some(part) if part.contains("RSA") || part.contains("DSS") || part.contains("ECDSA") => {
            Authentication::Certificate
        }
        Some(_) => Authentication::Unknown,
    }
}

/// `ECDHE_RSA` of `TLS_ECDHE_RSA_WITH_…`; `None`: TLS 1.3, or not known by name.
fn key_exchange_part(name: &str) -> Option<&str> {
    name.strip_prefix("TLS_")?.split_once("_WITH_").map(|(part, _)| part)
}

fn bulk_part(name: &str) -> &str {
    let rest = name.strip_prefix("TLS_").unwrap_or(name);
    rest.split_once("_WITH_").map_or(rest, |(_, bulk)| bulk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_say_them() {
        for (name, short, exchange) in [
            ("TLS_AES_256_GCM_SHA384", "AES-256-GCM", None),
            ("TLS_CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305", None),
            ("TLS_AES_128_CCM_8_SHA256", "AES-128-CCM-8", None),
            ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "AES-128-GCM", Some("ECDHE")),
            ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305", Some("ECDHE")),
            ("TLS_RSA_WITH_AES_256_CBC_SHA", "AES-256-CBC-SHA", Some("RSA")),
            ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", "3DES-CBC-SHA", Some("RSA")),
            ("TLS_DH_anon_WITH_AES_128_CBC_SHA", "AES-128-CBC-SHA", Some("DH_anon")),
            ("0x1a2b", "0x1a2b", None),
        ] {
            assert_eq!((cipher(name).as_str(), key_exchange(name)), (short, exchange), "{name}");
        }
    }

    #[test]
    fn weak_suites_are_known_by_their_names() {
        use Weakness::*;
        for (name, expected) in [
            ("TLS_AES_128_GCM_SHA256", vec![]),
            ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", vec![]),
            ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", vec![]),
            ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", vec![CbcSha1]),
            ("TLS_RSA_WITH_AES_128_GCM_SHA256", vec![StaticKey]),
            ("TLS_ECDH_ECDSA_WITH_AES_128_GCM_SHA256", vec![StaticKey]),
            ("TLS_RSA_WITH_RC4_128_MD5", vec![Rc4, Md5, StaticKey]),
            ("TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", vec![TripleDes, CbcSha1]),
            ("TLS_RSA_EXPORT_WITH_DES40_CBC_SHA", vec![Export, CbcSha1, StaticKey]),
            ("TLS_DH_anon_WITH_AES_128_GCM_SHA256", vec![Anonymous]),
            ("TLS_ECDHE_RSA_WITH_NULL_SHA", vec![Null]),
            ("TLS_NULL_WITH_NULL_NULL", vec![Null, Anonymous]),
            ("TLS_SHA256_SHA256", vec![Null]),
            ("TLS_RSA_WITH_DES_CBC_SHA", vec![Obsolete, CbcSha1, StaticKey]),
            ("TLS_DHE_PSK_WITH_AES_128_GCM_SHA256", vec![]),
            ("0x1a2b", vec![]),
        ] {
            assert_eq!(weaknesses(name), expected, "{name}");
        }
    }

    #[test]
    fn who_proves_what() {
        for (name, expected) in [
            ("TLS_AES_128_GCM_SHA256", Authentication::Certificate),
            ("TLS_RSA_WITH_AES_128_CBC_SHA", Authentication::Certificate),
            ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Authentication::Certificate),
            ("TLS_ECDH_anon_WITH_AES_128_CBC_SHA", Authentication::Anonymous),
            ("TLS_PSK_WITH_AES_128_CBC_SHA", Authentication::Shared),
            ("TLS_SRP_SHA_WITH_AES_128_CBC_SHA", Authentication::Shared),
            ("TLS_SRP_SHA_RSA_WITH_AES_128_CBC_SHA", Authentication::Certificate),
            ("TLS_GOSTR341112_256_WITH_28147_CNT_IMIT", Authentication::Unknown),
            ("0x1a2b", Authentication::Unknown),
        ] {
            assert_eq!(authentication(name), expected, "{name}");
        }
    }
}
