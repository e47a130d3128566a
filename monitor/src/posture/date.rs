//! The dates of a certificate, as they are told.

use jiff::SignedDuration;
use jiff::civil::{DateTime, date};

/// Of the seconds since 1970; UTC. A timestamp ends a day before 9999-12-31, which is how a certificate says that it
/// has no end (RFC 5280 section 4.1.2.5). `None`: 0, which stands for one that could not be read; or not within the
/// years 1 to 9999, which few readers of a date know.
pub fn date_of(seconds: i64) -> Option<DateTime> {
    let date = date(1970, 1, 1).at(0, 0, 0, 0).checked_add(SignedDuration::from_secs(seconds)).ok()?;
    (seconds != 0 && date.year() > 0).then_some(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_date_that_can_be_written_is_told_and_no_other() {
        let told = |seconds| date_of(seconds).map(|date| format!("{date}Z"));
        for (seconds, date) in [
            (1_893_456_000, Some("2030-01-01T00:00:00Z")),
            (-1, Some("1969-12-31T23:59:59Z")),
            (253_402_300_799, Some("9999-12-31T23:59:59Z")),
            (253_402_300_800, None),
            (-62_135_596_800, Some("0001-01-01T00:00:00Z")),
            (-62_135_596_801, None),
            (0, None),
            (i64::MAX, None),
            (i64::MIN, None),
        ] {
            assert_eq!(told(seconds).as_deref(), date, "{seconds}");
        }
    }
}
