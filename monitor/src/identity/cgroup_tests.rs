//! Paths as the runtimes make them; the forms come from their documentation and from hosts.

use proptest::prelude::*;

use super::*;

const ID: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
const NODE: &str = "aaaabbbbccccddddeeeeffff0000111122223333444455556666777788889999";

fn of_path(path: &str) -> Place {
    place_of_cgroup_path(path, &|_| Maker::Host)
}

fn of_proc(text: &str) -> Place {
    place_of_proc_cgroup(text, &|_| Maker::Host)
}

fn in_container(runtime: &str, id: &str, pod: Option<&str>) -> Option<Container> {
    Some(Container { id: id.to_owned(), runtime: runtime.to_owned(), pod: pod.map(str::to_owned) })
}

fn check(path: &str, unit: Option<&str>, container: Option<Container>) {
    let path = path.replace("{ID}", ID).replace("{NODE}", NODE);
    let unit = unit.map(|unit| unit.replace("{ID}", ID).replace("{NODE}", NODE));
    assert_eq!(of_path(&path), Place { unit, container }, "{path}");
}

#[test]
fn units() {
    for (path, unit) in [
        ("/", None),
        ("", None),
        ("/init.scope", Some("init.scope")),
        ("/system.slice/nginx.service", Some("nginx.service")),
        ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
        ("/system.slice/foo\\x2dbar.service", Some("foo\\x2dbar.service")),
        ("/system.slice/_cgroup.service", Some("cgroup.service")),
        ("/system.slice/delegating.service/payments.service", Some("delegating.service")),
        ("/system.slice/gone.service (deleted)", Some("gone.service")),
        ("/../../system.slice/nginx.service", Some("nginx.service")),
        ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
        ("/user.slice/user-1000.slice/user@1000.service", Some("user@1000.service")),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service",
            Some("user@1000.service/nginx.service"),
        ),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", Some("user@1000.service/init.scope")),
        ("/system.slice", None),
        ("/.service", None),
        ("/some/other/nginx.service", None),
        ("/system.slice/dbus.socket", Some("dbus.socket")),
    ] {
        check(path, unit, None);
    }
}

#[test]
fn docker() {
    check("/docker/{ID}", None, in_container("docker", ID, None));
    check("/system.slice/docker-{ID}.scope", Some("docker-{ID}.scope"), in_container("docker", ID, None));
    check("/moby/{ID}", None, in_container("docker", ID, None));
    // systemd inside the container: its units are not this host's.
    check("/docker/{ID}/system.slice/sshd.service", None, in_container("docker", ID, None));
    check("/system.slice/docker.service", Some("docker.service"), None);
}

#[test]
fn podman() {
    check("/libpod_parent/libpod-{ID}", None, in_container("podman", ID, None));
    check("/libpod_parent/conmon", None, None);
    check(
        "/machine.slice/libpod-{ID}.scope/container",
        Some("libpod-{ID}.scope"),
        in_container("podman", ID, None),
    );
    check("/machine.slice/libpod-conmon-{ID}.scope", Some("libpod-conmon-{ID}.scope"), None);
    check(
        "/system.slice/web.service/libpod-payload-{ID}",
        Some("web.service"),
        in_container("podman", ID, None),
    );
    check(
        "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
        Some("user@1000.service/libpod-{ID}.scope"),
        // Rootless: the id that the user's podman shows, as that user's.
        in_container("podman", &format!("user@1000.service/{ID}"), None),
    );
}

#[test]
fn a_cgroup_that_a_user_made_is_not_the_container_that_it_is_named_after() {
    let manager = "/user.slice/user-1000.slice/user@1000.service";
    let pod = "4dc7a1b2-0c1d-4e2f-8a3b-5c6d7e8f9a0b";
    for (below, runtime) in [
        (format!("docker-{ID}.scope"), "docker"),
        (format!("app.slice/cri-containerd-{ID}.scope"), "containerd"),
        (format!("a/b/docker/{ID}"), "docker"),
        (format!("app.slice/web.service/{ID}"), "unknown"),
    ] {
        let container = of_path(&format!("{manager}/{below}")).container;
        assert_eq!(container, in_container(runtime, &format!("user@1000.service/{ID}"), None), "{below}");
    }
    let inside = of_path(&format!("{manager}/kubepods/pod{pod}/{ID}")).container;
    let (id, pod) = (format!("user@1000.service/{ID}"), format!("user@1000.service/{pod}"));
    assert_eq!(inside, in_container("kubernetes", &id, Some(&pod)));
    let session = of_path(&format!("/user.slice/user-1000.slice/session-3.scope/docker-{ID}.scope"));
    assert_eq!(session.container, in_container("docker", &format!("session-3.scope/{ID}"), None));
    let named = of_path(&format!("{manager}/machine-web.scope")).container;
    assert_eq!(named, in_container("systemd-nspawn", "user@1000.service/web", None));
}

#[test]
fn below_a_service_that_is_handed_over_to_a_user_its_owner_decides() {
    let path = format!("/system.slice/web.service/a/docker-{ID}.scope");
    let made = |path: &str, by: Maker| {
        place_of_cgroup_path(path, &|above: &str| {
            assert_eq!(above, "system.slice/web.service/a");
            by
        })
    };
    let of_user = in_container("docker", &format!("uid:33/{ID}"), None);
    assert_eq!(made(&path, Maker::User(33)).container, of_user);
    assert!(of_user.is_some_and(|container| container.is_of_user()));
    // podman of root, with `--cgroups=split`.
    assert_eq!(made(&path, Maker::Host).container, in_container("docker", ID, None));
    let gone = made(&path, Maker::Unknown);
    assert_eq!((gone.unit.as_deref(), gone.container), (Some("web.service"), None));
    // Nobody is asked about what stands in slices alone.
    let never = |_: &str| -> Maker { panic!("asked") };
    let path = format!("/kubepods.slice/kubepods-pod12345678.slice/cri-containerd-{ID}.scope");
    assert!(place_of_cgroup_path(&path, &never).container.is_some());
    // The hierarchies of version 1 are not those that can be asked.
    let hybrid = format!("4:memory:/docker/{ID}\n0::/\n");
    assert!(place_of_proc_cgroup(&hybrid, &never).container.is_some());
}

#[test]
fn what_a_container_makes_below_itself_is_not_another_container() {
    let pod = "kubepods/burstable/pod4dc7a1b2-0c1d-4e2f-8a3b-5c6d7e8f9a0b";
    for (path, container) in [
        (format!("/docker/{NODE}/docker/{ID}"), in_container("docker", NODE, None)),
        (format!("/system.slice/docker-{NODE}.scope/docker-{ID}.scope"), in_container("docker", NODE, None)),
        ("/lxc.payload.web/machine-db.scope".to_owned(), in_container("lxc", "web", None)),
        (
            format!("/{pod}/{NODE}/crio-{ID}"),
            in_container("kubernetes", NODE, Some("4dc7a1b2-0c1d-4e2f-8a3b-5c6d7e8f9a0b")),
        ),
        // As a pod of this host it would have the bare ids.
        (
            format!("/docker/{NODE}/{pod}/{ID}"),
            in_container(
                "kubernetes",
                &format!("{NODE}/{ID}"),
                Some(&format!("{NODE}/4dc7a1b2-0c1d-4e2f-8a3b-5c6d7e8f9a0b")),
            ),
        ),
        (
            format!("/docker/{NODE}/{pod}/{ID}/{pod}/{NODE}"),
            in_container(
                "kubernetes",
                &format!("{NODE}/{ID}"),
                Some(&format!("{NODE}/4dc7a1b2-0c1d-4e2f-8a3b-5c6d7e8f9a0b")),
            ),
        ),
    ] {
        assert_eq!(of_path(&path).container, container, "{path}");
    }
}

#[test]
fn containerd() {
    check("/default/{ID}", None, in_container("containerd", ID, None));
    check("/default/redis-1", None, in_container("containerd", "redis-1", None));
    check("/k8s.io/{ID}", None, in_container("containerd", ID, None));
    check(
        "/system.slice/nerdctl-{ID}.scope",
        Some("nerdctl-{ID}.scope"),
        in_container("containerd", ID, None),
    );
    check("/default", None, None);
    check("/system.slice/default/redis-1", None, None);
}

#[test]
fn kubernetes() {
    let uid = "4dc7a1b2-0c1d-4e2f-8a3b-5c6d7e8f9a0b";
    for (path, runtime) in [
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod4dc7a1b2_0c1d_4e2f_8a3b_5c6d7e8f9a0b.slice/cri-containerd-{ID}.scope",
            "containerd",
        ),
        ("/kubepods.slice/kubepods-pod4dc7a1b2_0c1d_4e2f_8a3b_5c6d7e8f9a0b.slice/crio-{ID}.scope", "cri-o"),
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod4dc7a1b2_0c1d_4e2f_8a3b_5c6d7e8f9a0b.slice/docker-{ID}.scope",
            "docker",
        ),
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod4dc7a1b2_0c1d_4e2f_8a3b_5c6d7e8f9a0b.slice/cri-containerd-{ID}.scope",
            "containerd",
        ),
    ] {
        let scope = path.rsplit_once('/').map(|(_, scope)| scope);
        check(path, scope, in_container(runtime, ID, Some(uid)));
    }
    let pod = "/kubepods/burstable/pod4dc7a1b2-0c1d-4e2f-8a3b-5c6d7e8f9a0b";
    check(&format!("{pod}/{{ID}}"), None, in_container("kubernetes", ID, Some(uid)));
    check(&format!("{pod}/crio-{{ID}}"), None, in_container("cri-o", ID, Some(uid)));
    check(pod, None, None);
    // containerd with the systemd driver set in one place only.
    check(
        "/system.slice/containerd.service/kubepods-burstable-pod4dc7a1b2_0c1d_4e2f_8a3b_5c6d7e8f9a0b.slice:cri-containerd:{ID}",
        Some("containerd.service"),
        in_container("containerd", ID, Some(uid)),
    );
    // kind: a cluster inside a Docker container, which names its pods as it likes.
    let (inner, inner_pod) = (format!("{NODE}/{ID}"), format!("{NODE}/{uid}"));
    check(
        "/docker/{NODE}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod4dc7a1b2_0c1d_4e2f_8a3b_5c6d7e8f9a0b.slice/cri-containerd-{ID}.scope",
        None,
        in_container("containerd", &inner, Some(&inner_pod)),
    );
    check(
        "/system.slice/docker-{NODE}.scope/kubelet/kubepods/besteffort/pod4dc7a1b2-0c1d-4e2f-8a3b-5c6d7e8f9a0b/{ID}",
        Some("docker-{NODE}.scope"),
        in_container("kubernetes", &inner, Some(&inner_pod)),
    );
    check(
        "/system.slice/docker-{NODE}.scope/system.slice/containerd.service",
        Some("docker-{NODE}.scope"),
        in_container("docker", NODE, None),
    );
}

#[test]
fn machines() {
    check("/lxc.payload.web-1/system.slice/nginx.service", None, in_container("lxc", "web-1", None));
    check("/lxc.monitor.web-1", None, None);
    check("/lxc/web-1", None, in_container("lxc", "web-1", None));
    check(
        "/machine.slice/machine-web\\x2d1.scope/payload",
        Some("machine-web\\x2d1.scope"),
        in_container("systemd-nspawn", "web-1", None),
    );
    check(
        "/machine.slice/systemd-nspawn@web.service/payload/system.slice/x.service",
        Some("systemd-nspawn@web.service"),
        in_container("systemd-nspawn", "web", None),
    );
    check("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", Some("machine-qemu\\x2d1\\x2dvm.scope"), None);
    check("/ecs/task/{ID}", None, in_container("unknown", ID, None));
}

#[test]
fn lines_of_both_versions() {
    let hybrid = "9:name=systemd:/system.slice/nginx.service\n4:memory:/system.slice/wrong.service\n0::/\n";
    assert_eq!(of_proc(hybrid).unit.as_deref(), Some("nginx.service"));

    let unified = "0::/system.slice/nginx.service\n";
    assert_eq!(of_proc(unified).unit.as_deref(), Some("nginx.service"));

    let controllers = format!("9:name=systemd:/\n4:memory:/docker/{ID}\n3:cpu,cpuacct:/docker/{ID}\n0::/\n");
    assert_eq!(of_proc(&controllers).container, in_container("docker", ID, None));

    let odd = "0::/system.slice/a:b.service\nnonsense\n::\n1:\n";
    assert_eq!(of_proc(odd).unit.as_deref(), Some("a:b.service"));
    assert_eq!(of_proc(""), Place::default());
}

proptest! {
    #[test]
    fn any_text_has_a_place(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        of_proc(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_path_of_likely_parts_has_a_place(
        parts in proptest::collection::vec(
            "(kubepods|docker|lxc|default|machine-|pod|-pod|libpod-|\\\\x|\\\\x2|\\\\x2d|\\\\xé|:|é|[0-9a-f]{64}|\\.slice|\\.scope|\\.service|user@1|_|/){1,4}",
            0..8,
        )
    ) {
        of_proc(&format!("0::/{}", parts.join("/")));
    }

    /// Whatever a user, or a container, makes below its own cgroup: it is never anybody else.
    #[test]
    fn nothing_below_a_user_or_a_container_is_another_one(
        parts in proptest::collection::vec(
            "(kubepods|docker|lxc|moby|docker-|cri-containerd-|crio-|machine-|pod[0-9a-f]{8}|kubepods-pod[0-9a-f]{8}|:|[0-9a-f]{64}|web|\\.slice|\\.scope|\\.service|/){1,3}",
            1..8,
        )
    ) {
        let below = parts.join("/");
        let of_user = of_path(&format!("/user.slice/user-7.slice/user@7.service/{below}"));
        if let Some(container) = of_user.container {
            prop_assert!(container.id.starts_with("user@7.service/"));
            prop_assert!(container.pod.is_none_or(|pod| pod.starts_with("user@7.service/")));
        }
        let inside = of_path(&format!("/docker/{NODE}/{below}")).container.expect("a container");
        let within = format!("{NODE}/");
        prop_assert!(inside.id == NODE || inside.id.starts_with(&within));
        prop_assert!(inside.pod.is_none_or(|pod| pod.starts_with(&within)));
    }
}
