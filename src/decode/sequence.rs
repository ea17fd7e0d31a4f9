//! [`Sequence`]: one answer on its way.

use super::backend::{Finish, Output, Request, RequestId};
use super::loaded::LoadedModel;
use super::prefix::{Key, child, root};
use crate::error::Error;
use crate::model::KvCache;
use crate::seed::Stream;
use crate::text::DecodeStream;
use std::time::{Duration, Instant};

pub(super) struct Sequence {
    pub(super) id: RequestId,
    pub(super) request: Request,
    noise: Stream,
    pub(super) cache: KvCache,
    /// Prompt and answer; those after `cache.len()` are to be fed.
    pub(super) tokens: Vec<u32>,
    /// Where the answer begins.
    prompt: usize,
    /// The names of its full pages, as far as they were asked for.
    pub(super) keys: Vec<Key>,
    log_probability: f32,
    stream: DecodeStream,
    /// Text that might be the beginning of a stop text.
    held: String,
    pub(super) logits: Vec<f32>,
    /// What did not fit the context.
    dropped: usize,
    /// Tokens that were forced since somebody asked.
    pub(super) forced: usize,
    /// Masks since somebody asked, and how long they took.
    pub(super) masks: (u64, Duration),
    /// It has lost its place in the KV cache.
    pub(super) waits: bool,
}

impl Sequence {
    pub(super) fn new(
        id: RequestId,
        request: Request,
        tokens: Vec<u32>,
        dropped: usize,
        cache: KvCache,
        model: &LoadedModel,
    ) -> Self {
        Self {
            id,
            noise: request.seed.stream(),
            cache,
            prompt: tokens.len(),
            tokens,
            keys: Vec::new(),
            log_probability: 0.0,
            stream: model.tokenizer.stream(),
            held: String::new(),
            logits: Vec::new(),
            dropped,
            forced: 0,
            masks: (0, Duration::ZERO),
            waits: false,
            request,
        }
    }

    /// Names all pages that its tokens fill.
    pub(super) fn name_pages(&mut self) {
        let before = self.keys.last().copied();
        let mut before = before.unwrap_or_else(|| root(self.request.adapter.as_deref()));
        for tokens in self.tokens.chunks_exact(KvCache::PAGE).skip(self.keys.len()) {
            before = child(&before, tokens);
            self.keys.push(before);
        }
    }

    /// Draws the next token from the logits. Returns whether the sequence goes on.
    pub(super) fn draw(&mut self, model: &LoadedModel, outputs: &mut Vec<Output>) -> bool {
        if let Some(constraint) = &mut self.request.constraint {
            let since = Instant::now();
            constraint.mask(&mut self.logits);
            self.masks.0 += 1;
            self.masks.1 += since.elapsed();
        }
        let answer = &self.tokens[self.prompt..];
        let drawn = self.request.sampling.sample(&mut self.logits, answer, &mut self.noise);
        let Some((token, log_probability)) = drawn else {
            let rule = self.request.constraint.as_ref().map_or_else(|| "any token".into(), |c| c.rule());
            let remedy = "loosen the constraint, or use another model".into();
            outputs.push(Output::Failed { id: self.id, error: Error::Unsatisfiable { rule, remedy } });
            return false;
        };
        self.log_probability += log_probability;
        let ends = match &mut self.request.constraint {
            Some(constraint) => constraint.accept(token),
            None => model.ends(token),
        };
        if !self.take(token, ends, model, outputs) {
            return false;
        }
        // What must come next needs no draw; it is fed with the next step.
        let forced = self.request.constraint.as_mut().map_or_else(Vec::new, |c| c.forced());
        self.forced += forced.len();
        forced.into_iter().all(|token| self.take(token, false, model, outputs))
    }

    /// Adds a token to the answer. Returns whether the sequence goes on.
    fn take(&mut self, token: u32, ends: bool, model: &LoadedModel, outputs: &mut Vec<Output>) -> bool {
        self.tokens.push(token);
        if ends {
            return self.finish(Finish::Stop, outputs);
        }
        let text = self.stream.push(token);
        self.held.push_str(&text);
        let stops = &self.request.sampling.stop;
        if let Some(at) = stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return self.finish(Finish::Stop, outputs);
        }
        self.release(outputs);
        let full = self.tokens.len() >= model.decoder.context();
        if full || self.tokens.len() - self.prompt >= self.request.sampling.max_tokens {
            return self.finish(Finish::Length, outputs);
        }
        true
    }

    /// Tells all held text but what may still become a stop text.
    fn release(&mut self, outputs: &mut Vec<Output>) {
        let keep = self.request.sampling.stop.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let free = self.held.len() - keep;
        if free > 0 {
            let rest = self.held.split_off(free);
            let text = std::mem::replace(&mut self.held, rest);
            outputs.push(Output::Delta { id: self.id, text });
        }
    }

    fn finish(&mut self, finish: Finish, outputs: &mut Vec<Output>) -> bool {
        if finish == Finish::Length {
            let rest = self.stream.finish();
            self.held.push_str(&rest);
        }
        if !self.held.is_empty() {
            outputs.push(Output::Delta { id: self.id, text: std::mem::take(&mut self.held) });
        }
        let tokens = self.tokens.len() - self.prompt;
        outputs.push(Output::Finished {
            id: self.id,
            finish,
            tokens,
            mean_log_probability: self.log_probability / tokens.max(1) as f32,
            dropped: self.dropped,
        });
        false
    }
}

/// How many bytes at the end of `text` are a beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    stop.char_indices()
        .map(|(at, _)| at)
        .filter(|&at| at > 0 && text.ends_with(&stop[..at]))
        .max()
        .unwrap_or(0)
}
