//! What container runtimes write down of their containers: name, image, labels, and of Kubernetes
//! the namespace and the pod.
//!
//! Source: the state on disk of Docker (`config.v2.json`), of Podman and CRI-O (containers/storage:
//! `containers.json`, and the bundle's `config.json` with CRI-O's annotations), and of containerd (the
//! bundle's `config.json` with the annotations of its CRI plugin). Rootless state is in directories of
//! its user, who could write there what they like: it is not read.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::model::{Container, Workload};
use crate::regular;

const LARGEST: u64 = 16 << 20;
/// Containers remembered, and for how long, ns; shorter where nothing was found.
const MOST: usize = 4096;
const REMEMBER: u64 = 300_000_000_000;
const REMEMBER_NOTHING: u64 = 5_000_000_000;
const MOST_LABELS: usize = 256;
const LONGEST_TEXT: usize = 1024;
/// Of all labels together; of one that has more, they are not known.
const LONGEST_LABELS: usize = 16 << 10;

/// Reads and remembers.
#[derive(Debug)]
pub struct Workloads {
    root: PathBuf,
    known: HashMap<String, (Option<Workload>, u64)>,
}

impl Workloads {
    /// `root`: `/`, but in tests.
    pub fn new(root: PathBuf) -> Workloads {
        Workloads { root, known: HashMap::new() }
    }

    /// `None`: no runtime tells of it. `now_ns`: CLOCK_MONOTONIC.
    pub fn of(&mut self, container: &Container, now_ns: u64) -> Option<Workload> {
        // What is inside a container is what its outermost one is. A user's manager is none.
        let id = container.id.split('/').next().unwrap_or_default();
        // The id becomes part of a path.
        let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !plain || id.is_empty() {
            return None;
        }
        if let Some((workload, read_ns)) = self.known.get(id) {
            let keep = if workload.is_some() { REMEMBER } else { REMEMBER_NOTHING };
            if now_ns.saturating_sub(*read_ns) < keep {
                return workload.clone();
            }
        }
        let workload = self.read(id);
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(id.to_owned(), (workload.clone(), now_ns));
        workload
    }

    fn read(&self, id: &str) -> Option<Workload> {
        let json = |path: String| read_json(&self.root.join(path));
        if let Some(state) = json(format!("var/lib/docker/containers/{id}/config.v2.json")) {
            return Some(docker(&state));
        }
        for storage in ["var/lib/containers/storage", "run/containers/storage"] {
            let bundle = format!("{storage}/overlay-containers/{id}/userdata/config.json");
            let spec = json(bundle).and_then(|spec| of_cri_o(&spec));
            let listed = json(format!("{storage}/overlay-containers/containers.json"));
            if let Some(workload) = spec.or_else(|| listed.and_then(|list| of_storage(&list, id))) {
                return Some(workload);
            }
        }
        let tasks = "run/containerd/io.containerd.runtime.v2.task";
        ["k8s.io", "moby", "default"]
            .into_iter()
            .find_map(|namespace| json(format!("{tasks}/{namespace}/{id}/config.json")))
            .and_then(|spec| of_containerd(&spec))
    }
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&regular::read(path, LARGEST).ok()?).ok()
}

fn text(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?;
    (!text.is_empty()).then(|| short(text))
}

fn short(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST_TEXT)].to_owned()
}

/// `None`: there are more than are looked at.
fn labels(value: Option<&Value>) -> Option<BTreeMap<String, String>> {
    let map = value.and_then(Value::as_object).into_iter().flatten();
    let labels: BTreeMap<String, String> =
        map.take(MOST_LABELS + 1).filter_map(|(key, value)| Some((short(key), text(Some(value))?))).collect();
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    (labels.len() <= MOST_LABELS && bytes <= LONGEST_LABELS).then_some(labels)
}

/// The same bytes as each runtime's, and as an entry of a list.
#[cfg(fuzzing)]
pub(super) fn fuzzed(state: &Value) -> Vec<Workload> {
    let others = [of_storage(state, "a"), of_cri_o(state), of_containerd(state)];
    [Some(docker(state))].into_iter().chain(others).flatten().collect()
}

fn docker(state: &Value) -> Workload {
    let labels = labels(state.pointer("/Config/Labels"));
    let label = |key: &str| labels.as_ref()?.get(key).cloned();
    Workload {
        name: text(state.get("Name")).map(|name| name.trim_start_matches('/').to_owned()),
        image: text(state.pointer("/Config/Image")),
        // As dockershim and cri-dockerd label the containers of a pod.
        namespace: label("io.kubernetes.pod.namespace"),
        pod: label("io.kubernetes.pod.name"),
        labels,
    }
}

/// An entry of `containers.json` of containers/storage; `metadata` is JSON in a string.
fn of_storage(list: &Value, id: &str) -> Option<Workload> {
    let entry = list.as_array()?.iter().find(|entry| entry.get("id").and_then(Value::as_str) == Some(id))?;
    let metadata: Value =
        entry.get("metadata").and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok())?;
    Some(Workload {
        name: text(metadata.get("name")).or_else(|| text(entry.pointer("/names/0"))),
        image: text(metadata.get("image-name")),
        ..Workload::default()
    })
}

fn of_cri_o(spec: &Value) -> Option<Workload> {
    let annotation = |key: &str| text(spec.get("annotations")?.get(key));
    let image = annotation("io.kubernetes.cri-o.ImageName")?;
    let of_pod = annotation("io.kubernetes.cri-o.Labels").and_then(|text| serde_json::from_str(&text).ok());
    Some(Workload {
        name: annotation("io.kubernetes.container.name"),
        image: Some(image),
        namespace: annotation("io.kubernetes.pod.namespace"),
        pod: annotation("io.kubernetes.pod.name"),
        labels: of_pod.as_ref().and_then(|of_pod| labels(Some(of_pod))),
    })
}

/// containerd keeps the labels of pods in its data base alone.
fn of_containerd(spec: &Value) -> Option<Workload> {
    let annotation = |key: &str| text(spec.get("annotations")?.get(key));
    let workload = Workload {
        name: annotation("io.kubernetes.cri.container-name").or_else(|| annotation("nerdctl/name")),
        image: annotation("io.kubernetes.cri.image-name"),
        namespace: annotation("io.kubernetes.cri.sandbox-namespace"),
        pod: annotation("io.kubernetes.cri.sandbox-name"),
        labels: None,
    };
    (workload != Workload::default()).then_some(workload)
}

#[cfg(test)]
#[path = "workload_tests.rs"]
mod tests;
