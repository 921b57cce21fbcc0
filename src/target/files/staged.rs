//! Staged Parquet files: row groups are appended to them until a commit takes them.
//!
//! A file is complete (footer, fsync) before anyone hears of it. It never has a name that ends in `.parquet` before it
//! is committed. Files are cut by rows, by bytes, by the size of their footer, and when too many are open.
//!
//! A run that fails commits what its last STATE covers. A file that holds row groups of both sides of that STATE gets a
//! second footer for it, which names those before it only; readers look at the last footer.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_schema::{Field, Schema};
use parquet::arrow::encode_arrow_schema;
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataWriter};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};

use super::layout::{Layout, Place};
use super::row_group::RowGroup;
use crate::error::{Error, Kind, Result};
use crate::target::store::names::STAGING;
use crate::target::store::tree;
use crate::target::store::{Fs, FsFile};

/// Column chunks whose metadata may wait in memory for their footers, over all open files (about 1 KB each).
const MAX_CHUNKS: usize = 10_000;
/// Files that may be open at once.
const MAX_OPEN: usize = 400;
/// Complete files that are kept open because they hold rows of both sides of a STATE.
const MAX_ASTRIDE: usize = 64;

/// A complete file in the staging folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Its name there.
    pub name: String,
    /// The stream; empty for the fingerprints.
    pub stream: String,
    /// Where it goes.
    pub place: Place,
    /// The folder there.
    pub folder: String,
    /// The sink that its rows came through.
    pub sink: u64,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
}

#[derive(Debug)]
struct OpenFile {
    writer: SerializedFileWriter<Counted>,
    layout: Arc<Layout>,
    name: String,
    rows: u64,
    /// Of each row group: its rows, and how many STATEs came before its last row.
    groups: Vec<(u64, u64)>,
    chunks: usize,
    /// When it was last written to, for choosing which one to close.
    used: u64,
}

/// A complete file, and how many STATEs came before its first row group ended, and its last one.
#[derive(Debug)]
struct Complete {
    staged: Staged,
    first: u64,
    last: u64,
    /// The file and its footer, as long as a STATE may come between its row groups.
    astride: Option<(OpenFile, ParquetMetaData)>,
}

/// Counts the bytes that are written.
#[derive(Debug)]
struct Counted {
    file: Box<dyn FsFile>,
    bytes: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// All open files. Lives on the encoder thread.
#[derive(Debug)]
pub struct Files {
    fs: Arc<dyn Fs>,
    commit: u64,
    named: u32,
    clock: u64,
    open: HashMap<u64, OpenFile>,
    staged: Vec<Complete>,
    /// Bytes written to open files.
    bytes: Arc<AtomicU64>,
}

impl Files {
    /// No files yet; files to come belong to commit number `commit`. `bytes` is kept at the bytes written so far.
    pub fn new(fs: Arc<dyn Fs>, commit: u64, bytes: Arc<AtomicU64>) -> Self {
        Files { fs, commit, named: 0, clock: 0, open: HashMap::new(), staged: Vec::new(), bytes }
    }

    /// Appends a row group to its layout's open file. `last` cuts the file after it.
    pub fn append(&mut self, group: &RowGroup, last: bool) -> Result<()> {
        let layout = &group.layout;
        // A STATE that came since covers all of them.
        for complete in self.staged.iter_mut().filter(|complete| complete.last < group.states) {
            complete.astride = None;
        }
        self.make_room(layout.columns.len())?;
        if !self.open.contains_key(&layout.id) {
            let opened = self.create(layout)?;
            self.open.insert(layout.id, opened);
        }
        self.clock += 1;
        let Some(file) = self.open.get_mut(&layout.id) else { return Ok(()) };
        file.used = self.clock;
        file.append(group).map_err(|e| e.context(format!("writing {}", self.path_of(layout.id))))?;
        let full = self.open.get(&layout.id).is_some_and(|f| last || f.bytes() >= layout.max_file_bytes);
        if full { self.close(layout.id) } else { Ok(()) }
    }

    /// Creates a file of this layout without rows, for a version of a stream that is empty.
    pub fn empty(&mut self, layout: &Arc<Layout>) -> Result<()> {
        let opened = self.create(layout)?;
        self.open.insert(layout.id, opened);
        self.close(layout.id)
    }

    /// Completes the open file of a layout, if there is one.
    ///
    /// # Errors
    /// [`Kind::Disk`] when a write or the fsync fails. It is not tried again: the pages may be gone.
    pub fn close(&mut self, id: u64) -> Result<()> {
        let path = self.path_of(id);
        let Some(mut file) = self.open.remove(&id) else { return Ok(()) };
        let footer = file.writer.finish().map_err(|e| failed(&path, &e))?;
        file.sync(&path)?;
        file.layout.rows_cut.fetch_add(file.rows, Ordering::Relaxed);
        let (layout, bytes) = (&file.layout, file.bytes());
        let staged = Staged {
            name: file.name.clone(),
            stream: layout.stream.clone(),
            place: layout.place,
            folder: layout.folder.clone(),
            sink: layout.sink,
            rows: file.rows,
            bytes,
        };
        let states = |group: Option<&(u64, u64)>| group.map_or(0, |(_, states)| *states);
        let (first, last) = (states(file.groups.first()), states(file.groups.last()));
        let has_room = self.staged.iter().filter(|complete| complete.astride.is_some()).count() < MAX_ASTRIDE;
        let astride = (first < last && has_room).then_some((file, footer));
        self.staged.push(Complete { staged, first, last, astride });
        Ok(())
    }

    /// Files to come belong to this commit. Their names hold its number, so it must be the log's: another one would give
    /// two files one name.
    pub fn set_commit(&mut self, commit: u64) {
        self.commit = commit;
        self.named = 0;
    }

    /// Completes all files and hands them over.
    pub fn finish(&mut self) -> Result<Vec<Staged>> {
        Ok(self.complete()?.into_iter().map(|complete| complete.staged).collect())
    }

    /// Completes all files without the row groups that came behind the last of `states` STATEs. `None` where a file cannot be
    /// cut there any more.
    pub fn finish_covered(&mut self, states: u64) -> Result<Option<Vec<Staged>>> {
        let mut covered = Vec::new();
        for mut complete in self.complete()?.into_iter().filter(|complete| complete.first < states) {
            if complete.last >= states {
                let Some((mut file, footer)) = complete.astride.take() else { return Ok(None) };
                (complete.staged.rows, complete.staged.bytes) = file.cut(&footer, states)?;
            }
            covered.push(complete.staged);
        }
        Ok(Some(covered))
    }

    fn complete(&mut self) -> Result<Vec<Complete>> {
        let mut ids: Vec<u64> = self.open.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.close(id)?;
        }
        self.bytes.store(0, Ordering::Relaxed);
        Ok(std::mem::take(&mut self.staged))
    }

    fn make_room(&mut self, columns: usize) -> Result<()> {
        while self.open.len() >= MAX_OPEN {
            let oldest = self.open.iter().min_by_key(|(_, file)| file.used).map(|(id, _)| *id);
            self.close(oldest.unwrap_or_default())?;
        }
        while self.open.values().map(|file| file.chunks).sum::<usize>() + columns > MAX_CHUNKS {
            let largest =
                self.open.iter().filter(|(_, f)| f.chunks > 0).max_by_key(|(_, f)| f.chunks).map(|(id, _)| *id);
            let Some(largest) = largest else { return Ok(()) };
            self.close(largest)?;
        }
        Ok(())
    }

    fn path_of(&self, id: u64) -> String {
        self.open.get(&id).map_or_else(String::new, |file| format!("{STAGING}/{}", file.name))
    }

    fn create(&mut self, layout: &Arc<Layout>) -> Result<OpenFile> {
        let name = format!("{:020}-{}.staged", self.commit, self.named);
        self.named += 1;
        let path = format!("{STAGING}/{name}");
        let file = self.fs.create(&path).map_err(tree::failed(format!("creating {path}")))?;
        let fields = layout.columns.iter().map(|column| Arc::clone(&column.parquet)).collect();
        let root = Type::group_type_builder("schema").with_fields(fields).build().map_err(|e| failed(&path, &e))?;
        let described = layout.columns.iter().map(|c| Field::new(c.name.as_str(), c.kind.described(), true));
        let described = encode_arrow_schema(&Schema::new(described.collect::<Vec<_>>()));
        let footer = layout.footer.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        let footer = footer.chain([KeyValue::new("ARROW:schema".to_owned(), described)]).collect();
        let properties = WriterProperties::builder()
            .set_created_by(format!("target-parquet {}", env!("CARGO_PKG_VERSION")))
            .set_offset_index_disabled(layout.wide())
            .set_statistics_enabled(parquet::file::properties::EnabledStatistics::Chunk)
            .set_key_value_metadata(Some(footer))
            .build();
        let sink = Counted { file, bytes: Arc::clone(&self.bytes) };
        let writer = SerializedFileWriter::new(sink, TypePtr::new(root), Arc::new(properties));
        let writer = writer.map_err(|e| failed(&path, &e))?;
        Ok(OpenFile { writer, layout: Arc::clone(layout), name, rows: 0, groups: Vec::new(), chunks: 0, used: 0 })
    }
}

impl OpenFile {
    fn bytes(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    fn sync(&mut self, path: &str) -> Result<()> {
        self.writer.inner_mut().file.sync().map_err(tree::failed(format!("fsync of {path}")))
    }

    /// Writes a second footer, of the row groups that the last of `states` STATEs covers. Gives their rows, and the bytes of
    /// the file.
    fn cut(&mut self, footer: &ParquetMetaData, states: u64) -> Result<(u64, u64)> {
        let path = format!("{STAGING}/{}", self.name);
        let covered: Vec<u64> = self.groups.iter().filter(|group| group.1 < states).map(|group| group.0).collect();
        let rows: u64 = covered.iter().sum();
        let file = footer.file_metadata();
        let file = FileMetaData::new(
            file.version(),
            i64::try_from(rows).unwrap_or(i64::MAX),
            file.created_by().map(str::to_owned),
            file.key_value_metadata().cloned(),
            file.schema_descr_ptr(),
            file.column_orders().cloned(),
        );
        let groups = footer.row_groups().iter().take(covered.len()).cloned().collect();
        let footer = ParquetMetaData::new(file, groups);
        let inner = self.writer.inner_mut();
        let mut written = Vec::new();
        ParquetMetaDataWriter::new(&mut written, &footer).finish().map_err(|e| failed(&path, &e))?;
        inner.write_all(&written).and_then(|()| inner.flush()).map_err(tree::failed(format!("writing {path}")))?;
        self.sync(&path)?;
        Ok((rows, self.bytes() + written.len() as u64))
    }

    fn append(&mut self, group: &RowGroup) -> Result<()> {
        let failed = |e: ParquetError| failed("a row group", &e);
        let mut writer = self.writer.next_row_group().map_err(failed)?;
        for index in 0..group.layout.columns.len() {
            group.chunk(index)?.append_to(&mut writer, &group.layout).map_err(failed)?;
        }
        writer.close().map_err(failed)?;
        self.rows += group.rows as u64;
        self.groups.push((group.rows as u64, group.states));
        self.chunks += group.layout.columns.len();
        Ok(())
    }
}

fn failed(path: &str, error: &ParquetError) -> Error {
    // An I/O error arrives as External; everything else is a fault of ours.
    let kind = if matches!(error, ParquetError::External(_)) { Kind::Disk } else { Kind::Internal };
    Error::new(kind, format!("writing {path} failed: {error}"))
}
