use super::*;
use crate::posthog::query::interval::Key;
use crate::posthog::query::page::Page;

fn key(event: &str, numbers: [u64; 3]) -> Key {
    Key { day: Day::parse("2026-08-01").unwrap(), event: event.to_owned(), numbers, storage: Storage::Classic }
}

fn range() -> Range {
    Range {
        since: 0,
        until: crate::time::FAR_FUTURE,
        created_from: None,
        created_until: Some(7),
        event_types: vec![],
        behind: None,
    }
}

fn interval() -> Interval {
    Interval { from: key("a", [5, 0, 0]), to: Some(key("a", [9, 0, 0])) }
}

#[test]
fn behind_a_row_every_part_of_the_order_is_compared() {
    let uuid = "019fbc99-bec2-7afe-a3d9-f07224cdf735";
    let names = ["timestamp", "event", "key_hash", "uuid", "created_at"];
    let columns = names.map(|name| Column { expression: name.to_owned(), name: name.to_owned() });
    let row = serde_json::json!(["2026-08-01T00:00:00.000001Z", "a", 5, uuid, "2026-08-01T00:00:00.000002Z"]);
    let body = serde_json::json!({"columns": names, "results": [row]}).to_string();
    let answer = Page::parse(body.as_bytes(), &names).unwrap();
    let place = behind(&range(), &columns, &answer.row(0)).unwrap();
    let sql = page(&range(), &interval(), &columns, &place, 5).replace("cityHash64(distinct_id)", "H");
    let time = |end: &str| format!("toDateTime64('2026-08-01 00:00:00.00000{end}', 6, 'UTC')");
    let (timestamp, created, day) = (time("1"), time("2"), "toDate('2026-08-01')");
    let bound = format!(
        "toDate(timestamp) >= {day} AND (toDate(timestamp) > {day} OR event >= 'a' AND (event > 'a' OR H >= 5 AND (H > 5 OR \
         timestamp >= {timestamp} AND (timestamp > {timestamp} OR uuid >= '{uuid}' AND (uuid > '{uuid}' OR created_at > {created})))))"
    );
    let order = "ORDER BY toDate(timestamp), event, H, timestamp, uuid, created_at LIMIT 5";
    assert!(sql.ends_with(&format!(" AND event = 'a' AND H >= 5 AND H < 9 AND {bound} {order}")), "{sql}");
    // The same bound holds for all of a range that an older version began.
    let Place::Behind(literals) = place else { panic!("no row") };
    let older = Range { behind: Some(literals), ..range() };
    let older = recount(&older, &interval()).replace("cityHash64(distinct_id)", "H");
    assert!(older.contains(&bound), "{older}");
}

#[test]
fn runs_by_timestamp_never_name_the_arrival() {
    let range = Range { created_until: None, ..range() };
    let place = Place::Behind(vec!["toDate('2026-08-01')".to_owned(); 6]);
    let page = page(&range, &interval(), &[], &place, 5);
    for sql in [&page, &recount(&range, &interval()), &rows_per_bucket(&range, &interval(), &Buckets::NAMES)] {
        assert!(!sql.contains("created_at"), "{sql}");
    }
    assert!(page.ends_with("ORDER BY toDate(timestamp), event, cityHash64(distinct_id), timestamp, uuid LIMIT 5"));
}

#[test]
fn rows_are_counted_by_the_bits_of_a_number() {
    let day = Day::parse("2026-08-01").unwrap().start() / 1_000;
    for (depth, storage, number) in [
        (0, Storage::Classic, "cityHash64(distinct_id)".to_owned()),
        (1, Storage::Classic, "cityHash64(uuid)".to_owned()),
        (1, Storage::New, format!("toUnixTimestamp64Milli(timestamp) - {day}")),
        (2, Storage::New, "cityHash64(uuid)".to_owned()),
    ] {
        let sql = rows_per_bucket(&range(), &interval(), &Buckets { depth, shift: 7, storage });
        assert!(sql.contains(&format!("min({number}) AS least, max({number}) AS most")), "{sql}");
        assert!(
            sql.contains(&format!("GROUP BY day, event, bitShiftRight({number}, 7) ORDER BY day, event, least")),
            "{sql}"
        );
    }
}

#[test]
fn every_query_over_events_has_two_bounds_and_a_limit() {
    let interval = Interval { from: Key::day_start(Day::FIRST), to: None };
    let column = [Column { expression: "uuid".into(), name: "uuid".into() }];
    let queries = [
        rows_per_day(&range()),
        rows_per_bucket(&range(), &interval, &Buckets { shift: 58, ..Buckets::NAMES }),
        first_row(&range(), &interval, Storage::New),
        page(&range(), &interval, &column, &Place::Start, 10),
        recount(&range(), &interval),
        arrivals_per_hour(&range(), 7, false),
        arrivals_per_hour(&range(), 0, true),
        usable_arrivals(&range()),
        probe(&column, Day::FIRST),
    ];
    for query in queries {
        assert!(query.contains("timestamp >= ") && query.contains("timestamp < "), "{query}");
        assert!(query.contains(" LIMIT ") && !query.contains("OFFSET"), "{query}");
    }
}
