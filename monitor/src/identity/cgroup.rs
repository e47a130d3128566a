//! Cgroup paths: which systemd unit and which container a process is in.
//!
//! In: the text of `/proc/PID/cgroup`, or a path. Out: a [`Place`]. Pure; any bytes are fine.
//!
//! The unit is the one of this host's systemd: the first component that is not a slice, as
//! `cg_path_get_unit` of systemd has it (`src/basic/cgroup-util.c`). A deeper one belongs to a
//! user's or a container's own manager, which may call its units whatever it likes.
//!
//! So with containers: who may make cgroups may name them after any container of this host. The outermost
//! one is who it is; what stands below a user's own cgroup, or is a pod inside a container (`kind`), carries
//! that in front of its id, and is never taken for the one that has the bare id. The same holds below a
//! directory that a user owns (a service with `User=` and `Delegate=`), where [`Maker`] tells.

use std::borrow::Cow;

use crate::model::{Container, is_of_user};

/// Where a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// As `systemctl` shows it. A unit of a user's own manager carries that manager's name:
    /// `user@1000.service/app.service`.
    pub unit: Option<String>,
    /// The outermost container; of a cluster inside one, the pod's within it.
    pub container: Option<Container>,
}

/// Who may have made what is below a directory of the hierarchy of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// Root alone.
    Host,
    /// The user that owns it, or one above.
    User(u32),
    /// It is gone.
    Unknown,
}

/// Reads `/proc/PID/cgroup` (cgroups(7)): lines of `id:controllers:path`. Version 2 (`0::`) goes
/// before systemd's own version 1 hierarchy, that before the controllers'. Hybrid hosts leave every
/// process in the root of version 2.
pub fn place_of_proc_cgroup(text: &str, maker: &dyn Fn(&str) -> Maker) -> Place {
    let mut lines: Vec<(u8, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let rank = match (id, controllers) {
                ("0", "") => 0,
                (_, "name=systemd") => 1,
                _ => 2,
            };
            Some((rank, path))
        })
        .collect();
    lines.sort_by_key(|(rank, _)| *rank);
    let mut found = Place::default();
    for (rank, path) in lines {
        // Outside the cgroup namespace of the reader, a path does not lead there.
        let leads = rank == 0 && !path.split('/').any(|component| component == "..");
        let place = if leads {
            place_of_cgroup_path(path, maker)
        } else {
            place_of_cgroup_path(path, &|_| Maker::Host)
        };
        found.unit = found.unit.or(place.unit);
        found.container = found.container.or(place.container);
    }
    found
}

/// Reads one path, from the root of its hierarchy.
pub fn place_of_cgroup_path(path: &str, maker: &dyn Fn(&str) -> Maker) -> Place {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    // `..`: the process is outside the cgroup namespace of the reader.
    let components: Vec<&str> =
        path.split('/').filter(|component| !matches!(*component, "" | "." | "..")).collect();
    Place { unit: unit(&components), container: container(&components, maker) }
}

fn unit(components: &[&str]) -> Option<String> {
    let mut rest = components.iter().map(|component| unescaped_component(component));
    let first = rest.find(|component| !is_slice(component)).filter(|component| is_unit(component))?;
    if first.starts_with("user@")
        && let Some(own) = rest.find(|component| !is_slice(component)).filter(|component| is_unit(component))
    {
        return Some(format!("{first}/{own}"));
    }
    Some(first.to_owned())
}

/// systemd puts `_` before a name that cgroupfs would take for a file of its own (`cg_escape`).
fn unescaped_component(component: &str) -> &str {
    component.strip_prefix('_').unwrap_or(component)
}

fn is_slice(component: &str) -> bool {
    component.len() > ".slice".len() && component.ends_with(".slice")
}

fn is_unit(component: &str) -> bool {
    // systemd.unit(5): at most 255 characters; the types that can hold processes.
    const TYPES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];
    component.len() <= 255
        && TYPES.iter().any(|kind| component.len() > kind.len() && component.ends_with(kind))
}

fn container(components: &[&str], maker: &dyn Fn(&str) -> Maker) -> Option<Container> {
    // In front of the ids of what somebody else than the host may have made.
    let mut within = components
        .iter()
        .map(|component| unescaped_component(component))
        .find(|component| !is_slice(component))
        .filter(|component| is_of_user(component))
        .map(|manager| format!("{manager}/"))
        .unwrap_or_default();
    let mut pod = None;
    let mut found: Option<Container> = None;
    let mut in_kubernetes = false;
    for (depth, component) in components.iter().enumerate() {
        let parent = depth.checked_sub(1).map(|above| components[above]);
        in_kubernetes |= component.contains("kubepods");
        // `kubelet-kubepods-….slice:cri-containerd:ID` names its parent in front.
        let (slice, name) = match component.split_once(':') {
            Some((slice, name)) => (slice, Cow::from(name.replace(':', "-"))),
            None => (*component, Cow::from(*component)),
        };
        if in_kubernetes && let Some(uid) = pod_uid(slice) {
            pod = Some(uid);
        }
        if found.is_some() && pod.is_none() {
            continue;
        }
        if let Some((runtime, id)) = container_here(&name, parent, depth, in_kubernetes) {
            let inner = found.is_some();
            // Slices are the host's: systemd hands none over to a user.
            let handed_over = components[..depth].iter().any(|above| !is_slice(above));
            if within.is_empty() && handed_over {
                match maker(&components[..depth].join("/")) {
                    Maker::Host => {}
                    Maker::User(uid) => within = format!("uid:{uid}/"),
                    // Whose it is cannot be told any more.
                    Maker::Unknown => return None,
                }
            }
            let id = format!("{within}{id}");
            let pod = pod.take().map(|pod| format!("{within}{pod}"));
            // A pod has nothing more to show: what it makes below itself is its own.
            let last = inner || pod.is_some();
            within = format!("{id}/");
            found = Some(Container { id, runtime: runtime.to_owned(), pod });
            if last {
                break;
            }
            in_kubernetes = false;
        }
    }
    found
}

/// A container that this component is the cgroup of.
fn container_here(
    component: &str,
    parent: Option<&str>,
    depth: usize,
    in_kubernetes: bool,
) -> Option<(&'static str, String)> {
    // conmon and LXC's monitor stand beside the container, not in it: their names differ.
    const PREFIXES: [(&str, &str); 8] = [
        ("docker-", "docker"),
        ("cri-containerd-", "containerd"),
        ("containerd-", "containerd"),
        ("nerdctl-", "containerd"),
        ("libpod-payload-", "podman"),
        ("libpod-", "podman"),
        ("crio-", "cri-o"),
        ("cri-o-", "cri-o"),
    ];
    let name = component.strip_suffix(".scope").unwrap_or(component);
    for (prefix, runtime) in PREFIXES {
        if let Some(id) = name.strip_prefix(prefix).filter(|id| is_hex_id(id)) {
            return Some((runtime, id.to_owned()));
        }
    }
    if let Some(name) = component.strip_prefix("lxc.payload.").filter(|name| is_name(name)) {
        return Some(("lxc", name.to_owned()));
    }
    let machine = name.strip_prefix("machine-").filter(|_| component.ends_with(".scope"));
    if let Some(machine) = machine.map(unescaped_unit).filter(|machine| is_name(machine)) {
        // libvirt names its machines after the driver: a virtual machine is no container.
        return match machine.strip_prefix("lxc-") {
            Some(_) => Some(("libvirt-lxc", machine)),
            None if machine.starts_with("qemu-") => None,
            None => Some(("systemd-nspawn", machine)),
        };
    }
    let nspawn = component.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service"));
    if let Some(machine) = nspawn.map(unescaped_unit).filter(|machine| is_name(machine)) {
        return Some(("systemd-nspawn", machine));
    }
    match parent {
        Some("lxc") if depth == 1 && is_name(component) => Some(("lxc", component.to_owned())),
        // containerd's namespaces; `ctr` lets people choose the id.
        Some("default" | "k8s.io") if depth == 1 && is_name(component) => {
            Some(("containerd", component.to_owned()))
        }
        Some("docker" | "moby") if is_full_id(component) => Some(("docker", component.to_owned())),
        // With the cgroupfs driver the path does not tell which runtime it was.
        _ if in_kubernetes && is_full_id(component) => Some(("kubernetes", component.to_owned())),
        _ if is_full_id(component) => Some(("unknown", component.to_owned())),
        _ => None,
    }
}

/// `kubepods-burstable-pod<uid with _ for ->.slice` (systemd driver), `pod<uid>` (cgroupfs driver).
fn pod_uid(component: &str) -> Option<String> {
    let name = component.strip_suffix(".slice").unwrap_or(component);
    let uid = match name.rsplit_once("-pod") {
        Some((slice, uid)) if slice.contains("kubepods") => uid,
        _ => name.strip_prefix("pod")?,
    };
    let fits = (8..=64).contains(&uid.len())
        && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'-' | b'_'));
    fits.then(|| uid.replace('_', "-"))
}

fn is_hex_id(text: &str) -> bool {
    (12..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_full_id(text: &str) -> bool {
    text.len() == 64 && is_hex_id(text)
}

fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Undoes `systemd-escape`: `\x2d` is `-`.
fn unescaped_unit(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.push_str(before);
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(u8::is_ascii) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &after[2..];
            }
            None => {
                out.push_str("\\x");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
