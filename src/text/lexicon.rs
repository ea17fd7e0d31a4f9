//! [`Lexicon`]: the words that may be written, and which may follow which. A small model with a byte-level
//! vocabulary spells now and then what is no word, and loses the thread of a sentence; one that may write only
//! runs of words that its writers wrote, in sentences that begin as theirs did, does neither.

use super::Vocabulary;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Begins a line; its label follows.
const LINE: char = '^';
/// Begins a later sentence of a line; its label follows.
const SENTENCE: char = '.';
/// Follows the last unit of a line.
pub const END_OF_LINE: &str = "$";
/// How many units back a line is held to what was written.
const ORDER: usize = 4;

/// What was written just before: the last units of the sentence, with its beginning, joined by blanks.
type Before = String;

/// A set of words, asked for words and for their beginnings, and what may follow what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lexicon {
    /// Sorted.
    words: Vec<String>,
    /// What follows a run of units; sorted. Empty: anything follows anything.
    followers: HashMap<Before, Vec<String>>,
}

/// The slots that can be filled now, and which runs can therefore be brought to the end of their sentence.
#[derive(Debug, Default)]
pub struct Possible {
    slots: Vec<String>,
    /// What was found out.
    ends: RefCell<HashMap<Before, bool>>,
}

impl Possible {
    /// With these slots' tokens.
    pub fn new(slots: Vec<String>) -> Self {
        Self { slots, ends: RefCell::default() }
    }

    /// With these slots' tokens, in that order; what was found out with the same ones stays known.
    pub fn keep(&mut self, slots: Vec<String>) {
        if self.slots != slots {
            *self = Self::new(slots);
        }
    }
}

/// Whether a character belongs to a word.
fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '\'' | '-')
}

/// Whether a character ends a sentence or a part of one.
fn is_stop(c: char) -> bool {
    matches!(c, '.' | ',' | '!' | '?' | ';' | ':')
}

/// Words, marks and slots of a line, in order. Slots are units of their own.
pub(crate) fn units(line: &str) -> Vec<String> {
    let (mut units, mut word, mut inside) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        if inside {
            word.push(c);
            if matches!(c, '}' | '>') {
                units.push(std::mem::take(&mut word));
                inside = false;
            }
        } else if in_word(c) {
            word.push(c);
        } else {
            if !word.is_empty() {
                units.push(std::mem::take(&mut word));
            }
            if matches!(c, '{' | '<') {
                inside = true;
                word.push(c);
            } else if !c.is_whitespace() {
                units.push(c.to_string());
            }
        }
    }
    if !word.is_empty() {
        units.push(word);
    }
    units
}

/// The next wider label: what comes after the first dot, or none.
fn wider(label: &str) -> &str {
    label.split_once('.').map_or("", |(_, wider)| wider)
}

/// What stands before the next unit, after this one.
fn after(before: &str, unit: &str, label: &str) -> Before {
    if matches!(unit, "." | "!" | "?") {
        return format!("{SENTENCE}{label}");
    }
    let skip = (before.split(' ').count() + 1).saturating_sub(ORDER);
    let kept = before.split(' ').skip(skip).chain([unit]);
    kept.collect::<Vec<_>>().join(" ")
}

impl Lexicon {
    /// Every word of these lines, and what follows what in them. Each line comes after its label (who speaks how, say),
    /// which has no blank: sentences begin as those of the same label did. A label with a dot also counts as what comes after
    /// it (`warm.Greet` as `Greet`), and any as none. `{slots}` and `<tokens>` are no words.
    pub fn of_lines<'a>(lines: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut words = BTreeSet::new();
        let mut followers: HashMap<Before, BTreeSet<String>> = HashMap::new();
        for (label, line) in lines {
            let units = units(line);
            words.extend(units.iter().filter(|unit| unit.starts_with(in_word)).cloned());
            for label in BTreeSet::from([label, wider(label), ""]) {
                let mut before = format!("{LINE}{label}");
                for unit in &units {
                    let next = after(&before, unit, label);
                    let follow = followers.entry(before).or_default();
                    // How loud a sentence ends is free.
                    if matches!(unit.as_str(), "." | "!") {
                        follow.extend([".", "!"].map(str::to_owned));
                    } else {
                        follow.insert(unit.clone());
                    }
                    before = next;
                }
                followers.entry(before).or_default().insert(END_OF_LINE.into());
            }
        }
        let followers = followers.into_iter().map(|(b, next)| (b, next.into_iter().collect()));
        Self { words: words.into_iter().collect(), followers: followers.collect() }
    }

    /// The words, sorted.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether there are no words.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    fn contains(&self, word: &str) -> bool {
        self.words.binary_search_by(|known| known.as_str().cmp(word)).is_ok()
    }

    fn begins(&self, start: &str) -> bool {
        beginning(&self.words, start).next().is_some()
    }

    /// What may come after `before`; nothing: anything, as it was never written.
    fn next(&self, before: &str) -> Option<&[String]> {
        self.followers.get(before).map(Vec::as_slice)
    }

    /// Whether `unit` was written after `before`, and the sentence can be brought to its end behind it.
    fn follows(&self, before: &str, unit: &str, label: &str, possible: &Possible) -> bool {
        self.next(before).is_none_or(|next| next.binary_search_by(|known| known.as_str().cmp(unit)).is_ok())
            && self.ends(&after(before, unit, label), label, possible)
    }

    /// Whether a sentence that has come so far can be brought to its end with the slots there are.
    fn ends(&self, before: &str, label: &str, possible: &Possible) -> bool {
        let mut met = HashSet::new();
        let ends = self.reaches(before, label, possible, &mut met);
        if !ends {
            possible.ends.borrow_mut().extend(met.into_iter().map(|before| (before, false)));
        }
        ends
    }

    /// The same, without coming by what was `met` on the way. Of a way that was found, all is known to end; of the rest
    /// nothing, unless none was found.
    fn reaches(&self, before: &str, label: &str, possible: &Possible, met: &mut HashSet<Before>) -> bool {
        if before.starts_with(SENTENCE) && !before.contains(' ') {
            return true;
        }
        let Some(next) = self.next(before) else { return true };
        if let Some(known) = possible.ends.borrow().get(before) {
            return *known;
        }
        if !met.insert(before.to_owned()) {
            return false;
        }
        let can = |unit: &String| {
            unit == END_OF_LINE
                || (!unit.starts_with('{') || possible.slots.contains(unit))
                    && self.reaches(&after(before, unit, label), label, possible, met)
        };
        let ends = next.iter().any(can);
        if ends {
            possible.ends.borrow_mut().insert(before.to_owned(), true);
        }
        ends
    }
}

/// Those of `sorted` that begin so.
fn beginning<'a>(sorted: &'a [String], start: &'a str) -> impl Iterator<Item = &'a String> {
    let at = sorted.partition_point(|known| known.as_str() < start);
    sorted[at..].iter().take_while(move |known| known.starts_with(start))
}

/// The line being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelling {
    word: String,
    /// A name was just written.
    named: bool,
    /// The last character is a blank, or there is none.
    spaced: bool,
    /// The last character ends a sentence or a part of one: a blank has to follow before a word.
    marked: bool,
    before: Before,
    label: String,
}

impl Default for Spelling {
    fn default() -> Self {
        let (word, label) = (String::new(), String::new());
        Self { word, named: false, spaced: true, marked: false, before: LINE.into(), label }
    }
}

impl Spelling {
    /// A line with this label, or with the next wider one that the lexicon knows.
    pub fn labelled(lexicon: &Lexicon, label: &str) -> Self {
        let mut label = label;
        while !label.is_empty() && lexicon.next(&format!("{LINE}{label}")).is_none() {
            label = wider(label);
        }
        Self { before: format!("{LINE}{label}"), label: label.to_owned(), ..Self::default() }
    }

    /// The same, where a sentence begins, with the next wider label; nothing if there is none.
    pub fn widened(&self) -> Option<Self> {
        let [line, sentence] = [LINE, SENTENCE].map(|mark| self.before == format!("{mark}{}", self.label));
        if self.label.is_empty() || !self.word.is_empty() || !(line || sentence) {
            return None;
        }
        let label = wider(&self.label).to_owned();
        let mark = if line { LINE } else { SENTENCE };
        Some(Self { before: format!("{mark}{label}"), label, ..self.clone() })
    }

    /// Whether `text` can follow: it ends no word that is none, and begins none that cannot become one. With
    /// `strict`, each word must also have been written after those before it, in a sentence that can be brought to
    /// its end.
    pub fn allows(&self, lexicon: &Lexicon, text: &str, strict: Option<&Possible>) -> bool {
        let reading = Reading::new(self, lexicon, strict);
        text.chars().try_fold(reading, |reading, c| reading.read(c)).is_some_and(|reading| reading.may_stop())
    }

    /// Which tokens can follow ([`Spelling::allows`]), by token; those that spell nothing cannot.
    pub fn allowed(&self, lexicon: &Lexicon, tokens: &Vocabulary, strict: Option<&Possible>) -> Vec<bool> {
        tokens.allowed(Reading::new(self, lexicon, strict), Reading::read, Reading::may_stop)
    }

    /// Whether a unit that is no word (a slot, or [`END_OF_LINE`]) was written after what stands here, and the
    /// sentence can be brought to its end behind it.
    pub fn allows_unit(&self, lexicon: &Lexicon, unit: &str, possible: &Possible) -> bool {
        lexicon.follows(&self.before, unit, &self.label, possible)
    }

    /// What was written after what stands here and this word.
    pub fn after_word<'a>(&self, lexicon: &'a Lexicon, word: &str) -> Option<&'a [String]> {
        lexicon.next(&after(&self.before, word, &self.label))
    }

    /// Whether what stands there so far may end.
    pub fn is_whole(&self, lexicon: &Lexicon) -> bool {
        self.word.is_empty() || lexicon.contains(&self.word)
    }

    /// Whether a name can follow, or the end: nothing stands right before.
    pub fn is_between(&self) -> bool {
        self.word.is_empty()
    }

    /// Whether a name may follow without a blank: not right behind a stop.
    pub fn takes_a_name(&self) -> bool {
        self.word.is_empty() && !self.marked
    }

    fn close(&mut self) {
        if !self.word.is_empty() {
            let word = std::mem::take(&mut self.word);
            self.before = after(&self.before, &word, &self.label);
        }
    }

    /// Takes in what was written.
    pub fn push(&mut self, text: &str) {
        self.named &= text.is_empty();
        self.spaced = text.chars().last().map_or(self.spaced, char::is_whitespace);
        self.marked = text.chars().last().map_or(self.marked, is_stop);
        for c in text.chars() {
            if in_word(c) {
                self.word.push(c);
            } else {
                self.close();
                if !c.is_whitespace() {
                    self.before = after(&self.before, &c.to_string(), &self.label);
                }
            }
        }
    }

    /// A name was written, in the slot with this token.
    pub fn name(&mut self, slot: &str) {
        self.close();
        self.before = after(&self.before, slot, &self.label);
        (self.named, self.spaced, self.marked) = (true, false, false);
    }
}

/// A text that may follow, read so far.
struct Reading<'a> {
    lexicon: &'a Lexicon,
    strict: Option<&'a Possible>,
    next: Spelling,
    /// Something was read.
    begun: bool,
    /// And it was not only a blank.
    inked: bool,
}

impl<'a> Reading<'a> {
    fn new(spelling: &Spelling, lexicon: &'a Lexicon, strict: Option<&'a Possible>) -> Self {
        Self { lexicon, strict, next: spelling.clone(), begun: false, inked: false }
    }

    /// With one more character; nothing if no text can go on so.
    fn read(&self, c: char) -> Option<Self> {
        let before = &self.next;
        // A name is followed by a blank, a mark, or its 's; half a character is nothing.
        let joined = !self.begun && before.named && c.is_alphanumeric();
        // One blank at a time, and nothing else that is not seen.
        let odd = c.is_control() || c.is_whitespace() && (c != ' ' || before.spaced);
        if joined || odd || c == char::REPLACEMENT_CHARACTER {
            return None;
        }
        let mut next = before.clone();
        if in_word(c) {
            next.word.push(c);
            next.spaced = false;
            return (!before.marked && self.is_begun(&next)).then_some(self.with(next, true));
        }
        let written = |from: &str, unit: &str| {
            self.strict.is_none_or(|possible| self.lexicon.follows(from, unit, &before.label, possible))
        };
        let closes =
            before.word.is_empty() || before.is_whole(self.lexicon) && written(&before.before, &before.word);
        if !closes {
            return None;
        }
        next.close();
        next.marked = is_stop(c);
        next.spaced = c.is_whitespace();
        if c.is_whitespace() {
            return Some(self.with(next, false));
        }
        let mark = c.to_string();
        // Marks stand close to what they end.
        if before.spaced && is_stop(c) || !written(&next.before, &mark) {
            return None;
        }
        next.before = after(&next.before, &mark, &next.label);
        Some(self.with(next, true))
    }

    fn with(&self, next: Spelling, inked: bool) -> Self {
        Self { next, begun: true, inked: self.inked || inked, ..*self }
    }

    /// What was written after what stands there, where it is held to it.
    fn units(&self, spelling: &Spelling) -> Option<&'a [String]> {
        self.strict.and(self.lexicon.next(&spelling.before))
    }

    /// Whether a word that can stand there begins as the one under way.
    fn is_begun(&self, next: &Spelling) -> bool {
        match self.units(next) {
            Some(units) => beginning(units, &next.word).next().is_some(),
            None => self.lexicon.begins(&next.word),
        }
    }

    /// Whether what was read may be all of a text.
    fn may_stop(&self) -> bool {
        let next = &self.next;
        let (Some(possible), Some(units)) = (self.strict, self.units(next)) else {
            return next.word.is_empty() || self.lexicon.begins(&next.word);
        };
        if next.word.is_empty() {
            // A blank alone is written before a name only.
            let blank = self.begun && !self.inked;
            return !blank || units.iter().any(|unit| possible.slots.contains(unit));
        }
        let can =
            |word: &String| self.lexicon.ends(&after(&next.before, word, &next.label), &next.label, possible);
        beginning(units, &next.word).any(can)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lexicon(lines: &[(&str, &str)]) -> Lexicon {
        Lexicon::of_lines(lines.iter().copied())
    }

    #[test]
    fn only_words_of_the_lines_can_be_spelled() {
        let lexicon = lexicon(&[("", "don't go to {place}, half-wit."), ("", "{person}'s gone")]);
        assert_eq!(lexicon.words(), ["'s", "don't", "go", "gone", "half-wit", "to"]);
        let mut spelling = Spelling::default();
        let allows = |spelling: &Spelling, text: &str| spelling.allows(&lexicon, text, None);
        assert!(allows(&spelling, "go") && !allows(&spelling, " go"));
        assert!(!allows(&spelling, "place") && !allows(&spelling, "don "));
        spelling.push("go.");
        assert!(!allows(&spelling, "go") && allows(&spelling, " go") && !spelling.takes_a_name());
        let mut spelling = Spelling::default();
        spelling.push("gon");
        assert!(!spelling.is_whole(&lexicon) && !allows(&spelling, ". ") && allows(&spelling, "e. "));
        spelling.push("e, ");
        assert!(spelling.is_whole(&lexicon) && allows(&spelling, "go to go"));
        spelling.name("{person}");
        assert!(allows(&spelling, "'s") && !allows(&spelling, "go"));
    }

    const LINES: [(&str, &str); 3] = [
        ("kind", "go to {place}. it is near."),
        ("kind", "it was near the pond, they say, on the hill."),
        ("rude", "go home. it rains on the hill, and on the pond."),
    ];

    #[test]
    fn only_runs_that_were_written_can_be_written() {
        let lexicon = lexicon(&LINES);
        let place = Possible::new(vec!["{place}".to_owned()]);
        let mut spelling = Spelling::default();
        let allows = |spelling: &Spelling, text: &str| spelling.allows(&lexicon, text, Some(&place));
        assert!(allows(&spelling, "go") && allows(&spelling, "i") && !allows(&spelling, "home"));
        spelling.push("go");
        assert!(allows(&spelling, " to") && allows(&spelling, " home") && !allows(&spelling, " near"));
        // Only a place follows "go to", and here there is none.
        let nowhere = Possible::default();
        assert!(!spelling.allows(&lexicon, " to", Some(&nowhere)));
        assert!(spelling.allows(&lexicon, " home", Some(&nowhere)));
        spelling.push(" to");
        assert!(allows(&spelling, " ") && !allows(&spelling, "."));
        spelling.push(" ");
        assert!(spelling.allows_unit(&lexicon, "{place}", &place));
        assert!(!spelling.allows_unit(&lexicon, "{item}", &place));
        spelling.name("{place}");
        spelling.push(".");
        // Any sentence that was written after another may come, and the end.
        assert!(allows(&spelling, " it") && spelling.allows_unit(&lexicon, END_OF_LINE, &place));
        assert!(!allows(&spelling, " go") && !allows(&spelling, " "));
        spelling.push(" it");
        assert!(allows(&spelling, " rains") && allows(&spelling, " is") && !allows(&spelling, " was"));
        // What was never written is not held to it.
        spelling.push(" home near");
        assert!(allows(&spelling, " rains") && !allows(&spelling, " cats"));
    }

    #[test]
    fn sentences_begin_as_those_of_their_label_and_join_others_where_a_long_run_agrees() {
        let lexicon = lexicon(&LINES);
        let possible = Possible::default();
        let allows = |spelling: &Spelling, text: &str| spelling.allows(&lexicon, text, Some(&possible));
        let mut rude = Spelling::labelled(&lexicon, "rude");
        assert!(allows(&rude, "go") && !allows(&rude, "it"));
        rude.push("go");
        assert!(allows(&rude, " home") && !allows(&rude, " to"));
        rude.push(" home. it rains on the hill");
        // "on the hill" alone is no run of four: what came before it counts.
        assert!(allows(&rude, ",") && !allows(&rude, "."));
        let unknown = Spelling::labelled(&lexicon, "wise");
        assert!(allows(&unknown, "go") && allows(&unknown, "it"));
        let mut rude = Spelling::labelled(&lexicon, "very.rude");
        assert!(allows(&rude, "go") && !allows(&rude, "it"));
        assert!(allows(&rude.widened().unwrap(), "it"));
        rude.push("go");
        assert!(rude.widened().is_none());
    }

    #[test]
    fn a_slot_that_cannot_be_filled_far_ahead_closes_the_way_to_it() {
        let lines = [("", "ask the old man at {place} about it."), ("", "ask the old woman.")];
        let (lexicon, nothing) = (lexicon(&lines), Possible::default());
        let mut spelling = Spelling::default();
        spelling.push("ask the old");
        assert!(spelling.allows(&lexicon, " woman", Some(&nothing)));
        assert!(!spelling.allows(&lexicon, " man", Some(&nothing)));
        assert!(spelling.allows(&lexicon, " man", Some(&Possible::new(vec!["{place}".into()]))));
    }

    #[test]
    fn all_tokens_are_judged_at_once_as_each_would_be() {
        let lexicon = lexicon(&LINES);
        let texts = [
            "go", " to", " home", ".", "!", "?", " ", ",", " it", "it", " the", " h", "il", "l, a", "on",
            "\n", "  ", "", "'s", "\u{fffd}",
        ];
        let vocabulary = Vocabulary::new(texts.map(|text| Some(text.to_owned())).into());
        let possible = [Possible::default(), Possible::new(vec!["{place}".into()])];
        let mut noise = crate::seed::Seed::new(1).stream();
        let mut some = 0;
        for _ in 0..300 {
            let label = ["kind", "rude", ""][noise.below(3)];
            let mut spelling = Spelling::labelled(&lexicon, label);
            for _ in 0..12 {
                for strict in [None, Some(&possible[0]), Some(&possible[1])] {
                    let allowed = spelling.allowed(&lexicon, &vocabulary, strict);
                    let one_by_one: Vec<bool> =
                        texts.iter().map(|text| spelling.allows(&lexicon, text, strict)).collect();
                    assert_eq!(allowed, one_by_one, "{spelling:?}");
                    some += allowed.iter().filter(|allowed| **allowed).count();
                }
                // Mostly what is allowed.
                let text = texts[noise.below(texts.len())];
                if noise.chance(0.1) {
                    spelling.name("{place}");
                } else if noise.chance(0.1) || spelling.allows(&lexicon, text, Some(&possible[1])) {
                    spelling.push(text);
                }
            }
        }
        assert!(some > 1000, "{some}");
    }

    #[test]
    fn a_sentence_may_end_as_loud_as_another_and_asks_only_where_one_asked() {
        let lexicon = lexicon(&[("", "go home!"), ("", "it rains."), ("", "who are you?")]);
        let possible = Possible::default();
        for (words, ends) in [("go home", [true, true, false]), ("who are you", [false, false, true])] {
            let mut spelling = Spelling::default();
            spelling.push(words);
            let can = |mark: &str| spelling.allows(&lexicon, mark, Some(&possible));
            assert_eq!([".", "!", "?"].map(can), ends);
        }
    }

    #[test]
    fn a_run_that_comes_round_again_can_be_brought_to_its_end_whatever_was_asked_before() {
        let lexicon = lexicon(&[("", "on and on and on and on we go."), ("", "on we went.")]);
        let ends = |possible: &Possible, word: &str, last: &str| {
            let mut spelling = Spelling::default();
            spelling.push(word);
            spelling.allows(&lexicon, last, Some(possible))
        };
        let asked = Possible::default();
        assert!(
            ends(&asked, "on", " and")
                && ends(&asked, "on and on", " and")
                && ends(&asked, "on and on and", " on")
        );
        for (word, last) in [("on and on", " and"), ("on and on and", " on")] {
            assert!(ends(&Possible::default(), word, last));
        }
    }
}
