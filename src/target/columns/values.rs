//! The values of one column of a row group, packed: the rows room fills them, the files room encodes them.

use super::column_type::ColumnType;

/// A column of a full row group.
#[derive(Debug)]
pub struct Column {
    /// The values that are not null.
    pub values: Values,
    /// The rows that have one.
    pub validity: Validity,
}

/// The packed values, in the form in which the encoder takes them.
#[derive(Debug)]
pub enum Values {
    /// int64, timestamp and time.
    Int(Vec<i64>),
    /// date.
    Date(Vec<i32>),
    /// float64.
    Float(Vec<f64>),
    /// bool.
    Bool(Vec<bool>),
    /// decimal.
    Decimal(Vec<i128>),
    /// text and json: pieces that are full, and the one that fills.
    Bytes {
        /// The full pieces.
        full: Vec<Piece>,
        /// The last piece.
        open: Piece,
    },
}

/// A piece of a column of bytes: values one after another, and where each ends. Columns are kept in pieces because
/// each piece goes as soon as it is written, and because a piece never has to move to grow.
#[derive(Debug, Default)]
pub struct Piece {
    /// The values. JSON text stands here as it does in a page: each value behind its length in four bytes.
    pub data: Vec<u8>,
    /// The end of each value in `data`.
    pub ends: Vec<u32>,
}

/// A piece is full from here on. Values below 64 KB never make it grow past its capacity.
pub const PIECE_BYTES: usize = PIECE_CAPACITY - (64 << 10);
const PIECE_CAPACITY: usize = 1 << 20;

impl Piece {
    /// An empty piece behind a full one.
    pub fn after(piece: &Piece) -> Self {
        let data = Vec::with_capacity(PIECE_CAPACITY);
        Piece { data, ends: Vec::with_capacity(piece.ends.len()) }
    }

    fn split_off(&mut self, count: usize) -> Piece {
        let start = count.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or_default();
        let ends = self.ends.split_off(count).into_iter().map(|end| end - start).collect();
        let capacity = if self.data.capacity() < PIECE_CAPACITY { 0 } else { PIECE_CAPACITY };
        let mut data = Vec::with_capacity(capacity);
        data.extend_from_slice(self.data.get(start as usize..).unwrap_or_default());
        self.data.truncate(start as usize);
        Piece { data, ends }
    }

    fn bytes(&self) -> usize {
        // Of a whole piece only what was touched is in memory.
        let data = if self.data.capacity() < PIECE_CAPACITY { self.data.capacity() } else { self.data.len() };
        data + self.ends.capacity() * 4
    }
}

impl Values {
    /// No values yet, of a column of type `kind`.
    pub fn new(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Int64 | ColumnType::Timestamp | ColumnType::Time => Values::Int(Vec::new()),
            ColumnType::Date => Values::Date(Vec::new()),
            ColumnType::Float64 => Values::Float(Vec::new()),
            ColumnType::Bool => Values::Bool(Vec::new()),
            ColumnType::Decimal { .. } => Values::Decimal(Vec::new()),
            ColumnType::Text | ColumnType::Json => Values::Bytes { full: Vec::new(), open: Piece::default() },
        }
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Values::Int(v) => v.len(),
            Values::Date(v) => v.len(),
            Values::Float(v) => v.len(),
            Values::Bool(v) => v.len(),
            Values::Decimal(v) => v.len(),
            Values::Bytes { full, open } => full.iter().chain([open]).map(|piece| piece.ends.len()).sum(),
        }
    }

    /// The bytes that the values take, with what their vectors have in reserve.
    pub fn bytes(&self) -> usize {
        match self {
            Values::Int(v) => v.capacity() * 8,
            Values::Date(v) => v.capacity() * 4,
            Values::Float(v) => v.capacity() * 8,
            Values::Bool(v) => v.capacity(),
            Values::Decimal(v) => v.capacity() * 16,
            Values::Bytes { full, open } => full.iter().map(Piece::bytes).sum::<usize>() + open.bytes(),
        }
    }

    /// Cuts the values off behind the first `count` of them, and gives the others.
    pub fn split_off(&mut self, count: usize) -> Values {
        match self {
            Values::Int(v) => Values::Int(v.split_off(count.min(v.len()))),
            Values::Date(v) => Values::Date(v.split_off(count.min(v.len()))),
            Values::Float(v) => Values::Float(v.split_off(count.min(v.len()))),
            Values::Bool(v) => Values::Bool(v.split_off(count.min(v.len()))),
            Values::Decimal(v) => Values::Decimal(v.split_off(count.min(v.len()))),
            Values::Bytes { full, open } => {
                let mut pieces: Vec<Piece> = full.drain(..).chain([std::mem::take(open)]).collect();
                let mut left = count;
                let at = pieces.iter().position(|piece| {
                    let is_it = left < piece.ends.len();
                    left -= if is_it { 0 } else { piece.ends.len() };
                    is_it
                });
                let mut rest = pieces.split_off(at.unwrap_or(pieces.len()));
                if let Some(piece) = rest.first_mut().filter(|_| left > 0) {
                    let behind = piece.split_off(left);
                    pieces.push(std::mem::replace(piece, behind));
                }
                *open = pieces.pop().unwrap_or_default();
                *full = pieces;
                let open = rest.pop().unwrap_or_default();
                Values::Bytes { full: rest, open }
            }
        }
    }

    /// Takes the last value away.
    pub fn pop(&mut self) {
        match self {
            Values::Int(v) => drop(v.pop()),
            Values::Date(v) => drop(v.pop()),
            Values::Float(v) => drop(v.pop()),
            Values::Bool(v) => drop(v.pop()),
            Values::Decimal(v) => drop(v.pop()),
            Values::Bytes { open, .. } => {
                open.ends.pop();
                open.data.truncate(open.ends.last().map_or(0, |end| *end as usize));
            }
        }
    }
}

/// The rows that have a value.
#[derive(Debug, Default)]
pub struct Validity {
    /// One bit per row; empty while every row so far has a value.
    bits: Vec<u64>,
    sparse: bool,
}

impl Validity {
    /// Notes that `row` has a value; `before` values came in earlier rows.
    #[inline]
    pub fn set(&mut self, row: usize, before: usize) {
        if !self.sparse && row == before {
            return;
        }
        match self.bits.get_mut(row / 64) {
            Some(word) if self.sparse => *word |= 1 << (row % 64),
            _ => self.grow(row, before),
        }
    }

    /// The first row behind one without a value, or the first of the next word.
    #[cold]
    fn grow(&mut self, row: usize, before: usize) {
        if !self.sparse {
            self.sparse = true;
            self.bits.clear();
            self.bits.resize(before / 64 + 1, u64::MAX);
            if let Some(last) = self.bits.last_mut() {
                *last = (1u64 << (before % 64)) - 1;
            }
        }
        if self.bits.len() <= row / 64 {
            self.bits.resize(row / 64 + 1, 0);
        }
        if let Some(word) = self.bits.get_mut(row / 64) {
            *word |= 1 << (row % 64);
        }
    }

    /// How many of the first `rows` rows have a value, of `values` in all.
    pub fn count(&self, rows: usize, values: usize) -> usize {
        if !self.sparse {
            return rows.min(values);
        }
        let whole: u32 = self.bits.iter().take(rows / 64).map(|word| word.count_ones()).sum();
        let rest = self.bits.get(rows / 64).map_or(0, |word| (word & ((1u64 << (rows % 64)) - 1)).count_ones());
        (whole + rest) as usize
    }

    /// Cuts the rows off behind the first `rows`, and gives the others; there are `values` values in all.
    pub fn split_off(&mut self, rows: usize, values: usize) -> Validity {
        let mut rest = Validity::default();
        if !self.sparse {
            // Every row so far has a value.
            return rest;
        }
        let mut count = 0;
        for row in rows..self.bits.len() * 64 {
            if self.is_set(row, values) {
                rest.set(row - rows, count);
                count += 1;
            }
        }
        self.bits.truncate(rows.div_ceil(64));
        if let (Some(last), 1..) = (self.bits.last_mut(), rows % 64) {
            *last &= (1u64 << (rows % 64)) - 1;
        }
        rest
    }

    /// Notes that `row`, the last one, has no value after all.
    pub fn unset(&mut self, row: usize) {
        if let Some(word) = self.bits.get_mut(row / 64) {
            *word &= !(1 << (row % 64));
        }
    }

    /// The bytes that the bits take.
    pub fn bytes(&self) -> usize {
        self.bits.capacity() * 8
    }

    /// True if `row` has a value; `values` is the number of values in all.
    pub fn is_set(&self, row: usize, values: usize) -> bool {
        if self.sparse { self.bits.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1) } else { row < values }
    }

    /// The bits, or `None` where the rows with a value are simply the first ones.
    pub fn bits(&self) -> Option<&[u64]> {
        self.sparse.then_some(self.bits.as_slice())
    }
}
