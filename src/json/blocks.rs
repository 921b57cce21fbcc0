//! Sixteen bytes at a time: where ordinary text ends (at the bytes that a JSON string cannot hold as they are), and whether
//! two names are the same.

use wide::u8x16;

/// True for a quote, a backslash and the control characters.
#[inline]
pub(super) fn is_stop(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// A bit for each stop among sixteen bytes, the first byte's lowest.
#[inline]
pub(super) fn stops(block: [u8; 16]) -> u32 {
    let block = u8x16::new(block);
    // With this bit turned, the quote comes right behind the control characters.
    let turned = block ^ u8x16::splat(b'"' ^ 0x20);
    let hits = turned.min(u8x16::splat(0x20)).simd_eq(turned) | block.simd_eq(u8x16::splat(b'\\'));
    hits.to_bitmask()
}

/// A bit for each stop among sixty-four bytes.
#[inline]
pub(super) fn stops64(window: &[u8; 64]) -> u64 {
    let (blocks, _) = window.as_chunks::<16>();
    blocks.iter().rev().fold(0, |bits, block| bits << 16 | u64::from(stops(*block)))
}

/// A bit for each byte that two texts of thirty-two bytes share, the first byte's lowest.
#[inline]
pub(super) fn equal(one: &[u8; 32], other: &[u8; 32]) -> u32 {
    let pairs = one.as_chunks::<16>().0.iter().zip(other.as_chunks::<16>().0).rev();
    pairs.fold(0, |bits, (one, other)| bits << 16 | u8x16::new(*one).simd_eq(u8x16::new(*other)).to_bitmask())
}

/// Where from `at` on the first stop lies; the end of the text when there is none.
#[inline(always)]
pub(super) fn next_stop(text: &[u8], at: usize) -> usize {
    // Two blocks: most names and values end within the first.
    match text.get(at..).and_then(|rest| rest.first_chunk::<32>()).map(stops32) {
        Some(0) => far_stop(text, at.wrapping_add(32)),
        Some(hits) => at.wrapping_add(hits.trailing_zeros() as usize),
        None => far_stop(text, at),
    }
}

#[inline(never)]
fn far_stop(text: &[u8], mut at: usize) -> usize {
    while let Some(step) = text.get(at..).and_then(|rest| rest.first_chunk::<32>()) {
        let hits = stops32(step);
        if hits != 0 {
            return at + hits.trailing_zeros() as usize;
        }
        at += 32;
    }
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| is_stop(*byte)).unwrap_or(rest.len())
}

#[inline(always)]
fn stops32(step: &[u8; 32]) -> u32 {
    step.as_chunks::<16>().0.iter().rev().fold(0, |bits, block| bits << 16 | stops(*block))
}

/// Where the digits end that stand at `at`.
#[inline(always)]
pub(super) fn digits_end(text: &[u8], at: usize) -> usize {
    if let Some(block) = text.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        let values = u8x16::new(*block) - u8x16::splat(b'0');
        let others = !values.min(u8x16::splat(9)).simd_eq(values).to_bitmask() & 0xffff;
        if others != 0 {
            return at.wrapping_add(others.trailing_zeros() as usize);
        }
    }
    let rest = text.get(at..).unwrap_or_default();
    at.wrapping_add(rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len()))
}

/// Whether two texts are the same. Names are short: two blocks that overlap cover most of them, without a call.
#[inline]
pub fn same(one: &[u8], other: &[u8]) -> bool {
    match one.len() {
        length if length != other.len() => false,
        4..=7 => same_ends::<4>(one, other),
        8..=15 => same_ends::<8>(one, other),
        16..=32 => same_ends::<16>(one, other),
        33..=64 => same_ends::<32>(one, other),
        _ => one == other,
    }
}

#[inline]
fn same_ends<const N: usize>(one: &[u8], other: &[u8]) -> bool {
    one.first_chunk::<N>() == other.first_chunk::<N>() && one.last_chunk::<N>() == other.last_chunk::<N>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn texts_are_the_same_or_not(text in prop::collection::vec(any::<u8>(), 0..80), at: prop::sample::Index) {
            prop_assert!(same(&text, &text.clone()));
            let mut other = text.clone();
            other.push(0);
            prop_assert!(!same(&text, &other));
            other.pop();
            if !text.is_empty() {
                other[at.index(text.len())] ^= 1;
                prop_assert!(!same(&text, &other));
            }
        }

        #[test]
        fn digits_end_where_they_end(before in "[0-9/:]{0,3}", digits in "[0-9]{0,40}", behind in "[/:.e-]?[0-9/:]{0,20}") {
            let text = format!("{before}{digits}{behind}");
            let rest = &text[before.len()..];
            let expected = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            prop_assert_eq!(digits_end(text.as_bytes(), before.len()), before.len() + expected);
        }

        #[test]
        fn every_stop_is_found(text in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'a')], 64..200), at in 0usize..64) {
            let expected = text.iter().skip(at).position(|b| is_stop(*b)).map_or(text.len(), |found| at + found);
            prop_assert_eq!(next_stop(&text, at), expected);
            prop_assert_eq!(next_stop(&text[..at], at), at);
            let bits = stops64(text.first_chunk().unwrap());
            for (i, byte) in text.iter().take(64).enumerate() {
                prop_assert_eq!(bits >> i & 1 == 1, is_stop(*byte), "{}", i);
            }
        }
    }
}
