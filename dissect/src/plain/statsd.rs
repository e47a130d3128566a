//! statsd metrics, by datagram or by stream.
//!
//! Source: statsd `docs/metric_types.md`; DogStatsD's datagram format. Evidence: a whole first line of
//! name, number and kind; random text has that shape once in millions of lines.

use super::evidence::{Evidence, Seen, decimal, ensure, evidence, led_by, text_line};
use crate::probe::{Found, Probe};
use crate::{Hint, Prefix, Protocol};

const LONGEST_LINE: usize = 1024;
const LONGEST_NAME: usize = 256;

pub(super) fn stream(client: Prefix<'_>, server: Prefix<'_>, _: Hint) -> Probe {
    let of_client = evidence(first_line(client.bytes));
    let of_server = if server.bytes.is_empty() { Evidence::Pending } else { Evidence::Against };
    led_by((client, of_client), (server, of_server)).found(|| Found::plain(Protocol::Statsd))
}

pub(super) fn datagram(client: &[&[u8]], _: &[&[u8]], _: Hint) -> Probe {
    let Some(first) = client.first() else { return Probe::Maybe };
    let line = first.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
    match metric(line) {
        true => Probe::Yes(Found::plain(Protocol::Statsd)),
        false => Probe::No,
    }
}

fn first_line(bytes: &[u8]) -> Seen<Evidence> {
    // The name ends at the first byte that a name cannot have: most text is ruled out there.
    let name = bytes.iter().take(LONGEST_NAME + 1).take_while(|byte| is_name(**byte)).count();
    ensure(name > 0 || bytes.is_empty())?;
    ensure(name <= LONGEST_NAME && bytes.get(name).is_none_or(|byte| *byte == b':'))?;
    let (line, _) = text_line(bytes, 0, LONGEST_LINE)?;
    ensure(metric(line))?;
    Ok(Evidence::Proof)
}

/// `name:value|kind[|@rate][|#tags]`.
fn metric(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let (name, rest) = (&line[..colon], &line[colon + 1..]);
    if name.len() < 2 || !name.iter().all(|byte| is_name(*byte)) {
        return false;
    }
    let mut fields = rest.split(|byte| *byte == b'|');
    let (Some(value), Some(kind)) = (fields.next(), fields.next()) else { return false };
    let kind_is_known = [&b"c"[..], b"g", b"ms", b"h", b"s", b"d", b"m"].contains(&kind);
    // A set counts words, not numbers.
    let value_fits =
        if kind == b"s" { !value.is_empty() } else { value.split(|byte| *byte == b':').all(number) };
    kind_is_known
        && value_fits
        && fields.all(|field| field.first().is_some_and(|mark| b"@#cTe".contains(mark)))
}

fn number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    parts.next().is_some_and(|whole| decimal(whole, 18).is_some())
        && parts.next().is_none_or(|part| part.iter().all(u8::is_ascii_digit))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte)
}
