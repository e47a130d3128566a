//! Selectors: what a policy says of one end of a flow.
//!
//! All given must hold; of a list, one. An answer has three values: an end that was looked for and
//! not found out may or may not be the one that is meant.

use std::fmt;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::end::{End, Field, Presence};
use super::pattern::Pattern;

/// Whether a selector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Held {
    No,
    /// It would depend on something that is not known.
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

/// A group that a selector names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupName {
    /// Its place among the groups of the policy.
    pub id: u32,
    pub name: Box<str>,
}

/// What is asked of one end; empty: not asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// Of each field, any of these.
    pub texts: Vec<(Field, Vec<Pattern>)>,
    /// Labels of the Kubernetes pod: all of these.
    pub labels: Vec<(Box<str>, Pattern)>,
    /// Any of these.
    pub address: Vec<IpNet>,
    /// Any of these.
    pub groups: Vec<GroupName>,
}

impl Selector {
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.labels.is_empty() && self.address.is_empty() && self.groups.is_empty()
    }

    /// The texts that it has for a field.
    pub fn texts_of(&self, field: Field) -> &[Pattern] {
        self.texts.iter().find(|(of, _)| *of == field).map_or(&[], |(_, patterns)| patterns)
    }

    pub fn holds(&self, end: &End<'_>) -> Held {
        if !self.address.is_empty() && !self.address.iter().any(|range| range.contains(&end.address)) {
            return Held::No;
        }
        let mut held = Held::Yes;
        for (field, patterns) in &self.texts {
            match text(*field, patterns, end) {
                Held::No => return Held::No,
                // A path in a mount namespace says which file that is where it is said whose namespace, too.
                Held::Yes
                    if *field == Field::Executable
                        && end.executable_is_elsewhere()
                        && !self.names_files() =>
                {
                    held = held.min(Held::Unknown);
                }
                other => held = held.min(other),
            }
        }
        if !self.labels.is_empty() {
            match self.holds_labels(end) {
                Held::No => return Held::No,
                other => held = held.min(other),
            }
        }
        if !self.groups.is_empty() {
            let member = self.groups.iter().map(|group| end.membership(group.id)).max();
            held = held.min(member.unwrap_or(Held::No));
        }
        held
    }

    /// Whether it says which files there are: those of an image or a container, or the content itself.
    fn names_files(&self) -> bool {
        [Field::Image, Field::Container, Field::Sha256].iter().any(|field| !self.texts_of(*field).is_empty())
    }

    /// As [`Selector::holds`], at a socket that serves on every address of the host.
    pub fn holds_anywhere(&self, end: &End<'_>) -> Held {
        if self.address.is_empty() {
            return self.holds(end);
        }
        Selector { address: Vec::new(), ..self.clone() }.holds(end)
    }

    fn holds_labels(&self, end: &End<'_>) -> Held {
        let Some(labels) = end.labels() else {
            return if end.may_have_labels() { Held::Unknown } else { Held::No };
        };
        let all = self
            .labels
            .iter()
            .all(|(key, wanted)| labels.get(&**key).is_some_and(|value| wanted.matches(value)));
        if all { Held::Yes } else { Held::No }
    }
}

fn text(field: Field, patterns: &[Pattern], end: &End<'_>) -> Held {
    let mut found = false;
    let presence = end.each(field, &mut |value| {
        found |= patterns.iter().any(|pattern| field.holds(pattern, value));
    });
    match (found, presence) {
        (true, _) => Held::Yes,
        (false, Presence::Unseen) if field == Field::User && end.knows_users(patterns) => Held::No,
        (false, Presence::Unseen) => Held::Unknown,
        (false, Presence::Known) => Held::No,
    }
}

impl fmt::Display for Selector {
    /// `unit=payments.service address=10.0.0.0/8,fd00::/8`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        if !self.groups.is_empty() {
            let names: Vec<String> =
                self.groups.iter().map(|group| group.name.escape_debug().to_string()).collect();
            write!(out, "group={}", names.join(","))?;
            space = " ";
        }
        for (field, patterns) in &self.texts {
            let texts: Vec<String> = patterns.iter().map(Pattern::to_string).collect();
            write!(out, "{space}{}={}", field.key(), texts.join(","))?;
            space = " ";
        }
        for (key, value) in &self.labels {
            write!(out, "{space}labels.{}={value}", key.escape_debug())?;
            space = " ";
        }
        if !self.address.is_empty() {
            let ranges: Vec<String> = self.address.iter().map(IpNet::to_string).collect();
            write!(out, "{space}address={}", ranges.join(","))?;
        }
        Ok(())
    }
}
