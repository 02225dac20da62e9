//! The error function and the normal distribution.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use aisec_numeric::rounding::{
    add_down, add_up, div_down, div_up, gamma, mul_down, mul_up, sub_down, sub_up,
};

use super::exp;
use super::range::{Range, negated, product, sum};

/// `2/√π`, `√½` and `1/√(2π)` lie between these neighbours.
const FACTOR: Range = (FRAC_2_SQRT_PI, FRAC_2_SQRT_PI.next_up());
const HALF_ROOT: Range = (FRAC_1_SQRT_2.next_down(), FRAC_1_SQRT_2);
const DENSITY: Range = (0.398_942_280_401_432_65, 0.398_942_280_401_432_7);

/// From here on the error function differs from 1 by less than `2^-53`.
const FLAT: f64 = 6.0;

/// `Σ 2^k x^(2k+1) / (1·3·…·(2k+1))`, all terms positive for positive `x`, and how many were
/// summed: from the last on each is less than half of the one before, and it is less than `2^-60`
/// of the sum.
fn series(x: f64) -> (f64, usize) {
    let square = 2.0 * x * x;
    let (mut sum, mut term, mut n) = (x, x, 0usize);
    loop {
        let ratio = square / (2 * n + 3) as f64;
        term *= ratio;
        sum += term;
        n += 1;
        if ratio < 0.5 && term <= 8e-19 * sum {
            return (sum, n);
        }
    }
}

/// The error function in plain floating point.
pub(crate) fn plain_erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let size = x.abs();
    let value = if size >= FLAT {
        1.0
    } else {
        (FRAC_2_SQRT_PI * (-size * size).exp() * series(size).0).min(1.0)
    };
    value.copysign(x)
}

/// Around the error function: `2/√π · exp(-x²)` times the series.
pub(crate) fn erf(x: f64) -> Range {
    if x.is_nan() || x == 0.0 {
        return (x, x);
    }
    if x < 0.0 {
        return negated(erf(-x));
    }
    if x >= FLAT {
        return (1.0 - f64::EPSILON, 1.0);
    }
    let (sum, count) = series(x);
    // Each term has three roundings more than the one before; what is left out is less than the
    // last term.
    let error = add_up(gamma(4 * count + 8), 1e-18);
    let sum = (mul_down(sum, 1.0 - error), mul_up(sum, 1.0 + error));
    let bell = (exp(-mul_up(x, x)).0, exp(-mul_down(x, x)).1);
    let (low, high) = product(product(sum, bell), FACTOR);
    (low, high.min(1.0))
}

/// Around the density of the standard normal distribution.
pub(crate) fn density(x: f64) -> Range {
    let half = (mul_down(x, 0.5 * x), mul_up(x, 0.5 * x));
    product((exp(-half.1).0, exp(-half.0).1), DENSITY)
}

/// Around the standard normal distribution function.
pub(crate) fn normal(x: f64) -> Range {
    let scaled = product((x, x), HALF_ROOT);
    let (low, high) = (erf(scaled.0).0, erf(scaled.1).1);
    let half = |y: f64| 0.5 * y; // exact: neither end is that small
    (half(add_down(1.0, low)).max(0.0), half(add_up(1.0, high)).min(1.0))
}

/// Left of here tails are bounded by the density: `Φ(x) < φ(x)/|x|`.
const TAIL: f64 = -9.0;

/// Around `x·Φ(x)`.
pub(crate) fn gelu(x: f64) -> Range {
    if x.is_nan() || x == 0.0 {
        return (x, x);
    }
    if x < TAIL {
        return (-density(x).1, 0.0);
    }
    if x > -TAIL {
        return (sub_down(x, density(x).1), x);
    }
    product((x, x), normal(x))
}

/// Around its derivative, `Φ(x) + x·φ(x)`.
pub(crate) fn gelu_slope(x: f64) -> Range {
    if x.is_nan() {
        return (x, x);
    }
    if x < TAIL {
        // -|x|·φ(x) < f'(x) < 0, and |x| <= exp(|x|).
        let reach = if x < -40.0 { 1e-300 } else { mul_up(-x, density(x).1) };
        return (-reach, 0.0);
    }
    if x > -TAIL {
        let (low, high) = gelu_slope(-x);
        return (sub_down(1.0, high), sub_up(1.0, low));
    }
    sum(normal(x), product((x, x), density(x)))
}

/// Around `x / (1 + exp(-x))`.
pub(crate) fn silu(x: f64) -> Range {
    if x.is_nan() || x == 0.0 {
        return (x, x);
    }
    if x < 0.0 {
        // x·exp(x) / (1 + exp(x)): nothing cancels.
        let (low, high) = exp(x);
        let part = (div_down(low, add_up(1.0, low)), div_up(high, add_down(1.0, high)));
        if x < -745.0 {
            return (-1e-300, 0.0); // |x|·exp(x) < 1e-300
        }
        return (mul_down(x, part.1), mul_up(x, part.0.max(0.0)));
    }
    if x == f64::INFINITY {
        return (f64::MAX, x);
    }
    let (low, high) = super::sigmoid(x);
    (mul_down(x, low), mul_up(x, high))
}

/// Around its derivative, `σ(x) + x·σ(x)·σ(-x)`.
pub(crate) fn silu_slope(x: f64) -> Range {
    if x.is_nan() {
        return (x, x);
    }
    if x < -745.0 {
        return (-1e-300, 0.0);
    }
    if x > 0.0 {
        let (low, high) = silu_slope(-x);
        return (sub_down(1.0, high), sub_up(1.0, low));
    }
    sum(super::sigmoid(x), product(silu(x), super::sigmoid(-x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // Digits computed with 60-digit arithmetic: x, erf, silu, gelu and its derivative.
        for (x, e, s, g, d) in [
            (
                0.5,
                0.520_499_877_813_046_5,
                0.311_229_665_600_927_3,
                0.345_731_230_637_006_56,
                0.867_495_124_656_162_9,
            ),
            (
                1.0,
                0.842_700_792_949_714_9,
                0.731_058_578_630_004_9,
                0.841_344_746_068_542_9,
                1.083_315_470_587_686_4,
            ),
            (
                -2.0,
                -0.995_322_265_018_952_7,
                -0.238_405_844_044_235_1,
                -0.045_500_263_896_358_42,
                -0.085_231_801_078_196_9,
            ),
            (
                -0.125,
                -0.140_316_204_801_333_83,
                -0.058_598_828_328_280_47,
                -0.056_282_721_896_235_89,
                0.400_782_064_301_793_4,
            ),
            (
                5.0,
                0.999_999_999_998_462_5,
                4.966_535_745_378_576,
                4.999_998_566_742_141,
                1.000_007_146_946_002,
            ),
            (
                1e-6,
                1.128_379_167_095_136_4e-6,
                5.000_002_5e-7,
                5.000_003_989_422_804e-7,
                0.500_000_797_884_560_8,
            ),
        ] {
            for ((low, high), y) in [(erf(x), e), (silu(x), s), (gelu(x), g), (gelu_slope(x), d)] {
                assert!(
                    low <= y * (1.0 + 3e-16f64.copysign(y))
                        && y * (1.0 - 3e-16f64.copysign(y)) <= high,
                    "{x}: {low} {high} {y}"
                );
                assert!(high - low < 1e-13 * (1.0 + y.abs()), "{x}: {low} {high}");
            }
        }
    }

    #[test]
    fn derivatives_and_symmetry() {
        for i in -300..=300 {
            let x = f64::from(i) * 0.05;
            let h = 1e-5;
            for (f, slope) in
                [(gelu as fn(f64) -> Range, gelu_slope as fn(f64) -> Range), (silu, silu_slope)]
            {
                let middle = |(a, b): Range| 0.5 * (a + b);
                let quotient = (middle(f(x + h)) - middle(f(x - h))) / (2.0 * h);
                let (low, high) = slope(x);
                assert!(low - 1e-8 <= quotient && quotient <= high + 1e-8, "{x}");
                // f(x) - f(-x) = x
                let (a, b) = (f(x), f(-x));
                assert!(a.0 - b.1 <= x + 1e-15 && x - 1e-15 <= a.1 - b.0, "{x}");
                assert!(high - low < 1e-12);
            }
            let (low, high) = erf(x);
            assert!(low <= high && high - low < 1e-12);
            assert!((plain_erf(x) - 0.5 * (low + high)).abs() < 1e-13);
        }
        for x in [-1e308, -800.0, -41.0, 41.0, 800.0, 1e308] {
            assert!(gelu(x).0 <= x.max(0.0) && x.max(0.0) <= gelu(x).1, "{x}");
            assert!(silu(x).0 <= x.max(0.0) && x.max(0.0) - 1e-15 <= silu(x).1, "{x}");
            assert!(
                gelu_slope(x).1 - gelu_slope(x).0 < 1e-15
                    && silu_slope(x).1 - silu_slope(x).0 < 1e-15
            );
        }
        assert!(gelu(f64::NAN).0.is_nan() && silu_slope(f64::NAN).0.is_nan());
        assert_eq!(erf(f64::INFINITY).1, 1.0);
    }
}
