//! Names in `event_types` that no event has: a misspelt name reads nothing, and the run would end as if all were well.

use crate::error::Result;
use crate::log;
use crate::posthog::fault::Fault;
use crate::posthog::http::client::{Client, Query};
use crate::posthog::query::ask::ask;
use crate::posthog::query::hogql::{Range, rows_per_name};
use crate::time::{DAY_US, Day};

/// Names that are near another one are looked for in so much of the newest time.
const LOOKED_AT_US: i64 = 7 * DAY_US;

/// Warns of each name that the range is to have and no event in it has, with the nearest name of the newest days.
///
/// # Errors
/// Those that end a run. A question that is refused, or too much, is left out.
pub fn warn_of_absent(client: &Client, range: &Range) -> Result<()> {
    if range.event_types.is_empty() || range.since >= range.until {
        return Ok(());
    }
    let Some(there) = names(client, range)? else { return Ok(()) };
    let absent: Vec<&String> = range.event_types.iter().filter(|name| !there.contains(name)).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let since = range.since.max(range.until.saturating_sub(LOOKED_AT_US));
    let known = names(client, &Range { since, event_types: Vec::new(), ..range.clone() })?.unwrap_or_default();
    for name in absent {
        let meant = nearest(name, &known).map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
        let list = if name.contains(',') { "; several names are a list: [\"a\", \"b\"]" } else { "" };
        let day = Day::of(range.since);
        log::warn(format!("event_types: since {day} there is no event called \"{name}\"{meant}{list}"));
    }
    Ok(())
}

/// The names of the events in a range; none where PostHog does not say.
fn names(client: &Client, range: &Range) -> Result<Option<Vec<String>>> {
    let sql = rows_per_name(range);
    let query = Query::new("names of events", &sql);
    match ask(client, &query, &["event", "rows"], |row| row.text(0).map(str::to_owned)) {
        Ok(names) => Ok(Some(names)),
        Err(fault @ (Fault::Stopped(_) | Fault::WaitTooLong { .. })) => Err(fault.into()),
        Err(_) => Ok(None),
    }
}

/// The name that another one was probably meant to be.
fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let distance = |known: &String| strsim::damerau_levenshtein(&lower, &known.to_lowercase());
    let (distance, near) = known.iter().map(|known| (distance(known), known)).min()?;
    (distance <= 1 + name.chars().count() / 5).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_near_another_one_by_few_letters() {
        let known = ["$pageview", "purchase", "Signed Up"].map(str::to_owned);
        for (name, near) in [
            ("purchsae", Some("purchase")),
            ("pageview", Some("$pageview")),
            ("signed up", Some("Signed Up")),
            ("x", None),
        ] {
            assert_eq!(nearest(name, &known), near, "{name}");
        }
    }
}
