//! Which characters never reach a terminal or a log as they are.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal, a log viewer or a line-based tool would act on this character instead of
/// showing it: controls (C0, DEL, C1), line and paragraph separators, bidirectional and invisible
/// formatting (Unicode TR 36), tags.
pub fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// The text with every active character spelt out: `\n`, `\x1b`, `\u{202e}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c if is_active(c) && (c as u32) < 0x100 => {
                // Writing to a String cannot fail.
                let _ = write!(safe, "\\x{:02x}", c as u32);
            }
            c if is_active(c) => {
                let _ = write!(safe, "\\u{{{:x}}}", c as u32);
            }
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::{is_active, printable};

    #[test]
    fn escapes_are_spelt_out() {
        assert_eq!(printable("a\x1b[31mb\u{9b}c\u{202e}d\n"), "a\\x1b[31mb\\x9bc\\u{202e}d\\n");
        assert_eq!(printable("größe → 日本"), "größe → 日本");
        assert!(!printable("x\u{7f}\u{85}\u{2066}").contains(is_active));
    }
}
