//! The encoder thread: row groups in, staged files out.
//!
//! At most one row group is encoded while the next one fills. When the next one is full first, the parser helps with the
//! columns of the one in work before it hands over, so both cores are busy and memory stays at two row groups.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use super::layout::Layout;
use super::row_group::RowGroup;
use super::staged::{Files, Staged};
use crate::error::{Error, Kind, Result};
use crate::target::store::Fs;

enum Job {
    Append(Arc<RowGroup>, bool),
    Empty(Arc<Layout>),
    Close(u64),
    Finish(Sender<Vec<Staged>>),
    /// Finish without the row groups behind this many STATEs.
    FinishCovered(u64, Sender<Option<Vec<Staged>>>),
    /// Files to come belong to this commit.
    Commit(u64),
}

/// The parser's end of the encoder thread.
#[derive(Debug)]
pub struct Encoder {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<Result<()>>>,
    /// The row group handed over last.
    current: Option<Arc<RowGroup>>,
    bytes: Arc<AtomicU64>,
}

impl Encoder {
    /// Starts the thread. Its first files belong to commit number `commit`.
    pub fn start(fs: Arc<dyn Fs>, commit: u64) -> Result<Self> {
        // Room for two: the jobs without a row group must not wait behind the one in work.
        let (jobs, received) = sync_channel(1);
        let bytes = Arc::new(AtomicU64::new(0));
        let files = Files::new(fs, commit, Arc::clone(&bytes));
        let thread = std::thread::Builder::new().name("encoder".to_owned()).spawn(move || run(files, &received));
        let thread = thread.map_err(|e| Error::new(Kind::Disk, format!("starting the encoder thread failed: {e}")))?;
        Ok(Encoder { jobs: Some(jobs), thread: Some(thread), current: None, bytes })
    }

    /// Bytes written to files since the last [`Encoder::finish`].
    pub fn bytes_written(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Hands a row group over; `last` cuts its file.
    pub fn append(&mut self, group: RowGroup, last: bool) -> Result<()> {
        if let Some(current) = self.current.take() {
            current.encode_waiting();
        }
        let group = Arc::new(group);
        self.send(Job::Append(Arc::clone(&group), last))?;
        self.current = Some(group);
        Ok(())
    }

    /// Has a file without rows made.
    pub fn empty(&mut self, layout: Arc<Layout>) -> Result<()> {
        self.send(Job::Empty(layout))
    }

    /// Has the open file of a layout completed, because no more rows of it will come.
    pub fn close(&mut self, layout: u64) -> Result<()> {
        self.send(Job::Close(layout))
    }

    /// Waits until every row is in a complete, synced file, and takes these files.
    pub fn finish(&mut self) -> Result<Vec<Staged>> {
        if let Some(current) = self.current.take() {
            current.encode_waiting();
        }
        let (reply, staged) = channel();
        self.send(Job::Finish(reply))?;
        staged.recv().map_err(|_| self.death())
    }

    /// The same, without the row groups that came behind the last of `states` STATEs. `None` where that is not possible,
    /// because too many files hold rows of both sides.
    pub fn finish_covered(&mut self, states: u64) -> Result<Option<Vec<Staged>>> {
        if let Some(current) = self.current.take() {
            current.encode_waiting();
        }
        let (reply, staged) = channel();
        self.send(Job::FinishCovered(states, reply))?;
        staged.recv().map_err(|_| self.death())
    }

    /// Says which commit the files to come belong to.
    pub fn set_commit(&mut self, commit: u64) -> Result<()> {
        self.send(Job::Commit(commit))
    }

    fn send(&mut self, job: Job) -> Result<()> {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if sent { Ok(()) } else { Err(self.death()) }
    }

    /// Why the thread ended.
    fn death(&mut self) -> Error {
        self.jobs = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => error,
            _ => Error::new(Kind::Internal, "the encoder thread ended unexpectedly"),
        }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(mut files: Files, jobs: &Receiver<Job>) -> Result<()> {
    for job in jobs {
        match job {
            Job::Append(group, last) => files.append(&group, last)?,
            Job::Empty(layout) => files.empty(&layout)?,
            Job::Close(id) => files.close(id)?,
            // The parser waits for this answer; if it is gone, nobody is left to tell.
            Job::Finish(reply) => drop(reply.send(files.finish()?)),
            Job::FinishCovered(states, reply) => drop(reply.send(files.finish_covered(states)?)),
            Job::Commit(commit) => files.set_commit(commit),
        }
    }
    Ok(())
}
