//! [`Chooser`]: which of several quests a player is offered.
//!
//! Thompson sampling (1933): what a player finishes of each kind is a beta distribution that begins where all players are,
//! how hard they like it a distribution over a grid; quests are ranked by a draw of both. The chance with which each could
//! have been chosen is told, so that what is recorded can be evaluated for other choosers. A share of the choices goes to
//! all kinds alike, so that rare tastes are found. Adapts with every quest taken, dropped or finished, between trainings.

use super::graph::{Quest, QuestKind};
use crate::player::{PlayerModel, PlayerState};
use crate::seed::Stream;
use serde::{Deserialize, Serialize};

/// Kinds of quests.
pub const KINDS: usize = QuestKind::ALL.len();
/// Places on the difficulty grid.
const GRID: usize = 20;
/// How much harder or easier than one likes still fits, as a deviation.
const WIDTH: f32 = 0.25;
/// Draws by which the chances are found.
const DRAWS: usize = 64;
/// How many of everybody's quests the prior of one player is worth.
const PRIOR: f32 = 2.0;

/// What is known of what a player likes. Save it with the game; a few hundred bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taste {
    finished: [f32; KINDS],
    dropped: [f32; KINDS],
    /// The chance of each place on the grid to be how hard the player likes it.
    difficulty: Vec<f32>,
    /// What was suggested last.
    suggested: Option<f32>,
    /// Kinds offered last, the newest last.
    recent: Vec<QuestKind>,
}

impl Default for Taste {
    fn default() -> Self {
        Self {
            finished: [0.0; KINDS],
            dropped: [0.0; KINDS],
            difficulty: vec![1.0 / GRID as f32; GRID],
            suggested: None,
            recent: Vec::new(),
        }
    }
}

/// How what was played felt, as it can be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Felt {
    /// Done at once, without a try lost.
    TooEasy,
    /// Done, with some effort.
    Right,
    /// Not done, or only after many tries.
    TooHard,
}

fn place(at: usize) -> f32 {
    (at as f32 + 0.5) / GRID as f32
}

fn fit(difficulty: f32, liked: f32) -> f32 {
    let z = (difficulty - liked) / WIDTH;
    (-0.5 * z * z).exp()
}

impl Taste {
    /// A quest of a kind, so hard, was finished or dropped.
    pub fn note(&mut self, kind: QuestKind, difficulty: f32, finished: bool) {
        let at = kind.index();
        // How much of the outcome is due to the kind, and how much to how hard it was, is told apart as far as is known.
        let scale = self.rate(kind).clamp(0.05, 0.95) / self.likely_fit(difficulty).max(0.3);
        for (n, chance) in self.difficulty.iter_mut().enumerate() {
            let p = (scale * fit(difficulty, place(n))).clamp(0.02, 0.98);
            *chance *= if finished { p } else { 1.0 - p };
        }
        normalise(&mut self.difficulty);
        if finished {
            self.finished[at] += 1.0;
        } else {
            // A quest that was too hard or too easy says less about its kind.
            self.dropped[at] += self.likely_fit(difficulty).clamp(0.2, 1.0);
        }
    }

    fn likely_fit(&self, difficulty: f32) -> f32 {
        fit(difficulty, self.liked())
    }

    /// How something so hard felt.
    pub fn felt(&mut self, difficulty: f32, felt: Felt) {
        for (n, chance) in self.difficulty.iter_mut().enumerate() {
            let gap = (difficulty - place(n)) / 0.12;
            let hard = 1.0 / (1.0 + (-(gap - 1.0)).exp());
            let easy = 1.0 / (1.0 + (gap + 1.0).exp());
            *chance *= match felt {
                Felt::TooHard => hard,
                Felt::TooEasy => easy,
                Felt::Right => (1.0 - hard - easy).max(0.02),
            }
            .max(0.01);
        }
        normalise(&mut self.difficulty);
    }

    /// The share of quests of a kind that are finished, as far as is known of this player alone (1 in 2 before anything is).
    pub fn rate(&self, kind: QuestKind) -> f32 {
        let at = kind.index();
        (self.finished[at] + 1.0) / (self.finished[at] + self.dropped[at] + 2.0)
    }

    /// How hard the player likes it, 0 to 1: the mean of what is likely.
    pub fn liked(&self) -> f32 {
        self.difficulty.iter().enumerate().map(|(at, chance)| chance * place(at)).sum()
    }

    /// How far off that may be: a deviation.
    pub fn doubt(&self) -> f32 {
        let mean = self.liked();
        let squares =
            self.difficulty.iter().enumerate().map(|(at, chance)| chance * (place(at) - mean).powi(2));
        squares.sum::<f32>().sqrt()
    }

    /// How many quests it rests on.
    pub fn quests(&self) -> f32 {
        self.finished.iter().chain(&self.dropped).sum()
    }

    /// The finished share of each kind, as far as is known; what the styles of players are grouped by.
    pub fn style(&self, all: &Population) -> Vec<f32> {
        QuestKind::ALL.iter().map(|kind| mean(self.beta(*kind, all))).collect()
    }

    fn beta(&self, kind: QuestKind, all: &Population) -> (f32, f32) {
        self.beta_from(kind, all.rate(kind), PRIOR)
    }

    /// What is known of this player, after as many quests as `weight` that were finished at the rate of `prior`.
    fn beta_from(&self, kind: QuestKind, prior: f32, weight: f32) -> (f32, f32) {
        let at = kind.index();
        (self.finished[at] + weight * prior, self.dropped[at] + weight * (1.0 - prior))
    }
}

fn mean((a, b): (f32, f32)) -> f32 {
    a / (a + b)
}

fn normalise(chances: &mut [f32]) {
    let total: f32 = chances.iter().sum();
    if total > 0.0 && total.is_finite() {
        chances.iter_mut().for_each(|chance| *chance /= total);
    } else {
        chances.fill(1.0 / GRID as f32);
    }
}

/// What all players finish.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Population {
    finished: [f32; KINDS],
    dropped: [f32; KINDS],
}

impl Population {
    /// A quest of a kind was finished or dropped.
    pub fn note(&mut self, kind: QuestKind, finished: bool) {
        let counts = if finished { &mut self.finished } else { &mut self.dropped };
        counts[kind.index()] += 1.0;
    }

    /// The share that is finished.
    pub fn rate(&self, kind: QuestKind) -> f32 {
        let at = kind.index();
        (self.finished[at] + 2.0) / (self.finished[at] + self.dropped[at] + 4.0)
    }
}

/// Learns from a recorded event: `QuestFinished` and `QuestDropped`, about the kind of quest ([`QuestKind::name`]), with its
/// difficulty as their value. `taste` is that of the player whose event it is, if it matters. Others are passed over.
pub fn note_event(
    kind: &str,
    subject: Option<&str>,
    value: Option<f32>,
    taste: Option<&mut Taste>,
    all: &mut Population,
) {
    let finished = match kind {
        "QuestFinished" => true,
        "QuestDropped" => false,
        _ => return,
    };
    let Some(kind) = QuestKind::ALL.into_iter().find(|kind| Some(kind.name()) == subject) else { return };
    all.note(kind, finished);
    if let Some(taste) = taste {
        taste.note(kind, value.unwrap_or(0.5).clamp(0.0, 1.0), finished);
    }
}

/// What a designer allows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// How often one kind may be offered in a row.
    pub in_a_row: usize,
    /// The share of choices that goes to all kinds alike.
    pub floor: f32,
    /// The least seconds between two offers.
    pub pause_s: f32,
    /// How many quests may be open at once.
    pub open: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { in_a_row: 4, floor: 0.05, pause_s: 0.0, open: 5 }
    }
}

/// A quest that may be offered.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm<'a> {
    /// The quest.
    pub quest: &'a Quest,
    /// Whether the designer's story wants it told now: it goes first.
    pub story: bool,
    /// How much a player model is drawn to it, 0 to 1. None: no model was asked.
    pub affinity: Option<f32>,
    /// How likely a player model thinks it is that they finish a quest of its kind ([`finishing`]). None: no model was asked.
    pub chance: Option<f32>,
}

/// How likely the player finishes a quest of each kind ([`QuestKind::ALL`]) rather than drop it, as a model thinks that has
/// learned from `QuestFinished` and `QuestDropped`. None: it has not.
pub fn finishing(model: &PlayerModel, state: &PlayerState) -> [Option<f32>; KINDS] {
    let names = QuestKind::ALL.iter().map(|kind| kind.name());
    let all = model.rather(state, ["QuestFinished", "QuestDropped"], names, 0).unwrap_or_default();
    std::array::from_fn(|at| all.get(at).copied().flatten())
}

/// How much a player model is drawn to each kind of quest ([`QuestKind::ALL`]), beside the other kinds: 0.5 where it is as to
/// the mean. None: it has never heard of that kind.
pub fn affinities(model: &PlayerModel, state: &PlayerState) -> [Option<f32>; KINDS] {
    let all = model.affinities(state, QuestKind::ALL.iter().map(|kind| kind.name()));
    let known: Vec<f32> = all.iter().flatten().copied().collect();
    let mean = known.iter().sum::<f32>() / known.len().max(1) as f32;
    std::array::from_fn(|at| Some(1.0 / (1.0 + (mean - (*all.get(at)?)?).exp())))
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Which.
    pub at: usize,
    /// The chance with which it was chosen: for off-policy evaluation.
    pub propensity: f32,
    /// How likely the player is to finish it, as far as is known.
    pub expected: f32,
    /// Why, for the player or the designer to read.
    pub because: String,
}

/// As many quests a player model's word counts as.
const LEARNED: f32 = 8.0;

/// Chooses.
#[derive(Clone, Debug, Default)]
pub struct Chooser {
    /// What a designer allows.
    pub caps: Caps,
    /// What all players finish.
    pub population: Population,
}

impl Chooser {
    /// Chooses one of several quests for a player. Nothing if there are none.
    pub fn choose(&self, arms: &[Arm<'_>], taste: &mut Taste, dice: &mut Stream) -> Option<Choice> {
        if let Some(at) = arms.iter().position(|arm| arm.story) {
            let expected = self.expected(&arms[at], taste);
            let because = "because the story wants it told now".to_owned();
            self.offered(taste, arms[at].quest.kind);
            return Some(Choice { at, propensity: 1.0, expected, because });
        }
        let row = taste.recent.iter().rev().take(self.caps.in_a_row.max(1));
        let tired = match taste.recent.last() {
            Some(last)
                if row.clone().count() >= self.caps.in_a_row.max(1) && row.clone().all(|k| k == last) =>
            {
                Some(*last)
            }
            _ => None,
        };
        let mut allowed: Vec<usize> =
            (0..arms.len()).filter(|at| Some(arms[*at].quest.kind) != tired).collect();
        if allowed.is_empty() {
            allowed = (0..arms.len()).collect();
        }
        if allowed.is_empty() {
            return None;
        }
        let mut chances = vec![0.0; arms.len()];
        for _ in 0..DRAWS {
            let rates: Vec<f32> = QuestKind::ALL
                .iter()
                .map(|kind| {
                    let of_kind = arms.iter().find(|arm| arm.quest.kind == *kind);
                    let (a, b) = match of_kind.and_then(|arm| arm.chance) {
                        Some(chance) => taste.beta_from(*kind, chance.clamp(0.02, 0.98), LEARNED),
                        None => taste.beta(*kind, &self.population),
                    };
                    beta(a, b, dice)
                })
                .collect();
            let liked = draw(&taste.difficulty, dice);
            let score = |at: &usize| {
                let arm = &arms[*at];
                let own = rates[arm.quest.kind.index()] * fit(arm.quest.difficulty, liked);
                own * (0.5 + arm.affinity.unwrap_or(0.5))
            };
            let best = allowed.iter().max_by(|a, b| score(a).total_cmp(&score(b))).copied();
            chances[best.unwrap_or(0)] += (1.0 - self.caps.floor) / DRAWS as f32;
        }
        // The floor: every kind alike, and within a kind every quest.
        let mut kinds: Vec<QuestKind> = allowed.iter().map(|at| arms[*at].quest.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for &at in &allowed {
            let kind = arms[at].quest.kind;
            let alike = allowed.iter().filter(|other| arms[**other].quest.kind == kind).count();
            chances[at] += self.caps.floor / (kinds.len() * alike) as f32;
        }
        let at = draw_index(&chances, dice);
        let kind = arms[at].quest.kind;
        let expected = self.expected(&arms[at], taste);
        let because = self.because(&arms[at], taste, tired);
        self.offered(taste, kind);
        Some(Choice { at, propensity: chances[at], expected, because })
    }

    fn offered(&self, taste: &mut Taste, kind: QuestKind) {
        taste.recent.push(kind);
        let most = self.caps.in_a_row.max(1);
        if taste.recent.len() > most {
            taste.recent.remove(0);
        }
    }

    fn expected(&self, arm: &Arm<'_>, taste: &Taste) -> f32 {
        mean(taste.beta(arm.quest.kind, &self.population)) * fit(arm.quest.difficulty, taste.liked())
    }

    fn because(&self, arm: &Arm<'_>, taste: &Taste, tired: Option<QuestKind>) -> String {
        let kind = arm.quest.kind;
        let at = kind.index();
        let (finished, all) = (taste.finished[at], taste.finished[at] + taste.dropped[at].ceil());
        let mut reason = if all >= 2.0 && finished / all >= 0.5 {
            format!("because you finished {finished} of {all} {} quests", kind.name())
        } else if let Some(tired) = tired {
            format!("because you had many {} quests in a row", tired.name())
        } else if all >= 1.0 {
            format!("because you have not had many {} quests yet", kind.name())
        } else if arm.affinity.is_some_and(|affinity| affinity > 0.6) {
            format!("because those who play like you go for {} quests", kind.name())
        } else {
            let kind = crate::dialogue::indefinite(&format!("{} quest", kind.name()));
            format!("because you have not tried {kind} yet")
        };
        if taste.quests() >= 5.0 && taste.doubt() < 0.2 && (arm.quest.difficulty - taste.liked()).abs() < 0.15
        {
            reason.push_str(", and it is about as hard as you like it");
        }
        reason
    }
}

/// How hard the next thing of a kind should be, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    /// 0 to 1.
    pub difficulty: f32,
    /// How far off that may be.
    pub doubt: f32,
    /// Why, in words.
    pub because: String,
}

/// Suggests how hard the next thing should be: what the player seems to like, within `bounds`, at most `step` from what was
/// suggested last. `adapt: false` (the player has switched it off) gives the middle of the bounds, always.
pub fn suggest_difficulty(taste: &mut Taste, bounds: (f32, f32), step: f32, adapt: bool) -> Suggestion {
    let (low, high) = (bounds.0.min(bounds.1).clamp(0.0, 1.0), bounds.0.max(bounds.1).clamp(0.0, 1.0));
    let middle = f32::midpoint(low, high);
    if !adapt {
        return Suggestion { difficulty: middle, doubt: 0.0, because: "the difficulty is fixed".into() };
    }
    let last = taste.suggested.unwrap_or(middle);
    let wanted = taste.liked();
    let difficulty = wanted.clamp(last - step.abs(), last + step.abs()).clamp(low, high);
    taste.suggested = Some(difficulty);
    let doubt = taste.doubt();
    let because = if doubt > 0.22 {
        "little is known yet of how hard you like it".to_owned()
    } else if difficulty > last + 0.01 {
        "the last ones were rather easy for you".to_owned()
    } else if difficulty < last - 0.01 {
        "the last ones were rather hard for you".to_owned()
    } else {
        "this seems to be as you like it".to_owned()
    };
    Suggestion { difficulty, doubt, because }
}

fn draw(chances: &[f32], dice: &mut Stream) -> f32 {
    place(draw_index(chances, dice))
}

fn draw_index(chances: &[f32], dice: &mut Stream) -> usize {
    let mut at = dice.uniform() * chances.iter().sum::<f32>();
    for (n, chance) in chances.iter().enumerate() {
        at -= chance;
        if at < 0.0 {
            return n;
        }
    }
    chances.iter().rposition(|chance| *chance > 0.0).unwrap_or(0)
}

/// A draw of a beta distribution.
fn beta(a: f32, b: f32, dice: &mut Stream) -> f32 {
    let (x, y) = (gamma(a, dice), gamma(b, dice));
    if x + y > 0.0 { x / (x + y) } else { 0.5 }
}

/// A draw of a gamma distribution of scale 1 (Marsaglia and Tsang 2000).
fn gamma(shape: f32, dice: &mut Stream) -> f32 {
    if shape < 1.0 {
        let u = dice.uniform().max(1e-12);
        return gamma(shape + 1.0, dice) * u.powf(1.0 / shape.max(1e-3));
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = dice.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && dice.uniform().max(1e-12).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn quest(kind: QuestKind, difficulty: f32) -> Quest {
        Quest {
            giver: "Mira".into(),
            kind,
            steps: Vec::new(),
            difficulty,
            reward: 1,
            text: String::new(),
            because: String::new(),
        }
    }

    fn arms(quests: &[Quest]) -> Vec<Arm<'_>> {
        quests.iter().map(|quest| Arm { quest, story: false, affinity: None, chance: None }).collect()
    }

    #[test]
    fn propensities_are_the_chances_of_being_chosen() {
        let quests: Vec<Quest> = QuestKind::ALL.iter().map(|kind| quest(*kind, 0.5)).collect();
        let (chooser, mut dice) = (Chooser::default(), Seed::new(1).stream());
        let mut taste = Taste::default();
        for _ in 0..6 {
            taste.note(QuestKind::Slay, 0.5, true);
            taste.note(QuestKind::Talk, 0.5, false);
        }
        let (mut chosen, mut told) = ([0.0f32; KINDS], [0.0f32; KINDS]);
        for _ in 0..3000 {
            let mut taste = taste.clone();
            let choice = chooser.choose(&arms(&quests), &mut taste, &mut dice).unwrap();
            chosen[choice.at] += 1.0 / 3000.0;
            // 1 / propensity weighs to 1 for each arm that can be chosen.
            told[choice.at] += 1.0 / choice.propensity / 3000.0;
        }
        assert!(chosen[QuestKind::Slay.index()] > 0.3 && chosen[QuestKind::Talk.index()] < 0.05);
        // The floor reaches even what is disliked, and importance weights are right on the mean.
        assert!(chosen.iter().all(|share| *share > 0.0));
        let mean = told.iter().sum::<f32>() / KINDS as f32;
        assert!((mean - 1.0).abs() < 0.25, "{told:?}");
    }

    #[test]
    fn one_kind_is_not_offered_for_ever_and_story_goes_first() {
        let quests = [quest(QuestKind::Slay, 0.5), quest(QuestKind::Talk, 0.5)];
        let (chooser, mut dice, mut taste) = (Chooser::default(), Seed::new(1).stream(), Taste::default());
        for _ in 0..30 {
            taste.note(QuestKind::Slay, 0.5, true);
            taste.note(QuestKind::Talk, 0.5, false);
        }
        let mut row = 0;
        for _ in 0..200 {
            let choice = chooser.choose(&arms(&quests), &mut taste, &mut dice).unwrap();
            row = if choice.at == 0 { row + 1 } else { 0 };
            assert!(row <= chooser.caps.in_a_row && !choice.because.is_empty());
        }
        let mut told = arms(&quests);
        told[1].story = true;
        let choice = chooser.choose(&told, &mut taste, &mut dice).unwrap();
        assert_eq!((choice.at, choice.propensity), (1, 1.0));
        assert!(chooser.choose(&[], &mut taste, &mut dice).is_none());
    }

    #[test]
    fn difficulty_follows_the_player_in_bounds_and_can_be_switched_off() {
        let mut taste = Taste::default();
        let mut last = 0.5;
        for _ in 0..20 {
            let told = suggest_difficulty(&mut taste, (0.2, 0.7), 0.1, true);
            assert!((told.difficulty - last).abs() < 0.1001 && (0.2..=0.7).contains(&told.difficulty));
            assert!(!told.because.is_empty());
            last = told.difficulty;
            taste.felt(last, Felt::TooEasy);
        }
        assert!(last > 0.69, "{last}");
        assert_eq!(suggest_difficulty(&mut taste, (0.2, 0.6), 0.1, false).difficulty, 0.4);
    }
}
