//! Every random stream of the crate, derived from one [`Seed`].
//!
//! A stream is named, not drawn: `seed.derive("shuffle").derive_index(epoch)` is the same stream whatever
//! else was drawn before it. candle's CPU generator cannot be seeded, so all noise is made here.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// A point in the tree of random streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seed([u8; 32]);

impl Seed {
    /// The root, from the number a user types.
    pub fn new(seed: u64) -> Self {
        Self(blake3::derive_key("bevy_skald seed v1", &seed.to_le_bytes()))
    }

    /// The child named `label`.
    #[must_use]
    pub fn derive(self, label: &str) -> Self {
        Self(*blake3::keyed_hash(&self.0, label.as_bytes()).as_bytes())
    }

    /// The child numbered `index`.
    #[must_use]
    pub fn derive_index(self, index: u64) -> Self {
        Self(*blake3::keyed_hash(&self.0, &index.to_le_bytes()).as_bytes())
    }

    /// The stream of random numbers at this point (ChaCha8).
    pub fn stream(self) -> Stream {
        Stream(ChaCha8Rng::from_seed(self.0))
    }

    /// A number for whatever wants a plain seed.
    pub fn to_u64(self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.0[i]))
    }
}

/// A stream of random numbers. Cheap to make, never shared.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `[0, 1)`, 24 bits.
    pub fn uniform(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }

    /// Uniform in `[0, 1)`, 53 bits.
    pub fn uniform_f64(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..n` (0 when `n` is 0), by multiply-shift: the bias is below n / 2^64.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.uniform() < p
    }

    /// Standard normal (Box-Muller).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.uniform_f64()).ln()).sqrt();
        (radius * (std::f64::consts::TAU * self.uniform_f64()).cos()) as f32
    }

    /// One of `items`, or `None` when there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// Shuffles in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_stream_and_names_differ() {
        let draw = |seed: Seed| -> Vec<u64> {
            let mut stream = seed.stream();
            (0..8).map(|_| stream.next_u64()).collect()
        };
        let root = Seed::new(7);
        assert_eq!(draw(root.derive("a")), draw(Seed::new(7).derive("a")));
        assert_ne!(draw(root.derive("a")), draw(root.derive("b")));
        assert_ne!(draw(root.derive_index(0)), draw(root.derive_index(1)));
    }

    #[test]
    fn shuffle_is_stable_and_a_permutation() {
        let shuffled = |seed| {
            let mut v: Vec<u32> = (0..100).collect();
            Seed::new(seed).stream().shuffle(&mut v);
            v
        };
        assert_eq!(shuffled(1), shuffled(1));
        let mut back = shuffled(2);
        assert_ne!(back, (0..100).collect::<Vec<_>>());
        back.sort_unstable();
        assert_eq!(back, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn normal_has_unit_variance() {
        let mut stream = Seed::new(3).stream();
        let n = 20_000;
        let (sum, squares) = (0..n).fold((0.0f64, 0.0f64), |(s, q), _| {
            let x = f64::from(stream.normal());
            (s + x, q + x * x)
        });
        assert!((sum / f64::from(n)).abs() < 0.03);
        assert!((squares / f64::from(n) - 1.0).abs() < 0.05);
    }
}
