//! Network namespaces, and two of them joined by a link.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::ending::{Guard, Undo, unique};

/// A network namespace with its loopback up; deleted on drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
    _guard: Guard,
}

impl Netns {
    /// A new, empty one.
    ///
    /// # Errors
    /// `ip` is missing or we may not.
    pub fn new() -> Result<Self> {
        let name = format!("swt{}", unique());
        ip(&["netns", "add", &name])?;
        let guard = Guard::new(Undo::DeleteNamespace(name.clone()));
        // Duplicate address detection would hold up every first IPv6 packet for a second.
        let mut quick = Command::new("nsenter");
        quick.arg(format!("--net=/run/netns/{name}")).args(["sh", "-c"]);
        quick.arg("for all in all default; do echo 0 > /proc/sys/net/ipv6/conf/$all/accept_dad; done");
        ensure!(quick.status()?.success(), "IPv6 of a network namespace could not be set up");
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(Netns { name, _guard: guard })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in it.
    ///
    /// # Errors
    /// `ip` said no.
    pub fn ip(&self, arguments: &[&str]) -> Result<()> {
        ip(&[&["-n", self.name.as_str()], arguments].concat())
    }
}

/// Two namespaces joined by veth. The left one is meant for clients, the right one for servers.
#[derive(Debug)]
pub struct NetnsPair {
    pub left: Netns,
    pub right: Netns,
}

/// Private addresses, the same in every pair: pairs do not see each other.
pub const LEFT: [&str; 2] = ["10.213.0.1", "fd13::1"];
pub const RIGHT: [&str; 2] = ["10.213.0.2", "fd13::2"];

impl NetnsPair {
    /// Two namespaces without a link.
    ///
    /// # Errors
    /// See [`Netns::new`].
    pub fn unlinked() -> Result<Self> {
        Ok(NetnsPair { left: Netns::new()?, right: Netns::new()? })
    }

    /// Two namespaces joined by a pair of veth devices, with IPv4 and IPv6 addresses.
    ///
    /// # Errors
    /// See [`Netns::new`].
    pub fn new() -> Result<Self> {
        let pair = NetnsPair::unlinked()?;
        let peer = ["peer", "name", "link0", "netns", pair.right.name()];
        pair.left.ip(&[&["link", "add", "link0", "type", "veth"][..], &peer].concat())?;
        pair.address("link0")?;
        Ok(pair)
    }

    /// Gives the device of each side its addresses and takes it up.
    pub(crate) fn address(&self, device: &str) -> Result<()> {
        for (side, [v4, v6]) in [(&self.left, LEFT), (&self.right, RIGHT)] {
            side.ip(&["address", "add", &format!("{v4}/24"), "dev", device])?;
            // Without duplicate address detection the address can be used at once.
            side.ip(&["address", "add", &format!("{v6}/64"), "dev", device, "nodad"])?;
            side.ip(&["link", "set", device, "up"])?;
        }
        Ok(())
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
