//! Any text is levels (of text, Tiled, LDtk, RON), a game, arcs, or one clear error. The first byte chooses.

#![no_main]

use bevy_skald::level::{LevelFormat, TileGame, game_from_json, jumps_from_json, levels_from};
use libfuzzer_sys::fuzz_target;

const GAME: &str = include_str!("../../assets/games/dungeon.game.ron");

fuzz_target!(|bytes: &[u8]| {
    let Some((which, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(game) = TileGame::from_ron(GAME, "dungeon.game.ron") else { return };
    let file = ["a.txt", "a.tmx", "a.tmj", "a.ldtk", "a.level.ron"][usize::from(which % 5)];
    if let Ok(levels) = levels_from(&game, text, file) {
        for level in levels {
            let written = LevelFormat::of(file).write(&game, &level.grid);
            let again = levels_from(&game, &written, file).expect("what was written is read");
            assert_eq!(again[0].grid, level.grid);
        }
    }
    let _ = TileGame::from_ron(text, "f");
    let _ = jumps_from_json(text, "f");
    let _ = game_from_json("n", (text, "f"), None);
});
