//! The DNS servers that this host is told to ask.

use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

/// systemd-resolved stands in the first file and its own servers in the second.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
const LARGEST: u64 = 64 << 10;

/// Name servers of resolv.conf(5), of the host's own and of systemd-resolved's.
pub fn host_resolvers() -> Vec<IpAddr> {
    let mut all = Vec::new();
    for path in FILES {
        let mut bytes = Vec::new();
        let read = crate::regular::open_to_read(Path::new(path))
            .and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
        if read.is_ok() {
            all.extend(servers(&String::from_utf8_lossy(&bytes)));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn servers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        // A link-local address names its interface behind a %.
        let address = words.next()?.split('%').next()?;
        address.parse::<IpAddr>().ok().map(|address| address.to_canonical())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_and_the_rest_is_not() {
        let text =
            "# nameserver 1.1.1.1\nnameserver 127.0.0.53\nsearch a\nnameserver fe80::1%eth0\nnameserver x\n";
        let all: Vec<String> = servers(text).map(|address| address.to_string()).collect();
        assert_eq!(all, ["127.0.0.53", "fe80::1"]);
    }
}
