//! Which columns the tables of a PostHog have, and whether a list is there: small requests that read no rows.

use serde_json::{Map, Value};

use crate::error::{Error, Kind};
use crate::log;
use crate::posthog::fault::{Cause, Failure, Fault, Resource};
use crate::posthog::http::client::{Client, Get};
use crate::posthog::http::retry::RetryPolicy;
use crate::posthog::query::ask::{all_columns, drop_missing_columns};
use crate::posthog::query::hogql;
use crate::posthog::query::text;
use crate::posthog::query::text::Column;
use crate::singer::catalog::{SelectedStream, StreamEntry};
use crate::tap::config::PersonIds;
use crate::tap::events::replication_key;
use crate::tap::events::replication_key::{CREATED_AT, TIMESTAMP};
use crate::tap::record::projection::Projection;
use crate::tap::stream::{List, Shape, Source, Stream, Table, fields, has_field};
use crate::time::{Day, Micros};

use super::left_out::MissingColumns;

/// Attempts at a request that discovery can do without.
const ATTEMPTS: u32 = 2;
/// The field of events that is asked for under two names.
const PERSON_ID: &str = "person_id";
/// What is read of one item of a list: that there is more of it says as much.
const ITEM_BYTES: usize = 256 * 1024;

/// Asks for the columns of streams, and keeps the fields of their entries that there are columns for.
pub(super) struct Columns<'a> {
    client: &'a Client,
    /// Which person id of events this PostHog has.
    pub(super) person_ids: PersonIds,
    now: Micros,
    /// The streams of a given catalog: their columns are asked for, too.
    pub(super) chosen: &'a [SelectedStream],
    /// The columns that were asked for and are not there.
    pub(super) missing: MissingColumns,
    /// A query was answered: tables with nothing to ask for need no proof of their own.
    can_query: bool,
    raw_tables_are_absent: bool,
}

impl<'a> Columns<'a> {
    pub(super) fn new(client: &'a Client, person_ids: PersonIds, now: Micros) -> Columns<'a> {
        let missing = MissingColumns::default();
        Columns { client, person_ids, now, chosen: &[], missing, can_query: false, raw_tables_are_absent: false }
    }

    /// All fields that a stream can have, and those that the given catalog selects.
    fn all_fields(&self, stream: &Stream, entry: &mut StreamEntry) -> Map<String, Value> {
        let mut all = fields(&mut entry.schema).cloned().unwrap_or_default();
        for chosen in self.chosen.iter().filter(|chosen| chosen.id == stream.name) {
            all.extend(chosen.schema["properties"].as_object().cloned().unwrap_or_default());
        }
        all
    }

    /// Asks for the columns of events.
    pub(super) fn events(
        &mut self,
        stream: &'static Stream,
        entry: &mut StreamEntry,
        retry_policy: &RetryPolicy,
    ) -> Result<(), Fault> {
        let all = self.all_fields(stream, entry);
        let asked = Projection::of_events(&all, false, self.person_ids == PersonIds::Joined).columns().to_vec();
        // The engine needs the keys, and every PostHog has `properties`.
        let keys = Projection::of_events(&Map::new(), false, true);
        let mut required: Vec<&str> = keys.columns().iter().map(|column| column.name.as_str()).collect();
        required.push("properties");
        let today = Day::of(self.now);
        let select = |columns: &[Column]| hogql::probe(columns, today);
        let mut present = asked.clone();
        let outcome = drop_missing_columns(self.client, retry_policy, &mut present, &required, select);
        if !matches!(outcome, Ok(()) | Err(Fault::Fatal(Failure { cause: Cause::Allowance, .. }))) {
            return outcome;
        }
        // The refusal of a column is an answer, too. Columns that no request was left for stay: a run asks for them again.
        self.can_query = outcome.is_ok() || present.len() < asked.len();
        let mut gone: Vec<String> =
            asked.iter().filter(|column| !present.contains(column)).map(|column| column.name.clone()).collect();
        if gone.iter().any(|name| name == PERSON_ID) && self.find_person_id(retry_policy)? {
            gone.retain(|name| name != PERSON_ID);
        }
        if gone.iter().any(|name| name == CREATED_AT) {
            // With a given catalog, the bookmark decides about it later.
            if self.chosen.is_empty() && self.is_without_arrivals(retry_policy)? {
                entry.valid_replication_keys.retain(|key| key != CREATED_AT);
                entry.replication_key = Some(TIMESTAMP.to_owned());
                replication_key::warn();
            } else {
                gone.retain(|name| name != CREATED_AT);
            }
        }
        self.missing.add(stream.name, gone);
        self.keep_fields(stream, entry);
        outcome
    }

    /// Whether the refusal of `created_at` is repeated. It is not believed where no request is left to ask.
    fn is_without_arrivals(&self, retry_policy: &RetryPolicy) -> Result<bool, Fault> {
        match replication_key::is_refused_again(self.client, retry_policy, self.now) {
            Err(Fault::Fatal(Failure { cause: Cause::Allowance, .. })) => Ok(false),
            outcome => outcome,
        }
    }

    /// Whether events have a person's id under its other name, where they have none as ingested: then a run asks for that.
    fn find_person_id(&mut self, retry_policy: &RetryPolicy) -> Result<bool, Fault> {
        let column = |name: &str| Column { expression: name.to_owned(), name: name.to_owned() };
        let mut columns = vec![column(TIMESTAMP), column(PERSON_ID)];
        let today = Day::of(self.now);
        let select = |columns: &[Column]| hogql::probe(columns, today);
        match drop_missing_columns(self.client, retry_policy, &mut columns, &[TIMESTAMP], select) {
            // A run asks again.
            Err(Fault::Fatal(Failure { cause: Cause::Allowance, .. })) => return Ok(true),
            outcome => outcome?,
        }
        let is_there = self.person_ids == PersonIds::Event && columns.iter().any(|column| column.name == PERSON_ID);
        if is_there {
            log::info(
                "this PostHog does not tell which person an event was ingested with (event_person_id); person_id may be the \
                 one after later merges, as with person_id_mode joined",
            );
            self.person_ids = PersonIds::Joined;
        }
        Ok(is_there)
    }

    /// Asks for the columns of a table, where they differ between versions or a catalog wants others.
    pub(super) fn table(
        &mut self,
        stream: &'static Stream,
        table: &Table,
        entry: &mut StreamEntry,
        retry_policy: &RetryPolicy,
    ) -> Result<(), Fault> {
        let all = self.all_fields(stream, entry);
        let known =
            fields(&mut entry.schema).map(|fields| fields.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
        let record = Projection::of_table(&all, |field| text::identifier(table.column(field)));
        let is_known = |column: &Column| known.contains(&column.name);
        if self.can_query && !stream.varies && record.columns().iter().all(is_known) {
            return Ok(());
        }
        let retry_policy = retry_policy.at_most(ATTEMPTS);
        let present = self.columns_of(stream, table, &retry_policy)?;
        let is_present = |column: &&Column| present.iter().any(|name| name == table.column(&column.name));
        let absent = record.columns().iter().filter(|column| !is_present(column)).cloned();
        // `*` does not show every column: keys, and columns that only the catalog names, are asked for by name.
        let is_key = |name: &str| {
            stream.keys.contains(&name) || stream.replication_keys.contains(&name) && !self.chosen.is_empty()
        };
        let (doubtful, mut missing): (Vec<Column>, Vec<Column>) =
            absent.partition(|column| !is_known(column) || is_key(&column.name));
        missing.extend(self.confirm(table, &present, doubtful, &retry_policy)?);
        self.missing.add(stream.name, missing.into_iter().map(|column| column.name));
        self.keep_fields(stream, entry);
        entry.valid_replication_keys.retain(|key| has_field(&entry.schema, key));
        entry.method_is_choice &= !entry.valid_replication_keys.is_empty();
        Ok(())
    }

    /// The columns that `*` shows of a table.
    fn columns_of(&mut self, stream: &Stream, table: &Table, retry_policy: &RetryPolicy) -> Result<Vec<String>, Fault> {
        // Bounds where the table is made of events, so that nothing is read for it.
        let bounds = match stream.replication_keys.first().filter(|_| matches!(stream.source, Source::Sessions(_))) {
            Some(key) => format!(" WHERE {} >= {}", text::identifier(key), text::datetime(self.now)),
            None => String::new(),
        };
        let ask = |name: &str| all_columns(self.client, retry_policy, &format!("SELECT * FROM {name}{bounds} LIMIT 0"));
        // The raw table has the same columns, and nothing is aggregated to answer.
        match table.raw.filter(|_| !self.raw_tables_are_absent).map(|raw| ask(raw.table)) {
            Some(Err(Fault::Fatal(failure))) if failure.cause.is_refusal() => {
                self.raw_tables_are_absent = true;
                ask(table.name)
            }
            Some(answer) => answer,
            None => ask(table.name),
        }
    }

    /// Asks for the `doubtful` columns by name, and gives those that the table does not have.
    fn confirm(
        &self,
        table: &Table,
        present: &[String],
        doubtful: Vec<Column>,
        retry_policy: &RetryPolicy,
    ) -> Result<Vec<Column>, Fault> {
        let Some(first) = present.first().filter(|_| !doubtful.is_empty()) else { return Ok(doubtful) };
        let mut found = vec![Column { expression: text::identifier(first), name: first.clone() }];
        found.extend(doubtful.iter().cloned());
        let select = |columns: &[Column]| format!("SELECT {} FROM {} LIMIT 0", text::column_list(columns), table.name);
        drop_missing_columns(self.client, retry_policy, &mut found, &[first], select)?;
        Ok(doubtful.into_iter().filter(|column| !found.contains(column)).collect())
    }

    /// Removes the fields without a column from the schema. Keys and the replication key stay in any case.
    fn keep_fields(&self, stream: &Stream, entry: &mut StreamEntry) {
        let Some(fields) = fields(&mut entry.schema) else { return };
        let is_key = |name: &str| stream.keys.contains(&name) || entry.replication_key.as_deref() == Some(name);
        let is_kept = |name: &str| !self.missing.has(stream.name, name) || is_key(name);
        let gone: Vec<&str> = fields.keys().map(String::as_str).filter(|name| !is_kept(name)).collect();
        if !gone.is_empty() && self.chosen.is_empty() {
            log::info(format!("this PostHog has no {} in {}", gone.join(", "), stream.name));
        }
        fields.retain(|name, _| is_kept(name));
    }
}

/// Asks for one item of a list, with the list's own query: whether it exists, and whether the key may read it.
pub fn try_list(client: &Client, list: &List, retry_policy: &RetryPolicy) -> Result<(), Fault> {
    let path = list.full_path(client.options().project_id);
    let one = [("limit", "1")].into_iter().filter(|_| list.shape != Shape::AllowedFieldsOfObject);
    let query: Vec<(String, String)> =
        list.query.iter().copied().chain(one).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let retry_policy = Some(retry_policy.at_most(ATTEMPTS));
    let get = Get {
        query: &query,
        retry_policy,
        can_split: true,
        max_bytes: Some(ITEM_BYTES),
        ..Get::new(&path, list.class)
    };
    match client.get(&get, |_| Ok(())) {
        Err(Fault::Split(why)) if why.of == Resource::AnswerBytes => Ok(()),
        Err(Fault::Split(why)) => {
            let error = Error::new(Kind::Service, format!("GET {path} failed: {why}"));
            Err(Fault::Fatal(Failure { cause: Cause::Server, error }))
        }
        outcome => outcome,
    }
}
