//! What becomes of an open quest when the world has changed under it: it stands, it adapts, or it is withdrawn.

use super::graph::{Action, Quest};
use super::plan::{Plan, Planner};
use super::world::QuestWorld;

/// What has become of a quest.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// It can still be finished, so.
    Stands(Plan),
    /// Some steps have come about by themselves, or another way leads there: this is what is left.
    Adapted {
        /// The steps that count as done now, a bit each.
        done: u32,
        /// The quest, whose giver may be another.
        quest: Box<Quest>,
        /// How it can be finished.
        plan: Plan,
        /// What is different, in words.
        why: String,
    },
    /// It cannot be finished any more, for this reason.
    Withdrawn(String),
}

/// Looks at a quest whose steps `done` (a bit each) are done, in the world as it is now.
pub fn review(quest: &Quest, done: u32, world: &QuestWorld) -> Standing {
    review_with(&Planner::new(world), quest, done, world)
}

/// As [`review`], with a planner that is there already.
pub fn review_with(planner: &Planner<'_>, quest: &Quest, done: u32, world: &QuestWorld) -> Standing {
    let obstacle = match planner.plan(quest, done) {
        Ok(plan) => return Standing::Stands(plan),
        Err(obstacle) => obstacle,
    };
    // Nobody is left to report to: whoever asked for it is gone.
    if world.person(&quest.giver).is_none() {
        return Standing::Withdrawn(format!("{} is gone", quest.giver));
    }
    let moot = moot(quest, done, world);
    if moot.0 != done
        && let Ok(plan) = planner.plan(quest, moot.0)
    {
        return Standing::Adapted { done: moot.0, quest: Box::new(quest.clone()), plan, why: moot.1 };
    }
    // Whoever was to get something is gone: whoever asked takes it.
    let mut other = quest.clone();
    let mut why = String::new();
    for step in &mut other.steps {
        if let Action::Deliver { to, .. } = &mut step.action
            && world.person(to).is_none()
        {
            why = format!("{to} is gone, and {} takes it", quest.giver);
            to.clone_from(&quest.giver);
        }
    }
    if !why.is_empty()
        && let Ok(plan) = planner.plan(&other, moot.0)
    {
        return Standing::Adapted { done: moot.0, quest: Box::new(other), plan, why };
    }
    Standing::Withdrawn(obstacle.reason)
}

/// The steps that came about without the player: what was to be slain is gone.
fn moot(quest: &Quest, mut done: u32, world: &QuestWorld) -> (u32, String) {
    let mut why = Vec::new();
    for (at, step) in quest.steps.iter().enumerate().filter(|(at, _)| *at < 32) {
        if let Action::Slay { creature } = &step.action
            && done & (1 << at) == 0
            && world.creature(creature).is_none()
        {
            done |= 1 << at;
            why.push(format!("{creature} is gone already"));
        }
    }
    (done, why.join(", "))
}
