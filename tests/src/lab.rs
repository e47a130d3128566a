//! A place of a test's own: a cgroup that the daemon watches, two network namespaces with a link,
//! a directory.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{Cgroup, Directory, Finished, NetnsPair, Place, Process, finish};

/// What joins the two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    Veth,
    /// A relay between two TUN devices that drops some packets and lets some overtake others.
    Unruly,
}

/// Clients on the left, servers on the right; both inside the watched cgroup.
#[derive(Debug)]
pub struct Lab {
    pub directory: Directory,
    pub cgroup: Cgroup,
    pub pair: NetnsPair,
    _relay: Option<Process>,
}

impl Lab {
    /// A lab joined by veth.
    ///
    /// # Errors
    /// The host refused a part of it.
    pub fn new(name: &str) -> Result<Self> {
        Lab::with_link(name, LinkKind::Veth)
    }

    /// # Errors
    /// The host refused a part of it.
    pub fn with_link(name: &str, kind: LinkKind) -> Result<Self> {
        let directory = Directory::new()?;
        let cgroup = Cgroup::new(name)?;
        let (pair, relay) = match kind {
            LinkKind::Veth => (NetnsPair::new()?, None),
            LinkKind::Unruly => {
                let pair = NetnsPair::unlinked()?;
                let relay = relay(&pair, &directory)?;
                (pair, Some(relay))
            }
        };
        Ok(Lab { directory, cgroup, pair, _relay: relay })
    }

    /// Where clients run.
    pub fn client(&self) -> Place {
        Place {
            cgroup: Some(self.cgroup.path().to_owned()),
            netns: Some(self.pair.left.name().to_owned()),
            user: None,
        }
    }

    /// Where servers run, and clients that reach them over loopback.
    pub fn server(&self) -> Place {
        Place { netns: Some(self.pair.right.name().to_owned()), ..self.client() }
    }

    /// Runs a client to its end, and expects success.
    ///
    /// # Errors
    /// It failed, or still runs after `patience`.
    pub fn run(&self, command: std::process::Command, patience: Duration) -> Result<Finished> {
        let shown = format!("{command:?}");
        finish(command, patience)?.success().context(shown)
    }
}

/// Starts the relay in the left namespace and moves the device of the right side there.
fn relay(pair: &NetnsPair, directory: &Directory) -> Result<Process> {
    let place = Place { netns: Some(pair.left.name().to_owned()), ..Place::default() };
    let mut command = place.command("/usr/bin/python3");
    command.arg(crate::servers::program("unruly_relay.py")).args(["link0", "link1"]);
    let mut process = Process::start("relay", directory, command)?;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    // The relay makes both devices at once.
    while pair.left.ip(&["link", "show", "link1"]).is_err() {
        anyhow::ensure!(process.ended()?.is_none(), "the relay ended; it said:\n{}", process.said());
        anyhow::ensure!(
            std::time::Instant::now() < deadline,
            "the relay makes no device: {}",
            process.said()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    pair.left.ip(&["link", "set", "link1", "netns", pair.right.name(), "name", "link0"])?;
    pair.address("link0")?;
    Ok(process)
}
