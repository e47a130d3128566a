//! Dialogues put together at random: what is told of log-ins, secrets and requests does not depend on where the pieces
//! are cut.

mod words;

use dissect::activity::{Event, LIMIT, Observer};
use dissect::{End, Plain, Protection, Protocol};
use proptest::collection::vec;
use proptest::prelude::*;
use words::{OTHERS, WORDS};

const PROTOCOLS: [Protocol; 21] = [
    Protocol::Http,
    Protocol::Http2,
    Protocol::Postgresql,
    Protocol::Mysql,
    Protocol::Redis,
    Protocol::Mongodb,
    Protocol::Kafka,
    Protocol::Amqp,
    Protocol::Mqtt,
    Protocol::Nats,
    Protocol::Smtp,
    Protocol::Imap,
    Protocol::Pop3,
    Protocol::Ftp,
    Protocol::Ldap,
    Protocol::Socks,
    Protocol::Telnet,
    Protocol::Stomp,
    Protocol::Syslog,
    Protocol::Xmpp,
    Protocol::Grpc,
];

/// What is told, and whether that is all.
fn told(protocol: Protocol, turns: &[(End, Vec<u8>)], mut cut: impl FnMut() -> usize) -> (Vec<Event>, bool) {
    let Some(mut observer) = Observer::new(Protection::Plaintext(Plain::Protocol(protocol))) else {
        return (Vec::new(), true);
    };
    let mut told = Vec::new();
    for (from, bytes) in turns {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, next) = rest.split_at(cut().clamp(1, rest.len()));
            observer.feed(*from, piece, &|secret: &[u8]| secret.iter().map(|byte| u64::from(*byte)).sum());
            assert!(observer.held() <= 2 * LIMIT);
            told.extend(observer.take());
            rest = next;
        }
    }
    observer.end();
    told.extend(observer.take());
    (told, observer.is_in_step())
}

/// Turns of one protocol's words, and a few of what no protocol says; most are read as that protocol.
fn turns() -> impl Strategy<Value = (Protocol, Vec<(End, Vec<u8>)>)> {
    let word = |words: &'static [&'static [u8]]| {
        prop_oneof![
            12 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
            1 => prop::sample::select(OTHERS).prop_map(<[u8]>::to_vec),
            1 => (prop::sample::select(words), any::<prop::sample::Index>())
                .prop_map(|(word, at)| word[..at.index(word.len() + 1)].to_vec()),
            // More of a message than is looked at, or held.
            1 => (prop::sample::select(words), prop::sample::select(vec![100usize, 4090, 5000, 17_000]))
                .prop_map(|(word, length)| [word, &vec![b'x'; length]].concat()),
        ]
    };
    (0..WORDS.len()).prop_flat_map(move |index| {
        let client = word(WORDS[index].client).prop_map(|bytes| (End::Client, bytes));
        let server = word(WORDS[index].server).prop_map(|bytes| (End::Server, bytes));
        let protocol = prop_oneof![
            4 => prop::sample::select(WORDS[index].protocols),
            1 => prop::sample::select(&PROTOCOLS[..]),
        ];
        (protocol, vec(prop_oneof![client, server], 0..16))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_of_words_at_random_is_the_same_however_they_are_cut(
        (protocol, turns) in turns(),
        cuts in vec(1usize..40, 1..20),
    ) {
        let whole = told(protocol, &turns, || usize::MAX);
        prop_assert_eq!(&told(protocol, &turns, || 1), &whole, "a byte at a time");
        let mut cuts = cuts.iter().copied().cycle();
        prop_assert_eq!(&told(protocol, &turns, || cuts.next().unwrap_or(1)), &whole, "in pieces");
    }
}
