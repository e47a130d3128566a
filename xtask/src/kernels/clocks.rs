//! The wall clock is set by days, forth and back, and the host sleeps, while the daemon watches real connections
//! (`guest/clocks.sh`). In: what it told meanwhile, and what the kernel's clocks said. Out: a line for everything that
//! was looked at. All that is computed must follow CLOCK_MONOTONIC: between two times that were read around it.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;

use super::check::{self, Line, line};
use super::flows;
use super::observations::pairs;
use super::qemu::Session;

/// What it is called where it is told.
pub const NAME: &str = "the wall clock is set, and the host sleeps: nothing that is computed follows it";
/// What of it is skipped where the machine does not sleep.
pub const ASLEEP: &str = "the host sleeps";

const SECOND: u64 = 1_000_000_000;
/// As far as a label may be from what the wall clock says, seconds: less than a step, more than any delay.
const HOUR: i64 = 3600;

type Pairs = HashMap<String, String>;

/// What was asked at one moment.
struct Look {
    /// CLOCK_MONOTONIC before and behind it, ns.
    from: u64,
    until: u64,
    /// The wall clock behind it, seconds.
    wall: i64,
    told: Vec<(String, Value)>,
}

impl Look {
    fn of<'a>(&'a self, what: &'a str) -> impl Iterator<Item = &'a Value> {
        self.told.iter().filter(move |(section, _)| section == what).map(|(_, value)| value)
    }
}

#[derive(Default)]
struct Seen {
    steps: Vec<Pairs>,
    traffic: Vec<Pairs>,
    looks: Vec<Look>,
    records: Vec<Value>,
    /// What a hook was told.
    posted: Vec<Value>,
    daemon: Pairs,
    said: Vec<String>,
    complaints: Vec<String>,
    complete: bool,
}

impl Seen {
    fn read(session: &Session) -> Seen {
        let mut seen = Seen::default();
        for (section, lines) in session.sections() {
            let json = || lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let marks = || lines.first().map(|line| pairs(line)).unwrap_or_default();
            match section {
                "steps" => seen.steps.push(marks()),
                "traffic" => seen.traffic.push(marks()),
                "look" => {
                    let from = number(&marks(), "monotonic");
                    seen.looks.push(Look { from, until: from, wall: 0, told: Vec::new() });
                }
                "looked" => {
                    if let Some(look) = seen.looks.last_mut() {
                        look.until = number(&marks(), "monotonic");
                        look.wall = number(&marks(), "wall") as i64;
                    }
                }
                "records" => seen.records.extend(json()),
                "posted" => seen.posted.extend(json()),
                "daemon" => {
                    seen.daemon = marks();
                    seen.said = lines.iter().skip(1).map(|line| (*line).to_owned()).collect();
                }
                "complaints" => seen.complaints = lines.iter().map(|line| (*line).to_owned()).collect(),
                "sleep" => {}
                "end" => seen.complete = true,
                what => {
                    if let Some(look) = seen.looks.last_mut() {
                        look.told.extend(json().map(|value| (what.to_owned(), value)));
                    }
                }
            }
        }
        seen
    }

    /// CLOCK_MONOTONIC at the end, ns: nothing took longer.
    fn ended(&self) -> u64 {
        self.looks.last().map_or(0, |look| look.until)
    }

    fn last<'a>(&'a self, what: &'a str) -> Option<&'a Value> {
        self.looks.last()?.of(what).next()
    }
}

/// Whether it said nothing more once it was told to sleep. One that died of it has not stayed asleep.
pub fn did_not_wake(session: &Session) -> bool {
    !session.over && session.sections().last().is_some_and(|(section, _)| *section == "sleep")
}

/// What was looked at, and why the host did not sleep, if it did not.
pub fn judge(session: &Session) -> (Vec<Line>, Option<String>) {
    let seen = Seen::read(session);
    let mut lines = vec![line("the clock is set", set(&seen))];
    for expected in &seen.traffic {
        let name = expected.get("name").map_or("traffic", String::as_str);
        let wrong = flows::check(expected, &seen.records).or_else(|| lasted(expected, &seen.records));
        lines.push(line(name, wrong));
    }
    lines.push(line("durations", first_wrong(durations(&seen))));
    lines.push(line("times since the start", first_wrong(uptimes(&seen))));
    lines.push(line("labels", first_wrong(labels(&seen))));
    lines.push(line("streams", first_wrong(streams(&seen))));
    lines.push(line("histograms", first_wrong(histograms(&seen))));
    lines.push(line("totals", totals(&seen)));
    lines.push(line("alerts", first_wrong(alerts(&seen))));
    lines.push(line("hook", hook(&seen)));
    lines.push(line("acknowledgement", acknowledged(&seen)));
    lines.push(line("self-check", first_wrong(self_checks(&seen))));
    lines.push(line("loss", check::loss(seen.last("status"), &seen.records)));
    lines.push(line(
        "script",
        (!seen.complete).then(|| format!("ended early: {}", check::last(&session.console))),
    ));
    lines.push(line("daemon", check::daemon(&seen.daemon, &seen.said)));
    lines.push(line("kernel", check::complaints(&seen.complaints)));
    let asleep = seen.steps.iter().find(|step| step.get("name").is_some_and(|name| name == "asleep"));
    let skipped = match asleep {
        None => Some("this machine cannot sleep".to_owned()),
        Some(step) => (number(step, "boot") * SECOND <= number(step, "monotonic") + 2 * SECOND)
            .then(|| "this machine did not sleep when it was told to".to_owned()),
    };
    (lines, skipped)
}

fn first_wrong(wrong: Vec<String>) -> Option<String> {
    let more = wrong.len().saturating_sub(1);
    let first = wrong.into_iter().next()?;
    Some(if more == 0 { first } else { format!("{first}, and {more} more") })
}

fn number(pairs: &Pairs, key: &str) -> u64 {
    pairs.get(key).and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// Or nothing is tested.
fn set(seen: &Seen) -> Option<String> {
    let by: Vec<i64> = seen.steps.iter().filter_map(|step| step.get("wall")?.parse().ok()).collect();
    let day = 24 * HOUR - 60;
    let (forth, back) =
        (by.iter().filter(|by| **by >= day).count(), by.iter().filter(|by| **by <= -2 * day).count());
    (forth < 2 || back < 2).then(|| format!("{forth} times forth by a day or more, {back} times back by two"))
}

/// Both ends of a connection lasted as long as it was open, by the times around its beginning and its end.
fn lasted(expected: &Pairs, records: &[Value]) -> Option<String> {
    let at = |key: &str| number(expected, key);
    let (least, most) =
        (at("closing").saturating_sub(at("talked")), at("closed").saturating_sub(at("opened")));
    let port = at("port");
    let ends = records
        .iter()
        .filter(|record| record["event"]["action"] == "flow_closed" && record["server"]["port"] == port);
    for end in ends {
        let duration = end["event"]["duration"].as_u64();
        if duration.is_none_or(|ns| ns < least || ns > most) {
            return Some(format!("a duration of {duration:?} ns, which is not from {least} to {most}"));
        }
    }
    None
}

/// Of every record that has one, also of flows that go on.
fn durations(seen: &Seen) -> Vec<String> {
    let flows = seen.looks.iter().flat_map(|look| look.of("flows").map(|record| (look.until, record)));
    let told = seen.records.iter().map(|record| (seen.ended(), record));
    let mut wrong = Vec::new();
    for (until, record) in flows.chain(told) {
        let event = &record["event"];
        if event.get("duration").is_none() {
            continue;
        }
        let Some(ns) = event["duration"].as_u64().filter(|ns| *ns <= until) else {
            wrong.push(format!("{} of {until} ns: {record}", event["duration"]));
            continue;
        };
        let Some(start) = time(&event["start"]) else {
            wrong.push(format!("no start: {record}"));
            continue;
        };
        // Both are labels of one clock: what lies between them is no step.
        let end =
            event.get("end").map(|end| time(end).map(|end| end.as_nanosecond() - start.as_nanosecond()));
        if end.is_some_and(|between| between != Some(i128::from(ns))) {
            wrong.push(format!("from start to end it is not {ns} ns: {record}"));
        }
    }
    wrong
}

/// Between two looks the daemon has aged by what lies between them, and never by a step.
fn uptimes(seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut before: Option<(&Look, u64)> = None;
    for look in &seen.looks {
        let Some(uptime) = look.of("status").next().and_then(|status| status["uptime_ns"].as_u64()) else {
            wrong.push("the daemon did not say how long it runs".to_owned());
            continue;
        };
        if uptime > look.until {
            wrong.push(format!("{uptime} ns of {}", look.until));
        }
        if let Some((earlier, was)) = before {
            let (least, most) =
                (look.from.saturating_sub(earlier.until), look.until.saturating_sub(earlier.from));
            if uptime < was + least || uptime > was + most {
                wrong.push(format!("{was} ns, then {uptime}, and {least} to {most} later"));
            }
        }
        before = Some((look, uptime));
    }
    if seen.looks.len() < 4 {
        wrong.push(format!("only {} looks", seen.looks.len()));
    }
    wrong
}

/// What is told after a step bears the time that the wall clock says then.
fn labels(seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    for look in &seen.looks {
        let mut near = |what: &str, at: Option<i64>| {
            if at.is_none_or(|at| (at - look.wall).abs() > HOUR) {
                wrong.push(format!("{what} is {at:?}, the clock says {}", look.wall));
            }
        };
        for status in look.of("status") {
            near("the start", time(&status["started_at"]).map(Timestamp::as_second));
        }
        for flow in look.of("flows").filter(|flow| flow["streamwatch"]["flow"]["state"] == "open") {
            near("the time of a flow", time(&flow["@timestamp"]).map(Timestamp::as_second));
            near("the start of a flow", time(&flow["event"]["start"]).map(Timestamp::as_second));
        }
    }
    wrong
}

fn streams(seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut streams = 0;
    for look in &seen.looks {
        for record in look.of("streams") {
            streams += 1;
            let stream = &record["streamwatch"]["stream"];
            let (first, last) = (time(&stream["first_seen"]), time(&stream["last_seen"]));
            let age = first.zip(last).map(|(first, last)| last.as_nanosecond() - first.as_nanosecond());
            if age.is_none_or(|age| age < 0 || age > i128::from(look.until)) {
                wrong.push(format!("from first to last seen {age:?} ns of {}: {stream}", look.until));
            }
        }
    }
    if streams == 0 {
        wrong.push("none was told".to_owned());
    }
    wrong
}

fn histograms(seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut counted = 0;
    for look in &seen.looks {
        for one in look.of("hist").filter(|one| one["unit"] == "ns") {
            counted += one["count"].as_u64().unwrap_or(0);
            // Three digits are kept.
            if one["max"].as_u64().is_none_or(|max| max > look.until / 1000 * 1002) {
                wrong.push(format!("{} of {} ns", one["max"], look.until));
            }
        }
    }
    if counted == 0 {
        wrong.push("nothing was measured".to_owned());
    }
    wrong
}

/// Both ends are here: each connection counts once.
fn totals(seen: &Seen) -> Option<String> {
    let sum = |key: &str| seen.traffic.iter().map(|one| number(one, key)).sum::<u64>();
    let (sent, received) = (sum("sent"), sum("received"));
    let told = &seen.last("status")?["totals"];
    (told["client_bytes"] != sent || told["server_bytes"] != received || told["of_no_flow_bytes"] != 0)
        .then(|| format!("{sent} and {received} bytes were sent, {told} were told"))
}

/// Each connection is one in the clear with a service that is new, told once. Nothing else is wrong: no step is.
fn alerts(seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut opened, mut cursor) = (HashMap::new(), 0);
    for record in seen.records.iter().filter(|record| record["event"]["dataset"] == "streamwatch.alert") {
        let (alert, rule) = (&record["streamwatch"]["alert"], record["rule"]["id"].as_str().unwrap_or(""));
        match record["event"]["action"].as_str() {
            Some("alert_opened") if ["plaintext", "new-service"].contains(&rule) => {
                *opened.entry(alert["key"].as_str().unwrap_or("")).or_insert(0) += 1;
            }
            Some("alert_acknowledged") => {}
            _ => wrong.push(format!("{}: {}", record["event"]["action"], record["message"])),
        }
        let next = alert["cursor"].as_u64().unwrap_or(0);
        if next <= cursor {
            wrong.push(format!("a cursor went from {cursor} to {next}"));
        }
        cursor = next;
        let (first, last) = (time(&alert["first_seen"]), time(&alert["last_seen"]));
        if first.is_none() || first > last {
            wrong.push(format!("first seen after it was last seen: {alert}"));
        }
    }
    for (key, times) in &opened {
        if *times != 1 {
            wrong.push(format!("{key} opened {times} times"));
        }
    }
    let plaintext = opened.keys().filter(|key| key.starts_with("plaintext|")).count();
    if plaintext != seen.traffic.len() {
        wrong.push(format!("{plaintext} alerts of {} connections in the clear", seen.traffic.len()));
    }
    wrong
}

/// Of each alert that was opened it was told, in their order.
fn hook(seen: &Seen) -> Option<String> {
    let cursors = |records: &[Value]| -> Vec<u64> {
        let opened = records.iter().filter(|record| record["event"]["action"] == "alert_opened");
        opened.filter_map(|record| record["streamwatch"]["alert"]["cursor"].as_u64()).collect()
    };
    let (told, posted) = (cursors(&seen.records), cursors(&seen.posted));
    (told != posted).then(|| format!("{} alerts were told, {} posted: {posted:?}", told.len(), posted.len()))
}

/// It was said for a month, which no step ends.
fn acknowledged(seen: &Seen) -> Option<String> {
    let known = |record: &Value| record["streamwatch"]["alert"]["acknowledged"]["why"] == "held on purpose";
    let looks: Vec<&Look> = seen.looks.iter().filter(|look| look.of("alerts").next().is_some()).collect();
    let held = looks.iter().filter(|look| look.of("alerts").any(known)).count();
    (held != looks.len() || held < 3).then(|| format!("there in {held} of {} looks", looks.len()))
}

fn self_checks(seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    for status in seen.looks.iter().flat_map(|look| look.of("status")) {
        let (check, worker, state) = (&status["self_check"], &status["worker"], &status["state"]);
        if check["overdue"] != false || !check["failed"].is_null() {
            wrong.push(format!("of itself it says {check}"));
        }
        if worker["restarts"] != 0 {
            wrong.push(format!("the worker ended {} times", worker["restarts"]));
        }
        if state["kept"] != true || state["whole"] != true {
            wrong.push(format!("the state is not kept: {state}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_that_says_nothing_once_it_sleeps_did_not_wake() {
        let session = |results: &str, over| {
            did_not_wake(&Session {
                console: String::new(),
                results: results.to_owned(),
                took: Duration::default(),
                over,
            })
        };
        assert!(session("== looked\nwall=1\n== sleep\n", false));
        assert!(!session("== looked\nwall=1\n== sleep\n", true));
        assert!(!session("== sleep\n== steps\nname=asleep\n", false));
    }
}
