//! The commit log while calls to the disk fail: old commits go, states are shortened, and a start reads little.

use std::sync::Arc;

use serde_json::json;

use super::{ids, run, schema, tap};
use crate::target::commit::commit_log::{CommitLog, fingerprints_path};
use crate::target::store::memory::{Fault, Memory};

/// Old commits go while their removal fails at any call: those that are left have their fingerprints, and no gap.
#[test]
fn a_log_that_is_shortened_stays_readable_whatever_call_fails() {
    for fault in [Fault::Once, Fault::Kill, Fault::PowerCut] {
        for n in 0.. {
            let fs = Memory::new();
            for from in 0..6 {
                assert!(run(&fs, &tap(from)).0);
            }
            let mut log = CommitLog::open(Arc::new(fs.clone())).unwrap();
            let last = log.next() - 1;
            assert!(last > 5);
            fs.fail_at(n, fault);
            let _ = log.forget(u64::MAX, 2);
            let came = fs.restart();
            let mut log = CommitLog::open(Arc::new(fs.clone())).unwrap();
            let left: Vec<_> = log.records().map(Result::unwrap).collect();
            let numbers: Vec<u64> = left.iter().rev().map(|record| record.n).collect();
            assert_eq!(numbers, (numbers[0]..=last).collect::<Vec<_>>(), "{fault:?} {n}");
            for record in left.iter().filter(|record| record.fingerprints > 0) {
                assert!(log.fs().read(&fingerprints_path(record.n)).is_ok(), "{fault:?}: commit {}", record.n);
            }
            // What a fault left behind goes the next time.
            log.forget(u64::MAX, 2).unwrap();
            assert!(fs.files("_target/commits").iter().all(|(path, _)| !path.contains("0001.")), "{fault:?} {n}");
            if !came {
                assert!(n > 4, "{n} calls only");
                break;
            }
        }
    }
}

/// Records lose large states, and the hashes that stay know them again.
#[test]
fn states_are_shortened_whatever_call_fails() {
    let lines = |from: i64, to: i64| {
        let state = |n: i64| json!({"type": "STATE", "value": {"n": n, "seen": "x".repeat(5_000)}});
        let mut lines = vec![state(from), schema()];
        for id in from..to {
            lines.push(json!({"type": "RECORD", "stream": "s", "record": {"id": id}}));
            if id % 4 == 3 {
                lines.push(state(id + 1));
            }
        }
        lines
    };
    for fault in [Fault::Once, Fault::Kill, Fault::PowerCut] {
        for n in 0.. {
            let fs = Memory::new();
            assert!(run(&fs, &lines(0, 40)).0);
            fs.fail_at(n, fault);
            let (ok, printed) = run(&fs, &lines(40, 48));
            let came = fs.restart();
            assert!(!ok || ids(&fs) == (0..48).collect::<Vec<_>>(), "{fault:?} {n}");
            let reached = printed.last().map_or(40, |state| state["n"].as_i64().unwrap());
            let from = if n % 2 == 0 { reached } else { 4 };
            assert!(run(&fs, &lines(from, 48)).0, "{fault:?} {n}");
            assert_eq!(ids(&fs), (0..48).collect::<Vec<_>>(), "{fault:?} {n}: from {from}");
            let log = fs.files("_target/commits");
            let whole = log.iter().filter(|(path, text)| path.ends_with("json") && text.len() > 5_000).count();
            assert!(whole <= 10, "{fault:?} {n}: {whole} of {} states are whole", log.len());
            if !came {
                break;
            }
        }
    }
}

/// A start from the last state reads the last record, and as much as one commit needs; a long log costs it nothing.
#[test]
fn a_start_does_not_read_the_whole_log() {
    let fs = Memory::new();
    let lines = |ids: std::ops::Range<i64>| {
        let mut lines = vec![json!({"type": "STATE", "value": {"n": ids.start}}), schema()];
        for id in ids {
            lines.push(json!({"type": "RECORD", "stream": "s", "record": {"id": id}}));
            if id % 4 == 3 {
                lines.push(json!({"type": "STATE", "value": {"n": id + 1}}));
            }
        }
        lines
    };
    assert!(run(&fs, &lines(0..400)).0);
    let before = fs.reads();
    assert!(run(&fs, &lines(400..404)).0);
    let reads = fs.reads() - before;
    assert!(fs.files("_target/commits").len() > 190 && reads < 10, "{reads} files are read");
    assert_eq!(ids(&fs), (0..404).collect::<Vec<_>>());
}
