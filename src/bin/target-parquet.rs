//! `target-parquet`: turns a Singer stream into Parquet files.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    tap_posthog::target_parquet()
}
