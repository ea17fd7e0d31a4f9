//! Lines of a public model that was taught to chat.
//!
//! It does not know the dialogue language: persona and world are told in words, and the answer is held to a form that
//! [`super::Speech`] reads like a line of ours: an act that is possible now, then sentences in small letters whose capitalised
//! words are names of the live world only. An offer names what it is about. Things in small letters can still be invented:
//! models of ours, which write slots, cannot do that.

use super::act::Act;
use super::ground::{GoalState, Ground};
use super::memory::Memory;
use super::persona::{Goal, Mood, Persona};
use super::slot::Slot;
use super::world::{World, compass, definite};
use crate::decode::{Form, Prompt};
use crate::text::Message;

/// The longest stretch without a full stop, in letters and names.
const SENTENCE: usize = 120;

/// What the model is told, and the form of its answer. `acts` are those that are possible now; `said` is empty where the
/// player only walks up.
pub(super) fn ask(
    persona: &Persona,
    world: &World,
    memory: &Memory,
    ground: &Ground,
    acts: &[Act],
    said: &str,
) -> (Prompt, Form) {
    let mut messages = vec![Message::new("system", about(persona, world, ground, acts))];
    for exchange in &memory.exchanges {
        messages.push(Message::new("user", player(&exchange.player)));
        messages.push(Message::new("assistant", format!("{}{}", exchange.act.token(), exchange.line)));
    }
    messages.push(Message::new("user", player(said)));
    (Prompt::Chat(messages), form(world, ground, acts))
}

fn player(said: &str) -> String {
    if said.trim().is_empty() { "(walks up to you)".into() } else { said.trim().to_owned() }
}

fn about(persona: &Persona, world: &World, ground: &Ground, acts: &[Act]) -> String {
    let mut told = vec![format!(
        "You are {}, {} in a game. You speak in a {} voice.",
        persona.name, persona.role, persona.voice
    )];
    let mood = match persona.mood {
        Mood::Calm => None,
        Mood::Cheerful => Some("cheerful"),
        Mood::Grieving => Some("grieving"),
        Mood::Angry => Some("angry"),
        Mood::Afraid => Some("afraid"),
    };
    told.extend(mood.map(|mood| format!("You are {mood}.")));
    let mut list = |what: &str, items: Vec<String>| {
        if !items.is_empty() {
            told.push(format!("{what}: {}.", items.join("; ")));
        }
    };
    let at = |place: &Option<String>| {
        place.as_ref().map_or_else(String::new, |place| format!(" at {}", definite(place)))
    };
    let here = world.person(&persona.name).and_then(|me| me.place.as_deref());
    let from = here.and_then(|here| world.place(here)).map(|place| place.at);
    let way = |to| {
        from.and_then(|from| compass(from, to)).map_or_else(String::new, |way| format!(" ({way} of here)"))
    };
    list("You know", persona.facts.clone());
    list("You are", here.map(|here| format!("at {}", definite(here))).into_iter().collect());
    list("Places", world.places.iter().map(|place| definite(&place.name) + &way(place.at)).collect());
    let others = world.people.iter().filter(|other| other.name != persona.name);
    list(
        "People",
        others.map(|other| format!("{}, {}{}", other.name, other.role, at(&other.place))).collect(),
    );
    list("Things", world.items.iter().map(|item| format!("{}{}", item.name, at(&item.place))).collect());
    list("Creatures", world.creatures.iter().map(|one| format!("{}{}", one.name, at(&one.place))).collect());
    list("The weather", world.weather.clone().into_iter().collect());
    list("It is", world.time.clone().into_iter().collect());
    let wares = persona.wares.as_ref().map(|wares| format!("{wares}, {} coins each", persona.price));
    list("You sell", wares.into_iter().collect());
    list("The player did", world.player.deeds.clone());
    let reward = ground.text(Slot::Reward).unwrap_or("some coins").to_owned();
    let task = |goal: &Goal| match goal {
        Goal::Fetch { item, .. } => format!("to bring you {}", definite(item)),
        Goal::Slay { creature, .. } => format!("to drive off {}", definite(creature)),
        Goal::Deliver { item, to, .. } => format!("to bring {} to {to}", definite(item)),
        Goal::Visit { place, .. } => format!("to look at {}", definite(place)),
    };
    let wish = match &ground.goal {
        GoalState::None => None,
        GoalState::Open(goal) => Some(format!("You want the player {}, for {reward}", task(goal))),
        GoalState::Active(goal) => Some(format!("You asked the player {}, for {reward}", task(goal))),
        GoalState::Done(goal) => {
            Some(format!("The player was asked {}, and did it; you owe {reward}", task(goal)))
        }
    };
    told.extend(wish.map(|wish| wish + "."));
    let acts: Vec<String> = acts.iter().map(|act| act.token()).collect();
    told.push(format!(
        "Begin your answer with what it does: {}. Then say one to three short sentences in small letters, names as they stand above.",
        acts.join(" ")
    ));
    told.join("\n")
}

/// What an offer is about, by name.
fn subject(goal: &GoalState) -> Option<&str> {
    goal.goal().map(Goal::subject)
}

fn form(world: &World, ground: &Ground, acts: &[Act]) -> Form {
    let names = world.places.iter().map(|place| &place.name).chain(world.people.iter().map(|one| &one.name));
    let things = world.items.iter().map(|item| &item.name).chain(world.creatures.iter().map(|one| &one.name));
    let player = world.player.name.trim().to_owned();
    let mut names: Vec<String> = names
        .chain(things)
        .chain([&player])
        .filter(|name| name.chars().any(char::is_uppercase))
        .map(|name| regex_literal(name))
        .collect();
    names.sort_unstable();
    names.dedup();
    let piece = if names.is_empty() {
        "[\\p{Ll}0-9 ',;-]".to_owned()
    } else {
        format!("([\\p{{Ll}}0-9 ',;-]|{})", names.join("|"))
    };
    // A sentence begins with a letter or a name, and is no blank.
    let begin =
        if names.is_empty() { "\\p{Ll}".to_owned() } else { format!("(\\p{{Ll}}|{})", names.join("|")) };
    let sentence = format!("{begin}{piece}{{3,{SENTENCE}}}[.!?]");
    let more = format!("( {sentence}){{0,2}}");
    let plain: Vec<&str> = acts.iter().filter(|act| **act != Act::Offer).map(|act| act.name()).collect();
    let mut ways = Vec::new();
    if !plain.is_empty() {
        ways.push(format!("<act:({})>{sentence}{more}", plain.join("|")));
    }
    if acts.contains(&Act::Offer)
        && let Some(subject) = subject(&ground.goal)
    {
        let subject = regex_literal(subject.strip_prefix("the ").unwrap_or(subject));
        let half = SENTENCE / 2;
        ways.push(format!("<act:Offer>{begin}{piece}{{1,{half}}} {subject}({piece}{{0,{half}}})[.!?]{more}"));
    }
    Form::Regex(ways.join("|"))
}

/// A text as a regular expression that matches just it.
fn regex_literal(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if !c.is_alphanumeric() && c != ' ' {
            out.push('\\');
        }
        out.push(c);
        out
    })
}

#[cfg(test)]
mod tests {
    use crate::decode::{Backend, LoadedModel, Output, Sampling, Scheduler, SchedulerConfig, random_model};
    use crate::dialogue::{Act, Manner, Memory, Persona, Turn, World};
    use crate::seed::Seed;
    use crate::text::{ChatTemplate, Tokenizer};
    use crate::training::Architecture;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    /// A model of random weights that was "taught to chat".
    fn model() -> Arc<LoadedModel> {
        let lines =
            ["the mill is by the river, and Tomas keeps it.", "i want the silver locket!", "<act:Greet>"];
        let tokenizer = Tokenizer::train(lines.iter(), 330, &[]).unwrap();
        let mut model = random_model(tokenizer, Architecture::Transformer, (1, 4096), 1);
        let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
        model.chat = Some(ChatTemplate::new(template, "test", "", "").unwrap());
        Arc::new(model)
    }

    #[test]
    fn lines_have_a_possible_act_and_name_only_who_exists() {
        let world = World::from_ron(include_str!("../../assets/worlds/village.world.ron"), "world").unwrap();
        let mira = include_str!("../../assets/personas/mira.persona.ron");
        let mut mira = Persona::from_ron(mira, "mira").unwrap();
        let model = model();
        let sampling =
            Sampling { temperature: 1.5, top_p: 1.0, min_p: 0.0, max_tokens: 300, ..Sampling::default() };
        let manner = Manner::of(&model, sampling);
        assert!(manner.chats);
        let known: BTreeSet<&str> = world
            .places
            .iter()
            .map(|place| place.name.as_str())
            .chain(world.people.iter().map(|one| one.name.as_str()))
            .chain(world.items.iter().map(|one| one.name.as_str()))
            .chain(world.creatures.iter().map(|one| one.name.as_str()))
            .chain([world.player.name.as_str(), "I"])
            .flat_map(str::split_whitespace)
            .collect();
        let (mut acts, mut offers) = (BTreeSet::new(), 0);
        for round in 0..24 {
            if round == 12 {
                mira.acts = Some(vec![Act::Offer]);
            }
            let memory = Memory { lines: round, ..Memory::default() };
            let turn = Turn::prepare(&mira, &world, &memory, "Any work for me?", Seed::new(3), &manner);
            let (request, mut speech) = turn.into_request(&model).unwrap();
            let mut scheduler = Scheduler::new(Arc::clone(&model), SchedulerConfig::default());
            scheduler.submit(request);
            let (mut outputs, mut end) = (Vec::new(), None);
            while !scheduler.is_idle() {
                scheduler.step(&mut outputs).unwrap();
            }
            for output in outputs {
                match output {
                    Output::Delta { text, .. } => {
                        speech.push(&text);
                    }
                    Output::Finished { finish, tokens, .. } => end = Some((finish, tokens)),
                    Output::Failed { error, .. } => panic!("{error}"),
                }
            }
            let (finish, tokens) = end.unwrap();
            let spoken = speech.finish(finish, tokens);
            assert!(!spoken.text.contains(['<', '>', '{']), "{}", spoken.text);
            acts.insert(spoken.act);
            for word in spoken.exchange.line.split(|c: char| !c.is_alphanumeric()) {
                if word.chars().next().is_some_and(char::is_uppercase) {
                    // Names may stand side by side; each must be one.
                    let mut rest = word;
                    while !rest.is_empty() {
                        let name = known
                            .iter()
                            .filter(|name| rest.starts_with(**name))
                            .max_by_key(|name| name.len());
                        let small = rest.chars().next().is_some_and(|c| !c.is_uppercase());
                        if small {
                            rest = &rest[rest.chars().next().map_or(1, char::len_utf8)..];
                        } else {
                            rest =
                                &rest[name.unwrap_or_else(|| panic!("`{rest}` in {}", spoken.text)).len()..];
                        }
                    }
                }
            }
            if spoken.act == Act::Offer {
                offers += 1;
                let goal = spoken.goal.unwrap();
                let subject = goal.subject().strip_prefix("the ").unwrap_or(goal.subject());
                assert!(spoken.text.to_lowercase().contains(&subject.to_lowercase()), "{}", spoken.text);
            }
        }
        assert!(acts.len() > 3 && offers >= 12, "{acts:?} {offers}");
        assert!(!acts.contains(&Act::Praise) || !world.player.deeds.is_empty());
    }
}
