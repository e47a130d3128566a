//! Which characters never reach a terminal or a log as they are.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal, a log viewer or a line-based tool would act on this character instead of
/// showing it, or show nothing, or what looks like a space: controls (C0, DEL, C1), bidirectional and other formatting
/// (Unicode TR 36), what is ignored by default (`Default_Ignorable_Code_Point` of `DerivedCoreProperties.txt`: fillers,
/// joiners, variation selectors, tags), separators (`Zs`, `Zl`, `Zp`) other than the space, the blank Braille pattern.
pub fn is_active(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    matches!(character,
        '\u{80}'..='\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{1680}'
        | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}' | '\u{2800}' | '\u{3000}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
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

    #[test]
    fn what_is_not_seen_or_looks_like_a_space_is_spelt_out() {
        // Fillers of Hangul, joiners, selectors, tags; spaces of all widths.
        for (character, spelt) in [
            ('\u{3164}', "\\u{3164}"),
            ('\u{115f}', "\\u{115f}"),
            ('\u{1160}', "\\u{1160}"),
            ('\u{ffa0}', "\\u{ffa0}"),
            ('\u{a0}', "\\xa0"),
            ('\u{2800}', "\\u{2800}"),
            ('\u{34f}', "\\u{34f}"),
            ('\u{17b4}', "\\u{17b4}"),
            ('\u{180b}', "\\u{180b}"),
            ('\u{fe0f}', "\\u{fe0f}"),
            ('\u{1d173}', "\\u{1d173}"),
            ('\u{e01ef}', "\\u{e01ef}"),
            ('\u{1680}', "\\u{1680}"),
            ('\u{2003}', "\\u{2003}"),
            ('\u{202f}', "\\u{202f}"),
            ('\u{205f}', "\\u{205f}"),
            ('\u{3000}', "\\u{3000}"),
        ] {
            assert_eq!(printable(&format!("nginx{character}")), format!("nginx{spelt}"));
        }
        // Whatever the libraries call white space or control, but for the space.
        let shown = |c: &char| c.is_whitespace() && *c != ' ' || c.is_control();
        assert!(('\0'..=char::MAX).filter(shown).all(is_active));
    }
}
