//! All streams of a run with their sinks, under one memory budget: when the open row groups together outgrow it, the
//! largest goes to the encoder; when the sinks themselves do, the least used are given up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ahash::RandomState;

use super::cells::Oddities;
use super::partition;
pub use super::sink::{COLUMN_BYTES, Members, RowError, Sink};
use crate::error::Result;
use crate::json::scan::Scanner;
use crate::target::columns::evolve::FolderColumns;
use crate::target::columns::message::SchemaMessage;
use crate::target::columns::schema::StreamSchema;
use crate::target::commit::folder::held_folder;
use crate::target::files::row_group::RowGroup;
use crate::target::files::staged::{Layout, LayoutColumn, Staged};
use crate::target::files::thread::Encoder;
use crate::target::input::message::UsualHead;
use crate::target::settings::Settings;
use crate::target::store::disk::Fs;
use crate::target::store::names::stream_folder;

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
    /// The columns as its files declare them.
    declared: Arc<Vec<LayoutColumn>>,
    pub sinks: Vec<Slot>,
    by_place: HashMap<Place, usize, RandomState>,
    /// The sink of the last record, if there is one.
    current: usize,
}

/// Where rows go: a held version, and a partition.
type Place = (Option<i64>, String);

/// A sink among others.
#[derive(Debug)]
pub struct Slot {
    place: Place,
    pub sink: Sink,
    /// What it takes, as far as [`Streams::used`] knows.
    pub counted: usize,
    /// When records last began to go there.
    pub used_at: u64,
}

/// All of them.
#[derive(Debug)]
pub struct Streams {
    pub all: Vec<Stream>,
    by_name: HashMap<String, usize>,
    pub budget: usize,
    /// Columns of all streams: each costs something in the encoder and in the footers.
    pub columns: usize,
    /// What all sinks take.
    pub used: usize,
    clock: u64,
    next_layout: u64,
}

impl Streams {
    /// No streams yet. Open row groups may take `budget` bytes together.
    #[must_use]
    pub fn new(budget: usize) -> Self {
        Streams { all: Vec::new(), by_name: HashMap::new(), budget, columns: 0, used: 0, clock: 0, next_layout: 0 }
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
            let declared = Arc::new(schema.layout_columns(settings.json_logical_type)?);
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
                declared,
                sinks: Vec::new(),
                by_place: HashMap::default(),
                current: 0,
            });
            return Ok(());
        };
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        let schema = StreamSchema::new(message, &mut stream.columns, settings.add_record_metadata)?;
        if schema.same_columns(&stream.schema) {
            return Ok(());
        }
        for slot in stream.forget(|_| false) {
            self.used = self.used.saturating_sub(slot.counted);
            complete(slot.sink, encoder)?;
        }
        self.columns = self.columns + schema.fields.len() - stream.schema.fields.len();
        stream.declared = Arc::new(schema.layout_columns(settings.json_logical_type)?);
        stream.schema = Arc::new(schema);
        stream.members = Members::new(&stream.schema);
        Ok(())
    }

    /// The sink for a record of stream `index`: with a `held` version out of sight, else in the stream's own folder.
    ///
    /// # Errors
    /// When the record's partition cannot be told.
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
        let is_it = |slot: &Slot| slot.place.0 == held && slot.place.1 == partition;
        if stream.sinks.get(stream.current).is_some_and(is_it) {
            return Ok(());
        }
        self.clock += 1;
        let place = (held, partition);
        if let Some(found) = stream.by_place.get(&place) {
            stream.current = *found;
            if let Some(slot) = stream.sinks.get_mut(*found) {
                slot.used_at = self.clock;
            }
            return Ok(());
        }
        if self.used > self.values_budget() + self.first_sinks() {
            // Full of sinks whose records were all repeats: nothing else would ever empty them.
            self.forget_empty();
        }
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        let id = self.next_layout;
        self.next_layout += 1;
        let layout = stream.layout(id, held, &place.1, settings);
        let sink = Sink::new(&stream.schema, layout);
        let counted = sink.footprint() + stream.schema.fields.len() * COLUMN_BYTES;
        stream.current = stream.sinks.len();
        stream.by_place.insert(place.clone(), stream.current);
        stream.sinks.push(Slot { place, sink, counted, used_at: self.clock });
        self.used += counted;
        Ok(())
    }

    /// A layout for files of stream `index` without rows.
    ///
    /// # Errors
    /// None so far.
    pub fn empty_layout(&mut self, index: usize, held: i64, settings: &Settings) -> Result<Option<Arc<Layout>>> {
        let id = self.next_layout;
        self.next_layout += 1;
        Ok(self.all.get(index).map(|stream| stream.layout(id, Some(held), "", settings)))
    }

    /// Reads the record at `record` into the sink that [`Streams::route`] chose.
    ///
    /// # Errors
    /// As [`Sink::read`].
    pub fn read(&mut self, index: usize, record: &mut Scanner<'_>, odd: &mut Oddities) -> Result<(), RowError> {
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        match stream.sinks.get_mut(stream.current) {
            Some(slot) => slot.sink.read(record, &mut stream.members, odd),
            None => Ok(()),
        }
    }

    /// The sink that the last record of stream `index` was read into.
    pub fn current(&mut self, index: usize) -> Option<&mut Sink> {
        let stream = self.all.get_mut(index)?;
        stream.sinks.get_mut(stream.current).map(|slot| &mut slot.sink)
    }

    /// Counts the row that was read last, and hands row groups over that are full.
    ///
    /// # Errors
    /// When the encoder failed.
    pub fn keep(&mut self, index: usize, line_bytes: usize, settings: &Settings, encoder: &mut Encoder) -> Result<()> {
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        stream.rows += 1;
        stream.rows_in_run += 1;
        let Some(slot) = stream.sinks.get_mut(stream.current) else { return Ok(()) };
        slot.sink.keep(line_bytes);
        let file_full = slot.sink.rows_in_file() >= settings.batch_size_rows;
        if file_full || slot.sink.rows() >= MAX_ROWS || slot.sink.bytes() >= MAX_BYTES {
            hand_over(&mut slot.sink, encoder, file_full)?;
        }
        slot.recount(&mut self.used);
        if self.used > self.values_budget() + self.first_sinks() {
            return self.make_room(encoder);
        }
        Ok(())
    }

    /// Hands every row over.
    ///
    /// # Errors
    /// When the encoder failed.
    pub fn flush(&mut self, encoder: &mut Encoder) -> Result<()> {
        for stream in &mut self.all {
            for slot in &mut stream.sinks {
                hand_over(&mut slot.sink, encoder, false)?;
                slot.recount(&mut self.used);
            }
        }
        Ok(())
    }

    /// Columns of `partition_by` that no stream has: probably written wrongly.
    #[must_use]
    pub fn idle_partition_columns<'a>(&self, settings: &'a Settings) -> Vec<&'a str> {
        let has = |name: &str| self.all.iter().any(|s| s.schema.fields.iter().any(|field| field.property == name));
        let names = settings.partition_by.iter().map(|column| column.property.as_str());
        names.filter(|name| !self.all.is_empty() && !has(name)).collect()
    }

    /// Writes down the columns that folders got.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn save_columns(&mut self, fs: &dyn Fs) -> Result<()> {
        self.all.iter_mut().try_for_each(|stream| stream.columns.save(fs))
    }

    /// After a commit: counts anew, and forgets the sinks, so that partitions long gone cost nothing.
    pub fn committed(&mut self) {
        for stream in &mut self.all {
            stream.rows = 0;
            stream.forget(|_| false);
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
    fn layout(&self, id: u64, held: Option<i64>, partition: &str, settings: &Settings) -> Arc<Layout> {
        let mut folder = held.map_or_else(|| self.folder.clone(), |version| held_folder(&self.folder, version));
        if !partition.is_empty() {
            folder = format!("{folder}/{partition}");
        }
        Arc::new(Layout {
            id,
            stream: self.name.clone(),
            folder,
            columns: Arc::clone(&self.declared),
            compression: settings.compression,
            footer: Arc::clone(&self.schema.footer),
            max_file_bytes: settings.file_size_bytes,
            rows_cut: AtomicU64::new(0),
        })
    }

    /// Takes out the sinks that are not to be kept.
    pub fn forget(&mut self, keep: impl Fn(&Slot) -> bool) -> Vec<Slot> {
        let (kept, forgotten): (Vec<Slot>, Vec<Slot>) = self.sinks.drain(..).partition(keep);
        if !forgotten.is_empty() {
            let current = kept.iter().max_by_key(|slot| slot.used_at).map(|slot| slot.place.clone());
            self.by_place = kept.iter().enumerate().map(|(index, slot)| (slot.place.clone(), index)).collect();
            self.current = current.and_then(|place| self.by_place.get(&place).copied()).unwrap_or_default();
        }
        self.sinks = kept;
        forgotten
    }
}

impl Slot {
    pub fn recount(&mut self, used: &mut usize) {
        let bytes = self.sink.footprint();
        *used = used.saturating_sub(self.counted) + bytes;
        self.counted = bytes;
    }
}

/// Hands the rows of a sink over and completes its file: no more rows will come.
pub fn complete(mut sink: Sink, encoder: &mut Encoder) -> Result<()> {
    if sink.rows() == 0 {
        return encoder.close(sink.layout.id);
    }
    hand_over(&mut sink, encoder, true)
}

pub fn hand_over(sink: &mut Sink, encoder: &mut Encoder, last: bool) -> Result<()> {
    if sink.rows() == 0 {
        return Ok(());
    }
    let rows = sink.rows();
    if last {
        sink.cut();
    }
    encoder.append(RowGroup::new(Arc::clone(&sink.layout), rows, sink.take()), last)
}
