#![allow(clippy::unwrap_used)]

use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use rustix::net::sockopt::socket_cookie;

use super::*;
use crate::identity::{NetnsSource, namespaces};

/// A network namespace that goes away with the test.
struct TestNamespace(String);

impl TestNamespace {
    fn new(name: &str) -> TestNamespace {
        let name = format!("sw-{name}-{}", std::process::id());
        let up = ["netns", "exec", &name, "ip", "link", "set", "lo", "up"];
        for arguments in [&["netns", "add", &name][..], &up] {
            let made = Command::new("ip").args(arguments).output();
            assert!(made.is_ok_and(|made| made.status.success()), "ip {} failed", arguments.join(" "));
        }
        TestNamespace(name)
    }

    fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let file = std::fs::File::open(format!("/run/netns/{}", self.0)).unwrap();
        let enter = move || {
            rustix::thread::move_into_link_name_space(file.as_fd(), None).unwrap();
            work()
        };
        thread::spawn(enter).join().unwrap()
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn connection(at: &str) -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind(at).unwrap();
    let client = TcpStream::connect(("localhost", listener.local_addr().unwrap().port()))
        .or_else(|_| TcpStream::connect(listener.local_addr().unwrap()))
        .unwrap();
    let (server, _) = listener.accept().unwrap();
    (listener, client, server)
}

fn by_cookie(sockets: &[SocketSeen], socket: impl AsFd) -> &SocketSeen {
    let cookie = socket_cookie(socket).unwrap();
    sockets.iter().find(|seen| seen.cookie == cookie).unwrap()
}

#[test]
fn own_connections_are_listed() {
    let (listener, client, mut server) = connection("127.0.0.1:0");
    std::io::Write::write_all(&mut server, b"hello").unwrap();
    let mut bytes = [0; 5];
    std::io::Read::read_exact(&mut &client, &mut bytes).unwrap();
    let all = sockets(&Netns::own().unwrap()).unwrap();

    let seen = by_cookie(&all, &listener);
    assert_eq!((seen.state, seen.local), (TcpState::Listen, listener.local_addr().unwrap()));
    assert_eq!(seen.tcp, None);
    let seen = by_cookie(&all, &client);
    assert_eq!((seen.local, seen.remote), (client.local_addr().unwrap(), client.peer_addr().unwrap()));
    assert_eq!(seen.state, TcpState::Established);
    assert_eq!(seen.uid, rustix::process::geteuid().as_raw());
    let counts = seen.tcp.unwrap();
    assert_eq!(counts.bytes_received, 5);
    assert!(counts.rtt_us > 0 && counts.segments_sent > 0);
    assert!(seen.inode != 0);
}

#[test]
fn mapped_addresses_are_ipv4() {
    let listener = TcpListener::bind("[::]:0").unwrap();
    let client = TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
    let (server, _) = listener.accept().unwrap();
    let lister = SocketLister::enter(&Netns::own().unwrap()).unwrap();
    let all = lister.list(Transport::Tcp).unwrap();
    let seen = by_cookie(&all, &server);
    assert!(seen.ipv6);
    assert_eq!((seen.local, seen.remote), (client.peer_addr().unwrap(), client.local_addr().unwrap()));
    // And it is found by them, too.
    let cookie = socket_cookie(&server).unwrap();
    let single = lister.connection(seen.local, seen.remote, cookie).unwrap();
    assert_eq!((single.inode, single.cookie), (seen.inode, cookie));
    assert_eq!(lister.connection(seen.local, seen.remote, cookie + 1_000_000), None);
    assert_eq!(lister.connection(seen.local, seen.remote, 0).map(|found| found.cookie), Some(cookie));
}

#[test]
fn ipv6_and_udp_are_listed() {
    let (_listener, client, _server) = connection("[::1]:0");
    let unconnected = UdpSocket::bind("127.0.0.1:0").unwrap();
    let connected = UdpSocket::bind("[::1]:0").unwrap();
    connected.connect("[::1]:9").unwrap();
    let all = sockets(&Netns::own().unwrap()).unwrap();

    let seen = by_cookie(&all, &client);
    assert!(seen.ipv6 && seen.local.is_ipv6());
    let seen = by_cookie(&all, &unconnected);
    assert_eq!((seen.transport, seen.state), (Transport::Udp, TcpState::Close));
    assert_eq!((seen.local, seen.remote.port()), (unconnected.local_addr().unwrap(), 0));
    let seen = by_cookie(&all, &connected);
    assert_eq!((seen.state, seen.remote), (TcpState::Established, "[::1]:9".parse().unwrap()));
    assert_eq!(seen.tcp, None);
}

/// Without going through those of others, of whom each may have as many as it likes.
#[test]
fn a_udp_socket_is_looked_up() {
    let lister = SocketLister::enter(&Netns::own().unwrap()).unwrap();
    let one = |socket: &UdpSocket, local: &str, remote: &str| {
        let port = socket.local_addr().unwrap().port();
        let local = SocketAddr::new(local.parse().unwrap(), port);
        let cookie = socket_cookie(socket).unwrap();
        match lister.one(Transport::Udp, local, remote.parse().unwrap(), cookie, 0) {
            One::Found(found) => {
                assert_eq!((found.cookie, found.local.port()), (cookie, port));
                "found"
            }
            One::Another => "another",
            One::None => "none",
            One::Unknown => "unknown",
        }
    };
    for (bound, at) in [
        ("127.0.0.1:0", &["127.0.0.1"][..]),
        ("0.0.0.0:0", &["0.0.0.0", "127.0.0.1", "::"]),
        // Of both families.
        ("[::]:0", &["127.0.0.1", "0.0.0.0", "::"]),
    ] {
        let socket = UdpSocket::bind(bound).unwrap();
        for local in at {
            assert_eq!(one(&socket, local, "127.0.0.1:9"), "found", "{bound} {local}");
        }
    }
    for (bound, at) in [("[::1]:0", "::1"), ("[::]:0", "::"), ("[::]:0", "::1")] {
        let socket = UdpSocket::bind(bound).unwrap();
        assert_eq!(one(&socket, at, "[::1]:9"), "found", "{bound} {at}");
    }
    let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
    connected.connect("127.0.0.1:9").unwrap();
    assert_eq!(one(&connected, "127.0.0.1", "127.0.0.1:9"), "found");
    assert_eq!(one(&connected, "127.0.0.1", "127.0.0.1:10"), "none");
    // Of two of one name, whichever the kernel prefers is there; all of the port are told.
    let port = connected.local_addr().unwrap().port();
    let at_port = lister.at_port(Transport::Udp, port).unwrap();
    assert!(at_port.iter().all(|socket| socket.local.port() == port));
    assert_eq!(by_cookie(&at_port, &connected).remote, "127.0.0.1:9".parse().unwrap());
    let other = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
    let found = lister.one(
        Transport::Udp,
        other,
        "127.0.0.1:9".parse().unwrap(),
        socket_cookie(&connected).unwrap() + 1,
        0,
    );
    assert_eq!(found, One::Another);
}

#[test]
#[ignore = "makes a network namespace: needs root and iproute2"]
fn another_namespace_is_listed_and_not_entered() {
    let inner = TestNamespace::new("sockets");
    let before = Netns::own().unwrap();
    let (listener, client, _server) = inner.inside(|| connection("127.0.0.1:0"));
    let path = std::path::PathBuf::from(format!("/run/netns/{}", inner.0));
    let found =
        namespaces().into_iter().find(|namespace| namespace.source == NetnsSource::Path(path.clone()));
    let all = sockets(&found.unwrap()).unwrap();
    assert_eq!(by_cookie(&all, &listener).state, TcpState::Listen);
    assert_eq!(by_cookie(&all, &client).state, TcpState::Established);
    assert_eq!(Netns::own().unwrap(), before);
    let own = sockets(&before).unwrap();
    assert!(own.iter().all(|seen| seen.cookie != socket_cookie(&client).unwrap()));
}

/// Also those that are half closed; not those that listen, nor what is left of one that was closed.
#[test]
fn sockets_that_count_are_listed_alone() {
    let (listener, client, server) = connection("127.0.0.1:0");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(std::io::Read::read(&mut &server, &mut [0; 16]).unwrap(), 0);
    let (_other, gone, gone_server) = connection("[::1]:0");
    let cookies = [&gone, &gone_server].map(|socket| socket_cookie(socket).unwrap());
    drop(gone);
    drop(gone_server);
    let lister = SocketLister::enter(&Netns::own().unwrap()).unwrap();
    // The FIN may be acknowledged some milliseconds later.
    let acknowledged = |sockets: &[SocketSeen]| by_cookie(sockets, &client).state == TcpState::FinWait2;
    let looks = (0..1000).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        let all = lister.list_counted().unwrap();
        (lister.counts().unwrap(), all)
    });
    let (found, all) = looks.into_iter().find(|(_, all)| acknowledged(all)).unwrap();
    let listening = socket_cookie(&listener).unwrap();
    assert!(found.iter().all(|socket| socket.cookie != listening && !cookies.contains(&socket.cookie)));
    assert!(found.is_sorted_by(|one, next| one.cookie < next.cookie));
    // The same as of all sockets.
    for socket in [&client, &server] {
        let cookie = socket_cookie(socket).unwrap();
        let counts = found.iter().find(|it| it.cookie == cookie).unwrap();
        let listed = by_cookie(&all, socket);
        assert_eq!((counts.state, Some(counts.counts)), (listed.state, listed.tcp));
    }
}

/// There is nobody where the kernel says so.
#[test]
fn a_look_up_that_fails_finds_nobody_and_does_not_say_that_nobody_is_there() {
    let of = |error: Errno| not_found(&io::Error::from_raw_os_error(error.raw_os_error()));
    assert_eq!([of(Errno::NOENT), of(Errno::STALE)], [One::None, One::Another]);
    for error in [Errno::NOBUFS, Errno::NOMEM, Errno::INTR, Errno::PERM, Errno::INVAL] {
        assert_eq!(of(error), One::Unknown, "{error}");
    }
    assert_eq!(not_found(&io::Error::from(io::ErrorKind::InvalidData)), One::Unknown);
}

/// A FIN that comes or goes while the kernel answers is counted as a byte.
#[test]
fn counters_of_a_socket_whose_state_changes_meanwhile_are_not_believed() {
    let (_listener, client, server) = connection("127.0.0.1:0");
    let (staying, leaving) = (socket_cookie(&client).unwrap(), socket_cookie(&server).unwrap());
    let found = SocketLister::enter(&Netns::own().unwrap()).unwrap().list_counted().unwrap();
    assert!(
        [&client, &server].iter().all(|socket| by_cookie(&found, socket).tcp.unwrap().segments_received > 0)
    );

    fn believed<T: Listed + Clone>(found: &[T], later: &[(u64, TcpState)]) -> Vec<T> {
        let mut found = found.to_vec();
        let told = believe(&mut found, |each| {
            later.iter().for_each(|(cookie, state)| each(*cookie, *state));
            Ok::<(), ()>(())
        });
        told.unwrap();
        found
    }
    let later = [(staying, TcpState::Established), (leaving, TcpState::CloseWait)];
    let told = believed(&found, &later);
    assert_eq!(by_cookie(&told, &client).tcp, by_cookie(&found, &client).tcp);
    // It was there all the same, and so was one that is gone.
    assert_eq!(by_cookie(&told, &server).tcp, Some(TcpCounts::default()));
    assert_eq!(by_cookie(&believed(&found, &[]), &client).tcp, Some(TcpCounts::default()));
    // The same of those that are no more than counters.
    let state = TcpState::Established;
    let counts = by_cookie(&found, &client).tcp.unwrap();
    let short = [staying, leaving, 0].map(|cookie| SocketCounts { cookie, state, counts });
    let told = believed(&short, &later);
    let of = |cookie| told.iter().find(|it| it.cookie == cookie).unwrap().counts;
    assert_eq!([of(staying), of(leaving), of(0)], [counts, TcpCounts::default(), TcpCounts::default()]);
}

#[test]
fn a_cookie_is_put_together_again() {
    for number in [0, 1, u64::from(u32::MAX), 1 << 32, u64::MAX, 0x0123_4567_89ab_cdef] {
        assert_eq!(cookie(cookie_bytes(number)), number);
    }
}

#[test]
fn counters_of_an_older_kernel_are_shorter() {
    assert_eq!(tcp_counts(&[]), TcpCounts::default());
    let mut info = vec![0; 127];
    info[68] = 7;
    info[120] = 9;
    assert_eq!(tcp_counts(&info), TcpCounts { rtt_us: 7, ..TcpCounts::default() });
}

proptest::proptest! {
    #[test]
    fn any_answer_is_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = read_answer(&bytes, Transport::Tcp, &mut |_| {});
    }
}
