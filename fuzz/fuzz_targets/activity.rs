//! Any bytes of both directions of each protocol in the clear, cut anywhere, with gaps: never a panic,
//! nothing held beyond the limits, no string that cannot be shown; and without gaps, what was found does
//! not depend on the cuts.

#![no_main]

use dissect::activity::{EVENTS, Event, LIMIT, Observer};
use dissect::{End, Plain, Protection, Protocol};
use libfuzzer_sys::fuzz_target;
use streamwatch_fuzz::turns;

const PROTOCOLS: [Plain; 17] = [
    Plain::Protocol(Protocol::Http),
    Plain::Protocol(Protocol::Postgresql),
    Plain::Protocol(Protocol::Mysql),
    Plain::Protocol(Protocol::Redis),
    Plain::Protocol(Protocol::Mongodb),
    Plain::Protocol(Protocol::Kafka),
    Plain::Protocol(Protocol::Amqp),
    Plain::Protocol(Protocol::Mqtt),
    Plain::Protocol(Protocol::Nats),
    Plain::Protocol(Protocol::Smtp),
    Plain::Protocol(Protocol::Imap),
    Plain::Protocol(Protocol::Pop3),
    Plain::Protocol(Protocol::Ftp),
    Plain::Protocol(Protocol::Ldap),
    Plain::Readable,
    Plain::Protocol(Protocol::Http2),
    Plain::Protocol(Protocol::Socks),
];

/// Of the first byte, what says that the connection is read from its middle.
const MIDSTREAM: u8 = 0x80;

/// A secret's length is told from it, and nothing else.
fn fingerprint(secret: &[u8]) -> u64 {
    secret.len() as u64
}

/// What was found, and how much more.
fn read<'a>(
    midstream: bool,
    plain: Plain,
    pieces: impl Iterator<Item = (bool, &'a [u8])>,
) -> (Vec<Event>, u64) {
    let protection = Protection::Plaintext(plain);
    let observer = if midstream { Observer::midstream(protection) } else { Observer::new(protection) };
    let Some(mut observer) = observer else { return (Vec::new(), 0) };
    let mut found = Vec::new();
    for (from_client, piece) in pieces {
        let from = if from_client { End::Client } else { End::Server };
        // An empty piece stands for a gap.
        match piece {
            [] => observer.gap(from),
            _ => observer.feed(from, piece, &fingerprint),
        }
        assert!(observer.held() <= 2 * LIMIT, "holds {} bytes", observer.held());
        let events = observer.take();
        assert!(events.len() <= EVENTS);
        found.extend(events);
    }
    (found, observer.dropped())
}

fn presentable(event: &Event) -> bool {
    let text = |text: &str| text.chars().count() <= 255 && !text.chars().any(char::is_control);
    match event {
        Event::Operation(operation) => operation.object.as_deref().is_none_or(text),
        Event::Authentication(answer) => text(&answer.code),
        Event::Credential(credential) => credential.token.as_ref().is_none_or(|token| {
            let lists = token.scopes.iter().chain(&token.audience);
            token.scopes.len() <= 16
                && token.audience.len() <= 8
                && token.algorithm.iter().chain(lists).all(|it| text(it))
        }),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let plain = PROTOCOLS[usize::from(first & !MIDSTREAM) % PROTOCOLS.len()];
    let midstream = first & MIDSTREAM != 0;
    let whole: Vec<(bool, &[u8])> = turns(rest).take(256).collect();
    let (found, dropped) = read(midstream, plain, whole.iter().copied());
    assert!(found.iter().all(presentable), "{found:?}");
    let cut = whole.iter().flat_map(|(from, piece)| {
        let empty = piece.is_empty().then_some((*from, *piece));
        piece.chunks(7).map(|chunk| (*from, chunk)).chain(empty)
    });
    let (again, dropped_again) = read(midstream, plain, cut);
    // After a gap, whether a message begins is judged by what is there; and where there was more than is
    // kept between two looks, the looks are what differs.
    let gaps = midstream || whole.iter().any(|(_, piece)| piece.is_empty());
    if !gaps && dropped == 0 && dropped_again == 0 {
        assert_eq!(found, again, "another cut, another answer");
    }
});
