//! [`Scheduler`]: the backend that decodes many ragged sequences in one batch on our own model.
//!
//! Requests join and leave at any step. Prompts are prefilled in chunks beside the sequences that are already speaking, and
//! what several have in common is computed once ([`super::prefix`]). Where the KV cache outgrows its budget, pages that
//! nobody uses go first, then the sequences that matter least wait and are prefilled again: nothing fails for want of room.
//! What a sequence says depends only on model, prompt and seed: the decoder computes each row by the same instructions
//! whatever else is in the batch, and each request has its own stream.

use super::backend::{Backend, Finish, Output, Prompt, Request, RequestId};
use super::loaded::LoadedModel;
use super::prefix::{Key, PrefixCache};
use super::sequence::Sequence;
use crate::error::{Error, Result};
use crate::model::{KvCache, KvType, Row, Scratch};
use crate::nn::give_way;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// The most pages that are kept for later: sixteen thousand tokens.
const KEPT: usize = 1024;

/// How much is done in a step, and with what.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerConfig {
    /// The most sequences that run at once; others wait.
    pub max_batch: usize,
    /// The most prompt tokens a sequence takes in a step.
    pub prefill_chunk: usize,
    /// The most prompt tokens that all take in a step, if nobody says otherwise ([`Backend::limit`]).
    pub prefill_step: usize,
    /// Bytes that keys and values may take. One sequence always runs, even if it alone takes more.
    pub kv_budget: usize,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Threads of its own, of the lowest priority; 0: those of the pool it is stepped in, or none.
    pub threads: usize,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            max_batch: 32,
            prefill_chunk: 64,
            prefill_step: 512,
            kv_budget: 256 << 20,
            kv_type: KvType::F16,
            threads: 0,
        }
    }
}

/// Decodes many sequences at once. See the module's documentation.
pub struct Scheduler {
    model: Arc<LoadedModel>,
    config: SchedulerConfig,
    pool: Option<ThreadPool>,
    prefill_step: usize,
    waiting: Vec<(RequestId, Request)>,
    running: Vec<Sequence>,
    /// Begun, and without room.
    paused: Vec<Sequence>,
    pub(super) prefixes: PrefixCache,
    scratch: Scratch,
    next: u64,
    counters: SchedulerCounters,
}

/// What a scheduler has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulerCounters {
    /// Tokens that went through the model.
    pub computed: u64,
    /// Prompt tokens that were shared, and so did not.
    pub shared: u64,
    /// Tokens that a constraint forced.
    pub forced: u64,
    /// Masks of constraints, and how long they took, on whatever thread.
    pub masks: u64,
    /// See `masks`.
    pub mask_time: Duration,
    /// How often a sequence had to wait for room in the KV cache.
    pub preempted: u64,
}

impl Scheduler {
    /// A scheduler on this model.
    pub fn new(model: Arc<LoadedModel>, config: SchedulerConfig) -> Self {
        let config = SchedulerConfig {
            max_batch: config.max_batch.max(1),
            prefill_chunk: config.prefill_chunk.max(1),
            prefill_step: config.prefill_step.max(1),
            ..config
        };
        let threads = ThreadPoolBuilder::new().num_threads(config.threads).start_handler(|_| give_way());
        // Without threads of its own it works on the one that steps it.
        let pool = if config.threads > 1 { threads.build().ok() } else { None };
        Self {
            model,
            prefill_step: config.prefill_step,
            config,
            pool,
            waiting: Vec::new(),
            running: Vec::new(),
            paused: Vec::new(),
            prefixes: PrefixCache::default(),
            scratch: Scratch::default(),
            next: 0,
            counters: SchedulerCounters::default(),
        }
    }

    /// The model.
    pub fn model(&self) -> &Arc<LoadedModel> {
        &self.model
    }

    fn page_bytes(&self) -> usize {
        self.empty().page_bytes()
    }

    pub(super) fn empty(&self) -> KvCache {
        self.model.decoder.cache_of(self.config.kv_type)
    }

    fn pages_in_use(&self) -> usize {
        let pages = self.running.iter().flat_map(|sequence| sequence.cache.pages());
        pages.map(|page| page.address()).collect::<HashSet<_>>().len()
    }

    /// How many requests run and how many wait.
    pub fn load(&self) -> (usize, usize) {
        (self.running.len(), self.waiting.len() + self.paused.len())
    }

    /// What it has done so far.
    pub fn counters(&self) -> SchedulerCounters {
        self.counters
    }

    /// The place of the highest priority, of several the first.
    fn first(priorities: impl Iterator<Item = i32>) -> Option<(i32, usize)> {
        let numbered = priorities.enumerate().map(|(at, priority)| (priority, std::cmp::Reverse(at)));
        numbered.max().map(|(priority, at)| (priority, at.0))
    }

    fn admit(&mut self, outputs: &mut Vec<Output>) {
        while self.running.len() < self.config.max_batch {
            let paused = Self::first(self.paused.iter().map(|sequence| sequence.request.priority));
            let waiting = Self::first(self.waiting.iter().map(|(_, request)| request.priority));
            // What has begun goes on before something as important begins.
            if let Some((priority, at)) = paused
                && waiting.is_none_or(|(other, _)| other <= priority)
            {
                if !self.running.is_empty() && !self.has_room(self.paused[at].tokens.len()) {
                    return;
                }
                let sequence = self.paused.remove(at);
                self.running.push(sequence);
                continue;
            }
            let Some((_, at)) = waiting else { return };
            let (id, request) = self.waiting.remove(at);
            match self.start(id, request) {
                Ok(Some(sequence)) => self.running.push(sequence),
                Ok(None) => outputs.push(Output::Finished {
                    id,
                    finish: Finish::Length,
                    tokens: 0,
                    mean_log_probability: 0.0,
                    dropped: 0,
                }),
                Err(error) => outputs.push(Output::Failed { id, error }),
            }
        }
    }

    /// Whether so many more tokens fit the budget.
    fn has_room(&self, tokens: usize) -> bool {
        let pages = self.pages_in_use() + tokens.div_ceil(KvCache::PAGE);
        pages * self.page_bytes() <= self.config.kv_budget
    }

    fn start(&self, id: RequestId, mut request: Request) -> Result<Option<Sequence>> {
        request.sampling.validate("options")?;
        let context = self.model.decoder.context();
        let (tokens, dropped) = match &request.prompt {
            Prompt::Text(text) => (self.model.tokenizer.encode(text)?, 0),
            Prompt::Chat(messages) => self.model.chat_within(messages, request.sampling.max_tokens)?,
        };
        if tokens.is_empty() {
            return Err(Error::config("options", "prompt", "the prompt is empty", "say something"));
        }
        if tokens.len() >= context {
            let reason = format!("the prompt has {} tokens and the model's context {context}", tokens.len());
            return Err(Error::config("options", "prompt", reason, "shorten the prompt"));
        }
        if request.sampling.max_tokens == 0 {
            return Ok(None);
        }
        if let Some(constraint) = &mut request.constraint {
            constraint.begin(&self.model.tokenizer);
        }
        Ok(Some(Sequence::new(id, request, tokens, dropped, self.empty(), &self.model)))
    }

    /// Makes room for what this step adds.
    fn make_room(&mut self, steps: &mut [usize]) {
        let page_bytes = self.page_bytes();
        let most = self.config.kv_budget / page_bytes.max(1);
        // What all hold, shared or not, and what is kept: most of the time that is little.
        let after = |sequence: &Sequence, step: usize| (sequence.cache.len() + step).div_ceil(KvCache::PAGE);
        let upper: usize = self.running.iter().zip(&*steps).map(|(s, step)| after(s, *step) + 1).sum();
        let unused = self.prefixes.unused();
        if upper + unused <= most {
            return;
        }
        let new = |running: &[Sequence], steps: &[usize]| -> usize {
            // A shared last page is copied before it changes.
            running.iter().zip(steps).map(|(s, step)| after(s, *step) + 1 - s.cache.pages().len()).sum()
        };
        loop {
            let needed = self.pages_in_use() + new(&self.running, steps);
            let unused = self.prefixes.unused();
            if needed + unused <= most {
                return;
            }
            if self.prefixes.evict(needed + unused - most) > 0 {
                continue;
            }
            // The least important, of several the last, waits and is prefilled again.
            let going =
                self.running.iter().zip(&*steps).filter(|(s, step)| **step > 0 || !s.cache.is_empty());
            if going.count() < 2 {
                return;
            }
            let priorities = self.running.iter().enumerate();
            let holding = priorities.filter(|(at, s)| steps[*at] > 0 || !s.cache.is_empty());
            let Some((_, last)) = holding.map(|(at, s)| (std::cmp::Reverse(s.request.priority), at)).max()
            else {
                return;
            };
            steps[last] = 0;
            self.running[last].cache = self.empty();
            self.running[last].waits = true;
            self.counters.preempted += 1;
        }
    }

    /// How many tokens each sequence takes in this step. What was computed by others is taken over; of those that would
    /// compute the same, one does.
    fn plan(&mut self) -> Vec<usize> {
        let (chunk, page) = (self.config.prefill_chunk, KvCache::PAGE);
        let mut left = self.prefill_step;
        let mut claimed: HashSet<Key> = HashSet::new();
        let mut order: Vec<usize> = (0..self.running.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(self.running[*at].request.priority));
        let mut steps = vec![0; self.running.len()];
        let mut begun = false;
        for at in order {
            let sequence = &mut self.running[at];
            if sequence.cache.len() + 1 == sequence.tokens.len() {
                steps[at] = 1;
                continue;
            }
            sequence.name_pages();
            let whole = |length: usize| length.is_multiple_of(page);
            while whole(sequence.cache.len()) && sequence.cache.len() + page < sequence.tokens.len() {
                let Some(found) = self.prefixes.get(&sequence.keys[sequence.cache.len() / page]) else {
                    break;
                };
                if !sequence.cache.adopt(&found) {
                    break;
                }
                self.counters.shared += page as u64;
            }
            let done = sequence.cache.len();
            let pending = sequence.tokens.len() - done;
            let next = done / page..(done + pending.min(chunk)) / page;
            if next.clone().any(|n| claimed.contains(&sequence.keys[n])) {
                continue;
            }
            // The first is never kept waiting, so that there is always progress.
            let room = if begun { left } else { left.max(1) };
            let mut step = pending.min(chunk).min(room);
            if step < pending && step > page {
                // To the end of a page, which others may then take over.
                step -= (done + step) % page;
            }
            claimed.extend(&sequence.keys[next.start..(done + step) / page]);
            left = left.saturating_sub(step);
            begun |= step > 0;
            steps[at] = step;
        }
        steps
    }

    fn step_all(&mut self, outputs: &mut Vec<Output>) -> Result<()> {
        let mut steps = self.plan();
        self.make_room(&mut steps);
        let mut rows: Vec<Row<'_>> = self
            .running
            .iter_mut()
            .zip(&steps)
            .filter(|(_, step)| **step > 0)
            .map(|(sequence, step)| Row {
                tokens: &sequence.tokens[sequence.cache.len()..][..*step],
                cache: &mut sequence.cache,
                logits: &mut sequence.logits,
                all: false,
                adapter: sequence.request.adapter.as_deref(),
            })
            .collect();
        self.model.decoder.forward(&mut rows, &mut self.scratch)?;
        drop(rows);
        self.counters.computed += steps.iter().sum::<usize>() as u64;
        for (sequence, step) in self.running.iter_mut().zip(&steps) {
            sequence.name_pages();
            let full = (sequence.cache.len() - step) / KvCache::PAGE..sequence.cache.len() / KvCache::PAGE;
            for n in full {
                if !self.prefixes.contains(&sequence.keys[n])
                    && let Some(page) = sequence.cache.full_page(n)
                {
                    self.prefixes.put(sequence.keys[n], page);
                }
            }
        }
        // Masks take longer than draws: each sequence's on any thread.
        let model = &self.model;
        let draw = |(sequence, step): (&mut Sequence, &usize)| {
            let mut told = Vec::new();
            let ready = *step > 0 && sequence.cache.len() == sequence.tokens.len();
            let goes_on = !ready || sequence.draw(model, &mut told);
            (goes_on, told)
        };
        let drawn: Vec<(bool, Vec<Output>)> = if rayon::current_thread_index().is_some() {
            self.running.par_iter_mut().zip(&steps).map(draw).collect()
        } else {
            self.running.iter_mut().zip(&steps).map(draw).collect()
        };
        let mut goes_on = Vec::with_capacity(drawn.len());
        for (goes, told) in drawn {
            goes_on.push(goes);
            outputs.extend(told);
        }
        let mut running = Vec::with_capacity(self.running.len());
        for (mut sequence, goes_on) in self.running.drain(..).zip(goes_on) {
            self.counters.forced += std::mem::take(&mut sequence.forced) as u64;
            let (masks, time) = std::mem::take(&mut sequence.masks);
            self.counters.masks += masks;
            self.counters.mask_time += time;
            if std::mem::take(&mut sequence.waits) {
                self.paused.push(sequence);
            } else if goes_on {
                running.push(sequence);
            }
        }
        self.running = running;
        // Half the budget is enough for what nobody uses.
        let kept = (self.config.kv_budget / 2 / self.page_bytes().max(1)).min(KEPT);
        let unused = self.prefixes.unused();
        if unused > kept {
            self.prefixes.evict(unused - kept);
        }
        Ok(())
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
        self.paused.retain(|sequence| sequence.id != id);
    }

    fn step(&mut self, outputs: &mut Vec<Output>) -> Result<()> {
        self.admit(outputs);
        if self.running.is_empty() {
            return Ok(());
        }
        match self.pool.take() {
            Some(pool) => {
                let stepped = pool.install(|| self.step_all(outputs));
                self.pool = Some(pool);
                stepped
            }
            None => self.step_all(outputs),
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.paused.is_empty()
    }

    /// Also what is kept for later; shared pages count once.
    fn kv_bytes(&self) -> usize {
        (self.pages_in_use() + self.prefixes.unused()) * self.page_bytes()
    }

    fn limit(&mut self, prompt_tokens: usize) {
        self.prefill_step = prompt_tokens.clamp(1, self.config.prefill_step);
    }
}

#[cfg(test)]
mod tests;
