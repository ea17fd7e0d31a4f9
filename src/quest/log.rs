//! [`QuestBook`]: the quests a player has taken, what of them is done, and what is locked by them.

use super::graph::Quest;
use super::plan::Planner;
use super::review::{Standing, review_with};
use super::world::QuestWorld;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// A quest that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenQuest {
    /// Its number, of this player.
    pub id: u64,
    /// The quest.
    pub quest: Quest,
    /// Which steps are done, a bit each.
    pub done: u32,
}

impl OpenQuest {
    /// Whether all is done.
    pub fn is_finished(&self) -> bool {
        self.done.count_ones() as usize >= self.quest.steps.len()
    }

    /// Whether a step can be done now.
    pub fn is_due(&self, step: usize) -> bool {
        let open = |step: usize| step < 32 && self.done & (1 << step) == 0;
        let waits = |before: &usize| open(*before);
        self.quest.steps.get(step).is_some_and(|s| open(step) && !s.after.iter().any(waits))
    }
}

/// What happened to open quests when the world changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// Which quest.
    pub id: u64,
    /// What became of it.
    pub standing: Standing,
}

/// A player's quests. Save it with the game.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuestBook {
    /// Those that are open, the oldest first.
    pub open: Vec<OpenQuest>,
    /// Signatures of quests that were offered.
    pub past: HashSet<String>,
    next: u64,
}

/// Why a quest was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Another open quest wants the same thing, person or creature.
    Locked,
    /// It can no longer be finished, for this reason.
    Impossible(String),
}

impl QuestBook {
    /// Takes a quest, if it can still be finished in the world as it is and no open quest wants the same things.
    pub fn take(&mut self, quest: Quest, world: &QuestWorld) -> Result<u64, NotTaken> {
        if self.open.iter().any(|open| !open.quest.agrees_with(&quest)) {
            return Err(NotTaken::Locked);
        }
        let (quest, done) = match review_with(&Planner::new(world), &quest, 0, world) {
            Standing::Stands(_) => (quest, 0),
            Standing::Adapted { done, quest, .. } => (*quest, done),
            Standing::Withdrawn(reason) => return Err(NotTaken::Impossible(reason)),
        };
        self.past.insert(quest.signature());
        self.next += 1;
        self.open.push(OpenQuest { id: self.next, quest, done });
        Ok(self.next)
    }

    /// Notes that a step was done; the quest, if that was the last one. A step that is not due is not noted.
    pub fn step_done(&mut self, id: u64, step: usize) -> Option<OpenQuest> {
        let at = self.open.iter().position(|open| open.id == id)?;
        let open = &mut self.open[at];
        if !open.is_due(step) {
            return None;
        }
        open.done |= 1 << step;
        open.is_finished().then(|| self.open.remove(at))
    }

    /// Drops a quest.
    pub fn drop_quest(&mut self, id: u64) -> Option<OpenQuest> {
        let at = self.open.iter().position(|open| open.id == id)?;
        Some(self.open.remove(at))
    }

    /// Looks at every open quest in the world as it is now. Those that cannot be finished are taken out; what became of each
    /// that does not simply stand is told.
    pub fn review(&mut self, world: &QuestWorld) -> Vec<Changed> {
        let planner = Planner::new(world);
        let mut told = Vec::new();
        self.open.retain_mut(|open| {
            let standing = review_with(&planner, &open.quest, open.done, world);
            match &standing {
                Standing::Stands(_) => return true,
                Standing::Adapted { done, quest, .. } => {
                    open.done = *done;
                    open.quest = (**quest).clone();
                }
                Standing::Withdrawn(_) => {}
            }
            let stays = !matches!(standing, Standing::Withdrawn(_));
            told.push(Changed { id: open.id, standing });
            stays
        });
        told
    }

    /// The quests that are open.
    pub fn quests(&self) -> Vec<Quest> {
        self.open.iter().map(|open| open.quest.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quest::{Action, QuestKind, Step};

    fn world() -> QuestWorld {
        QuestWorld::from_ron(
            r#"(places: [(name: "the mill", at: (0, 0)), (name: "the inn", at: (1, 0))],
                people: [(name: "Mira", role: "baker", place: "the mill"), (name: "Odo", role: "monk", place: "the inn")],
                items: [(name: "sword", place: "the inn")],
                creatures: [(name: "wolf", place: "the inn", strength: 3)])"#,
            "w",
        )
        .unwrap()
    }

    fn quest(actions: &[Action]) -> Quest {
        let step = |(at, action): (usize, &Action)| Step { action: action.clone(), after: (0..at).collect() };
        Quest {
            giver: "Mira".into(),
            kind: QuestKind::Fetch,
            steps: actions.iter().enumerate().map(step).collect(),
            difficulty: 0.1,
            reward: 3,
            text: String::new(),
            because: String::new(),
        }
    }

    fn sword(to: &str) -> Quest {
        let (item, to) = ("sword".to_owned(), to.to_owned());
        quest(&[
            Action::Fetch { item: item.clone() },
            Action::Deliver { item, to },
            Action::Talk { person: "Mira".into() },
        ])
    }

    #[test]
    fn two_quests_never_want_one_sword() {
        let (mut book, world) = (QuestBook::default(), world());
        let id = book.take(sword("Mira"), &world).unwrap();
        assert_eq!(book.take(sword("Odo"), &world), Err(NotTaken::Locked));
        assert!(book.step_done(id, 1).is_none() && book.open[0].done == 0, "not before it was fetched");
        book.drop_quest(id).unwrap();
        assert!(book.take(sword("Odo"), &world).is_ok());
    }

    #[test]
    fn steps_are_done_in_their_order_and_the_last_one_finishes() {
        let (mut book, world) = (QuestBook::default(), world());
        let id = book.take(sword("Odo"), &world).unwrap();
        for step in 0..2 {
            assert!(book.step_done(id, step).is_none());
        }
        assert!(book.step_done(id, 2).unwrap().is_finished());
        assert!(book.open.is_empty() && book.step_done(id, 2).is_none());
    }

    #[test]
    fn a_giver_who_dies_with_the_quest_in_hand_ends_it_and_a_receiver_who_does_changes_it() {
        let (mut book, mut world) = (QuestBook::default(), world());
        book.take(sword("Odo"), &world).unwrap();
        world.people[1].place = None;
        let told = book.review(&world);
        assert!(
            matches!(&told[0].standing, Standing::Adapted { why, .. } if why.contains("Odo is gone")),
            "{told:?}"
        );
        assert!(matches!(&book.open[0].quest.steps[1].action, Action::Deliver { to, .. } if to == "Mira"));
        world.people[0].place = None;
        let told = book.review(&world);
        assert_eq!(told[0].standing, Standing::Withdrawn("Mira is gone".into()));
        assert!(book.open.is_empty());
    }

    #[test]
    fn what_was_to_be_slain_and_is_gone_counts_as_done() {
        let (mut book, mut world) = (QuestBook::default(), world());
        let wolf = quest(&[Action::Slay { creature: "wolf".into() }, Action::Talk { person: "Mira".into() }]);
        book.take(wolf.clone(), &world).unwrap();
        world.creatures[0].place = None;
        assert!(matches!(book.review(&world)[0].standing, Standing::Adapted { done: 1, .. }));
        world.creatures[0].place = Some("the inn".into());
        world.creatures[0].strength = 99;
        let refused = QuestBook::default().take(wolf, &world);
        assert!(matches!(refused, Err(NotTaken::Impossible(reason)) if reason.contains("too strong")));
    }
}
