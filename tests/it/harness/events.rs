//! Events as the fake stores them, as the tap delivers them and as the files hold them.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value as Json;

use super::{Run, Tap};
use crate::fake::{DAY_MICROS, Event, Fake, Held, Identity, Options, micros};

pub(crate) const MINUTE: i64 = 60_000_000;
/// Only the queries for pages have it.
pub(crate) const PAGE: &str = "ORDER BY toDate(timestamp), event";

/// The fake's clock when it starts.
pub(crate) fn start() -> i64 {
    micros("2026-08-15T12:00:00Z")
}

/// A fake that holds these events.
pub(crate) fn fake_of(events: impl IntoIterator<Item = Event>) -> Fake {
    let fake = Fake::start(Options::default());
    fake.world().insert(events);
    fake
}

/// An event that arrived when it happened.
pub(crate) fn at(n: u64, time: i64) -> Event {
    Event::new(n, "e", time).created(time)
}

/// Settings and their values.
pub(crate) type Settings<'a> = &'a [(&'static str, Json)];

pub(crate) fn tap_with<'a>(fake: &'a Fake, settings: Settings<'_>) -> Tap<'a> {
    settings.iter().fold(Tap::new(fake), |tap, (name, value)| tap.set(name, value.clone()))
}

/// The run from the last state of `before`, `later` after it.
pub(crate) fn go_on(fake: &Fake, before: &Run, later: i64, settings: Settings<'_>) -> Run {
    fake.world().advance(later);
    tap_with(fake, settings).state(&before.last_state()).run().ends(0)
}

/// The stored events of these numbers.
pub(crate) fn numbered(fake: &Fake, numbers: std::ops::Range<u64>) -> Vec<Held> {
    let wanted: HashSet<String> = numbers.map(|n| format!("{:032x}", at(n, 0).uuid)).collect();
    fake.world().held().into_iter().filter(|held| wanted.contains(&held.identity.uuid.replace('-', ""))).collect()
}

/// The records before the last STATE of what left a killed tap, and that STATE.
pub(crate) fn safe_part(text: &str) -> Option<(Vec<Held>, String)> {
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let at = whole.rfind("{\"type\":\"STATE\"")?;
    let state: Json = serde_json::from_str(whole[at..].lines().next().unwrap()).unwrap();
    Some((records(&whole[..at]), state["value"].to_string()))
}

fn records(text: &str) -> Vec<Held> {
    let lines = text.lines().filter(|line| line.starts_with("{\"type\":\"RECORD\""));
    lines.map(|line| held(&serde_json::from_str::<Json>(line).unwrap()["record"])).collect()
}

/// A record of the stream `events` as the fake holds it.
pub(crate) fn held(record: &Json) -> Held {
    let text = |name: &str| record[name].as_str().unwrap_or_else(|| panic!("no text in {name} of {record}")).to_owned();
    let timestamp = micros(&text("timestamp"));
    // The fake, too, says 0 where there is no arrival.
    let created_at = record["created_at"].as_str().map_or(0, micros);
    let day = timestamp.div_euclid(DAY_MICROS);
    let identity = Identity { day, event: text("event"), distinct_id: text("distinct_id"), uuid: text("uuid") };
    Held { identity, timestamp, created_at }
}

/// Queries ran out of time, and none of them was sent again as it was.
pub(crate) fn splits_and_never_repeats(fake: &Fake) {
    let world = fake.world();
    let failed = world.log.iter().filter(|query| query.status == 504).filter_map(|query| query.sql.as_ref());
    let failed: Vec<&String> = failed.collect();
    let distinct: HashSet<&&String> = failed.iter().collect();
    assert!(!failed.is_empty(), "nothing had to be split");
    assert_eq!(distinct.len(), failed.len(), "a query that failed for good was sent again");
}

/// `got` holds each of `wanted` once and nothing else; `what` is told when not.
pub(crate) fn same_once(what: &str, got: &[Held], wanted: impl IntoIterator<Item = Held>) {
    let mut count: BTreeMap<Identity, (i64, i64)> = BTreeMap::new();
    for event in got {
        count.entry(event.identity.clone()).or_default().0 += 1;
    }
    let mut versions: Vec<Held> = wanted.into_iter().collect();
    let order =
        |a: &Held, b: &Held| (&a.identity, a.created_at, a.timestamp).cmp(&(&b.identity, b.created_at, b.timestamp));
    versions.sort_by(order);
    versions.dedup();
    for event in &versions {
        count.entry(event.identity.clone()).or_default().1 += 1;
    }
    count.retain(|_, (got, wanted)| got != wanted);
    let shown: Vec<_> = count.iter().take(5).collect();
    assert!(count.is_empty(), "{what}: {} identities are (delivered, wanted) {shown:?}", count.len());
    for event in got {
        let stored = versions.binary_search_by(|version| order(version, event));
        assert!(stored.is_ok(), "{what}: {event:?} is not what is stored");
    }
}
