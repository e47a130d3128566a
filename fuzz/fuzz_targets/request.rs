//! Any question to the API, as the part of its address behind the path: parameters, or an error that says which.

#![no_main]

use libfuzzer_sys::fuzz_target;
use monitor::api::fuzzing::parameters;

fuzz_target!(|query: &str| {
    if let Err(told) = parameters(query) {
        assert!(!told.is_empty());
    }
});
