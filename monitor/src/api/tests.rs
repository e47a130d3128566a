//! Over a real socket, with a thread that answers as the core does.

#![allow(clippy::unwrap_used)]

mod limits;
mod roles;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::broadcast;

use super::*;
use crate::alert::Rest;
use crate::flows::FlowsReader;
use crate::model::{Acknowledgement, AlertView, Silence};
use crate::record::samples;
use crate::status::{HistogramView, StatusView};

/// A directory with a socket in it.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Place(crate::temporary::directory())
    }

    pub fn socket(&self) -> PathBuf {
        self.0.path().join("api.sock")
    }
}

struct Server {
    place: Place,
    alerts: broadcast::Sender<Arc<AlertView>>,
    handle: Option<ApiHandle>,
}

fn serve(limits: Limits, core: impl Fn(Request) + Send + 'static) -> Server {
    let place = Place::new();
    let (requests, queue) = crossbeam_channel::bounded(4);
    let (alerts, _) = broadcast::channel(4);
    let options = Options { socket: place.socket(), context: samples::context(), ..Options::default() };
    let handle = start_with(options, limits, requests, alerts.clone()).unwrap();
    thread::spawn(move || queue.into_iter().for_each(core));
    Server { place, alerts, handle: Some(handle) }
}

fn answering(request: Request) {
    match request {
        Request::Flows(reply) => {
            let flows = vec![Arc::new(samples::flow()), Arc::new(samples::tls_flow())];
            drop(reply.send(FlowsReader::of(flows)))
        }
        Request::Streams(reply) => drop(reply.send(vec![Arc::new(samples::stream())])),
        Request::Alerts(reply) => drop(reply.send(vec![Arc::new(samples::alert())])),
        Request::Histograms { reset, reply } => {
            let name = if reset { "reset" } else { "kept" }.to_owned();
            drop(reply.send(vec![HistogramView { name, ..HistogramView::default() }]));
        }
        Request::Status(reply) => drop(reply.send(StatusView::default())),
        Request::Policy(reply) => drop(reply.send("# rules\n".into())),
        Request::AlertsAfter { after, reply } => {
            let told = match after {
                None => vec![Arc::new(samples::alert())],
                Some(_) => Vec::new(),
            };
            drop(reply.send(Rest { told, latest: 7, incomplete: after == Some(1) }));
        }
        Request::Acknowledge { key, word, reply } => {
            let known = Acknowledgement {
                by: word.by,
                at: samples::at(),
                until: samples::at() + Duration::from_secs(word.for_s),
                why: word.why,
            };
            let alert = Arc::new(AlertView { acknowledged: Some(known), ..samples::alert() });
            let known = key == alert.key;
            drop(reply.send(if known { Ok(alert) } else { Err("no open alert has that key".into()) }));
        }
        Request::Silence { filter, word, reply } => {
            drop(reply.send(Ok(Silence {
                id: 1,
                filter,
                by: word.by,
                at: samples::at(),
                until: samples::at(),
                why: word.why,
            })));
        }
        Request::Unsilence { reply, .. } => drop(reply.send(Err("there is no silence".into()))),
        Request::Silences(reply) => drop(reply.send(Vec::new())),
        Request::Kept(reply) => drop(reply.send(true)),
    }
}

impl Server {
    fn open(&self) -> UnixStream {
        let stream = UnixStream::connect(self.place.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn begin(&self, method: &str, target: &str) -> UnixStream {
        let mut stream = self.open();
        write!(stream, "{method} {target} HTTP/1.1\r\nhost: streamwatch\r\n\r\n").unwrap();
        stream
    }

    /// Status, head and body; chunked bodies as they are on the wire.
    fn ask(&self, method: &str, target: &str) -> (u16, String, String) {
        let mut text = String::new();
        self.begin(method, target).read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    fn records(&self, target: &str) -> Vec<Value> {
        let (status, _, body) = self.ask("GET", target);
        assert_eq!(status, 200, "{body}");
        body.lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

#[test]
fn listings_are_the_daemons_records() {
    let server = serve(Limits::default(), answering);
    assert_eq!(server.records("/v1/flows").len(), 2);
    assert_eq!(server.records("/v1/streams")[0]["event"]["dataset"], "streamwatch.stream");
    assert_eq!(server.records("/v1/alerts")[0]["rule"]["id"], "plaintext");
    assert_eq!(server.records("/v1/histograms")[0]["name"], "kept");
    assert!(server.ask("POST", "/v1/histograms/reset").2.contains("\"reset\""));
    assert_eq!(server.records("/v1/status")[0]["uptime_ns"], 0);
    assert_eq!(server.ask("GET", "/v1/policy").2, "# rules\n");
    assert!(server.ask("GET", "/metrics").2.contains("streamwatch_flows_total 0"));
    assert_eq!(server.records("/v1/openapi.json")[0]["openapi"], "3.1.0");
}

#[test]
fn filter_sort_and_limit_are_heard() {
    let server = serve(Limits::default(), answering);
    let one = server.records("/v1/flows?filter=client.process%3D%3D%22curl%22+%26%26+encrypted%3D%3Dno");
    assert_eq!(one.len(), 1);
    assert_eq!(one[0]["streamwatch"]["flow"]["id"], "b007-1");
    let sorted = server.records("/v1/flows?sort=server.port:desc&limit=1");
    assert_eq!(sorted[0]["server"]["port"], 443);
    let (status, _, body) = server.ask("GET", "/v1/flows?filter=encryptd%3D%3Dno");
    assert_eq!(status, 400);
    assert!(body.contains("filter: column 1: expected a known field"), "{body}");
    for (path, why) in [
        ("flows?filter=p50%3E1", "filter: no flow has the field p50"),
        ("flows?sort=flows:desc", "sort: no flow has the field streamwatch.stream.flows"),
        ("streams?filter=rtt%3E1", "filter: no stream has"),
        ("alerts?filter=p50%3E1", "filter: no alert has"),
        ("histograms?filter=bytes%3E1", "filter: no histogram has"),
        ("flows?filter=streamwatch.tls.early_data%3D%3DTRUE", "expected offered or rejected"),
    ] {
        let (status, _, said) = server.ask("GET", &format!("/v1/{path}"));
        assert!(status == 400 && said.contains(why), "{path}: {status} {said}");
    }
    assert_eq!(server.ask("GET", "/v1/flows?colour=red").0, 400);
}

#[test]
fn what_is_not_there_or_not_allowed_is_said() {
    let server = serve(Limits::default(), answering);
    assert_eq!(server.ask("GET", "/v2/flows").0, 404);
    let (status, head, _) = server.ask("DELETE", "/v1/flows");
    assert_eq!(status, 405);
    assert!(head.to_lowercase().contains("allow: get, head"));
    assert_eq!(server.ask("GET", "/v1/histograms/reset").0, 405);
    assert_eq!(server.ask("GET", &format!("/v1/flows?filter={}", "x".repeat(5000))).0, 400);
    // A head beyond the limit ends the connection; whether the reason arrives is up to the kernel.
    let mut stream = server.open();
    let _ = write!(stream, "GET /v1/flows?filter={} HTTP/1.1\r\n\r\n", "x".repeat(1_000_000));
    let _ = stream.read_to_end(&mut Vec::new());
    assert_eq!(server.ask("GET", "/v1/status").0, 200);
}

#[test]
fn a_follower_gets_what_comes_and_what_it_missed() {
    let server = serve(Limits::default(), answering);
    let mut lines = BufReader::new(server.begin("GET", "/v1/alerts?follow=true")).lines();
    let mut next =
        |needle: &str| lines.find(|line| line.as_ref().unwrap().contains(needle)).unwrap().unwrap();
    next("streamwatch.alert");
    for count in 1000..1100 {
        let _ = server.alerts.send(Arc::new(AlertView { count, cursor: count, ..samples::alert() }));
    }
    assert!(next("missed").contains("too slow"));
    assert!(next("\"count\":1099").starts_with('{'));
}

#[test]
fn what_was_in_the_snapshot_does_not_come_again() {
    let server = serve(Limits::default(), answering);
    let mut lines = BufReader::new(server.begin("GET", "/v1/alerts?follow=true")).lines();
    lines.find(|line| line.as_ref().unwrap().contains("\"cursor\":7")).unwrap().unwrap();
    for cursor in [6, 7, 8] {
        let _ = server.alerts.send(Arc::new(AlertView { cursor, ..samples::alert() }));
    }
    let next = lines.find(|line| line.as_ref().unwrap().starts_with('{')).unwrap().unwrap();
    assert!(next.contains("\"cursor\":8"), "{next}");
}

#[test]
fn a_cursor_that_is_too_old_is_told() {
    let server = serve(Limits::default(), answering);
    let mut lines = BufReader::new(server.begin("GET", "/v1/alerts?follow=true&after=1")).lines();
    let first = lines.find(|line| line.as_ref().unwrap().starts_with('{')).unwrap().unwrap();
    assert!(first.contains("no longer kept"), "{first}");
    assert_eq!(server.ask("GET", "/v1/alerts?follow=true&after=x").0, 400);
    // Nothing that is asked for is passed over.
    for (path, why) in [
        ("flows?follow=true", "only alerts can be followed"),
        ("streams?follow=true", "only alerts can be followed"),
        ("histograms?after=1", "only alerts can be followed"),
        ("alerts?after=1", "goes with follow=true"),
    ] {
        let (status, _, said) = server.ask("GET", &format!("/v1/{path}"));
        assert!(status == 400 && said.contains(why), "{path}: {status} {said}");
    }
    let (_, _, said) = server.ask("GET", &format!("/v1/flows?limit={}", "x".repeat(9000)));
    assert!(said.len() < 300, "{said}");
}

#[test]
fn acknowledgements_say_who_and_until_when() {
    let server = serve(Limits::default(), answering);
    let key =
        form_urlencoded::Serializer::new(String::new()).append_pair("key", &samples::alert().key).finish();
    let (status, _, body) = server.ask("POST", &format!("/v1/alerts/ack?{key}&for=2h&why=known"));
    assert_eq!(status, 200, "{body}");
    let uid = rustix::process::getuid().as_raw();
    assert!(body.contains(&format!("\"by\":{uid},")) && body.contains("\"why\":\"known\""), "{body}");
    assert!(body.contains("alert_acknowledged"), "{body}");
    for wrong in ["?key=x&for=2h", "?for=2h", "?key=x", "?key=x&for=soon", "?key=x&for=2h&who=me"] {
        assert_eq!(server.ask("POST", &format!("/v1/alerts/ack{wrong}")).0, 400, "{wrong}");
    }
    assert_eq!(server.ask("GET", "/v1/alerts/ack?key=x&for=2h").0, 405);
    assert_eq!(server.ask("POST", "/v1/silences?filter=rule%3D%3Dplaintext&for=1d&why=x").0, 200);
    assert_eq!(server.ask("GET", "/v1/silences").0, 200);
    assert_eq!(server.ask("POST", "/v1/silences/end?id=9").0, 400);
}

#[test]
fn a_core_without_time_is_a_503() {
    let server =
        serve(Limits { answer_timeout: Duration::from_millis(50), ..Limits::default() }, |request| {
            thread::sleep(Duration::from_millis(300));
            drop(request);
        });
    for _ in 0..7 {
        let (status, _, body) = server.ask("GET", "/v1/status");
        assert_eq!(status, 503, "{body}");
    }
}

#[test]
fn silent_clients_are_shown_out_and_slow_nobody() {
    let limits = Limits { connections: 4, header_timeout: Duration::from_millis(300), ..Limits::default() };
    let server = serve(limits, answering);
    let mut silent: Vec<_> = (0..3).map(|_| server.open()).collect();
    silent[0].write_all(b"GET /v1/fl").unwrap();
    let began = Instant::now();
    assert_eq!(server.ask("GET", "/v1/status").0, 200);
    assert!(began.elapsed() < Duration::from_millis(250));
    for stream in &mut silent {
        let mut rest = Vec::new();
        // Closed by the server; a reset counts as closed too.
        let _ = stream.read_to_end(&mut rest);
    }
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn one_too_many_is_told() {
    let server = serve(Limits { connections: 2, ..Limits::default() }, answering);
    let _held = [server.open(), server.open()];
    thread::sleep(Duration::from_millis(100));
    assert_eq!(server.ask("GET", "/v1/status").0, 503);
}

#[test]
fn followers_leave_room_for_questions() {
    let server = serve(Limits { followers: 1, ..Limits::default() }, answering);
    let mut first = BufReader::new(server.begin("GET", "/v1/alerts?follow=true"));
    first.read_line(&mut String::new()).unwrap();
    assert_eq!(server.ask("GET", "/v1/alerts?follow=true").0, 503);
    assert_eq!(server.ask("GET", "/v1/status").0, 200);
}

#[test]
fn one_who_does_not_read_is_dropped() {
    let limits = Limits { write_timeout: Duration::from_millis(200), connections: 1, ..Limits::default() };
    let many = |request| match request {
        Request::Flows(reply) => {
            let flows = std::iter::repeat_n(Arc::new(samples::flow()), 20_000);
            drop(reply.send(FlowsReader::of(flows.collect())))
        }
        other => answering(other),
    };
    let server = serve(limits, many);
    let _deaf = server.begin("GET", "/v1/flows");
    thread::sleep(Duration::from_millis(100));
    assert_eq!(server.ask("GET", "/v1/status").0, 503);
    thread::sleep(Duration::from_millis(1000));
    assert_eq!(server.ask("GET", "/v1/status").0, 200);
}

#[test]
fn the_end_closes_and_cleans_up() {
    let mut server = serve(Limits::default(), answering);
    let mut follower = server.begin("GET", "/v1/alerts?follow=true");
    thread::sleep(Duration::from_millis(100));
    server.handle.take().unwrap().stop();
    let mut rest = Vec::new();
    follower.read_to_end(&mut rest).unwrap();
    assert!(!server.place.socket().exists());
}
