//! Keyed 64-bit hashes of units and of runs of units.
//!
//! A unit's hash is a chain of bijective mixes of its 8-byte words, treated as a random function
//! of the unit. A run of units `h_1 … h_w` is `Σ h_i·M^(w-i)` modulo 2^64, M odd, mixed: it rolls
//! in two multiplications a unit. Runs that differ in one unit agree only where the units' hashes
//! do; runs that differ otherwise agree with a probability of 2^-64 times a power of two that is
//! small for short runs. Long runs of two units can be made to agree (Thue–Morse sequences of
//! 2,000 units): what has to be exact compares the units, too.

use aisec_numeric::random::Stream;

/// The multiplier of runs, 5 modulo 8.
const MULTIPLIER: u64 = 0xD134_2543_DE82_EF95;

/// A bijection of 64 bits in which every output bit depends on every input bit (the finaliser of
/// SplitMix64: Steele, Lea & Flood, OOPSLA 2014).
pub(crate) fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// Hashes under keys drawn from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Hasher {
    key: u64,
    run: u64,
}

impl Hasher {
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut random = Stream::new(seed, purpose, 0).at(0, 0);
        let mut draw = || u64::from(random.next_u32()) << 32 | u64::from(random.next_u32());
        Self { key: draw(), run: draw() }
    }

    /// The hash of one unit.
    pub(crate) fn unit(&self, bytes: &[u8]) -> u64 {
        let mut state = self.key ^ bytes.len() as u64;
        let (words, rest) = bytes.as_chunks::<8>();
        for &word in words {
            state = mix(state ^ u64::from_le_bytes(word)).wrapping_add(self.run);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        mix(state ^ u64::from_le_bytes(last))
    }

    /// The hash of one unit that is a number.
    pub(crate) fn number(&self, value: u64) -> u64 {
        mix(self.key ^ value)
    }

    /// Hashes of all runs of `width` units, in order; none if there are fewer units.
    pub(crate) fn runs(&self, units: &[u64], width: usize, out: &mut Vec<u64>) {
        if units.len() < width || width == 0 {
            return;
        }
        let leaving = (0..width).fold(1u64, |power, _| power.wrapping_mul(MULTIPLIER));
        let mut sum = 0u64;
        let salt = self.run ^ (width as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for (i, &unit) in units.iter().enumerate() {
            sum = sum.wrapping_mul(MULTIPLIER).wrapping_add(unit);
            if i >= width {
                sum = sum.wrapping_sub(units[i - width].wrapping_mul(leaving));
            }
            if i + 1 >= width {
                out.push(mix(sum ^ salt));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// A run has the same hash wherever it stands, and different runs differ.
        #[test]
        fn runs_are_their_units(units in prop::collection::vec(0u64..4, 0..200), width in 1usize..6) {
            let hasher = Hasher::new(7, "test");
            let hashed: Vec<u64> = units.iter().map(|&unit| hasher.number(unit)).collect();
            let mut runs = Vec::new();
            hasher.runs(&hashed, width, &mut runs);
            let windows: Vec<&[u64]> = units.windows(width).collect();
            prop_assert_eq!(runs.len(), windows.len());
            let mut seen: HashMap<&[u64], u64> = HashMap::new();
            let mut back: HashMap<u64, &[u64]> = HashMap::new();
            for (window, &run) in windows.iter().zip(&runs) {
                prop_assert_eq!(*seen.entry(*window).or_insert(run), run);
                prop_assert_eq!(*back.entry(run).or_insert(*window), *window);
            }
        }

        #[test]
        fn every_byte_of_a_unit_counts(bytes in prop::collection::vec(any::<u8>(), 1..40), at: prop::sample::Index, flip in 1u8..=255) {
            let hasher = Hasher::new(7, "test");
            let mut other = bytes.clone();
            other[at.index(bytes.len())] ^= flip;
            prop_assert_ne!(hasher.unit(&bytes), hasher.unit(&other));
            other = bytes.clone();
            other.push(0);
            prop_assert_ne!(hasher.unit(&bytes), hasher.unit(&other));
        }
    }

    /// Bits of hashes of similar units are fair and independent of each other.
    #[test]
    fn bits_look_random() {
        let hasher = Hasher::new(1, "test");
        let hashes: Vec<u64> =
            (0..1u32 << 14).map(|i| hasher.unit(format!("word{i}").as_bytes())).collect();
        let n = hashes.len() as f64;
        for one in 0..64 {
            let ones = hashes.iter().filter(|&&hash| hash >> one & 1 == 1).count() as f64;
            assert!((ones - n / 2.0).abs() < 5.0 * (n / 4.0).sqrt(), "bit {one}: {ones}");
            for two in 0..one {
                let equal =
                    hashes.iter().filter(|&&hash| (hash >> one ^ hash >> two) & 1 == 0).count();
                let far = (equal as f64 - n / 2.0).abs() / (n / 4.0).sqrt();
                assert!(far < 5.5, "bits {one}, {two}: {far}");
            }
        }
    }
}
