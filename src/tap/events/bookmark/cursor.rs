//! A cursor as JSON: the hash as text, because JSON numbers lose digits in many hands.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::posthog::query::hogql::{Cursor, Key, RowKey};
use crate::time::{Day, Micros};

#[derive(Serialize, Deserialize)]
struct Form {
    day: String,
    event: String,
    hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    row: Option<(Micros, String, Micros)>,
}

pub(super) fn serialize<S: Serializer>(cursor: &Option<Cursor>, serializer: S) -> Result<S::Ok, S::Error> {
    let form = cursor.as_ref().map(|cursor| {
        let key = cursor.key();
        let row = match cursor {
            Cursor::At(_) => None,
            Cursor::After(row) => Some((row.timestamp, row.uuid.clone(), row.created_at)),
        };
        Form { day: key.day.to_string(), event: key.event.clone(), hash: key.hash.to_string(), row }
    });
    form.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cursor>, D::Error> {
    let Some(form) = Option::<Form>::deserialize(deserializer)? else { return Ok(None) };
    let day = Day::parse(&form.day).ok_or_else(|| D::Error::custom("the day of the cursor is not a date"))?;
    let hash = form.hash.parse().map_err(|_| D::Error::custom("the hash of the cursor is not a number"))?;
    let key = Key { day, event: form.event, hash };
    Ok(Some(match form.row {
        None => Cursor::At(key),
        Some((timestamp, uuid, created_at)) => {
            // It goes into query text: nothing but the form of a uuid may stand there.
            let formed = uuid.len() == 36 && uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
            if !formed {
                return Err(D::Error::custom("the uuid of the cursor is not a uuid"));
            }
            Cursor::After(RowKey { key, timestamp, uuid, created_at })
        }
    }))
}
