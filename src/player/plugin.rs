//! Player models in a Bevy app: put a [`PlayerModel`] on a player's entity and trigger [`PlayerDid`]; the entity's
//! [`PlayerProfile`] is kept up to date event by event, in the frame (a step of a small model takes microseconds).

use super::{Happened, PlayerModel, PlayerProfile, PlayerState};
use bevy::prelude::*;

/// A player did something. Triggered by the game.
#[derive(EntityEvent, Clone, Debug)]
pub struct PlayerDid {
    /// The player, who has a [`PlayerModel`].
    #[event_target]
    pub player: Entity,
    /// What happened.
    pub kind: String,
    /// What it was about.
    pub subject: Option<String>,
    /// How it went, where that is a number.
    pub value: Option<f32>,
    /// How it went, where that is a word.
    pub word: Option<String>,
}

impl PlayerDid {
    /// `player` did this to that.
    pub fn new(player: Entity, kind: impl Into<String>, subject: impl Into<String>) -> Self {
        Self { player, kind: kind.into(), subject: Some(subject.into()), value: None, word: None }
    }
}

/// A profile has taken in an event. Nobody must handle it.
#[derive(EntityEvent, Message, Clone, Debug)]
pub struct ProfileUpdated {
    /// The player.
    #[event_target]
    pub player: Entity,
}

/// Profiles of players. Part of [`crate::SkaldPlugins`].
#[derive(Clone, Copy, Debug, Default)]
pub struct PlayerPlugin;

impl Plugin for PlayerPlugin {
    fn build(&self, app: &mut App) {
        app.add_message::<ProfileUpdated>().add_observer(begin).add_observer(take_in);
    }
}

/// A player got a model, or another one: nothing of them is read yet.
fn begin(added: On<Insert, PlayerModel>, models: Query<&PlayerModel>, mut commands: Commands) {
    let Ok(model) = models.get(added.entity) else { return };
    match model.begin() {
        Ok(state) => {
            commands.entity(added.entity).insert((state, PlayerProfile::default()));
        }
        Err(error) => warn!("a player model cannot be used: {error}"),
    }
}

type Player = (&'static PlayerModel, &'static mut PlayerState, &'static mut PlayerProfile);

fn take_in(did: On<PlayerDid>, mut players: Query<Player>, time: Res<Time>, mut commands: Commands) {
    let Ok((model, mut state, mut profile)) = players.get_mut(did.player) else {
        warn!("PlayerDid was sent to {}, which has no PlayerModel; insert one", did.player);
        return;
    };
    let at_ms = i64::try_from(time.elapsed().as_millis()).unwrap_or(i64::MAX);
    let happened = Happened {
        kind: &did.kind,
        subject: did.subject.as_deref(),
        value: did.value,
        word: did.word.as_deref(),
        at_ms,
    };
    if let Err(error) = profile.update(model, &mut state, &happened) {
        warn!("an event could not be taken in: {error}");
        return;
    }
    let updated = ProfileUpdated { player: did.player };
    commands.trigger(updated.clone());
    commands.write_message(updated);
}
