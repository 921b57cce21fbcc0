//! Parts of a query's text: literals, names, lists of columns. Every value in a query is printed here.

use std::fmt::Write as _;

use crate::time::{Day, Micros};

/// One column of a page query: what is asked and what it is called in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The HogQL expression.
    pub expression: String,
    /// Its name in the answer's `columns`.
    pub name: String,
}

/// Columns as they stand between SELECT and FROM.
pub fn column_list(columns: &[Column]) -> String {
    let mut out = String::new();
    for column in columns {
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(&column.expression);
        if column.expression != column.name && column.expression != identifier(&column.name) {
            let _ = write!(out, " AS {}", identifier(&column.name));
        }
    }
    out
}

/// A time literal that means the same in every project.
pub fn datetime(time: Micros) -> String {
    let time = chrono::DateTime::from_timestamp_micros(time).unwrap_or_default();
    format!("toDateTime64('{}', 6, 'UTC')", time.format("%Y-%m-%d %H:%M:%S%.6f"))
}

/// A date literal.
pub fn date(day: Day) -> String {
    format!("toDate('{day}')")
}

/// A string literal. PostHog's own rule: backslash before backslash and quote, named escapes for control characters; but
/// its grammar drops `\0`, so NUL stands as it is.
pub fn string(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('\'');
    push_escaped(&mut out, value, '\'');
    out.push('\'');
    out
}

/// A name in backticks.
pub fn identifier(name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return name.to_owned();
    }
    let mut out = String::from("`");
    push_escaped(&mut out, name, '`');
    out.push('`');
    out
}

fn push_escaped(out: &mut String, value: &str, quote: char) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{b}' => out.push_str("\\v"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_get_a_name_only_where_they_need_one() {
        let column = |expression: &str, name: &str| Column { expression: expression.into(), name: name.into() };
        let columns =
            [column("uuid", "uuid"), column("poe.properties", "person_properties"), column("`$group_0`", "$group_0")];
        assert_eq!(column_list(&columns), "uuid, poe.properties AS person_properties, `$group_0`");
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
}
