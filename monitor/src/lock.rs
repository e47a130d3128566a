//! A lock on a file, waited for for a moment: who is about to end, or to become another program, may still have
//! the descriptor of one that was let go of.

use std::fs::File;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// Takes it alone; false: somebody else has it for longer than `patience`.
///
/// # Errors
/// The file cannot be locked at all.
pub fn take(file: &File, patience: Duration) -> io::Result<bool> {
    let until = Instant::now() + patience;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if Instant::now() < until => thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}
