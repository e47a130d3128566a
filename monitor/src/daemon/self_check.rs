//! A datagram of our own to ourselves now and then: that it is heard of proves the whole way from the socket
//! over the hooks and the ring to the core.
//!
//! It goes over loopback, from a socket that is there for it alone. Must never: be told as a flow; say more
//! than it shows. With `--cgroup`, the daemon itself is not watched as a rule, and nothing is sent.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::work::Order;

const EVERY: Duration = Duration::from_secs(10);

/// The core is asked to expect it; longer it is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether sockets of this process are seen by hooks at this cgroup.
pub fn is_watched(cgroup: &Path, root: &Path) -> bool {
    let own = procfs::process::Process::myself().and_then(|process| process.cgroups()).ok();
    let Some(own) = own.and_then(|own| own.into_iter().find(|one| one.hierarchy == 0)) else { return false };
    let own = root.join(own.pathname.trim_start_matches('/'));
    match (std::fs::canonicalize(own), std::fs::canonicalize(cgroup)) {
        (Ok(own), Ok(cgroup)) => own.starts_with(cgroup),
        _ => false,
    }
}

/// Sends one every ten seconds until `stop` is gone.
pub fn run(orders: &Sender<Order>, stop: &Receiver<()>) {
    loop {
        let failed = once(orders).err().map(|error| error.to_string());
        if let Some(error) = failed
            && orders.send(Order::SelfCheckFailed(error)).is_err()
        {
            return;
        }
        match stop.recv_timeout(EVERY) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return,
        }
    }
}

fn once(orders: &Sender<Order>) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let here = socket.local_addr()?;
    let (ready, wait) = bounded(1);
    // A core that is gone, or too busy to say so, is expected to hear of it all the same.
    let ready = Box::new(move |()| {
        let _ = ready.send(());
    });
    if orders.send(Order::SelfCheck { port: here.port(), pid: std::process::id(), ready }).is_ok() {
        let _ = wait.recv_timeout(PATIENCE);
    }
    socket.connect(here)?;
    socket.send(b"streamwatch: is this seen?").map(drop)
}
