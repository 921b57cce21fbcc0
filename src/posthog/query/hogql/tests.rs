use super::*;
use proptest::prelude::*;

fn key(day: &str, event: &str, hash: u64) -> Key {
    Key { day: Day::parse(day).unwrap(), event: event.to_owned(), hash }
}

fn range() -> Range {
    Range { since: 0, until: crate::time::FAR_FUTURE, created_from: None, created_until: Some(7), event_types: vec![] }
}

/// What the interval adds to the conditions of the range.
fn inside(from: Cursor, to: Option<Key>) -> String {
    let all = conditions(&range(), Some(&Interval { from, to }));
    let horizon = "created_at < toDateTime64('1970-01-01 00:00:00.000007', 6, 'UTC')";
    all[all.find(horizon).unwrap() + horizon.len()..].replace("cityHash64(distinct_id)", "H")
}

#[test]
fn whole_days_are_bounds_on_the_time_alone() {
    let interval = Interval { from: Cursor::At(key("2026-08-01", "", 0)), to: Some(key("2026-08-03", "", 0)) };
    assert_eq!(
        conditions(&Range { created_until: None, ..range() }, Some(&interval)),
        "timestamp >= toDateTime64('2026-08-01 00:00:00.000000', 6, 'UTC') AND \
             timestamp < toDateTime64('2026-08-03 00:00:00.000000', 6, 'UTC')"
    );
}

#[test]
fn bounds_inside_a_day_are_two_sided_and_in_or_form() {
    let at = |event, hash| Cursor::At(key("2026-08-01", event, hash));
    let to = |event, hash| Some(key("2026-08-01", event, hash));
    assert_eq!(inside(at("a", 5), to("a", 9)), " AND event = 'a' AND H >= 5 AND H < 9");
    assert_eq!(
        inside(at("a", 5), to("b", 9)),
        " AND event >= 'a' AND (event > 'a' OR (H >= 5)) AND event <= 'b' AND (event < 'b' OR H < 9)"
    );
    assert_eq!(inside(at("a", 0), to("b", 0)), " AND event >= 'a' AND event < 'b'");
    assert_eq!(
        inside(at("a", 5), Some(key("2026-08-02", "b", 9))),
        " AND (toDate(timestamp) > toDate('2026-08-01') OR (event >= 'a' AND (event > 'a' OR (H >= 5)))) \
             AND (toDate(timestamp) < toDate('2026-08-02') OR (event <= 'b' AND (event < 'b' OR H < 9)))"
    );
    assert_eq!(inside(at("", 0), None), "");
}

#[test]
fn behind_a_row_every_part_of_the_order_is_compared() {
    let uuid = "019fbc99-bec2-7afe-a3d9-f07224cdf735".to_owned();
    let row = RowKey { key: key("2026-08-01", "a", 5), timestamp: 1, uuid, created_at: 2 };
    let text = inside(Cursor::After(row), Some(key("2026-08-01", "a", 9)));
    let (time, created) = (datetime(1), datetime(2));
    let uuid = "toUUID('019fbc99-bec2-7afe-a3d9-f07224cdf735')";
    assert_eq!(
        text,
        format!(
            " AND event = 'a' AND H >= 5 AND (H > 5 OR (timestamp >= {time} AND (timestamp > {time} OR \
                 (uuid > {uuid} OR (uuid = {uuid} AND created_at > {created}))))) AND H < 9"
        )
    );
}

#[test]
fn runs_by_timestamp_never_name_the_arrival() {
    let row = RowKey { key: key("2026-08-01", "a", 5), timestamp: 1, uuid: "u".to_owned(), created_at: 2 };
    let interval = Interval { from: Cursor::After(row), to: Some(key("2026-08-01", "a", 9)) };
    let range = Range { created_until: None, ..range() };
    for sql in [page(&range, &interval, &[], 5), recount(&range, &interval), rows_per_bucket(&range, &interval, 1)] {
        assert!(!sql.contains("created_at"), "{sql}");
    }
    assert!(
        page(&range, &interval, &[], 5)
            .ends_with("ORDER BY toDate(timestamp), event, cityHash64(distinct_id), timestamp, uuid LIMIT 5")
    );
}

#[test]
fn columns_get_a_name_only_where_they_need_one() {
    let column = |expression: &str, name: &str| Column { expression: expression.into(), name: name.into() };
    let columns =
        [column("uuid", "uuid"), column("poe.properties", "person_properties"), column("`$group_0`", "$group_0")];
    assert_eq!(column_list(&columns), "uuid, poe.properties AS person_properties, `$group_0`");
}

#[test]
fn every_query_over_events_has_two_bounds_and_a_limit() {
    let interval = Interval { from: Cursor::At(Key::day_start(Day::FIRST)), to: None };
    let column = [Column { expression: "uuid".into(), name: "uuid".into() }];
    let queries = [
        rows_per_day(&range()),
        rows_per_bucket(&range(), &interval, 6),
        page(&range(), &interval, &column, 10),
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

/// Reads a literal as PostHog's grammar does.
fn read(literal: &str) -> String {
    let mut out = String::new();
    let mut chars = literal[1..literal.len() - 1].chars();
    while let Some(c) = chars.next() {
        assert_ne!(c, '\'', "the literal ends early");
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next().unwrap() {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'r' => '\r',
            'n' => '\n',
            't' => '\t',
            'a' => '\u{7}',
            'v' => '\u{b}',
            other => other,
        });
    }
    out
}

proptest! {
    #[test]
    fn a_printed_string_reads_as_itself(value in "[\\\\'\"`%{}\u{0}-\u{1f}a-c\u{2028}é🎉-]{0,20}") {
        prop_assert_eq!(read(&string(&value)), value);
    }
}
