//! Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy
//! as 1, 2, 3", SC 2011).
//!
//! A number depends only on (seed, attack, restart, sample, step, position), never on what was
//! drawn before, so results do not depend on batches, threads, order or resumption.

use rayon::prelude::*;

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
        inverse_normal(probability(self.next_u32())) as f32
    }

    /// Fills `values` with what repeated [`Generator::normal`] gives, several times faster.
    pub fn normals(&mut self, values: &mut [f32]) {
        let (chunks, mut rest) = values.as_chunks_mut::<TOGETHER>();
        if self.used == 4 {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for chunk in chunks {
                        normal_chunk(self.key, self.counter, chunk);
                        self.counter[3] = self.counter[3].wrapping_add(BLOCKS as u32);
                    }
                },
            );
        } else {
            rest = values;
        }
        rest.fill_with(|| self.normal());
    }
}

/// Blocks whose rounds run side by side, and the numbers they make.
const BLOCKS: usize = 8;
const TOGETHER: usize = 4 * BLOCKS;

/// The middle of a word's interval, as a part of all words.
#[inline(always)]
fn probability(word: u32) -> f64 {
    (f64::from(word) + 0.5) * (1.0 / (1u64 << 32) as f64)
}

/// The normal numbers of consecutive blocks, the first of them `counter`.
#[inline(always)]
fn normal_chunk(key: [u32; 2], counter: [u32; 4], values: &mut [f32; TOGETHER]) {
    let words = philox_blocks(counter, key);
    let mut numbers = [0.0; TOGETHER];
    for (number, &word) in numbers.iter_mut().zip(&words) {
        *number = centre(probability(word) - 0.5);
    }
    for (number, &word) in numbers.iter_mut().zip(&words) {
        let p = probability(word);
        if (p - 0.5).abs() > IN_CENTRE {
            *number = tails(p);
        }
    }
    for (value, number) in values.iter_mut().zip(numbers) {
        *value = number as f32;
    }
}

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

/// The standard normal quantile function for 0 < p < 1, to about 1e-16 relative: algorithm AS241
/// (PPND16) of Wichura, "The percentage points of the normal distribution", 1988.
fn inverse_normal(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= IN_CENTRE { centre(q) } else { tails(p) }
}

/// Up to this distance from 1/2 one formula without branches serves.
const IN_CENTRE: f64 = 0.425;

#[inline(always)]
fn centre(q: f64) -> f64 {
    q * ratio(&CENTRE, 0.180_625 - q * q)
}

fn tails(p: f64) -> f64 {
    let q = p - 0.5;
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = (-tail.ln()).sqrt();
    let value = if r <= 5.0 { ratio(&MIDDLE, r - 1.6) } else { ratio(&TAIL, r - 5.0) };
    value.copysign(q)
}

/// Numerator and denominator coefficients, constant term first.
type Rational = [[f64; 8]; 2];

#[inline(always)]
fn ratio(coefficients: &Rational, r: f64) -> f64 {
    let [numerator, denominator] = coefficients.map(|c| c.iter().rev().fold(0.0, |s, c| s * r + c));
    numerator / denominator
}

#[allow(clippy::excessive_precision, reason = "the digits the paper prints")]
const CENTRE: Rational = [
    [
        3.387_132_872_796_366_608,
        1.331_416_678_917_843_774_5e2,
        1.971_590_950_306_551_442_7e3,
        1.373_169_376_550_946_112_5e4,
        4.592_195_393_154_987_145_7e4,
        6.726_577_092_700_870_085_3e4,
        3.343_057_558_358_812_810_5e4,
        2.509_080_928_730_122_672_7e3,
    ],
    [
        1.0,
        4.231_333_070_160_091_125_2e1,
        6.871_870_074_920_579_083e2,
        5.394_196_021_424_751_107_7e3,
        2.121_379_430_158_659_586_7e4,
        3.930_789_580_009_271_061e4,
        2.872_908_573_572_194_267_4e4,
        5.226_495_278_852_854_561e3,
    ],
];

#[allow(clippy::excessive_precision, reason = "the digits the paper prints")]
const MIDDLE: Rational = [
    [
        1.423_437_110_749_683_577_34,
        4.630_337_846_156_545_295_9,
        5.769_497_221_460_691_405_5,
        3.647_848_324_763_204_605_04,
        1.270_458_252_452_368_382_58,
        2.417_807_251_774_506_117_7e-1,
        2.272_384_498_926_918_458_33e-2,
        7.745_450_142_783_414_076_4e-4,
    ],
    [
        1.0,
        2.053_191_626_637_758_821_87,
        1.676_384_830_183_803_849_4,
        6.897_673_349_851_000_045_5e-1,
        1.481_039_764_274_800_745_9e-1,
        1.519_866_656_361_645_719_66e-2,
        5.475_938_084_995_344_946e-4,
        1.050_750_071_644_416_843_24e-9,
    ],
];

#[allow(clippy::excessive_precision, reason = "the digits the paper prints")]
const TAIL: Rational = [
    [
        6.657_904_643_501_103_777_2,
        5.463_784_911_164_114_369_9,
        1.784_826_539_917_291_335_8,
        2.965_605_718_285_048_912_3e-1,
        2.653_218_952_657_612_309_3e-2,
        1.242_660_947_388_078_438_6e-3,
        2.711_555_568_743_487_578_15e-5,
        2.010_334_399_292_288_132_65e-7,
    ],
    [
        1.0,
        5.998_322_065_558_879_376_9e-1,
        1.369_298_809_227_358_053_1e-1,
        1.487_536_129_085_061_485_25e-2,
        7.868_691_311_456_132_591e-4,
        1.846_318_317_510_054_681_8e-5,
        1.421_511_758_316_445_888_7e-7,
        2.044_263_103_389_939_785_64e-15,
    ],
];

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

    /// Values of Wichura's paper, and the symmetry.
    #[test]
    fn inverse_normal_known_answers() {
        for (p, expected) in [
            (0.25, -0.674_489_750_196_081_7),
            (0.001, -3.090_232_306_167_813_5),
            (1e-20, -9.262_340_089_798_408),
            (0.975, 1.959_963_984_540_054),
        ] {
            let value = inverse_normal(p);
            assert!((value - expected).abs() <= 4e-15 * f64::abs(expected), "{p}: {value}");
        }
        assert_eq!(inverse_normal(0.5), 0.0);
        assert_eq!(inverse_normal(0.125), -inverse_normal(0.875));
    }
}
