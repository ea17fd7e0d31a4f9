//! Fused operations with a backward pass of their own, for what candle's strided loops are slow at.
//! On devices other than the CPU the plain layers are used instead.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => candle_core::bail!("fused operations take contiguous f32"),
    }
}

/// Softmax over the last dimension of `scale * scores + mask`: `scores [rows, heads, length, length]`,
/// `mask [rows, 1, length, length]`. Only the scores receive a gradient.
pub(super) struct MaskedSoftmax {
    pub(super) scale: f32,
}

impl CustomOp2 for MaskedSoftmax {
    fn name(&self) -> &'static str {
        "masked-softmax"
    }

    fn cpu_fwd(
        &self,
        s: &CpuStorage,
        sl: &Layout,
        m: &CpuStorage,
        ml: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (scores, mask) = (slice(s, sl)?, slice(m, ml)?);
        let (_, heads, length, _) = sl.shape().dims4()?;
        let mut out = vec![0.0f32; scores.len()];
        for (n, (row, out)) in scores.chunks_exact(length).zip(out.chunks_exact_mut(length)).enumerate() {
            let (block, i) = (n / length, n % length);
            let mask = &mask[(block / heads * length + i) * length..][..length];
            let mut max = f32::NEG_INFINITY;
            for ((out, score), mask) in out.iter_mut().zip(row).zip(mask) {
                *out = score * self.scale + mask;
                max = max.max(*out);
            }
            let mut sum = 0.0;
            for out in out.iter_mut() {
                // What is masked is exactly nothing, and costs no exponential.
                *out = if *out - max < -80.0 { 0.0 } else { (*out - max).exp() };
                sum += *out;
            }
            let scale = 1.0 / sum;
            out.iter_mut().for_each(|out| *out *= scale);
        }
        Ok((CpuStorage::F32(out), sl.shape().clone()))
    }

    fn bwd(
        &self,
        _s: &Tensor,
        _m: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = y
            .detach()
            .apply_op2_no_bwd(&dy.contiguous()?.detach(), &SoftmaxBackward { scale: self.scale })?;
        Ok((Some(dx), None))
    }
}

/// `scale * y (dy - sum(y dy))` over the last dimension.
struct SoftmaxBackward {
    scale: f32,
}

impl CustomOp2 for SoftmaxBackward {
    fn name(&self) -> &'static str {
        "softmax-backward"
    }

    fn cpu_fwd(
        &self,
        y: &CpuStorage,
        yl: &Layout,
        dy: &CpuStorage,
        dyl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (y, dy) = (slice(y, yl)?, slice(dy, dyl)?);
        let width = yl.shape().dims().last().copied().unwrap_or(1);
        let mut out = vec![0.0f32; y.len()];
        for ((y, dy), out) in
            y.chunks_exact(width).zip(dy.chunks_exact(width)).zip(out.chunks_exact_mut(width))
        {
            let dot: f32 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
            for ((out, y), dy) in out.iter_mut().zip(y).zip(dy) {
                *out = self.scale * y * (dy - dot);
            }
        }
        Ok((CpuStorage::F32(out), yl.shape().clone()))
    }
}

/// Root-mean-square norm over the last dimension: `x [.., width]`, `weight [width]`.
pub(super) struct RmsNorm {
    pub(super) eps: f32,
}

impl RmsNorm {
    fn scale(&self, row: &[f32]) -> f32 {
        1.0 / (row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32 + self.eps).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (slice(x, xl)?, slice(w, wl)?);
        let mut out = Vec::with_capacity(x.len());
        for row in x.chunks_exact(w.len()) {
            let scale = self.scale(row);
            out.extend(row.iter().zip(w).map(|(x, w)| x * scale * w));
        }
        Ok((CpuStorage::F32(out), xl.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let width = w.elem_count();
        let (x, w) = (x.detach(), w.detach());
        let rows = |t: &Tensor| t.contiguous()?.flatten_all()?.to_vec1::<f32>();
        let (xs, ws, dys) = (rows(&x)?, rows(&w)?, rows(dy)?);
        let (mut dx, mut dw) = (Vec::with_capacity(xs.len()), vec![0.0f32; width]);
        for (x, dy) in xs.chunks_exact(width).zip(dys.chunks_exact(width)) {
            let scale = self.scale(x);
            // d/dx of x s(x): s (g - x s^2 mean(x g)), with g = w dy.
            let dot: f32 = x.iter().zip(dy).zip(&ws).map(|((x, dy), w)| x * dy * w).sum();
            let mean = dot * scale * scale / width as f32;
            for i in 0..width {
                dx.push(scale * (ws[i] * dy[i] - x[i] * mean));
                dw[i] += dy[i] * x[i] * scale;
            }
        }
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        Ok((Some(dx), Some(Tensor::from_vec(dw, w.shape(), w.device())?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::layers;
    use crate::seed::Seed;
    use candle_core::{Device, Var};

    fn random(shape: &[usize], seed: u64) -> Var {
        let mut noise = Seed::new(seed).stream();
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| noise.normal()).collect();
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
    }

    /// The fused operation against the plain layer (which is checked by finite differences): values and
    /// gradients.
    fn same(vars: &[Var], fused: impl Fn() -> Tensor, plain: impl Fn() -> Tensor) {
        let difference = |a: &Tensor, b: &Tensor| {
            (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()
        };
        let (a, b) = (fused(), plain());
        assert!(difference(&a, &b) < 1e-5);
        let weights = random(a.dims(), 77);
        let backward = |y: &Tensor| (y * weights.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
        let (a, b) = (backward(&a), backward(&b));
        for var in vars {
            assert!(difference(a.get(var).unwrap(), b.get(var).unwrap()) < 1e-4);
        }
    }

    #[test]
    fn fused_operations_are_the_plain_layers() {
        let scores = random(&[2, 3, 5, 5], 1);
        let segments = Tensor::from_slice(&[1u32, 1, 2, 2, 0, 1, 1, 1, 1, 1], (2, 5), &Device::Cpu).unwrap();
        let mask = layers::attention_mask(&segments, candle_core::DType::F32).unwrap();
        let plain = || {
            let scaled = (scores.as_tensor() * 0.5).unwrap();
            layers::softmax(&scaled.broadcast_add(&mask).unwrap()).unwrap()
        };
        let fused = || scores.as_tensor().apply_op2(&mask, MaskedSoftmax { scale: 0.5 }).unwrap();
        same(std::slice::from_ref(&scores), fused, plain);
        let (x, w) = (random(&[2, 3, 8], 2), random(&[8], 3));
        let fused = || x.as_tensor().apply_op2(w.as_tensor(), RmsNorm { eps: 1e-5 }).unwrap();
        let vars = [x.clone(), w.clone()];
        same(&vars, fused, || layers::plain_rms_norm(x.as_tensor(), w.as_tensor(), 1e-5).unwrap());
    }
}
