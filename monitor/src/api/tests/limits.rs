//! What one client may take up: bytes, time, calls, connections.

use super::*;

/// Everything until the server closes. A reset is a close.
fn rest(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn answers(text: &str) -> usize {
    text.matches("HTTP/1.1 ").count()
}

#[test]
fn a_head_beyond_the_limit_is_refused_whole() {
    let server = serve(Limits::default(), answering);
    for (padding, status) in [(8_000, "HTTP/1.1 200"), (40_000, "HTTP/1.1 431")] {
        let mut stream = server.open();
        let padding = "x".repeat(padding);
        // Refused before all of it was read: then the rest cannot be written.
        let _ = write!(stream, "GET /v1/status HTTP/1.1\r\nhost: x\r\nx-more: {padding}\r\n\r\n");
        let said = rest(&mut stream);
        assert!(said.starts_with(status) || (status.ends_with("431") && said.is_empty()), "{said}");
    }
    assert_eq!(server.ask("GET", "/v1/status").0, 200);
}

#[test]
fn a_body_is_not_taken() {
    let server = serve(Limits::default(), answering);
    for head in ["content-length: 5", "content-length: 99999999999", "transfer-encoding: chunked"] {
        let mut stream = server.open();
        write!(stream, "POST /v1/silences?filter=x&for=1d HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n").unwrap();
        let said = rest(&mut stream);
        assert!(said.starts_with("HTTP/1.1 413"), "{head}: {said}");
    }
}

#[test]
fn a_connection_is_one_request() {
    let server = serve(Limits::default(), answering);
    let mut stream = server.open();
    let request = "GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request.repeat(50).as_bytes()).unwrap();
    let said = rest(&mut stream);
    assert!(answers(&said) <= 1, "{said}");
    assert_eq!(server.ask("GET", "/v1/status").0, 200);
}

#[test]
fn a_byte_now_and_then_does_not_hold_a_connection() {
    let limits = Limits { life: Duration::from_millis(400), ..Limits::default() };
    let many = |request| match request {
        Request::Flows(reply) => {
            let flows = std::iter::repeat_n(Arc::new(samples::flow()), 20_000);
            drop(reply.send(FlowsReader::of(flows.collect())))
        }
        other => answering(other),
    };
    let server = serve(limits, many);
    let mut slow = server.begin("GET", "/v1/flows");
    let mut follower = server.begin("GET", "/v1/alerts?follow=true");
    // Within the time for one write, always: and yet it ends.
    let mut taken = 0;
    let mut some = [0; 64];
    while let Ok(length @ 1..) = slow.read(&mut some) {
        taken += length;
        thread::sleep(Duration::from_millis(1));
        assert!(taken < 10_000_000, "it was served to the end");
    }
    // One that waits for alerts stays.
    let _ = server.alerts.send(Arc::new(AlertView { cursor: 99, ..samples::alert() }));
    let mut lines = BufReader::new(&mut follower).lines();
    lines.find(|line| line.as_ref().unwrap().contains("\"cursor\":99")).unwrap().unwrap();
}

/// Streams without number, each copy of which is counted while it is there.
fn with_many_streams(most: Arc<std::sync::atomic::AtomicUsize>) -> impl Fn(Request) + Send + 'static {
    use std::sync::atomic::Ordering::SeqCst;
    let copies: std::sync::Mutex<Vec<std::sync::Weak<crate::model::StreamView>>> =
        std::sync::Mutex::default();
    move |request| match request {
        Request::Streams(reply) => {
            let first = Arc::new(samples::stream());
            let mut copies = copies.lock().unwrap();
            copies.push(Arc::downgrade(&first));
            copies.retain(|copy| copy.strong_count() > 0);
            most.fetch_max(copies.len(), SeqCst);
            drop(reply.send(std::iter::repeat_n(first, 5_000).collect()));
        }
        other => answering(other),
    }
}

#[test]
fn few_copies_of_all_streams_are_held_however_many_read_slowly() {
    let most = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let limits = Limits {
        answer_timeout: Duration::from_millis(200),
        life_of_whole: Duration::from_secs(10),
        ..Limits::default()
    };
    let server = serve(limits, with_many_streams(most.clone()));
    let slow: Vec<UnixStream> = (0..20).map(|_| server.begin("GET", "/v1/streams")).collect();
    let asks: Vec<UnixStream> =
        ["/metrics", "/v1/inventory", "/v1/status"].map(|path| server.begin("GET", path)).into();
    for mut stream in asks {
        // Answered, or told that there is no room, as it happens.
        let said = rest(&mut stream);
        assert!(said.starts_with("HTTP/1.1 200") || said.starts_with("HTTP/1.1 503"), "{said}");
    }
    thread::sleep(Duration::from_millis(500));
    let most = most.load(std::sync::atomic::Ordering::SeqCst);
    assert!(most <= 5, "{most} copies");
    // Who gets none is told so, within the time for an answer.
    let (status, _, said) = server.ask("GET", "/v1/streams");
    assert_eq!(status, 503, "{said}");
    // And those who do not read are shown out.
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while server.ask("GET", "/v1/streams?limit=1").0 != 200 {
        assert!(std::time::Instant::now() < until, "still held");
        thread::sleep(Duration::from_millis(100));
    }
    drop(slow);
}
