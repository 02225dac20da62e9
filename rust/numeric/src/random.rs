//! Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy
//! as 1, 2, 3", SC 2011).
//!
//! A number depends only on (seed, attack, restart, sample, step, position), never on what was
//! drawn before, so results do not depend on batches, threads, order or resumption.

use rayon::prelude::*;

use crate::quantile::{NORMALS, normal_of, normals_of};

/// One Philox4x32-10 block: ten rounds of `counter` under `key`.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key[0] = key[0].wrapping_add(0x9E37_79B9);
            key[1] = key[1].wrapping_add(0xBB67_AE85);
        }
        let product0 = u64::from(counter[0]) * 0xD251_1F53;
        let product1 = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (product1 >> 32) as u32 ^ counter[1] ^ key[0],
            product1 as u32,
            (product0 >> 32) as u32 ^ counter[3] ^ key[1],
            product0 as u32,
        ];
    }
    counter
}

/// The random numbers of one (seed, attack, restart).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
}

impl Stream {
    /// Derives the stream's key by chaining Philox (Davies–Meyer) over the attack's name, its
    /// length and the restart, starting from the seed.
    pub fn new(seed: u64, attack: &str, restart: u32) -> Self {
        let mut state = [seed as u32, (seed >> 32) as u32, 0x6169_7365, 0x635f_6576];
        for chunk in attack.as_bytes().chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            absorb(&mut state, u64::from_le_bytes(word));
        }
        absorb(&mut state, (u64::from(restart) << 32) | attack.len() as u64 & 0xFFFF_FFFF);
        Self { key: [state[0] ^ state[2], state[1] ^ state[3]] }
    }

    /// The numbers of one sample at one step.
    pub fn at(&self, sample: u64, step: u32) -> Generator {
        Generator {
            key: self.key,
            counter: [sample as u32, (sample >> 32) as u32, step, 0],
            block: [0; 4],
            used: 4,
        }
    }
}

fn absorb(state: &mut [u32; 4], word: u64) {
    let mixed = philox(*state, [word as u32, (word >> 32) as u32]);
    for (value, mixed) in state.iter_mut().zip(mixed) {
        *value ^= mixed;
    }
}

/// A position in the numbers of one (sample, step); holds 2^34 words before it repeats.
#[derive(Debug, Clone)]
pub struct Generator {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Generator {
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[3] = self.counter[3].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform on the multiples of 2^-24 in [0, 1).
    pub fn uniform(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// Uniform on the multiples of 2^-23 in [-1, 1).
    pub fn signed(&mut self) -> f32 {
        (self.next_u32().cast_signed() >> 8) as f32 * (1.0 / (1 << 23) as f32)
    }

    /// -1 or 1.
    pub fn sign(&mut self) -> f32 {
        if self.next_u32() >> 31 == 0 { 1.0 } else { -1.0 }
    }

    /// Uniform on 0..n without bias (Lemire, "Fast random integer generation in an interval",
    /// 2019).
    ///
    /// # Panics
    /// If `n` is zero.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "below(0) has no value to return");
        let mut product = u64::from(self.next_u32()) * u64::from(n);
        if (product as u32) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u32) < threshold {
                product = u64::from(self.next_u32()) * u64::from(n);
            }
        }
        (product >> 32) as u32
    }

    /// Fills `values` with what repeated [`Generator::next_u32`] gives, several times faster.
    pub fn words(&mut self, values: &mut [u32]) {
        let (chunks, mut rest) = values.as_chunks_mut::<TOGETHER>();
        if self.used == 4 {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for chunk in chunks {
                        *chunk = philox_blocks(self.counter, self.key);
                        self.counter[3] = self.counter[3].wrapping_add(BLOCKS as u32);
                    }
                },
            );
        } else {
            rest = values;
        }
        rest.fill_with(|| self.next_u32());
    }

    /// Standard normal, by inversion: one word a number, |value| < 6.4.
    pub fn normal(&mut self) -> f32 {
        normal_of(self.next_u32())
    }

    /// Fills `values` with what repeated [`Generator::normal`] gives, several times faster.
    pub fn normals(&mut self, values: &mut [f32]) {
        let mut words = [0; NORMALS];
        for values in values.chunks_mut(NORMALS) {
            let words = &mut words[..values.len()];
            self.words(words);
            normals_of(words, values);
        }
    }
}

/// Blocks whose rounds run side by side, and the numbers they make.
const BLOCKS: usize = 8;
const TOGETHER: usize = 4 * BLOCKS;

/// [`philox`] of `counter` and its successors in the last place, one word of each at a time.
#[inline(always)]
fn philox_blocks(counter: [u32; 4], mut key: [u32; 2]) -> [u32; TOGETHER] {
    let [mut a, mut b, mut c, mut d] = counter.map(|word| [word; BLOCKS]);
    for (i, d) in d.iter_mut().enumerate() {
        *d = d.wrapping_add(i as u32);
    }
    for round in 0..10 {
        if round > 0 {
            key[0] = key[0].wrapping_add(0x9E37_79B9);
            key[1] = key[1].wrapping_add(0xBB67_AE85);
        }
        for i in 0..BLOCKS {
            let product0 = u64::from(a[i]) * 0xD251_1F53;
            let product1 = u64::from(c[i]) * 0xCD9E_8D57;
            a[i] = (product1 >> 32) as u32 ^ b[i] ^ key[0];
            b[i] = product1 as u32;
            c[i] = (product0 >> 32) as u32 ^ d[i] ^ key[1];
            d[i] = product0 as u32;
        }
    }
    let mut words = [0; TOGETHER];
    for i in 0..BLOCKS {
        words[4 * i..4 * i + 4].copy_from_slice(&[a[i], b[i], c[i], d[i]]);
    }
    words
}

/// One row a sample, `count` numbers each, at one step: what an engine that works on whole
/// batches draws. `draw` is one of [`Generator`]'s methods.
///
/// # Panics
/// If the number of values overflows a `usize`.
pub fn rows(
    stream: Stream,
    step: u32,
    samples: &[u64],
    count: usize,
    draw: impl Fn(&mut Generator) -> f32 + Sync,
) -> Vec<f32> {
    let mut values = vec![0.0; samples.len().checked_mul(count).expect("size fits a usize")];
    if count > 0 {
        values.par_chunks_mut(count).zip(samples).for_each(|(row, &sample)| {
            let mut generator = stream.at(sample, step);
            row.fill_with(|| draw(&mut generator));
        });
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors published with Random123 (`kat_vectors`, philox 4 32 10).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn every_part_of_the_address_matters() {
        let draw = |seed, attack: &str, restart, sample, step| {
            let mut generator = Stream::new(seed, attack, restart).at(sample, step);
            [generator.next_u32(), generator.next_u32()]
        };
        let base = draw(1, "square", 0, 5, 7);
        let others = [
            draw(2, "square", 0, 5, 7),
            draw(1 << 32, "square", 0, 5, 7),
            draw(1, "apgd-ce", 0, 5, 7),
            draw(1, "square\0", 0, 5, 7),
            draw(1, "squarf", 0, 5, 7),
            draw(1, "", 0, 5, 7),
            draw(1, "square", 1, 5, 7),
            draw(1, "square", 0, 6, 7),
            draw(1, "square", 0, 5 + (1 << 32), 7),
            draw(1, "square", 0, 5, 8),
        ];
        assert_eq!(base, draw(1, "square", 0, 5, 7));
        for (index, other) in others.iter().enumerate() {
            assert_ne!(&base, other, "{index}");
            assert!(!others[..index].contains(other), "{index}");
        }
    }

    /// The address of a number is part of every stored result: it must never change.
    #[test]
    fn stream_is_frozen() {
        let mut generator = Stream::new(42, "square", 3).at(1 << 40, 9);
        let words: Vec<u32> = (0..6).map(|_| generator.next_u32()).collect();
        assert_eq!(
            words,
            [1_373_372_663, 132_142_663, 3_609_610_728, 1_932_183_246, 1_692_979_962, 670_410_722]
        );
    }

    #[test]
    fn ranges_and_moments() {
        let mut generator = Stream::new(7, "test", 0).at(0, 0);
        let n = 200_000;
        let (mut uniform, mut signed, mut signs, mut normal) = ([0.0f64; 2], 0.0, 0.0, [0.0; 4]);
        for _ in 0..n {
            let u = f64::from(generator.uniform());
            assert!((0.0..1.0).contains(&u));
            uniform[0] += u;
            uniform[1] += u * u;
            let s = f64::from(generator.signed());
            assert!((-1.0..1.0).contains(&s));
            signed += s;
            signs += f64::from(generator.sign());
            let z = f64::from(generator.normal());
            for (power, moment) in normal.iter_mut().enumerate() {
                *moment += z.powi(power as i32 + 1);
            }
        }
        let n = f64::from(n);
        // Five standard errors each.
        let close = |sum: f64, mean: f64, sd: f64| (sum / n - mean).abs() < 5.0 * sd / n.sqrt();
        assert!(close(uniform[0], 0.5, 0.289) && close(uniform[1], 1.0 / 3.0, 0.299));
        assert!(close(signed, 0.0, 0.578) && close(signs, 0.0, 1.0));
        assert!(close(normal[0], 0.0, 1.0) && close(normal[1], 1.0, 1.42));
        assert!(close(normal[2], 0.0, 3.88) && close(normal[3], 3.0, 9.8));
    }

    #[test]
    fn rows_are_the_samples_streams() {
        let stream = Stream::new(3, "rows", 1);
        let values = rows(stream, 2, &[9, 4], 5, Generator::signed);
        for (row, sample) in values.chunks(5).zip([9, 4]) {
            let mut generator = stream.at(sample, 2);
            assert!(row.iter().all(|&value| value == generator.signed()));
        }
        assert!(rows(stream, 2, &[1, 2], 0, Generator::normal).is_empty());
    }

    #[test]
    fn many_numbers_are_the_same_numbers() {
        let stream = Stream::new(5, "normals", 0);
        for count in [0, 1, 31, 32, 33, 500] {
            for skipped in [0, 1, 4] {
                let [mut one, mut many] = [stream.at(3, 1), stream.at(3, 1)];
                for _ in 0..skipped {
                    assert_eq!(one.next_u32(), many.next_u32());
                }
                let mut values = vec![0.0; count];
                many.normals(&mut values);
                assert!(values.iter().all(|&value| value == one.normal()));
                let mut words = vec![0; count];
                many.words(&mut words);
                assert!(words.iter().all(|&word| word == one.next_u32()));
                assert_eq!(one.next_u32(), many.next_u32());
            }
        }
    }

    #[test]
    fn below_is_uniform() {
        let mut generator = Stream::new(7, "below", 0).at(0, 0);
        assert_eq!(generator.below(1), 0);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[generator.below(7) as usize] += 1;
        }
        let chi2: f64 = counts.iter().map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi2 < 22.5, "{chi2}"); // p = 0.001 with six degrees of freedom
        // With n just above 2^31 nearly half of all words must be rejected.
        let n = (1 << 31) + 1;
        assert!((0..1000).all(|_| generator.below(n) < n));
    }
}
