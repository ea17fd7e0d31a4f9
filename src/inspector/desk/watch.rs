//! [`Watch`]: looks at what a grammar allows and what the model thinks of it, token by token.

use crate::decode::Constraint;
use crate::inspector::snapshot::SeenToken;
use crate::text::Tokenizer;
use std::sync::{Arc, Mutex, PoisonError};

/// What was seen, shared with whoever shows it.
pub(super) type Seen = Arc<Mutex<Vec<SeenToken>>>;

/// How many alternatives are kept of each token.
const OTHERS: usize = 4;

/// A constraint that only looks on.
pub(super) struct Watch {
    inner: Option<Box<dyn Constraint>>,
    tokenizer: Option<Tokenizer>,
    /// The last distribution: token and probability of what was allowed.
    last: Vec<(u32, f32)>,
    vocabulary: usize,
    seen: Seen,
}

impl Watch {
    pub(super) fn new(inner: Option<Box<dyn Constraint>>, seen: Seen) -> Self {
        Self { inner, tokenizer: None, last: Vec::new(), vocabulary: 1, seen }
    }

    fn spelled(&self, token: u32) -> String {
        let tokenizer = self.tokenizer.as_ref();
        tokenizer
            .and_then(|t| if t.is_special(token) { t.token(token) } else { Some(t.decode(&[token])) })
            .unwrap_or_default()
    }

    fn note(&self, token: SeenToken) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(token);
    }
}

impl Constraint for Watch {
    fn begin(&mut self, tokenizer: &Tokenizer) {
        self.tokenizer = Some(tokenizer.clone());
        if let Some(inner) = &mut self.inner {
            inner.begin(tokenizer);
        }
    }

    fn mask(&mut self, logits: &mut [f32]) {
        if let Some(inner) = &mut self.inner {
            inner.mask(logits);
        }
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let allowed = logits.iter().enumerate().filter(|(_, logit)| logit.is_finite());
        self.last = allowed.map(|(token, logit)| (token as u32, (logit - most).exp())).collect();
        let sum: f32 = self.last.iter().map(|(_, p)| p).sum();
        self.last.iter_mut().for_each(|(_, p)| *p /= sum.max(f32::MIN_POSITIVE));
        self.last.sort_by(|a, b| b.1.total_cmp(&a.1));
        self.vocabulary = logits.len().max(1);
    }

    fn accept(&mut self, token: u32) -> bool {
        let probability = self.last.iter().find(|(known, _)| *known == token).map_or(0.0, |(_, p)| *p);
        let others = self.last.iter().filter(|(known, _)| *known != token).take(OTHERS);
        let others = others.map(|(token, p)| (self.spelled(*token), *p)).collect();
        let allowed = self.last.len() as f32 / self.vocabulary as f32;
        self.note(SeenToken { text: self.spelled(token), probability, allowed, others });
        self.inner.as_mut().is_some_and(|inner| inner.accept(token))
    }

    fn forced(&mut self) -> Vec<u32> {
        let forced = self.inner.as_mut().map_or_else(Vec::new, |inner| inner.forced());
        for token in &forced {
            let allowed = 1.0 / self.vocabulary as f32;
            self.note(SeenToken {
                text: self.spelled(*token),
                probability: 1.0,
                allowed,
                others: Vec::new(),
            });
        }
        forced
    }

    fn schema(&self) -> Option<&serde_json::Value> {
        self.inner.as_ref().and_then(|inner| inner.schema())
    }

    fn rule(&self) -> String {
        self.inner.as_ref().map_or_else(String::new, |inner| inner.rule())
    }
}
