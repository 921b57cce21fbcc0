//! Lines on their way to standard error. A thread of its own writes them, so that a reader who does not read stops no run:
//! where nothing is taken for a while, lines are left out, and a line says how many.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many bytes of lines wait at most.
const WAITING_BYTES: usize = 256 * 1024;
/// A reader that is only slow gets this time to take a line; after it, lines are left out.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lines that wait for their writer.
pub(super) struct Lines {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// The line that tells how many are left out.
    notice: fn(u64) -> String,
}

struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
    left_out: u64,
    /// Nothing was taken for so long that nobody waits any more.
    is_stuck: bool,
    is_writing: bool,
}

impl Lines {
    /// No lines yet.
    pub(super) const fn new(notice: fn(u64) -> String) -> Lines {
        let queue = Queue { lines: VecDeque::new(), bytes: 0, left_out: 0, is_stuck: false, is_writing: false };
        Lines { queue: Mutex::new(queue), changed: Condvar::new(), notice }
    }

    /// Gives a line to the writer, or leaves it out where there is no room for it in time.
    pub(super) fn put(&self, line: String) {
        let is_full = |queue: &Queue| queue.bytes + line.len() > WAITING_BYTES && queue.bytes > 0;
        let mut queue = self.lock();
        if is_full(&queue) && !queue.is_stuck {
            queue = self.wait_while(queue, is_full);
            queue.is_stuck = is_full(&queue);
        }
        if is_full(&queue) {
            queue.left_out += 1;
            return;
        }
        let notice = self.notice(&mut queue);
        for line in notice.into_iter().chain([line]) {
            queue.bytes += line.len();
            queue.lines.push_back(line);
        }
        self.changed.notify_all();
    }

    /// Waits until all lines are written, or until nobody can expect that any more.
    pub(super) fn finish(&self) {
        let queue = self.lock();
        if !queue.is_stuck {
            drop(self.wait_while(queue, |queue| queue.is_writing || queue.bytes > 0 || queue.left_out > 0));
        }
    }

    /// Writes the lines as they come, for ever.
    pub(super) fn write_by(&self, mut write: impl FnMut(&str)) {
        loop {
            let next = self.next();
            write(&next);
            let mut queue = self.lock();
            queue.is_writing = false;
            queue.is_stuck = false;
            self.changed.notify_all();
        }
    }

    /// The next line.
    fn next(&self) -> String {
        let mut queue = self.lock();
        loop {
            let waiting = queue.lines.pop_front();
            if let Some(line) = &waiting {
                queue.bytes -= line.len();
            }
            if let Some(line) = waiting.or_else(|| self.notice(&mut queue)) {
                queue.is_writing = true;
                return line;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The line that stands for those that were left out until now.
    fn notice(&self, queue: &mut Queue) -> Option<String> {
        let left_out = std::mem::take(&mut queue.left_out);
        (left_out > 0).then(|| (self.notice)(left_out))
    }

    fn wait_while<'a>(
        &self,
        mut queue: MutexGuard<'a, Queue>,
        is_so: impl Fn(&Queue) -> bool,
    ) -> MutexGuard<'a, Queue> {
        let end = Instant::now() + PATIENCE;
        while is_so(&queue) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        queue
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    #[test]
    fn a_reader_who_does_not_read_holds_nobody_and_hears_how_much_is_missing() {
        let lines = Arc::new(Lines::new(|count| format!("{count} left out")));
        let (reader, taken) = channel();
        let (let_go, gate) = channel::<()>();
        let writer = Arc::clone(&lines);
        std::thread::spawn(move || {
            writer.write_by(|line| {
                let _ = gate.recv();
                reader.send(line.chars().take(20).collect::<String>()).unwrap();
            });
        });
        let long = "x".repeat(WAITING_BYTES / 2);
        // One of them is under way, two wait, and three find no room.
        lines.put("first".to_owned());
        while !lines.lock().is_writing {
            std::thread::yield_now();
        }
        for n in 0..5 {
            lines.put(format!("{n} {}", &long[2..]));
        }
        lines.finish();
        assert_eq!(lines.lock().left_out, 3);
        drop(let_go);
        while lines.lock().bytes > 0 {
            std::thread::yield_now();
        }
        lines.put("last".to_owned());
        let next = || taken.recv_timeout(Duration::from_secs(60)).unwrap().replace('x', "");
        let got: [String; 5] = std::array::from_fn(|_| next());
        assert_eq!(got, ["first", "0 ", "1 ", "3 left out", "last"]);
    }
}
