//! All streams of a run with their sinks, under one memory budget: when the open row groups together outgrow it, the
//! largest goes to the encoder; when the sinks themselves do, the least used are given up.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::handing_over::{complete, hand_over, hand_over_all};
use super::members::Members;
use super::oddities::Oddities;
use super::sink::{COLUMN_BYTES, RowError, Sink};
use super::sinks::{Route, Sinks, Slot};
use crate::error::Result;
use crate::json::scan::Scanner;
use crate::target::columns::evolve::FolderColumns;
use crate::target::columns::file_columns::{Change, FileColumns};
use crate::target::columns::folders::Folders;
use crate::target::columns::message::SchemaMessage;
use crate::target::columns::schema::StreamSchema;
use crate::target::files::layout::{Layout, Place};
use crate::target::files::thread::Encoder;
use crate::target::input::message::UsualHead;
use crate::target::memory;
use crate::target::settings::{PartitionColumn, Settings};
use crate::target::store::Fs;
use crate::target::store::names::held_folder;

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
    /// Rows of this run came without a version.
    pub without_version: bool,
    /// Rows of this run that were left out as repeats.
    pub repeats: u64,
    /// Rows since the last commit.
    pub rows: u64,
    /// Rows in this run.
    pub rows_in_run: u64,
    /// Of these, the rows behind the STATE that came last when a row came, and which STATE that was.
    pub(super) rows_behind: u64,
    pub(super) newest_state: u64,
    /// The columns of its records.
    pub schema: Arc<StreamSchema>,
    /// How members find their columns.
    pub members: Members,
    /// What the closing report says of odd values.
    pub odd: Oddities,
    pub(super) columns: FolderColumns,
    /// The columns of its files.
    files: FileColumns,
    /// The columns of `partition_by` that its records have.
    pub(super) partition_by: Vec<PartitionColumn>,
    pub(super) sinks: Sinks,
}

/// All of them.
#[derive(Debug)]
pub struct Streams {
    pub(super) all: Vec<Stream>,
    by_name: HashMap<String, usize>,
    folders: Folders,
    pub(super) encoder: Encoder,
    settings: Arc<Settings>,
    pub(super) fs: Arc<dyn Fs>,
    /// The bytes that open row groups may take together.
    pub(super) budget: usize,
    /// Columns of all streams: each costs something in the encoder and in the footers.
    pub(super) columns: usize,
    /// The bytes of all sinks.
    pub(super) used: usize,
    clock: u64,
    next_layout: u64,
    /// Files written in this run.
    pub(super) files: usize,
    /// How many STATEs came.
    pub(super) states: u64,
    /// True once the rows behind the newest STATE are forgotten.
    pub(super) only_covered: bool,
}

impl Streams {
    /// No streams yet. Their first files belong to commit number `commit`.
    pub fn new(settings: Arc<Settings>, fs: Arc<dyn Fs>, commit: u64) -> Result<Self> {
        let mut streams = Streams {
            all: Vec::new(),
            by_name: HashMap::new(),
            encoder: Encoder::start(Arc::clone(&fs), commit)?,
            folders: Folders::read(&*fs)?,
            settings,
            fs,
            budget: 0,
            columns: 0,
            used: 0,
            clock: 0,
            next_layout: 0,
            files: 0,
            states: 0,
            only_covered: false,
        };
        streams.share_memory(0);
        Ok(streams)
    }

    /// Row groups may take the memory that the replay window, of `window` bytes, leaves.
    pub fn share_memory(&mut self, window: usize) {
        let Settings { memory_limit_bytes, compression, .. } = *self.settings;
        self.budget = memory::row_groups(memory_limit_bytes, compression.compression, window);
    }

    /// The stream number `index`.
    pub fn get(&mut self, index: usize) -> Option<&mut Stream> {
        self.all.get_mut(index)
    }

    /// The number of the stream `name`, if its SCHEMA came.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Every stream.
    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.all.iter()
    }

    /// Takes a SCHEMA. Only where it needs columns that the open files of a known stream do not have, these are completed.
    pub fn schema(&mut self, message: &SchemaMessage) -> Result<()> {
        let Some(index) = self.find(&message.stream) else {
            let folder = self.folders.of(&*self.fs, &message.stream)?;
            let stream = Stream::new(message, &self.settings, folder)?;
            self.by_name.insert(stream.name.clone(), self.all.len());
            self.columns += stream.files.declared.len();
            self.all.push(stream);
            return Ok(());
        };
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        if stream.rows_in_run == 0
            && let Some(columns) = FolderColumns::read(&*self.fs, &stream.name, &stream.folder)?
        {
            // What earlier messages asked for was for rows that never came.
            stream.columns = columns;
        }
        let known = stream.columns.count();
        let schema = StreamSchema::new(message, &mut stream.columns, self.settings.columns)?;
        if schema.same_columns(&stream.schema) {
            return Ok(());
        }
        self.set_schema(index, schema, known)
    }

    /// Gives a stream a column for values of `property` that do not fit.
    pub fn keep_misfits_of(&mut self, index: usize, property: &str) -> Result<()> {
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        let known = stream.columns.count();
        let schema = stream.schema.with_misfits_of(property, &mut stream.columns)?;
        self.set_schema(index, schema, known)
    }

    /// The stream's rows to come are those of `schema`. Before it the folder had `known` columns.
    fn set_schema(&mut self, index: usize, schema: StreamSchema, known: usize) -> Result<()> {
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        let columns = stream.files.declared.len();
        let change = if stream.rows_in_run == 0 {
            stream.files = FileColumns::new(&schema, self.settings.json_logical_type)?;
            Change::New
        } else {
            stream.files.turn(&schema, stream.columns.count() > known)?
        };
        self.columns = self.columns + stream.files.declared.len() - columns;
        stream.set_schema(schema, &self.settings);
        self.turn_files(index, change)
    }

    /// The files of stream `index` got other columns: those that are open are completed. Rows of which nothing was written
    /// yet go into wider files, where a change makes them wider.
    fn turn_files(&mut self, index: usize, change: Change) -> Result<()> {
        let Some(stream) = self.all.get_mut(index).filter(|_| change != Change::None) else { return Ok(()) };
        let is_unwritten = |slot: &Slot| slot.sink.rows_in_file() == slot.sink.rows() as u64;
        for slot in stream.sinks.forget(|slot| change == Change::Wider && is_unwritten(slot)) {
            self.used = self.used.saturating_sub(slot.counted);
            complete(slot.sink, &mut self.encoder, self.states)?;
        }
        let kept: Vec<_> = stream.sinks.iter().map(|slot| (slot.route.clone(), slot.sink.layout.sink)).collect();
        let layouts: Vec<_> = kept.iter().filter_map(|(route, sink)| self.layout(index, route, Some(*sink))).collect();
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        for (slot, layout) in stream.sinks.iter_mut().zip(layouts) {
            slot.sink.begin_file(layout);
        }
        Ok(())
    }

    /// Chooses the sink for a record of stream `index` that goes to `place`.
    pub fn route(&mut self, index: usize, place: Place, record: Scanner<'_>) -> Result<(), RowError> {
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        self.clock += 1;
        let misfits = stream.schema.rules.misfits;
        let route = stream.sinks.choose(place, &stream.partition_by, misfits, record, self.clock)?;
        let Some(route) = route else { return Ok(()) };
        if self.used > self.values_budget() + self.first_sinks() {
            // Full of sinks whose records were all repeats: nothing else would ever empty them.
            self.forget_empty();
        }
        let Some(layout) = self.layout(index, &route, None) else { return Ok(()) };
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        let sink = Sink::new(&stream.schema, &stream.files.places, layout);
        let counted = sink.footprint() + stream.files.declared.len() * COLUMN_BYTES;
        stream.sinks.add(Slot { route, sink, counted, used_at: self.clock });
        self.used += counted;
        Ok(())
    }

    /// A layout for new files of stream `index`, of a sink that is there or of a new one.
    pub(super) fn layout(
        &mut self,
        index: usize,
        (place, partition): &Route,
        sink: Option<u64>,
    ) -> Option<Arc<Layout>> {
        let stream = self.all.get(index)?;
        let folder = match *place {
            Place::Held(version) => held_folder(&stream.folder, version),
            _ => stream.folder.clone(),
        };
        self.next_layout += 1;
        Some(Arc::new(Layout {
            id: self.next_layout,
            sink: sink.unwrap_or(self.next_layout),
            stream: stream.name.clone(),
            place: *place,
            folder: if partition.is_empty() { folder } else { format!("{folder}/{partition}") },
            columns: Arc::clone(&stream.files.declared),
            compression: self.settings.compression,
            footer: Arc::clone(&stream.files.footer),
            max_file_bytes: self.settings.file_size_bytes,
            rows_cut: AtomicU64::new(0),
        }))
    }

    /// Has a file without rows made for a version of stream `index`.
    pub fn empty_file(&mut self, index: usize, version: i64) -> Result<()> {
        let layout = self.layout(index, &(Place::Held(version), String::new()), None);
        layout.map_or(Ok(()), |layout| self.encoder.empty(layout))
    }

    /// Reads the record at `record` into the sink that [`Streams::route`] chose.
    pub fn read(&mut self, index: usize, record: &mut Scanner<'_>) -> Result<(), RowError> {
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        let Some(slot) = stream.sinks.current() else { return Ok(()) };
        slot.sink.turn(&stream.schema, &stream.files.places);
        slot.sink.read(record, &mut stream.members, &mut stream.odd)
    }

    /// The sink that the last record of stream `index` was read into.
    pub fn current(&mut self, index: usize) -> Option<&mut Sink> {
        let stream = self.all.get_mut(index)?;
        stream.sinks.current().map(|slot| &mut slot.sink)
    }

    /// Counts the row that was read last, and hands row groups over that are full.
    pub fn keep(&mut self, index: usize, line_bytes: usize) -> Result<()> {
        let Some(stream) = self.all.get_mut(index) else { return Ok(()) };
        stream.rows += 1;
        stream.rows_in_run += 1;
        if stream.newest_state != self.states {
            (stream.newest_state, stream.rows_behind) = (self.states, 0);
        }
        stream.rows_behind += 1;
        let Some(slot) = stream.sinks.current() else { return Ok(()) };
        slot.sink.keep(line_bytes, self.states);
        let file_full = slot.sink.rows_in_file() >= self.settings.batch_size_rows;
        if file_full || slot.sink.rows() >= MAX_ROWS || slot.sink.bytes() >= MAX_BYTES {
            hand_over(&mut slot.sink, &mut self.encoder, self.states, file_full)?;
        }
        slot.recount(&mut self.used);
        if self.used > self.values_budget() + self.first_sinks() {
            return self.make_room();
        }
        Ok(())
    }

    /// Hands every row over to the encoder.
    pub fn flush(&mut self) -> Result<()> {
        for slot in self.all.iter_mut().flat_map(|stream| stream.sinks.iter_mut()) {
            // What is left after the rows behind the newest STATE are forgotten came before it.
            let states = self.states - u64::from(self.only_covered);
            hand_over_all(&mut slot.sink, &mut self.encoder, states, false)?;
            slot.recount(&mut self.used);
        }
        Ok(())
    }

    /// Bytes written to files since the last commit.
    pub fn bytes_written(&self) -> u64 {
        self.encoder.bytes_written()
    }

    /// After a commit: counts anew, and forgets the sinks, so that partitions long gone cost nothing. Files to come belong
    /// to commit number `next`.
    pub fn committed(&mut self, next: u64) -> Result<()> {
        for stream in &mut self.all {
            stream.rows = 0;
            stream.sinks.forget(|_| false);
        }
        self.used = 0;
        self.encoder.set_commit(next)
    }

    /// Columns of `partition_by` that no stream has: probably written wrongly.
    pub fn idle_partition_columns(&self) -> Vec<&str> {
        let has = |name: &str| self.all.iter().any(|stream| stream.has(name));
        let names = self.settings.partition_by.iter().map(|column| column.property.as_str());
        names.filter(|name| !self.all.is_empty() && !has(name)).collect()
    }

    /// Writes down the columns that folders got. A SCHEMA without columns gives a folder some with its first record only.
    pub fn save_columns(&mut self) -> Result<()> {
        let mut used = self.all.iter_mut().filter(|stream| stream.rows_in_run > 0 || !stream.schema.whole);
        used.try_for_each(|stream| stream.columns.save(&*self.fs, stream.rows_in_run > 0))
    }
}

impl Stream {
    /// True if no row of it was ever kept: its folder is empty, or holds files without rows.
    pub fn never_had_rows(&self) -> bool {
        self.rows_in_run == 0 && !self.columns.has_rows()
    }

    fn new(message: &SchemaMessage, settings: &Settings, folder: (String, FolderColumns)) -> Result<Self> {
        let (folder, mut columns) = folder;
        let schema = StreamSchema::new(message, &mut columns, settings.columns)?;
        let mut stream = Stream {
            name: message.stream.clone(),
            folder,
            head: UsualHead::new(&message.stream),
            last_version: None,
            without_version: false,
            repeats: 0,
            rows: 0,
            rows_in_run: 0,
            rows_behind: 0,
            newest_state: 0,
            members: Members::new(&schema),
            odd: Oddities::default(),
            files: FileColumns::new(&schema, settings.json_logical_type)?,
            schema: Arc::new(schema),
            columns,
            partition_by: Vec::new(),
            sinks: Sinks::default(),
        };
        stream.choose_partitions(settings);
        Ok(stream)
    }

    fn set_schema(&mut self, schema: StreamSchema, settings: &Settings) {
        self.members.turn(&schema);
        self.schema = Arc::new(schema);
        self.choose_partitions(settings);
    }

    /// The columns of `partition_by` that the schema has.
    fn choose_partitions(&mut self, settings: &Settings) {
        let columns = settings.partition_by.iter().filter(|column| self.has(&column.property));
        self.partition_by = columns.cloned().collect();
        self.sinks.forget_keys();
    }

    fn has(&self, property: &str) -> bool {
        self.schema.fields.iter().any(|field| field.property == property)
    }
}
