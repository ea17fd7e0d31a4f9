//! A talk: one model's answer or two, word by word, and the pick that is kept.

use super::watch::{Seen, Watch};
use super::{Clerk, Teller};
use crate::decode::{Backend, LoadedModel, Output, Sampling, Scheduler, SchedulerConfig};
use crate::dialogue::{Answer, Asked, Manner, Memory, Persona, PreferencePair, Spoken, Turn, World};
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::inspector::layout::Panel;
use crate::inspector::request::Job;
use crate::inspector::snapshot::{Answered, SeenToken};
use crate::model::Checkpoint;
use crate::seed::Seed;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// The world when none is given: that of the village example.
const VILLAGE: &str = include_str!("../../../assets/worlds/village.world.ron");

/// What is asked, and of whom.
pub(super) struct Question {
    pub persona: PathBuf,
    pub said: String,
    pub sampling: Sampling,
    pub seed: u64,
    pub models: Vec<PathBuf>,
}

/// The world of a file, or the village's.
pub(super) fn world(path: Option<&Path>) -> Result<World> {
    match path {
        Some(path) => {
            World::from_ron(&read_text(path, 1 << 24, "read the world")?, &path.display().to_string())
        }
        None => World::from_ron(VILLAGE, "village.world.ron"),
    }
}

impl Clerk {
    pub(super) fn talk(&mut self, question: Question) {
        let place = self.places.world.clone();
        self.spawn(Job::Talk, Panel::Dialogue, move |teller, cancel| {
            let (said, models) = (question.said.clone(), question.models.clone());
            teller.tell(move |snapshot| {
                let talk = &mut snapshot.talk;
                (talk.said, talk.pair) = (said, None);
                talk.answers =
                    models.into_iter().map(|model| Answered { model, ..Answered::default() }).collect();
            });
            question.sampling.validate("the sliders")?;
            let text = read_text(&question.persona, 1 << 20, "read the persona")?;
            let persona = Persona::from_ron(&text, &question.persona.display().to_string())?;
            let world = world(place.as_deref())?;
            let mut spoken = Vec::new();
            for (n, model) in question.models.iter().enumerate() {
                let model = Arc::new(LoadedModel::new(&Checkpoint::load(model)?)?);
                let seed = Seed::new(question.seed + n as u64);
                let manner = Manner::of(&model, question.sampling.clone());
                let turn = Turn::prepare(&persona, &world, &Memory::default(), &question.said, seed, &manner);
                let Some(answer) = speak(n, turn, &model, teller, cancel)? else {
                    return Ok(());
                };
                spoken.push(answer);
            }
            if let [a, b] = &spoken[..] {
                let pair = pair(a, b);
                teller.tell(move |snapshot| {
                    if pair.is_none() {
                        let next = "both say the same: ask again, or raise the temperature";
                        snapshot.notes.insert(Panel::Dialogue, next.into());
                    }
                    snapshot.talk.pair = pair;
                });
            }
            Ok(())
        });
    }

    pub(super) fn prefer(&mut self, chosen: usize) {
        let path = self.picks();
        self.teller.tell(move |snapshot| {
            // The pair is taken, so that one pick is kept once; the line is short, and written here.
            let Some(pair) = snapshot.talk.pair.take() else {
                return;
            };
            let pair = if chosen == 0 { pair } else { swapped(pair) };
            match append(&path, &pair) {
                Ok(()) => {
                    snapshot.talk.kept += 1;
                    let next = format!(
                        "the pick is in {}; learn from it with skald train preference",
                        path.display()
                    );
                    snapshot.notes.insert(Panel::Dialogue, next);
                }
                Err(error) => {
                    snapshot.errors.insert(Panel::Dialogue, error.to_string());
                }
            }
        });
    }
}

/// Lets a model speak. `None`: it was cancelled.
fn speak(
    n: usize,
    turn: Turn,
    model: &Arc<LoadedModel>,
    teller: &Teller,
    cancel: &AtomicBool,
) -> Result<Option<Spoken>> {
    let begun = Instant::now();
    let (mut request, mut speech) = turn.into_request(model)?;
    let seen = Seen::default();
    request.constraint = Some(Box::new(Watch::new(request.constraint.take(), Arc::clone(&seen))));
    let mut scheduler = Scheduler::new(Arc::clone(model), SchedulerConfig::default());
    scheduler.submit(request);
    let (mut outputs, mut shown) = (Vec::new(), 0);
    let new_tokens = |shown: &mut usize| -> Vec<SeenToken> {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let new = seen[*shown..].to_vec();
        *shown = seen.len();
        new
    };
    while !cancel.load(Ordering::Relaxed) {
        scheduler.step(&mut outputs)?;
        for output in outputs.drain(..) {
            match output {
                Output::Delta { text, .. } => {
                    let added = speech.push(&text);
                    let tokens = new_tokens(&mut shown);
                    teller.tell(move |snapshot| {
                        if let Some(answer) = snapshot.talk.answers.get_mut(n) {
                            answer.text.push_str(&added);
                            answer.tokens.extend(tokens);
                        }
                    });
                }
                Output::Finished { finish, tokens: count, .. } => {
                    let spoken = speech.finish(finish, count);
                    let (text, tokens, ms) =
                        (spoken.text.clone(), new_tokens(&mut shown), begun.elapsed().as_secs_f64() * 1000.0);
                    teller.tell(move |snapshot| {
                        if let Some(answer) = snapshot.talk.answers.get_mut(n) {
                            (answer.text, answer.done, answer.ms) = (text, true, ms);
                            answer.tokens.extend(tokens);
                        }
                    });
                    return Ok(Some(spoken));
                }
                Output::Failed { error, .. } => return Err(error),
            }
        }
    }
    Ok(None)
}

/// Two answers that differ as a pair, the first chosen.
fn pair(a: &Spoken, b: &Spoken) -> Option<PreferencePair> {
    let answer = |of: &Spoken| Answer { act: of.exchange.act, line: of.exchange.line.clone() };
    let asked = |of: &Spoken| Asked {
        setting: of.setting.clone(),
        before: Vec::new(),
        player: of.exchange.player.clone(),
    };
    let (chosen, rejected) = (answer(a), answer(b));
    (chosen != rejected).then(|| PreferencePair {
        by: "designer".into(),
        setting: a.setting.clone(),
        before: Vec::new(),
        player: a.exchange.player.clone(),
        chosen,
        rejected,
        rejected_after: Some(asked(b)).filter(|other| *other != asked(a)),
    })
}

/// The other one chosen.
fn swapped(pair: PreferencePair) -> PreferencePair {
    let own =
        Asked { setting: pair.setting.clone(), before: pair.before.clone(), player: pair.player.clone() };
    let other = pair.rejected_after.clone();
    let rejected_after = other.as_ref().map(|_| own.clone());
    let asked = other.unwrap_or(own);
    PreferencePair {
        by: pair.by,
        setting: asked.setting,
        before: asked.before,
        player: asked.player,
        chosen: pair.rejected,
        rejected: pair.chosen,
        rejected_after,
    }
}

/// Adds a line to the picks, in one write.
fn append(path: &Path, pair: &PreferencePair) -> Result<()> {
    let mut line = serde_json::to_string(pair).map_err(|e| Error::backend("writing the pick", e))?;
    line.push('\n');
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|e| Error::io("keep the pick", path, e))
}
