//! Requests of HTTP: what a server may find in them is told, or known not to have been.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use dissect::activity::{Event, Observer};
use dissect::{End, Plain, Protection, Protocol};

/// `GET /a, DELETE /b`; `?` at the end: there may be more.
fn told(request: &str) -> String {
    let mut observer = Observer::new(Protection::Plaintext(Plain::Protocol(Protocol::Http))).unwrap();
    observer.feed(End::Client, request.as_bytes(), &|_: &[u8]| 0);
    let mut shown: Vec<String> = observer
        .take()
        .into_iter()
        .filter_map(|event| match event {
            Event::Operation(operation) => Some(operation.object.unwrap_or("-".into())),
            _ => None,
        })
        .collect();
    if !observer.is_in_step() {
        shown.push("?".into());
    }
    shown.join(", ")
}

fn with_body(head: &str, body: &str) -> String {
    format!("{head} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Python's http.server, for one, leaves the body of a GET where it is.
#[test]
fn a_request_in_a_body_is_told() {
    for body in [
        "DELETE /payments/1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nDELETE /payments/1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "DELETE /payments/1\r\n",
        "delete http://a/payments/1 HTTP/1.0\n\n",
        "DELETE\t/payments/1\tHTTP/1.1\n\n",
    ] {
        for method in ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE"] {
            let request = with_body(&format!("{method} /public/a"), body);
            assert_eq!(told(&request), format!("{method} /public/a, DELETE /payments/1, ?"), "{request}");
        }
        // A server reads the body of these, as a rule.
        assert_eq!(told(&with_body("POST /public/a", body)), "POST /public/a, ?");
    }
}

#[test]
fn a_body_that_may_stay_unread_is_known() {
    for (request, expected) in [
        (with_body("GET /a", "a=b"), "GET /a, ?"),
        (with_body("GET /a", &" ".repeat(5000)), "GET /a, ?"),
        (with_body("CONNECT a:1", "a"), "CONNECT a:1, ?"),
        (with_body("GET /a", "{\"query\": {}}"), "GET /a"),
        (with_body("GET /a", "{\"a\": 1}\r\nDELETE /b HTTP/1.1\r\n\r\n"), "GET /a, ?"),
        (with_body("GET /a", &format!("{{{}}}", " ".repeat(5000))), "GET /a, ?"),
        ("GET /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), "GET /a, ?"),
        ("GET /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n".into(), "GET /a"),
        (with_body("POST /a", "HELLO /b world"), "POST /a"),
        (with_body("POST /a", "FROB /b HTTP/1.1\r\n\r\n"), "POST /a, ?"),
    ] {
        assert_eq!(told(&request), expected, "{request}");
    }
}

/// Log shippers send requests as texts, search engines are asked for them.
#[test]
fn a_request_in_a_text_is_none() {
    let search = "{\"query\":{\"match_phrase\":{\"message\":\"GET / HTTP/1.1\"}}}";
    let pretty = "{\r\n  \"message\": \"DELETE /b HTTP/1.1\"\r\n}\r\n";
    let access = "1.2.3.4 - - [29/Nov/2026:17:00:00 +0000] \"GET / HTTP/1.1\" 200 5\n";
    let long = format!("{} /b HTTP/1.1\n", "A".repeat(33));
    for body in [search, pretty] {
        assert_eq!(told(&with_body("GET /a", body)), "GET /a", "{body}");
    }
    for body in [search, pretty, access, &long, "a: b HTTP/1.1 said\n", "{\"a\":\"GET / HTTP/1.1\n\"}"] {
        assert_eq!(told(&with_body("POST /a", body)), "POST /a", "{body}");
        // Nor is one shown that has no method.
        assert!(told(&with_body("GET /a", body)).starts_with("GET /a"), "{body}");
        assert!(!told(&with_body("GET /a", body)).contains("GET /a, -"), "{body}");
    }
    assert_eq!(told(&with_body("GET /a", access)), "GET /a, ?");
}

#[test]
fn a_form_that_may_name_another_method_is_known() {
    let form = |body: &str| {
        let length = body.len();
        told(&format!(
            "POST /a HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\
            Content-Length: {length}\r\n\r\n{body}"
        ))
    };
    for (body, expected) in [
        ("a=b&_method=DELETE", "POST /a, ?"),
        ("a=b&.method=DELETE", "POST /a, ?"),
        ("+_method=DELETE", "POST /a, ?"),
        ("%20%5fmethod%00x=DELETE", "POST /a, ?"),
        (&format!("a={}&_method=DELETE", "b".repeat(5000)), "POST /a, ?"),
        ("a=_method&payment_method=card&x.method=b", "POST /a"),
    ] {
        assert_eq!(form(body), expected, "{body}");
    }
    let chunked = "POST /a HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n\
        Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    assert_eq!(told(chunked), "POST /a, ?");
    let in_parts = |field: &str, value: &str| {
        let body = format!("--b\r\nContent-Disposition: form-data; {field}\r\n\r\n{value}\r\n--b--\r\n");
        let length = body.len();
        told(&format!(
            "POST /a HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b\r\n\
            Content-Length: {length}\r\n\r\n{body}"
        ))
    };
    for field in ["name=\"_method\"", "NAME = '_method'", "name=_method", "name=\".method\""] {
        assert_eq!(in_parts(field, "DELETE"), "POST /a, ?", "{field}");
    }
    for field in ["name=\"payment_method\"", "name=\"file\"; filename=\"a.png\"", "name=\"\""] {
        assert_eq!(in_parts(field, "_method"), "POST /a", "{field}");
    }
    assert_eq!(in_parts("name=\"file\"", &"x".repeat(3000)), "POST /a");
    // Such a field may stand behind what is looked at.
    assert_eq!(in_parts("name=\"file\"", &"x".repeat(5000)), "POST /a, ?");
}

/// Bodies of HTTP/2 are not read.
#[test]
fn a_form_over_http_2_is_known() {
    let request = |content: &str, flags: u8| {
        // :method: POST, :path: /, content-type
        let block = [&[0x83, 0x84, 0x0f, 0x10, content.len() as u8], content.as_bytes()].concat();
        let frame = [&[0, 0, block.len() as u8, 1, flags, 0, 0, 0, 1], &block[..]].concat();
        let mut observer = Observer::new(Protection::Plaintext(Plain::Protocol(Protocol::Http2))).unwrap();
        let bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame[..]].concat();
        observer.feed(End::Client, &bytes, &|_: &[u8]| 0);
        assert_eq!(observer.take().len(), 1);
        observer.is_in_step()
    };
    assert!(!request("application/x-www-form-urlencoded", 4));
    assert!(request("application/x-www-form-urlencoded", 5), "it has no body");
    assert!(request("application/grpc", 4));
}

/// RFC 9112 sections 2.2, 3, 5 and 6: what it forbids some servers take nevertheless, each in its way.
#[test]
fn a_head_that_servers_may_read_otherwise_is_known() {
    for lines in [
        "Content-Length: +5",
        "Content-Length: -0",
        "Content-Length: 0x0",
        "Content-Length: 0, 0",
        "Content-Length:",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length : 5",
        " Content-Length: 5",
        "A: b\r\n Content-Length: 5",
        "A: b\rContent-Length: 5",
        "A: b\nC: d",
        "Content-Length\x0b: 5",
        "Content-Length",
        ": 5",
        "A: \x00",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked\x0c",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "X-HTTP-Method-Override: DELETE",
        "x-http-method: DELETE",
        "X-Method-Override: DELETE",
        "X-Original-URL: /secret",
        "X-Rewrite-URL: /secret",
        "x_http_method_override: DELETE",
    ] {
        let shown = told(&format!("POST /a HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"));
        assert!(shown.starts_with("POST /a") && shown.ends_with('?'), "{lines:?}: {shown}");
    }
    for (line, expected) in [
        ("get /a HTTP/1.1", "GET /a, ?"),
        ("GET /a HTTP/1.2", "GET /a, ?"),
        ("GET /a HTTP/1.1 /b HTTP/1.1", "GET /a, ?"),
        ("GET /a#/../b HTTP/1.1", "GET /a, ?"),
        ("GET /a\x0b/b HTTP/1.1", "-, ?"),
        ("GET /a?_method=DELETE HTTP/1.1", "GET /a, ?"),
        ("GET /a?b=c&%5Fm%65thod=DELETE HTTP/1.1", "GET /a, ?"),
        ("GET /a?payment_method=card HTTP/1.1", "GET /a"),
        ("GET a?b=http://c/public/ HTTP/1.1", "GET a, ?"),
        ("GET http://a?/public/ HTTP/1.1", "GET /"),
        ("GET ftp://a/public/ HTTP/1.1", "GET ftp://a/public/, ?"),
        ("POST /a HTTP/1.0\r\nTransfer-Encoding: chunked", "POST /a, ?"),
        ("COPY /a HTTP/1.1\r\nDestination: http://a/b", "COPY /a, COPY /b"),
    ] {
        assert_eq!(told(&format!("{line}\r\n\r\n")), expected, "{line:?}");
    }
}

#[test]
fn a_chunk_that_servers_may_read_otherwise_is_known() {
    for body in [
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloxx0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "00000000000000005f5e0ff0000000005\r\nhello\r\n0\r\n\r\n",
        "0\r\nA: b\n\r\n",
        "0\r\n A: b\r\n\r\n",
    ] {
        let shown = told(&format!("POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        assert_eq!(shown, "POST /a, ?", "{body:?}");
    }
}

/// What clients send every day is not doubted.
#[test]
fn ordinary_requests_are_clear() {
    let chunked = "PUT /a HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nExpect: 100-continue\r\n\r\n\
        5;chunk-signature=ab\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Checksum: 7\r\n\r\n";
    for (requests, expected) in [
        ("GET /a?b=c HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nCookie: a=b; c=d\r\nX: \r\n\r\n".into(), "GET /a"),
        ("GET http://a/b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(), "GET /b"),
        ("\r\nOPTIONS * HTTP/1.1\r\nUser-Agent: Grüße\r\n\r\n".into(), "OPTIONS *"),
        (with_body("POST /a", "a=b&c=d"), "POST /a"),
        (with_body("DELETE /a", ""), "DELETE /a"),
        (with_body("PUT /a", &"x".repeat(50_000)) + &with_body("POST /b", "c"), "PUT /a, POST /b"),
        (chunked.to_owned() + chunked + "GET /b HTTP/1.1\r\n\r\n", "PUT /a, GET /b"),
    ] {
        assert_eq!(told(&requests), expected, "{requests}");
    }
}
