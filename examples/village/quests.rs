//! Quests made for whoever asks: the village tells the crate what players do, and pays.

use crate::game::{Fought, Moved, PickedUp, QuestAsked};
use crate::people::Satchel;
use bevy::prelude::*;
use bevy_skald::prelude::*;
use bevy_skald::quest::plugin::{
    Did, OfferQuest, PlayerTaste, QuestConfig, QuestFinished, QuestLog, QuestOffered, TakeQuest,
};
use bevy_skald::quest::{Action, Caps, Coins, HeldBy, Quest, QuestKind};
use bevy_skald::runtime::SkaldSystems;
use std::sync::Arc;

pub struct VillageQuests {
    pub seed: u64,
}

impl Plugin for VillageQuests {
    fn build(&self, app: &mut App) {
        // What the rules of the village can do; nobody follows anybody, and nothing is made.
        let kinds =
            [QuestKind::Fetch, QuestKind::Deliver, QuestKind::Slay, QuestKind::Explore, QuestKind::Talk];
        let config = QuestConfig {
            kinds: kinds.into(),
            caps: Caps { open: 2, ..Caps::default() },
            seed: self.seed,
            ..QuestConfig::default()
        };
        app.insert_resource(config)
            .add_observer(keep)
            .add_observer(pay)
            .add_systems(Update, ask)
            // Before open quests are looked at: what was just driven off is gone, and its quest is done.
            .add_systems(PostUpdate, (hold, tell).chain().before(SkaldSystems::Dispatch));
    }
}

/// What a player needs for quests.
pub fn quest_taker() -> impl Bundle {
    (QuestLog::default(), PlayerTaste::default(), Coins::default(), Offer::default())
}

/// What was offered last, until it is taken or forgotten.
#[derive(Component, Default)]
pub struct Offer(pub Option<Arc<Quest>>);

/// An offer as it is shown.
pub fn shown(quest: &Quest) -> String {
    let because = if quest.because.is_empty() { String::new() } else { format!(" ({})", quest.because) };
    format!("{}{because}", quest.text)
}

/// What is to be done next, in words.
pub fn next_step(log: &QuestLog) -> Option<String> {
    let open = log.0.open.first()?;
    let step = (0..open.quest.steps.len()).find(|step| open.is_due(*step))?;
    Some(match &open.quest.steps[step].action {
        Action::Go { place } => format!("go to {place}"),
        Action::Find { place } => format!("look around at {place}"),
        Action::Talk { person } => format!("talk to {person}"),
        Action::Fetch { item } => format!("get the {item}"),
        Action::Deliver { item, to } => format!("bring the {item} to {to}"),
        Action::Slay { creature } => format!("drive off the {creature}"),
        Action::Escort { person, to } => format!("bring {person} to {to}"),
        Action::Craft { item } => format!("make the {item}"),
        Action::Solve { level, .. } => format!("solve {level}"),
    })
}

fn ask(
    mut asked: MessageReader<QuestAsked>,
    npcs: Query<(Entity, &Name), With<Npc>>,
    mut commands: Commands,
) {
    for asked in asked.read() {
        if let Some((npc, _)) = npcs.iter().find(|(_, name)| name.as_str() == asked.npc) {
            commands.trigger(OfferQuest { npc, player: asked.player });
        }
    }
}

fn keep(offered: On<QuestOffered>, mut offers: Query<&mut Offer>) {
    if let Ok(mut offer) = offers.get_mut(offered.player) {
        offer.0 = Some(Arc::clone(&offered.quest));
    }
}

/// Takes what was offered.
pub fn take(player: Entity, offer: &mut Offer, commands: &mut Commands) {
    if let Some(quest) = offer.0.take() {
        commands.trigger(TakeQuest { player, quest });
    }
}

fn pay(finished: On<QuestFinished>, mut purses: Query<&mut Coins>) {
    if let Ok(mut purse) = purses.get_mut(finished.player) {
        purse.0 += finished.reward;
    }
}

/// What is picked up is held, until it lies in the village again.
fn hold(
    mut picked: MessageReader<PickedUp>,
    items: Query<(Entity, &Name), With<Item>>,
    back: Query<Entity, (With<HeldBy>, Added<LocatedIn>)>,
    mut commands: Commands,
) {
    for picked in picked.read() {
        if let Some((item, _)) = items.iter().find(|(_, name)| name.as_str() == picked.item) {
            commands.entity(item).insert(HeldBy(picked.player));
        }
    }
    for item in &back {
        commands.entity(item).remove::<HeldBy>();
    }
}

/// Tells the open quests what players did.
fn tell(
    mut moved: MessageReader<Moved>,
    mut fought: MessageReader<Fought>,
    mut picked: MessageReader<PickedUp>,
    mut spoken: MessageReader<LineFinished>,
    names: Query<&Name>,
    satchels: Query<&Satchel>,
    mut commands: Commands,
) {
    let mut did = |player, action| commands.trigger(Did { player, action });
    for moved in moved.read() {
        did(moved.player, Action::Go { place: moved.to.clone() });
        did(moved.player, Action::Find { place: moved.to.clone() });
    }
    for fought in fought.read().filter(|fought| fought.won) {
        did(fought.player, Action::Slay { creature: fought.creature.clone() });
    }
    for picked in picked.read() {
        did(picked.player, Action::Fetch { item: picked.item.clone() });
    }
    for line in spoken.read() {
        let (Some(player), Ok(name)) = (line.player, names.get(line.npc)) else { continue };
        for item in satchels.get(player).into_iter().flat_map(|satchel| &satchel.0) {
            did(player, Action::Deliver { item: item.clone(), to: name.to_string() });
        }
        did(player, Action::Talk { person: name.to_string() });
    }
}
