//! [`SampleSource`]: where training sequences come from.

use crate::seed::Stream;
use std::sync::Arc;

/// A sequence to learn.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Token ids.
    pub ids: Vec<u32>,
    /// How much predicting `ids[i]` from what came before counts, one for each token; the first is 0.
    pub loss: Vec<f32>,
    /// What this was preferred to, when taste is learned.
    pub rejected: Option<Rejected>,
    /// The player whose doing it is, by pseudonym. None: nobody's, as what was written for the game.
    pub player: Option<Arc<str>>,
}

/// The other half of a pair of answers to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejected {
    /// Token ids, prompt included.
    pub ids: Vec<u32>,
    /// 1 for each token of the answer, 0 for the prompt.
    pub loss: Vec<f32>,
    /// By how much the reference model prefers the chosen answer, in nats.
    pub margin: f32,
}

impl Sample {
    /// A sequence to learn.
    pub fn new(ids: Vec<u32>, loss: Vec<f32>) -> Self {
        Self { ids, loss, rejected: None, player: None }
    }
}

/// Where training sequences come from.
pub trait SampleSource: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A draw of sample `index`, augmented.
    fn sample(&self, index: usize, noise: &mut Stream) -> Sample;

    /// Sample `index` as it stands, for validation.
    fn fixed(&self, index: usize) -> Sample;

    /// The player whose doing sample `index` is, by pseudonym. None: nobody's, as what was written for the game.
    fn player(&self, _index: usize) -> Option<&str> {
        None
    }

    /// Whether all samples that were asked for since the last call could be read; those that could not were empty.
    fn check(&self) -> crate::error::Result<()> {
        Ok(())
    }

    /// A hash of everything in it.
    fn hash(&self) -> String;
}

/// What is learned and what is held out.
pub struct DataSets {
    /// What is learned.
    pub train: Box<dyn SampleSource>,
    /// What is held out.
    pub validation: Box<dyn SampleSource>,
}
