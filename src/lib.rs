//! Two programs, one crate: `tap-posthog` reads a PostHog project out as Singer messages, `target-parquet` turns any
//! Singer stream into Parquet files.
//!
//! ```text
//! tap-posthog                                                        target-parquet
//!  plan: counts per key range -> slices, in key order
//!  fetch threads (<= 2 in flight), one slice each, page by page
//!  body bytes --(1) scanned once--> Page { one buffer, cell offsets }
//!    | queue in key order, bounded
//!  row view --(2) dedupe, project, write RECORD line--> stdout | stdin --(3) borrow the line: envelope, then record
//!                                                             --(4) cells go straight into column builders
//!                                                             --(5) row group -> Parquet encoder -> staged file
//!                                                             --(6) at a STATE: commit (fsync, log, rename), print STATE
//! ```
//!
//! An event is never a [`serde_json::Value`] on this path. Two loops own everything: `tap/sync.rs` and
//! `target/load.rs`. Both pull; there is no async code of ours.
//!
//! # The rooms
//! A room imports only rooms below it; `tests/it/floors.rs` holds the rules.
//!
//! | floor | rooms |
//! |---|---|
//! | 3 | `src/bin/`: the two programs |
//! | 2 | [`tap`] reads a project out, [`target`] writes files; neither knows the other |
//! | 1 | [`posthog`] (the service: [`posthog::http`], [`posthog::pace`], [`posthog::query`]) and [`singer`] (the wire format) |
//! | 0 | [`settings`], [`json`] (text without a tree), [`program`] (start and exit code), [`error`], [`log`], [`metrics`], [`stop`], [`clock`], [`fingerprint`], [`time`] |
//!
//! The network is used in `posthog/http` only, `arrow` and `parquet` under `target` only, and standard output is written by
//! [`singer::output::Output`] only.

#![allow(rustdoc::private_intra_doc_links, reason = "the documentation is for those who work on this crate")]
#![forbid(unsafe_code)]

#[cfg(not(unix))]
compile_error!(
    "tap-posthog and target-parquet run on Linux and macOS. On Windows build them inside WSL (the Windows Subsystem for \
     Linux): the target needs folders that stay open while names in them change, and the sync of a folder."
);

mod clock;
mod error;
mod fingerprint;
mod json;
mod log;
mod metrics;
mod posthog;
mod program;
mod settings;
mod singer;
mod stop;
mod tap;
mod target;
mod time;

pub use tap::cli::main as tap_posthog;
pub use target::cli::main as target_parquet;

/// What the bench of the record path measures, and nobody else may use.
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench {
    pub use crate::posthog::query::interval::{Interval, Key};
    pub use crate::posthog::query::page::Page;
    pub use crate::tap::events::verify::Check;
    pub use crate::tap::record::projection::Projection;
    pub use crate::time::Day;
}
