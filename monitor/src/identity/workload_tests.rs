#![allow(clippy::unwrap_used)]

use super::*;

/// A directory of the test's own.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Root {
        Root(crate::temporary::directory())
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn of(&self, id: &str) -> Option<Workload> {
        Workloads::new(self.0.path().to_owned())
            .of(&Container { id: id.into(), runtime: "x".into(), pod: None }, 0)
    }
}

#[test]
fn each_runtime_is_read() {
    let root = Root::new();
    root.write(
        "var/lib/docker/containers/d1/config.v2.json",
        r#"{"Name":"/web","Config":{"Image":"nginx:1","Labels":{"app":"shop"}}}"#,
    );
    let docker = root.of("d1").unwrap();
    assert_eq!((docker.name.as_deref(), docker.image.as_deref()), (Some("web"), Some("nginx:1")));
    assert_eq!(docker.labels.unwrap().get("app").map(String::as_str), Some("shop"));

    root.write(
        "var/lib/containers/storage/overlay-containers/containers.json",
        r#"[{"id":"p1","names":["db"],"metadata":"{\"image-name\":\"docker.io/library/redis:7\",\"name\":\"db\"}"}]"#,
    );
    let podman = root.of("p1").unwrap();
    assert_eq!(
        (podman.name.as_deref(), podman.image.as_deref()),
        (Some("db"), Some("docker.io/library/redis:7"))
    );
    assert_eq!(podman.labels, None, "it does not say");

    root.write(
        "var/lib/containers/storage/overlay-containers/o1/userdata/config.json",
        r#"{"annotations":{"io.kubernetes.cri-o.ImageName":"quay.io/a:1","io.kubernetes.pod.namespace":"shop",
            "io.kubernetes.pod.name":"cart-0","io.kubernetes.cri-o.Labels":"{\"app\":\"cart\"}"}}"#,
    );
    let crio = root.of("o1").unwrap();
    assert_eq!((crio.namespace.as_deref(), crio.pod.as_deref()), (Some("shop"), Some("cart-0")));
    assert_eq!(crio.labels.unwrap().get("app").map(String::as_str), Some("cart"));

    root.write(
        "run/containerd/io.containerd.runtime.v2.task/k8s.io/c1/config.json",
        r#"{"annotations":{"io.kubernetes.cri.image-name":"quay.io/b:2","io.kubernetes.cri.sandbox-namespace":"pay"}}"#,
    );
    let containerd = root.of("c1").unwrap();
    assert_eq!(
        (containerd.image.as_deref(), containerd.namespace.as_deref()),
        (Some("quay.io/b:2"), Some("pay"))
    );
    assert_eq!(containerd.labels, None);
}

#[test]
fn what_is_no_state_tells_nothing() {
    let root = Root::new();
    root.write("var/lib/docker/containers/d1/config.v2.json", "not json");
    root.write("outside.json", r#"{"Name":"/x"}"#);
    for id in ["d1", "d2", "", "..", "../../../outside", "a/b"] {
        assert_eq!(root.of(id), None, "{id:?}");
    }
}

#[test]
fn labels_beyond_what_is_looked_at_are_not_known() {
    let of =
        |labels: serde_json::Value| docker(&serde_json::json!({ "Config": { "Labels": labels } })).labels;
    let many = |count: usize, length: usize| {
        let map = (0..count).map(|n| (format!("{n:03}{}", "k".repeat(length)), serde_json::Value::from("v")));
        serde_json::Value::from(map.collect::<serde_json::Map<_, _>>())
    };
    assert_eq!(of(many(MOST_LABELS, 1)).map(|labels| labels.len()), Some(MOST_LABELS));
    assert_eq!(of(many(MOST_LABELS + 1, 1)), None);
    assert_eq!(of(many(40, 500)), None);
}

#[test]
fn a_user_is_not_told_what_a_container_of_the_host_is() {
    let root = Root::new();
    root.write(
        "var/lib/docker/containers/d1/config.v2.json",
        r#"{"Name":"/web","Config":{"Image":"nginx:1"}}"#,
    );
    assert!(root.of("d1").is_some());
    assert_eq!(root.of("user@1000.service/d1"), None);
    assert_eq!(root.of("session-3.scope/d1"), None);
    // What is inside a container is it.
    assert_eq!(root.of("d1/d2"), root.of("d1"));
    assert_eq!(root.of("d2/d1"), None);
}
