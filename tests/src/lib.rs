//! What the end-to-end tests stand on: a place of their own on this host, real servers in it, the
//! daemon watching it, and what the daemon wrote.
//!
//! A [`Lab`] is a cgroup and a pair of network namespaces; everything a test starts lives in them,
//! and the daemon watches that cgroup alone, so that tests see nothing of each other or of the
//! host. Every guard undoes what it did when it is dropped, in a panic, and on SIGTERM.
//!
//! To add a server: its Debian package in `xtask/src/requirements.rs`, a function that starts it in
//! `servers/`, and a row in the table of `tests/protocols.rs`.

#![forbid(unsafe_code)]

pub mod amounts;
pub mod api;
mod authorisation;
mod certificates;
mod cgroup;
mod daemon;
mod ending;
pub mod exact;
pub mod fdinfo;
pub mod guesses;
mod lab;
pub mod memory;
mod netns;
pub mod others;
pub mod pcap;
mod pins;
mod process;
mod record;
mod secrets;
pub mod servers;
pub mod stages;
mod suite;
pub mod traffic;

pub use authorisation::{Authorisation, Units};
pub use certificates::Certificates;
pub use cgroup::Cgroup;
pub use daemon::{Daemon, DaemonOptions, Ended, Heard, binary, now_ns};
pub use ending::{Directory, undo_on_signals, wait_if_ending};
pub use lab::{Lab, LinkKind};
pub use netns::{LEFT, Netns, NetnsPair, RIGHT};
pub use pins::Bpffs;
pub use process::{Finished, Place, Process, Stopped, finish};
pub use record::{field, is_alert, is_closed, is_flow, is_loss, number, show, text};
pub use secrets::no_secret;
pub use servers::Server;
pub use suite::{Skip, Suite};
