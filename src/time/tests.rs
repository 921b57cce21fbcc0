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
    let midnight = Moment { micros: 1_772_323_200_000_000, changes: Changes::ZONELESS };
    assert_eq!(moment(b"2026-03-01"), Some(midnight));
}

#[test]
fn what_does_not_exist_or_does_not_fit_is_refused() {
    for bad in [
        "",
        "2026-02-30T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-12-31T23:59:61Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00  Z",
        "2026-01-01T00:00:00 CET",
        "0000-12-31T23:00:00-05:00",
        "2026-01-01T123:00:00Z",
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
    for bad in ["24:00:00", "8", "8:3", ":30:00", "12:00:00 CET", "12:00:00+1", "-01:00:00"] {
        assert_eq!(time(bad.as_bytes()), None, "{bad}");
    }
    for bad in [
        "2024-02-30",
        "0000-01-01",
        "2024-02-29T00:00:01Z",
        "2024-02-29T00:00:00.0000001",
        "2024-02-29T",
        "2024-02-29 00:00:00 CET",
        "2024-02-29X00:00:00",
    ] {
        assert_eq!(date(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn dates_and_times_of_day_are_read_as_programs_write_them() {
    let of = |text: &str| time(text.as_bytes()).map(|time| (time.micros, time.changes));
    let none = Changes::default();
    assert_eq!(of("23:59:59.999999"), Some((86_399_999_999, none)));
    assert_eq!(of("8:30:00"), Some((30_600_000_000, none)));
    assert_eq!(of("08:30Z"), Some((30_600_000_000, none)));
    assert_eq!(of("12:00:00+01:00"), Some((43_200_000_000, Changes::OFFSET)));
    assert_eq!(of("12:00:00 -03"), Some((43_200_000_000, Changes::OFFSET)));
    assert_eq!(of("23:59:60"), Some((86_399_999_999, Changes::LEAP)));
    assert_eq!(of("00:00:00.0000001"), Some((0, Changes::CUT)));
    for text in ["2024-02-29", "2024-02-29T00:00:00Z", "2024-02-29 00:00:00", "2024-02-29T00:00:00.000+05:30"] {
        assert_eq!(date(text.as_bytes()), Some(19_782), "{text}");
    }
}

#[test]
fn what_a_column_cannot_hold_of_a_moment_is_said() {
    let of = |text: &str| moment(text.as_bytes()).map(|moment| (moment.micros, moment.changes));
    let last = *MOMENTS.end();
    let at = 1_772_368_245_000_000;
    for (text, micros, changes) in [
        ("2026-03-01T12:30:45.1234567Z", at + 123_456, Changes::CUT),
        ("2026-03-01T12:30:45.123456789Z", at + 123_456, Changes::CUT),
        ("2026-03-01T12:30:45.1234560000001Z", at + 123_456, Changes::CUT),
        ("2026-03-01T12:30:45.123456000Z", at + 123_456, Changes::default()),
        ("2026-03-01 18:00:45 +05:30", at, Changes::default()),
        ("2026-03-01 12:30:45 UTC", at, Changes::default()),
        ("2026-03-01 12:30:45utc", at, Changes::default()),
        ("2026-03-01 12:30:45 GMT", at, Changes::default()),
        ("2026-03-01 12:30:45", at, Changes::ZONELESS),
        ("9999-12-31T23:59:59-05:00", last, Changes::HELD),
        ("0001-01-01T00:00:00+05:00", *MOMENTS.start(), Changes::HELD),
        ("9999-12-31T23:59:60Z", last, Changes::LEAP),
        ("1970-01-01T00:00:60.5Z", 59_999_999, Changes::LEAP),
    ] {
        assert_eq!(of(text), Some((micros, changes)), "{text}");
    }
}

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

    #[test]
    fn printing_and_reading_agree(us in FAR_PAST..FAR_FUTURE) {
        prop_assert_eq!(parse_rfc3339(to_rfc3339(us)), Some(us));
    }

    #[test]
    fn the_service_s_times_are_read_as_chrono_reads_them(
        year in 0..3000u32, month in 0..14u32, day in 0..33u32, separator in "[Tt ]", hour in 0..25u32,
        second in 0..62u32, fraction in "(|\\.[0-9]{0,10})", zone in "(Z|z||[+-][0-2][0-9]:?[0-6][0-9])",
    ) {
        let text = format!("{year:04}-{month:02}-{day:02}{separator}{hour:02}:30:{second:02}{fraction}{zone}");
        let theirs = DateTime::parse_from_rfc3339(&text).ok().map(|time| time.timestamp_micros());
        prop_assert_eq!(parse_rfc3339(&text), theirs, "{}", text);
    }
}
