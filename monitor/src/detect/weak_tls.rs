//! `weak-tls`: a version of TLS below the one that is wanted; below 1.2 it is deprecated (RFC 8996).
//!
//! False positives: none; the version is the negotiated one. A handshake that did not get through is
//! none.

use dissect::Protection;

use super::posture::{Fault, Sight};
use crate::model::{Rule, Severity};
use crate::posture::{TlsVersion, tls_version};

const REMEDY: &str = "Have both ends speak TLS 1.3, or 1.2 at least: update the older one, and have the server \
                      refuse what is older.";

pub(super) fn fault(sight: &Sight<'_>) -> Option<Fault> {
    let mut fault = Fault::new(Rule::WeakTls);
    let tls = sight.facts.tls.as_ref();
    let seen = tls.and_then(TlsVersion::of);
    if let Protection::Encrypted(_) = sight.facts.protection
        && let (Some(tls), Some(seen)) = (tls, seen)
    {
        let version = tls_version(tls);
        if seen < TlsVersion::V1_2 {
            fault.add(Severity::Critical, format!("uses {version}, which is deprecated"), REMEDY);
        } else if seen < sight.settings.weak_tls.minimum {
            let minimum = sight.settings.weak_tls.minimum;
            fault.add(Severity::Medium, format!("uses {version}, and {minimum} is wanted here"), REMEDY);
        }
    }
    let severity = match sight.facts.protection {
        Protection::Plaintext(_) => Severity::Critical,
        _ => Severity::High,
    };
    fault.add_breaches(sight, severity, REMEDY);
    fault.found()
}

#[cfg(test)]
mod tests {
    use super::super::posture::tests::looked;
    use super::*;
    use crate::config::Detect;
    use crate::posture::tests::{ssh, tls};
    use dissect::{Facts, UnknownReason};

    #[test]
    fn below_1_2_is_critical_and_1_2_where_1_3_is_wanted() {
        let mut settings = Detect::default();
        let suite = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        for (version, severity) in
            [("3.0", Some(Severity::Critical)), ("1.1", Some(Severity::Critical)), ("1.2", None)]
        {
            let found = looked(fault, &tls(version, suite, None), &settings, 0);
            assert_eq!(found.map(|found| found.0), severity, "{version}");
        }
        settings.weak_tls.minimum = TlsVersion::V1_3;
        let found = looked(fault, &tls("1.2", suite, None), &settings, 0).expect("found");
        assert_eq!(found, (Severity::Medium, "uses TLS 1.2, and TLS 1.3 is wanted here".to_owned()));
        assert_eq!(looked(fault, &ssh(), &settings, 0), None);
        let facts = Facts {
            protection: Facts::unknown(UnknownReason::Handshake).protection,
            ..tls("1.0", suite, None)
        };
        assert_eq!(looked(fault, &facts, &settings, 0), None);
    }
}
