//! Any bytes of both directions, cut anywhere: never a panic, nothing that cannot be shown, what was
//! settled stays, and the whole says the same however it was cut.

#![no_main]

use dissect::{Hint, Inspection, Prefix, inspect_stream};
use libfuzzer_sys::fuzz_target;
use streamwatch_fuzz::{presentable, turns};

fn look(client: &[u8], server: &[u8], ended: bool, midstream: bool) -> Inspection {
    let prefix = |bytes| Prefix { bytes, ended, midstream };
    inspect_stream(prefix(client), prefix(server), Hint::default())
}

fuzz_target!(|input: &[u8]| {
    let Some((flags, rest)) = input.split_first() else { return };
    let midstream = flags & 1 != 0;
    let (mut client, mut server) = (Vec::new(), Vec::new());
    let mut settled: Option<Inspection> = None;
    for (from_client, piece) in turns(rest).take(64) {
        if from_client { client.extend_from_slice(piece) } else { server.extend_from_slice(piece) }
        let now = look(&client, &server, false, midstream);
        assert!(presentable(&now.facts));
        if let Some(before) = &settled {
            assert_eq!(before.facts, now.facts, "settled, and changed");
        } else if now.settled {
            settled = Some(now);
        }
    }
    let whole = look(&client, &server, true, midstream);
    assert!(presentable(&whole.facts));
    if let Some(settled) = settled {
        assert_eq!(settled.facts, whole.facts, "settled, and changed at the end");
    }
});
