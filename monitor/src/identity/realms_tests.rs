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

fn key(netns: u64, maker: u32) -> SocketKey {
    let nobody = "0.0.0.0:0".parse().unwrap();
    SocketKey { transport: Transport::Udp, netns, local: nobody, remote: nobody, cookie: 0, maker }
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
    let socket = SocketKey { cookie, ..key(0, 0) };
    assert_eq!(realms.near(&[socket]), [None]);
    let gone = SocketKey { cookie: u64::MAX, ..socket };
    let (found, is_all) = realms.anywhere(&[gone, socket]);
    assert_eq!((found, is_all), (vec![None, own[0]], true));
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
    // Another process is named, or none: it is looked for.
    let late = Inside::new(USER, "-Un");
    let sockets = [key(late.cookie(), of_root[0].0.id()), key(of_user[0].cookie(), 0)];
    let mut realms = Realms::default();
    assert_eq!(realms.near(&sockets), [None, None]);
    let (found, is_all) = realms.anywhere(&sockets);
    assert!(is_all && found[0].is_some_and(|it| it != Realm::ROOT) && found[1] == Some(one));
}
