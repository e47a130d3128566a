use super::*;
use proptest::prelude::*;

/// How a stack turns messages into records.
#[derive(Clone, Copy, Debug)]
struct Manner {
    together: bool,
    /// Records are padded to a multiple of this.
    block: u16,
    /// The most that a record holds.
    limit: u16,
}

impl Manner {
    fn records(self, tag: u16, messages: &[u32]) -> Vec<u16> {
        let sum = [messages.iter().sum::<u32>()];
        let messages = if self.together { &sum[..] } else { messages };
        let mut lengths = Vec::new();
        for message in messages {
            let mut left = *message;
            while left > 0 {
                let part = left.min(u32::from(self.limit));
                left -= part;
                let inner = (part as u16 + 1).next_multiple_of(self.block).min(FULL + 1);
                lengths.push(inner + tag);
            }
        }
        lengths
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    NotRequested,
    Refused,
    Presented,
    TurnedDown,
}

#[derive(Clone, Debug)]
struct Play {
    truth: Truth,
    hash: u16,
    tag: u16,
    limited: bool,
    client: Vec<u16>,
    server: Vec<u16>,
}

fn chain() -> impl Strategy<Value = u32> {
    prop::collection::vec(220u32..2500, 1..6)
        .prop_map(|sizes| 8 + sizes.iter().map(|size| size + 5).sum::<u32>())
}

fn signature() -> impl Strategy<Value = u32> {
    prop_oneof![70u32..=72, 102u32..=104, Just(64), Just(114), Just(256), Just(384), Just(512), Just(3309)]
        .prop_map(|length| length + 8)
}

fn manner(block: impl Strategy<Value = u16>) -> impl Strategy<Value = Manner> {
    let limit = prop_oneof![8 => Just(FULL), 1 => Just(FULL - 1), 1 => 512u16..4096];
    (any::<bool>(), block, limit).prop_map(|(together, block, limit)| Manner { together, block, limit })
}

fn play(block: impl Strategy<Value = u16> + Clone) -> impl Strategy<Value = Play> {
    let truth = prop_oneof![
        Just(Truth::NotRequested),
        Just(Truth::Refused),
        Just(Truth::Presented),
        Just(Truth::TurnedDown)
    ];
    // Two bytes are as long as an alert.
    let data = || prop::collection::vec(prop_oneof![Just(1u32), 3u32..3000], 0..4);
    (
        (truth, any::<bool>(), prop_oneof![9 => Just(16u16), 1 => Just(8u16)]),
        (manner(block.clone()), manner(block)),
        (chain(), chain(), signature(), signature()),
        (6u32..180, 20u32..400, prop::collection::vec(50u32..1400, 0..3)),
        (data(), data()),
    )
        .prop_map(|((truth, long, tag), (from_client, from_server), sizes, server, (said, answered))| {
            let hash = if long { 48 } else { 32 };
            let finished = u32::from(4 + hash);
            let (own, servers, proof, servers_proof) = sizes;
            let (extensions, request, tickets) = server;
            let mut flight = vec![extensions];
            if truth != Truth::NotRequested {
                flight.push(request);
            }
            flight.extend([servers, servers_proof, finished]);
            let mut server = from_server.records(tag, &flight);
            let each = |manner: Manner, messages: &[u32]| {
                Manner { together: false, ..manner }.records(tag, messages)
            };
            if truth == Truth::TurnedDown {
                server.extend(each(from_server, &[2]));
            } else {
                server.extend(from_server.records(tag, &tickets));
                server.extend(each(from_server, &answered));
            }
            let flight = match truth {
                Truth::NotRequested => vec![finished],
                Truth::Refused => vec![u32::from(EMPTY_CERTIFICATE), finished],
                Truth::Presented | Truth::TurnedDown => vec![own, proof, finished],
            };
            let mut client = from_client.records(tag, &flight);
            client.extend(each(from_client, &said));
            client.extend(each(from_client, &[2]));
            let limited = from_client.limit < FULL - 1 || from_server.limit < FULL - 1;
            Play { truth, hash, tag, limited, client, server }
        })
}

fn judged(play: &Play, client: usize, server: usize) -> Judgement {
    judge(Handshake {
        hash: play.hash,
        tag: play.tag,
        pre_shared_key: false,
        early_data: false,
        limited: play.limited,
        client: &play.client[..client],
        server: &play.server[..server],
    })
}

fn is_wrong(truth: Truth, state: State) -> bool {
    match state {
        State::Unknown => false,
        State::NotRequested => truth != Truth::NotRequested,
        State::Refused => truth != Truth::Refused,
        State::Presented => truth != Truth::Presented,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// However much of both directions is there.
    #[test]
    fn nothing_wrong_is_said_of_any_stack(play in play(Just(1)), cuts: (prop::sample::Index, prop::sample::Index)) {
        let (client, server) = (cuts.0.index(play.client.len() + 1), cuts.1.index(play.server.len() + 1));
        let judgement = judged(&play, client, server);
        let state = judgement.certificate.state;
        prop_assert!(!is_wrong(play.truth, state), "{state:?} at {client}/{server}");
        prop_assert!(!judgement.refused_by_server || play.truth == Truth::TurnedDown, "{client}/{server}");
    }

    /// Padding to a multiple of anything, in both directions or in one.
    #[test]
    fn padding_never_misleads(play in play(prop_oneof![Just(1u16), 2u16..80, 80u16..2000, Just(16), Just(512), Just(4096)])) {
        let state = judged(&play, play.client.len(), play.server.len()).certificate.state;
        prop_assert!(!is_wrong(play.truth, state), "{state:?}");
    }

    /// With as many records as it says it needs, more of them change nothing.
    #[test]
    fn more_records_change_nothing(play in play(prop_oneof![Just(1u16), 2u16..600]), cuts: (prop::sample::Index, prop::sample::Index)) {
        let (client, server) = (cuts.0.index(play.client.len() + 1), cuts.1.index(play.server.len() + 1));
        let early = judged(&play, client, server);
        if client >= early.client_needs && server >= early.server_needs {
            prop_assert_eq!(early, judged(&play, play.client.len(), play.server.len()));
        }
    }

    /// Any lengths at all.
    #[test]
    fn nothing_panics(client in prop::collection::vec(any::<u16>(), 0..12), server in prop::collection::vec(any::<u16>(), 0..12), flags: (bool, bool)) {
        let _ = judge(Handshake { hash: 32, tag: 16, pre_shared_key: flags.0, early_data: flags.1, limited: false, client: &client, server: &server });
    }
}

/// Without padding, and with both sides whole, only what is not there is left open.
#[test]
fn what_shows_is_said() {
    let judge_of = |hash, client: &[u16], server: &[u16]| {
        judge(Handshake {
            hash,
            tag: 16,
            pre_shared_key: false,
            early_data: false,
            limited: false,
            client,
            server,
        })
        .certificate
        .state
    };
    let asking = [23, 62, 865, 281, 69, 250, 250];
    let not_asking = [23, 865, 281, 69, 250, 250];
    // OpenSSL: one message a record.
    assert_eq!(judge_of(48, &[69, 35], &not_asking), State::NotRequested);
    assert_eq!(judge_of(48, &[25, 69, 35], &asking), State::Refused);
    assert_eq!(judge_of(48, &[865, 281, 69, 35], &asking), State::Presented);
    // BoringSSL: several messages a record.
    assert_eq!(judge_of(32, &[53, 91], &[1300, 250]), State::NotRequested);
    assert_eq!(judge_of(32, &[61, 93], &[1300, 250, 88]), State::Refused);
    assert_eq!(judge_of(32, &[1150, 91, 19], &[1300, 250, 88, 19]), State::Presented);
    // The sides contradict each other.
    assert_eq!(judge_of(48, &[69, 35], &asking), State::Unknown);
    assert_eq!(judge_of(48, &[865, 281, 69, 35], &not_asking), State::Unknown);
}

/// A message cut by an agreed limit may end in a part as long as a Finished or an alert.
#[test]
fn the_end_of_a_message_that_was_cut_is_no_finished_and_no_alert() {
    for (part, hash) in [(53, 32), (69, 32), (69, 48), (85, 48), (19, 32)] {
        let server = [23, 37, 1152, 1152, part, 95, 21 + hash, 19];
        let client = [250, 95, 21 + hash, 19];
        for (client, server) in
            [(&client[..], &server[..6]), (&client[..3], &server[..6]), (&client, &server)]
        {
            let shake = Handshake {
                hash,
                tag: 16,
                pre_shared_key: false,
                early_data: false,
                limited: true,
                client,
                server,
            };
            let judgement = judge(shake);
            assert_eq!(judgement.certificate.state, State::Unknown, "{shake:?}");
            assert_eq!(judgement.refused_by_server, server.len() == 8, "{shake:?}");
        }
    }
}
