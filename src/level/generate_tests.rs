//! What every generated level keeps, with a model that is trained here for a moment: the guarantees are the writer's and
//! the solver's, not the model's.

use super::check::{plain_search, replay};
use super::game::tests::{dungeon, platformer, sokoban};
use super::*;
use crate::job;
use crate::nn::Compute;
use crate::seed::Seed;
use crate::training::{Architecture, Fit, ModelShape, TrainingConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn config(window: (usize, usize)) -> LevelTraining {
    let mut training = TrainingConfig::from_ron(
        "(model: (hidden_size: 16, layers: 1, heads: 2, context: 256), steps: 12, sequence: 160, rows: 2, \
         learning_rate: 0.01, validate_every: 12, checkpoint_every: 100)",
        "t",
    )
    .unwrap();
    if let Some(ModelShape { architecture, .. }) = &mut training.model {
        *architecture = Architecture::Transformer;
    }
    LevelTraining { game: String::new(), training, data: LevelData { window, ..LevelData::default() } }
}

fn model(game: TileGame, texts: &[String], window: (usize, usize)) -> Arc<LevelModel> {
    let levels: Vec<Level> = texts
        .iter()
        .enumerate()
        .flat_map(|(n, text)| levels_from_text(&game, text, &format!("{n}.txt")).unwrap())
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let setup = config(window).setup(game, levels).unwrap();
    job::run(Fit::new(setup, dir.path(), &Compute::cpu(1)).unwrap(), |_| {}).unwrap();
    Arc::new(LevelModel::load(dir.path()).unwrap())
}

fn hills() -> Arc<LevelModel> {
    let mut noise = Seed::new(9).stream();
    let texts: Vec<String> = (0..6)
        .map(|_| {
            let heights: Vec<usize> = (0..40)
                .scan(2usize, |h, _| {
                    *h = (*h + noise.below(3)).saturating_sub(1).clamp(1, 4);
                    Some(if noise.chance(0.1) { 0 } else { *h })
                })
                .collect();
            let cell = |x: usize, y: usize| match heights[x] {
                h if y >= 8 - h => 'X',
                h if h > 0 && y == 7 - h && x % 9 == 4 => 'E',
                _ => '-',
            };
            (0..8).map(|y| (0..40).map(|x| cell(x, y)).collect::<String>() + "\n").collect()
        })
        .collect();
    model(platformer(), &texts, (10, 40))
}

fn write(model: &Arc<LevelModel>, request: LevelRequest) -> crate::Result<GeneratedLevel> {
    job::run(Generate::new(Arc::clone(model), request)?, |_| {})
}

#[test]
fn platformer_levels_are_finished_by_a_plain_search_and_copy_no_more_than_they_may() {
    let model = hills();
    for seed in 0..12 {
        let request = LevelRequest { size: Some((30, 8)), seed: Seed::new(seed), ..LevelRequest::default() };
        let level = write(&model, request.clone()).unwrap();
        assert_eq!((level.grid.width(), level.grid.height()), (30, 8));
        assert!(replay(model.game(), &level.grid, &level.report.solution));
        assert_eq!(plain_search(model.game(), &level.grid, 1 << 22), Some(true));
        let slices = super::slices::slices_of(model.game(), &level.grid, &[]);
        assert!(slices.windows(11).all(|run| !model.copies.contains(&super::slices::hash(run))));
        // The same seed gives the same level.
        assert_eq!(write(&model, request).unwrap().grid, level.grid);
    }
}

#[test]
fn a_gap_is_filled_and_all_else_stays() {
    let model = hills();
    let base = LevelRequest { size: Some((30, 8)), seed: Seed::new(5), ..LevelRequest::default() };
    let level = write(&model, base.clone()).unwrap();
    for seed in 0..6 {
        let open = region(model.game(), &level.grid, 10, 20);
        let request = LevelRequest {
            from: Some(level.grid.clone()),
            open: open.clone(),
            seed: Seed::new(seed),
            ..base.clone()
        };
        let filled = write(&model, request).unwrap();
        assert!(replay(model.game(), &filled.grid, &filled.report.solution));
        let kept = level.grid.cells().filter(|(x, y, _)| !open.contains(&(*x, *y)));
        assert!(kept.into_iter().all(|(x, y, tile)| filled.grid.at(x, y) == tile));
    }
}

#[test]
fn dungeons_and_boxes_keep_their_counts_and_are_finished() {
    let rooms: Vec<String> = (0..6)
        .map(|n| {
            format!("########\n#@.k#..#\n#...D..#\n#..{}#.>#\n########\n", if n % 2 == 0 { '.' } else { '^' })
        })
        .chain(
            (0..3)
                .map(|n| format!("########\n#.{}@#..#\n#k..D..#\n#...#>.#\n########\n", ['.', '#', '^'][n])),
        )
        .collect();
    let model = self::model(dungeon(), &rooms, (5, 5));
    for seed in 0..8 {
        let level = write(&model, LevelRequest { seed: Seed::new(seed), ..LevelRequest::default() }).unwrap();
        assert_eq!(plain_search(model.game(), &level.grid, 1 << 20), Some(true));
        assert!(counts(model.game(), &level.grid).is_ok());
    }
    let boxes: Vec<String> = (1..5)
        .flat_map(|x| (1..4).map(move |y| (x, y)))
        .map(|(x, y)| {
            let cell = |cx: usize, cy: usize| match (cx, cy) {
                _ if cx == 0 || cy == 0 || cx == 6 || cy == 5 => '#',
                (1, 4) => '@',
                (3, 3) => '.',
                _ if (cx, cy) == (x, y) && (x, y) != (3, 3) => '$',
                _ => ' ',
            };
            (0..6).map(|cy| (0..7).map(|cx| cell(cx, cy)).collect::<String>() + "\n").collect::<String>()
        })
        .filter(|text| text.contains('$'))
        .collect();
    // Few boxes, so that a plain search can look at every moment.
    let few = |tiles: &str| Count { tiles: tiles.into(), at_least: 1, at_most: 2 };
    let mut game = sokoban();
    game.counts.extend([few("$*"), few(".*+")]);
    let model = self::model(game, &boxes, (6, 7));
    for seed in 0..8 {
        let request = LevelRequest { size: Some((7, 6)), seed: Seed::new(seed), ..LevelRequest::default() };
        let level = write(&model, request).unwrap();
        assert_eq!(plain_search(model.game(), &level.grid, 1 << 20), Some(true));
        assert!(replay(model.game(), &level.grid, &level.report.solution));
    }
}

#[test]
fn what_cannot_be_served_is_one_clear_error() {
    let model = hills();
    let error = |request: LevelRequest| write(&model, request).unwrap_err().to_string();
    let base = LevelRequest { size: Some((20, 8)), ..LevelRequest::default() };
    let asked = |name: &str, value: f64| BTreeMap::from([(name.to_owned(), value)]);
    assert!(error(LevelRequest { size: Some((4096, 4096)), ..base.clone() }).contains("8 rows"));
    assert!(error(LevelRequest { size: Some((0, 8)), ..base.clone() }).contains("0 x 8"));
    assert!(error(LevelRequest { controls: asked("enemies", 7.0), ..base.clone() }).contains("out of range"));
    assert!(
        error(LevelRequest { controls: asked("mood", 0.1), ..base.clone() })
            .contains("choose one of: enemies")
    );
    assert!(error(LevelRequest { theme: Some("cave".into()), ..base.clone() }).contains("theme"));
    // A wall from top to bottom that must stay cannot be passed.
    let text: String = (0..8)
        .map(|y| (0..20).map(|x| if x == 10 || y == 7 { 'X' } else { '-' }).collect::<String>() + "\n")
        .collect();
    let grid = grid_from_text(model.game(), &text, "t").unwrap();
    let open: BTreeSet<(usize, usize)> = region(model.game(), &grid, 3, 5);
    let walled = error(LevelRequest { from: Some(grid), open, ..base });
    assert!(walled.contains(FINISHABLE), "{walled}");
    // One by one is a level too, if it can be finished at all: it cannot, for nobody stands in it.
    assert!(!error(LevelRequest { size: Some((1, 1)), ..LevelRequest::default() }).is_empty());
}

#[test]
fn symmetric_levels_are_their_own_image_but_for_what_there_may_only_be_one_of() {
    let model = hills();
    for seed in 0..4 {
        let request = LevelRequest {
            size: Some((21, 8)),
            symmetric: true,
            seed: Seed::new(seed),
            ..LevelRequest::default()
        };
        let level = write(&model, request).unwrap();
        assert_eq!(level.grid, level.grid.mirrored());
        assert!(replay(model.game(), &level.grid, &level.report.solution));
    }
    let from = Some(Grid::new(30, 8, 0).unwrap());
    let request = LevelRequest { from, symmetric: true, ..LevelRequest::default() };
    assert!(write(&model, request).unwrap_err().to_string().contains("--symmetric"));
}

#[test]
fn a_style_turns_the_knobs_that_the_game_names() {
    let mut game = platformer();
    let knob = game.knobs[0].name.clone();
    game.tastes = vec![Taste { axis: "fighter".into(), knob: knob.clone(), weight: 1.0 }];
    let texts = ["------\n--E-E-\nXXXXXX\n", "------\n------\nXXXXXX\n", "------\nE-E-E-\nXXXXXX\n"];
    let model = model(game, &texts.map(str::to_owned), (4, 6));
    let asked = |value: f64| {
        let mut controls = BTreeMap::new();
        model.turn_knobs(&BTreeMap::from([("fighter".to_owned(), value)]), &mut controls).map(|()| controls)
    };
    let range = model.ranges().iter().find(|range| range.name == knob).unwrap();
    let (low, high) = range.ends();
    assert_eq!(asked(1.0).unwrap(), BTreeMap::from([(knob.clone(), high)]));
    assert_eq!(asked(0.0).unwrap(), BTreeMap::from([(knob, low)]));
    assert!(asked(1.5).unwrap_err().to_string().contains("0 to 1"));
    let unknown = BTreeMap::from([("poet".to_owned(), 0.5)]);
    let request = LevelRequest { style: unknown, ..LevelRequest::default() };
    assert!(write(&model, request).unwrap_err().to_string().contains("no taste for `poet`"));
}

#[test]
fn an_endless_level_goes_on_and_what_left_can_be_walked() {
    let model = hills();
    let request = LevelRequest { size: Some((30, 8)), seed: Seed::new(3), ..LevelRequest::default() };
    let mut endless = Endless::new(Arc::clone(&model), &request).unwrap();
    let mut columns: Vec<Vec<u8>> = Vec::new();
    for _ in 0..60 {
        let more = endless.columns(4).unwrap();
        assert_eq!(more.len(), 4);
        columns.extend(more);
    }
    // A way leads through all of it: to its last column, on the ground or in the air.
    let mut reach = super::reach::Reach::new(model.game(), 8).unwrap();
    let bits = model.game().bits();
    for column in &columns {
        reach.push(&column.iter().map(|tile| bits[usize::from(*tile)]).collect::<Vec<_>>());
        assert!(reach.alive());
    }
    let again = Endless::new(Arc::clone(&model), &request).unwrap().columns(24).unwrap();
    assert_eq!(again, columns[..24]);
    let rows = LevelRequest { size: Some((30, 9)), ..request };
    assert!(Endless::new(model, &rows).err().unwrap().to_string().contains("9 rows"));
}
