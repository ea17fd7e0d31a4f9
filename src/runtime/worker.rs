//! [`ComputeWorker`]: the crate's own threads, on which every job is stepped.
//!
//! Nothing heavy runs on Bevy's pools. Jobs wait in lanes, and a lane is served before the ones below it.
//! The game's thread only sends and tries to receive: it never waits for a job. A job that panics
//! becomes [`Error::Panicked`], and the worker goes on. Under [`Execution::PerFrame`] there are no
//! threads: the same jobs are stepped inside the frame, so tests and replays are deterministic.

use crate::error::{Error, Result};
use crate::job::Job;
use bevy::prelude::Resource;
use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Where jobs are stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// On the worker's own threads, this many.
    Background {
        /// At least 1.
        threads: usize,
    },
    /// Inside `App::update`, this many steps a frame. Deterministic.
    PerFrame(usize),
}

impl Default for Execution {
    /// One thread: a job is a sequence of steps, and a second thread only helps when two jobs run.
    fn default() -> Self {
        Self::Background { threads: 1 }
    }
}

/// What kind of work it is: a lane is served before the ones below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Somebody waits for words.
    Decode,
    /// Somebody waits for a level.
    Level,
    /// A player's profile.
    Player,
    /// Training.
    Training,
}

const LANES: usize = 4;

/// What a job told.
#[derive(Debug)]
pub enum JobEvent<U, O> {
    /// It did a step.
    Update(U),
    /// It is done; nothing follows.
    Finished(O),
    /// It failed; nothing follows.
    Failed(Error),
}

/// The other end of a running job. Dropping it cancels the job at its next step.
pub struct JobHandle<J: Job> {
    events: Receiver<JobEvent<J::Update, J::Output>>,
    cancelled: Arc<AtomicBool>,
}

impl<J: Job> JobHandle<J> {
    /// The next event, if there is one. Never waits. A worker that is gone is a failure.
    pub fn try_next(&self) -> Option<JobEvent<J::Update, J::Output>> {
        match self.events.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                Some(JobEvent::Failed(Error::backend("running a job", "the worker is gone")))
            }
        }
    }
}

impl<J: Job> Drop for JobHandle<J> {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

trait ErasedJob: Send {
    /// One step. Returns whether there is more to do.
    fn step(&mut self) -> bool;
}

struct Running<J: Job> {
    name: String,
    job: J,
    events: Sender<JobEvent<J::Update, J::Output>>,
    cancelled: Arc<AtomicBool>,
}

impl<J: Job> ErasedJob for Running<J> {
    fn step(&mut self) -> bool {
        if self.cancelled.load(Ordering::Relaxed) {
            return false;
        }
        // The job is dropped after a panic, so a broken invariant inside it is never seen again.
        let stepped: Result<ControlFlow<J::Output, J::Update>> =
            catch_unwind(AssertUnwindSafe(|| self.job.step())).unwrap_or_else(|panic| {
                let message = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "no message".into());
                Err(Error::Panicked { job: self.name.clone(), message })
            });
        let (event, more) = match stepped {
            Ok(ControlFlow::Continue(update)) => (JobEvent::Update(update), true),
            Ok(ControlFlow::Break(output)) => (JobEvent::Finished(output), false),
            Err(error) => (JobEvent::Failed(error), false),
        };
        // Nobody listens any more: the same as cancelled.
        self.events.send(event).is_ok() && more
    }
}

struct Lanes {
    jobs: [(Sender<Box<dyn ErasedJob>>, Receiver<Box<dyn ErasedJob>>); LANES],
    /// One token for every job in a lane.
    tokens: (Sender<()>, Receiver<()>),
    waiting: AtomicUsize,
    closing: AtomicBool,
}

impl Lanes {
    fn put(&self, lane: usize, job: Box<dyn ErasedJob>) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Both receivers live as long as `self`, so sending cannot fail.
        let _ = self.jobs[lane].0.send(job);
        let _ = self.tokens.0.send(());
    }

    fn take(&self) -> Option<(usize, Box<dyn ErasedJob>)> {
        let found =
            self.jobs.iter().enumerate().find_map(|(lane, (_, jobs))| Some((lane, jobs.try_recv().ok()?)));
        if found.is_some() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        found
    }

    fn step_one(&self) {
        if let Some((lane, mut job)) = self.take()
            && job.step()
        {
            self.put(lane, job);
        }
    }
}

/// Steps jobs. See the module's documentation.
#[derive(Resource)]
pub struct ComputeWorker {
    lanes: Arc<Lanes>,
    execution: Execution,
}

impl ComputeWorker {
    /// Starts the threads, or none for [`Execution::PerFrame`].
    pub fn new(execution: Execution) -> Result<Self> {
        let lanes = Arc::new(Lanes {
            jobs: std::array::from_fn(|_| unbounded()),
            tokens: unbounded(),
            waiting: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
        });
        let worker = Self { lanes, execution };
        if let Execution::Background { threads } = execution {
            for n in 0..threads.clamp(1, 64) {
                let lanes = Arc::clone(&worker.lanes);
                std::thread::Builder::new()
                    .name(format!("skald worker {n}"))
                    .spawn(move || serve(&lanes))
                    .map_err(|e| Error::backend("starting the worker's threads", e))?;
            }
        }
        Ok(worker)
    }

    /// Hands a job over. It is stepped until it is done, fails, or the handle is dropped.
    pub fn spawn<J: Job>(&self, lane: Lane, name: impl Into<String>, job: J) -> JobHandle<J> {
        let (sender, events) = unbounded();
        let cancelled = Arc::new(AtomicBool::new(false));
        let running = Running { name: name.into(), job, events: sender, cancelled: Arc::clone(&cancelled) };
        self.lanes.put(lane as usize, Box::new(running));
        JobHandle { events, cancelled }
    }

    /// How many jobs wait for a step.
    pub fn waiting(&self) -> usize {
        self.lanes.waiting.load(Ordering::Relaxed)
    }

    /// Where jobs are stepped.
    pub fn execution(&self) -> Execution {
        self.execution
    }

    /// Under [`Execution::PerFrame`]: does this frame's steps. Otherwise nothing.
    pub fn step_frame(&self) {
        if let Execution::PerFrame(steps) = self.execution {
            for _ in 0..steps.max(1) {
                if self.lanes.tokens.1.try_recv().is_err() {
                    return;
                }
                self.lanes.step_one();
            }
        }
    }
}

impl Drop for ComputeWorker {
    fn drop(&mut self) {
        self.lanes.closing.store(true, Ordering::Relaxed);
        if let Execution::Background { threads } = self.execution {
            for _ in 0..threads.clamp(1, 64) {
                let _ = self.lanes.tokens.0.send(());
            }
        }
    }
}

fn serve(lanes: &Lanes) {
    // Best effort: a system that does not let us be polite runs us at the usual priority.
    let _ = thread_priority::set_current_thread_priority(thread_priority::ThreadPriority::Min);
    while lanes.tokens.1.recv().is_ok() && !lanes.closing.load(Ordering::Relaxed) {
        lanes.step_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    struct Count(u32, u32);

    impl Job for Count {
        type Output = u32;
        type Update = u32;

        fn step(&mut self) -> Result<ControlFlow<u32, u32>> {
            self.0 += 1;
            assert_ne!(self.0, 666, "the number of the beast");
            Ok(if self.0 == self.1 { ControlFlow::Break(self.0) } else { ControlFlow::Continue(self.0) })
        }
    }

    fn wait<J: Job>(handle: &JobHandle<J>) -> Result<J::Output> {
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end {
            match handle.try_next() {
                Some(JobEvent::Finished(output)) => return Ok(output),
                Some(JobEvent::Failed(error)) => return Err(error),
                Some(JobEvent::Update(_)) => {}
                None => std::thread::yield_now(),
            }
        }
        panic!("the job did not end");
    }

    #[test]
    fn a_job_runs_in_the_background_to_its_end() {
        let worker = ComputeWorker::new(Execution::Background { threads: 2 }).unwrap();
        assert_eq!(wait(&worker.spawn(Lane::Decode, "count", Count(0, 100))).unwrap(), 100);
    }

    #[test]
    fn a_panic_is_a_typed_failure_and_the_worker_goes_on() {
        let worker = ComputeWorker::new(Execution::default()).unwrap();
        let error = wait(&worker.spawn(Lane::Decode, "beast", Count(660, 700))).unwrap_err();
        assert!(matches!(&error, Error::Panicked { job, .. } if job == "beast"), "{error}");
        assert!(error.to_string().contains("number of the beast"));
        assert_eq!(wait(&worker.spawn(Lane::Decode, "count", Count(0, 3))).unwrap(), 3);
    }

    #[test]
    fn dropping_the_handle_cancels_the_job() {
        let worker = ComputeWorker::new(Execution::PerFrame(1)).unwrap();
        let handle = worker.spawn(Lane::Training, "count", Count(0, 100));
        worker.step_frame();
        assert_eq!(worker.waiting(), 1);
        drop(handle);
        worker.step_frame();
        assert_eq!(worker.waiting(), 0);
    }

    #[test]
    fn decoding_is_served_before_training() {
        let worker = ComputeWorker::new(Execution::PerFrame(1)).unwrap();
        let training = worker.spawn(Lane::Training, "training", Count(0, 10));
        let decode = worker.spawn(Lane::Decode, "decode", Count(0, 2));
        worker.step_frame();
        worker.step_frame();
        assert!(training.try_next().is_none());
        assert_eq!(wait(&decode).unwrap(), 2);
        worker.step_frame();
        assert!(training.try_next().is_some());
    }
}
