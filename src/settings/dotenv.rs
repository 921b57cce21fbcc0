//! The `.env` file of a project: variables for the programs that are started in its folder, besides their environment, which
//! is not changed. Singer SDK taps and targets read it where `--config ENV` reads the environment, and so do these.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::log;

/// Reads a variable by its name.
pub type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The variables of the `.env` file in the working folder or the nearest one above it; none where there is no such file.
#[must_use]
pub fn variables() -> HashMap<String, String> {
    std::env::current_dir().ok().and_then(|folder| nearest(&folder)).map(|path| read(&path)).unwrap_or_default()
}

fn nearest(folder: &Path) -> Option<PathBuf> {
    folder.ancestors().map(|folder| folder.join(".env")).find(|path| path.is_file())
}

/// It belongs to other programs, too: what cannot be read is passed over. It is not shown either, it may be a key.
fn read(path: &Path) -> HashMap<String, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            log::warn(format!("reading {} failed: {error}; its variables are not used", path.display()));
            return HashMap::new();
        }
    };
    let lines: Vec<_> = dotenvy::from_read_iter(text.trim_start_matches('\u{feff}').as_bytes()).collect();
    let wrong = lines.iter().filter(|line| line.is_err()).count();
    if wrong > 0 {
        log::warn(format!("{}: lines that are not NAME=value are not used ({wrong})", path.display()));
    }
    lines.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_is_read_as_far_as_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(dir.path().join(".env"), "\u{feff}# x\nA=1\nnot a variable\nexport B='two words' # y\nA=2\n")
            .unwrap();
        let path = nearest(&below).unwrap();
        assert_eq!(path, dir.path().join(".env"));
        let variables = read(&path);
        assert_eq!((variables.len(), &*variables["A"], &*variables["B"]), (2, "2", "two words"));
        std::fs::write(below.join(".env"), "A=3").unwrap();
        assert_eq!(nearest(&below), Some(below.join(".env")));
    }
}
