//! The room's rules, over random worlds.

use super::*;
use crate::seed::{Seed, Stream};
use proptest::prelude::*;
use std::collections::HashSet;

/// A quest of random steps, sensible or not, over what the world knows.
fn any_quest(world: &QuestWorld, dice: &mut Stream) -> Option<Quest> {
    let name = |list: Vec<&String>, dice: &mut Stream| dice.pick(&list).map(|name| (*name).clone());
    let mut steps = Vec::new();
    for at in 0..1 + dice.below(4) {
        let place = name(world.places.iter().map(|p| &p.name).collect(), dice)?;
        let person = name(world.people.iter().map(|p| &p.name).collect(), dice)?;
        let item = name(world.items.iter().map(|p| &p.name).collect(), dice)?;
        let action = match dice.below(8) {
            0 => Action::Go { place },
            1 => Action::Talk { person },
            2 | 3 => Action::Fetch { item },
            4 => Action::Deliver { item, to: person },
            5 => Action::Escort { person, to: place },
            6 => match world.recipes.first() {
                Some(recipe) => Action::Craft { item: recipe.makes.clone() },
                None => Action::Find { place },
            },
            _ => match name(world.creatures.iter().map(|c| &c.name).collect(), dice) {
                Some(creature) => Action::Slay { creature },
                None => Action::Find { place },
            },
        };
        let after = (0..at).filter(|_| dice.chance(0.4)).collect();
        steps.push(Step { action, after });
    }
    // Slain once is slain: two steps for one creature are no quest.
    let mut slain = HashSet::new();
    let twice = steps
        .iter()
        .any(|step| matches!(&step.action, Action::Slay { creature } if !slain.insert(creature.clone())));
    let giver = world.people.first()?.name.clone();
    (!twice).then(|| Quest {
        giver,
        kind: QuestKind::Fetch,
        steps,
        difficulty: 0.0,
        reward: 1,
        text: String::new(),
        because: String::new(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// The planner is exact: it finds a plan where, and only where, the second opinion can finish the quest.
    #[test]
    fn the_planner_and_the_second_opinion_agree(seed in any::<u64>()) {
        let world = random_world(Seed::new(seed));
        let mut dice = Seed::new(seed).derive("quest").stream();
        if let Some(quest) = any_quest(&world, &mut dice) {
            let plan = Planner::new(&world).plan(&quest, 0);
            prop_assert_eq!(plan.is_ok(), finishable(&world, &quest, &[]), "{:?} {:?}", quest, plan);
        }
    }

    #[test]
    fn any_text_is_a_world_or_one_clear_error(text in "\\PC{0,60}") {
        if let Err(error) = QuestWorld::from_ron(&text, "w.ron") {
            prop_assert!(error.to_string().contains("w.ron"));
        }
        let _ = RewardTable::from_ron(&text, "r.ron");
        let _ = Wording::from_ron(&text, "o.ron");
    }
}

#[test]
fn worlds_of_dialogue_are_worlds_of_quests() {
    let text = include_str!("../../assets/worlds/village.world.ron");
    let world = QuestWorld::from_ron(text, "village.world.ron").unwrap();
    assert!(world.people.len() > 10 && world.paths.is_empty());
    for (text, part) in [
        (r#"(people: [(name: "A", role: "b", place: "nowhere")])"#, "nowhere"),
        (r#"(items: [(name: "a", holder: "nobody")])"#, "nobody"),
        (r#"(places: [(name: "a", at: (0, 0)), (name: "a", at: (0, 0))])"#, "twice"),
        (r#"(recipes: [(makes: "a", of: [])])"#, "recipes"),
        (r#"(dragons: [])"#, "dragons"),
    ] {
        assert!(QuestWorld::from_ron(text, "w").unwrap_err().to_string().contains(part), "{text}");
    }
}

#[test]
fn an_impossible_reward_table_is_refused_and_a_possible_one_pays_within_bounds() {
    for text in ["(least: 9, most: 3)", "(difficulty: -1)", "(most: 0, least: 0)", "(stepp: 1)"] {
        assert!(RewardTable::from_ron(text, "r").is_err(), "{text}");
    }
    let table = RewardTable::from_ron("(kinds: {Slay: 20}, least: 5, most: 25)", "r").unwrap();
    let (wording, mut dice) = (Wording::new().unwrap(), Seed::new(1).stream());
    for at in 0..20 {
        let world = random_world(Seed::new(at));
        let planner = Planner::new(&world);
        for person in &world.people {
            let Some(generator) = Generator::new(&world, &person.name, &planner, &table, &wording) else {
                continue;
            };
            if let Some((quest, _)) = generator.propose(&Request::default(), &mut dice) {
                assert!((5..=25).contains(&quest.reward));
                assert!(quest.text.contains("coins") && !quest.text.contains('{'), "{}", quest.text);
            }
        }
    }
}

#[test]
fn a_giver_asks_only_for_what_they_know_of_and_levels_are_made_as_hard_as_wanted() {
    struct Levels;
    impl LevelSource for Levels {
        fn level(&self, kind: &str, difficulty: f32, _: u64) -> Option<(String, f32)> {
            Some((format!("{kind} at {difficulty}"), difficulty))
        }
    }
    let world = QuestWorld::from_ron(
        r#"(places: [(name: "the inn", at: (0, 0)), (name: "the crypt", at: (1, 0))],
            people: [(name: "Mira", role: "baker", place: "the inn"), (name: "Odo", role: "monk", place: "the inn")],
            items: [(name: "relic", place: "the crypt", known_to: ["Odo"])],
            levels: [(name: "the old crypt", place: "the crypt", kind: "puzzle")])"#,
        "w",
    )
    .unwrap();
    let (table, wording) = (RewardTable::default(), Wording::new().unwrap());
    let planner = Planner::new(&world);
    let mut dice = Seed::new(1).stream();
    let kinds = |giver: &str| Generator::new(&world, giver, &planner, &table, &wording).unwrap().kinds();
    assert!(!kinds("Mira").contains(&QuestKind::Fetch) && kinds("Odo").contains(&QuestKind::Fetch));
    assert!(Generator::new(&world, "Nobody", &planner, &table, &wording).is_none());
    let generator = Generator::new(&world, "Mira", &planner, &table, &wording).unwrap();
    let request = Request {
        kind: Some(QuestKind::Solve),
        difficulty: Some(0.25),
        levels: Some(&Levels),
        ..Request::default()
    };
    let (quest, _) = generator.propose(&request, &mut dice).unwrap();
    let made = quest.steps.iter().find_map(|step| match &step.action {
        Action::Solve { made, .. } => made.clone(),
        _ => None,
    });
    assert_eq!(made.as_deref(), Some("puzzle at 0.25"));
    // Everything is locked by an open quest: nothing is offered, and it ends.
    let open = [quest];
    let request = Request { open: &open, kind: Some(QuestKind::Solve), ..Request::default() };
    assert!(generator.propose(&request, &mut dice).is_none());
}
