//! The thread that writes down what must outlive the daemon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::stages::Stage;
use crate::alert::Change;
use crate::store::Store;

/// Changes that come within this time are written together: each commit waits for the disk.
const TOGETHER: Duration = Duration::from_millis(200);

/// Writes until the core has hung up, and then what is left.
pub fn run(store: &Store, changes: &Receiver<Vec<Change>>, stage: &Arc<Stage>) {
    run_with(|batch| store.keep(batch), changes, stage);
}

/// [`run`] with what keeps.
pub(super) fn run_with<E: std::fmt::Display>(
    mut keep: impl FnMut(&[Change]) -> Result<(), E>,
    changes: &Receiver<Vec<Change>>,
    stage: &Stage,
) {
    let mut told = false;
    while let Ok(mut batch) = changes.recv() {
        let until = Instant::now() + TOGETHER;
        while let Ok(more) = changes.recv_deadline(until) {
            batch.extend(more);
        }
        let count = batch.len() as u64;
        if let Err(error) = keep(&batch) {
            stage.of(0).lose(count);
            // Once: a full disk would fill the log as well.
            if !std::mem::replace(&mut told, true) {
                eprintln!("streamwatch: alerts are not kept over a restart: {error}");
            }
        } else {
            stage.of(0).deliver(count);
            told = false;
        }
    }
}
