//! The two project time zones that the fake knows: UTC, and Los Angeles for its daylight saving.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, SecondsFormat, TimeDelta, Utc};

pub(crate) const DAY_MICROS: i64 = 86_400_000_000;
pub(crate) const HOUR_MICROS: i64 = 3_600_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    Utc,
    LosAngeles,
}

impl Zone {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Zone::Utc => "UTC",
            Zone::LosAngeles => "America/Los_Angeles",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Zone> {
        [Zone::Utc, Zone::LosAngeles].into_iter().find(|zone| zone.name() == name)
    }

    /// Local minus UTC, in hours, at an instant. Daylight saving: from the second Sunday of March, 10:00 UTC, to the first
    /// Sunday of November, 9:00 UTC.
    fn offset_hours(self, micros: i64) -> i64 {
        if self == Zone::Utc {
            return 0;
        }
        let at = civil(micros);
        let sunday = |month: u32, nth: u32| {
            let first = NaiveDate::from_ymd_opt(at.year(), month, 1).unwrap();
            let to_sunday = (7 - first.weekday().num_days_from_sunday()) % 7;
            first + TimeDelta::days(i64::from(to_sunday + 7 * (nth - 1)))
        };
        let starts = sunday(3, 2).and_hms_opt(10, 0, 0).unwrap();
        let ends = sunday(11, 1).and_hms_opt(9, 0, 0).unwrap();
        if at >= starts && at < ends { -7 } else { -8 }
    }

    /// The instant as a clock on the wall in this zone shows it, as if that were UTC.
    pub(crate) fn local(self, micros: i64) -> i64 {
        micros + self.offset_hours(micros) * HOUR_MICROS
    }

    /// The instant at which a clock on the wall in this zone shows `local`.
    pub(crate) fn instant(self, local: i64) -> i64 {
        let guess = local - self.offset_hours(local) * HOUR_MICROS;
        local - self.offset_hours(guess) * HOUR_MICROS
    }

    /// Days since 1970-01-01 in this zone.
    pub(crate) fn day(self, micros: i64) -> i64 {
        self.local(micros).div_euclid(DAY_MICROS)
    }

    /// As PostHog prints a time: `Z` for UTC, no fraction when it is zero, else six digits.
    pub(crate) fn rfc3339(self, micros: i64) -> String {
        let fraction = if micros % 1_000_000 == 0 { SecondsFormat::Secs } else { SecondsFormat::Micros };
        let local = civil(self.local(micros)).and_utc().to_rfc3339_opts(fraction, true);
        match self.offset_hours(micros) {
            0 => local,
            hours => format!("{}-{:02}:00", local.trim_end_matches('Z'), -hours),
        }
    }

    pub(crate) fn date_text(day: i64) -> String {
        civil(day * DAY_MICROS).date().to_string()
    }
}

/// The civil date and time of an instant, in UTC.
pub(crate) fn civil(micros: i64) -> NaiveDateTime {
    DateTime::from_timestamp_micros(micros).unwrap().naive_utc()
}

/// Microseconds from an RFC 3339 text or `YYYY-MM-DD[ HH:MM:SS[.ffffff]]` in UTC.
pub(crate) fn parse_micros(text: &str) -> Option<i64> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.with_timezone(&Utc).timestamp_micros());
    }
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f")
        .ok()
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
        .map(|at| at.and_utc().timestamp_micros())
}

/// Days since 1970-01-01 of `YYYY-MM-DD`.
pub(crate) fn parse_day(text: &str) -> Option<i64> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|day| (day - epoch).num_days())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn los_angeles_folds_and_skips_its_hours() {
        let print = |text| Zone::LosAngeles.rfc3339(parse_micros(text).unwrap());
        assert_eq!(print("2026-11-01T08:30:00Z"), "2026-11-01T01:30:00-07:00");
        assert_eq!(print("2026-11-01T09:30:00Z"), "2026-11-01T01:30:00-08:00");
        assert_eq!(print("2026-03-08T09:59:59Z"), "2026-03-08T01:59:59-08:00");
        assert_eq!(print("2026-03-08T10:00:00Z"), "2026-03-08T03:00:00-07:00");
        let noon = parse_micros("2026-07-01 12:00:00").unwrap();
        assert_eq!(Zone::LosAngeles.local(Zone::LosAngeles.instant(noon)), noon);
    }
}
