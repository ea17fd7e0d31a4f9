//! [`Tape`]: forward passes that remember what their backward pass needs, on the CPU, in f32.
//!
//! Values are `[rows, width]`, row-major; a row is a token. Operations are as large as a layer (a norm, attention, an
//! LSTM over the whole sequence), each with a backward pass written by hand and checked against finite differences
//! and `PyTorch`. Buffers go back to a [`Pool`] when a tape is dropped, so a training step allocates nothing after
//! the first. Work is shared among the threads of the current rayon pool, always in the same way for the same number of
//! them.
//!
//! Not here: what a network is made of ([`crate::model`]), and GPUs (candle, [`crate::nn`]'s layers).

mod activation;
mod attention;
mod dense;
mod loss;
mod norm;
mod recurrent;
mod rope;
mod sampled;

pub use attention::Heads;
pub use recurrent::Cell;
pub use sampled::Contrast;

use super::kernels::add_to;
use super::parameters::{ParameterId, Parameters};
use std::collections::HashMap;

/// Buffers that are used again, by length.
#[derive(Default)]
pub struct Pool {
    free: HashMap<usize, Vec<Vec<f32>>>,
}

impl Pool {
    /// A buffer of this length; what is in it is left over.
    fn take(&mut self, length: usize) -> Vec<f32> {
        self.free.get_mut(&length).and_then(Vec::pop).unwrap_or_else(|| vec![0.0; length])
    }

    fn zeroed(&mut self, length: usize) -> Vec<f32> {
        let mut buffer = self.take(length);
        buffer.fill(0.0);
        buffer
    }

    fn give(&mut self, buffer: Vec<f32>) {
        if !buffer.is_empty() {
            self.free.entry(buffer.len()).or_default().push(buffer);
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.free.values().flatten().map(|buffer| buffer.capacity() * size_of::<f32>()).sum()
    }
}

/// A value on a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(usize);

struct Node {
    value: Vec<f32>,
    /// Empty until something flows back.
    grad: Vec<f32>,
    width: usize,
    op: Op,
}

/// How a value was made, and what its backward pass needs beside its inputs.
enum Op {
    /// Given from outside; no gradient goes further.
    Input,
    Embedding {
        table: ParameterId,
        ids: Vec<u32>,
    },
    Linear {
        x: Value,
        weight: ParameterId,
        bias: Option<ParameterId>,
    },
    Add {
        a: Value,
        b: Value,
        scale: f32,
    },
    Dropout {
        x: Value,
        seed: u64,
        rate: f32,
    },
    RmsNorm {
        x: Value,
        weight: ParameterId,
        scales: Vec<f32>,
    },
    LayerNorm {
        x: Value,
        weight: ParameterId,
        bias: Option<ParameterId>,
        moments: Vec<f32>,
    },
    Rope {
        x: Value,
        heads: usize,
        table: std::sync::Arc<rope::RopeTable>,
        positions: Vec<u32>,
    },
    Attention {
        q: Value,
        k: Value,
        v: Value,
        heads: Heads,
        starts: Vec<u32>,
        log_sums: Vec<f32>,
    },
    SwiGlu {
        gate: Value,
        up: Value,
    },
    Gelu {
        x: Value,
        exact: bool,
    },
    Recurrent {
        x: Value,
        layer: recurrent::Layer,
        gates: Vec<f32>,
        cells: Vec<f32>,
    },
    Loss {
        logits: Value,
        targets: Vec<u32>,
        smoothing: f32,
    },
    Sampled {
        x: Value,
        table: ParameterId,
        targets: Vec<u32>,
        negatives: Vec<u32>,
        slopes: Vec<f32>,
    },
    Dot {
        a: Value,
        table: ParameterId,
        ids: Vec<u32>,
    },
}

pub use rope::RopeTable;

/// A forward pass. See the module's documentation.
pub struct Tape<'a> {
    parameters: &'a Parameters,
    pool: &'a mut Pool,
    nodes: Vec<Node>,
}

impl<'a> Tape<'a> {
    /// An empty tape over these weights.
    pub fn new(parameters: &'a Parameters, pool: &'a mut Pool) -> Self {
        Self { parameters, pool, nodes: Vec::new() }
    }

    /// The weights.
    pub fn parameters(&self) -> &'a Parameters {
        self.parameters
    }

    /// The numbers of a value.
    pub fn value(&self, of: Value) -> &[f32] {
        &self.nodes[of.0].value
    }

    /// The gradient of a value after [`Tape::backward`]; empty where nothing flowed back.
    pub fn gradient(&self, of: Value) -> &[f32] {
        &self.nodes[of.0].grad
    }

    /// The width of a value.
    pub fn width(&self, of: Value) -> usize {
        self.nodes[of.0].width
    }

    /// The number of rows of a value.
    pub fn rows(&self, of: Value) -> usize {
        self.nodes[of.0].value.len() / self.width(of).max(1)
    }

    /// A value from outside, `[rows, width]`.
    pub fn input(&mut self, values: &[f32], width: usize) -> Value {
        let mut value = self.pool.take(values.len());
        value.copy_from_slice(values);
        self.push(value, width, Op::Input)
    }

    fn push(&mut self, value: Vec<f32>, width: usize, op: Op) -> Value {
        self.nodes.push(Node { value, grad: Vec::new(), width, op });
        Value(self.nodes.len() - 1)
    }

    /// Whether the gradient of a parameter is wanted.
    fn learns(&self, id: ParameterId) -> bool {
        self.parameters.get(id).trainable
    }

    /// The slice of `grads` that belongs to a parameter.
    fn slot<'g>(&self, grads: &'g mut [f32], id: ParameterId) -> &'g mut [f32] {
        &mut grads[self.parameters.get(id).grads.clone()]
    }

    /// Takes a value's gradient out to add to it; a new one has nothing in it yet, which the flag says.
    fn open(&mut self, of: Value) -> (Vec<f32>, bool) {
        let node = &mut self.nodes[of.0];
        if node.grad.is_empty() {
            let length = node.value.len();
            (self.pool.take(length), true)
        } else {
            (std::mem::take(&mut node.grad), false)
        }
    }

    fn close(&mut self, of: Value, grad: Vec<f32>) {
        self.nodes[of.0].grad = grad;
    }

    /// Adds a whole gradient to a value's.
    fn flow(&mut self, to: Value, grad: Vec<f32>) {
        let node = &mut self.nodes[to.0];
        if node.grad.is_empty() {
            node.grad = grad;
        } else {
            add_to(&mut node.grad, &grad);
            self.pool.give(grad);
        }
    }

    /// The backward pass from `from`, whose own gradient is `seed`. Gradients of parameters are added to `grads`,
    /// which has [`Parameters::trainable`] values.
    pub fn backward(&mut self, from: Value, seed: &[f32], grads: &mut [f32]) {
        debug_assert_eq!(seed.len(), self.value(from).len());
        let mut grad = self.pool.take(seed.len());
        grad.copy_from_slice(seed);
        self.flow(from, grad);
        for at in (0..=from.0).rev() {
            if self.nodes[at].grad.is_empty() {
                continue;
            }
            let grad = std::mem::take(&mut self.nodes[at].grad);
            let op = std::mem::replace(&mut self.nodes[at].op, Op::Input);
            let left = self.back(at, &op, grad, grads);
            self.nodes[at].op = op;
            match self.nodes[at].op {
                // Whoever gave the value may want to know.
                Op::Input => self.nodes[at].grad = left,
                _ => self.pool.give(left),
            }
        }
    }

    /// The backward pass of one node. Gives back the buffer of its gradient.
    fn back(&mut self, at: usize, op: &Op, mut grad: Vec<f32>, grads: &mut [f32]) -> Vec<f32> {
        match op {
            Op::Input => return grad,
            Op::Embedding { table, ids } => self.embedding_back(*table, ids, &grad, grads),
            Op::Linear { x, weight, bias } => self.linear_back(*x, *weight, *bias, &grad, grads),
            Op::Add { a, b, scale } => return self.add_back(*a, *b, *scale, grad),
            Op::Dropout { x, seed, rate } => {
                dense::drop_out(&mut grad, *seed, *rate);
                self.flow(*x, grad);
                return Vec::new();
            }
            Op::RmsNorm { x, weight, scales } => self.rms_norm_back(*x, *weight, scales, &grad, grads),
            Op::LayerNorm { x, weight, bias, moments } => {
                self.layer_norm_back(*x, *weight, *bias, moments, &grad, grads);
            }
            Op::Rope { x, heads, table, positions } => {
                rope::turn(&mut grad, *heads, table, positions, true);
                self.flow(*x, grad);
                return Vec::new();
            }
            Op::Attention { q, k, v, heads, starts, log_sums } => {
                self.attention_back(at, [*q, *k, *v], heads, starts, log_sums, &grad);
            }
            Op::SwiGlu { gate, up } => self.swiglu_back(*gate, *up, &grad),
            Op::Gelu { x, exact } => self.gelu_back(*x, *exact, &grad),
            Op::Recurrent { x, layer, gates, cells } => {
                self.recurrent_back(at, *x, layer, gates, cells, &grad, grads);
            }
            Op::Loss { logits, targets, smoothing } => self.loss_back(*logits, targets, *smoothing, &grad),
            Op::Sampled { x, table, targets, negatives, slopes } => {
                self.sampled_back(*x, *table, (targets, negatives), slopes, &grad, grads);
            }
            Op::Dot { a, table, ids } => self.dot_back(*a, *table, ids, &grad, grads),
        }
        grad
    }
}

impl Drop for Tape<'_> {
    fn drop(&mut self) {
        for node in self.nodes.drain(..) {
            self.pool.give(node.value);
            self.pool.give(node.grad);
            match node.op {
                Op::RmsNorm { scales: kept, .. }
                | Op::LayerNorm { moments: kept, .. }
                | Op::Attention { log_sums: kept, .. }
                | Op::Sampled { slopes: kept, .. } => self.pool.give(kept),
                Op::Recurrent { gates, cells, .. } => {
                    self.pool.give(gates);
                    self.pool.give(cells);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
