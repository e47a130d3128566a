//! The bounds of sampling, and that nothing within them is missed.

use super::*;
use dissect::activity::{Broker, Event, Outcome};
use dissect::{End, Plain, Protection, Protocol};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn fingerprint(secret: &[u8]) -> u64 {
    secret.len() as u64
}

fn settings() -> config::Sampling {
    config::Sampling::default()
}

fn http() -> Protection {
    Protection::Plaintext(Plain::Protocol(Protocol::Http))
}

fn server() -> Broker {
    (1, std::net::SocketAddr::from(([10, 0, 0, 1], 80)))
}

/// A flow as the kernel sees it: two directions, captured as it was asked to.
struct Rig {
    watch: Watch,
    sampling: Sampling,
    now_ns: u64,
    /// What the kernel captures: generation, base and limit of each direction.
    generation: u32,
    base: [u32; 2],
    limit: u32,
    sent: [u32; 2],
    captured: u64,
}

impl Rig {
    fn new(settings: config::Sampling) -> Rig {
        let sampling = Sampling::new(&settings);
        let watch =
            Watch::plaintext((http(), &[]), server(), (b"", b""), false, STEP, &sampling, &fingerprint)
                .expect("HTTP");
        Rig {
            watch,
            sampling,
            now_ns: SECOND,
            generation: 0,
            base: [0; 2],
            limit: STEP,
            sent: [0; 2],
            captured: 0,
        }
    }

    fn obey(&mut self, wanted: Option<Decision>) {
        let Some(wanted) = wanted else { return };
        match wanted.action {
            decision::SETTLE => self.limit = 0,
            decision::SAMPLE => (self.base, self.limit) = (self.sent, wanted.sent_limit),
            _ => self.limit = wanted.sent_limit,
        }
        self.generation = wanted.generation;
    }

    fn send(&mut self, from: End, bytes: &[u8]) {
        let side = usize::from(from == End::Server);
        let offset = self.sent[side] - self.base[side];
        self.sent[side] += bytes.len() as u32;
        let room = self.limit.saturating_sub(offset).min(bytes.len() as u32) as usize;
        if room > 0 {
            self.captured += room as u64;
            let place = (self.generation, offset);
            let wanted = self.watch.capture(
                from,
                place,
                &bytes[..room],
                &mut self.sampling,
                &fingerprint,
                self.now_ns,
            );
            self.obey(wanted);
        }
    }

    fn second(&mut self) {
        self.now_ns += SECOND;
        let wanted = self.watch.tick(true, &mut self.sampling, &fingerprint, self.now_ns);
        self.obey(wanted);
    }

    fn failures(&mut self) -> usize {
        let failed =
            |event: &Event| matches!(event, Event::Authentication(a) if a.outcome == Outcome::Failed);
        self.watch.take().iter().filter(|event| failed(event)).count()
    }
}

const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nAuthorization: Basic YTpi\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const NO: &[u8] = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";

#[test]
fn at_an_ordinary_rate_every_answer_is_read() {
    let mut rig = Rig::new(settings());
    let mut found = 0;
    for request in 0..2000 {
        rig.send(End::Client, REQUEST);
        rig.send(End::Server, if request % 100 == 99 { NO } else { OK });
        if request % 50 == 0 {
            rig.second();
        }
        found += rig.failures();
    }
    assert_eq!(found, 20);
}

#[test]
fn a_failure_after_a_flood_is_found_in_a_later_sample() {
    let mut rig = Rig::new(settings());
    for _ in 0..20_000 {
        rig.send(End::Client, REQUEST);
        rig.send(End::Server, OK);
    }
    assert_eq!(rig.failures(), 0);
    for _ in 0..10 {
        rig.second();
    }
    rig.send(End::Client, REQUEST);
    rig.send(End::Server, NO);
    assert_eq!(rig.failures(), 1);
}

proptest! {
    /// Whatever the traffic, a flow costs no more than its rate, its burst and one window.
    #[test]
    fn the_rate_holds(bursts in proptest::collection::vec(1usize..400, 1..40)) {
        let settings = config::Sampling { flow_bytes_per_s: 10_000, ..settings() };
        let mut rig = Rig::new(settings);
        for burst in &bursts {
            for _ in 0..*burst {
                rig.send(End::Client, REQUEST);
                rig.send(End::Server, &[b'x'; 1400]);
            }
            rig.second();
        }
        let allowed = 10_000 * (bursts.len() as u64 + 5) + 4 * u64::from(STEP);
        prop_assert!(rig.captured <= allowed, "{} > {}", rig.captured, allowed);
    }
}

#[test]
fn pieces_that_overtake_each_other_are_read_in_order_and_a_lost_one_is_a_gap() {
    let mut lane = lane::Lane::default();
    let bytes = |text: &[u8]| lane::Piece::Bytes(text.into());
    assert_eq!(lane.push(3, b"def", 0), []);
    assert_eq!(lane.push(0, b"abcd", 0), [bytes(b"abcd"), bytes(b"ef")]);
    assert_eq!(lane.push(2, b"cdef", 0), []);
    assert_eq!(lane.push(10, b"xyz", SECOND), []);
    assert_eq!(lane.tick(SECOND), []);
    assert_eq!(lane.tick(3 * SECOND), [lane::Piece::Gap, bytes(b"xyz")]);
}

#[test]
fn an_encrypted_flow_is_seen_when_it_goes_on_in_the_clear() {
    let mut sampling = Sampling::new(&settings());
    for (bytes, clear) in [(&b"GET /plain HTTP/1.1\r\nHost: somewhere\r\n\r\n"[..], true), (&noise(), false)]
    {
        let (mut watch, wanted) = Watch::encrypted(&mut sampling, SECOND).expect("a glance");
        assert_eq!((wanted.action, wanted.sent_limit), (decision::SAMPLE, GLANCE));
        assert_eq!(watch.tick(true, &mut sampling, &fingerprint, 2 * SECOND), None);
        let place = (wanted.generation, 0);
        watch.capture(End::Client, place, bytes, &mut sampling, &fingerprint, 3 * SECOND);
        assert_eq!(watch.is_in_the_clear().is_some(), clear);
        let over = watch.has_glanced();
        let last = watch.tick(true, &mut sampling, &fingerprint, 20 * SECOND);
        assert!(over || last.is_some_and(|wanted| wanted.action == decision::SETTLE));
        assert!(watch.has_glanced());
    }
}

fn noise() -> Vec<u8> {
    (0..700u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Behind a gap nobody knows where a record begins: the sample ends there.
#[test]
fn a_look_reads_nothing_behind_a_gap() {
    let mut sampling = Sampling::new(&settings());
    let (mut watch, decision) = Watch::encrypted(&mut sampling, SECOND).expect("a look");
    let mut capture = |offset: u32, bytes: &[u8], now_ns: u64| {
        watch.capture(End::Client, (decision.generation, offset), bytes, &mut sampling, &fingerprint, now_ns);
        watch.tick(true, &mut sampling, &fingerprint, now_ns + 2 * SECOND);
        watch.is_in_the_clear()
    };
    // TLS 1.2 with AES-GCM: short records are mostly their header and a nonce that counts.
    let record =
        |count: u8| [&[23, 3, 3, 0, 40, 0, 0, 0, 0, 0, 0, 0, count][..], &[0xa5 ^ count; 32]].concat();
    let records: Vec<u8> = (1..5).flat_map(record).collect();
    assert_eq!(capture(0, &records, SECOND), None);
    let text = b"what stands somewhere in the middle of something else, and says nothing alone ".repeat(4);
    assert_eq!(capture(400, &text, 2 * SECOND), None, "one capture of the sample was lost");
}
