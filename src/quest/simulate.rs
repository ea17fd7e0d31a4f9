//! Players with hidden tastes, who are offered quests: whether choosing for them pays, and whether their taste is found.
//!
//! The players never see the chooser and the chooser never sees them: it is told whether a quest was finished, no more.

use super::change::random_world;
use super::choose::{Arm, Chooser, Felt, Taste, finishing, suggest_difficulty};
use super::generate::{Generator, Request};
use super::graph::{Quest, QuestKind};
use super::plan::Planner;
use super::reward::RewardTable;
use super::words::Wording;
use crate::error::{Error, Result};
use crate::evaluation::{Measured, Report};
use crate::player::{Clusters, Happened, PlayerModel, PlayerState};
use crate::recording::{Consent, Recorder, RecorderConfig};
use crate::seed::{Seed, Stream};
use std::collections::BTreeMap;
use std::path::Path;

/// How it is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simulation {
    /// Players.
    pub players: usize,
    /// Sessions of each.
    pub sessions: usize,
    /// Quests offered in a session.
    pub offers: usize,
    /// Quests among which one is chosen.
    pub candidates: usize,
}

impl Default for Simulation {
    fn default() -> Self {
        Self { players: 1000, sessions: 20, offers: 4, candidates: 12 }
    }
}

/// What seven kinds of players like, by [`QuestKind::ALL`]: getters, messengers, fighters, explorers, talkers, makers and
/// solvers.
const ARCHETYPES: [[f32; 8]; 7] = [
    [0.85, 0.35, 0.15, 0.25, 0.10, 0.15, 0.40, 0.10],
    [0.25, 0.85, 0.10, 0.20, 0.35, 0.55, 0.10, 0.10],
    [0.20, 0.10, 0.90, 0.30, 0.05, 0.20, 0.05, 0.25],
    [0.20, 0.15, 0.25, 0.90, 0.15, 0.25, 0.05, 0.20],
    [0.10, 0.30, 0.05, 0.15, 0.90, 0.35, 0.10, 0.05],
    [0.35, 0.20, 0.05, 0.10, 0.10, 0.10, 0.90, 0.20],
    [0.10, 0.05, 0.20, 0.30, 0.05, 0.05, 0.20, 0.90],
];

/// A player's hidden taste.
struct Bot {
    archetype: usize,
    likes: [f32; 8],
    difficulty: f32,
}

impl Bot {
    fn new(dice: &mut Stream) -> Self {
        let archetype = dice.below(ARCHETYPES.len());
        let own = |like: f32, dice: &mut Stream| (like + 0.05 * dice.normal()).clamp(0.02, 0.97);
        let likes = std::array::from_fn(|at| own(ARCHETYPES[archetype][at], dice));
        Self { archetype, likes, difficulty: 0.1 + 0.6 * dice.uniform() }
    }

    /// How likely they finish a quest.
    fn finishes(&self, quest: &Quest) -> f32 {
        let off = (quest.difficulty - self.difficulty) / 0.35;
        self.likes[quest.kind.index()] * (-0.5 * off * off).exp()
    }

    /// How something so hard feels to them.
    fn feels(&self, difficulty: f32, dice: &mut Stream) -> Felt {
        let off = difficulty - self.difficulty + 0.08 * dice.normal();
        if off > 0.12 {
            Felt::TooHard
        } else if off < -0.12 {
            Felt::TooEasy
        } else {
            Felt::Right
        }
    }
}

/// Quests of several random worlds, as they are generated.
fn quests(seed: Seed) -> Result<Vec<Quest>> {
    let (rewards, wording) = (RewardTable::default(), Wording::new()?);
    let mut all = Vec::new();
    for at in 0..60 {
        let world = random_world(seed.derive_index(at));
        let planner = Planner::new(&world);
        let mut dice = seed.derive("quests").derive_index(at).stream();
        for person in &world.people {
            let Some(generator) = Generator::new(&world, &person.name, &planner, &rewards, &wording) else {
                continue;
            };
            for kind in generator.kinds() {
                let request =
                    Request { kind: Some(kind), difficulty: Some(dice.uniform()), ..Request::default() };
                all.extend(generator.propose(&request, &mut dice).map(|(quest, _)| quest));
            }
        }
    }
    let of = |kind: &QuestKind| all.iter().filter(|quest| quest.kind == *kind).count();
    match QuestKind::ALL.iter().find(|kind| of(kind) == 0) {
        None => Ok(all),
        Some(kind) => Err(Error::Unsatisfiable {
            rule: format!("every kind of quest is there ({} is not)", kind.name()),
            remedy: "choose another seed".into(),
        }),
    }
}

/// What a simulation has to do with learning.
#[derive(Clone, Default)]
pub struct Learning<'a> {
    /// A player model of recorded quests: beside the chooser that only knows each player's own quests stands one that asks it.
    pub model: Option<&'a PlayerModel>,
    /// A store that is to be made: what each player finished and dropped, for a training.
    pub record: Option<&'a Path>,
}

/// The chooser that asks a model, and what it knows of each player.
struct Learned<'a> {
    model: &'a PlayerModel,
    chooser: Chooser,
    players: Vec<(Taste, PlayerState)>,
}

impl<'a> Learned<'a> {
    fn new(model: &'a PlayerModel, players: usize) -> Result<Self> {
        let players = (0..players).map(|_| Ok((Taste::default(), model.begin()?))).collect::<Result<_>>()?;
        let learned = Self { model, chooser: Chooser::default(), players };
        if learned.players.first().is_some_and(|(_, state)| finishing(model, state) == [None; 8]) {
            let reason = "the model has not learned what quests are finished and dropped";
            let remedy = "train one on a store of `skald evaluate quest --simulate --record`, or of a game with quests";
            return Err(Error::config("options", "--model", reason, remedy));
        }
        Ok(learned)
    }

    /// Offers one of a list, and is told whether it was finished.
    fn offer(&mut self, at: usize, list: &[&Quest], chances: &[f32], dice: &mut Stream) -> Result<bool> {
        let (taste, state) = &mut self.players[at];
        let told = finishing(self.model, state);
        let arm = |quest: &&'_ Quest| told[quest.kind.index()];
        let arms: Vec<Arm<'_>> = list
            .iter()
            .map(|quest| Arm { quest, story: false, affinity: None, chance: arm(quest) })
            .collect();
        let Some(choice) = self.chooser.choose(&arms, taste, dice) else { return Ok(false) };
        let (quest, done) = (list[choice.at], dice.chance(chances[choice.at]));
        taste.note(quest.kind, quest.difficulty, done);
        self.chooser.population.note(quest.kind, done);
        let happened = Happened {
            kind: outcome(done),
            subject: Some(quest.kind.name()),
            value: Some(quest.difficulty),
            word: None,
            at_ms: 0,
        };
        self.model.observe(state, &happened)?;
        Ok(done)
    }
}

fn outcome(done: bool) -> &'static str {
    if done { "QuestFinished" } else { "QuestDropped" }
}

/// Offers players quests by several ways of choosing, and tells how many they finish, what of their taste was found, and the
/// regret against one who knows it.
pub fn simulate(simulation: Simulation, learning: &Learning<'_>, seed: Seed) -> Result<Report> {
    let Simulation { players, sessions, offers, candidates } = simulation;
    if players < 10 || sessions == 0 || offers == 0 || candidates < 2 {
        let remedy = "simulate at least 10 players, 1 session, 1 offer and 2 candidates";
        return Err(Error::config("options", "--simulate", "there is nothing to measure", remedy));
    }
    let pool = quests(seed.derive("worlds"))?;
    let mut dice = seed.derive("bots").stream();
    let bots: Vec<Bot> = (0..players).map(|_| Bot::new(&mut dice)).collect();
    let mut tastes = vec![Taste::default(); players];
    let mut chooser = Chooser::default();
    let mut learned = learning.model.map(|model| Learned::new(model, players)).transpose()?;
    let record = learning.record.map(|path| {
        let consent = Consent::Granted;
        Recorder::open(path, RecorderConfig { consent, ..RecorderConfig::default() })
    });
    let record = record.transpose()?;
    // What has been finished most so far, which everybody is offered.
    let mut popular = ([1.0f32; 8], [2.0f32; 8]);
    let mut finished: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let beside: &[&str] =
        if learned.is_some() { &["learned", "learned at first", "skald at first"] } else { &[] };
    for name in ["skald", "popularity", "random", "oracle"].iter().chain(beside) {
        finished.insert(name, vec![0.0; players]);
    }
    // The first quarter of the sessions, when little is known of a player.
    let first = sessions.div_ceil(4);
    let mut regret = vec![0.0; sessions];
    // Off-policy: what random choices would have got, told from the chooser's own log.
    let (mut weighted, mut weights) = (0.0f64, 0.0f64);
    let mut dice = seed.derive("play").stream();
    for (session, regret) in regret.iter_mut().enumerate() {
        for (at, bot) in bots.iter().enumerate() {
            let recorded = record.as_ref().map(|record| (record, record.begin_session(&format!("bot {at}"))));
            for offer in 0..offers {
                // One kind first, then a quest of it: as many of each kind, whatever worlds are full of.
                let list: Vec<&Quest> = (0..candidates)
                    .filter_map(|_| {
                        let kind = QuestKind::ALL[dice.below(8)];
                        let own: Vec<&Quest> = pool.iter().filter(|quest| quest.kind == kind).collect();
                        dice.pick(&own).copied()
                    })
                    .collect();
                let chances: Vec<f32> = list.iter().map(|quest| bot.finishes(quest)).collect();
                let best = chances.iter().copied().fold(0.0, f32::max);
                let arms: Vec<Arm<'_>> = list
                    .iter()
                    .map(|quest| Arm { quest, story: false, affinity: None, chance: None })
                    .collect();
                let Some(choice) = chooser.choose(&arms, &mut tastes[at], &mut dice) else { continue };
                let done = dice.chance(chances[choice.at]);
                let quest = list[choice.at];
                tastes[at].note(quest.kind, quest.difficulty, done);
                chooser.population.note(quest.kind, done);
                *regret += f64::from(best - chances[choice.at]);
                let weight = f64::from(1.0 / list.len() as f32 / choice.propensity);
                weighted += weight * f64::from(u8::from(done));
                weights += weight;
                let mut tell = |name: &str, done: bool| {
                    if let Some(all) = finished.get_mut(name) {
                        all[at] += f64::from(u8::from(done)) / (sessions * offers) as f64;
                    }
                };
                tell("skald", done);
                if let Some((record, session)) = recorded {
                    let event =
                        serde_json::json!({ "subject": quest.kind.name(), "value": quest.difficulty });
                    record.record(session, offer as u64, outcome(done), &event);
                }
                if let Some(learned) = &mut learned {
                    let by_model = learned.offer(at, &list, &chances, &mut dice)?;
                    tell("learned", by_model);
                    if session < first {
                        tell("learned at first", by_model);
                        tell("skald at first", done);
                    }
                }
                let rate = |quest: &Quest| popular.0[quest.kind.index()] / popular.1[quest.kind.index()];
                let by =
                    (0..list.len()).max_by(|a, b| rate(list[*a]).total_cmp(&rate(list[*b]))).unwrap_or(0);
                let done = dice.chance(chances[by]);
                popular.1[list[by].kind.index()] += 1.0;
                popular.0[list[by].kind.index()] += f32::from(u8::from(done));
                tell("popularity", done);
                tell("random", dice.chance(chances[dice.clone().below(list.len())]));
                tell("oracle", dice.chance(best));
            }
            recorded.iter().for_each(|(record, session)| record.end_session(*session));
        }
        if let Some(record) = &record {
            record.flush().map_err(|e| Error::backend("recording the players", e))?;
        }
        *regret /= (players * offers) as f64;
    }
    let mut report = Report {
        protocol: format!(
            "{players} simulated players of 7 archetypes, {sessions} sessions of {offers} offers, one chosen among \
             {candidates} generated quests; the chooser is told whether a quest was finished; 95 % bootstrap over players"
        ),
        data_hash: blake3::hash(format!("{simulation:?}").as_bytes()).to_hex().to_string(),
        n: players,
        ..Report::default()
    };
    report.take(Measured::bootstrapped(players, seed.derive("means"), |counts| gains(&finished, counts)));
    for (name, all) in &finished {
        let mean = all.iter().sum::<f64>() / players as f64;
        if ["popularity", "random", "oracle"].contains(name) {
            report.baselines.insert((*name).to_owned(), [("completion".to_owned(), mean)].into());
        }
    }
    for (at, regret) in regret.iter().enumerate() {
        report.set(&format!("regret@{}", at + 1), Some(*regret));
    }
    report.set("random_told_off_policy", (weights > 0.0).then(|| weighted / weights));
    let styles: Vec<Vec<f32>> = tastes.iter().map(|taste| taste.style(&chooser.population)).collect();
    let groups = Clusters::of(&styles, ARCHETYPES.len(), seed.derive("clusters"));
    let truth: Vec<usize> = bots.iter().map(|bot| bot.archetype).collect();
    report.set("adjusted_rand", Some(adjusted_rand(&groups.members, &truth)));
    report.set("difficulty_spearman", Some(difficulty(&bots, seed)));
    Ok(report)
}

/// The share of quests finished, and how much that is more than by other ways of choosing.
fn gains(finished: &BTreeMap<&str, Vec<f64>>, counts: &[f64]) -> BTreeMap<String, f64> {
    let total: f64 = counts.iter().sum();
    let mean = |name: &str| {
        let all = finished.get(name).map_or(&[][..], Vec::as_slice);
        all.iter().zip(counts).map(|(share, count)| share * count).sum::<f64>() / total.max(1.0)
    };
    let own = mean("skald");
    let more = |name: &str| own / mean(name).max(1e-9) - 1.0;
    let mut by_model = Vec::new();
    if finished.contains_key("learned") {
        let gain = |a: &str, b: &str| mean(a) / mean(b).max(1e-9) - 1.0;
        by_model = vec![
            ("completion_with_model", mean("learned")),
            ("gain_with_model", gain("learned", "skald")),
            ("gain_with_model_at_first", gain("learned at first", "skald at first")),
        ];
    }
    by_model.extend([
        ("completion", own),
        ("gain@popularity", more("popularity")),
        ("gain@random", more("random")),
        ("gain@oracle", more("oracle")),
    ]);
    by_model.into_iter().map(|(name, figure)| (name.to_owned(), figure)).collect()
}

/// Spearman's correlation of how hard players like it with what is thought of it after 20 levels.
fn difficulty(bots: &[Bot], seed: Seed) -> f64 {
    let mut dice = seed.derive("levels").stream();
    let found: Vec<f64> = bots
        .iter()
        .map(|bot| {
            let mut taste = Taste::default();
            for _ in 0..20 {
                let hard = suggest_difficulty(&mut taste, (0.0, 1.0), 0.15, true).difficulty;
                taste.felt(hard, bot.feels(hard, &mut dice));
            }
            f64::from(taste.liked())
        })
        .collect();
    let truth: Vec<f64> = bots.iter().map(|bot| f64::from(bot.difficulty)).collect();
    pearson(&ranks(&found), &ranks(&truth))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut at = 0;
    while at < order.len() {
        let tied = order[at..].iter().take_while(|i| values[**i] == values[order[at]]).count().max(1);
        order[at..at + tied].iter().for_each(|i| ranks[*i] = at as f64 + (tied - 1) as f64 / 2.0);
        at += tied;
    }
    ranks
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().max(1) as f64;
    let (x, y) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
    let dot: f64 = a.iter().zip(b).map(|(a, b)| (a - x) * (b - y)).sum();
    let norm = |v: &[f64], mean: f64| v.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt();
    dot / (norm(a, x) * norm(b, y)).max(1e-12)
}

/// The adjusted Rand index of two groupings (Hubert and Arabie 1985): 1 for the same, 0 for chance.
fn adjusted_rand(a: &[usize], b: &[usize]) -> f64 {
    let pairs = |n: f64| n * (n - 1.0) / 2.0;
    let mut table: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    let (mut rows, mut columns): (BTreeMap<usize, f64>, BTreeMap<usize, f64>) = Default::default();
    for (a, b) in a.iter().zip(b) {
        *table.entry((*a, *b)).or_default() += 1.0;
        *rows.entry(*a).or_default() += 1.0;
        *columns.entry(*b).or_default() += 1.0;
    }
    let both: f64 = table.values().map(|n| pairs(*n)).sum();
    let (of_a, of_b): (f64, f64) =
        (rows.values().map(|n| pairs(*n)).sum(), columns.values().map(|n| pairs(*n)).sum());
    let chance = of_a * of_b / pairs(a.len() as f64).max(1.0);
    let most = f64::midpoint(of_a, of_b);
    if (most - chance).abs() < 1e-12 { 1.0 } else { (both - chance) / (most - chance) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job;
    use crate::nn::Compute;
    use crate::player::PlayerTraining;
    use crate::training::Fit;

    #[test]
    fn agreement_is_1_for_the_same_groups_and_0_for_chance() {
        assert_eq!(adjusted_rand(&[0, 0, 1, 1, 2], &[5, 5, 3, 3, 9]), 1.0);
        let mut dice = Seed::new(1).stream();
        let mut draw = || -> Vec<usize> { (0..5000).map(|_| dice.below(4)).collect() };
        assert!(adjusted_rand(&draw(), &draw()).abs() < 0.01);
        assert!((pearson(&ranks(&[1.0, 2.0, 9.0]), &ranks(&[0.1, 0.3, 0.2])) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn choosing_for_players_beats_popularity_and_chance_and_finds_their_taste() {
        let small = Simulation { players: 150, ..Simulation::default() };
        let report = simulate(small, &Learning::default(), Seed::new(3)).unwrap();
        let figure = |name: &str| report.figures[name];
        assert!(figure("gain@popularity") > 0.25 && figure("gain@random") > 0.25, "{:?}", report.figures);
        assert!(report.ci95["gain@popularity"][0] > 0.0 && figure("gain@oracle") < 0.0);
        assert!(figure("regret@20") < figure("regret@1"), "{:?}", report.figures);
        assert!(figure("difficulty_spearman") > 0.8 && figure("adjusted_rand") > 0.6, "{:?}", report.figures);
        // What the log says of random choices is what random choices got.
        let told = figure("random_told_off_policy");
        assert!(
            (told - report.baselines["random"]["completion"]).abs() < 0.04,
            "{told} {:?}",
            report.baselines
        );
    }

    #[test]
    fn what_was_recorded_trains_a_model_that_is_asked_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let (store, out) = (dir.path().join("play.db"), dir.path().join("model"));
        let simulation = Simulation { players: 60, sessions: 4, ..Simulation::default() };
        let learning = Learning { record: Some(&store), ..Learning::default() };
        simulate(simulation, &learning, Seed::new(1)).unwrap();
        let config = "(
            training: (model: (architecture: Gru, hidden_size: 24, layers: 1, context: 80), steps: 60, sequence: 64, rows: 16,
                learning_rate: 0.01, validate_every: 60, checkpoint_every: 60),
            events: (kinds: [\"QuestFinished\", \"QuestDropped\"]),
            task: Next(other_weight: 1.0),
        )";
        let setup =
            PlayerTraining::from_ron(config, "c").unwrap().prepare(std::slice::from_ref(&store)).unwrap();
        job::run(Fit::new(setup, &out, &Compute::cpu(1)).unwrap(), |_| ()).unwrap();
        let model = PlayerModel::load(&out).unwrap();
        let learning = Learning { model: Some(&model), ..Learning::default() };
        let report = simulate(simulation, &learning, Seed::new(2)).unwrap();
        // How much it gains takes more players and minutes: docs/quests.md has the commands.
        assert!(
            report.figures["gain_with_model"].is_finite() && report.figures["completion_with_model"] > 0.1
        );
        let mut state = model.begin().unwrap();
        let before = finishing(&model, &state);
        assert!(before.iter().all(|chance| chance.is_some_and(|chance| chance > 0.0 && chance < 1.0)));
        for at_ms in 0..6 {
            let fought =
                Happened { kind: "QuestFinished", subject: Some("slay"), value: None, word: None, at_ms };
            model.observe(&mut state, &fought).unwrap();
        }
        assert_ne!(finishing(&model, &state), before);
    }
}
