//! tap | target: what is stored in PostHog stands in the files, once, over runs and kills of either side.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};

use crate::fake::events::{Dice, realistic};
use crate::fake::{DAY_MICROS, Event, Fake, HOUR_MICROS, Held, Identity, Options};
use crate::util::{Run, Tap, Target, same_once, target_parquet};

/// Every published file of a stream.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    files.sort();
    files
}

fn rows(folder: &Path) -> Vec<Row> {
    let mut rows = Vec::new();
    for path in files(folder) {
        let reader = SerializedFileReader::new(fs::File::open(&path).unwrap()).unwrap();
        rows.extend(reader.get_row_iter(None).unwrap().map(Result::unwrap));
    }
    rows
}

fn field<'a>(row: &'a Row, name: &str) -> &'a Field {
    row.get_column_iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no column {name}")).1
}

fn held(row: &Row) -> Held {
    let text = |name: &str| match field(row, name) {
        Field::Str(text) => text.clone(),
        other => panic!("{name} is {other:?}"),
    };
    let time = |name: &str| match field(row, name) {
        Field::TimestampMicros(micros) => *micros,
        other => panic!("{name} is {other:?}"),
    };
    let day = time("timestamp").div_euclid(DAY_MICROS);
    let identity = Identity { day, event: text("event"), distinct_id: text("distinct_id"), uuid: text("uuid") };
    Held { identity, timestamp: time("timestamp"), created_at: time("created_at") }
}

fn in_files(target: &Target) -> Vec<Held> {
    rows(&target.out().join("events")).iter().map(held).collect()
}

fn fake() -> Fake {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert(realistic(9, 2_000, now, 6));
    fake
}

/// One run of the pipe by way of the tap's whole output.
fn pipe(tap: &Tap<'_>, target: &Target) -> Run {
    let run = tap.run().ends(0);
    target.run(run.stdout).ends(0)
}

#[test]
fn three_runs_write_every_event_once() {
    let (fake, target) = (fake(), Target::new());
    let first = pipe(&Tap::new(&fake), &target);
    same_once("first run", &in_files(&target), fake.world().held());
    fake.world().advance(HOUR_MICROS);
    let now = fake.world().now;
    fake.world().insert(
        (0..300).map(|n| Event::new(90_000 + n, "later", now - n as i64 * 10 * 60_000_000 - 1).created(now - 1)),
    );
    let state = first.stdout.lines().last().unwrap().to_owned();
    let second = pipe(&Tap::new(&fake).state(&serde_json::from_str(&state).unwrap()), &target);
    same_once("second run", &in_files(&target), fake.world().held());
    let before = files(&target.out().join("events")).len();
    let state = second.stdout.lines().last().unwrap().to_owned();
    pipe(&Tap::new(&fake).state(&serde_json::from_str(&state).unwrap()), &target);
    assert_eq!(files(&target.out().join("events")).len(), before, "a run without news wrote a file");
}

#[test]
fn the_files_hold_what_the_records_hold() {
    let (fake, target) = (fake(), Target::new());
    let run = Tap::new(&fake).run().ends(0);
    target.run(&run.stdout).ends(0);
    let records = run.records("events");
    let rows = rows(&target.out().join("events"));
    assert_eq!(rows.len(), records.len());
    let by_uuid: std::collections::HashMap<&str, &serde_json::Value> =
        records.iter().map(|record| (record["uuid"].as_str().unwrap(), record)).collect();
    for row in &rows {
        let Field::Str(uuid) = field(row, "uuid") else { panic!("uuid is no text") };
        let record = by_uuid[uuid.as_str()];
        for (name, value) in record.as_object().unwrap() {
            let same = match (field(row, name), value) {
                (Field::Null, serde_json::Value::Null) => true,
                (Field::Str(text), serde_json::Value::String(wanted)) => text == wanted,
                (Field::Str(text), wanted) => {
                    serde_json::from_str::<serde_json::Value>(text).ok().as_ref() == Some(wanted)
                }
                (Field::Bool(here), wanted) => wanted == here,
                (Field::Double(here), wanted) => wanted.as_f64() == Some(*here),
                (Field::Long(here), wanted) => wanted.as_i64() == Some(*here),
                (Field::TimestampMicros(here), wanted) => *here == crate::fake::micros(wanted.as_str().unwrap()),
                _ => false,
            };
            assert!(same, "{name}: {value} is {:?} in the file", field(row, name));
        }
    }
}

/// Both programs in one real pipe; either is killed at a random line; the state is what the target printed last.
#[test]
fn killed_pipes_lose_and_repeat_nothing() {
    for seed in 0..8 {
        let (fake, target) = (fake(), Target::new());
        fs::write(target.dir.path().join("target.json"), target.config.to_string()).unwrap();
        let mut dice = Dice::new(seed);
        let mut state = None;
        for round in 0..6 {
            let mut tap = Tap::new(&fake).set("page_size", 100);
            tap.state.clone_from(&state);
            let mut source = tap.spawn();
            let mut sink = target_parquet()
                .arg("--config")
                .arg(target.dir.path().join("target.json"))
                .stdin(Stdio::from(source.stdout.take().unwrap()))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            if round < 5 {
                std::thread::sleep(std::time::Duration::from_millis(20 + dice.roll(400)));
                let victim = dice.roll(3);
                if victim != 1 {
                    source.kill().unwrap();
                }
                if victim != 0 {
                    sink.kill().unwrap();
                }
            }
            let said = Run::of(sink.wait_with_output().unwrap());
            let source = Run::of(source.wait_with_output().unwrap());
            if let Some(line) = said.stdout.lines().rfind(|line| line.starts_with('{')) {
                state = Some(line.to_owned());
            }
            assert!(round < 5 || said.code == 0 && source.code == 0, "seed {seed}: {} {}", source.stderr, said.stderr);
        }
        same_once(&format!("seed {seed}"), &in_files(&target), fake.world().held());
        let shown: BTreeSet<_> = files(&target.out().join("events")).into_iter().collect();
        assert!(!shown.is_empty());
    }
}
