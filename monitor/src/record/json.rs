//! Compact JSON in which no character can act on a terminal.
//!
//! serde_json escapes what JSON itself forbids (C0); DEL, C1, bidirectional and invisible
//! characters pass it untouched. Here they are written as `\u` escapes: the same value to a parser.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::printable::is_active;

/// Appends `value` as one line.
pub fn write_line(out: &mut Vec<u8>, value: &impl Serialize) {
    write_value(out, value);
    out.push(b'\n');
}

/// Appends `value` without a line end.
pub fn write_value(out: &mut Vec<u8>, value: &impl Serialize) {
    let start = out.len();
    let mut serializer = Serializer::with_formatter(&mut *out, Inert(CompactFormatter));
    // A Vec takes every write and our values have text keys only: an error would be a bug in a
    // type of ours. Then the line says so instead of being half an object.
    if value.serialize(&mut serializer).is_err() {
        debug_assert!(false, "a record that cannot be serialised");
        out.truncate(start);
        out.extend_from_slice(br#"{"error":{"message":"record could not be encoded"}}"#);
    }
}

struct Inert(CompactFormatter);

impl Formatter for Inert {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some((at, character)) = rest.char_indices().find(|(_, character)| is_active(*character)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + character.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::write_line;
    use crate::record::printable::is_active;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_comes_back_and_stays_inert(text in any::<String>()) {
            let mut out = Vec::new();
            write_line(&mut out, &text);
            let line = std::str::from_utf8(&out).unwrap();
            prop_assert_eq!(&serde_json::from_str::<String>(line).unwrap(), &text);
            prop_assert!(!line.trim_end_matches('\n').contains(is_active));
        }
    }

    #[test]
    fn beyond_the_first_plane_is_a_surrogate_pair() {
        let mut out = Vec::new();
        write_line(&mut out, &"a\u{e0041}\u{9b}b");
        assert_eq!(out, b"\"a\\udb40\\udc41\\u009bb\"\n");
    }
}
