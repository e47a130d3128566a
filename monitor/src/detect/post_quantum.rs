//! `not-post-quantum`: a key exchange that a quantum computer will break, so that what is recorded today
//! can be read then. Off unless `detect.post_quantum.enabled` or the policy of the service wants it; the
//! sums of `status` and `inventory` count always.
//!
//! False positives: WireGuard with a shared key, which cannot be seen, is never one.

use dissect::Protection;

use super::posture::{Fault, Sight};
use crate::model::{Rule, Severity};
use crate::posture;

const REMEDY: &str = "Have both ends offer X25519MLKEM768 (TLS 1.3) or mlkem768x25519-sha256 (SSH): OpenSSL 3.5, Go \
                      1.24, OpenSSH 9.9 and later do by default.";

pub(super) fn fault(sight: &Sight<'_>) -> Option<Fault> {
    let mut fault = Fault::new(Rule::NotPostQuantum);
    if sight.settings.post_quantum.enabled
        && let Protection::Encrypted(_) = sight.facts.protection
        && posture::post_quantum(sight.facts) == Some(false)
    {
        let how = posture::key_exchange(sight.facts).unwrap_or_else(|| "a classical method".to_owned());
        fault.add(Severity::Low, format!("exchanges keys by {how}, which is not post-quantum"), REMEDY);
    }
    fault.add_breaches(sight, Severity::Medium, REMEDY);
    fault.found()
}

#[cfg(test)]
mod tests {
    use super::super::posture::tests::looked;
    use super::*;
    use crate::config::Detect;
    use crate::posture::tests::tls;

    #[test]
    fn off_unless_wanted_and_never_guessed() {
        let classical = tls("1.3", "TLS_AES_256_GCM_SHA384", Some("x25519"));
        let mut settings = Detect::default();
        assert_eq!(looked(fault, &classical, &settings, 0), None);
        settings.post_quantum.enabled = true;
        let (severity, what) = looked(fault, &classical, &settings, 0).expect("found");
        assert_eq!(
            (severity, what.as_str()),
            (Severity::Low, "exchanges keys by x25519, which is not post-quantum")
        );
        let hybrid = tls("1.3", "TLS_AES_256_GCM_SHA384", Some("X25519MLKEM768"));
        assert_eq!(looked(fault, &hybrid, &settings, 0), None);
        assert_eq!(looked(fault, &tls("1.3", "TLS_AES_256_GCM_SHA384", None), &settings, 0), None);
    }
}
