//! Letter case. The model reads and writes lower case: "The" and "the" are one word to a small corpus.
//! Nothing is lost, because every name is a slot; what remains is the rule of sentences.

/// Lower case outside `{slots}` and `<tokens>`.
pub fn fold(line: &str) -> String {
    let mut inside = false;
    let mut folded = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '{' | '<' => inside = true,
            '}' | '>' => inside = false,
            _ => {}
        }
        if inside { folded.push(c) } else { folded.extend(c.to_lowercase()) }
    }
    folded
}

/// Restores sentence case while text comes: a capital at the start and after `.`, `!` and `?` (not after
/// three dots), and in "I" and its contractions.
#[derive(Clone, Debug, Default)]
pub struct Truecase {
    /// An "i" whose next character is not known yet.
    held: bool,
    /// Whether the next letter goes on a word.
    in_word: bool,
    /// Whether a sentence is under way.
    under_way: bool,
    /// How many end marks stand before the next character.
    dots: usize,
    ended: bool,
}

impl Truecase {
    /// Takes more text; returns what is certain.
    pub fn push(&mut self, text: &str) -> String {
        let mut cased = String::with_capacity(text.len() + 1);
        for c in text.chars() {
            if std::mem::take(&mut self.held) {
                cased.push(if c.is_alphanumeric() { 'i' } else { 'I' });
            }
            if c == 'i' && !self.in_word && self.under_way && !self.ended {
                self.held = true;
                self.note(c);
                continue;
            }
            if c.is_alphabetic() && (!self.under_way || self.ended) {
                cased.extend(c.to_uppercase());
            } else {
                cased.push(c);
            }
            self.note(c);
        }
        cased
    }

    /// Takes a name: its own case stays, but a sentence begins with a capital.
    pub fn push_verbatim(&mut self, name: &str) -> String {
        let mut cased = self.finish();
        let mut characters = name.chars();
        if let Some(first) = characters.next().filter(|_| !self.under_way || self.ended) {
            cased.extend(first.to_uppercase());
            cased.push_str(characters.as_str());
        } else {
            cased.push_str(name);
        }
        // Marks inside a name end no sentence, but those at its end do.
        for c in name.chars().rev().take(3).collect::<Vec<_>>().into_iter().rev() {
            self.note(c);
        }
        cased
    }

    /// What is held back, when nothing more comes.
    pub fn finish(&mut self) -> String {
        if std::mem::take(&mut self.held) { "I".into() } else { String::new() }
    }

    fn note(&mut self, c: char) {
        match c {
            '.' => {
                self.dots += 1;
                self.ended = self.dots < 3;
            }
            '!' | '?' => (self.dots, self.ended) = (0, true),
            _ if c.is_alphanumeric() => {
                (self.dots, self.ended, self.under_way) = (0, false, true);
            }
            _ if c.is_whitespace() || matches!(c, '"' | '\'') => {}
            _ => self.dots = 0,
        }
        self.in_word = c.is_alphanumeric() || (c == '\'' && self.in_word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn case(text: &str) -> String {
        let mut state = Truecase::default();
        let cased = state.push(text);
        cased + &state.finish()
    }

    #[test]
    fn sentences_and_i_get_their_capitals() {
        assert_eq!(
            case("well, i think i'm late. go! in it? i do"),
            "Well, I think I'm late. Go! In it? I do"
        );
        assert_eq!(case("hm... no. it is"), "Hm... no. It is");
        assert_eq!(case("i"), "I");
    }

    #[test]
    fn names_keep_their_case_and_begin_sentences() {
        let mut state = Truecase::default();
        let mut text = state.push_verbatim("the mill");
        text += &state.push("? past ");
        text += &state.push_verbatim("the McTavish farm");
        text += &state.push(". ");
        text += &state.push_verbatim("the goat");
        assert_eq!(text, "The mill? Past the McTavish farm. The goat");
    }

    #[test]
    fn folding_spares_tokens() {
        assert_eq!(fold("<act:Offer>Go To {AnItem}"), "<act:Offer>go to {AnItem}");
    }

    proptest! {
        #[test]
        fn casing_in_pieces_is_casing_at_once(text in "[a-z i.!?']{0,60}", cut in 0usize..60) {
            let cut = cut.min(text.len());
            let mut state = Truecase::default();
            let mut cased = state.push(&text[..cut]);
            cased += &state.push(&text[cut..]);
            cased += &state.finish();
            prop_assert_eq!(&cased, &case(&text));
            prop_assert_eq!(fold(&cased), text);
        }
    }
}
