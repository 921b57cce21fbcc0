use super::*;
use crate::error::Kind;
use parquet::basic::Compression;
use serde_json::json;

#[test]
fn defaults_are_valid() {
    let settings = Settings::of(&json!({})).unwrap();
    assert_eq!(settings.destination, PathBuf::from("output"));
    assert_eq!(settings.memory_limit_bytes, 80 << 20);
    assert_eq!(settings.max_batch_age, Duration::from_secs(300));
    assert_eq!((settings.dedup, settings.load_method), (Dedup::Replay, LoadMethod::AppendOnly));
}

#[test]
fn other_names_work_and_null_is_not_given() {
    for name in ["path", "filepath", "output_path"] {
        let settings = Settings::of(&json!({name: "x", "destination_path": null})).unwrap();
        assert_eq!(settings.destination, PathBuf::from("x"));
    }
    let compression = |value| Settings::of(&value).unwrap().compression.compression;
    assert_eq!(compression(json!({"compression_method": "Snappy"})), Compression::SNAPPY);
    assert_eq!(compression(json!({"compression": "uncompressed"})), Compression::UNCOMPRESSED);
    for word in ["append-only", "append_only", "append"] {
        assert_eq!(Settings::of(&json!({"load_method": word})).unwrap().load_method, LoadMethod::AppendOnly);
    }
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
        ("max_batch_age", json!(1e300)),
        ("path", json!(1)),
    ] {
        let error = Settings::of(&json!({name: value})).unwrap_err();
        assert!(error.to_string().starts_with(&format!("setting {name}: ")) && error.kind() == Kind::Config, "{error}");
    }
}

#[test]
fn partitions_are_columns_with_a_grain() {
    let settings = Settings::of(&json!({"partition_by": "event, timestamp:day,a:b"})).unwrap();
    let column = |property: &str, grain| PartitionColumn { property: property.to_owned(), grain };
    let expected = [column("event", Grain::Value), column("timestamp", Grain::Day), column("a:b", Grain::Value)];
    assert_eq!(settings.partition_by, expected);
}

#[test]
fn compressors_that_do_not_fit_need_more_memory() {
    for (codec, level, limit, fits) in
        [("zstd", 9, 80, true), ("zstd", 19, 80, false), ("zstd", 22, 256, true), ("brotli", 11, 80, false)]
    {
        let settings =
            Settings::of(&json!({"compression": codec, "compression_level": level, "memory_limit_mb": limit}));
        assert_eq!(settings.is_ok(), fits, "{codec} {level} {limit}");
    }
}

#[test]
fn the_table_is_sound() {
    crate::settings::tests::is_sound(TABLE);
}
