//! Text of a filter to words and marks, each with its column.

use super::QueryError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A name, number or bare value.
    Word(String),
    /// A quoted value.
    Quoted(String),
    /// `==`, `&&`, `(` and their kin.
    Mark(&'static str),
}

/// Longer marks before those that they begin with.
const MARKS: [&str; 12] = ["==", "!=", "<=", ">=", "=~", "&&", "||", "<", ">", "!", "(", ")"];

/// Columns count characters, from 1.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, QueryError> {
    let characters: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&character) = characters.get(at) {
        let column = at + 1;
        if character.is_whitespace() {
            at += 1;
        } else if let Some(mark) = MARKS.into_iter().find(|mark| starts_with(&characters[at..], mark)) {
            found.push((column, Token::Mark(mark)));
            at += mark.len();
        } else if character == '"' || character == '\'' {
            let (value, length) = quoted(&characters[at..])
                .ok_or_else(|| QueryError { column, expected: format!("a closing {character}") })?;
            found.push((column, Token::Quoted(value)));
            at += length;
        } else if is_word(character) {
            let length = characters[at..].iter().take_while(|&&next| is_word(next)).count();
            found.push((column, Token::Word(characters[at..at + length].iter().collect())));
            at += length;
        } else {
            let expected = "a field, a comparison, &&, || or a parenthesis".into();
            return Err(QueryError { column, expected });
        }
    }
    Ok(found)
}

fn starts_with(characters: &[char], mark: &str) -> bool {
    mark.chars().enumerate().all(|(at, wanted)| characters.get(at) == Some(&wanted))
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || "_.-@/:*?[]+,%→".contains(character)
}

/// The value, and how many characters it takes; a backslash takes the next character as it is.
fn quoted(characters: &[char]) -> Option<(String, usize)> {
    let quote = *characters.first()?;
    let mut value = String::new();
    let mut at = 1;
    loop {
        match *characters.get(at)? {
            character if character == quote => return Some((value, at + 1)),
            '\\' => {
                value.push(*characters.get(at + 1)?);
                at += 2;
            }
            character => {
                value.push(character);
                at += 1;
            }
        }
    }
}
