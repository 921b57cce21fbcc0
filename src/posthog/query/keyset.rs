//! The text of queries that walk a table in the order of its key, page by page, each page starting where the one before
//! ended. Never OFFSET: it is refused for personal API keys, and would skip rows when the table changes meanwhile.
//!
//! Two things keep a page as cheap as its own rows, both measured: the order is the key of the table and nothing more (a
//! further `version DESC` makes ClickHouse sort all that follows), and UUIDs are compared with plain texts (`toUUID` may
//! give null in HogQL, and a comparison that may be null does not prune).

use crate::time::{Day, parse_rfc3339};

use super::page::{Cell, Row};
use super::text::{Column, column_list, date, datetime, string};

/// How a part of a key is written in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A string.
    Text,
    /// A UUID: ClickHouse orders them in its own way, so only the server ever compares two.
    Uuid,
    /// A whole number.
    Whole,
    /// A time.
    Time,
    /// The UTC day of a time.
    Day,
}

impl KeyKind {
    /// The value of a cell as it stands in a query; none for a cell of another kind.
    pub fn literal(self, cell: Cell<'_>) -> Option<String> {
        match self {
            KeyKind::Text => cell.text().map(string),
            KeyKind::Uuid => {
                let text = cell.text()?;
                let is_uuid = text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
                is_uuid.then(|| string(text))
            }
            KeyKind::Whole => cell.u64().map(|number| number.to_string()),
            KeyKind::Time => parse_rfc3339(cell.text()?).map(datetime),
            KeyKind::Day => parse_rfc3339(cell.text()?).map(|time| date(Day::of(time))),
        }
    }
}

/// A part of a key.
#[derive(Clone, Debug)]
pub struct KeyPart {
    /// The column of a page that its values come from.
    pub field: &'static str,
    /// What is compared and sorted by.
    pub expression: String,
    /// How its values are written.
    pub kind: KeyKind,
}

/// What a walk reads.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    /// The table.
    pub table: &'a str,
    /// What is asked of each row.
    pub columns: &'a [Column],
    /// The order.
    pub key: &'a [KeyPart],
    /// Which rows; empty for all.
    pub condition: &'a str,
}

/// A place in the order of a walk; keys as their literals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before everything.
    Start,
    /// Before the first row of a key.
    At(Vec<String>),
    /// Behind the last row of a key.
    Behind(Vec<String>),
}

impl Walk<'_> {
    /// The query for the page at `place`.
    pub fn page(&self, place: &Place, limit: u32) -> String {
        let bound = match place {
            Place::Start => String::new(),
            Place::At(key) => bound(self.key, key, ">="),
            Place::Behind(key) => bound(self.key, key, ">"),
        };
        self.query(&bound, &self.expressions().join(", "), limit)
    }

    /// The key of a row of a page, as literals; none where a part of it is missing.
    pub fn key_of(&self, row: &Row<'_>) -> Option<Vec<String>> {
        let literal = |part: &KeyPart| {
            let at = self.columns.iter().position(|column| column.name == part.field)?;
            part.kind.literal(row.cell(at))
        };
        self.key.iter().map(literal).collect()
    }

    fn expressions(&self) -> Vec<&str> {
        self.key.iter().map(|part| part.expression.as_str()).collect()
    }

    /// The query for the row of one key that comes first by `order`.
    pub fn first_of(&self, key: &[String], order: &str) -> String {
        let equal = self.key.iter().zip(key).map(|(part, value)| format!("{} = {value}", part.expression));
        self.query(&equal.collect::<Vec<_>>().join(" AND "), order, 1)
    }

    /// The query for how much the walk reads: stored rows, and the keys among them.
    pub fn count(&self) -> String {
        let key = self.expressions();
        let key = if let [one] = key.as_slice() { (*one).to_owned() } else { format!("tuple({})", key.join(", ")) };
        let whole = if self.condition.is_empty() { String::new() } else { format!(" WHERE {}", self.condition) };
        format!("SELECT count() AS rows, uniqExact({key}) AS keys FROM {}{whole} LIMIT 1", self.table)
    }

    fn query(&self, bound: &str, order: &str, limit: u32) -> String {
        let conditions: Vec<&str> = [self.condition, bound].into_iter().filter(|text| !text.is_empty()).collect();
        let whole = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let columns = column_list(self.columns);
        format!("SELECT {columns} FROM {}{whole} ORDER BY {order} LIMIT {limit}", self.table)
    }
}

/// `a >= x AND (a > x OR b > y)`: what lies behind a key, or at it (`last` is `>` or `>=`). The plain bound in front is what
/// prunes.
pub(super) fn bound(parts: &[KeyPart], key: &[String], last: &str) -> String {
    let mut text = String::new();
    for (KeyPart { expression, .. }, value) in parts.iter().zip(key).rev() {
        text = if text.is_empty() {
            format!("{expression} {last} {value}")
        } else {
            format!("{expression} >= {value} AND ({expression} > {value} OR {text})")
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::text::identifier;
    use super::*;

    #[test]
    fn pages_start_behind_a_key() {
        let part = |field, kind| KeyPart { field, expression: identifier(field), kind };
        let columns = [Column { expression: "id".to_owned(), name: "id".to_owned() }];
        let key = [part("index", KeyKind::Whole), part("key", KeyKind::Text)];
        let walk = Walk { table: "raw", columns: &columns, key: &key, condition: "x = 1" };
        let plain = |sql: String| sql.replace('`', "");
        let page = |place| plain(walk.page(&place, 5));
        assert_eq!(page(Place::Start), "SELECT id FROM raw WHERE x = 1 ORDER BY index, key LIMIT 5");
        let key = vec!["3".to_owned(), r"'it\'s'".to_owned()];
        let bound = r"index >= 3 AND (index > 3 OR key > 'it\'s')";
        let sql = format!("SELECT id FROM raw WHERE x = 1 AND {bound} ORDER BY index, key LIMIT 5");
        assert_eq!(page(Place::Behind(key.clone())), sql);
        assert_eq!(page(Place::At(key.clone())), sql.replace("key > 'it", "key >= 'it"));
        let sql = r"SELECT id FROM raw WHERE x = 1 AND index = 3 AND key = 'it\'s' ORDER BY v DESC LIMIT 1";
        assert_eq!(plain(walk.first_of(&key, "v DESC")), sql);
        let sql = "SELECT count() AS rows, uniqExact(tuple(index, key)) AS keys FROM raw WHERE x = 1 LIMIT 1";
        assert_eq!(plain(walk.count()), sql);
        assert!(Walk { key: &walk.key[..1], ..walk.clone() }.count().contains("uniqExact(index) AS keys"));
    }

    #[test]
    fn literals_are_of_their_kind() {
        let text = |text: &'static str| Cell::Text { text: text.as_bytes(), plain: true };
        let uuid = "0190b0c5-0000-7000-8000-000000000001";
        assert_eq!(KeyKind::Uuid.literal(text(uuid)).unwrap(), format!("'{uuid}'"));
        assert_eq!(KeyKind::Uuid.literal(text("') OR 1=1 --")), None);
        assert_eq!(KeyKind::Whole.literal(Cell::Number(b"7")).unwrap(), "7");
        assert_eq!(KeyKind::Whole.literal(text("7")), None);
        let time = text("2026-08-01T02:00:00.5+02:00");
        let literal = "toDateTime64('2026-08-01 00:00:00.500000', 6, 'UTC')";
        assert_eq!(KeyKind::Time.literal(time).unwrap(), literal);
        assert_eq!(KeyKind::Day.literal(time).unwrap(), "toDate('2026-08-01')");
        assert_eq!(KeyKind::Time.literal(text("soon")), None);
        assert_eq!(KeyKind::Text.literal(text(r"a\'")).unwrap(), r"'a\\\''");
    }
}
