//! [`Desk`]: does what the panels ask for, on threads of its own.
//!
//! One thread, the clerk, keeps the store and pages through it. What takes longer runs on a thread for itself and can be
//! cancelled. All answers come through one bounded mailbox; [`Desk::receive`] empties it once a frame, and that is all a
//! frame pays. A desk that is dropped stops its training, saved, and cancels the rest.

mod files;
mod measure;
mod store;
mod talk;
mod train;
mod watch;
mod workshop;

use super::layout::Panel;
use super::request::{Job, Request};
use super::snapshot::Snapshot;
use crate::error::{Error, Result};
use crate::level::{Grid, TileGame};
use crate::training::TrainControl;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where everything lies.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// A playtest store.
    pub store: Option<PathBuf>,
    /// Directories of models, or folders of such.
    pub models: Vec<PathBuf>,
    /// A folder of training runs.
    pub runs: Option<PathBuf>,
    /// A folder of personas.
    pub personas: Option<PathBuf>,
    /// The world that is spoken of; nothing: that of the village.
    pub world: Option<PathBuf>,
    /// Where picks and tables are written; nothing: beside the store, or here.
    pub out: Option<PathBuf>,
}

impl Places {
    /// The folder that is written to.
    pub fn out(&self) -> PathBuf {
        let beside = || self.store.as_ref().and_then(|store| store.parent()).map(PathBuf::from);
        self.out.clone().or_else(beside).unwrap_or_default()
    }
}

/// A change of the snapshot.
type Told = Box<dyn FnOnce(&mut Snapshot) + Send>;

/// Answers that may wait; who has more to tell waits with it.
const MAILBOX: usize = 256;

/// Tells the snapshot.
#[derive(Clone)]
struct Teller(Sender<Told>);

impl Teller {
    fn tell(&self, change: impl FnOnce(&mut Snapshot) + Send + 'static) {
        // Nobody listens any more: the inspector is gone.
        let _ = self.0.send(Box::new(change));
    }
}

/// Does what is asked for.
pub struct Desk {
    asked: Sender<Request>,
    told: Receiver<Told>,
    running: Running,
}

/// What is under way, shared with the clerk so that a cancellation needs not wait for it.
#[derive(Clone, Default)]
struct Running {
    cancels: Arc<Mutex<BTreeMap<Job, Arc<AtomicBool>>>>,
    training: Arc<Mutex<Option<TrainControl>>>,
}

impl Running {
    fn cancel(&self, job: Job) {
        let cancels = self.cancels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flag) = cancels.get(&job) {
            flag.store(true, Ordering::Relaxed);
        }
    }

    fn training(&self, act: impl FnOnce(&TrainControl)) {
        if let Some(control) = &*self.training.lock().unwrap_or_else(PoisonError::into_inner) {
            act(control);
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for job in [Job::Verify, Job::Talk, Job::Level, Job::Evaluation] {
            self.running.cancel(job);
        }
        self.running.training(TrainControl::stop);
    }
}

impl Desk {
    /// Opens everything, without waiting for it: the answers come one by one.
    pub fn open(places: Places) -> Result<Self> {
        let (asked, requests) = unbounded();
        let (mailbox, told) = bounded(MAILBOX);
        let running = Running::default();
        let clerk = Clerk {
            places,
            teller: Teller(mailbox),
            running: running.clone(),
            store: store::Shelf::default(),
            level: Arc::default(),
        };
        std::thread::Builder::new()
            .name("skald desk".into())
            .spawn(move || clerk.work(&requests))
            .map_err(|e| Error::backend("starting the inspector's thread", e))?;
        Ok(Self { asked, told, running })
    }

    /// Asks for something. What is the running game's ([`Request::Promote`], [`Request::RollBack`]) is passed over.
    pub fn ask(&self, request: Request) {
        match request {
            Request::Cancel(job) => self.running.cancel(job),
            request => {
                // The clerk ends only with the desk.
                let _ = self.asked.send(request);
            }
        }
    }

    /// Takes in all that was told since. Says how much it was.
    pub fn receive(&self, snapshot: &mut Snapshot) -> usize {
        let mut count = 0;
        while count < MAILBOX
            && let Ok(change) = self.told.try_recv()
        {
            change(snapshot);
            count += 1;
        }
        count
    }
}

/// The level under the hand, and its game.
type Held = Arc<Mutex<Option<(Arc<TileGame>, Arc<Grid>)>>>;

struct Clerk {
    places: Places,
    teller: Teller,
    running: Running,
    store: store::Shelf,
    level: Held,
}

impl Clerk {
    fn work(mut self, requests: &Receiver<Request>) {
        self.look_around();
        while let Ok(mut request) = requests.recv() {
            // Of several questions of the same kind that wait, the last one counts: a filter that is being typed.
            while let (Request::Events { .. }, Ok(next)) = (&request, requests.try_recv()) {
                if !matches!(next, Request::Events { .. }) {
                    self.answer(request);
                }
                request = next;
            }
            self.answer(request);
        }
    }

    fn look_around(&mut self) {
        self.find_files();
        if self.places.store.is_some() {
            self.at(Panel::Recordings, Self::open_store);
        }
    }

    /// Does something, and shows where it failed.
    fn at(&mut self, panel: Panel, act: impl FnOnce(&mut Self) -> Result<()>) {
        if let Err(error) = act(self) {
            let text = error.to_string();
            self.teller.tell(move |snapshot| {
                snapshot.errors.insert(panel, text);
            });
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Sessions { skipped } => self.at(Panel::Recordings, |desk| desk.sessions(skipped)),
            Request::Events { session, from, kind } => {
                self.at(Panel::Recordings, |desk| desk.events(session, from, &kind));
            }
            Request::Refresh => self.look_around(),
            Request::Verify => self.verify(),
            Request::Erase(what) => self.at(Panel::Privacy, |desk| desk.erase(&what)),
            Request::Train { recipe, config, data, out, resume } => {
                self.train(recipe, config, data, out, resume);
            }
            Request::Pause => self.running.training(TrainControl::pause),
            Request::Continue => self.running.training(TrainControl::resume),
            Request::Stop => self.running.training(TrainControl::stop),
            Request::Ask { persona, said, sampling, seed, models } => {
                self.talk(talk::Question { persona, said, sampling, seed, models });
            }
            Request::Prefer { chosen } => self.prefer(chosen),
            Request::Generate { model, controls, size, seed, open } => {
                self.generate(workshop::Wanted { model, controls, size, seed, open });
            }
            Request::Repair => self.repair(),
            Request::Evaluate { model, data } => self.evaluate(model, data),
            Request::Export { name, csv } => self.export(&name, &csv),
            Request::Dismiss(panel) => self.teller.tell(move |snapshot| {
                snapshot.errors.remove(&panel);
                snapshot.notes.remove(&panel);
            }),
            Request::Cancel(_) | Request::Promote(_) | Request::RollBack => {}
        }
    }

    /// Runs a job on a thread of its own. One of a kind at a time: a second one is passed over.
    fn spawn(
        &self,
        job: Job,
        panel: Panel,
        act: impl FnOnce(&Teller, &AtomicBool) -> Result<()> + Send + 'static,
    ) {
        let flag = Arc::new(AtomicBool::new(false));
        {
            let mut cancels = self.running.cancels.lock().unwrap_or_else(PoisonError::into_inner);
            if cancels.contains_key(&job) {
                return;
            }
            cancels.insert(job, Arc::clone(&flag));
        }
        self.teller.tell(move |snapshot| {
            snapshot.jobs.insert(job, None);
            snapshot.errors.remove(&panel);
            snapshot.notes.remove(&panel);
        });
        let (teller, running) = (self.teller.clone(), self.running.clone());
        let done = move |result: Result<()>, teller: &Teller| {
            running.cancels.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
            teller.tell(move |snapshot| {
                snapshot.jobs.remove(&job);
                if let Err(error) = result {
                    snapshot.errors.insert(panel, error.to_string());
                }
            });
        };
        let failed = done.clone();
        let started = std::thread::Builder::new().name(format!("skald {job:?}")).spawn(move || {
            crate::nn::give_way();
            done(caught(panel.title(), || act(&teller, &flag)), &teller);
        });
        if let Err(error) = started {
            failed(Err(Error::backend("starting a thread", error)), &self.teller);
        }
    }
}

/// A panic as an error: the inspector goes on.
fn caught(job: &str, act: impl FnOnce() -> Result<()>) -> Result<()> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Error::Panicked { job: job.into(), message: text.unwrap_or_else(|| "unknown".into()) })
    })
}
