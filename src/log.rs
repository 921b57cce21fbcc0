//! Lines on standard error, and nothing else: standard output belongs to Singer.
//!
//! The level comes from `<PROGRAM>_LOGLEVEL`, then `LOGLEVEL`, default INFO (the convention of Singer SDK programs).
//! Where `SINGER_SDK_LOG_CONFIG` names a file that asks for the SDK's `StructuredFormatter` (Meltano always sets the
//! variable), each line is one JSON object of the form that Meltano parses. On a terminal a line says which program speaks,
//! and nothing that is only for machines. Every line passes the secret filter: a key
//! that was given to [`conceal`] leaves this process only as `***`.

mod form;
mod writer;

use std::borrow::Cow;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use indicatif::ProgressBar;

use crate::error::one_line;
use form::Form;
pub use form::Level;
use writer::Lines;

/// A variable of the environment: another program reads the lines of this one, and shows them on a terminal.
pub const SHOWN: &str = "SINGER_LINES_ARE_SHOWN";
/// How a line begins that is no line of a log but says how far the program is, for who shows it.
pub const PROGRESS: &str = "PROGRESS ";
/// How a line begins that holds a JSON array of a stream and of what its summary is to say.
pub const REMARK: &str = "REMARK ";

/// The most characters of a line.
const LINE_CHARS: usize = 8_000;

struct Logger {
    program: &'static str,
    form: Form,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();
/// The least level that is printed.
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);
static SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static LINES: Lines = Lines::new(left_out);
/// Whether there is a thread that writes the lines.
static HAS_WRITER: OnceLock<bool> = OnceLock::new();
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Sets the program's name and reads the level from the environment. The first call wins; before it, lines at INFO and
/// above are printed plainly.
pub fn init(program: &'static str) {
    let own = format!("{}_LOGLEVEL", program.to_ascii_uppercase().replace('-', "_"));
    set_level(
        [own.as_str(), "LOGLEVEL"]
            .iter()
            .find_map(|name| Level::parse(&std::env::var(name).ok()?))
            .unwrap_or(Level::Info),
    );
    let structured = std::env::var_os("SINGER_SDK_LOG_CONFIG")
        .and_then(|path| std::fs::read_to_string(path).ok())
        .is_some_and(|text| text.contains("StructuredFormatter"));
    let has = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let form = if structured {
        Form::Structured
    } else if has(SHOWN) {
        Form::Shown
    } else if std::io::stderr().is_terminal() {
        Form::Terminal { colours: !has("NO_COLOR") && std::env::var_os("TERM").is_some_and(|term| term != "dumb") }
    } else {
        Form::Plain
    };
    let _ = LOGGER.set(Logger { program, form });
}

/// Lines below this level are left out from now on.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// True where a person reads the lines on a terminal, without another program between.
pub fn is_terminal() -> bool {
    matches!(form(), Form::Terminal { .. })
}

/// True where another program shows the lines on a terminal.
pub fn is_shown() -> bool {
    form() == Form::Shown
}

fn form() -> Form {
    LOGGER.get().map_or(Form::Plain, |logger| logger.form)
}

/// Registers a secret: from now on it is replaced by `***` in every line, also in its percent-encoded form.
pub fn conceal(secret: &str) {
    if secret.is_empty() {
        return;
    }
    let encoded: String = secret
        .bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect();
    let mut secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    for form in [secret.to_owned(), encoded] {
        if !secrets.contains(&form) {
            secrets.push(form);
        }
    }
}

/// `text` with every registered secret replaced by `***`.
pub fn without_secrets(text: &str) -> String {
    let secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    secrets.iter().fold(text.to_owned(), |text, secret| {
        if text.contains(secret.as_str()) { text.replace(secret.as_str(), "***") } else { text }
    })
}

/// True if a line of this level would be printed: lets a caller skip building it.
pub fn enabled(level: Level) -> bool {
    level as u8 >= LEVEL.load(Ordering::Relaxed)
}

/// Prints one line. Failures to write are ignored: there is nowhere left to report them.
pub fn line(level: Level, text: &str) {
    line_of(LOGGER.get().map_or("", |logger| logger.program), level, text);
}

/// Prints one line that another program said.
pub fn line_of(program: &str, level: Level, text: &str) {
    if enabled(level) {
        write(form().line(program, level, &one_line(&cut(&without_secrets(text)))));
    }
}

/// The line, or so much of it that a person reads: the text of a server may stand in it at any length.
fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LINE_CHARS) {
        Some((end, _)) => {
            format!("{}... ({} bytes more)", text.get(..end).unwrap_or_default(), text.len() - end).into()
        }
        None => text.into(),
    }
}

/// Tells the program that shows the lines how far this one is.
pub fn progress(text: &str) {
    write(format!("{PROGRESS}{}\n", one_line(text)));
}

/// Tells the program that shows the lines what its summary of a stream is to say; nothing where none does.
pub fn remark(stream: &str, text: &str) {
    if is_shown() {
        write(format!("{REMARK}{}\n", serde_json::json!([stream, without_secrets(text)])));
    }
}

/// Waits until the lines are written. A reader who takes none is not waited for.
pub fn finish() {
    LINES.finish();
}

/// The line that stands for lines which nobody took in time.
fn left_out(count: u64) -> String {
    let text = format!("nobody read standard error for a while; lines left out here: {count}");
    form().line(LOGGER.get().map_or("", |logger| logger.program), Level::Warning, &text)
}

fn write(line: String) {
    if *HAS_WRITER.get_or_init(|| {
        let writer = std::thread::Builder::new().name("log".to_owned()).stack_size(256 * 1024);
        writer.spawn(|| LINES.write_by(write_now)).is_ok()
    }) {
        LINES.put(line);
    } else {
        write_now(&line);
    }
}

fn write_now(line: &str) {
    let write = || {
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    };
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// From now on lines are written above this bar, or, with none, plainly.
pub fn show_above(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

/// A DEBUG line.
pub fn debug(text: impl AsRef<str>) {
    line(Level::Debug, text.as_ref());
}

/// An INFO line.
pub fn info(text: impl AsRef<str>) {
    line(Level::Info, text.as_ref());
}

/// A WARNING line.
pub fn warn(text: impl AsRef<str>) {
    line(Level::Warning, text.as_ref());
}

/// The CRITICAL line that a failed run ends with.
pub fn critical(text: impl AsRef<str>) {
    line(Level::Critical, text.as_ref());
}

/// Makes a panic (a fault of ours, never an answer to input) one line without data instead of a multi-line report.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let place =
            panic.location().map_or_else(|| "an unknown place".to_owned(), |l| format!("{}:{}", l.file(), l.line()));
        critical(format!("internal fault at {place}; please report it with the version and the command line"));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_any_length_is_cut() {
        let short = "é".repeat(LINE_CHARS);
        assert_eq!(cut(&short), short);
        assert_eq!(cut(&format!("{short}éx")), format!("{short}... (3 bytes more)"));
    }

    #[test]
    fn secrets_are_replaced_in_plain_and_encoded_form() {
        conceal("phx_se+cret/1");
        assert_eq!(without_secrets("key phx_se+cret/1 in ?k=phx_se%2Bcret%2F1"), "key *** in ?k=***");
    }
}
