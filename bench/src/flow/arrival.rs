//! Arrival times in bursts: a self-exciting (Hawkes) process with two exponential kernels.
//!
//! Hawkes, "Spectra of some self-exciting and mutually exciting point processes", Biometrika
//! 58(1), 1971; simulated by thinning after Ogata, "On Lewis' simulation method for point
//! processes", IEEE Transactions on Information Theory 27(1), 1981. With exponential kernels the
//! intensity needs no history: each kernel's share decays and jumps at an arrival.

use super::draw::Draw;

/// A kernel: the expected number of children of an arrival, and how fast they come.
struct Kernel {
    children: f64,
    decay_per_second: f64,
}

/// Reactions of machines (a fifth of a millisecond) and of people and slower strategies.
const KERNELS: [Kernel; 2] = [
    Kernel { children: 0.45, decay_per_second: 5_000.0 },
    Kernel { children: 0.30, decay_per_second: 10.0 },
];

/// The arrivals of one instrument.
pub struct Arrivals {
    base_per_second: f64,
    excited_per_second: [f64; KERNELS.len()],
    now_ns: u64,
}

impl Arrivals {
    /// Arrivals with the given mean rate, from `start_ns` on.
    pub fn new(mean_per_second: f64, start_ns: u64) -> Arrivals {
        let children: f64 = KERNELS.iter().map(|k| k.children).sum();
        // Excitement starts at its own mean, so that the rate does too.
        let mut excited_per_second = [0.0; KERNELS.len()];
        for (excited, kernel) in excited_per_second.iter_mut().zip(&KERNELS) {
            *excited = mean_per_second * kernel.children;
        }
        Arrivals {
            base_per_second: mean_per_second * (1.0 - children),
            excited_per_second,
            now_ns: start_ns,
        }
    }

    fn intensity(&self) -> f64 {
        self.base_per_second + self.excited_per_second.iter().sum::<f64>()
    }

    /// The time of the next arrival, nanoseconds; later than the last by at least one.
    pub fn next_ns(&mut self, draw: &mut Draw) -> u64 {
        loop {
            // The intensity only falls until the next arrival: its value now bounds it.
            let bound = self.intensity();
            let wait_seconds = draw.exponential() / bound;
            let wait_ns = (wait_seconds * 1e9).min(3.6e12) as u64;
            self.now_ns += wait_ns.max(1);
            for (excited, kernel) in self.excited_per_second.iter_mut().zip(&KERNELS) {
                *excited *= libm::exp(-kernel.decay_per_second * wait_seconds);
            }
            if draw.unit() * bound <= self.intensity() {
                for (excited, kernel) in self.excited_per_second.iter_mut().zip(&KERNELS) {
                    *excited += kernel.children * kernel.decay_per_second;
                }
                return self.now_ns;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_rate_is_kept_and_the_arrivals_come_in_bursts() {
        let mut draw = Draw::new(3);
        let mut arrivals = Arrivals::new(1_000.0, 0);
        let seconds = 200;
        let mut per_millisecond = vec![0u32; seconds * 1_000];
        let mut count = 0;
        loop {
            let at = arrivals.next_ns(&mut draw);
            let Some(slot) = per_millisecond.get_mut((at / 1_000_000) as usize) else { break };
            *slot += 1;
            count += 1;
        }
        let rate = f64::from(count) / seconds as f64;
        assert!((900.0..1_100.0).contains(&rate), "{rate} arrivals a second");
        let mean = f64::from(count) / per_millisecond.len() as f64;
        let variance = per_millisecond.iter().map(|&n| (f64::from(n) - mean).powi(2)).sum::<f64>()
            / per_millisecond.len() as f64;
        assert!(variance > 2.0 * mean, "not bursty: variance {variance}, mean {mean}");
    }
}
