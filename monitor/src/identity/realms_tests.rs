#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::identity::namespaces::{Netns, cookies_of};
use crate::model::Transport;

/// A user without privileges.
const USER: u32 = 1;

/// A process in namespaces of its own; ends with the test.
struct Inside(Child);

impl Inside {
    fn new(uid: u32, namespaces: &str) -> Inside {
        let mut command = Command::new("unshare");
        command.args([namespaces, "sh", "-c", "echo in; read line"]).uid(uid);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
        Inside(child)
    }

    fn cookie(&self) -> u64 {
        cookies_of(&[Netns::of_process(self.0.id()).unwrap()])[0].unwrap().0
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn key(netns: u64, maker: u32) -> InNamespace {
    let nobody = "0.0.0.0:0".parse().unwrap();
    let socket =
        SocketKey { transport: Transport::Udp, netns, local: nobody, remote: nobody, cookie: 0, maker };
    InNamespace { socket, checks_address: false }
}

fn with(asked: InNamespace, address: &str) -> InNamespace {
    let local = std::net::SocketAddr::new(address.parse().unwrap(), 9);
    InNamespace { socket: SocketKey { local, ..asked.socket }, checks_address: true }
}

#[test]
fn the_own_namespace_is_known_and_one_that_is_nowhere_is_not() {
    let own = monitor_sys::netns_cookie().unwrap();
    let mut realms = Realms::default();
    let sockets = [key(own, 0), key(u64::MAX, std::process::id())];
    let near = realms.near(&sockets);
    assert!(near[0].is_some() && near[1].is_none());
}

#[test]
fn a_socket_whose_namespace_the_programs_did_not_see_is_looked_for() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let cookie = rustix::net::sockopt::socket_cookie(&socket).unwrap();
    let mut realms = Realms::default();
    let own = realms.near(&[key(monitor_sys::netns_cookie().unwrap(), 0)]);
    let named = |cookie| InNamespace { socket: SocketKey { cookie, ..key(0, 0).socket }, ..key(0, 0) };
    let socket = named(cookie);
    assert_eq!(realms.near(&[socket]), [None]);
    let (found, is_all) = realms.anywhere(&[named(u64::MAX), socket, with(socket, "127.0.0.9")]);
    assert_eq!((found, is_all), (vec![None, own[0], own[0]], true));
    assert_eq!(realms.anywhere(&[with(socket, "203.0.113.5")]).0, [Some(Realm::NOWHERE)]);
}

#[test]
fn a_socket_is_nowhere_whose_address_its_namespace_has_not() {
    let own = key(monitor_sys::netns_cookie().unwrap(), 0);
    let mut realms = Realms::default();
    let known = realms.near(&[own])[0];
    // 127.0.0.0/8 is the host's as a whole.
    for (address, has) in
        [("127.0.0.1", true), ("127.9.9.9", true), ("203.0.113.5", false), ("2001:db8::5", false)]
    {
        let expected = if has { known } else { Some(Realm::NOWHERE) };
        assert_eq!(realms.near(&[with(own, address)]), [expected], "{address}");
    }
}

#[test]
#[ignore = "makes network namespaces: needs root and util-linux"]
fn a_namespace_is_of_who_made_the_user_namespace_that_owns_it() {
    let of_root = [Inside::new(0, "-n"), Inside::new(0, "-Un")];
    let of_user = [Inside::new(USER, "-Un"), Inside::new(USER, "-Un")];
    let mut realms = Realms::default();
    let of = |realms: &mut Realms, inside: &Inside| realms.near(&[key(inside.cookie(), inside.0.id())])[0];
    for inside in &of_root {
        assert_eq!(of(&mut realms, inside), Some(Realm::ROOT));
    }
    let [one, other] = of_user.each_ref().map(|inside| of(&mut realms, inside).unwrap());
    assert!(one != other && one != Realm::ROOT && other != Realm::ROOT);
    // Each has its own addresses.
    let routes =
        [("127.0.0.1", true), ("::1", true), ("10.213.0.9", true), ("10.213.0.8", false), ("fd13::9", true)];
    let cookie = of_root[0].cookie();
    let ip = |arguments: &str| {
        let mut command = Command::new("nsenter");
        command.args(["-n", "-t", &of_root[0].0.id().to_string(), "ip"]).args(arguments.split(' '));
        assert!(command.status().unwrap().success(), "{arguments}");
    };
    ip("link set lo up");
    ip("link add one type veth peer name two");
    ip("link set one up");
    ip("address add 10.213.0.9/24 dev one");
    ip("address add fd13::9/64 dev one nodad");
    for (address, has) in routes {
        let expected = if has { Realm::ROOT } else { Realm::NOWHERE };
        let asked = with(key(cookie, of_root[0].0.id()), address);
        assert_eq!(realms.near(&[asked]), [Some(expected)], "{address}");
    }
    // Another process is named, or none: it is looked for.
    let late = Inside::new(USER, "-Un");
    let sockets = [key(late.cookie(), of_root[0].0.id()), key(of_user[0].cookie(), 0)];
    let mut realms = Realms::default();
    assert_eq!(realms.near(&sockets), [None, None]);
    let (found, is_all) = realms.anywhere(&sockets);
    assert!(is_all && found[0].is_some_and(|it| it != Realm::ROOT) && found[1] == Some(one));
}
