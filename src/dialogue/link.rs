//! Entity linking: what a player's words refer to.
//!
//! Names in the player's text are replaced by slots ("Where is the miller?" becomes
//! "where is the {`person_role`}?"), so the model sees only its own vocabulary, and what was meant is
//! remembered as a [`Mention`]. Something that sounds like a name but is nothing in the speaker's world
//! becomes `{unknown}`: the model has learned to admit that it has never heard of it.

use super::slot::Slot;
use super::world::World;

/// What the player's words refer to. Indices are those of the world's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mention {
    /// A person.
    Person(usize),
    /// A place.
    Place(usize),
    /// A thing.
    Item(usize),
    /// A creature.
    Creature(usize),
    /// Nothing that exists, as far as the speaker knows.
    Unknown,
}

/// A player's text with its names replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// The delexicalised text.
    pub text: String,
    /// The first thing of each kind that was mentioned, in order.
    pub mentions: Vec<Mention>,
}

struct Candidate {
    words: Vec<String>,
    slot: Slot,
    mention: Option<Mention>,
}

/// Links `text` (already cleaned by [`crate::text::clean_player`]) against what the speaker knows.
/// `speaker` and `wares` are the speaker's own name and goods.
pub fn link(text: &str, world: &World, speaker: &str, wares: Option<&str>) -> Linked {
    let candidates = candidates(world, speaker, wares);
    let words = split_words(text);
    let folded: Vec<String> = words.iter().map(|word| fold_word(word.core)).collect();
    let mut linked = Linked { text: String::with_capacity(text.len()), mentions: Vec::new() };
    let mut i = 0;
    while i < words.len() {
        let hit = candidates.iter().filter(|c| matches(&c.words, &folded[i..])).max_by_key(|c| c.words.len());
        let (slot, mention, length) = match hit {
            Some(candidate) => (candidate.slot, candidate.mention, candidate.words.len()),
            None => match unknown_at(&words, &folded, i) {
                Some(length) => (Slot::Unknown, Some(Mention::Unknown), length),
                None => {
                    linked.text.push_str(words[i].whole);
                    i += 1;
                    continue;
                }
            },
        };
        let last = &words[i + length - 1];
        linked.text.push_str(words[i].before());
        // "the {person_role}" keeps its article in the corpus; every other slot brings its own.
        if slot == Slot::PersonRole {
            linked.text.push_str("the ");
        }
        linked.text.push_str(&slot.token());
        linked.text.push_str(last.possessive());
        linked.text.push_str(last.after());
        if let Some(mention) = mention.filter(|mention| !linked.mentions.contains(mention)) {
            linked.mentions.push(mention);
        }
        i += length;
    }
    linked
}

fn candidates(world: &World, speaker: &str, wares: Option<&str>) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mut add = |name: &str, slot: Slot, mention: Option<Mention>| {
        let bare = name.strip_prefix("the ").unwrap_or(name);
        let words: Vec<String> = bare.split_whitespace().map(fold_word).filter(|w| !w.is_empty()).collect();
        if words.is_empty() {
            return;
        }
        for article in ["the", "a", "an", "that", "some"] {
            let with = std::iter::once(article.to_owned()).chain(words.iter().cloned()).collect();
            found.push(Candidate { words: with, slot, mention });
        }
        found.push(Candidate { words, slot, mention });
    };
    add(speaker, Slot::SelfName, None);
    for (i, person) in world.people.iter().enumerate().filter(|(_, p)| p.name != speaker) {
        add(&person.name, Slot::Person, Some(Mention::Person(i)));
        add(&person.role, Slot::PersonRole, Some(Mention::Person(i)));
    }
    for (i, place) in world.places.iter().enumerate() {
        add(&place.name, Slot::Place, Some(Mention::Place(i)));
    }
    for (i, item) in world.items.iter().enumerate() {
        add(&item.name, Slot::Item, Some(Mention::Item(i)));
    }
    for (i, creature) in world.creatures.iter().enumerate() {
        add(&creature.name, Slot::Creature, Some(Mention::Creature(i)));
    }
    // The last word of a longer name is enough where it is nobody else's ("the wolf", "the locket").
    let short: Vec<(String, Slot, Option<Mention>)> = found
        .iter()
        .filter(|c| c.words.len() > 1 && c.mention.is_some() && c.slot != Slot::PersonRole)
        .filter(|c| !["the", "a", "an", "that", "some"].contains(&c.words[0].as_str()))
        .filter_map(|c| Some((c.words.last()?.clone(), c.slot, c.mention)))
        .collect();
    for (word, slot, mention) in &short {
        let alone = short.iter().filter(|(other, ..)| other == word).count() == 1;
        if alone && word.len() > 2 && !found.iter().any(|c| c.words.len() == 1 && c.words[0] == *word) {
            for article in ["the", "a", "that"] {
                let words = vec![article.to_owned(), word.clone()];
                found.push(Candidate { words, slot: *slot, mention: *mention });
            }
        }
    }
    for (text, slot) in [(&world.weather, Slot::Weather), (&world.time, Slot::Time)] {
        if let Some(text) = text {
            found.push(Candidate { words: vec![fold_word(text)], slot, mention: None });
        }
    }
    if let Some(wares) = wares {
        let words: Vec<String> = wares.split_whitespace().map(fold_word).collect();
        if let Some(last) = words.last() {
            found.push(Candidate { words: vec![last.clone()], slot: Slot::Ware, mention: None });
        }
        found.push(Candidate { words, slot: Slot::Ware, mention: None });
    }
    found
}

fn matches(pattern: &[String], words: &[String]) -> bool {
    words.len() >= pattern.len() && pattern.iter().zip(words).all(|(p, w)| p == w)
}

/// A word with the punctuation and blanks around it.
struct Word<'a> {
    whole: &'a str,
    core: &'a str,
}

impl<'a> Word<'a> {
    fn before(&self) -> &'a str {
        &self.whole[..self.core.as_ptr() as usize - self.whole.as_ptr() as usize]
    }

    fn after(&self) -> &'a str {
        &self.whole[self.core.as_ptr() as usize - self.whole.as_ptr() as usize + self.core.len()..]
    }

    fn possessive(&self) -> &'static str {
        if self.core.to_lowercase().ends_with("'s") { "'s" } else { "" }
    }
}

fn split_words(text: &str) -> Vec<Word<'_>> {
    text.split_inclusive(char::is_whitespace)
        .map(|whole| Word { whole, core: whole.trim_matches(|c: char| !c.is_alphanumeric()) })
        .collect()
}

fn fold_word(word: &str) -> String {
    let lower = word.to_lowercase();
    let lower = lower.trim_matches(|c: char| !c.is_alphanumeric());
    lower.strip_suffix("'s").unwrap_or(lower).to_owned()
}

/// Words after which a name is expected.
const ASKING: &[&str] = &[
    "where is", "where's", "who is", "who's", "what is", "find", "know", "seen", "about", "called", "named",
    "for", "to",
];

/// How many words from `i` on sound like a name nobody knows.
fn unknown_at(words: &[Word<'_>], folded: &[String], i: usize) -> Option<usize> {
    let capital = |j: usize| {
        let core = words[j].core;
        core.len() > 1
            && core.chars().next().is_some_and(char::is_uppercase)
            && !core.starts_with("I'")
            && core.chars().skip(1).any(char::is_lowercase)
    };
    let starts_sentence = i == 0 || words[i - 1].whole.trim_end().ends_with(['.', '!', '?']);
    let article = matches!(folded[i].as_str(), "the" | "a" | "an");
    let first = i + usize::from(article);
    // A capital inside a sentence is a name ("Where does Lord Vane live?").
    if !starts_sentence && first < words.len() && capital(first) {
        let more = (first + 1..words.len())
            .take_while(|&j| !words[j - 1].after().contains(['.', '!', '?', ',']) && capital(j))
            .count();
        return Some(first + 1 + more - i);
    }
    // "where is the star gate?": an article and what follows, up to the end of the question.
    if article && i > 0 && first < words.len() {
        let before: String = folded[i.saturating_sub(2)..i].join(" ");
        let asked = ASKING[..6].iter().any(|ask| before.ends_with(ask))
            || words[i - 1].core.eq_ignore_ascii_case("where's");
        let to_end = words.len() - first;
        let ends = words.last().is_some_and(|w| w.after().trim_end().ends_with('?')) || to_end <= 2;
        if asked && to_end <= 3 && ends && !COMMON.contains(&folded[words.len() - 1].as_str()) {
            return Some(words.len() - i);
        }
    }
    None
}

/// Words that end a question without naming a thing of the world.
const COMMON: &[&str] = &[
    "matter",
    "way",
    "news",
    "weather",
    "time",
    "price",
    "cost",
    "problem",
    "trouble",
    "hurry",
    "point",
    "use",
    "road",
    "path",
    "secret",
    "truth",
    "job",
    "work",
    "here",
    "today",
    "lately",
    "story",
    "best",
    "worst",
    "plan",
    "catch",
    "rumour",
    "rumours",
    "gossip",
    "past",
    "joke",
    "day",
    "night",
    "morning",
    "meaning",
    "life",
    "thing",
    "something",
    "somewhere",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn world() -> World {
        World::from_ron(
            r#"(places: [(name: "the old bridge", at: (0, 0)), (name: "the mill", at: (1, 0))],
                people: [(name: "Tomas", role: "miller"), (name: "Mira", role: "baker")],
                items: [(name: "silver locket", place: Some("the old bridge"))],
                creatures: [(name: "grey wolf")], weather: "rain")"#,
            "w",
        )
        .unwrap()
    }

    fn of(text: &str) -> Linked {
        link(text, &world(), "Mira", Some("warm loaves"))
    }

    #[test]
    fn names_trades_and_things_become_slots() {
        assert_eq!(of("Where is the miller?").text, "Where is the {person_role}?");
        assert_eq!(of("Where is the miller?").mentions, [Mention::Person(0)]);
        assert_eq!(of("is TOMAS at the mill").text, "is {person} at {place}");
        assert_eq!(of("I lost the silver locket.").text, "I lost {item}.");
        assert_eq!(of("what about the wolf, Mira?").text, "what about {creature}, {self}?");
        assert_eq!(of("Tomas's brother").text, "{person}'s brother");
        assert_eq!(of("how much are the loaves").text, "how much are the {ware}");
        assert_eq!(of("this rain, or fog").text, "this {weather}, or fog");
    }

    #[test]
    fn what_nobody_knows_becomes_unknown() {
        assert_eq!(of("Where is the star gate?").text, "Where is {unknown}?");
        assert_eq!(of("Do you know Lord Vane?").mentions, [Mention::Unknown]);
        assert_eq!(of("What is the matter?").text, "What is the matter?");
        assert_eq!(of("I am tired.").text, "I am tired.");
        assert_eq!(of("Good morning").text, "Good morning");
    }

    proptest! {
        #[test]
        fn any_text_links_without_panic(text in "\\PC{0,80}") {
            let linked = of(&text);
            prop_assert!(linked.mentions.len() <= text.len());
        }
    }
}
