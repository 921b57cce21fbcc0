//! Text of bits: what the state holds in fewer characters than numbers take.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

/// Writes bits.
#[derive(Debug, Default)]
pub struct Bits {
    bytes: Vec<u8>,
    free: u32,
}

impl Bits {
    /// Writes the lowest `count` bits of a value.
    pub fn push(&mut self, value: u64, count: u32) {
        for bit in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            if let Some(byte) = self.bytes.last_mut() {
                *byte |= u8::from(value >> bit & 1 == 1) << self.free;
            }
        }
    }

    /// Writes a number as so many ones, and a zero.
    pub fn push_unary(&mut self, ones: u64) {
        for _ in 0..ones {
            self.push(1, 1);
        }
        self.push(0, 1);
    }

    /// The text: base64 of a header and the bits.
    #[must_use]
    pub fn text(self, mut header: Vec<u8>) -> String {
        header.extend(self.bytes);
        BASE64.encode(header)
    }
}

/// Reads what [`Bits`] wrote.
#[derive(Debug)]
pub struct BitReader {
    bytes: Vec<u8>,
    at: usize,
}

impl BitReader {
    /// A reader of a text, behind its header of `N` bytes; none where it is no such text.
    #[must_use]
    pub fn new<const N: usize>(text: &str) -> Option<([u8; N], BitReader)> {
        let bytes = BASE64.decode(text).ok()?;
        let header = *bytes.first_chunk::<N>()?;
        Some((header, BitReader { bytes, at: N * 8 }))
    }

    /// How many bits are left.
    #[must_use]
    pub fn left(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.at)
    }

    /// The next `count` bits.
    pub fn take(&mut self, count: u32) -> Option<u64> {
        (0..count).try_fold(0, |value, _| {
            let byte = self.bytes.get(self.at / 8)?;
            let bit = byte >> (7 - self.at % 8) & 1;
            self.at += 1;
            Some(value << 1 | u64::from(bit))
        })
    }

    /// The next number of ones.
    pub fn unary(&mut self) -> Option<u64> {
        let mut ones = 0;
        while self.take(1)? == 1 {
            ones += 1;
        }
        Some(ones)
    }
}
