//! The count proof: rows that are missing hold a run back, and what merely happens meanwhile does not.

use serde_json::json;

use crate::fake::{Fault, HOUR_MICROS, Held};
use crate::harness::{MINUTE, PAGE, Settings, Tap, at, fake_of, go_on, same_once, start, tap_with};

/// A slice of several pages whose count is not proved: no STATE may have passed its start.
#[test]
fn a_failed_proof_leaves_the_state_before_its_slice() {
    let mut failed = 0;
    for skip in 1..12 {
        let fake = fake_of((0..400).map(|n| at(n, start() - n as i64 * 7_000_000)));
        fake.world().fault(Fault::new("timeout_504").body(PAGE).skip(skip).next(1));
        fake.world().fault(Fault::new("drop_last_row").body(PAGE).skip(skip + 1).next(30));
        let set: Settings<'_> = &[("page_size", json!(100))];
        let run = tap_with(&fake, set).run();
        failed += u32::from(run.code == 9);
        fake.world().faults.clear();
        let safe = run.messages().iter().rposition(|message| message["type"] == "STATE").unwrap();
        let before_state = run.messages()[..safe].iter().filter(|message| message["type"] == "RECORD").count();
        let mut all: Vec<Held> = run.events().into_iter().take(before_state).collect();
        all.extend(go_on(&fake, &run, MINUTE, set).events());
        same_once(&format!("fault at {skip}, exit {}", run.code), &all, fake.world().held());
    }
    assert!(failed > 0, "no proof failed");
}

/// A busy project, whose rows show some time after their arrival: each query sees one more.
#[test]
fn rows_that_show_while_their_slice_is_counted_do_not_fail_it() {
    let event = |n: u64| at(n, start() - (n as i64 + 1) * 1_000_000);
    let fake = fake_of((0..100).map(event));
    for nth in 1..20 {
        fake.world().before_query(nth, move |world| world.insert([event(200 + nth as u64)]));
    }
    let run = Tap::new(&fake).run().ends(0);
    assert!(run.stderr.contains("reading again"), "{}", run.stderr);
    // Queries of the second run, too, see one more until there are twenty.
    let second = go_on(&fake, &run, MINUTE, &[]);
    let third = go_on(&fake, &second, MINUTE, &[]);
    same_once("three runs", &[run, second, third].map(|run| run.events()).concat(), fake.world().held());
}

/// With `count_proof: warn` a run ends well without the rows, and says so.
#[test]
fn a_failed_proof_may_be_a_warning() {
    let fake = fake_of((0..400).map(|n| at(n, start() - n as i64 * 7_000_000)));
    fake.world().advance(MINUTE);
    fake.world().fault(Fault::new("drop_last_row").body(PAGE));
    let run = tap_with(&fake, &[("count_proof", json!("warn"))]).run().ends(0);
    assert_eq!(run.events().len(), 399, "{}", run.stderr);
    assert!(run.stderr.contains("holds 400 events and 399 of them came"), "{}", run.stderr);
    assert!(run.stderr.contains("proved 0 of 1 slices"), "{}", run.stderr);
}

/// A server that counts 2^64 - 1 rows on each of two days: the sum would overflow.
#[test]
fn counts_that_no_table_can_have_are_not_believed() {
    let fake = fake_of((0..10).map(|n| at(n, start() - n as i64 * 6 * HOUR_MICROS)));
    fake.world().fault(Fault::new("absurd_counts").body("count() AS rows"));
    // Each waits between its tries, so they wait side by side.
    std::thread::scope(|scope| {
        for tap in [Tap::new(&fake), Tap::new(&fake).arg("--plan")] {
            scope.spawn(move || {
                let run = tap.run();
                assert_eq!(run.code, 4, "{}", run.stderr);
                assert!(run.stderr.contains("CRITICAL") && !run.stderr.contains("internal fault"), "{}", run.stderr);
            });
        }
    });
}
