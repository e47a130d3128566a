//! Whatever a worker says to its loader, taken over or not: a message, or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use monitor::daemon::fuzzing::said_by_worker;

fuzz_target!(|bytes: &[u8]| {
    let Some(again) = said_by_worker(bytes) else { return };
    // What was understood is said the same way, and understood again.
    assert_eq!(said_by_worker(&again), Some(again));
});
