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
    let text = &in_braces(text.trim_start_matches('\u{feff}'));
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

/// The same text with braces around each name that is to be replaced: without them the library ends a name at `_`.
fn in_braces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        match line.split_once('=').filter(|_| !line.trim_start().starts_with('#')) {
            Some((name, value)) => {
                out.extend([name, "="]);
                for part in parts(value) {
                    match part {
                        Part::Reference(name) => out.extend(["${", name, "}"]),
                        Part::Text(text) => out.push_str(text),
                    }
                }
            }
            None => out.push_str(line),
        }
    }
    out
}

/// The names of variables in a value that the library replaces.
fn references(value: &str) -> Vec<String> {
    let is_reference = |part| if let Part::Reference(name) = part { Some(name.to_owned()) } else { None };
    parts(value).into_iter().filter_map(is_reference).collect()
}

/// A part of a value.
enum Part<'a> {
    Text(&'a str),
    /// The name of a variable.
    Reference(&'a str),
}

/// The parts of a value. `$` stands for itself between single quotes, behind `\` and before what is no name.
fn parts(value: &str) -> Vec<Part<'_>> {
    let (mut single, mut double) = (false, false);
    let mut parts = Vec::new();
    let (mut rest, mut at) = (value, 0);
    while let Some(letter) = rest.get(at..).and_then(|rest| rest.chars().next()) {
        match letter {
            '\'' if !double => single = !single,
            '"' if !single => double = !double,
            '\\' if !single => at += rest.get(at + 1..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8),
            ' ' | '\t' if !single && !double && at > 0 => break,
            '$' if !single => {
                let (before, reference) = rest.split_at(at);
                if let Some((name, behind)) = name_behind(reference) {
                    parts.extend([Part::Text(before), Part::Reference(name)]);
                    (rest, at) = (behind, 0);
                    continue;
                }
            }
            _ => {}
        }
        at += letter.len_utf8();
    }
    parts.push(Part::Text(rest));
    parts
}

/// The name behind `$`, with or without braces, and what follows it.
fn name_behind(reference: &str) -> Option<(&str, &str)> {
    let reference = reference.strip_prefix('$')?;
    if let Some(reference) = reference.strip_prefix('{') {
        return reference.split_once('}');
    }
    let end = reference.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(reference.len());
    (end > 0).then(|| reference.split_at(end))
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
    fn a_name_without_braces_goes_on_behind_its_underscore() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".env");
        let text = "MY=wrong\nMY_KEY=phx_1\nA=$MY_KEY\nB=\"x-$MY_KEY/$MY\" # $MY\nC='$MY_KEY'\nD=\\$MY_KEY\n\
                    E=${MY_KEY}_2\nF=$\nG=a$MY_KEY.b\n# it's $MY_KEY\nH=$MY_KEY\n";
        std::fs::write(&path, text).unwrap();
        let variables = read(&path, "");
        let got: Vec<&str> = ["A", "B", "C", "D", "E", "G", "H"].iter().map(|name| &*variables[*name]).collect();
        assert_eq!(got, ["phx_1", "x-phx_1/wrong", "$MY_KEY", "$MY_KEY", "phx_1_2", "aphx_1.b", "phx_1"]);
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
        assert_eq!(found, [("KEY", "NOWHERE_AT_ALL"), ("URL", "B"), ("LATE", "AFTER"), ("SHORT", "NOWHERE_AT")]);
    }
}
