//! The command line: what was typed, and which of the tap's jobs it asks for. Flags are those of Singer SDK taps; the short
//! forms are those of singer-python, which scripts in the wild use.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::http::client::Client;
use crate::program;
use crate::settings::about::Format;
use crate::singer::catalog::Catalog;
use crate::singer::output::Output;
use crate::singer::state::State;
use crate::stop::Stop;
use crate::time::{Micros, SECOND_US};

use super::command::about;
use super::command::doctor;
use super::command::plan;
use super::command::test::trial;
use super::config::{self, Config};
use super::context::Context;
use super::discover;
use super::sink;
use super::sync::sync;

/// Reads a PostHog project and writes Singer messages to standard output.
#[derive(Debug, Parser)]
#[command(name = "tap-posthog", version, disable_help_subcommand = true)]
struct Arguments {
    /// Settings file (JSON or YAML); given twice, later files override earlier ones; ENV reads `TAP_POSTHOG_*` too
    #[arg(short, long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// State of an earlier run
    #[arg(short, long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Catalog that selects streams and fields
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// The old name of --catalog
    #[arg(short, long, value_name = "FILE", conflicts_with = "catalog", hide = true)]
    properties: Option<PathBuf>,
    /// Print the catalog of the project and exit
    #[arg(short, long)]
    discover: bool,
    /// Print what a run would do, without reading events, and exit
    #[arg(long)]
    plan: bool,
    /// Connect and write at most one record of each stream (`schema`: none), and exit
    #[arg(long, value_name = "WHAT", num_args = 0..=1, default_missing_value = "all")]
    test: Option<String>,
    /// Print one JSON object that says whether a run can work, and what to do if not
    #[arg(long)]
    doctor: bool,
    /// How long --doctor may take
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    doctor_timeout: f64,
    /// Print settings and capabilities; needs no settings
    #[arg(long)]
    about: bool,
    /// The form of --about
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Format::Text)]
    format: Format,
    /// End cleanly after so many seconds (exit code 75); the next run continues
    #[arg(long, value_name = "SECONDS")]
    max_runtime: Option<u64>,
}

/// How long the process still runs after a signal: it may hang in a write that nobody takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The program `tap-posthog`.
#[must_use]
pub fn main() -> ExitCode {
    program::main("tap-posthog", |arguments: Arguments| run(&arguments))
}

/// Does what the arguments ask for.
fn run(arguments: &Arguments) -> Result<()> {
    let now = chrono::Utc::now().timestamp_micros();
    let stop = Stop::new();
    // A doctor saves nothing: it has nothing to end in good order.
    stop.watch_signals(if arguments.doctor { Duration::ZERO } else { PATIENCE })?;
    if let Some(seconds) = arguments.max_runtime {
        stop.set_time_limit(Duration::from_secs(seconds));
    }
    let mut output = Output::new(std::io::stdout());
    if arguments.about {
        return output.text(&about::about(arguments.format));
    }
    if arguments.doctor {
        return examine(arguments, now, &mut output);
    }
    let config = load(arguments, now)?;
    let client = Client::new(config.connection.clone())?.ended_by(&stop);
    if arguments.discover {
        let catalog = discover::discover(&client, &config, now)?.to_value();
        return output.text(&pretty(&catalog)?);
    }
    // Files are read before the first request: a broken one costs nothing.
    let state = arguments.state.as_deref().map_or_else(|| Ok(State::default()), State::read)?;
    sink::resume_requests(&state, &client, now / SECOND_US);
    let catalog = arguments.catalog.as_deref().or(arguments.properties.as_deref()).map(Catalog::read).transpose()?;
    if arguments.plan {
        return output.text(&plan::plan(&client, &config, catalog.as_ref(), &state)?);
    }
    let streams = match discover::streams_of_run(&client, &config, catalog.as_ref(), now) {
        Ok(streams) => streams,
        // Nothing was read, and the next run starts where this one did.
        Err(error) if arguments.test.is_none() && error.kind() != Kind::Config => {
            output.state(&state.to_value())?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    if streams.is_empty() {
        log::warn("no stream is selected");
    }
    let context = Context { client: &client, config: &config, stop: &stop, now };
    match arguments.test.as_deref() {
        Some(what) => trial(&context, &streams, what == "schema"),
        None => sync(&context, &streams, state, &mut output),
    }
}

fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::new(Kind::Internal, e.to_string()))
}

/// The report goes to standard output whatever it says; what is wrong is also what the process ends with.
fn examine<W: Write>(arguments: &Arguments, now: Micros, output: &mut Output<W>) -> Result<()> {
    let timeout = Duration::try_from_secs_f64(arguments.doctor_timeout)
        .map_err(|_| Error::new(Kind::Usage, "--doctor-timeout: give a number of seconds"))?;
    let (report, exit_code) = doctor::run(load(arguments, now), timeout, now);
    // A key may stand in the address, too.
    output.text(&log::without_secrets(&pretty(&report)?))?;
    let message = report["message"].as_str().unwrap_or_default();
    match exit_code {
        0 => Ok(()),
        3 => Err(Error::new(Kind::Config, message)),
        _ => Err(Error::new(Kind::Service, message)),
    }
}

fn load(arguments: &Arguments, now: Micros) -> Result<Config> {
    if arguments.config.is_empty() {
        return Err(Error::new(
            Kind::Usage,
            "no settings: give --config FILE, or --config=ENV with TAP_POSTHOG_* variables",
        ));
    }
    config::load(&arguments.config, now)
}
