//! Standard normal numbers from words: the quantile function of Wichura, "The percentage points of
//! the normal distribution", 1988 (algorithm AS241, PPND16), without branches and in plain
//! arithmetic alone, so that the numbers are the same on every machine.

/// Words that are turned into numbers together.
pub(crate) const NORMALS: usize = 256;

/// The formula of the centre serves up to this distance from 1/2.
const IN_CENTRE: f64 = 0.425;

/// The same in words: a word is beyond where [`distance`] is at least this. `0.425·2^32` lies
/// between this less one half and this plus one half.
const BEYOND: u32 = 1_825_361_101;

/// The normal number of a word: the quantile of the middle of the word's interval.
pub(crate) fn normal_of(word: u32) -> f32 {
    if distance(word) >= BEYOND { beyond(word) } else { centre(word) }
}

/// [`normal_of`] of each of at most [`NORMALS`] words.
pub(crate) fn normals_of(words: &[u32], values: &mut [f32]) {
    each(words, values, centre);
    // Those beyond the centre, gathered so that one loop computes them.
    let mut places = [0u8; NORMALS];
    let mut far = [0u32; NORMALS];
    let mut count = 0;
    for (place, &word) in words.iter().enumerate() {
        (places[count], far[count]) = (place as u8, word);
        count += usize::from(distance(word) >= BEYOND);
    }
    let mut depths = [0.0; NORMALS];
    let mut found = [0.0; NORMALS];
    each(&far[..count], &mut depths[..count], depth);
    each(&depths[..count], &mut found[..count], tail);
    for ((&place, &word), &found) in places.iter().zip(&far).zip(&found[..count]) {
        values[usize::from(place)] = on_side(word, found);
    }
}

/// One loop in the widest vectors there are; longer ones do not become vectorised.
#[inline(always)]
fn each<A: Copy, B>(from: &[A], to: &mut [B], function: impl Fn(A) -> B) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = function(from);
            }
        },
    );
}

/// How many words lie between a word and the middle of all, on its side.
#[inline(always)]
fn distance(word: u32) -> u32 {
    let signed = (word ^ (1 << 31)).cast_signed();
    (signed ^ (signed >> 31)).cast_unsigned()
}

#[inline(always)]
fn centre(word: u32) -> f32 {
    // Exact: the middle of the word's interval, less 1/2.
    let q = (f64::from((word ^ (1 << 31)).cast_signed()) + 0.5) * WORD;
    (q * ratio(&CENTRE, IN_CENTRE * IN_CENTRE - q * q)) as f32
}

/// Of words far from the middle, down to 2^-33: beyond e^-25 another formula would be needed.
#[inline(always)]
fn beyond(word: u32) -> f32 {
    on_side(word, tail(depth(word)))
}

/// How far the middle of the word's interval is from the nearer end, less its logarithm. The
/// distance is exact, and below 0.075.
#[inline(always)]
fn depth(word: u32) -> f64 {
    let nearer = if word >> 31 == 0 { word } else { !word };
    -ln((f64::from(nearer.cast_signed()) + 0.5) * WORD)
}

/// The number above zero that a probability of `exp(-depth)` lies beyond.
#[inline(always)]
fn tail(depth: f64) -> f64 {
    ratio(&MIDDLE, depth.sqrt() - 1.6)
}

#[inline(always)]
fn on_side(word: u32, size: f64) -> f32 {
    (if word >> 31 == 0 { -size } else { size }) as f32
}

/// The part that a word is of all words.
const WORD: f64 = 1.0 / (1u64 << 32) as f64;

/// The bits of a number just below `sqrt(1/2)`, where the significand is cut.
const CUT: u64 = 0x3fe6_a09e_667f_3bcd;

/// Coefficients of `artanh(s) / s - 1` in `s^2`, the last first.
const ODD: [f64; 9] = [
    1.0 / 19.0,
    1.0 / 17.0,
    1.0 / 15.0,
    1.0 / 13.0,
    1.0 / 11.0,
    1.0 / 9.0,
    1.0 / 7.0,
    1.0 / 5.0,
    1.0 / 3.0,
];

/// Natural logarithm of a positive normal number, to about 1e-16 relative for numbers far from 1:
/// `k ln 2 + 2 artanh((m - 1) / (m + 1))` for `x = m 2^k` with m between sqrt(1/2) and sqrt(2).
#[inline(always)]
fn ln(x: f64) -> f64 {
    let bits = x.to_bits().wrapping_add(1f64.to_bits() - CUT);
    // The exponent as a float, by the bits of 2^52 plus it.
    let k =
        f64::from_bits((bits >> 52) | 0x4330_0000_0000_0000) - (4_503_599_627_370_496.0 + 1023.0);
    let m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) + CUT);
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let last = ((ODD[0] * z + ODD[1]) * z + ODD[2]) * z + ODD[3];
    let sum = ((((last * z + ODD[4]) * z + ODD[5]) * z + ODD[6]) * z + ODD[7]) * z + ODD[8];
    k * std::f64::consts::LN_2 + 2.0 * (s + s * (sum * z))
}

/// Numerator and denominator coefficients, constant term first.
type Rational = [[f64; 8]; 2];

#[inline(always)]
fn ratio(coefficients: &Rational, r: f64) -> f64 {
    horner(&coefficients[0], r) / horner(&coefficients[1], r)
}

/// Written out: iterators are functions of their own, which a vectorised loop cannot call.
#[inline(always)]
fn horner(c: &[f64; 8], r: f64) -> f64 {
    let high = ((c[7] * r + c[6]) * r + c[5]) * r + c[4];
    (((high * r + c[3]) * r + c[2]) * r + c[1]) * r + c[0]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn word_at(p: f64) -> u32 {
        (p * 2f64.powi(32)) as u32
    }

    /// Normal quantiles at the middles of words' intervals, by scipy's `ndtri`.
    const KNOWN: [(u32, f64); 8] = [
        (0, -6.337_957_754_553_789_5),
        (1, -6.166_429_517_819_751),
        (12_345, -4.535_422_762_090_429),
        (300_000_000, -1.476_915_138_469_175_2),
        (322_122_547, -1.439_531_470_445_015_3),
        (322_122_548, -1.439_531_468_800_213),
        (1_000_000_000, -0.729_556_553_075_874_1),
        (2_147_483_647, -2.918_099_372_916_623e-10),
    ];

    #[test]
    fn known_quantiles() {
        for (word, expected) in KNOWN {
            for (word, expected) in [(word, expected), (!word, -expected)] {
                assert_eq!(normal_of(word), expected as f32, "{word}");
            }
        }
        // Wichura's values, at the next words.
        for (p, expected) in [(0.25, -0.674_489_750_196_081_7), (0.001, -3.090_232_306_167_813_5)] {
            assert!((f64::from(normal_of(word_at(p))) - expected).abs() < 4e-7, "{p}");
        }
    }

    #[test]
    fn the_formulas_meet_and_numbers_ascend() {
        let ends = [BEYOND - 1, BEYOND].map(|distance| distance ^ (1 << 31));
        assert!(distance(ends[0]) < BEYOND && distance(ends[1]) >= BEYOND);
        let steps = |from: u32| (0..2000).map(move |i| f64::from(normal_of(from + i)));
        for from in [0, ends[0] - 1000, !ends[0] - 1000, (1 << 31) - 1000, u32::MAX - 1999] {
            assert!(steps(from).zip(steps(from).skip(1)).all(|(a, b)| a <= b), "{from}");
        }
        assert!(normal_of(0) > -6.5 && normal_of(u32::MAX) < 6.5);
    }

    #[test]
    fn logarithms_are_the_librarys() {
        for i in 1..4000 {
            let x = f64::from(i) * 1.9e-5;
            assert!((ln(x) - x.ln()).abs() <= 1e-15 * x.ln().abs().max(1.0), "{x}");
        }
        for x in [2f64.powi(-33), 0.5f64.sqrt(), 2f64.sqrt(), 1.0, 1e-300] {
            assert!((ln(x) - x.ln()).abs() <= 1e-15 * x.ln().abs().max(1.0), "{x}");
        }
    }

    #[test]
    fn many_are_as_one() {
        let words: Vec<u32> = (0..NORMALS as u32).map(|i| i.wrapping_mul(0x9E37_79B9)).collect();
        for count in [0, 1, 7, 8, 9, 255, NORMALS] {
            let mut values = vec![0.0; count];
            normals_of(&words[..count], &mut values);
            assert!(values.iter().zip(&words).all(|(&v, &w)| v == normal_of(w)));
        }
        // All of them beyond the centre.
        let mut values = [0.0; NORMALS];
        normals_of(&[u32::MAX; NORMALS], &mut values);
        assert_eq!(values, [normal_of(u32::MAX); NORMALS]);
    }
}
