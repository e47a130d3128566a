//! What the worker wants of the loader, on one socket: what is there goes together.

use std::os::unix::net::UnixStream;

use crossbeam_channel::{Receiver, never, select};

use super::super::core::{Command, Lookup};
use super::super::link::{CHANGES_TOGETHER, ToLoader};
use crate::alert::Change;
use crate::hook::Notice;
use crate::wire::{Frames, WireError};

/// Where it comes from.
pub(in super::super) struct Mouths {
    pub commands: Receiver<Command>,
    pub lookups: Receiver<Lookup>,
    pub changes: Receiver<Vec<Change>>,
    pub alerts: Receiver<Notice>,
    /// Answers, and how far the end has come. While somebody may say that, the others are awaited.
    pub replies: Receiver<ToLoader>,
}

/// Speaks until the last of `replies` is said.
///
/// # Errors
/// The loader is gone: there is nobody to speak to.
pub(in super::super) fn run(mut mouths: Mouths, socket: UnixStream) -> Result<(), WireError> {
    let mut frames = Frames::new(socket);
    loop {
        select! {
            recv(mouths.commands) -> first => match first {
                Ok(first) => frames.put_burst(first, &mouths.commands, ToLoader::Command)?,
                Err(_) => mouths.commands = never(),
            },
            recv(mouths.lookups) -> first => match first {
                Ok(first) => frames.put_burst(first, &mouths.lookups, ToLoader::Lookup)?,
                Err(_) => mouths.lookups = never(),
            },
            recv(mouths.changes) -> batch => match batch {
                Ok(batch) => put_changes(&mut frames, batch)?,
                Err(_) => mouths.changes = never(),
            },
            recv(mouths.alerts) -> alert => match alert {
                Ok(alert) => frames.put(&ToLoader::Alert(alert))?,
                Err(_) => mouths.alerts = never(),
            },
            recv(mouths.replies) -> reply => {
                let Ok(reply) = reply else { return frames.flush() };
                let last = matches!(reply, ToLoader::Ended { .. });
                if last {
                    // What was handed over before it goes before it.
                    for batch in mouths.changes.try_iter() {
                        put_changes(&mut frames, batch)?;
                    }
                    for alert in mouths.alerts.try_iter() {
                        frames.put(&ToLoader::Alert(alert))?;
                    }
                }
                frames.put(&reply)?;
                if last {
                    return frames.flush();
                }
            }
        }
        // What else is there is taken before anybody is woken for it.
        let more = !(mouths.commands.is_empty() && mouths.lookups.is_empty());
        if !more {
            frames.flush()?;
        }
    }
}

fn put_changes(frames: &mut Frames<UnixStream>, batch: Vec<Change>) -> Result<(), WireError> {
    let mut batch = batch.into_iter().peekable();
    while batch.peek().is_some() {
        frames.put(&ToLoader::Changes(batch.by_ref().take(CHANGES_TOGETHER).collect()))?;
    }
    Ok(())
}
