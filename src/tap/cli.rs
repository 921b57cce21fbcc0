//! The command line: its flags, and the job that they name. The flags are those of Singer SDK taps. The short forms are those
//! of singer-python, which many scripts use.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Parser};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::log;
use crate::posthog::http::client::Client;
use crate::program::{self, Words};
use crate::settings::about::Format;
use crate::singer::catalog::{Catalog, SelectedStream};
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
use super::discover::{self, Choice};
use super::sink;
use super::sync::check::check;
use super::sync::sync;

/// Reads a PostHog project and writes Singer messages to standard output.
#[derive(Debug, Parser)]
#[command(name = "tap-posthog", version, disable_help_subcommand = true)]
#[command(group = ArgGroup::new("job"))]
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
    #[arg(short, long, group = "job")]
    discover: bool,
    /// Print what a run would do, without reading events, and exit
    #[arg(long, group = "job")]
    plan: bool,
    /// Connect and write at most one record of each stream (`schema`: none), and exit
    #[arg(long, value_name = "WHAT", num_args = 0..=1, default_missing_value = "all", group = "job")]
    test: Option<String>,
    /// Print one JSON object that says whether a run can work, and what to do if not
    #[arg(long, group = "job")]
    doctor: bool,
    /// How long --doctor may take
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, requires = "doctor")]
    doctor_timeout: f64,
    /// Print settings and capabilities; needs no settings
    #[arg(long, group = "job")]
    about: bool,
    /// The form of --about
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Format::Text, requires = "about")]
    format: Format,
    /// End cleanly after so many seconds (exit code 75); the next run continues
    #[arg(long, value_name = "SECONDS")]
    max_runtime: Option<u64>,
    #[command(flatten)]
    words: Words,
}

/// How long the process still runs after a signal: it may hang in a write that nobody takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The program `tap-posthog`.
pub fn main() -> ExitCode {
    program::main("tap-posthog", |arguments: Arguments| run(&arguments))
}

/// What the tap is asked to do.
enum Mode {
    /// Print settings and capabilities.
    About(Format),
    /// Say whether a run can work, within this time.
    Doctor(Duration),
    /// Print the catalog of the project.
    Discover,
    /// Print what a run would cost.
    Plan,
    /// Write one record of each stream, or only the schemas.
    Test { schema_only: bool },
    /// Read what is new.
    Sync,
}

impl Arguments {
    /// The mode that the flags ask for.
    fn mode(&self) -> Result<Mode> {
        Ok(match self {
            _ if self.about => Mode::About(self.format),
            _ if self.doctor => Mode::Doctor(
                Duration::try_from_secs_f64(self.doctor_timeout)
                    .map_err(|_| Error::new(Kind::Usage, "--doctor-timeout: give a number of seconds"))?,
            ),
            _ if self.discover => Mode::Discover,
            _ if self.plan => Mode::Plan,
            Arguments { test: Some(what), .. } => Mode::Test { schema_only: what == "schema" },
            _ => Mode::Sync,
        })
    }
}

/// Does the job that the arguments name.
fn run(arguments: &Arguments) -> Result<()> {
    arguments.words.set();
    let (mode, stop) = (arguments.mode()?, Stop::new());
    // A doctor saves nothing: it has nothing to end in good order.
    stop.watch_signals(if matches!(mode, Mode::Doctor(_)) { Duration::ZERO } else { PATIENCE })?;
    if let Some(seconds) = arguments.max_runtime {
        stop.set_time_limit(Duration::from_secs(seconds));
    }
    let now = chrono::Utc::now().timestamp_micros();
    let mut output = Output::new(std::io::stdout());
    match mode {
        Mode::About(format) => output.text(&about::about(format)),
        Mode::Doctor(timeout) => examine(load(arguments, now), timeout, now, &mut output),
        Mode::Discover => {
            let Project { config, client, .. } = Project::open(arguments, &stop, now)?;
            output.text(&pretty(&discover::discover(&client, &config, now)?.to_value())?)
        }
        Mode::Plan => {
            let project = Project::open(arguments, &stop, now)?;
            let (state, choice) = project.given(arguments)?;
            output.text(&plan::plan(&project.client, &project.config, choice.as_ref(), &state)?)
        }
        Mode::Test { schema_only } => {
            let mut project = Project::open(arguments, &stop, now)?;
            let (_, choice) = project.given(arguments)?;
            let streams = project.streams(choice)?;
            trial(&project.context(), &streams, schema_only)
        }
        Mode::Sync => {
            let project = Project::open(arguments, &stop, now)?;
            let (state, choice) = project.given(arguments)?;
            project.sync(state, choice, &mut output)
        }
    }
}

/// The project that the settings name.
struct Project<'a> {
    config: Config,
    client: Client,
    stop: &'a Stop,
    now: Micros,
}

impl<'a> Project<'a> {
    fn open(arguments: &Arguments, stop: &'a Stop, now: Micros) -> Result<Project<'a>> {
        let config = load(arguments, now)?;
        let client = Client::new(config.connection.clone())?.ended_by(stop);
        Ok(Project { config, client, stop, now })
    }

    /// The state and the choice of the catalog. Both are read and checked before the first request: a broken file costs
    /// nothing.
    fn given(&self, arguments: &Arguments) -> Result<(State, Option<Choice>)> {
        let state = arguments.state.as_deref().map_or_else(|| Ok(State::default()), State::read)?;
        sink::resume_requests(&state, &self.client, self.now / SECOND_US);
        let catalog =
            arguments.catalog.as_deref().or(arguments.properties.as_deref()).map(Catalog::read).transpose()?;
        let choice = catalog.map(Choice::of).transpose()?;
        check(&self.context(), &state, &discover::wanted(&self.config, choice.as_ref())?)?;
        Ok((state, choice))
    }

    /// The streams of a run. From now on events are asked as this PostHog was found to have them.
    fn streams(&mut self, choice: Option<Choice>) -> Result<Vec<SelectedStream>> {
        let found = discover::streams_of_run(&self.client, &self.config, choice, self.now)?;
        self.config.events.person_ids = found.person_ids;
        let streams = found.streams;
        if streams.is_empty() {
            log::warn("no stream is selected");
        }
        Ok(streams)
    }

    fn context(&self) -> Context<'_> {
        Context { client: &self.client, config: &self.config, stop: self.stop, now: self.now }
    }

    fn sync<W: Write>(mut self, state: State, choice: Option<Choice>, output: &mut Output<W>) -> Result<()> {
        match self.streams(choice) {
            Ok(streams) => sync(&self.context(), &streams, state, output),
            // Nothing was read, and the next run starts where this one did.
            Err(error) if error.kind() != Kind::Config => {
                output.state(&state.to_value())?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::new(Kind::Internal, e.to_string()))
}

/// Prints the report in every case. If it tells of trouble, the process ends with that.
fn examine<W: Write>(config: Result<Config>, timeout: Duration, now: Micros, output: &mut Output<W>) -> Result<()> {
    let (report, exit_code) = doctor::run(config, timeout, now);
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
