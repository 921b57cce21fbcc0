//! What follows from a stream that cannot be read.

use crate::error::Result;
use crate::posthog::fault::{Cause, Fault};
use crate::tap::stream::{Source, Stream};

/// What to do about a stream that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is left out, also where its list only fails at the moment.
    LeaveOut,
    /// It is left out where this PostHog or this key has it not. What fails at the moment is left to the run, which tries
    /// harder, and ends with an error rather than without the stream.
    LeaveOutForGood,
    /// As before, but that the key may not read it is an error: somebody chose the stream.
    Refuse,
}

/// Why a stream is left out; `None` where the run is to try it; an error where neither is right.
pub(super) fn left_out_for(stream: &Stream, fault: Fault, unreadable: Unreadable) -> Result<Option<String>> {
    let is_list = stream.is_list();
    if matches!(stream.source, Source::Events)
        && !matches!(&fault, Fault::Fatal(failure) if matches!(failure.cause, Cause::Scope(_)))
    {
        return Err(fault.into());
    }
    let for_now =
        |text: String| Ok((unreadable == Unreadable::LeaveOut).then(|| format!("cannot be read now: {text}")));
    let failure = match fault {
        Fault::Fatal(failure) => failure,
        Fault::Split(why) => return for_now(why),
        other => return Err(other.into()),
    };
    let reason = match &failure.cause {
        // A table that this PostHog has not, or a path.
        Cause::Missing if is_list => return Ok(Some("this PostHog does not have it".to_owned())),
        Cause::Request => return Ok(Some("this PostHog does not have it".to_owned())),
        Cause::Server | Cause::Timeout | Cause::Untrusted => return for_now(failure.error.to_string()),
        Cause::Scope(scope) => format!("needs the scope {scope}"),
        Cause::Access if is_list => "the key's user may not read it".to_owned(),
        _ => return Err(failure.error),
    };
    match unreadable {
        Unreadable::Refuse => Err(failure.error.context(format!("stream {} cannot be read", stream.name))),
        _ => Ok(Some(reason)),
    }
}
