//! [`Scheduler`]: the backend that decodes many ragged sequences in one batch on our own model.
//!
//! Requests join and leave at any step. Prompts are prefilled in chunks beside the sequences that are
//! already speaking. What a sequence says depends only on model, prompt and seed: the decoder computes
//! each row by the same instructions whatever else is in the batch, and each request has its own stream.

use super::backend::{Backend, Finish, Output, Request, RequestId};
use super::loaded::LoadedModel;
use crate::error::{Error, Result};
use crate::model::{KvCache, Row, Scratch};
use crate::seed::Stream;
use crate::text::DecodeStream;
use std::sync::Arc;

/// How much is done in a step.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerConfig {
    /// The most sequences that run at once; others wait.
    pub max_batch: usize,
    /// The most prompt tokens a sequence takes in a step.
    pub prefill_chunk: usize,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { max_batch: 32, prefill_chunk: 64 }
    }
}

struct Sequence {
    id: RequestId,
    request: Request,
    noise: Stream,
    cache: KvCache,
    /// Prompt tokens not yet prefilled, then the one token to feed next.
    pending: Vec<u32>,
    answer: Vec<u32>,
    log_probability: f32,
    stream: DecodeStream,
    /// Text that might be the beginning of a stop text.
    held: String,
    logits: Vec<f32>,
}

/// Decodes many sequences at once. See the module's documentation.
pub struct Scheduler {
    model: Arc<LoadedModel>,
    config: SchedulerConfig,
    waiting: Vec<(RequestId, Request)>,
    running: Vec<Sequence>,
    scratch: Scratch,
    next: u64,
}

impl Scheduler {
    /// A scheduler on this model.
    pub fn new(model: Arc<LoadedModel>, config: SchedulerConfig) -> Self {
        let config = SchedulerConfig {
            max_batch: config.max_batch.max(1),
            prefill_chunk: config.prefill_chunk.max(1),
        };
        Self { model, config, waiting: Vec::new(), running: Vec::new(), scratch: Scratch::default(), next: 0 }
    }

    /// Bytes of key/value cache in use.
    pub fn kv_bytes(&self) -> usize {
        self.running.iter().map(|sequence| sequence.cache.bytes()).sum()
    }

    /// How many requests run and how many wait.
    pub fn load(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len())
    }

    fn admit(&mut self, outputs: &mut Vec<Output>) {
        while self.running.len() < self.config.max_batch && !self.waiting.is_empty() {
            // The first of the highest priority: `max_by_key` would take the last.
            let best = self.waiting.iter().map(|(_, request)| request.priority).max();
            let first = self.waiting.iter().position(|(_, request)| Some(request.priority) == best);
            let Some(first) = first else { return };
            let (id, request) = self.waiting.remove(first);
            match self.start(id, request) {
                Ok(Some(sequence)) => self.running.push(sequence),
                Ok(None) => outputs.push(Output::Finished {
                    id,
                    finish: Finish::Length,
                    tokens: 0,
                    mean_log_probability: 0.0,
                }),
                Err(error) => outputs.push(Output::Failed { id, error }),
            }
        }
    }

    fn start(&self, id: RequestId, mut request: Request) -> Result<Option<Sequence>> {
        request.sampling.validate("options")?;
        let mut pending = self.model.tokenizer.encode(&request.prompt)?;
        let context = self.model.decoder.context();
        if pending.is_empty() {
            return Err(Error::config("options", "prompt", "the prompt is empty", "say something"));
        }
        if pending.len() >= context {
            let reason = format!("the prompt has {} tokens and the model's context {context}", pending.len());
            return Err(Error::config("options", "prompt", reason, "shorten the prompt"));
        }
        if request.sampling.max_tokens == 0 {
            return Ok(None);
        }
        if let Some(constraint) = &mut request.constraint {
            constraint.begin(&self.model.tokenizer);
        }
        pending.shrink_to_fit();
        Ok(Some(Sequence {
            id,
            noise: request.seed.stream(),
            cache: self.model.decoder.cache(),
            pending,
            answer: Vec::new(),
            log_probability: 0.0,
            stream: self.model.tokenizer.stream(),
            held: String::new(),
            logits: Vec::new(),
            request,
        }))
    }
}

impl Backend for Scheduler {
    fn submit(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        self.waiting.push((id, request));
        id
    }

    fn cancel(&mut self, id: RequestId) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        self.running.retain(|sequence| sequence.id != id);
    }

    fn step(&mut self, outputs: &mut Vec<Output>) -> Result<()> {
        self.admit(outputs);
        if self.running.is_empty() {
            return Ok(());
        }
        let chunk = self.config.prefill_chunk;
        let mut rows: Vec<Row<'_>> = self
            .running
            .iter_mut()
            .map(|sequence| Row {
                tokens: &sequence.pending[..sequence.pending.len().min(chunk)],
                cache: &mut sequence.cache,
                logits: &mut sequence.logits,
                all: false,
                adapter: sequence.request.adapter.as_deref(),
            })
            .collect();
        self.model.decoder.forward(&mut rows, &mut self.scratch)?;
        drop(rows);
        let model = &self.model;
        self.running.retain_mut(|sequence| {
            let fed = sequence.pending.len().min(chunk);
            sequence.pending.drain(..fed);
            !sequence.pending.is_empty() || sequence.draw(model, outputs)
        });
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }
}

impl Sequence {
    /// Draws the next token from the logits. Returns whether the sequence goes on.
    fn draw(&mut self, model: &LoadedModel, outputs: &mut Vec<Output>) -> bool {
        if let Some(constraint) = &mut self.request.constraint {
            constraint.mask(&mut self.logits);
        }
        let drawn = self.request.sampling.sample(&mut self.logits, &self.answer, &mut self.noise);
        let Some((token, log_probability)) = drawn else {
            let rule = self.request.constraint.as_ref().map_or_else(|| "any token".into(), |c| c.rule());
            let remedy = "loosen the constraint, or use another model".into();
            outputs.push(Output::Failed { id: self.id, error: Error::Unsatisfiable { rule, remedy } });
            return false;
        };
        self.log_probability += log_probability;
        self.answer.push(token);
        let ends = match &mut self.request.constraint {
            Some(constraint) => constraint.accept(token),
            None => model.ends(token),
        };
        if ends {
            return self.finish(Finish::Stop, outputs);
        }
        let text = self.stream.push(token);
        self.held.push_str(&text);
        if let Some(at) =
            self.request.sampling.stop.iter().filter_map(|stop| self.held.find(stop.as_str())).min()
        {
            self.held.truncate(at);
            return self.finish(Finish::Stop, outputs);
        }
        self.release(outputs);
        let full = self.cache.len() + 1 >= model.decoder.context();
        if full || self.answer.len() >= self.request.sampling.max_tokens {
            return self.finish(Finish::Length, outputs);
        }
        self.pending.push(token);
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
        let tokens = self.answer.len();
        outputs.push(Output::Finished {
            id: self.id,
            finish,
            tokens,
            mean_log_probability: self.log_probability / tokens.max(1) as f32,
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
