//! The past of a stream as bytes, to be written down.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version |
//! | 4 | CRC-32 of what follows |
//! | 8, 4 | when it was written (s since 1970), seconds of an interval |
//! | 4, 4, 1 | age, silence (intervals), whether it has stopped |
//! | 8, 4, 4, 12, 1, 12 | the hour that is not over: which, intervals seen, intervals moved in, peaks, pause, last rates |
//! | 1 (8, 12, 1) | the only hour there is yet, if any |
//! | 2 (12)* | intervals: rates |
//! | 2 (2, 5)* | hours: place, values |
//!
//! Integers and floats little endian. The reader takes any bytes: what is not whole, was changed or is
//! of another version is refused, never half taken.

use jiff::Timestamp;

use super::HISTORY;
use super::past::{CurrentHour, Past};
use super::season::{HOURS, Level, Season};

const VERSION: u8 = 1;

/// It is not what [`encode`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

pub(super) fn encode(past: &Past, interval_s: u64, now: Timestamp) -> Vec<u8> {
    let mut body = Vec::with_capacity(64 + 12 * past.intervals.len());
    body.extend(now.as_second().to_le_bytes());
    body.extend((interval_s as u32).to_le_bytes());
    body.extend(past.age.to_le_bytes());
    body.extend(past.silent.to_le_bytes());
    body.push(u8::from(past.stopped));
    body.extend(past.hour.index.to_le_bytes());
    body.extend(past.hour.seen.to_le_bytes());
    body.extend(past.hour.moved.to_le_bytes());
    put_level(&mut body, &past.hour.level);
    put_rates(&mut body, past.hour.last);
    body.push(u8::from(past.first.is_some()));
    if let Some((hour, level)) = &past.first {
        body.extend(hour.to_le_bytes());
        put_level(&mut body, level);
    }
    body.extend((past.intervals.len() as u16).to_le_bytes());
    past.intervals.iter().for_each(|rates| put_rates(&mut body, *rates));
    let hours: Vec<(u16, [u8; 5])> = past.season.iter().flat_map(Season::known).collect();
    body.extend((hours.len() as u16).to_le_bytes());
    for (place, values) in hours {
        body.extend(place.to_le_bytes());
        body.extend(values);
    }
    let mut bytes = vec![VERSION];
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// Reads it back. What is about the last half hour is left out where that is over, or where intervals are
/// of another length now. `None`: nothing of it is of use.
pub(super) fn decode(bytes: &[u8], interval_s: u64, now: Timestamp) -> Result<Option<Past>, Damaged> {
    let mut bytes = Bytes(bytes);
    if bytes.u8()? != VERSION || bytes.u32()? != crc32fast::hash(bytes.0) {
        return Err(Damaged);
    }
    let written = bytes.i64()?;
    let of_s = u64::from(bytes.u32()?);
    let (age, silent, stopped) = (bytes.u32()?, bytes.u32()?, bytes.u8()? == 1);
    let index = bytes.i64()?;
    let (seen, moved) = (bytes.u32()?, bytes.u32()?);
    let hour = CurrentHour { index, seen, moved, level: bytes.level()?, last: bytes.rates()? };
    let first = if bytes.u8()? == 1 { Some((bytes.i64()?, bytes.level()?)) } else { None };
    let mut past = Past { age, silent, stopped, hour, first, ..Past::default() };
    let intervals = usize::from(bytes.u16()?);
    if intervals > HISTORY {
        return Err(Damaged);
    }
    for _ in 0..intervals {
        past.intervals.push_back(bytes.rates()?);
    }
    let hours = usize::from(bytes.u16()?);
    if hours > HOURS {
        return Err(Damaged);
    }
    if hours > 0 {
        let mut season = Season::new();
        for _ in 0..hours {
            if !season.put(bytes.u16()?, bytes.take()?) {
                return Err(Damaged);
            }
        }
        past.season = Some(season);
    }
    if !bytes.0.is_empty() {
        return Err(Damaged);
    }
    let passed = now.as_second().saturating_sub(written).unsigned_abs();
    if of_s != interval_s || passed >= HISTORY as u64 * interval_s {
        past.intervals.clear();
        (past.age, past.silent) = (0, u32::from(past.stopped));
    }
    if of_s != interval_s {
        past.hour = CurrentHour::default();
    }
    let empty = past.intervals.is_empty() && past.first.is_none() && past.season.is_none() && !past.stopped;
    Ok((!empty).then_some(past))
}

fn put_rates(body: &mut Vec<u8>, rates: [f32; 3]) {
    rates.iter().for_each(|rate| body.extend(rate.to_le_bytes()));
}

fn put_level(body: &mut Vec<u8>, level: &Level) {
    put_rates(body, level.peaks);
    body.push(level.pause);
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u8(&mut self) -> Result<u8, Damaged> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Damaged> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Damaged> {
        self.take().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Damaged> {
        self.take().map(i64::from_le_bytes)
    }

    fn rates(&mut self) -> Result<[f32; 3], Damaged> {
        let mut rates = [0.0; 3];
        for rate in &mut rates {
            *rate = f32::from_le_bytes(self.take()?);
            if !rate.is_finite() || *rate < 0.0 {
                return Err(Damaged);
            }
        }
        Ok(rates)
    }

    fn level(&mut self) -> Result<Level, Damaged> {
        let level = Level { peaks: self.rates()?, pause: self.u8()? };
        if level.pause > 60 { Err(Damaged) } else { Ok(level) }
    }
}
