//! Istio: AuthorizationPolicy (who, from where, to which port, path and method) and
//! PeerAuthentication (mutual TLS, without which there is no "who").
//!
//! Source: the references of `security.istio.io/v1` AuthorizationPolicy and PeerAuthentication.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Export, beyond, exact, labels, object_name, ungrouped};
use crate::model::Transport;
use crate::policy::end::Field;
use crate::policy::objects::Kind;
use crate::policy::operation::Grant;
use crate::policy::pattern::Pattern;
use crate::policy::selector::Selector;
use crate::policy::{Policy, Service};

pub(super) fn export(policy: &Policy) -> Export {
    let mut export = Export::default();
    let mut taken = BTreeSet::new();
    for service in &policy.services {
        let name = format!("service {:?}", service.name);
        if service.transport == Some(Transport::Udp) {
            export.left_out.push(format!("{name}: Istio does not see UDP"));
            continue;
        }
        let place = match place(policy, service) {
            Ok(place) => place,
            Err(why) => {
                export.left_out.push(format!("{name}: {why}"));
                continue;
            }
        };
        let ports = match ports(service) {
            Ok(ports) => ports,
            Err(why) => {
                export.left_out.push(format!("{name}: {why}"));
                continue;
            }
        };
        let mut rules = Vec::new();
        let mut mutual = false;
        for client in &service.clients {
            match sources(policy, &client.selector) {
                Err(why) => export.left_out.push(format!("{name}: client {}: {why}", client.text)),
                Ok((from, known)) => {
                    let to = operations(&ports, client.grants.as_deref());
                    match to {
                        Err(why) => {
                            export.left_out.push(format!("{name}: client {}: {why}", client.with_grants()));
                        }
                        Ok(to) => {
                            mutual |= known;
                            let mut rule = json!({ "from": from });
                            if !to.is_empty() {
                                rule["to"] = json!(to);
                            }
                            let names = service.server.texts_of(Field::Sni);
                            if !names.is_empty() {
                                let values: Vec<&str> = names.iter().map(Pattern::as_str).collect();
                                rule["when"] = json!([{ "key": "connection.sni", "values": values }]);
                            }
                            rules.push(rule);
                        }
                    }
                }
            }
        }
        let (namespace, labels) = place;
        // Two kinds may share a name.
        let metadata = json!({
            "name": object_name("", &service.name, &mut taken),
            "namespace": namespace,
            "annotations": { "streamwatch/policy": &*service.name },
        });
        // An ALLOW policy without a rule allows nobody, as the service without clients does.
        export.documents.push(json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": metadata,
            "spec": { "selector": { "matchLabels": labels }, "action": "ALLOW", "rules": rules },
        }));
        if mutual {
            export.documents.push(json!({
                "apiVersion": "security.istio.io/v1",
                "kind": "PeerAuthentication",
                "metadata": metadata,
                "spec": { "selector": { "matchLabels": labels }, "mtls": { "mode": "STRICT" } },
            }));
        }
    }
    for egress in &policy.egress {
        let what = "Istio has no rule for what a client may connect to; use a Sidecar and an egress gateway";
        export.left_out.push(format!("client {:?}: {what}", egress.name));
    }
    export
}

/// Namespace and labels of the workload.
fn place(policy: &Policy, service: &Service) -> Result<(String, Map<String, Value>), String> {
    let selectors = ungrouped(policy, &service.server).unwrap_or_default();
    let [selector] = &selectors[..] else {
        return Err("it is several selectors, and an AuthorizationPolicy has one".to_owned());
    };
    let other = beyond(selector, &[Field::Namespace, Field::Sni]);
    if !other.is_empty() {
        return Err(format!("Istio selects a workload by namespace and labels, not by {}", other.join(", ")));
    }
    let labels = labels(selector).ok_or("a label with a wildcard, or that is none of Kubernetes")?;
    let namespaces = exact(selector.texts_of(Field::Namespace)).unwrap_or_default();
    match namespaces[..] {
        [namespace] if !labels.is_empty() && selector.address.is_empty() => {
            Ok((namespace.to_owned(), labels))
        }
        _ => Err("it is not selected by one namespace and labels".to_owned()),
    }
}

fn ports(service: &Service) -> Result<Vec<String>, String> {
    const MOST: u16 = 64;
    let mut ports = Vec::new();
    for range in &service.ports.0 {
        if range.end() - range.start() >= MOST {
            return Err(format!("ports {}-{}: Istio has no ranges", range.start(), range.end()));
        }
        ports.extend(range.clone().map(|port| port.to_string()));
    }
    Ok(ports)
}

/// Sources of a rule; whether they rest on mutual TLS.
fn sources(policy: &Policy, selector: &Selector) -> Result<(Vec<Value>, bool), String> {
    let mut sources = Vec::new();
    let mut mutual = false;
    let selectors =
        ungrouped(policy, selector).ok_or("it selects the same thing twice, by a group and by itself")?;
    for selector in selectors {
        let other = beyond(&selector, &[Field::Namespace, Field::Spiffe]);
        if !other.is_empty() || !selector.labels.is_empty() {
            let mut all = other;
            if !selector.labels.is_empty() {
                all.push("labels".to_owned());
            }
            return Err(format!("Istio knows nothing of a client's {}", all.join(", ")));
        }
        let mut source = Map::new();
        let identities = selector.texts_of(Field::Spiffe);
        if !identities.is_empty() {
            let principals: Option<Vec<&str>> = identities.iter().map(principal).collect();
            let principals =
                principals.ok_or("Istio's wildcards stand alone at the beginning or the end of a name")?;
            source.insert("principals".into(), json!(principals));
        }
        let namespaces = selector.texts_of(Field::Namespace);
        if !namespaces.is_empty() {
            let all = namespaces.iter().map(istio_text).collect::<Option<Vec<&str>>>();
            let all = all.ok_or("Istio's wildcards stand alone at the beginning or the end of a name")?;
            source.insert("namespaces".into(), json!(all));
        }
        mutual |= !source.is_empty();
        if !selector.address.is_empty() {
            let blocks: Vec<String> = selector.address.iter().map(ToString::to_string).collect();
            source.insert("ipBlocks".into(), json!(blocks));
        }
        sources.push(json!({ "source": source }));
    }
    Ok((sources, mutual))
}

/// `spiffe://cluster.local/ns/a/sa/b` without its scheme.
fn principal(pattern: &Pattern) -> Option<&str> {
    let text = istio_text(pattern)?;
    Some(text.strip_prefix("spiffe://").unwrap_or(text))
}

/// Istio matches exactly, by prefix (`abc*`) and by suffix (`*abc`).
fn istio_text(pattern: &Pattern) -> Option<&str> {
    let text = pattern.as_str();
    let stars = text.matches('*').count();
    let fits =
        !text.contains('?') && (stars == 0 || (stars == 1 && (text.starts_with('*') || text.ends_with('*'))));
    fits.then_some(text)
}

fn operations(ports: &[String], grants: Option<&[Grant]>) -> Result<Vec<Value>, String> {
    let Some(grants) = grants else {
        return Ok(if ports.is_empty() {
            Vec::new()
        } else {
            vec![json!({ "operation": { "ports": ports } })]
        });
    };
    let mut operations = Vec::new();
    for grant in grants {
        if grant.objects.iter().any(|(kind, _)| *kind != Kind::Path) {
            return Err("Istio knows methods and paths of HTTP, and no other objects".to_owned());
        }
        if grant.methods.is_empty() {
            return Err("Istio has no read, write and admin: give methods".to_owned());
        }
        let mut operation = Map::new();
        if !ports.is_empty() {
            operation.insert("ports".into(), json!(ports));
        }
        operation.insert("methods".into(), json!(grant.methods));
        if let Some((_, paths)) = grant.objects.first() {
            let texts = |patterns: &[Pattern]| -> Result<Vec<String>, String> {
                let mut all = Vec::new();
                for pattern in patterns {
                    let text = istio_text(pattern).ok_or("Istio's wildcards stand alone at one end")?;
                    all.push(text.to_owned());
                    // A path holds what is below it.
                    if !text.contains('*') {
                        let slash = if text.ends_with('/') { "" } else { "/" };
                        all.push(format!("{text}{slash}*"));
                    }
                }
                Ok(all)
            };
            for (key, patterns) in [("paths", &paths.wanted), ("notPaths", &paths.excepted)] {
                if !patterns.is_empty() {
                    operation.insert(key.into(), json!(texts(patterns)?));
                }
            }
        }
        operations.push(json!({ "operation": operation }));
    }
    Ok(operations)
}
