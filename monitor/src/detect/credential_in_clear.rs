//! `credential-in-clear`: a password, token or key crossed a stream that anybody on the way can read.
//!
//! What is told is the kind, the place and a keyed fingerprint, by which two secrets are told apart;
//! the key is drawn when the daemon starts and never leaves it. Of a JSON Web Token, what it says of
//! itself is told, and judged: one without signature, one that is expired or lives for a year, one that
//! may do everything.
//!
//! False positives: values that only look like a key (a shape by chance: less than one in 2^60; an
//! example from a manual does so by design), fields named `token` that are none. Within the host
//! nothing is told unless `alerts.loopback` says so, as for `plaintext`.

use std::sync::Arc;

use dissect::activity::{Before, Credential, Token};

use super::{Finding, ends, plaintext};
use crate::model::{Answer, FlowView, Reach, Rule, Severity};

/// A token that lives for longer is a finding, seconds.
const LONG: i64 = 180 * 86_400;

/// Judges one credential at a time of the wall clock, in seconds.
pub fn credential_in_clear(
    flow: &Arc<FlowView>,
    subject: &str,
    credential: &Credential,
    now_s: i64,
    loopback: bool,
) -> Option<Finding> {
    let encrypts = match credential.before {
        None => flow.verdict.encrypted.answer == Answer::Yes,
        // The answer is about what came after it.
        Some(_) => flow.tunnel.is_some(),
    };
    if encrypts {
        // What it goes through encrypts it.
        return None;
    }
    let (severity, whereto) = match plaintext::far(flow) {
        Reach::Loopback if !loopback => return None,
        Reach::Loopback => (Severity::Low, "within this host"),
        Reach::Private => (Severity::High, "over the private network"),
        Reach::Public => (Severity::Critical, "over a public network"),
    };
    let (client, server) = ends(flow);
    let kind = credential.kind;
    let mut reason = format!(
        "{} crosses from {client} to {server} in the clear, {whereto}: {} (fingerprint {:016x})",
        kind.describe(),
        credential.place,
        credential.fingerprint
    );
    reason += match credential.before {
        None => "",
        Some(Before::Tunnel) => ", for the proxy, before its tunnel",
        Some(Before::Upgrade) => ", before the connection went on in another protocol",
    };
    if let Some(token) = &credential.token {
        reason += &judge(token, now_s);
    }
    Some(Finding {
        rule: Rule::CredentialInClear,
        subject: format!("{subject} {}", kind.as_str()),
        severity,
        reason,
        remedy: "Carry it over TLS, and replace the secret: whoever was on the way has it.".to_owned(),
        flow: Some(flow.clone()),
        listener: None,
    })
}

/// What a token says of itself, and what is wrong with that.
fn judge(token: &Token, now_s: i64) -> String {
    let mut facts = Vec::new();
    match token.algorithm.as_deref() {
        Some(algorithm) if algorithm.eq_ignore_ascii_case("none") => {
            facts.push("it has no signature (alg none)".to_owned());
        }
        Some(algorithm) => facts.push(format!("algorithm {algorithm}")),
        None => {}
    }
    match (token.expires_at, token.issued_at) {
        (None, _) => facts.push("it never expires".to_owned()),
        (Some(expires), _) if expires < now_s => {
            facts.push(format!("it expired {} days ago", now_s.saturating_sub(expires) / 86_400));
        }
        (Some(expires), issued) => {
            let lifetime = expires.saturating_sub(issued.unwrap_or(now_s));
            let long = if lifetime > LONG { ", which is long" } else { "" };
            facts.push(format!("it is valid for {}{long}", span(lifetime)));
        }
    }
    if !token.audience.is_empty() {
        facts.push(format!("audience {}", token.audience.join(" ")));
    }
    if !token.scopes.is_empty() {
        facts.push(format!("scopes {}", token.scopes.join(" ")));
    }
    const EVERYTHING: [&str; 6] = ["*", "all", "admin", "root", "full_access", "*:*"];
    if token.scopes.iter().any(|scope| EVERYTHING.contains(&scope.to_ascii_lowercase().as_str())) {
        facts.push("it may do everything".to_owned());
    }
    format!("; {}", facts.join(", "))
}

fn span(seconds: i64) -> String {
    match seconds {
        0..3600 => format!("{} minutes", seconds / 60),
        3600..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples;
    use dissect::activity::CredentialKind;

    fn credential(token: Option<Token>) -> Credential {
        let kind = if token.is_some() { CredentialKind::JsonWebToken } else { CredentialKind::Password };
        Credential {
            kind,
            place: "HTTP Authorization header (Basic)",
            fingerprint: 0xabc,
            token,
            before: None,
        }
    }

    #[test]
    fn the_finding_says_what_and_where() {
        let flow = Arc::new(samples::flow());
        let found = credential_in_clear(&flow, "s", &credential(None), 0, true).expect("a finding");
        assert_eq!(found.key(), "credential-in-clear|s password");
        assert!(found.reason.contains("0000000000000abc"), "{}", found.reason);
    }

    #[test]
    fn what_went_before_is_in_the_clear_unless_all_goes_through_a_tunnel_that_encrypts() {
        use crate::model::{Tunnel, TunnelKind};
        let mut view = samples::flow();
        Arc::make_mut(&mut view.verdict).encrypted.answer = Answer::Yes;
        let before = |before| Credential { before, ..credential(None) };
        let found = |view: &FlowView, it| credential_in_clear(&Arc::new(view.clone()), "s", &it, 0, true);
        assert!(found(&view, before(None)).is_none());
        for (it, words) in [(Before::Tunnel, "before its tunnel"), (Before::Upgrade, "before the connection")]
        {
            let reason = found(&view, before(Some(it))).map(|found| found.reason).unwrap_or_default();
            assert!(reason.contains(words), "{reason}");
        }
        let tunnel = Tunnel {
            kind: TunnelKind::Wireguard,
            name: "wg0".into(),
            evidence: "the route".into(),
            interface: None,
        };
        view.tunnel = Some(Arc::new(tunnel));
        assert!(found(&view, before(Some(Before::Tunnel))).is_none());
    }

    #[test]
    fn within_the_host_it_is_told_on_request() {
        let mut view = samples::flow();
        view.local = "127.0.0.1:4000".parse().expect("address");
        view.remote = "127.0.0.1:80".parse().expect("address");
        let flow = Arc::new(view);
        assert!(credential_in_clear(&flow, "s", &credential(None), 0, false).is_none());
        assert!(credential_in_clear(&flow, "s", &credential(None), 0, true).is_some());
    }

    #[test]
    fn tokens_are_judged_by_what_they_say() {
        let token = Token {
            algorithm: Some("none".into()),
            expires_at: Some(400 * 86_400),
            issued_at: Some(0),
            scopes: vec!["*".into()],
            audience: vec!["payments".into()],
        };
        let text = judge(&token, 86_400);
        for part in
            ["alg none", "valid for 400 days, which is long", "audience payments", "may do everything"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(judge(&token, 401 * 86_400).contains("expired 1 days ago"));
        let ever = Token { expires_at: Some(i64::MIN), ..Token::default() };
        assert!(judge(&ever, 86_400).contains("it expired"));
        let short = Token { expires_at: Some(600), issued_at: Some(0), ..Token::default() };
        assert_eq!(judge(&short, 0), "; it is valid for 10 minutes");
    }
}
