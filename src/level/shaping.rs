//! Steering a level that can be finished to what was asked: by going a part of its solution, and by small changes that
//! keep it finishable.

use super::ends::Cell;
use super::game::{Movement, TileGame, bit};
use super::generate::{LevelRequest, measured, off};
use super::grid::Grid;
use super::knob::Measure;
use super::model::LevelModel;
use super::solve::{Limits, Solution, Verdict, solve};
use crate::seed::{Seed, Stream};
use std::collections::BTreeSet;

/// Changes that are tried for a level.
const TRIALS: usize = 48;

/// A level near to what was asked, with its solution.
pub(super) fn steer(
    model: &LevelModel,
    game: &TileGame,
    grid: Grid,
    solution: Solution,
    request: &LevelRequest,
    locked: &BTreeSet<Cell>,
    seed: Seed,
) -> (Grid, Solution) {
    if request.controls.is_empty() {
        return (grid, solution);
    }
    let mut noise = seed.derive("steer").stream();
    let distance = |grid: &Grid, solution: &Solution| {
        off(model, &request.controls, &measured(&model.game, grid, solution))
    };
    let mut best = (distance(&grid, &solution), grid, solution);
    let quick = Limits { nodes: request.limits.nodes.min(8000) };
    let mut trials = 0;
    while best.0 > 0.5 && trials < TRIALS {
        trials += 1;
        if model.game.movement == Movement::Push
            && locked.is_empty()
            && let Some((grid, solution)) = part_way(model, &best.1, &best.2, &request.controls)
        {
            let far = distance(&grid, &solution);
            if far < best.0 {
                best = (far, grid, solution);
                continue;
            }
        }
        let Some(changed) = change(model, &best.1, &best.2, request, locked, &mut noise) else { continue };
        if let Verdict::Solved(solution) = solve(game, &changed, quick).verdict {
            let mut candidate = (changed, solution);
            if model.game.movement == Movement::Push
                && let Some(shorter) = part_way(model, &candidate.0, &candidate.1, &request.controls)
                && distance(&shorter.0, &shorter.1) < distance(&candidate.0, &candidate.1)
            {
                candidate = shorter;
            }
            let far = distance(&candidate.0, &candidate.1);
            if far < best.0 {
                best = (far, candidate.0, candidate.1);
            }
        }
    }
    (best.1, best.2)
}

/// A level of boxes as it stands after a part of its solution, where what is left is nearest to the length asked. What is
/// left of a shortest solution is a shortest solution.
fn part_way(
    model: &LevelModel,
    grid: &Grid,
    solution: &Solution,
    asked: &std::collections::BTreeMap<String, f64>,
) -> Option<(Grid, Solution)> {
    let Solution::Moves(moves) = solution else { return None };
    let pushes = |moves: &str| moves.bytes().filter(u8::is_ascii_uppercase).count();
    let mut wanted: Option<(bool, f64)> = None;
    for knob in &model.game.knobs {
        if let Some(value) = asked.get(&knob.name)
            && !knob.per_slice
        {
            match knob.measure {
                Measure::PathLength => wanted = Some((false, *value)),
                Measure::Pushes if wanted.is_none() => wanted = Some((true, *value)),
                _ => {}
            }
        }
    }
    let (by_push, value) = wanted?;
    let left = |from: usize| if by_push { pushes(&moves[from..]) } else { moves.len() - from } as f64;
    if left(0) <= value {
        return None;
    }
    let game = &model.game;
    let bits = game.bits();
    let tile_of = |wanted: u16| bits.iter().position(|b| *b == wanted).map(|i| i as u8);
    // The tiles of every mixture that this game has.
    let mix = |boxed: bool, player: bool, target: bool| -> Option<u8> {
        let mut wanted = 0;
        for (yes, bit) in [(boxed, bit::BOX), (player, bit::START), (target, bit::TARGET)] {
            wanted |= if yes { bit } else { 0 };
        }
        tile_of(wanted)
    };
    let cells = solution.cells(game, grid);
    let is = |cell: Cell, what: u16| bits[usize::from(grid.at(cell.0, cell.1))] & what != 0;
    let mut boxes: BTreeSet<Cell> =
        grid.cells().map(|(x, y, _)| (x, y)).filter(|cell| is(*cell, bit::BOX)).collect();
    let mut best: Option<(f64, usize, BTreeSet<Cell>)> = None;
    for (step, name) in moves.bytes().enumerate() {
        let (from, to) = (cells[step], cells[step + 1]);
        if name.is_ascii_uppercase() {
            boxes.remove(&to);
            boxes.insert((2 * to.0 - from.0, 2 * to.1 - from.1));
        }
        let standing = mix(false, true, is(to, bit::TARGET)).is_some();
        let shown = boxes.iter().all(|cell| mix(true, false, is(*cell, bit::TARGET)).is_some());
        let far = (left(step + 1) - value).abs();
        if standing && shown && step + 1 < moves.len() && best.as_ref().is_none_or(|best| far < best.0) {
            best = Some((far, step + 1, boxes.clone()));
        }
    }
    let (_, at, boxes) = best?;
    let mut there = grid.clone();
    for (x, y, tile) in grid.cells() {
        if bits[usize::from(tile)] & (bit::BOX | bit::START) != 0 {
            there.set(x, y, mix(false, false, bits[usize::from(tile)] & bit::TARGET != 0)?);
        }
    }
    for cell in boxes {
        there.set(cell.0, cell.1, mix(true, false, is(cell, bit::TARGET))?);
    }
    let player = cells[at];
    there.set(player.0, player.1, mix(false, true, is(player, bit::TARGET))?);
    Some((there, Solution::Moves(moves[at..].to_owned())))
}

/// A small change that may bring a level nearer to what was asked.
fn change(
    model: &LevelModel,
    grid: &Grid,
    solution: &Solution,
    request: &LevelRequest,
    locked: &BTreeSet<Cell>,
    noise: &mut Stream,
) -> Option<Grid> {
    let game = &model.game;
    let empty = game.empty()?;
    let got = measured(game, grid, solution);
    let wrong: Vec<&super::Knob> = game
        .knobs
        .iter()
        .filter(|knob| {
            let range = model.ranges.iter().find(|range| range.name == knob.name);
            let tolerance = range.map_or(1.0, |range| range.tolerance().max(1e-9));
            let pair = request.controls.get(&knob.name).zip(got.get(&knob.name));
            pair.is_some_and(|(asked, got)| (asked - got).abs() > 0.4 * tolerance)
        })
        .collect();
    let knob = *noise.pick(&wrong)?;
    let (asked, got) = (request.controls[&knob.name], got[&knob.name]);
    let mut changed = grid.clone();
    let path: BTreeSet<Cell> = solution.cells(game, grid).into_iter().collect();
    let free: Vec<(usize, usize, u8)> =
        grid.cells().filter(|(x, y, _)| !locked.contains(&(*x, *y))).collect();
    if let Some(tiles) = knob.tiles(game) {
        let bits = game.bits();
        if asked > got {
            // A tile goes where its like stands in other levels: beside itself, or on what it stands on.
            let tile = *noise.pick(&tiles)?;
            let solid = bits[usize::from(tile)] & bit::SOLID != 0;
            let fits = |(x, y, now): &&(usize, usize, u8)| {
                let below = grid.get(*x as i32, *y as i32 + 1).map(|t| bits[usize::from(t)]);
                let stands = below.is_some_and(|b| b & bit::SOLID != 0);
                let beside = [(-1, 0), (1, 0)]
                    .iter()
                    .any(|(dx, dy)| grid.get(*x as i32 + dx, *y as i32 + dy) == Some(tile));
                let good = match game.movement {
                    Movement::Platformer { .. } => {
                        if solid {
                            beside
                        } else {
                            stands
                        }
                    }
                    _ => true,
                };
                *now == empty && !path.contains(&(*x, *y)) && good
            };
            let room: Vec<&(usize, usize, u8)> = free.iter().filter(fits).collect();
            let (x, y, _) = **noise.pick(&room)?;
            changed.set(x, y, tile);
        } else {
            let there: Vec<&(usize, usize, u8)> =
                free.iter().filter(|(.., tile)| tiles.contains(tile)).collect();
            let (x, y, _) = **noise.pick(&there)?;
            changed.set(x, y, empty);
        }
        return Some(changed);
    }
    // Lengths and the like: a movable thing goes elsewhere, or a wall comes or goes.
    let bits = game.bits();
    let movable = bit::BOX | bit::START | bit::TARGET | bit::GOAL | bit::KEY;
    let things: Vec<&(usize, usize, u8)> =
        free.iter().filter(|(.., tile)| bits[usize::from(*tile)] & movable != 0).collect();
    let floor: Vec<&(usize, usize, u8)> = free.iter().filter(|(.., tile)| *tile == empty).collect();
    let walls: Vec<&(usize, usize, u8)> = free
        .iter()
        .filter(|(x, y, tile)| {
            let inside = *x > 0 && *y > 0 && *x + 1 < grid.width() && *y + 1 < grid.height();
            inside && bits[usize::from(*tile)] == bit::SOLID
        })
        .collect();
    match noise.below(4) {
        0 if !walls.is_empty() => {
            let (x, y, _) = **noise.pick(&walls)?;
            changed.set(x, y, empty);
        }
        1 if !walls.is_empty() && !floor.is_empty() => {
            let (x, y, _) = **noise.pick(&floor)?;
            changed.set(x, y, walls[0].2);
        }
        _ => {
            let (x, y, tile) = **noise.pick(&things)?;
            let (nx, ny, _) = **noise.pick(&floor)?;
            changed.set(x, y, empty);
            changed.set(nx, ny, tile);
        }
    }
    Some(changed)
}
