//! The worker: the process that touches what comes from outside. It decodes, dissects, keeps the tables,
//! raises alerts, writes the records and answers the API.
//!
//! In: the ring, and what the loader looks up and reads. Out: records, answers, and requests to the loader.
//! Must never: open, connect to or start anything: see [`super::confine`].

pub(super) mod hear;
mod pipeline;
pub(super) mod speak;

use std::io::BufReader;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic;
use std::process::abort;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::confine::{ConfineError, User, confine};
use super::link::{Descriptors, FROM_LOADER, Start};
use super::private;
use super::signals::outlive_limits;
use super::start::RunError;
use crate::priority;
use crate::wire::{self, WireError};

/// Why the worker does not run. One line, on standard error.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the worker is started by 'streamwatch run', not by hand")]
    ByHand,
    #[error("the worker's start: {0}")]
    Io(#[from] std::io::Error),
    #[error("the worker's start: {0}")]
    Wire(#[from] WireError),
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error("the worker's start: {0}")]
    Policy(#[from] crate::policy::PolicyError),
    #[error("the worker's start: {0}")]
    Api(#[from] crate::api::SocketError),
    #[error("the worker's start: {0}")]
    Run(#[from] RunError),
}

/// Runs until the loader says so, or is gone. Standard input is the socket to it.
///
/// # Errors
/// It was not started by a loader, or cannot be confined.
pub fn run() -> Result<(), WorkerError> {
    // While its files below /proc are its user's.
    priority::goes_as_others(None);
    private::keep_private()?;
    // Ctrl-C reaches every process of a terminal; when the worker ends is for the loader to say.
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, ignored.clone())?;
    }
    outlive_limits(&ignored)?;
    let own = std::io::stdin().as_fd().try_clone_to_owned()?;
    let socket = UnixStream::from(own);
    if socket.peer_addr().is_err() {
        return Err(WorkerError::ByHand);
    }
    let descriptors = Descriptors::receive(&socket)?;
    let mut from = BufReader::with_capacity(1 << 16, socket.try_clone()?);
    let start: Start = wire::read(&mut from, FROM_LOADER, &mut Vec::new())?.ok_or(WorkerError::ByHand)?;
    let (id, group) = start.user;
    let confined = confine(User { id, group })?;
    end_as_one();
    pipeline::run(start, descriptors, from, socket, confined)
}

/// A thread that panics ends the process: the loader starts another, rather than go on with a part of one.
fn end_as_one() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        before(panic);
        abort();
    }));
}
