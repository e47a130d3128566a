//! Who is at one end of a flow on this host, and how people call it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::called;

/// A container, as the cgroup path names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Container {
    /// Full id, lower-case hex where the runtime uses that. What others than the host itself may have made
    /// has them in front: `user@1000.service/ID` or `uid:1000/ID` of a user, `NODE/ID` of a pod inside a container. It is
    /// another one than that with the bare id.
    pub id: String,
    /// `docker`, `containerd`, `podman`, `cri-o`, …
    pub runtime: String,
    /// Kubernetes pod uid, where the path has one; with the same in front as the id.
    pub pod: Option<String>,
}

impl Container {
    /// The id as people write it: 12 characters, and short forms of what stands in front.
    pub fn short_id(&self) -> String {
        let short = |id: &str| id.get(..12).unwrap_or(id).to_owned();
        match self.id.rsplit_once('/') {
            Some((outer, id)) if outer.len() == 64 => format!("{}/{}", short(outer), short(id)),
            Some((outer, id)) => format!("{outer}/{}", short(id)),
            None => short(&self.id),
        }
    }

    /// A user's own, rootless: what it says of itself is that user's word.
    pub fn is_of_user(&self) -> bool {
        self.id.split_once('/').is_some_and(|(outer, _)| is_of_user(outer))
    }
}

/// The units that a user's own processes are in, and may make cgroups below (pam_systemd(8),
/// user@.service(5)); or a user whose directory it is below.
pub fn is_of_user(unit: &str) -> bool {
    unit.starts_with("user@") && unit.ends_with(".service")
        || unit.starts_with("session-") && unit.ends_with(".scope")
        || unit.starts_with("uid:")
}

/// What the runtime of a container says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    pub name: Option<String>,
    /// As the runtime was told: `docker.io/library/redis:7`.
    pub image: Option<String>,
    /// Kubernetes namespace and pod name.
    pub namespace: Option<String>,
    pub pod: Option<String>,
    /// Of the pod, or of the container where there is none; `None`: the runtime does not tell.
    pub labels: Option<BTreeMap<String, String>>,
}

/// Who is at one end of a flow on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Process id in the initial pid namespace; `None`: not known (any more).
    pub pid: Option<u32>,
    /// Start of the process in clock ticks since boot (field 22 of `/proc/PID/stat`): with the pid,
    /// unique.
    pub start_ticks: Option<u64>,
    /// `comm`; `None`: not known. Of a process that had ended when it was to be looked at, that of the thread which used the
    /// socket.
    pub name: Option<String>,
    pub executable: Option<String>,
    /// Its path is that of another mount namespace, where it need not be the file that the host has there.
    #[serde(default)]
    pub executable_elsewhere: bool,
    /// Lower-case hex; only where a policy asks for it.
    pub executable_sha256: Option<String>,
    /// Arguments joined with spaces, capped.
    pub command_line: Option<String>,
    pub uid: Option<u32>,
    pub user: Option<String>,
    /// systemd unit.
    pub unit: Option<String>,
    pub container: Option<Container>,
    /// Only where a policy asks for it and the runtime tells.
    pub workload: Option<Box<Workload>>,
    /// Why something is missing, for people: `process ended before it could be looked at`, …
    pub missing: Option<String>,
}

/// What a label takes beside its texts, bytes.
const LABEL: usize = 2 * size_of::<String>();

impl Identity {
    /// The name under which people group it: unit, else process name and container, else process name and, where
    /// that is not root, user. A unit that is only a login session or scope of a user does not count.
    ///
    /// A process gives itself its name, so nobody else's goes by it: else what is known of one user's `curl`,
    /// or was acknowledged, would hold for another's.
    pub fn label(&self) -> String {
        if let Some(unit) = &self.unit
            && unit.ends_with(".service")
            && !unit.starts_with("user@")
        {
            return unit.clone();
        }
        let name = self.name.as_deref().map_or(Cow::Borrowed("?"), called);
        match &self.container {
            Some(container) => format!("{name}@{}", container.short_id()),
            None => match (self.uid, &self.user) {
                (Some(0), _) => name.into_owned(),
                (None, _) if self.name.is_none() => name.into_owned(),
                (None, _) => format!("{name} (uid ?)"),
                (Some(_), Some(user)) => format!("{name} ({user})"),
                (Some(uid), None) => format!("{name} (uid {uid})"),
            },
        }
    }

    /// By whom places in tables are shared: unit, else container, else user; all that a user runs by itself
    /// is that user's. Never a name that a process gives itself, or one could be as many as it likes.
    pub fn party(&self) -> String {
        let outermost = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
        let unit = self.unit.as_deref().map(outermost);
        let of_system = unit.or_else(|| self.container.as_ref().map(|it| outermost(&it.id)));
        match of_system {
            // What runs below a user's manager may have any of that user's many ids (subuid(5)).
            Some(name) => match name.strip_prefix("user@").and_then(|rest| rest.strip_suffix(".service")) {
                Some(uid) => format!("uid:{uid}"),
                None => name,
            },
            // Nobody can say whose it is: they all share.
            None => self.uid.map_or_else(|| "uid:?".to_owned(), |uid| format!("uid:{uid}")),
        }
    }

    /// What it takes in memory. Bounded: see [`crate::identity`].
    pub fn bytes(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        let own = [
            &self.name,
            &self.executable,
            &self.executable_sha256,
            &self.command_line,
            &self.user,
            &self.unit,
            &self.missing,
        ];
        let container = self.container.as_ref().map_or(0, |container| {
            container.id.capacity() + container.runtime.capacity() + length(&container.pod)
        });
        let workload = self.workload.as_ref().map_or(0, |workload| {
            let Workload { name, image, namespace, pod, labels } = &**workload;
            let labels = labels.iter().flatten();
            let of_labels: usize = labels.map(|(key, value)| LABEL + key.capacity() + value.capacity()).sum();
            size_of::<Workload>()
                + of_labels
                + [name, image, namespace, pod].map(length).iter().sum::<usize>()
        });
        size_of::<Identity>() + own.map(length).iter().sum::<usize>() + container + workload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(name: &str, uid: u32, unit: Option<&str>, container: Option<&str>) -> String {
        let container = container.map(|id| Container { id: id.into(), runtime: "docker".into(), pod: None });
        let (name, unit) = (Some(name.to_owned()), unit.map(str::to_owned));
        Identity { name, uid: Some(uid), unit, container, ..Identity::default() }.party()
    }

    #[test]
    fn a_party_is_not_what_a_process_calls_itself() {
        for name in ["a", "nginx", "uid:0"] {
            assert_eq!(who(name, 1000, None, None), "uid:1000");
            assert_eq!(who(name, 33, Some("nginx.service"), None), "nginx.service");
            assert_eq!(who(name, 1000, Some("session-3.scope"), None), "session-3.scope");
            assert_eq!(who(name, 100_007, Some("user@1000.service/init.scope"), None), "uid:1000");
            assert_eq!(who(name, 1000, Some(&format!("user@1000.service/{name}.service")), None), "uid:1000");
            assert_eq!(who(name, 0, None, Some("c1")), "c1");
            assert_eq!(who(name, 0, None, Some(&format!("c1/{name}"))), "c1");
            assert_eq!(who(name, 1000, None, Some(&format!("user@1000.service/{name}"))), "uid:1000");
            assert_eq!(who(name, 0, Some("web.service"), Some("c1")), "web.service");
        }
        assert_eq!(Identity::default().party(), "uid:?");
    }

    #[test]
    fn containers_are_told_apart_by_their_short_ids() {
        let short = |id: String| Container { id, runtime: "docker".into(), pod: None }.short_id();
        let (id, node) = ("0123456789abcdef".repeat(4), "ab".repeat(32));
        assert_eq!(short(id.clone()), "0123456789ab");
        assert_eq!(short(format!("user@1000.service/{id}")), "user@1000.service/0123456789ab");
        assert_eq!(short(format!("{node}/{id}")), "abababababab/0123456789ab");
        assert_eq!(short("é".repeat(20)), "é".repeat(6), "of any text");
    }
}
