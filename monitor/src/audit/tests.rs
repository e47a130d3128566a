//! What is said of services that speak no TLS, or are slow to say so.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

/// A server that answers each client in its own way, and what the audit says of it.
fn outcome(serve: fn(TcpStream)) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            thread::spawn(move || serve(client.unwrap()));
        }
    });
    let target =
        Target { bound: vec![address], reach: vec![address], process: None, pid: None, starttls: None };
    let options = Options {
        settings: config::Detect::default(),
        name: None,
        timeout: Duration::from_millis(300),
        deadline: Duration::from_secs(30),
    };
    audit(vec![target], &options, Timestamp::now()).remove(0).outcome
}

/// Until the client has gone.
fn wait(mut client: TcpStream) {
    let _ = std::io::copy(&mut client, &mut std::io::sink());
}

fn hello(client: &mut TcpStream) {
    let _ = client.read(&mut [0; 4096]);
}

fn trickle(mut client: TcpStream) {
    hello(&mut client);
    for byte in [0x16, 3, 3, 0x40, 0, 2, 0, 0x3f, 0xfc, 3, 3].into_iter().chain([b'a'; 100]) {
        if client.write_all(&[byte]).is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Records of TLS without end, and no hello among them.
fn records(mut client: TcpStream) {
    hello(&mut client);
    let record = [&[0x16, 3, 3, 0x40, 0, 11, 255, 255, 255][..], &[b'a'; 16_380]].concat();
    while client.write_all(&record).is_ok() {}
}

fn slow_upgrade(mut client: TcpStream) {
    let _ = client.write_all(b"220 mail.example ESMTP\r\n");
    wait(client);
}

#[test]
fn a_service_that_does_not_answer_in_time_is_not_said_to_be_without_tls() {
    for (serve, why) in [
        (wait as fn(TcpStream), "it did not answer in time"),
        (trickle, "it did not answer in time"),
        (records, "it answered with records of TLS, and no handshake"),
        (slow_upgrade, SLOW_UPGRADE),
    ] {
        let outcome = outcome(serve);
        assert!(matches!(&outcome, Outcome::Unclear(said) if said == why), "{outcome:?} and not {why}");
    }
}

#[test]
fn a_service_that_answers_in_another_protocol_or_closes_has_no_tls() {
    let other = |mut client: TcpStream| {
        hello(&mut client);
        let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    };
    let closes = |mut client: TcpStream| hello(&mut client);
    for serve in [other as fn(TcpStream), closes] {
        let outcome = outcome(serve);
        assert!(matches!(outcome, Outcome::Plain), "{outcome:?}");
    }
}
