//! Kubernetes NetworkPolicy: pods, namespaces, addresses, ports. Nothing of processes, names on the
//! wire, or what a client does.
//!
//! Source: the API reference of `networking.k8s.io/v1`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Export, beyond, exact, labels, object_name, ungrouped};
use crate::model::Transport;
use crate::policy::end::Field;
use crate::policy::selector::{Ports, Selector};
use crate::policy::{Policy, Service};

pub(super) fn export(policy: &Policy) -> Export {
    let mut export = Export::default();
    let mut taken = BTreeSet::new();
    for service in &policy.services {
        let name = format!("service {:?}", service.name);
        let Some(pods) = pods(policy, &name, &service.server, &mut export) else { continue };
        let mut from = Vec::new();
        for rule in &service.clients {
            let peers = match peers(policy, &rule.selector) {
                Ok(peers) => peers,
                Err(why) => {
                    export.left_out.push(format!("{name}: client {}: {why}", rule.text));
                    continue;
                }
            };
            if rule.grants.is_some() {
                let what = "what it may do: a NetworkPolicy allows the whole connection";
                export.left_out.push(format!("{name}: client {}: {what}", rule.with_grants()));
            }
            from.extend(peers);
        }
        let mut ingress = serde_json::Map::new();
        if let Some(ports) = ports(service) {
            ingress.insert("ports".into(), ports);
        }
        ingress.insert("from".into(), json!(from));
        // Without a single client nobody is allowed: an empty list of rules says so.
        let rules = if from_is_empty(&ingress) { json!([]) } else { json!([ingress]) };
        push(&mut export, &mut taken, &service.name, pods, "Ingress", ("ingress", rules));
    }
    for egress in &policy.egress {
        let name = format!("client {:?}", egress.name);
        let Some(pods) = pods(policy, &name, &egress.client, &mut export) else { continue };
        let mut rules = Vec::new();
        for to in &egress.to {
            let service = to.service.and_then(|id| policy.services.get(id as usize));
            let (server, found) = match service {
                Some(service) => (&service.server, ports(service)),
                None => (&to.server, port_list(to.transport, &to.ports)),
            };
            if service.is_some() && !(to.server.is_empty() && to.ports.0.is_empty()) {
                export.left_out.push(format!("{name}: to {}: a service and more of it", to.text));
                continue;
            }
            let peers = if server.is_empty() { Ok(Vec::new()) } else { peers(policy, server) };
            match peers {
                Ok(peers) => {
                    let mut rule = serde_json::Map::new();
                    if !peers.is_empty() {
                        rule.insert("to".into(), json!(peers));
                    }
                    if let Some(ports) = found {
                        rule.insert("ports".into(), ports);
                    }
                    rules.push(Value::Object(rule));
                }
                Err(why) => export.left_out.push(format!("{name}: to {}: {why}", to.text)),
            }
        }
        push(&mut export, &mut taken, &egress.name, pods, "Egress", ("egress", json!(rules)));
    }
    export
}

fn from_is_empty(ingress: &serde_json::Map<String, Value>) -> bool {
    ingress.get("from").and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// Namespace and labels of the pods that a policy is about.
struct Pods {
    namespace: String,
    labels: Value,
}

fn push(
    export: &mut Export,
    taken: &mut BTreeSet<String>,
    name: &str,
    pods: Vec<Pods>,
    kind: &str,
    (key, rules): (&str, Value),
) {
    for Pods { namespace, labels } in pods {
        let mut spec = json!({ "podSelector": { "matchLabels": labels }, "policyTypes": [kind] });
        spec[key] = rules.clone();
        export.documents.push(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {
                "name": object_name("", &format!("{name}-{key}"), taken),
                "namespace": namespace,
                "annotations": { "streamwatch/policy": name },
            },
            "spec": spec,
        }));
    }
}

/// The pods that a selector means; `None`, and listed, where it means something else.
fn pods(policy: &Policy, name: &str, selector: &Selector, export: &mut Export) -> Option<Vec<Pods>> {
    let mut all = Vec::new();
    let mut why = "it is not selected by namespace and labels of pods".to_owned();
    let selectors = ungrouped(policy, selector).unwrap_or_default();
    let count = selectors.len();
    for selector in selectors {
        let other = beyond(&selector, &[Field::Namespace]);
        let namespaces = exact(selector.texts_of(Field::Namespace)).unwrap_or_default();
        let Some(labels) = labels(&selector) else { break };
        if !other.is_empty() {
            why = format!("{} is nothing of Kubernetes", other.join(", "));
            break;
        }
        if !selector.address.is_empty() || namespaces.is_empty() {
            break;
        }
        all.extend(
            namespaces
                .iter()
                .map(|namespace| Pods { namespace: (*namespace).to_owned(), labels: json!(labels) }),
        );
    }
    if all.is_empty() || all.len() < count {
        export.left_out.push(format!("{name}: {why}"));
        return None;
    }
    Some(all)
}

/// A selector as peers of a rule.
fn peers(policy: &Policy, selector: &Selector) -> Result<Vec<Value>, String> {
    let mut peers = Vec::new();
    let selectors =
        ungrouped(policy, selector).ok_or("it selects the same thing twice, by a group and by itself")?;
    for selector in selectors {
        let other = beyond(&selector, &[Field::Namespace]);
        if !other.is_empty() {
            return Err(format!("a NetworkPolicy knows nothing of {}", other.join(", ")));
        }
        let of_pods = !selector.labels.is_empty() || !selector.texts_of(Field::Namespace).is_empty();
        if of_pods && !selector.address.is_empty() {
            return Err("a peer of a NetworkPolicy is a pod or an address, not both".to_owned());
        }
        if !of_pods {
            let blocks =
                selector.address.iter().map(|range| json!({ "ipBlock": { "cidr": range.to_string() } }));
            peers.extend(blocks);
            continue;
        }
        let namespaces = exact(selector.texts_of(Field::Namespace)).ok_or("a namespace with a wildcard")?;
        let labels = labels(&selector).ok_or("a label with a wildcard, or that is none of Kubernetes")?;
        let namespace = match namespaces[..] {
            // Pods of any namespace.
            [] => json!({}),
            _ => json!({ "matchExpressions": [{
                "key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces,
            }] }),
        };
        let mut peer = json!({ "namespaceSelector": namespace });
        if !labels.is_empty() {
            peer["podSelector"] = json!({ "matchLabels": labels });
        }
        peers.push(peer);
    }
    Ok(peers)
}

fn ports(service: &Service) -> Option<Value> {
    port_list(service.transport, &service.ports)
}

/// `None`: any port.
fn port_list(transport: Option<Transport>, ports: &Ports) -> Option<Value> {
    let protocols = match transport {
        Some(Transport::Tcp) => &["TCP"][..],
        Some(Transport::Udp) => &["UDP"],
        None => &["TCP", "UDP"],
    };
    if ports.0.is_empty() && transport.is_none() {
        return None;
    }
    let mut list = Vec::new();
    for protocol in protocols {
        if ports.0.is_empty() {
            list.push(json!({ "protocol": protocol }));
        }
        for range in &ports.0 {
            let (start, end) = (range.start(), range.end());
            list.push(match start == end {
                true => json!({ "protocol": protocol, "port": start }),
                false => json!({ "protocol": protocol, "port": start, "endPort": end }),
            });
        }
    }
    Some(Value::Array(list))
}
