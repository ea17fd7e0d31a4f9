//! The dialogue language: control tokens, and how a talk becomes a prompt.
//!
//! ```text
//! <bos><voice:warm><known><quest:fetch><player>any work for me?<npc><act:Offer>there is {item} ..<end>
//! ```
//! Training samples and prompts are written by the same functions, so they cannot drift apart.

use super::act::Act;
use super::memory::Exchange;
use super::slot::Slot;
use crate::text;

/// Begins what the player said.
pub const PLAYER: &str = "<player>";
/// The player only walked up.
pub const WALKS_UP: &str = "<walks_up>";
/// Begins what the NPC says.
pub const NPC: &str = "<npc>";
/// Ends what the NPC says.
pub const END: &str = "<end>";
/// The voice of a speaker whose voice the model does not know.
pub const ANY_VOICE: &str = "any";
/// What may stand in `<quest:..>`.
pub const QUESTS: [&str; 7] = ["none", "fetch", "slay", "deliver", "visit", "active", "done"];

/// What is true of a talk before its first word.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Setting {
    /// The speaker's voice.
    pub voice: String,
    /// Whether the two have met before.
    pub known: bool,
    /// Whether the player did something to be spoken of.
    pub deed: bool,
    /// One of [`QUESTS`].
    pub quest: String,
}

/// Every special token of the dialogue language, for a model with these voices.
pub fn special_tokens(voices: &[String]) -> Vec<String> {
    let mut tokens: Vec<String> =
        [PLAYER, WALKS_UP, NPC, END, "<known>", "<stranger>", "<deed>"].map(str::to_owned).into();
    tokens.extend(QUESTS.iter().map(|word| format!("<quest:{word}>")));
    tokens.extend(Act::ALL.iter().map(|act| act.token()));
    tokens.extend(Slot::ALL.iter().map(|slot| slot.token()));
    tokens.push(voice_token(ANY_VOICE));
    tokens.extend(voices.iter().map(|voice| voice_token(voice)));
    tokens
}

fn voice_token(voice: &str) -> String {
    format!("<voice:{voice}>")
}

/// The head of a talk.
pub fn head(setting: &Setting) -> String {
    let known = if setting.known { "<known>" } else { "<stranger>" };
    let deed = if setting.deed { "<deed>" } else { "" };
    format!("<bos>{}{known}{deed}<quest:{}>", voice_token(&setting.voice), setting.quest)
}

/// What the player said (delexicalised), up to where the NPC's act comes.
pub fn player_turn(said: &str) -> String {
    if said.trim().is_empty() {
        format!("{WALKS_UP}{NPC}")
    } else {
        format!("{PLAYER}{}{NPC}", text::fold(said.trim()))
    }
}

/// What the NPC answered, act first.
pub fn npc_turn(act: Act, line: &str) -> String {
    format!("{}{}{END}", act.token(), text::fold(line.trim()))
}

/// A prompt: the head, as many of the last exchanges as fit into `budget` bytes, what the player says now.
pub fn prompt<'a>(
    setting: &Setting,
    exchanges: impl DoubleEndedIterator<Item = &'a Exchange>,
    said: &str,
    budget: usize,
) -> String {
    let now = player_turn(clip(said, budget / 2));
    let mut left = budget.saturating_sub(now.len());
    let mut kept = Vec::new();
    for exchange in exchanges.rev() {
        let turn = player_turn(&exchange.player) + &npc_turn(exchange.act, &exchange.line);
        if turn.len() > left {
            break;
        }
        left -= turn.len();
        kept.push(turn);
    }
    kept.reverse();
    format!("{}{}{now}", head(setting), kept.concat())
}

/// At most `limit` bytes of `text`, cut at a character and never inside a slot.
fn clip(text: &str, limit: usize) -> &str {
    let mut end = text.floor_char_boundary(limit);
    if let Some(open) = text[..end].rfind('{').filter(|&open| !text[open..end].contains('}')) {
        end = open;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting() -> Setting {
        Setting { voice: "warm".into(), known: true, deed: false, quest: "none".into() }
    }

    #[test]
    fn a_prompt_ends_where_the_answer_begins() {
        let prompt = prompt(&setting(), [].iter(), "Any work?", 400);
        assert_eq!(prompt, "<bos><voice:warm><known><quest:none><player>any work?<npc>");
    }

    #[test]
    fn old_exchanges_are_dropped_first() {
        let old = Exchange { player: "x".repeat(200), act: Act::Greet, line: "old".into() };
        let new = Exchange { player: "hi".into(), act: Act::Greet, line: "new".into() };
        let prompt = prompt(&setting(), [old, new].iter(), "bye", 150);
        assert!(prompt.contains("new") && !prompt.contains("old"));
    }

    #[test]
    fn clipping_never_cuts_a_slot() {
        assert_eq!(clip("where is {person} now", 13), "where is ");
        assert_eq!(clip("\u{e9}\u{e9}", 3), "\u{e9}");
    }
}
