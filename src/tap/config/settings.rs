//! The settings of the tap. What their values mean is the business of the room's other file.

use crate::settings::form::{Form, choice, whole};
use crate::settings::{Setting, Table, row};

/// What the tap is set up with.
pub const TABLE: &Table = &Table {
    program: "tap-posthog",
    description: "A Singer tap for PostHog: events, persons and everything else that a project holds",
    capabilities: &[
        "about",
        "activate-version",
        "catalog",
        "discover",
        "properties",
        "schema-flattening",
        "state",
        "structured-logging",
        "test",
    ],
    rows: ROWS,
    // The component that we re-create was configured with its connection inside this object.
    nested: Some("resolved_connection"),
    secrets_begin_with: Some("phx_"),
};

const ROWS: &[Setting] = &[
    row("api_key", "Personal API key", Form::Text, "Personal API key (`phx_...`); needs the scope `query:read`.")
        .or(&["personal_api_key"])
        .required()
        .secret(),
    row(
        "project_id",
        "Project ID",
        whole(1, i64::MAX as u64),
        "The project's number (PostHog, Settings, Project ID).",
    )
    .expected(
        "the project's number, 1 or more (PostHog, Settings, Project ID; `@current` is not a project, it follows the person \
         who uses the web app)",
    )
    .required(),
    row("region", "Region", choice(&["us", "eu", "self_hosted"]), "Where the project lives.").default("us"),
    row("custom_base_url", "Address", Form::Text, "Address of a self-hosted PostHog, sub-path included.").or(&[
        "base_url",
        "api_url",
        "host",
        "api_host",
        "posthog_host",
        "url",
    ]),
    row(
        "initial_since",
        "Start",
        Form::Instant,
        "Oldest `timestamp` to read; 30 days before the first run when not given.",
    )
    .or(&["start_date"]),
    row("until", "End", Form::Instant, "Read only events with a `timestamp` before this.").or(&["end_date"]),
    row("event_types", "Event names", Form::Names, "Read only events of these names; all when not given."),
    row("data_type", "Stream", Form::Text, "Without a catalog: read only this stream."),
    row(
        "streams",
        "Streams",
        Form::Names,
        "Without a catalog: read these streams; `*` reads all that the key may read.",
    ),
    row(
        "lookback_window_minutes",
        "Lookback (minutes)",
        whole(0, 43_200),
        "Arrival time that the next run reads again.",
    )
    .default("15"),
    row(
        "late_arrival_days",
        "Late arrival (days)",
        whole(0, 36_500),
        "How old, by its own `timestamp`, an event that arrives late may be; 0: any age.",
    )
    .default("7"),
    row(
        "horizon_lag_seconds",
        "Horizon lag (seconds)",
        whole(0, 86_400),
        "Leave the newest seconds of arrivals to the next run.",
    )
    .default("0"),
    row(
        "page_size",
        "Page size (rows)",
        whole(1, 50_000),
        "Most rows of one answer; adapts itself when not given or `auto`.",
    )
    .or_auto(),
    row(
        "max_response_mb",
        "Largest answer (MB)",
        whole(1, 1024),
        "A larger answer is cut off and asked for in smaller parts. With the default the tap stays at about 70 MB, also for a single event of that size.",
    )
    .default("48"),
    row(
        "deduplication_enabled",
        "Leave out repeats",
        Form::Flag,
        "Leave out what an earlier run or page has delivered.",
    )
    .default("true"),
    row("flatten_properties", "Properties as columns", Form::Flag, "One column per property instead of one object.")
        .default("true"),
    row(
        "max_property_columns",
        "Most property columns",
        // Of both and with the fixed ones: no more than target-parquet takes.
        whole(0, 4_900),
        "Most columns of properties, of events and again of persons.",
    )
    .default("1000"),
    row(
        "persons_column_prefix",
        "Prefix of persons' columns",
        choice(&["properties", "person_properties"]),
        "Columns of properties in `persons` are `properties_<name>`, or `person_properties_<name>` as those in `events`.",
    )
    .default("properties"),
    row(
        "lone_surrogates",
        "Halves of surrogate pairs",
        choice(&["replace", "keep"]),
        "Half of a surrogate pair in JSON (`\\ud83d` alone) becomes U+FFFD, or stays; many readers refuse a document that holds one.",
    )
    .default("replace"),
    row(
        "person_id_mode",
        "Person id",
        choice(&["event", "joined"]),
        "`person_id` as ingested, or corrected by merges at the cost of a join.",
    )
    .default("event"),
    row(
        "count_proof",
        "Count proof",
        choice(&["strict", "warn", "off"]),
        "What happens when the rows of a slice, or the items of a list, are not as many as the server counts.",
    )
    .default("strict"),
    row(
        "max_state_bytes",
        "Largest list of events in the state (bytes)",
        whole(10_000, 100_000_000),
        "Most bytes that the state uses to name the events of the overlap, which the next run leaves out (8 to 10 bytes each when that is full).",
    )
    .default("2000000"),
    row("requests_per_minute", "Queries per minute", whole(1, 100_000), "Most queries in any minute.").default("240"),
    row("requests_per_hour", "Queries per hour", whole(1, 1_000_000), "Most queries in any hour.").default("2400"),
    row(
        "budget",
        "At the end of the byte budget",
        choice(&["wait", "stop"]),
        "When the project's hourly byte budget is nearly used up: wait for it, or stop with exit code 75.",
    )
    .default("wait"),
    row(
        "max_wait_minutes",
        "Longest wait (minutes)",
        whole(0, 1440),
        "The longest wait that PostHog or its byte budget may ask for; a longer one stops the run with exit code 75.",
    )
    .default("60"),
    row(
        "request_timeout",
        "Request timeout (seconds)",
        whole(1, 3600),
        "Seconds without a byte before a request is given up.",
    )
    .default("100"),
    row(
        "ca_file",
        "File of certificate authorities",
        Form::Text,
        "PEM file of certificate authorities to trust besides the system's.",
    ),
    row("proxy", "Proxy", Form::Text, "Proxy address; the environment's proxies are not used.").secret(),
    row(
        "allow_insecure_http",
        "Allow http://",
        Form::Flag,
        "Send the key over `http://` to other machines.",
    )
    .default("false"),
    row("user_agent", "User agent", Form::Text, "How requests name us.")
        .default(concat!("tap-posthog/", env!("CARGO_PKG_VERSION"))),
];
