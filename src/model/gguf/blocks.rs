//! ggml's blocks of 32 values: a row's neighbours that share a scale, and in the `_1` types a minimum.
//!
//! Quantizing gives the same bits as ggml's reference (`quantize_row_*_ref`); `benches/peers/gguf.py` and the
//! tests compare.

use half::f16;

/// A block of a quantized row.
pub trait Block: Sized {
    /// Values in it.
    const VALUES: usize;
    /// Bytes it takes in a file.
    const BYTES: usize;

    /// From [`Block::BYTES`] bytes.
    fn read(bytes: &[u8]) -> Self;
    /// Into [`Block::BYTES`] bytes.
    fn write(&self, bytes: &mut [u8]);
    /// From [`Block::VALUES`] values.
    fn quantize(values: &[f32]) -> Self;
    /// Into [`Block::VALUES`] values.
    fn dequantize(&self, out: &mut [f32]);
}

/// Copies as many bytes as `N`; a block is only read from as many as it has.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[..N]);
    out
}

pub(super) fn half(bytes: &[u8]) -> f16 {
    f16::from_le_bytes(array(bytes))
}

/// The inverse of a scale; of none, none.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// The value of the largest magnitude, the first of equals.
pub(super) fn peak(values: &[f32]) -> f32 {
    values.iter().fold(0.0f32, |peak, value| if value.abs() > peak.abs() { *value } else { peak })
}

fn range(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::MAX, f32::MIN), |(low, high), value| (low.min(*value), high.max(*value)))
}

/// 32 values `d * (q - 8)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Q4_0 {
    /// The scale.
    pub d: f16,
    /// Value `i` is the low half of byte `i`, value `16 + i` the high half.
    pub qs: [u8; 16],
}

/// 32 values `d * q + m`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Q4_1 {
    /// The scale.
    pub d: f16,
    /// The minimum.
    pub m: f16,
    /// As in [`Q4_0`].
    pub qs: [u8; 16],
}

/// 32 values `d * (q - 16)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Q5_0 {
    /// The scale.
    pub d: f16,
    /// The fifth bit of value `i` is bit `i`.
    pub qh: u32,
    /// The lower four bits, as in [`Q4_0`].
    pub qs: [u8; 16],
}

/// 32 values `d * q + m`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Q5_1 {
    /// The scale.
    pub d: f16,
    /// The minimum.
    pub m: f16,
    /// The fifth bit of value `i` is bit `i`.
    pub qh: u32,
    /// The lower four bits, as in [`Q4_0`].
    pub qs: [u8; 16],
}

/// 32 values `d * q`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Q8_0 {
    /// The scale.
    pub d: f16,
    /// The values.
    pub qs: [i8; 32],
}

/// Two values a byte.
fn pack(q: &[u8; 32]) -> ([u8; 16], u32) {
    let low = std::array::from_fn(|i| q[i] & 15 | q[i + 16] << 4);
    let high = q.iter().enumerate().fold(0, |bits, (i, q)| bits | u32::from(q >> 4 & 1) << i);
    (low, high)
}

fn unpack(qs: &[u8; 16], qh: u32) -> [u8; 32] {
    std::array::from_fn(|i| {
        let low = if i < 16 { qs[i] & 15 } else { qs[i - 16] >> 4 };
        low | (((qh >> i & 1) as u8) << 4)
    })
}

/// Scale and values of a symmetric block: the peak becomes `-half`.
fn symmetric(values: &[f32], half: f32) -> (f16, [u8; 32]) {
    let d = peak(values) / -half;
    let (inverse, middle) = (inverse(d), half + 0.5);
    let q = |i: usize| (values[i] * inverse + middle).clamp(0.0, 2.0 * half - 1.0) as u8;
    (f16::from_f32(d), std::array::from_fn(q))
}

/// Scale, minimum and values of a block whose range becomes `0..=most`.
fn asymmetric(values: &[f32], most: f32) -> (f16, f16, [u8; 32]) {
    let (low, high) = range(values);
    let d = (high - low) / most;
    let inverse = inverse(d);
    let q = |i: usize| ((values[i] - low) * inverse + 0.5).clamp(0.0, most) as u8;
    (f16::from_f32(d), f16::from_f32(low), std::array::from_fn(q))
}

fn fill(out: &mut [f32], q: [u8; 32], value: impl Fn(u8) -> f32) {
    out.iter_mut().zip(q).for_each(|(out, q)| *out = value(q));
}

impl Block for Q4_0 {
    const VALUES: usize = 32;
    const BYTES: usize = 18;

    fn read(bytes: &[u8]) -> Self {
        Self { d: half(bytes), qs: array(&bytes[2..]) }
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&self.d.to_le_bytes());
        bytes[2..18].copy_from_slice(&self.qs);
    }

    fn quantize(values: &[f32]) -> Self {
        let (d, q) = symmetric(values, 8.0);
        Self { d, qs: pack(&q).0 }
    }

    fn dequantize(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        fill(out, unpack(&self.qs, 0), |q| d * (f32::from(q) - 8.0));
    }
}

impl Block for Q4_1 {
    const VALUES: usize = 32;
    const BYTES: usize = 20;

    fn read(bytes: &[u8]) -> Self {
        Self { d: half(bytes), m: half(&bytes[2..]), qs: array(&bytes[4..]) }
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&self.d.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.m.to_le_bytes());
        bytes[4..20].copy_from_slice(&self.qs);
    }

    fn quantize(values: &[f32]) -> Self {
        let (d, m, q) = asymmetric(values, 15.0);
        Self { d, m, qs: pack(&q).0 }
    }

    fn dequantize(&self, out: &mut [f32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        fill(out, unpack(&self.qs, 0), |q| d * f32::from(q) + m);
    }
}

impl Block for Q5_0 {
    const VALUES: usize = 32;
    const BYTES: usize = 22;

    fn read(bytes: &[u8]) -> Self {
        Self { d: half(bytes), qh: u32::from_le_bytes(array(&bytes[2..])), qs: array(&bytes[6..]) }
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&self.d.to_le_bytes());
        bytes[2..6].copy_from_slice(&self.qh.to_le_bytes());
        bytes[6..22].copy_from_slice(&self.qs);
    }

    fn quantize(values: &[f32]) -> Self {
        let (d, q) = symmetric(values, 16.0);
        let (qs, qh) = pack(&q);
        Self { d, qh, qs }
    }

    fn dequantize(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        fill(out, unpack(&self.qs, self.qh), |q| d * (f32::from(q) - 16.0));
    }
}

impl Block for Q5_1 {
    const VALUES: usize = 32;
    const BYTES: usize = 24;

    fn read(bytes: &[u8]) -> Self {
        let qh = u32::from_le_bytes(array(&bytes[4..]));
        Self { d: half(bytes), m: half(&bytes[2..]), qh, qs: array(&bytes[8..]) }
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&self.d.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.m.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.qh.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.qs);
    }

    fn quantize(values: &[f32]) -> Self {
        let (d, m, q) = asymmetric(values, 31.0);
        let (qs, qh) = pack(&q);
        Self { d, m, qh, qs }
    }

    fn dequantize(&self, out: &mut [f32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        fill(out, unpack(&self.qs, self.qh), |q| d * f32::from(q) + m);
    }
}

impl Block for Q8_0 {
    const VALUES: usize = 32;
    const BYTES: usize = 34;

    fn read(bytes: &[u8]) -> Self {
        Self { d: half(bytes), qs: array::<32>(&bytes[2..]).map(u8::cast_signed) }
    }

    fn write(&self, bytes: &mut [u8]) {
        bytes[..2].copy_from_slice(&self.d.to_le_bytes());
        bytes[2..34].copy_from_slice(&self.qs.map(i8::cast_unsigned));
    }

    fn quantize(values: &[f32]) -> Self {
        let d = peak(values).abs() / 127.0;
        let inverse = inverse(d);
        Self { d: f16::from_f32(d), qs: std::array::from_fn(|i| (values[i] * inverse).round() as i8) }
    }

    fn dequantize(&self, out: &mut [f32]) {
        let d = self.d.to_f32();
        out.iter_mut().zip(self.qs).for_each(|(out, q)| *out = d * f32::from(q));
    }
}
