//! Any datagrams to and from a DNS server: never a panic, names that can be shown, and a table within its
//! bounds.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use monitor::names::{Asker, Names, answer, question};
use streamwatch_fuzz::turns;

fuzz_target!(|input: &[u8]| {
    let server = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
    let mut names = Names::new([server]);
    let asker = Asker { netns: 1, cookie: 7, local_port: 40_000, server: (server, 53).into() };
    let mut at_ns = 0;
    for (from_client, datagram) in turns(input).take(16) {
        at_ns += 1_000_000;
        if from_client {
            names.asked(asker, datagram, at_ns);
        } else {
            names.answered(asker, datagram, at_ns);
        }
        let asked = question(datagram).map(|(_, question)| question.name);
        let answered = answer(datagram);
        let told = asked.iter().chain(answered.iter().flat_map(|it| &it.names));
        for name in told {
            assert!(name.len() <= 1024 && !name.chars().any(char::is_control), "{name:?}");
        }
        if let Some(answer) = &answered {
            assert!(answer.addresses.len() <= 256 && answer.names.len() <= 17);
            for (address, _) in &answer.addresses {
                assert!(names.of(1, *address, at_ns).len() <= 64);
            }
        }
    }
});
