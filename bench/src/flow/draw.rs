//! Random draws whose results do not depend on the platform or on a crate's version.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A source of draws. Only 64-bit words are taken from the generator (their sequence is part of
/// ChaCha's definition); every distribution is made here.
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// The draws of `seed`.
    pub fn new(seed: u64) -> Draw {
        Draw(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in `0.0..1.0`, on a grid of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..bound`; 0 where `bound` is 0. Biased by less than 2^-32.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u32
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.unit())
    }

    /// Near enough to a standard normal: the sum of four uniforms, scaled to variance 1.
    pub fn normal(&mut self) -> f64 {
        const SQRT_3: f64 = 1.732_050_807_568_877_2;
        (self.unit() + self.unit() + self.unit() + self.unit() - 2.0) * SQRT_3
    }

    /// How many times in a row `probability` came true, at most `limit`.
    pub fn run_length(&mut self, probability: f64, limit: u32) -> u32 {
        let mut length = 0;
        while length < limit && self.chance(probability) {
            length += 1;
        }
        length
    }

    /// Shares of an order: mostly one round lot, some odd lots, few large ones.
    pub fn shares(&mut self) -> u32 {
        match self.below(100) {
            0..=57 => 100,
            58..=73 => 100 * (2 + self.below(4)),
            74..=87 => 1 + self.below(99),
            88..=95 => 10 * (11 + self.below(40)),
            96..=98 => 1_000 * (1 + self.below(3)),
            _ => 100 * (20 + self.below(180)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_one_that_recorded_feeds_were_made_with() {
        let mut draw = Draw::new(1);
        let drawn: Vec<u32> = (0..4).map(|_| draw.below(1_000_000)).collect();
        assert_eq!(drawn, [402_485, 80_383, 596_560, 219_324]);
        assert_ne!(drawn[0], Draw::new(2).below(1_000_000));
    }

    #[test]
    fn draws_have_the_moments_that_they_promise() {
        let mut draw = Draw::new(7);
        let n = 100_000;
        let mean = |f: &mut dyn FnMut() -> f64| (0..n).map(|_| f()).sum::<f64>() / f64::from(n);
        assert!((mean(&mut || draw.unit()) - 0.5).abs() < 0.01);
        assert!((mean(&mut || draw.exponential()) - 1.0).abs() < 0.02);
        assert!(mean(&mut || draw.normal()).abs() < 0.02);
        assert!((mean(&mut || draw.normal().powi(2)) - 1.0).abs() < 0.02);
        assert!((mean(&mut || f64::from(draw.run_length(0.5, 50))) - 1.0).abs() < 0.03);
        assert!((mean(&mut || f64::from(draw.below(101))) - 50.0).abs() < 0.5);
        assert!((0..1_000).all(|_| draw.shares() > 0));
    }
}
