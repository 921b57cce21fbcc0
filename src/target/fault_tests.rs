//! Every call to the disk fails in turn: as an error, as a kill, as a power cut. After each, a second run from the last
//! state that was printed must end with every row there once, and no state may ever have been printed too early.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::{Arc, Mutex};

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Value, json};

use super::input::lines::Lines;
use super::load;
use super::settings::Settings;
use super::store::memory::{Fault, Memory};
use crate::singer::output::Output;
use crate::stop::Stop;

mod log_tests;

#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs the target on `lines`; whether it ended well, and the states that it printed.
fn run(fs: &Memory, lines: &[Value]) -> (bool, Vec<Value>) {
    let mut input: File = tempfile::tempfile().unwrap();
    for line in lines {
        writeln!(input, "{line}").unwrap();
    }
    input.rewind().unwrap();
    let settings = Settings::of(&json!({"batch_size_rows": 4})).unwrap();
    let printed = Printed::default();
    let lines = Lines::new(input, Stop::new(), settings.max_line_bytes).unwrap();
    let ended = load::run(settings, lines, None, Output::new(printed.clone()), Arc::new(fs.clone()));
    let text = String::from_utf8(printed.0.lock().unwrap().clone()).unwrap();
    if let Err(error) = &ended {
        eprintln!("ended with: {error}");
    }
    (ended.is_ok(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// The ids in the folder of stream `s`, sorted. Every file must be whole.
fn ids(fs: &Memory) -> Vec<i64> {
    ids_of(fs, "s")
}

fn ids_of(fs: &Memory, folder: &str) -> Vec<i64> {
    let mut ids = Vec::new();
    for (_, content) in fs.files(folder).into_iter().filter(|(path, _)| path.ends_with(".parquet")) {
        let reader = SerializedFileReader::new(content.into_file()).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            match row.unwrap().get_column_iter().next() {
                Some((_, parquet::record::Field::Long(id))) => ids.push(*id),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    ids.sort_unstable();
    ids
}

trait IntoFile {
    fn into_file(self) -> File;
}

impl IntoFile for Vec<u8> {
    /// A file with this content: the reader of the Parquet library wants one.
    fn into_file(self) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&self).unwrap();
        file.rewind().unwrap();
        file
    }
}

fn schema() -> Value {
    json!({"type": "SCHEMA", "stream": "s", "key_properties": ["id"], "schema": {"properties": {"id": {"type": "integer"}}}})
}

/// What a tap sends that starts behind row `from`: 12 rows in all, a STATE after every third.
fn tap(from: i64) -> Vec<Value> {
    let mut lines = vec![json!({"type": "STATE", "value": {"n": from}}), schema()];
    for id in from..12 {
        lines.push(json!({"type": "RECORD", "stream": "s", "record": {"id": id}}));
        if id % 3 == 2 {
            lines.push(json!({"type": "STATE", "value": {"n": id + 1}}));
        }
    }
    lines
}

#[test]
fn rows_are_there_once_whatever_call_fails() {
    for fault in [Fault::Once, Fault::Kill, Fault::PowerCut] {
        for n in 0.. {
            let fs = Memory::new();
            fs.fail_at(n, fault);
            let (ok, printed) = run(&fs, &tap(0));
            let came = fs.restart();
            assert!(ok != came || fault == Fault::Once, "{fault:?} {n}");
            // An error, or the right result.
            let right = ids(&fs) == (0..12).collect::<Vec<_>>() && printed.last() == Some(&json!({"n": 12}));
            assert!(!ok || right, "{fault:?} {n}: {printed:?}");
            let reached = printed.last().map_or(0, |state| state["n"].as_i64().unwrap());
            // Started from what was printed, or from what a runner that lost a line would know.
            let earlier = printed.iter().rev().nth(1).map_or(0, |state| state["n"].as_i64().unwrap());
            let from = if n % 2 == 0 { reached } else { earlier };
            let (ok, _) = run(&fs, &tap(from));
            assert!(ok, "{fault:?} {n}: the second run fails");
            assert_eq!(ids(&fs), (0..12).collect::<Vec<_>>(), "{fault:?} {n}: from {from} of {reached}");
            assert!(fs.files("_target/staging").is_empty(), "{fault:?} {n}");
            if !came {
                assert!(n > 40, "the script is too short to mean much: {n} calls");
                break;
            }
        }
    }
}

/// The power goes.
fn power_cut(fs: &Memory) {
    fs.fail_at(0, Fault::PowerCut);
    assert!(!run(fs, &[]).0);
    assert!(fs.restart());
}

/// Folders that a run made before it was killed are as durable as those that the next one makes.
#[test]
fn the_power_may_go_after_a_kill_and_a_good_run() {
    for n in 0.. {
        let fs = Memory::new();
        fs.fail_at(n, Fault::Kill);
        let (_, printed) = run(&fs, &tap(0));
        let came = fs.restart();
        let reached = printed.last().map_or(0, |state| state["n"].as_i64().unwrap());
        assert!(run(&fs, &tap(reached)).0);
        power_cut(&fs);
        assert!(run(&fs, &[]).0);
        assert_eq!(ids(&fs), (0..12).collect::<Vec<_>>(), "{n}");
        fs.fail_at(n, Fault::Kill);
        run(&fs, &version(2, 100..107, true));
        fs.restart();
        assert!(run(&fs, &version(3, 100..107, false)).0);
        power_cut(&fs);
        assert!(run(&fs, &[]).0);
        assert_eq!(ids(&fs), (100..107).collect::<Vec<_>>(), "{n}");
        if !came {
            break;
        }
    }
}

/// What a tap sends that replaces the rows by `ids`. With `apart`, rows and ACTIVATE_VERSION are in different commits.
fn version(version: i64, ids: std::ops::Range<i64>, apart: bool) -> Vec<Value> {
    let mut lines = vec![json!({"type": "STATE", "value": {"v": version - 1}}), schema()];
    lines.extend(ids.map(|id| json!({"type": "RECORD", "stream": "s", "record": {"id": id}, "version": version})));
    if apart {
        lines.push(json!({"type": "STATE", "value": {"v": version - 1, "rows": true}}));
    }
    lines.push(json!({"type": "ACTIVATE_VERSION", "stream": "s", "version": version}));
    lines.push(json!({"type": "STATE", "value": {"v": version}}));
    lines
}

#[test]
fn a_version_is_whole_or_not_there_whatever_call_fails() {
    for fault in [Fault::Once, Fault::Kill, Fault::PowerCut] {
        let nothing = Earlier::Nothing;
        for (apart, held) in [(false, nothing), (true, nothing), (true, Earlier::Known), (false, Earlier::Unknown)] {
            versions_under(fault, apart, held, Memory::new);
            versions_under(fault, apart, held, Memory::without_exchange);
        }
    }
}

/// What an earlier run, which was interrupted, held of the version, and whether the next one says where it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Earlier {
    Nothing,
    Known,
    Unknown,
}

fn versions_under(fault: Fault, apart: bool, held: Earlier, disk: impl Fn() -> Memory) {
    let (old, new): (Vec<i64>, Vec<i64>) = ((0..5).collect(), (100..107).collect());
    for n in 0.. {
        let fs = disk();
        let exchanges = fs.exchanges();
        let at = format!("{fault:?} {n}, apart {apart}, exchanges {exchanges}, {held:?}");
        assert!(run(&fs, &version(1, 0..5, apart)).0);
        assert_eq!(ids(&fs), old);
        let mut lines = version(2, 100..107, apart);
        if held == Earlier::Unknown {
            lines.remove(0);
        }
        if held != Earlier::Nothing {
            let rows = 4 + usize::from(held == Earlier::Known);
            let interrupted = [&lines[..rows], &[json!({"type": "STATE", "value": {"v": 1, "rows": 3}})]].concat();
            assert!(run(&fs, &interrupted).0);
            assert_eq!(ids(&fs), old);
        }
        fs.fail_at(n, fault);
        let (ok, printed) = run(&fs, &lines);
        let came = fs.restart();
        let seen = ids(&fs);
        // An error, or the right result.
        assert!(!ok || seen == new && printed.last() == Some(&json!({"v": 2})), "{at}: {seen:?}, {printed:?}");
        // Without an exchange there is a moment without the folder; the next start ends it.
        assert!(seen == old || seen == new || !exchanges && seen.is_empty(), "{at}: {seen:?}");
        // Any later start finishes what was committed.
        assert!(run(&fs, &[]).0, "{at}");
        let finished = ids(&fs);
        assert!(finished == old || finished == new, "{at}: {finished:?}");
        if printed.last() == Some(&json!({"v": 2})) {
            assert_eq!(finished, new, "{at}");
        }
        assert!(run(&fs, &version(3, 100..107, apart)).0, "{at}");
        assert_eq!(ids(&fs), new, "{at}");
        assert!(fs.files("_target/held").is_empty(), "{at}");
        if !came {
            break;
        }
    }
}

/// Rows without a version stay when one is activated, whatever call fails, and also when they come again.
#[test]
fn rows_without_a_version_are_there_once_whatever_call_fails() {
    let mut mixed = vec![json!({"type": "STATE", "value": {"v": 1}}), schema()];
    mixed.extend((50..55).map(|id| json!({"type": "RECORD", "stream": "s", "record": {"id": id}})));
    mixed.push(json!({"type": "STATE", "value": {"v": 1, "rows": true}}));
    mixed.extend(version(2, 100..107, true).split_off(2));
    let new: Vec<i64> = (50..55).chain(100..107).collect();
    for fault in [Fault::Once, Fault::Kill, Fault::PowerCut] {
        for disk in [Memory::new, Memory::without_exchange] {
            for n in 0.. {
                let fs = disk();
                assert!(run(&fs, &version(1, 0..5, false)).0);
                fs.fail_at(n, fault);
                let (ok, _) = run(&fs, &mixed);
                let came = fs.restart();
                assert!(!ok || ids(&fs) == new, "{fault:?} {n}: {:?}", ids(&fs));
                assert!(run(&fs, &mixed).0, "{fault:?} {n}");
                assert_eq!(ids(&fs), new, "{fault:?} {n}");
                if !came {
                    break;
                }
            }
        }
    }
}

/// One stream with bookmarks, one without, one with a version, whose SCHEMA grows: what a tap sends from `from` to `to`.
fn three_streams(from: i64, to: i64, ends: End) -> Vec<Value> {
    let mut lines = vec![json!({"type": "STATE", "value": {"n": from}})];
    for (stream, bookmark) in [("b", Some("id")), ("w", None), ("v", None)] {
        let mut properties = json!({"id": {"type": "integer"}, "more": {"type": ["null", "object"]}});
        for n in 0..from / 10 {
            properties[format!("a{n}")] = json!({"type": ["null", "string"]});
        }
        let mut message =
            json!({"type": "SCHEMA", "stream": stream, "key_properties": ["id"], "schema": {"properties": properties}});
        if let Some(bookmark) = bookmark {
            message["bookmark_properties"] = json!([bookmark]);
        }
        lines.push(message);
    }
    for id in from..to {
        let record = json!({"id": id, "more": {"x": id, "y": [id]}});
        for stream in ["b", "w", "v"] {
            let mut line = json!({"type": "RECORD", "stream": stream, "record": record});
            if stream == "v" {
                line["version"] = json!(7);
            }
            lines.push(line);
        }
        if id % 3 == 2 {
            lines.push(json!({"type": "STATE", "value": {"n": id + 1}}));
        }
    }
    match ends {
        End::Cut => lines.push(json!({"type": "RECORD"})),
        End::Silent => {}
        End::Well => {
            lines.push(json!({"type": "ACTIVATE_VERSION", "stream": "v", "version": 7}));
            lines.push(json!({"type": "STATE", "value": {"n": to}}));
        }
    }
    lines
}

#[derive(Clone, Copy)]
enum End {
    Cut,
    Silent,
    Well,
}

#[test]
fn random_histories_of_crashes_lose_and_repeat_nothing() {
    const ROWS: i64 = 60;
    for seed in 0..120u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut roll = |below: i64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            i64::try_from(random % below.unsigned_abs()).unwrap()
        };
        let fs = Memory::new();
        let mut known = vec![0];
        for _ in 0..6 {
            let last = *known.last().unwrap();
            let from = if roll(3) == 0 { known[usize::try_from(roll(known.len() as i64)).unwrap()] } else { last };
            let to = (from + roll(25)).min(ROWS);
            let ends = [End::Cut, End::Silent, End::Well][usize::try_from(roll(3)).unwrap()];
            if roll(2) == 0 {
                let fault = [Fault::Once, Fault::Kill, Fault::PowerCut][usize::try_from(roll(3)).unwrap()];
                fs.fail_at(usize::try_from(roll(90)).unwrap(), fault);
            }
            let (_, printed) = run(&fs, &three_streams(from, to, ends));
            fs.restart();
            known.extend(printed.iter().map(|state| state["n"].as_i64().unwrap()));
        }
        let (ok, _) = run(&fs, &three_streams(*known.last().unwrap(), ROWS, End::Well));
        assert!(ok, "seed {seed}: the last run fails");
        for stream in ["b", "w", "v"] {
            assert_eq!(
                ids_of(&fs, stream),
                (0..ROWS).collect::<Vec<_>>(),
                "seed {seed}, stream {stream}, states {known:?}"
            );
        }
    }
}
