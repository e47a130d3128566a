//! `client-cert-missing`: the policy wants both ends to have certificates, and the client presented none.
//!
//! False positives: none where the certificate is seen; where it is inferred (TLS 1.3), as good as that
//! inference. "Unknown" is no finding.

use super::posture::{Fault, Sight};
use crate::model::{Rule, Severity};

const REMEDY: &str = "Have the server require client certificates, and give this client one.";

pub(super) fn fault(sight: &Sight<'_>) -> Option<Fault> {
    let mut fault = Fault::new(Rule::ClientCertMissing);
    fault.add_breaches(sight, Severity::High, REMEDY);
    fault.found()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dissect::{ClientCertificate, ClientCertificateState};
    use jiff::Timestamp;

    use super::*;
    use crate::config::Detect;
    use crate::detect::posture;
    use crate::policy::{Require, Required};
    use crate::posture::tests::tls;

    #[test]
    fn only_where_the_policy_wants_one_and_none_came() {
        let require = Require { client_certificate: true, ..Require::default() };
        let required = [Required { service: "db".into(), require: Arc::new(require) }];
        let addresses = ("10.0.0.1:1".parse().expect("address"), "10.0.0.2:2".parse().expect("address"));
        for (state, rules) in [
            (ClientCertificateState::Presented, vec![]),
            (ClientCertificateState::Unknown, vec![]),
            (ClientCertificateState::NotRequested, vec![Rule::ClientCertMissing]),
            (ClientCertificateState::Refused, vec![Rule::ClientCertMissing]),
        ] {
            let mut facts = tls("1.3", "TLS_AES_256_GCM_SHA384", Some("x25519"));
            if let Some(tls) = &mut facts.tls {
                tls.client_certificate = ClientCertificate { state, basis: None };
            }
            let found = |required: &[Required]| -> Vec<Rule> {
                let settings = Detect::default();
                let faults = posture(&facts, addresses, &settings, required, Timestamp::UNIX_EPOCH);
                faults.iter().map(|fault| fault.rule).collect()
            };
            assert_eq!(found(&required), rules, "{state:?}");
            assert_eq!(found(&[]), [], "{state:?}");
        }
    }
}
