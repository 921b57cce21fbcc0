//! What every stream of a run shares.

use crate::posthog::http::client::Client;
use crate::stop::Stop;
use crate::time::Micros;

use super::config::Config;
use super::record::exceptions::Exceptions;

/// What every stream of a run works with.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The service.
    pub client: &'a Client,
    /// The settings.
    pub config: &'a Config,
    /// Ends the run early.
    pub stop: &'a Stop,
    /// When the run started.
    pub now: Micros,
}

/// What was done for a stream.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Rows written.
    pub rows: u64,
    /// Slices whose count was proved.
    pub proved: u64,
    /// Slices read.
    pub slices: u64,
    /// What the rows do not hold as it came.
    pub exceptions: Exceptions,
}
