//! One answer, from what the player typed to what is shown and remembered.
//!
//! [`Turn::prepare`] makes the request for a backend; [`Speech`] turns the model's text (lower case, with
//! slots) into words on the screen as it comes; [`Spoken`] is the result.

use super::act::Act;
use super::chat;
use super::grammar::{WorldGrammar, possible_acts};
use super::ground::{GoalState, Ground, LineGround};
use super::link::link;
use super::memory::{Exchange, Focus, Memory};
use super::persona::{Goal, Persona};
use super::prompt::{ANY_VOICE, NPC, Setting, prompt};
use super::slot::{Piece, Slot, pieces};
use super::world::World;
use crate::decode::{Constraint, Finish, Form, LoadedModel, Prompt, Request, Sampling};
use crate::error::Result;
use crate::seed::Seed;
use crate::text::{Lexicon, Truecase, clean_player};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a request needs to know of the model that will answer.
#[derive(Clone, Debug)]
pub struct Manner {
    /// The voices the model knows (`card.conditioning["voice"]`).
    pub voices: Vec<String>,
    /// The longest prompt, in bytes of text; a byte is never more than a token.
    pub budget: usize,
    /// How to draw.
    pub sampling: Sampling,
    /// The words the model may spell (`card.conditioning["word"]`; empty: any).
    pub lexicon: Arc<Lexicon>,
    /// Whether the model was taught to chat and does not know the dialogue language.
    pub chats: bool,
}

impl Manner {
    /// What fits this model.
    pub fn of(model: &LoadedModel, sampling: Sampling) -> Self {
        let context = model.decoder.context();
        let voices = model.card.conditioning.get("voice").cloned().unwrap_or_default();
        // The head takes six control tokens, each turn a few more.
        Self {
            voices,
            budget: context.saturating_sub(sampling.max_tokens + 32).min(600),
            sampling,
            lexicon: Arc::clone(&model.lexicon),
            chats: model.chat.is_some() && model.tokenizer.id(NPC).is_none(),
        }
    }

    /// For a backend without a model of ours.
    pub fn plain(sampling: Sampling) -> Self {
        Self { voices: Vec::new(), budget: 600, sampling, lexicon: Arc::default(), chats: false }
    }
}

/// An answer about to be made.
pub struct Turn {
    /// For the backend.
    pub request: Request,
    /// The form that the answer is to be held to ([`Self::into_request`]).
    form: Option<Form>,
    /// For the words that come back.
    speech: Speech,
}

impl Turn {
    /// Prepares the answer of `persona` to `said` (empty: the player just walks up).
    /// `seed` is the NPC's own; each line draws from a stream of its own.
    pub fn prepare(
        persona: &Persona,
        world: &World,
        memory: &Memory,
        said: &str,
        seed: Seed,
        manner: &Manner,
    ) -> Self {
        let world = world.known_to(&persona.name);
        let seed = seed.derive("line").derive_index(memory.lines);
        let cleaned = clean_player(said);
        let linked = link(&cleaned, &world, &persona.name, persona.wares.as_deref());
        let ground = Ground::new(persona, &world, memory, &linked, &mut seed.derive("ground").stream());
        let knows = manner.voices.contains(&persona.voice);
        let setting = Setting {
            voice: if knows { persona.voice.clone() } else { ANY_VOICE.into() },
            known: memory.met,
            deed: ground.text(Slot::Deed).is_some(),
            quest: ground.goal.word().into(),
        };
        let (prompt, constraint, form, player): (Prompt, Option<Box<dyn Constraint>>, _, _) = if manner.chats
        {
            let acts = possible_acts(persona, &ground);
            let (prompt, form) = chat::ask(persona, &world, memory, &ground, &acts, &cleaned);
            (prompt, None, Some(form), cleaned)
        } else {
            let prompt = prompt(&setting, memory.exchanges.iter(), &linked.text, manner.budget);
            let said = memory.said.iter().cloned();
            let grammar = WorldGrammar::new(persona, ground.clone(), said, Arc::clone(&manner.lexicon));
            (prompt.into(), Some(Box::new(grammar)), None, linked.text)
        };
        let request = Request {
            prompt,
            sampling: manner.sampling.clone(),
            seed: seed.derive("words"),
            constraint,
            priority: 0,
            adapter: None,
        };
        Self { request, form, speech: Speech::new(ground, setting, player) }
    }

    /// The request for a backend of this model, and what reads its answer. Makes a grammar ready where the line is held to
    /// one, which takes milliseconds: not in a frame.
    pub fn into_request(self, model: &LoadedModel) -> Result<(Request, Speech)> {
        let mut request = self.request;
        if let Some(form) = &self.form {
            request.constraint = Some(form.constraint(model)?);
        }
        Ok((request, self.speech))
    }

    /// Its three parts, for whoever makes the grammar elsewhere.
    #[cfg(feature = "bevy")]
    pub(super) fn into_parts(self) -> (Request, Option<Form>, Speech) {
        (self.request, self.form, self.speech)
    }
}

/// Turns the model's text into words on the screen, as it comes.
pub struct Speech {
    ground: Ground,
    setting: Setting,
    player: String,
    line: LineGround,
    case: Truecase,
    act: Option<Act>,
    raw: String,
    /// A token that has been opened and not closed.
    open: String,
    shown: String,
}

impl Speech {
    fn new(ground: Ground, setting: Setting, player: String) -> Self {
        Self {
            ground,
            setting,
            player,
            line: LineGround::default(),
            case: Truecase::default(),
            act: None,
            raw: String::new(),
            open: String::new(),
            shown: String::new(),
        }
    }

    /// Takes more of the model's text; returns what is new on the screen.
    pub fn push(&mut self, delta: &str) -> String {
        let mut new = String::new();
        for c in delta.chars() {
            match c {
                '<' | '{' => {
                    self.open.clear();
                    self.open.push(c);
                }
                '>' | '}' if !self.open.is_empty() => {
                    self.open.push(c);
                    let token = std::mem::take(&mut self.open);
                    new += &self.token(&token);
                }
                _ if !self.open.is_empty() => self.open.push(c),
                _ => {
                    self.raw.push(c);
                    new += &self.case.push(c.encode_utf8(&mut [0; 4]));
                }
            }
        }
        if self.shown.is_empty() {
            new = new.trim_start().to_owned();
        }
        self.shown += &new;
        new
    }

    fn token(&mut self, token: &str) -> String {
        if let Some(act) = Act::from_token(token) {
            if self.act.is_none() {
                self.act = Some(act);
                self.ground = self.ground.clone().of_act(act);
            }
            return String::new();
        }
        let Some(slot) = Slot::from_token(token) else { return String::new() };
        let Some(text) = self.ground.fill(slot, &mut self.line) else { return String::new() };
        self.raw += token;
        self.case.push_verbatim(&text)
    }

    /// What is on the screen so far.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The act, once it is known.
    pub fn act(&self) -> Option<Act> {
        self.act
    }

    /// The answer is whole.
    pub fn finish(mut self, finish: Finish, tokens: usize) -> Spoken {
        let rest = self.case.finish();
        self.shown += &rest;
        let mut text = self.shown.trim().to_owned();
        if finish == Finish::Length {
            // Cut off in mid-sentence: what is whole stays.
            match text.rfind(['.', '!', '?']) {
                Some(end) if end > 10 => text.truncate(end + 1),
                _ => text += "...",
            }
        }
        let act = self.act.unwrap_or(Act::SmallTalk);
        let exchange = Exchange { player: self.player, act, line: self.raw.trim().to_owned() };
        let used = |slot| self.line.used.contains(&slot);
        let goal = match (&self.ground.goal, act) {
            (GoalState::Open(goal) | GoalState::Active(goal), Act::Offer)
            | (GoalState::Done(goal), Act::Thank) => Some(goal.clone()),
            _ => None,
        };
        Spoken {
            focus: self.ground.focus_of(&self.line),
            fact: self.ground.text(Slot::Fact).filter(|_| used(Slot::Fact)).map(str::to_owned),
            deed: self.ground.text(Slot::Deed).filter(|_| used(Slot::Deed)).map(str::to_owned),
            setting: self.setting,
            text,
            act,
            goal,
            exchange,
            tokens,
        }
    }
}

/// An answer that was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spoken {
    /// What was shown.
    pub text: String,
    /// What it did.
    pub act: Act,
    /// The quest it offered ([`Act::Offer`]) or paid for ([`Act::Thank`]).
    pub goal: Option<Goal>,
    /// The fact it told.
    pub fact: Option<String>,
    /// The player's deed it spoke of.
    pub deed: Option<String>,
    /// The exchange as the model saw it.
    pub exchange: Exchange,
    /// What was true before the first word.
    pub setting: Setting,
    /// What was talked about.
    pub focus: Focus,
    /// How many tokens were generated.
    pub tokens: usize,
}

impl Memory {
    /// Remembers an answer and what follows from it.
    pub fn take_in(&mut self, spoken: &Spoken) {
        self.lines += 1;
        self.remember(spoken.exchange.clone());
        self.focus = spoken.focus.clone();
        self.told.extend(spoken.fact.clone());
        self.remarked.extend(spoken.deed.clone());
        if let Some(goal) = &spoken.goal {
            let list = if spoken.act == Act::Offer { &mut self.offered } else { &mut self.settled };
            if !list.iter().any(|subject| subject == goal.subject()) {
                list.push(goal.subject().to_owned());
            }
        }
        if spoken.act == Act::Farewell {
            self.part();
        }
    }
}

/// The authored line to show when the model cannot answer: one the world can fill, a new one each time.
pub fn fallback(persona: &Persona, world: &World, memory: &Memory, said: &str, seed: Seed) -> String {
    let world = world.known_to(&persona.name);
    let linked = link(&clean_player(said), &world, &persona.name, persona.wares.as_deref());
    let mut noise = seed.derive("fallback").derive_index(memory.lines).stream();
    let ground = Ground::new(persona, &world, memory, &linked, &mut noise);
    let start = noise.below(persona.fallbacks.len());
    let lines = persona.fallbacks.iter().cycle().skip(start).take(persona.fallbacks.len());
    lines.filter_map(|line| lexicalise(line, &ground)).next().unwrap_or_else(|| "...".into())
}

/// Fills an authored line; `None` when the world cannot.
pub fn lexicalise(line: &str, ground: &Ground) -> Option<String> {
    let (mut state, mut case) = (LineGround::default(), Truecase::default());
    let mut text = String::new();
    for piece in pieces(line).ok()? {
        match piece {
            Piece::Text(words) => text += &case.push(words),
            Piece::Slot(slot) if ground.allows(slot, &state) => {
                text += &case.push_verbatim(&ground.fill(slot, &mut state)?);
            }
            Piece::Slot(_) => return None,
        }
    }
    text += &case.finish();
    Some(text)
}
