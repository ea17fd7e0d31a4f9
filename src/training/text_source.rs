//! Plain text as training samples: windows of equal length, the last tenth held out.

use super::source::{DataSets, Sample, SampleSource};
use crate::error::{Error, Result};
use crate::seed::Stream;
use crate::text::Tokenizer;

struct Windows {
    ids: Vec<u32>,
    length: usize,
}

impl SampleSource for Windows {
    fn len(&self) -> usize {
        self.ids.len().saturating_sub(1).div_ceil(self.length)
    }

    /// A window somewhere in the text.
    fn sample(&self, _index: usize, noise: &mut Stream) -> Sample {
        let last = self.ids.len().saturating_sub(self.length + 1);
        self.window(noise.below(last + 1))
    }

    /// The windows one after the other: together they predict every token but the first once.
    fn fixed(&self, index: usize) -> Sample {
        self.window(index * self.length)
    }

    fn hash(&self) -> String {
        let bytes: Vec<u8> = self.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        blake3::hash(&bytes).to_hex().to_string()
    }
}

impl Windows {
    fn window(&self, start: usize) -> Sample {
        let end = (start + self.length + 1).min(self.ids.len());
        let ids = self.ids[start.min(end)..end].to_vec();
        let mut loss = vec![1.0; ids.len()];
        loss.iter_mut().take(1).for_each(|weight| *weight = 0.0);
        Sample { ids, loss }
    }
}

/// Splits a text: the first nine tenths of its characters to learn from, the rest held out.
pub fn text_sets(text: &str, tokenizer: &Tokenizer, length: usize) -> Result<DataSets> {
    let characters = text.chars().count();
    let at = text.char_indices().nth(characters * 9 / 10).map_or(text.len(), |(at, _)| at);
    let windows = |part: &str, what: &str| {
        let ids = tokenizer.encode(part)?;
        if ids.len() < 2 {
            return Err(Error::Data {
                source_name: format!("{characters} characters"),
                reason: format!("the {what} part is empty"),
                remedy: "give more text".into(),
            });
        }
        Ok(Box::new(Windows { ids, length }))
    };
    Ok(DataSets { train: windows(&text[..at], "training")?, validation: windows(&text[at..], "validation")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_held_out_windows_predict_every_token_once() {
        let text = "abcdefghij".repeat(30);
        let tokenizer = Tokenizer::characters(&text).unwrap();
        let sets = text_sets(&text, &tokenizer, 7).unwrap();
        let held = &sets.validation;
        let predicted: f32 = (0..held.len()).flat_map(|i| held.fixed(i).loss).sum();
        assert_eq!(predicted, 29.0);
        assert!(text_sets("a", &tokenizer, 7).is_err());
    }
}
