//! `skald evaluate quest`: whether generated quests can be finished, and whether choosing them for players pays.

use super::{Evaluated, ReportArgs};
use crate::Common;
use bevy_skald::Result;
use bevy_skald::evaluation::Gated;
use bevy_skald::files::read_text;
use bevy_skald::player::PlayerModel;
use bevy_skald::quest::{Learning, QuestTrial, QuestWorld, Simulation, evaluate_quests, simulate};
use clap::Args;
use std::path::PathBuf;

/// Its options.
#[derive(Args)]
pub struct QuestArgs {
    /// Quests.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    count: usize,
    /// Random worlds they are made in.
    #[arg(long, value_name = "N", default_value_t = 200)]
    worlds: usize,
    /// Changes of each world before a quest is taken.
    #[arg(long, value_name = "N", default_value_t = 100)]
    changes: usize,
    /// A world to make them in, instead of random ones.
    #[arg(long, value_name = "F.ron")]
    world: Option<PathBuf>,
    /// Offers quests to simulated players with hidden tastes instead.
    #[arg(long)]
    simulate: bool,
    /// Simulated players.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    players: usize,
    /// Sessions of each.
    #[arg(long, value_name = "N", default_value_t = 20)]
    sessions: usize,
    /// Writes what the simulated players finish and drop into a new store, to train a player model on.
    #[arg(long, value_name = "STORE", requires = "simulate")]
    record: Option<PathBuf>,
    /// A player model of recorded quests; beside the chooser without one stands the chooser that asks it.
    #[arg(long, value_name = "DIR", requires = "simulate")]
    model: Option<PathBuf>,
    #[command(flatten)]
    pub report: ReportArgs,
}

const GATE: &[Gated] =
    &[("valid", true), ("finishable", true), ("completion", true), ("completion_with_model", true)];

pub fn evaluate(args: &QuestArgs, common: &Common) -> Result<Evaluated> {
    let (report, units) = if args.simulate {
        let simulation =
            Simulation { players: args.players, sessions: args.sessions, ..Simulation::default() };
        let model = args.model.as_deref().map(PlayerModel::load).transpose()?;
        let learning = Learning { model: model.as_ref(), record: args.record.as_deref() };
        (simulate(simulation, &learning, common.seed())?, "simulated players")
    } else {
        let world = match &args.world {
            None => None,
            Some(path) => {
                let text = read_text(path, 1 << 26, "read the world")?;
                Some(QuestWorld::from_ron(&text, &path.display().to_string())?)
            }
        };
        let trial = QuestTrial { worlds: args.worlds, quests: args.count, changes: args.changes };
        (evaluate_quests(trial, world.as_ref(), common.seed())?, "quests")
    };
    Ok(Evaluated {
        report,
        title: "Quests",
        units,
        source: "generated quests".into(),
        gated: GATE,
        reliability: None,
        samples: Vec::new(),
        pictures: String::new(),
    })
}
