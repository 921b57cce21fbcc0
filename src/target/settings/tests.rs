use super::*;
use serde_json::json;

fn from(value: Value) -> Result<Settings> {
    Settings::from_map(value.as_object().unwrap())
}

#[test]
fn defaults_are_valid() {
    let settings = from(json!({})).unwrap();
    assert_eq!(settings.destination, PathBuf::from("output"));
    assert_eq!(settings.memory_limit_bytes, 80 << 20);
}

#[test]
fn other_names_work_and_null_is_not_given() {
    for name in ["path", "filepath", "output_path"] {
        let settings = from(json!({name: "x", "destination_path": null})).unwrap();
        assert_eq!(settings.destination, PathBuf::from("x"));
    }
    assert_eq!(from(json!({"compression_method": "snappy"})).unwrap().compression.compression, Compression::SNAPPY);
}

#[test]
fn bad_values_name_their_setting() {
    for (name, value) in [
        ("destination_path", json!("")),
        ("compression", json!("zip")),
        ("compression_level", json!(99)),
        ("batch_size_rows", json!(0)),
        ("memory_limit_mb", json!(1)),
        ("dedup", json!("yes")),
        ("load_method", json!("upsert")),
        ("partition_by", json!(7)),
        ("partition_by", json!(["x:year"])),
        ("compression_level", json!(19)),
        ("add_record_metadata", json!("maybe")),
        ("max_batch_age_minutes", json!(-1)),
    ] {
        let error = from(json!({name: value})).unwrap_err();
        assert!(error.to_string().contains(name) && error.kind() == Kind::Config, "{error}");
    }
}

#[test]
fn the_environment_wins_when_it_is_asked_for() {
    let env = |name: &str| match name {
        "TARGET_PARQUET_BATCH_SIZE_ROWS" => Some("7".to_owned()),
        "TARGET_PARQUET_ADD_RECORD_METADATA" => Some("yes".to_owned()),
        "TARGET_PARQUET_PARTITION_BY" => Some("[\"timestamp:day\"]".to_owned()),
        _ => None,
    };
    let settings = Settings::read(&[PathBuf::from("ENV")], &[&env]).unwrap();
    assert_eq!((settings.batch_size_rows, settings.add_record_metadata), (7, true));
    assert_eq!(settings.partition_by, [PartitionColumn { property: "timestamp".to_owned(), grain: Grain::Day }]);
    assert_eq!(Settings::read(&[], &[&env]).unwrap().batch_size_rows, 1_000_000);
}

#[test]
fn a_later_file_wins_under_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, value: Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, value.to_string()).unwrap();
        path
    };
    let long = file("a.json", json!({"destination_path": "A", "batch_size_rows": 5}));
    let short = file("b.json", json!({"path": "B"}));
    let read = |files: &[PathBuf]| Settings::read(files, &[]).unwrap();
    assert_eq!(read(&[long.clone(), short.clone()]).destination, PathBuf::from("B"));
    assert_eq!(read(&[short.clone(), long.clone()]).destination, PathBuf::from("A"));
    assert_eq!(read(&[long, short]).batch_size_rows, 5);
}

#[test]
fn the_environment_knows_other_names() {
    let env = |name: &str| (name == "TARGET_PARQUET_PATH").then(|| "E".to_owned());
    assert_eq!(Settings::read(&[PathBuf::from("ENV")], &[&env]).unwrap().destination, PathBuf::from("E"));
}

#[test]
fn compressors_that_do_not_fit_need_more_memory() {
    for (codec, level, limit, fits) in
        [("zstd", 9, 80, true), ("zstd", 19, 80, false), ("zstd", 22, 256, true), ("brotli", 11, 80, false)]
    {
        let settings = from(json!({"compression": codec, "compression_level": level, "memory_limit_mb": limit}));
        assert_eq!(settings.is_ok(), fits, "{codec} {level} {limit}");
    }
}
