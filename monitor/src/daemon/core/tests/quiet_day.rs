//! A day of ordinary traffic through the core and all detectors: nothing is told.
//!
//! Made up, after what hosts do: services that follow the hour, a connection that lives all day, health
//! checks, log-ins of which some fail, jobs, a backup, updates, deploys with their seconds of refusal.

use super::*;

const STEP: u64 = 5;
const DAY: u64 = 86_400;

/// A host that lives through a day.
struct Host {
    rig: Rig,
    cookie: u64,
    random: u64,
    told: Vec<String>,
}

impl Host {
    fn new() -> Host {
        let settings = CoreSettings { capacity: 4096, closed_keep: 16, ..settings() };
        Host { rig: Rig::new(settings), cookie: 0, random: 88_172_645_463_325_252, told: Vec::new() }
    }

    /// From 0 to 1.
    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % 10_000) as f64 / 10_000.0
    }

    fn open(&mut self, process: u32, server: &str) -> FlowEvent {
        self.cookie += 1;
        let local = format!("127.0.0.1:{}", 1024 + self.cookie % 60_000);
        let open = self.rig.event(Kind::Open, self.cookie, &local, server, false);
        let open = FlowEvent { owner: Owner { tgid: process, seen_ns: 1, ..Owner::default() }, ..open };
        self.rig.feed(Kind::Open, open);
        open
    }

    fn close(&mut self, open: FlowEvent, sent_bytes: u64, received_bytes: u64) {
        let at_ns = self.rig.now_ns;
        self.rig.feed(Kind::Close, FlowEvent { sent_bytes, received_bytes, at_ns, ..open });
    }

    /// A connection with one request.
    fn request(&mut self, process: u32, server: &str, request: &[u8], response: &[u8], more: u64) {
        let open = self.open(process, server);
        self.rig.capture(&open, true, 0, request);
        self.rig.capture(&open, false, 0, response);
        self.close(open, request.len() as u64, response.len() as u64 + more);
    }

    /// A connection that moves bytes and shows nothing that could be read.
    fn transfer(&mut self, process: u32, server: &str, bytes: u64) {
        let open = self.open(process, server);
        self.close(open, 1000, bytes);
    }

    fn refused(&mut self, process: u32, server: &str) {
        self.cookie += 1;
        let local = format!("127.0.0.1:{}", 1024 + self.cookie % 60_000);
        let failed = self.rig.event(Kind::Failed, self.cookie, &local, server, false);
        let owner = Owner { tgid: process, seen_ns: 1, ..Owner::default() };
        self.rig.feed(Kind::Failed, FlowEvent { owner, flags: failed.flags | flow_flag::ANSWERED, ..failed });
    }

    fn pass(&mut self, at_s: u64) {
        self.rig.pass(STEP * SECOND);
        let records = self.rig.records();
        let told = alerts(&records).into_iter().map(|alert| {
            let (hour, minute) = (at_s % DAY / 3600, at_s % 3600 / 60);
            format!("{hour:02}:{minute:02} {} {:?}: {}", alert.rule.as_str(), alert.state, alert.reason)
        });
        self.told.extend(told);
    }
}

const LOG_IN: &[u8] = b"GET /me HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YWxpY2U6b3BlbnNlc2FtZQ==\r\n\r\n";
const DENIED: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

/// How busy it is: least at four in the morning.
fn busy(at_s: u64) -> f64 {
    let hour = (at_s % DAY) as f64 / 3600.0;
    0.55 - 0.45 * ((hour - 4.0) / 24.0 * std::f64::consts::TAU).cos()
}

fn live(host: &mut Host, at_s: u64, database: &mut Option<(FlowEvent, u64)>) {
    let deploys = [10 * 3600, 14 * 3600, 16 * 3600 + 1800].map(|deploy| at_s.wrapping_sub(deploy));
    let deploying = deploys.iter().any(|since| *since < 5);
    if deploying {
        // Two clients try again at once.
        host.refused(100, "127.0.0.1:8080");
        host.refused(101, "127.0.0.1:8080");
    } else {
        let requests = (5.0 * busy(at_s) * (0.5 + host.chance())).ceil() as u64;
        for _ in 0..requests {
            host.request(100, "127.0.0.1:8080", REQUEST, RESPONSE, 4000);
        }
    }
    if deploying && let Some((open, bytes)) = database.take() {
        host.close(open, bytes / 4, bytes);
    }
    let (open, bytes) = database.get_or_insert_with(|| (host.open(102, "127.0.0.1:5432"), 0));
    *bytes += 2000 + (50_000.0 * busy(at_s)) as u64;
    let progress = FlowEvent {
        sent_bytes: *bytes / 4,
        received_bytes: *bytes,
        at_ns: host.rig.now_ns,
        kind: Kind::Progress as u8,
        ..*open
    };
    host.rig.feed(Kind::Progress, progress);
    if at_s.is_multiple_of(10) {
        host.request(103, "127.0.0.1:8082", REQUEST, RESPONSE, 0);
    }
    // Somebody mistypes now and then, and twice in a row.
    if host.chance() < 0.1 * busy(at_s) {
        for _ in 0..2 {
            if host.chance() < 0.1 {
                host.request(104, "127.0.0.1:8081", LOG_IN, DENIED, 0);
            }
        }
        host.request(104, "127.0.0.1:8081", LOG_IN, RESPONSE, 500);
    }
    // Every ten minutes for twenty seconds, every hour for two minutes, at night for twenty.
    if at_s % 600 < 20 {
        host.transfer(105, "127.0.0.1:9000", 8_000_000);
    }
    if at_s % 3600 < 120 {
        host.transfer(106, "127.0.0.1:9001", 40_000_000);
    }
    if (3 * 3600..3 * 3600 + 1200).contains(&at_s) {
        host.transfer(107, "10.0.0.9:873", 200_000_000);
    }
    // Updates, three times; and pages of many hosts.
    if [7, 13, 19].iter().any(|hour| (hour * 3600 + 300..hour * 3600 + 340).contains(&at_s)) {
        host.transfer(108, "10.0.0.2:443", 60_000_000);
    }
    if host.chance() < 0.02 * busy(at_s) {
        let server = format!("10.1.0.{}:443", 1 + (host.chance() * 60.0) as u64);
        for _ in 0..6 {
            host.transfer(109, &server, 400_000);
        }
    }
}

#[test]
fn a_day_of_ordinary_traffic_is_told_nothing_of() {
    let mut host = Host::new();
    let mut database = None;
    for at_s in (0..DAY).step_by(STEP as usize) {
        live(&mut host, at_s, &mut database);
        host.pass(at_s);
    }
    assert!(host.rig.core.table.seen > 60_000, "a day of {} flows is none", host.rig.core.table.seen);
    assert!(host.told.is_empty(), "{} alerts:\n{}", host.told.len(), host.told.join("\n"));
    // The same host is not deaf: what is out of the ordinary is told.
    for _ in 0..6 {
        host.request(104, "127.0.0.1:8081", LOG_IN, DENIED, 0);
    }
    for step in 0..4 {
        for _ in 0..400 {
            host.request(100, "127.0.0.1:8080", REQUEST, RESPONSE, 4000);
        }
        for port in 0..6 {
            host.refused(110, &format!("10.0.0.3:{}", 7000 + 6 * step + port));
        }
        host.pass(DAY + step * STEP);
    }
    for rule in ["auth-failures", "traffic-spike", "connect-failures"] {
        assert!(host.told.iter().any(|told| told.contains(rule)), "{rule} is missing: {:?}", host.told);
    }
}
