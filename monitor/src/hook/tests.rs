#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;
use crate::record::samples;
use crate::store::posted_path;

fn start(hooks: &[config::Hook]) -> Result<Hooks, HookError> {
    Hooks::start(&ready(hooks)?, &Arc::default())
}

fn ready(hooks: &[config::Hook]) -> Result<Vec<Arc<Ready>>, HookError> {
    hooks.iter().map(|hook| Ready::new(hook).map(Arc::new)).collect()
}

fn notice() -> Notice {
    Notice::of(&samples::context(), &samples::alert()).unwrap()
}

fn hook(command: &[&str]) -> config::Hook {
    let command = Some(command.iter().map(|part| (*part).to_owned()).collect());
    config::Hook { command, timeout_s: 1, queue: 2, ..config::Hook::default() }
}

#[test]
fn a_command_gets_the_record() {
    let directory = crate::temporary::directory();
    let file = directory.path().join("record");
    let script = format!("cat > {}", file.display());
    let hooks = start(&[hook(&["/bin/sh", "-c", &script])]).unwrap();
    hooks.offer(&Arc::new(notice()));
    hooks.finish(Duration::from_secs(20));
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(record["rule"]["id"], "plaintext");
}

#[test]
fn what_is_not_delivered_is_counted() {
    let wanted = [hook(&["/bin/sh", "-c", "sleep 60"]), hook(&["/nonexistent/program"])];
    let hooks = start(&wanted).unwrap();
    for _ in 0..20 {
        hooks.offer(&Arc::new(notice()));
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    // Two wait and one is under way, at most; the others found the queue full.
    while hooks.views().iter().any(|view| view.dropped < 17) {
        assert!(Instant::now() < deadline, "{:?}", hooks.views());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn silences_acknowledgements_and_lesser_severities_go_to_no_hook() {
    let high = config::Hook { log: true, severity: Severity::Critical, ..config::Hook::default() };
    let all = config::Hook { log: true, ..config::Hook::default() };
    let hooks = start(&[high, all]).unwrap();
    let at = jiff::Timestamp::UNIX_EPOCH;
    let why = String::new();
    let known = crate::model::Acknowledgement { by: 0, at, until: at, why: why.clone() };
    let silence = crate::model::Silence { id: 1, filter: why.clone(), by: 0, at, until: at, why };
    let of = |alert: &AlertView| Notice::of(&samples::context(), alert);
    assert_eq!(of(&AlertView { acknowledged: Some(known), ..samples::alert() }), None);
    assert_eq!(of(&AlertView { silenced: Some(silence), ..samples::alert() }), None);
    hooks.offer(&Arc::new(notice()));
    assert_eq!(hooks.views().iter().map(|view| view.offered).collect::<Vec<_>>(), [0, 1]);
    hooks.finish(Duration::from_secs(5));
}

#[test]
fn a_webhook_is_posted_to_and_no_redirect_is_followed() {
    for (answer, delivered) in [("200 OK", true), ("302 Found\r\nLocation: http://127.0.0.1:1/", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut said = Vec::new();
            let mut buffer = [0; 4096];
            while !said.windows(2).any(|end| end == b"}\n") {
                let n = stream.read(&mut buffer).unwrap();
                assert!(n > 0);
                said.extend_from_slice(&buffer[..n]);
            }
            write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").unwrap();
            String::from_utf8(said).unwrap()
        });
        let webhook = Webhook::new(&url, None, Duration::from_secs(10)).unwrap();
        let mut record = Vec::new();
        ecs::encode_alert(&samples::context(), &samples::alert(), &mut record);
        assert_eq!(webhook.post(&record).is_ok(), delivered);
        let said = server.join().unwrap();
        assert!(said.starts_with("POST /in HTTP/1.1\r\n") && said.contains("application/json"), "{said}");
    }
}

#[test]
fn a_hook_is_exactly_one_thing() {
    let both = config::Hook { log: true, webhook: Some("http://x/".into()), ..config::Hook::default() };
    for wrong in [config::Hook::default(), both] {
        assert!(start(&[wrong]).is_err());
    }
    assert!(Webhook::new("ftp://x/", None, PAUSE).is_err());
}

/// A daemon's hooks until it is killed, or ends in good order; a hook that takes a while.
struct Before {
    directory: std::path::PathBuf,
}

impl Before {
    fn new(name: &str) -> Before {
        let directory =
            std::env::temp_dir().join(format!("streamwatch-posted-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        Before { directory }
    }

    fn state(&self) -> std::path::PathBuf {
        self.directory.join("state.redb")
    }

    /// Cursors that the hook was told of, in order.
    fn heard(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.directory.join("heard")).unwrap_or_default();
        let record = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let why = |line: &str| record(line)["event"]["reason"].as_str().unwrap().parse().unwrap();
        text.lines().map(why).collect()
    }

    /// Writes each alert, once there is a file that says that it may.
    fn hook(&self) -> config::Hook {
        let here = self.directory.display();
        let script = format!(
            "n=0; until [ -e {here}/may -o $n = 3000 ]; do n=$((n+1)); sleep 0.02; done; cat >> {here}/heard"
        );
        let queue = 8;
        config::Hook { queue, timeout_s: 60, ..hook(&["/bin/sh", "-c", &script]) }
    }

    fn let_it(&self, may: bool) {
        let file = self.directory.join("may");
        if may { std::fs::write(file, "").unwrap() } else { std::fs::remove_file(file).unwrap() }
    }

    fn next(&self, hooks: &[config::Hook], told: &[SavedAlert]) -> Hooks {
        let mut hooks =
            Hooks::start(&ready(hooks).unwrap(), &Arc::new(Posted::open(&self.state(), hooks))).unwrap();
        hooks.post_again(&samples::context(), told);
        hooks
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn told(cursor: u64) -> SavedAlert {
    SavedAlert { cursor, reason: cursor.to_string(), ..SavedAlert::of(&samples::alert()) }
}

fn notice_of(alert: &SavedAlert) -> Arc<Notice> {
    Arc::new(Notice::of(&samples::context(), &alert.clone().view()).unwrap())
}

fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_was_told_and_not_posted_when_it_was_killed_is_posted_by_the_next_one() {
    let place = Before::new("again");
    let now = jiff::Timestamp::now().as_microsecond() as u64;
    let wanted = [place.hook()];
    let all: Vec<SavedAlert> = (0..9).map(|n| told(now + 1_000_000 + n)).collect();
    let cursors =
        |range: std::ops::Range<usize>| all[range].iter().map(|alert| alert.cursor).collect::<Vec<_>>();
    // The first that has such a file posts nothing of before.
    let hooks = place.next(&wanted, &[told(now - 10)]);
    place.let_it(true);
    for alert in &all[..3] {
        hooks.offer(&notice_of(alert));
    }
    until(|| place.heard().len() == 3);
    until(|| hooks.rows()[0].delivered == 3);
    // Two more are told, and the hook is in the middle of the first when the daemon is killed: the file stays as it is.
    place.let_it(false);
    let file = posted_path(&place.state());
    let left = std::fs::read(&file).unwrap();
    for alert in &all[3..5] {
        hooks.offer(&notice_of(alert));
    }
    assert_eq!(std::fs::read(&file).unwrap(), left);
    let killed = std::mem::ManuallyDrop::new(hooks);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, left).unwrap();
    // The next one posts both. Its worker tells the last of them once more, which is not posted twice, and a new one.
    let hooks = place.next(&wanted, &all[..5]);
    hooks.offer(&notice_of(&all[4]));
    hooks.offer(&notice_of(&all[5]));
    let views = hooks.views();
    assert_eq!((views[0].offered, views[0].dropped), (3, 0));
    place.let_it(true);
    // (Here, the one that was killed goes on.)
    until(|| hooks.rows()[0].delivered == 3 && killed.rows()[0].delivered == 5);
    let mut heard = place.heard();
    heard.sort_unstable();
    assert_eq!(heard, [cursors(0..4), cursors(3..5), cursors(4..6)].concat());
    hooks.finish(Duration::from_secs(5));
    // Nothing is left for the one after it.
    assert_eq!(place.next(&wanted, &all[..6]).views()[0].offered, 0);
}

#[test]
fn what_is_posted_again_is_bounded_and_what_is_beyond_is_counted() {
    let place = Before::new("bounded");
    let soon = config::Hook { timeout_s: 1, ..place.hook() };
    let wanted = [soon.clone(), config::Hook { severity: Severity::Critical, ..soon }];
    let now = jiff::Timestamp::now().as_microsecond() as u64;
    drop(place.next(&wanted, &[]));
    let many: Vec<SavedAlert> = (0..100).map(|n| told(now + 1_000_000 + n)).collect();
    let hooks = place.next(&wanted, &many);
    let views = hooks.views();
    assert_eq!((views[0].offered, views[0].dropped), (100, 92));
    assert_eq!((views[1].offered, views[1].dropped), (0, 0), "it wants worse ones");
}

#[test]
fn no_alert_keeps_later_ones_from_being_posted_again_and_any_bytes_are_a_file() {
    let place = Before::new("bytes");
    let hooks = [config::Hook { log: true, ..config::Hook::default() }];
    let now = jiff::Timestamp::now().as_microsecond() as u64;
    let posted = Posted::open(&place.state(), &hooks);
    assert!(posted.again(0, &[]).is_empty());
    posted.note(0, u64::MAX);
    posted.take(0, u64::MAX);
    drop(posted);
    let later = [told(now + 60_000_000)];
    let never = [told(now + 60_000_000), told(u64::MAX / 2)];
    let posted = Posted::open(&place.state(), &hooks);
    assert_eq!(posted.again(0, &later), later);
    assert_eq!(posted.again(0, &never), later);
    drop(posted);
    for bytes in [&[0xff; 40][..], &[0; 7], &[1; 100_000]] {
        std::fs::write(posted_path(&place.state()), bytes).unwrap();
        let posted = Posted::open(&place.state(), &hooks);
        assert!(posted.again(0, &later).is_empty());
        drop(posted);
        assert_eq!(std::fs::metadata(posted_path(&place.state())).unwrap().len(), 16);
    }
}

#[test]
fn a_clock_that_was_set_back_keeps_nothing_from_being_posted_again() {
    let place = Before::new("set-back");
    let hooks = [config::Hook { log: true, ..config::Hook::default() }];
    let days = |days: u64| jiff::Timestamp::now().as_microsecond() as u64 + days * 86_400_000_000;
    let posted = || Posted::open(&place.state(), &hooks);
    // Cursors go on from before the step.
    let all: Vec<SavedAlert> = (0..4).map(|n| told(days(2) + n)).collect();
    let first = posted();
    assert!(first.again(0, &all[..1]).is_empty(), "it is new");
    first.note(0, all[1].cursor);
    drop(first);
    assert_eq!(posted().again(0, &all), &all[2..]);
    // More than was told is nobody's word: what is told next is known to be new.
    let second = posted();
    second.note(0, days(400));
    drop(second);
    let third = posted();
    assert!(third.again(0, &all).is_empty());
    third.note(0, all[3].cursor);
    drop(third);
    let more = [all.clone(), vec![told(days(3))]].concat();
    assert_eq!(posted().again(0, &more), &more[4..]);
}

#[test]
fn what_is_offered_after_the_end_by_one_who_holds_on_to_hooks_is_lost_and_the_rest_is_delivered() {
    let hooks = Arc::new(start(&[hook(&["/bin/true"])]).unwrap());
    let held = hooks.clone();
    held.offer(&Arc::new(notice()));
    hooks.finish(Duration::from_secs(20));
    held.offer(&Arc::new(notice()));
    assert_eq!(held.rows().iter().map(|row| (row.delivered, row.lost)).collect::<Vec<_>>(), [(1, 1)]);
}
