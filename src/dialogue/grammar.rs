//! [`WorldGrammar`]: what an NPC may say next, given the world as they know it.

use super::act::Act;
use super::ground::{GoalState, Ground, LineGround};
use super::persona::{Goal, Persona};
use super::prompt::END;
use super::slot::Slot;
use super::source::label;
use crate::decode::Constraint;
use crate::text::{END_OF_LINE, Lexicon, Possible, Spelling, Tokenizer, Vocabulary, fold, units};
use std::sync::Arc;

/// After how many tokens a line that was said before must go another way.
const SAME_START: usize = 3;
/// The fewest tokens of a line.
const SHORTEST: usize = 3;
/// After how many tokens a line may end without what it owes.
const PATIENCE: usize = 50;

/// Constrains an answer: an act that is possible now, then words and slots that can be filled.
pub struct WorldGrammar {
    ground: Ground,
    acts: Vec<(Act, f32)>,
    said: Vec<String>,
    voice: String,
    /// The words that may be spelled (empty: any).
    lexicon: Arc<Lexicon>,
    // Known once the tokenizer is:
    act_tokens: Vec<(usize, Act, f32)>,
    slot_tokens: Vec<(usize, Slot)>,
    special: Vec<usize>,
    end: Option<usize>,
    said_tokens: Vec<Vec<u32>>,
    /// The sentence under way, as written.
    sentence: String,
    /// The sentences before it.
    sentences: Vec<String>,
    /// What each token spells; nothing where any word may be spelled.
    vocabulary: Arc<Vocabulary>,
    /// What can be said with the slots of the last token, as far as it was asked for.
    fillable: Possible,
    // Grows with the line:
    act: Option<Act>,
    line: LineGround,
    words: Vec<u32>,
    spelling: Spelling,
    /// Whether the last token closes a sentence.
    closed: bool,
}

impl WorldGrammar {
    /// The grammar of one line. `said` are lines that must not come again; only words of `lexicon` are spelled
    /// (an empty one allows any).
    pub fn new(
        persona: &Persona,
        ground: Ground,
        said: impl Iterator<Item = String>,
        lexicon: Arc<Lexicon>,
    ) -> Self {
        let acts = possible_acts(persona, &ground).into_iter();
        let acts: Vec<(Act, f32)> = acts.map(|act| (act, persona.mood.bias(act))).collect();
        Self {
            acts,
            ground,
            said: said.collect(),
            voice: persona.voice.clone(),
            lexicon,
            act_tokens: Vec::new(),
            slot_tokens: Vec::new(),
            special: Vec::new(),
            end: None,
            said_tokens: Vec::new(),
            sentence: String::new(),
            sentences: Vec::new(),
            vocabulary: Arc::default(),
            fillable: Possible::default(),
            act: None,
            line: LineGround::default(),
            words: Vec::new(),
            spelling: Spelling::default(),
            closed: false,
        }
    }

    fn allows(&self, slot: Slot) -> bool {
        // Three times the same slot in a line is a stutter.
        self.line.used.iter().filter(|used| **used == slot).count() < 2
            && self.ground.allows(slot, &self.line)
            && (self.act != Some(Act::Offer) || in_offer(slot, &self.ground))
            && (self.act != Some(Act::Direct) || !self.ground.strays(slot))
            && (slot != Slot::Reward || !matches!(self.ground.goal, GoalState::None))
    }

    /// Forbids what may not come next in a line whose act is known; with `strict`, also what was never written
    /// after the words before it.
    fn mask_words(&mut self, logits: &mut [f32], strict: bool) {
        // With a lexicon, names and the end come only between words.
        let free = self.lexicon.is_empty();
        let between = free || self.spelling.is_between();
        let possible: Vec<(usize, String)> = self
            .slot_tokens
            .iter()
            .filter(|(_, slot)| self.allows(*slot))
            .map(|(id, slot)| (*id, slot.token()))
            .collect();
        self.fillable.keep(possible.iter().map(|(_, token)| token.clone()).collect());
        let strict = strict.then_some(&self.fillable);
        let written = |unit: &str| {
            free || strict.is_none_or(|possible| self.spelling.allows_unit(&self.lexicon, unit, possible))
        };
        let mut keep = Vec::new();
        if free || self.spelling.takes_a_name() {
            keep.extend(possible.iter().filter(|(_, token)| written(token)).map(|(id, _)| *id));
        }
        if between && self.may_end() && written(END_OF_LINE) {
            keep.extend(self.end);
        }
        let kept: Vec<(usize, f32)> = keep.iter().filter_map(|&id| Some((id, *logits.get(id)?))).collect();
        for &id in &self.special {
            if let Some(logit) = logits.get_mut(id) {
                *logit = f32::NEG_INFINITY;
            }
        }
        for (id, logit) in kept {
            logits[id] = logit;
        }
        let allowed = self.spelling.allowed(&self.lexicon, &self.vocabulary, strict);
        for ((logit, spelled), allowed) in logits.iter_mut().zip(self.vocabulary.spelled()).zip(allowed) {
            if spelled.is_some() && !allowed {
                *logit = f32::NEG_INFINITY;
            }
        }
        // In the middle of a word there may be one way on only.
        if !free && !self.spelling.is_whole(&self.lexicon) {
            return;
        }
        for said in &self.said_tokens {
            // Short lines part at their last token, longer ones early, so that the rest can differ freely.
            if self.words.len() == SAME_START.min(said.len().saturating_sub(1))
                && said.starts_with(&self.words)
                && let Some(logit) = said.get(self.words.len()).and_then(|&id| logits.get_mut(id as usize))
            {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// Forbids what would begin a sentence as one before it in the line began, past its first word. Says whether
    /// anything is left.
    fn mask_repeats(&self, logits: &mut [f32]) -> bool {
        for said in self.sentences.iter().filter(|said| said.starts_with(&self.sentence)) {
            let begins = said.len() - said.trim_start().len();
            let first = said[begins..].find(' ').map_or(said.len(), |at| begins + at + 1);
            for (logit, spelled) in logits.iter_mut().zip(self.vocabulary.spelled()) {
                let Some(text) = spelled.as_ref().filter(|text| !text.is_empty()) else { continue };
                if self.sentence.len() + text.len() > first
                    && said[self.sentence.len()..].starts_with(text.as_str())
                {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        if self.sentence.is_empty() {
            self.mask_used_up(logits);
        }
        logits.iter().any(|logit| *logit > f32::NEG_INFINITY)
    }

    /// Forbids first words after which a sentence could only go on as one before it did.
    fn mask_used_up(&self, logits: &mut [f32]) {
        let begun: Vec<Vec<String>> = self.sentences.iter().map(|said| units(said)).collect();
        for word in begun.iter().filter_map(|units| units.first()) {
            let seconds: Vec<&String> = begun
                .iter()
                .filter(|units| units.first() == Some(word))
                .filter_map(|units| units.get(1))
                .collect();
            let next = self.spelling.after_word(&self.lexicon, word).unwrap_or_default();
            if next.is_empty() || !next.iter().all(|unit| seconds.contains(&unit)) {
                continue;
            }
            for (logit, spelled) in logits.iter_mut().zip(self.vocabulary.spelled()) {
                if spelled.as_ref().is_some_and(|text| text.trim() == word) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }

    /// Whether the line may end here: after a whole sentence that says what its act owes, as far as the world
    /// can.
    fn may_end(&self) -> bool {
        if self.words.len() < SHORTEST || !(self.lexicon.is_empty() || self.closed) {
            return false;
        }
        let paid = |group: &&[Slot]| {
            group.iter().any(|slot| self.line.used.contains(slot))
                || !group.iter().any(|slot| self.allows(*slot))
        };
        self.words.len() >= PATIENCE || self.act.is_none_or(|act| owed(act, &self.ground).iter().all(paid))
    }
}

/// What a line of this act owes its hearer: one slot of each group. An offer says what is to be done and what it
/// pays, a direction says where, a rumour is about somebody or something.
fn owed(act: Act, ground: &Ground) -> Vec<&'static [Slot]> {
    use Slot as S;
    match act {
        Act::Offer => {
            let mut groups: Vec<&[Slot]> = vec![&[S::Reward]];
            match ground.goal.goal() {
                Some(Goal::Fetch { .. }) => groups.push(&[S::Item, S::AnItem]),
                Some(Goal::Deliver { .. }) => {
                    groups.extend([&[S::Item, S::AnItem] as &[Slot], &[S::Person, S::PersonRole]]);
                }
                Some(Goal::Slay { .. }) => groups.push(&[S::Creature, S::ACreature]),
                Some(Goal::Visit { .. }) => groups.push(&[S::Place]),
                None => {}
            }
            groups
        }
        Act::Direct => vec![&[S::Direction, S::PersonPlace, S::ItemPlace, S::CreaturePlace, S::Place]],
        Act::Rumour => vec![&[S::Person, S::Place, S::Item, S::AnItem, S::Creature, S::ACreature]],
        _ => Vec::new(),
    }
}

/// The acts of a persona that make sense in the world as it is.
pub(super) fn possible_acts(persona: &Persona, ground: &Ground) -> Vec<Act> {
    Act::ALL.iter().copied().filter(|&act| persona.allows(act) && possible(act, persona, ground)).collect()
}

/// Whether an act makes sense in the world as it is.
fn possible(act: Act, persona: &Persona, ground: &Ground) -> bool {
    match act {
        Act::Offer => matches!(ground.goal, GoalState::Open(_) | GoalState::Active(_)),
        Act::Praise => ground.text(Slot::Deed).is_some(),
        Act::KeepSecret => !persona.secrets.is_empty(),
        _ => true,
    }
}

/// An offer may only speak of what its quest is about.
fn in_offer(slot: Slot, ground: &Ground) -> bool {
    use Slot as S;
    let Some(goal) = ground.goal.goal() else { return false };
    let subject = match goal {
        Goal::Fetch { item, .. } => ground.focus.item.as_ref() == Some(item),
        Goal::Deliver { item, to, .. } => {
            ground.focus.item.as_ref() == Some(item) && ground.focus.person.as_ref() == Some(to)
        }
        Goal::Slay { creature, .. } => ground.focus.creature.as_ref() == Some(creature),
        Goal::Visit { place, .. } => ground.focus.place.as_ref() == Some(place),
    };
    match slot {
        S::Item | S::AnItem => subject && matches!(goal, Goal::Fetch { .. } | Goal::Deliver { .. }),
        S::ItemPlace => subject && matches!(goal, Goal::Fetch { .. }),
        S::Person | S::PersonRole | S::PersonPlace => subject && matches!(goal, Goal::Deliver { .. }),
        S::Creature | S::ACreature | S::CreaturePlace => subject && matches!(goal, Goal::Slay { .. }),
        S::Place => subject && matches!(goal, Goal::Visit { .. }),
        S::Direction => subject,
        S::Deed | S::Price => false,
        _ => true,
    }
}

impl Constraint for WorldGrammar {
    fn begin(&mut self, tokenizer: &Tokenizer) {
        let id = |token: &str| tokenizer.id(token).map(|id| id as usize);
        self.act_tokens =
            self.acts.iter().filter_map(|&(a, bias)| Some((id(&a.token())?, a, bias))).collect();
        self.slot_tokens = Slot::ALL.iter().filter_map(|&slot| Some((id(&slot.token())?, slot))).collect();
        self.special = (0..tokenizer.vocab_size()).filter(|&id| tokenizer.is_special(id as u32)).collect();
        self.end = id(END);
        if !self.lexicon.is_empty() {
            self.vocabulary = tokenizer.vocabulary();
        }
        let said = self.said.iter().filter_map(|line| tokenizer.encode(&fold(line)).ok());
        self.said_tokens = said.collect();
    }

    fn mask(&mut self, logits: &mut [f32]) {
        let Some(_) = self.act else {
            let allowed: Vec<(usize, f32)> = self
                .act_tokens
                .iter()
                .filter_map(|&(id, _, bias)| Some((id, logits.get(id)? + bias)))
                .collect();
            logits.fill(f32::NEG_INFINITY);
            for (id, logit) in allowed {
                logits[id] = logit;
            }
            return;
        };
        let unmasked = logits.to_vec();
        self.mask_words(logits, true);
        let repeating = logits.to_vec();
        while !self.mask_repeats(logits) {
            // Nothing new can be said as this voice would begin: as any other, then; or the same again.
            let Some(wider) = self.spelling.widened() else {
                logits.copy_from_slice(&repeating);
                break;
            };
            self.spelling = wider;
            logits.copy_from_slice(&unmasked);
            self.mask_words(logits, true);
        }
        if logits.iter().all(|logit| *logit == f32::NEG_INFINITY) {
            // What was written after these words is not possible in this world: any word, then.
            logits.copy_from_slice(&unmasked);
            self.mask_words(logits, false);
        }
    }

    fn accept(&mut self, token: u32) -> bool {
        let token = token as usize;
        if self.act.is_none() {
            self.act = self.act_tokens.iter().find(|(id, ..)| *id == token).map(|(_, act, _)| *act);
            let Some(act) = self.act else { return true };
            self.ground = self.ground.clone().of_act(act);
            self.spelling = Spelling::labelled(&self.lexicon, &label(&self.voice, act));
            return false;
        }
        if self.end == Some(token) {
            return true;
        }
        if let Some((_, slot)) = self.slot_tokens.iter().find(|(id, _)| *id == token) {
            let _ = self.ground.fill(*slot, &mut self.line);
            self.spelling.name(&slot.token());
            self.sentence += &slot.token();
            self.closed = false;
        } else if let Some(Some(text)) = self.vocabulary.spelled().get(token) {
            self.spelling.push(text);
            self.sentence += text;
            self.closed = text.trim_end().ends_with(['.', '!', '?']);
        }
        self.words.push(token as u32);
        if self.closed {
            // The first sentence has no blank before it.
            let sentence = std::mem::take(&mut self.sentence);
            self.sentences.push(format!(" {}", sentence.trim_start()));
        }
        false
    }

    fn rule(&self) -> String {
        match self.act {
            None => "an act that the persona allows and the world makes possible".into(),
            Some(act) => format!("a word of an {act} line whose slots the world can fill"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::corpus::{Corpus, Part};
    use super::super::prompt::special_tokens;
    use super::super::source::{tokenizer_lines, written_lines};
    use super::super::{Manner, Memory, Turn, World};
    use super::*;
    use crate::decode::Sampling;
    use crate::seed::Seed;
    use std::path::Path;

    /// Lines drawn at random (of what the grammar allows), as (act, text with tokens, tokens).
    fn babble(said: &str, memory: &Memory, count: u64) -> (Vec<(Act, String, usize)>, Lexicon) {
        babble_of("dialogue/gruff.jsonl", 4.0, said, memory, count)
    }

    /// With what makes the end likely.
    fn babble_of(
        corpus: &str,
        end: f32,
        said: &str,
        memory: &Memory,
        count: u64,
    ) -> (Vec<(Act, String, usize)>, Lexicon) {
        let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let read = |file: &str| std::fs::read_to_string(assets.join(file)).unwrap();
        let world = World::from_ron(&read("worlds/village.world.ron"), "world").unwrap();
        let persona = Persona::from_ron(&read("personas/bram.persona.ron"), "persona").unwrap();
        let corpus = Corpus::read(&assets.join(corpus)).unwrap();
        let tokenizer =
            Tokenizer::train(tokenizer_lines(&corpus).iter(), 700, &special_tokens(&corpus.voices()))
                .unwrap();
        let lines = written_lines(&corpus);
        let lexicon = Lexicon::of_lines(lines.iter().filter_map(|line| line.split_once(' ')));
        let mut manner = Manner::plain(Sampling::default());
        manner.lexicon = Arc::new(lexicon.clone());
        let mut lines = Vec::new();
        for seed in 0..count {
            let turn = Turn::prepare(&persona, &world, memory, said, Seed::new(seed), &manner);
            let mut grammar = turn.request.constraint.unwrap();
            grammar.begin(&tokenizer);
            let mut noise = Seed::new(seed).derive("babble").stream();
            let mut ids = Vec::new();
            loop {
                // The end and full stops are made likely, or no line would ever be short.
                let mut logits: Vec<f32> = (0..tokenizer.vocab_size()).map(|_| noise.normal()).collect();
                for (token, likely) in [(END, end), (".", 4.0), ("!", 4.0)] {
                    logits[tokenizer.id(token).unwrap() as usize] += likely;
                }
                grammar.mask(&mut logits);
                let at = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
                assert!(logits[at].is_finite(), "nothing may come after {}", tokenizer.decode(&ids));
                if grammar.accept(at as u32) || ids.len() > 300 {
                    break;
                }
                ids.push(at as u32);
            }
            let act =
                Act::ALL.iter().copied().find(|act| tokenizer.id(&act.token()) == Some(ids[0])).unwrap();
            let tokens: Vec<String> = ids.iter().filter_map(|id| tokenizer.token(*id)).collect();
            lines.push((act, tokens.concat(), ids.len()));
        }
        (lines, lexicon)
    }

    #[test]
    fn every_line_ends_with_its_sentence_and_says_what_its_act_owes() {
        let (lines, _) = babble("Any work for me?", &Memory::default(), 400);
        let acts = |wanted: Act| lines.iter().filter(move |(act, ..)| *act == wanted);
        assert!(acts(Act::Offer).count() > 3 && acts(Act::Rumour).count() > 3);
        for (act, line, tokens) in &lines {
            assert!(*tokens < 300, "{line}");
            assert!(line.ends_with(['.', '!', '?']), "{line}");
            if *tokens > PATIENCE {
                continue;
            }
            let names = |slots: &[Slot]| slots.iter().any(|slot| line.contains(&slot.token()));
            match act {
                // Bram wants a creature gone.
                Act::Offer => {
                    assert!(names(&[Slot::Reward]) && names(&[Slot::Creature, Slot::ACreature]), "{line}");
                }
                Act::Rumour => assert!(line.contains('{'), "{line}"),
                _ => {}
            }
        }
    }

    #[test]
    fn no_sentence_of_a_line_begins_as_another_did() {
        let (lines, _) = babble_of("dialogue", 2.0, "Tell me a joke.", &Memory::default(), 300);
        let (mut lines_of_some, mut alike) = (0, 0);
        for (_, line, _) in &lines {
            // The vocabulary writes a blank so.
            let line = line.split_once('>').map_or("", |(_, rest)| rest).replace('\u{120}', " ");
            let starts = line
                .split_inclusive(['.', '!', '?'])
                .map(|sentence| sentence.trim().split(' ').take(2).collect::<Vec<_>>().join(" "));
            let starts: Vec<String> = starts.filter(|start| start.contains(' ')).collect();
            if (2..=4).contains(&starts.len()) {
                let different: std::collections::HashSet<&String> = starts.iter().collect();
                lines_of_some += 1;
                alike += usize::from(different.len() < starts.len());
            }
        }
        // Where nothing else is left to say, one may.
        assert!(lines_of_some > 50 && alike * 10 < lines_of_some, "{alike} of {lines_of_some}");
    }

    #[test]
    fn what_is_not_possible_is_never_said() {
        // Nobody has been asked after, and no deed is known.
        let (lines, lexicon) = babble("hm", &Memory::default(), 200);
        for (act, line, _) in &lines {
            assert!(*act != Act::Praise && !line.contains(&Slot::Deed.token()), "{line}");
            assert!(!line.contains(&Slot::Unknown.token()), "{line}");
        }
        assert!(!lexicon.is_empty());
        // A held-out line's words are not in the lexicon unless others use them.
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/dialogue");
        assert!(Corpus::read(&corpus).unwrap().part(Part::Test).count() > 100);
    }
}
