//! What players like: pairs of answers, from what they read and clicked away, and from what designers picked.
//!
//! A single click says little: nobody reads everything, and now and then a line is read that bores. A small model says its
//! lines again, so each line is judged by all that heard it, and a liked line is compared with a disliked one of the same
//! voice. Each stands after the words it answered: contrasts across prompts are those of relative preference optimisation
//! (Yin et al. 2024).

use super::act::Act;
use super::memory::Exchange;
use super::prompt::{Setting, head, npc_turn, player_turn};
use super::source::{LineOutcome, RecordedExchange};
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::seed::{Seed, Stream};
use crate::text::{Tokenizer, fold};
use crate::training::{Rejected, Sample};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

/// An answer: what it does and, with slots, what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Its act.
    pub act: Act,
    /// Its line.
    pub line: String,
}

/// What an answer answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// What was true before the first word.
    pub setting: Setting,
    /// The exchanges before.
    #[serde(default)]
    pub before: Vec<Exchange>,
    /// What the player said; empty: they walked up.
    pub player: String,
}

/// Two answers, of which the first is preferred. Picks are kept as JSONL, one a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreferencePair {
    /// Who preferred it: a player's session, or a designer. What one prefers stays in one part.
    pub by: String,
    /// What was true before the first word.
    pub setting: Setting,
    /// The exchanges before.
    #[serde(default)]
    pub before: Vec<Exchange>,
    /// What the player said; empty: they walked up.
    pub player: String,
    /// The answer that was preferred.
    pub chosen: Answer,
    /// The other.
    pub rejected: Answer,
    /// What the other answered, if that was something else. Only the lines are compared then, not the acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected_after: Option<Asked>,
}

/// With how many liked lines each disliked one is paired, at most.
const EACH: usize = 12;

/// Pairs of answers to learn from, and held out ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preferences {
    /// To learn from.
    pub train: Vec<PreferencePair>,
    /// Held out: of players whose judgements are not in `train`, none that compares two lines which `train` compares, and
    /// none of different voices, which are told apart too easily.
    pub held: Vec<PreferencePair>,
    /// How many players (and designers) there are.
    pub players: usize,
    /// Lines that too few heard, or that were read about as often as not.
    pub undecided: usize,
    /// Pairs of held-out players that `train` also compares.
    pub doubles: usize,
}

impl Preferences {
    /// Holds out a fifth of the players and designers, at least one, and pairs the lines of each part
    /// on its own. `recorded` carries each exchange with the name of its session. Fails when all are of one.
    pub fn new(
        recorded: &[(String, RecordedExchange)],
        picks: Vec<PreferencePair>,
        least: usize,
        seed: Seed,
    ) -> Result<Self> {
        let names = recorded.iter().map(|(session, _)| session).chain(picks.iter().map(|pick| &pick.by));
        let mut players: Vec<&String> = names.collect::<BTreeSet<_>>().into_iter().collect();
        if players.len() < 2 {
            return Err(Error::Data {
                source_name: format!("{} exchanges and {} picks", recorded.len(), picks.len()),
                reason: format!("they are of {} players, and some must be held out", players.len()),
                remedy: "record more players".into(),
            });
        }
        seed.derive("held-out players").stream().shuffle(&mut players);
        let held: HashSet<String> =
            players[..players.len().div_ceil(5)].iter().map(|&by| by.clone()).collect();
        let mut found = Self { players: players.len(), ..Self::default() };
        let mut noise = seed.derive("preference pairs").stream();
        for is_held in [false, true] {
            let of_part = |by: &String| held.contains(by) == is_held;
            let part = recorded.iter().filter(|(session, _)| of_part(session));
            let (mut pairs, undecided) = preference_pairs(part, least.max(1), !is_held, &mut noise);
            found.undecided += undecided;
            pairs.extend(picks.iter().filter(|pick| of_part(&pick.by)).cloned());
            *(if is_held { &mut found.held } else { &mut found.train }) = pairs;
        }
        let lines = |pair: &PreferencePair| [&pair.chosen, &pair.rejected].map(|answer| fold(&answer.line));
        let known: HashSet<[String; 2]> = found.train.iter().map(lines).collect();
        let before = found.held.len();
        found.held.retain(|pair| !known.contains(&lines(pair)));
        found.doubles = before - found.held.len();
        Ok(found)
    }
}

/// Pairs each disliked line with liked ones of the same voice, and with `across`, where those are too few, of others. A line is liked if it was read at least `least` times
/// more often than it was clicked away, and disliked the other way round. Also says how many lines are neither. `recorded`
/// carries each exchange with the name of its session.
fn preference_pairs<'a>(
    recorded: impl Iterator<Item = &'a (String, RecordedExchange)>,
    least: usize,
    across: bool,
    noise: &mut Stream,
) -> (Vec<PreferencePair>, usize) {
    type Heard<'a> = [Vec<&'a (String, RecordedExchange)>; 2];
    let mut voices: BTreeMap<&str, BTreeMap<String, Heard<'a>>> = BTreeMap::new();
    for heard in recorded.filter(|(_, exchange)| !exchange.fallback) {
        let (voice, line) = (heard.1.setting.voice.as_str(), fold(heard.1.exchange.line.trim()));
        let of_line = voices.entry(voice).or_default().entry(line).or_default();
        of_line[usize::from(heard.1.outcome == LineOutcome::Skipped)].push(heard);
    }
    let (mut liked, mut disliked, mut undecided) = (Vec::new(), Vec::new(), 0);
    for (voice, lines) in voices {
        for [read, skipped] in lines.into_values() {
            if read.len() >= skipped.len() + least {
                liked.push((voice, read));
            } else if skipped.len() >= read.len() + least {
                disliked.push((voice, skipped));
            } else {
                undecided += 1;
            }
        }
    }
    let mut pairs = Vec::new();
    for (voice, skipped) in &disliked {
        let mut order: Vec<usize> = (0..liked.len()).filter(|at| across || liked[*at].0 == *voice).collect();
        noise.shuffle(&mut order);
        order.sort_by_key(|at| liked[*at].0 != *voice);
        for at in order.into_iter().take(EACH) {
            let one = |of: &[&'a (String, RecordedExchange)], noise: &mut Stream| of[noise.below(of.len())];
            let ((by, chosen), (_, rejected)) = (one(&liked[at].1, noise), one(skipped, noise));
            pairs.push(pair(by, chosen, rejected));
        }
    }
    (pairs, undecided)
}

fn pair(by: &str, chosen: &RecordedExchange, rejected: &RecordedExchange) -> PreferencePair {
    let answer = |of: &RecordedExchange| Answer { act: of.exchange.act, line: of.exchange.line.clone() };
    let asked = |of: &RecordedExchange| Asked {
        setting: of.setting.clone(),
        before: of.before.clone(),
        player: of.exchange.player.clone(),
    };
    let [asked, other] = [chosen, rejected].map(asked);
    PreferencePair {
        by: by.to_owned(),
        rejected_after: (other != asked).then_some(other),
        setting: asked.setting,
        before: asked.before,
        player: asked.player,
        chosen: answer(chosen),
        rejected: answer(rejected),
    }
}

/// Reads picks, JSONL.
pub fn read_picks(path: &Path) -> Result<Vec<PreferencePair>> {
    let file = path.display().to_string();
    let text = read_text(path, 1 << 30, "read the picks")?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(n, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|e| Error::Syntax {
            file: file.clone(),
            line: n + 1,
            column: e.column(),
            reason: e.to_string().split(" at line ").next().unwrap_or("not JSON").to_owned(),
            remedy: "give one pair a line: by, setting, player, chosen, rejected".into(),
        })
    };
    lines.map(parse).collect()
}

/// Pairs as samples. The answers count, of two that answer different words the lines without the acts. Fails where a text
/// cannot be encoded.
pub fn preference_samples(pairs: &[PreferencePair], tokenizer: &Tokenizer) -> Result<Vec<Sample>> {
    pairs.iter().map(|pair| sample(pair, tokenizer)).collect()
}

fn sample(pair: &PreferencePair, tokenizer: &Tokenizer) -> Result<Sample> {
    let whole = |setting: &Setting, before: &[Exchange], player: &str, answer: &Answer| {
        let turns = before.iter().map(|e| player_turn(&e.player) + &npc_turn(e.act, &e.line));
        let prompt = format!("{}{}{}", head(setting), turns.collect::<String>(), player_turn(player));
        let mut ids = tokenizer.encode(&prompt)?;
        let begin = ids.len() + usize::from(pair.rejected_after.is_some());
        ids.extend(tokenizer.encode(&npc_turn(answer.act, &answer.line))?);
        let loss = (0..ids.len()).map(|at| f32::from(u8::from(at >= begin))).collect();
        Ok::<(Vec<u32>, Vec<f32>), Error>((ids, loss))
    };
    let (ids, loss) = whole(&pair.setting, &pair.before, &pair.player, &pair.chosen)?;
    let mut sample = Sample::new(ids, loss);
    let (ids, loss) = match &pair.rejected_after {
        Some(Asked { setting, before, player }) => whole(setting, before, player, &pair.rejected)?,
        None => whole(&pair.setting, &pair.before, &pair.player, &pair.rejected)?,
    };
    sample.rejected = Some(Rejected { ids, loss, margin: 0.0 });
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::prompt::special_tokens;

    const READ: LineOutcome = LineOutcome::Read;
    const SKIPPED: LineOutcome = LineOutcome::Skipped;

    fn heard(session: &str, player: &str, line: &str, outcome: LineOutcome) -> (String, RecordedExchange) {
        let setting = Setting { voice: "warm".into(), known: true, deed: false, quest: "none".into() };
        let exchange = Exchange { player: player.into(), act: Act::Greet, line: line.into() };
        let (npc, before) = ("Mira".into(), Vec::new());
        let exchange = RecordedExchange { npc, talk: 1, setting, before, exchange, outcome, fallback: false };
        (session.to_owned(), exchange)
    }

    /// Ten players who mostly read "Come in." and mostly do not read "Come in!"; each hears something of their own.
    fn recorded() -> Vec<(String, RecordedExchange)> {
        let mut recorded = Vec::new();
        for n in 0..10 {
            let (session, most) = (format!("s{n}"), n % 5 > 0);
            let outcomes = if most { [READ, SKIPPED] } else { [SKIPPED, READ] };
            recorded.push(heard(&session, "Hello.", "Come in.", outcomes[0]));
            recorded.push(heard(&session, "", "Come in!", outcomes[1]));
            recorded.push(heard(&session, "bye", &format!("Good day, {n}."), SKIPPED));
        }
        recorded
    }

    fn lines(pairs: &[PreferencePair]) -> Vec<[&str; 2]> {
        pairs.iter().map(|pair| [pair.chosen.line.as_str(), pair.rejected.line.as_str()]).collect()
    }

    #[test]
    fn a_line_is_judged_by_all_who_heard_it_and_each_stands_after_its_own_words() {
        let (pairs, undecided) = preference_pairs(recorded().iter(), 2, true, &mut Seed::new(1).stream());
        assert_eq!((lines(&pairs), undecided), (vec![["Come in.", "Come in!"]], 10));
        assert_eq!(pairs[0].player, "Hello.");
        assert_eq!(pairs[0].rejected_after.as_ref().unwrap().player, "");
        let (pairs, undecided) = preference_pairs(recorded().iter(), 1, true, &mut Seed::new(1).stream());
        assert_eq!((pairs.len(), undecided), (11, 0));
        let voiced = |voice: &str, line: &str, outcome| {
            let mut heard = heard("a", "", line, outcome);
            heard.1.setting.voice = voice.into();
            heard
        };
        // The liked lines of other voices fill up what the own voice lacks.
        let mut many: Vec<_> = (0..EACH).map(|n| voiced("gruff", &format!("No {n}."), READ)).collect();
        many.extend([voiced("warm", "Yes!", SKIPPED), voiced("warm", "Yes.", READ)]);
        let (pairs, _) = preference_pairs(many.iter(), 1, true, &mut Seed::new(1).stream());
        let own = lines(&pairs).iter().filter(|lines| **lines == ["Yes.", "Yes!"]).count();
        assert_eq!((pairs.len(), own), (EACH, 1));
        let (pairs, _) = preference_pairs(many.iter(), 1, false, &mut Seed::new(1).stream());
        assert_eq!(lines(&pairs), [["Yes.", "Yes!"]]);
    }

    #[test]
    fn players_are_held_out_before_lines_are_judged() {
        let picks: Vec<PreferencePair> = (0..10)
            .map(|n| {
                let chosen = heard("", "hi", &format!("Yes {n}."), READ).1;
                pair(&format!("s{n}"), &chosen, &heard("", "hi", "No.", READ).1)
            })
            .collect();
        let found = Preferences::new(&recorded(), picks, 2, Seed::new(1)).unwrap();
        assert_eq!((found.players, found.train.len(), found.held.len()), (10, 9, 2));
        // What the two held-out players said of the lines that all heard is in the training part already, or too little.
        assert!(found.doubles <= 1);
        let by = |pairs: &[PreferencePair]| -> BTreeSet<String> {
            pairs.iter().map(|pair| pair.by.clone()).collect()
        };
        assert!(by(&found.train).is_disjoint(&by(&found.held)));
        let one: Vec<_> = recorded().into_iter().filter(|(session, _)| session == "s1").collect();
        assert!(Preferences::new(&one, Vec::new(), 1, Seed::new(1)).is_err());
    }

    #[test]
    fn an_act_is_compared_only_between_answers_to_the_same_words() {
        let tokenizer =
            Tokenizer::train(["come in good day"].iter(), 400, &special_tokens(&["warm".into()])).unwrap();
        let [hello, walked] = ["Hello.", ""].map(|player| heard("a", player, "Come in.", READ).1);
        let loud = heard("a", "", "Come in!", SKIPPED).1;
        let pairs = [pair("a", &hello, &loud), pair("a", &walked, &loud)];
        let samples = preference_samples(&pairs, &tokenizer).unwrap();
        let first = |ids: &[u32], loss: &[f32]| {
            let at = loss.iter().position(|weight| *weight == 1.0).unwrap();
            assert!(loss[at..].iter().all(|weight| *weight == 1.0));
            tokenizer.decode(&ids[at..at + 1])
        };
        for (sample, acts) in samples.iter().zip([false, true]) {
            let rejected = sample.rejected.as_ref().unwrap();
            for token in [first(&sample.ids, &sample.loss), first(&rejected.ids, &rejected.loss)] {
                assert_eq!(token == Act::Greet.token(), acts, "{token}");
            }
        }
        let prompt = samples[1].loss.iter().take_while(|weight| **weight == 0.0).count();
        assert_eq!(samples[1].ids[..prompt], samples[1].rejected.as_ref().unwrap().ids[..prompt]);
    }

    #[test]
    fn picks_are_read_and_a_bad_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("picks.jsonl");
        let (pairs, _) = preference_pairs(recorded().iter(), 1, true, &mut Seed::new(1).stream());
        let text: Vec<String> = pairs.iter().map(|pair| serde_json::to_string(pair).unwrap()).collect();
        std::fs::write(&path, text.join("\n\n")).unwrap();
        assert_eq!(read_picks(&path).unwrap(), pairs);
        std::fs::write(&path, format!("{}\n{{\"by\": 3}}", text[0])).unwrap();
        assert!(read_picks(&path).unwrap_err().to_string().contains("picks.jsonl:2"));
    }
}
