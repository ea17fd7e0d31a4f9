//! Training samples from the written corpus and from recorded play.
//!
//! Both become the same sequences ([`super::prompt`]). What varies in a game and does not change the
//! answer is drawn anew every epoch: which paraphrase the player uses, how carefully they type, what
//! else is true. Recorded lines that a player read count; those they skipped do not.

use super::act::Act;
use super::corpus::{Corpus, CorpusTurn, Dialogue, Part};
use super::memory::Exchange;
use super::prompt::{ANY_VOICE, QUESTS, Setting, head, npc_turn, player_turn};
use super::slot::Slot;
use crate::error::{Error, Result};
use crate::seed::{Seed, Stream};
use crate::text::{Tokenizer, normalise};
use crate::training::{DataSets, Sample, SampleSource};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// What the samples are made like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DialogueData {
    /// How much predicting the player's own words counts (the NPC's count 1).
    pub player_weight: f32,
    /// How much a recorded line that was read counts.
    pub recorded_weight: f32,
    /// How often a dialogue is learned after the first exchange of another one, of the same voice, so that the
    /// model follows when the player changes the subject.
    pub subject_change: f32,
    /// How often a voice is hidden, so that the model also learns to speak for a voice it does not know.
    pub voice_dropout: f32,
}

impl Default for DialogueData {
    fn default() -> Self {
        Self { player_weight: 0.1, recorded_weight: 0.5, subject_change: 0.4, voice_dropout: 0.1 }
    }
}

impl DialogueData {
    /// Refuses what makes no sense, naming the field.
    pub fn validate(&self, file: &str) -> Result<()> {
        let fields = [
            ("player_weight", self.player_weight),
            ("recorded_weight", self.recorded_weight),
            ("subject_change", self.subject_change),
            ("voice_dropout", self.voice_dropout),
        ];
        match fields.iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            Some((field, value)) => {
                Err(Error::config(file, *field, format!("{value} is out of range"), "choose 0 to 1"))
            }
            None => Ok(()),
        }
    }
}

/// How a player took a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LineOutcome {
    /// They read it to its end.
    Read,
    /// They clicked it away.
    Skipped,
}

/// An exchange as it is recorded (kind [`RecordedExchange::KIND`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedExchange {
    /// Who spoke.
    pub npc: String,
    /// Which talk of the session; samples of a talk stay in one split.
    pub talk: u64,
    /// What was true before the first word.
    pub setting: Setting,
    /// The exchanges the model had seen.
    pub before: Vec<Exchange>,
    /// What was said.
    pub exchange: Exchange,
    /// How it was taken.
    pub outcome: LineOutcome,
    /// Whether an authored fallback stood in for the model.
    pub fallback: bool,
}

impl RecordedExchange {
    /// The event kind under which exchanges stand in a store.
    pub const KIND: &'static str = "exchange";
}

/// A recorded exchange, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Played {
    /// The player's pseudonym.
    pub player: String,
    /// The session's name.
    pub session: String,
    /// What was said.
    pub exchange: RecordedExchange,
}

/// What became of the rows of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DialogueReport {
    /// Written dialogues in the training part.
    pub corpus_train: usize,
    /// Written dialogues that choose among models.
    pub corpus_validation: usize,
    /// Written dialogues kept for the evaluation.
    pub corpus_test: usize,
    /// Written dialogues dropped as doubles.
    pub corpus_duplicates: usize,
    /// Recorded exchanges in the training part.
    pub recorded_train: usize,
    /// Recorded exchanges that choose among models.
    pub recorded_validation: usize,
    /// Recorded exchanges dropped because the player skipped the line.
    pub recorded_skipped: usize,
    /// Dropped because an authored fallback stood in.
    pub recorded_fallback: usize,
    /// Dropped because they repeat a line of the test part.
    pub recorded_test: usize,
    /// Dropped because the same was recorded before.
    pub recorded_duplicates: usize,
    /// Dropped because they repeat a line that validates, where players are hidden.
    pub recorded_set_aside: usize,
}

impl DialogueReport {
    /// What was not used, by reason.
    pub fn dropped(&self) -> BTreeMap<String, u64> {
        let reasons = [
            ("duplicate dialogue", self.corpus_duplicates),
            ("kept for the test", self.corpus_test),
            ("line was skipped", self.recorded_skipped),
            ("line was an authored fallback", self.recorded_fallback),
            ("line of the test part", self.recorded_test),
            ("recorded before", self.recorded_duplicates),
            ("line that validates", self.recorded_set_aside),
        ];
        let reasons = reasons.into_iter().filter(|(_, count)| *count > 0);
        reasons.map(|(reason, count)| (reason.to_owned(), count as u64)).collect()
    }
}

enum Item {
    Written(Dialogue),
    Recorded(Played),
}

/// Samples of dialogue. See the module's documentation.
pub struct DialogueSource {
    items: Vec<Item>,
    tokenizer: Arc<Tokenizer>,
    data: DialogueData,
    hash: String,
}

/// Splits corpus and recordings and makes the two sources. Where `hidden`, what becomes of a player's exchanges does not
/// depend on other players (so that one player's absence changes nothing else), and none of them validates. The test part of the corpus stands aside ([`test_set`]). Fails when a part is empty, or when
/// a held-out line is in the training part.
pub fn data_sets(
    corpus: &Corpus,
    recorded: Vec<Played>,
    tokenizer: &Arc<Tokenizer>,
    data: &DialogueData,
    hidden: bool,
) -> Result<(DataSets, DialogueReport)> {
    let mut report = DialogueReport { corpus_duplicates: corpus.duplicates, ..DialogueReport::default() };
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    let (mut held_lines, mut test_lines) = (HashSet::new(), HashSet::new());
    for (dialogue, part) in corpus.dialogues.iter().zip(corpus.parts()) {
        let lines = dialogue.lines().map(|(_, line)| normalise(line));
        match part {
            Part::Training => train.push(Item::Written(dialogue.clone())),
            Part::Validation => {
                held_lines.extend(lines);
                validation.push(Item::Written(dialogue.clone()));
            }
            Part::Test => {
                test_lines.extend(lines);
                report.corpus_test += 1;
            }
        }
    }
    (report.corpus_train, report.corpus_validation) = (train.len(), validation.len());
    let mut seen = HashSet::new();
    // A recorded talk that repeats a held-out line is held out with it.
    let key = |p: &Played| format!("{}/{}/{}", p.session, p.exchange.npc, p.exchange.talk);
    let held_talks: HashSet<String> = recorded
        .iter()
        .filter(|played| {
            let lines = played.exchange.before.iter().chain([&played.exchange.exchange]);
            lines.map(|x| normalise(&x.line)).any(|line| held_lines.contains(&line))
        })
        .map(key)
        .collect();
    // Talks that share a line stay together, as written dialogues do; one key a line is enough for that.
    let mut held_recorded = HashSet::new();
    for played in &recorded {
        if held_talks.contains(&key(played)) {
            held_recorded.insert(normalise(&played.exchange.exchange.line));
        }
    }
    let train_lines: HashSet<String> = train
        .iter()
        .flat_map(|item| match item {
            Item::Written(dialogue) => dialogue.lines().map(|(_, line)| normalise(line)).collect::<Vec<_>>(),
            Item::Recorded(_) => Vec::new(),
        })
        .collect();
    for played in recorded {
        let exchange = &played.exchange;
        let line = normalise(&exchange.exchange.line);
        if exchange.fallback {
            report.recorded_fallback += 1;
        } else if exchange.outcome == LineOutcome::Skipped {
            report.recorded_skipped += 1;
        } else if !seen.insert((
            if hidden { played.player.clone() } else { String::new() },
            normalise(&exchange.exchange.player),
            line.clone(),
        )) {
            report.recorded_duplicates += 1;
        } else if test_lines.contains(&line) {
            report.recorded_test += 1;
        } else if hidden && (held_lines.contains(&line) || held_talks.contains(&key(&played))) {
            report.recorded_set_aside += 1;
        } else if !hidden && held_lines.contains(&line)
            || (!hidden
                && !train_lines.contains(&line)
                && (held_recorded.contains(&line) || Part::of(&line) != Part::Training))
        {
            report.recorded_validation += 1;
            validation.push(Item::Recorded(played));
        } else {
            report.recorded_train += 1;
            train.push(Item::Recorded(played));
        }
    }
    for (part, items) in [("training", &train), ("validation", &validation)] {
        if items.is_empty() {
            return Err(Error::Data {
                source_name: format!("{} dialogues", corpus.dialogues.len()),
                reason: format!("the {part} part is empty"),
                remedy: "give more dialogues; about one in twenty validates".into(),
            });
        }
    }
    let source = |items| DialogueSource::new(items, tokenizer, data);
    let (train, validation) = (source(train), source(validation));
    let known: HashSet<String> = train.lines().map(normalise).collect();
    let leaked = validation.lines().map(normalise).find(|line| known.contains(line));
    leak(leaked.or_else(|| test_lines.into_iter().find(|line| known.contains(line))))?;
    Ok((DataSets { train: Box::new(train), validation: Box::new(validation) }, report))
}

fn leak(line: Option<String>) -> Result<()> {
    let error = |line| Error::Data {
        source_name: "data set".into(),
        reason: format!("the held-out line `{line}` is also in the training part"),
        remedy: "please report this with the data".into(),
    };
    line.map_or(Ok(()), |line| Err(error(line)))
}

/// What the written corpus teaches, and its test part. Fails when that is empty, or when a line stands in both.
pub fn test_set(corpus: &Corpus, tokenizer: &Arc<Tokenizer>) -> Result<(DialogueSource, DialogueSource)> {
    let source = |part| {
        let items = corpus.part(part).map(|dialogue| Item::Written(dialogue.clone())).collect();
        DialogueSource::new(items, tokenizer, &DialogueData::default())
    };
    let (train, test) = (source(Part::Training), source(Part::Test));
    if train.is_empty() || test.is_empty() {
        return Err(Error::Data {
            source_name: format!("{} dialogues", corpus.dialogues.len()),
            reason: "the test part is empty".into(),
            remedy: "give more dialogues; about one in twenty is kept for the test".into(),
        });
    }
    let known: HashSet<String> = train.lines().map(normalise).collect();
    leak(test.lines().map(normalise).find(|line| known.contains(line)))?;
    Ok((train, test))
}

/// Every text a tokenizer for this corpus should see: paraphrases and lines, folded.
pub fn tokenizer_lines(corpus: &Corpus) -> Vec<String> {
    let mut lines = Vec::new();
    for dialogue in corpus.part(Part::Training) {
        for turn in &dialogue.turns {
            match turn {
                CorpusTurn::Player { says } => lines.extend(says.iter().map(|text| crate::text::fold(text))),
                CorpusTurn::Npc { says, .. } => lines.push(crate::text::fold(says)),
            }
        }
    }
    lines
}

/// The NPCs' lines that are not held out, folded, each after its label and a blank: what a model of this corpus may
/// write is made of them ([`crate::text::Lexicon`]).
pub fn written_lines(corpus: &Corpus) -> Vec<String> {
    let learned = corpus.part(Part::Training);
    let line =
        |voice: &str, (act, line): (Act, &str)| format!("{} {}", label(voice, act), crate::text::fold(line));
    learned.flat_map(|dialogue| dialogue.lines().map(move |said| line(&dialogue.voice, said))).collect()
}

/// How sentences of a voice and an act are labelled in a lexicon.
pub(super) fn label(voice: &str, act: Act) -> String {
    format!("{}.{}", voice.replace(' ', "_"), act.name())
}

impl DialogueSource {
    fn new(items: Vec<Item>, tokenizer: &Arc<Tokenizer>, data: &DialogueData) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(serde_json::to_string(data).unwrap_or_default().as_bytes());
        for item in &items {
            let text = match item {
                Item::Written(dialogue) => serde_json::to_string(dialogue),
                Item::Recorded(played) => serde_json::to_string(&played.exchange),
            };
            hasher.update(text.unwrap_or_default().as_bytes());
            hasher.update(b"\n");
        }
        let hash = hasher.finalize().to_hex().to_string();
        Self { items, tokenizer: Arc::clone(tokenizer), data: data.clone(), hash }
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.items.iter().flat_map(|item| match item {
            Item::Written(dialogue) => dialogue.lines().map(|(_, line)| line).collect::<Vec<_>>(),
            Item::Recorded(played) => vec![played.exchange.exchange.line.as_str()],
        })
    }

    /// Another written dialogue of this voice, if a few draws find one.
    fn another(&self, index: usize, voice: &str, noise: &mut Stream) -> Option<&Dialogue> {
        let mut draws = (0..100).map(|_| noise.below(self.items.len())).filter(|at| *at != index);
        draws.find_map(|at| match &self.items[at] {
            Item::Written(dialogue) if dialogue.voice == voice => Some(dialogue),
            _ => None,
        })
    }

    fn build(&self, index: usize, noise: &mut Stream, augment: bool) -> Sample {
        let mut sample = Writer { tokenizer: &self.tokenizer, ids: Vec::new(), loss: Vec::new() };
        let player_weight = if augment { self.data.player_weight } else { 0.0 };
        match &self.items[index] {
            Item::Written(dialogue) => {
                let mut setting = setting(dialogue, noise);
                if augment && noise.chance(self.data.voice_dropout) {
                    setting.voice = ANY_VOICE.into();
                }
                sample.push(&head(&setting), 0.0);
                if augment
                    && noise.chance(self.data.subject_change)
                    && let Some(other) = self.another(index, &dialogue.voice, noise)
                {
                    // It is learned when its own turn comes.
                    sample.push_turns(&other.turns[..other.turns.len().min(2)], true, noise, [0.0, 0.0]);
                }
                sample.push_turns(&dialogue.turns, augment, noise, [player_weight, 1.0]);
            }
            Item::Recorded(Played { exchange: recorded, .. }) => {
                sample.push(&head(&recorded.setting), 0.0);
                for exchange in &recorded.before {
                    sample.push(&player_turn(&exchange.player), 0.0);
                    sample.push(&npc_turn(exchange.act, &exchange.line), 0.0);
                }
                let exchange = &recorded.exchange;
                sample.push(&player_turn(&exchange.player), 0.0);
                sample.push(&npc_turn(exchange.act, &exchange.line), self.data.recorded_weight);
            }
        }
        if let Some(first) = sample.loss.first_mut() {
            *first = 0.0;
        }
        Sample::new(sample.ids, sample.loss)
    }
}

struct Writer<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    loss: Vec<f32>,
}

impl Writer<'_> {
    /// Turns with the weights of the player's words and of the NPC's.
    fn push_turns(&mut self, turns: &[CorpusTurn], careless: bool, noise: &mut Stream, weights: [f32; 2]) {
        for turn in turns {
            match turn {
                CorpusTurn::Player { says } => {
                    let said = noise.pick(says).map_or("", String::as_str);
                    let said = if careless { typed(said, noise) } else { said.to_owned() };
                    self.push(&player_turn(&said), weights[0]);
                }
                CorpusTurn::Npc { act, says, .. } => self.push(&npc_turn(*act, says), weights[1]),
            }
        }
    }

    fn push(&mut self, text: &str, weight: f32) {
        // The texts were checked when they were read; one that cannot be encoded adds nothing.
        let ids = self.tokenizer.encode(text).unwrap_or_default();
        self.loss.extend(ids.iter().map(|_| weight));
        self.ids.extend(ids);
    }
}

impl SampleSource for DialogueSource {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn sample(&self, index: usize, noise: &mut Stream) -> Sample {
        self.build(index, noise, true)
    }

    fn fixed(&self, index: usize) -> Sample {
        self.build(index, &mut Seed::new(0).derive("held out").derive_index(index as u64).stream(), false)
    }

    fn player(&self, index: usize) -> Option<&str> {
        match &self.items[index] {
            Item::Written(_) => None,
            Item::Recorded(played) => Some(&played.player),
        }
    }

    fn hash(&self) -> String {
        self.hash.clone()
    }
}

/// What was true when a written dialogue took place: what it needs, and otherwise anything.
fn setting(dialogue: &Dialogue, noise: &mut Stream) -> Setting {
    let situation = dialogue.situation.as_str();
    let known = match situation {
        "greeting_known" => true,
        "greeting_stranger" => false,
        "who_are_you" => noise.chance(0.2),
        _ => noise.chance(0.5),
    };
    let offers = dialogue.lines().any(|(act, _)| act == Act::Offer);
    let quest = match situation {
        "work_none" => "none",
        "quest_progress" => "active",
        "quest_done" => "done",
        "quest_accept" | "quest_decline" => noise.pick(&QUESTS[1..6]).copied().unwrap_or("active"),
        _ => match situation.strip_prefix("work_").filter(|kind| QUESTS.contains(kind)) {
            Some(kind) => kind,
            None if offers => QUESTS[1 + noise.below(4)],
            None => QUESTS[if noise.chance(0.4) { 0 } else { noise.below(6) }],
        },
    };
    Setting {
        voice: dialogue.voice.clone(),
        known,
        deed: dialogue.uses(Slot::Deed) || noise.chance(0.3),
        quest: quest.to_owned(),
    }
}

/// What the player wrote, typed more or less carefully.
fn typed(text: &str, noise: &mut Stream) -> String {
    if noise.chance(0.25) {
        text.trim_end_matches(['.', '?', '!']).to_owned()
    } else if noise.chance(0.1) {
        text.replace([',', '\''], "")
    } else {
        text.to_owned()
    }
}
