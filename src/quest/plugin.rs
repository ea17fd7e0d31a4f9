//! Quests in a Bevy app: trigger [`OfferQuest`], observe [`QuestOffered`], trigger [`TakeQuest`], and tell what the player
//! did with [`Did`].
//!
//! | event | who must handle it |
//! |---|---|
//! | [`QuestOffered`] | whoever shows the offer; it is taken with [`TakeQuest`] or forgotten |
//! | [`QuestNotOffered`] | nobody |
//! | [`QuestStarted`], [`StepDone`] | nobody (journals, markers) |
//! | [`QuestFinished`] | whoever pays the reward |
//! | [`QuestChanged`] | nobody (a journal that says what is different) |
//! | [`QuestDropped`] | nobody |
//!
//! Each is an `EntityEvent` on the player (offers: on the NPC) and a `Message`. [`QuestFinished`] and [`QuestDropped`]
//! serialise as [`super::note_event`] and a player model read them: `app.record_by("QuestFinished", |q| Some(q.player))`.

use super::facts::{QuestFacts, WorldChanged};
use super::{
    Action, Arm, Caps, Chooser, Generator, LevelSource, Planner, Population, Quest, QuestBook, QuestKind,
    Request, RewardTable, Standing, Taste, Wording, affinities, finishing, suggest_difficulty,
};
use crate::player::{PlayerModel, PlayerState};
use crate::runtime::SkaldSystems;
use crate::seed::Seed;
use bevy::prelude::*;
use serde::Serialize;
use std::sync::Arc;

/// Asks an NPC for a quest for a player. Ends in one [`QuestOffered`] or [`QuestNotOffered`], at once.
#[derive(EntityEvent, Clone, Debug)]
pub struct OfferQuest {
    /// Who is asked.
    #[event_target]
    pub npc: Entity,
    /// For whom.
    pub player: Entity,
}

/// A quest is offered: it can be finished in the world as it is.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct QuestOffered {
    /// Who offers it.
    #[event_target]
    pub npc: Entity,
    /// To whom.
    pub player: Entity,
    /// The quest, with what the NPC says and why this one.
    pub quest: Arc<Quest>,
    /// The chance with which it was chosen among others.
    pub propensity: f32,
}

/// There is no quest.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct QuestNotOffered {
    /// Who was asked.
    #[event_target]
    pub npc: Entity,
    /// For whom.
    pub player: Entity,
    /// Why.
    pub reason: String,
}

/// The player takes a quest.
#[derive(EntityEvent, Clone, Debug)]
pub struct TakeQuest {
    /// The player.
    #[event_target]
    pub player: Entity,
    /// The quest that was offered.
    pub quest: Arc<Quest>,
}

/// The player drops a quest.
#[derive(EntityEvent, Clone, Debug)]
pub struct DropQuest {
    /// The player.
    #[event_target]
    pub player: Entity,
    /// Its number.
    pub id: u64,
}

/// The player did something; steps of open quests that are this, and are due, are done.
#[derive(EntityEvent, Clone, Debug)]
pub struct Did {
    /// The player.
    #[event_target]
    pub player: Entity,
    /// What they did.
    pub action: Action,
}

/// A quest was taken.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct QuestStarted {
    /// The player.
    #[event_target]
    pub player: Entity,
    /// Its number.
    pub id: u64,
}

/// A step is done.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct StepDone {
    /// The player.
    #[event_target]
    pub player: Entity,
    /// The quest's number.
    pub id: u64,
    /// The step.
    pub step: usize,
}

/// A quest is finished. Pay the reward.
#[derive(EntityEvent, Message, Clone, Debug, Serialize)]
pub struct QuestFinished {
    /// The player.
    #[event_target]
    #[serde(skip)]
    pub player: Entity,
    /// Its number.
    pub id: u64,
    /// Its kind, as recordings name it.
    pub subject: &'static str,
    /// How hard it was.
    pub value: f32,
    /// What it pays, in coins.
    pub reward: u32,
}

/// A quest is over without being finished: dropped by the player, or impossible now.
#[derive(EntityEvent, Message, Clone, Debug, Serialize)]
pub struct QuestDropped {
    /// The player.
    #[event_target]
    #[serde(skip)]
    pub player: Entity,
    /// Its number; 0 if it was never taken.
    pub id: u64,
    /// Its kind, as recordings name it.
    pub subject: &'static str,
    /// How hard it was.
    pub value: f32,
    /// Whether the player wanted it so.
    pub by_player: bool,
    /// Why.
    pub reason: String,
}

/// An open quest is another one now, because the world has changed.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct QuestChanged {
    /// The player.
    #[event_target]
    pub player: Entity,
    /// Its number.
    pub id: u64,
    /// What is different, in words.
    pub why: String,
}

/// A player's open quests. Save it with the game (`serde`).
#[derive(Component, Clone, Debug, Default)]
#[require(PlayerTaste)]
pub struct QuestLog(pub QuestBook);

/// What is known of a player's taste in quests. Save it with the game (`serde`).
#[derive(Component, Clone, Debug, Default)]
pub struct PlayerTaste {
    /// The taste.
    pub taste: Taste,
    /// When a quest was last offered, in seconds of the game.
    pub last_offer_s: Option<f32>,
    /// Whether the player wants the difficulty to follow them.
    pub fixed_difficulty: bool,
}

/// How quests are made and chosen.
#[derive(Resource, Clone)]
pub struct QuestConfig {
    /// What they pay.
    pub rewards: RewardTable,
    /// What a designer allows.
    pub caps: Caps,
    /// What kinds of quests the game has rules for.
    pub kinds: Vec<QuestKind>,
    /// Between which difficulties, 0 to 1.
    pub difficulty: (f32, f32),
    /// Where levels come from.
    pub levels: Option<Arc<dyn LevelSource>>,
    /// Quests among which one is chosen.
    pub candidates: usize,
    /// Derives every random stream.
    pub seed: u64,
}

impl Default for QuestConfig {
    fn default() -> Self {
        Self {
            rewards: RewardTable::default(),
            caps: Caps::default(),
            kinds: QuestKind::ALL.into(),
            difficulty: (0.0, 1.0),
            levels: None,
            candidates: 12,
            seed: 0,
        }
    }
}

/// What all players finish, for those of whom nothing is known.
#[derive(Resource, Clone, Debug, Default)]
pub struct QuestPopulation(pub Population);

#[derive(Resource)]
struct Words(Wording);

#[derive(Resource, Default)]
struct Offers(u64);

/// Quests. Part of [`crate::SkaldPlugins`].
#[derive(Clone, Copy, Debug, Default)]
pub struct QuestPlugin;

impl Plugin for QuestPlugin {
    fn build(&self, app: &mut App) {
        match Wording::new() {
            Ok(wording) => app.insert_resource(Words(wording)),
            Err(error) => {
                error!("quests have no words: {error}");
                return;
            }
        };
        app.init_resource::<QuestConfig>()
            .init_resource::<QuestPopulation>()
            .init_resource::<StoryBeats>()
            .init_resource::<Offers>()
            .add_message::<QuestOffered>()
            .add_message::<QuestNotOffered>()
            .add_message::<QuestStarted>()
            .add_message::<StepDone>()
            .add_message::<QuestFinished>()
            .add_message::<QuestDropped>()
            .add_message::<QuestChanged>()
            .add_observer(offer)
            .add_observer(take)
            .add_observer(drop_quest)
            .add_observer(did)
            .add_systems(PostUpdate, review_open.in_set(SkaldSystems::Dispatch));
    }
}

/// Triggers an event, and writes it as a message.
fn tell<E>(commands: &mut Commands, event: E)
where
    E: Message + Clone + EntityEvent,
    for<'a> <E as Event>::Trigger<'a>: Default,
{
    commands.trigger(event.clone());
    commands.write_message(event);
}

fn offer(
    asked: On<OfferQuest>,
    facts: QuestFacts,
    mut players: Query<(&QuestLog, &mut PlayerTaste, Option<(&PlayerModel, &PlayerState)>)>,
    config: Res<QuestConfig>,
    population: Res<QuestPopulation>,
    words: Res<Words>,
    time: Res<Time>,
    mut offers: ResMut<Offers>,
    story: Res<StoryBeats>,
    mut commands: Commands,
) {
    let (npc, player) = (asked.npc, asked.player);
    let offered = (|| -> Result<(Quest, f32), String> {
        let (log, mut taste, reading) =
            players.get_mut(player).map_err(|_| "the player has no QuestLog".to_owned())?;
        if log.0.open.len() >= config.caps.open {
            return Err("the player has enough to do".into());
        }
        let now = time.elapsed_secs();
        if taste.last_offer_s.is_some_and(|last| now - last < config.caps.pause_s) {
            return Err("it is too soon after the last offer".into());
        }
        let world = facts.world(Some(player));
        let giver = facts.person(npc).ok_or("whoever is asked is nobody that the world knows")?;
        let planner = Planner::new(&world);
        let generator = Generator::new(&world, &giver, &planner, &config.rewards, &words.0)
            .ok_or("whoever is asked is nowhere")?;
        offers.0 += 1;
        let mut dice = Seed::new(config.seed).derive("offers").derive_index(offers.0).stream();
        let adapt = !taste.fixed_difficulty;
        let wanted = suggest_difficulty(&mut taste.taste, config.difficulty, 0.15, adapt).difficulty;
        let kinds = generator.kinds().into_iter().filter(|kind| config.kinds.contains(kind));
        let (kinds, open) = (kinds.collect::<Vec<_>>(), log.0.quests());
        if kinds.is_empty() {
            return Err("there is nothing that could be asked for".into());
        }
        let mut candidates = Vec::new();
        for at in 0..config.candidates.max(1) {
            let request = Request {
                kind: kinds.get(at % kinds.len().max(1)).copied(),
                difficulty: Some(wanted),
                open: &open,
                past: Some(&log.0.past),
                levels: config.levels.as_deref(),
            };
            candidates.extend(generator.propose(&request, &mut dice).map(|(quest, _)| quest));
        }
        let chooser = Chooser { caps: config.caps, population: population.0.clone() };
        let of_kind = reading.map(|(model, state)| affinities(model, state));
        let chances = reading.map(|(model, state)| finishing(model, state));
        let affinity = |quest: &Quest| of_kind.and_then(|of_kind| of_kind[quest.kind.index()]);
        let arms: Vec<Arm<'_>> = candidates
            .iter()
            .map(|quest| {
                let chance = chances.and_then(|chances| chances[quest.kind.index()]);
                // Who was learned of as a player of quests is not asked like a buyer.
                let affinity = affinity(quest).filter(|_| chance.is_none());
                Arm { quest, story: story.wants(quest), affinity, chance }
            })
            .collect();
        let choice =
            chooser.choose(&arms, &mut taste.taste, &mut dice).ok_or("nothing new can be asked for")?;
        taste.last_offer_s = Some(now);
        let mut quest = candidates.swap_remove(choice.at);
        quest.because = choice.because;
        Ok((quest, choice.propensity))
    })();
    match offered {
        Ok((quest, propensity)) => {
            tell(&mut commands, QuestOffered { npc, player, quest: Arc::new(quest), propensity });
        }
        Err(reason) => tell(&mut commands, QuestNotOffered { npc, player, reason }),
    }
}

/// What the designer's story wants told now: a quest that is about it is offered first, whatever the player likes. Add a beat
/// when its time comes; a quest about it that is finished takes it off.
#[derive(Resource, Clone, Debug, Default, PartialEq, Eq)]
pub struct StoryBeats(pub Vec<StoryBeat>);

/// A turn of the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoryBeat {
    /// A place, thing, person or creature that the quest is to be about, by name.
    pub about: String,
    /// The kind of quest; none: any.
    pub kind: Option<QuestKind>,
}

impl StoryBeats {
    fn wants(&self, quest: &Quest) -> bool {
        self.0.iter().any(|beat| beat.fits(quest))
    }
}

impl StoryBeat {
    fn fits(&self, quest: &Quest) -> bool {
        // The report at the end names the giver.
        let errand = &quest.steps[..quest.steps.len().saturating_sub(1)];
        self.kind.is_none_or(|kind| kind == quest.kind)
            && errand.iter().any(|step| step.action.names().contains(&self.about.as_str()))
    }
}

fn dropped(player: Entity, id: u64, quest: &Quest, by_player: bool, reason: String) -> QuestDropped {
    QuestDropped { player, id, subject: quest.kind.name(), value: quest.difficulty, by_player, reason }
}

fn take(taken: On<TakeQuest>, facts: QuestFacts, mut logs: Query<&mut QuestLog>, mut commands: Commands) {
    let player = taken.player;
    let Ok(mut log) = logs.get_mut(player) else {
        warn!("TakeQuest was sent to {player}, which has no QuestLog; insert one");
        return;
    };
    match log.0.take((*taken.quest).clone(), &facts.world(Some(player))) {
        Ok(id) => tell(&mut commands, QuestStarted { player, id }),
        Err(refused) => {
            let reason = match refused {
                super::NotTaken::Locked => "another open quest wants the same".to_owned(),
                super::NotTaken::Impossible(reason) => reason,
            };
            tell(&mut commands, dropped(player, 0, &taken.quest, false, reason));
        }
    }
}

fn drop_quest(
    asked: On<DropQuest>,
    mut players: Query<(&mut QuestLog, &mut PlayerTaste)>,
    mut population: ResMut<QuestPopulation>,
    mut commands: Commands,
) {
    let Ok((mut log, mut taste)) = players.get_mut(asked.player) else { return };
    let Some(open) = log.0.drop_quest(asked.id) else { return };
    taste.taste.note(open.quest.kind, open.quest.difficulty, false);
    population.0.note(open.quest.kind, false);
    tell(&mut commands, dropped(asked.player, open.id, &open.quest, true, "the player dropped it".into()));
}

fn did(
    did: On<Did>,
    mut players: Query<(&mut QuestLog, &mut PlayerTaste)>,
    mut population: ResMut<QuestPopulation>,
    mut story: ResMut<StoryBeats>,
    mut commands: Commands,
) {
    let player = did.player;
    let Ok((mut log, mut taste)) = players.get_mut(player) else { return };
    let due = |open: &super::OpenQuest| {
        let at = (0..open.quest.steps.len())
            .find(|step| open.is_due(*step) && is_same(&open.quest.steps[*step].action, &did.action));
        at.map(|step| (open.id, step))
    };
    let steps: Vec<(u64, usize)> = log.0.open.iter().filter_map(due).collect();
    for (id, step) in steps {
        let finished = log.0.step_done(id, step);
        tell(&mut commands, StepDone { player, id, step });
        if let Some(open) = finished {
            taste.taste.note(open.quest.kind, open.quest.difficulty, true);
            population.0.note(open.quest.kind, true);
            story.0.retain(|beat| !beat.fits(&open.quest));
            let (subject, value) = (open.quest.kind.name(), open.quest.difficulty);
            tell(&mut commands, QuestFinished { player, id, subject, value, reward: open.quest.reward });
        }
    }
}

/// Whether what was done is what was asked. Which level was made for it does not matter.
fn is_same(asked: &Action, done: &Action) -> bool {
    match (asked, done) {
        (Action::Solve { level: asked, .. }, Action::Solve { level: done, .. }) => asked == done,
        _ => asked == done,
    }
}

/// Looks at open quests when something has changed in the world.
fn review_open(
    changed: WorldChanged,
    facts: QuestFacts,
    mut logs: Query<(Entity, &mut QuestLog)>,
    mut commands: Commands,
) {
    if !changed.any() {
        return;
    }
    for (player, mut log) in &mut logs {
        if log.0.open.is_empty() {
            continue;
        }
        let before = log.0.open.clone();
        let told = log.bypass_change_detection().0.review(&facts.world(Some(player)));
        if told.is_empty() {
            continue;
        }
        log.set_changed();
        for change in told {
            match change.standing {
                Standing::Adapted { why, .. } => {
                    tell(&mut commands, QuestChanged { player, id: change.id, why });
                }
                Standing::Withdrawn(reason) => {
                    let Some(open) = before.iter().find(|open| open.id == change.id) else { continue };
                    tell(&mut commands, dropped(player, change.id, &open.quest, false, reason));
                }
                Standing::Stands(_) => {}
            }
        }
    }
}
