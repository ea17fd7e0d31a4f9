//! How good generated quests are: over many random worlds, checked by the second opinion, before and after the world has
//! changed.

use super::change::{disturb, random_world};
use super::check::{finishable, strangers};
use super::generate::{Generator, Request};
use super::graph::Quest;
use super::plan::Planner;
use super::review::{Standing, review};
use super::reward::RewardTable;
use super::words::{LinePart, Wording};
use super::world::QuestWorld;
use crate::error::{Error, Result};
use crate::evaluation::{Measured, Report, distinct};
use crate::seed::{Seed, Stream};
use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuestTrial {
    /// Worlds.
    pub worlds: usize,
    /// Quests, over all of them.
    pub quests: usize,
    /// Changes of each world before a quest is taken.
    pub changes: usize,
}

impl Default for QuestTrial {
    fn default() -> Self {
        Self { worlds: 200, quests: 10_000, changes: 100 }
    }
}

/// Generates quests over random worlds (or in `world`, if there is one) and measures `valid` (reads back, names only what
/// exists, pays, and can be finished, says the second opinion), `finishable` (after the world has changed: can be finished,
/// or is withdrawn), how many are withdrawn or adapted, `distinct_2` of the wording with that of the written lines beside, and
/// `plans_per_s`.
pub fn evaluate_quests(trial: QuestTrial, world: Option<&QuestWorld>, seed: Seed) -> Result<Report> {
    let (rewards, wording) = (RewardTable::default(), Wording::new()?);
    let mut columns: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut texts: Vec<String> = Vec::new();
    let mut written: Vec<Quest> = Vec::new();
    let (mut plans, mut seconds) = (0usize, 0.0);
    let mut at = 0;
    let each = trial.quests.div_ceil(trial.worlds.max(1));
    let mut barren = 0;
    while texts.len() < trial.quests && barren < 4 * trial.worlds.max(1) {
        let own = seed.derive("worlds").derive_index(at);
        at += 1;
        let world = world.cloned().unwrap_or_else(|| random_world(own));
        let planner = Planner::new(&world);
        let mut dice = own.derive("quests").stream();
        let mut past = HashSet::new();
        let givers: Vec<&str> =
            world.people.iter().filter(|person| person.place.is_some()).map(|p| p.name.as_str()).collect();
        let mut made: Vec<Quest> = Vec::new();
        for _ in 0..3 * each {
            if made.len() >= each || texts.len() + made.len() >= trial.quests {
                break;
            }
            let Some(giver) = dice.pick(&givers) else { break };
            let Some(generator) = Generator::new(&world, giver, &planner, &rewards, &wording) else {
                continue;
            };
            let request = Request { past: Some(&past), ..Request::default() };
            let found = generator.propose(&request, &mut dice);
            if let Some((quest, _)) = found {
                past.insert(quest.signature());
                made.push(quest);
            }
        }
        barren += usize::from(made.is_empty());
        let mut changed = world.clone();
        let mut mischief = own.derive("changes").stream();
        (0..trial.changes).for_each(|_| disturb(&mut changed, &mut mischief));
        for quest in &made {
            let whole = ron::to_string(quest).ok().and_then(|text| ron::from_str::<Quest>(&text).ok());
            let valid = whole.as_ref() == Some(quest)
                && strangers(&world, quest).is_empty()
                && quest.reward >= rewards.least
                && !quest.text.contains(['{', '}'])
                && finishable(&world, quest, &[]);
            let mut note = |name: &str, value: bool| {
                columns.entry(name.to_owned()).or_default().push(f64::from(u8::from(value)));
            };
            note("valid", valid);
            let standing = review(quest, 0, &changed);
            note("withdrawn", matches!(standing, Standing::Withdrawn(_)));
            note("adapted", matches!(standing, Standing::Adapted { .. }));
            note(
                "finishable",
                match standing {
                    Standing::Stands(_) => finishable(&changed, quest, &[]),
                    Standing::Adapted { done, quest, .. } => {
                        let done: Vec<usize> =
                            (0..quest.steps.len()).filter(|n| done & (1 << n) != 0).collect();
                        finishable(&changed, &quest, &done)
                    }
                    Standing::Withdrawn(_) => true,
                },
            );
            // Withdrawn for nothing is a fault too: as it stood, the second opinion could have finished it.
            note(
                "withdrawn_needlessly",
                matches!(review(quest, 0, &changed), Standing::Withdrawn(_))
                    && finishable(&changed, quest, &[]),
            );
        }
        let begun = Instant::now();
        for quest in &made {
            plans += usize::from(std::hint::black_box(Planner::new(&world).plan(quest, 0)).is_ok());
        }
        seconds += begun.elapsed().as_secs_f64();
        texts.extend(made.iter().map(|quest| quest.text.clone()));
        written.extend(made);
    }
    if texts.is_empty() {
        return Err(Error::Unsatisfiable {
            rule: "somebody can ask for something".into(),
            remedy: "put people, and things that can be reached, into the world".into(),
        });
    }
    let mut report = Report {
        protocol: format!(
            "{} generated quests over {} worlds, each as it is and after {} changes; checked by a program that shares nothing \
             with the planner; distinct-2 of a hundred texts, the mean of 40 draws",
            texts.len(),
            at,
            trial.changes
        ),
        data_hash: blake3::hash(format!("{trial:?} {seed:?}").as_bytes()).to_hex().to_string(),
        n: texts.len(),
        ..Report::default()
    };
    report.take(Measured::means(&columns, seed.derive("means")));
    report.set("plans_per_s", (seconds > 0.0).then(|| plans as f64 / seconds));
    // At equal counts: the mean over draws of a hundred of ours, and of a hundred written offers, whose slots are a word each.
    let offers = wording.lines().iter().filter(|line| line.part == LinePart::Offer);
    let lines: Vec<String> = offers.map(|line| line.says.replace(['{', '}'], "")).collect();
    let mut dice = seed.derive("texts").stream();
    report.set("distinct_2", drawn_distinct(&texts, &mut dice));
    if let Some(figure) = drawn_distinct(&lines, &mut dice) {
        report.baselines.insert("written offers".into(), [("distinct_2".to_owned(), figure)].into());
    }
    Ok(report)
}

/// distinct-2 of a hundred of these lines, the mean over 40 draws; nothing for fewer lines.
fn drawn_distinct(lines: &[String], dice: &mut Stream) -> Option<f64> {
    const COUNT: usize = 100;
    const DRAWS: usize = 40;
    let mut order: Vec<usize> = (0..lines.len()).collect();
    let mut sum = 0.0;
    for _ in 0..DRAWS {
        dice.shuffle(&mut order);
        let drawn: Vec<String> = order.get(..COUNT)?.iter().map(|at| lines[*at].clone()).collect();
        sum += distinct(&drawn, 2)?;
    }
    Some(sum / DRAWS as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quests_are_valid_and_stay_finishable_or_are_withdrawn() {
        let trial = QuestTrial { worlds: 20, quests: 400, changes: 100 };
        let report = evaluate_quests(trial, None, Seed::new(11)).unwrap();
        for name in ["valid", "finishable"] {
            assert_eq!(report.figures[name], 1.0, "{:?}", report.figures);
        }
        assert_eq!(report.figures["withdrawn_needlessly"], 0.0);
        assert!(
            report.figures["withdrawn"] > 0.0 && report.figures["withdrawn"] < 0.9,
            "{:?}",
            report.figures
        );
    }

    #[test]
    fn a_world_with_nothing_in_it_is_one_clear_error() {
        let error = evaluate_quests(
            QuestTrial { worlds: 1, quests: 1, changes: 0 },
            Some(&QuestWorld::default()),
            Seed::new(1),
        );
        assert!(error.unwrap_err().to_string().contains("somebody can ask"), "");
    }
}
