//! The `.env` file of a project: variables for the programs that are started in its folder, besides their environment, which
//! is not changed. Singer SDK taps and targets read it where `--config ENV` reads the environment, and so do these.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::log;

/// The `.env` file in the working folder or the nearest one above it, and its variables whose names begin so; none where
/// there is no such file.
pub fn variables(begin: &str) -> Option<(PathBuf, BTreeMap<String, String>)> {
    let path = nearest(&std::env::current_dir().ok()?)?;
    let variables = read(&path, begin);
    Some((path, variables))
}

fn nearest(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().map(|folder| folder.join(".env")).find(|path| path.is_file())
}

/// It belongs to other programs, too: what cannot be read is passed over. It is not shown either, it may be a key.
fn read(path: &Path, begin: &str) -> BTreeMap<String, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            log::warn(format!("reading {} failed: {error}; its variables are not used", path.display()));
            return BTreeMap::new();
        }
    };
    let text = text.trim_start_matches('\u{feff}');
    let lines: Vec<_> = dotenvy::from_read_iter(text.as_bytes()).collect();
    let wrong = lines.iter().filter(|line| line.is_err()).count();
    if wrong > 0 {
        log::warn(format!("{}: lines that are not NAME=value are not used ({wrong})", path.display()));
    }
    let mut variables: BTreeMap<String, String> = lines.into_iter().flatten().collect();
    for (name, reference) in empty_references(text, &variables) {
        if name.starts_with(begin) {
            log::warn(format!(
                "{}: {name} holds ${reference}, which is not set or empty; write ${{NAME}} for a variable, and '...' around a \
                 value in which $ stands for itself",
                path.display()
            ));
        }
    }
    variables.retain(|name, _| name.starts_with(begin));
    variables
}

/// Each variable whose value names one that is empty: not in the environment, and in no line before it.
fn empty_references<'a>(text: &'a str, variables: &BTreeMap<String, String>) -> Vec<(&'a str, String)> {
    let mut before: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let Some((name, value)) = line.split_once('=') else { continue };
        let name = name.trim().trim_start_matches("export ").trim();
        for reference in references(value.trim_start()) {
            let earlier = variables.get(&reference).filter(|_| before.contains(&reference.as_str())).cloned();
            if std::env::var(&reference).ok().or(earlier).is_none_or(|value| value.is_empty()) {
                found.push((name, reference));
            }
        }
        before.push(name);
    }
    found
}

/// The names behind `$` that the library replaces in a value: none between single quotes or behind `\`.
fn references(value: &str) -> Vec<String> {
    let (mut single, mut double) = (false, false);
    let mut found = Vec::new();
    let mut letters = value.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' if !double => single = !single,
            '"' if !single => double = !double,
            '\\' if !single => drop(letters.next()),
            ' ' | '\t' if !single && !double => break,
            '$' if !single => {
                let in_braces = letters.next_if_eq(&'{').is_some();
                let belongs = |c: &char| if in_braces { *c != '}' } else { c.is_alphanumeric() };
                found.push(std::iter::from_fn(|| letters.next_if(belongs)).collect());
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_is_read_as_far_as_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(
            dir.path().join(".env"),
            "\u{feff}# x\nA=1\nnot a variable\nexport B='two words' # y\nA=2\nOTHER=3\n",
        )
        .unwrap();
        let path = nearest(&below).unwrap();
        assert_eq!(path, dir.path().join(".env"));
        let variables = read(&path, "");
        assert_eq!((variables.len(), &*variables["A"], &*variables["B"]), (3, "2", "two words"));
        assert_eq!(read(&path, "OTH").len(), 1);
        std::fs::write(below.join(".env"), "A=3").unwrap();
        assert_eq!(nearest(&below), Some(below.join(".env")));
    }

    #[test]
    fn references_to_nothing_are_found() {
        let text = "A=1\nB=\n\
                    KEY=${NOWHERE_AT_ALL}\nexport URL=\"https://${A}.${B}/\"\nLATE=${AFTER}\nAFTER=1\n\
                    PLAIN='$NOWHERE'\nESCAPED=\\$NOWHERE # $NOWHERE\n# X=$NOWHERE\nSHORT=$NOWHERE_AT\n";
        let variables =
            BTreeMap::from([("A", "1"), ("B", ""), ("AFTER", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let found = empty_references(text, &variables);
        let found: Vec<(&str, &str)> = found.iter().map(|(name, reference)| (*name, reference.as_str())).collect();
        assert_eq!(found, [("KEY", "NOWHERE_AT_ALL"), ("URL", "B"), ("LATE", "AFTER"), ("SHORT", "NOWHERE")]);
    }
}
