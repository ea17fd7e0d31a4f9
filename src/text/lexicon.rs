//! [`Lexicon`]: the words that may be written. A small model with a byte-level vocabulary spells now and then
//! what is no word; one that may only write words its corpus has does not.

use std::collections::BTreeSet;

/// A set of words, asked for words and for their beginnings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lexicon {
    /// Sorted.
    words: Vec<String>,
}

/// Whether a character belongs to a word.
fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '\'' | '-')
}

impl Lexicon {
    /// The words given.
    pub fn new(words: impl IntoIterator<Item = String>) -> Self {
        let words: BTreeSet<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
        Self { words: words.into_iter().collect() }
    }

    /// Every word of these lines; `{slots}` and `<tokens>` are none.
    pub fn of_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut words = BTreeSet::new();
        for line in lines {
            let (mut word, mut inside) = (String::new(), false);
            for c in line.chars() {
                if matches!(c, '{' | '<') {
                    inside = true;
                }
                if !inside && in_word(c) {
                    word.push(c);
                } else if !word.is_empty() {
                    words.insert(std::mem::take(&mut word));
                }
                if matches!(c, '}' | '>') {
                    inside = false;
                }
            }
            words.insert(word);
        }
        Self::new(words)
    }

    /// The words, sorted.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    fn contains(&self, word: &str) -> bool {
        self.words.binary_search_by(|known| known.as_str().cmp(word)).is_ok()
    }

    fn begins(&self, start: &str) -> bool {
        let at = self.words.partition_point(|known| known.as_str() < start);
        self.words.get(at).is_some_and(|known| known.starts_with(start))
    }
}

/// The word being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spelling {
    word: String,
    /// A name was just written.
    named: bool,
}

impl Spelling {
    /// Whether `text` can follow: it ends no word that is none, and begins none that cannot become one.
    pub fn allows(&self, lexicon: &Lexicon, text: &str) -> bool {
        // A name is followed by a blank, a mark, or its 's; half a character is nothing.
        if self.named && text.starts_with(char::is_alphanumeric) || text.contains(char::REPLACEMENT_CHARACTER)
        {
            return false;
        }
        let mut next = self.clone();
        for c in text.chars() {
            if in_word(c) {
                next.word.push(c);
            } else if next.is_whole(lexicon) {
                next.word.clear();
            } else {
                return false;
            }
        }
        next.word.is_empty() || lexicon.begins(&next.word)
    }

    /// Whether what stands there so far may end.
    pub fn is_whole(&self, lexicon: &Lexicon) -> bool {
        self.word.is_empty() || lexicon.contains(&self.word)
    }

    /// Whether a name can follow, or the end: nothing stands right before.
    pub fn is_between(&self) -> bool {
        self.word.is_empty()
    }

    /// Takes in what was written.
    pub fn push(&mut self, text: &str) {
        self.named &= text.is_empty();
        for c in text.chars() {
            if in_word(c) { self.word.push(c) } else { self.word.clear() }
        }
    }

    /// A name was written.
    pub fn name(&mut self) {
        self.word.clear();
        self.named = true;
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
        assert!(spelling.allows(&lexicon, "go") && spelling.allows(&lexicon, " don"));
        assert!(!spelling.allows(&lexicon, "place") && !spelling.allows(&lexicon, "don "));
        spelling.push("gon");
        assert!(
            !spelling.is_whole(&lexicon)
                && !spelling.allows(&lexicon, ". ")
                && spelling.allows(&lexicon, "e. ")
        );
        spelling.push("e, ");
        assert!(spelling.is_whole(&lexicon) && spelling.allows(&lexicon, "go to go"));
        spelling.name();
        assert!(spelling.allows(&lexicon, "'s") && !spelling.allows(&lexicon, "go"));
    }
}
