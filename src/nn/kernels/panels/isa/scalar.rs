//! Ordinary instructions: for other machines, and the twin that tests compare with.
#![expect(unsafe_code, reason = "the trait's functions take pointers")]

use super::Isa;
use half::{bf16, f16};

pub(in super::super) struct Scalar;

const N: usize = 16;

// SAFETY of all: the trait's promise.
impl Isa for Scalar {
    type I = [[u8; 4]; N];
    type F = [f32; N];
    const OUTPUTS: usize = N;
    const BIAS: i32 = 0;

    #[inline(always)]
    unsafe fn i(value: i32) -> Self::I {
        [value.to_le_bytes(); N]
    }
    #[inline(always)]
    unsafe fn f(value: f32) -> Self::F {
        [value; N]
    }
    #[inline(always)]
    unsafe fn bytes(at: *const u8) -> Self::I {
        unsafe { at.cast::<Self::I>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn four(at: *const i8) -> Self::I {
        unsafe { [at.cast::<[u8; 4]>().read_unaligned(); N] }
    }
    #[inline(always)]
    unsafe fn low(bytes: Self::I) -> Self::I {
        bytes.map(|four| four.map(|byte| byte & 15))
    }
    #[inline(always)]
    unsafe fn high(bytes: Self::I) -> Self::I {
        bytes.map(|four| four.map(|byte| byte >> 4))
    }
    #[inline(always)]
    unsafe fn upper(bytes: Self::I, n: usize) -> Self::I {
        bytes.map(|four| four.map(|byte| (byte >> (2 * n) & 3) << 4))
    }
    #[inline(always)]
    unsafe fn or(a: Self::I, b: Self::I) -> Self::I {
        std::array::from_fn(|n| std::array::from_fn(|i| a[n][i] | b[n][i]))
    }
    #[inline(always)]
    unsafe fn dot(sum: Self::I, w: Self::I, x: Self::I) -> Self::I {
        std::array::from_fn(|n| {
            let products = (0..4).map(|i| i32::from(w[n][i]) * i32::from(x[n][i].cast_signed()));
            (i32::from_le_bytes(sum[n]) + products.sum::<i32>()).to_le_bytes()
        })
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: Self::I, w: Self::I, x: Self::I) -> Self::I {
        unsafe { Self::dot(sum, w, x) }
    }
    #[inline(always)]
    unsafe fn dot_biased(sum: Self::I, w: Self::I, x: Self::I) -> Self::I {
        std::array::from_fn(|n| {
            let signed = |byte: u8| i32::from((byte ^ 0x80).cast_signed());
            let products = (0..4).map(|i| signed(w[n][i]) * i32::from(x[n][i].cast_signed()));
            (i32::from_le_bytes(sum[n]) + products.sum::<i32>()).to_le_bytes()
        })
    }
    #[inline(always)]
    unsafe fn to_f(value: Self::I) -> Self::F {
        value.map(|value| i32::from_le_bytes(value) as f32)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        std::array::from_fn(|n| a[n] * b[n])
    }
    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|n| a[n].mul_add(b[n], c[n]))
    }
    #[inline(always)]
    unsafe fn f16s(at: *const u8) -> Self::F {
        unsafe { at.cast::<[[u8; 2]; N]>().read_unaligned().map(|bytes| f16::from_le_bytes(bytes).to_f32()) }
    }
    #[inline(always)]
    unsafe fn bf16s(at: *const u8) -> Self::F {
        unsafe { at.cast::<[[u8; 2]; N]>().read_unaligned().map(|bytes| bf16::from_le_bytes(bytes).to_f32()) }
    }
    #[inline(always)]
    unsafe fn f32s(at: *const u8) -> Self::F {
        unsafe { at.cast::<[[u8; 4]; N]>().read_unaligned().map(f32::from_le_bytes) }
    }
    #[inline(always)]
    unsafe fn u8s(at: *const u8) -> Self::F {
        unsafe { at.cast::<[u8; N]>().read_unaligned().map(f32::from) }
    }
    #[inline(always)]
    unsafe fn i8s(at: *const u8) -> Self::F {
        unsafe { at.cast::<[i8; N]>().read_unaligned().map(f32::from) }
    }
    #[inline(always)]
    unsafe fn store(value: Self::F, at: *mut f32) {
        unsafe { at.cast::<Self::F>().write_unaligned(value) }
    }
}
