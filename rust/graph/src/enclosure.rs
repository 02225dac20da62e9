//! Float64 enclosures of exp, sigmoid, tanh and others that trust no mathematical library.

pub(crate) mod angle;
mod logarithm;
mod normal;
pub(crate) mod range;

pub(crate) use logarithm::{ln, softplus};
pub(crate) use normal::{erf, gelu, gelu_slope, plain_erf, silu, silu_slope};

use aisec_numeric::rounding::{
    add_down, add_up, div_down, div_up, mul_down, mul_up, sub_down, sub_up,
};

/// `ln 2` as a sum of two floats: the first has 32 significant bits, so its product with any
/// exponent (at most 11 bits) is exact; together they are within 2^-85 of `ln 2`.
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);

/// Relative error of the value computed by [`exp`], with room to spare; see there.
const EXP_ERROR: f64 = 16.0 * f64::EPSILON;

/// `[low, high]` around the real value of `exp(x)`.
///
/// `x = k·ln 2 + r` with `|r| <= 0.347`. The reduction's absolute error is below `2^-53`: the
/// product with the high part is exact, its difference from `x` is exact up to one rounding of
/// a number below 0.35 (`2^-55`), subtracting the low part adds another such rounding, and the
/// constants' error is at most `2^-85·2^10`. The Taylor polynomial of degree 14 leaves out less than
/// `0.347^15/15! < 2^-63`; Horner's scheme with values below 1.42 adds less than four units of
/// `2^-53`. Scaling by `2^k` is exact in the normal range. Altogether below 8 units of `2^-53`
/// relative to a result of at least 0.7, a quarter of `EXP_ERROR`.
pub(crate) fn exp(x: f64) -> (f64, f64) {
    if x.is_nan() {
        return (f64::NAN, f64::NAN);
    }
    if x > 709.0 {
        return (f64::MAX / 4.0, f64::INFINITY); // exp(709) > MAX/4
    }
    if x < -700.0 {
        return (0.0, 1e-304); // exp(-700) < 1e-304
    }
    if x == 0.0 {
        return (1.0, 1.0);
    }
    let k = (x * std::f64::consts::LOG2_E).round();
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let mut sum = 1.0;
    for n in (1..=14).rev() {
        sum = 1.0 + sum * r / f64::from(n);
    }
    // |k| <= 1023, so both factors are normal numbers.
    let value = sum * power_of_two(k as i32);
    (mul_down(value, 1.0 - EXP_ERROR), mul_up(value, 1.0 + EXP_ERROR))
}

/// `2^k` for `-1022 <= k <= 1023`.
fn power_of_two(k: i32) -> f64 {
    f64::from_bits(((k + 1023) as u64) << 52)
}

/// Around `1 / (1 + exp(-x))`, within [0, 1].
pub(crate) fn sigmoid(x: f64) -> (f64, f64) {
    if x.is_nan() {
        return (x, x); // `max` and `min` below would hide it
    }
    let (low, high) = exp(-x);
    (div_down(1.0, add_up(1.0, high)).max(0.0), div_up(1.0, add_down(1.0, low)).min(1.0))
}

/// Around `tanh x`, within [-1, 1].
pub(crate) fn tanh(x: f64) -> (f64, f64) {
    if x.is_nan() {
        return (x, x);
    }
    if x < 0.0 {
        let (low, high) = tanh(-x);
        return (-high, -low);
    }
    if x == 0.0 {
        return (0.0, 0.0);
    }
    // x - x³/3 < tanh x < x for x > 0: sharper than the quotient where that cancels.
    if x < 1e-5 {
        let cube = div_up(mul_up(mul_up(x, x), x), 3.0);
        return (sub_down(x, cube), x);
    }
    // 1 - 2 / (1 + exp 2x); doubling is exact.
    let (low, high) = exp(2.0 * x);
    let (least, most) = (div_down(2.0, add_up(1.0, high)), div_up(2.0, add_down(1.0, low)));
    (sub_down(1.0, most).max(0.0), sub_up(1.0, least).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digits computed with 40-digit arithmetic.
    const KNOWN: [(f64, f64, f64); 7] = [
        // x, sigmoid(x), tanh(x)
        (0.5, 0.622_459_331_201_854_6, 0.462_117_157_260_009_76),
        (1.0, 0.731_058_578_630_004_9, 0.761_594_155_955_764_9),
        (-2.0, 0.119_202_922_022_117_55, -0.964_027_580_075_816_9),
        (1e-6, 0.500_000_25, 9.999_999_999_996_667e-7),
        (-0.125, 0.468_790_626_626_244_07, -0.124_353_001_771_596_2),
        (-30.0, 9.357_622_968_839_299e-14, -1.0),
        (5.0, 0.993_307_149_075_715_2, 0.999_909_204_262_595_1),
    ];

    #[test]
    fn enclosures_are_tight_around_known_values() {
        for (x, s, t) in KNOWN {
            for ((low, high), value) in [(sigmoid(x), s), (tanh(x), t)] {
                assert!(low <= value.next_up() && value.next_down() <= high, "{x}: {low} {high}");
                assert!(high - low < 4e-14 * value.abs().max(0.02), "{x}: {low} {high}");
            }
        }
        let (low, high) = exp(1.0);
        assert!(low < std::f64::consts::E && std::f64::consts::E < high && high - low < 4e-14);
    }

    #[test]
    fn exp_of_a_sum_is_the_product() {
        // exp(a)·exp(b) = exp(a + b) wherever a + b is exact: wrong reductions would differ.
        for i in -600..600 {
            let a = f64::from(i) * 0.75;
            let (b, c) = (0.25, a + 0.25);
            let product = (mul_down(exp(a).0, exp(b).0), mul_up(exp(a).1, exp(b).1));
            assert!(product.0 <= exp(c).1 && exp(c).0 <= product.1, "{a}");
            assert!(exp(c).1 - exp(c).0 < 8e-15 * exp(c).1 || exp(c).1 < 1e-300);
        }
    }

    #[test]
    fn extremes_and_nan() {
        for x in [1e3, 1e308, f64::INFINITY] {
            assert_eq!((sigmoid(x).1, tanh(x).1, tanh(-x).0, sigmoid(-x).0), (1.0, 1.0, -1.0, 0.0));
            assert!(sigmoid(x).0 > 1.0 - 1e-15 && sigmoid(-x).1 < 1e-300);
        }
        assert!(sigmoid(f64::NAN).0.is_nan() && tanh(f64::NAN).1.is_nan());
        assert_eq!(tanh(f64::from_bits(1)).1, f64::from_bits(1));
    }
}
