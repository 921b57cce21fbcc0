//! A cursor as JSON: the numbers as text, because JSON numbers lose digits in many hands.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::posthog::query::interval::{Key, Storage};
use crate::posthog::query::text::{date, datetime, string};
use crate::time::{Day, Micros};

#[derive(Serialize, Deserialize)]
struct Form {
    day: String,
    event: String,
    hash: String,
    /// The two numbers inside of one hash, in the order of a storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inside: Option<(Storage, String, String)>,
}

impl Form {
    fn key<E: Error>(self) -> Result<Key, E> {
        let day = Day::parse(&self.day).ok_or_else(|| E::custom("the day of the cursor is not a date"))?;
        let number = |text: &str| text.parse().map_err(|_| E::custom("a number of the cursor is not a number"));
        let (storage, first, second) = self.inside.unwrap_or_else(|| (Storage::default(), "0".into(), "0".into()));
        let numbers = [number(&self.hash)?, number(&first)?, number(&second)?];
        Ok(Key { day, event: self.event, numbers, storage })
    }
}

pub(super) fn serialize<S: Serializer>(cursor: &Option<Key>, serializer: S) -> Result<S::Ok, S::Error> {
    let form = cursor.as_ref().map(|key| {
        let [hash, first, second] = key.numbers.map(|number| number.to_string());
        let inside = (key.numbers[1..] != [0, 0]).then_some((key.storage, first, second));
        Form { day: key.day.to_string(), event: key.event.clone(), hash, inside }
    });
    form.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Key>, D::Error> {
    Option::<Form>::deserialize(deserializer)?.map(Form::key).transpose()
}

/// The row behind which a form 2 goes on, inside of one hash: everything before it in the order of its pages was delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BehindForm")]
pub struct BehindRow {
    day: String,
    event: String,
    hash: String,
    row: (Micros, String, Micros),
}

#[derive(Deserialize)]
struct BehindForm {
    day: String,
    event: String,
    hash: String,
    row: (Micros, String, Micros),
}

impl TryFrom<BehindForm> for BehindRow {
    type Error = &'static str;

    fn try_from(BehindForm { day, event, hash, row }: BehindForm) -> Result<BehindRow, &'static str> {
        // They go into query text: nothing but their own form may stand there.
        let is_uuid = row.1.len() == 36 && row.1.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        match Day::parse(&day).is_some() && hash.parse::<u64>().is_ok() && is_uuid {
            true => Ok(BehindRow { day, event, hash, row }),
            false => Err("the row of the cursor is no row"),
        }
    }
}

impl BehindRow {
    /// The row as literals, in the order of pages.
    pub(super) fn literals(&self) -> Vec<String> {
        let (timestamp, uuid, created_at) = &self.row;
        let day = Day::parse(&self.day).unwrap_or(Day::FIRST);
        let (event, hash) = (string(&self.event), self.hash.clone());
        vec![date(day), event, hash, datetime(*timestamp), string(uuid), datetime(*created_at)]
    }
}

/// The bookmark of form 2 in form 3: a cursor is a place between hashes or inside of one, and no longer behind a row.
pub(super) fn upgrade(bookmark: &mut Map<String, Value>) {
    bookmark.insert("form".to_owned(), json!(3));
    let ranges = bookmark.get_mut("run").and_then(|run| run.get_mut("passes")).and_then(Value::as_array_mut);
    for range in ranges.into_iter().flatten().filter_map(Value::as_object_mut) {
        let Some(cursor) = range.get_mut("cursor").filter(|cursor| cursor.get("row").is_some()) else { continue };
        let behind = cursor.clone();
        let row = cursor.as_object_mut().and_then(|cursor| cursor.remove("row"));
        if row.is_some_and(|row| !row.is_null()) {
            range.insert("behind".to_owned(), behind);
        }
    }
}
