//! Hive folders: which one a record belongs into. The members that name it are looked for before the record is read,
//! so that the record can go straight into the right sink; they usually stand at its start.

use super::sink::RowError;
use crate::json::escape::unescape;
use crate::json::scan::{Fault, Scanner};
use crate::target::columns::schema::StreamSchema;
use crate::target::settings::{Grain, PartitionColumn};
use crate::target::store::names::partition_folder;
use crate::time;

/// The folder of a record, `a=1/b=2`. Columns that the stream does not have make no folder.
///
/// # Errors
/// When the record is not JSON, a value is an object or array, or a day is asked of a value that is no time.
pub fn folder(columns: &[PartitionColumn], schema: &StreamSchema, record: Scanner<'_>) -> Result<String, RowError> {
    let mut folder = String::new();
    for column in columns {
        if !schema.fields.iter().any(|field| field.property == column.property) {
            continue;
        }
        let value = member(record, column.property.as_bytes())?;
        let part = part(column, value).ok_or_else(|| {
            RowError::Misfit(
                column.property.clone(),
                "partition_by needs a plain value here, and a date or date-time for :day and :month",
            )
        })?;
        if !folder.is_empty() {
            folder.push('/');
        }
        folder.push_str(&part);
    }
    Ok(folder)
}

fn part(column: &PartitionColumn, value: Option<&[u8]>) -> Option<String> {
    let (name, digits) = match column.grain {
        Grain::Value => (column.property.clone(), 0),
        Grain::Day => (format!("{}_day", column.property), 10),
        Grain::Month => (format!("{}_month", column.property), 7),
    };
    let Some(value) = value.filter(|value| *value != b"null") else {
        return Some(partition_folder(&name, None));
    };
    if matches!(value.first(), Some(b'{' | b'[')) {
        return None;
    }
    let mut text = Vec::new();
    if value.first() == Some(&b'"') {
        unescape(Scanner::new(value).string().ok()?, &mut text);
    } else {
        text.extend_from_slice(value);
    }
    let text = String::from_utf8(text).ok()?;
    if digits == 0 {
        return Some(partition_folder(&name, Some(&text)));
    }
    let moment = time::moment(text.as_bytes())?;
    let day = chrono::DateTime::from_timestamp_micros(moment.micros)?.format("%Y-%m-%d").to_string();
    Some(partition_folder(&name, day.get(..digits)))
}

/// The text of the member `name` of the object at `record`.
fn member<'a>(mut record: Scanner<'a>, name: &[u8]) -> Result<Option<&'a [u8]>, Fault> {
    record.expect(b'{', "expected an object as record")?;
    if record.peek() == b'}' {
        return Ok(None);
    }
    loop {
        let key = record.key()?;
        record.peek();
        let start = record.at();
        record.value()?;
        let mut plain = Vec::new();
        if key.raw == name || (key.is_escaped() && unescape(key, &mut plain) == 0 && plain == name) {
            return Ok(Some(record.since(start)));
        }
        if record.peek() != b',' {
            return Ok(None);
        }
        record.expect(b',', "expected ,")?;
    }
}
