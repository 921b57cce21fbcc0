//! The columns of a file, its codec, and the place where it goes.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::codec::Codec;
use crate::target::columns::column_type::LayoutColumn;

/// From so many columns on, page indexes would outweigh what they save.
const WIDE: usize = 500;

/// Where a file goes with its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Into the folder of its stream, where readers see it.
    Stream,
    /// Out of sight, with the other rows of this version.
    Held(i64),
    /// Beside the commit log: the fingerprints of the commit's rows.
    Log,
}

/// The common part of all row groups of one open file.
#[derive(Debug)]
pub struct Layout {
    /// Tells layouts apart, counted from 1.
    pub id: u64,
    /// The sink that its rows come through: the id of the sink's first layout.
    pub sink: u64,
    /// The stream.
    pub stream: String,
    /// Where its files end up.
    pub place: Place,
    /// The folder there, relative to the output directory.
    pub folder: String,
    /// The columns.
    pub columns: Arc<[LayoutColumn]>,
    /// The codec.
    pub compression: Codec,
    /// Written into the footer: stream, key properties, schema fingerprint.
    pub footer: Arc<[(String, String)]>,
    /// A file is cut when it has at least so many bytes.
    pub max_file_bytes: u64,
    /// How many rows of this layout went into files that are full; the parser reads it to know how full the open one is.
    pub rows_cut: AtomicU64,
}

impl Layout {
    /// True where page indexes are left out.
    pub fn wide(&self) -> bool {
        self.columns.len() > WIDE
    }
}
