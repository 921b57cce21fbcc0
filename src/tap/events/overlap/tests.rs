use super::*;
use crate::posthog::query::version::Version;
use crate::time::HOUR_US;
use proptest::prelude::*;

fn hash(n: u64) -> u64 {
    let version = Version { timestamp: 0, created_at: n.cast_signed(), event: b"e", distinct_id: b"d", uuid: b"u" };
    version.hash(&mut Vec::new())
}

fn random(count: u64) -> Vec<u64> {
    let mut hashes: Vec<u64> = (0..count).map(hash).collect();
    hashes.sort_unstable();
    hashes
}

fn delivered(arrived: Micros, hash: u64) -> Delivered {
    Delivered { arrived, hash, watched: arrived % 2 == 0 }
}

fn window(from: Micros, horizon: Micros, max_bytes: usize) -> DedupWindow {
    DedupWindow::new(&Overlap::new(from), horizon, max_bytes).unwrap()
}

fn bytes(overlap: &Overlap) -> usize {
    serde_json::to_string(&overlap.cells).unwrap().len()
}

#[test]
fn cells_keep_to_the_hours_of_a_lookback() {
    let seconds = |span: Micros| width(20_000 * HOUR_US - span, 20_000 * HOUR_US, 2_000_000);
    assert_eq!([0, HOUR_US / 4, HOUR_US, 24 * HOUR_US, 720 * HOUR_US].map(seconds), [1, 2, 5, 120, 3600]);
    assert_eq!([721 * HOUR_US, 8_000 * HOUR_US].map(seconds), [7200, 12 * 3600]);
    assert!(width(Micros::MIN, Micros::MAX, 10_000) > 0 && width(1, 0, 1) > 0);
    assert_eq!(width(0, HOUR_US, 10_000), 180, "few cells where there is little room");
    // What is dropped is counted by the hour of its cell.
    for hours in 1..=720 {
        for max_bytes in [10_000, 100_000, 2_000_000] {
            assert_eq!(3600 % width(0, hours * HOUR_US, max_bytes), 0, "{hours} hours, {max_bytes} bytes");
        }
    }
}

#[test]
fn a_text_that_was_emptied_is_damaged() {
    assert_eq!(read(""), None);
    assert_eq!(read(&write(&[])), Some(Vec::new()));
}

#[test]
fn above_the_bound_the_newest_whole_cells_stay() {
    let overlap = Overlap { from: 0, seconds: 1, cells: vec![(0, 0, write(&[]))] };
    let mut window = DedupWindow::new(&overlap, 480 * SECOND_US, 230).unwrap();
    assert!(!window.note(delivered(-1, 1)));
    for second in 0..20 {
        for (hash, arrived) in [(second, second * SECOND_US), (second + 1000, second * SECOND_US + 1_000)] {
            assert!(window.note(Delivered { arrived, hash: hash.cast_unsigned(), watched: true }));
        }
    }
    let overlap = window.overlap();
    assert_eq!(overlap.hashes().unwrap(), [17, 18, 19, 1017, 1018, 1019]);
    assert_eq!(overlap.from, 17 * SECOND_US);
    assert_eq!(window.take_dropped().iter().map(|(_, count)| count).sum::<u64>(), 34);
}

/// Full, the list takes what it may take and no more, also where its versions arrived all over the overlap.
#[test]
fn a_full_list_takes_the_bytes_that_it_may_take() {
    let horizon = 20_000 * HOUR_US;
    for span in [1, HOUR_US / 4, HOUR_US, 720 * HOUR_US, 9_000 * HOUR_US] {
        for max_bytes in [10_000, 300_000, 2_000_000] {
            let mut window = window(horizon - span, horizon, max_bytes);
            let mut n = 0;
            while window.bits + most_bits(1) <= window.max_bits {
                window.note(delivered(horizon - 1 - (n * 7_919_000_003) % span, hash(n.cast_unsigned())));
                n += 1;
            }
            assert!(max_bytes < 2_000_000 || n >= 200_000, "{n} in {max_bytes} bytes over {span}");
            let overlap = window.overlap();
            let bytes = bytes(&overlap);
            assert!(overlap.from == horizon - span && bytes <= max_bytes, "{bytes} of {max_bytes} over {span}");
            // Cells of an hour take a large part of a small bound, and less than they are allowed: 7,412 bytes were taken.
            let least = if (span, max_bytes) == (720 * HOUR_US, 10_000) { 7 } else { 9 };
            assert!(bytes > max_bytes * least / 10, "{bytes} of {max_bytes} over {span}");
        }
    }
}

/// Versions whose arrival is not known are never pushed out, and are not counted by it.
#[test]
fn versions_of_unknown_arrival_are_kept() {
    let unknown = random(50);
    let cells = vec![(UNKNOWN, 0, write(&unknown))];
    let overlap = Overlap { cells, ..Overlap::new(0) };
    let mut window = DedupWindow::new(&overlap, HOUR_US, 125).unwrap();
    let noted = (1..100).filter(|n| window.note(delivered(n * SECOND_US * 5, n.cast_unsigned()))).count();
    assert!(noted < 99);
    let overlap = window.overlap();
    assert_eq!(overlap.hashes().unwrap(), unknown);
    assert_eq!(overlap.from, HOUR_US);
}

#[test]
fn two_hundred_thousand_hashes_take_under_nine_characters_each() {
    let hashes = random(200_000);
    let text = write(&hashes);
    assert!(text.len() < 200_000 * 9, "{}", text.len());
    assert_eq!(read(&text), Some(hashes));
}

#[test]
fn damaged_overlaps_are_refused_and_never_a_panic() {
    let hashes = random(50);
    let text = write(&hashes);
    for cut in 1..text.len() {
        assert_ne!(read(&text[..cut]), Some(hashes.clone()), "{cut}");
    }
    assert_eq!([read("/////////////////////w"), read("not base64!")], [None, None]);
    let of = |seconds, cells| DedupWindow::new(&Overlap { from: 0, seconds, cells }, 9, 9).is_err();
    let one = vec![(1, 0, text.clone())];
    assert!(of(0, one.clone()) && of(-1, one.clone()) && of(i64::MAX, one));
    assert!(of(1, vec![(1, 0, text.clone()), (1, 0, text.clone())]) && of(1, vec![(1, 0, "AAAA".to_owned())]));
    let far =
        Overlap { from: Micros::MIN, seconds: 9, cells: vec![(i64::MAX, u64::MAX, text.clone()), (i64::MIN, 1, text)] };
    let mut window = DedupWindow::new(&far, Micros::MAX, 9).unwrap();
    assert!(window.note(delivered(Micros::MIN, 1)));
}

proptest! {
    #[test]
    fn any_set_survives(mut hashes in prop::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), 0u64..99], 0..200)) {
        hashes.sort_unstable();
        hashes.dedup();
        prop_assert_eq!(read(&write(&hashes)), Some(hashes));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[A-Za-z0-9+/]{0,200}") {
        let _ = read(&text);
    }

    /// More hashes never take less, and what they take is bounded.
    #[test]
    fn the_bound_holds(count in 1usize..3000) {
        prop_assert!(most_bits(count) <= most_bits(count + 1));
        let overlap = Overlap { from: 0, seconds: 1, cells: vec![(1 << 31, count as u64, write(&random(count as u64)))] };
        prop_assert!(bytes(&overlap) as u64 * 6 <= most_bits(count) + 12);
    }

    /// Wherever a run is interrupted, it ends with the same list, start and dropped versions.
    #[test]
    fn interruptions_change_nothing(
        arrivals in prop::collection::vec(0..3 * HOUR_US, 0..400),
        cuts in prop::collection::vec(0usize..400, 0..4),
    ) {
        let (from, horizon) = (20_000 * HOUR_US - HOUR_US / 3, 20_003 * HOUR_US);
        let list = |cuts: &[usize]| {
            let mut window = window(from, horizon, 4_000);
            let mut counts = super::super::arrivals::ArrivalCounts::default();
            for (n, arrived) in arrivals.iter().enumerate() {
                if cuts.contains(&n) {
                    let overlap = window.overlap();
                    counts.note_all(window.take_dropped());
                    window = DedupWindow::new(&overlap, horizon, 4_000).unwrap();
                }
                let delivered = delivered(from + arrived, hash(n as u64));
                if !window.note(delivered) && delivered.watched {
                    counts.note(delivered.arrived);
                }
            }
            counts.note_all(window.take_dropped());
            (window.overlap(), counts)
        };
        prop_assert_eq!(list(&cuts), list(&[]));
    }
}
