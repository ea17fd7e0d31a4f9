//! AVX-512 with VNNI, and AVX2.
#![expect(unsafe_code, reason = "intrinsics")]

use super::super::Format;
use super::super::formats::{Rows, Tile};
use super::{Isa, rows};
use std::arch::x86_64::*;

/// # Safety
/// AVX-512 F, BW, VL and VNNI are there; otherwise as for [`rows`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(in super::super) unsafe fn avx512(tile: &Tile<'_>, x: &Rows<'_>, out: &mut [f32]) {
    let mut row = 0;
    // SAFETY: the caller's promise.
    unsafe {
        if matches!(tile.format, Format::F32 | Format::F16 | Format::Bf16) {
            rows::<Avx512, 12>(tile, x, &mut row, out);
        }
        rows::<Avx512, 6>(tile, x, &mut row, out);
        rows::<Avx512, 2>(tile, x, &mut row, out);
        rows::<Avx512, 1>(tile, x, &mut row, out);
    }
}

/// # Safety
/// AVX2, FMA and F16C are there; otherwise as for [`rows`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) unsafe fn avx2(tile: &Tile<'_>, x: &Rows<'_>, out: &mut [f32]) {
    let mut row = 0;
    // SAFETY: the caller's promise.
    unsafe {
        rows::<Avx2, 2>(tile, x, &mut row, out);
        rows::<Avx2, 1>(tile, x, &mut row, out);
    }
}

struct Avx512;

// SAFETY of all: the trait's promise.
impl Isa for Avx512 {
    type I = __m512i;
    type F = __m512;
    const OUTPUTS: usize = 16;
    const BIAS: i32 = -128;

    #[inline(always)]
    unsafe fn i(value: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn f(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn bytes(at: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(at.cast()) }
    }
    #[inline(always)]
    unsafe fn four(at: *const i8) -> __m512i {
        unsafe { _mm512_set1_epi32(at.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn low(bytes: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(bytes, _mm512_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn high(bytes: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), _mm512_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn upper(bytes: __m512i, n: usize) -> __m512i {
        unsafe {
            let shifted = match n {
                0 => _mm512_slli_epi16::<4>(bytes),
                1 => _mm512_slli_epi16::<2>(bytes),
                2 => bytes,
                _ => _mm512_srli_epi16::<2>(bytes),
            };
            _mm512_and_si512(shifted, _mm512_set1_epi8(48))
        }
    }
    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn dot(sum: __m512i, w: __m512i, x: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, w, x) }
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: __m512i, w: __m512i, x: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, w, x) }
    }
    #[inline(always)]
    unsafe fn dot_biased(sum: __m512i, w: __m512i, x: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sum, w, x) }
    }
    #[inline(always)]
    unsafe fn to_f(value: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(value) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn f16s(at: *const u8) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
    #[inline(always)]
    unsafe fn bf16s(at: *const u8) -> __m512 {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn f32s(at: *const u8) -> __m512 {
        unsafe { _mm512_loadu_ps(at.cast()) }
    }
    #[inline(always)]
    unsafe fn u8s(at: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast()))) }
    }
    #[inline(always)]
    unsafe fn i8s(at: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()))) }
    }
    #[inline(always)]
    unsafe fn store(value: __m512, at: *mut f32) {
        unsafe { _mm512_storeu_ps(at, value) }
    }
}

struct Avx2;

// SAFETY of all: the trait's promise.
impl Isa for Avx2 {
    type I = __m256i;
    type F = __m256;
    const OUTPUTS: usize = 8;
    const BIAS: i32 = 0;

    #[inline(always)]
    unsafe fn i(value: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn f(value: f32) -> __m256 {
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn bytes(at: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(at.cast()) }
    }
    #[inline(always)]
    unsafe fn four(at: *const i8) -> __m256i {
        unsafe { _mm256_set1_epi32(at.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn low(bytes: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(bytes, _mm256_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn high(bytes: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), _mm256_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn upper(bytes: __m256i, n: usize) -> __m256i {
        unsafe {
            let shifted = match n {
                0 => _mm256_slli_epi16::<4>(bytes),
                1 => _mm256_slli_epi16::<2>(bytes),
                2 => bytes,
                _ => _mm256_srli_epi16::<2>(bytes),
            };
            _mm256_and_si256(shifted, _mm256_set1_epi8(48))
        }
    }
    #[inline(always)]
    unsafe fn or(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_or_si256(a, b) }
    }
    #[inline(always)]
    unsafe fn dot(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // 63 * 127 * 2 fits 16 bits.
        unsafe {
            let pairs = _mm256_maddubs_epi16(w, x);
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    unsafe fn dot_wide(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
        // 255 * 127 * 2 does not fit: in two halves.
        unsafe {
            let low = Self::dot(sum, _mm256_and_si256(w, _mm256_set1_epi8(63)), x);
            let high = _mm256_and_si256(_mm256_srli_epi16::<6>(w), _mm256_set1_epi8(3));
            let high = Self::dot(_mm256_setzero_si256(), high, x);
            _mm256_add_epi32(low, _mm256_slli_epi32::<6>(high))
        }
    }
    #[inline(always)]
    unsafe fn dot_biased(sum: __m256i, w: __m256i, x: __m256i) -> __m256i {
        unsafe {
            let w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
            // The sign goes over to the activations, which are never -128: 128 * 127 * 2 fits 16 bits.
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    unsafe fn to_f(value: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(value) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn f16s(at: *const u8) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
    }
    #[inline(always)]
    unsafe fn bf16s(at: *const u8) -> __m256 {
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn f32s(at: *const u8) -> __m256 {
        unsafe { _mm256_loadu_ps(at.cast()) }
    }
    #[inline(always)]
    unsafe fn u8s(at: *const u8) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast()))) }
    }
    #[inline(always)]
    unsafe fn i8s(at: *const u8) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()))) }
    }
    #[inline(always)]
    unsafe fn store(value: __m256, at: *mut f32) {
        unsafe { _mm256_storeu_ps(at, value) }
    }
}
