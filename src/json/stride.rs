//! The innermost loop of the tap: a stretch of a string is decoded while it is copied.

use super::blocks::stops64;
use super::token::Escapes;

/// The bytes whose stops are looked for at once.
const STRIDE: usize = 64;
/// The bytes that are copied at once: most names and values, and what stands between two of them.
const BLOCK: usize = 32;
/// The bytes that are looked at and written at once, whatever the length of the text: a stride, and room for whole
/// blocks behind it.
pub(super) const REACH: usize = 2 * STRIDE;
/// Places in a stride: an index that is cut to them needs no check.
const IN_STRIDE: usize = STRIDE - 1;
/// `\"` and `\\` as numbers of which the first byte is the lowest.
const ESCAPED_QUOTE: u16 = u16::from_le_bytes(*b"\\\"");
const ESCAPED_BACKSLASH: u16 = u16::from_le_bytes(*b"\\\\");

/// Copies a stride of a string, of whose text `left` bytes are known, up to a stop that is no escape of one byte. Gives the
/// bytes that were read and written, and whether it ended at such a stop. The byte behind what is known must be none that
/// can be escaped.
///
/// The innermost loop of the tap. Places never pass the stride, so its arithmetic wraps nowhere, and cutting them to the
/// stride changes nothing but spares checks.
#[inline(always)]
pub(super) fn stride_into(
    input: &[u8; REACH],
    left: usize,
    output: &mut [u8; REACH],
    escapes: &mut Escapes,
) -> (usize, usize, bool) {
    let length = left.min(STRIDE);
    let (stride, _) = input.as_chunks::<STRIDE>();
    // The stops from `from` on, that of its byte lowest.
    let mut stops = stride.first().map_or(0, stops64) & (u64::MAX >> (STRIDE - length));
    let (mut from, mut to) = (0usize, 0usize);
    while stops != 0 {
        let plain = stops.trailing_zeros();
        copy(input, from, output, to, plain as usize);
        (from, to) = (from.wrapping_add(plain as usize), to.wrapping_add(plain as usize));
        stops >>= plain;
        let next = u64::from_le_bytes(input[from & IN_STRIDE..].first_chunk().copied().unwrap_or_default());
        if !matches!(next as u16, ESCAPED_QUOTE | ESCAPED_BACKSLASH) {
            return (from, to, true);
        }
        *escapes = Escapes::Some;
        // What stands between two texts (`\":\"`, `\",\"`) is taken at once, without a branch: every other escape is one.
        let is_double = (stops & 0b11111 == 0b11011) & ((next >> 24) as u16 == ESCAPED_QUOTE);
        if let Some(target) = output[to & IN_STRIDE..].first_chunk_mut() {
            *target = ((next >> 8) as u16 as u32 | u32::from(b'"') << 16).to_le_bytes();
        }
        let more = usize::from(is_double);
        from = from.wrapping_add(2).wrapping_add(more * 3);
        to = to.wrapping_add(1).wrapping_add(more * 2);
        // The escaped byte is a stop, too, unless it lies behind the stride.
        stops >>= 2 + more * 3;
    }
    if from < length {
        let plain = length.wrapping_sub(from);
        copy(input, from, output, to, plain);
        (from, to) = (length, to.wrapping_add(plain));
    }
    (from, to, false)
}

/// Copies `length` bytes, at most a stride, in one or two blocks.
#[inline(always)]
fn copy(input: &[u8; REACH], from: usize, output: &mut [u8; REACH], to: usize, length: usize) {
    copy_block(input, from, output, to);
    if length > BLOCK {
        copy_block(input, from.wrapping_add(BLOCK), output, to.wrapping_add(BLOCK));
    }
}

#[inline(always)]
fn copy_block(input: &[u8; REACH], from: usize, output: &mut [u8; REACH], to: usize) {
    let block = input[from & IN_STRIDE..].first_chunk::<BLOCK>();
    let target = output[to & IN_STRIDE..].first_chunk_mut::<BLOCK>();
    if let (Some(block), Some(target)) = (block, target) {
        *target = *block;
    }
}
