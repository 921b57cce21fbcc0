//! What the records of a stream do not hold as PostHog has it: counted, and told at the end of a stream.

/// Columns that a sentence names.
const MOST_NAMED: usize = 5;
/// Characters of a name: properties have names of any length.
const NAME_CHARS: usize = 100;

/// Counts of values that are not in their column, or were altered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// The columns with values that they cannot hold, the one with the most first.
    pub unfit: Vec<Unfit>,
    /// Halves of surrogate pairs that became U+FFFD.
    pub lone_surrogates: u64,
}

/// The values that a column cannot hold: they are of another type, or would lose digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// The column.
    pub column: String,
    /// How many there are.
    pub count: u64,
    /// The field that holds them; none where it is not selected, and they are lost.
    pub kept_in: Option<String>,
}

impl Exceptions {
    /// Adds the `count` values that the column could not hold.
    pub fn add(&mut self, column: String, count: u64, kept_in: Option<String>) {
        let at = self.unfit.partition_point(|other| other.count >= count);
        self.unfit.insert(at, Unfit { column, count, kept_in });
    }

    /// The sentences for a person.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences: Vec<String> = Vec::new();
        let mut left: Vec<&Unfit> = self.unfit.iter().collect();
        while let Some(kept_in) = left.first().map(|first| &first.kept_in) {
            let (now, later) = left.iter().partition(|unfit| unfit.kept_in == *kept_in);
            sentences.push(sentence(kept_in.as_deref(), now));
            left = later;
        }
        if self.lone_surrogates > 0 {
            let count = self.lone_surrogates;
            sentences
                .push(format!("{count} halves of surrogate pairs became U+FFFD; lone_surrogates: keep leaves them"));
        }
        sentences
    }
}

fn sentence(kept_in: Option<&str>, unfit: Vec<&Unfit>) -> String {
    let name = |unfit: &Unfit| unfit.column.chars().take(NAME_CHARS).collect::<String>();
    let columns = unfit.iter().take(MOST_NAMED).map(|unfit| format!("{} ({})", name(unfit), unfit.count));
    let columns = columns.collect::<Vec<_>>().join(", ");
    let more = match unfit.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let all: u64 = unfit.iter().map(|unfit| unfit.count).sum();
    match kept_in {
        Some(field) => format!(
            "{all} values are in {field}, because their column cannot hold them, so what is computed from the column lacks \
             them: {columns}{more}"
        ),
        None => format!(
            "{all} values are lost, because their column cannot hold them and the field for such values is not selected: \
             {columns}{more}"
        ),
    }
}
