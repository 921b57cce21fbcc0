//! `tap-posthog`: reads a PostHog project out as Singer messages.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    tap_posthog::tap_posthog()
}
