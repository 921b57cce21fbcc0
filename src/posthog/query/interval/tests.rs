use super::*;

fn key(day: &str, event: &str, numbers: [u64; 3]) -> Key {
    Key { day: Day::parse(day).unwrap(), event: event.to_owned(), numbers, storage: Storage::Classic }
}

fn at(event: &str, hash: u64) -> Key {
    key("2026-08-01", event, [hash, 0, 0])
}

/// What the interval adds to the bounds on `timestamp`.
fn inside(from: Key, to: Option<Key>) -> String {
    let text = Interval { from, to }.conditions();
    text.replace("cityHash64(distinct_id)", "H").replace("cityHash64(uuid)", "U")
}

#[test]
fn whole_days_are_bounds_on_the_time_alone() {
    let (from, to) = (key("2026-08-01", "", [0; 3]), key("2026-08-03", "", [0; 3]));
    let interval = Interval { from: from.clone(), to: Some(to.clone()) };
    assert_eq!((interval.times(), interval.conditions()), ((from.day.start(), to.day.start()), String::new()));
    assert_eq!(inside(from, None), "");
}

#[test]
fn bounds_inside_a_day_are_two_sided_and_in_or_form() {
    assert_eq!(inside(at("a", 5), Some(at("a", 9))), " AND event = 'a' AND H >= 5 AND H < 9");
    assert_eq!(
        inside(at("a", 5), Some(at("b", 9))),
        " AND event >= 'a' AND (event > 'a' OR (H >= 5)) AND event <= 'b' AND (event < 'b' OR (H < 9))"
    );
    assert_eq!(inside(at("a", 0), Some(at("b", 0))), " AND event >= 'a' AND event < 'b'");
    assert_eq!(
        inside(at("a", 5), Some(key("2026-08-02", "b", [9, 0, 0]))),
        " AND (toDate(timestamp) > toDate('2026-08-01') OR (event >= 'a' AND (event > 'a' OR (H >= 5)))) \
             AND (toDate(timestamp) < toDate('2026-08-02') OR (event <= 'b' AND (event < 'b' OR (H < 9))))"
    );
    assert_eq!(inside(at("", 0), Some(at("", 9))), " AND event = '' AND H < 9");
}

#[test]
fn bounds_inside_one_hash_are_those_of_the_storage() {
    let classic = |numbers| key("2026-08-01", "a", numbers);
    let new = |numbers| Key { storage: Storage::New, ..classic(numbers) };
    let same = " AND event = 'a' AND H = 5";
    assert_eq!(inside(classic([5, 7, 0]), Some(classic([5, 9, 0]))), format!("{same} AND U >= 7 AND U < 9"));
    let time = |seconds: &str| format!("toDateTime64('2026-08-01 00:00:{seconds}', 6, 'UTC')");
    assert_eq!(
        inside(new([5, 1_000, 0]), Some(new([5, 2_500, 0]))),
        format!("{same} AND timestamp >= {} AND timestamp < {}", time("01.000000"), time("02.500000"))
    );
    // From the first place of a hash, which knows no storage, into it, and out of it again.
    assert_eq!(inside(at("a", 5), Some(new([5, 0, 8]))), {
        let (start, end) = (time("00.000000"), time("00.001000"));
        format!("{same} AND timestamp >= {start} AND timestamp < {end} AND U < 8")
    });
    assert_eq!(inside(classic([5, 7, 8]), Some(at("a", 6))), {
        let (start, end) = (time("00.008000"), time("00.008000"));
        assert_eq!(start, end);
        format!(" AND event = 'a' AND H >= 5 AND (H > 5 OR (U >= 7 AND (U > 7 OR (timestamp >= {start})))) AND H < 6")
    });
}

#[test]
fn the_place_behind_a_key_is_the_next_one() {
    let most = u64::MAX;
    assert_eq!(key("2026-08-01", "a", [5, 6, 7]).behind(2).numbers, [5, 7, 0]);
    assert_eq!(key("2026-08-01", "a", [5, most, 7]).behind(2).numbers, [6, 0, 0]);
    let behind = key("2026-08-01", "a", [most, most, most]).behind(3);
    assert_eq!(behind, at("a\0", 0));
    assert!(at("a", most) < behind && behind < at("a\0", 1) && behind < at("aa", 0));
}
