//! What a flow has for a moment only, or seldom: all of it in one box, and no box where there is nothing of it.

use std::sync::Arc;

use monitor_common::Owner;

use super::Evidence;
use crate::model::Tunnel;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Seldom(Option<Box<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    owner_seen: Option<Owner>,
    evidence: Option<Box<Evidence>>,
    routed_into: Option<Arc<Tunnel>>,
}

impl Seldom {
    pub fn owner_seen(&self) -> Option<&Owner> {
        self.0.as_ref()?.owner_seen.as_ref()
    }

    pub fn set_owner_seen(&mut self, owner: Option<Owner>) {
        self.change(owner.is_some(), |parts| parts.owner_seen = owner);
    }

    pub fn evidence(&self) -> Option<&Evidence> {
        self.0.as_ref()?.evidence.as_deref()
    }

    pub fn evidence_mut(&mut self) -> Option<&mut Evidence> {
        self.0.as_mut()?.evidence.as_deref_mut()
    }

    /// What there is, or what `new` makes.
    pub fn evidence_or(&mut self, new: impl FnOnce() -> Evidence) -> &mut Evidence {
        self.0.get_or_insert_default().evidence.get_or_insert_with(|| Box::new(new()))
    }

    pub fn take_evidence(&mut self) -> Option<Box<Evidence>> {
        self.change(false, |parts| parts.evidence.take()).flatten()
    }

    pub fn routed_into(&self) -> Option<&Arc<Tunnel>> {
        self.0.as_ref()?.routed_into.as_ref()
    }

    pub fn set_routed_into(&mut self, tunnel: Option<Arc<Tunnel>>) {
        self.change(tunnel.is_some(), |parts| parts.routed_into = tunnel);
    }

    /// Where something is added there is a box, and where nothing is left there is none.
    fn change<T>(&mut self, adds: bool, change: impl FnOnce(&mut Parts) -> T) -> Option<T> {
        let parts = if adds { self.0.get_or_insert_default() } else { self.0.as_mut()? };
        let result = change(parts);
        if parts.owner_seen.is_none() && parts.evidence.is_none() && parts.routed_into.is_none() {
            self.0 = None;
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Transport, TunnelKind};

    #[test]
    fn each_part_comes_and_goes_by_itself_and_the_box_with_the_last() {
        let mut seldom = Seldom::default();
        seldom.set_owner_seen(None);
        seldom.set_routed_into(None);
        assert!(seldom.take_evidence().is_none());
        assert!(seldom.0.is_none(), "nothing was put in");

        let (name, evidence) = ("wg0".to_owned(), "the route".to_owned());
        let tunnel = Arc::new(Tunnel { kind: TunnelKind::Wireguard, name, evidence, interface: None });
        seldom.evidence_or(|| Evidence::new(Transport::Udp, 1));
        seldom.set_owner_seen(Some(Owner { tgid: 7, ..Owner::default() }));
        seldom.set_routed_into(Some(tunnel.clone()));
        seldom.evidence_or(|| unreachable!("it is there"));
        assert!(seldom.evidence().is_some() && seldom.evidence_mut().is_some());

        assert!(seldom.take_evidence().is_some());
        assert!(seldom.evidence().is_none() && seldom.take_evidence().is_none());
        assert_eq!(seldom.owner_seen().map(|owner| owner.tgid), Some(7));
        seldom.set_owner_seen(None);
        assert!(seldom.owner_seen().is_none());
        assert_eq!(seldom.routed_into(), Some(&tunnel));
        seldom.set_routed_into(None);
        assert!(seldom.0.is_none(), "nothing is left");
    }
}
