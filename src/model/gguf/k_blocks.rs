//! ggml's blocks of 256 values: parts of 32 (or 16) values with scales that are themselves quantized.
//!
//! The layout is ggml's. Scales are searched: a grid of steps, each with its least-squares fit, then the block's own
//! scales fitted to what was rounded; the error is at most that of ggml's reference (a test compares).

use super::blocks::{Block, array, half, peak};
use half::f16;

/// 256 values `d * scale * q - dmin * min`, a 6-bit scale and minimum for each 32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Q4K {
    /// The scales' scale.
    pub d: f16,
    /// The minima's scale.
    pub dmin: f16,
    /// Eight scales and eight minima, 6 bits each: see [`scale_and_min`].
    pub scales: [u8; 12],
    /// 64 values in 32 bytes: the low halves, then the high halves.
    pub qs: [u8; 128],
}

/// As [`Q4K`], with a fifth bit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Q5K {
    /// The scales' scale.
    pub d: f16,
    /// The minima's scale.
    pub dmin: f16,
    /// As in [`Q4K`].
    pub scales: [u8; 12],
    /// Bit `p` of byte `i` is the fifth bit of value `i` of part `p`.
    pub qh: [u8; 32],
    /// The lower four bits, as in [`Q4K`].
    pub qs: [u8; 128],
}

/// 256 values `d * scale * (q - 32)`, an 8-bit scale for each 16.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Q6K {
    /// The lower four bits: each 128 values in 64 bytes, the low halves, then the high halves.
    pub ql: [u8; 128],
    /// The upper two bits: each 128 values in 32 bytes, 32 values a pair of bits.
    pub qh: [u8; 64],
    /// The scales.
    pub scales: [i8; 16],
    /// The scales' scale.
    pub d: f16,
}

/// The 6-bit scale and minimum of part `j` (0 to 7).
pub fn scale_and_min(scales: &[u8; 12], j: usize) -> (u8, u8) {
    if j < 4 {
        return (scales[j] & 63, scales[j + 4] & 63);
    }
    let (low, high) = (scales[j + 4], (scales[j - 4] >> 6, scales[j] >> 6));
    (low & 15 | high.0 << 4, low >> 4 | high.1 << 4)
}

fn packed_scales(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut out = [0; 12];
    for j in 0..4 {
        out[j] = scales[j] | scales[j + 4] >> 4 << 6;
        out[j + 4] = mins[j] | mins[j + 4] >> 4 << 6;
        out[j + 8] = scales[j + 4] & 15 | (mins[j + 4] & 15) << 4;
    }
    out
}

/// What is rounded of a block of [`Q4K`] or [`Q5K`].
struct Rounded {
    d: f16,
    dmin: f16,
    scales: [u8; 8],
    mins: [u8; 8],
    q: [u8; 256],
}

/// Larger values count more: they move a product more (ggml weighs so, too).
fn importance(values: &[f32]) -> [f32; 32] {
    let mean = values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32;
    let mut out = [0.0; 32];
    out.iter_mut().zip(values).for_each(|(out, x)| *out = mean.sqrt() + x.abs());
    out
}

/// Scale and minimum (both at least 0) for which `scale * q - min`, `q` in `0..=most`, comes nearest to `x`.
fn fit_range(x: &[f32], most: f32) -> (f32, f32) {
    let weights = importance(x);
    let low = x.iter().copied().fold(0.0, f32::min);
    let high = x.iter().copied().fold(low, f32::max);
    if high <= low {
        return (0.0, -low);
    }
    let (mut best, mut least) = ((0.0, -low), f32::MAX);
    for step in -10i8..=10 {
        let inverse = (most + 0.1 * f32::from(step)) / (high - low);
        let (mut n, mut q1, mut q2, mut x1, mut qx) = (0.0f32, 0.0f32, 0.0f32, 0.0f32, 0.0f32);
        for (x, w) in x.iter().zip(weights) {
            let q = (inverse * (x - low)).round_ties_even().clamp(0.0, most);
            n += w;
            q1 += w * q;
            q2 += w * q * q;
            x1 += w * x;
            qx += w * q * x;
        }
        // Least squares for x = scale * q - min.
        let determinant = n * q2 - q1 * q1;
        let (mut scale, mut min) = if determinant > 0.0 {
            ((n * qx - q1 * x1) / determinant, (q1 * qx - q2 * x1) / determinant)
        } else {
            (0.0, -low)
        };
        if min < 0.0 {
            (scale, min) = (if q2 > 0.0 { qx / q2 } else { 0.0 }, 0.0);
        }
        let error: f32 = x
            .iter()
            .zip(weights)
            .map(|(x, w)| {
                let q = (inverse * (x - low)).round_ties_even().clamp(0.0, most);
                let off = scale * q - min - x;
                w * off * off
            })
            .sum();
        if scale > 0.0 && error < least {
            (best, least) = ((scale, min), error);
        }
    }
    best
}

/// The nearest of `0..=most`, by an inverse that may be of zero.
fn nearest(value: f32, inverse: f32, most: f32) -> f32 {
    (value * inverse).round_ties_even().clamp(0.0, most)
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

fn round_range(values: &[f32], most: f32) -> Rounded {
    let parts: [(f32, f32); 8] = std::array::from_fn(|j| fit_range(&values[j * 32..][..32], most));
    let largest = |of: fn(&(f32, f32)) -> f32| parts.iter().map(of).fold(0.0, f32::max);
    let (d, dmin) = (largest(|p| p.0) / 63.0, largest(|p| p.1) / 63.0);
    let scales = parts.map(|part| nearest(part.0, inverse(d), 63.0) as u8);
    let mins = parts.map(|part| nearest(part.1, inverse(dmin), 63.0) as u8);
    let mut out = Rounded { d: f16::from_f32(d), dmin: f16::from_f32(dmin), scales, mins, q: [0; 256] };
    out.fill(values, most);
    let before = out.error(values);
    // The block's two scales once more, for the values as they were rounded.
    let (mut a, mut b, mut c, mut ax, mut bx) = (0.0f32, 0.0f32, 0.0f32, 0.0f32, 0.0f32);
    for (j, x) in values.chunks_exact(32).enumerate() {
        let weights = importance(x);
        for ((x, w), q) in x.iter().zip(weights).zip(&out.q[j * 32..]) {
            let (u, v) = (f32::from(scales[j]) * f32::from(*q), -f32::from(mins[j]));
            a += w * u * u;
            b += w * u * v;
            c += w * v * v;
            ax += w * u * x;
            bx += w * v * x;
        }
    }
    let determinant = a * c - b * b;
    let (d, dmin) = if determinant > 1e-6 * a * c {
        ((c * ax - b * bx) / determinant, (a * bx - b * ax) / determinant)
    } else {
        (d, dmin)
    };
    if d > 0.0 && dmin >= 0.0 {
        let mut again = Rounded { d: f16::from_f32(d), dmin: f16::from_f32(dmin), ..out };
        again.fill(values, most);
        if again.error(values) < before {
            return again;
        }
    }
    out
}

impl Rounded {
    fn part(&self, j: usize) -> (f32, f32) {
        (self.d.to_f32() * f32::from(self.scales[j]), self.dmin.to_f32() * f32::from(self.mins[j]))
    }

    /// Rounds the values for the scales as they are stored.
    fn fill(&mut self, values: &[f32], most: f32) {
        for (j, x) in values.chunks_exact(32).enumerate() {
            let (scale, min) = self.part(j);
            let inverse = inverse(scale);
            for (q, x) in self.q[j * 32..].iter_mut().zip(x) {
                *q = nearest(x + min, inverse, most) as u8;
            }
        }
    }

    fn error(&self, values: &[f32]) -> f32 {
        let part = |(j, x): (usize, &[f32])| {
            let ((scale, min), weights) = (self.part(j), importance(x));
            let off = |i: usize| scale * f32::from(self.q[j * 32 + i]) - min - x[i];
            (0..32).map(|i| weights[i] * off(i) * off(i)).sum::<f32>()
        };
        values.chunks_exact(32).enumerate().map(part).sum()
    }

    /// The lower four bits: 64 values in 32 bytes.
    fn low(&self) -> [u8; 128] {
        std::array::from_fn(|i| {
            let first = i / 32 * 64 + i % 32;
            self.q[first] & 15 | self.q[first + 32] << 4
        })
    }
}

/// Part `j` of the lower four bits.
fn low_part(qs: &[u8; 128], j: usize) -> impl Iterator<Item = u8> {
    qs[j / 2 * 32..][..32].iter().map(move |byte| if j.is_multiple_of(2) { byte & 15 } else { byte >> 4 })
}

impl Block for Q4K {
    const VALUES: usize = 256;
    const BYTES: usize = 144;

    fn read(bytes: &[u8]) -> Self {
        Self { d: half(bytes), dmin: half(&bytes[2..]), scales: array(&bytes[4..]), qs: array(&bytes[16..]) }
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&self.d.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.dmin.to_le_bytes());
        bytes[4..16].copy_from_slice(&self.scales);
        bytes[16..144].copy_from_slice(&self.qs);
    }

    fn quantize(values: &[f32]) -> Self {
        let rounded = round_range(values, 15.0);
        let scales = packed_scales(&rounded.scales, &rounded.mins);
        Self { d: rounded.d, dmin: rounded.dmin, scales, qs: rounded.low() }
    }

    fn dequantize(&self, out: &mut [f32]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        for (j, out) in out.chunks_exact_mut(32).enumerate() {
            let (scale, min) = scale_and_min(&self.scales, j);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for (out, q) in out.iter_mut().zip(low_part(&self.qs, j)) {
                *out = scale * f32::from(q) - min;
            }
        }
    }
}

impl Block for Q5K {
    const VALUES: usize = 256;
    const BYTES: usize = 176;

    fn read(bytes: &[u8]) -> Self {
        Self {
            d: half(bytes),
            dmin: half(&bytes[2..]),
            scales: array(&bytes[4..]),
            qh: array(&bytes[16..]),
            qs: array(&bytes[48..]),
        }
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&self.d.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.dmin.to_le_bytes());
        bytes[4..16].copy_from_slice(&self.scales);
        bytes[16..48].copy_from_slice(&self.qh);
        bytes[48..176].copy_from_slice(&self.qs);
    }

    fn quantize(values: &[f32]) -> Self {
        let rounded = round_range(values, 31.0);
        let scales = packed_scales(&rounded.scales, &rounded.mins);
        let bits = |i: usize| (0..8).fold(0, |bits, part| bits | (rounded.q[part * 32 + i] >> 4) << part);
        Self { d: rounded.d, dmin: rounded.dmin, scales, qh: std::array::from_fn(bits), qs: rounded.low() }
    }

    fn dequantize(&self, out: &mut [f32]) {
        let (d, dmin) = (self.d.to_f32(), self.dmin.to_f32());
        for (j, out) in out.chunks_exact_mut(32).enumerate() {
            let (scale, min) = scale_and_min(&self.scales, j);
            let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
            for ((out, q), high) in out.iter_mut().zip(low_part(&self.qs, j)).zip(self.qh) {
                *out = scale * f32::from(q | (high >> j & 1) << 4) - min;
            }
        }
    }
}

/// The scale for which `scale * q`, `q` in -32 to 31, comes nearest to `x`, where each counts by its square.
fn fit_symmetric(x: &[f32]) -> f32 {
    let peak = peak(x);
    if peak == 0.0 {
        return 0.0;
    }
    let (mut best, mut most) = (0.0, 0.0);
    for step in -9i8..=9 {
        let inverse = -(32.0 + 0.1 * f32::from(step)) / peak;
        let (mut qx, mut q2) = (0.0f32, 0.0f32);
        for x in x {
            let q = (inverse * x).round_ties_even().clamp(-32.0, 31.0);
            qx += x * x * q * x;
            q2 += x * x * q * q;
        }
        // The error is that of nothing at all less `qx^2 / q2`.
        if q2 > 0.0 && qx * qx > most * q2 {
            (best, most) = (qx / q2, qx * qx / q2);
        }
    }
    best
}

impl Q6K {
    /// Where value `i` of 256 has its bits: byte and shift below, byte and shift above.
    fn place(i: usize) -> [usize; 4] {
        let (part, quarter, at) = (i / 128, i % 128 / 32, i % 32);
        [part * 64 + quarter % 2 * 32 + at, quarter / 2 * 4, part * 32 + at, quarter * 2]
    }

    fn rounded(values: &[f32], d: f32, scales: &[i8; 16]) -> [i8; 256] {
        std::array::from_fn(|i| {
            let inverse = inverse(d * f32::from(scales[i / 16]));
            (values[i] * inverse).round_ties_even().clamp(-32.0, 31.0) as i8
        })
    }
}

impl Block for Q6K {
    const VALUES: usize = 256;
    const BYTES: usize = 210;

    fn read(bytes: &[u8]) -> Self {
        Self {
            ql: array(bytes),
            qh: array(&bytes[128..]),
            scales: array::<16>(&bytes[192..]).map(u8::cast_signed),
            d: half(&bytes[208..]),
        }
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..128].copy_from_slice(&self.ql);
        bytes[128..192].copy_from_slice(&self.qh);
        bytes[192..208].copy_from_slice(&self.scales.map(i8::cast_unsigned));
        bytes[208..210].copy_from_slice(&self.d.to_le_bytes());
    }

    fn quantize(values: &[f32]) -> Self {
        let parts: [f32; 16] = std::array::from_fn(|j| fit_symmetric(&values[j * 16..][..16]));
        let d = peak(&parts) / -128.0;
        let scales = parts.map(|part| (part * inverse(d)).round_ties_even().clamp(-128.0, 127.0) as i8);
        let d = f16::from_f32(d);
        let q = Self::rounded(values, d.to_f32(), &scales);
        let mut out = Self { ql: [0; 128], qh: [0; 64], scales, d };
        for (i, q) in q.into_iter().enumerate() {
            let q = (q + 32).cast_unsigned();
            let [low, low_shift, high, high_shift] = Self::place(i);
            out.ql[low] |= (q & 15) << low_shift;
            out.qh[high] |= q >> 4 << high_shift;
        }
        out
    }

    fn dequantize(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        for (i, out) in out.iter_mut().enumerate() {
            let [low, low_shift, high, high_shift] = Self::place(i);
            let q = self.ql[low] >> low_shift & 15 | (self.qh[high] >> high_shift & 3) << 4;
            *out = d * f32::from(self.scales[i / 16]) * (f32::from(q) - 32.0);
        }
    }
}
