//! Any datagrams, in any order and number: never a panic, nothing that cannot be shown, and what was
//! settled stays, whatever comes after it.

#![no_main]

use dissect::{Hint, Inspection, inspect_datagrams};
use libfuzzer_sys::fuzz_target;
use streamwatch_fuzz::{presentable, turns};

fuzz_target!(|input: &[u8]| {
    let (mut client, mut server): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    let mut settled: Option<Inspection> = None;
    // As many as are kept of a flow.
    for (from_client, datagram) in turns(input).take(32) {
        if from_client { client.push(datagram) } else { server.push(datagram) }
        let now = inspect_datagrams(&client, &server, Hint::default());
        assert!(presentable(&now.facts));
        if let Some(before) = &settled {
            assert_eq!(before.facts, now.facts, "settled, and changed");
        } else if now.settled {
            settled = Some(now);
        }
    }
});
