//! [`ComputeWorker`]: the crate's own threads, on which every job is stepped.
//!
//! Nothing heavy runs on Bevy's pools. Jobs wait in lanes, and a lane is served before the ones below it.
//! Training has a thread of its own, which begins a step only when there is nothing else to do: a line need not
//! wait for the step under way. The game's thread only sends and tries to receive: it never waits for a job, save
//! that a closing app gives a training the time to save. A job that panics becomes [`Error::Panicked`], and the
//! worker goes on. Under [`Execution::PerFrame`] there are no threads: the same jobs are stepped inside the
//! frame, so tests and replays are deterministic.

use super::governor::Pace;
use crate::decode::SchedulerConfig;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::nn::give_way;
use bevy::prelude::Resource;
use crossbeam_channel::{Receiver, Sender, TryRecvError, unbounded};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where jobs are stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// On the worker's own threads, this many, and one more for [`Lane::Training`]. A model that speaks has as many of its own
    /// beside, where that is more than one. They park when there is nothing to do.
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

/// The lanes that a thread serves.
#[derive(Clone, Copy)]
enum Shift {
    /// Those of work that somebody waits for.
    Urgent,
    /// [`Lane::Training`].
    Training,
}

impl Shift {
    fn of(lane: usize) -> Self {
        if lane == Lane::Training as usize { Self::Training } else { Self::Urgent }
    }
}

/// How long a closing app waits for the step of a training.
const LAST_STEP: Duration = Duration::from_secs(5);

/// How often training looks whether there is still something else to do.
const LOOK: Duration = Duration::from_millis(2);

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
    /// Held as long as the job lives; dropped after it.
    _alive: Arc<()>,
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
    /// For each shift, one token for every job in its lanes.
    tokens: [(Sender<()>, Receiver<()>); 2],
    /// For each shift, held by every job of it that is not done.
    alive: [Arc<()>; 2],
    waiting: AtomicUsize,
    closing: AtomicBool,
    pace: Arc<Pace>,
}

impl Lanes {
    fn put(&self, lane: usize, job: Box<dyn ErasedJob>) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Both receivers live as long as `self`, so sending cannot fail.
        let _ = self.jobs[lane].0.send(job);
        let _ = self.tokens[Shift::of(lane) as usize].0.send(());
    }

    fn take(&self, shift: Shift) -> Option<(usize, Box<dyn ErasedJob>)> {
        let lanes = match shift {
            Shift::Urgent => 0..Lane::Training as usize,
            Shift::Training => Lane::Training as usize..LANES,
        };
        let found = lanes.into_iter().find_map(|lane| Some((lane, self.jobs[lane].1.try_recv().ok()?)));
        if found.is_some() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        found
    }

    fn step_one(&self, shift: Shift) {
        if let Some((lane, mut job)) = self.take(shift)
            && job.step()
        {
            self.put(lane, job);
        }
    }

    /// A step in a gap between frames, if there is one. `expected`: how long the last steps of each lane took.
    fn step_beside(&self, shift: Shift, expected: &mut [Duration; LANES]) {
        let Some((lane, mut job)) = self.take(shift) else { return };
        self.pace.wait(expected[lane], || self.closes());
        self.pace.enter();
        let since = Instant::now();
        let more = job.step();
        let took = since.elapsed();
        self.pace.leave();
        // The longer, at once; the shorter, slowly.
        expected[lane] = took.max((expected[lane] * 7 + took) / 8);
        if more {
            self.put(lane, job);
        }
    }

    fn lives(&self, shift: Shift) -> bool {
        Arc::strong_count(&self.alive[shift as usize]) > 1
    }

    fn closes(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
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
            tokens: [unbounded(), unbounded()],
            alive: [Arc::default(), Arc::default()],
            waiting: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            pace: Arc::default(),
        });
        let worker = Self { lanes, execution };
        if let Execution::Background { threads } = execution {
            let urgent = (0..threads.clamp(1, 64)).map(|n| (format!("skald worker {n}"), Shift::Urgent));
            for (name, shift) in urgent.chain([("skald training".into(), Shift::Training)]) {
                let lanes = Arc::clone(&worker.lanes);
                std::thread::Builder::new()
                    .name(name)
                    .spawn(move || serve(&lanes, shift))
                    .map_err(|e| Error::backend("starting the worker's threads", e))?;
            }
        }
        Ok(worker)
    }

    /// Hands a job over. It is stepped until it is done, fails, or the handle is dropped.
    pub fn spawn<J: Job>(&self, lane: Lane, name: impl Into<String>, job: J) -> JobHandle<J> {
        let (sender, events) = unbounded();
        let cancelled = Arc::new(AtomicBool::new(false));
        let running = Running {
            name: name.into(),
            job,
            events: sender,
            cancelled: Arc::clone(&cancelled),
            _alive: Arc::clone(&self.lanes.alive[Shift::of(lane as usize) as usize]),
        };
        self.lanes.put(lane as usize, Box::new(running));
        JobHandle { events, cancelled }
    }

    /// How many jobs wait for a step.
    pub fn waiting(&self) -> usize {
        self.lanes.waiting.load(Ordering::Relaxed)
    }

    /// What its threads see of the frame.
    pub(crate) fn pace(&self) -> &Arc<Pace> {
        &self.lanes.pace
    }

    /// How models decode on it.
    pub fn scheduler(&self) -> SchedulerConfig {
        let threads = if let Execution::Background { threads } = self.execution { threads } else { 0 };
        SchedulerConfig { threads, ..SchedulerConfig::default() }
    }

    /// Where jobs are stepped.
    pub fn execution(&self) -> Execution {
        self.execution
    }

    /// Under [`Execution::PerFrame`]: does this frame's steps. Otherwise nothing.
    pub fn step_frame(&self) {
        if let Execution::PerFrame(steps) = self.execution {
            for _ in 0..steps.max(1) {
                let shifts = [Shift::Urgent, Shift::Training];
                let work = |shift: &Shift| self.lanes.tokens[*shift as usize].1.try_recv().is_ok();
                let Some(shift) = shifts.into_iter().find(work) else { return };
                self.lanes.step_one(shift);
            }
        }
    }
}

impl Drop for ComputeWorker {
    fn drop(&mut self) {
        self.lanes.closing.store(true, Ordering::Relaxed);
        if let Execution::Background { threads } = self.execution {
            for _ in 0..threads.clamp(1, 64) {
                let _ = self.lanes.tokens[Shift::Urgent as usize].0.send(());
            }
            let _ = self.lanes.tokens[Shift::Training as usize].0.send(());
        }
        // A training saves when it is dropped: here, or on its thread after the step under way.
        let since = Instant::now();
        loop {
            while self.lanes.take(Shift::Training).is_some() {}
            if !self.lanes.lives(Shift::Training) || since.elapsed() > LAST_STEP {
                break;
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn serve(lanes: &Lanes, shift: Shift) {
    give_way();
    let mut expected = [Duration::ZERO; LANES];
    while lanes.tokens[shift as usize].1.recv().is_ok() && !lanes.closes() {
        while matches!(shift, Shift::Training) && lanes.lives(Shift::Urgent) && !lanes.closes() {
            std::thread::sleep(LOOK);
        }
        lanes.step_beside(shift, &mut expected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

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
    /// Waits for leave to end its only step, and says when it is dropped.
    struct Held(mpsc::Receiver<()>, mpsc::Sender<()>);

    impl Job for Held {
        type Output = ();
        type Update = ();

        fn step(&mut self) -> Result<ControlFlow<(), ()>> {
            let _ = self.0.recv();
            Ok(ControlFlow::Continue(()))
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            let _ = self.1.send(());
        }
    }

    #[test]
    fn a_line_does_not_wait_for_the_training_step_under_way() {
        let worker = ComputeWorker::new(Execution::default()).unwrap();
        let ((leave, held), (dropped, _ended)) = (mpsc::channel(), mpsc::channel());
        let training = worker.spawn(Lane::Training, "training", Held(held, dropped));
        assert_eq!(wait(&worker.spawn(Lane::Decode, "decode", Count(0, 9))).unwrap(), 9);
        assert!(training.try_next().is_none());
        drop(leave);
    }

    #[test]
    fn a_closing_worker_waits_until_its_training_is_dropped() {
        let worker = ComputeWorker::new(Execution::default()).unwrap();
        let ((leave, held), (dropped, ended)) = (mpsc::channel(), mpsc::channel());
        let _training = worker.spawn(Lane::Training, "training", Held(held, dropped));
        while worker.waiting() > 0 {
            std::thread::yield_now();
        }
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(leave);
        });
        drop(worker);
        ended.try_recv().unwrap();
        late.join().unwrap();
    }
}
