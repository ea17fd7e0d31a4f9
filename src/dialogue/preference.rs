//! What players like: pairs of answers to the same words, from what they read and clicked away, and from what designers
//! picked.

use super::act::Act;
use super::memory::Exchange;
use super::prompt::{Setting, head, npc_turn, player_turn};
use super::source::{LineOutcome, RecordedExchange};
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::seed::Seed;
use crate::text::{Tokenizer, fold, normalise};
use crate::training::{Rejected, Sample};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
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

/// Two answers to one prompt, of which the first is preferred. Picks are kept as JSONL, one a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreferencePair {
    /// Who preferred it: a player's session, or a designer. Pairs of one stay in one part.
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
}

/// With how many lines that were read each line that was clicked away is paired, at most.
const EACH: usize = 3;

/// Pairs each line that a player clicked away with lines that the same player read, which the same voice said to the same
/// words. `recorded` carries each exchange with the name of its session.
pub fn preference_pairs(recorded: &[(String, RecordedExchange)], seed: Seed) -> Vec<PreferencePair> {
    let mut alike: BTreeMap<[String; 3], Vec<&RecordedExchange>> = BTreeMap::new();
    for (session, exchange) in recorded.iter().filter(|(_, exchange)| !exchange.fallback) {
        let said = normalise(&fold(&exchange.exchange.player));
        alike.entry([session.clone(), exchange.setting.voice.clone(), said]).or_default().push(exchange);
    }
    let (mut pairs, mut seen) = (Vec::new(), HashSet::new());
    let mut noise = seed.derive("preference pairs").stream();
    for ([session, ..], exchanges) in alike {
        let with = |outcome| exchanges.iter().filter(move |exchange| exchange.outcome == outcome);
        let read: Vec<&&RecordedExchange> = with(LineOutcome::Read).collect();
        for skipped in with(LineOutcome::Skipped) {
            let mut order: Vec<usize> = (0..read.len()).collect();
            noise.shuffle(&mut order);
            for chosen in order.into_iter().take(EACH).map(|i| read[i]) {
                let lines = [&chosen.exchange.line, &skipped.exchange.line].map(|line| normalise(line));
                if lines[0] == lines[1] || !seen.insert((session.clone(), lines)) {
                    continue;
                }
                let answer =
                    |of: &RecordedExchange| Answer { act: of.exchange.act, line: of.exchange.line.clone() };
                pairs.push(PreferencePair {
                    by: session.clone(),
                    setting: chosen.setting.clone(),
                    before: chosen.before.clone(),
                    player: chosen.exchange.player.clone(),
                    chosen: answer(chosen),
                    rejected: answer(skipped),
                });
            }
        }
    }
    pairs
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

/// Pairs as samples, those to learn from and those held out: the pairs of a fifth of the players, at least of one. Fails when
/// all are of one player.
pub fn preference_samples(
    pairs: &[PreferencePair],
    tokenizer: &Tokenizer,
    seed: Seed,
) -> Result<[Vec<Sample>; 2]> {
    let mut players: Vec<&str> = pairs.iter().map(|pair| pair.by.as_str()).collect();
    players.sort_unstable();
    players.dedup();
    if players.len() < 2 {
        return Err(Error::Data {
            source_name: format!("{} pairs of answers", pairs.len()),
            reason: format!("they are of {} players, and some must be held out", players.len()),
            remedy: "record more players".into(),
        });
    }
    seed.derive("held-out players").stream().shuffle(&mut players);
    let held: HashSet<&str> = players[..players.len().div_ceil(5)].iter().copied().collect();
    let mut samples = [Vec::new(), Vec::new()];
    for pair in pairs {
        samples[usize::from(held.contains(pair.by.as_str()))].push(sample(pair, tokenizer)?);
    }
    Ok(samples)
}

fn sample(pair: &PreferencePair, tokenizer: &Tokenizer) -> Result<Sample> {
    let turns = pair.before.iter().map(|e| player_turn(&e.player) + &npc_turn(e.act, &e.line));
    let prompt = format!("{}{}{}", head(&pair.setting), turns.collect::<String>(), player_turn(&pair.player));
    let prompt = tokenizer.encode(&prompt)?;
    let whole = |answer: &Answer| -> Result<(Vec<u32>, Vec<f32>)> {
        let answer = tokenizer.encode(&npc_turn(answer.act, &answer.line))?;
        let loss = prompt.iter().map(|_| 0.0).chain(answer.iter().map(|_| 1.0)).collect();
        Ok((prompt.iter().copied().chain(answer).collect(), loss))
    };
    let (ids, loss) = whole(&pair.chosen)?;
    let mut sample = Sample::new(ids, loss);
    sample.player = Some(pair.by.as_str().into());
    let (ids, loss) = whole(&pair.rejected)?;
    sample.rejected = Some(Rejected { ids, loss, margin: 0.0 });
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialogue::prompt::special_tokens;

    fn exchange(player: &str, line: &str, outcome: LineOutcome) -> RecordedExchange {
        let setting = Setting { voice: "warm".into(), known: true, deed: false, quest: "none".into() };
        let exchange = Exchange { player: player.into(), act: Act::Greet, line: line.into() };
        let npc = "Mira".into();
        RecordedExchange { npc, talk: 1, setting, before: Vec::new(), exchange, outcome, fallback: false }
    }

    fn recorded() -> Vec<(String, RecordedExchange)> {
        let (read, skipped) = (LineOutcome::Read, LineOutcome::Skipped);
        let of = |session: &str, player: &str, line: &str, outcome| {
            (session.to_owned(), exchange(player, line, outcome))
        };
        vec![
            of("a", "Hello.", "Come in.", read),
            of("a", "hello", "Oh! You!", skipped),
            of("a", "hello", "Come in!", skipped),
            of("a", "bye", "Oh! You!", skipped),
            of("b", "hello", "Good day.", read),
            of("b", "hello", "Oh! You!", skipped),
        ]
    }

    #[test]
    fn a_skipped_line_is_paired_with_what_the_same_player_read_after_the_same_words() {
        let pairs = preference_pairs(&recorded(), Seed::new(1));
        let lines: Vec<[&str; 3]> =
            pairs.iter().map(|p| [p.by.as_str(), p.chosen.line.as_str(), p.rejected.line.as_str()]).collect();
        // "Come in!" is what was read, but for its mark.
        assert_eq!(lines, [["a", "Come in.", "Oh! You!"], ["b", "Good day.", "Oh! You!"]]);
    }

    #[test]
    fn samples_share_their_prompt_and_no_player_is_on_both_sides() {
        let tokenizer =
            Tokenizer::train(["come in good day oh you"].iter(), 400, &special_tokens(&["warm".into()]))
                .unwrap();
        let pairs = preference_pairs(&recorded(), Seed::new(1));
        let [train, held] = preference_samples(&pairs, &tokenizer, Seed::new(1)).unwrap();
        assert_eq!((train.len(), held.len()), (1, 1));
        let rejected = train[0].rejected.as_ref().unwrap();
        let prompt = train[0].loss.iter().take_while(|w| **w == 0.0).count();
        assert_eq!(train[0].ids[..prompt], rejected.ids[..prompt]);
        assert!(rejected.loss[prompt..].iter().all(|w| *w == 1.0) && train[0].ids != rejected.ids);
        let one: Vec<PreferencePair> = pairs.into_iter().filter(|pair| pair.by == "a").collect();
        assert!(preference_samples(&one, &tokenizer, Seed::new(1)).is_err());
    }

    #[test]
    fn picks_are_read_and_a_bad_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("picks.jsonl");
        let pairs = preference_pairs(&recorded(), Seed::new(1));
        let text: Vec<String> = pairs.iter().map(|pair| serde_json::to_string(pair).unwrap()).collect();
        std::fs::write(&path, text.join("\n\n")).unwrap();
        assert_eq!(read_picks(&path).unwrap(), pairs);
        std::fs::write(&path, format!("{}\n{{\"by\": 3}}", text[0])).unwrap();
        assert!(read_picks(&path).unwrap_err().to_string().contains("picks.jsonl:2"));
    }
}
