//! A training, on a thread of its own: started, paused, stopped from the panel.

use super::{Clerk, Teller, caught};
use crate::error::Result;
use crate::inspector::layout::Panel;
use crate::inspector::request::Recipe;
use crate::inspector::snapshot::TrainingView;
use crate::job::Job;
use crate::nn::Compute;
use crate::training::{Progress, Train, Trained, TrainingRun};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How often the screen is told of steps.
const EVERY: Duration = Duration::from_millis(100);

impl Clerk {
    pub(super) fn train(
        &mut self,
        recipe: Recipe,
        config: PathBuf,
        data: Vec<PathBuf>,
        out: PathBuf,
        resume: bool,
    ) {
        let run = match recipe {
            Recipe::Dialogue => TrainingRun::dialogue(config, data, out.clone()),
            Recipe::Level => TrainingRun::level(config, data, out.clone()),
        };
        let run = if resume { run.resume() } else { run };
        let train = Train::new(run, Compute::cpu(1).politely());
        {
            let mut held = self.running.training.lock().unwrap_or_else(PoisonError::into_inner);
            if held.is_some() {
                return;
            }
            *held = Some(train.control());
        }
        self.teller.tell(move |snapshot| {
            snapshot.errors.remove(&Panel::Training);
            snapshot.notes.remove(&Panel::Training);
            let runs = std::mem::take(&mut snapshot.training.runs);
            snapshot.training = TrainingView { runs, out: Some(out), ..TrainingView::default() };
        });
        let (teller, running) = (self.teller.clone(), self.running.clone());
        let ended = {
            let (teller, running) = (teller.clone(), running);
            move |result: Result<()>| {
                *running.training.lock().unwrap_or_else(PoisonError::into_inner) = None;
                teller.tell(move |snapshot| {
                    (snapshot.training.out, snapshot.training.paused) = (None, false);
                    if let Err(error) = result {
                        snapshot.errors.insert(Panel::Training, error.to_string());
                    }
                });
            }
        };
        let failed = ended.clone();
        let thread = std::thread::Builder::new().name("skald training".into());
        if let Err(error) = thread.spawn(move || ended(caught("training", || follow(train, &teller)))) {
            failed(Err(crate::Error::backend("starting a thread", error)));
        }
    }
}

/// Steps a training to its end, through every pause.
fn follow(mut train: Train, teller: &Teller) -> Result<()> {
    let (mut steps, mut told) = (Vec::new(), Instant::now());
    loop {
        match train.step()? {
            ControlFlow::Continue(None) => {}
            ControlFlow::Continue(Some(progress)) => {
                if progress.stage == crate::training::Stage::Stepped {
                    steps.push(progress);
                }
                if told.elapsed() >= EVERY {
                    flush(&mut steps, teller);
                    told = Instant::now();
                }
            }
            ControlFlow::Break(Trained::Paused(rest)) => {
                flush(&mut steps, teller);
                teller.tell(|snapshot| snapshot.training.paused = true);
                let control = rest.control();
                while control.pauses() {
                    std::thread::sleep(Duration::from_millis(50));
                }
                teller.tell(|snapshot| snapshot.training.paused = false);
                train = *rest;
            }
            ControlFlow::Break(Trained::Stopped(step)) => {
                flush(&mut steps, teller);
                let text = match step {
                    Some(step) => format!("stopped and saved at step {step}; Resume goes on with it"),
                    None => "stopped before it began; nothing was left behind".into(),
                };
                teller.tell(move |snapshot| {
                    snapshot.notes.insert(Panel::Training, text);
                });
                return Ok(());
            }
            ControlFlow::Break(Trained::Finished(fitted)) => {
                flush(&mut steps, teller);
                let text = format!(
                    "trained {} steps in {:.0} s; the best held-out loss is {:.4} at step {}, in {}; choose Search again",
                    fitted.steps,
                    fitted.seconds,
                    fitted.best_val_loss,
                    fitted.best_step,
                    fitted.checkpoint.display()
                );
                teller.tell(move |snapshot| {
                    snapshot.notes.insert(Panel::Training, text);
                });
                return Ok(());
            }
        }
    }
}

fn flush(steps: &mut Vec<Progress>, teller: &Teller) {
    let steps = std::mem::take(steps);
    if !steps.is_empty() {
        teller.tell(move |snapshot| steps.into_iter().for_each(|progress| snapshot.training.take(progress)));
    }
}
