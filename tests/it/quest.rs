//! Quests in an app, through the public door only.

use bevy::prelude::*;
use bevy_skald::prelude::*;
use bevy_skald::quest::plugin::{
    Did, DropQuest, OfferQuest, QuestChanged, QuestConfig, QuestDropped, QuestFinished, QuestLog,
    QuestNotOffered, QuestOffered, QuestStarted, StepDone, StoryBeat, StoryBeats, TakeQuest,
};
use bevy_skald::quest::{Action, Caps, Quest, QuestKind};
use bevy_skald::runtime::harness;
use std::sync::Arc;

/// What was heard, in order.
#[derive(Resource, Default)]
struct Heard {
    offered: Vec<Arc<Quest>>,
    refused: Vec<String>,
    finished: Vec<QuestFinished>,
    dropped: Vec<QuestDropped>,
    changed: Vec<String>,
    steps: usize,
    started: Vec<u64>,
}

struct Village {
    app: App,
    mira: Entity,
    odo: Entity,
    player: Entity,
}

fn village() -> Village {
    let mut app = harness::app();
    app.add_plugins(SkaldPlugins::default().scripted("Good day."))
        .init_resource::<Heard>()
        .add_observer(|on: On<QuestOffered>, mut heard: ResMut<Heard>| heard.offered.push(on.quest.clone()))
        .add_observer(|on: On<QuestNotOffered>, mut heard: ResMut<Heard>| {
            heard.refused.push(on.reason.clone());
        })
        .add_observer(|on: On<QuestFinished>, mut heard: ResMut<Heard>| heard.finished.push(on.clone()))
        .add_observer(|on: On<QuestDropped>, mut heard: ResMut<Heard>| heard.dropped.push(on.clone()))
        .add_observer(|on: On<QuestChanged>, mut heard: ResMut<Heard>| heard.changed.push(on.why.clone()))
        .add_observer(|_: On<StepDone>, mut heard: ResMut<Heard>| heard.steps += 1)
        .add_observer(|on: On<QuestStarted>, mut heard: ResMut<Heard>| heard.started.push(on.id));
    app.finish();
    app.cleanup();
    let world = app.world_mut();
    let mill = world.spawn((Name::new("the mill"), Place { x: 0.0, y: 9.0 })).id();
    let inn = world.spawn((Name::new("the inn"), Place { x: 5.0, y: 0.0 })).id();
    world.spawn((Name::new("silver locket"), Item { price: 5 }, LocatedIn(inn)));
    world.spawn((Name::new("grey wolf"), Creature, LocatedIn(inn)));
    let player = world.spawn((Name::new("Rowan"), Player, QuestLog::default())).id();
    let npc = |world: &mut World, name: &str, place| {
        let persona = format!("personas/{}.persona.ron", name.to_lowercase());
        world.spawn((Npc::new(persona), Name::new(name.to_owned()), LocatedIn(place))).id()
    };
    let (mira, odo) = (npc(world, "Mira", mill), npc(world, "Odo", inn));
    harness::update_until(&mut app, 5000, |world| world.resource::<Assets<Persona>>().len() == 2);
    Village { app, mira, odo, player }
}

impl Village {
    fn send<'a, E: Event<Trigger<'a>: Default>>(&mut self, event: E) {
        self.app.world_mut().trigger(event);
        self.app.update();
    }

    fn heard(&self) -> &Heard {
        self.app.world().resource::<Heard>()
    }

    /// Takes quests from Mira until one is of this kind.
    fn offered(&mut self, kind: QuestKind) -> Arc<Quest> {
        for _ in 0..300 {
            let (npc, player) = (self.mira, self.player);
            self.send(OfferQuest { npc, player });
            if let Some(quest) = self.heard().offered.last().filter(|quest| quest.kind == kind) {
                return quest.clone();
            }
        }
        panic!("no {kind:?} was offered: {:?}", self.heard().refused);
    }
}

#[test]
fn what_the_story_wants_is_offered_first_until_it_is_done() {
    let mut village = village();
    let (npc, player) = (village.mira, village.player);
    let beat = StoryBeat { about: "grey wolf".into(), kind: Some(QuestKind::Slay) };
    village.app.world_mut().resource_mut::<StoryBeats>().0.push(beat);
    village.send(OfferQuest { npc, player });
    let quest = village.heard().offered.last().cloned().unwrap();
    assert_eq!(quest.kind, QuestKind::Slay);
    assert!(quest.because.contains("story"), "{}", quest.because);
    village.send(TakeQuest { player, quest: quest.clone() });
    for step in &quest.steps {
        village.send(Did { player, action: step.action.clone() });
    }
    assert_eq!(village.heard().finished.len(), 1);
    assert!(village.app.world().resource::<StoryBeats>().0.is_empty());
}

#[test]
fn a_quest_is_offered_with_a_reason_taken_done_step_by_step_and_finished() {
    let mut village = village();
    let player = village.player;
    let quest = village.offered(QuestKind::Fetch);
    assert!(quest.because.starts_with("because") && quest.text.contains("coins"), "{quest:?}");
    village.send(TakeQuest { player, quest: quest.clone() });
    assert_eq!(village.heard().started, [1]);
    // The same things cannot be wanted twice.
    village.send(TakeQuest { player, quest: quest.clone() });
    assert!(village.heard().dropped[0].reason.contains("another open quest"));
    for step in &quest.steps {
        assert!(village.heard().finished.is_empty());
        village.send(Did { player, action: step.action.clone() });
    }
    let finished = &village.heard().finished[0];
    assert_eq!((finished.reward, finished.subject), (quest.reward, "fetch"));
    assert_eq!(village.heard().steps, quest.steps.len());
    assert!(village.app.world().get::<QuestLog>(player).unwrap().0.open.is_empty());
}

#[test]
fn a_quest_whose_world_changes_adapts_or_ends() {
    let mut village = village();
    let player = village.player;
    let quest = village.offered(QuestKind::Slay);
    village.send(TakeQuest { player, quest: quest.clone() });
    let wolf = {
        let mut creatures = village.app.world_mut().query_filtered::<Entity, With<Creature>>();
        creatures.single(village.app.world()).unwrap()
    };
    village.app.world_mut().despawn(wolf);
    village.app.update();
    assert!(
        village.heard().changed.iter().any(|why| why.contains("grey wolf is gone")),
        "{:?}",
        village.heard().dropped
    );
    // Whoever asked dies with the quest in hand.
    village.app.world_mut().despawn(village.mira);
    village.app.update();
    assert_eq!(village.heard().dropped.len(), 1);
    assert!(village.heard().dropped[0].reason.contains("gone") && !village.heard().dropped[0].by_player);
    village.send(Did { player, action: Action::Talk { person: "Mira".into() } });
    assert!(village.heard().finished.is_empty());
}

#[test]
fn a_player_may_drop_a_quest_and_is_not_asked_without_end() {
    let mut village = village();
    let (player, odo) = (village.player, village.odo);
    village.app.world_mut().resource_mut::<QuestConfig>().caps = Caps { pause_s: 60.0, ..Caps::default() };
    village.send(OfferQuest { npc: odo, player });
    village.send(OfferQuest { npc: odo, player });
    assert!(village.heard().refused.last().unwrap().contains("too soon"));
    village.app.world_mut().resource_mut::<QuestConfig>().caps = Caps::default();
    let quest = village.offered(QuestKind::Explore);
    village.send(TakeQuest { player, quest });
    let id = village.heard().started[0];
    village.send(DropQuest { player, id });
    assert!(village.heard().dropped[0].by_player);
    // An empty world has nothing to ask for.
    let world = village.app.world_mut();
    let mut places = world.query_filtered::<Entity, Or<(With<Place>, With<Item>, With<Creature>)>>();
    let all: Vec<Entity> = places.iter(world).collect();
    all.into_iter().for_each(|entity| {
        world.despawn(entity);
    });
    village.send(OfferQuest { npc: odo, player });
    assert!(village.heard().refused.last().unwrap().contains("nowhere"));
}
