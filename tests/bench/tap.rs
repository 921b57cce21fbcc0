//! The tap's own work per record, without a network: gunzip, scan, check, project, write. `cargo bench --bench tap --features bench` makes
//! its data and prints, for nested and flattened output, microseconds of CPU and allocations per record.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};
use tap_posthog::bench::{Check, Day, Interval, Key, Page, Projection};

const ROWS: usize = 10_000;
const RUNS: usize = 15;

fn main() {
    let properties = property_names();
    println!("{:34} {:>9} {:>9} {:>8} {:>10}", "", "us/record", "krec/s", "MB/s", "allocs/rec");
    for flatten in [false, true] {
        let fields = fields(flatten, &properties);
        let mut projection = Projection::of_events(&fields, true, false);
        let body = body(&projection, &properties);
        let packed = pack(&body);
        let interval = Interval { from: Key::day_start(Day::FIRST), to: None };
        let label = if flatten { "flattened" } else { "nested" };
        let names: Vec<String> = projection.columns().iter().map(|column| column.name.clone()).collect();
        // As a fetch thread does it: decoded and checked while it arrives, into the buffer of the last page.
        let read = |source: &mut dyn Read, buffer: Vec<u8>| {
            let mut check = Check::new(&interval, true, u32::MAX);
            let page = Page::read(source, buffer, &names, |row| check.row(row)).unwrap();
            assert_eq!(check.end().unwrap().len(), ROWS);
            page
        };
        let mut buffer = Some(Vec::new());
        report(&format!("{label}: scan"), body.len(), || {
            let page = Page::read(&body[..], buffer.take().unwrap(), &names, |_| Ok(())).unwrap();
            assert_eq!(page.len(), ROWS);
            buffer = Some(page.into_buffer());
        });
        report(&format!("{label}: scan and check"), body.len(), || {
            buffer = Some(read(&mut &body[..], buffer.take().unwrap()).into_buffer());
        });
        let page = Page::parse(&body, &names).unwrap();
        let mut out: Vec<u8> = Vec::with_capacity(64 << 20);
        report(&format!("{label}: project and write"), body.len(), || {
            write(&mut projection, &page, &mut out);
        });
        report(&format!("{label}: all, plain body"), body.len(), || {
            let page = read(&mut &body[..], buffer.take().unwrap());
            write(&mut projection, &page, &mut out);
            buffer = Some(page.into_buffer());
        });
        report(&format!("{label}: all, gzip body"), body.len(), || {
            let page = read(&mut flate2::bufread::GzDecoder::new(&packed[..]), buffer.take().unwrap());
            write(&mut projection, &page, &mut out);
            buffer = Some(page.into_buffer());
        });
        // For comparison, on whatever machine this is: the usual way without a tree, rows of raw values with their text unescaped.
        report(&format!("{label}: serde_json, raw rows"), body.len(), || {
            out.clear();
            let answer: RawAnswer<'_> = serde_json::from_slice(&body).unwrap();
            for cell in answer.results.iter().flatten() {
                match cell.get().as_bytes()[0] {
                    b'"' => out.extend_from_slice(serde_json::from_str::<String>(cell.get()).unwrap().as_bytes()),
                    _ => out.extend_from_slice(cell.get().as_bytes()),
                }
            }
        });
    }
}

#[derive(serde::Deserialize)]
struct RawAnswer<'a> {
    #[serde(borrow)]
    results: Vec<Vec<&'a serde_json::value::RawValue>>,
}

/// As the printing half does it: a line after another into a buffer that is handed on when it is full.
fn write(projection: &mut Projection, page: &Page, out: &mut Vec<u8>) {
    for row in page.rows() {
        if out.len() >= 64 * 1024 {
            out.clear();
        }
        projection.write(&row, out);
        out.push(b'\n');
    }
}

/// The median of several runs.
fn report(label: &str, bytes: usize, mut run: impl FnMut()) {
    let mut seconds = Vec::new();
    let mut allocations = 0;
    for _ in 0..RUNS {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let started = cpu();
        run();
        seconds.push((cpu() - started).as_secs_f64());
        allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[RUNS / 2];
    let rows = ROWS as f64;
    println!(
        "{label:34} {:9.2} {:9.0} {:8.0} {:10.3}",
        median / rows * 1e6,
        rows / median / 1e3,
        bytes as f64 / median / 1e6,
        allocations as f64 / rows
    );
}

/// CPU time of this thread: other programs on the machine do not count.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

/// Names of properties and a value of each, as a web project has them.
fn property_names() -> Vec<(String, Value)> {
    let texts = [
        "$os",
        "$browser",
        "$device_type",
        "$current_url",
        "$host",
        "$pathname",
        "title",
        "$lib",
        "$lib_version",
        "$insert_id",
        "$device_id",
        "$session_id",
        "$window_id",
        "$raw_user_agent",
        "$referrer",
        "$referring_domain",
        "$timezone",
        "$geoip_city_name",
        "$geoip_country_code",
        "$geoip_continent_name",
        "utm_source",
        "utm_campaign",
    ];
    let numbers = [
        "$browser_version",
        "$screen_height",
        "$screen_width",
        "$viewport_height",
        "$viewport_width",
        "$time",
        "$timezone_offset",
        "$geoip_latitude",
        "$geoip_longitude",
    ];
    let mut all: Vec<(String, Value)> = Vec::new();
    for (i, name) in texts.iter().enumerate() {
        let value = match i % 4 {
            0 => json!("Mac OS X"),
            1 => json!(format!("https://app.example.com/projects/{i}/insights?date_from=-7d&interval=day")),
            2 => json!(format!("0190b0c5-0000-7000-8000-{i:012}")),
            _ => json!("Pricing \"Plans\" | Acmé\n"),
        };
        all.push(((*name).to_owned(), value));
    }
    all.extend(numbers.iter().enumerate().map(|(i, name)| ((*name).to_owned(), json!(i as f64 * 117.25))));
    all.extend(["$is_identified", "$process_person_profile"].map(|name| (name.to_owned(), json!(true))));
    all.push(("$active_feature_flags".to_owned(), json!(["new-checkout", "beta-ui"])));
    all
}

fn fields(flatten: bool, properties: &[(String, Value)]) -> Map<String, Value> {
    let mut fields = Map::new();
    for name in ["uuid", "event", "distinct_id", "timestamp", "created_at", "person_id"] {
        fields.insert(name.to_owned(), json!({"type": ["null", "string"]}));
    }
    if !flatten {
        fields.insert("properties".to_owned(), json!({"type": ["null", "object"]}));
        fields.insert("person_properties".to_owned(), json!({"type": ["null", "object"]}));
        return fields;
    }
    for (name, value) in properties {
        let kind = if value.is_number() {
            "number"
        } else if value.is_boolean() {
            "boolean"
        } else {
            "string"
        };
        fields.insert(format!("properties_{name}"), json!({"type": ["null", kind]}));
    }
    for name in ["email", "name", "plan", "age"] {
        let kind = if name == "age" { "number" } else { "string" };
        fields.insert(format!("person_properties_{name}"), json!({"type": ["null", kind]}));
    }
    for name in ["unmapped_properties", "unmapped_person_properties"] {
        fields.insert(name.to_owned(), json!({"type": ["null", "object"]}));
    }
    fields
}

/// A body as PostHog sends it: rows of arrays, properties as JSON inside a string.
fn body(projection: &Projection, properties: &[(String, Value)]) -> Vec<u8> {
    let names: Vec<&str> = projection.columns().iter().map(|column| column.name.as_str()).collect();
    let person = json!({"email": "someone@example.com", "name": "Zoë O'Neil", "plan": "pro", "age": 42}).to_string();
    let rows: Vec<Value> = (0..ROWS)
        .map(|i| {
            let mut document = Map::new();
            for (at, (name, value)) in properties.iter().enumerate() {
                if (i * 7 + at * 3) % 11 != 0 {
                    document.insert(name.clone(), value.clone());
                }
            }
            let document = Value::Object(document).to_string();
            let cell = |name: &&str| -> Value {
                match *name {
                    "uuid" | "person_id" => format!("0190b0c5-{:04x}-7000-8000-{i:012x}", i % 65_536).into(),
                    "event" => "$pageview".into(),
                    "distinct_id" => format!("user_{i}@example.com").into(),
                    "timestamp" | "created_at" => {
                        format!("2026-08-01T{:02}:{:02}:{:02}.{:06}Z", i / 3600 % 24, i / 60 % 60, i % 60, i).into()
                    }
                    "key_hash" => (i as u64 * 1_000_000_007).into(),
                    "properties" => document.as_str().into(),
                    "person_properties" => person.as_str().into(),
                    _ => Value::Null,
                }
            };
            names.iter().map(cell).collect()
        })
        .collect();
    json!({"columns": names, "error": null, "is_cached": false, "results": rows, "types": []}).to_string().into_bytes()
}

fn pack(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(4));
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[allow(unsafe_code, reason = "counting allocations needs an allocator; the programs themselves forbid unsafe code")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}
