//! Any record of the ring: an event or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use monitor::event::{Event, address, decode, to_bytes};

fuzz_target!(|record: &[u8]| {
    let Ok(event) = decode(record) else { return };
    if let Event::Capture(head, data) = &event {
        assert_eq!(data.len(), head.len as usize);
        assert!(data.len() <= record.len());
        let remote = address(head.remote, head.remote_port);
        assert_eq!(address(to_bytes(remote.ip()), head.remote_port), remote);
    }
});
