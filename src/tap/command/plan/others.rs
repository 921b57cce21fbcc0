//! How large the streams besides events are: one small question for each.

use crate::error::Error;
use crate::posthog::fault::Fault;
use crate::posthog::http::client::{Client, Query};
use crate::posthog::query::ask::ask_one;
use crate::posthog::query::keyset::{KeyPart, Walk};
use crate::posthog::query::text::identifier;
use crate::posthog::rest::ListReader;
use crate::tap::stream::{List, Shape, Source, Stream, Table};

use super::words::Other;

/// The streams besides events, each with as many rows as PostHog counts. A stream that cannot be counted is no failure of
/// the plan.
pub(super) fn others(client: &Client, wanted: &[(&'static Stream, Option<String>)]) -> Vec<Other> {
    let others = wanted.iter().filter(|(row, _)| !row.is_of_events());
    others
        .map(|(row, replication_key)| {
            let counted = match row.source {
                Source::Table(table) => count_table(client, table),
                Source::List(list) => count_list(client, list),
                Source::Events | Source::Sessions(_) => Ok(None),
            };
            let part = replication_key.as_ref().map(|key| format!("at most; a later run reads what {key} says"));
            let (rows, remark) = match counted {
                Ok(rows) => (rows, part.filter(|_| rows.is_some())),
                Err(fault) => (None, Some(Error::from(fault).to_string())),
            };
            Other { name: row.name, rows, remark }
        })
        .collect()
}

fn count_table(client: &Client, table: &Table) -> Result<Option<u64>, Fault> {
    let key: Vec<KeyPart> = table
        .key
        .iter()
        .map(|(field, kind)| KeyPart { field, expression: identifier(table.column(field)), kind: *kind })
        .collect();
    let name = table.raw.map_or(table.name, |raw| raw.table);
    let sql = Walk { table: name, columns: &[], key: &key, condition: "" }.count();
    ask_one(client, &Query::new("plan of a table", &sql), &["rows", "keys"], |row| row.cell(1).count()).map(Some)
}

fn count_list(client: &Client, list: &List) -> Result<Option<u64>, Fault> {
    match list.shape {
        Shape::AllowedFieldsOfObject => return Ok(Some(1)),
        // Several lists, or a part of one.
        Shape::PerPropertyType | Shape::Since => return Ok(None),
        Shape::Pages => {}
    }
    let query: Vec<_> = list.query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let path = list.full_path(client.options().project_id);
    let mut reader = ListReader::new(client, path, &query, list.class, 1);
    let came = reader.next_page(&mut |_| Ok(true))?;
    // A list that is no page of one: the bare arrays.
    let all = came.filter(|came| reader.counted() == 0 && *came > 1);
    Ok(all.or(Some(reader.counted()).filter(|counted| *counted > 0)))
}
