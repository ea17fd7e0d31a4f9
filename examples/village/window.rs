//! The village in a window: walk, walk up to somebody, say something.

use crate::art::{MAP, TILE};
use crate::game::{ChoiceTaken, GamePlugin, Intent, QuestAsked, SPEED};
use crate::options::Options;
use crate::people::{At, Satchel, player};
use crate::picture::{bubble, dress, lay_ground, on_screen, place_sprites};
use crate::quests::{Offer, VillageQuests, next_step, quest_taker, shown, take};
use crate::sayings::sayings;
use bevy::input::ButtonState;
use bevy::input::keyboard::{Key, KeyboardInput};
use bevy::prelude::*;
use bevy::text::FontSize;
use bevy_skald::dialogue::{Facts, RecordedExchange};
use bevy_skald::prelude::*;
use bevy_skald::quest::Coins;
use bevy_skald::quest::plugin::QuestLog;
use bevy_skald::recording::plugin::{RecordAppExt, RecordedPlayer, RecordingConsent, RecordingPlugin};
use bevy_skald::seed::{Seed, Stream};

pub fn play(options: &Options) -> Result<(), String> {
    let mut app = App::new();
    let model = options.model.as_ref().map(|dir| app.register_model_directory("trained", dir));
    app.add_plugins(
        DefaultPlugins
            .set(WindowPlugin {
                primary_window: Some(Window {
                    title: "Village".into(),
                    resolution: (1280, 720).into(),
                    ..default()
                }),
                ..default()
            })
            .set(AssetPlugin { file_path: crate::visit::assets(), ..default() }),
    );
    let plugins = SkaldPlugins::default().with_seed(options.seed);
    app.add_plugins(match model {
        Some(path) => plugins.with_model(path),
        None => plugins,
    });
    if let Some(store) = &options.record {
        app.add_plugins(RecordingPlugin::new(store))
            .record_by("choice_taken", |m: &ChoiceTaken| Some(m.player))
            .record_by("quest_asked", |m: &QuestAsked| Some(m.player))
            .record_by(RecordedExchange::KIND, |m: &ExchangeJudged| m.player);
    }
    let consent = if options.consent { RecordingConsent::GRANTED } else { RecordingConsent::DENIED };
    app.add_plugins((GamePlugin { seed: options.seed }, VillageQuests { seed: options.seed }))
        .insert_resource(Talk { dice: Seed::new(options.seed).derive("choices").stream(), ..Talk::default() })
        .add_systems(
            Startup,
            (lay_ground, build_screen, move |mut commands: Commands| {
                let you =
                    (player("Rowan"), Intent::Idle, RecordedPlayer::new("local"), consent, quest_taker());
                commands.spawn(you);
            }),
        )
        .add_systems(Update, (steer, talk, answer_offer, dress, place_sprites, follow, show).chain())
        .add_observer(hear)
        .add_observer(heard);
    match app.run() {
        AppExit::Success => Ok(()),
        AppExit::Error(code) => Err(format!("the window closed with {code}")),
    }
}

/// The talk on the screen.
#[derive(Resource)]
struct Talk {
    with: Option<Entity>,
    typed: String,
    choices: Vec<(&'static str, String)>,
    shown: String,
    line: Option<Entity>,
    /// Whether words are still coming.
    open: bool,
    bubble: Option<Entity>,
    dice: Stream,
}

impl Default for Talk {
    fn default() -> Self {
        Self {
            with: None,
            typed: String::new(),
            choices: Vec::new(),
            shown: String::new(),
            line: None,
            open: false,
            bubble: None,
            dice: Seed::new(0).stream(),
        }
    }
}

#[derive(Component)]
enum Part {
    Panel,
    Speaker,
    Line,
    Choices,
    Typed,
    Quest,
    Hud,
    Hint,
}

fn build_screen(mut commands: Commands) {
    commands.spawn((
        Camera2d,
        Projection::Orthographic(OrthographicProjection {
            scale: 0.36,
            ..OrthographicProjection::default_2d()
        }),
    ));
    let text = |part: Part, size: f32, colour: Color| {
        (part, Text::default(), TextFont { font_size: FontSize::Px(size), ..default() }, TextColor(colour))
    };
    let (cream, soft) = (Color::srgb(0.99, 0.96, 0.88), Color::srgb(0.80, 0.76, 0.66));
    let box_of = |node: Node| (node, BackgroundColor(Color::srgba(0.11, 0.09, 0.12, 0.90)));
    let padded = |node: Node| Node {
        padding: UiRect::all(Val::Px(12.0)),
        position_type: PositionType::Absolute,
        ..node
    };
    commands
        .spawn(box_of(padded(Node { left: Val::Px(12.0), top: Val::Px(12.0), ..default() })))
        .with_child(text(Part::Hud, 18.0, cream));
    commands
        .spawn(box_of(padded(Node { right: Val::Px(12.0), top: Val::Px(12.0), ..default() })))
        .with_child(text(Part::Hint, 18.0, soft));
    commands
        .spawn((
            Part::Panel,
            box_of(padded(Node {
                left: Val::Percent(12.0),
                right: Val::Percent(12.0),
                bottom: Val::Px(16.0),
                flex_direction: FlexDirection::Column,
                row_gap: Val::Px(8.0),
                ..default()
            })),
            Visibility::Hidden,
        ))
        .with_children(|panel| {
            panel.spawn(text(Part::Speaker, 20.0, Color::srgb(0.96, 0.80, 0.46)));
            panel.spawn(text(Part::Line, 24.0, cream));
            panel.spawn(text(Part::Choices, 18.0, soft));
            panel.spawn(text(Part::Typed, 20.0, Color::srgb(0.72, 0.88, 0.98)));
            panel.spawn(text(Part::Quest, 18.0, Color::srgb(0.70, 0.92, 0.66)));
        });
}

fn steer(
    keys: Res<ButtonInput<KeyCode>>,
    time: Res<Time>,
    talk: Res<Talk>,
    mut players: Query<(&mut At, &mut Intent), With<Player>>,
    creatures: Query<(Entity, &At), (With<Creature>, Without<Player>)>,
    items: Query<(Entity, &At), (With<Item>, With<LocatedIn>, Without<Player>)>,
) {
    let Ok((mut at, mut intent)) = players.single_mut() else { return };
    if talk.with.is_some() {
        return;
    }
    let held = |a, b| keys.pressed(a) || keys.pressed(b);
    let mut way = Vec2::ZERO;
    way.x += f32::from(held(KeyCode::ArrowRight, KeyCode::KeyD))
        - f32::from(held(KeyCode::ArrowLeft, KeyCode::KeyA));
    way.y +=
        f32::from(held(KeyCode::ArrowUp, KeyCode::KeyW)) - f32::from(held(KeyCode::ArrowDown, KeyCode::KeyS));
    if way != Vec2::ZERO {
        *intent = Intent::Idle;
        at.0 += way.normalize() * SPEED * time.delta_secs();
        at.0 = at.0.clamp(Vec2::ONE, Vec2::new(MAP.0 as f32, MAP.1 as f32) - 1.0);
    }
    if keys.just_pressed(KeyCode::Space) {
        let near = |spot: &At| spot.0.distance(at.0);
        let creature =
            creatures.iter().filter(|(_, spot)| near(spot) < 3.0).map(|(e, _)| Intent::Fight(e)).next();
        let item = items.iter().filter(|(_, spot)| near(spot) < 3.0).map(|(e, _)| Intent::Take(e)).next();
        *intent = creature.or(item).unwrap_or(*intent);
    }
}

fn nearest<'a>(
    at: Vec2,
    npcs: impl Iterator<Item = (Entity, &'a At, &'a Name)>,
) -> Option<(Entity, &'a Name)> {
    npcs.map(|(entity, spot, name)| (entity, name, spot.0.distance(at)))
        .filter(|(.., far)| *far < 2.2)
        .min_by(|a, b| a.2.total_cmp(&b.2))
        .map(|(entity, name, _)| (entity, name))
}

/// Begins and ends talks, takes choices and typed words.
fn talk(
    mut typed: MessageReader<KeyboardInput>,
    mut talk: ResMut<Talk>,
    players: Query<(Entity, &At), With<Player>>,
    npcs: Query<(Entity, &At, &Name), With<Npc>>,
    facts: Facts,
    mut out: (MessageWriter<ChoiceTaken>, MessageWriter<QuestAsked>),
    mut commands: Commands,
) {
    let Ok((player, at)) = players.single() else { return };
    for key in typed.read().filter(|key| key.state == ButtonState::Pressed) {
        let Some(npc) = talk.with else {
            let begins = matches!(&key.logical_key, Key::Enter) || key.key_code == KeyCode::KeyE;
            if let Some((npc, _)) = nearest(at.0, npcs.iter()).filter(|_| begins) {
                talk.with = Some(npc);
                talk.typed.clear();
                offer_choices(&mut talk, npc, &npcs, &facts);
                say(&mut talk, npc, player, String::new(), &mut commands);
            }
            continue;
        };
        let name = npcs.get(npc).map_or_else(|_| String::new(), |(.., name)| name.to_string());
        match &key.logical_key {
            Key::Escape => leave(&mut talk, &mut commands),
            Key::Backspace => drop(talk.typed.pop()),
            Key::Enter => {
                let text = std::mem::take(&mut talk.typed);
                if !text.trim().is_empty() {
                    offer_choices(&mut talk, npc, &npcs, &facts);
                    say(&mut talk, npc, player, text, &mut commands);
                }
            }
            Key::Space => talk.typed.push(' '),
            Key::Character(text) => {
                let choice = text.parse::<usize>().ok().filter(|_| talk.typed.is_empty());
                match choice.and_then(|n| talk.choices.get(n.wrapping_sub(1)).cloned()) {
                    Some((about, text)) => {
                        out.0.write(ChoiceTaken { player, npc: name.clone(), choice: text.clone() });
                        if about == "quest" {
                            out.1.write(QuestAsked { player, npc: name.clone() });
                        }
                        offer_choices(&mut talk, npc, &npcs, &facts);
                        say(&mut talk, npc, player, text, &mut commands);
                    }
                    None if talk.typed.len() < 200 => talk.typed.push_str(text),
                    None => {}
                }
            }
            _ => {}
        }
    }
}

/// Tab takes what was offered, or leaves it by walking on.
fn answer_offer(
    keys: Res<ButtonInput<KeyCode>>,
    talk: Res<Talk>,
    mut offers: Query<(Entity, &mut Offer)>,
    mut commands: Commands,
) {
    for (player, mut offer) in &mut offers {
        if talk.with.is_none() && offer.0.is_some() {
            offer.0 = None;
        } else if keys.just_pressed(KeyCode::Tab) {
            take(player, &mut offer, &mut commands);
        }
    }
}

fn offer_choices(talk: &mut Talk, npc: Entity, npcs: &Query<(Entity, &At, &Name), With<Npc>>, facts: &Facts) {
    let Ok((.., name)) = npcs.get(npc) else { return };
    let mut all = sayings(&facts.world(None), name, &mut talk.dice);
    talk.dice.shuffle(&mut all);
    let mut chosen: Vec<(&'static str, String)> = Vec::new();
    for saying in all {
        if chosen.len() < 3 && chosen.iter().all(|(about, _)| *about != saying.about) {
            chosen.push((saying.about, saying.text));
        }
    }
    chosen.push(("bye", "Goodbye.".into()));
    talk.choices = chosen;
}

fn say(talk: &mut Talk, npc: Entity, player: Entity, text: String, commands: &mut Commands) {
    judge(talk, commands);
    talk.shown.clear();
    commands.trigger(Say { to: npc, by: Some(player), text });
}

/// A line still being written, or just written, when one goes on was not read.
fn judge(talk: &mut Talk, commands: &mut Commands) {
    if let Some(line) = talk.line.take() {
        let outcome = if talk.open { LineOutcome::Skipped } else { LineOutcome::Read };
        commands.trigger(LineJudged { line, outcome });
    }
    talk.open = false;
    if let Some(bubble) = talk.bubble.take() {
        commands.entity(bubble).try_despawn();
    }
}

fn leave(talk: &mut Talk, commands: &mut Commands) {
    judge(talk, commands);
    talk.with = None;
}

fn hear(grew: On<LineGrew>, mut talk: ResMut<Talk>, spots: Query<&At>, mut commands: Commands) {
    if talk.with != Some(grew.npc) {
        return;
    }
    talk.shown.clone_from(&grew.text);
    (talk.line, talk.open) = (Some(grew.line), true);
    if let Some(bubble) = talk.bubble.take() {
        commands.entity(bubble).try_despawn();
    }
    if let Ok(at) = spots.get(grew.npc) {
        talk.bubble = Some(bubble(&mut commands, &grew.text, on_screen(at.0) + Vec2::new(0.0, 46.0)));
    }
}

fn heard(finished: On<LineFinished>, mut talk: ResMut<Talk>) {
    if talk.with == Some(finished.npc) {
        talk.shown.clone_from(&finished.text);
        (talk.line, talk.open) = (Some(finished.line), false);
    }
}

fn follow(players: Query<&At, With<Player>>, mut cameras: Query<&mut Transform, With<Camera2d>>) {
    let (Ok(at), Ok(mut camera)) = (players.single(), cameras.single_mut()) else { return };
    // The camera stays on the map: half the screen at this scale from its edge.
    let half = Vec2::new(MAP.0 as f32, MAP.1 as f32) * TILE as f32 / 2.0 - Vec2::new(230.0, 130.0);
    let spot = on_screen(at.0).clamp(-half.max(Vec2::ZERO), half.max(Vec2::ZERO));
    camera.translation.x = spot.x;
    camera.translation.y = spot.y;
}

fn show(
    talk: Res<Talk>,
    mut parts: Query<(&Part, &mut Text)>,
    mut panels: Query<(&Part, &mut Visibility), Without<Text>>,
    players: Query<(&At, &Satchel, Option<&LocatedIn>, &QuestLog, &Coins, &Offer), With<Player>>,
    npcs: Query<(Entity, &At, &Name), With<Npc>>,
    names: Query<&Name>,
    ambience: Res<Ambience>,
) {
    let Ok((at, satchel, located, log, coins, offer)) = players.single() else { return };
    let near = nearest(at.0, npcs.iter());
    for (part, mut text) in &mut parts {
        let new = match part {
            Part::Speaker => {
                talk.with.and_then(|npc| names.get(npc).ok()).map_or_else(String::new, Name::to_string)
            }
            Part::Line => {
                if talk.shown.is_empty() {
                    "...".into()
                } else {
                    talk.shown.clone()
                }
            }
            Part::Choices => {
                let numbered =
                    talk.choices.iter().enumerate().map(|(n, (_, text))| format!("{}  {text}", n + 1));
                numbered.collect::<Vec<_>>().join("\n")
            }
            Part::Typed => format!("> {}_", talk.typed),
            Part::Quest => {
                offer.0.as_ref().map_or_else(String::new, |quest| format!("{}\nTab to take it", shown(quest)))
            }
            Part::Hud => {
                let place =
                    located.and_then(|place| names.get(place.0).ok()).map_or("on the road", Name::as_str);
                let carried = if satchel.0.is_empty() { "nothing".to_owned() } else { satchel.0.join(", ") };
                let (time, weather) = (ambience.time.as_deref(), ambience.weather.as_deref());
                let quest = next_step(log).map_or_else(String::new, |step| format!("\nquest: {step}"));
                format!(
                    "{place}\n{}, {}\ncarrying {carried}, {} coins{quest}",
                    time.unwrap_or(""),
                    weather.unwrap_or(""),
                    coins.0
                )
            }
            Part::Hint => match (&talk.with, near) {
                (Some(_), _) => "1-4 choose   type and Enter to say   Esc leave".into(),
                (None, Some((_, name))) => format!("E talk to {name}"),
                (None, None) => "arrows or WASD walk   Space take or fight   E talk".into(),
            },
            Part::Panel => continue,
        };
        if text.0 != new {
            text.0 = new;
        }
    }
    for (part, mut visibility) in &mut panels {
        if matches!(part, Part::Panel) {
            *visibility = if talk.with.is_some() { Visibility::Visible } else { Visibility::Hidden };
        }
    }
}
