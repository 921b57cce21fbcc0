//! `target-parquet run -- tap ...`, and the recipes of the README: each event is there once, whatever ends a run, and the exit
//! code says what it was.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::fake::events::realistic;
use crate::fake::{Event, Fake, Fault, HOUR_MICROS, Options};
use crate::harness::{
    PAGE, Run, Tap, Target, in_real_time, is_running, lines_that_stay, on_terminal, parquet_files, rows, same_once,
    send, tap_posthog, target_parquet, terminate,
};

fn fake() -> Fake {
    let fake = Fake::start(Options::default());
    let now = fake.world().now;
    fake.world().insert(realistic(9, 600, now, 6));
    fake
}

/// Pages so slow that a run can be met half way.
fn slow(fake: &Fake) {
    fake.world().fault(Fault::new("slow").body(PAGE).pause(Duration::from_millis(15)));
}

/// The lines of a recipe of the README.
fn recipe(name: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let begin = format!("<!-- recipe: {name} -->");
    let behind = readme.split(&begin).nth(1).unwrap_or_else(|| panic!("the README lacks {begin}"));
    behind.split("```").nth(1).unwrap().lines().map(|line| format!("{}\n", line.trim_start())).collect()
}

/// A folder as a person has it: settings, and both programs on the PATH.
pub(crate) struct Folder {
    pub(crate) dir: TempDir,
}

impl Folder {
    pub(crate) fn new(fake: &Fake) -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let tap = Tap::new(fake).set("page_size", 20);
        let settings = dir.path().join("posthog.json");
        std::fs::write(&settings, tap.config.to_string()).unwrap();
        std::fs::set_permissions(&settings, std::fs::Permissions::from_mode(0o600)).unwrap();
        for program in [tap_posthog(), target_parquet()] {
            let path = PathBuf::from(program.get_program());
            std::os::unix::fs::symlink(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        Folder { dir }
    }

    /// A shell that does these lines.
    fn bash(&self, lines: &str) -> Command {
        let path = format!("{}:{}", self.dir.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.arg("-c").arg(lines).env("PATH", path).current_dir(self.dir.path());
        for (name, value) in target_parquet().get_envs() {
            command.env(name, value.unwrap());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, lines: &str) -> Run {
        Run::of(self.bash(lines).output().unwrap())
    }

    /// Does these lines, and kills the tap when it has asked for so many pages.
    fn run_and_kill_the_tap(&self, fake: &Fake, lines: &str) -> Run {
        slow(fake);
        let before = fake.world().log.len();
        let child = self.bash(lines).spawn().unwrap();
        while fake.world().log.len() < before + 20 {
            std::thread::sleep(Duration::from_millis(2));
        }
        kill_process(self.tap(), Signal::KILL).unwrap();
        let run = Run::of(child.wait_with_output().unwrap());
        fake.world().faults.clear();
        run
    }

    /// The process that reads from PostHog for this folder.
    fn tap(&self) -> Pid {
        let is_tap = |process: &Path| {
            let arguments = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let here =
                std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == self.dir.path().canonicalize().unwrap());
            here && arguments.starts_with(b"tap-posthog\0")
        };
        let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let found = processes.into_iter().find(|process| is_tap(process)).expect("no tap is running");
        Pid::from_raw(found.file_name().unwrap().to_str().unwrap().parse().unwrap()).unwrap()
    }

    /// The events in the files.
    fn events(&self) -> Vec<crate::fake::Held> {
        parquet_files(&self.dir.path().join("output/events"))
            .iter()
            .flat_map(|file| rows(file))
            .map(|row| crate::harness::held_in_row(&row))
            .collect()
    }
}

#[test]
fn both_recipes_hold_each_event_once_when_the_tap_fails_and_when_it_is_killed() {
    for (name, after_kill) in [("run", vec![137]), ("pipe", vec![137, 6])] {
        let fake = fake();
        let (folder, lines) = (Folder::new(&fake), recipe(name));
        fake.world().fault(Fault::new("auth_401").body(PAGE).skip(10).next(1));
        let failed = folder.run(&lines);
        assert_eq!(failed.code, 3, "{name}: {}", failed.stderr);
        let killed = folder.run_and_kill_the_tap(&fake, &lines);
        assert!(after_kill.contains(&killed.code), "{name}: {} {}", killed.code, killed.stderr);
        for _ in 0..2 {
            let whole = folder.run(&lines);
            assert_eq!(whole.code, 0, "{name}: {}", whole.stderr);
            same_once(name, &folder.events(), fake.world().held());
            fake.world().advance(HOUR_MICROS);
            let now = fake.world().now;
            fake.world().insert((0..50).map(|n| Event::new(90_000 + n, "new", now - n as i64 - 1).created(now - 1)));
        }
    }
}

/// `target-parquet run` of the tap.
fn run_of(target: &Target, tap: &Tap<'_>, flags: &[&str]) -> Command {
    let mut command = target.command();
    let tap = tap.command();
    command.arg("run").args(flags).arg("--").arg(tap.get_program()).args(tap.get_args()).stdin(Stdio::null());
    command
}

fn finish(mut command: Command) -> Run {
    Run::of(command.output().unwrap())
}

#[test]
fn a_signal_reaches_the_tap_and_what_came_stays() {
    for signal in [Signal::TERM, Signal::INT] {
        let (fake, target) = (fake(), Target::new());
        let tap = Tap::new(&fake).set("page_size", 20);
        slow(&fake);
        let child = in_real_time(run_of(&target, &tap, &[])).spawn().unwrap();
        while fake.world().log.len() < 20 {
            std::thread::sleep(Duration::from_millis(2));
        }
        send(&child, signal);
        let run = Run::of(child.wait_with_output().unwrap());
        assert_eq!(run.code, 128 + signal.as_raw(), "{}", run.stderr);
        let said = format!(" INFO stopped by signal {}", signal.as_raw());
        assert!(run.stderr.trim_end().ends_with(&said) && !run.stderr.contains("CRITICAL"), "{}", run.stderr);
        let asked = fake.world().log.len();
        fake.world().faults.clear();
        finish(run_of(&target, &tap, &[])).ends(0);
        same_once("after a signal", &target.events(), fake.world().held());
        assert!(fake.world().log.len() > asked, "nothing was left to read");
    }
}

#[test]
fn a_tap_that_a_limit_stops_ends_the_run_with_its_exit_code() {
    let (fake, target) = (fake(), Target::new());
    slow(&fake);
    let tap = Tap::new(&fake).set("page_size", 5).arg("--max-runtime=10");
    let run = finish(run_of(&target, &tap, &[])).ends(75);
    run.complains(&["WARNING", "stopped early", "goes on"]);
    fake.world().faults.clear();
    finish(run_of(&target, &Tap::new(&fake), &[])).ends(0);
    same_once("after a limit", &target.events(), fake.world().held());
}

#[test]
fn a_chain_of_runs_that_a_limit_stops_ends_with_the_rows_of_one_run() {
    let (fake, chain, whole) = (fake(), Target::new(), Target::new());
    finish(run_of(&whole, &Tap::new(&fake), &[])).ends(0);
    fake.world().fault(Fault::new("slow").body(PAGE).pause(Duration::from_millis(5)));
    let tap = Tap::new(&fake).set("page_size", 5);
    let (mut limit, mut after_each) = (10, vec![0]);
    loop {
        let mut link = run_of(&chain, &tap, &[]);
        link.arg(format!("--max-runtime={limit}"));
        let run = finish(link);
        // A busy machine takes longer for its first slice.
        limit += if chain.events().len() == after_each[after_each.len() - 1] { 5 } else { 0 };
        after_each.push(chain.events().len());
        if run.code == 0 {
            break;
        }
        run.ends(75);
        assert!(after_each.len() < 100 && after_each.is_sorted(), "{after_each:?}");
    }
    assert!(after_each.len() > 3 && after_each.windows(2).filter(|two| two[0] < two[1]).count() > 1, "{after_each:?}");
    same_once("as one run", &chain.events(), whole.events());
    same_once("as PostHog holds", &chain.events(), fake.world().held());
}

/// A tap in four lines: it says rows from its state on, and fails where it is told to.
const FOREIGN: &str = r#"
[ "$1" = --state ] && from=$(tr -dc 0-9 < "$2") || from=0
echo '{"type":"SCHEMA","stream":"s","key_properties":["id"],"schema":{"properties":{"id":{"type":"integer"}}}}'
for id in 1 2 3 4 5 6 7 8 9; do
  [ $id -gt $from ] && echo "{\"type\":\"RECORD\",\"stream\":\"s\",\"record\":{\"id\":$id}}"
  [ $id = 4 ] && echo '{"type":"STATE","value":{"id":4}}'
  [ $id = 6 ] && [ -e fail ] && { rm fail; printf '{"type":"REC'; exit 12; }
done
echo '{"type":"STATE","value":{"id":9}}'
"#;

#[test]
fn any_tap_goes_on_from_its_last_state_and_its_rows_are_there_once() {
    let target = Target::new();
    std::fs::write(target.dir.path().join("fail"), "").unwrap();
    let run = || {
        let mut command = target.command();
        command.args(["run", "--", "bash", "-c", FOREIGN, "tap"]);
        Run::of(command.output().unwrap())
    };
    run().ends(12).complains(&["CRITICAL bash failed with exit code 12"]);
    assert!(target.ids("s").starts_with(&[1, 2, 3, 4]), "{:?}", target.ids("s"));
    let run = run().ends(0);
    assert_eq!(target.ids("s"), (1..=9).collect::<Vec<_>>());
    assert_eq!(run.stdout.lines().last(), Some("{\"id\":9}"));
}

#[test]
fn the_state_of_the_tap_is_not_for_the_user_to_give() {
    let target = Target::new();
    let run = |arguments: &[&str]| {
        let mut command = target.command();
        Run::of(command.arg("run").args(arguments).output().unwrap())
    };
    run(&["--", "tap-x", "--state", "state.json"]).ends(2).complains(&["leave out --state"]);
    run(&["--", "no-such-tap"]).ends(2).complains(&["starting the tap no-such-tap failed"]);
    run(&[]).ends(2);
}

#[test]
fn a_tap_ends_when_the_target_fails() {
    let target = Target::new();
    let mut command = target.command();
    let tap = "echo $$ > pid; echo '{\"type\":\"STATE\"}'; exec sleep 600";
    let run = Run::of(command.args(["run", "--", "bash", "-c", tap]).output().unwrap()).ends(6);
    run.complains(&["line 1: its STATE has no value"]);
    let pid = std::fs::read_to_string(target.dir.path().join("pid")).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "the tap still runs");
}

#[test]
fn a_folder_that_was_removed_and_is_not_sent_again_is_warned_of_once() {
    let (fake, target) = (fake(), Target::new());
    let tap = Tap::new(&fake);
    let run = || Run::of(run_of(&target, &tap, &[]).output().unwrap()).ends(0).stderr;
    let gone = "the files of earlier runs are gone from events";
    assert!(!run().contains(gone) && !run().contains(gone));
    std::fs::remove_dir_all(target.dir.path().join("out/events")).unwrap();
    let removed = run();
    assert!(removed.contains(gone), "{removed}");
    let later = run();
    assert!(!later.contains(gone), "{later}");
}

#[test]
fn a_terminal_shows_words_who_says_them_and_a_summary() {
    let (fake, target) = (fake(), Target::new());
    let tap = Tap::new(&fake).set("page_size", 20);
    let (code, shown) = on_terminal(run_of(&target, &tap, &[]));
    assert_eq!(code, 0, "{shown}");
    let lines = lines_that_stay(&shown);
    for line in &lines {
        let speaks = line.starts_with("tap-posthog: ") || line.starts_with("target-parquet: ");
        assert!(speaks && !line.contains("METRIC") && !line.contains("bookmarks"), "{line:?} in {shown}");
    }
    let has = |parts: &[&str]| {
        let is_it = |line: &&String| parts.iter().all(|part| line.contains(part));
        assert!(lines.iter().any(|line| is_it(&line)), "no line with {parts:?} in {lines:#?}");
    };
    has(&["tap-posthog: events: 600 rows in "]);
    has(&[
        "target-parquet: events: 600 rows, 1 file, ",
        " kB, ",
        " values are in unmapped_properties, proved ",
        " slices, in ",
        "/out/events/",
    ]);
    has(&["target-parquet: state kept in ", "/out/_target"]);
    has(&["target-parquet: try: duckdb -c \"SELECT"]);
    assert!(shown.contains(" of about 600 rows ("), "no progress in {shown}");
    // The state is kept, and quiet is quiet.
    let (code, shown) = on_terminal(run_of(&target, &tap, &["-q"]));
    assert_eq!((code, lines_that_stay(&shown)), (0, Vec::new()));
    same_once("twice", &target.events(), fake.world().held());
}

#[test]
fn a_terminal_shows_why_a_tap_failed_and_the_run_with_it() {
    let (fake, target) = (fake(), Target::new());
    let tap = Tap::new(&fake).set("api_key", "phx_wrong_wrong_wrong");
    let (code, shown) = on_terminal(run_of(&target, &tap, &[]));
    assert_eq!(code, 3, "{shown}");
    let lines = lines_that_stay(&shown);
    assert!(lines.iter().any(|line| line.starts_with("tap-posthog: failed: ")), "{lines:#?}");
    assert!(
        lines.last().unwrap().starts_with("target-parquet: failed: tap-posthog failed with exit code 3"),
        "{lines:#?}"
    );
    assert!(!shown.contains("phx_wrong"), "{shown}");
}

#[test]
fn what_is_not_shown_on_a_terminal_stays_as_machines_know_it() {
    let (fake, target) = (fake(), Target::new());
    let run = finish(run_of(&target, &Tap::new(&fake), &[])).ends(0);
    for part in [
        " INFO METRIC: {\"type\":\"counter\",\"metric\":\"record_count\"",
        " INFO events: 600 rows",
        "skipped_repeats 0",
    ] {
        assert!(run.stderr.contains(part), "no {part} in {}", run.stderr);
    }
    assert!(run.stdout.lines().last().unwrap().contains("bookmarks"));
}

#[test]
fn a_target_alone_on_a_terminal_says_what_it_waits_for() {
    let (target, (_master, slave)) = (Target::new(), crate::harness::terminal());
    let mut command = target.command();
    let mut child = command.stdin(slave).stdout(Stdio::null()).spawn().unwrap();
    let mut said = child.stderr.take().unwrap();
    let mut line = [0; 400];
    let count = std::io::Read::read(&mut said, &mut line).unwrap();
    let line = String::from_utf8_lossy(&line[..count]).into_owned();
    assert!(line.contains(" INFO waits for Singer messages on standard input, which is this terminal"), "{line}");
    assert!(is_running(&mut child));
    terminate(&child);
    child.wait().unwrap();
}
