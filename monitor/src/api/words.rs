//! What people say of alerts: acknowledgements and silences. Each names who said it, by the kernel's word
//! for the other end of the socket, until when, and why. The answer is 200 (OK) when that is on the disk, and 202
//! (Accepted) where it is held in memory alone, since the state cannot be written now.
//!
//! Only an operator may: see [`super::routes::ROUTES`].

use std::sync::Arc;

use form_urlencoded::parse;
use hyper::{Response, StatusCode};

use super::body::{AnyBody, full};
use super::routes::{Failure, JSON, JSON_LINES, Shared, response};
use super::{Request, Word};
use crate::record::write_line;

/// The longest reason that is kept, characters.
const LONGEST_WHY: usize = 500;

/// Nobody is away for longer, seconds: a year.
const LONGEST: u64 = 366 * 86_400;

/// `POST /v1/alerts/ack?key=…&for=2h&why=…`
pub(super) async fn acknowledge(
    shared: &Arc<Shared>,
    uid: u32,
    query: Option<&str>,
) -> Result<Response<AnyBody>, Failure> {
    let (word, key) = word(uid, query, "key")?;
    let answer = shared.core.ask(|reply| Request::Acknowledge { key, word, reply }).await?;
    let alert = answer.map_err(Failure::Refused)?;
    let kept = shared.core.ask(Request::Kept).await?;
    let mut line = Vec::new();
    crate::record::ecs::encode_alert(&shared.context, &alert, &mut line);
    Ok(said(line, kept))
}

/// `POST /v1/silences?filter=…&for=2h&why=…`
pub(super) async fn silence(
    shared: &Arc<Shared>,
    uid: u32,
    query: Option<&str>,
) -> Result<Response<AnyBody>, Failure> {
    let (word, filter) = word(uid, query, "filter")?;
    let answer = shared.core.ask(|reply| Request::Silence { filter, word, reply }).await?;
    let silence = answer.map_err(Failure::Refused)?;
    let kept = shared.core.ask(Request::Kept).await?;
    one(&silence, kept)
}

/// `POST /v1/silences/end?id=…`
pub(super) async fn unsilence(
    shared: &Arc<Shared>,
    query: Option<&str>,
) -> Result<Response<AnyBody>, Failure> {
    let mut id = None;
    for (name, value) in parse(query.unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "id" => id = value.parse().ok(),
            other => return Err(Failure::Refused(format!("unknown parameter {other:?}: expected id"))),
        }
    }
    let id = id.ok_or_else(|| Failure::Refused("id: expected the number of a silence".to_owned()))?;
    let answer = shared.core.ask(|reply| Request::Unsilence { id, reply }).await?;
    let silence = answer.map_err(Failure::Refused)?;
    let kept = shared.core.ask(Request::Kept).await?;
    one(&silence, kept)
}

/// `GET /v1/silences`
pub(super) async fn silences(shared: &Arc<Shared>) -> Result<Response<AnyBody>, Failure> {
    let mut lines = Vec::new();
    for silence in shared.core.ask(Request::Silences).await? {
        write_line(&mut lines, &silence);
    }
    Ok(response(JSON_LINES, full(lines)))
}

fn one(value: &impl serde::Serialize, kept: bool) -> Result<Response<AnyBody>, Failure> {
    let mut line = Vec::new();
    write_line(&mut line, value);
    Ok(said(line, kept))
}

fn said(line: Vec<u8>, kept: bool) -> Response<AnyBody> {
    let mut response = response(JSON, full(line));
    if !kept {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    response
}

/// Who says it, for how long and why; and what it is about.
pub(super) fn word(uid: u32, query: Option<&str>, subject: &str) -> Result<(Word, String), Failure> {
    let (mut about, mut for_s, mut why) = (None, None, String::new());
    for (name, value) in parse(query.unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "for" => {
                let span = span(&value).ok_or_else(|| {
                    Failure::Refused(format!("for how long: expected 30min, 2h or 7d, say, found {value:?}"))
                })?;
                for_s = Some(span);
            }
            "why" => why = value.chars().take(LONGEST_WHY).collect(),
            name if name == subject => about = Some(value.into_owned()),
            other => {
                let message = format!("unknown parameter {other:?}: expected {subject}, for or why");
                return Err(Failure::Refused(message));
            }
        }
    }
    let about = about.filter(|about| !about.trim().is_empty());
    let about = about.ok_or_else(|| Failure::Refused(format!("{subject}: it is missing")))?;
    let for_s =
        for_s.ok_or_else(|| Failure::Refused("for how long is missing (for: 30min, 2h, 7d)".to_owned()))?;
    Ok((Word { by: uid, for_s, why }, about))
}

/// Seconds of `90s`, `30min` (or `30m`), `2h`, `7d`.
pub(crate) fn span(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    number.checked_mul(seconds).filter(|seconds| (1..=LONGEST).contains(seconds))
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_have_a_unit_and_bounds() {
        let read: Vec<_> = ["90s", "30min", "5m", "2h", "7d"].map(span).into_iter().flatten().collect();
        assert_eq!(read, [90, 1800, 300, 7200, 604_800]);
        for wrong in ["", "2", "h", "0s", "-2h", "2 h", "9999999999999999999d", "1000w", "2y"] {
            assert_eq!(span(wrong), None, "{wrong}");
        }
    }
}
