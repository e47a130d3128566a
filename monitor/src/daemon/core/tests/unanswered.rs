//! Log-ins that a server answers with the end of the connection alone.

use super::before::{of_rule, talk};
use super::*;

/// A method of AMQP 0-9-1, in its frame.
fn method(class: u8, method: u8, arguments: &[u8]) -> Vec<u8> {
    let length = (arguments.len() as u32 + 4).to_be_bytes();
    [&[1, 0, 0], &length[..], &[0, class, 0, method], arguments, b"\xce"].concat()
}

/// Of one that does not say `authentication_failure_close` of itself.
fn log_in(password: &str) -> Vec<u8> {
    let response = format!("\0guest\0{password}");
    let length = (response.len() as u32).to_be_bytes();
    let start_ok = [b"\0\0\0\0\x05PLAIN", &length[..], response.as_bytes(), b"\x05en_US"].concat();
    [&b"AMQP\0\0\x09\x01"[..], &method(10, 11, &start_ok)].concat()
}

fn start() -> Vec<u8> {
    method(10, 10, b"\0\x09\0\0\0\0\0\0\0\x0ePLAIN AMQPLAIN\0\0\0\x05en_US")
}

#[test]
fn guessing_at_who_only_ends_the_connection_is_told() {
    let wrong = [log_in("wrong"), start()];
    let right = [log_in("right"), [start(), method(10, 30, &[0x07, 0xff, 0, 2, 0, 0, 0, 60])].concat()];
    let mut rig = Rig::new(settings());
    for cookie in 1..5 {
        let told = talk(&mut rig, cookie, [&wrong[0], &wrong[1]], 4096, false);
        assert!(of_rule(&told, Rule::AuthFailures).is_empty());
    }
    let told = talk(&mut rig, 5, [&wrong[0], &wrong[1]], 7, false);
    let found = of_rule(&told, Rule::AuthFailures);
    assert_eq!(found.len(), 1);
    assert!(found[0].reason.contains("ended without an answer"), "{}", found[0].reason);
    let told = talk(&mut rig, 6, [&right[0], &right[1]], 4096, false);
    let found = of_rule(&told, Rule::AuthFailures);
    assert!(found.iter().any(|alert| alert.reason.contains("the guess worked")), "{found:?}");
}

#[test]
fn who_was_let_in_or_said_nothing_has_failed_nothing() {
    let tuned = [start(), method(10, 30, &[0x07, 0xff, 0, 2, 0, 0, 0, 60])].concat();
    let begun = b"AMQP\0\0\x09\x01".to_vec();
    for exchange in [[log_in("right"), tuned], [begun, start()]] {
        let mut rig = Rig::new(settings());
        for cookie in 1..9 {
            let told = talk(&mut rig, cookie, [&exchange[0], &exchange[1]], 4096, false);
            assert!(of_rule(&told, Rule::AuthFailures).is_empty());
        }
    }
}
