//! Times and days as numbers: microseconds and days since 1970-01-01 UTC, read from RFC 3339 and written as such.
//!
//! The two programs share the arithmetic and differ in strictness. The tap reads what a service sends, with
//! [`parse_rfc3339`]: an offset must be there, and digits beyond the microsecond are cut off. The target reads what
//! programs of all kinds write, with [`moment`], [`date`] and [`time`], and says in [`Changes`] what a column of
//! microseconds in the years 1 to 9999 could not hold of a value. There is no year 0.

use chrono::DateTime;

/// Microseconds since 1970-01-01T00:00:00Z; negative before.
pub type Micros = i64;

/// One second in microseconds.
pub const SECOND_US: Micros = 1_000_000;
/// One minute in microseconds.
const MINUTE_US: Micros = 60 * SECOND_US;
/// One hour in microseconds.
pub const HOUR_US: Micros = 60 * MINUTE_US;
/// One day in microseconds.
pub const DAY_US: Micros = 24 * HOUR_US;
/// The upper bound of every `timestamp` of PostHog: 2149-06-07, behind the last day that ClickHouse's `Date` holds.
pub const FAR_FUTURE: Micros = 65_536 * DAY_US;
/// The lower bound of every `timestamp` of PostHog: 1970-01-01, the first day that `Date` holds.
pub const FAR_PAST: Micros = 0;
/// The first moment of year 1 and the last of year 9999, in UTC.
const MOMENTS: std::ops::RangeInclusive<Micros> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// A UTC day, with which PostHog's sort key begins: whole days since 1970-01-01, as ClickHouse's `Date` holds it.
///
/// ClickHouse's `toDate` gives a 16-bit day number. Its results for times outside 1970-01-01 to 2149-06-06 differ by
/// version (they wrap, or saturate), so rows there have no place in the key, and nothing outside is ever asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u16);

impl Day {
    /// The first day that exists.
    pub const FIRST: Day = Day(0);

    /// The day of a time.
    pub fn of(time: Micros) -> Day {
        let days = time.div_euclid(DAY_US).clamp(0, i64::from(u16::MAX));
        Day(u16::try_from(days).unwrap_or(u16::MAX))
    }

    /// Reads `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Day> {
        Some(Day::of(i64::from(date(text.as_bytes())?) * DAY_US))
    }

    /// The earliest time that `toDate` maps to this day.
    pub fn start(self) -> Micros {
        i64::from(self.0) * DAY_US
    }

    /// The day after; `None` after the last one.
    pub fn next(self) -> Option<Day> {
        self.0.checked_add(1).map(Day)
    }

    /// The end of this day: the first time that belongs to the next one.
    pub fn end(self) -> Micros {
        self.next().map_or(FAR_FUTURE, Day::start)
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(to_rfc3339(self.start()).get(..10).unwrap_or_default())
    }
}

/// How strictly a time is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// As RFC 3339 writes times: with an offset; year 0 and leap seconds exist; digits beyond the microsecond are cut.
    Rfc3339,
    /// As programs write times into columns: the offset and the seconds may be left out, a space may stand in front of the
    /// offset, and an hour may have one digit.
    Column,
}

/// What a column could not hold of a time, and what was assumed about a time: one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes(u8);

impl Changes {
    /// Digits behind the microsecond were cut off.
    pub const CUT: Changes = Changes(1);
    /// The moment lies outside the years 1 to 9999, of which it became the first or the last.
    pub const HELD: Changes = Changes(2);
    /// A leap second became the last microsecond before it.
    pub const LEAP: Changes = Changes(4);
    /// No offset was written, and UTC was taken.
    pub const ZONELESS: Changes = Changes(8);
    /// The offset of a time of day was left out.
    pub const OFFSET: Changes = Changes(16);

    /// True if these are among them.
    pub fn has(self, other: Changes) -> bool {
        self.0 & other.0 != 0
    }

    /// True if there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn add(&mut self, other: Changes, is_so: bool) {
        self.0 |= if is_so { other.0 } else { 0 };
    }
}

/// Reads an RFC 3339 time with any offset, with any number of digits of fraction of which six are kept.
pub fn parse_rfc3339(text: impl AsRef<[u8]>) -> Option<Micros> {
    date_time(text.as_ref(), Strictness::Rfc3339).map(|moment| moment.micros)
}

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ`: always 27 characters for the years 0 to 9999.
pub fn to_rfc3339(time: Micros) -> String {
    DateTime::from_timestamp_micros(time).unwrap_or_default().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Days from 1970-01-01 to the civil date, if it exists. By Howard Hinnant's algorithm.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if !(1..=length).contains(&day) {
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

/// `YYYY-MM-DD` as days since 1970-01-01; years 0 to 9999.
fn civil(text: &[u8]) -> Option<i64> {
    if text.len() != 10 || text.get(4) != Some(&b'-') || text.get(7) != Some(&b'-') {
        return None;
    }
    days(digits(text.get(0..4)?)?, digits(text.get(5..7)?)?, digits(text.get(8..10)?)?)
}

/// `YYYY-MM-DD` as days since 1970-01-01; years 1 to 9999. A midnight may stand behind it, at any offset.
pub fn date(text: &[u8]) -> Option<i32> {
    let (day, behind) = text.split_at_checked(10)?;
    let is_midnight = || {
        let (clock, rest) = clock(behind.get(1..)?, Strictness::Column)?;
        let whole = clock.micros == 0 && clock.changes.is_empty() && offset(rest, Strictness::Column).is_some();
        (is_separator(behind.first()) && whole).then_some(())
    };
    if !behind.is_empty() {
        is_midnight()?;
    }
    if day.starts_with(b"0000") { None } else { i32::try_from(civil(day)?).ok() }
}

fn is_separator(byte: Option<&u8>) -> bool {
    matches!(byte, Some(b'T' | b't' | b' '))
}

/// `hh:mm[:ss[.fraction]]` as microseconds, and the text behind it.
fn clock(text: &[u8], strictness: Strictness) -> Option<(Moment, &[u8])> {
    let is_column = strictness == Strictness::Column;
    let short = is_column && text.get(1) == Some(&b':');
    let hour = digits(text.get(0..if short { 1 } else { 2 })?)?;
    let text = text.get(if short { 1 } else { 2 }..)?;
    let minute = digits(text.get(1..3)?)?;
    if text.first() != Some(&b':') || hour > 23 || minute > 59 {
        return None;
    }
    let mut found = Moment { micros: hour * HOUR_US + minute * MINUTE_US, changes: Changes::default() };
    if text.get(3) != Some(&b':') {
        return if is_column { Some((found, text.get(3..)?)) } else { None };
    }
    let second = digits(text.get(4..6)?)?;
    if second > 60 {
        return None;
    }
    found.micros += second * SECOND_US;
    let mut rest = text.get(6..)?;
    if rest.first() == Some(&b'.') || (is_column && rest.first() == Some(&b',')) {
        let (micros, used, is_cut) = fraction(rest.get(1..)?)?;
        found.micros += micros;
        found.changes.add(Changes::CUT, is_cut);
        rest = rest.get(1 + used..)?;
    }
    if is_column && second == 60 {
        found = Moment { micros: hour * HOUR_US + (minute + 1) * MINUTE_US - 1, changes: Changes::LEAP };
    }
    Some((found, rest))
}

/// The digits of a fraction of a second as microseconds, how many digits there are, and whether one that is not zero lies
/// behind the sixth. `None` without a digit.
fn fraction(text: &[u8]) -> Option<(Micros, usize, bool)> {
    let (mut micros, mut used, mut is_cut) = (0, 0, false);
    for byte in text.iter().take_while(|b| b.is_ascii_digit()) {
        if used < 6 {
            micros = micros * 10 + i64::from(byte - b'0');
        } else {
            is_cut |= *byte != b'0';
        }
        used += 1;
    }
    for _ in used..6 {
        micros *= 10;
    }
    (used > 0).then_some((micros, used, is_cut))
}

/// A time of day as microseconds since midnight. An offset is left out, as a change: a time of day without a date cannot be
/// moved to UTC.
pub fn time(text: &[u8]) -> Option<Moment> {
    let (mut time, rest) = clock(text, Strictness::Column)?;
    let (micros, zoned) = offset(rest, Strictness::Column)?;
    time.changes.add(Changes::OFFSET, zoned && micros != 0);
    Some(time)
}

/// A moment, or a time of day, as a column holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since 1970-01-01T00:00:00Z, or since midnight.
    pub micros: Micros,
    /// What the text said besides.
    pub changes: Changes,
}

/// A date-time (`T`, `t` or a space in the middle; a bare date is its midnight) as a moment of the years 1 to 9999.
pub fn moment(text: &[u8]) -> Option<Moment> {
    if text.starts_with(b"0000") {
        return None;
    }
    if text.len() == 10 {
        return Some(Moment { micros: i64::from(date(text)?) * DAY_US, changes: Changes::ZONELESS });
    }
    let mut moment = date_time(text, Strictness::Column)?;
    // The offset may lead out of the years that there are.
    moment.changes.add(Changes::HELD, !MOMENTS.contains(&moment.micros));
    moment.micros = moment.micros.clamp(*MOMENTS.start(), *MOMENTS.end());
    Some(moment)
}

/// A date and a time of day.
fn date_time(text: &[u8], strictness: Strictness) -> Option<Moment> {
    let day = civil(text.get(0..10)?)? * DAY_US;
    if !is_separator(text.get(10)) {
        return None;
    }
    let (mut moment, rest) = clock(text.get(11..)?, strictness)?;
    let (offset, zoned) = offset(rest, strictness)?;
    moment.micros += day - offset;
    moment.changes.add(Changes::ZONELESS, !zoned);
    Some(moment)
}

/// `Z` or `+hh:mm` in microseconds; in columns also `+hhmm`, `+hh`, `UTC` and nothing, which is no zone. Whether there is one.
fn offset(text: &[u8], strictness: Strictness) -> Option<(Micros, bool)> {
    if let b"Z" | b"z" = text {
        return Some((0, true));
    }
    let is_column = strictness == Strictness::Column;
    if is_column && text.is_empty() {
        return Some((0, false));
    }
    let text = if is_column { text.strip_prefix(b" ").unwrap_or(text) } else { text };
    if is_column && [&b"Z"[..], b"UTC", b"GMT"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Some((0, true));
    }
    let (sign, text) = text.split_first()?;
    let (hours, minutes) = match text.len() {
        5 if text.get(2) == Some(&b':') => (text.get(0..2)?, text.get(3..5)?),
        4 if is_column => text.split_at(2),
        2 if is_column => (text, &b"00"[..]),
        _ => return None,
    };
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let micros = hours * HOUR_US + minutes * MINUTE_US;
    match sign {
        b'+' => Some((micros, true)),
        b'-' => Some((-micros, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
