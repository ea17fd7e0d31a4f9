//! What `TheVGLC` (Summerville et al. 2016, "The VGLC: The Video Game Level Corpus") says of a game: `tiles.json` and
//! `jumps.json`.

use super::arcs::Arc;
use super::game::{Affordance, Goal, Movement, Scan, Start, Symmetries, Tile, TileGame};
use super::knob::{Knob, Measure};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Tiles {
    tiles: BTreeMap<char, Vec<String>>,
}

#[derive(Deserialize)]
struct Jumps {
    jumps: Vec<Vec<[i32; 2]>>,
}

fn syntax(file: &str, error: &serde_json::Error, remedy: &str) -> Error {
    Error::Syntax {
        file: file.to_owned(),
        line: error.line(),
        column: error.column(),
        reason: error.to_string(),
        remedy: remedy.to_owned(),
    }
}

/// The arcs of a `jumps.json`. `file` is for messages.
///
/// # Errors
/// [`Error::Syntax`] with line and column, or [`Error::Config`] when an arc makes no jump.
pub fn jumps_from_json(text: &str, file: &str) -> Result<Vec<Arc>> {
    let read: Jumps = serde_json::from_str(text).map_err(|e| syntax(file, &e, "give VGLC's jumps.json"))?;
    let arcs: Vec<Arc> =
        read.jumps.into_iter().map(|arc| arc.into_iter().map(|[x, y]| (x, y)).collect()).collect();
    super::arcs::check(&arcs, file)?;
    Ok(arcs)
}

/// A game from a `tiles.json` and, for a platformer, a `jumps.json`. Where levels mark no start or goal they go from the
/// leftmost ground to the rightmost. It is a first draft: look it over.
pub fn game_from_json(name: &str, tiles: (&str, &str), jumps: Option<(&str, &str)>) -> Result<TileGame> {
    let (text, file) = tiles;
    let read: Tiles = serde_json::from_str(text).map_err(|e| syntax(file, &e, "give VGLC's tiles.json"))?;
    let jumps = jumps.map(|(text, file)| jumps_from_json(text, file)).transpose()?;
    let mut tiles: Vec<Tile> = read.tiles.iter().map(|(char, tags)| tile(*char, tags)).collect();
    // An empty cell is the emptiest tile.
    tiles.sort_by_key(|tile| !tile.affordances.is_empty());
    let has = |what: &Affordance| tiles.iter().any(|tile| tile.affordances.contains(what));
    let (start, goal) = match (has(&Affordance::Start), has(&Affordance::Goal), &jumps) {
        (true, true, _) => (Start::Marked, Goal::Marked),
        (true, false, _) if has(&Affordance::Required) => (Start::Marked, Goal::AllRequired),
        (_, _, Some(_)) => (Start::LeftmostGround, Goal::RightmostGround),
        _ if has(&Affordance::Exit) => (Start::FirstExit, Goal::AllExits),
        _ => (Start::LeftmostGround, Goal::RightmostGround),
    };
    let knob = |name: &str, measure| Knob { name: name.into(), measure, per_slice: false };
    let mut knobs = vec![knob("length", Measure::PathLength), knob("linearity", Measure::Linearity)];
    for (name, wanted) in [("enemies", Affordance::Enemy), ("collectibles", Affordance::Collectible)] {
        let chars: String =
            tiles.iter().filter(|t| t.affordances.contains(&wanted)).map(|t| t.char).collect();
        if !chars.is_empty() {
            knobs.push(knob(name, Measure::Share(chars)));
        }
    }
    let platformer = jumps.is_some();
    let movement = match jumps {
        Some(jumps) => Movement::Platformer {
            jumps,
            jumps_file: None,
            easy_jumps: Vec::new(),
            air_control: true,
            wraps: false,
        },
        None => Movement::TopDown { keys_are_used_up: false },
    };
    let game = TileGame {
        name: name.to_owned(),
        tiles,
        movement,
        scan: if platformer { Scan::Columns } else { Scan::Rows },
        start,
        goal,
        counts: Vec::new(),
        knobs,
        tastes: Vec::new(),
        room: None,
        symmetries: Symmetries::None,
        path_aware: true,
        longest_copy: platformer.then_some(10),
    };
    game.validate(file)?;
    Ok(game)
}

fn tile(char: char, tags: &[String]) -> Tile {
    let has = |tag: &str| tags.iter().any(|t| t == tag);
    let any =
        |words: &[&str]| tags.iter().any(|t| words.iter().any(|word| t.split(' ').any(|part| part == *word)));
    let mut affordances = Vec::new();
    let mut add = |yes: bool, affordance: Affordance| {
        if yes && !affordances.contains(&affordance) {
            affordances.push(affordance);
        }
    };
    let solid = has("solid") || has("impassable") || has("block") || has("wall");
    add(solid && !any(&["diggable"]), Affordance::Solid);
    add(any(&["diggable"]), Affordance::Diggable);
    add(any(&["climbable", "ladder"]), Affordance::Ladder);
    add(any(&["rope"]), Affordance::Rope);
    add(any(&["enemy", "monster", "spawner"]) && !solid, Affordance::Enemy);
    add(
        any(&["hazard", "damaging", "dangerous"]) && !solid && !any(&["enemy", "monster"]),
        Affordance::Hazard,
    );
    add(any(&["coin", "collectable", "collectible", "pickupable"]), Affordance::Collectible);
    add(any(&["gold"]), Affordance::Required);
    add(any(&["spawn", "start", "player"]), Affordance::Start);
    add(any(&["goal", "exit", "end"]), Affordance::Goal);
    add(any(&["door", "stair"]) && !solid, Affordance::Exit);
    add(any(&["moving"]) && any(&["platform"]), Affordance::OneWay);
    Tile { char, name: tags.join(", "), affordances, colour: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tiles_and_jumps_become_a_game_that_keeps_its_meaning() {
        let tiles = r#"{"tiles": {"X": ["solid","ground"], "-": ["passable","empty"], "E": ["enemy","damaging","hazard","moving"],
            "o": ["coin","collectable","passable"], "B": ["Cannon top","cannon","solid","hazard"]}}"#;
        let jumps = r#"{"jumps": [[[0,-1],[1,-1],[2,0]]]}"#;
        let game = game_from_json("m", (tiles, "tiles.json"), Some((jumps, "jumps.json"))).unwrap();
        let of = |c| game.tiles[usize::from(game.tile(c).unwrap())].affordances.clone();
        assert_eq!(game.char_of(game.empty().unwrap()), '-');
        assert_eq!((of('X'), of('E')), (vec![Affordance::Solid], vec![Affordance::Enemy]));
        assert_eq!((of('o'), of('B')), (vec![Affordance::Collectible], vec![Affordance::Solid]));
        assert!(matches!(&game.movement, Movement::Platformer { jumps, .. } if jumps.len() == 1));
        assert!(
            game_from_json("m", ("{\"tiles\":\n[]}", "tiles.json"), None)
                .unwrap_err()
                .to_string()
                .contains("tiles.json:2")
        );
        assert!(jumps_from_json("{\"jumps\": [[]]}", "j.json").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_arcs_or_one_error(text in ".{0,80}") {
            let _ = jumps_from_json(&text, "f");
            let _ = game_from_json("n", (&text, "f"), None);
        }
    }
}
