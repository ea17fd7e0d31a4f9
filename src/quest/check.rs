//! A second opinion on quests, which shares nothing with the planner: it plays a quest out in the world's own words, trying
//! everything, and says whether it can be finished. Slow and plain on purpose; for tests and `skald evaluate quest`.

use super::graph::{Action, Quest};
use super::world::QuestWorld;
use std::collections::{BTreeMap, BTreeSet};

/// A world as it is played in: who and what is where ("item:key" -> "place:the mill", "person:Mira", "player").
type Board = BTreeMap<String, String>;

fn board(world: &QuestWorld) -> Board {
    let mut board = Board::new();
    for person in &world.people {
        if let Some(place) = &person.place {
            board.insert(format!("person:{}", person.name), format!("place:{place}"));
        }
    }
    for creature in &world.creatures {
        if let Some(place) = &creature.place {
            board.insert(format!("creature:{}", creature.name), format!("place:{place}"));
        }
    }
    for item in &world.items {
        let at = match (&item.place, &item.holder) {
            (Some(place), _) => format!("place:{place}"),
            (None, Some(holder)) => format!("person:{holder}"),
            (None, None) => continue,
        };
        board.insert(format!("item:{}", item.name), at);
    }
    for item in &world.player.has {
        board.insert(format!("item:{item}"), "player".into());
    }
    if let Some(place) = &world.player.place {
        board.insert("player".into(), format!("place:{place}"));
    }
    board.insert("coins".into(), world.player.coins.to_string());
    board
}

/// All places that can be walked to.
fn around(world: &QuestWorld, from: &str) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = [from.to_owned()].into();
    if world.paths.is_empty() {
        found.extend(world.places.iter().map(|place| format!("place:{}", place.name)));
        return found;
    }
    loop {
        let before = found.len();
        for (a, b) in &world.paths {
            let (a, b) = (format!("place:{a}"), format!("place:{b}"));
            if found.contains(&a) || found.contains(&b) {
                found.insert(a);
                found.insert(b);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn walk(world: &QuestWorld, board: &mut Board, to: &str) -> bool {
    let there = world.places.iter().any(|place| format!("place:{}", place.name) == to);
    let near = board.get("player").is_none_or(|from| around(world, from).contains(to));
    if there && near {
        board.insert("player".into(), to.to_owned());
    }
    there && near
}

/// Does one action on a board; whether it could be done.
fn act(world: &QuestWorld, board: &mut Board, action: &Action) -> bool {
    let at = |board: &Board, who: String| board.get(&who).cloned();
    match action {
        Action::Go { place } | Action::Find { place } => walk(world, board, &format!("place:{place}")),
        Action::Talk { person } => {
            at(board, format!("person:{person}")).is_some_and(|place| walk(world, board, &place))
        }
        Action::Fetch { item } => {
            let Some(mut where_) = at(board, format!("item:{item}")) else { return false };
            if where_ == "player" {
                return true;
            }
            if where_.starts_with("person:") {
                let price =
                    world.items.iter().find(|thing| thing.name == *item).map_or(0, |thing| thing.price);
                let coins: u32 = board["coins"].parse().unwrap_or(0);
                let Some(home) = at(board, where_) else { return false };
                if coins < price {
                    return false;
                }
                board.insert("coins".into(), (coins - price).to_string());
                where_ = home;
            }
            let went = walk(world, board, &where_);
            board.insert(format!("item:{item}"), "player".into());
            went
        }
        Action::Deliver { item, to } => {
            let Some(place) = at(board, format!("person:{to}")) else { return false };
            if at(board, format!("item:{item}")).as_deref() != Some("player") || !walk(world, board, &place) {
                return false;
            }
            board.insert(format!("item:{item}"), format!("person:{to}"));
            true
        }
        Action::Slay { creature } => {
            let Some(place) = board.remove(&format!("creature:{creature}")) else { return false };
            let strength = world.creatures.iter().find(|beast| beast.name == *creature).map(|b| b.strength);
            walk(world, board, &place) && strength.is_some_and(|strength| strength <= world.player.strength)
        }
        Action::Escort { person, to } => {
            let Some(from) = at(board, format!("person:{person}")) else { return false };
            let to = format!("place:{to}");
            if !walk(world, board, &from) || !walk(world, board, &to) {
                return false;
            }
            board.insert(format!("person:{person}"), to);
            true
        }
        Action::Craft { item } => {
            let Some(recipe) = world.recipes.iter().find(|recipe| recipe.makes == *item) else {
                return false;
            };
            for part in &recipe.of {
                if board.remove(&format!("item:{part}")).as_deref() != Some("player") {
                    return false;
                }
            }
            board.insert(format!("item:{item}"), "player".into());
            true
        }
        Action::Solve { level, .. } => {
            let place =
                world.levels.iter().find(|riddle| riddle.name == *level).map(|riddle| riddle.place.clone());
            place.is_some_and(|place| walk(world, board, &format!("place:{place}")))
        }
    }
}

/// Whether the steps of a quest that are not `done` can be done in some order that their `after` allows.
pub fn finishable(world: &QuestWorld, quest: &Quest, done: &[usize]) -> bool {
    fn go(world: &QuestWorld, quest: &Quest, board: &Board, done: &BTreeSet<usize>) -> bool {
        if done.len() >= quest.steps.len() {
            return true;
        }
        (0..quest.steps.len()).any(|at| {
            if done.contains(&at) || !quest.steps[at].after.iter().all(|before| done.contains(before)) {
                return false;
            }
            let mut next = board.clone();
            let mut after = done.clone();
            after.insert(at);
            act(world, &mut next, &quest.steps[at].action) && go(world, quest, &next, &after)
        })
    }
    let done: BTreeSet<usize> = done.iter().copied().collect();
    go(world, quest, &board(world), &done)
}

/// Names in a quest that are nothing the world has now.
pub fn strangers(world: &QuestWorld, quest: &Quest) -> Vec<String> {
    let person = |name: &String| world.people.iter().any(|p| p.name == *name && p.place.is_some());
    let place = |name: &String| world.places.iter().any(|p| p.name == *name);
    let item = |name: &String| {
        world.items.iter().any(|i| i.name == *name)
            || world.player.has.contains(name)
            || world.recipes.iter().any(|recipe| recipe.makes == *name)
    };
    let mut missing = Vec::new();
    let mut see = |there: bool, name: &String| {
        if !there {
            missing.push(name.clone());
        }
    };
    see(person(&quest.giver), &quest.giver);
    for step in &quest.steps {
        match &step.action {
            Action::Go { place: name } | Action::Find { place: name } => see(place(name), name),
            Action::Talk { person: name } => see(person(name), name),
            Action::Fetch { item: name } | Action::Craft { item: name } => see(item(name), name),
            Action::Deliver { item: name, to } => {
                see(item(name), name);
                see(person(to), to);
            }
            Action::Slay { creature } => {
                see(world.creatures.iter().any(|c| c.name == *creature && c.place.is_some()), creature);
            }
            Action::Escort { person: name, to } => {
                see(person(name), name);
                see(place(to), to);
            }
            Action::Solve { level, .. } => see(world.levels.iter().any(|l| l.name == *level), level),
        }
    }
    missing
}
