//! The settings of the target. What their values mean is the business of the room's other file.

use crate::settings::form::{Form, choice, whole};
use crate::settings::{Setting, Table, row};

/// What the target is set up with.
pub const TABLE: &Table = &Table {
    program: "target-parquet",
    description: "A Singer target that writes Parquet files, each row exactly once",
    capabilities: &["about", "activate-version", "structured-logging"],
    rows: ROWS,
    nested: None,
    secrets_begin_with: None,
};

const ROWS: &[Setting] = &[
    row(
        "destination_path",
        "Destination folder",
        Form::Text,
        "Folder that the files are written into, one folder per stream.",
    )
    .or(&["path", "filepath", "output_path"])
    .default("output"),
    row(
        "compression",
        "Compression",
        Form::Choice {
            words: &["zstd", "snappy", "gzip", "brotli", "lz4", "none"],
            also: &[("uncompressed", "none")],
        },
        "How the files are compressed.",
    )
    .or(&["compression_method"])
    .default("zstd"),
    row(
        "compression_level",
        "Compression level",
        whole(0, 22),
        "Level of zstd (1 to 22; not given: 1, and settings of our own for JSON text), gzip (0 to 9; 6) or brotli (0 to 11; 1). Higher levels need a higher `memory_limit_mb`: at 80 zstd and gzip go up to 9, brotli up to 4; zstd 22 needs 218.",
    ),
    row(
        "batch_size_rows",
        "Rows of a file",
        whole(1, 1 << 40),
        "Most rows of a file; a commit follows at a STATE before a stream would grow beyond it.",
    )
    .or(&["max_batch_size"])
    .default("1000000"),
    row("file_size_mb", "Size of a file (MB)", whole(1, 1 << 20), "Size at which a file is full.").default("256"),
    row(
        "max_batch_age_minutes",
        "Time between commits (minutes)",
        Form::Number { least: 0.0, most: 1e6 },
        "A commit follows at the first STATE after so long, or at once when the input is silent after a STATE.",
    )
    .or(&["max_batch_age"])
    .default("5"),
    row(
        "memory_limit_mb",
        "Memory (MB)",
        whole(32, 1 << 20),
        "Memory that the process aims to stay under, over all streams. A record longer than a few MB needs about four times its length on top, a SCHEMA about one and a half times.",
    )
    .default("80"),
    row("max_line_mb", "Longest line (MB)", whole(1, 1024), "A longer line of input is refused.").default("64"),
    row(
        "dedup",
        "Leave out repeats",
        choice(&["replay", "always", "off"]),
        "`replay` leaves out rows that an earlier run committed and that are sent again after a crash; `always` leaves out repeats in every run.",
    )
    .default("replay"),
    row(
        "dedup_window_rows",
        "Rows remembered",
        whole(1, 1 << 32),
        "Rows that `dedup` remembers (16 bytes each).",
    )
    .default("1000000"),
    row(
        "load_method",
        "Load method",
        Form::Choice { words: &["append-only", "overwrite"], also: &[("append", "append-only")] },
        "With `overwrite` each run that ends well replaces the streams that it sends; no state is printed before its end.",
    )
    .default("append-only"),
    row(
        "partition_by",
        "Partition by",
        Form::Names,
        "Hive folders: `[\"event\"]`, `[\"timestamp:day\"]`, `[\"timestamp:month\"]`. Columns that a stream lacks make no folder, and one that no stream has gets a warning. More partitions at once than fit into memory (at defaults about 1,500 of 52 columns) cost more, smaller files.",
    )
    .or(&["partition_cols"])
    .default("[]"),
    row(
        "add_record_metadata",
        "Add _sdc_ columns",
        Form::Flag,
        "Add the seven `_sdc_` columns of the Singer SDK; without it incoming `_sdc_` columns are left out.",
    )
    .or(&["add_metadata_columns"])
    .default("false"),
    row(
        "on_misfit",
        "Values that do not fit",
        choice(&["refuse", "null", "keep"]),
        "What becomes of a value that its column cannot hold: `refuse` ends the run (exit 7), `null` writes null, `keep` writes null and the value as JSON text into a column `<name>__misfit`. Counted by stream and column. Key properties are always refused. In YAML `null` needs quotes.",
    )
    .default("refuse"),
    row(
        "scalar_unions",
        "Several scalar types",
        choice(&["text", "json"]),
        "A property that may be a string, a number or a boolean becomes a column of plain text (`Smith`, `15`), or of JSON text (`\"Smith\"`, `15`).",
    )
    .default("text"),
    row(
        "lone_surrogates",
        "Halves of surrogate pairs",
        choice(&["replace", "keep"]),
        "Halves of surrogate pairs in JSON text become U+FFFD, counted, because one of them makes JSON functions refuse a whole table; `keep` leaves them. In columns of strings they always become U+FFFD.",
    )
    .default("replace"),
    row(
        "json_logical_type",
        "Declare JSON text as JSON",
        Form::Flag,
        "Declare JSON text as JSON; with `lone_surrogates: keep` DuckDB refuses a column that holds half a surrogate pair anywhere.",
    )
    .default("false"),
];
