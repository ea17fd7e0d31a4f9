//! [`Constraint`]: what may come next, decided before anything is drawn.

use crate::text::Tokenizer;

/// Decides what may come next in one answer.
pub trait Constraint: Send {
    /// Called once, before the first token, with the tokenizer of the model that will answer.
    fn begin(&mut self, tokenizer: &Tokenizer);

    /// Sets the logits of what may not come next to `-inf` (and may nudge others).
    fn mask(&mut self, logits: &mut [f32]);

    /// A token was drawn. Returns true when it ends the answer; it is then not part of the text.
    fn accept(&mut self, token: u32) -> bool;

    /// Tokens that must come next, in order, which are then accepted already: they are neither masked nor drawn.
    fn forced(&mut self) -> Vec<u32> {
        Vec::new()
    }

    /// The JSON schema that this holds answers to, for backends that have constraints of their own.
    fn schema(&self) -> Option<&serde_json::Value> {
        None
    }

    /// The rule to name when nothing may come next.
    fn rule(&self) -> String;
}
