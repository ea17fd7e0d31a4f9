//! [`Vocabulary`]: what a tokenizer's tokens spell, laid out so that all that may follow a text are found at once.

use std::collections::BTreeMap;

/// What each token spells, and a trie (Fredkin 1960) over it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vocabulary {
    /// By token; nothing for special ones.
    spelled: Vec<Option<String>>,
    /// The first is the root.
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    children: BTreeMap<char, usize>,
    /// What ends here.
    tokens: Vec<usize>,
}

impl Vocabulary {
    /// Of what each token spells, in their order; nothing for those that are not written (special ones).
    pub fn new(spelled: Vec<Option<String>>) -> Self {
        let mut nodes = vec![Node::default()];
        for (token, text) in spelled.iter().enumerate() {
            let Some(text) = text else { continue };
            let mut at = 0;
            for c in text.chars() {
                let fresh = nodes.len();
                at = *nodes[at].children.entry(c).or_insert(fresh);
                if at == fresh {
                    nodes.push(Node::default());
                }
            }
            nodes[at].tokens.push(token);
        }
        Self { spelled, nodes }
    }

    /// What each token spells, in their order; nothing for those that are not written.
    pub fn spelled(&self) -> &[Option<String>] {
        &self.spelled
    }

    /// Which tokens may be written, by token: walks what they spell with `state`, of which `step` makes the next for a
    /// character (nothing: none goes that way), and `stop` says whether a token may end there.
    pub fn allowed<S>(
        &self,
        state: S,
        step: impl Fn(&S, char) -> Option<S>,
        stop: impl Fn(&S) -> bool,
    ) -> Vec<bool> {
        let mut allowed = vec![false; self.spelled.len()];
        let mut open = if self.nodes.is_empty() { Vec::new() } else { vec![(0, state)] };
        while let Some((at, state)) = open.pop() {
            let Node { children, tokens } = &self.nodes[at];
            if !tokens.is_empty() && stop(&state) {
                tokens.iter().for_each(|token| allowed[*token] = true);
            }
            open.extend(children.iter().filter_map(|(c, child)| Some((*child, step(&state, *c)?))));
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_finds_every_token_that_may_be_written_and_no_other() {
        let texts = ["a", "ab", "abc", "b", "", "ab"];
        let spelled = texts.iter().map(|text| Some((*text).to_owned())).chain([None]).collect();
        let vocabulary = Vocabulary::new(spelled);
        // Nothing that begins with b, and nothing of three letters.
        let step = |read: &String, c: char| (!(read.is_empty() && c == 'b')).then(|| format!("{read}{c}"));
        let allowed = vocabulary.allowed(String::new(), step, |read| read.len() < 3);
        assert_eq!(allowed, [true, true, false, false, true, true, false]);
        assert!(Vocabulary::default().allowed((), |(), _| Some(()), |()| true).is_empty());
    }
}
