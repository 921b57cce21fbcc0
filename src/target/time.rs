//! RFC 3339 dates and times to integers, exactly or not at all: years 1 to 9999, microseconds, any offset.
//!
//! No leap seconds, no year 0, no digit beyond the microsecond that is not zero: what a microsecond column cannot hold
//! is refused by the caller, never rounded.

/// Days from 1970-01-01 to the civil date, if it exists and its year is 1 to 9999.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1..=9999).contains(&year) || !(1..=length).contains(&day) {
        return None;
    }
    // Years that start in March put the leap day last; 719,468 days lie between 0000-03-01 and 1970-01-01.
    let y = if month <= 2 { year - 1 } else { year };
    let (era, yoe) = (y.div_euclid(400), y.rem_euclid(400));
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468)
}

/// The number written in the two, four ... digits of `text`.
#[inline]
fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

/// `YYYY-MM-DD` as days since 1970-01-01.
#[must_use]
pub fn date(text: &[u8]) -> Option<i32> {
    if text.len() != 10 || text.get(4) != Some(&b'-') || text.get(7) != Some(&b'-') {
        return None;
    }
    let days = days(digits(text.get(0..4)?)?, digits(text.get(5..7)?)?, digits(text.get(8..10)?)?)?;
    i32::try_from(days).ok()
}

/// `hh:mm[:ss[.fraction]]` as microseconds, and what follows it.
fn clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let (hour, minute) = (digits(text.get(0..2)?)?, digits(text.get(3..5)?)?);
    if text.get(2) != Some(&b':') || hour > 23 || minute > 59 {
        return None;
    }
    let minutes = (hour * 60 + minute) * 60_000_000;
    if text.get(5) != Some(&b':') {
        return Some((minutes, text.get(5..)?));
    }
    let second = digits(text.get(6..8)?)?;
    if second > 59 {
        return None;
    }
    let whole = minutes + second * 1_000_000;
    let rest = text.get(8..)?;
    if !matches!(rest.first(), Some(b'.' | b',')) {
        return Some((whole, rest));
    }
    let (micros, used) = fraction(rest.get(1..)?)?;
    Some((whole + micros, rest.get(1 + used..)?))
}

/// The digits of a fraction of a second as microseconds, and how many digits there are. `None` without a digit, or
/// where a digit beyond the sixth is not zero.
fn fraction(text: &[u8]) -> Option<(i64, usize)> {
    let (mut micros, mut used) = (0, 0);
    for byte in text.iter().take_while(|b| b.is_ascii_digit()) {
        match used {
            0..6 => micros = micros * 10 + i64::from(byte - b'0'),
            _ if *byte != b'0' => return None,
            _ => {}
        }
        used += 1;
    }
    for _ in used..6 {
        micros *= 10;
    }
    (used > 0).then_some((micros, used))
}

/// A time of day as microseconds since midnight. A trailing `Z` is allowed, another offset is not: a time of day
/// without a date cannot be moved to UTC.
#[must_use]
pub fn time(text: &[u8]) -> Option<i64> {
    let (micros, rest) = clock(text)?;
    matches!(rest, b"" | b"Z" | b"z" | b"+00:00").then_some(micros)
}

/// A moment, and whether its text said at which offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub micros: i64,
    /// False: no offset was written, and UTC was taken.
    pub zoned: bool,
}

/// The first moment of year 1 and the last of year 9999, in UTC.
const MOMENTS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// A date-time (`T`, `t` or a space in the middle; a bare date is its midnight) as a moment of the years 1 to 9999.
#[must_use]
pub fn moment(text: &[u8]) -> Option<Moment> {
    let day = i64::from(date(text.get(0..10)?)?) * 86_400_000_000;
    let Some(separator) = text.get(10) else {
        return Some(Moment { micros: day, zoned: false });
    };
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let (micros, rest) = clock(text.get(11..)?)?;
    let (offset, zoned) = match rest {
        b"" => (0, false),
        b"Z" | b"z" => (0, true),
        _ => (offset(rest)?, true),
    };
    // The offset may lead out of the years that there are.
    let micros = day + micros - offset;
    MOMENTS.contains(&micros).then_some(Moment { micros, zoned })
}

/// `+hh:mm`, `+hhmm` or `+hh` in microseconds.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, text) = text.split_first()?;
    let (hours, minutes) = match text.len() {
        2 => (text, &b"00"[..]),
        4 => text.split_at(2),
        5 if text.get(2) == Some(&b':') => (text.get(0..2)?, text.get(3..5)?),
        _ => return None,
    };
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let micros = (hours * 60 + minutes) * 60_000_000;
    match sign {
        b'+' => Some(micros),
        b'-' => Some(-micros),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(text: &str) -> Option<i64> {
        moment(text.as_bytes()).map(|m| m.micros)
    }

    #[test]
    fn known_moments() {
        assert_eq!(micros("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(micros("2026-03-01T12:30:45.123456Z"), Some(1_772_368_245_123_456));
        assert_eq!(micros("2026-03-01T12:30:45.123456000+05:30"), Some(1_772_368_245_123_456 - 19_800_000_000));
        assert_eq!(micros("2026-03-01 12:30:45-0800"), Some(1_772_368_245_000_000 + 28_800_000_000));
        assert_eq!(micros("0001-01-01T00:00:00Z"), Some(-62_135_596_800_000_000));
        assert_eq!(micros("9999-12-31T23:59:59.999999Z"), Some(253_402_300_799_999_999));
        assert_eq!(moment(b"2026-03-01"), Some(Moment { micros: 1_772_323_200_000_000, zoned: false }));
    }

    #[test]
    fn what_does_not_exist_or_does_not_fit_is_refused() {
        for bad in [
            "",
            "2026-02-30T00:00:00Z",
            "2025-02-29T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "9999-12-31T23:59:59-05:00",
            "0001-01-01T00:00:00+05:00",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-12-31T23:59:60Z",
            "2026-01-01T00:00:00.1234567Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+24:00",
            "2026-1-1T00:00:00Z",
            "2026-01-01X00:00:00Z",
            "2026-01-01T00:00:00Z ",
            "-026-01-01T00:00:00Z",
            "2026-01-01T",
            "+2026-01-01",
        ] {
            assert_eq!(micros(bad), None, "{bad}");
        }
        assert_eq!(time(b"12:00:00+01:00"), None);
        assert_eq!(time(b"23:59:59.999999"), Some(86_399_999_999));
        assert_eq!(date(b"2024-02-29"), Some(19_782));
        assert_eq!(date(b"2024-02-29T00:00:00Z"), None);
    }

    proptest! {
        #[test]
        fn agrees_with_chrono(micros_since in -62_135_596_800_000_000i64..253_402_300_799_999_999, offset in -1439i32..1440) {
            let utc = chrono::DateTime::from_timestamp_micros(micros_since).unwrap();
            let local = utc.with_timezone(&chrono::FixedOffset::east_opt(offset * 60).unwrap());
            let text = local.to_rfc3339_opts(chrono::SecondsFormat::Micros, false);
            prop_assume!(text.len() == 32 && !text.starts_with("0000"));
            prop_assert_eq!(micros(&text), Some(micros_since), "{}", text);
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = (moment(&bytes), date(&bytes), time(&bytes));
        }
    }
}
