//! What a panel and some rows make, written once for every instruction set ([`Isa`]).
#![expect(unsafe_code, reason = "kernels for instruction sets that are chosen at run time")]

use super::isa::Isa;
use super::{Activations, BLOCK, Format, Line, PANEL, SUPER};
use half::{bf16, f16};

/// The weights of a panel.
pub(super) struct Tile<'a> {
    pub(super) format: Format,
    pub(super) lines: &'a [Line],
    pub(super) inputs: usize,
}

/// Some rows of activations.
pub(super) struct Rows<'a> {
    pub(super) rows: usize,
    values: &'a [f32],
    rounded: &'a [i8],
    scales: &'a [f32],
    sums: &'a [[i32; 2]],
}

impl<'a> Rows<'a> {
    pub(super) fn of(x: &'a Activations) -> Self {
        Self { rows: x.rows(), values: &x.values, rounded: &x.rounded, scales: &x.scales, sums: &x.sums }
    }
}

/// A row's numbers, from one of its blocks on.
#[derive(Clone, Copy)]
struct Row {
    values: *const f32,
    rounded: *const i8,
    scales: *const f32,
    sums: *const [i32; 2],
}

/// The sums of `R` rows and two vectors of outputs, from vector `v` on.
///
/// # Safety
/// The instruction set is there; the tile has all lines of its inputs, and the rows `row..row + R` are all there, rounded
/// where the format wants it.
#[inline(always)]
pub(super) unsafe fn sums<S: Isa, const R: usize>(
    tile: &Tile<'_>,
    x: &Rows<'_>,
    row: usize,
    v: usize,
) -> [[S::F; 2]; R] {
    let blocks = tile.inputs / BLOCK;
    // SAFETY: the caller's promise; pointers stay inside the rows and lines that it names.
    unsafe {
        let x: [Row; R] = std::array::from_fn(|r| {
            let n = row + r;
            Row {
                values: x.values.as_ptr().add(n * tile.inputs),
                rounded: x.rounded.as_ptr().wrapping_add(n * tile.inputs),
                scales: x.scales.as_ptr().wrapping_add(n * blocks),
                sums: x.sums.as_ptr().wrapping_add(n * blocks),
            }
        });
        let w = tile.lines.as_ptr().cast::<u8>();
        match tile.format {
            Format::F32 => plain::<S, R>(w, x, tile.inputs, v, 4, S::f32s),
            Format::F16 => plain::<S, R>(w, x, tile.inputs, v, 2, S::f16s),
            Format::Bf16 => plain::<S, R>(w, x, tile.inputs, v, 2, S::bf16s),
            Format::Q8 => q8::<S, R>(w, x, blocks, v),
            Format::Q4 => q4::<S, R>(w, x, blocks, v),
            Format::Q4K => q4_k::<S, R>(w, x, tile.inputs / SUPER, v),
            Format::Q6K => q6_k::<S, R>(w, x, tile.inputs / SUPER, v),
            Format::Affine => affine::<S, R>(w, x, blocks, v),
        }
    }
}

#[inline(always)]
unsafe fn plain<S: Isa, const R: usize>(
    w: *const u8,
    x: [Row; R],
    inputs: usize,
    v: usize,
    size: usize,
    load: unsafe fn(*const u8) -> S::F,
) -> [[S::F; 2]; R] {
    // SAFETY: as in `sums`.
    unsafe {
        let mut sums = [[S::f(0.0); 2]; R];
        for i in 0..inputs {
            let w = pair::<S>(w.add(PANEL * size * i), size, v, load);
            for (sums, x) in sums.iter_mut().zip(x) {
                let x = S::f(*x.values.add(i));
                *sums = [S::fma(w[0], x, sums[0]), S::fma(w[1], x, sums[1])];
            }
        }
        sums
    }
}

#[inline(always)]
unsafe fn q8<S: Isa, const R: usize>(w: *const u8, x: [Row; R], blocks: usize, v: usize) -> [[S::F; 2]; R] {
    // SAFETY: as in `sums`.
    unsafe {
        let mut sums = [[S::f(0.0); 2]; R];
        for b in 0..blocks {
            let w = w.add(17 * 64 * b);
            let mut dots: [[S::I; 2]; R] = std::array::from_fn(|r| {
                let [a, c] = *x[r].sums.add(b);
                [S::i(S::BIAS * (a + c)); 2]
            });
            for g in 0..8 {
                let w = w.add(128 * g + 4 * S::OUTPUTS * v);
                let w = [S::bytes(w), S::bytes(w.add(4 * S::OUTPUTS))];
                for (dots, x) in dots.iter_mut().zip(x) {
                    let x = S::four(x.rounded.add(BLOCK * b + 4 * g));
                    *dots = [S::dot_biased(dots[0], w[0], x), S::dot_biased(dots[1], w[1], x)];
                }
            }
            let scales = pair::<S>(w.add(16 * 64), 2, v, S::f16s);
            scale::<S, R>(&mut sums, &dots, scales, x, b);
        }
        sums
    }
}

/// Two vectors of numbers of `size` bytes each, one an output.
#[inline(always)]
unsafe fn pair<S: Isa>(
    at: *const u8,
    size: usize,
    v: usize,
    load: unsafe fn(*const u8) -> S::F,
) -> [S::F; 2] {
    // SAFETY: as in `sums`.
    unsafe {
        let at = at.add(size * S::OUTPUTS * v);
        [load(at), load(at.add(size * S::OUTPUTS))]
    }
}

/// Adds whole-number sums, by the scales of weights and activations.
#[inline(always)]
unsafe fn scale<S: Isa, const R: usize>(
    sums: &mut [[S::F; 2]; R],
    dots: &[[S::I; 2]; R],
    scales: [S::F; 2],
    x: [Row; R],
    block: usize,
) {
    // SAFETY: as in `sums`.
    unsafe {
        for ((sums, dots), x) in sums.iter_mut().zip(dots).zip(x) {
            let own = S::f(*x.scales.add(block));
            for h in 0..2 {
                sums[h] = S::fma(S::to_f(dots[h]), S::mul(scales[h], own), sums[h]);
            }
        }
    }
}

/// Adds minima, by the sums of the activations.
#[inline(always)]
unsafe fn shift<S: Isa, const R: usize>(
    sums: &mut [[S::F; 2]; R],
    mins: [S::F; 2],
    x: [Row; R],
    block: usize,
) {
    // SAFETY: as in `sums`.
    unsafe {
        for (sums, x) in sums.iter_mut().zip(x) {
            let [a, c] = *x.sums.add(block);
            let own = S::f(*x.scales.add(block) * (a + c) as f32);
            for h in 0..2 {
                sums[h] = S::fma(mins[h], own, sums[h]);
            }
        }
    }
}

/// The products of 32 inputs with half bytes, added to what `dots` begins with.
#[inline(always)]
unsafe fn halves<S: Isa, const R: usize>(
    w: *const u8,
    x: [Row; R],
    block: usize,
    v: usize,
    dots: &mut [[S::I; 2]; R],
) {
    // SAFETY: as in `sums`.
    unsafe {
        for pair in 0..4 {
            let w = w.add(128 * pair + 4 * S::OUTPUTS * v);
            let w = [S::bytes(w), S::bytes(w.add(4 * S::OUTPUTS))];
            let (low, high) = (w.map(|w| S::low(w)), w.map(|w| S::high(w)));
            for (dots, x) in dots.iter_mut().zip(x) {
                let at = x.rounded.add(BLOCK * block + 8 * pair);
                let (a, b) = (S::four(at), S::four(at.add(4)));
                for h in 0..2 {
                    dots[h] = S::dot(S::dot(dots[h], low[h], a), high[h], b);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn q4<S: Isa, const R: usize>(w: *const u8, x: [Row; R], blocks: usize, v: usize) -> [[S::F; 2]; R] {
    // SAFETY: as in `sums`.
    unsafe {
        let mut sums = [[S::f(0.0); 2]; R];
        for b in 0..blocks {
            let w = w.add(9 * 64 * b);
            let mut dots: [[S::I; 2]; R] = std::array::from_fn(|r| {
                let [a, c] = *x[r].sums.add(b);
                [S::i(-8 * (a + c)); 2]
            });
            halves::<S, R>(w, x, b, v, &mut dots);
            scale::<S, R>(&mut sums, &dots, pair::<S>(w.add(8 * 64), 2, v, S::f16s), x, b);
        }
        sums
    }
}

#[inline(always)]
unsafe fn q4_k<S: Isa, const R: usize>(w: *const u8, x: [Row; R], blocks: usize, v: usize) -> [[S::F; 2]; R] {
    // SAFETY: as in `sums`.
    unsafe {
        let mut sums = [[S::f(0.0); 2]; R];
        for b in 0..blocks {
            let w = w.add(74 * 64 * b);
            let d = pair::<S>(w, 2, v, S::f16s);
            let dmin = pair::<S>(w.add(64), 2, v, S::f16s).map(|dmin| S::mul(dmin, S::f(-1.0)));
            for part in 0..8 {
                let (w, block) = (w.add((2 + 9 * part) * 64), 8 * b + part);
                let mut dots = [[S::i(0); 2]; R];
                halves::<S, R>(w, x, block, v, &mut dots);
                let scales = pair::<S>(w.add(8 * 64), 1, v, S::u8s);
                let mins = pair::<S>(w.add(8 * 64 + 32), 1, v, S::u8s);
                scale::<S, R>(&mut sums, &dots, [S::mul(d[0], scales[0]), S::mul(d[1], scales[1])], x, block);
                shift::<S, R>(&mut sums, [S::mul(dmin[0], mins[0]), S::mul(dmin[1], mins[1])], x, block);
            }
        }
        sums
    }
}

#[inline(always)]
unsafe fn q6_k<S: Isa, const R: usize>(w: *const u8, x: [Row; R], blocks: usize, v: usize) -> [[S::F; 2]; R] {
    // SAFETY: as in `sums`.
    unsafe {
        let mut sums = [[S::f(0.0); 2]; R];
        for b in 0..blocks {
            let w = w.add(105 * 64 * b);
            let d = pair::<S>(w, 2, v, S::f16s);
            for part in 0..8 {
                let (w, block) = (w.add((1 + 13 * part) * 64), 8 * b + part);
                for half in 0..2 {
                    let mut dots: [[S::I; 2]; R] =
                        std::array::from_fn(|r| [S::i(-32 * (*x[r].sums.add(block))[half]); 2]);
                    let upper = w.add(8 * 64 + 128 * half + 4 * S::OUTPUTS * v);
                    let upper = [S::bytes(upper), S::bytes(upper.add(4 * S::OUTPUTS))];
                    for pair in 0..2 {
                        let lower = w.add(128 * (2 * half + pair) + 4 * S::OUTPUTS * v);
                        let lower = [S::bytes(lower), S::bytes(lower.add(4 * S::OUTPUTS))];
                        let (mut first, mut second) = (lower, lower);
                        for h in 0..2 {
                            first[h] = S::or(S::low(lower[h]), S::upper(upper[h], 2 * pair));
                            second[h] = S::or(S::high(lower[h]), S::upper(upper[h], 2 * pair + 1));
                        }
                        for (dots, x) in dots.iter_mut().zip(x) {
                            let at = x.rounded.add(BLOCK * block + 16 * half + 8 * pair);
                            let (a, b) = (S::four(at), S::four(at.add(4)));
                            for h in 0..2 {
                                dots[h] = S::dot(S::dot(dots[h], first[h], a), second[h], b);
                            }
                        }
                    }
                    let scales = pair::<S>(w.add(12 * 64 + 32 * half), 1, v, S::i8s);
                    scale::<S, R>(
                        &mut sums,
                        &dots,
                        [S::mul(d[0], scales[0]), S::mul(d[1], scales[1])],
                        x,
                        block,
                    );
                }
            }
        }
        sums
    }
}

#[inline(always)]
unsafe fn affine<S: Isa, const R: usize>(
    w: *const u8,
    x: [Row; R],
    blocks: usize,
    v: usize,
) -> [[S::F; 2]; R] {
    // SAFETY: as in `sums`.
    unsafe {
        let mut sums = [[S::f(0.0); 2]; R];
        for b in 0..blocks {
            let w = w.add(20 * 64 * b);
            let mut dots = [[S::i(0); 2]; R];
            for g in 0..8 {
                let w = w.add(128 * g + 4 * S::OUTPUTS * v);
                let w = [S::bytes(w), S::bytes(w.add(4 * S::OUTPUTS))];
                for (dots, x) in dots.iter_mut().zip(x) {
                    let x = S::four(x.rounded.add(BLOCK * b + 4 * g));
                    *dots = [S::dot_wide(dots[0], w[0], x), S::dot_wide(dots[1], w[1], x)];
                }
            }
            scale::<S, R>(&mut sums, &dots, pair::<S>(w.add(16 * 64), 4, v, S::f32s), x, b);
            shift::<S, R>(&mut sums, pair::<S>(w.add(18 * 64), 4, v, S::f32s), x, b);
        }
        sums
    }
}

/// An output's weight by an input, straight from the layout.
pub(super) fn weight(tile: &Tile<'_>, o: usize, i: usize) -> f32 {
    let (inputs, count) = tile.format.block();
    let lines = &tile.lines[i / inputs * count..][..count];
    let i = i % inputs;
    let byte = |at: usize| lines[at / 64].0[at % 64];
    let bytes = |at: usize| [byte(at), byte(at + 1)];
    let f32_at = |at: usize| f32::from_le_bytes([byte(at), byte(at + 1), byte(at + 2), byte(at + 3)]);
    let scale = |at: usize| f16::from_le_bytes(bytes(at + 2 * o)).to_f32();
    let whole = |at: usize| byte(at + i % BLOCK / 4 * 128 + 4 * o + i % 4);
    let half = |at: usize| {
        let byte = byte(at + i % BLOCK / 8 * 128 + 4 * o + i % 4);
        if (i / 4).is_multiple_of(2) { byte & 15 } else { byte >> 4 }
    };
    match tile.format {
        Format::F32 => f32_at(4 * o),
        Format::F16 => scale(0),
        Format::Bf16 => bf16::from_le_bytes(bytes(2 * o)).to_f32(),
        Format::Q8 => f32::from((whole(0) ^ 0x80).cast_signed()) * scale(16 * 64),
        Format::Q4 => (f32::from(half(0)) - 8.0) * scale(8 * 64),
        Format::Q4K => {
            let part = (2 + 9 * (i / BLOCK)) * 64;
            let (own, min) = (byte(part + 8 * 64 + o), byte(part + 8 * 64 + PANEL + o));
            scale(0) * f32::from(own) * f32::from(half(part)) - scale(64) * f32::from(min)
        }
        Format::Q6K => {
            let (part, at) = ((1 + 13 * (i / BLOCK)) * 64, i % BLOCK);
            let upper = byte(part + 8 * 64 + at / 16 * 128 + 4 * o + at % 4) >> (2 * (at / 4 % 4)) & 3;
            let own = byte(part + 12 * 64 + PANEL * (at / 16) + o).cast_signed();
            scale(0) * f32::from(own) * (f32::from(half(part) | upper << 4) - 32.0)
        }
        Format::Affine => f32_at(16 * 64 + 4 * o) * f32::from(whole(0)) + f32_at(18 * 64 + 4 * o),
    }
}
