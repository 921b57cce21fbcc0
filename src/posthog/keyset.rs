//! The text of queries that walk a table in the order of its key, page by page, each page starting behind the last key of
//! the one before. Never OFFSET: it is refused for personal API keys, and would skip rows when the table changes meanwhile.
//!
//! In the raw tables a key has several versions until ClickHouse merges them. They come newest first, so the first row of a
//! key is what it is now, and a page that ends inside a key has shown the one that counts.

use super::hogql::{Column, column_list, identifier, string};
use super::page::Cell;

/// How a part of a key is written in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A string.
    Text,
    /// A UUID: ClickHouse orders them in its own way, so only the server ever compares two.
    Uuid,
    /// A whole number.
    Whole,
}

impl KeyKind {
    /// The value of a cell as it stands in a query; none for a cell of another kind.
    #[must_use]
    pub fn literal(self, cell: Cell<'_>) -> Option<String> {
        match self {
            KeyKind::Text => cell.text().map(string),
            KeyKind::Uuid => {
                let text = cell.text()?;
                let is_uuid = text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
                is_uuid.then(|| format!("toUUID({})", string(text)))
            }
            KeyKind::Whole => cell.u64().map(|number| number.to_string()),
        }
    }
}

/// A column of a key.
#[derive(Clone, Copy, Debug)]
pub struct KeyPart {
    /// The field of the stream.
    pub field: &'static str,
    /// The column of the table.
    pub column: &'static str,
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
    /// The order among the versions of one key, like `version DESC`; empty where there is one only.
    pub newest_first: &'a str,
    /// Which rows; empty for all.
    pub condition: &'a str,
}

impl Walk<'_> {
    /// The query for the page behind the key `after` (its literals; empty for the first page).
    #[must_use]
    pub fn page(&self, after: &[String], limit: u32) -> String {
        let conditions: Vec<String> =
            [self.condition.to_owned(), self.behind(after)].into_iter().filter(|text| !text.is_empty()).collect();
        let whole = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let mut order: Vec<String> = self.key.iter().map(|part| identifier(part.column)).collect();
        order.extend((!self.newest_first.is_empty()).then(|| self.newest_first.to_owned()));
        format!(
            "SELECT {} FROM {}{whole} ORDER BY {} LIMIT {limit}",
            column_list(self.columns),
            self.table,
            order.join(", ")
        )
    }

    /// `a >= x AND (a > x OR (a = x AND b > y))`: the plain bound in front is what prunes.
    fn behind(&self, after: &[String]) -> String {
        let mut text = String::new();
        for (part, value) in self.key.iter().zip(after).rev() {
            let column = identifier(part.column);
            text = if text.is_empty() {
                format!("{column} > {value}")
            } else {
                format!("{column} >= {value} AND ({column} > {value} OR ({text}))")
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_start_behind_a_key() {
        let part = |column, kind| KeyPart { field: column, column, kind };
        let columns = [Column { expression: "id".to_owned(), name: "id".to_owned() }];
        let key = [part("index", KeyKind::Whole), part("key", KeyKind::Text)];
        let walk = Walk { table: "raw", columns: &columns, key: &key, newest_first: "v DESC", condition: "x = 1" };
        let order = "ORDER BY `index`, `key`, v DESC LIMIT 5".replace('`', "");
        let plain = |sql: String| sql.replace('`', "");
        assert_eq!(plain(walk.page(&[], 5)), format!("SELECT id FROM raw WHERE x = 1 {order}"));
        let after = ["3".to_owned(), r"'it\'s'".to_owned()];
        let behind = r"index >= 3 AND (index > 3 OR (key > 'it\'s'))";
        assert_eq!(plain(walk.page(&after, 5)), format!("SELECT id FROM raw WHERE x = 1 AND {behind} {order}"));
    }

    #[test]
    fn literals_are_of_their_kind() {
        let text = |text: &'static str| Cell::Text { text: text.as_bytes(), plain: true };
        let uuid = "0190b0c5-0000-7000-8000-000000000001";
        assert_eq!(KeyKind::Uuid.literal(text(uuid)).unwrap(), format!("toUUID('{uuid}')"));
        assert_eq!(KeyKind::Uuid.literal(text("') OR 1=1 --")), None);
        assert_eq!(KeyKind::Whole.literal(Cell::Number(b"7")).unwrap(), "7");
        assert_eq!(KeyKind::Whole.literal(text("7")), None);
        assert_eq!(KeyKind::Text.literal(text(r"a\'")).unwrap(), r"'a\\\''");
    }
}
