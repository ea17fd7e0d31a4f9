//! The Porter stemmer (Porter 1980) with NLTK's extensions, as rouge-score uses it.
//!
//! Crates for it exist: Snowball's English stemmer is another algorithm, and `nltk-porter` needs time quadratic in
//! a run of `y`s. This one is linear in the word.

/// Forms that NLTK looks up, and their stems.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Suffixes and what takes their place if a vowel-consonant run stands before them; the first that fits decides.
const STEP_2: [(&str, &str); 21] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

/// As [`STEP_2`].
const STEP_3: [(&str, &str); 7] = [
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

/// Suffixes that go if two vowel-consonant runs stand before them; the first that fits decides.
const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism",
    "ate", "iti", "ous", "ive", "ize",
];

/// Whether each letter is a consonant: `y` is one at the start and after a vowel.
fn consonants(word: &str) -> impl Iterator<Item = bool> {
    word.bytes().scan(false, |before, letter| {
        *before = match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => !*before,
            _ => true,
        };
        Some(*before)
    })
}

/// Porter's measure: how many runs of vowels have a consonant behind them.
fn measure(stem: &str) -> usize {
    let mut vowel = false;
    consonants(stem).filter(|&consonant| std::mem::replace(&mut vowel, !consonant) && consonant).count()
}

fn has_vowel(stem: &str) -> bool {
    consonants(stem).any(|consonant| !consonant)
}

fn ends_with_consonant(stem: &str) -> bool {
    consonants(stem).last().unwrap_or(false)
}

fn ends_double(stem: &str) -> bool {
    matches!(stem.as_bytes(), [.., a, b] if a == b) && ends_with_consonant(stem)
}

/// Consonant, vowel, consonant other than w, x and y; or a word of a vowel and a consonant.
fn ends_short(stem: &str) -> bool {
    let kinds: Vec<bool> = consonants(stem).collect();
    match kinds[..] {
        [.., true, false, true] => !stem.ends_with(['w', 'x', 'y']),
        [false, true] => true,
        _ => false,
    }
}

/// The rule of the first suffix that fits.
fn replace(word: String, rules: &[(&str, &str)]) -> String {
    let fitting = rules.iter().find_map(|(suffix, put)| Some((word.strip_suffix(suffix)?, put)));
    match fitting {
        Some((stem, put)) if measure(stem) > 0 => format!("{stem}{put}"),
        _ => word,
    }
}

fn plural(word: &str) -> String {
    match word.strip_suffix("ies") {
        Some(stem) => return format!("{stem}{}", if stem.len() == 1 { "ie" } else { "i" }),
        None if word.ends_with("sses") => return word[..word.len() - 2].to_owned(),
        None => {}
    }
    let singular = word.strip_suffix('s').filter(|_| !word.ends_with("ss"));
    singular.unwrap_or(word).to_owned()
}

fn past(word: String) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        return format!("{stem}{}", if stem.len() == 1 { "ie" } else { "i" });
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 { format!("{stem}ee") } else { word };
    }
    let stem = ["ed", "ing"].iter().find_map(|suffix| word.strip_suffix(suffix).filter(|s| has_vowel(s)));
    let Some(stem) = stem else { return word };
    if ["at", "bl", "iz"].iter().any(|end| stem.ends_with(end)) {
        format!("{stem}e")
    } else if ends_double(stem) {
        let keeps = stem.ends_with(['l', 's', 'z']);
        stem[..stem.len() - usize::from(!keeps)].to_owned()
    } else if measure(stem) == 1 && ends_short(stem) {
        format!("{stem}e")
    } else {
        stem.to_owned()
    }
}

fn final_y(word: String) -> String {
    match word.strip_suffix('y') {
        Some(stem) if stem.len() > 1 && ends_with_consonant(stem) => format!("{stem}i"),
        _ => word,
    }
}

fn step_2(word: String) -> String {
    match word.strip_suffix("alli") {
        Some(stem) if measure(stem) > 0 => return step_2(format!("{stem}al")),
        _ => {}
    }
    match word.strip_suffix("logi") {
        Some(stem) if measure(&format!("{stem}l")) > 0 => format!("{stem}log"),
        Some(_) => word,
        None => replace(word, &STEP_2),
    }
}

fn step_4(word: String) -> String {
    let fitting = STEP_4.iter().find_map(|suffix| Some((suffix, word.strip_suffix(suffix)?)));
    match fitting {
        Some((&"ion", stem)) if measure(stem) > 1 && !stem.ends_with(['s', 't']) => word,
        Some((_, stem)) if measure(stem) > 1 => stem.to_owned(),
        _ => word,
    }
}

fn final_e(word: String) -> String {
    match word.strip_suffix('e') {
        Some(stem) if measure(stem) > 1 || (measure(stem) == 1 && !ends_short(stem)) => stem.to_owned(),
        _ => word,
    }
}

/// The stem of a word of `a-z` and `0-9`, as `nltk.stem.porter.PorterStemmer` finds it.
pub(super) fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(form, _)| *form == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 {
        return word.to_owned();
    }
    let word = final_e(step_4(replace(step_2(final_y(past(plural(word)))), &STEP_3)));
    let double = word.ends_with("ll") && measure(&word[..word.len() - 1]) > 1;
    word[..word.len() - usize::from(double)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Stems of NLTK, by `benches/peers/metrics.py stems`.
    #[test]
    fn stems_equal_those_of_nltk() {
        let text = include_str!("../../tests/data/overlap_stems.txt");
        let mut seen = 0;
        for line in text.lines() {
            let (word, theirs) = line.split_once(' ').unwrap();
            assert_eq!(stem(word), theirs, "{word}");
            seen += 1;
        }
        assert!(seen >= 1000, "{seen}");
    }

    #[test]
    fn a_long_run_of_ys_is_no_trouble() {
        let since = std::time::Instant::now();
        assert!(!stem(&"y".repeat(100_000)).is_empty());
        assert!(since.elapsed().as_secs() < 5);
    }

    proptest! {
        #[test]
        fn any_word_has_a_stem_no_longer_than_it_and_a_letter(word in "[a-z0-9]{1,12}(ed|ing|ly|ational|iveness|s)?") {
            let stem = stem(&word);
            prop_assert!(!stem.is_empty() && stem.len() <= word.len() + 1, "{word}: {stem}");
        }
    }
}
