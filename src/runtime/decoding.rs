//! [`Decoding`]: a backend, and the job it runs in while it has something to say.
//!
//! A backend lives in a job on the worker while it has something to say, and rests here otherwise, so that silence costs
//! nothing.

use super::governor::Pace;
use super::worker::{ComputeWorker, JobEvent, JobHandle, Lane};
use crate::decode::{Backend, Output, Request, RequestId};
use crate::error::Result;
use crate::job::Job;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

/// Makes a request, on the worker: what it needs may take long to prepare.
type Make = Box<dyn FnOnce() -> Result<Request> + Send>;

enum Order {
    Answer(u64, Make),
    Cancel(u64),
}

/// Steps a backend until it has nothing more to say; then gives it back.
struct Decode {
    backend: Box<dyn Backend>,
    orders: Receiver<Order>,
    tickets: HashMap<RequestId, u64>,
    pace: Arc<Pace>,
}

impl Job for Decode {
    type Output = Box<dyn Backend>;
    /// What was said, and the bytes of keys and values.
    type Update = (Vec<(u64, Output)>, usize);

    fn step(&mut self) -> Result<ControlFlow<Self::Output, Self::Update>> {
        let mut told = Vec::new();
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Answer(ticket, make) => match make() {
                    Ok(request) => {
                        let id = self.backend.submit(request);
                        self.tickets.insert(id, ticket);
                    }
                    Err(error) => told.push((ticket, Output::Failed { id: RequestId(u64::MAX), error })),
                },
                Order::Cancel(ticket) => {
                    if let Some((&id, _)) = self.tickets.iter().find(|(_, t)| **t == ticket) {
                        self.backend.cancel(id);
                        self.tickets.remove(&id);
                    }
                }
            }
        }
        if self.backend.is_idle() && told.is_empty() {
            return Ok(ControlFlow::Break(std::mem::replace(&mut self.backend, Box::new(Silence))));
        }
        let mut outputs = Vec::new();
        self.backend.limit(self.pace.prefill());
        self.backend.step(&mut outputs)?;
        told.extend(outputs.into_iter().filter_map(|output| {
            let id = match &output {
                Output::Delta { id, .. } | Output::Finished { id, .. } | Output::Failed { id, .. } => *id,
            };
            let ticket = match output {
                Output::Delta { .. } => *self.tickets.get(&id)?,
                _ => self.tickets.remove(&id)?,
            };
            Some((ticket, output))
        }));
        Ok(ControlFlow::Continue((told, self.backend.kv_bytes())))
    }
}

/// Stands in a [`Decode`] whose backend was given back.
struct Silence;

impl Backend for Silence {
    fn submit(&mut self, _: Request) -> RequestId {
        RequestId(0)
    }
    fn cancel(&mut self, _: RequestId) {}
    fn step(&mut self, _: &mut Vec<Output>) -> Result<()> {
        Ok(())
    }
    fn is_idle(&self) -> bool {
        true
    }
}

/// A backend, and the job it runs in while it is not resting. Answers are told by ticket numbers of whoever asks.
pub(crate) struct Decoding {
    /// The lock is never taken: it only makes the backend shareable.
    resting: Option<Mutex<Box<dyn Backend>>>,
    job: Option<JobHandle<Decode>>,
    orders: (Sender<Order>, Receiver<Order>),
    kv_bytes: usize,
}

impl Decoding {
    pub(crate) fn new(backend: Box<dyn Backend>) -> Self {
        Self { resting: Some(Mutex::new(backend)), job: None, orders: unbounded(), kv_bytes: 0 }
    }

    /// Whether it has something to say.
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// Bytes of keys and values.
    pub(crate) fn kv_bytes(&self) -> usize {
        self.kv_bytes
    }

    /// Asks for an answer.
    pub(crate) fn answer(
        &mut self,
        ticket: u64,
        make: impl FnOnce() -> Result<Request> + Send + 'static,
        worker: &ComputeWorker,
    ) {
        // The receiver lives as long as the sender.
        let _ = self.orders.0.send(Order::Answer(ticket, Box::new(make)));
        self.wake(worker);
    }

    /// Forgets an answer.
    pub(crate) fn cancel(&self, ticket: u64) {
        let _ = self.orders.0.send(Order::Cancel(ticket));
    }

    fn wake(&mut self, worker: &ComputeWorker) {
        if let Some(backend) = self.resting.take() {
            let backend = backend.into_inner().unwrap_or_else(PoisonError::into_inner);
            let (orders, pace) = (self.orders.1.clone(), Arc::clone(worker.pace()));
            let job = Decode { backend, orders, tickets: HashMap::new(), pace };
            self.job = Some(worker.spawn(Lane::Decode, "dialogue", job));
        }
    }

    /// What was said since the last call. An error: the backend is gone, and whatever it was saying cannot be said any more.
    pub(crate) fn hear(&mut self, worker: &ComputeWorker, heard: &mut Vec<(u64, Output)>) -> Result<()> {
        while let Some(event) = self.job.as_ref().and_then(JobHandle::try_next) {
            match event {
                JobEvent::Update((outputs, kv_bytes)) => {
                    self.kv_bytes = kv_bytes;
                    heard.extend(outputs);
                }
                JobEvent::Finished(backend) => {
                    (self.resting, self.job) = (Some(Mutex::new(backend)), None);
                }
                JobEvent::Failed(error) => {
                    self.job = None;
                    return Err(error);
                }
            }
        }
        // An order that came while the backend was being given back.
        if !self.orders.1.is_empty() {
            self.wake(worker);
        }
        Ok(())
    }
}
