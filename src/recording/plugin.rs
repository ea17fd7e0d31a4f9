//! The recorder in a Bevy game.
//!
//! ```
//! use bevy::prelude::*;
//! use bevy_skald::recording::plugin::{
//!     RecordAppExt, RecordedPlayer, RecordingConsent, RecordingPlugin,
//! };
//! use serde::Serialize;
//!
//! #[derive(Message, Serialize)]
//! struct DoorOpened {
//!     #[serde(skip)] // an `Entity` means nothing outside this run; the session says who it was
//!     by: Entity,
//!     door: u32,
//! }
//!
//! #[derive(Component, Serialize)]
//! struct Health(f32);
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let playtest = dir.path().join("playtest.sqlite");
//! let mut app = App::new();
//! app.add_plugins((MinimalPlugins, RecordingPlugin::new(&playtest)))
//!     // The event belongs to the player who opened the door. `record::<M>()` does for a game of one player.
//!     .record_by("DoorOpened", |opened: &DoorOpened| Some(opened.by))
//!     .record_every::<Health>(5.0);
//!
//! // In the game: who plays, and what they answered when they were asked.
//! let player = app
//!     .world_mut()
//!     .spawn((RecordedPlayer::new("steam:7656119"), RecordingConsent::GRANTED, Health(1.0)))
//!     .id();
//! app.world_mut().write_message(DoorOpened { by: player, door: 3 });
//! app.update();
//! // The session ends with the component or the entity. `AppExit` waits until all is on the disk.
//! app.world_mut().entity_mut(player).despawn();
//! app.world_mut().write_message(AppExit::Success);
//! app.update();
//!
//! let store = bevy_skald::recording::Store::open_read(&playtest)?;
//! assert_eq!(store.events(Some("DoorOpened")).count(), 1);
//! # Ok::<(), bevy_skald::Error>(())
//! ```
//!
//! Events are recorded in `PostUpdate` ([`RecordingSystems`]), stamped with the milliseconds of virtual time
//! since the program began. A store that cannot be opened does not stop the game: it is logged once, and
//! [`Recording::failure`] says why.

use super::{Consent, Outcome, Recorder, RecorderConfig, SessionId};
use crate::error::Error;
use bevy::ecs::system::SystemParam;
use bevy::prelude::*;
use bevy::utils::prelude::ShortName;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records play into a store. What is recorded is said with [`RecordAppExt`], who with [`RecordedPlayer`].
#[derive(Clone, Debug)]
pub struct RecordingPlugin {
    /// The store's file. Its folder must be there.
    pub store: PathBuf,
    /// How to record. The default records nobody who has not got [`RecordingConsent::GRANTED`].
    pub config: RecorderConfig,
}

impl RecordingPlugin {
    /// Records into `store`, with the defaults.
    pub fn new(store: impl Into<PathBuf>) -> Self {
        Self { store: store.into(), config: RecorderConfig::default() }
    }

    /// Records with this configuration.
    #[must_use]
    pub fn with_config(self, config: RecorderConfig) -> Self {
        Self { config, ..self }
    }
}

impl Plugin for RecordingPlugin {
    fn build(&self, app: &mut App) {
        let recorder = Recorder::open(&self.store, self.config.clone()).map_err(Arc::new);
        if let Err(error) = &recorder {
            error!("nothing is recorded: {error}");
        }
        app.insert_resource(Recording { recorder })
            .init_resource::<Leaving>()
            .configure_sets(PostUpdate, (RecordingSystems::Record, RecordingSystems::End).chain())
            .add_observer(begin_session)
            .add_observer(note_leaving)
            .add_observer(forget_session)
            .add_observer(change_consent)
            .add_systems(PostUpdate, end_sessions.in_set(RecordingSystems::End))
            .add_systems(Last, (report, close_at_exit).chain());
    }
}

/// When recording happens, in `PostUpdate`.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordingSystems {
    /// Messages and samples go to the recorder.
    Record,
    /// The sessions of players who left in this frame end.
    End,
}

/// The game's recorder.
#[derive(Resource, Debug)]
pub struct Recording {
    recorder: Result<Recorder, Arc<Error>>,
}

impl Recording {
    /// The recorder, to record by hand. `None` when the store could not be opened.
    pub fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref().ok()
    }

    /// Why nothing is recorded any more, if so.
    pub fn failure(&self) -> Option<Arc<Error>> {
        match &self.recorder {
            Ok(recorder) => recorder.failure(),
            Err(error) => Some(Arc::clone(error)),
        }
    }
}

/// Whose play is recorded. Inserting it begins a session, removing it (or despawning) ends it.
///
/// The id is whatever names the player for good (an account, a profile); only its pseudonym is stored.
#[derive(Component, Clone, PartialEq, Eq)]
#[component(immutable)]
pub struct RecordedPlayer {
    id: String,
    seed: Option<u64>,
}

impl RecordedPlayer {
    /// The player with this id.
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), seed: None }
    }

    /// Notes the seed the session is played with.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }
}

impl std::fmt::Debug for RecordedPlayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Logs are read by more people than the player agreed to.
        f.write_str("RecordedPlayer(..)")
    }
}

/// What the player answered when asked whether they may be recorded, beside [`RecordedPlayer`].
///
/// Insert it again to change the answer: a withdrawal holds at once. Without it
/// [`RecorderConfig::consent`] decides, which is `Denied` unless the game says otherwise.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[component(immutable)]
pub struct RecordingConsent(pub Consent);

impl RecordingConsent {
    /// They agreed.
    pub const GRANTED: Self = Self(Consent::Granted);
    /// They declined, or withdrew.
    pub const DENIED: Self = Self(Consent::Denied);
}

/// The session of a [`RecordedPlayer`], put beside it. A game that calls [`Recorder::begin_session`] itself may
/// insert its own; then it must end the session too.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayerSession(pub SessionId);

/// Says what is recorded.
///
/// The kind of an event is the short name of its type unless given: rename the type and it is another kind.
pub trait RecordAppExt {
    /// Records every `M` that is written, in the session of the only player. Where several play, nobody can
    /// tell whose it is: it is left out, with one warning. Use [`record_by`](Self::record_by) there.
    fn record<M: Message + Serialize>(&mut self) -> &mut Self;

    /// [`record`](Self::record) under another kind.
    fn record_as<M: Message + Serialize>(&mut self, kind: impl Into<Cow<'static, str>>) -> &mut Self;

    /// Records every `M` that is written, in the session of the player entity that `player` names. A message of
    /// nobody (`None`, or an entity without a session) is left out.
    fn record_by<M: Message + Serialize>(
        &mut self,
        kind: impl Into<Cow<'static, str>>,
        player: impl Fn(&M) -> Option<Entity> + Send + Sync + 'static,
    ) -> &mut Self;

    /// Samples the `C` of every player entity every `seconds` of virtual time (once a frame at most).
    fn record_every<C: Component + Serialize>(&mut self, seconds: f32) -> &mut Self;

    /// [`record_every`](Self::record_every) under another kind.
    fn record_every_as<C: Component + Serialize>(
        &mut self,
        kind: impl Into<Cow<'static, str>>,
        seconds: f32,
    ) -> &mut Self;
}

impl RecordAppExt for App {
    fn record<M: Message + Serialize>(&mut self) -> &mut Self {
        self.record_as::<M>(ShortName::of::<M>().to_string())
    }

    fn record_as<M: Message + Serialize>(&mut self, kind: impl Into<Cow<'static, str>>) -> &mut Self {
        let kind = kind.into();
        add_recording::<M, _>(self, kind.clone(), move |_, sessions| match sessions.only() {
            Ok(session) => session,
            Err(Several) => {
                warn_once!("`{kind}` is not recorded: several play; say whose it is with `record_by`");
                None
            }
        })
    }

    fn record_by<M: Message + Serialize>(
        &mut self,
        kind: impl Into<Cow<'static, str>>,
        player: impl Fn(&M) -> Option<Entity> + Send + Sync + 'static,
    ) -> &mut Self {
        add_recording::<M, _>(self, kind.into(), move |message, sessions| {
            player(message).and_then(|entity| sessions.of(entity))
        })
    }

    fn record_every<C: Component + Serialize>(&mut self, seconds: f32) -> &mut Self {
        self.record_every_as::<C>(ShortName::of::<C>().to_string(), seconds)
    }

    fn record_every_as<C: Component + Serialize>(
        &mut self,
        kind: impl Into<Cow<'static, str>>,
        seconds: f32,
    ) -> &mut Self {
        let kind = kind.into();
        // What is not a duration (negative, not a number) means every frame.
        let every = Duration::try_from_secs_f32(seconds).unwrap_or_default();
        let sample = move |mut next: Local<Duration>,
                           samples: Query<(&C, &PlayerSession)>,
                           recording: Res<Recording>,
                           time: Res<Time<Virtual>>| {
            let now = time.elapsed();
            if now < *next || time.delta().is_zero() {
                return;
            }
            *next = now.saturating_add(every);
            for (value, session) in &samples {
                put(&recording, session.0, &time, kind.clone(), value);
            }
        };
        self.add_systems(
            PostUpdate,
            sample.in_set(RecordingSystems::Record).run_if(resource_exists::<Recording>),
        )
    }
}

fn add_recording<'a, M: Message + Serialize, F>(
    app: &'a mut App,
    kind: Cow<'static, str>,
    session: F,
) -> &'a mut App
where
    F: Fn(&M, &PlayerSessions<'_, '_>) -> Option<SessionId> + Send + Sync + 'static,
{
    let record = move |mut messages: MessageReader<M>,
                       sessions: PlayerSessions,
                       recording: Res<Recording>,
                       time: Res<Time<Virtual>>| {
        for message in messages.read() {
            if let Some(session) = session(message, &sessions) {
                put(&recording, session, &time, kind.clone(), message);
            }
        }
    };
    app.add_message::<M>()
        .add_systems(PostUpdate, record.in_set(RecordingSystems::Record).run_if(resource_exists::<Recording>))
}

fn put(
    recording: &Recording,
    session: SessionId,
    time: &Time<Virtual>,
    kind: Cow<'static, str>,
    payload: &impl Serialize,
) {
    let Some(recorder) = recording.recorder() else { return };
    let t_ms = u64::try_from(time.elapsed().as_millis()).unwrap_or(u64::MAX);
    if recorder.record(session, t_ms, kind, payload) == Outcome::Refused {
        debug_once!("an event was refused");
    }
}

/// The sessions of the players who left in this frame: what they did last is still theirs.
#[derive(Resource, Default, Debug)]
struct Leaving(HashMap<Entity, SessionId>);

#[derive(SystemParam)]
struct PlayerSessions<'w, 's> {
    playing: Query<'w, 's, &'static PlayerSession>,
    leaving: Res<'w, Leaving>,
}

/// More than one session goes on.
struct Several;

impl PlayerSessions<'_, '_> {
    fn of(&self, player: Entity) -> Option<SessionId> {
        let playing = self.playing.get(player).ok().map(|session| session.0);
        playing.or_else(|| self.leaving.0.get(&player).copied())
    }

    fn only(&self) -> Result<Option<SessionId>, Several> {
        let mut all = self.playing.iter().map(|session| session.0).chain(self.leaving.0.values().copied());
        let first = all.next();
        if all.next().is_some() { Err(Several) } else { Ok(first) }
    }
}

fn begin_session(
    insert: On<Insert, RecordedPlayer>,
    players: Query<(&RecordedPlayer, Option<&RecordingConsent>)>,
    recording: Res<Recording>,
    mut commands: Commands,
) {
    let (Some(recorder), Ok((player, consent))) = (recording.recorder(), players.get(insert.entity)) else {
        return;
    };
    if let Some(RecordingConsent(consent)) = consent {
        recorder.set_consent(&player.id, *consent);
    }
    let session = match player.seed {
        Some(seed) => recorder.begin_seeded_session(&player.id, seed),
        None => recorder.begin_session(&player.id),
    };
    commands.entity(insert.entity).try_insert(PlayerSession(session));
}

fn change_consent(
    insert: On<Insert, RecordingConsent>,
    players: Query<(&RecordedPlayer, &RecordingConsent)>,
    recording: Res<Recording>,
) {
    if let (Some(recorder), Ok((player, consent))) = (recording.recorder(), players.get(insert.entity)) {
        recorder.set_consent(&player.id, consent.0);
    }
}

fn note_leaving(
    discard: On<Discard, RecordedPlayer>,
    sessions: Query<&PlayerSession>,
    mut leaving: ResMut<Leaving>,
    recording: Res<Recording>,
) {
    if let Ok(session) = sessions.get(discard.entity)
        && let Some(before) = leaving.0.insert(discard.entity, session.0)
        && let Some(recorder) = recording.recorder()
    {
        recorder.end_session(before);
    }
}

fn forget_session(remove: On<Remove, RecordedPlayer>, mut commands: Commands) {
    commands.entity(remove.entity).try_remove::<PlayerSession>();
}

fn end_sessions(mut leaving: ResMut<Leaving>, recording: Res<Recording>) {
    if leaving.0.is_empty() {
        return;
    }
    for (_, session) in leaving.0.drain() {
        if let Some(recorder) = recording.recorder() {
            recorder.end_session(session);
        }
    }
}

/// What [`report`] has told already.
#[derive(Default)]
struct Told {
    failure: bool,
    lost: u64,
    at: Option<Instant>,
}

/// The one place where recording is logged while the game runs: a failure once, losses every ten seconds.
fn report(recording: Res<Recording>, mut told: Local<Told>) {
    let Some(recorder) = recording.recorder() else { return };
    if !told.failure
        && let Some(error) = recorder.failure()
    {
        told.failure = true;
        error!("recording has stopped: {error}");
    }
    let (dropped, refused) = (recorder.dropped(), recorder.refused());
    let lost = dropped + refused;
    if lost > told.lost && told.at.is_none_or(|at| at.elapsed() > Duration::from_secs(10)) {
        warn!("{dropped} events were dropped (queue full) and {refused} refused since the game began");
        *told = Told { failure: told.failure, lost, at: Some(Instant::now()) };
    }
}

fn close_at_exit(mut exits: MessageReader<AppExit>, recording: Res<Recording>, mut told: Local<Told>) {
    if exits.read().next().is_some()
        && let Some(recorder) = recording.recorder()
        && let Err(error) = recorder.close()
        && !told.failure
    {
        told.failure = true;
        error!("the end of the recording is lost: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Recorded, Store};
    use bevy::time::TimeUpdateStrategy;

    #[derive(Message, Serialize)]
    struct Jumped {
        #[serde(skip)]
        by: Entity,
        height: f32,
    }

    #[derive(Component, Serialize)]
    struct Health(u32);

    fn game(dir: &tempfile::TempDir) -> App {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, RecordingPlugin::new(dir.path().join("play.sqlite"))))
            .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_millis(100)));
        app
    }

    fn exit(app: &mut App) {
        app.world_mut().write_message(AppExit::Success);
        app.update();
    }

    fn store(dir: &tempfile::TempDir) -> Store {
        Store::open_read(dir.path().join("play.sqlite")).unwrap()
    }

    #[test]
    fn eight_players_of_one_app_have_a_session_each() {
        let dir = tempfile::tempdir().unwrap();
        let mut app = game(&dir);
        app.record_by("Jumped", |jumped: &Jumped| Some(jumped.by));
        let bots: Vec<_> = (0..8)
            .map(|i| {
                let bot = RecordedPlayer::new(format!("bot {i}")).with_seed(i);
                app.world_mut().spawn((bot, RecordingConsent::GRANTED)).id()
            })
            .collect();
        for (i, by) in bots.iter().enumerate() {
            for _ in 0..=i {
                app.world_mut().write_message(Jumped { by: *by, height: 1.5 });
            }
        }
        app.update();
        exit(&mut app);
        let store = store(&dir);
        let sessions: Vec<_> = store.sessions().map(Result::unwrap).collect();
        assert_eq!(sessions.iter().map(|s| s.events).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(sessions.iter().map(|s| s.seed.unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(sessions.iter().all(|s| s.ended_ms.is_some()));
        assert_eq!(store.stats().unwrap().players, 8);
        store.verify(None).unwrap();
    }

    #[test]
    fn the_last_deed_of_a_player_who_leaves_is_recorded_and_the_session_ends() {
        let dir = tempfile::tempdir().unwrap();
        let mut app = game(&dir);
        app.record::<Jumped>();
        let player = app.world_mut().spawn((RecordingConsent::GRANTED, RecordedPlayer::new("ada"))).id();
        app.update();
        app.world_mut().write_message(Jumped { by: player, height: 2.0 });
        app.world_mut().entity_mut(player).despawn();
        app.update();
        app.world_mut().resource::<Recording>().recorder().unwrap().flush().unwrap();
        let events: Vec<Recorded> = store(&dir).events(None).map(Result::unwrap).collect();
        assert_eq!((events.len(), &*events[0].kind, events[0].t_ms), (1, "Jumped", 100));
        assert_eq!(events[0].parse::<serde_json::Value>().unwrap()["height"], 2.0);
        assert!(store(&dir).sessions().next().unwrap().unwrap().ended_ms.is_some());
    }

    #[test]
    fn nobody_is_recorded_before_consent_or_after_its_withdrawal() {
        let dir = tempfile::tempdir().unwrap();
        let mut app = game(&dir);
        app.record::<Jumped>();
        let player = app.world_mut().spawn(RecordedPlayer::new("ada")).id();
        let jump = |app: &mut App, height| {
            app.world_mut().write_message(Jumped { by: player, height });
            app.update();
        };
        jump(&mut app, 1.0);
        app.world_mut().entity_mut(player).insert(RecordingConsent::GRANTED);
        jump(&mut app, 2.0);
        app.world().resource::<Recording>().recorder().unwrap().flush().unwrap();
        app.world_mut().entity_mut(player).insert(RecordingConsent::DENIED);
        jump(&mut app, 3.0);
        exit(&mut app);
        let events: Vec<_> = store(&dir).events(None).map(|event| event.unwrap().payload).collect();
        assert_eq!(events.len(), 1);
        assert!(events[0].contains("2.0"), "{events:?}");
    }

    #[test]
    fn a_value_is_sampled_at_its_interval_for_players_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut app = game(&dir);
        app.record_every::<Health>(0.5);
        app.world_mut().spawn((RecordedPlayer::new("ada"), RecordingConsent::GRANTED, Health(7)));
        app.world_mut().spawn(Health(9));
        for _ in 0..12 {
            app.update();
        }
        exit(&mut app);
        let events: Vec<_> = store(&dir).events(Some("Health")).map(Result::unwrap).collect();
        assert_eq!(events.iter().map(|e| e.t_ms).collect::<Vec<_>>(), [100, 600, 1100]);
        assert!(events.iter().all(|e| e.payload == "7"));
    }

    #[test]
    fn a_store_that_cannot_be_opened_does_not_stop_the_game() {
        let mut app = App::new();
        app.add_plugins((MinimalPlugins, RecordingPlugin::new("/no/such/folder/play.sqlite")))
            .record::<Jumped>();
        app.world_mut().spawn((RecordedPlayer::new("ada"), RecordingConsent::GRANTED));
        app.update();
        assert!(
            app.world().resource::<Recording>().failure().unwrap().to_string().contains("/no/such/folder")
        );
    }
}
