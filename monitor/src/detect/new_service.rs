//! `new-service`: a listening socket that was not there before and is not in the policy.
//!
//! What listens when the monitor starts is the baseline. Loopback listeners are not alerted: they come
//! and go on every host. Ports that the kernel hands out (32768 and up) count as one service of their
//! program: an FTP server that opens another for each transfer is told once, and so is a back door.
//! False positives: a service that was stopped when the monitor started and is started later.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Finding;
use crate::model::{Answer, Identity, ListenerView, Reach, Rule, Severity, reach};

/// Ports from here on are handed out by the kernel (net.ipv4.ip_local_port_range).
const EPHEMERAL: u16 = 32_768;

/// Services remembered.
const KNOWN: usize = 65_536;

/// A socket that listens.
#[derive(Clone, Debug)]
pub struct Listener<'a> {
    pub address: SocketAddr,
    pub owner: &'a Identity,
    /// Whether the policy has it.
    pub covered: Answer,
}

/// What was served before: by whom, and where; on a port that was handed out, just by whom.
#[derive(Debug, Default)]
pub struct NewServices {
    known: HashSet<(String, Option<u16>)>,
}

fn key(listener: &Listener<'_>) -> (String, Option<u16>) {
    let port = listener.address.port();
    (listener.owner.label(), (port < EPHEMERAL).then_some(port))
}

impl NewServices {
    /// Part of the baseline.
    pub fn known(&mut self, listener: &Listener<'_>) {
        if self.known.len() < KNOWN {
            self.known.insert(key(listener));
        }
    }

    /// A socket began to listen.
    pub fn listening(&mut self, listener: &Listener<'_>) -> Option<Finding> {
        let port = listener.address.port();
        let unspecified = listener.address.ip().is_unspecified();
        if listener.covered == Answer::Yes
            || (!unspecified && reach(listener.address.ip()) == Reach::Loopback)
            || self.known.contains(&key(listener))
        {
            return None;
        }
        self.known(listener);
        let label = listener.owner.label();
        Some(Finding {
            rule: Rule::NewService,
            subject: format!("{label}:{port}/tcp"),
            severity: Severity::Low,
            reason: format!("{label} began to listen on {}", listener.address),
            remedy: "If it belongs there, add it to the policy; if not, stop it.".to_owned(),
            flow: None,
            listener: Some(Arc::new(ListenerView {
                address: listener.address,
                owner: listener.owner.clone(),
            })),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_and_loopback_stay_quiet() {
        let owner = Identity { name: Some("nginx".into()), ..Identity::default() };
        let at = |address: &str| Listener {
            address: address.parse().expect("address"),
            owner: &owner,
            covered: Answer::No,
        };
        let mut services = NewServices::default();
        services.known(&at("0.0.0.0:80"));
        assert!(services.listening(&at("0.0.0.0:80")).is_none());
        assert!(services.listening(&at("127.0.0.1:81")).is_none());
        assert!(services.listening(&at("0.0.0.0:8080")).is_some());
        assert!(services.listening(&at("0.0.0.0:8080")).is_none());
        assert!(services.listening(&at("0.0.0.0:81")).is_some(), "others reach it now");
    }

    #[test]
    fn ports_that_are_handed_out_are_one_service_of_their_program() {
        let (ftp, shell) = (Some("vsftpd".into()), Some("sh".into()));
        let [ftp, shell] = [ftp, shell].map(|name| Identity { name, ..Identity::default() });
        let mut services = NewServices::default();
        let mut listening = |owner, port| {
            let address = SocketAddr::from(([0, 0, 0, 0], port));
            services.listening(&Listener { address, owner, covered: Answer::Unknown }).is_some()
        };
        assert!(listening(&ftp, 40_000));
        assert!(!listening(&ftp, 40_001));
        assert!(listening(&shell, 44_444));
    }
}
