//! [`QuestWorld`]: what exists now, for whoever plans in it. From RON (tests, the command line) or the ECS (the plugin).
//!
//! It reads the worlds of dialogue too: what they do not say (paths, who holds what, how strong things are) has defaults.

use crate::dialogue::PlaceFact;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// What exists now. Names are unique within each list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuestWorld {
    /// Places.
    pub places: Vec<PlaceFact>,
    /// Ways between places, both ways. None: every place can be reached from every other.
    pub paths: Vec<(String, String)>,
    /// Persons.
    pub people: Vec<Person>,
    /// Things.
    pub items: Vec<Thing>,
    /// Creatures.
    pub creatures: Vec<Beast>,
    /// What can be made of what.
    pub recipes: Vec<Recipe>,
    /// Levels that can be played.
    pub levels: Vec<Riddle>,
    /// The player.
    pub player: Means,
    /// The weather.
    pub weather: Option<String>,
    /// The time of day.
    pub time: Option<String>,
}

/// A person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Person {
    /// Their name.
    pub name: String,
    /// Their trade.
    pub role: String,
    /// Where they are. None: gone.
    pub place: Option<String>,
    /// Who knows of them; nothing: everybody.
    pub known_to: Option<Vec<String>>,
    /// How they talk: a voice of the wording.
    pub voice: Option<String>,
}

/// A thing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thing {
    /// Its name, without article.
    pub name: String,
    /// Where it lies.
    pub place: Option<String>,
    /// Who has it, if it does not lie anywhere.
    pub holder: Option<String>,
    /// What it is worth, in coins; its holder sells it for that.
    pub price: u32,
    /// Who knows of it; nothing: everybody.
    pub known_to: Option<Vec<String>>,
}

/// A creature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beast {
    /// Its name, without article.
    pub name: String,
    /// Where it is. None: gone, or dead.
    #[serde(default)]
    pub place: Option<String>,
    /// Who knows of it; nothing: everybody.
    #[serde(default)]
    pub known_to: Option<Vec<String>>,
    /// How strong one must be to slay it.
    #[serde(default = "one")]
    pub strength: u32,
}

/// What can be made of what, wherever one is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What is made, a new thing.
    pub makes: String,
    /// Of which things, which are used up.
    pub of: Vec<String>,
}

/// A level that can be played somewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Riddle {
    /// Its name, with article ("the old crypt").
    pub name: String,
    /// Where it is entered.
    pub place: String,
    /// What kind of level, for the level generator.
    pub kind: String,
}

/// What the player has and can.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Means {
    /// Their name.
    pub name: String,
    /// What they did.
    pub deeds: Vec<String>,
    /// Where they are. None: anywhere.
    pub place: Option<String>,
    /// What they carry.
    pub has: Vec<String>,
    /// Their coins.
    pub coins: u32,
    /// How strong they are.
    pub strength: u32,
}

impl Default for Means {
    fn default() -> Self {
        Self { name: String::new(), deeds: Vec::new(), place: None, has: Vec::new(), coins: 0, strength: 10 }
    }
}

fn one() -> u32 {
    1
}

impl QuestWorld {
    /// Reads a world. Unknown fields are refused with their line; so are places and holders nobody described.
    pub fn from_ron(text: &str, file: &str) -> Result<Self> {
        let world: Self = crate::files::parse_ron(text, file)?;
        world.validate(file)?;
        Ok(world)
    }

    /// Checks that names are there and unique, and that what is referred to exists. A world with nothing in it is one.
    pub fn validate(&self, file: &str) -> Result<()> {
        let lists: [(&str, Vec<&str>); 5] = [
            ("places", self.places.iter().map(|p| p.name.as_str()).collect()),
            ("people", self.people.iter().map(|p| p.name.as_str()).collect()),
            ("items", self.items.iter().map(|p| p.name.as_str()).collect()),
            ("creatures", self.creatures.iter().map(|p| p.name.as_str()).collect()),
            ("levels", self.levels.iter().map(|p| p.name.as_str()).collect()),
        ];
        for (field, names) in &lists {
            let mut seen = HashSet::new();
            for name in names {
                let bad = if name.trim().is_empty() || name.chars().any(char::is_control) {
                    "is empty or holds a control character"
                } else if !seen.insert(*name) {
                    "stands twice"
                } else {
                    continue;
                };
                let reason = format!("the name `{name}` {bad}");
                return Err(Error::config(file, *field, reason, "give each a plain name of its own"));
            }
        }
        let places: HashSet<&str> = lists[0].1.iter().copied().collect();
        let people: HashSet<&str> = lists[1].1.iter().copied().collect();
        let refer = |field: &str, name: &str, there: &HashSet<&str>| {
            if there.contains(name) {
                return Ok(());
            }
            let reason = format!("there is no `{name}`");
            Err(Error::config(file, field, reason, "list it, or mend the name"))
        };
        for (field, name) in (self.people.iter().filter_map(|p| Some(("people", p.place.as_ref()?))))
            .chain(self.items.iter().filter_map(|i| Some(("items", i.place.as_ref()?))))
            .chain(self.creatures.iter().filter_map(|c| Some(("creatures", c.place.as_ref()?))))
            .chain(self.levels.iter().map(|level| ("levels", &level.place)))
            .chain(self.player.place.iter().map(|place| ("player", place)))
            .chain(self.paths.iter().flat_map(|(a, b)| [("paths", a), ("paths", b)]))
        {
            refer(field, name, &places)?;
        }
        for holder in self.items.iter().filter_map(|item| item.holder.as_ref()) {
            refer("items", holder, &people)?;
        }
        if let Some(item) = self.items.iter().find(|item| item.place.is_some() && item.holder.is_some()) {
            let reason = format!("`{}` lies somewhere and is held", item.name);
            return Err(Error::config(file, "items", reason, "give either `place` or `holder`"));
        }
        if let Some(recipe) = self.recipes.iter().find(|r| r.of.is_empty() || r.of.contains(&r.makes)) {
            let reason = format!("`{}` is made of nothing, or of itself", recipe.makes);
            return Err(Error::config(file, "recipes", reason, "list what it is made of"));
        }
        Ok(())
    }

    /// The place of that name.
    pub fn place(&self, name: &str) -> Option<&PlaceFact> {
        self.places.iter().find(|place| place.name == name)
    }

    /// The person of that name, if they are anywhere.
    pub fn person(&self, name: &str) -> Option<&Person> {
        self.people.iter().find(|person| person.name == name && person.place.is_some())
    }

    /// The thing of that name.
    pub fn item(&self, name: &str) -> Option<&Thing> {
        self.items.iter().find(|item| item.name == name)
    }

    /// The creature of that name, if it is anywhere.
    pub fn creature(&self, name: &str) -> Option<&Beast> {
        self.creatures.iter().find(|creature| creature.name == name && creature.place.is_some())
    }

    /// The level of that name.
    pub fn level(&self, name: &str) -> Option<&Riddle> {
        self.levels.iter().find(|level| level.name == name)
    }

    /// This world as `speaker` knows it, and only what is anywhere in it.
    #[must_use]
    pub fn known_to(&self, speaker: &str) -> Self {
        let knows = |list: &Option<Vec<String>>| list.as_ref().is_none_or(|l| l.iter().any(|n| n == speaker));
        let mut world = self.clone();
        world.places.retain(|place| knows(&place.known_to));
        let there: HashSet<String> = world.places.iter().map(|place| place.name.clone()).collect();
        let known = |place: &Option<String>| place.as_ref().is_some_and(|place| there.contains(place));
        world.people.retain(|p| (p.name == speaker || knows(&p.known_to)) && known(&p.place));
        let people: HashSet<String> = world.people.iter().map(|person| person.name.clone()).collect();
        let held = |item: &Thing| item.holder.as_ref().is_some_and(|holder| people.contains(holder));
        let has = &world.player.has;
        world.items.retain(|item| {
            knows(&item.known_to) && (known(&item.place) || held(item) || has.contains(&item.name))
        });
        world.creatures.retain(|creature| knows(&creature.known_to) && known(&creature.place));
        world.levels.retain(|level| there.contains(&level.place));
        world
    }
}
