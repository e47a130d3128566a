#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use simple_dns::rdata::{A, CNAME};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, TYPE, rdata::RData};
use simple_dns::{QCLASS, ResourceRecord};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn asker() -> Asker {
    Asker { netns: 7, cookie: 1, local_port: 5000, server: "10.0.0.53:53".parse().unwrap() }
}

pub(crate) fn query(id: u16, name: &str) -> Vec<u8> {
    let mut packet = Packet::new_query(id);
    let question = simple_dns::Question::new(
        Name::new_unchecked(name),
        QTYPE::TYPE(TYPE::A),
        QCLASS::CLASS(CLASS::IN),
        false,
    );
    packet.questions.push(question);
    packet.build_bytes_vec().unwrap()
}

/// An answer to `asked`: `alias` names its owner and its target; addresses of `owner`.
pub(crate) fn reply(id: u16, asked: &str, alias: Option<(&str, &str)>, owner: &str, ttl: u32) -> Vec<u8> {
    let mut packet = Packet::new_reply(id);
    packet.set_flags(PacketFlag::RESPONSE);
    packet.questions.push(simple_dns::Question::new(
        Name::new_unchecked(asked),
        QTYPE::TYPE(TYPE::A),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    if let Some((owner, target)) = alias {
        let target = RData::CNAME(CNAME(Name::new_unchecked(target)));
        packet.answers.push(ResourceRecord::new(Name::new_unchecked(owner), CLASS::IN, ttl, target));
    }
    let address = RData::A(A { address: std::net::Ipv4Addr::new(192, 0, 2, 7).to_bits() });
    packet.answers.push(ResourceRecord::new(Name::new_unchecked(owner), CLASS::IN, ttl, address));
    packet.build_bytes_vec_compressed().unwrap()
}

fn names(table: &Names, netns: u64, at_ns: u64) -> Vec<String> {
    let address = "192.0.2.7".parse().unwrap();
    table.of(netns, address, at_ns).iter().map(|name| name.to_string()).collect()
}

fn table() -> Names {
    Names::new(["10.0.0.53".parse().unwrap()])
}

#[test]
fn an_answer_names_its_address_as_long_as_it_says() {
    let mut table = table();
    table.asked(asker(), &query(9, "API.example.org"), SECOND);
    let answer = reply(9, "api.EXAMPLE.org", Some(("api.example.org", "edge.cdn.test")), "edge.cdn.test", 60);
    assert!(table.answered(asker(), &answer, 2 * SECOND));
    assert_eq!(names(&table, 7, 3 * SECOND), ["api.example.org", "edge.cdn.test"]);
    assert_eq!(names(&table, 7, 61 * SECOND), ["api.example.org", "edge.cdn.test"]);
    assert!(names(&table, 7, 62 * SECOND).is_empty(), "it has expired");
    assert!(names(&table, 7, SECOND).is_empty(), "it was not known then");
    // What began while it held is still judged by it.
    assert_eq!(names(&table, 7, 30 * SECOND).len(), 2);
    assert!(names(&table, 8, 3 * SECOND).is_empty(), "another namespace has other names");
    assert!(!table.answered(asker(), &answer, 3 * SECOND), "an answer counts once");
}

#[test]
fn what_nobody_asked_for_names_nothing() {
    let good = reply(9, "a.test", None, "a.test", 60);
    let other = Asker { server: "10.6.6.6:53".parse().unwrap(), ..asker() };
    let cases: [(&str, Asker, Vec<u8>); 7] = [
        ("another number", asker(), reply(8, "a.test", None, "a.test", 60)),
        ("another question", asker(), reply(9, "b.test", None, "b.test", 60)),
        ("another server", other, good.clone()),
        ("another socket", Asker { cookie: 2, ..asker() }, good.clone()),
        ("another port", Asker { local_port: 1, ..asker() }, good.clone()),
        ("another namespace", Asker { netns: 8, ..asker() }, good.clone()),
        (
            "a server at another port",
            Asker { server: "10.0.0.53:5353".parse().unwrap(), ..asker() },
            good.clone(),
        ),
    ];
    for (what, from, bytes) in cases {
        let mut table = table();
        table.asked(asker(), &query(9, "a.test"), SECOND);
        // Whoever is not trusted may ask what they like.
        table.asked(other, &query(9, "a.test"), SECOND);
        assert!(!table.answered(from, &bytes, SECOND), "{what}");
        assert!(table.is_empty(), "{what}");
    }
    let mut table = table();
    table.asked(asker(), &query(9, "a.test"), SECOND);
    assert!(!table.answered(asker(), &good, 12 * SECOND), "too late");
}

#[test]
fn only_what_the_question_leads_to_counts() {
    let mut table = table();
    table.asked(asker(), &query(9, "a.test"), SECOND);
    // An address of another name rides along.
    assert!(table.answered(asker(), &reply(9, "a.test", None, "bank.test", 60), SECOND));
    assert!(table.is_empty());
}

#[test]
fn the_table_is_bounded_and_says_so() {
    let mut table = table();
    for number in 0..MOST_OF_ONE as u32 + 1 {
        let name = format!("n{number}.test");
        table.asked(asker(), &query(9, &name), SECOND);
        assert!(table.answered(asker(), &reply(9, &name, None, &name, 60), SECOND));
    }
    assert_eq!((table.len(), table.refused), (MOST_OF_ONE, 1));
    assert!(!table.is_complete(WARM_UP + SECOND), "a name may be missed");
    assert!(table.is_complete(LONGEST + 2 * SECOND));
    for id in 0..u16::MAX {
        table.asked(asker(), &query(id, "a.test"), 2 * SECOND);
    }
    assert!(table.pending.len() <= MOST_PENDING);
}

/// Who asks without end, of a server that does not answer, keeps others' answers from teaching anything.
#[test]
fn a_question_that_is_not_remembered_makes_names_incomplete_and_is_counted() {
    let mut table = table();
    table.asked(asker(), &query(1, "a.test"), SECOND);
    assert!(table.answered(asker(), &reply(1, "a.test", None, "a.test", 60), SECOND));
    let later = SECOND + WARM_UP;
    assert!(table.is_complete(later));
    let flooding = Asker { cookie: 77, ..asker() };
    for id in 0..MOST_PENDING as u16 {
        table.asked(flooding, &query(id, "b.test"), later);
    }
    // One that is asked again takes no other place.
    table.asked(flooding, &query(0, "b.test"), later);
    assert!(table.is_complete(later) && table.refused == 0);
    table.asked(asker(), &query(2, "bank.test"), later);
    assert!(!table.answered(asker(), &reply(2, "bank.test", None, "bank.test", 60), later));
    assert_eq!((table.is_complete(later), table.refused), (false, 1));
}

#[test]
fn without_answers_nothing_is_complete() {
    let table = table();
    assert!(!table.is_complete(u64::MAX));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut table = table();
        table.asked(asker(), &bytes, 0);
        table.answered(asker(), &bytes, 0);
    }

    #[test]
    fn any_change_of_an_answer_is_read_or_refused(
        at in 0usize..200, value in any::<u8>(), cut in 0usize..200
    ) {
        let mut bytes = reply(9, "api.example.org", Some(("api.example.org", "b.test")), "b.test", 60);
        let length = bytes.len();
        bytes[at % length] = value;
        bytes.truncate(length - cut % length);
        let _ = (question(&bytes), answer(&bytes));
    }
}
