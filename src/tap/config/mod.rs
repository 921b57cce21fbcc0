//! What a run is configured to do, as domain values: everything is checked here, once, before the first request. Nothing
//! later sees a raw setting.

pub mod settings;

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::posthog::address::{self, BaseUrl};
use crate::posthog::http::client::{Names, Options};
use crate::posthog::http::retry::{OnBudget, RetryPolicy};
use crate::posthog::pace::rate::Rates;
use crate::posthog::secret::Secret;
use crate::settings::Values;
use crate::time::{DAY_US, SECOND_US};

/// How far back `initial_since` goes when it is not given.
/// The row `initial_since` in `settings.rs` says the same.
pub const DEFAULT_DAYS: i64 = 30;

/// The configuration of a run.
#[derive(Clone, Debug)]
pub struct Config {
    /// How to reach the project.
    pub connection: Options,
    /// How to read events.
    pub events: EventsConfig,
    /// Without a catalog: the streams to read.
    pub streams: Streams,
    /// Columns of properties, of events and persons.
    pub properties: Properties,
    /// Halves of surrogate pairs in JSON stay as they are.
    pub keeps_lone_surrogates: bool,
    /// Most bytes that a state uses to name the events of the overlap.
    pub max_state_bytes: usize,
}

/// Which streams are read where no catalog says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Those that are on by default.
    ByDefault,
    /// All that the key may read.
    All,
    /// These; each is needed.
    Named {
        /// Their names.
        names: Vec<String>,
        /// The setting that names them, as it was written.
        setting: String,
    },
}

/// How to read events. Instants are Unix microseconds.
#[derive(Clone, Debug)]
pub struct EventsConfig {
    /// The least `timestamp`.
    pub since: i64,
    /// True when `since` was chosen by us, so that a later run with another clock does not count as a changed filter.
    pub since_is_default: bool,
    /// `timestamp` is before this.
    pub until: Option<i64>,
    /// Only these names; empty: all.
    pub event_types: Vec<String>,
    /// Arrival time that the next run reads again.
    pub lookback_us: i64,
    /// How old by its own timestamp a late event may be; 0: any age.
    pub late_arrival_days: u32,
    /// The horizon is this long before the server's clock.
    pub horizon_lag_us: i64,
    /// Most rows of an answer; `None` adapts.
    pub page_size: Option<u32>,
    /// Most bytes of an answer's body.
    pub max_response_bytes: usize,
    /// Leave out what was delivered before.
    pub deduplicate: bool,
    /// Which `person_id` events carry.
    pub person_ids: PersonIds,
    /// What an unequal count means.
    pub count_proof: CountProof,
}

/// How properties become columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// One column per property instead of one object.
    pub flatten: bool,
    /// Most columns of properties.
    pub max_columns: usize,
    /// What stands before `_<name>` in the columns of `persons`.
    pub persons_prefix: String,
}

/// Which `person_id` an event carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersonIds {
    /// As ingested: no join, the same on replay.
    Event,
    /// Corrected by later merges, at the cost of a join.
    Joined,
}

/// What happens when the rows of a slice are not as many as the server counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountProof {
    /// The run ends with exit code 9, its state before the slice.
    Strict,
    /// A warning.
    Warn,
    /// Nothing is counted.
    Off,
}

/// Reads the configuration from files, and from the environment if one of them is `ENV`. `now_us` is the time of the run.
///
/// # Errors
/// [`Kind::Config`]: what is missing, unreadable or wrong, on one line, without secrets.
pub fn load(files: &[PathBuf], now_us: i64) -> Result<Config> {
    Config::from_settings(&crate::settings::load(settings::TABLE, files)?, now_us)
}

impl Config {
    /// The configuration that an object of settings makes, for tests.
    #[cfg(test)]
    pub(crate) fn of(settings: &serde_json::Value, now_us: i64) -> Result<Config> {
        let mut given = crate::settings::Given::new(settings::TABLE);
        given.overlay(
            settings.as_object().cloned().unwrap_or_default(),
            &crate::settings::Place::File("test".to_owned()),
        );
        Config::from_settings(&given.read()?, now_us)
    }

    /// Gives the settings their meaning.
    ///
    /// # Errors
    /// [`Kind::Config`] for what is missing or contradicts itself.
    pub fn from_settings(settings: &Values, now_us: i64) -> Result<Config> {
        Ok(Config {
            connection: connection(settings)?,
            events: events(settings, now_us)?,
            streams: streams(settings)?,
            properties: Properties {
                flatten: settings.flag("flatten_properties")?,
                max_columns: size(settings, "max_property_columns")?,
                persons_prefix: settings.word("persons_column_prefix")?.to_owned(),
            },
            keeps_lone_surrogates: settings.word("lone_surrogates")? == "keep",
            max_state_bytes: size(settings, "max_state_bytes")?,
        })
    }
}

/// The name of all streams in the setting `streams`.
const ALL: &str = "*";

fn streams(settings: &Values) -> Result<Streams> {
    let named =
        |names: Vec<String>, setting: &str| Streams::Named { names, setting: settings.name(setting).to_owned() };
    match (settings.text("data_type")?, settings.names_if_given("streams")?) {
        (Some(_), Some(_)) => {
            let other = settings.name("data_type");
            Err(settings.refuse("streams", format!("{other} names a stream, too; give one of both")))
        }
        (Some(name), None) => Ok(named(vec![name.to_owned()], "data_type")),
        (None, Some([])) => Err(settings.refuse("streams", "the list is empty; name a stream, or write * for all")),
        (None, Some(names)) if names.iter().any(|name| name == ALL) => Ok(Streams::All),
        (None, Some(names)) => Ok(named(names.to_vec(), "streams")),
        (None, None) => Ok(Streams::ByDefault),
    }
}

fn missing<T>(text: &str) -> Result<T> {
    Err(Error::new(Kind::Config, format!("setting {text}")))
}

fn connection(settings: &Values) -> Result<Options> {
    let Some(key) = settings.text("api_key")? else {
        return missing("api_key is missing; make a personal API key in PostHog, Settings, Personal API keys");
    };
    if key.starts_with("phc_") {
        return Err(settings.refuse(
            "api_key",
            "this is a project token (phc_), which can only send events; make a personal API key (phx_) in PostHog, Settings, \
             Personal API keys",
        ));
    }
    if key.len() < 8 || !key.bytes().all(|b| b.is_ascii_graphic()) {
        let why = "this is not a key; copy it again from PostHog, Settings, Personal API keys";
        return Err(settings.refuse("api_key", why));
    }
    let Some(project_id) = settings.whole_if_given("project_id")? else {
        return missing("project_id is missing; it is the number in PostHog, Settings, Project ID");
    };
    let base = base(settings)?;
    check_proxy(settings, &base)?;
    Ok(Options {
        base,
        project_id,
        key: Secret::new(key),
        ca_file: settings.text("ca_file")?.map(PathBuf::from),
        proxy: settings.text("proxy")?.map(Secret::new),
        user_agent: settings.word("user_agent")?.to_owned(),
        request_timeout: Duration::from_secs(settings.whole("request_timeout")?),
        query_rates: Rates {
            per_minute: at_least_one(settings.whole("requests_per_minute")?),
            per_hour: at_least_one(settings.whole("requests_per_hour")?),
        },
        max_list_bytes: size(settings, "max_response_mb")? * 1_000_000,
        retry_policy: RetryPolicy {
            max_wait: Duration::from_secs(settings.whole("max_wait_minutes")? * 60),
            on_budget: if settings.word("budget")? == "stop" { OnBudget::Stop } else { OnBudget::Wait },
            ..RetryPolicy::default()
        },
        names: Names {
            address: match settings.text("custom_base_url")? {
                Some(_) => settings.name("custom_base_url").to_owned(),
                None => "region or custom_base_url".to_owned(),
            },
            key: settings.name("api_key").to_owned(),
        },
    })
}

/// What goes to `http://` addresses is read by the proxy, and by whoever listens before it.
fn check_proxy(settings: &Values, base: &BaseUrl) -> Result<()> {
    let proxy = settings.text("proxy")?.and_then(|proxy| url::Url::parse(proxy).ok());
    match proxy.as_ref().and_then(url::Url::host_str) {
        Some(host)
            if base.is_clear_text() && !address::is_loopback(host) && !settings.flag("allow_insecure_http")? =>
        {
            let why = format!(
                "{host} is another machine and would get the key unencrypted, because {base} is not https://; remove proxy, or \
                 set allow_insecure_http to true where the network is trusted"
            );
            Err(settings.refuse("proxy", why))
        }
        _ => Ok(()),
    }
}

fn base(settings: &Values) -> Result<BaseUrl> {
    let allow_insecure_http = settings.flag("allow_insecure_http")?;
    let custom = settings.text("custom_base_url")?;
    let cloud = match settings.word("region")? {
        "eu" => Some(address::EU),
        "us" => Some(address::US),
        _ => None,
    };
    match (custom, cloud) {
        (Some(custom), _) => {
            let base =
                BaseUrl::parse(custom, allow_insecure_http).map_err(|e| settings.refuse("custom_base_url", e))?;
            if cloud == Some(address::EU) && base.to_string() != address::EU {
                let why = format!("{base} contradicts region eu; set region to self_hosted");
                return Err(settings.refuse("custom_base_url", why));
            }
            Ok(base)
        }
        (None, Some(cloud)) => BaseUrl::parse(cloud, false),
        (None, None) => missing("custom_base_url is missing; region self_hosted needs the address of that PostHog"),
    }
}

fn events(settings: &Values, now_us: i64) -> Result<EventsConfig> {
    let given = settings.instant("initial_since")?;
    let since = given.unwrap_or(now_us - DEFAULT_DAYS * DAY_US);
    let until = settings.instant("until")?;
    if until.is_some_and(|until| until <= since) {
        let since = settings.name("initial_since");
        return Err(settings.refuse("until", format!("it is not after {since}, so no event can be in between")));
    }
    Ok(EventsConfig {
        since,
        since_is_default: given.is_none(),
        until,
        event_types: settings.names("event_types")?.to_vec(),
        lookback_us: micros(settings.whole("lookback_window_minutes")? * 60),
        late_arrival_days: small(settings.whole("late_arrival_days")?),
        horizon_lag_us: micros(settings.whole("horizon_lag_seconds")?),
        page_size: settings.whole_if_given("page_size")?.map(small),
        max_response_bytes: size(settings, "max_response_mb")? * 1_000_000,
        deduplicate: settings.flag("deduplication_enabled")?,
        person_ids: if settings.word("person_id_mode")? == "joined" { PersonIds::Joined } else { PersonIds::Event },
        count_proof: match settings.word("count_proof")? {
            "off" => CountProof::Off,
            "warn" => CountProof::Warn,
            _ => CountProof::Strict,
        },
    })
}

// The table bounds these numbers far below the limits of their types.
fn size(settings: &Values, name: &str) -> Result<usize> {
    settings.whole(name).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn at_least_one(number: u64) -> std::num::NonZeroU32 {
    std::num::NonZeroU32::new(small(number)).unwrap_or(std::num::NonZeroU32::MIN)
}

fn micros(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX / SECOND_US).saturating_mul(SECOND_US)
}

#[cfg(test)]
mod tests;
