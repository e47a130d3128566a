//! JSON values as YAML blocks. Every text is written as JSON has it, which YAML 1.2 reads as it is:
//! so that no value can become anything but a string.

use serde_json::Value;

/// Writes a document.
pub(super) fn write(text: &mut String, value: &Value) {
    block(text, value, 0);
}

fn block(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                text.push_str(&"  ".repeat(depth));
                text.push_str(&key_of(key));
                text.push(':');
                nested(text, value, depth);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for value in list {
                text.push_str(&"  ".repeat(depth));
                text.push('-');
                nested(text, value, depth);
            }
        }
        scalar => {
            text.push_str(&"  ".repeat(depth));
            text.push_str(&scalar.to_string());
            text.push('\n');
        }
    }
}

fn nested(text: &mut String, value: &Value, depth: usize) {
    let is_block = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    if is_block {
        text.push('\n');
        block(text, value, depth + 1);
    } else {
        text.push(' ');
        text.push_str(&value.to_string());
        text.push('\n');
    }
}

/// Words stand bare, everything else in quotes.
fn key_of(key: &str) -> String {
    let word = key.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && key.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && !matches!(key, "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null");
    if word { key.to_owned() } else { Value::String(key.to_owned()).to_string() }
}
