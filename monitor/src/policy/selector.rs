//! Selectors: what a policy says of one end of a flow.
//!
//! All given must hold. An answer has three values: an end that was looked for and not found out
//! may or may not be the one that is meant.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::model::{Container, Identity};

/// Whether a selector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    No,
    /// It would depend on something that is missing of the identity.
    Unknown,
    Yes,
}

/// Ports of a service; empty: any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(pub Vec<RangeInclusive<u16>>);

impl Ports {
    /// Ports listed one by one in the index; wider sets are looked at for every flow.
    const MOST_LISTED: usize = 4096;

    /// Every port, each once; `None`: any port, or too many to list.
    pub fn listed(&self) -> Option<Vec<u16>> {
        let count: usize = self.0.iter().map(|range| range.len()).sum();
        if self.0.is_empty() || count > Self::MOST_LISTED {
            return None;
        }
        let mut ports: Vec<u16> = self.0.iter().cloned().flatten().collect();
        ports.sort_unstable();
        ports.dedup();
        Some(ports)
    }

    pub fn holds(&self, port: u16) -> bool {
        self.0.is_empty() || self.0.iter().any(|range| range.contains(&port))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return out.write_str("any port");
        }
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (start, end) if start == end => write!(out, "{comma}{start}")?,
                (start, end) => write!(out, "{comma}{start}-{end}")?,
            }
        }
        Ok(())
    }
}

/// What is asked of one end; `None` and empty: not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// `comm`.
    pub process: Option<String>,
    pub unit: Option<String>,
    /// Container id, or its first 12 or more characters; or a pod's uid.
    pub container: Option<String>,
    /// User name, or a number.
    pub user: Option<String>,
    pub executable: Option<String>,
    /// Any of these.
    pub address: Vec<IpNet>,
}

impl Selector {
    pub fn is_empty(&self) -> bool {
        *self == Selector::default()
    }

    /// Whether it asks who the process is, not only where it is.
    pub fn asks_identity(&self) -> bool {
        self.process.is_some()
            || self.unit.is_some()
            || self.container.is_some()
            || self.user.is_some()
            || self.executable.is_some()
    }

    /// `identity`: `None` when that end is on another host: then nothing about a process holds.
    pub fn holds(&self, identity: Option<&Identity>, address: IpAddr) -> Held {
        let address = address.to_canonical();
        if !self.address.is_empty() && !self.address.iter().any(|range| range.contains(&address)) {
            return Held::No;
        }
        if !self.asks_identity() {
            return Held::Yes;
        }
        let Some(identity) = identity else { return Held::No };
        let text = |wanted: &Option<String>, is: Option<&str>| match (wanted, is) {
            (None, _) => Held::Yes,
            (Some(wanted), Some(is)) if wanted == is => Held::Yes,
            (Some(_), Some(_)) => Held::No,
            (Some(_), None) if identity.missing.is_some() => Held::Unknown,
            (Some(_), None) => Held::No,
        };
        // A replaced binary still runs: after a package upgrade the kernel shows it so.
        let executable =
            identity.executable.as_deref().map(|path| path.strip_suffix(" (deleted)").unwrap_or(path));
        [
            text(&self.process, identity.name.as_deref()),
            text(&self.unit, identity.unit.as_deref()),
            text(&self.executable, executable),
            self.holds_user(identity),
            self.holds_container(identity),
        ]
        .into_iter()
        .min()
        .unwrap_or(Held::Yes)
    }

    fn holds_user(&self, identity: &Identity) -> Held {
        let Some(wanted) = &self.user else { return Held::Yes };
        if let Some(uid) = identity.uid
            && wanted.parse() == Ok(uid)
        {
            return Held::Yes;
        }
        match &identity.user {
            Some(user) if user == wanted => Held::Yes,
            Some(_) => Held::No,
            None if identity.uid.is_none() && identity.missing.is_some() => Held::Unknown,
            None => Held::No,
        }
    }

    fn holds_container(&self, identity: &Identity) -> Held {
        let Some(wanted) = &self.container else { return Held::Yes };
        match &identity.container {
            Some(Container { id, pod, .. }) => {
                let short = wanted.len() >= 12 && id.starts_with(wanted.as_str());
                if id == wanted || short || pod.as_deref() == Some(wanted) { Held::Yes } else { Held::No }
            }
            None if identity.missing.is_some() => Held::Unknown,
            None => Held::No,
        }
    }
}

impl fmt::Display for Selector {
    /// `unit=payments.service address=10.0.0.0/8,fd00::/8`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        let texts = [
            ("process", &self.process),
            ("unit", &self.unit),
            ("container", &self.container),
            ("user", &self.user),
            ("executable", &self.executable),
        ];
        for (key, value) in texts {
            if let Some(value) = value {
                write!(out, "{space}{key}={}", value.escape_debug())?;
                space = " ";
            }
        }
        if !self.address.is_empty() {
            let ranges: Vec<String> = self.address.iter().map(IpNet::to_string).collect();
            write!(out, "{space}address={}", ranges.join(","))?;
        }
        Ok(())
    }
}
