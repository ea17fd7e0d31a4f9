//! [`World`]: the facts a line may speak of, gathered from the ECS or read from RON.
//!
//! It is a snapshot by value: what a talk was grounded in stays readable after the game has moved on.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// What exists now. Names are unique within each list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct World {
    /// Places, with where they lie.
    pub places: Vec<PlaceFact>,
    /// Persons, the speaker among them.
    pub people: Vec<PersonFact>,
    /// Things.
    pub items: Vec<ItemFact>,
    /// Creatures.
    pub creatures: Vec<CreatureFact>,
    /// The player who is talking.
    pub player: PlayerFact,
    /// The weather, a mass noun ("rain").
    pub weather: Option<String>,
    /// The time of day ("evening").
    pub time: Option<String>,
}

/// A place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceFact {
    /// Its name; one that starts small gets the article "the".
    pub name: String,
    /// East and north, in any unit.
    pub at: (f32, f32),
    /// Who knows of it (names); nothing: everybody.
    #[serde(default)]
    pub known_to: Option<Vec<String>>,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonFact {
    /// Their name.
    pub name: String,
    /// Their trade.
    pub role: String,
    /// The name of the place where they are.
    #[serde(default)]
    pub place: Option<String>,
    /// Who knows of them; nothing: everybody.
    #[serde(default)]
    pub known_to: Option<Vec<String>>,
}

/// A thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemFact {
    /// Its name, without article ("silver locket").
    pub name: String,
    /// The name of the place where it lies; nothing: somebody carries it.
    #[serde(default)]
    pub place: Option<String>,
    /// What it is worth, in coins.
    #[serde(default)]
    pub price: u32,
    /// Who knows of it; nothing: everybody.
    #[serde(default)]
    pub known_to: Option<Vec<String>>,
}

/// A creature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreatureFact {
    /// Its name, without article ("grey wolf").
    pub name: String,
    /// The name of the place where it is.
    #[serde(default)]
    pub place: Option<String>,
    /// Who knows of it; nothing: everybody.
    #[serde(default)]
    pub known_to: Option<Vec<String>>,
}

/// The player.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlayerFact {
    /// Their name; empty: "traveller".
    pub name: String,
    /// What they did, newest last: verb phrases that fit after "you" ("drove off the grey wolf").
    pub deeds: Vec<String>,
}

/// A name with the article "the" when it is a common noun.
pub fn definite(name: &str) -> String {
    let proper = name.chars().next().is_some_and(char::is_uppercase);
    let has_article = ["the ", "a ", "an "].iter().any(|article| name.starts_with(article));
    if proper || has_article { name.to_owned() } else { format!("the {name}") }
}

/// A name with the article "a" or "an" when it is a common noun in the singular.
pub fn indefinite(name: &str) -> String {
    let name = name.strip_prefix("the ").unwrap_or(name);
    if name.chars().next().is_some_and(char::is_uppercase) {
        return name.to_owned();
    }
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {name}")
}

/// The compass word from one spot to another (east and north); `None` when they coincide.
pub fn compass(from: (f32, f32), to: (f32, f32)) -> Option<&'static str> {
    let (east, north) = (to.0 - from.0, to.1 - from.1);
    if !(east.is_finite() && north.is_finite()) || east.hypot(north) < 1e-3 {
        return None;
    }
    let eighth = (north.atan2(east) / std::f32::consts::FRAC_PI_4).round() as i32;
    Some(match eighth.rem_euclid(8) {
        0 => "east",
        1 => "north-east",
        2 => "north",
        3 => "north-west",
        4 => "west",
        5 => "south-west",
        6 => "south",
        _ => "south-east",
    })
}

/// A number of coins in words, up to a hundred; beyond that in digits.
pub fn number_word(n: u32) -> String {
    const SMALL: [&str; 20] = [
        "no",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 10] =
        ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    match n {
        0..20 => SMALL[n as usize].to_owned(),
        20..100 if n.is_multiple_of(10) => TENS[(n / 10) as usize].to_owned(),
        20..100 => format!("{}-{}", TENS[(n / 10) as usize], SMALL[(n % 10) as usize]),
        100 => "a hundred".to_owned(),
        _ => n.to_string(),
    }
}

impl World {
    /// Reads world facts. Unknown fields are refused with their line; so are places nobody described.
    pub fn from_ron(text: &str, file: &str) -> Result<Self> {
        let world: Self = crate::files::parse_ron(text, file)?;
        world.validate(file)?;
        Ok(world)
    }

    /// Checks that names are there, unique and plain, and that every place referred to exists.
    pub fn validate(&self, file: &str) -> Result<()> {
        let lists: [(&str, Vec<&str>); 4] = [
            ("places", self.places.iter().map(|p| p.name.as_str()).collect()),
            ("people", self.people.iter().map(|p| p.name.as_str()).collect()),
            ("items", self.items.iter().map(|p| p.name.as_str()).collect()),
            ("creatures", self.creatures.iter().map(|p| p.name.as_str()).collect()),
        ];
        for (field, names) in lists {
            for (i, name) in names.iter().enumerate() {
                let bad = if name.trim().is_empty() {
                    "is empty"
                } else if name.chars().any(|c| c.is_control() || "{}<>".contains(c)) {
                    "holds a control character or one of {}<>"
                } else if names[..i].contains(name) {
                    "stands twice"
                } else {
                    continue;
                };
                let reason = format!("the name `{name}` {bad}");
                return Err(Error::config(file, field, reason, "give each a plain name of its own"));
            }
        }
        let places = self.people.iter().map(|p| ("people", &p.place));
        let places = places.chain(self.items.iter().map(|i| ("items", &i.place)));
        let places = places.chain(self.creatures.iter().map(|c| ("creatures", &c.place)));
        for (field, place) in places {
            if let Some(place) = place.as_ref().filter(|place| self.place(place).is_none()) {
                let reason = format!("there is no place `{place}`");
                return Err(Error::config(file, field, reason, "list it under `places`, or mend the name"));
            }
        }
        Ok(())
    }

    /// The place of that name.
    pub fn place(&self, name: &str) -> Option<&PlaceFact> {
        self.places.iter().find(|place| place.name == name)
    }

    /// The person of that name.
    pub fn person(&self, name: &str) -> Option<&PersonFact> {
        self.people.iter().find(|person| person.name == name)
    }

    /// This world as `speaker` knows it: what is kept from them is not in it.
    #[must_use]
    pub fn known_to(&self, speaker: &str) -> Self {
        let knows = |list: &Option<Vec<String>>| list.as_ref().is_none_or(|l| l.iter().any(|n| n == speaker));
        let mut world = self.clone();
        world.places.retain(|place| knows(&place.known_to));
        world.people.retain(|person| person.name == speaker || knows(&person.known_to));
        world.items.retain(|item| knows(&item.known_to));
        world.creatures.retain(|creature| knows(&creature.known_to));
        let there: Vec<String> = world.places.iter().map(|place| place.name.clone()).collect();
        let forget = |place: &mut Option<String>| {
            if place.as_ref().is_some_and(|name| !there.contains(name)) {
                *place = None;
            }
        };
        world.people.iter_mut().for_each(|person| forget(&mut person.place));
        world.items.iter_mut().for_each(|item| forget(&mut item.place));
        world.creatures.iter_mut().for_each(|creature| forget(&mut creature.place));
        world
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_follow_the_name() {
        assert_eq!(definite("silver locket"), "the silver locket");
        assert_eq!(definite("the mill"), "the mill");
        assert_eq!(definite("Old Bridge"), "Old Bridge");
        assert_eq!(indefinite("iron key"), "an iron key");
        assert_eq!(indefinite("the grey wolf"), "a grey wolf");
    }

    #[test]
    fn the_compass_knows_eight_ways() {
        assert_eq!(compass((0.0, 0.0), (0.0, 5.0)), Some("north"));
        assert_eq!(compass((0.0, 0.0), (-5.0, -5.0)), Some("south-west"));
        assert_eq!(compass((1.0, 1.0), (1.0, 1.0)), None);
        assert_eq!(compass((0.0, 0.0), (f32::NAN, 1.0)), None);
    }

    #[test]
    fn numbers_are_words() {
        assert_eq!(number_word(12), "twelve");
        assert_eq!(number_word(45), "forty-five");
        assert_eq!(number_word(1000), "1000");
    }

    #[test]
    fn a_world_with_a_dangling_place_or_a_double_name_is_refused() {
        let dangling = r#"(people: [(name: "A", role: "b", place: Some("the mill"))])"#;
        assert!(World::from_ron(dangling, "w").unwrap_err().to_string().contains("the mill"));
        let double = r#"(items: [(name: "key"), (name: "key")])"#;
        assert!(World::from_ron(double, "w").unwrap_err().to_string().contains("twice"));
    }

    #[test]
    fn what_is_kept_from_a_speaker_is_not_in_their_world() {
        let world = World::from_ron(
            r#"(places: [(name: "the crypt", at: (0, 0), known_to: Some(["Odo"]))],
                items: [(name: "ring", place: Some("the crypt"))])"#,
            "w",
        )
        .unwrap();
        assert!(world.known_to("Mira").places.is_empty());
        assert_eq!(world.known_to("Mira").items[0].place, None);
        assert_eq!(world.known_to("Odo"), world);
    }
}
