//! The fingerprints of a commit's rows, in a file of their own: a head, sections, and a checksum over all of them, each a
//! multiple of 16 bytes. A section names the sink that its rows went to, so that the rows of each file can be told: a sink's
//! files hold its rows in their order. In the first form of this file there was nothing but fingerprints.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use super::commit_log::{damaged, fingerprints_path};
use crate::error::Result;
use crate::target::files::layout::Place;
use crate::target::files::staged::Staged;
use crate::target::rows::fingerprint::Fingerprint;
use crate::target::store::names::{COMMITS, STAGING};
use crate::target::store::tree::failed;
use crate::target::store::{Fs, FsFile};

/// The first bytes of a file of the second form.
const HEAD: &[u8; 16] = b"target-parquet 2";
/// Fingerprints are written in pieces of so many.
const PIECE: usize = 4096;

/// The fingerprints of the commit to come, on their way to the staging folder.
#[derive(Debug)]
pub struct Writer {
    name: String,
    file: Box<dyn FsFile>,
    hasher: blake3::Hasher,
    /// Rows that were not written yet, and their sinks.
    waiting: Vec<(u64, Fingerprint)>,
    /// Of these, the rows that the newest STATE covers.
    covered: usize,
    /// The rows and bytes of the file before the first row behind the newest STATE, where such a row was written.
    behind: Option<(u64, u64)>,
    rows: u64,
    bytes: u64,
}

impl Writer {
    /// For the rows of commit `n`.
    pub fn create(fs: &dyn Fs, n: u64) -> Result<Self> {
        let mut writer = Writer::named(fs, format!("{n:020}.fp.staged"))?;
        writer.write(HEAD)?;
        Ok(writer)
    }

    fn named(fs: &dyn Fs, name: String) -> Result<Self> {
        let file = fs.create(&format!("{STAGING}/{name}"));
        let file = file.map_err(failed(format!("creating {STAGING}/{name}")))?;
        let waiting = Vec::with_capacity(PIECE);
        let (covered, behind, rows, bytes) = (0, None, 0, 0);
        Ok(Writer { name, file, hasher: blake3::Hasher::new(), waiting, covered, behind, rows, bytes })
    }

    /// A STATE came: it covers every row so far.
    pub fn on_state(&mut self) {
        (self.covered, self.behind) = (self.waiting.len(), None);
    }

    /// Forgets the rows behind the newest STATE. `None` if no others are left.
    ///
    /// # Errors
    /// When what was written cannot be read again: it is copied up to these rows.
    pub fn forget_behind(mut self, fs: &dyn Fs, n: u64) -> Result<Option<Self>> {
        let written = self.rows - self.waiting.len() as u64;
        self.waiting.truncate(self.covered);
        if let Some((rows, bytes)) = self.behind {
            let path = format!("{STAGING}/{}", self.name);
            let mut text = fs.read(&path).map_err(failed(format!("reading {path}")))?;
            text.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
            self = Writer::named(fs, format!("{n:020}.covered.fp.staged"))?;
            self.write(&text)?;
            self.rows = rows;
        } else {
            self.rows = written + self.waiting.len() as u64;
        }
        Ok(Some(self).filter(|writer| writer.rows > 0))
    }

    /// Notes a row that goes to `sink`.
    pub fn note(&mut self, sink: u64, fingerprint: Fingerprint) -> Result<()> {
        self.rows += 1;
        self.waiting.push((sink, fingerprint));
        if self.waiting.len() >= PIECE { self.write_piece() } else { Ok(()) }
    }

    /// Writes a piece of rows of one side of the newest STATE.
    fn write_piece(&mut self) -> Result<()> {
        let covered = std::mem::take(&mut self.covered);
        if covered == 0 {
            let before = self.rows - self.waiting.len() as u64;
            self.behind.get_or_insert((before, self.bytes));
            return self.write_waiting();
        }
        let behind = self.waiting.split_off(covered);
        self.write_waiting()?;
        self.waiting = behind;
        Ok(())
    }

    fn write_waiting(&mut self) -> Result<()> {
        // Rows of one sink stay in their order.
        self.waiting.sort_by_key(|(sink, _)| *sink);
        let mut piece = Vec::with_capacity(self.waiting.len() * 16 + 64);
        for section in self.waiting.chunk_by(|(one, _), (other, _)| one == other) {
            let sink = section.first().map_or(0, |(sink, _)| *sink);
            piece.extend_from_slice(&sink.to_le_bytes());
            piece.extend_from_slice(&(section.len() as u64).to_le_bytes());
            section.iter().for_each(|(_, fingerprint)| piece.extend_from_slice(fingerprint));
        }
        self.waiting.clear();
        self.write(&piece)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(failed(format!("writing {STAGING}/{}", self.name)))
    }

    /// Completes the file.
    pub fn finish(mut self) -> Result<Staged> {
        self.write_waiting()?;
        let sum = self.hasher.finalize();
        self.write(sum.as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]))?;
        self.file.sync().map_err(failed(format!("fsync of {STAGING}/{}", self.name)))?;
        let Writer { name, rows, bytes, .. } = self;
        let (stream, folder) = (String::new(), COMMITS.to_owned());
        Ok(Staged { name, stream, place: Place::Log, folder, sink: 0, rows, bytes })
    }
}

/// Calls `each` with the fingerprints of a commit: the sink of the row, which of the sink's rows in the commit it is, and the
/// fingerprint. Nothing is known of the sinks in files of the first form. False if the file is gone.
///
/// # Errors
/// When the file of commit `n` cannot be read, or is not what was written with so many `rows`.
pub fn read(fs: &dyn Fs, n: u64, rows: u64, mut each: impl FnMut(Option<(u64, u64)>, Fingerprint)) -> Result<bool> {
    let path = fingerprints_path(n);
    let bytes = match fs.read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        bytes => bytes.map_err(failed(format!("reading {path}")))?,
    };
    let (chunks, rest) = bytes.as_chunks::<16>();
    if chunks.len() as u64 == rows && rest.is_empty() {
        // The first form: the second one is longer.
        chunks.iter().for_each(|fingerprint| each(None, *fingerprint));
        return Ok(true);
    }
    let whole = blake3::hash(bytes.get(..bytes.len().saturating_sub(16)).unwrap_or_default());
    let sum = whole.as_bytes().first_chunk::<16>();
    let sections = match chunks {
        [head, sections @ .., last] if head == HEAD && rest.is_empty() && sum == Some(last) => sections,
        _ => {
            let ways_out = "restore it, or remove it (rows of this commit that are sent again then come in twice)";
            return Err(damaged(&path, "its checksum does not fit", ways_out));
        }
    };
    let (mut sections, mut rows_of) = (sections, BTreeMap::<u64, u64>::new());
    while let Some((head, behind)) = sections.split_first() {
        let (halves, _) = head.as_chunks::<8>();
        let [sink, rows] = [0, 1].map(|half| halves.get(half).map_or(0, |bytes| u64::from_le_bytes(*bytes)));
        let (section, behind) = behind.split_at(usize::try_from(rows).unwrap_or(usize::MAX).min(behind.len()));
        let place = rows_of.entry(sink).or_default();
        for fingerprint in section {
            each(Some((sink, *place)), *fingerprint);
            *place += 1;
        }
        sections = behind;
    }
    Ok(true)
}
