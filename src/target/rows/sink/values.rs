//! Values of a record go into their columns, or beside them where they do not fit.

use std::ops::Range;

use super::{RowError, Sink};
use crate::json::scan::Scanner;
use crate::json::walker::members;
use crate::target::columns::schema::Misfits;
use crate::target::rows::cells::Refusal;
use crate::target::rows::oddities::{Odd, Oddities};

impl Sink {
    /// Reads a record that is kept whole, and its key properties as text.
    pub(super) fn read_whole(
        &mut self,
        scanner: &mut Scanner<'_>,
        start: usize,
        odd: &mut Oddities,
    ) -> Result<(), RowError> {
        if scanner.peek() != b'{' {
            return Err(scanner.fault("expected an object as record").into());
        }
        let mut record = *scanner;
        scanner.value()?;
        self.record = start..scanner.at();
        let last = self.schema.metadata_from.saturating_sub(1);
        let (keys, _) = self.schema.fields.split_at_checked(last).unwrap_or_default();
        let mut values: Vec<Option<&[u8]>> = vec![None; last];
        let mut again = None;
        members(&mut record.clone(), |name, scanner| {
            let value = scanner.next_text()?;
            let index = keys.iter().position(|key| key.property.as_bytes() == name);
            if let Some((key, found)) = index.and_then(|index| Some((keys.get(index)?, values.get_mut(index)?))) {
                again = found.replace(value).map(|_| key.property.clone()).or(again.take());
            }
            Ok(())
        })?;
        if let Some(key) = again {
            return Err(RowError::Misfit(key, "the record has this property twice"));
        }
        for (index, value) in values.into_iter().enumerate() {
            let value = value.unwrap_or(b"null");
            let is_text = matches!(value.first(), Some(b'"' | b'n'));
            let quoted = if is_text { Vec::new() } else { json_string(value) };
            self.cell(index, &mut Scanner::new(if is_text { value } else { &quoted }), odd)?;
        }
        self.cell(last, &mut record, odd)
    }

    #[inline]
    pub(super) fn cell(&mut self, index: usize, scanner: &mut Scanner<'_>, odd: &mut Oddities) -> Result<(), RowError> {
        let (Some(cells), Some(seen), Some(field)) =
            (self.cells.get_mut(index), self.seen.get_mut(index), self.schema.fields.get(index))
        else {
            return Err(scanner.fault("no such column").into());
        };
        let row = self.rows + 1;
        if std::mem::replace(seen, row) == row {
            return Err(RowError::Misfit(field.property.clone(), "the record has this property twice"));
        }
        scanner.peek();
        let value = *scanner;
        let start = scanner.at();
        let present = match cells.read(scanner, self.rows as usize, odd) {
            Ok(present) => present,
            Err(Refusal::Syntax(fault)) => return Err(RowError::BadValue(field.property.clone(), fault)),
            Err(Refusal::Misfit(what)) => {
                let range = start..scanner.at();
                return self.misfit(index, value, range, what, odd);
            }
        };
        if let (Some(slot), true) = (field.slot, present) {
            self.marks.push((slot, start..scanner.at()));
        }
        if present || field.nullable {
            return Ok(());
        }
        if field.key {
            return Err(RowError::Misfit(field.property.clone(), "null is not allowed in a key property"));
        }
        odd.note(&field.property, Odd::Null);
        Ok(())
    }

    /// A value does not fit into its column.
    #[cold]
    fn misfit(
        &mut self,
        index: usize,
        mut value: Scanner<'_>,
        range: Range<usize>,
        what: &'static str,
        odd: &mut Oddities,
    ) -> Result<(), RowError> {
        let Some(field) = self.schema.fields.get(index) else { return Err(value.fault("no such column").into()) };
        let policy = self.schema.rules.misfits;
        if policy == Misfits::Refuse || field.key {
            return Err(RowError::Misfit(field.property.clone(), what));
        }
        if policy == Misfits::Keep {
            let beside =
                field.misfits.and_then(|beside| Some((self.cells.get_mut(beside)?, self.seen.get_mut(beside)?)));
            let Some((cells, seen)) = beside else { return Err(RowError::NoColumn(field.property.clone())) };
            *seen = self.rows + 1;
            let kept = cells.read(&mut value, self.rows as usize, odd);
            kept.map_err(|_| RowError::Misfit(field.property.clone(), what))?;
        }
        odd.note(&field.property, Odd::Misfit);
        // It tells rows apart as it would if it fitted.
        self.marks.extend(field.slot.map(|slot| (slot, range)));
        Ok(())
    }
}

/// A JSON string with the text of a value that is none.
fn json_string(value: &[u8]) -> Vec<u8> {
    serde_json::Value::from(String::from_utf8_lossy(value)).to_string().into_bytes()
}
