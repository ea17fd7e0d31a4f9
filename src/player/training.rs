//! [`PlayerTraining`]: the training of a player model, as a RON file.

use super::answer::{ChurnPart, Task, churn_parts};
use super::events::EventView;
use super::histories::{Histories, History};
use super::source::{ChurnSamples, Split, next_samples};
use super::together::embeddings;
use super::vocabulary::EventVocabulary;
use crate::error::{Error, Result};
use crate::model::{Card, ModelConfig, Network, Weights};
use crate::seed::Seed;
use crate::training::{DataNotes, DataSets, DataSource, RunSetup, Shares, SplitMethod, TrainingConfig};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// The training of a player model. Unknown fields are refused with their line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlayerTraining {
    /// How it learns. The tokenizer is made of the events.
    pub training: TrainingConfig,
    /// What of the recordings it sees.
    #[serde(default)]
    pub events: EventView,
    /// What it is asked.
    pub task: Task,
    /// Where the embeddings of subjects begin.
    #[serde(default)]
    pub begin: Begin,
}

/// Where the embeddings of subjects begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Begin {
    /// At noise.
    #[default]
    Noise,
    /// What occurs together in training begins together: for many thousand subjects and few events a player.
    Together {
        /// The root mean square of the embeddings.
        scale: f32,
    },
}

impl PlayerTraining {
    /// Reads a config. `file` is for messages.
    pub fn from_ron(text: &str, file: &str) -> Result<Self> {
        let config: Self = crate::files::parse_ron(text, file)?;
        config.training.validate(file)?;
        config.events.validate(file)?;
        config.task.validate(file)?;
        if let Begin::Together { scale } = config.begin
            && !(scale > 0.0 && scale <= 10.0)
        {
            return Err(Error::config(
                file,
                "begin.scale",
                "the value is out of range",
                "choose above 0, at most 10",
            ));
        }
        if config.training.base.is_some() {
            let reason = "a player model is trained from scratch: the events are its vocabulary";
            return Err(Error::config(file, "training.base", reason, "give `model`"));
        }
        if config.training.objective.is_sampled() && matches!(config.task, Task::Churn(_)) {
            let reason = "an answer of two cannot be told from drawn tokens";
            return Err(Error::config(file, "training.objective", reason, "leave it out"));
        }
        Ok(config)
    }

    /// Reads the stores, and makes vocabulary and samples of them.
    pub fn prepare(self, data: &[PathBuf]) -> Result<RunSetup> {
        let histories = Arc::new(Histories::read(data, &self.events)?);
        let parts = churn_parts(&histories);
        let split = if let Task::Next { split, .. } = self.task { split } else { Split::LeaveOneOut };
        let cuts = split.cuts(&histories);
        let count = |(history, part): (&History, &ChurnPart)| match self.task {
            Task::Next { .. } => split.parts(history, cuts).learned,
            Task::Churn(_) if *part == ChurnPart::Train => history.events.len(),
            Task::Churn(_) => 0,
        };
        let learned: Vec<usize> = histories.players.iter().zip(&parts).map(count).collect();
        // Things that only appear in held-out events exist all the same, as in a shop's list.
        let all = matches!(self.task, Task::Next { .. });
        let vocabulary = Arc::new(EventVocabulary::of(&histories, &self.events, &learned, all)?);
        let sequence = self.training.sequence;
        let (sets, split) = match self.task {
            Task::Next { validation_players, other_weight, split } => {
                let (train, validation) =
                    next_samples(&histories, &vocabulary, sequence, validation_players, other_weight, split);
                (DataSets { train: Box::new(train), validation: Box::new(validation) }, SplitMethod::Unknown)
            }
            Task::Churn(task) => {
                let of = |part: ChurnPart| {
                    let players = (0..parts.len()).filter(|at| parts[*at] == part);
                    ChurnSamples::new(&histories, &vocabulary, task, sequence, players)
                };
                let (train, validation) = (of(ChurnPart::Train), of(ChurnPart::Validation));
                let shares = Shares { train: 0.7, validation: 0.1, test: 0.2 };
                let split = SplitMethod::ByGroup { group: "player".into(), seed: 0, shares };
                (DataSets { train: Box::new(train), validation: Box::new(validation) }, split)
            }
        };
        let base = match self.begin {
            Begin::Noise => None,
            Begin::Together { scale } => {
                Some(begun_together(&self.training, &histories, &vocabulary, &learned, scale)?)
            }
        };
        let mut card = Card::new("player");
        vocabulary.note(&mut card)?;
        let task = ron::to_string(&self.task).map_err(|e| Error::backend("writing the task", e))?;
        card.conditioning.insert("task".into(), vec![task]);
        let notes = DataNotes {
            sources: data.iter().map(|path| DataSource::of(path)).collect::<Result<_>>()?,
            split,
            dropped: [("events of no use".to_owned(), histories.dropped)].into(),
            details: serde_json::json!({
                "players": histories.players.len(), "events": histories.events(),
                "subjects": histories.subjects.len(), "task": format!("{:?}", self.task),
            }),
        };
        let tokenizer = vocabulary.tokenizer().clone();
        Ok(RunSetup { config: self.training, tokenizer, data: sets, card, base, notes })
    }
}

/// A fresh network whose embeddings of subjects are those of [`embeddings`].
fn begun_together(
    training: &TrainingConfig,
    histories: &Histories,
    vocabulary: &EventVocabulary,
    learned: &[usize],
    scale: f32,
) -> Result<(ModelConfig, Weights)> {
    let Some(model) = &training.model else {
        return Err(Error::config("config", "training.model", "there is none", "give one"));
    };
    let shape = model.config(vocabulary.size());
    let seed = Seed::new(training.seed);
    let mut network = Network::new(&shape, seed)?;
    let (table, subjects) = (vocabulary.table(histories), vocabulary.subjects());
    let of = |(history, count): (&History, &usize)| -> Vec<u32> {
        let about = history.events[..*count].iter().filter_map(|event| event.subject);
        let tokens = about.map(|subject| table.subjects[subject as usize]);
        tokens.filter(|token| subjects.contains(token)).map(|token| token - subjects.start).collect()
    };
    let chosen: Vec<Vec<u32>> = histories.players.iter().zip(learned).map(of).collect();
    let parameters = network.parameters_mut();
    if let Some(id) = parameters.id("model.embed_tokens.weight") {
        let (range, width) = (parameters.get(id).range.clone(), parameters.get(id).shape[1]);
        let begun = embeddings(&chosen, subjects.len(), width, scale, seed);
        let first = range.start + subjects.start as usize * width;
        parameters.values_mut()[first..first + begun.len()].copy_from_slice(&begun);
    }
    Ok((shape, network.weights()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::histories::tests::store;
    use super::*;
    use crate::job;
    use crate::nn::Compute;
    use crate::player::{Held, PlayerModel, Protocol, evaluate_next, evaluate_outcome};
    use crate::training::Fit;

    pub(crate) const CONFIG: &str = "(
        training: (model: (architecture: Gpt2(bias: true), hidden_size: 16, layers: 1, heads: 1, intermediate_size: 32, context: 16),
            objective: Sampled(negatives: 8), steps: 400, sequence: 16, rows: 8, learning_rate: 0.01,
            validate_every: 50, checkpoint_every: 100, stored_as: F32),
        task: Next(),
    )";

    /// Players who go round in a circle of ten things.
    fn circle() -> String {
        let mut rows = String::new();
        for player in 0..60 {
            for step in 0..8 {
                rows.push_str(&format!("p{player} Took i{} {step}\n", (player + step) % 10));
            }
        }
        rows
    }

    #[test]
    fn every_architecture_learns_a_circle_and_is_served_as_it_was_trained() {
        let (_dir, path) = store(&circle());
        for architecture in ["Gpt2(bias: true), heads: 1, intermediate_size: 32", "Gru", "Lstm"] {
            let text = CONFIG
                .replace("Gpt2(bias: true)", architecture)
                .replace(", heads: 1, intermediate_size: 32, context", ", context");
            let text = if architecture.starts_with("Gpt2") { CONFIG.to_owned() } else { text };
            let out = tempfile::tempdir().unwrap();
            let config = PlayerTraining::from_ron(&text, "c").unwrap();
            let setup = config.prepare(std::slice::from_ref(&path)).unwrap();
            let fit = Fit::new(setup, out.path(), &Compute::cpu(1)).unwrap();
            job::run(fit, |_| ()).unwrap();
            let model = PlayerModel::load(out.path()).unwrap();
            let histories = Histories::read(std::slice::from_ref(&path), model.vocabulary().view()).unwrap();
            let report = evaluate_next(
                &model,
                &histories,
                Protocol::Full { masked: false },
                Held::Test,
                Seed::new(1),
                1,
            )
            .unwrap();
            assert!(report.figures["hr@1"] > 0.6, "{architecture}: {:?}", report.figures);
            assert!(report.baselines["popularity"]["hr@1"] < 0.5);
            assert!(report.baselines["markov"]["hr@1"] > 0.9);
            assert!(report.baselines["shuffled history"]["hr@1"] < 0.5, "{:?}", report.baselines);
        }
    }

    #[test]
    fn how_things_go_is_told_before_they_happen() {
        // Some players finish everything, others only what is easy; who is who shows in what they did before.
        let (mut rows, mut noise) = (String::new(), Seed::new(5).stream());
        for player in 0..400 {
            for step in 0..5 + player % 7 {
                let (able, hard) = (player % 2 == 0, noise.chance(0.5));
                let word = if able || !hard { "finished" } else { "dropped" };
                let quest = if hard { "hydra" } else { "herbs" };
                rows.push_str(&format!("p{player} Quest {quest} {} {word}\n", 100 * step));
            }
        }
        let (_dir, path) = store(&rows);
        let out = tempfile::tempdir().unwrap();
        let text = CONFIG.replace(
            "task: Next(),",
            "task: Next(other_weight: 1.0), events: (outcome: Some((field: \"score\")), gaps: true),",
        );
        let text =
            text.replace("objective: Sampled(negatives: 8),", "").replace("context: 16", "context: 48");
        let text = text.replace("sequence: 16", "sequence: 48").replace("layers: 1", "layers: 2");
        let text = text.replace("hidden_size: 16", "hidden_size: 32").replace("rate: 0.01", "rate: 0.004");
        let setup =
            PlayerTraining::from_ron(&text, "c").unwrap().prepare(std::slice::from_ref(&path)).unwrap();
        job::run(Fit::new(setup, out.path(), &Compute::cpu(1)).unwrap(), |_| ()).unwrap();
        let model = PlayerModel::load(out.path()).unwrap();
        let histories = Histories::read(std::slice::from_ref(&path), model.vocabulary().view()).unwrap();
        let report = evaluate_outcome(&model, &histories, Seed::new(1), 1).unwrap();
        let beside = &report.baselines["the subject's own shares"];
        assert!(report.figures["accuracy"] > beside["accuracy"] + 0.1, "{report:?}");
        assert!(report.figures["auc"] > beside["auc"] + 0.05 && report.figures["ece"] < 0.1, "{report:?}");
        // The same for a player in a game.
        let outcomes = model.vocabulary().outcomes();
        let mut state = model.begin().unwrap();
        let past = [("herbs", "finished"), ("hydra", "dropped")].into_iter().cycle().take(6);
        for (step, (quest, word)) in past.enumerate() {
            let happened = crate::player::Happened {
                kind: "Quest",
                subject: Some(quest),
                value: None,
                word: Some(word),
                at_ms: 100_000 * step as i64,
            };
            model.observe(&mut state, &happened).unwrap();
        }
        let finished = outcomes.iter().position(|outcome| outcome == "finished").unwrap();
        let told = |quest| model.outcomes(&state, "Quest", Some(quest), 100_000).unwrap()[finished];
        assert!(told("hydra") < 0.3 && told("herbs") > 0.7, "{} {}", told("hydra"), told("herbs"));
        assert!(model.outcomes(&state, "Slept", None, 100).unwrap().is_empty());
    }

    #[test]
    fn senseless_configs_are_refused_by_field() {
        for (from, to, field) in [
            ("task: Next()", "task: Next(other_weight: 2.0)", "task.other_weight"),
            ("task: Next()", "task: Churn((observe_days: 0, outcome_days: 1))", "task.observe_days"),
            ("task: Next()", "task: Churn((observe_days: 1, outcome_days: 1))", "training.objective"),
            ("negatives: 8", "negatives: 0", "objective.negatives"),
            ("task: Next()", "task: Next(), events: (min_count: 0)", "events.min_count"),
            ("task: Next()", "task: Next(split: ByTime(learned: 0.9, test: 0.8))", "task.split"),
            ("task: Next()", "tusk: Next()", "tusk"),
        ] {
            let error = PlayerTraining::from_ron(&CONFIG.replace(from, to), "c").unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
