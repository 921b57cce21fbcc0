//! Hive folders: which one a record belongs into. The members that name it are looked for before the record is read,
//! so that the record can go straight into the right sink; they usually stand at its start.

use super::sink::RowError;
use crate::json::escape::plain;
use crate::json::scan::Scanner;
use crate::json::walker::member;
use crate::target::columns::schema::Misfits;
use crate::target::files::layout::Place;
use crate::target::settings::{Grain, PartitionColumn};
use crate::target::store::names::partition_folder;
use crate::time::{DAY_US, moment, to_rfc3339};

/// The folder of a record, `a=1/b=2`; `columns` are the columns of `partition_by` that its stream has. A value that names
/// no folder is refused, or counts as null where `misfits` become null.
pub fn folder(columns: &[PartitionColumn], misfits: Misfits, record: Scanner<'_>) -> Result<String, RowError> {
    let mut folder = String::new();
    for column in columns {
        let value = member(&mut record.clone(), column.property.as_bytes())?;
        let other = if misfits == Misfits::Refuse { None } else { part(column, None) };
        let part = part(column, value).or(other).ok_or_else(|| {
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

/// Appends what tells the folder of a record for `place`, as it stands in the record: records with one key belong into one
/// folder. A moment counts as its day.
pub fn key(place: Place, columns: &[PartitionColumn], record: Scanner<'_>, key: &mut Vec<u8>) -> Result<(), RowError> {
    match place {
        Place::Held(version) => {
            key.push(1);
            key.extend_from_slice(&version.to_le_bytes());
        }
        Place::Stream | Place::Log => key.push(0),
    }
    for column in columns {
        let value = member(&mut record.clone(), column.property.as_bytes())?.unwrap_or(b"null");
        if let Some(day) = Some(value).filter(|_| column.grain != Grain::Value).and_then(day) {
            key.push(1);
            key.extend_from_slice(&day.to_le_bytes());
        } else {
            key.push(0);
            key.extend_from_slice(&value.len().to_le_bytes());
            key.extend_from_slice(value);
        }
    }
    Ok(())
}

/// The day of a moment.
fn day(value: &[u8]) -> Option<i64> {
    let text = Scanner::new(value).string().ok().filter(|_| value.starts_with(b"\""))?;
    Some(moment(&plain(text))?.micros.div_euclid(DAY_US))
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
    let text = match value.first() {
        Some(b'"') => plain(Scanner::new(value).string().ok()?),
        _ => value.into(),
    };
    let text = std::str::from_utf8(&text).ok()?;
    if digits == 0 {
        return Some(partition_folder(&name, Some(text)));
    }
    let day = to_rfc3339(moment(text.as_bytes())?.micros);
    Some(partition_folder(&name, day.get(..digits)))
}
