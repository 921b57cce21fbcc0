use super::*;
use std::cell::Cell;

const SECOND: Duration = Duration::from_secs(1);

/// PostHog's budget: a bucket that refills, and refuses queries while it is empty.
struct Bucket {
    now: Cell<Duration>,
    left: Cell<f64>,
    per_second: f64,
}

impl Bucket {
    fn pass(&self, time: Duration) {
        self.now.set(self.now.get() + time);
        self.left.set(self.left.get() + self.per_second * time.as_secs_f64());
    }

    /// Sends a query as soon as it may be sent; gives also how long that took.
    fn begin<'b>(&self, budget: &'b Budget) -> (BudgetPermit<'b>, Duration) {
        let mut waited = Duration::ZERO;
        let pause = |wait| {
            waited += wait;
            self.pass(wait);
            Ok::<(), ()>(())
        };
        let permit = budget.permit(|| self.now.get(), pause).unwrap();
        assert!(self.left.get() > 0.0, "refused");
        (permit, waited)
    }

    /// Takes off what a query read; gives what its header says.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole bytes")]
    fn answer(&self, read: u64) -> u64 {
        self.left.set(self.left.get() - read as f64);
        self.left.get().max(0.0) as u64
    }

    /// One query that takes `time`; gives how long it waited.
    fn query(&self, budget: &Budget, read: u64, time: Duration) -> Duration {
        let (permit, waited) = self.begin(budget);
        self.pass(time);
        permit.end(self.now.get(), Some(self.answer(read)), Some(read));
        waited
    }
}

fn bucket(left: f64, per_hour: f64) -> Bucket {
    Bucket { now: Cell::default(), left: Cell::new(left), per_second: per_hour / 3600.0 }
}

#[test]
fn no_budget_is_so_small_that_the_run_is_refused() {
    for (per_hour, read) in [(20e6, 5_000_000), (2e6, 100_000), (20e9, 24_000_000), (200e9, 3_000_000_000)] {
        let (budget, bucket) = (Budget::default(), bucket(20.0 * read as f64, per_hour));
        let waited: Duration = (0..60).map(|_| bucket.query(&budget, read, SECOND / 2)).sum();
        // All but what was there had to come back meanwhile.
        let needed = (40.0 * read as f64 / bucket.per_second - 30.0).max(0.0);
        assert!(waited.as_secs_f64() >= needed * 0.9, "{waited:?} of {needed} s");
        assert!(waited.as_secs_f64() <= needed * 1.1 + 10.0, "{waited:?} of {needed} s");
    }
}

/// Two queries at once as long as there is enough, and answers that arrive up to 0.3 s after they were made, in any
/// order: what is told too early or too late must not lead to a refusal, whatever the refill is.
#[test]
fn two_queries_at_once_are_never_refused() {
    for seed in 0..300_u64 {
        let mut random = seed;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let read = 1_000_000 + draw(20_000_000);
        // From a query in 20 seconds to ten in one.
        let per_hour = read as f64 * 3600.0 / 20.0 * (1.0 + draw(200) as f64);
        let (budget, bucket) = (Budget::default(), bucket((5 + draw(20)) as f64 * read as f64, per_hour));
        for _ in 0..40 {
            let mut turns = vec![bucket.begin(&budget).0];
            if !lock(&budget.known).is_short(bucket.now.get()) {
                turns.push(bucket.begin(&budget).0);
            }
            let mut answers = Vec::new();
            for permit in turns {
                bucket.pass(Duration::from_millis(50 + draw(100)));
                answers.push((permit, bucket.answer(read)));
            }
            if draw(2) == 1 {
                answers.reverse();
            }
            for (permit, left) in answers {
                bucket.pass(Duration::from_millis(draw(300)));
                permit.end(bucket.now.get(), Some(left), Some(read));
            }
        }
    }
}

#[test]
fn there_is_no_wait_without_a_budget_or_with_enough_of_it() {
    let budget = Budget::default();
    let wait = |now| lock(&budget.known).wait(now);
    budget.permit(|| SECOND, |_| Err("wait")).unwrap().end(SECOND, None, None);
    budget.permit(|| SECOND, |_| Err("wait")).unwrap().end(SECOND, Some(10_000_000_000), Some(1_000_000_000));
    budget.permit(|| SECOND, |_| Err("wait")).unwrap().end(SECOND, Some(900_000_000), Some(1_000_000_000));
    assert_eq!(wait(SECOND).as_secs(), 198, "1.1 GB are missing at 5.6 MB a second");
    assert_eq!(budget.permit(|| SECOND, |_| Err("wait")).unwrap_err(), "wait");
    assert_eq!(wait(SECOND * 200), Duration::ZERO);
}

/// A refusal tells that nothing is left.
#[test]
fn a_refusal_holds_the_next_queries_too() {
    let budget = Budget::default();
    let permit = |now: Duration| budget.permit(|| now, Err);
    permit(SECOND).unwrap().end(SECOND, Some(1_000_000_000), Some(20_000_000));
    permit(SECOND).unwrap().end(SECOND, Some(0), None);
    assert!(permit(SECOND).unwrap_err() >= SECOND * 7, "40 MB at 5.6 MB a second");
}

/// A query that failed may have read: it tells only what is left, or nothing.
#[test]
fn a_query_that_hides_what_it_read_is_not_measured_by() {
    for is_answered in [true, false] {
        let budget = Budget::default();
        let permit = |now: Duration| budget.permit(|| now, Err).unwrap();
        permit(SECOND).end(SECOND, Some(2_000_000_000), Some(100_000_000));
        permit(SECOND * 3).end(SECOND * 3, is_answered.then_some(1_000_000_000), None);
        permit(SECOND * 5).end(SECOND * 5, Some(920_000_000), Some(100_000_000));
        assert_eq!(lock(&budget.known).seen.unwrap().refill_per_second, None);
        permit(SECOND * 7).end(SECOND * 7, Some(840_000_000), Some(100_000_000));
        assert_eq!(lock(&budget.known).seen.unwrap().refill_per_second, Some(10e6), "20 MB came back in two seconds");
    }
}

/// Another tap reads 500 MB at once.
#[test]
fn what_others_read_is_not_measured_by() {
    let budget = Budget::default();
    let permit = |now: Duration| budget.permit(|| now, Err).unwrap();
    permit(SECOND).end(SECOND, Some(900_000_000), Some(20_000_000));
    permit(SECOND * 3).end(SECOND * 3, Some(900_000_000), Some(20_000_000));
    permit(SECOND * 5).end(SECOND * 5, Some(400_000_000), Some(20_000_000));
    assert_eq!(lock(&budget.known).seen.unwrap().refill_per_second, Some(10e6), "as before");
    permit(SECOND * 7).end(SECOND * 7, Some(400_000_000), Some(20_000_000));
    assert_eq!(lock(&budget.known).seen.unwrap().refill_per_second, Some(10e6), "20 MB came back in two seconds");
}

/// Headers end at zero, balances do not.
#[test]
fn what_a_large_query_took_too_much_is_waited_for() {
    let budget = Budget::default();
    let permit = |now: Duration| budget.permit(|| now, Err);
    permit(SECOND).unwrap().end(SECOND, Some(500_000_000), Some(100_000_000));
    permit(SECOND * 11).unwrap().end(SECOND * 11, Some(500_000_000), Some(100_000_000));
    permit(SECOND * 11).unwrap().end(SECOND * 11, Some(0), Some(800_000_000));
    assert_eq!(permit(SECOND * 11).unwrap_err(), SECOND * 190, "300 MB and two queries at 10 MB a second");
}

/// The answer that was made first may arrive last.
#[test]
fn of_two_answers_the_lower_one_counts() {
    let budget = Budget::default();
    let permit = || budget.permit(|| SECOND, |_| Err("wait")).unwrap();
    permit().end(SECOND, Some(1_000_000_000), Some(100_000_000));
    let (first, second) = (permit(), permit());
    second.end(SECOND, Some(150_000_000), Some(100_000_000));
    first.end(SECOND, Some(900_000_000), Some(100_000_000));
    assert_eq!(budget.permit(|| SECOND, |_| Err("wait")).unwrap_err(), "wait");
}

#[test]
fn a_short_budget_waits_for_the_query_under_way() {
    let budget = Budget::default();
    let permit = || budget.permit(|| SECOND, |_| Err("wait")).unwrap();
    let (first, second) = (permit(), permit());
    first.end(SECOND, Some(300_000_000), Some(100_000_000));
    std::thread::scope(|scope| {
        let third = scope.spawn(|| permit().end(SECOND, Some(100_000_000), Some(100_000_000)));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!third.is_finished(), "two queries at once");
        second.end(SECOND, Some(200_000_000), Some(100_000_000));
    });
}

/// Of two queries at once, what the second is told may lack what the first reads: 200 MB too much in one second.
#[test]
fn queries_at_the_same_time_are_not_measured_by() {
    let budget = Budget::default();
    let permit = || budget.permit(|| SECOND, |_| Err("wait")).unwrap();
    permit().end(SECOND, Some(1_000_000_000), Some(200_000_000));
    let (first, second) = (permit(), permit());
    second.end(SECOND * 2, Some(800_000_000), Some(200_000_000));
    first.end(SECOND * 2, Some(610_000_000), Some(200_000_000));
    let third = budget.permit(|| SECOND * 3, |_| Err("wait")).unwrap();
    third.end(SECOND * 3, Some(420_000_000), Some(200_000_000));
    assert_eq!(lock(&budget.known).seen.unwrap().refill_per_second, Some(10e6), "20 MB came back in two seconds");
}
