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
//! An event is never a [`serde_json::Value`] on this path. Two loops own everything: [`tap::sync`] and
//! [`target::load`]. Both pull; there is no async code of ours.
//!
//! # Floors
//! A floor imports only lower floors. `singer` and `posthog` do not know each other, nor do `tap` and `target`. The
//! network is used in `posthog/client.rs` only, `arrow` and `parquet` under `target/` only, and standard output is written
//! by [`singer::message::Output`] only. `tests/it/floors.rs` holds these rules.
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`error`], [`json`], [`log`], [`metrics`], [`fingerprint`], [`dotenv`], [`retry`], [`stop`] |
//! | 1 | [`singer`] (the wire format), [`posthog`] (the service) |
//! | 2 | [`tap`], [`target`] |
//! | 3 | `src/bin/`: parse, run, exit code |

#![forbid(unsafe_code)]

mod error;
mod fingerprint;
mod json;
mod log;
mod metrics;
mod posthog;
mod program;
pub mod settings;
mod singer;
mod stop;
mod tap;
mod target;

pub use tap::cli::main as tap_posthog;
pub use target::cli::main as target_parquet;

/// What the bench of the record path measures, and nobody else may use.
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench {
    pub use crate::posthog::query::hogql::{Cursor, Interval, Key};
    pub use crate::posthog::query::page::Page;
    pub use crate::posthog::time::Day;
    pub use crate::tap::events::verify::Check;
    pub use crate::tap::record::projection::Projection;
}
