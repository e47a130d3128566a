//! `cert-expired`, `cert-expiring`, and `unexpected-peer` for a certificate that nobody vouches for or
//! that is not one for the name that was asked for. Of certificates that the wire shows: up to TLS 1.2.
//!
//! False positives: a clock that is wrong; a name that the client does not check on purpose; a
//! self-signed certificate that the client has pinned. Certificates made for some hours are renewed by
//! machines, and never about to expire (`detect.certificates.short_lived_h`).

use dissect::{Certificate, Protection};

use super::posture::{Fault, Sight};
use crate::config;
use crate::model::{Reach, Rule, Severity};
use crate::posture::{says_whether_for, shown};

const DAY: i64 = 86_400;
const RENEW: &str = "Renew the certificate, and have it renewed by a machine from now on.";

/// Whether a certificate holds at a time, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// Nothing to say, or its dates could not be read.
    Fine,
    NotYet,
    /// Whole days since.
    Expired(i64),
    /// Whole days left.
    Expiring(Severity, i64),
}

/// Holds a certificate to the clock.
pub(crate) fn validity(certificate: &Certificate, settings: &config::Certificates, now_s: i64) -> Validity {
    let Certificate { not_before, not_after, .. } = *certificate;
    if not_before == 0 && not_after == 0 {
        return Validity::Fine;
    }
    if now_s > not_after {
        return Validity::Expired(now_s.saturating_sub(not_after) / DAY);
    }
    if now_s < not_before {
        return Validity::NotYet;
    }
    if not_after.saturating_sub(not_before) <= i64::from(settings.short_lived_h) * 3600 {
        return Validity::Fine;
    }
    let left = not_after.saturating_sub(now_s);
    let thresholds = &settings.expiring_days;
    let crossed = thresholds.iter().filter(|days| left <= i64::from(**days) * DAY).count();
    let severity = match crossed {
        0 => return Validity::Fine,
        all if all == thresholds.len() && all > 1 => Severity::High,
        1 if thresholds.len() > 1 => Severity::Low,
        _ => Severity::Medium,
    };
    Validity::Expiring(severity, left / DAY)
}

/// `today`, `in 1 day`, `in 12 days`.
pub(crate) fn in_days(days: i64) -> String {
    match days {
        0 => "within a day".to_owned(),
        1 => "in 1 day".to_owned(),
        days => format!("in {days} days"),
    }
}

/// `today`, `1 day ago`, `12 days ago`.
pub(crate) fn days_ago(days: i64) -> String {
    match days {
        0 => "less than a day ago".to_owned(),
        1 => "1 day ago".to_owned(),
        days => format!("{days} days ago"),
    }
}

pub(super) fn expired(sight: &Sight<'_>) -> Option<Fault> {
    let mut fault = Fault::new(Rule::CertExpired);
    each(sight, |end, certificate, validity| match validity {
        Validity::Expired(days) => {
            let what = format!(
                "has a {end} certificate of `{}` that expired {}",
                shown(certificate, None),
                days_ago(days)
            );
            fault.add(Severity::High, what, RENEW);
        }
        Validity::NotYet => {
            let what =
                format!("has a {end} certificate of `{}` that is not valid yet", shown(certificate, None));
            fault.add(
                Severity::High,
                what,
                "Set the clock right, of this host or of the one that issued it.",
            );
        }
        Validity::Fine | Validity::Expiring(..) => {}
    });
    fault.found()
}

pub(super) fn expiring(sight: &Sight<'_>) -> Option<Fault> {
    let mut fault = Fault::new(Rule::CertExpiring);
    each(sight, |end, certificate, validity| {
        if let Validity::Expiring(severity, days) = validity {
            let what = format!(
                "has a {end} certificate of `{}` that expires {}",
                shown(certificate, None),
                in_days(days)
            );
            fault.add(severity, what, RENEW);
        }
    });
    fault.found()
}

fn each(sight: &Sight<'_>, mut look: impl FnMut(&str, &Certificate, Validity)) {
    let Protection::Encrypted(_) = sight.facts.protection else { return };
    let Some(tls) = &sight.facts.tls else { return };
    let now_s = sight.now.as_second();
    for (end, chain) in [("server", &tls.server_certificates), ("client", &tls.client_certificates)] {
        for certificate in chain {
            look(end, certificate, validity(certificate, &sight.settings.certificates, now_s));
        }
    }
}

pub(super) fn not_the_one(sight: &Sight<'_>) -> Option<Fault> {
    let mut fault = Fault::new(Rule::UnexpectedPeer);
    let settings = &sight.settings.certificates;
    if let Protection::Encrypted(_) = sight.facts.protection
        && let Some(tls) = &sight.facts.tls
        && let Some(certificate) = tls.server_certificates.first()
        && sight.reach != Reach::Loopback
    {
        let name = shown(certificate, None);
        if settings.names
            && let Some(asked) = tls.server_name.as_deref().filter(|_| !tls.encrypted_client_hello)
            && !certificate.subject.is_empty() | !certificate.alternative_names.is_empty()
            && says_whether_for(certificate, asked) == Some(false)
        {
            fault.add(
                Severity::High,
                format!("asked for `{asked}`, and the server showed a certificate of `{name}`"),
                "Have the client ask for a name that the certificate has, or give the server a certificate of \
                 that name.",
            );
        }
        if settings.self_signed && certificate.self_signed {
            fault.add(
                Severity::Medium,
                format!("has a server certificate of `{name}` that nobody but itself vouches for"),
                "Have an authority that the clients trust issue the certificate.",
            );
        }
    }
    fault.add_breaches(
        sight,
        Severity::High,
        "Find out who has this certificate, and whether it belongs there.",
    );
    fault.found()
}

#[cfg(test)]
mod tests {
    use super::super::posture::tests::looked;
    use super::*;
    use crate::config::Detect;
    use crate::posture::tests::tls;
    use dissect::Facts;

    fn certificate(not_before_day: i64, not_after_day: i64) -> Certificate {
        Certificate {
            subject: "CN=api.example.org".into(),
            alternative_names: vec!["DNS:api.example.org".into()],
            not_before: not_before_day * DAY,
            not_after: not_after_day * DAY,
            ..Certificate::default()
        }
    }

    fn facts(certificate: Certificate) -> Facts {
        let mut facts = tls("1.2", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", None);
        if let Some(tls) = &mut facts.tls {
            tls.server_certificates = vec![certificate];
        }
        facts
    }

    #[test]
    fn the_nearer_the_worse() {
        let settings = Detect::default();
        let of = |left_days: i64| {
            let facts = facts(certificate(100, 200));
            looked(expiring, &facts, &settings, (200 - left_days) * DAY).map(|found| found.0)
        };
        assert_eq!(of(31), None);
        assert_eq!(of(30), Some(Severity::Low));
        assert_eq!(of(8), Some(Severity::Low));
        assert_eq!(of(7), Some(Severity::Medium));
        assert_eq!(of(1), Some(Severity::High));
        assert_eq!(of(0), Some(Severity::High));
        assert_eq!(of(-1), None);
    }

    #[test]
    fn what_is_over_is_expired_and_what_has_not_begun_too() {
        let settings = Detect::default();
        let of = |day: i64| looked(expired, &facts(certificate(100, 200)), &settings, day * DAY);
        assert_eq!(of(150), None);
        let (severity, what) = of(212).expect("found");
        assert_eq!(severity, Severity::High);
        assert_eq!(what, "has a server certificate of `api.example.org` that expired 12 days ago");
        assert!(of(99).expect("found").1.ends_with("not valid yet"));
        let unread = Certificate { sha256: "00".into(), ..Certificate::default() };
        assert_eq!(looked(expired, &facts(unread), &settings, 1), None);
    }

    #[test]
    fn machines_renew_what_lives_for_hours() {
        let hours = Certificate { not_after: 100 * DAY + 3600, ..certificate(100, 101) };
        assert_eq!(looked(expiring, &facts(hours), &Detect::default(), 100 * DAY + 60), None);
        assert!(looked(expiring, &facts(certificate(100, 101)), &Detect::default(), 100 * DAY).is_some());
    }

    #[test]
    fn names_and_signers() {
        let settings = Detect::default();
        let of = |certificate| looked(not_the_one, &facts(certificate), &settings, 0);
        assert_eq!(of(certificate(1, 2)), None);
        let other = Certificate { alternative_names: vec!["DNS:other.example".into()], ..certificate(1, 2) };
        let (severity, what) = of(other).expect("found");
        assert_eq!(severity, Severity::High);
        assert_eq!(
            what,
            "asked for `api.example.org`, and the server showed a certificate of `other.example`"
        );
        let own = Certificate { self_signed: true, ..certificate(1, 2) };
        assert_eq!(of(own).expect("found").0, Severity::Medium);
    }

    #[test]
    fn loopback_may_sign_for_itself() {
        let facts = facts(Certificate { self_signed: true, ..certificate(1, 2) });
        let settings = Detect::default();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let sight = Sight { facts: &facts, reach: Reach::Loopback, settings: &settings, breaches: &[], now };
        assert_eq!(not_the_one(&sight), None);
    }
}
