//! What one reading of a stream consists of: one list, one object, or some lists.

use std::io::Write;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::posthog::fault::{Cause, Fault};
use crate::posthog::rest;
use crate::tap::sink::Sink;
use crate::tap::stream::Shape;
use crate::time::{DAY_US, Day, Micros};

use super::{ITEMS_A_PAGE, Reading};

/// Recordings go on for a day at most; one more because the day that is asked from is the project's, not UTC's.
const UNSETTLED_US: Micros = 2 * DAY_US;

impl Reading<'_> {
    /// Reads everything that the stream consists of.
    pub(super) fn read<W: Write>(&mut self, sink: &mut Sink<'_, W>) -> Result<()> {
        let path = self.list.full_path(self.context.client.options().project_id);
        match self.list.shape {
            Shape::Pages => self.pages(&[], &[], sink),
            Shape::AllowedFieldsOfObject => {
                let object = rest::object(self.context.client, &path, self.list.class)?;
                let _ = self.items.write(self.repair.repaired(object.get().as_bytes()), &[], sink)?;
                sink.count(1, sink.rows());
                Ok(())
            }
            Shape::Since => {
                let since = self.items.forget_since();
                let from = since.map_or(self.context.config.events.since, |since| since - UNSETTLED_US);
                self.pages(&[("date_from".to_owned(), Day::of(from).to_string())], &[], sink)
            }
            Shape::PerPropertyType => {
                for kind in ["event", "person", "session"] {
                    let query = [("type".to_owned(), kind.to_owned())];
                    self.pages(&query, &[("type", json!(kind).to_string())], sink)?;
                }
                for index in self.group_types()? {
                    let query =
                        [("type".to_owned(), "group".to_owned()), ("group_type_index".to_owned(), index.to_string())];
                    let added = [("type", json!("group").to_string()), ("group_type_index", index.to_string())];
                    self.pages(&query, &added, sink)?;
                }
                Ok(())
            }
        }
    }

    /// The numbers of the group types; none where this PostHog has no groups.
    fn group_types(&self) -> Result<Vec<u64>> {
        let path = format!("api/projects/{}/groups_types/", self.context.client.options().project_id);
        let mut list = rest::ListReader::new(self.context.client, path, &[], self.list.class, ITEMS_A_PAGE);
        let mut indexes = Vec::new();
        loop {
            let page = list.next_page(&mut |item| {
                let item = serde_json::from_slice::<Value>(item).unwrap_or_default();
                let index = item["group_type_index"].as_u64().filter(|index| !indexes.contains(index));
                indexes.extend(index);
                Ok(index.is_some())
            });
            match page {
                Ok(None) => return Ok(indexes),
                Ok(Some(_)) => {}
                Err(Fault::Fatal(failure)) if failure.cause == Cause::Missing => return Ok(Vec::new()),
                // Without them the definitions of groups would vanish from the version that is made current.
                Err(fault) => return Err(Error::from(fault).context("property_definitions of groups")),
            }
        }
    }
}
