//! `skald train`.

/// Its options.
#[derive(clap::Args)]
pub struct TrainArgs {}

pub fn run(_args: &TrainArgs, _common: &crate::Common) -> bevy_skald::Result<()> {
    Ok(())
}
