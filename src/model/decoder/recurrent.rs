//! The layers of a recurrent network. A sequence's states are kept for every position, so that a cache can be cut
//! back like that of a transformer.

use super::{Linear, Row, Scratch, Source};
use crate::error::Result;
use crate::model::model_config::RecurrentConfig;
use crate::nn::kernels::{sigmoid, tanh, vectorized};
use crate::nn::tape::Cell;

struct Layer {
    input: Linear,
    hidden: Linear,
}

pub(super) struct Body {
    cell: Cell,
    width: usize,
    layers: Vec<Layer>,
}

impl Body {
    pub(super) fn new(config: &RecurrentConfig, source: &Source<'_>) -> Result<Self> {
        let layer = |n: usize| -> Result<Layer> {
            let side = |side: &str| {
                let name = format!("model.layers.{n}.{side}");
                Linear::named(source, &format!("{name}_weight"), &format!("{name}_bias"))
            };
            Ok(Layer { input: side("input")?, hidden: side("hidden")? })
        };
        let layers = (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?;
        Ok(Self { cell: config.cell, width: config.hidden_size, layers })
    }

    pub(super) fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.input.bytes() + layer.hidden.bytes()).sum()
    }

    /// From the embeddings in `s.x` to the last layer's states in `s.normed`.
    pub(super) fn forward(&self, rows: &mut [Row<'_>], s: &mut Scratch) {
        let (w, g) = (self.width, self.cell.gates() * self.width);
        let longest = rows.iter().map(|row| row.tokens.len()).max().unwrap_or(0);
        s.normed.clone_from(&s.x);
        for (n, layer) in self.layers.iter().enumerate() {
            layer.input.forward(&s.normed, &mut s.work, &mut s.q);
            s.normed.clear();
            s.normed.resize(s.q.len() / g * w, 0.0);
            // All sequences take their first new token together, then their second, ..
            for t in 0..longest {
                s.x.clear();
                for row in rows.iter().filter(|row| t < row.tokens.len()) {
                    match (row.cache.len() + t).checked_sub(1) {
                        Some(last) => s.x.extend_from_slice(row.cache.state(n, last)[0]),
                        None => s.x.resize(s.x.len() + w, 0.0),
                    }
                }
                layer.hidden.forward(&s.x, &mut s.work, &mut s.k);
                let (mut at, mut turn) = (0, 0);
                for row in rows.iter_mut() {
                    if t < row.tokens.len() {
                        let (x, u) = (&s.q[(at + t) * g..][..g], &s.k[turn * g..][..g]);
                        let out = &mut s.normed[(at + t) * w..][..w];
                        let position = row.cache.len() + t;
                        s.gate.clear();
                        match position.checked_sub(1) {
                            Some(last) => s.gate.extend_from_slice(row.cache.state(n, last)[1]),
                            None => s.gate.resize(w, 0.0),
                        }
                        self.step(x, u, &s.x[turn * w..][..w], &mut s.gate, out);
                        row.cache.set_state(n, position, out, &s.gate);
                        turn += 1;
                    }
                    at += row.tokens.len();
                }
            }
        }
    }

    /// One token of one sequence: `x` and `u` are what input and state give to the gates, biases included.
    fn step(&self, x: &[f32], u: &[f32], before: &[f32], cells: &mut [f32], out: &mut [f32]) {
        let w = self.width;
        vectorized(
            #[inline(always)]
            || match self.cell {
                Cell::Rnn => {
                    for i in 0..w {
                        out[i] = tanh(x[i] + u[i]);
                    }
                }
                Cell::Gru => {
                    for i in 0..w {
                        let reset = sigmoid(x[i] + u[i]);
                        let update = sigmoid(x[w + i] + u[w + i]);
                        let new = tanh(x[2 * w + i] + reset * u[2 * w + i]);
                        out[i] = (1.0 - update) * new + update * before[i];
                    }
                }
                Cell::Lstm => {
                    for i in 0..w {
                        let input = sigmoid(x[i] + u[i]);
                        let forget = sigmoid(x[w + i] + u[w + i]);
                        let new = tanh(x[2 * w + i] + u[2 * w + i]);
                        let output = sigmoid(x[3 * w + i] + u[3 * w + i]);
                        cells[i] = forget * cells[i] + input * new;
                        out[i] = output * tanh(cells[i]);
                    }
                }
            },
        );
    }
}
