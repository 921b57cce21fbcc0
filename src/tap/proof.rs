//! Reading until nothing is missing: the one rule for a slice of events, a table and a list.
//!
//! What came is compared with what PostHog counts. Where less came, the same is read again, a few times. What is missing
//! even then ends the run, unless the user wants it otherwise (`count_proof`).

use crate::error::{Error, Kind, Result};
use crate::log;

use super::config::CountProof;

/// What is missing, as a sentence.
pub struct Shortfall(pub String);

/// Reads with `read`, which is told how many readings came before, until it finds no shortfall; at most `most` times. False
/// where something is missing and the user lets the run go on.
///
/// # Errors
/// [`Kind::Incomplete`] where something is missing each time; what `read` fails with.
pub fn read_until_proved<E: From<Error>>(
    count_proof: CountProof,
    most: u32,
    mut read: impl FnMut(u32) -> Result<Option<Shortfall>, E>,
) -> Result<bool, E> {
    let mut text = String::new();
    for before in 0..most {
        if before > 0 {
            log::info(format!("{text}; reading again"));
        }
        match read(before)? {
            None => return Ok(true),
            Some(Shortfall(what)) => text = what,
        }
    }
    if count_proof == CountProof::Strict {
        let text = format!("{text}, in the last of {most} readings");
        let advice = "run again; count_proof: warn goes on without the others";
        return Err(Error::new(Kind::Incomplete, format!("{text}; {advice}")).into());
    }
    log::warn(text);
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(count_proof: CountProof, missing: u32) -> (u32, Result<bool>) {
        let mut readings = 0;
        let outcome = read_until_proved(count_proof, 3, |before| {
            assert_eq!(before, readings);
            readings += 1;
            Ok((before < missing).then(|| Shortfall("of 5 rows 4 came".to_owned())))
        });
        (readings, outcome)
    }

    #[test]
    fn reading_ends_when_all_came_or_after_the_last_try() {
        assert!(matches!(read(CountProof::Strict, 0), (1, Ok(true))));
        assert!(matches!(read(CountProof::Strict, 2), (3, Ok(true))));
        assert!(matches!(read(CountProof::Warn, 3), (3, Ok(false))));
        let (readings, outcome) = read(CountProof::Strict, 9);
        let error = outcome.unwrap_err();
        assert_eq!((readings, error.kind()), (3, Kind::Incomplete));
        assert!(error.to_string().contains("of 5 rows 4 came, in the last of 3 readings"), "{error}");
    }

    #[test]
    fn a_failure_ends_the_reading() {
        let failed: Result<bool> =
            read_until_proved(CountProof::Strict, 3, |_| Err(Error::new(Kind::Service, "no answer")));
        assert_eq!(failed.unwrap_err().kind(), Kind::Service);
    }
}
