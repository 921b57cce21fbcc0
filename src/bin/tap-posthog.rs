//! placeholder
use tap_posthog::{
    log,
    posthog::client::Client,
    singer::{message::Output, state::State},
    stop::Stop,
    tap,
};
fn main() {
    log::init("tap-posthog");
    let args: Vec<String> = std::env::args().collect();
    let run = || -> tap_posthog::error::Result<()> {
        let config = tap::config::load(&args[1..2], chrono::Utc::now().timestamp_micros(), |n| std::env::var(n).ok())?;
        let stop = Stop::new();
        stop.watch_signals()?;
        let client = Client::new(config.connection.options(&stop))?;
        let mut state = match args.get(2) {
            Some(p) => State::read(std::path::Path::new(p))?,
            None => State::default(),
        };
        let fields = serde_json::json!({"uuid":{},"event":{},"distinct_id":{},"timestamp":{},"created_at":{},"person_id":{},"properties":{},"person_properties":{},"$session_id":{},"$window_id":{},"$group_0":{},"$group_1":{},"$group_2":{},"$group_3":{},"$group_4":{},"person_mode":{}});
        let mut out = Output::new(std::io::stdout());
        let ev = tap::events::Events {
            client: &client,
            config: &config.events,
            max_state_bytes: config.max_state_bytes,
            stop: &stop,
            stream: "events",
            fields: fields.as_object().unwrap(),
        };
        let s = ev.sync(&mut state, &mut out);
        log::info(format!("{s:?} {:?}", client.usage()));
        s.map(|_| ())
    };
    if let Err(e) = run() {
        log::critical(e.to_string());
        std::process::exit(e.kind().exit_code().into());
    }
}
