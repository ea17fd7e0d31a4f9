//! [`PlayerModel`]: a trained model, and [`PlayerState`]: what it has read of one player.

use super::vocabulary::{BOS, EventVocabulary, UNKNOWN};
use crate::error::{Error, Result};
use crate::model::{Checkpoint, Decoder, KvCache, Row, Scratch};
use std::path::Path;
use std::sync::Arc;

/// A trained player model. Immutable, and cheap to clone. In a Bevy app, a component of the player whom it reads.
#[cfg_attr(feature = "bevy", derive(bevy::prelude::Component))]
#[derive(Clone)]
pub struct PlayerModel(Arc<Inner>);

struct Inner {
    decoder: Decoder,
    vocabulary: EventVocabulary,
    task: String,
}

/// What a model has read of one player. An event is one step; nothing is allocated after a few.
#[cfg_attr(feature = "bevy", derive(bevy::prelude::Component))]
pub struct PlayerState {
    cache: KvCache,
    /// What the cache has read.
    tokens: Vec<u32>,
    /// After the last token, one for each token of the vocabulary.
    logits: Vec<f32>,
    /// The answers to a question, beside.
    asked: Vec<f32>,
    scratch: Scratch,
    /// The tokens of the newest event.
    fed: Vec<u32>,
    last_ms: Option<i64>,
    events: u64,
}

/// An event as a game tells it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Happened<'a> {
    /// What happened.
    pub kind: &'a str,
    /// What it was about.
    pub subject: Option<&'a str>,
    /// How it went, where that is a number.
    pub value: Option<f32>,
    /// How it went, where that is a word.
    pub word: Option<&'a str>,
    /// When, in milliseconds. Earlier than the last event counts as at the same time.
    pub at_ms: i64,
}

impl PlayerModel {
    /// Reads a checkpoint directory that `skald train player` made.
    pub fn load(dir: &Path) -> Result<Self> {
        Self::new(Checkpoint::load(dir)?, &dir.display().to_string())
    }

    /// Makes one of a checkpoint. `name` is for messages.
    pub fn new(checkpoint: Checkpoint, name: &str) -> Result<Self> {
        let Checkpoint { config, weights, tokenizer, card } = checkpoint;
        let vocabulary = EventVocabulary::read(&card, &tokenizer, name)?;
        if config.vocab_size() != vocabulary.size() {
            let reason = "the model has another vocabulary than its events";
            return Err(Error::weights(name, "", reason, "copy the whole checkpoint directory again"));
        }
        let task = card.conditioning.get("task").and_then(|task| task.first()).cloned().unwrap_or_default();
        Ok(Self(Arc::new(Inner { decoder: Decoder::new(&config, &weights)?, vocabulary, task })))
    }

    /// What events are to it.
    pub fn vocabulary(&self) -> &EventVocabulary {
        &self.0.vocabulary
    }

    /// What it was trained for, as in its config.
    pub fn task(&self) -> &str {
        &self.0.task
    }

    /// The network.
    pub fn decoder(&self) -> &Decoder {
        &self.0.decoder
    }

    /// A player of whom nothing is known.
    pub fn begin(&self) -> Result<PlayerState> {
        let mut state = PlayerState {
            cache: self.0.decoder.cache(),
            tokens: Vec::with_capacity(self.0.decoder.context()),
            logits: Vec::new(),
            asked: Vec::new(),
            scratch: Scratch::default(),
            fed: Vec::with_capacity(4),
            last_ms: None,
            events: 0,
        };
        self.feed(&mut state, &[BOS])?;
        Ok(state)
    }

    /// The player did something. What the model has not heard of is noted as unknown.
    pub fn observe(&self, state: &mut PlayerState, happened: &Happened<'_>) -> Result<()> {
        let vocabulary = &self.0.vocabulary;
        let unknown = |id: Option<u32>| id.unwrap_or(UNKNOWN);
        let outcome =
            vocabulary.view().outcome.as_ref().and_then(|_| match (happened.value, happened.word) {
                (Some(value), _) => Some(vocabulary.bin(value)),
                (None, Some(word)) => Some(unknown(vocabulary.word(word))),
                _ => None,
            });
        let subject = happened.subject.filter(|_| vocabulary.view().subject.is_some());
        let subject = subject.map(|name| unknown(vocabulary.subject(name)));
        let kind = Some(unknown(vocabulary.kind(happened.kind)));
        let at_ms = state.last_ms.map_or(happened.at_ms, |last| last.max(happened.at_ms));
        let mut tokens = std::mem::take(&mut state.fed);
        tokens.clear();
        vocabulary.write(state.last_ms, at_ms, (kind, outcome, subject), &mut tokens);
        state.last_ms = Some(at_ms);
        state.events += 1;
        let fed = if tokens.is_empty() { Ok(()) } else { self.feed(state, &tokens) };
        state.fed = tokens;
        fed
    }

    /// Feeds tokens; a full context loses its older half first.
    fn feed(&self, state: &mut PlayerState, tokens: &[u32]) -> Result<()> {
        let context = self.0.decoder.context();
        // A question of two tokens must still fit.
        if state.tokens.len() + tokens.len() + 2 > context {
            let kept = (context / 2).saturating_sub(tokens.len()).max(1);
            let from = state.tokens.len().saturating_sub(kept);
            state.tokens.drain(..from);
            state.cache.truncate(0);
            state.tokens.extend_from_slice(tokens);
            let whole = std::mem::take(&mut state.tokens);
            let fed = self.step(state, &whole);
            state.tokens = whole;
            return fed;
        }
        self.step(state, tokens)?;
        state.tokens.extend_from_slice(tokens);
        Ok(())
    }

    fn step(&self, state: &mut PlayerState, tokens: &[u32]) -> Result<()> {
        let PlayerState { cache, logits, scratch, .. } = state;
        let row = Row { cache, tokens, logits, all: false, adapter: None };
        self.0.decoder.forward(&mut [row], scratch)
    }

    /// What comes next: a probability for each subject the model knows, in the order of its tokens; given that it is
    /// about one.
    pub fn next(&self, state: &PlayerState) -> Vec<f32> {
        let subjects = self.0.vocabulary.subjects();
        softmax(&state.logits[subjects.start as usize..subjects.end as usize])
    }

    /// The likeliest subjects of what comes next, by token, with their probabilities, into `best`, the likeliest first.
    pub fn likeliest(&self, state: &PlayerState, count: usize, best: &mut Vec<(u32, f32)>) {
        let subjects = self.0.vocabulary.subjects();
        let logits = &state.logits[subjects.start as usize..subjects.end as usize];
        best.clear();
        for (token, &logit) in subjects.zip(logits) {
            if best.len() < count || best.last().is_some_and(|(_, least)| logit > *least) {
                let place = best.partition_point(|(_, other)| *other >= logit);
                best.insert(place, (token, logit));
                best.truncate(count);
            }
        }
        let most = best.first().map_or(0.0, |(_, logit)| *logit);
        let total: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
        best.iter_mut().for_each(|(_, logit)| *logit = (*logit - most).exp() / total);
    }

    /// How much the player is drawn to each of these, by name: the logit of its being what comes next. None: the model
    /// has not heard of it.
    pub fn affinities<'a>(
        &self,
        state: &PlayerState,
        names: impl Iterator<Item = &'a str>,
    ) -> Vec<Option<f32>> {
        let logit = |name| self.0.vocabulary.subject(name).map(|id| state.logits[id as usize]);
        names.map(logit).collect()
    }

    /// How likely the player leaves, as of `now_ms`. None: it was not trained for that.
    pub fn churn_risk(&self, state: &mut PlayerState, now_ms: i64) -> Result<Option<f32>> {
        if !self.0.task.starts_with("Churn") {
            return Ok(None);
        }
        let [ask, yes, no] = self.0.vocabulary.churn();
        let since = state.last_ms.map_or(0, |last| now_ms.saturating_sub(last));
        let tokens = [self.0.vocabulary.gap(since), ask];
        let length = state.cache.len();
        let PlayerState { cache, asked, scratch, .. } = state;
        let row = Row { cache, tokens: &tokens, logits: asked, all: false, adapter: None };
        self.0.decoder.forward(&mut [row], scratch)?;
        state.cache.truncate(length);
        Ok(Some(1.0 / (1.0 + (state.asked[no as usize] - state.asked[yes as usize]).exp())))
    }
}

impl PlayerState {
    /// What it has read, as tokens.
    pub(super) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// What comes next, by token.
    pub(super) fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// A copy of what the network remembers; the pages are shared.
    pub(super) fn cache(&self) -> KvCache {
        self.cache.clone()
    }

    /// How many events it has read.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How little is known of the player, 1 (nothing) towards 0: `1 / (1 + events / 5)`.
    pub fn uncertainty(&self) -> f32 {
        1.0 / (1.0 + self.events as f32 / 5.0)
    }
}

/// Probabilities of logits.
pub(super) fn softmax(logits: &[f32]) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut out: Vec<f32> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let total: f32 = out.iter().sum();
    if total > 0.0 {
        out.iter_mut().for_each(|p| *p /= total);
    }
    out
}
