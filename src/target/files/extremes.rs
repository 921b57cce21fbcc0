//! The least and the greatest text of a column, for the footer. The Parquet library finds them, too, but at two calls for
//! every value; most comparisons are decided by eight bytes.

use parquet::data_type::ByteArray;
use parquet::file::statistics::{Statistics, ValueStatistics};

use crate::json::same;

/// What the footer holds of a text at most, in bytes.
const LONGEST: usize = 64;

/// The statistics of these texts, valid UTF-8, and of `nulls` rows without one.
#[must_use]
pub fn statistics<'a>(texts: impl Iterator<Item = &'a [u8]>, nulls: usize) -> Statistics {
    let extremes = extremes(texts);
    let least = extremes.map(|(least, _)| (cut(least), least.len() <= LONGEST));
    let greatest = extremes.and_then(|(_, greatest)| {
        let bound = if greatest.len() <= LONGEST { greatest.to_vec() } else { above(cut(greatest))? };
        Some((bound, greatest.len() <= LONGEST))
    });
    let statistics = ValueStatistics::new(
        least.map(|(text, _)| ByteArray::from(text.to_vec())),
        greatest.as_ref().map(|(text, _)| ByteArray::from(text.clone())),
        None,
        Some(nulls as u64),
        false,
    );
    Statistics::ByteArray(
        statistics
            .with_min_is_exact(least.is_some_and(|(_, exact)| exact))
            .with_max_is_exact(greatest.is_some_and(|(_, exact)| exact)),
    )
}

fn extremes<'a>(mut texts: impl Iterator<Item = &'a [u8]>) -> Option<(&'a [u8], &'a [u8])> {
    let first = texts.next()?;
    let (mut least, mut greatest) = ((head(first), first), (head(first), first));
    for text in texts {
        let text = (head(text), text);
        // Of equal heads most are equal texts.
        if text.0 <= least.0 && !same(text.1, least.1) && text < least {
            least = text;
        }
        if text.0 >= greatest.0 && !same(text.1, greatest.1) && text > greatest {
            greatest = text;
        }
    }
    Some((least.1, greatest.1))
}

/// The first eight bytes as a number that orders as they do.
#[inline]
fn head(text: &[u8]) -> u64 {
    let mut head = [0; 8];
    match text.first_chunk::<8>() {
        Some(bytes) => head = *bytes,
        None => head.iter_mut().zip(text).for_each(|(to, from)| *to = *from),
    }
    u64::from_be_bytes(head)
}

/// As much of a text as the footer holds, whole characters.
fn cut(text: &[u8]) -> &[u8] {
    let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.get(*end).is_none_or(|b| b & 0xc0 != 0x80));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// A text that is greater than every text that begins with this one.
fn above(text: &[u8]) -> Option<Vec<u8>> {
    let mut left = std::str::from_utf8(text).ok()?;
    while let Some(last) = left.chars().next_back() {
        left = &left[..left.len() - last.len_utf8()];
        // Between the characters lie the surrogates, which are none.
        if let Some(next) = (u32::from(last) + 1..=u32::from(last) + 0x801).find_map(char::from_u32) {
            return Some([left, next.to_string().as_str()].concat().into_bytes());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_cannot_be_exceeded_has_no_bound() {
        assert_eq!(above("a\u{10ffff}".as_bytes()), Some(b"b".to_vec()));
        assert_eq!(above("\u{10ffff}".as_bytes()), None);
        assert_eq!(above("\u{d7ff}".as_bytes()), Some("\u{e000}".as_bytes().to_vec()));
        assert_eq!(above(b""), None);
    }

    proptest! {
        #[test]
        fn every_text_lies_between_the_bounds(texts in prop::collection::vec(prop_oneof![
            any::<String>(), "[ab\u{0}é🎉]{0,12}", "[ab🎉]{60,70}"], 1..20)) {
            let Statistics::ByteArray(found) = statistics(texts.iter().map(String::as_bytes), 3) else { panic!() };
            let least = texts.iter().min().unwrap().as_bytes();
            let greatest = texts.iter().max().unwrap().as_bytes();
            let min = found.min_opt().unwrap().data();
            prop_assert!(min <= least && min.len() <= LONGEST && (min == least) == found.min_is_exact());
            prop_assert!(std::str::from_utf8(min).is_ok());
            if let Some(max) = found.max_opt() {
                prop_assert!(max.data() >= greatest && (max.data() == greatest) == found.max_is_exact());
                prop_assert!(std::str::from_utf8(max.data()).is_ok());
            }
            prop_assert_eq!(found.null_count_opt(), Some(3));
        }
    }
}
