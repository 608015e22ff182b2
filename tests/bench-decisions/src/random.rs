//! SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere.

/// A source of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Seeds it.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From `low` to below `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.fraction()
    }

    /// From 0 to below `count`, which is above 0.
    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next_u64() % count.max(1) as u64).unwrap_or(0)
    }

    /// Heavy-tailed (Pareto with exponent 1.5): mostly near `least`, sometimes many times as much, at most `most`.
    pub fn heavy(&mut self, least: f64, most: f64) -> f64 {
        (least / (1.0 - self.fraction()).powf(1.0 / 1.5)).min(most)
    }
}
