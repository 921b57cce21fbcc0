//! Times as PostHog's storage sees them: UTC microseconds, and the UTC day that the sort key begins with.
//!
//! ClickHouse's `toDate` gives a 16-bit day number. What it gives for times outside 1970-01-01 to 2149-06-06 differs by
//! version (it wraps, or saturates), so rows there have no place in the key, and nothing outside is ever asked for.

use chrono::{DateTime, NaiveDate};

/// Microseconds since 1970-01-01T00:00:00Z; negative before.
pub type Micros = i64;

/// One second in microseconds.
pub const SECOND_US: Micros = 1_000_000;
/// One hour in microseconds.
pub const HOUR_US: Micros = 3_600 * SECOND_US;
/// One day in microseconds.
pub const DAY_US: Micros = 24 * HOUR_US;
/// The upper bound of every `timestamp`: 2149-06-07, behind the last day that `Date` holds.
pub const FAR_FUTURE: Micros = 65_536 * DAY_US;
/// The lower bound of every `timestamp`: 1970-01-01, the first day that `Date` holds.
pub const FAR_PAST: Micros = 0;

/// A UTC day: whole days since 1970-01-01, as ClickHouse's `Date` holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u16);

impl Day {
    /// The first day that exists.
    pub const FIRST: Day = Day(0);

    /// The day of a time.
    #[must_use]
    pub fn of(time: Micros) -> Day {
        let days = time.div_euclid(DAY_US).clamp(0, i64::from(u16::MAX));
        Day(u16::try_from(days).unwrap_or(u16::MAX))
    }

    /// Reads `YYYY-MM-DD`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Day> {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        Some(Day::of(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros()))
    }

    /// The earliest time that `toDate` maps to this day.
    #[must_use]
    pub fn start(self) -> Micros {
        i64::from(self.0) * DAY_US
    }

    /// The day after; `None` after the last one.
    #[must_use]
    pub fn next(self) -> Option<Day> {
        self.0.checked_add(1).map(Day)
    }

    /// The end of this day: the first time that belongs to the next one.
    #[must_use]
    pub fn end(self) -> Micros {
        self.next().map_or(FAR_FUTURE, Day::start)
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let date = DateTime::from_timestamp_micros(i64::from(self.0) * DAY_US).unwrap_or_default();
        write!(f, "{}", date.format("%Y-%m-%d"))
    }
}

/// Reads an RFC 3339 time with any offset, with up to nine digits of fraction of which six are kept.
#[must_use]
pub fn parse_rfc3339(text: impl AsRef<[u8]>) -> Option<Micros> {
    let text = text.as_ref();
    parse_fast(text).or_else(|| {
        let text = std::str::from_utf8(text).ok()?;
        Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros())
    })
}

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ`: always 27 characters for the years 0 to 9999.
#[must_use]
pub fn to_rfc3339(time: Micros) -> String {
    DateTime::from_timestamp_micros(time).unwrap_or_default().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// The two forms that PostHog prints for UTC, `...:SSZ` and `...:SS.ffffffZ`, without chrono: this runs for every row.
fn parse_fast(text: &[u8]) -> Option<Micros> {
    let (head, fraction) = match (text.len(), text.last()) {
        (20, Some(b'Z')) => (text, 0),
        (27, Some(b'Z')) if text[19] == b'.' => (text, digits(&text[20..26])?),
        _ => return None,
    };
    if head[4] != b'-' || head[7] != b'-' || head[10] != b'T' || head[13] != b':' || head[16] != b':' {
        return None;
    }
    let (year, month, day) = (digits(&head[..4])?, digits(&head[5..7])?, digits(&head[8..10])?);
    let (hour, minute, second) = (digits(&head[11..13])?, digits(&head[14..16])?, digits(&head[17..19])?);
    // A 29th of February, leap seconds and nonsense: the slow way decides.
    let days = match month {
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days from civil date, Howard Hinnant's algorithm.
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 * SECOND_US + second * SECOND_US + fraction)
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, b| b.is_ascii_digit().then(|| value * 10 + i64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_saturate_as_clickhouse_does() {
        assert_eq!(Day::of(-5), Day::FIRST);
        const LAST: Day = Day(u16::MAX);
        assert_eq!(Day::of(FAR_FUTURE), LAST);
        assert_eq!(LAST.to_string(), "2149-06-06");
        assert_eq!(LAST.end(), FAR_FUTURE);
        assert_eq!(Day::parse("2026-08-01").unwrap().to_string(), "2026-08-01");
        assert_eq!(Day::parse("1970-01-02").unwrap().start(), DAY_US);
    }

    #[test]
    fn every_form_of_the_service_is_read() {
        let us = parse_rfc3339("2026-08-01T00:00:00Z").unwrap();
        assert_eq!(parse_rfc3339("2026-08-01T00:00:00.000000Z"), Some(us));
        assert_eq!(parse_rfc3339("2026-07-31T17:00:00-07:00"), Some(us));
        assert_eq!(parse_rfc3339("2026-08-01T00:00:00.123456789+00:00"), Some(us + 123_456));
        assert_eq!(parse_rfc3339("2026-08-31T00:00:00Z"), Some(us + 30 * DAY_US));
        assert_eq!(parse_rfc3339("2028-02-29T00:00:00Z").map(Day::of), Day::parse("2028-02-29"));
        for bad in [
            "",
            "2026-08-01",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-08-32T00:00:00Z",
            "2026-08-00T00:00:00Z",
            "2026-08-01 00:00:0xZ",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_reading_agree(us in FAR_PAST..FAR_FUTURE) {
            prop_assert_eq!(parse_rfc3339(to_rfc3339(us)), Some(us));
        }
    }
}
