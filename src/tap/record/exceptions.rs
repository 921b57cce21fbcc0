//! What the records of a stream do not hold as PostHog has it: told at the end of a stream.

/// Counts of values that were altered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// Halves of surrogate pairs that became U+FFFD.
    pub lone_surrogates: u64,
}

impl Exceptions {
    /// The sentences for a person.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if self.lone_surrogates > 0 {
            let count = self.lone_surrogates;
            sentences
                .push(format!("{count} halves of surrogate pairs became U+FFFD; lone_surrogates: keep leaves them"));
        }
        sentences
    }
}
