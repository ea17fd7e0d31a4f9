//! A training of dialogue: config, corpora and recordings on the disk become a run.

use super::source::{DialogueData, Played, data_sets, tokenizer_lines, written_lines};
use super::{Act, Corpus, RecordedExchange, prompt};
use crate::error::{Error, Result};
use crate::files::{parse_ron, read_text};
use crate::model::{Base, Card};
use crate::recording::Store;
use crate::seed::Seed;
use crate::text::{BASE_SPECIALS, Tokenizer};
use crate::training::{
    DataNotes, DataSource, RunSetup, SplitMethod, TokenizerKind, TrainingConfig, TrainingRun,
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The config of a training of dialogue, as a RON file. Unknown fields are refused with their line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DialogueTraining {
    /// How it learns.
    pub training: TrainingConfig,
    /// What its samples are made like.
    #[serde(default)]
    pub data: DialogueData,
}

impl DialogueTraining {
    /// Reads a config file.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_ron(&read_text(path, 1 << 20, "read the config")?, &path.display().to_string())
    }

    /// Reads a config. `file` is for messages.
    pub fn from_ron(text: &str, file: &str) -> Result<Self> {
        let config: Self = parse_ron(text, file)?;
        config.data.validate(file)?;
        if config.training.base.is_none() {
            config.vocabulary(file)?;
        }
        config.training.validate(file)?;
        Ok(config)
    }

    fn vocabulary(&self, file: &str) -> Result<usize> {
        match self.training.tokenizer {
            TokenizerKind::Bpe(size) => Ok(size),
            TokenizerKind::Characters => {
                let reason = "dialogue has special tokens, which characters cannot be";
                Err(Error::config(file, "training.tokenizer", reason, "choose Bpe(2048)"))
            }
        }
    }

    /// Reads corpora and recordings ([`read_talks`]), and makes tokenizer and samples of them.
    pub fn prepare(self, data: &[PathBuf]) -> Result<RunSetup> {
        let (corpus, recorded) = read_talks(data)?;
        let voices = corpus.voices();
        let specials = prompt::special_tokens(&voices);
        let (tokenizer, base) = match &self.training.base {
            Some(dir) => {
                let base = self.base(Path::new(dir), &specials)?;
                (base.tokenizer, Some((base.config, base.weights)))
            }
            None => {
                let size = self.vocabulary("config")?;
                (Tokenizer::train(tokenizer_lines(&corpus).iter(), size, &specials)?, None)
            }
        };
        let hidden = self.training.privacy.is_some();
        let (sets, report) = data_sets(&corpus, recorded, &Arc::new(tokenizer.clone()), &self.data, hidden)?;
        let mut card = Card::new("dialogue");
        card.conditioning.insert("voice".into(), voices);
        card.conditioning.insert("line".into(), written_lines(&corpus));
        card.conditioning.insert("quest".into(), prompt::QUESTS.map(str::to_owned).into());
        card.conditioning.insert("act".into(), Act::ALL.iter().map(|act| act.name().to_owned()).collect());
        let sources = data.iter().map(|path| DataSource::of(path)).collect::<Result<_>>()?;
        let notes = DataNotes {
            sources,
            split: SplitMethod::ByLine,
            dropped: report.dropped(),
            ..DataNotes::default()
        };
        Ok(RunSetup { config: self.training, tokenizer, data: sets, card, base, notes })
    }

    /// The model that the training begins with, which gets the tokens of dialogue that it does not have.
    fn base(&self, dir: &Path, specials: &[String]) -> Result<Base> {
        let mut tokens: Vec<String> = BASE_SPECIALS.map(str::to_owned).into();
        tokens.extend_from_slice(specials);
        let (base, added) = Base::read(dir)?.with_tokens(&tokens, Seed::new(self.training.seed))?;
        if added > 0 && self.training.adapter.is_some() {
            let reason =
                format!("the base lacks {added} tokens of dialogue, and an adapter cannot learn them");
            let remedy = "train the whole base first (no `adapter`), and adapt the model that comes of it";
            return Err(Error::config("config", "training.adapter", reason, remedy));
        }
        Ok(base)
    }
}

impl TrainingRun {
    /// What `skald train dialogue` does: the config at `config` ([`DialogueTraining`]), learned from corpora and
    /// playtest stores ([`read_talks`]).
    pub fn dialogue(
        config: impl Into<PathBuf>,
        data: impl IntoIterator<Item = impl Into<PathBuf>>,
        out: impl Into<PathBuf>,
    ) -> Self {
        let data = data.into_iter().map(Into::into).collect();
        Self::from_files("dialogue", config.into(), data, out.into(), |config, data| {
            DialogueTraining::read(config)?.prepare(data)
        })
    }
}

/// Corpora and recordings, told apart by what the files are.
pub fn read_talks(paths: &[PathBuf]) -> Result<(Corpus, Vec<Played>)> {
    let mut corpus = Corpus::default();
    let mut recorded = Vec::new();
    for path in paths {
        if Store::is_at(path)? {
            for event in Store::open_read(path)?.events(Some(RecordedExchange::KIND)) {
                let event = event?;
                recorded.push(Played {
                    session: format!("{}/{}", path.display(), event.session),
                    exchange: event.parse()?,
                    player: event.player,
                });
            }
        } else {
            let more = Corpus::read(path)?;
            corpus.duplicates += more.duplicates;
            for dialogue in more.dialogues {
                if corpus.dialogues.iter().any(|known| known.id == dialogue.id) {
                    return Err(Error::Data {
                        source_name: path.display().to_string(),
                        reason: format!("the dialogue `{}` was read before", dialogue.id),
                        remedy: "give each corpus once".into(),
                    });
                }
                corpus.dialogues.push(dialogue);
            }
        }
    }
    if corpus.dialogues.is_empty() {
        return Err(Error::Data {
            source_name: paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "),
            reason: "there is no written corpus among the data".into(),
            remedy: "give a folder of .jsonl dialogues too (assets/dialogue)".into(),
        });
    }
    Ok((corpus, recorded))
}
