//! All streams of a run with their sinks, under one memory budget: when the open row groups together outgrow it, the
//! largest goes to the encoder.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::cells::Oddities;
use super::config::Settings;
use super::encode::RowGroup;
use super::encoder::Encoder;
use super::envelope::UsualHead;
use super::evolve::FolderColumns;
use super::file::{Layout, Staged};
use super::fs::Fs;
use super::name::stream_folder;
use super::partition;
use super::schema::{SchemaMessage, StreamSchema};
use super::sink::{Members, RowError, Sink};
use super::version::held_folder;
use crate::error::Result;
use crate::json::scan::Scanner;

/// Rows of a row group, at most.
const MAX_ROWS: usize = 1 << 20;
/// Input bytes of a row group, at most: beyond it nothing gets smaller or faster.
const MAX_BYTES: usize = 96 << 20;

/// A stream.
#[derive(Debug)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: String,
    /// The usual start of its RECORD lines.
    pub head: UsualHead,
    /// The version that the last record had.
    pub last_version: Option<i64>,
    /// Rows since the last commit.
    pub rows: u64,
    /// Rows in this run.
    pub rows_in_run: u64,
    /// The columns of its records.
    pub schema: Arc<StreamSchema>,
    /// How members find their columns.
    pub members: Members,
    columns: FolderColumns,
    /// By held version and partition.
    sinks: Vec<(Option<i64>, String, Sink)>,
    current: usize,
}

/// All of them.
#[derive(Debug)]
pub struct Streams {
    all: Vec<Stream>,
    by_name: HashMap<String, usize>,
    budget: usize,
    /// Columns of all streams: each costs something in the encoder and in the footers.
    columns: usize,
    used: usize,
    next_layout: u64,
}

impl Streams {
    /// No streams yet. Open row groups may take `budget` bytes together.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        Streams { all: Vec::new(), by_name: HashMap::new(), budget, columns: 0, used: 0, next_layout: 0 }
    }

    /// Changes the budget.
    pub fn set_budget(&mut self, budget: usize) {
        self.budget = budget;
    }

    /// The stream number `index`.
    pub fn get(&mut self, index: usize) -> Option<&mut Stream> {
        self.all.get_mut(index)
    }

    /// The number of the stream `name`, if its SCHEMA came.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Every stream.
    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.all.iter()
    }

    /// Takes a SCHEMA. When it changes the columns of a known stream, the stream's files so far are completed: files of
    /// the new schema follow.
    ///
    /// # Errors
    /// When the schema is refused, or the rows so far cannot be written.
    pub fn schema(
        &mut self,
        message: &SchemaMessage,
        settings: &Settings,
        fs: &dyn Fs,
        encoder: &mut Encoder,
    ) -> Result<()> {
        let Some(index) = self.find(&message.stream) else {
            let folder = stream_folder(&message.stream);
            let mut columns = FolderColumns::read(fs, &message.stream, &folder)?;
            let schema = Arc::new(StreamSchema::new(message, &mut columns, settings.add_record_metadata)?);
            self.by_name.insert(message.stream.clone(), self.all.len());
            self.columns += schema.fields.len();
            self.all.push(Stream {
                name: message.stream.clone(),
                folder,
                head: UsualHead::new(&message.stream),
                last_version: None,
                rows: 0,
                rows_in_run: 0,
                members: Members::new(&schema),
                schema,
                columns,
                sinks: Vec::new(),
                current: 0,
            });
            return Ok(());
        };
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        let schema = StreamSchema::new(message, &mut stream.columns, settings.add_record_metadata)?;
        if schema.same_columns(&stream.schema) {
            return Ok(());
        }
        for (_, _, mut sink) in std::mem::take(&mut stream.sinks) {
            self.used = self.used.saturating_sub(sink.bytes());
            hand_over(&mut sink, encoder, true)?;
            encoder.close(sink.layout.id)?;
        }
        stream.schema = Arc::new(schema);
        stream.members = Members::new(&stream.schema);
        Ok(())
    }

    /// The sink for a record of stream `index`: with a `held` version out of sight, else in the stream's own folder.
    ///
    /// # Errors
    /// When the record's partition cannot be told, or the sink's columns cannot be declared.
    pub fn route(
        &mut self,
        index: usize,
        held: Option<i64>,
        record: Scanner<'_>,
        settings: &Settings,
    ) -> Result<(), RowError> {
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        let partition = if settings.partition_by.is_empty() {
            String::new()
        } else {
            partition::folder(&settings.partition_by, &stream.schema, record)?
        };
        let is_it = |(h, p, _): &(Option<i64>, String, Sink)| *h == held && *p == partition;
        if stream.sinks.get(stream.current).is_some_and(is_it) {
            return Ok(());
        }
        if let Some(found) = stream.sinks.iter().position(is_it) {
            stream.current = found;
            return Ok(());
        }
        let id = self.next_layout;
        self.next_layout += 1;
        let layout = stream.layout(id, held, &partition, settings).map_err(|_| record.fault("no such column"))?;
        let sink = Sink::new(&stream.schema, layout);
        stream.current = stream.sinks.len();
        stream.sinks.push((held, partition, sink));
        Ok(())
    }

    /// A layout for files of stream `index` without rows.
    ///
    /// # Errors
    /// As [`Streams::route`].
    pub fn empty_layout(&mut self, index: usize, held: i64, settings: &Settings) -> Result<Option<Arc<Layout>>> {
        let id = self.next_layout;
        self.next_layout += 1;
        self.all.get(index).map(|stream| stream.layout(id, Some(held), "", settings)).transpose()
    }

    /// Reads the record at `record` into the sink that [`Streams::route`] chose.
    ///
    /// # Errors
    /// As [`Sink::read`].
    pub fn read(&mut self, index: usize, record: &mut Scanner<'_>, odd: &mut Oddities) -> Result<(), RowError> {
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        match stream.sinks.get_mut(stream.current) {
            Some((_, _, sink)) => sink.read(record, &mut stream.members, odd),
            None => Ok(()),
        }
    }

    /// The sink that the last record of stream `index` was read into.
    pub fn current(&mut self, index: usize) -> Option<&mut Sink> {
        let stream = self.all.get_mut(index)?;
        stream.sinks.get_mut(stream.current).map(|(_, _, sink)| sink)
    }

    /// Counts the row that was read last, and hands row groups over that are full.
    ///
    /// # Errors
    /// When the encoder failed.
    pub fn keep(&mut self, index: usize, line_bytes: usize, settings: &Settings, encoder: &mut Encoder) -> Result<()> {
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        stream.rows += 1;
        stream.rows_in_run += 1;
        let Some((_, _, sink)) = stream.sinks.get_mut(stream.current) else { return Ok(()) };
        let before = sink.bytes();
        sink.keep(line_bytes);
        let bytes = sink.bytes();
        self.used = self.used.saturating_sub(before) + bytes;
        let file_full = sink.rows_in_file() >= settings.batch_size_rows;
        if file_full || sink.rows() >= MAX_ROWS || bytes >= MAX_BYTES {
            self.used = self.used.saturating_sub(bytes);
            hand_over(sink, encoder, file_full)?;
        }
        let budget = super::memory::less_columns(self.budget, self.columns);
        while self.used > budget {
            let sinks = self.all.iter_mut().flat_map(|stream| &mut stream.sinks);
            let Some((_, _, largest)) = sinks.max_by_key(|(_, _, sink)| sink.bytes()) else { break };
            self.used = self.used.saturating_sub(largest.bytes());
            hand_over(largest, encoder, false)?;
        }
        Ok(())
    }

    /// Hands every row over.
    ///
    /// # Errors
    /// When the encoder failed.
    pub fn flush(&mut self, encoder: &mut Encoder) -> Result<()> {
        for stream in &mut self.all {
            for (_, _, sink) in &mut stream.sinks {
                hand_over(sink, encoder, false)?;
            }
        }
        self.used = 0;
        Ok(())
    }

    /// Writes down the columns that folders got.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn save_columns(&mut self, fs: &dyn Fs) -> Result<()> {
        self.all.iter_mut().try_for_each(|stream| stream.columns.save(fs))
    }

    /// After a commit: counts anew, and forgets sinks without rows, so that partitions long gone cost nothing.
    pub fn committed(&mut self) {
        for stream in &mut self.all {
            stream.rows = 0;
            stream.sinks.clear();
            stream.current = 0;
        }
        self.used = 0;
    }

    /// Counts each stream's rows among `staged`, for the log.
    #[must_use]
    pub fn rows_of(staged: &[Staged]) -> BTreeMap<&str, u64> {
        let mut rows = BTreeMap::new();
        for file in staged.iter().filter(|file| !file.folder.is_empty()) {
            *rows.entry(file.stream.as_str()).or_default() += file.rows;
        }
        rows
    }
}

impl Stream {
    fn layout(&self, id: u64, held: Option<i64>, partition: &str, settings: &Settings) -> Result<Arc<Layout>> {
        let mut folder = held.map_or_else(|| self.folder.clone(), |version| held_folder(&self.folder, version));
        if !partition.is_empty() {
            folder = format!("{folder}/{partition}");
        }
        Ok(Arc::new(Layout {
            id,
            stream: self.name.clone(),
            folder,
            columns: self.schema.layout_columns(settings.json_logical_type)?,
            compression: settings.compression,
            footer: self.schema.footer.clone(),
            max_file_bytes: settings.file_size_bytes,
            rows_cut: AtomicU64::new(0),
        }))
    }
}

fn hand_over(sink: &mut Sink, encoder: &mut Encoder, last: bool) -> Result<()> {
    if sink.rows() == 0 {
        return Ok(());
    }
    let rows = sink.rows();
    if last {
        sink.cut();
    }
    encoder.append(RowGroup::new(Arc::clone(&sink.layout), rows, sink.take()), last)
}
