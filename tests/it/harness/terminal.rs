//! A terminal, and what a program shows on it.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Both ends of a terminal of 200 columns: ours, and a program's.
pub(crate) fn terminal() -> (std::fs::File, std::fs::File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let size = rustix::termios::Winsize { ws_row: 40, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = std::fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    (master.into(), slave)
}

/// Runs a program whose outputs are a terminal. Its exit code, and everything that it wrote there.
pub(crate) fn on_terminal(mut command: Command) -> (i32, String) {
    let (mut master, slave) = terminal();
    let end = || Stdio::from(slave.try_clone().unwrap());
    let mut child = command.env("TERM", "xterm").env("NO_COLOR", "1").stdout(end()).stderr(end()).spawn().unwrap();
    // The program's handles alone keep the terminal open.
    drop((command, slave));
    let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
    // A terminal that nobody writes to any more gives an error.
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        shown.write_all(&buffer[..count]).unwrap();
    }
    let code = child.wait().unwrap().code().unwrap();
    (code, String::from_utf8_lossy(&shown).into_owned())
}

/// The lines that stay on a terminal, without those that a bar drew and removed.
pub(crate) fn lines_that_stay(shown: &str) -> Vec<String> {
    let whole = shown.split('\n').map(|line| line.rsplit(['\r']).find(|part| !part.is_empty()).unwrap_or_default());
    whole.map(|line| line.replace("\u{1b}[2K", "").trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// As [`on_terminal`], and types an answer behind each question, when it stands there.
pub(crate) fn converse(mut command: Command, answers: &[(&str, &str)]) -> (i32, String) {
    let (mut master, slave) = terminal();
    let end = || Stdio::from(slave.try_clone().unwrap());
    command.env("TERM", "xterm").env("NO_COLOR", "1").stdin(end()).stdout(end()).stderr(end());
    let mut child = command.spawn().unwrap();
    drop((command, slave));
    let (mut shown, mut buffer, mut from) = (String::new(), [0; 4096], 0);
    let mut answers = answers.iter();
    let mut next = answers.next();
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if let Some((question, answer)) = next
            && shown[from..].contains(question)
        {
            from = shown.len();
            master.write_all(format!("{answer}\n").as_bytes()).unwrap();
            next = answers.next();
        }
    }
    assert!(next.is_none(), "{next:?} was not asked: {shown}");
    (child.wait().unwrap().code().unwrap(), shown)
}
