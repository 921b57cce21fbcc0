//! Places in the sort key of `events`, and the conditions that bound a query by them.
//!
//! The sort key begins with (UTC day, event, `cityHash64(distinct_id)`). What follows depends on how a server stores events
//! ([`Storage`]), and matters only where one `distinct_id` has more events of a name and a day than one answer holds.

use crate::time::{DAY_US, Day, FAR_FUTURE, Micros};

use super::text::{date, datetime, string};

/// The UTC day, the first part of the sort key. ClickHouse knows the key only in this very form.
pub(super) const DAY: &str = "toDate(timestamp)";
/// The hash of `distinct_id`, the third part.
pub(super) const ID_HASH: &str = "cityHash64(distinct_id)";
const UUID_HASH: &str = "cityHash64(uuid)";
const MILLISECOND_US: Micros = 1_000;

/// How a server stores events: what its sort key goes on with behind the hash of `distinct_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// `cityHash64(uuid)`.
    #[default]
    Classic,
    /// `timestamp, uuid`.
    New,
}

impl Storage {
    /// What the sort key goes on with.
    pub(super) fn order(self) -> &'static str {
        match self {
            Storage::Classic => UUID_HASH,
            Storage::New => "timestamp",
        }
    }

    fn number(self, depth: usize) -> Number {
        match (self, depth) {
            (_, 0) => Number::IdHash,
            (Storage::Classic, 1) | (Storage::New, 2) => Number::UuidHash,
            _ => Number::Millisecond,
        }
    }

    /// How many bits the number of a key at this depth has.
    pub fn bits(self, depth: usize) -> u32 {
        match self.number(depth) {
            Number::IdHash | Number::UuidHash => u64::BITS,
            Number::Millisecond => (DAY_US / MILLISECOND_US).ilog2() + 1,
        }
    }
}

/// A number in the sort key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Number {
    IdHash,
    UuidHash,
    /// The milliseconds since the day began: what HogQL can group by. Bounds by them are bounds on `timestamp` itself.
    Millisecond,
}

/// A place between rows in the sort key of the table: before the first row of (day, event, numbers).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// UTC day of `timestamp`.
    pub day: Day,
    /// Event name; compared bytewise, as ClickHouse does.
    pub event: String,
    /// `cityHash64(distinct_id)`, and two numbers inside of it: `cityHash64(uuid)` and the millisecond of the day, in the
    /// order of the storage. The last one is no part of the sort key, and parts what has the same one before it.
    pub numbers: [u64; 3],
    /// Says what the second and third number are.
    pub storage: Storage,
}

impl Key {
    /// Before the first row of a day.
    pub fn day_start(day: Day) -> Key {
        Key { day, event: String::new(), numbers: [0; 3], storage: Storage::default() }
    }

    fn is_day_start(&self) -> bool {
        self.event.is_empty() && self.numbers == [0; 3]
    }

    /// The first place behind all that share day, event and the first `count` numbers with this one.
    #[must_use]
    pub fn behind(&self, count: usize) -> Key {
        let mut key = self.clone();
        key.numbers.iter_mut().skip(count).for_each(|number| *number = 0);
        for number in key.numbers.iter_mut().take(count).rev() {
            *number = number.wrapping_add(1);
            if *number > 0 {
                return key;
            }
        }
        // No name lies between a name and the same name with a zero byte behind it.
        key.event.push('\0');
        key
    }

    fn terms(&self, storage: Storage) -> [Term<'_>; 4] {
        let [id, first, second] = self.numbers;
        let number = |depth, value| Term::Number(storage.number(depth), self.day, value);
        [Term::Event(&self.event), number(0, id), number(1, first), number(2, second)]
    }
}

/// A half-open interval of the sort key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Where it starts.
    pub from: Key,
    /// The first key that no longer belongs to it; `None` runs to the end of everything.
    pub to: Option<Key>,
}

impl Interval {
    /// The bounds on `timestamp` that follow from the days alone.
    pub(super) fn times(&self) -> (Micros, Micros) {
        let until = match &self.to {
            None => FAR_FUTURE,
            Some(to) if to.is_day_start() => to.day.start(),
            Some(to) => to.day.end(),
        };
        (self.from.day.start(), until)
    }

    /// The conditions beside those on `timestamp`, each with ` AND ` before it. In OR form: a tuple comparison does not prune.
    pub(super) fn conditions(&self) -> String {
        let (from, to) = (&self.from, self.to.as_ref().filter(|to| !to.is_day_start()));
        let storage = to.map_or(from.storage, |to| from.storage.max(to.storage));
        let lower = from.terms(storage);
        let upper = to.map(|to| to.terms(storage));
        let mut out = String::new();
        let mut push = |condition: Option<String>, outside: String| match condition {
            Some(condition) if outside.is_empty() => out += &format!(" AND {condition}"),
            Some(condition) => out += &format!(" AND ({outside} OR ({condition}))"),
            None => {}
        };
        if from.day.end() < self.times().1 {
            push(at_least(&lower), format!("{DAY} > {}", date(from.day)));
            if let (Some(to), Some(upper)) = (to, upper) {
                push(below(&upper), format!("{DAY} < {}", date(to.day)));
            }
            return out;
        }
        let same = upper.as_ref().map_or(0, |upper| lower.iter().zip(upper).take_while(|(a, b)| a == b).count());
        lower.iter().take(same).for_each(|term| push(Some(term.compare("=")), String::new()));
        push(lower.get(same..).and_then(at_least), String::new());
        push(upper.as_ref().and_then(|upper| upper.get(same..)).and_then(below), String::new());
        out
    }
}

/// A value of a part of the key behind the day.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Term<'a> {
    Event(&'a str),
    Number(Number, Day, u64),
}

impl Term<'_> {
    fn is_least(&self) -> bool {
        matches!(self, Term::Event("") | Term::Number(_, _, 0))
    }

    /// The comparison of the part with this value: `<`, `<=`, `=`, `>=` or `>`.
    fn compare(&self, operator: &str) -> String {
        let (expression, value) = match self {
            Term::Event(name) => ("event", string(name)),
            Term::Number(Number::IdHash, _, hash) => (ID_HASH, hash.to_string()),
            Term::Number(Number::UuidHash, _, hash) => (UUID_HASH, hash.to_string()),
            Term::Number(Number::Millisecond, day, millisecond) => return during(*day, *millisecond, operator),
        };
        format!("{expression} {operator} {value}")
    }
}

/// The comparison of `timestamp` with a millisecond of a day.
fn during(day: Day, millisecond: u64, operator: &str) -> String {
    let since = i64::try_from(millisecond).unwrap_or(i64::MAX).saturating_mul(MILLISECOND_US);
    let start = day.start().saturating_add(since);
    let end = start.saturating_add(MILLISECOND_US);
    match operator {
        "<" => format!("timestamp < {}", datetime(start)),
        "<=" => format!("timestamp < {}", datetime(end)),
        ">=" => format!("timestamp >= {}", datetime(start)),
        ">" => format!("timestamp >= {}", datetime(end)),
        _ => format!("timestamp >= {} AND timestamp < {}", datetime(start), datetime(end)),
    }
}

/// What lies at or behind a place; none where that is everything.
fn at_least(terms: &[Term<'_>]) -> Option<String> {
    nested(terms, [">=", ">=", ">"])
}

/// What lies before a place; none where that is nothing but the least.
fn below(terms: &[Term<'_>]) -> Option<String> {
    nested(terms, ["<", "<=", "<"])
}

/// `a last x`, or `a first x AND (a beyond x OR (rest))`. What is the least at the end says nothing.
fn nested(terms: &[Term<'_>], operators: [&str; 3]) -> Option<String> {
    let [last, first, beyond] = operators;
    let (term, rest) = terms.split_first()?;
    match nested(rest, operators) {
        Some(rest) => Some(format!("{} AND ({} OR ({rest}))", term.compare(first), term.compare(beyond))),
        None if term.is_least() => None,
        None => Some(term.compare(last)),
    }
}

/// How the rows of an interval are grouped to be counted: by the number at `depth`, cut by `shift` bits. The numbers before
/// it are the same all over the interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets {
    /// Which number of the key.
    pub depth: usize,
    /// How many of its low bits do not count. All of them: rows are counted by day and event alone.
    pub shift: u32,
    /// What the number is.
    pub storage: Storage,
}

impl Buckets {
    /// Rows by day and event.
    pub const NAMES: Buckets = Buckets { depth: 0, shift: u64::BITS, storage: Storage::Classic };

    /// True where rows are counted by day and event alone.
    pub fn is_by_name(&self) -> bool {
        self.shift >= u64::BITS
    }

    /// The number, as an expression. Milliseconds are those of `day`.
    pub(super) fn number(&self, day: Day) -> String {
        match self.storage.number(self.depth) {
            Number::IdHash => ID_HASH.to_owned(),
            Number::UuidHash => UUID_HASH.to_owned(),
            Number::Millisecond => {
                format!("toUnixTimestamp64Milli(timestamp) - {}", day.start() / MILLISECOND_US)
            }
        }
    }
}

#[cfg(test)]
mod tests;
