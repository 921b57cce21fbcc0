//! Measures the release binary on data of its own: records/s, MB/s, CPU per record, peak memory, size of the files.
//! `cargo bench --bench target [-- nested|flat|narrow] [records]`. Prints figures and judges none: they depend on the machine.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a program for developers that prints figures"
)]

use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

/// A small generator (xorshift): the same bytes on every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

const EVENTS: [&str; 5] = ["$pageview", "$autocapture", "$pageleave", "invoice_paid", "$feature_flag_called"];

fn schema(shape: &str) -> String {
    let text = r#"{"type":["null","string"]}"#;
    let mut properties = format!(
        r#""uuid":{text},"event":{text},"timestamp":{{"type":"string","format":"date-time"}},"distinct_id":{text}"#
    );
    match shape {
        "nested" => properties += r#","properties":{"type":["null","object"]}"#,
        "flat" => {
            for n in 0..40 {
                let kind = ["string", "integer", "number", "boolean"][n % 4];
                properties += &format!(r#","properties_$p{n}":{{"type":["null","{kind}"]}}"#);
            }
        }
        _ => properties += r#","n":{"type":["null","integer"]},"amount":{"type":["null","number"]}"#,
    }
    format!(
        r#"{{"type":"SCHEMA","stream":"events","schema":{{"properties":{{{properties}}}}},"key_properties":["uuid"],"bookmark_properties":["timestamp"]}}"#
    )
}

fn record(shape: &str, at: u64, random: &mut Random) -> String {
    let (user, event) = (random.next(5000), EVENTS[usize::try_from(random.next(5)).unwrap()]);
    let (a, b) = (random.next(u64::MAX), random.next(u64::MAX));
    let time = format!(
        "2026-03-{:02}T{:02}:{:02}:{:02}.{:06}Z",
        1 + at / 86_400 % 28,
        at / 3600 % 24,
        at / 60 % 60,
        at % 60,
        a % 1_000_000
    );
    let mut record = format!(
        r#""uuid":"{a:016x}{b:016x}","event":"{event}","timestamp":"{time}","distinct_id":"user_{user}@example.com""#
    );
    let value = |n: u64, random: &mut Random| match n % 4 {
        0 => format!("\"value {} of \\\"{n}\\\" – {}\"", random.next(50), user % 90),
        1 => random.next(100_000).to_string(),
        2 => format!("{}.{}", random.next(1000), random.next(100)),
        _ => (random.next(2) == 0).to_string(),
    };
    match shape {
        "nested" => {
            let members: Vec<String> = (0..35).map(|n| format!("\"$property_{n}\":{}", value(n, random))).collect();
            record += &format!(",\"properties\":{{{}}}", members.join(","));
        }
        "flat" => {
            for n in (0..40).filter(|n| n % 5 != a % 5) {
                record += &format!(",\"properties_$p{n}\":{}", value(n, random));
            }
        }
        _ => record += &format!(r#","n":{},"amount":{}.{:02}"#, at + 9_007_199_254_740_992, b % 10_000, a % 100),
    }
    format!(
        r#"{{"type":"RECORD","stream":"events","record":{{{record}}},"time_extracted":"2026-03-02T00:00:00.000000Z"}}"#
    )
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let records: u64 = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(300_000);
    for shape in ["nested", "flat", "narrow"] {
        if args.iter().any(|arg| arg.parse::<u64>().is_err()) && !args.iter().any(|arg| arg == shape) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("input.singer");
        let mut out = BufWriter::new(std::fs::File::create(&input).unwrap());
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        writeln!(out, "{}", schema(shape)).unwrap();
        for at in 0..records {
            writeln!(out, "{}", record(shape, at, &mut random)).unwrap();
            if at % 5000 == 4999 {
                writeln!(out, r#"{{"type":"STATE","value":{{"at":{at}}}}}"#).unwrap();
            }
        }
        out.into_inner().unwrap();
        measure(shape, records, dir.path());
    }
}

fn measure(shape: &str, records: u64, dir: &std::path::Path) {
    let (input, out, config) = (dir.join("input.singer"), dir.join("out"), dir.join("config.json"));
    std::fs::write(&config, format!(r#"{{"destination_path":{:?}}}"#, out.to_str().unwrap())).unwrap();
    let started = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_target-parquet"));
    command.arg("--config").arg(&config).stdin(std::fs::File::open(&input).unwrap());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // The kernel keeps the peak only while the process lives; after its end there is nothing to read.
    let (status, peak) = loop {
        let peak = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        if let Some(status) = child.try_wait().unwrap() {
            break (status, LAST_PEAK.load(std::sync::atomic::Ordering::Relaxed));
        }
        if let Some(kilobytes) = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            let kilobytes = kilobytes.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            LAST_PEAK.store(kilobytes, std::sync::atomic::Ordering::Relaxed);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    let wall = started.elapsed().as_secs_f64();
    assert!(status.success());
    let ended = cpu_of_children();
    let cpu = ended - CPU_BEFORE.swap_to(ended);
    let bytes = std::fs::metadata(&input).unwrap().len() as f64;
    let files: u64 = std::fs::read_dir(out.join("events")).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    let records = records as f64;
    println!(
        "{shape:7} {:8.0} records/s {:7.1} MB/s {:6.2} us CPU/record {:4} MB peak {:7.1} MB in {:6.1} MB of files",
        records / wall,
        bytes / wall / 1e6,
        cpu / records * 1e6,
        peak / 1024,
        bytes / 1e6,
        files as f64 / 1e6
    );
}

static LAST_PEAK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
static CPU_BEFORE: Before = Before(std::sync::Mutex::new(0.0));

/// CPU seconds of all ended children at the last measurement.
struct Before(std::sync::Mutex<f64>);

impl Before {
    fn swap_to(&self, now: f64) -> f64 {
        std::mem::replace(&mut *self.0.lock().unwrap(), now)
    }
}

/// User and system time of ended children, from the kernel's own account of this process.
fn cpu_of_children() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // cutime and cstime, in ticks of a hundredth of a second on every Linux.
    (fields[13].parse::<f64>().unwrap() + fields[14].parse::<f64>().unwrap()) / 100.0
}
