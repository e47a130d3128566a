//! Made-up flows, streams and alerts for the tests of what leaves the daemon.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use dissect::{
    Basis, Certificate, ClientCertificate, ClientCertificateState, EarlyData, End, Facts, Plain, Protection,
    Protocol, SshAuthentication, SshAuthenticationState, TlsAlert, TlsFacts, UnknownReason,
};
use jiff::Timestamp;

use super::Context;
use crate::model::*;

pub(crate) fn context() -> Context {
    Context { host_name: "web1".into(), host_id: "0f1e".into(), version: "0.1.0".into() }
}

pub(crate) fn at() -> Timestamp {
    "2026-01-02T03:04:05.5Z".parse().unwrap()
}

pub(crate) fn curl() -> Identity {
    Identity {
        pid: Some(4242),
        start_ticks: Some(99),
        name: Some("curl".into()),
        executable: Some("/usr/bin/curl".into()),
        command_line: Some("curl http://10.0.0.9/".into()),
        uid: Some(1000),
        user: Some("ada".into()),
        ..Identity::default()
    }
}

pub(crate) fn nginx() -> Identity {
    Identity {
        pid: Some(17),
        name: Some("nginx".into()),
        uid: Some(33),
        unit: Some("nginx.service".into()),
        container: Some(Container {
            id: "deadbeefdeadbeef".into(),
            runtime: "docker".into(),
            pod: Some("pod-7".into()),
        }),
        ..Identity::default()
    }
}

pub(crate) fn verdict(encrypted: Answer) -> Verdict {
    let reason = match encrypted {
        Answer::Yes => "TLS 1.3",
        Answer::No => "HTTP in the clear",
        Answer::Unknown => "no payload yet",
    };
    Verdict {
        encrypted: Judged::new(encrypted, reason).with_evidence("first bytes"),
        authenticated: Judged::new(Answer::Unknown, "not judged yet"),
        authorised: Judged::new(Answer::Unknown, "no policy covers the service"),
        watched: Judged::new(Answer::Yes, "every byte accounted for"),
    }
}

/// curl (ours) to 10.0.0.9:80, in the clear.
pub(crate) fn flow() -> FlowView {
    FlowView {
        id: "b007-1".into(),
        transport: Transport::Tcp,
        direction: Direction::Egress,
        state: FlowState::Closed,
        failure: None,
        local: "10.0.0.1:40000".parse().unwrap(),
        remote: "10.0.0.9:80".parse().unwrap(),
        netns: 5,
        owner: Arc::new(curl()),
        peer: None,
        sent: Count { bytes: 80, packets: 3 },
        received: Count { bytes: 1200, packets: 4 },
        opened_at: at(),
        closed_at: Some("2026-01-02T03:04:06.5Z".parse().unwrap()),
        duration_ns: 1_000_000_000,
        setup_ns: Some(250_000),
        handshake_ns: None,
        before_start: false,
        rtt_us: Some(180),
        retransmits: 1,
        facts: Arc::new(Facts {
            protocol: Some(Protocol::Http),
            protection: Protection::Plaintext(Plain::Protocol(Protocol::Http)),
            tls: None,
            ssh: None,
            upgrade: None,
            detail: Some("GET / to 10.0.0.9".into()),
        }),
        tunnel: None,
        verdict: Arc::new(verdict(Answer::No)),
    }
}

/// A container's nginx (ours) serving curl on the same host, TLS.
pub(crate) fn tls_flow() -> FlowView {
    FlowView {
        id: "b007-2".into(),
        direction: Direction::Ingress,
        state: FlowState::Open,
        local: "[fd00::9]:443".parse().unwrap(),
        remote: "[fd00::1]:50000".parse().unwrap(),
        owner: Arc::new(nginx()),
        peer: Some(Arc::new(curl())),
        closed_at: None,
        handshake_ns: Some(1_500_000),
        facts: Arc::new(Facts {
            protocol: Some(Protocol::Tls),
            protection: Protection::Encrypted(dissect::Cipher::Tls),
            tls: Some(TlsFacts {
                version: Some("1.3".into()),
                version_protocol: Some("tls".into()),
                cipher: Some("TLS_AES_256_GCM_SHA384".into()),
                group: Some("X25519MLKEM768".into()),
                server_name: Some("example.org".into()),
                alpn: None,
                alpn_offered: vec!["h2".into(), "http/1.1".into()],
                established: true,
                resumed: Some(false),
                ..TlsFacts::default()
            }),
            ssh: None,
            upgrade: None,
            detail: None,
        }),
        verdict: Arc::new(verdict(Answer::Yes)),
        ..flow()
    }
}

/// TLS 1.2 with certificates at both ends.
pub(crate) fn mutual_flow() -> FlowView {
    let certificate = |name: &str, alternative: &str, digest: &str| Certificate {
        subject: format!("CN={name}"),
        issuer: "CN=Test CA".into(),
        alternative_names: vec![alternative.into()],
        spiffe_id: alternative.strip_prefix("URI:").map(Into::into),
        serial: "0a1b".into(),
        sha256: digest.into(),
        key_sha256: digest.chars().rev().collect(),
        key_type: "EC P-256".into(),
        key_bits: 256,
        signature_algorithm: "ecdsa-with-SHA256".into(),
        not_before: 1_767_225_600,
        not_after: 1_798_761_600,
        ..Certificate::default()
    };
    FlowView {
        facts: Arc::new(Facts {
            protocol: Some(Protocol::Tls),
            protection: Protection::Encrypted(dissect::Cipher::Tls),
            tls: Some(TlsFacts {
                version: Some("1.2".into()),
                version_protocol: Some("tls".into()),
                cipher: Some("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".into()),
                group: Some("secp256r1".into()),
                server_name: Some("api.example.org".into()),
                version_offered: Some("1.3".into()),
                established: true,
                resumed: Some(false),
                signature: Some("ecdsa_secp256r1_sha256".into()),
                ja3: Some("771,4865".into()),
                ja3s: Some("771,4866".into()),
                ja4: Some("t13d".into()),
                ja4s: Some("t12".into()),
                server_certificates: vec![certificate("api", "DNS:api.example.org", "aa11")],
                client_certificates: vec![certificate("batch", "URI:spiffe://example.org/batch", "bb22")],
                client_certificate: ClientCertificate {
                    state: ClientCertificateState::Presented,
                    basis: Some(Basis::Seen),
                },
                ..TlsFacts::default()
            }),
            ..Facts::unknown(UnknownReason::Silent)
        }),
        ..tls_flow()
    }
}

/// A log-in with a key, after one that was turned down.
pub(crate) fn ssh_flow() -> FlowView {
    let mut facts = crate::posture::tests::ssh();
    if let Some(ssh) = &mut facts.ssh {
        ssh.authentication =
            SshAuthentication { state: SshAuthenticationState::Succeeded, failures: Some(1) };
    }
    FlowView { facts: Arc::new(facts), ..flow() }
}

pub(crate) fn stream() -> StreamView {
    StreamView {
        key: "curl → 10.0.0.9:80/tcp".into(),
        client: "curl".into(),
        server: "10.0.0.9".into(),
        server_address: "10.0.0.9:80".parse().unwrap(),
        client_address: "10.0.0.1".parse().unwrap(),
        transport: Transport::Tcp,
        direction: Direction::Egress,
        client_identity: Some(Arc::new(curl())),
        server_identity: None,
        protocol: Some("http".into()),
        flows: 3,
        open: 1,
        failed: 0,
        client_bytes: 240,
        server_bytes: 3_600_000,
        first_seen: at(),
        last_seen: at(),
        verdict: Arc::new(verdict(Answer::No)),
        facts: flow().facts,
        shown: crate::flows::Shown::default(),
    }
}

pub(crate) fn alert() -> AlertView {
    AlertView {
        key: "plaintext curl → 10.0.0.9:80/tcp".into(),
        rule: Rule::Plaintext,
        severity: Severity::High,
        state: AlertState::Opened,
        reason: "curl sends HTTP in the clear to 10.0.0.9:80".into(),
        remedy: "Use https.".into(),
        count: 1,
        first_seen: at(),
        last_seen: at(),
        cursor: 7,
        acknowledged: None,
        silenced: None,
        flow: Some(Arc::new(flow())),
        listener: None,
    }
}

pub(crate) fn loss() -> LossView {
    LossView {
        at: at(),
        rows: vec![LossRow {
            stage: "kernel".into(),
            kind: "capture".into(),
            offered: 10,
            delivered: 7,
            lost: 3,
            lost_bytes: 768,
        }],
    }
}

pub(crate) fn throttle() -> ThrottleView {
    let name = Some("noisy.service".into());
    ThrottleView { at: at(), begins: true, of: Shared::Flows, cgroup: 4711, name, since: at(), given_up: 17 }
}

pub(crate) fn records() -> Vec<Record> {
    vec![
        Record::Flow { flow: Arc::new(flow()), action: FlowAction::FlowClosed, at: at() },
        Record::Flow { flow: Arc::new(tls_flow()), action: FlowAction::FlowSettled, at: at() },
        Record::Alert { alert: Arc::new(alert()), at: at() },
        Record::Loss(loss()),
        Record::Throttle(throttle()),
    ]
}

/// The samples with every text field replaced.
pub(crate) fn hostile_records(text: &str) -> Vec<Record> {
    let some = || Some(text.to_owned());
    let identity = Arc::new(Identity {
        pid: Some(1),
        start_ticks: Some(1),
        name: some(),
        executable: some(),
        executable_elsewhere: true,
        executable_sha256: some(),
        command_line: some(),
        uid: Some(0),
        user: some(),
        unit: some(),
        container: Some(Container { id: text.into(), runtime: text.into(), pod: some() }),
        workload: None,
        missing: some(),
    });
    let certificate = Certificate {
        subject: text.into(),
        issuer: text.into(),
        alternative_names: vec![text.into(), format!("DNS:{text}")],
        spiffe_id: some(),
        serial: text.into(),
        sha256: text.into(),
        key_sha256: text.into(),
        key_type: text.into(),
        signature_algorithm: text.into(),
        issued_by_next: Some(true),
        ..Certificate::default()
    };
    let judged = || Judged::new(Answer::Unknown, text).with_evidence(text);
    let facts = Facts {
        protocol: None,
        protection: Protection::Plaintext(Plain::Readable),
        tls: Some(TlsFacts {
            version: some(),
            version_protocol: some(),
            cipher: some(),
            group: some(),
            server_name: some(),
            alpn: some(),
            alpn_offered: vec![text.into()],
            established: true,
            version_offered: some(),
            signature: some(),
            ja3: some(),
            ja3s: some(),
            ja4: some(),
            ja4s: some(),
            encrypted_client_hello: true,
            retried: true,
            renegotiated: true,
            early_data: Some(EarlyData::Rejected),
            post_quantum_offered: Some(true),
            alert: Some(TlsAlert { from: End::Client, description: some() }),
            server_certificates: vec![certificate.clone()],
            client_certificates: vec![certificate],
            ..TlsFacts::default()
        }),
        ssh: Some(dissect::SshFacts {
            client_version: some(),
            server_version: some(),
            key_exchange: some(),
            host_key: some(),
            client_cipher: some(),
            server_cipher: some(),
            client_mac: some(),
            server_mac: some(),
            ..dissect::SshFacts::default()
        }),
        upgrade: Some(dissect::Upgrade::Refused),
        detail: some(),
    };
    let flow = Arc::new(FlowView {
        id: text.into(),
        owner: identity.clone(),
        peer: Some(identity),
        facts: Arc::new(facts),
        verdict: Arc::new(Verdict {
            encrypted: judged(),
            authenticated: judged(),
            authorised: judged(),
            watched: judged(),
        }),
        ..flow()
    });
    let alert = AlertView {
        key: text.into(),
        reason: text.into(),
        remedy: text.into(),
        flow: Some(flow.clone()),
        listener: None,
        ..alert()
    };
    let row = LossRow { stage: text.into(), kind: text.into(), ..loss().rows[0].clone() };
    vec![
        Record::Flow { flow, action: FlowAction::FlowClosed, at: at() },
        Record::Alert { alert: Arc::new(alert), at: at() },
        Record::Loss(LossView { at: at(), rows: vec![row] }),
        Record::Throttle(ThrottleView { name: Some(text.into()), ..throttle() }),
        Record::Throttle(ThrottleView { name: Some(text.into()), begins: false, ..throttle() }),
    ]
}
