//! Bookmarks of form 1, upgraded: they list what was delivered of the overlap in one text, and arrivals beside it only while
//! a run is under way.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::time::{HOUR_US, Micros};

use super::{BitReader, Overlap, UNKNOWN, read, write};

/// Bits of an arrival, as the number of a cell back from the horizon.
const CELL_BITS: u32 = 9;
/// Cells of an overlap.
const CELLS: i64 = (1 << CELL_BITS) - 2;

/// What form 1 says of an overlap.
#[derive(Deserialize)]
struct Listed {
    /// The hashes, as in a cell of form 2.
    #[serde(default)]
    seen: String,
    /// Of each hash the cell of its arrival, and whether that is counted.
    #[serde(default)]
    seen_arrivals: String,
    #[serde(default)]
    seen_from: Option<Micros>,
    #[serde(default)]
    horizon: Micros,
}

/// The bookmark in form 2; none where it is damaged.
pub fn upgrade(mut bookmark: Map<String, Value>) -> Option<Map<String, Value>> {
    set_overlap(&mut bookmark)?;
    if let Some(run) = bookmark.get_mut("run").filter(|run| !run.is_null()) {
        set_overlap(run.as_object_mut()?)?;
    }
    bookmark.insert("form".to_owned(), json!(2));
    Some(bookmark)
}

fn set_overlap(object: &mut Map<String, Value>) -> Option<()> {
    let listed = Listed::deserialize(&Value::Object(object.clone())).ok()?;
    let Some(from) = listed.seen_from else { return Some(()) };
    let overlap =
        if listed.seen_arrivals.is_empty() { without_arrivals(listed, from) } else { by_cell(&listed, from)? };
    object.insert("overlap".to_owned(), serde_json::to_value(overlap).ok()?);
    Some(())
}

fn without_arrivals(listed: Listed, from: Micros) -> Overlap {
    let cells = if listed.seen.is_empty() { Vec::new() } else { vec![(UNKNOWN, 0, listed.seen)] };
    Overlap { cells, ..Overlap::new(from) }
}

/// The cells of form 1 were parts of an hour, or of some hours in an overlap of months; those become cells of form 2.
fn by_cell(listed: &Listed, from: Micros) -> Option<Overlap> {
    let bytes = BASE64.decode(&listed.seen_arrivals).ok()?;
    let first = Micros::from_le_bytes(*bytes.first_chunk::<8>()?);
    let span = listed.horizon.saturating_sub(first).max(8 * CELLS);
    let hours = span / CELLS / HOUR_US + 1;
    let width = hours.saturating_mul(HOUR_US);
    let parts = CELLS.saturating_mul(width) / span;
    let end = listed.horizon.saturating_sub(1);
    let last = end.div_euclid(width) * parts + end.rem_euclid(width) * parts / width;
    let mut reader = BitReader { bytes: &bytes, at: 64 };
    let mut cells: BTreeMap<i64, (u64, Vec<u64>)> = BTreeMap::new();
    for hash in if listed.seen.is_empty() { Vec::new() } else { read(&listed.seen)? } {
        let back = i64::try_from(reader.take(CELL_BITS)?).ok()?;
        let (watched, hashes) = cells.entry((last - back).div_euclid(parts)).or_default();
        *watched += reader.take(1)?;
        hashes.push(hash);
    }
    let cells = cells.into_iter().map(|(number, (watched, hashes))| (number, watched, write(&hashes)));
    let is_whole = reader.at + 8 > bytes.len() * 8;
    is_whole.then(|| Overlap { from, seconds: hours * 3600, cells: cells.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form_1(seen: &[u64], arrivals: &str) -> Map<String, Value> {
        let run = json!({"horizon": 20_003 * HOUR_US, "seen": write(seen), "seen_arrivals": arrivals, "seen_from": 20_002 * HOUR_US});
        let bookmark = json!({"form": 1, "seen": write(&[4, 5]), "seen_from": 20_001 * HOUR_US, "run": run});
        bookmark.as_object().unwrap().clone()
    }

    /// (cell, watched) of each version, as form 1 kept them.
    fn arrivals(from: Micros, cells: &[(u64, bool)]) -> String {
        let bits: String = cells.iter().map(|(cell, watched)| format!("{cell:09b}{}", u8::from(*watched))).collect();
        let byte = |bits: &[u8]| u8::from_str_radix(&format!("{:0<8}", std::str::from_utf8(bits).unwrap()), 2).unwrap();
        let bytes = from.to_le_bytes().into_iter().chain(bits.as_bytes().chunks(8).map(byte));
        BASE64.encode(bytes.collect::<Vec<u8>>())
    }

    fn overlap(value: &Value) -> Overlap {
        Overlap::deserialize(&value["overlap"]).unwrap()
    }

    #[test]
    fn lists_become_overlaps_with_the_same_hashes_and_start() {
        let from = 20_001 * HOUR_US;
        let listed = form_1(&[1, 2, 3], &arrivals(from, &[(0, true), (300, true), (509, false)]));
        let upgraded = Value::Object(upgrade(listed).unwrap());
        assert_eq!(upgraded["form"], 2);
        let finished = overlap(&upgraded);
        assert_eq!((finished.from, finished.hashes().unwrap()), (from, vec![4, 5]));
        let run = overlap(&upgraded["run"]);
        assert_eq!((run.from, run.seconds, run.hashes().unwrap()), (20_002 * HOUR_US, 3600, vec![1, 2, 3]));
        // Two hours: 255 cells each.
        let cells: Vec<(i64, u64)> = run.cells.iter().map(|(number, watched, _)| (*number, *watched)).collect();
        assert_eq!(cells, [(20_001, 1), (20_002, 1)]);
    }

    #[test]
    fn a_list_without_arrivals_keeps_its_hashes() {
        let upgraded = Value::Object(upgrade(form_1(&[1, 2, 3], "")).unwrap());
        assert_eq!(overlap(&upgraded["run"]).hashes().unwrap(), [1, 2, 3]);
        assert_eq!(overlap(&upgraded["run"]).cells[0].0, UNKNOWN);
        let empty = upgrade(json!({"form": 1, "seen_from": null}).as_object().unwrap().clone()).unwrap();
        assert!(!empty.contains_key("overlap"));
    }

    #[test]
    fn damaged_lists_are_refused_and_never_a_panic() {
        let good = arrivals(0, &[(0, true); 3]);
        assert!(upgrade(form_1(&[1, 2, 3], &good)).is_some());
        for damaged in ["?", "AAAA", &good[..12], &format!("{good}{good}")] {
            assert!(upgrade(form_1(&[1, 2, 3], damaged)).is_none(), "{damaged}");
        }
        for horizon in [i64::MIN, 0, i64::MAX] {
            for from in [i64::MIN, 0, i64::MAX] {
                let mut bookmark = form_1(&[1, 2, 3], &arrivals(from, &[(0, true); 3]));
                bookmark["run"]["horizon"] = json!(horizon);
                let _ = upgrade(bookmark);
            }
        }
    }
}
