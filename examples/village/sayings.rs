//! What players say: templates filled from the village, as choices and as bots' talk.

use bevy_skald::dialogue::World;
use bevy_skald::seed::Stream;

/// Something to say, and what it is about.
pub struct Saying {
    pub about: &'static str,
    pub text: String,
}

/// Everything one could say now to `npc`.
pub fn sayings(world: &World, npc: &str, dice: &mut Stream) -> Vec<Saying> {
    let mut all = Vec::new();
    let mut add = |about, text: String| all.push(Saying { about, text });
    for text in
        ["Any work for me?", "Do you have a job that needs doing?", "Is there anything I can help with?"]
    {
        add("quest", text.into());
    }
    for text in ["Heard any rumours?", "What is the news?", "Tell me something I don't know."] {
        add("news", text.into());
    }
    for text in
        ["How are you today?", "What do you think of this weather?", "Who are you?", "Tell me a joke."]
    {
        add("talk", text.into());
    }
    for text in ["What do you sell?", "That is too dear, can you lower the price?"] {
        add("trade", text.into());
    }
    let others: Vec<_> = world.people.iter().filter(|person| person.name != npc).collect();
    if let Some(person) = dice.pick(&others) {
        add("where", format!("Where is the {}?", person.role));
        add("talk", format!("What do you think of {}?", person.name));
    }
    if let Some(place) = dice.pick(&world.places) {
        add("where", format!("How do I get to {}?", place.name));
    }
    let lying: Vec<_> = world.items.iter().filter(|item| item.place.is_some()).collect();
    if let Some(item) = dice.pick(&lying) {
        add("where", format!("Do you know where the {} is?", item.name));
    }
    if let Some(creature) = dice.pick(&world.creatures) {
        add("danger", format!("Should I be afraid of the {}?", creature.name));
    }
    all
}

/// One saying about `about`, if there is any.
pub fn one(world: &World, npc: &str, about: &str, dice: &mut Stream) -> Option<Saying> {
    let mut fitting: Vec<Saying> =
        sayings(world, npc, dice).into_iter().filter(|saying| saying.about == about).collect();
    let at = dice.below(fitting.len());
    (!fitting.is_empty()).then(|| fitting.swap_remove(at))
}
