//! Discovery: which streams this key can read, and which fields their records have in this project.
//!
//! Nothing is assumed of the server. The scopes of the key say what it may read; where PostHog does not tell them, one small
//! request for each stream does. Columns are probed, including those that a given catalog asks for. Properties become
//! columns as the project defines them. Streams that cannot be read are left out, with one warning for all of them.
//!
//! A discovery sends no more than 20 requests, retries included, because runners discover before every run. A run sends
//! more where it has to: it asks for its columns until it knows them.

use serde_json::Map;

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::http::client::Client;
use crate::singer::catalog::{Catalog, SelectedStream};
use crate::time::{Micros, to_rfc3339};

use super::config::{Config, PersonIds, Streams};
use super::record::fits::is_text;
use super::record::flatten::Family;
use super::replication::source;
use super::stream::{PropertyObject, STREAMS, Stream, find};

use columns::Columns;
use discovery::Discovery;
use left_out::{Unreadable, object_of};

/// Discovers everything that the key can read.
///
/// # Errors
/// [`Kind::Config`] for a key or project that cannot be used or can read no stream, and the errors of the client.
pub fn discover(client: &Client, config: &Config, now: Micros) -> Result<Catalog> {
    let entries = Discovery::new(client, config, now, Unreadable::LeaveOut)?.entries(|_| true)?;
    Ok(Catalog::discovered(&entries, Some(&to_rfc3339(now))))
}

/// What a catalog chooses.
#[derive(Debug)]
pub struct Choice {
    catalog: Catalog,
    /// Its selected streams, with their methods and replication keys.
    pub selected: Vec<SelectedStream>,
}

impl Choice {
    /// The choice of a catalog, known before the first request; of these streams alone, where `select` names some.
    ///
    /// # Errors
    /// [`Kind::Config`] for a stream that does not exist, or is chosen in a way it cannot be read.
    pub fn of(catalog: Catalog, select: &[String]) -> Result<Choice> {
        let catalog = match select {
            [] => catalog,
            names => catalog.only(names).ok_or_else(|| {
                Error::new(Kind::Config, "--select: the catalog does not have all of these streams; discover again")
            })?,
        };
        let mut selected = catalog.selected()?;
        for stream in &mut selected {
            let row = find(&stream.id).map_err(|e| e.context("catalog"))?;
            row.resolve(stream)?;
            refuse_twins(row, stream)?;
        }
        Ok(Choice { catalog, selected })
    }
}

/// The streams that a run is to read, as far as they are known before the first request, each with its replication key; none
/// where the stream is read whole.
///
/// # Errors
/// [`Kind::Config`] for a stream that does not exist.
pub fn wanted(config: &Config, choice: Option<&Choice>) -> Result<Vec<(&'static Stream, Option<String>)>> {
    if let Some(choice) = choice {
        let wanted = choice.selected.iter().map(|stream| Ok((find(&stream.id)?, stream.replication_key.clone())));
        return wanted.collect();
    }
    rows(config)?.into_iter().map(|row| Ok((row, row.entry()?.replication_key))).collect()
}

/// The streams that the settings choose.
///
/// # Errors
/// [`Kind::Config`] for a stream that does not exist.
pub fn rows(config: &Config) -> Result<Vec<&'static Stream>> {
    match &config.streams {
        Streams::ByDefault => Ok(STREAMS.iter().filter(|row| row.selected_by_default).collect()),
        Streams::All => Ok(STREAMS.iter().collect()),
        Streams::Named { names, setting } => {
            let find = |name: &String| find(name).map_err(|e| e.context(format!("setting {setting}")));
            names.iter().map(find).collect()
        }
    }
}

/// The streams of a run, and what was found out on the way.
#[derive(Debug)]
pub struct Found {
    /// The streams.
    pub streams: Vec<SelectedStream>,
    /// Which person id of events this PostHog has.
    pub person_ids: PersonIds,
}

/// The streams of a run. With a catalog they are its selected ones, without the columns that this PostHog does not have; a
/// warning says what changed since the catalog was made. Without one they are the streams that are on by default, or those
/// that the settings name.
///
/// # Errors
/// [`Kind::Config`] for a stream that does not exist, cannot be read, or is chosen in a way it cannot be read.
pub fn streams_of_run(client: &Client, config: &Config, choice: Option<Choice>, now: Micros) -> Result<Found> {
    let mut found = match choice {
        Some(choice) => given(client, config, choice, now)?,
        None => {
            let mut found = by_default(client, config, now)?;
            found.streams.iter_mut().try_for_each(|stream| find(&stream.id)?.resolve(stream))?;
            found
        }
    };
    found.streams.iter_mut().for_each(|stream| stream.source = Some(source(client.options())));
    Ok(found)
}

fn by_default(client: &Client, config: &Config, now: Micros) -> Result<Found> {
    let wanted = rows(config)?;
    let is_wanted = |stream: &Stream| wanted.iter().any(|row| row.name == stream.name);
    // Somebody chose what has a name.
    let named = matches!(config.streams, Streams::Named { .. });
    let unreadable = if named { Unreadable::Refuse } else { Unreadable::LeaveOutForGood };
    let mut discovery = Discovery::new(client, config, now, unreadable)?;
    let mut entries = discovery.entries(is_wanted)?;
    entries.iter_mut().for_each(|entry| entry.selected_by_default = true);
    let streams = Catalog::discovered(&entries, None).selected()?;
    Ok(Found { streams, person_ids: discovery.columns.person_ids })
}

fn given(client: &Client, config: &Config, choice: Choice, now: Micros) -> Result<Found> {
    let Choice { catalog, mut selected } = choice;
    if selected.is_empty() {
        return Ok(Found { streams: selected, person_ids: config.events.person_ids });
    }
    let mut discovery = Discovery::new(client, config, now, Unreadable::Refuse)?.chosen(&selected);
    // The names in the catalog say which they are, whatever the setting is now.
    let chosen = STREAMS.iter().filter(|row| row.properties.iter().any(PropertyObject::prefix_is_a_setting));
    let prefix = chosen.flat_map(|row| catalog.fields(row.name)).find_map(object_of);
    discovery.persons_prefix = prefix.unwrap_or(discovery.persons_prefix);
    // Ready-made catalogs have no fingerprint: they do not claim to describe this project.
    discovery.describes_properties = catalog.fingerprint().is_some();
    let is_selected = |stream: &Stream| selected.iter().any(|chosen| chosen.id == stream.name);
    let entries = discovery.entries(is_selected)?;
    let Discovery { columns, properties_are_partial, describes_properties, .. } = discovery;
    let Columns { missing, person_ids, .. } = columns;
    if describes_properties {
        // Some changes are said elsewhere, and not again.
        let is_compared = |stream: &str, field: Option<&str>| match field {
            None => entries.iter().any(|entry| entry.name == stream),
            Some(field) if properties_are_partial && Family::of_column(field).is_some() => false,
            Some(field) => !missing.has_field(stream, field) && !is_made_text(&selected, stream, field),
        };
        say_changes(&catalog.changes(&Catalog::discovered(&entries, None), is_compared));
    }
    selected.retain(|stream| entries.iter().any(|entry| entry.name == stream.id));
    missing.drop_fields(&mut selected)?;
    Ok(Found { streams: selected, person_ids })
}

/// The column of a person's property may have either of two names, but not both: one would stay empty.
///
/// # Errors
/// [`Kind::Config`] with both names.
fn refuse_twins(row: &Stream, stream: &SelectedStream) -> Result<()> {
    let fields = &stream.schema["properties"];
    let twin = fields.as_object().into_iter().flat_map(Map::keys).find_map(|name| {
        let other = name.strip_prefix("person_").filter(|other| other.starts_with("properties_"))?;
        fields.get(other).map(|_| (name, other))
    });
    match twin {
        Some((name, other)) if !row.has_properties(Family::Person.column().1) => {
            let text = format!("catalog, stream {}: {name} and {other} are the same property; deselect one", stream.id);
            Err(Error::new(Kind::Config, text))
        }
        _ => Ok(()),
    }
}

/// A catalog may make a text of a fixed field that is a number: that is a choice, and no change of the project.
fn is_made_text(selected: &[SelectedStream], stream: &str, field: &str) -> bool {
    let chosen = selected.iter().find(|chosen| chosen.id == stream);
    object_of(field).is_none() && chosen.is_some_and(|chosen| is_text(&chosen.schema["properties"][field]))
}

fn say_changes(changes: &[String]) {
    if !changes.is_empty() {
        let changes = changes.join("; ");
        log::warn(format!(
            "the project has changed since the catalog was made: {changes}. The catalog is followed; properties without \
             a column go into the unmapped object. Discover again to take the changes over"
        ));
    }
}

pub mod columns;
mod discovery;
pub mod left_out;
pub mod properties;
mod sample;

#[cfg(test)]
mod tests;
