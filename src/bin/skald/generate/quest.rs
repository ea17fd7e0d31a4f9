//! `skald generate quest`: quests over a world's facts, for a player if one is named.

use crate::Common;
use bevy_skald::files::read_text;
use bevy_skald::player::{EventView, Happened, Histories, PlayerModel, PlayerState};
use bevy_skald::quest::{
    Arm, Chooser, Generator, Plan, Planner, Quest, QuestWorld, Request, RewardTable, Taste, Wording,
    affinities, note_event,
};
use bevy_skald::{Error, Result};
use clap::Args;
use std::collections::HashSet;
use std::path::PathBuf;

/// Its options.
#[derive(Args)]
pub struct QuestArgs {
    /// What exists, RON: a world of quests or of dialogue.
    #[arg(long, value_name = "F.ron")]
    world: PathBuf,
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: usize,
    /// Who gives them. Default: everybody in turn.
    #[arg(long, value_name = "NAME")]
    giver: Option<String>,
    /// What quests pay, RON.
    #[arg(long, value_name = "F.ron")]
    rewards: Option<PathBuf>,
    /// The player they are for, by pseudonym as the store has it.
    #[arg(long, value_name = "ID", requires = "store")]
    player: Option<String>,
    /// The playtest store that knows the player.
    #[arg(long, value_name = "F")]
    store: Option<PathBuf>,
    /// A player model, which is asked too.
    #[arg(long, value_name = "DIR", requires = "player")]
    model: Option<PathBuf>,
}

/// Quests among which one is chosen.
const CANDIDATES: usize = 12;

pub fn generate(args: &QuestArgs, common: &Common) -> Result<()> {
    let file = args.world.display().to_string();
    let world = QuestWorld::from_ron(&read_text(&args.world, 1 << 26, "read the world")?, &file)?;
    let rewards = match &args.rewards {
        None => RewardTable::default(),
        Some(path) => RewardTable::from_ron(
            &read_text(path, 1 << 20, "read the rewards")?,
            &path.display().to_string(),
        )?,
    };
    let wording = Wording::new()?;
    let planner = Planner::new(&world);
    let mut knows = Knows::of(args)?;
    let givers: Vec<&str> = match &args.giver {
        Some(name) => vec![name],
        None => {
            world.people.iter().filter(|person| person.place.is_some()).map(|p| p.name.as_str()).collect()
        }
    };
    let mut past = HashSet::new();
    for at in 0..args.count {
        let mut dice = common.seed().derive("quest").derive_index(at as u64).stream();
        let giver = givers.get(at % givers.len().max(1)).copied().unwrap_or_default();
        let generator = Generator::new(&world, giver, &planner, &rewards, &wording).ok_or_else(|| {
            let reason =
                if giver.is_empty() { "nobody is there".into() } else { format!("there is no `{giver}`") };
            Error::config(&*file, "people", reason, "name somebody who is somewhere in this world")
        })?;
        let kinds = generator.kinds();
        let mut candidates: Vec<(Quest, Plan)> = Vec::new();
        for n in 0..if knows.is_some() { CANDIDATES } else { 1 } {
            let kind = knows.as_ref().and_then(|_| kinds.get(n % kinds.len().max(1)).copied());
            let request = Request { kind, past: Some(&past), ..Request::default() };
            candidates.extend(generator.propose(&request, &mut dice));
        }
        if candidates.is_empty() {
            return Err(Error::Unsatisfiable {
                rule: format!("{giver} has something new to ask for that can be done"),
                remedy: format!("put more into the world, or ask for fewer ({at} were made)"),
            });
        }
        let (mut chosen, mut propensity) = (0, None);
        if let Some(knows) = &mut knows {
            let affinities = knows.affinities(&candidates);
            let arms: Vec<Arm<'_>> = candidates
                .iter()
                .zip(affinities)
                .map(|((quest, _), affinity)| Arm { quest, story: false, affinity, chance: None })
                .collect();
            if let Some(choice) = knows.chooser.choose(&arms, &mut knows.taste, &mut dice) {
                (chosen, propensity) = (choice.at, Some(choice.propensity));
                candidates[chosen].0.because = choice.because;
            }
        }
        let (quest, plan) = candidates.swap_remove(chosen);
        past.insert(quest.signature());
        if common.json {
            let line = serde_json::json!({ "quest": quest, "plan": plan, "propensity": propensity });
            println!("{line}");
        } else {
            let pretty = ron::ser::PrettyConfig::new().struct_names(false);
            let text = ron::ser::to_string_pretty(&quest, pretty);
            println!("{}", text.map_err(|e| Error::backend("writing the quest", e))?);
        }
    }
    Ok(())
}

/// What is known of the player.
struct Knows {
    taste: Taste,
    chooser: Chooser,
    model: Option<(PlayerModel, PlayerState)>,
}

impl Knows {
    fn of(args: &QuestArgs) -> Result<Option<Self>> {
        let (Some(player), Some(store)) = (&args.player, &args.store) else { return Ok(None) };
        let model = args.model.as_deref().map(PlayerModel::load).transpose()?;
        let view = model.as_ref().map_or_else(EventView::default, |model| model.vocabulary().view().clone());
        let histories = Histories::read(std::slice::from_ref(store), &view)?;
        let mut chooser = Chooser::default();
        let mut taste = Taste::default();
        let mut found = false;
        let mut state = model.as_ref().map(PlayerModel::begin).transpose()?;
        for history in &histories.players {
            let own = history.player == *player;
            found |= own;
            for event in &history.events {
                let kind = histories.kinds[event.kind as usize].as_str();
                let subject = event.subject.map(|subject| histories.subjects[subject as usize].as_str());
                note_event(kind, subject, event.value, own.then_some(&mut taste), &mut chooser.population);
                if let (true, Some(model), Some(state)) = (own, &model, &mut state) {
                    let word = event.word.map(|word| histories.words[word as usize].as_str());
                    let happened = Happened { kind, subject, value: event.value, word, at_ms: event.at_ms };
                    model.observe(state, &happened)?;
                }
            }
        }
        if !found {
            let remedy = "give a pseudonym that is in the store";
            return Err(Error::config(
                "options",
                "--player",
                format!("the store knows no `{player}`"),
                remedy,
            ));
        }
        Ok(Some(Self { taste, chooser, model: model.zip(state) }))
    }

    /// How much the model is drawn to each quest's kind, beside the other kinds: 0.5 where it is as to the mean.
    fn affinities(&self, candidates: &[(Quest, Plan)]) -> Vec<Option<f32>> {
        let Some((model, state)) = &self.model else { return vec![None; candidates.len()] };
        let of_kind = affinities(model, state);
        candidates.iter().map(|(quest, _)| of_kind[quest.kind.index()]).collect()
    }
}
