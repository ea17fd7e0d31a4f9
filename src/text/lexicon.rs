//! [`Lexicon`]: the words that may be written, and which may follow which. A small model with a byte-level
//! vocabulary spells now and then what is no word, and loses the thread of a sentence; one that may write only
//! runs of words that its writers wrote does neither.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Stands where there is no word: before a line, and for what came before a mark or a name.
const NOTHING: &str = "^";
/// Follows the last unit of a line.
pub const END_OF_LINE: &str = "$";

/// What was written just before: two units at most.
type Before = (String, String);

/// A set of words, asked for words and for their beginnings, and what may follow what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lexicon {
    /// Sorted.
    words: Vec<String>,
    /// What follows two units; sorted. Empty: anything follows anything.
    followers: HashMap<Before, Vec<String>>,
}

/// Whether a character belongs to a word.
fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '\'' | '-')
}

/// Words, marks and slots of a line, in order. Slots are units of their own.
fn units(line: &str) -> Vec<String> {
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

/// What stands before the next unit, after this one. A mark or a name cuts off what came before it, and all ends of
/// sentences are alike: the next words need only have been written after such a one.
fn after(before: &Before, unit: &str) -> Before {
    match unit {
        "." | "!" | "?" => (NOTHING.into(), ".".into()),
        _ if unit.starts_with(in_word) => (before.1.clone(), unit.to_owned()),
        _ => (NOTHING.into(), unit.to_owned()),
    }
}

fn start() -> Before {
    (NOTHING.into(), NOTHING.into())
}

impl Lexicon {
    /// The words given, in any order.
    pub fn new(words: impl IntoIterator<Item = String>) -> Self {
        let words: BTreeSet<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
        Self { words: words.into_iter().collect(), followers: HashMap::new() }
    }

    /// Every word of these lines, and what follows what in them. `{slots}` and `<tokens>` are no words.
    pub fn of_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut words = BTreeSet::new();
        let mut followers: HashMap<Before, BTreeSet<String>> = HashMap::new();
        for line in lines {
            let mut before = start();
            for unit in units(line) {
                let next = after(&before, &unit);
                if unit.starts_with(in_word) {
                    words.insert(unit.clone());
                }
                followers.entry(before).or_default().insert(unit);
                before = next;
            }
            followers.entry(before).or_default().insert(END_OF_LINE.into());
        }
        let followers = followers.into_iter().map(|(b, next)| (b, next.into_iter().collect()));
        Self { words: words.into_iter().collect(), followers: followers.collect() }
    }

    /// With what [`Lexicon::phrases`] gave. An entry of less than three units is left out.
    #[must_use]
    pub fn with_phrases<'a>(mut self, phrases: impl IntoIterator<Item = &'a str>) -> Self {
        for phrase in phrases {
            let mut units = phrase.split(' ').map(str::to_owned);
            let (Some(first), Some(second)) = (units.next(), units.next()) else { continue };
            let next: BTreeSet<String> = units.collect();
            if !next.is_empty() {
                self.followers.insert((first, second), next.into_iter().collect());
            }
        }
        self
    }

    /// What follows what, as texts: two units, then those that may come next. Sorted.
    pub fn phrases(&self) -> Vec<String> {
        let sorted: BTreeMap<_, _> = self.followers.iter().collect();
        sorted.into_iter().map(|((a, b), next)| format!("{a} {b} {}", next.join(" "))).collect()
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
    fn next(&self, before: &Before) -> Option<&[String]> {
        self.followers.get(before).map(Vec::as_slice)
    }

    /// Whether `unit` was written after `before`, and the line can go on or end behind it.
    fn follows(&self, before: &Before, unit: &str, slots: &[String]) -> bool {
        self.next(before).is_none_or(|next| next.binary_search_by(|known| known.as_str().cmp(unit)).is_ok())
            && self.goes_on(&after(before, unit), slots)
    }

    /// Whether anything that was written after `before` can be written now: a slot only if it is among `slots`.
    fn goes_on(&self, before: &Before, slots: &[String]) -> bool {
        let possible = |unit: &String| !unit.starts_with('{') || slots.contains(unit);
        self.next(before).is_none_or(|units| units.iter().any(possible))
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
    before: Before,
}

impl Default for Spelling {
    fn default() -> Self {
        Self { word: String::new(), named: false, spaced: true, before: start() }
    }
}

impl Spelling {
    /// Whether `text` can follow: it ends no word that is none, and begins none that cannot become one. With
    /// `strict`, each word must also have been written after those before it, and not right before slots alone
    /// that are not among the ones given.
    pub fn allows(&self, lexicon: &Lexicon, text: &str, strict: Option<&[String]>) -> bool {
        // A name is followed by a blank, a mark, or its 's; half a character is nothing.
        if self.named && text.starts_with(char::is_alphanumeric) || text.contains(char::REPLACEMENT_CHARACTER)
        {
            return false;
        }
        // One blank at a time, and nothing else that is not seen.
        let odd = |(i, c): (usize, char)| {
            c.is_control()
                || c.is_whitespace() && (c != ' ' || (i == 0 && self.spaced) || text.contains("  "))
        };
        if text.char_indices().any(odd) {
            return false;
        }
        // Most tokens only go on with a word, or begin the next.
        let mut next = self.clone();
        for c in text.chars() {
            if in_word(c) {
                next.word.push(c);
                next.spaced = false;
                continue;
            }
            if !next.is_whole(lexicon) {
                return false;
            }
            let written =
                |before: &Before, unit: &str| strict.is_none_or(|slots| lexicon.follows(before, unit, slots));
            if !next.word.is_empty() && !written(&next.before, &next.word) {
                return false;
            }
            next.close();
            if !c.is_whitespace() {
                let mark = c.to_string();
                // Marks stand close to what they end.
                if next.spaced && matches!(c, '.' | ',' | '!' | '?' | ';' | ':')
                    || !written(&next.before, &mark)
                {
                    return false;
                }
                next.before = after(&next.before, &mark);
            }
            next.spaced = c.is_whitespace();
        }
        let Some(slots) = strict else {
            return next.word.is_empty() || lexicon.begins(&next.word);
        };
        let Some(units) = lexicon.next(&next.before) else {
            return next.word.is_empty() || lexicon.begins(&next.word);
        };
        if next.word.is_empty() {
            // A blank alone is written before a name only.
            let blank = !text.is_empty() && text.chars().all(char::is_whitespace);
            return !blank || units.iter().any(|unit| slots.contains(unit));
        }
        beginning(units, &next.word).any(|word| lexicon.goes_on(&after(&next.before, word), slots))
    }

    /// Whether a unit that is no word (a slot, or [`END_OF_LINE`]) was written after what stands here, and the
    /// line can go on with a word or with one of `slots`.
    pub fn allows_unit(&self, lexicon: &Lexicon, unit: &str, slots: &[String]) -> bool {
        lexicon.follows(&self.before, unit, slots)
    }

    /// Whether what stands there so far may end.
    pub fn is_whole(&self, lexicon: &Lexicon) -> bool {
        self.word.is_empty() || lexicon.contains(&self.word)
    }

    /// Whether a name can follow, or the end: nothing stands right before.
    pub fn is_between(&self) -> bool {
        self.word.is_empty()
    }

    fn close(&mut self) {
        if !self.word.is_empty() {
            let word = std::mem::take(&mut self.word);
            self.before = after(&self.before, &word);
        }
    }

    /// Takes in what was written.
    pub fn push(&mut self, text: &str) {
        self.named &= text.is_empty();
        self.spaced = text.chars().last().map_or(self.spaced, char::is_whitespace);
        for c in text.chars() {
            if in_word(c) {
                self.word.push(c);
            } else {
                self.close();
                if !c.is_whitespace() {
                    self.before = after(&self.before, &c.to_string());
                }
            }
        }
    }

    /// A name was written, in the slot with this token.
    pub fn name(&mut self, slot: &str) {
        self.close();
        self.before = after(&self.before, slot);
        (self.named, self.spaced) = (true, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_of_the_lines_can_be_spelled() {
        let lexicon = Lexicon::of_lines(["don't go to {place}, half-wit.", "{person}'s gone"].into_iter());
        assert_eq!(lexicon.words(), ["'s", "don't", "go", "gone", "half-wit", "to"]);
        let mut spelling = Spelling::default();
        let allows = |spelling: &Spelling, text: &str| spelling.allows(&lexicon, text, None);
        assert!(allows(&spelling, "go") && !allows(&spelling, " go"));
        assert!(!allows(&spelling, "place") && !allows(&spelling, "don "));
        spelling.push("gon");
        assert!(!spelling.is_whole(&lexicon) && !allows(&spelling, ". ") && allows(&spelling, "e. "));
        spelling.push("e, ");
        assert!(spelling.is_whole(&lexicon) && allows(&spelling, "go to go"));
        spelling.name("{person}");
        assert!(allows(&spelling, "'s") && !allows(&spelling, "go"));
    }

    #[test]
    fn only_runs_that_were_written_can_be_written() {
        let lines = ["go to {place}. it is near.", "it was near the pond.", "go home. it rains."];
        let lexicon = Lexicon::of_lines(lines.into_iter());
        let copy = Lexicon::new(lexicon.words().to_vec());
        let copy = copy.with_phrases(lexicon.phrases().iter().map(String::as_str));
        assert_eq!(copy, lexicon);
        let mut spelling = Spelling::default();
        let slots = ["{place}".to_owned()];
        let allows = |spelling: &Spelling, text: &str| spelling.allows(&lexicon, text, Some(&slots));
        assert!(allows(&spelling, "go") && allows(&spelling, "i") && !allows(&spelling, "home"));
        spelling.push("go");
        assert!(allows(&spelling, " to") && allows(&spelling, " home") && !allows(&spelling, " near"));
        // Only a place follows "go to", and here there is none.
        assert!(
            !spelling.allows(&lexicon, " to", Some(&[])) && spelling.allows(&lexicon, " home", Some(&[]))
        );
        spelling.push(" to");
        assert!(allows(&spelling, " ") && !allows(&spelling, "."));
        spelling.push(" ");
        assert!(spelling.allows_unit(&lexicon, "{place}", &slots));
        assert!(!spelling.allows_unit(&lexicon, "{item}", &slots));
        spelling.name("{place}");
        spelling.push(".");
        // Any sentence that was written after another may come, and the end.
        assert!(allows(&spelling, " it") && spelling.allows_unit(&lexicon, END_OF_LINE, &slots));
        assert!(!allows(&spelling, " go") && !allows(&spelling, " "));
        spelling.push(" it");
        assert!(allows(&spelling, " rains") && allows(&spelling, " is") && !allows(&spelling, " was"));
        // What was never written is not held to it.
        spelling.push(" home near");
        assert!(allows(&spelling, " rains") && !allows(&spelling, " cats"));
    }
}
