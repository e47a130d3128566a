//! What a service accepts and shows, to findings. Pure: the clock is an argument.

use dissect::Certificate;
use jiff::Timestamp;
use serde::Serialize;

use super::service::Offered;
use crate::config;
use crate::detect::certificates::{Validity, days_ago, in_days, validity};
use crate::detect::weak_cipher::{weak_key, weak_signature};
use crate::model::{Rule, Severity};
use crate::posture::{TlsVersion, Weakness, says_whether_for, shown, weaknesses};

/// Something that is wrong with a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub rule: Rule,
    pub severity: Severity,
    /// One sentence for people.
    pub reason: String,
    /// What to do, one sentence.
    pub remedy: &'static str,
}

/// What a service is held to.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    pub settings: &'a config::Detect,
    /// A name that its certificate has to have.
    pub name: Option<&'a str>,
    /// It is served on loopback alone.
    pub loopback: bool,
    pub now: Timestamp,
}

/// Suites that one finding names; all of them stand in the report.
const MOST_NAMED: usize = 8;

const VERSIONS: &str = "Have the server refuse versions before TLS 1.2.";
const SUITES: &str = "Have the server offer ECDHE suites with AES-GCM or ChaCha20-Poly1305 only.";
const RENEW: &str = "Renew the certificate, and have it renewed by a machine from now on.";
const REISSUE: &str = "Have the certificate issued anew, with an ECDSA P-256 or RSA 2048 key or better, signed with \
                       SHA-256 or better.";

/// Everything that is wrong, worst first.
pub fn judge(offered: &Offered, terms: Terms<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(versions(offered, terms));
    findings.extend(suites(offered, terms));
    if terms.settings.post_quantum.enabled && offered.post_quantum != Some(true) && !offered.cut_short {
        findings.push(Finding {
            rule: Rule::NotPostQuantum,
            severity: Severity::Low,
            reason: "takes no post-quantum key exchange".to_owned(),
            remedy: "Have the server offer TLS 1.3 with X25519MLKEM768: OpenSSL 3.5, Go 1.24 and later do by default.",
        });
    }
    for (at, certificate) in offered.certificates.iter().enumerate() {
        of_certificate(&mut findings, at, certificate, terms);
    }
    if let Some(certificate) = offered.certificates.first() {
        own_certificate(&mut findings, certificate, terms);
        if offered.certificates.iter().any(|it| it.issued_by_next == Some(false)) {
            findings.push(Finding {
                rule: Rule::WeakTls,
                severity: Severity::Medium,
                reason: "sends its chain out of order: a certificate is not issued by the next one"
                    .to_owned(),
                remedy: "Put the server's own certificate first, and each one's issuer after it.",
            });
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

fn versions(offered: &Offered, terms: Terms<'_>) -> Option<Finding> {
    let order = |name: &String| match name.as_str() {
        "TLS 1.3" => TlsVersion::V1_3,
        "TLS 1.2" => TlsVersion::V1_2,
        "TLS 1.1" => TlsVersion::V1_1,
        "TLS 1.0" => TlsVersion::V1_0,
        _ => TlsVersion::Ssl,
    };
    let minimum = terms.settings.weak_tls.minimum.max(TlsVersion::V1_2);
    let old: Vec<&String> = offered.versions.iter().filter(|name| order(name) < minimum).collect();
    let worst = old.iter().map(|name| order(name)).min()?;
    let names: Vec<&str> = old.iter().map(|name| name.as_str()).collect();
    Some(Finding {
        rule: Rule::WeakTls,
        severity: if worst < TlsVersion::V1_2 { Severity::Critical } else { Severity::Medium },
        reason: format!("accepts {}", names.join(", ")),
        remedy: if worst < TlsVersion::V1_2 {
            VERSIONS
        } else {
            "Have the server refuse versions before TLS 1.3."
        },
    })
}

fn suites(offered: &Offered, terms: Terms<'_>) -> Option<Finding> {
    let settings = &terms.settings.weak_cipher;
    let mut worst: Option<Severity> = None;
    let mut weak: Vec<(Severity, &str)> = Vec::new();
    for name in &offered.suites {
        let severity = weaknesses(name)
            .into_iter()
            .filter_map(|weakness| match weakness {
                Weakness::Null | Weakness::Anonymous | Weakness::Export | Weakness::Obsolete => {
                    Some(Severity::Critical)
                }
                Weakness::Rc4 | Weakness::TripleDes | Weakness::Md5 => Some(Severity::High),
                Weakness::StaticKey => settings.static_keys.then_some(Severity::Medium),
                Weakness::CbcSha1 => settings.cbc_sha1.then_some(Severity::Low),
            })
            .max();
        if let Some(severity) = severity {
            worst = worst.max(Some(severity));
            weak.push((severity, name.as_str()));
        }
    }
    weak.sort_by_key(|(severity, _)| std::cmp::Reverse(*severity));
    let weak: Vec<&str> = weak.into_iter().map(|(_, name)| name).collect();
    Some(Finding {
        rule: Rule::WeakCipher,
        severity: worst?,
        reason: match weak.len().checked_sub(MOST_NAMED) {
            None | Some(0) => format!("accepts weak suites: {}", weak.join(", ")),
            Some(more) => format!("accepts weak suites: {}, and {more} more", weak[..MOST_NAMED].join(", ")),
        },
        remedy: SUITES,
    })
}

fn of_certificate(findings: &mut Vec<Finding>, at: usize, certificate: &Certificate, terms: Terms<'_>) {
    let which = match at {
        0 => format!("its certificate of `{}`", shown(certificate, None)),
        _ => format!("the certificate of `{}` in its chain", shown(certificate, None)),
    };
    let is_root = at > 0 && certificate.self_signed;
    match validity(certificate, &terms.settings.certificates, terms.now.as_second()) {
        Validity::Fine => {}
        Validity::NotYet => findings.push(Finding {
            rule: Rule::CertExpired,
            severity: Severity::High,
            reason: format!("{which} is not valid yet"),
            remedy: "Set the clock right, of this host or of the one that issued it.",
        }),
        Validity::Expired(days) => findings.push(Finding {
            rule: Rule::CertExpired,
            severity: Severity::High,
            reason: format!("{which} expired {}", days_ago(days)),
            remedy: RENEW,
        }),
        Validity::Expiring(severity, days) => findings.push(Finding {
            rule: Rule::CertExpiring,
            severity,
            reason: format!("{which} expires {}", in_days(days)),
            remedy: RENEW,
        }),
    }
    if let Some(key) = weak_key(certificate, terms.settings.weak_cipher.rsa_bits) {
        let reason = format!("{which} has {key}");
        findings.push(Finding { rule: Rule::WeakCipher, severity: Severity::High, reason, remedy: REISSUE });
    }
    if !is_root && let Some(name) = weak_signature(certificate) {
        let reason = format!("{which} is signed with {name}");
        findings.push(Finding { rule: Rule::WeakCipher, severity: Severity::High, reason, remedy: REISSUE });
    }
}

fn own_certificate(findings: &mut Vec<Finding>, certificate: &Certificate, terms: Terms<'_>) {
    let name = shown(certificate, None);
    if let Some(wanted) = terms.name
        && says_whether_for(certificate, wanted) == Some(false)
    {
        findings.push(Finding {
            rule: Rule::UnexpectedPeer,
            severity: Severity::High,
            reason: format!("its certificate is of `{name}`, not of `{wanted}`"),
            remedy: "Give the server a certificate of that name.",
        });
    }
    if terms.settings.certificates.self_signed && certificate.self_signed && !terms.loopback {
        findings.push(Finding {
            rule: Rule::UnexpectedPeer,
            severity: Severity::Medium,
            reason: format!("its certificate of `{name}` is self-signed"),
            remedy: "Have an authority that the clients trust issue the certificate.",
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(settings: &config::Detect) -> Terms<'_> {
        Terms { settings, name: None, loopback: false, now: Timestamp::UNIX_EPOCH }
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn old_versions_and_weak_suites() {
        let settings = config::Detect::default();
        let offered = Offered {
            versions: strings(&["TLS 1.2", "TLS 1.1", "TLS 1.0"]),
            suites: strings(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_3DES_EDE_CBC_SHA"]),
            ..Offered::default()
        };
        let findings = judge(&offered, terms(&settings));
        assert_eq!(findings.len(), 2);
        assert_eq!((findings[0].rule, findings[0].severity), (Rule::WeakTls, Severity::Critical));
        assert_eq!(findings[0].reason, "accepts TLS 1.1, TLS 1.0");
        assert_eq!((findings[1].rule, findings[1].severity), (Rule::WeakCipher, Severity::High));
        assert_eq!(findings[1].reason, "accepts weak suites: TLS_RSA_WITH_3DES_EDE_CBC_SHA");
    }

    #[test]
    fn what_is_well_is_left_alone() {
        let settings = config::Detect::default();
        let certificate = Certificate {
            subject: "CN=a".into(),
            alternative_names: strings(&["DNS:a.example"]),
            key_type: "EC P-256".into(),
            key_bits: 256,
            signature_algorithm: "ecdsa-with-SHA256".into(),
            not_before: -86_400 * 100,
            not_after: 86_400 * 100,
            ..Certificate::default()
        };
        let offered = Offered {
            versions: strings(&["TLS 1.3", "TLS 1.2"]),
            suites: strings(&["TLS_AES_128_GCM_SHA256"]),
            certificates: vec![certificate],
            ..Offered::default()
        };
        assert_eq!(judge(&offered, terms(&settings)), []);
        let named = Terms { name: Some("b.example"), ..terms(&settings) };
        assert_eq!(judge(&offered, named)[0].rule, Rule::UnexpectedPeer);
        assert_eq!(judge(&offered, Terms { name: Some("a.example"), ..named }), []);
    }

    #[test]
    fn certificates_are_held_to_the_clock() {
        let settings = config::Detect::default();
        let of = |not_after_day: i64, self_signed: bool, loopback: bool| {
            let certificate = Certificate {
                subject: "CN=a".into(),
                not_before: -86_400 * 100,
                not_after: 86_400 * not_after_day,
                self_signed,
                ..Certificate::default()
            };
            let offered = Offered { certificates: vec![certificate], ..Offered::default() };
            let found = judge(&offered, Terms { loopback, ..terms(&settings) });
            found.into_iter().map(|it| (it.rule, it.severity)).collect::<Vec<_>>()
        };
        assert_eq!(of(100, false, false), []);
        assert_eq!(of(20, false, false), [(Rule::CertExpiring, Severity::Low)]);
        assert_eq!(of(-3, false, false), [(Rule::CertExpired, Severity::High)]);
        assert_eq!(of(100, true, false), [(Rule::UnexpectedPeer, Severity::Medium)]);
        assert_eq!(of(100, true, true), []);
    }
}
