//! [`Pieces`]: the vocabulary of levels. A token is a run of tiles at a place in a slice, so a model always knows where it
//! is, and what is often seen together is one step.
//!
//! Runs are found by byte-pair merges (Sennrich et al. 2016) within slices; what was never merged is spelled tile by tile,
//! so every slice can be written.

use super::game::{PATH_MARK, TileGame};
use super::slices::{ON_PATH, Slice};
use crate::error::{Error, Result};
use crate::seed::Stream;
use crate::text::{BASE_SPECIALS, Tokenizer};
use serde_json::json;
use std::collections::HashMap;

/// A run of tiles at a place in a slice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Piece {
    /// Where in the slice it begins.
    pub at: usize,
    /// Its tiles, marked where the solution goes.
    pub symbols: Slice,
}

/// Runs of tiles and control tokens, by id.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    pieces: Vec<Option<Piece>>,
    /// The ids of the pieces that begin at a place.
    by_place: Vec<Vec<u32>>,
    ids: HashMap<Piece, u32>,
    specials: HashMap<String, u32>,
    longest: usize,
}

/// A pair is merged if it is seen so often.
const SEEN: usize = 4;

impl Pieces {
    /// Finds the pieces of slices and merges the commonest neighbours, `merges` times at most.
    pub fn learn(slices: &[&Slice], tiles: usize, merges: usize, specials: &[String]) -> Self {
        let mut counts: HashMap<&Slice, usize> = HashMap::new();
        slices.iter().for_each(|slice| *counts.entry(slice).or_default() += 1);
        let mut distinct: Vec<(&Slice, usize)> = counts.into_iter().collect();
        distinct.sort();
        let across = slices.iter().map(|slice| slice.len()).max().unwrap_or(0);
        let mut found: Vec<Piece> = Vec::new();
        let mut ids: HashMap<Piece, usize> = HashMap::new();
        let mut add = |piece: Piece| {
            *ids.entry(piece.clone()).or_insert_with(|| {
                found.push(piece);
                found.len() - 1
            })
        };
        for at in 0..across {
            (0..tiles as u8).for_each(|tile| {
                add(Piece { at, symbols: vec![tile] });
            });
        }
        let mut spelled: Vec<(Vec<usize>, usize)> = distinct
            .iter()
            .map(|(slice, n)| {
                let ids =
                    slice.iter().enumerate().map(|(at, symbol)| add(Piece { at, symbols: vec![*symbol] }));
                (ids.collect(), *n)
            })
            .collect();
        for _ in 0..merges {
            let mut pairs: HashMap<(usize, usize), usize> = HashMap::new();
            for (ids, n) in &spelled {
                ids.windows(2).for_each(|two| *pairs.entry((two[0], two[1])).or_default() += n);
            }
            let best = pairs.into_iter().max_by_key(|(pair, n)| (*n, std::cmp::Reverse(*pair)));
            let Some(((a, b), _)) = best.filter(|(_, n)| *n >= SEEN) else { break };
            let mut symbols = found[a].symbols.clone();
            symbols.extend(&found[b].symbols);
            let merged = Piece { at: found[a].at, symbols };
            let id = found.len();
            found.push(merged);
            for (ids, _) in &mut spelled {
                if let Some(at) = ids.windows(2).position(|two| two == [a, b]) {
                    ids.splice(at..at + 2, [id]);
                }
            }
        }
        let first = BASE_SPECIALS.len() + specials.len();
        let specials = BASE_SPECIALS.iter().map(|s| (*s).to_owned()).chain(specials.iter().cloned());
        let specials = specials.enumerate().map(|(id, name)| (name, id as u32)).collect();
        Self::new(
            specials,
            found.into_iter().enumerate().map(|(i, piece)| ((first + i) as u32, piece)).collect(),
        )
    }

    fn new(specials: HashMap<String, u32>, pieces: Vec<(u32, Piece)>) -> Self {
        let size = pieces.iter().map(|(id, _)| *id as usize + 1).max().unwrap_or(0).max(specials.len());
        let mut all = Self {
            pieces: vec![None; size],
            by_place: Vec::new(),
            ids: HashMap::new(),
            specials,
            longest: pieces.iter().map(|(_, piece)| piece.symbols.len()).max().unwrap_or(1),
        };
        for (id, piece) in pieces {
            if all.by_place.len() <= piece.at {
                all.by_place.resize(piece.at + 1, Vec::new());
            }
            all.by_place[piece.at].push(id);
            all.ids.insert(piece.clone(), id);
            all.pieces[id as usize] = Some(piece);
        }
        all.by_place.iter_mut().for_each(|ids| ids.sort_unstable());
        all
    }

    /// As a tokenizer, for the checkpoint.
    pub fn tokenizer(&self, game: &TileGame) -> Result<Tokenizer> {
        let mut vocabulary: serde_json::Map<String, serde_json::Value> =
            self.specials.iter().map(|(name, id)| (name.clone(), json!(id))).collect();
        for (id, piece) in self.pieces.iter().enumerate() {
            if let Some(piece) = piece {
                vocabulary.insert(spell(piece, game), json!(id));
            }
        }
        let special = |name: &&str| {
            json!({ "id": self.specials[*name], "content": name, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true })
        };
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": BASE_SPECIALS.iter().map(special).collect::<Vec<_>>(),
            "normalizer": null,
            "pre_tokenizer": { "type": "WhitespaceSplit" },
            "post_processor": null,
            "decoder": { "type": "Fuse" },
            "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": BASE_SPECIALS[0] },
        });
        Tokenizer::from_bytes(file.to_string().as_bytes(), "level vocabulary")
    }

    /// From a checkpoint's tokenizer.
    pub fn from_tokenizer(tokenizer: &Tokenizer, game: &TileGame) -> Result<Self> {
        let (mut specials, mut pieces) = (HashMap::new(), Vec::new());
        for id in 0..tokenizer.vocab_size() as u32 {
            let Some(token) = tokenizer.token(id) else { continue };
            if token.starts_with('<') && token.ends_with('>') {
                specials.insert(token, id);
            } else {
                let piece = read(&token, game).ok_or_else(|| Error::Vocabulary {
                    file: "tokenizer.json".into(),
                    reason: format!("the token `{token}` is no run of tiles of the game `{}`", game.name),
                    remedy: "copy the whole checkpoint again".into(),
                })?;
                pieces.push((id, piece));
            }
        }
        Ok(Self::new(specials, pieces))
    }

    /// The id of a control token.
    pub fn special(&self, name: &str) -> Option<u32> {
        self.specials.get(name).copied()
    }

    /// The run of a token.
    pub fn piece(&self, id: u32) -> Option<&Piece> {
        self.pieces.get(id as usize)?.as_ref()
    }

    /// The tokens that may come at a place of a slice.
    pub fn at(&self, place: usize) -> &[u32] {
        self.by_place.get(place).map_or(&[], Vec::as_slice)
    }

    /// The longest slice that can be written.
    pub fn across(&self) -> usize {
        self.by_place.len()
    }

    /// Spells a slice: the longest piece at each place, or, with `dropout`, now and then a shorter one (after
    /// Provilkov et al. 2020, "BPE-dropout").
    pub fn encode(&self, slice: &[u8], mut dropout: Option<(f32, &mut Stream)>, out: &mut Vec<u32>) {
        let mut at = 0;
        while at < slice.len() {
            let longest = self.longest.min(slice.len() - at);
            let mut taken = None;
            for length in (1..=longest).rev() {
                let piece = Piece { at, symbols: slice[at..at + length].to_vec() };
                let Some(id) = self.ids.get(&piece) else { continue };
                taken = Some((*id, length));
                let pass = length > 1 && dropout.as_mut().is_some_and(|(share, noise)| noise.chance(*share));
                if !pass {
                    break;
                }
            }
            let Some((id, length)) = taken else {
                // A tile on the way that never was on it: without the mark it is known.
                let plain = Piece { at, symbols: vec![slice[at] & !ON_PATH] };
                out.extend(self.ids.get(&plain));
                at += 1;
                continue;
            };
            out.push(id);
            at += length;
        }
    }
}

fn spell(piece: &Piece, game: &TileGame) -> String {
    let mut text = format!("{}|", piece.at);
    for symbol in &piece.symbols {
        if symbol & ON_PATH != 0 {
            text.push(PATH_MARK);
        }
        text.push(game.char_of(symbol & !ON_PATH));
    }
    text
}

fn read(text: &str, game: &TileGame) -> Option<Piece> {
    let (at, run) = text.split_once('|')?;
    let at = at.parse().ok().filter(|at| *at < super::grid::LONGEST_SIDE)?;
    let (mut symbols, mut marked) = (Vec::new(), 0);
    for char in run.chars() {
        if char == PATH_MARK {
            marked = ON_PATH;
        } else {
            symbols.push(game.tile(char)? | marked);
            marked = 0;
        }
    }
    (!symbols.is_empty()).then_some(Piece { at, symbols })
}

#[cfg(test)]
mod tests {
    use super::super::game::tests::platformer;
    use super::*;
    use crate::seed::Seed;
    use proptest::prelude::*;

    fn learned() -> Pieces {
        let slices: Vec<Slice> = (0..40).map(|n| vec![0, ON_PATH, (n % 3) as u8, 1]).collect();
        Pieces::learn(&slices.iter().collect::<Vec<_>>(), 7, 10, &["<more>".into()])
    }

    #[test]
    fn what_is_common_is_one_token_and_everything_can_be_spelled() {
        let pieces = learned();
        let mut ids = Vec::new();
        pieces.encode(&[0, ON_PATH, 1, 1], None, &mut ids);
        assert!(ids.len() <= 2, "{ids:?}");
        let (again, tokenizer) = (learned(), pieces.tokenizer(&platformer()).unwrap());
        assert_eq!(again.pieces, pieces.pieces);
        let back = Pieces::from_tokenizer(&tokenizer, &platformer()).unwrap();
        assert_eq!((back.pieces, back.specials), (pieces.pieces, pieces.specials));
    }

    proptest! {
        #[test]
        fn spelling_loses_nothing_but_strange_marks(slice in prop::collection::vec(0u8..7, 4), seed: u64, share in 0f32..1.0) {
            let pieces = learned();
            let mut noise = Seed::new(seed).stream();
            let mut ids = Vec::new();
            pieces.encode(&slice, Some((share, &mut noise)), &mut ids);
            let mut back = Vec::new();
            for id in ids {
                let piece = pieces.piece(id).unwrap();
                prop_assert_eq!(piece.at, back.len());
                back.extend(piece.symbols.iter().map(|s| s & !ON_PATH));
            }
            prop_assert_eq!(back, slice);
        }
    }
}
