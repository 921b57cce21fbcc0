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
use crate::singer::output::{Output, is_terminal};
use crate::singer::state::State;
use crate::stop::Stop;
use crate::time::{Micros, SECOND_US};

use super::command::about;
use super::command::doctor;
use super::command::init;
use super::command::plan;
use super::command::test::{trial, try_in_words};
use super::config::{self, Config, Streams};
use super::context::Context;
use super::discover::{self, Choice};
use super::sink;
use super::sync::check::check;
use super::sync::sync;

/// Reads a PostHog project and writes Singer messages to standard output.
#[derive(Debug, Parser)]
#[command(name = "tap-posthog", version, disable_help_subcommand = true, after_help = MORE_HELP)]
#[command(group = ArgGroup::new("job"))]
struct Arguments {
    /// Settings file (JSON or YAML); given twice, later files override earlier ones; ENV reads `TAP_POSTHOG_*` too
    #[arg(short, long, value_name = "FILE", help_heading = INPUTS)]
    config: Vec<PathBuf>,
    /// State of an earlier run
    #[arg(short, long, value_name = "FILE", help_heading = INPUTS)]
    state: Option<PathBuf>,
    /// Catalog that selects streams and fields
    #[arg(long, value_name = "FILE", help_heading = INPUTS)]
    catalog: Option<PathBuf>,
    /// The old name of --catalog
    #[arg(short, long, value_name = "FILE", conflicts_with = "catalog", hide = true)]
    properties: Option<PathBuf>,
    /// Read these streams in this run, whatever settings and catalog choose
    #[arg(long, value_name = "STREAM,...", value_delimiter = ',', help_heading = INPUTS)]
    select: Vec<String>,
    /// End cleanly after so many seconds (exit code 75); the next run continues
    #[arg(long, value_name = "SECONDS", help_heading = INPUTS)]
    max_runtime: Option<u64>,
    /// Ask for the key on the terminal, find region and project, write the settings, and examine them
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "posthog.json", group = "job", help_heading = JOBS)]
    init: Option<PathBuf>,
    /// Say whether a run can work, and what to do if not
    #[arg(long, group = "job", help_heading = JOBS)]
    doctor: bool,
    /// How long --doctor may take
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, requires = "doctor", help_heading = JOBS)]
    doctor_timeout: f64,
    /// Say what a run would read and cost, without reading rows
    #[arg(long, group = "job", help_heading = JOBS)]
    plan: bool,
    /// Connect and read at most one record of each stream (`schema`: none)
    #[arg(long, value_name = "WHAT", num_args = 0..=1, default_missing_value = "all", group = "job", help_heading = JOBS)]
    test: Option<String>,
    /// Print the catalog of the project
    #[arg(short, long, group = "job", help_heading = JOBS)]
    discover: bool,
    /// Print settings and capabilities; needs no settings
    #[arg(long, group = "job", help_heading = JOBS)]
    about: bool,
    /// The form of --about, --doctor, --plan and --test; the last three speak in lines on a terminal, and in JSON elsewhere
    #[arg(long, value_enum, value_name = "FORM", requires = "job", help_heading = JOBS)]
    format: Option<Format>,
    #[command(flatten, next_help_heading = "Words")]
    words: Words,
}

const INPUTS: &str = "A run";
const JOBS: &str = "Instead of a run";
const MORE_HELP: &str = "\
Examples:
  tap-posthog --init
          writes posthog.json: asks for the key, finds the region and the project
  target-parquet run -- tap-posthog --config posthog.json
          reads what is new into Parquet files; as often as you like
  tap-posthog --config posthog.json --state state.json | some-singer-target > states.jsonl
          the pipe: keep the last line as the next state
  tap-posthog --config posthog.json --plan --select events,persons

Exit codes:
  0 done   2 command line   3 settings, key, state or catalog   4 PostHog refused or cannot be reached
  8 nobody reads standard output   9 rows are missing   75 stopped by a limit, the next run goes on
  128+n ended by signal n";

/// How long the process still runs after a signal: it may hang in a write that nobody takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the examination behind `--init` may take: a person waits.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// The program `tap-posthog`.
pub fn main() -> ExitCode {
    program::main("tap-posthog", |arguments: Arguments| run(&arguments))
}

/// What the tap is asked to do.
enum Mode {
    /// Print settings and capabilities.
    About(Format),
    /// Write settings.
    Init(PathBuf),
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
    /// Whether a report is for a person.
    fn speaks(&self) -> bool {
        self.format.map_or_else(is_terminal, |format| matches!(format, Format::Text))
    }

    /// The mode that the flags ask for.
    fn mode(&self) -> Result<Mode> {
        Ok(match self {
            _ if self.about => Mode::About(self.format.unwrap_or(Format::Text)),
            Arguments { init: Some(path), .. } => Mode::Init(path.clone()),
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
    // A conversation ends at once, as the terminal wants it.
    if let Mode::Init(path) = &mode {
        init::init(path)?;
    }
    // A doctor saves nothing: it has nothing to end in good order.
    stop.watch_signals(if matches!(mode, Mode::Doctor(_)) { Duration::ZERO } else { PATIENCE })?;
    if let Some(seconds) = arguments.max_runtime {
        stop.set_time_limit(Duration::from_secs(seconds));
    }
    let now = chrono::Utc::now().timestamp_micros();
    let mut output = Output::new(std::io::stdout());
    match mode {
        Mode::About(format) => output.text(&about::about(format)),
        Mode::Init(path) => {
            examine(config::load(std::slice::from_ref(&path), now), INIT_TIMEOUT, now, true, &mut output)?;
            init::say_what_is_next(&path)
        }
        Mode::Doctor(timeout) => examine(load(arguments, now), timeout, now, arguments.speaks(), &mut output),
        Mode::Discover => {
            let Project { config, client, .. } = Project::open(arguments, &stop, now)?;
            output.text(&pretty(&discover::discover(&client, &config, now)?.to_value())?)
        }
        Mode::Plan => {
            let project = Project::open(arguments, &stop, now)?;
            let (state, choice) = project.given(arguments)?;
            let plan = plan::plan(&project.client, &project.config, choice.as_ref(), &state)?;
            output.text(&if arguments.speaks() { plan.text() } else { pretty(&plan.to_value())? })
        }
        Mode::Test { schema_only } => {
            let mut project = Project::open(arguments, &stop, now)?;
            let (_, choice) = project.given(arguments)?;
            let streams = project.streams(choice)?;
            match arguments.speaks() {
                true => try_in_words(&project.context(), &streams, schema_only, &mut output),
                false => trial(&project.context(), &streams, schema_only),
            }
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
        let choice = catalog.map(|catalog| Choice::of(catalog, &arguments.select)).transpose()?;
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
fn examine<W: Write>(
    config: Result<Config>,
    timeout: Duration,
    now: Micros,
    speaks: bool,
    output: &mut Output<W>,
) -> Result<()> {
    let (report, exit_code) = doctor::run(config, timeout, now);
    let text = if speaks { doctor::words::lines(&report) } else { pretty(&report)? };
    // A key may stand in the address, too.
    output.text(&log::without_secrets(&text))?;
    let message = report["message"].as_str().unwrap_or_default();
    let message = if speaks { "a run would fail; the lines above say why" } else { message };
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
            "no settings: give --config FILE, or --config=ENV with TAP_POSTHOG_* variables; --init asks for them and writes \
             the file",
        ));
    }
    let mut config = config::load(&arguments.config, now)?;
    if !arguments.select.is_empty() {
        config.streams = Streams::Named { names: arguments.select.clone(), setting: "--select".to_owned() };
    }
    Ok(config)
}
