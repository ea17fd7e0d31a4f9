//! [`SampleSource`]: where training sequences come from.

use crate::seed::Stream;

/// A sequence to learn.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Token ids.
    pub ids: Vec<u32>,
    /// How much predicting `ids[i]` from what came before counts, one for each token; the first is 0.
    pub loss: Vec<f32>,
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
