//! Simulated players with tastes of their own, playing the real rules at full speed.

use crate::game::{ChoiceTaken, Fought, Intent, Moved, PickedUp, QuestAsked};
use crate::options::{Options, Skips};
use crate::people::{At, player};
use crate::quests::{Offer, quest_taker, take};
use crate::sayings;
use crate::visit::{STEP, app, wait_for_assets};
use bevy::prelude::*;
use bevy_skald::dialogue::{Facts, RecordedExchange};
use bevy_skald::prelude::*;
use bevy_skald::quest::plugin::{DropQuest, QuestDropped, QuestFinished, QuestLog, QuestOffered};
use bevy_skald::quest::{Action, QuestKind};
use bevy_skald::recording::RecorderConfig;
use bevy_skald::recording::plugin::{
    RecordAppExt, RecordedPlayer, Recording, RecordingConsent, RecordingPlugin,
};
use bevy_skald::seed::{Seed, Stream};
use std::time::Instant;

/// What a player likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Archetype {
    Fighter,
    Explorer,
    Collector,
    Talker,
}

impl Archetype {
    const ALL: [Self; 4] = [Self::Fighter, Self::Explorer, Self::Collector, Self::Talker];

    /// How likely each is next: fight, wander, collect, talk.
    fn likes(self) -> [f32; 4] {
        match self {
            Self::Fighter => [0.55, 0.15, 0.1, 0.2],
            Self::Explorer => [0.1, 0.55, 0.15, 0.2],
            Self::Collector => [0.1, 0.15, 0.55, 0.2],
            Self::Talker => [0.05, 0.15, 0.1, 0.7],
        }
    }

    /// How likely they do what a quest of this kind asks, when they have nothing better to do.
    fn patience(self, kind: QuestKind) -> f32 {
        let liked = match self {
            Self::Fighter => kind == QuestKind::Slay,
            Self::Explorer => kind == QuestKind::Explore,
            Self::Collector => matches!(kind, QuestKind::Fetch | QuestKind::Deliver),
            Self::Talker => kind == QuestKind::Talk,
        };
        if liked { 0.8 } else { 0.08 }
    }

    /// What they talk about.
    fn topics(self) -> &'static [&'static str] {
        match self {
            Self::Fighter => &["quest", "danger", "danger"],
            Self::Explorer => &["where", "where", "news"],
            Self::Collector => &["trade", "where", "quest"],
            Self::Talker => &["talk", "news", "talk", "quest"],
        }
    }

    /// Whether they click this line away: fighters have no patience for long ones, talkers are bored by
    /// short ones, and nobody reads everything.
    fn skips(self, line: &LineFinished, all: Option<Skips>, dice: &mut Stream) -> bool {
        let words = line.text.split_whitespace().count();
        let bored = match (all, self) {
            (Some(Skips::Loud), _) => line.text.contains('!'),
            (Some(Skips::Long), _) => words > 16,
            (Some(Skips::Short), _) => words < 8,
            (None, Self::Fighter) => words > 18 && line.act != Act::Offer,
            (None, Self::Explorer) => matches!(line.act, Act::Joke | Act::SmallTalk),
            (None, Self::Collector) => matches!(line.act, Act::Lament | Act::Rumour),
            (None, Self::Talker) => words < 7,
        };
        dice.chance(if bored { 0.8 } else { 0.05 })
    }
}

#[derive(Component)]
struct Bot {
    archetype: Archetype,
    /// What is clicked away whatever the archetype.
    skips: Option<Skips>,
    dice: Stream,
    doing: Doing,
    /// Things to say before parting.
    left: usize,
    /// When they tire of the quest they took.
    tires: f32,
}

enum Doing {
    Deciding,
    /// Until the intent is done.
    Moving,
    /// Walking to somebody to talk.
    Approaching(Entity),
    /// Waiting for an answer.
    Listening(Entity),
    /// Reading (or clicking away) a line until then.
    Reading {
        npc: Entity,
        line: Entity,
        until: f32,
        outcome: LineOutcome,
    },
}

pub fn play(options: &Options) -> Result<(), String> {
    let started = Instant::now();
    let mut app = app(options, 12);
    if let Some(store) = &options.record {
        let config = RecorderConfig {
            build: concat!("village ", env!("CARGO_PKG_VERSION")).into(),
            ack_log: options.ack.clone(),
            ..RecorderConfig::default()
        };
        app.add_plugins(RecordingPlugin::new(store).with_config(config))
            .record_by("moved", |m: &Moved| Some(m.player))
            .record_by("fought", |m: &Fought| Some(m.player))
            .record_by("picked_up", |m: &PickedUp| Some(m.player))
            .record_by("quest_asked", |m: &QuestAsked| Some(m.player))
            .record_by("choice_taken", |m: &ChoiceTaken| Some(m.player))
            .record_by("QuestFinished", |m: &QuestFinished| Some(m.player))
            .record_by("QuestDropped", |m: &QuestDropped| Some(m.player))
            .record_by(RecordedExchange::KIND, |m: &ExchangeJudged| m.player);
        if let Some(failure) = app.world().resource::<Recording>().failure() {
            return Err(failure.to_string());
        }
    }
    app.add_systems(Update, (pursue, decide, hear).chain()).init_resource::<Tally>();
    let curve = Curve { length: options.minutes * 60.0 / STAGES as f32, ..Curve::default() };
    app.insert_resource(curve).add_observer(count_offer).add_observer(count_finished);
    app.add_systems(Last, count);
    app.finish();
    app.cleanup();
    let root = Seed::new(options.seed).derive("bots");
    for n in 0..options.bots {
        let archetype = Archetype::ALL[n % Archetype::ALL.len()];
        let name = format!("{archetype:?} {}", n / Archetype::ALL.len() + 1);
        let consent = if options.consent { RecordingConsent::GRANTED } else { RecordingConsent::DENIED };
        let bot = Bot {
            archetype,
            skips: options.skips,
            dice: root.derive_index(n as u64).stream(),
            doing: Doing::Deciding,
            left: 0,
            tires: 0.0,
        };
        let id = RecordedPlayer::new(name.clone()).with_seed(options.seed);
        app.world_mut().spawn((player(&name), Intent::Idle, bot, consent, id, quest_taker()));
    }
    wait_for_assets(&mut app);
    let steps = (options.minutes * 60.0 / STEP.as_secs_f32()).ceil() as u64;
    for step in 0..steps {
        app.update();
        if let Some(recording) = app.world().get_resource::<Recording>() {
            if let Some(failure) = recording.failure() {
                return Err(failure.to_string());
            }
            // The game runs much faster than play: let the disk keep up.
            while recording.recorder().is_some_and(|recorder| recorder.queued() > 20_000) {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        if (step + 1).is_multiple_of(steps.div_ceil(10)) {
            eprintln!(
                "{:.0} of {:.0} minutes",
                (step + 1) as f32 * STEP.as_secs_f32() / 60.0,
                options.minutes
            );
        }
    }
    let world = app.world_mut();
    let players: Vec<Entity> = world.query_filtered::<Entity, With<Bot>>().iter(world).collect();
    for player in players {
        world.despawn(player);
    }
    world.write_message(AppExit::Success);
    app.update();
    let tally = app.world().resource::<Tally>();
    println!(
        "{} players, {:.0} minutes: {} lines read, {} skipped, {} choices, {} quests asked for, {} moves, {} fights, {} finds",
        options.bots,
        options.minutes,
        tally.read,
        tally.skipped,
        tally.choices,
        tally.quests,
        tally.moves,
        tally.fights,
        tally.finds
    );
    println!("quests offered, and how many of them were finished in the same stretch of time:");
    for (n, (offered, finished)) in app.world().resource::<Curve>().stages.iter().enumerate() {
        let share = 100.0 * *finished as f32 / (*offered).max(1) as f32;
        println!("  {} of {STAGES}: {offered} offered, {finished} finished ({share:.0} %)", n + 1);
    }
    if let Some(recorder) = app.world().get_resource::<Recording>().and_then(Recording::recorder) {
        println!("{} events recorded, {} dropped", recorder.acknowledged(), recorder.dropped());
    }
    eprintln!("that took {:.1} s", started.elapsed().as_secs_f32());
    Ok(())
}

/// Takes quests, does what they ask, and drops those that nobody has the patience for.
fn pursue(
    time: Res<Time>,
    mut bots: Query<(Entity, &mut Bot, &mut Intent, &mut Offer, &QuestLog)>,
    npcs: Query<(Entity, &At, &Name), With<Npc>>,
    places: Query<(&At, &Name), With<Place>>,
    creatures: Query<(Entity, &Name), (With<Creature>, With<LocatedIn>)>,
    items: Query<(Entity, &Name), (With<Item>, With<LocatedIn>)>,
    mut commands: Commands,
) {
    let now = time.elapsed_secs();
    for (player, mut bot, mut intent, mut offer, log) in &mut bots {
        if offer.0.is_some() && log.0.open.is_empty() {
            take(player, &mut offer, &mut commands);
            bot.tires = now + 150.0;
        }
        let Some(open) = log.0.open.first() else { continue };
        if now > bot.tires {
            commands.trigger(DropQuest { player, id: open.id });
            continue;
        }
        if !matches!(bot.doing, Doing::Deciding) {
            continue;
        }
        let patience = bot.archetype.patience(open.quest.kind);
        let Some(step) = (0..open.quest.steps.len()).find(|step| open.is_due(*step)) else { continue };
        if !bot.dice.chance(patience) {
            continue;
        }
        let named = |name: &Name, wanted: &str| name.as_str() == wanted;
        let go = match &open.quest.steps[step].action {
            Action::Go { place } | Action::Find { place } => places
                .iter()
                .find(|(_, name)| named(name, place))
                .map(|(at, _)| (Intent::Walk(at.0), Doing::Moving)),
            Action::Slay { creature } => {
                let found = creatures.iter().find(|(_, name)| named(name, creature));
                found.map(|(entity, _)| (Intent::Fight(entity), Doing::Moving))
            }
            Action::Fetch { item } => {
                let found = items.iter().find(|(_, name)| named(name, item));
                found.map(|(entity, _)| (Intent::Take(entity), Doing::Moving))
            }
            Action::Talk { person } | Action::Deliver { to: person, .. } => {
                let found = npcs.iter().find(|(.., name)| named(name, person));
                found.map(|(npc, at, _)| (Intent::Walk(at.0 + Vec2::new(0.0, -1.0)), Doing::Approaching(npc)))
            }
            _ => None,
        };
        if let Some((to, doing)) = go {
            (*intent, bot.doing, bot.left) = (to, doing, 0);
        }
    }
}

/// Into how many stretches the time is cut.
const STAGES: usize = 5;

/// Quests offered and finished, by when they were offered or finished.
#[derive(Resource, Default)]
struct Curve {
    length: f32,
    stages: [(usize, usize); STAGES],
}

impl Curve {
    fn now(&mut self, time: &Time) -> &mut (usize, usize) {
        let stage = (time.elapsed_secs() / self.length.max(1.0)) as usize;
        &mut self.stages[stage.min(STAGES - 1)]
    }
}

fn count_offer(_: On<QuestOffered>, mut curve: ResMut<Curve>, time: Res<Time>) {
    curve.now(&time).0 += 1;
}

fn count_finished(_: On<QuestFinished>, mut curve: ResMut<Curve>, time: Res<Time>) {
    curve.now(&time).1 += 1;
}

fn decide(
    time: Res<Time>,
    mut bots: Query<(Entity, &mut Bot, &At, &mut Intent)>,
    npcs: Query<(Entity, &At, &Name), With<Npc>>,
    places: Query<(&At, &Name), With<Place>>,
    creatures: Query<Entity, (With<Creature>, With<LocatedIn>)>,
    items: Query<Entity, (With<Item>, With<LocatedIn>)>,
    facts: Facts,
    mut out: (MessageWriter<ChoiceTaken>, MessageWriter<QuestAsked>),
    mut commands: Commands,
) {
    for (player, mut bot, at, mut intent) in &mut bots {
        let bot = &mut *bot;
        match bot.doing {
            Doing::Deciding => {
                let mut draw = bot.dice.uniform();
                let likes = bot.archetype.likes();
                let liked = likes.iter().position(|share| {
                    draw -= share;
                    draw < 0.0
                });
                let creatures: Vec<_> = creatures.iter().collect();
                let items: Vec<_> = items.iter().collect();
                let people: Vec<_> = npcs.iter().collect();
                match liked {
                    Some(0) if !creatures.is_empty() => {
                        *intent = bot.dice.pick(&creatures).map_or(Intent::Idle, |c| Intent::Fight(*c));
                        bot.doing = Doing::Moving;
                    }
                    Some(2) if !items.is_empty() => {
                        *intent = bot.dice.pick(&items).map_or(Intent::Idle, |i| Intent::Take(*i));
                        bot.doing = Doing::Moving;
                    }
                    Some(3) => {
                        if let Some((npc, spot, _)) = bot.dice.pick(&people) {
                            *intent = Intent::Walk(spot.0 + Vec2::new(0.0, -1.0));
                            bot.left = 1 + bot.dice.below(3);
                            bot.doing = Doing::Approaching(*npc);
                        }
                    }
                    _ => {
                        let places: Vec<_> = places.iter().map(|(at, _)| at.0).collect();
                        *intent = bot.dice.pick(&places).map_or(Intent::Idle, |to| Intent::Walk(*to));
                        bot.doing = Doing::Moving;
                    }
                }
            }
            Doing::Moving if *intent == Intent::Idle => bot.doing = Doing::Deciding,
            Doing::Approaching(npc) if *intent == Intent::Idle => {
                let Ok((_, spot, name)) = npcs.get(npc) else {
                    bot.doing = Doing::Deciding;
                    continue;
                };
                if spot.0.distance(at.0) > 2.0 {
                    *intent = Intent::Walk(spot.0 + Vec2::new(0.0, -1.0));
                    continue;
                }
                let known = facts.world(Some(player));
                let topic = bot.dice.pick(bot.archetype.topics()).copied().unwrap_or("talk");
                let text = if bot.dice.chance(0.15) {
                    String::new()
                } else if bot.left == 0 {
                    "Goodbye.".to_owned()
                } else {
                    sayings::one(&known, name, topic, &mut bot.dice).map_or_else(String::new, |s| s.text)
                };
                out.0.write(ChoiceTaken { player, npc: name.to_string(), choice: text.clone() });
                if topic == "quest" {
                    out.1.write(QuestAsked { player, npc: name.to_string() });
                }
                commands.trigger(Say { to: npc, by: Some(player), text });
                bot.doing = Doing::Listening(npc);
            }
            Doing::Reading { npc, line, until, outcome } if time.elapsed_secs() >= until => {
                commands.trigger(LineJudged { line, outcome });
                bot.doing = if bot.left > 0 { Doing::Approaching(npc) } else { Doing::Deciding };
                bot.left = bot.left.saturating_sub(1);
            }
            _ => {}
        }
    }
}

fn hear(time: Res<Time>, mut finished: MessageReader<LineFinished>, mut bots: Query<&mut Bot>) {
    for line in finished.read() {
        let Some(mut bot) = line.player.and_then(|player| bots.get_mut(player).ok()) else { continue };
        let bot = &mut *bot;
        if matches!(bot.doing, Doing::Listening(npc) if npc == line.npc) {
            let skips = bot.archetype.skips(line, bot.skips, &mut bot.dice);
            let seconds = if skips { 0.4 } else { 0.25 * line.text.split_whitespace().count() as f32 };
            let outcome = if skips { LineOutcome::Skipped } else { LineOutcome::Read };
            bot.doing = Doing::Reading {
                npc: line.npc,
                line: line.line,
                until: time.elapsed_secs() + seconds,
                outcome,
            };
        }
    }
}

/// What happened, for the summary.
#[derive(Resource, Default)]
struct Tally {
    read: usize,
    skipped: usize,
    choices: usize,
    quests: usize,
    moves: usize,
    fights: usize,
    finds: usize,
}

fn count(
    mut tally: ResMut<Tally>,
    mut judged: MessageReader<ExchangeJudged>,
    mut choices: MessageReader<ChoiceTaken>,
    mut quests: MessageReader<QuestAsked>,
    mut moved: MessageReader<Moved>,
    mut fought: MessageReader<Fought>,
    mut picked: MessageReader<PickedUp>,
) {
    for judged in judged.read() {
        match judged.exchange.outcome {
            LineOutcome::Read => tally.read += 1,
            LineOutcome::Skipped => tally.skipped += 1,
        }
    }
    tally.choices += choices.read().count();
    tally.quests += quests.read().count();
    tally.moves += moved.read().count();
    tally.fights += fought.read().count();
    tally.finds += picked.read().count();
}
