//! The instruction sets, chosen at run time.
#![expect(unsafe_code, reason = "kernels for instruction sets that are chosen at run time")]

use super::PANEL;
use super::formats::{Rows, Tile, sums};

/// What the kernels are made of. `OUTPUTS` numbers a vector; a vector of bytes has four for each.
///
/// # Safety
/// Every function needs the instruction set, and pointers to as many bytes as it loads.
pub(super) trait Isa {
    type I: Copy;
    type F: Copy;
    const OUTPUTS: usize;
    /// What [`Isa::dot_biased`] owes for each unit of the activations' sum.
    const BIAS: i32;
    unsafe fn i(value: i32) -> Self::I;
    unsafe fn f(value: f32) -> Self::F;
    unsafe fn bytes(at: *const u8) -> Self::I;
    /// Four bytes, again and again.
    unsafe fn four(at: *const i8) -> Self::I;
    unsafe fn low(bytes: Self::I) -> Self::I;
    unsafe fn high(bytes: Self::I) -> Self::I;
    /// Bits `2 n` and `2 n + 1` of each byte, as its bits 4 and 5.
    unsafe fn upper(bytes: Self::I, n: usize) -> Self::I;
    unsafe fn or(a: Self::I, b: Self::I) -> Self::I;
    /// Adds the products of four bytes (0 to 63) by four signed ones.
    unsafe fn dot(sum: Self::I, w: Self::I, x: Self::I) -> Self::I;
    /// The same for bytes 0 to 255.
    unsafe fn dot_wide(sum: Self::I, w: Self::I, x: Self::I) -> Self::I;
    /// The same for signed bytes that stand with 128 added; `BIAS` times the activations' sum has been added.
    unsafe fn dot_biased(sum: Self::I, w: Self::I, x: Self::I) -> Self::I;
    unsafe fn to_f(value: Self::I) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    unsafe fn f16s(at: *const u8) -> Self::F;
    unsafe fn bf16s(at: *const u8) -> Self::F;
    unsafe fn f32s(at: *const u8) -> Self::F;
    unsafe fn u8s(at: *const u8) -> Self::F;
    unsafe fn i8s(at: *const u8) -> Self::F;
    unsafe fn store(value: Self::F, at: *mut f32);
}

/// All rows of a tile, `R` at a time while there are as many.
///
/// # Safety
/// As for [`sums`]; `out` has 32 numbers for each row.
#[inline(always)]
unsafe fn rows<S: Isa, const R: usize>(tile: &Tile<'_>, x: &Rows<'_>, row: &mut usize, out: &mut [f32]) {
    while *row + R <= x.rows {
        for v in (0..PANEL / S::OUTPUTS).step_by(2) {
            // SAFETY: the caller's promise; a row of `out` has room for all vectors.
            unsafe {
                for (r, sums) in sums::<S, R>(tile, x, *row, v).into_iter().enumerate() {
                    let at = out[(*row + r) * PANEL..][..PANEL].as_mut_ptr().add(v * S::OUTPUTS);
                    S::store(sums[0], at);
                    S::store(sums[1], at.add(S::OUTPUTS));
                }
            }
        }
        *row += R;
    }
}

/// The products of a tile with all rows: `out [rows, 32]`.
pub(super) fn run(tile: &Tile<'_>, x: &Rows<'_>, out: &mut [f32]) {
    assert!(out.len() >= x.rows * PANEL, "the output is too small");
    match kind() {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => {
            // SAFETY: `kind` found it.
            unsafe {
                x86::avx512(tile, x, out);
            }
        }
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => {
            // SAFETY: `kind` found it.
            unsafe {
                x86::avx2(tile, x, out);
            }
        }
        Kind::Plain => plain(tile, x, out),
    }
}

/// With ordinary instructions.
pub(super) fn plain(tile: &Tile<'_>, x: &Rows<'_>, out: &mut [f32]) {
    let mut row = 0;
    // SAFETY: ordinary instructions are always there; the callers of `run` have checked sizes.
    unsafe {
        rows::<scalar::Scalar, 1>(tile, x, &mut row, out);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Plain,
}

fn kind() -> Kind {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni") {
            return Kind::Avx512;
        }
        if has!("avx2") && has!("fma") && has!("f16c") {
            return Kind::Avx2;
        }
    }
    Kind::Plain
}

/// The instruction set that the decoder's kernels use on this machine, for people.
pub fn name() -> &'static str {
    match kind() {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => "AVX-512 VNNI",
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => "AVX2",
        Kind::Plain => "plain",
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

pub(super) mod scalar;
