//! `policy export`: the same policy for those who enforce elsewhere.
//!
//! Only what the other side can say exactly is said. A condition that it has no word for is never
//! left out of a rule, which would allow more: the whole rule is, and it is listed.

mod istio;
mod network_policy;
mod yaml;

use serde_json::{Map, Value, json};

use super::Policy;
use super::end::Field;
use super::pattern::Pattern;
use super::selector::Selector;

/// Who is to enforce it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Kubernetes NetworkPolicy (networking.k8s.io/v1)
    Networkpolicy,
    /// Istio AuthorizationPolicy and PeerAuthentication (security.istio.io/v1)
    Istio,
}

/// Documents, and what could not be said in them.
#[derive(Clone, Debug, Default)]
pub struct Export {
    pub documents: Vec<Value>,
    /// One line each.
    pub left_out: Vec<String>,
}

impl Export {
    pub fn new(policy: &Policy, format: Format) -> Export {
        let mut export = match format {
            Format::Networkpolicy => network_policy::export(policy),
            Format::Istio => istio::export(policy),
        };
        for service in &policy.services {
            if let Some(require) = &service.require {
                let what = format!("service {:?}: that its streams must be {require}", service.name);
                export.left_out.push(what);
            }
        }
        export
    }

    /// YAML: what was left out as comments, then the documents.
    pub fn to_yaml(&self) -> String {
        let mut text = String::from("# Made by `streamwatch policy export`.\n");
        for line in &self.left_out {
            text.push_str(&format!("# not expressed: {}\n", line.escape_debug()));
        }
        for document in &self.documents {
            text.push_str("---\n");
            yaml::write(&mut text, document);
        }
        text
    }
}

/// An object's name: RFC 1123, as Kubernetes wants it.
fn object_name(prefix: &str, name: &str, taken: &mut std::collections::BTreeSet<String>) -> String {
    const LONGEST: usize = 200;
    let mut made = String::from(prefix);
    for character in name.chars().take(LONGEST) {
        match character.to_ascii_lowercase() {
            good @ ('a'..='z' | '0'..='9') => made.push(good),
            _ if !made.ends_with('-') => made.push('-'),
            _ => {}
        }
    }
    let made = made.trim_matches('-').to_owned();
    let mut unique = if made.is_empty() { "unnamed".to_owned() } else { made.clone() };
    let mut number = 2;
    while !taken.insert(unique.clone()) {
        unique = format!("{made}-{number}");
        number += 1;
    }
    unique
}

/// What a selector asks that is none of these fields; for people.
fn beyond(selector: &Selector, known: &[Field]) -> Vec<String> {
    selector
        .texts
        .iter()
        .filter(|(field, _)| !known.contains(field))
        .map(|(field, _)| field.key().to_owned())
        .collect()
}

/// Exact texts; `None`: one has a wildcard.
fn exact(patterns: &[Pattern]) -> Option<Vec<&str>> {
    patterns
        .iter()
        .map(|pattern| match pattern {
            Pattern::Exact(text) => Some(&**text),
            Pattern::Glob { .. } => None,
        })
        .collect()
}

/// Labels as an object; `None`: one has a wildcard, is no label of Kubernetes, or is asked for with two values, which no pod
/// has.
fn labels(selector: &Selector) -> Option<Map<String, Value>> {
    let mut map = Map::new();
    for (key, value) in &selector.labels {
        let [value] = exact(std::slice::from_ref(value))?[..] else { return None };
        let fits = value.len() <= 63
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if !fits {
            return None;
        }
        let value = json!(value);
        if map.get(&**key).is_some_and(|other| *other != value) {
            return None;
        }
        map.insert(key.to_string(), value);
    }
    Some(map)
}

/// The selectors that a selector with groups stands for, each without.
fn ungrouped(policy: &Policy, selector: &Selector) -> Option<Vec<Selector>> {
    if selector.groups.is_empty() {
        return Some(vec![selector.clone()]);
    }
    let mut own = selector.clone();
    let groups = std::mem::take(&mut own.groups);
    let mut all = Vec::new();
    for group in groups {
        let members = policy.groups.get(group.id as usize)?.members.clone();
        for (member, _) in policy.members.get(members)? {
            all.push(both(&own, member)?);
        }
    }
    Some(all)
}

/// Both at once; `None`: they ask the same thing in two ways.
fn both(a: &Selector, b: &Selector) -> Option<Selector> {
    let mut both = a.clone();
    for (field, patterns) in &b.texts {
        if !both.texts_of(*field).is_empty() {
            return None;
        }
        both.texts.push((*field, patterns.clone()));
    }
    if !b.address.is_empty() {
        if !both.address.is_empty() {
            return None;
        }
        both.address.clone_from(&b.address);
    }
    both.labels.extend(b.labels.iter().cloned());
    Some(both)
}
