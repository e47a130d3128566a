//! `auth-failures`: one client whose log-ins at one service keep failing, by the service's own answers.
//!
//! A refusal of a client that presented nothing (the first half of many log-ins) counts by itself, and
//! a log-in that succeeds takes those back. A log-in that succeeds after as many real failures as make
//! an alert is told at once: the guess may have worked. It does not take the failures back, or an
//! account of one's own would hide the guessing at others. An HTTP 403 is told for itself: it says
//! nothing of a password. Keys that an SSH client offers before the right one are no failures; a
//! connection that ends without a log-in is as many as it tried.
//!
//! False positives: a service whose stored password is out of date and that tries again and again (a
//! failure all the same); clients behind one address or of one network of IPv6 (/64), and all programs of a
//! user, are one client here, so that one user's mistakes and another one's success can meet. Pages that answer 403 to
//! everybody, asked for five times a minute, are told at the lowest severity.

use std::collections::VecDeque;
use std::sync::Arc;

use dissect::activity::{Authentication, Outcome};
use dissect::{ClientCertificateState, End, Facts, SshAuthenticationState};

use super::watched::{Fill, Watched, party, source};
use super::{Finding, ends};
use crate::config;
use crate::model::{FlowView, Rule, Severity};

/// Streams watched at a time.
const WATCHED: usize = 16_384;

/// What each stream showed within the window.
#[derive(Debug)]
pub struct AuthFailures {
    threshold: usize,
    window_ns: u64,
    /// By the name of the stream, and by [`place`].
    streams: Watched<String, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// When log-ins failed, when nothing was presented, and when a client that was let in was forbidden
    /// something.
    failures: VecDeque<u64>,
    refusals: VecDeque<u64>,
    forbidden: VecDeque<u64>,
    last_ns: u64,
    /// What the alert is about: the stream that was seen first.
    subject: String,
}

/// Who logs in where, whatever process answers, and whatever the one that asks calls itself.
fn place(flow: &FlowView) -> String {
    format!("{} → {}", source(flow), flow.server())
}

impl AuthFailures {
    pub fn new(settings: &config::AuthFailures) -> Self {
        let window_ns = u64::from(settings.window_s) * 1_000_000_000;
        let streams = Watched::new(WATCHED, window_ns);
        AuthFailures { threshold: settings.threshold as usize, window_ns, streams }
    }

    pub fn fill(&self) -> Fill {
        self.streams.fill()
    }

    /// A service answered a log-in.
    pub fn answered(
        &mut self,
        flow: &Arc<FlowView>,
        subject: &str,
        answer: &Authentication,
        now_ns: u64,
    ) -> Option<Finding> {
        // A service may answer by another process each time, and whoever guesses may call itself something else: where
        // both are is looked at as well.
        let at = |whom: String| match &answer.at {
            Some(far_end) => format!("{whom} → {far_end}"),
            None => whom,
        };
        let (place, subject) = (at(place(flow)), &*at(subject.to_owned()));
        let by_name = self.count(flow, subject, subject, answer, now_ns);
        let by_place = self.count(flow, &place, subject, answer, now_ns);
        let found = if by_place > by_name { by_place } else { by_name };
        let (count, severity) = found.filter(|(count, _)| *count >= self.threshold)?;
        // One alert, whatever the process is called that answers now.
        let subject = self.streams.get(&place, now_ns).map_or(subject, |seen| seen.subject.as_str());
        Some(self.finding(flow, subject, answer, (severity, count)))
    }

    /// Counts an answer under a key: how many there are of its kind within the window.
    fn count(
        &mut self,
        flow: &FlowView,
        key: &str,
        subject: &str,
        answer: &Authentication,
        now_ns: u64,
    ) -> Option<(usize, Severity)> {
        let (threshold, window_ns) = (self.threshold, self.window_ns);
        let key = key.to_owned();
        if answer.outcome == Outcome::Succeeded && self.streams.get(&key, now_ns).is_none() {
            return None;
        }
        let seen = self.streams.add(key, || party(flow), now_ns);
        if seen.subject.is_empty() || now_ns.saturating_sub(seen.last_ns) > window_ns {
            subject.clone_into(&mut seen.subject);
        }
        seen.last_ns = now_ns;
        for times in [&mut seen.failures, &mut seen.refusals, &mut seen.forbidden] {
            while times.front().is_some_and(|first| now_ns.saturating_sub(*first) > window_ns) {
                times.pop_front();
            }
        }
        if answer.outcome == Outcome::Succeeded {
            seen.refusals.clear();
            return Some((seen.failures.len(), Severity::Critical));
        }
        let (times, severity) = match (is_forbidden(&answer.code), answer.presented) {
            (true, true) => (&mut seen.forbidden, Severity::Medium),
            (true, false) => (&mut seen.forbidden, Severity::Low),
            (_, true) => (&mut seen.failures, Severity::High),
            (_, false) => (&mut seen.refusals, Severity::Low),
        };
        times.push_back(now_ns);
        // Enough to say how many, and no more than a guesser may make us hold.
        if times.len() > 16 * threshold {
            times.pop_front();
        }
        Some((times.len(), severity))
    }

    /// The log-ins of a flow are hidden, and show by their lengths and their order (SSH; once it succeeded, or
    /// is over), or by the alert that refused a certificate (TLS).
    pub fn hidden(&mut self, flow: &Arc<FlowView>, subject: &str, now_ns: u64) -> Option<Finding> {
        let mut last = None;
        for answer in hidden(&flow.facts) {
            last = self.answered(flow, subject, &answer, now_ns).or(last);
        }
        last
    }

    fn finding(
        &self,
        flow: &Arc<FlowView>,
        subject: &str,
        answer: &Authentication,
        (severity, count): (Severity, usize),
    ) -> Finding {
        let (client, server) = ends(flow);
        let server = match &answer.at {
            Some(far_end) => format!("{far_end}, through {server}"),
            None => server,
        };
        let within = format!("within {} s", self.window_ns / 1_000_000_000);
        let code = &answer.code;
        let (reason, remedy) = match (answer.outcome, answer.presented) {
            (Outcome::Succeeded, _) => (
                format!(
                    "{client} logged in at {server} ({code}) after {count} failures {within}: the guess worked"
                ),
                "Find out whether this was the user: change the password, and look at what was done since.",
            ),
            (Outcome::Failed, _) if is_forbidden(code) => (
                format!("{client} is forbidden what it asks of {server}: {count} times {within} ({code})"),
                "Give it the right that it needs, or find out what it looks for.",
            ),
            (Outcome::Failed, true) => (
                format!("{client} fails to log in at {server}: {count} times {within} ({code})"),
                "If it is a client with an old password, give it the new one; if not, block it and look for a success.",
            ),
            (Outcome::Failed, false) => (
                format!(
                    "{client} is turned away by {server}: {count} times {within} ({code}), presenting nothing"
                ),
                "Give the client what it needs to log in, or stop it.",
            ),
        };
        Finding {
            rule: Rule::AuthFailures,
            subject: subject.to_owned(),
            severity,
            reason,
            remedy: remedy.to_owned(),
            flow: Some(flow.clone()),
            listener: None,
        }
    }
}

/// Log-ins that the facts of a flow tell of.
fn hidden(facts: &Facts) -> Vec<Authentication> {
    let answer = |outcome, code: String| Authentication { outcome, code, presented: true, at: None };
    if let Some(ssh) = &facts.ssh {
        let state = ssh.authentication.state;
        let least = u32::from(state == SshAuthenticationState::Failed);
        if state == SshAuthenticationState::Succeeded {
            return vec![answer(Outcome::Succeeded, "SSH, by the pattern of its packets".into())];
        }
        // A server lets a client try six times, as a rule. Attempts of a connection that goes on may
        // still be followed by the right key.
        let failures = match state {
            SshAuthenticationState::Failed => ssh.authentication.failures.unwrap_or(0).clamp(least, 6),
            _ => 0,
        };
        return vec![answer(Outcome::Failed, "SSH, by the pattern of its packets".into()); failures as usize];
    }
    // RFC 8446 section 6.2: what a server says of the client's certificate.
    const REFUSALS: [&str; 9] = [
        "bad_certificate",
        "unsupported_certificate",
        "certificate_revoked",
        "certificate_expired",
        "certificate_unknown",
        "unknown_ca",
        "access_denied",
        "certificate_required",
        "unknown_psk_identity",
    ];
    if let Some(tls) = &facts.tls
        && let Some(alert) = &tls.alert
        && alert.from == End::Server
    {
        let certificate = tls.client_certificate;
        let code = match &alert.description {
            Some(description) if REFUSALS.contains(&description.as_str()) => {
                format!("TLS alert {description}")
            }
            // It was asked for a certificate, had none, and was shown out: TLS 1.2 has no word of its own
            // for that, and that of TLS 1.3 is encrypted.
            Some(description) if certificate.state == ClientCertificateState::Refused => {
                format!("TLS alert {description}, without a certificate")
            }
            None if certificate.state == ClientCertificateState::Refused => {
                "TLS alert, encrypted, without a certificate (inferred)".to_owned()
            }
            _ => return Vec::new(),
        };
        let presented = certificate.state != ClientCertificateState::Refused;
        return vec![Authentication { outcome: Outcome::Failed, code, presented, at: None }];
    }
    Vec::new()
}

/// The credentials were understood, or matter not: RFC 9110 section 15.5.4, and the status codes of gRPC.
fn is_forbidden(code: &str) -> bool {
    code == "HTTP 403" || code.starts_with("gRPC 7 ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Direction, Identity};
    use crate::record::samples;
    use dissect::{SshAuthentication, SshFacts};

    const SECOND: u64 = 1_000_000_000;

    fn answer(outcome: Outcome, presented: bool) -> Authentication {
        Authentication { outcome, code: "HTTP 401".into(), presented, at: None }
    }

    fn detector() -> AuthFailures {
        AuthFailures::new(&config::AuthFailures { threshold: 5, window_s: 60 })
    }

    #[test]
    fn five_failures_within_a_minute_and_not_four() {
        let (flow, failed) = (Arc::new(samples::flow()), answer(Outcome::Failed, true));
        let mut detector = detector();
        for second in [0, 1, 2, 3, 62] {
            assert!(detector.answered(&flow, "a", &failed, second * SECOND).is_none(), "{second}");
        }
        let elsewhere = FlowView { remote: "10.9.9.9:1".parse().expect("an address"), ..samples::flow() };
        assert!(detector.answered(&Arc::new(elsewhere), "b", &failed, 62 * SECOND).is_none());
        assert!(detector.answered(&flow, "a", &failed, 62 * SECOND).is_none());
        let found = detector.answered(&flow, "a", &failed, 62 * SECOND).expect("a finding");
        assert_eq!(found.severity, Severity::High);
        assert!(found.reason.contains("5 times"), "{}", found.reason);
    }

    #[test]
    fn a_service_that_answers_by_other_processes_is_one() {
        let (flow, failed) = (Arc::new(samples::flow()), answer(Outcome::Failed, true));
        let mut detector = detector();
        for subject in ["a", "b", "c", "b"] {
            assert!(detector.answered(&flow, subject, &failed, 0).is_none());
        }
        let found = detector.answered(&flow, "d", &failed, SECOND).expect("a finding");
        assert_eq!(found.subject, "a");
        let found = detector.answered(&flow, "e", &answer(Outcome::Succeeded, true), SECOND);
        assert_eq!(found.map(|found| found.subject), Some("a".to_owned()));
    }

    /// Who guesses at one does not guess at the other.
    #[test]
    fn log_ins_through_a_proxy_are_those_at_whom_they_were_said_to() {
        let flow = Arc::new(samples::flow());
        let at = |at: Option<&str>, outcome| {
            let at = at.map(str::to_owned);
            Authentication { at, ..answer(outcome, true) }
        };
        let mut detector = detector();
        for whom in [None, Some("a.example:3128"), Some("b.example:3128")] {
            for _ in 0..4 {
                assert!(detector.answered(&flow, "a", &at(whom, Outcome::Failed), 0).is_none());
            }
        }
        let found = detector.answered(&flow, "a", &at(Some("b.example:3128"), Outcome::Failed), 0);
        let found = found.expect("a finding");
        assert_eq!(found.subject, "a → b.example:3128");
        assert!(found.reason.contains("log in at b.example:3128, through "), "{}", found.reason);
        // The proxy that lets it in is not the one that it guessed at.
        assert!(detector.answered(&flow, "a", &at(None, Outcome::Succeeded), 0).is_none());
        let found = detector.answered(&flow, "a", &at(Some("b.example:3128"), Outcome::Succeeded), 0);
        assert_eq!(found.map(|found| found.severity), Some(Severity::Critical));
    }

    /// A process of a user gives itself a name; a customer somewhere else, an address.
    #[test]
    fn whoever_comes_by_another_name_each_time_is_one() {
        let failed = answer(Outcome::Failed, true);
        let local = |n: usize| {
            let mut flow = samples::flow();
            flow.direction = Direction::Egress;
            let name = Some(format!("a{n}"));
            flow.owner = Arc::new(Identity { name, uid: Some(1001), ..Identity::default() });
            flow
        };
        let remote = |n: usize| {
            let mut flow = samples::flow();
            (flow.direction, flow.peer) = (Direction::Ingress, None);
            flow.remote = format!("[2001:db8:1:2::{n}]:4000{n}").parse().expect("an address");
            flow
        };
        for who in [&local as &dyn Fn(usize) -> FlowView, &remote] {
            let mut detector = detector();
            for n in 0..4 {
                let name = format!("a{n}");
                assert!(detector.answered(&Arc::new(who(n)), &name, &failed, 0).is_none());
            }
            let found = detector.answered(&Arc::new(who(4)), "a4", &failed, 0).expect("a finding");
            assert_eq!(found.subject, "a0");
        }
    }

    #[test]
    fn a_success_after_failures_says_that_the_guess_worked() {
        let flow = Arc::new(samples::flow());
        let mut detector = detector();
        assert!(detector.answered(&flow, "a", &answer(Outcome::Succeeded, true), 0).is_none());
        for _ in 0..5 {
            detector.answered(&flow, "a", &answer(Outcome::Failed, true), SECOND);
        }
        let found = detector.answered(&flow, "a", &answer(Outcome::Succeeded, true), 2 * SECOND);
        let found = found.expect("a finding");
        assert_eq!(found.severity, Severity::Critical);
        assert!(found.reason.contains("the guess worked"), "{}", found.reason);
    }

    #[test]
    fn challenges_before_log_ins_are_no_failures() {
        let flow = Arc::new(samples::flow());
        let mut detector = detector();
        for second in 0..50 {
            let challenge = answer(Outcome::Failed, false);
            assert!(detector.answered(&flow, "a", &challenge, second * SECOND).is_none());
            assert!(
                detector.answered(&flow, "a", &answer(Outcome::Succeeded, true), second * SECOND).is_none()
            );
        }
    }

    #[test]
    fn what_is_forbidden_says_nothing_of_a_password() {
        let flow = Arc::new(samples::flow());
        let mut detector = detector();
        let forbidden = Authentication { code: "HTTP 403".into(), ..answer(Outcome::Failed, true) };
        let denied =
            Authentication { code: "gRPC 7 (PERMISSION_DENIED)".into(), ..answer(Outcome::Failed, true) };
        for answer in [&forbidden, &denied, &forbidden, &denied] {
            assert!(detector.answered(&flow, "a", answer, 0).is_none());
        }
        let found = detector.answered(&flow, "a", &forbidden, SECOND).expect("a finding");
        assert_eq!(found.severity, Severity::Medium);
        assert!(detector.answered(&flow, "a", &answer(Outcome::Succeeded, true), SECOND).is_none());
    }

    #[test]
    fn certificates_that_are_refused_count() {
        use dissect::{Basis, ClientCertificate, TlsAlert, TlsFacts};
        let said = |description: Option<&str>, state, from| {
            let alert = TlsAlert { from, description: description.map(str::to_owned) };
            let client_certificate = ClientCertificate { state, basis: Some(Basis::Seen) };
            let tls = TlsFacts { alert: Some(alert), client_certificate, ..TlsFacts::default() };
            let facts = Facts { tls: Some(tls), ssh: None, ..(*samples::flow().facts).clone() };
            hidden(&facts).first().map(|answer| (answer.code.clone(), answer.presented))
        };
        use ClientCertificateState::{Presented, Refused, Unknown};
        let told = |code: &str, presented| Some((code.to_owned(), presented));
        assert_eq!(said(Some("unknown_ca"), Unknown, End::Server), told("TLS alert unknown_ca", true));
        assert_eq!(
            said(Some("handshake_failure"), Refused, End::Server),
            told("TLS alert handshake_failure, without a certificate", false)
        );
        assert_eq!(
            said(None, Refused, End::Server),
            told("TLS alert, encrypted, without a certificate (inferred)", false)
        );
        // It could be about anything.
        assert_eq!(said(None, Unknown, End::Server), None);
        assert_eq!(said(Some("handshake_failure"), Presented, End::Server), None);
        // About the server's.
        assert_eq!(said(Some("unknown_ca"), Unknown, End::Client), None);
    }

    #[test]
    fn ssh_counts_by_its_pattern() {
        let mut view = samples::flow();
        let authentication = SshAuthentication { state: SshAuthenticationState::Failed, failures: Some(3) };
        let facts =
            Facts { ssh: Some(SshFacts { authentication, ..SshFacts::default() }), ..(*view.facts).clone() };
        view.facts = Arc::new(facts);
        let (flow, mut detector) = (Arc::new(view), detector());
        assert!(detector.hidden(&flow, "a", 0).is_none());
        assert!(detector.hidden(&flow, "a", SECOND).is_some());
    }
}
