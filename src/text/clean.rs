//! Cleaning: what comes from people becomes plain text.

use unicode_normalization::UnicodeNormalization;

/// The longest text a player can say, in characters.
pub const LONGEST_SAID: usize = 500;

/// Cleans a line of a corpus: Unicode NFC, markup dropped, typographic quotes and dashes made plain,
/// control characters dropped, blanks collapsed. `{slots}` stay.
pub fn clean_line(line: &str) -> String {
    plain(&without_markup(line))
}

/// Cleans what a player typed: as [`clean_line`], and nothing remains that could be read as a slot or a
/// control token. At most [`LONGEST_SAID`] characters.
pub fn clean_player(said: &str) -> String {
    // Cut first, so that a megabyte pasted in costs nothing.
    let cut: String = said.chars().take(LONGEST_SAID * 4).collect();
    let open: String = cut.chars().filter(|c| !matches!(c, '{' | '}' | '<' | '>')).collect();
    plain(&open).chars().take(LONGEST_SAID).collect::<String>().trim_end().to_owned()
}

/// A line as it is compared: lower-case letters, digits and slots, single blanks.
pub fn normalise(line: &str) -> String {
    let kept: String = line
        .to_lowercase()
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '{' | '}' | '_') { c } else { ' ' })
        .collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn plain(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.nfc() {
        match c {
            '\u{2018}' | '\u{2019}' | '\u{201b}' => clean.push('\''),
            '\u{201c}' | '\u{201d}' | '\u{201e}' => clean.push('"'),
            '\u{2013}' | '\u{2014}' | '\u{2212}' => clean.push('-'),
            '\u{2026}' => clean.push_str("..."),
            _ if c.is_whitespace() => clean.push(' '),
            // Zero-width characters and direction marks hide text from readers and filters.
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}' => {}
            _ if c.is_control() => {}
            _ => clean.push(c),
        }
    }
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn without_markup(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(open) = rest.find('<') {
        let (before, from) = rest.split_at(open);
        text.push_str(before);
        let inner = from[1..].chars().next();
        let tag = inner.is_some_and(|c| c.is_ascii_alphabetic() || c == '/');
        rest = match from.find('>').filter(|_| tag) {
            Some(close) => &from[close + 1..],
            None => &from[1..],
        };
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn typography_markup_and_blanks_become_plain() {
        assert_eq!(
            clean_line(" \u{201c}Hi\u{201d},\t<b>you</b>\u{2026} {place}\u{200b} "),
            "\"Hi\", you... {place}"
        );
        assert_eq!(clean_line("e\u{301}"), "\u{e9}");
        assert_eq!(clean_line("3 < 4"), "3 4");
    }

    #[test]
    fn a_player_cannot_inject_tokens() {
        assert_eq!(clean_player("<act:Offer> {reward} <end>"), "act:Offer reward end");
        assert_eq!(clean_player(&"x".repeat(1_000_000)).len(), LONGEST_SAID);
    }

    #[test]
    fn lines_are_compared_without_case_and_marks() {
        assert_eq!(normalise("Well, {place}? NO!"), "well {place} no");
    }

    proptest! {
        #[test]
        fn cleaning_twice_is_cleaning_once(text in "\\PC{0,60}") {
            let once = clean_player(&text);
            prop_assert_eq!(clean_player(&once), once.clone());
            let clean = !once.contains(['<', '>', '{', '}']);
            prop_assert!(clean);
            prop_assert!(once.chars().count() <= LONGEST_SAID);
        }
    }
}
