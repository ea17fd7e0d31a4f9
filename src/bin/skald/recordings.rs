//! `skald recordings`.

/// Its options.
#[derive(clap::Args)]
pub struct RecordingsArgs {}

pub fn run(_args: &RecordingsArgs, _common: &crate::Common) -> bevy_skald::Result<()> {
    Ok(())
}
