//! What a service requires of the encryption of its streams, and of the certificates of either end.
//!
//! In: the table `require` of a service, and what was seen of a flow. Out: what breaks it, and what
//! could not be seen. Must never: call a breach what the wire does not show.

use std::fmt;
use std::sync::Arc;

use dissect::{Certificate, ClientCertificateState, End, Facts, Protection, TlsFacts};
use schemars::JsonSchema;
use serde::Deserialize;
use wildmatch::WildMatch;

use super::selector::Held;
use super::{FlowFacts, Policy, Seen};
use crate::model::Rule;
use crate::posture::{self, TlsVersion};

/// Longest list of patterns of one requirement.
const MOST_PATTERNS: usize = 256;

/// The table `require` of a `[[service]]`: all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Require {
    /// The oldest version of TLS allowed; a stream in the clear breaks it too.
    pub tls: Option<TlsVersion>,
    /// Cipher suites allowed: IANA names or short ones (`AES-256-GCM`), with `*` and `?`.
    pub suites: Vec<String>,
    /// Key exchanges allowed: names of groups (`X25519MLKEM768`, `x25519`), with `*` and `?`.
    pub groups: Vec<String>,
    /// The key exchange must withstand a quantum computer.
    pub post_quantum: bool,
    /// The client must present a certificate.
    pub client_certificate: bool,
    /// The server's certificate must have one of these names or SPIFFE IDs, with `*` and `?`.
    pub server_names: Vec<String>,
    /// The client's certificate likewise.
    pub client_names: Vec<String>,
}

/// A requirement that covers a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    /// Name of the service.
    pub service: Arc<str>,
    pub require: Arc<Require>,
}

/// What a flow does of what is required of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `what`: what is wrong, and what was required: the end of a sentence.
    Breach { rule: Rule, what: String },
    /// The wire does not show it.
    Unknown { rule: Rule },
}

impl Require {
    /// The first thing in it that has no meaning.
    pub(super) fn wrong(&self) -> Option<String> {
        for (key, list) in [
            ("suites", &self.suites),
            ("groups", &self.groups),
            ("server_names", &self.server_names),
            ("client_names", &self.client_names),
        ] {
            if list.len() > MOST_PATTERNS {
                return Some(format!("{key} has {} entries, expected at most {MOST_PATTERNS}", list.len()));
            }
            if list.iter().any(|pattern| pattern.trim().is_empty()) {
                return Some(format!("{key} has an empty entry, expected a name or a pattern"));
            }
        }
        (*self == Require::default()).then(|| {
            "require is empty, expected at least one of tls, suites, groups, post_quantum, \
             client_certificate, server_names, client_names"
                .to_owned()
        })
    }

    /// Holds the flow to it. What holds is not mentioned.
    pub fn check(&self, facts: &Facts) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        match facts.protection {
            // Nothing else can hold then, and one breach says it.
            Protection::Plaintext(_) => {
                let what = "is in the clear, and TLS is required".to_owned();
                return vec![Outcome::Breach { rule: Rule::WeakTls, what }];
            }
            Protection::Unknown(_) => return vec![Outcome::Unknown { rule: Rule::WeakTls }],
            Protection::Encrypted(_) => {}
        }
        outcomes.extend(self.version(facts));
        outcomes.extend(self.suite(facts));
        outcomes.extend(self.group(facts));
        outcomes.extend(self.quantum(facts));
        if let Some(tls) = &facts.tls {
            outcomes.extend(self.client(tls));
            outcomes.extend(names(&self.server_names, &tls.server_certificates, End::Server));
            outcomes.extend(names(&self.client_names, &tls.client_certificates, End::Client));
        }
        outcomes
    }

    fn version(&self, facts: &Facts) -> Option<Outcome> {
        let (rule, least) = (Rule::WeakTls, self.tls?);
        match (&facts.tls, posture::version(facts)) {
            (Some(tls), Some(version)) => match TlsVersion::of(tls) {
                None => Some(Outcome::Unknown { rule }),
                Some(seen) if seen < least => {
                    Some(Outcome::Breach { rule, what: format!("uses {version}, and {least} is required") })
                }
                Some(_) => None,
            },
            // Bytes of TLS in mid-stream, say.
            (None, Some(version)) if version == "TLS" || version == "DTLS" || version == "QUIC" => {
                Some(Outcome::Unknown { rule })
            }
            (_, version) => {
                let version = version.unwrap_or_else(|| "no TLS".to_owned());
                Some(Outcome::Breach { rule, what: format!("uses {version}, and {least} is required") })
            }
        }
    }

    fn suite(&self, facts: &Facts) -> Option<Outcome> {
        if self.suites.is_empty() {
            return None;
        }
        let rule = Rule::WeakCipher;
        let (Some(short), full) =
            (posture::bulk_cipher(facts), facts.tls.as_ref().and_then(|tls| tls.cipher.as_deref()))
        else {
            return Some(Outcome::Unknown { rule });
        };
        let full = full.unwrap_or(&short);
        (!any(&self.suites, &[full, &short])).then(|| Outcome::Breach {
            rule,
            what: format!("uses {full}, and only {} is allowed", self.suites.join(", ")),
        })
    }

    fn group(&self, facts: &Facts) -> Option<Outcome> {
        if self.groups.is_empty() {
            return None;
        }
        let rule = Rule::WeakCipher;
        let Some(group) = posture::key_exchange(facts) else { return Some(Outcome::Unknown { rule }) };
        (!any(&self.groups, &[&group])).then(|| Outcome::Breach {
            rule,
            what: format!("exchanges keys by {group}, and only {} is allowed", self.groups.join(", ")),
        })
    }

    fn quantum(&self, facts: &Facts) -> Option<Outcome> {
        let rule = Rule::NotPostQuantum;
        match (self.post_quantum, posture::post_quantum(facts)) {
            (false, _) | (true, Some(true)) => None,
            (true, None) => Some(Outcome::Unknown { rule }),
            (true, Some(false)) => {
                let how = posture::key_exchange(facts).map(|it| format!(" ({it})")).unwrap_or_default();
                let what = format!("has a key exchange that is not post-quantum{how}, and one is required");
                Some(Outcome::Breach { rule, what })
            }
        }
    }

    fn client(&self, tls: &TlsFacts) -> Option<Outcome> {
        if !self.client_certificate && self.client_names.is_empty() {
            return None;
        }
        let rule = Rule::ClientCertMissing;
        // What was proved in the session that is resumed is not on this wire.
        let state = match tls.client_certificate.state {
            _ if tls.resumed == Some(true) => ClientCertificateState::Unknown,
            state => state,
        };
        let what = match state {
            ClientCertificateState::Presented => return None,
            ClientCertificateState::Unknown => return Some(Outcome::Unknown { rule }),
            ClientCertificateState::Refused => "was asked for a client certificate and sent none",
            ClientCertificateState::NotRequested => "asks for no client certificate",
        };
        Some(Outcome::Breach { rule, what: format!("{what}, and one is required") })
    }
}

impl fmt::Display for Require {
    /// `TLS 1.3, suites AES-256-GCM, a client certificate`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |name: &str, list: &[String]| {
            (!list.is_empty()).then(|| format!("{name} {}", list.join(" or ").escape_debug()))
        };
        let parts = [
            self.tls.map(|version| format!("{version} or later")),
            list("suite", &self.suites),
            list("group", &self.groups),
            self.post_quantum.then(|| "a post-quantum key exchange".to_owned()),
            self.client_certificate.then(|| "a client certificate".to_owned()),
            list("server name", &self.server_names),
            list("client name", &self.client_names),
        ];
        out.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// Whether a visible certificate has one of the names.
fn names(patterns: &[String], chain: &[Certificate], end: End) -> Option<Outcome> {
    if patterns.is_empty() {
        return None;
    }
    let rule = Rule::UnexpectedPeer;
    // The client's absence is another breach.
    let Some(certificate) = chain.first() else { return Some(Outcome::Unknown { rule }) };
    // Of a server as clients read it; a client's is what servers log it in by, beside other names too.
    let common = match end {
        End::Server => posture::common_name_of_host(certificate),
        End::Client => posture::common_name(&certificate.subject),
    };
    let held = certificate.alternative_names.iter().any(|name| is_meant(patterns, name))
        || any(whole(patterns), &[&certificate.subject])
        || common.is_some_and(|name| any(patterns, &[name]));
    if !held && certificate.names_cut {
        return Some(Outcome::Unknown { rule });
    }
    (!held).then(|| Outcome::Breach {
        rule,
        what: format!(
            "has a {} certificate of `{}`, and {} is required",
            if end == End::Client { "client" } else { "server" },
            posture::shown(certificate, None),
            patterns.join(" or ")
        ),
    })
}

/// Those that are meant for a whole subject: `*.example.org` is no company's name.
fn whole(patterns: &[String]) -> impl Iterator<Item = &String> {
    patterns.iter().filter(|pattern| pattern.contains('=') || pattern.as_str() == "*")
}

fn is_meant(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| {
        let matches = |value: &str| any([pattern], &[value]);
        posture::is_meant(pattern, name, matches)
    })
}

fn any<'a>(patterns: impl IntoIterator<Item = &'a String>, names: &[&str]) -> bool {
    patterns.into_iter().any(|pattern| {
        let pattern = WildMatch::new_case_insensitive(pattern);
        names.iter().any(|name| pattern.matches(name))
    })
}

impl Policy {
    /// What is required of a flow, by every service that covers it for certain.
    pub fn required(&self, facts: &FlowFacts<'_>, seen: Seen<'_>) -> Vec<Required> {
        if !self.requires {
            return Vec::new();
        }
        self.with_ends(facts, seen, |_, server| {
            self.covering(facts, server)
                .filter(|(_, covered)| *covered == Held::Yes)
                .filter_map(|(service, _)| {
                    let require = service.require.clone()?;
                    Some(Required { service: service.name.clone(), require })
                })
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use dissect::{Basis, ClientCertificate, Plain, UnknownReason};

    use super::*;
    use crate::posture::tests::{ssh, tls};

    fn require(text: &str) -> Require {
        toml::from_str(text).expect("a table")
    }

    fn breaches(require: &Require, facts: &Facts) -> Vec<Rule> {
        let rules = require.check(facts).into_iter().filter_map(|outcome| match outcome {
            Outcome::Breach { rule, .. } => Some(rule),
            Outcome::Unknown { .. } => None,
        });
        rules.collect()
    }

    fn unknown(require: &Require, facts: &Facts) -> bool {
        require.check(facts).iter().all(|outcome| matches!(outcome, Outcome::Unknown { .. }))
            && !require.check(facts).is_empty()
    }

    fn with(mut facts: Facts, change: impl FnOnce(&mut TlsFacts)) -> Facts {
        if let Some(tls) = &mut facts.tls {
            change(tls);
        }
        facts
    }

    fn modern() -> Facts {
        tls("1.3", "TLS_AES_256_GCM_SHA384", Some("X25519MLKEM768"))
    }

    fn older() -> Facts {
        tls("1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some("x25519"))
    }

    #[test]
    fn versions_suites_and_groups() {
        let version = require("tls = \"1.3\"");
        assert_eq!(breaches(&version, &modern()), []);
        assert_eq!(breaches(&version, &older()), [Rule::WeakTls]);
        assert_eq!(breaches(&version, &ssh()), [Rule::WeakTls]);
        let clear = Facts {
            protection: Protection::Plaintext(Plain::Readable),
            ..Facts::unknown(UnknownReason::Silent)
        };
        assert_eq!(breaches(&version, &clear), [Rule::WeakTls]);
        assert!(unknown(&version, &Facts::unknown(UnknownReason::OpenedBefore)));
        assert!(unknown(&version, &with(modern(), |tls| tls.version = None)));

        let suites = require("suites = [\"*aes-256-gcm*\", \"TLS_CHACHA20_*\"]");
        assert_eq!(breaches(&suites, &modern()), []);
        assert_eq!(breaches(&suites, &older()), [Rule::WeakCipher]);
        let groups = require("groups = [\"X25519*\"]\npost_quantum = true");
        assert_eq!(breaches(&groups, &modern()), []);
        assert_eq!(breaches(&groups, &older()), [Rule::NotPostQuantum]);
        assert!(unknown(&groups, &with(modern(), |tls| tls.group = None)));
    }

    #[test]
    fn client_certificates_are_missing_or_not_known() {
        let both = require("client_certificate = true");
        let state = |state| {
            with(modern(), |tls| {
                tls.client_certificate = ClientCertificate { state, basis: Some(Basis::Inferred) };
            })
        };
        assert_eq!(breaches(&both, &state(ClientCertificateState::Presented)), []);
        assert_eq!(breaches(&both, &state(ClientCertificateState::NotRequested)), [Rule::ClientCertMissing]);
        assert_eq!(breaches(&both, &state(ClientCertificateState::Refused)), [Rule::ClientCertMissing]);
        assert!(unknown(&both, &state(ClientCertificateState::Unknown)));
        let resumed = with(state(ClientCertificateState::NotRequested), |tls| tls.resumed = Some(true));
        assert!(unknown(&both, &resumed));
    }

    #[test]
    fn names_are_compared_where_they_are_seen() {
        let names =
            require("server_names = [\"*.example.org\"]\nclient_names = [\"spiffe://example.org/*\"]");
        let certificate = |name: &str| Certificate {
            subject: "O=Example".into(),
            alternative_names: vec![name.into()],
            ..Certificate::default()
        };
        let facts = |server: &str, client: &str| {
            with(older(), |tls| {
                tls.server_certificates = vec![certificate(server)];
                tls.client_certificates = vec![certificate(client)];
                tls.client_certificate =
                    ClientCertificate { state: ClientCertificateState::Presented, basis: Some(Basis::Seen) };
            })
        };
        assert_eq!(breaches(&names, &facts("DNS:api.example.org", "URI:spiffe://example.org/batch")), []);
        assert_eq!(
            breaches(&names, &facts("DNS:api.example.net", "URI:spiffe://evil/batch")),
            [Rule::UnexpectedPeer, Rule::UnexpectedPeer]
        );
        assert!(unknown(&names, &modern()));
        let cut = with(facts("DNS:api.example.net", "URI:spiffe://example.org/batch"), |tls| {
            tls.server_certificates[0].names_cut = true;
        });
        assert_eq!(breaches(&names, &cut), []);
        assert!(unknown(&names, &cut));
    }

    #[test]
    fn the_common_name_of_a_server_counts_where_it_has_no_other_of_a_host() {
        let required = require("server_names = [\"a.example\"]\nclient_names = [\"a.example\"]");
        let breaches = |names: &[&str]| {
            let certificate = Certificate {
                subject: "CN=a.example,O=Example".into(),
                alternative_names: names.iter().map(|name| (*name).to_owned()).collect(),
                ..Certificate::default()
            };
            breaches(
                &required,
                &with(older(), |tls| {
                    tls.server_certificates = vec![certificate.clone()];
                    tls.client_certificates = vec![certificate];
                    tls.client_certificate.state = ClientCertificateState::Presented;
                }),
            )
        };
        assert_eq!(breaches(&[]), []);
        assert_eq!(breaches(&["email:x@evil.example"]), []);
        // Clients that ask for a.example take it for none.
        assert_eq!(breaches(&["DNS:evil.example"]), [Rule::UnexpectedPeer]);
        assert_eq!(breaches(&["IP:10.0.0.1"]), [Rule::UnexpectedPeer]);
    }

    #[test]
    fn what_a_subject_says_besides_its_common_name_is_no_name() {
        let held = |required: &str, subject: &str| {
            let names = require(&format!("server_names = [{required:?}]"));
            let certificate = Certificate { subject: subject.into(), ..Certificate::default() };
            breaches(&names, &with(older(), |tls| tls.server_certificates = vec![certificate])).is_empty()
        };
        for (required, subject) in [
            ("*.example.org", "CN=a.example.org,O=Example"),
            ("*.example.org", "O=Example,CN=a.example.org"),
            ("CN=a*,O=Example", "CN=a.example.org,O=Example"),
            ("*", "O=Example"),
        ] {
            assert!(held(required, subject), "{required}: {subject}");
        }
        for (required, subject) in [
            ("*.example.org", "CN=evil,O=a.example.org"),
            ("*.example.org", "CN=evil,O=x\\,CN=a.example.org"),
            ("a.example.org", "O=evil:a.example.org"),
            ("a.example.org", "CN=evil\\,CN=a.example.org"),
        ] {
            assert!(!held(required, subject), "{required}: {subject}");
        }
    }

    #[test]
    fn it_holds_for_what_the_service_covers_for_certain() {
        let text = "[groups]\ndb = [{ address = \"10.0.0.7\" }]\n\
             [[service]]\nname = \"api\"\nsni = \"api.example.org\"\nrequire = { tls = \"1.3\" }\n\
             [[service.client]]\naddress = \"0.0.0.0/0\"\n\
             [[service]]\nname = \"db\"\ngroup = \"db\"\nrequire = { client_certificate = true }\n\
             [[service.client]]\naddress = \"0.0.0.0/0\"\n";
        let policy = Policy::parse(std::path::Path::new("p.toml"), text).expect("a policy");
        let names = |server: &str, facts: Option<&Facts>| {
            let ends = FlowFacts {
                client: None,
                client_address: "192.0.2.1:40000".parse().expect("an address"),
                server: None,
                server_address: server.parse().expect("an address"),
                transport: crate::model::Transport::Tcp,
            };
            let required = policy.required(&ends, Seen { facts, ..Seen::default() });
            required.iter().map(|required| required.service.to_string()).collect::<Vec<_>>()
        };
        let asked = |name: &str| with(modern(), |tls| tls.server_name = Some(name.into()));
        assert_eq!(names("10.0.0.1:443", Some(&asked("api.example.org"))), ["api"]);
        assert_eq!(names("10.0.0.7:443", Some(&asked("api.example.org"))), ["api", "db"]);
        assert_eq!(names("10.0.0.7:443", Some(&asked("www.example.org"))), ["db"]);
        // Whether the name was asked for is not known: nothing is required for certain.
        assert_eq!(names("10.0.0.1:443", None), Vec::<String>::new());
    }

    #[test]
    fn a_table_without_meaning_is_refused() {
        assert!(require("").wrong().expect("refused").starts_with("require is empty"));
        assert!(require("suites = [\" \"]").wrong().expect("refused").contains("empty entry"));
        assert_eq!(require("tls = \"1.2\"").wrong(), None);
        assert!(toml::from_str::<Require>("tls = \"1.4\"").is_err());
        assert!(toml::from_str::<Require>("tsl = \"1.2\"").is_err());
    }
}
