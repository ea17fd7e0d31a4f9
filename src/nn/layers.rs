//! Layers that differentiate, made of candle's basic operations only: its fused norms, softmax and rotary
//! embeddings produce tensors without a backward pass (huggingface/candle #2168), and training through
//! them leaves everything upstream frozen without a word.

use crate::error::Result;
use crate::seed::Stream;
use candle_core::{D, DType, Tensor};

/// A packed batch.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Token ids, `[rows, length]`, u32.
    pub ids: Tensor,
    /// Positions, `[rows, length]`, u32; they begin at 0 in each packed sample.
    pub positions: Tensor,
    /// Which sample each token belongs to, `[rows, length]`, u32. Attention never crosses; 0 is padding.
    pub segments: Tensor,
}

/// Whether a forward pass is for training.
pub enum Mode<'a> {
    /// No dropout.
    Evaluate,
    /// Dropout, drawn from the stream.
    Train {
        /// The share of activations set to zero.
        dropout: f32,
        /// Where the noise comes from.
        noise: &'a mut Stream,
    },
}

/// Rows of a table: `table [vocab, width]`, `ids [rows, length]` -> `[rows, length, width]`.
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (rows, length) = ids.dims2()?;
    Ok(table.index_select(&ids.flatten_all()?, 0)?.reshape((rows, length, ()))?)
}

/// `x W^T`: `x [.., in]`, `weight [out, in]` -> `[.., out]`.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let width = shape.pop().unwrap_or(0);
    shape.push(weight.dim(0)?);
    Ok(x.reshape(((), width))?.matmul(&weight.t()?)?.reshape(shape)?)
}

/// Root-mean-square norm over the last dimension (Zhang and Sennrich 2019).
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    if fusible(x) {
        return Ok(x.contiguous()?.apply_op2(weight, super::fused::RmsNorm { eps })?);
    }
    plain_rms_norm(x, weight, eps)
}

pub(super) fn plain_rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    Ok(x.broadcast_div(&scale)?.broadcast_mul(weight)?)
}

fn fusible(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// Softmax over the last dimension.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    Ok(exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?)
}

/// `x * sigmoid(x)`.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    Ok((x / (x.neg()?.exp()? + 1.0)?)?)
}

/// Sets a share of the values to zero and scales the others up, in training only.
pub fn dropout(x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
    let Mode::Train { dropout, noise } = mode else { return Ok(x.clone()) };
    if *dropout <= 0.0 {
        return Ok(x.clone());
    }
    let keep = 1.0 / (1.0 - *dropout);
    let threshold = (f64::from(*dropout) * 65536.0) as u64;
    let count = x.elem_count();
    let mut mask: Vec<f32> = Vec::with_capacity(count + 4);
    while mask.len() < count {
        let bits = noise.next_u64();
        // Four 16-bit draws from one number.
        mask.extend((0..4).map(|n| if (bits >> (16 * n)) & 0xffff < threshold { 0.0 } else { keep }));
    }
    mask.truncate(count);
    let mask = Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?;
    Ok((x * mask)?)
}

/// Cosines and sines for rotary embeddings (Su et al. 2021): each `[rows, 1, length, head_dim]`, in
/// Hugging Face's layout (the halves of a head turn together). `frequencies [head_dim / 2]` are in radians a token;
/// cosines and sines are multiplied by `scale`.
pub fn rope_table(
    positions: &Tensor,
    frequencies: &[f64],
    scale: f32,
    dtype: DType,
) -> Result<(Tensor, Tensor)> {
    let (rows, length) = positions.dims2()?;
    let positions = positions.flatten_all()?.to_vec1::<u32>()?;
    let (mut cos, mut sin) = (Vec::new(), Vec::new());
    for position in positions {
        for _ in 0..2 {
            for frequency in frequencies {
                let angle = f64::from(position) * frequency;
                cos.push(angle.cos() as f32 * scale);
                sin.push(angle.sin() as f32 * scale);
            }
        }
    }
    let shape = (rows, 1, length, 2 * frequencies.len());
    // The table is always made on the CPU side of the device it will be used on.
    let table =
        |v: Vec<f32>, device| -> Result<Tensor> { Ok(Tensor::from_vec(v, shape, device)?.to_dtype(dtype)?) };
    Ok((table(cos, &candle_core::Device::Cpu)?, table(sin, &candle_core::Device::Cpu)?))
}

/// Turns `x [rows, heads, length, head_dim]` by the table of [`rope_table`].
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (first, second) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    let turned = Tensor::cat(&[&second.neg()?, &first], D::Minus1)?;
    Ok((x.broadcast_mul(cos)? + turned.broadcast_mul(sin)?)?)
}

/// What may attend to what: `[rows, 1, length, length]`, 0 where a token may look, very negative elsewhere.
pub fn attention_mask(segments: &Tensor, dtype: DType) -> Result<Tensor> {
    let segments = segments.to_vec2::<u32>()?;
    let (rows, length) = (segments.len(), segments.first().map_or(0, Vec::len));
    let mut mask = vec![-1e9f32; rows * length * length];
    for (r, row) in segments.iter().enumerate() {
        for i in 0..length {
            for j in 0..=i {
                // Padding sees itself, so that no row of the softmax is empty.
                if row[i] == row[j] || i == j {
                    mask[(r * length + i) * length + j] = 0.0;
                }
            }
        }
    }
    Ok(Tensor::from_vec(mask, (rows, 1, length, length), &candle_core::Device::Cpu)?.to_dtype(dtype)?)
}

/// Scaled dot-product attention with grouped queries: `q [rows, heads, length, dim]`,
/// `k`, `v [rows, kv_heads, length, dim]` -> like `q`.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let (rows, heads, length, dim) = q.dims4()?;
    let groups = heads / k.dim(1)?;
    let repeat = |x: &Tensor| -> Result<Tensor> {
        if groups == 1 {
            return Ok(x.contiguous()?);
        }
        let kv = x.dim(1)?;
        Ok(x.unsqueeze(2)?.expand((rows, kv, groups, length, dim))?.reshape((rows, heads, length, dim))?)
    };
    let (k, v) = (repeat(k)?, repeat(v)?);
    let scores = q.contiguous()?.matmul(&k.t()?)?;
    let scale = 1.0 / (dim as f64).sqrt();
    let weights = if fusible(&scores) {
        scores.apply_op2(mask, super::fused::MaskedSoftmax { scale: scale as f32 })?
    } else {
        softmax(&(scores * scale)?.broadcast_add(mask)?)?
    };
    Ok(weights.matmul(&v)?)
}

/// The `SwiGLU` feed-forward block (Shazeer 2020).
pub fn swiglu(x: &Tensor, gate: &Tensor, up: &Tensor, down: &Tensor) -> Result<Tensor> {
    linear(&(silu(&linear(x, gate)?)? * linear(x, up)?)?, down)
}

/// Cross-entropy in nats, weighted: `sum(w * nll) / sum(w)`. `logits [rows, length, vocab]`,
/// `targets [rows, length]` u32, `weights [rows, length]`. With smoothing `s`, each target is mixed with
/// the uniform distribution (Szegedy et al. 2016).
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor, smoothing: f32) -> Result<Tensor> {
    let vocab = logits.dim(D::Minus1)?;
    let logits = logits.reshape(((), vocab))?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(1)?.log()?;
    let picked = shifted.gather(&targets.flatten_all()?.unsqueeze(1)?, 1)?;
    let mut nll = (&log_sum - picked)?.squeeze(1)?;
    if smoothing > 0.0 {
        let uniform = (log_sum.squeeze(1)? - shifted.mean(1)?)?;
        nll = ((nll * f64::from(1.0 - smoothing))? + (uniform * f64::from(smoothing))?)?;
    }
    let weights = weights.flatten_all()?.to_dtype(nll.dtype())?;
    let total = weights.sum_all()?;
    Ok(((nll * weights)?.sum_all()? / total)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use candle_core::{Device, Var};

    fn random(shape: &[usize], seed: u64) -> Var {
        let mut noise = Seed::new(seed).stream();
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(noise.normal())).collect();
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
    }

    /// Compares the backward pass with central differences, in f64.
    fn check(name: &str, vars: &[Var], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
        let inputs = |vars: &[Var]| vars.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>();
        // A fixed random projection makes one number of any output.
        let loss = |vars: &[Var]| {
            let out = f(&inputs(vars)).unwrap();
            let weights = random(&[out.elem_count()], 99);
            (out.flatten_all().unwrap() * weights.as_tensor()).unwrap().sum_all().unwrap()
        };
        let grads = loss(vars).backward().unwrap();
        for (n, var) in vars.iter().enumerate() {
            let grad = grads.get(var).unwrap_or_else(|| panic!("{name}: no gradient for input {n}"));
            let grad = grad.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let values = var.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for i in 0..values.len() {
                let at = |delta: f64| {
                    let mut moved = values.clone();
                    moved[i] += delta;
                    var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap()).unwrap();
                    loss(vars).to_scalar::<f64>().unwrap()
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                at(0.0);
                let error = (numeric - grad[i]).abs() / (1.0 + numeric.abs());
                assert!(error < 1e-6, "{name}: input {n}[{i}]: {numeric} against {}", grad[i]);
            }
        }
    }

    fn ids(values: &[u32], shape: (usize, usize)) -> Tensor {
        Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn every_layer_agrees_with_finite_differences() {
        check("embedding", &[random(&[4, 3], 1)], |x| embedding(&x[0], &ids(&[1, 3, 1, 0], (2, 2))));
        check("linear", &[random(&[2, 2, 3], 1), random(&[4, 3], 2)], |x| linear(&x[0], &x[1]));
        check("rms_norm", &[random(&[2, 4], 1), random(&[4], 2)], |x| rms_norm(&x[0], &x[1], 1e-5));
        check("softmax", &[random(&[2, 4], 1)], |x| softmax(&x[0]));
        check("silu", &[random(&[5], 1)], |x| silu(&x[0]));
        check("rope", &[random(&[1, 2, 3, 4], 1)], |x| {
            let (cos, sin) = rope_table(&ids(&[0, 1, 7], (1, 3)), &[1.0, 0.01], 1.0, DType::F64)?;
            rope(&x[0], &cos, &sin)
        });
        let qkv = [random(&[1, 4, 3, 2], 1), random(&[1, 2, 3, 2], 2), random(&[1, 2, 3, 2], 3)];
        check("attention", &qkv, |x| {
            let mask = attention_mask(&ids(&[1, 1, 2], (1, 3)), DType::F64)?;
            attention(&x[0], &x[1], &x[2], &mask)
        });
        let mlp = [random(&[2, 3], 1), random(&[5, 3], 2), random(&[5, 3], 3), random(&[3, 5], 4)];
        check("swiglu", &mlp, |x| swiglu(&x[0], &x[1], &x[2], &x[3]));
        for smoothing in [0.0, 0.1] {
            check("cross_entropy", &[random(&[1, 3, 4], 1)], |x| {
                let weights = Tensor::from_slice(&[1.0, 0.0, 0.5], (1, 3), &Device::Cpu)?;
                cross_entropy(&x[0], &ids(&[2, 0, 3], (1, 3)), &weights, smoothing)
            });
        }
        check("dropout", &[random(&[3, 4], 1)], |x| {
            let mut noise = Seed::new(5).stream();
            dropout(&x[0], &mut Mode::Train { dropout: 0.5, noise: &mut noise })
        });
    }

    #[test]
    fn cross_entropy_of_uniform_logits_is_the_log_of_the_vocabulary() {
        let logits = Tensor::zeros((1, 2, 8), DType::F32, &Device::Cpu).unwrap();
        let weights = Tensor::ones((1, 2), DType::F32, &Device::Cpu).unwrap();
        let loss = cross_entropy(&logits, &ids(&[1, 2], (1, 2)), &weights, 0.0).unwrap();
        assert!((loss.to_scalar::<f32>().unwrap() - 8f32.ln()).abs() < 1e-6);
    }
}
